"""The price of work as the pool posts it, now and in the past.

Money is integer micro-units of the pool's currency (`_micros`), work integer micro work units (`_uwu`), time
microseconds since the epoch, UTC (`_us`). That a price follows from its order book can be checked by anyone:
`pool-server price verify` derives it again.
"""

from dataclasses import dataclass

from pool_protocol.v1 import price_service_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceEpoch:
    """One auction: what was bid for and offered, and which price followed."""

    epoch_id: int
    starts_at_us: int
    before_micros_per_wu: int
    """The price until then."""
    target_micros_per_wu: int
    """Where supply and demand wanted it."""
    price_micros_per_wu: int
    """The price from then on: nearer to the target by a step at most."""
    bid_uwu: int
    ask_uwu: int
    traded_uwu: int
    """Work that the auction trades at its price."""
    is_fixed: bool
    """Whether the operator's price stood and the auction was only told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPrice:
    """What a work unit costs now."""

    price_micros_per_wu: int
    """What a lease locks now. A spot job pays it as long as its bid is no less."""
    currency: str
    is_fixed: bool
    """Whether only the operator moves it."""
    since_us: int
    """0 when it was never changed."""
    next_epoch_us: int
    """When the next auction is due."""
    last_epoch: PriceEpoch | None
    """None before the first auction."""


def price_of_wire(answer: price_service_pb2.GetPriceResponse) -> MarketPrice:
    """Read the price now."""
    return MarketPrice(
        price_micros_per_wu=answer.price_micros_per_wu,
        currency=answer.currency,
        is_fixed=answer.mode == price_service_pb2.POSTING_MODE_FIXED,
        since_us=answer.since_us,
        next_epoch_us=answer.next_epoch_us,
        last_epoch=epoch_of_wire(answer.last_epoch) if answer.HasField("last_epoch") else None,
    )


def epoch_of_wire(epoch: price_service_pb2.PriceEpoch) -> PriceEpoch:
    """Read one auction."""
    return PriceEpoch(
        epoch_id=epoch.epoch_id,
        starts_at_us=epoch.starts_at_us,
        before_micros_per_wu=epoch.before_micros_per_wu,
        target_micros_per_wu=epoch.target_micros_per_wu,
        price_micros_per_wu=epoch.after_micros_per_wu,
        bid_uwu=epoch.bid_uwu,
        ask_uwu=epoch.ask_uwu,
        traded_uwu=epoch.traded_uwu,
        is_fixed=epoch.mode == price_service_pb2.POSTING_MODE_FIXED,
    )

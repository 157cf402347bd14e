"""One epoch's price, from its book to what is posted, and how anyone derives it again.

`price_epoch` is what the pool runs every quarter of an hour. `replay` is what a doubter runs: from the book
it makes the record anew and compares every figure. It needs nothing of the pool but the published record.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import MINUTE_US
from pool_server.core.pricing.clearing import Clearing, clear
from pool_server.core.pricing.limiter import limited
from pool_server.core.pricing.order_book import book_sha256
from pool_server.core.pricing.orders import Ask, Bid

#: Time between two auctions.
EPOCH_US = 15 * MINUTE_US
_DOUBT = (
    "Ask for the record and its book again; if they still differ, this price did not come from this book."
)


class PriceRules(NamedTuple):
    """The limiter's settings of an epoch."""

    step_ppm: int
    """Most that the posted price moves in an epoch, parts per million of itself."""
    floor_micros_per_wu: int
    cap_micros_per_wu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """What is published of one auction."""

    epoch_start_us: int
    """Wall-clock time, microseconds since 1970, of the quarter hour that the price was found for."""
    previous_micros_per_wu: int
    """The price that was posted until then."""
    rules: PriceRules
    book_sha256: bytes
    bid_count: int
    ask_count: int
    bid_uwu: int
    ask_uwu: int
    traded_uwu: int
    clearing_micros_per_wu: int | None
    """The auction's price; None where nothing traded."""
    target_micros_per_wu: int
    posted_micros_per_wu: int
    """The price from this epoch on."""


def epoch_start_us(now_us: int, *, epoch_us: int = EPOCH_US) -> int:
    """Return the start of the epoch that a moment lies in: a full multiple of its length since 1970, UTC."""
    return now_us - now_us % epoch_us


def price_epoch(
    bids: Sequence[Bid],
    asks: Sequence[Ask],
    *,
    epoch_start_us: int,
    previous_micros_per_wu: int,
    rules: PriceRules,
    epoch_us: int = EPOCH_US,
) -> tuple[EpochRecord, Clearing]:
    """Find the price of an epoch from its book; return the record to publish and who was filled.

    Raises:
        PoolError: INVALID_ARGUMENT for an invalid order, a repeated order id, or prices, a step or a time out
            of range.
    """
    if epoch_us < 1 or epoch_start_us < 0 or epoch_start_us % epoch_us:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"an epoch starts at a full multiple of {epoch_us} us, not at {epoch_start_us} us",
            context={"field": "epoch_start_us"},
        )
    clearing = clear(bids, asks, previous_price_micros_per_wu=previous_micros_per_wu)
    posted = limited(
        previous_micros_per_wu,
        clearing.target_micros_per_wu,
        step_ppm=rules.step_ppm,
        floor=rules.floor_micros_per_wu,
        cap=rules.cap_micros_per_wu,
    )
    record = EpochRecord(
        epoch_start_us=epoch_start_us,
        previous_micros_per_wu=previous_micros_per_wu,
        rules=rules,
        book_sha256=book_sha256(bids, asks),
        bid_count=len(bids),
        ask_count=len(asks),
        bid_uwu=clearing.bid_uwu,
        ask_uwu=clearing.ask_uwu,
        traded_uwu=clearing.traded_uwu,
        clearing_micros_per_wu=clearing.price_micros_per_wu,
        target_micros_per_wu=clearing.target_micros_per_wu,
        posted_micros_per_wu=posted,
    )
    return record, clearing


def replay(
    record: EpochRecord, bids: Sequence[Bid], asks: Sequence[Ask], *, epoch_us: int = EPOCH_US
) -> Clearing:
    """Derive a published record again from its book; return the clearing that it stands for.

    Raises:
        PoolError: PROOF_INVALID naming the first figure that differs, with both values; INVALID_ARGUMENT for
            a book or a record that could not have been priced at all.
    """
    derived, clearing = price_epoch(
        bids,
        asks,
        epoch_start_us=record.epoch_start_us,
        previous_micros_per_wu=record.previous_micros_per_wu,
        rules=record.rules,
        epoch_us=epoch_us,
    )
    for field in fields(EpochRecord):
        published, found = getattr(record, field.name), getattr(derived, field.name)
        if published != found:
            raise PoolError(
                ErrorCode.PROOF_INVALID,
                f"the record says {field.name} {_shown(published)}, its book gives {_shown(found)}",
                context={"field": field.name},
                advice=_DOUBT,
            )
    return clearing


def replay_chain(records: Sequence[EpochRecord]) -> None:
    """Check that records continue each other: each begins at the price that the one before posted.

    Epochs may be missing (the pool stood still); none may go back in time.

    Raises:
        PoolError: PROOF_INVALID naming the epoch at which the chain breaks.
    """
    for before, after in pairwise(records):
        if after.epoch_start_us <= before.epoch_start_us:
            why = "is not later than the one before"
        elif after.previous_micros_per_wu != before.posted_micros_per_wu:
            why = f"begins at {after.previous_micros_per_wu}, {before.posted_micros_per_wu} was posted before"
        else:
            continue
        raise PoolError(
            ErrorCode.PROOF_INVALID,
            f"the epoch at {after.epoch_start_us} us {why}",
            context={"field": "previous_micros_per_wu"},
            advice=_DOUBT,
        )


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)

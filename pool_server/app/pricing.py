"""The posted price: what a lease locks. Epochs or an operator move it; every price stays on record."""

from pool_protocol.limits import SECOND_US
from pool_protocol.money import require_amount
from pool_server.app.market_policy import MarketPolicy
from pool_server.core.effects import WorkAvailable
from pool_server.core.pricing.history import PostingMode
from pool_server.core.pricing.orders import PRICE_MICROS_PER_WU_MAX, require_price
from pool_server.ports.market import PostedPrice
from pool_server.ports.unit_of_work import UnitOfWork

__all__ = ["AUCTION", "PRICE_MICROS_PER_WU_MAX", "follow_auction", "posted_price", "set_posted_price"]

#: Who posts the price of an epoch.
AUCTION = "auction"


def posted_price(uow: UnitOfWork) -> int:
    """Return the price in force, micros per WU: the last one posted, or the configured one."""
    current = uow.prices.current()
    return uow.terms.posted_price_micros_per_wu if current is None else current.price_micros_per_wu


def posting_mode(uow: UnitOfWork, policy: MarketPolicy) -> PostingMode:
    """Return who moves the price: what an operator chose last, or the configured mode."""
    return uow.prices.chosen_mode() or policy.mode


def set_posted_price(uow: UnitOfWork, *, price_micros_per_wu: int, operator_id: str, now_us: int) -> int:
    """Set the price for leases from now on, and keep it until `follow_auction`; running leases keep theirs.

    Raises:
        PoolError: INVALID_ARGUMENT for a negative price or one above the limit.
    """
    require_amount(price_micros_per_wu, what="price_micros_per_wu")
    require_price(price_micros_per_wu)
    uow.prices.append(
        PostedPrice(price_micros_per_wu=price_micros_per_wu, set_by=operator_id, set_at_us=now_us)
    )
    # Vehicles and jobs that waited for another price need not wait any more.
    uow.effects.append(WorkAvailable())
    return price_micros_per_wu


def follow_auction(uow: UnitOfWork, *, operator_id: str, now_us: int) -> int:
    """Let every epoch move the price again; return from where. Again changes nothing."""
    price_micros_per_wu = posted_price(uow)
    if uow.prices.chosen_mode() is not PostingMode.AUCTION:
        uow.prices.append(
            PostedPrice(
                price_micros_per_wu=price_micros_per_wu,
                set_by=operator_id,
                set_at_us=now_us,
                mode=PostingMode.AUCTION,
            )
        )
    return price_micros_per_wu


def speed_of_one_bid(uow: UnitOfWork) -> int:
    """Return the speed that a job may expect, micro-WU per second; 0 while nobody is known to compute.

    It is a buyer's even share of what the fleet offered in the last epoch, as cars are shared between buyers
    and not between jobs: many tiny ones would drive the bids of others to their caps. A job with a deadline
    bids by it.
    """
    epoch = uow.prices.last_epoch()
    if epoch is None:
        return 0
    return epoch.record.ask_uwu * SECOND_US // epoch.length_us // max(1, uow.market.bidder_count())

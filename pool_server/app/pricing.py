"""The posted price: what a lease locks. An operator sets it; every price ever set stays on record."""

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import require_amount
from pool_server.ports.money import PostedPrice
from pool_server.ports.unit_of_work import UnitOfWork

#: Beyond this a task of the largest size could not be priced in 63 bits.
PRICE_MICROS_PER_WU_MAX = 10**12


def posted_price(uow: UnitOfWork) -> int:
    """Return the price in force, micros per WU: the last one set, or the configured one."""
    current = uow.prices.current()
    return uow.terms.posted_price_micros_per_wu if current is None else current.price_micros_per_wu


def set_posted_price(uow: UnitOfWork, *, price_micros_per_wu: int, operator_id: str, now_us: int) -> int:
    """Set the price for leases from now on; running leases keep theirs.

    Raises:
        PoolError: INVALID_ARGUMENT for a negative price or one above the limit.
    """
    require_amount(price_micros_per_wu, what="price_micros_per_wu")
    if price_micros_per_wu > PRICE_MICROS_PER_WU_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"a price is at most {PRICE_MICROS_PER_WU_MAX} micros per WU",
            context={"field": "price_micros_per_wu"},
        )
    uow.prices.append(
        PostedPrice(price_micros_per_wu=price_micros_per_wu, set_by=operator_id, set_at_us=now_us)
    )
    return price_micros_per_wu

"""The limit orders of one auction, and what makes them valid.

A bid is the work that a buyer's job still needs and the most it pays for it; an ask is the work that an
owner's vehicle can do in the epoch and the least the owner takes. Orders are facts of one epoch: who makes
them, from which jobs and reserves, is decided elsewhere.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError

#: Highest price, micros per WU: beyond it a task of the largest size could not be priced in 63 bits.
PRICE_MICROS_PER_WU_MAX = 10**12
#: Largest order, micro-WU: 1e11 WU, what a million vehicles of 100 TFLOP/s do in an epoch. A larger job bids
#: for this much (`order_work_uwu`): more cannot be done before the next auction, and 92 of these fit 63 bits.
ORDER_WORK_UWU_MAX = 10**17
#: Bytes of an id in an order: ours have 40 at most.
ORDER_ID_BYTES_MAX = 128
#: Orders of one side. A full book takes about five seconds to clear, and 100 MB to keep.
ORDERS_PER_SIDE_MAX = 500_000


class Bid(NamedTuple):
    """A buyer takes up to `work_uwu` at `price_micros_per_wu` or less."""

    order_id: str
    buyer_id: str
    price_micros_per_wu: int
    work_uwu: int


class Ask(NamedTuple):
    """An owner gives up to `work_uwu` at `price_micros_per_wu` or more."""

    order_id: str
    owner_id: str
    price_micros_per_wu: int
    work_uwu: int


def order_work_uwu(work_uwu: int) -> int:
    """Return how much of a job's or a vehicle's work one order may stand for, micro-WU."""
    return min(work_uwu, ORDER_WORK_UWU_MAX)


def require_price(price_micros_per_wu: int, *, what: str = "price_micros_per_wu") -> int:
    """Return a price that may stand in an order or on the board.

    Raises:
        PoolError: INVALID_ARGUMENT for a negative price or one above the limit.
    """
    if not 0 <= price_micros_per_wu <= PRICE_MICROS_PER_WU_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"{what} must be 0 to {PRICE_MICROS_PER_WU_MAX} micros per WU, not {price_micros_per_wu}",
            context={"field": what},
        )
    return price_micros_per_wu


def require_orders(bids: Sequence[Bid], asks: Sequence[Ask]) -> None:
    """Check every order of a book.

    Raises:
        PoolError: INVALID_ARGUMENT for too many orders, a price or an amount of work out of range, an id that
            is empty, too long or no text, or an order id that occurs twice.
    """
    for side, orders in (("bids", bids), ("asks", asks)):
        if len(orders) > ORDERS_PER_SIDE_MAX:
            raise _refused(side, f"a book has at most {ORDERS_PER_SIDE_MAX} {side}, not {len(orders)}")
    seen: set[str] = set()
    _require_side("bid", bids, seen)
    _require_side("ask", asks, seen)


def _require_side(side: str, orders: Iterable[Bid | Ask], seen: set[str]) -> None:
    for order_id, party_id, price_micros_per_wu, work_uwu in orders:
        for an_id in (order_id, party_id):
            if not 1 <= _utf8_bytes(an_id) <= ORDER_ID_BYTES_MAX:
                raise _refused(
                    "order_id", f"an id of 1 to {ORDER_ID_BYTES_MAX} bytes of UTF-8, not {an_id!r:.80}"
                )
        if order_id in seen:
            raise _refused("order_id", f"order {order_id!r} occurs twice")
        seen.add(order_id)
        require_price(price_micros_per_wu, what=f"{side}.price_micros_per_wu")
        if not 1 <= work_uwu <= ORDER_WORK_UWU_MAX:
            raise _refused(
                f"{side}.work_uwu", f"{side} {order_id!r}: 1 to {ORDER_WORK_UWU_MAX} micro-WU, not {work_uwu}"
            )


def _utf8_bytes(text: str) -> int:
    """Return the length in UTF-8; 0 for what UTF-8 cannot say (half a surrogate pair)."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0


def _refused(field: str, why: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, why, context={"field": field})

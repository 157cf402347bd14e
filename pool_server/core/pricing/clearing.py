"""The call auction of one epoch: one price for all, the volume that it trades, and who is filled.

    1. Bids from the highest, asks from the lowest, as long as the next bid pays at least the next ask: the
       traded volume. No other set of trades has a larger gain, and none of this gain trades more.
    2. Each side fills its orders in price order up to that volume. At most one price level on at most one
       side is filled in part; its orders share by largest remainder, in proportion to their work.
    3. The price lies in the **marginal interval**
           low  = max(last filled ask, first unfilled bid)
           high = min(last filled bid, first unfilled ask)
       The midpoint of all prices of the same volume is not good enough: it can lie below a bid that is not
       filled. In this interval every order that is strictly better than the price is filled in full.
    4. Within it, the price nearest to the previous one. All prices in the interval trade the same work
       between the same parties and gain the same in sum; they differ only in who gets the gain. Moving no
       further than supply and demand force it to keeps plans good for longer, favours no side by rule, and
       needs no chance.

Where nothing trades there is no price, but the same interval defines the **target**, with open ends where a
side is missing. Bids and asks too far apart: into the gap between the best bid and the best ask. Only bids:
up to the best bid, or where it was if higher. Only asks: down to the best ask, or where it was if lower. No
orders: where it was.

Integers only. How fast the posted price follows the target is decided in `limiter`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from pool_server.core.pricing.orders import Ask, Bid, require_orders, require_price

_price = attrgetter("price_micros_per_wu")


class Fill(NamedTuple):
    """How much of an order the auction fills: 1 micro-WU up to all of it."""

    order_id: str
    filled_uwu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearing:
    """What an auction decided."""

    price_micros_per_wu: int | None
    """The one price of all fills; None where nothing trades."""
    target_micros_per_wu: int
    """Where the posted price should go: the price, or, without one, what the module's docstring says."""
    low_micros_per_wu: int | None
    """Lower end of the marginal interval; None where nothing bounds it."""
    high_micros_per_wu: int | None
    """Upper end of the marginal interval; None where nothing bounds it."""
    traded_uwu: int
    bid_uwu: int
    """All work bid for, at any price."""
    ask_uwu: int
    """All work offered, at any price."""
    fills: tuple[Fill, ...]
    """Every order with a fill, of both sides, by order id."""


class _Level(NamedTuple):
    price_micros_per_wu: int
    work_uwu: int
    orders: tuple[Bid | Ask, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    fills: tuple[Fill, ...]
    last_filled: int | None
    """Price of the worst order that is filled, in part at least."""
    first_unfilled: int | None
    """Price of the best order that is not filled in full."""


def clear(bids: Sequence[Bid], asks: Sequence[Ask], *, previous_price_micros_per_wu: int) -> Clearing:
    """Clear one epoch's book; `previous_price_micros_per_wu` is the price posted so far.

    The order in which bids and asks are given changes nothing.

    Raises:
        PoolError: INVALID_ARGUMENT for an invalid order, a repeated order id or a price out of range.
    """
    require_orders(bids, asks)
    require_price(previous_price_micros_per_wu, what="previous_price_micros_per_wu")
    bid_levels = _levels(bids, highest_first=True)
    ask_levels = _levels(asks, highest_first=False)
    traded_uwu = _traded_uwu(bid_levels, ask_levels)
    bought, sold = _filled(bid_levels, traded_uwu), _filled(ask_levels, traded_uwu)
    low = _bound(max, sold.last_filled, bought.first_unfilled)
    high = _bound(min, bought.last_filled, sold.first_unfilled)
    target = _nearest(previous_price_micros_per_wu, low, high)
    return Clearing(
        price_micros_per_wu=target if traded_uwu else None,
        target_micros_per_wu=target,
        low_micros_per_wu=low,
        high_micros_per_wu=high,
        traded_uwu=traded_uwu,
        bid_uwu=sum(level.work_uwu for level in bid_levels),
        ask_uwu=sum(level.work_uwu for level in ask_levels),
        fills=tuple(sorted(bought.fills + sold.fills)),
    )


def gain_micros_uwu_per_wu(bids: Iterable[Bid], asks: Iterable[Ask], fills: Iterable[Fill]) -> int:
    """Return what the fills gain in sum: what buyers would pay at most less what owners would take at least.

    In micros per WU x micro-WU, that is millionths of a micro-unit: exact, where money would be rounded.
    """
    filled = dict(fills)
    paid = sum(bid.price_micros_per_wu * filled.get(bid.order_id, 0) for bid in bids)
    return paid - sum(ask.price_micros_per_wu * filled.get(ask.order_id, 0) for ask in asks)


def _levels(orders: Sequence[Bid] | Sequence[Ask], *, highest_first: bool) -> list[_Level]:
    """Group orders by price, best price first."""
    ordered: list[Bid | Ask] = sorted(orders, key=_price, reverse=highest_first)
    grouped = ((price, tuple(members)) for price, members in groupby(ordered, key=_price))
    return [_Level(price, sum(order.work_uwu for order in members), members) for price, members in grouped]


def _traded_uwu(bid_levels: Sequence[_Level], ask_levels: Sequence[_Level]) -> int:
    """Return the work up to which bids, from the highest, pay at least the asks, from the lowest."""
    traded = demand = supply = 0
    remaining_bids, remaining_asks = iter(bid_levels), iter(ask_levels)
    bid, ask = next(remaining_bids, None), next(remaining_asks, None)
    while bid is not None and ask is not None and bid.price_micros_per_wu >= ask.price_micros_per_wu:
        # Both levels meet; the one that ends first gives way to the next of its side.
        bid_end, ask_end = demand + bid.work_uwu, supply + ask.work_uwu
        traded = min(bid_end, ask_end)
        if bid_end == traded:
            demand, bid = bid_end, next(remaining_bids, None)
        if ask_end == traded:
            supply, ask = ask_end, next(remaining_asks, None)
    return traded


def _filled(levels: Iterable[_Level], traded_uwu: int) -> _Side:
    """Fill one side in price order up to the traded volume."""
    left_uwu, fills = traded_uwu, list[Fill]()
    last_filled: int | None = None
    for level in levels:
        if left_uwu == 0:
            return _Side(
                fills=tuple(fills), last_filled=last_filled, first_unfilled=level.price_micros_per_wu
            )
        last_filled = level.price_micros_per_wu
        if left_uwu < level.work_uwu:
            fills += rationed(level.orders, left_uwu)
            return _Side(fills=tuple(fills), last_filled=last_filled, first_unfilled=last_filled)
        fills += [Fill(order.order_id, order.work_uwu) for order in level.orders]
        left_uwu -= level.work_uwu
    return _Side(fills=tuple(fills), last_filled=last_filled, first_unfilled=None)


def rationed(orders: Sequence[Bid | Ask], work_uwu: int) -> list[Fill]:
    """Share work among orders of one price in proportion to theirs, by largest remainder.

    Equal remainders go by order id; that decides over single micro-WU. Orders that get nothing are left out.
    `work_uwu` must be less than the orders' sum.
    """
    total_uwu = sum(order.work_uwu for order in orders)
    shares = [(*divmod(order.work_uwu * work_uwu, total_uwu), order.order_id) for order in orders]
    rest_uwu = work_uwu - sum(share for share, _, _ in shares)
    shares.sort(key=lambda share: (-share[1], share[2]))
    fills = [
        Fill(order_id, share_uwu + (1 if place < rest_uwu else 0))
        for place, (share_uwu, _, order_id) in enumerate(shares)
    ]
    return [fill for fill in fills if fill.filled_uwu]


def _bound(choose: Callable[[list[int]], int], *ends: int | None) -> int | None:
    known = [end for end in ends if end is not None]
    return choose(known) if known else None


def _nearest(price: int, low: int | None, high: int | None) -> int:
    if low is not None and price < low:
        return low
    if high is not None and price > high:
        return high
    return price

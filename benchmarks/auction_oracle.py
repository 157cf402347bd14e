"""Random books for the auction, mean ones included, and an oracle that knows no more than what is promised.

The oracle shares no code with the auction. It finds the volume by trying every price in the book, the optimum
by matching order by order, and proves it by duality: no trades can gain more than what all bids above a price
and all asks below it would gain if each could trade at that price in full. Where the two are equal, both are
optimal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from pool_server.core.pricing.clearing import Clearing, clear
from pool_server.core.pricing.order_book import Book
from pool_server.core.pricing.orders import ORDER_WORK_UWU_MAX, PRICE_MICROS_PER_WU_MAX, Ask, Bid


class BrokenPromiseError(Exception):
    """The auction broke a promise."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a random book is drawn from."""

    prices: tuple[int, int] = (1, 60)
    works: tuple[int, int] = (1, 1_000)
    bids: tuple[int, int] = (0, 14)
    asks: tuple[int, int] = (0, 14)


def _book(bounds: Bounds) -> Callable[[Random], Book]:
    def draw(chance: Random) -> Book:
        def orders(count: int, prefix: str) -> list[tuple[str, str, int, int]]:
            names = chance.sample(range(1_000), count)
            return [
                (
                    f"{prefix}{name}",
                    f"party_{name % 5}",
                    chance.randint(*bounds.prices),
                    chance.randint(*bounds.works),
                )
                for name in names
            ]

        return Book(
            tuple(Bid(*fields) for fields in orders(chance.randint(*bounds.bids), "bid_")),
            tuple(Ask(*fields) for fields in orders(chance.randint(*bounds.asks), "ask_")),
        )

    return draw


def _crossing_ties(chance: Random) -> Book:
    """Make bids and asks that meet at one price exactly, with nothing between them: trades without gain."""
    price = chance.randint(1, 40)
    bids = [
        Bid(f"bid_{n}", "b", price - chance.choice((0, 0, 1, 5)) * (price > 5), chance.randint(1, 9))
        for n in range(chance.randint(1, 6))
    ]
    asks = [
        Ask(f"ask_{n}", "a", price + chance.choice((0, 0, 1, 5)), chance.randint(1, 9))
        for n in range(chance.randint(1, 6))
    ]
    return Book(tuple(bids), tuple(asks))


def _exact_match(chance: Random) -> Book:
    """Make both sides end at the same volume: no order is filled in part, and the interval is open."""
    works = [chance.randint(1, 50) for _ in range(chance.randint(1, 6))]
    low, high = sorted((chance.randint(1, 50), chance.randint(1, 50)))
    bids = [Bid(f"bid_{n}", "b", high + chance.randint(0, 9), work) for n, work in enumerate(works)]
    asks = [
        Ask(f"ask_{n}", "a", max(0, low - chance.randint(0, 9)), work)
        for n, work in enumerate(reversed(works))
    ]
    tail = [Bid("bid_tail", "b", max(0, low - 1), 3)] if chance.randint(0, 1) else []
    return Book((*bids, *tail), tuple(asks))


_PRICES_AT_THE_LIMITS = (0, 0, 1, PRICE_MICROS_PER_WU_MAX - 1, PRICE_MICROS_PER_WU_MAX)


def _at_the_limits(chance: Random) -> Book:
    works = (1, 2, ORDER_WORK_UWU_MAX - 1, ORDER_WORK_UWU_MAX)

    def fields(prefix: str, number: int) -> tuple[str, str, int, int]:
        return f"{prefix}{number}", "p", chance.choice(_PRICES_AT_THE_LIMITS), chance.choice(works)

    return Book(
        tuple(Bid(*fields("bid_", n)) for n in range(chance.randint(0, 8))),
        tuple(Ask(*fields("ask_", n)) for n in range(chance.randint(0, 8))),
    )


#: How a book may be drawn, by name; every kind gets an equal share.
KINDS: dict[str, Callable[[Random], Book]] = {
    "mixed": _book(Bounds()),
    "few levels": _book(Bounds(prices=(18, 22))),
    "one price": _book(Bounds(prices=(20, 20), bids=(1, 14), asks=(1, 14))),
    "huge quantities": _book(Bounds(works=(ORDER_WORK_UWU_MAX - 9, ORDER_WORK_UWU_MAX))),
    "single orders": _book(Bounds(bids=(1, 1), asks=(1, 1))),
    "many of 1 uWU": _book(Bounds(prices=(10, 14), works=(1, 2), bids=(5, 60), asks=(5, 60))),
    "one side empty": _book(Bounds(asks=(0, 0))),
    "scarce cars": _book(Bounds(bids=(5, 40), asks=(0, 3))),
    "prices at the limits": _at_the_limits,
    "crossing ties": _crossing_ties,
    "exact match": _exact_match,
}


def check(book: Book, previous: int, chance: Random) -> Clearing:
    """Clear a book and hold the answer against every promise.

    Raises:
        BrokenPromiseError: Naming the promise, with the book.
    """
    clearing = clear(book.bids, book.asks, previous_price_micros_per_wu=previous)
    for promise, kept in _promises(book, clearing, previous):
        if not kept:
            raise BrokenPromiseError(f"{promise}: {book} from {previous} gave {clearing}")
    bids, asks = list(book.bids), list(book.asks)
    chance.shuffle(bids)
    chance.shuffle(asks)
    if clear(bids, asks, previous_price_micros_per_wu=previous) != clearing:
        raise BrokenPromiseError(f"the order of the orders matters: {book}")
    return clearing


def _promises(book: Book, clearing: Clearing, previous: int) -> list[tuple[str, bool]]:
    bids, asks = book
    filled = dict(clearing.fills)
    works = {order.order_id: order.work_uwu for order in book.orders}
    bought = sum(filled.get(bid.order_id, 0) for bid in bids)
    sold = sum(filled.get(ask.order_id, 0) for ask in asks)
    target, price = clearing.target_micros_per_wu, clearing.price_micros_per_wu
    low, high = marginal_interval(book, filled)
    kept = [
        (
            "fills are of orders in the book",
            len(filled) == len(clearing.fills) and filled.keys() <= works.keys(),
        ),
        (
            "no fill is empty or more than its order",
            all(0 < fill <= works[name] for name, fill in filled.items()),
        ),
        ("what is bought is what is sold", bought == sold == clearing.traded_uwu),
        ("the volume is the largest", clearing.traded_uwu == _largest_volume(book)),
        ("totals are of all orders", clearing.bid_uwu == sum(bid.work_uwu for bid in bids)),
        ("totals are of all orders", clearing.ask_uwu == sum(ask.work_uwu for ask in asks)),
        ("a price where something trades", (price is None) == (clearing.traded_uwu == 0)),
        ("the target is the price", price in {None, target}),
        (
            "the interval is the marginal one",
            (clearing.low_micros_per_wu, clearing.high_micros_per_wu) == (low, high),
        ),
        (
            "the target is in the interval",
            (low is None or low <= target) and (high is None or target <= high),
        ),
        ("the target is the nearest", target in {previous, low, high}),
        ("it stays where it may", target == previous or not _inside(previous, low, high)),
    ]
    if price is not None:
        kept += _promises_of_a_price(book, filled, price)
    return kept


def _promises_of_a_price(book: Book, filled: dict[str, int], price: int) -> list[tuple[str, bool]]:
    bids, asks = book
    paid = sum(filled.get(bid.order_id, 0) * price for bid in bids)
    received = sum(filled.get(ask.order_id, 0) * price for ask in asks)
    gain = sum(filled.get(bid.order_id, 0) * bid.price_micros_per_wu for bid in bids)
    gain -= sum(filled.get(ask.order_id, 0) * ask.price_micros_per_wu for ask in asks)
    dual = sum(max(0, bid.price_micros_per_wu - price) * bid.work_uwu for bid in bids)
    dual += sum(max(0, price - ask.price_micros_per_wu) * ask.work_uwu for ask in asks)
    return [
        (
            "no buyer pays above its limit",
            all(b.price_micros_per_wu >= price for b in bids if b.order_id in filled),
        ),
        (
            "no owner gets below its limit",
            all(a.price_micros_per_wu <= price for a in asks if a.order_id in filled),
        ),
        (
            "bids above the price are filled in full",
            all(filled.get(b.order_id) == b.work_uwu for b in bids if b.price_micros_per_wu > price),
        ),
        (
            "asks below the price are filled in full",
            all(filled.get(a.order_id) == a.work_uwu for a in asks if a.price_micros_per_wu < price),
        ),
        ("what buyers pay is what owners get", paid == received),
        ("the gain is the greedy optimum", gain == _greedy_gain(book)),
        ("the gain is optimal by duality", gain == dual),
        ("at one price everyone gets a like share", _alike(bids, filled) and _alike(asks, filled)),
    ]


def marginal_interval(book: Book, filled: dict[str, int]) -> tuple[int | None, int | None]:
    """Return [max(last filled ask, first unfilled bid), min(last filled bid, first unfilled ask)]."""
    bids, asks = book
    lows = [ask.price_micros_per_wu for ask in asks if ask.order_id in filled]
    lows += [bid.price_micros_per_wu for bid in bids if filled.get(bid.order_id, 0) < bid.work_uwu]
    highs = [bid.price_micros_per_wu for bid in bids if bid.order_id in filled]
    highs += [ask.price_micros_per_wu for ask in asks if filled.get(ask.order_id, 0) < ask.work_uwu]
    return max(lows, default=None), min(highs, default=None)


def _inside(price: int, low: int | None, high: int | None) -> bool:
    return (low is None or low <= price) and (high is None or price <= high)


def _largest_volume(book: Book) -> int:
    """Try every price in the book."""
    return max(
        (
            min(
                sum(bid.work_uwu for bid in book.bids if bid.price_micros_per_wu >= price),
                sum(ask.work_uwu for ask in book.asks if ask.price_micros_per_wu <= price),
            )
            for price in {order.price_micros_per_wu for order in book.orders}
        ),
        default=0,
    )


def _greedy_gain(book: Book) -> int:
    """Match the highest bid with the lowest ask until they no longer gain."""
    bids = sorted(((bid.price_micros_per_wu, bid.work_uwu) for bid in book.bids), reverse=True)
    asks = sorted((ask.price_micros_per_wu, ask.work_uwu) for ask in book.asks)
    gain = 0
    while bids and asks and bids[0][0] >= asks[0][0]:
        (bid_price, wanted), (ask_price, offered) = bids.pop(0), asks.pop(0)
        work = min(wanted, offered)
        gain += work * (bid_price - ask_price)
        if wanted > work:
            bids.insert(0, (bid_price, wanted - work))
        if offered > work:
            asks.insert(0, (ask_price, offered - work))
    return gain


def _alike(orders: tuple[Bid, ...] | tuple[Ask, ...], filled: dict[str, int]) -> bool:
    """At each price, everyone is within 1 micro-WU of the exact share of that price's volume."""
    for price in {order.price_micros_per_wu for order in orders}:
        level = [order for order in orders if order.price_micros_per_wu == price]
        total = sum(order.work_uwu for order in level)
        given = sum(filled.get(order.order_id, 0) for order in level)
        if any(
            abs(filled.get(order.order_id, 0) * total - order.work_uwu * given) >= total for order in level
        ):
            return False
    return True

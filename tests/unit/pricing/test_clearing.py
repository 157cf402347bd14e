"""One price, the largest volume, everyone who is better than the price filled in full."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import clearing as bench
from benchmarks.auction_oracle import KINDS, BrokenPromiseError, check, marginal_interval
from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.pricing import clearing as module
from pool_server.core.pricing.clearing import Fill, clear, gain_micros_uwu_per_wu
from pool_server.core.pricing.order_book import Book
from pool_server.core.pricing.orders import (
    ORDER_ID_BYTES_MAX,
    ORDER_WORK_UWU_MAX,
    ORDERS_PER_SIDE_MAX,
    PRICE_MICROS_PER_WU_MAX,
    Ask,
    Bid,
    order_work_uwu,
)
from tests.unit.pricing.books import PRICES, books


def bid(name: str, price: int, work: int) -> Bid:
    return Bid(name, "buyer_1", price, work)


def ask(name: str, price: int, work: int) -> Ask:
    return Ask(name, "owner_1", price, work)


def test_every_promise_holds_on_random_and_on_mean_books() -> None:
    seen = bench.run(books=len(KINDS) * 60, seed=7)
    # The books reach what they are meant to reach.
    assert seen["rationed"] > 100 < seen["open interval"]
    assert seen["without trade"] > 100
    assert all(seen[f"kind: {kind}"] == 60 for kind in KINDS)


@given(books(), PRICES)
def test_every_promise_holds_on_books_that_hypothesis_finds(book: Book, previous: int) -> None:
    check(book, previous, Random(1))


@pytest.mark.parametrize(
    "kind",
    ["midpoint of the volume-maximising prices", "no rationing", "price of the last filled ask"],
)
def test_the_oracle_refuses_auctions_that_are_nearly_right(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def midpoint(_previous: int, low: int | None, high: int | None) -> int:
        # Between the last filled orders alone: below a bid that is not filled.
        return (min(low or 0, high or 0) + (high or 0)) // 2

    def first_come(orders: list[Bid], work_uwu: int) -> list[Fill]:
        fills = []
        for order in orders:
            fills.append(Fill(order.order_id, min(work_uwu, order.work_uwu)))
            work_uwu -= fills[-1].filled_uwu
        return [fill for fill in fills if fill.filled_uwu]

    def first_end(_choose: object, *ends: int | None) -> int | None:
        return ends[0]

    name, wrong = {
        "midpoint of the volume-maximising prices": ("_nearest", midpoint),
        "no rationing": ("rationed", first_come),
        "price of the last filled ask": ("_bound", first_end),
    }[kind]
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(BrokenPromiseError):
        bench.run(books=len(KINDS) * 20, seed=1)


@pytest.mark.parametrize(
    ("bids", "asks", "previous", "price", "target", "fills"),
    [
        pytest.param([], [], 20, None, 20, "", id="nothing: stays"),
        pytest.param([bid("b", 9, 1)], [], 5, None, 9, "", id="only bids: up to the best"),
        pytest.param([bid("b", 9, 1)], [], 12, None, 12, "", id="only bids, already above: stays"),
        pytest.param([], [ask("a", 9, 1)], 12, None, 9, "", id="only asks: down to the best"),
        pytest.param([], [ask("a", 9, 1)], 5, None, 5, "", id="only asks, already below: stays"),
        pytest.param([bid("b", 8, 1)], [ask("a", 11, 1)], 20, None, 11, "", id="a gap, from above"),
        pytest.param([bid("b", 8, 1)], [ask("a", 11, 1)], 3, None, 8, "", id="a gap, from below"),
        pytest.param([bid("b", 8, 1)], [ask("a", 11, 1)], 9, None, 9, "", id="a gap, from within"),
        pytest.param([bid("b", 12, 5)], [ask("a", 7, 5)], 20, 12, 12, "a5 b5", id="a pair, from above"),
        pytest.param([bid("b", 12, 5)], [ask("a", 7, 5)], 3, 7, 7, "a5 b5", id="a pair, from below"),
        pytest.param([bid("b", 12, 5)], [ask("a", 7, 5)], 9, 9, 9, "a5 b5", id="a pair, from within"),
        pytest.param([bid("b", 7, 5)], [ask("a", 7, 5)], 3, 7, 7, "a5 b5", id="they meet at one price"),
        # The price 15 would trade as much, but leave b_low, which pays 16, out.
        pytest.param(
            [bid("b", 20, 5), bid("b_low", 16, 5)], [ask("a", 10, 5)], 15, 16, 16, "a5 b5",
            id="no lower than the first unfilled bid",
        ),
        pytest.param(
            [bid("b", 20, 5)], [ask("a", 10, 5), ask("a_high", 12, 5)], 19, 12, 12, "a5 b5",
            id="no higher than the first unfilled ask",
        ),
        pytest.param(
            [bid("b", 20, 4), bid("c", 9, 3), bid("d", 9, 3), bid("e", 9, 1)], [ask("a", 5, 8)],
            1, 9, 9, "a8 b4 c2 d2", id="the marginal level by largest remainder",
        ),
        pytest.param(
            [bid("c", 9, 1), bid("b", 9, 1)], [ask("a", 5, 1)], 1, 9, 9, "a1 b1",
            id="equal remainders by order id",
        ),
        pytest.param(
            [bid("b", PRICE_MICROS_PER_WU_MAX, ORDER_WORK_UWU_MAX)], [ask("a", 0, 1)],
            10**12, 10**12, 10**12, "a1 b1", id="at the limits",
        ),
    ],
)  # fmt: skip
def test_price_target_and_fills(
    bids: list[Bid], asks: list[Ask], *, previous: int, price: int | None, target: int, fills: str
) -> None:
    clearing = clear(bids, asks, previous_price_micros_per_wu=previous)
    assert (clearing.price_micros_per_wu, clearing.target_micros_per_wu) == (price, target)
    assert " ".join(f"{order_id}{filled_uwu}" for order_id, filled_uwu in clearing.fills) == fills
    assert clearing.traded_uwu == dict(clearing.fills).get("a", 0)
    assert (clearing.low_micros_per_wu, clearing.high_micros_per_wu) == marginal_interval(
        Book(tuple(bids), tuple(asks)), dict(clearing.fills)
    )


def test_the_gain_is_exact_where_money_would_be_rounded() -> None:
    assert gain_micros_uwu_per_wu([bid("b", 12, 5)], [ask("a", 7, 9)], [Fill("a", 3), Fill("b", 3)]) == 15


@pytest.mark.parametrize(
    ("bids", "asks", "field"),
    [
        pytest.param([bid("b", -1, 1)], [], "bid.price_micros_per_wu", id="negative price"),
        pytest.param(
            [], [ask("a", PRICE_MICROS_PER_WU_MAX + 1, 1)], "ask.price_micros_per_wu", id="price above limit"
        ),
        pytest.param([bid("b", 1, 0)], [], "bid.work_uwu", id="no work"),
        pytest.param([], [ask("a", 1, -5)], "ask.work_uwu", id="negative work"),
        pytest.param([bid("b", 1, ORDER_WORK_UWU_MAX + 1)], [], "bid.work_uwu", id="work above limit"),
        pytest.param([bid("", 1, 1)], [], "order_id", id="empty id"),
        pytest.param([bid("é" * ORDER_ID_BYTES_MAX, 1, 1)], [], "order_id", id="id too long in bytes"),
        pytest.param([bid("\ud800", 1, 1)], [], "order_id", id="id that is no text"),
        pytest.param([Bid("b", "", 1, 1)], [], "order_id", id="nobody's"),
        pytest.param([bid("x", 1, 1), bid("x", 2, 1)], [], "order_id", id="twice on a side"),
        pytest.param([bid("x", 1, 1)], [ask("x", 2, 1)], "order_id", id="twice on both sides"),
        pytest.param([bid("b", 1, 1)] * (ORDERS_PER_SIDE_MAX + 1), [], "bids", id="too many"),
    ],
)
def test_what_is_no_book_is_refused(bids: list[Bid], asks: list[Ask], field: str) -> None:
    with pytest.raises(PoolError) as refused:
        clear(bids, asks, previous_price_micros_per_wu=20)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert refused.value.context["field"] == field


@pytest.mark.parametrize("previous", [-1, PRICE_MICROS_PER_WU_MAX + 1])
def test_a_previous_price_out_of_range_is_refused(previous: int) -> None:
    with pytest.raises(PoolError) as refused:
        clear([], [], previous_price_micros_per_wu=previous)
    assert refused.value.context["field"] == "previous_price_micros_per_wu"


def test_a_job_of_any_size_has_an_order() -> None:
    assert order_work_uwu(ORDER_WORK_UWU_MAX * 1_000) == ORDER_WORK_UWU_MAX
    assert order_work_uwu(17) == 17


@given(st.integers(1, 40), st.lists(st.integers(1, 1_000), min_size=1, max_size=20))
def test_rationing_gives_out_exactly_what_there_is(part: int, works: list[int]) -> None:
    orders = [bid(f"b{number}", 5, work) for number, work in enumerate(works)]
    work = min(part, sum(works) - 1) if sum(works) > 1 else 0
    fills = Counter(dict(module.rationed(orders, work)))
    assert sum(fills.values()) == work
    assert all(0 <= fills[order.order_id] <= order.work_uwu for order in orders)

"""Whatever happens, no lease costs a buyer more than its bid or pays an owner less than its reserve."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool_protocol.limits import HOUR_US
from pool_server.app.pricing import follow_auction
from pool_server.app.work_commands import LeaseGranted, WaitingReason
from pool_server.core.jobs import PriceMode
from pool_server.core.matching import NoWorkReason
from pool_server.core.pricing.history import verify_history
from tests.support.workshop import Workshop

_PRICES = st.integers(1, 12).map(lambda tens: tens * 10)
_numbers = itertools.count()

actions = st.lists(
    st.one_of(
        st.tuples(st.just("spot"), _PRICES, st.just(0)),
        st.tuples(st.just("path"), _PRICES, st.integers(1, 8)),
        st.tuples(st.just("quote"), _PRICES, st.just(0)),
        st.tuples(st.just("donate"), st.just(0), st.just(0)),
        st.tuples(st.just("ask"), st.integers(0, 12).map(lambda tens: tens * 10), st.integers(0, 3)),
        st.tuples(st.just("set"), _PRICES, st.just(0)),
        st.tuples(st.just("follow"), st.just(0), st.just(0)),
        st.tuples(st.just("epoch"), st.just(0), st.integers(1, 4)),
    ),
    min_size=8,
    max_size=40,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prices")


@settings(max_examples=8)
@given(actions)
def test_every_lease_is_within_both_limits_and_every_refusal_is_true(
    folder: Path, steps: list[tuple[str, int, int]]
) -> None:
    pool = Workshop(folder / f"{next(_numbers)}.sqlite3")
    cars = [pool.car(name) for name in "abcd"]
    for kind, price, number in steps:
        match kind:
            case "spot":
                pool.job(6, price_micros_per_wu=price)
            case "path":
                pool.job(
                    6,
                    price_micros_per_wu=price,
                    price_start_micros_per_wu=price // 2,
                    deadline_us=pool.now_us + number * HOUR_US,
                )
            case "quote":
                pool.job(6, price_mode=PriceMode.QUOTE, price_micros_per_wu=price)
            case "donate":
                pool.job(6, price_mode=PriceMode.DONATE, price_micros_per_wu=0, budget_micros=0)
            case "set":
                pool.set_price(price)
            case "follow":
                pool.books.run(lambda uow: follow_auction(uow, operator_id="op_a", now_us=pool.now_us))
            case "epoch":
                pool.wait(seconds=900 * number)
                pool.expire_jobs()
                before = pool.price()
                pool.hold_epoch()
                assert abs(pool.price() - before) <= max(1, before // 5)
            case _:
                _ask(pool, cars[number], reserve=price)
    epochs = pool.books.run(lambda uow: uow.prices.epochs_before(0, limit=1_000))[::-1]
    books = {
        epoch.epoch_id: pool.books.run(lambda uow, at=epoch.epoch_id: uow.prices.book(at) or b"")  # type: ignore[misc] # a default binds the loop's value
        for epoch in epochs
    }
    verify_history(epochs, books)
    pool.books.assert_sound()
    pool.books.engine.dispose()


def _ask(pool: Workshop, car: str, *, reserve: int) -> None:
    jobs = {row.job_id: pool.view(row.job_id) for row in pool.books.run(lambda uow: uow.jobs.offers())}
    posted = pool.price()
    willing = {
        job_id: posted if job.price_mode is PriceMode.SPOT else job.price_micros_per_wu
        for job_id, job in jobs.items()
        if job.waiting_reason is not WaitingReason.PRICE_ABOVE_CAP
    }
    answer = pool.ask(car, 2, reserve=reserve)
    if isinstance(answer, LeaseGranted):
        job = jobs[answer.job_id]
        assert answer.price_micros_per_wu == willing[answer.job_id]
        assert reserve <= answer.price_micros_per_wu <= job.bid_micros_per_wu <= job.price_micros_per_wu
        pool.hand_in(answer)
    elif answer.reason is NoWorkReason.PRICE_BELOW_RESERVE:
        assert willing
        assert max(willing.values()) < reserve
        assert f"The price is {max(willing.values())} micros" in answer.message
        assert f"reserve of {reserve}." in answer.message
    else:
        # Of no job's price that both sides would take did the car get nothing.
        assert not [price for price in willing.values() if price >= reserve]
        for job_id, job in jobs.items():
            if job_id not in willing:
                assert job.price_mode is PriceMode.SPOT
                assert job.bid_micros_per_wu < posted
                assert str(posted) in job.waiting_detail
                assert str(job.bid_micros_per_wu) in job.waiting_detail

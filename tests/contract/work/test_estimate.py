"""What a quote estimates, from a real store: prices, cars, queues, energy."""

import pytest

from pool_server.app.estimate import Estimate, estimate_quote
from pool_server.app.outlook import level_outlook
from pool_server.app.pricing import posted_price, set_posted_price
from pool_server.core.pricing.epoch import EPOCH_US
from pool_server.core.verification import LEVELS, VerificationLevel
from pool_server.ports.shell import QuoteRecord
from pool_server.ports.unit_of_work import UnitOfWork
from tests.support.workshop import Workshop

WORK_UWU = 1_000_000


def estimate(
    pool: Workshop,
    *,
    tasks: int = 10,
    level: VerificationLevel = VerificationLevel.FULL,
    buyer: str = "buyer_new",
) -> Estimate:
    def ask(uow: UnitOfWork) -> Estimate:
        price, attempts = posted_price(uow), LEVELS[level].quorum
        quote = QuoteRecord(
            quote_id="quote_1",
            buyer_id=buyer,
            program_sha256="ab" * 32,
            task_count=tasks,
            steps_per_task=0,
            level=level.value,
            price_micros_per_wu=price,
            work_uwu_per_task=WORK_UWU,
            attempts_per_task=attempts,
            cost_micros_per_task=price * attempts,
            total_micros=price * attempts * tasks,
            created_at_us=pool.now_us,
            expires_at_us=pool.now_us + 1,
        )
        outlook = level_outlook(uow, kind="map", work_uwu=WORK_UWU, level=level, policy=pool.policy)
        return estimate_quote(uow, quote, outlook, policy=pool.policy, now_us=pool.now_us)

    return pool.books.run(ask)


def set_speed(pool: Workshop, vehicle_id: str) -> None:
    pool.books.run(lambda uow: uow.fleet.set_speed(vehicle_id, WORK_UWU))


def post(pool: Workshop, price: int) -> None:
    pool.books.run(
        lambda uow: set_posted_price(
            uow, price_micros_per_wu=price, operator_id="operator_x", now_us=pool.now_us
        )
    )


def test_without_cars_no_time_is_told_and_the_reason_is(pool: Workshop) -> None:
    told = estimate(pool)
    assert told.completion is None
    assert told.completion_basis == "No car is here now."


def test_cars_that_never_worked_have_no_speed(pool: Workshop) -> None:
    pool.ask(pool.car("a"), 1)
    assert estimate(pool).completion_basis == "None of the 1 cars here has worked yet."


def test_times_come_from_the_speeds_of_cars_and_rivals_make_them_longer(pool: Workshop) -> None:
    for name in ("a", "b"):
        vehicle = pool.car(name)
        pool.ask(vehicle, 1)
        set_speed(pool, vehicle)
    alone = estimate(pool)
    assert alone.completion is not None
    # Ten tasks of one second, twice each, on two cars.
    assert alone.completion.p50_us == 10_000_000
    assert "no other buyer waits" in alone.completion_basis
    assert "assumed" in alone.completion_basis
    pool.job(4)
    rivalled = estimate(pool)
    assert rivalled.completion is not None
    assert rivalled.completion.p50_us > 10_000_000
    assert "1 other buyers wait" in rivalled.completion_basis


def test_the_price_band_follows_the_posted_prices(pool: Workshop) -> None:
    still = estimate(pool)
    assert still.price.p10_micros_per_wu == still.price.p90_micros_per_wu
    for turn in range(60):
        post(pool, 100 if turn % 2 else 150)
        pool.wait(seconds=EPOCH_US / 1_000_000)
    moving = estimate(pool)
    assert moving.price.epochs >= 59
    assert moving.price.p10_micros_per_wu < 100 < moving.price.p90_micros_per_wu
    assert moving.total_p10_micros < moving.total_p50_micros < moving.total_p90_micros


def test_each_level_has_its_price_and_none_is_told_only_where_it_is_offered(pool: Workshop) -> None:
    offers = {offer.level: offer for offer in estimate(pool).levels}
    assert (VerificationLevel.NONE in offers) == pool.policy.allow_level_none
    assert offers[VerificationLevel.FULL].cost_micros_per_task == (
        2 * offers[VerificationLevel.SPOT].cost_micros_per_task
    )
    assert offers[VerificationLevel.CAREFUL].epsilon == 1e-4


def test_energy_is_assumed_until_cars_report_it(pool: Workshop) -> None:
    told = estimate(pool)
    assert "60 J per WU (assumed)" in told.energy_basis
    # Ten tasks, two owners each, at 60 J: a third of a watt-hour.
    assert told.energy.energy_mwh == pytest.approx(333, abs=1)

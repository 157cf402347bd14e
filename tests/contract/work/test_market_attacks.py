"""Buyers and owners who try to take more of the fleet than their share, each test named after the attack."""

from collections import Counter
from dataclasses import replace

import pytest

from pool_protocol.limits import DAY_US
from pool_server.app.offers import bid_of
from pool_server.app.price_epochs import standing_orders
from pool_server.app.work_commands import LeaseGranted
from pool_server.core.jobs import AttemptOutcome, PriceMode
from pool_server.core.matching import LAG_LEASES_MAX, TAG_UWU_MAX, BuyerShare
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobDelta
from tests.support.workshop import PROGRAM, Workshop, report

WU = 1_000_000
EVIL, HONEST = "buyer_a", "buyer_b"
TINY = replace(PROGRAM, program_sha256="a" * 64, work_uwu_per_task=WU // 10)
BIG = replace(PROGRAM, program_sha256="b" * 64, work_uwu_per_task=10 * WU)


def buyers_of_leases(pool: Workshop, cars: list[str], jobs: dict[int, str], outcome: AttemptOutcome) -> str:
    """Give each car a lease of one task; the evil buyer's end as said. Return whose they were."""
    turns = ""
    for car in cars:
        lease = pool.lease(car, 1)
        buyer = jobs[lease.job_id]
        turns += buyer[-1]
        if buyer == HONEST:
            pool.hand_in(lease)
        else:
            pool.submit(car, lease.lease_id, [report(lease.attempts[0].attempt_id, outcome=outcome)])
    return turns


@pytest.mark.parametrize(
    "outcome", [AttemptOutcome.PROGRAM_FAILED, AttemptOutcome.WORKER_FAILED, AttemptOutcome.REFUSED]
)
def test_a_program_that_fails_at_once_is_not_first_in_line_for_ever(
    pool: Workshop, outcome: AttemptOutcome
) -> None:
    jobs = {pool.job(40, buyer=buyer): buyer for buyer in (EVIL, HONEST)}
    cars = [pool.car(f"c{number}") for number in range(16)]
    turns = buyers_of_leases(pool, cars, jobs, outcome)
    assert abs(turns.count("a") - turns.count("b")) <= 1, turns


def test_work_that_an_unplugged_car_left_undone_is_given_back(pool: Workshop) -> None:
    """The other side of it: the buyer is not to blame, and comes first again."""
    jobs = {pool.job(40, buyer=buyer): buyer for buyer in (EVIL, HONEST)}
    cars = [pool.car(f"c{number}") for number in range(6)]
    assert buyers_of_leases(pool, cars, jobs, AttemptOutcome.ABANDONED) == "aaaaaa"


def test_jobs_that_are_taken_away_under_the_cars_are_not_first_in_line_for_ever(pool: Workshop) -> None:
    """Cars compute for a buyer that cancels before the results: nothing to pay, and the next cars as well."""
    honest = pool.job(40, buyer=HONEST)
    turns = Counter[str]()
    for number in range(10):
        evil, car = pool.job(1, buyer=EVIL), pool.car(f"c{number}")
        lease = pool.lease(car, 1)
        turns[HONEST if lease.job_id == honest else EVIL] += 1
        if lease.job_id == honest:
            pool.hand_in(lease)
        pool.cancel(evil, buyer=EVIL)
    assert abs(turns[EVIL] - turns[HONEST]) <= 1, turns


def test_a_car_that_takes_work_of_one_buyer_only_does_not_wipe_out_what_the_buyer_had(pool: Workshop) -> None:
    """A buyer's own car asks for more than the price, and only the buyer's quote pays as much.

    Its leases must not begin the common scale where that buyer stands: others would lose what they lag.
    """
    pool.job(400, buyer=EVIL, price_mode=PriceMode.QUOTE, price_micros_per_wu=200, program=TINY)
    large = pool.job(40, buyer=EVIL, program=BIG, deadline_us=pool.now_us + DAY_US)
    small = pool.job(400, buyer=HONEST)
    had = Counter[str]()
    for number in range(30):
        lease = pool.lease(pool.car(f"c{number}"), 1)
        had[HONEST if lease.job_id == small else EVIL] += 10 * WU if lease.job_id == large else WU
        own = pool.ask(pool.car(f"own{number}", owner="owner_evil"), 1, reserve=150)
        assert isinstance(own, LeaseGranted)
        assert own.price_micros_per_wu == 200
        had[EVIL] += WU // 10
        assert had[EVIL] <= had[HONEST] + 11 * WU, had


def test_waiting_for_cars_that_cannot_be_had_saves_up_no_more_than_a_few_leases(pool: Workshop) -> None:
    """A buyer whose one task waits for another owner is first in line for ever, and catches up later."""
    stuck = pool.job(1, buyer=EVIL)
    car = pool.car("c")
    lease = pool.lease(car, 1)
    assert lease.job_id == stuck
    pool.submit(
        car, lease.lease_id, [report(lease.attempts[0].attempt_id, outcome=AttemptOutcome.WORKER_FAILED)]
    )
    pool.job(150, buyer=HONEST)
    for _ in range(60):
        pool.hand_in(pool.lease(car, 1))
    evil = pool.job(200, buyer=EVIL)
    turns = [pool.lease(pool.car(f"d{number}"), 1).job_id == evil for number in range(60)]
    assert sum(turns) <= LAG_LEASES_MAX + (60 - LAG_LEASES_MAX) // 2 + 1


def test_huge_leases_that_cost_nothing_do_not_outgrow_the_count_of_work(
    pool: Workshop,
) -> None:
    """Donated tasks of the largest size, given up at once, would end leasing for everybody at 63 bits."""
    near = BuyerShare(tag_uwu=TAG_UWU_MAX, lease_uwu=WU)
    pool.books.run(lambda uow: uow.market.put_share(EVIL, near, virtual_uwu=TAG_UWU_MAX))
    vast = replace(PROGRAM, program_sha256="c" * 64, work_uwu_per_task=10**14)
    jobs = {
        pool.job(20, buyer=EVIL, price_mode=PriceMode.DONATE, price_micros_per_wu=0, program=vast): EVIL,
        pool.job(20, buyer=HONEST, price_mode=PriceMode.DONATE, price_micros_per_wu=0, program=vast): HONEST,
    }
    turns = buyers_of_leases(
        pool, [pool.car(f"c{number}") for number in range(12)], jobs, AttemptOutcome.WORKER_FAILED
    )
    assert abs(turns.count("a") - turns.count("b")) <= 1, turns
    assert pool.books.run(lambda uow: uow.market.virtual_uwu()) < TAG_UWU_MAX // 2


def test_jobs_of_more_work_than_63_bits_do_not_stop_the_quotes_of_others(pool: Workshop) -> None:
    vast = replace(PROGRAM, program_sha256="c" * 64, work_uwu_per_task=10**14)
    for _ in range(3):
        job_id = pool.job(1, buyer=EVIL, price_mode=PriceMode.DONATE, price_micros_per_wu=0, program=vast)
        pool.books.run(lambda uow: uow.jobs.add(job_id, JobDelta(task_count=60_000)))  # noqa: B023 - runs at once
    assert pool.books.run(lambda uow: uow.outlook.waiting_work(price_micros_per_wu=0)) == {
        EVIL: 3 * 60_001 * 10**14
    }


def test_many_tiny_jobs_do_not_push_the_bids_of_deadline_jobs_to_their_caps(pool: Workshop) -> None:
    """An owner floods the book with bids that cost next to nothing, so that each job seems to get no cars."""
    car = pool.car("c")
    pool.books.run(lambda uow: uow.fleet.set_speed(car, WU))
    deadline = pool.job(
        100,
        buyer=HONEST,
        price_micros_per_wu=1_000,
        price_start_micros_per_wu=100,
        deadline_us=pool.now_us + DAY_US,
    )
    pool.wait(seconds=900)
    pool.ask(car, 1, reserve=2_000)
    pool.hold_epoch()
    before = bid_of_job(pool, deadline)
    assert before == 100
    for _ in range(400):
        pool.job(1, buyer=EVIL, program=TINY, price_micros_per_wu=1)
    pool.wait(seconds=900)
    pool.ask(car, 1, reserve=2_000)
    pool.hold_epoch()
    book = pool.books.run(lambda uow: standing_orders(uow, policy=pool.policy, now_us=pool.now_us))
    assert max(bid.price_micros_per_wu for bid in book.bids) == 100
    assert bid_of_job(pool, deadline) == 100


def bid_of_job(pool: Workshop, job_id: int) -> int:
    def bid(uow: UnitOfWork) -> int:
        job = uow.jobs.get(job_id)
        assert job is not None
        return bid_of(uow, job, now_us=pool.now_us)

    return pool.books.run(bid)


def test_who_asks_for_gifts_does_not_get_an_even_share_of_the_cars_of_those_who_pay(pool: Workshop) -> None:
    """Cars ask for nothing until their owners have set a tariff: why should anybody pay for them?"""
    gift = pool.job(40, buyer=EVIL, price_mode=PriceMode.DONATE, price_micros_per_wu=0)
    paid = pool.job(12, buyer=HONEST)
    cars = [pool.car(f"c{number}") for number in range(12)]
    for car in cars:
        lease = pool.lease(car, 1)
        assert lease.job_id == paid
        pool.hand_in(lease)
    # The program of the gift being warm, or its buyer's turn having come, changes nothing; leisure does.
    assert pool.lease(cars[0], 1).job_id == gift
    paid = pool.job(1, buyer=HONEST, program=BIG)
    warm = pool.ask(pool.car("w"), 1, warm=[PROGRAM.program_sha256])
    assert isinstance(warm, LeaseGranted)
    assert warm.job_id == paid

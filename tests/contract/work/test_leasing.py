"""Leases: who gets what, in which order, at which price; a lost lease comes again as it was."""

from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.fleet import set_draining
from pool_server.app.pricing import set_posted_price
from pool_server.app.work_commands import LeaseGranted, NoWorkNow
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.fleet import VehicleState
from pool_server.core.hand_out import HIDDEN_AMONG_TASKS, HIDDEN_WAIT_US_MAX
from pool_server.core.jobs import PriceMode
from pool_server.core.matching import JOBS_ASKED_MAX, LIVE_LEASES_PER_VEHICLE_MAX, NoWorkReason
from pool_server.core.verification import VerificationLevel
from tests.support.workshop import TASK_MICROS, InOrder, Workshop, computed, inputs_of

pytestmark = pytest.mark.usefixtures("on_both_databases")


def reason(answer: LeaseGranted | NoWorkNow) -> NoWorkReason:
    assert isinstance(answer, NoWorkNow), answer
    assert answer.retry_after_ms > 0
    assert answer.message.endswith(".")
    return answer.reason


def test_a_lease_locks_price_and_money_before_the_car_starts(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(3)
    lease = pool.lease(car, 2)
    assert [grant.work_uwu for grant in lease.attempts] == [1_000_000] * 2
    assert lease.price_micros_per_wu == 100
    assert lease.expires_at_us == pool.now_us + pool.policy.lease_timeout_us
    [escrow] = pool.books.run(lambda uow: uow.ledger.accounts_by_prefix(f"job:{job_id}:"))
    assert escrow.debits_pending_micros == 2 * TASK_MICROS
    assert pool.vehicle(car).state is VehicleState.LEASED
    assert pool.vehicle(car).running_attempts == 2
    assert pool.view(job_id).attempt_count == 2
    assert pool.view(job_id).running_count == 2


def test_an_empty_pool_has_no_work(pool: Workshop) -> None:
    car = pool.car("a")
    assert reason(pool.ask(car)) is NoWorkReason.NO_WORK
    assert pool.vehicle(car).state is VehicleState.AVAILABLE
    assert pool.vehicle(car).last_seen_us == pool.now_us


def test_unknown_and_retired_vehicles_are_refused(pool: Workshop) -> None:
    pool.job(1)
    with pytest.raises(PoolError) as unknown:
        pool.ask("vehicle_nobody")
    assert unknown.value.code is ErrorCode.NOT_FOUND
    car = pool.car("a")
    pool.retire(car)
    with pytest.raises(PoolError) as retired:
        pool.ask(car)
    assert retired.value.code is ErrorCode.VEHICLE_RETIRED


def test_jobs_that_wait_for_another_owner_do_not_hide_those_behind_them(pool: Workshop) -> None:
    # Every result is audited, and there is one owner only: each job it has worked for waits for another.
    pool.draws.drawn = 0.0
    car = pool.car("a")
    waiting = {pool.job(1, level=VerificationLevel.STANDARD) for _ in range(2 * JOBS_ASKED_MAX)}
    asked = 0
    while waiting:
        granted = pool.ask(car)
        if isinstance(granted, LeaseGranted):
            pool.hand_in(granted)
            waiting.remove(granted.job_id)
        else:
            asked += 1
            assert asked < 10 * JOBS_ASKED_MAX, f"{len(waiting)} jobs are never asked for their tasks"
            pool.wait(seconds=granted.retry_after_ms / 1_000)


def test_who_wants_nothing_gets_nothing(pool: Workshop) -> None:
    pool.job(1)
    assert reason(pool.ask(pool.car("a"), 0)) is NoWorkReason.NO_WORK


def test_a_lost_lease_is_sent_again_before_new_work(pool: Workshop) -> None:
    # 1. The car leases; the answer is lost on the way.
    car = pool.car("a")
    pool.job(8)
    lost = pool.lease(car, 2)
    # 2. It asks again, holding nothing: the same lease comes, to the byte.
    again = pool.lease(car, 5)
    assert again.resent
    assert (again.lease_id, again.attempts, again.constants, again.expires_at_us, again.issued_at_us) == (
        lost.lease_id,
        lost.attempts,
        lost.constants,
        lost.expires_at_us,
        lost.issued_at_us,
    )
    assert again.price_micros_per_wu == lost.price_micros_per_wu
    # 3. Holding it, the car gets new work.
    new = pool.lease(car, 2, held=[lost.lease_id])
    assert not new.resent
    assert new.lease_id != lost.lease_id
    # 4. Of a half-done lease only what is under way comes again.
    pool.submit(car, lost.lease_id, [computed(lost.attempts[0])])
    assert pool.lease(car, 5, held=[new.lease_id]).attempts == lost.attempts[1:]


def test_an_ended_lease_is_not_sent_again(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1)
    lease = pool.lease(car)
    pool.wait(seconds=pool.policy.lease_timeout_us / 1e6)
    assert reason(pool.ask(car)) is NoWorkReason.NO_WORK
    assert lease.expires_at_us == pool.now_us


def test_a_vehicle_holds_a_few_leases_at_most(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(50)
    held: list[int] = []
    for _ in range(LIVE_LEASES_PER_VEHICLE_MAX):
        held.append(pool.lease(car, 1, held=held).lease_id)
    assert reason(pool.ask(car, 1, held=held)) is NoWorkReason.NO_WORK


def test_owners_never_get_a_task_twice_whatever_car_they_send(pool: Workshop) -> None:
    first, second = pool.car("a", owner="owner_x"), pool.car("b", owner="owner_x")
    pool.job(2, level=VerificationLevel.FULL)
    pool.lease(first)
    assert reason(pool.ask(second)) is NoWorkReason.NO_WORK
    assert len(pool.lease(pool.car("c")).attempts) >= 1


def test_quarantine_and_draining_get_no_lease_and_hear_why(pool: Workshop) -> None:
    pool.job(4)
    odd, tired = pool.car("a"), pool.car("b")
    pool.quarantine(odd)
    refused = pool.ask(odd)
    assert reason(refused) is NoWorkReason.QUARANTINED
    assert isinstance(refused, NoWorkNow)
    assert "looks odd" in refused.message
    pool.books.run(lambda uow: set_draining(uow, vehicle_id=tired, draining=True, now_us=pool.now_us))
    assert reason(pool.ask(tired)) is NoWorkReason.DRAINING
    pool.books.run(lambda uow: set_draining(uow, vehicle_id=tired, draining=False, now_us=pool.now_us))
    pool.release(odd)
    assert len(pool.lease(odd, 1).attempts) == 1
    assert len(pool.lease(tired, 1).attempts) == 1


def test_a_reserve_price_is_respected(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(2, price_micros_per_wu=500)
    refused = pool.ask(car, reserve=101)
    assert reason(refused) is NoWorkReason.PRICE_BELOW_RESERVE
    assert isinstance(refused, NoWorkNow)
    assert "101" in refused.message
    assert isinstance(pool.ask(car, reserve=100), LeaseGranted)


def test_a_spot_job_waits_while_the_price_is_above_its_cap(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(1, price_micros_per_wu=120)
    pool.books.run(
        lambda uow: set_posted_price(uow, price_micros_per_wu=121, operator_id="op", now_us=pool.now_us)
    )
    assert reason(pool.ask(car)) is NoWorkReason.NO_WORK
    assert pool.view(job_id).waiting_reason == "PRICE_ABOVE_CAP"
    pool.books.run(
        lambda uow: set_posted_price(uow, price_micros_per_wu=110, operator_id="op", now_us=pool.now_us)
    )
    assert pool.lease(car).price_micros_per_wu == 110
    assert pool.view(job_id).waiting_reason is None


def test_a_quoted_price_stays_and_donated_work_is_free(pool: Workshop) -> None:
    quoted = pool.job(1, price_mode=PriceMode.QUOTE, price_micros_per_wu=70)
    pool.books.run(
        lambda uow: set_posted_price(uow, price_micros_per_wu=1_000, operator_id="op", now_us=pool.now_us)
    )
    car = pool.car("a")
    lease = pool.lease(car)
    assert (lease.job_id, lease.price_micros_per_wu) == (quoted, 70)
    pool.hand_in(lease)
    donated = pool.job(1, price_mode=PriceMode.DONATE, price_micros_per_wu=0)
    assert reason(pool.ask(car, reserve=1)) is NoWorkReason.PRICE_BELOW_RESERVE
    pool.work(car)
    assert pool.result(donated).cost_micros == 0
    assert pool.held("a") == 70 - 3


def test_buyers_take_turns(pool: Workshop) -> None:
    car = pool.car("a")
    first = [pool.job(50, buyer="buyer_x"), pool.job(50, buyer="buyer_x")]
    other = pool.job(50, buyer="buyer_y")
    order = []
    for _ in range(4):
        lease = pool.lease(car, 1)
        order.append(lease.job_id)
        pool.hand_in(lease)
    assert order == [first[0], other, first[1], other]


def test_a_job_that_waits_for_an_audit_gets_its_turn_and_no_other(pool: Workshop) -> None:
    # A job that came out of turn would tell the car of the audit; that it waits for long is excluded.
    pool.draws.drawn = 0.0
    audited = pool.job(1, level=VerificationLevel.STANDARD)
    pool.work(pool.car("a"))
    fresh = pool.job(100, buyer="buyer_y")
    car = pool.car("b")
    order = []
    for _ in range(2):
        lease = pool.lease(car, 1)
        order.append(lease.job_id)
        pool.hand_in(lease)
    assert order == [fresh, audited]


class LastOfAll(InOrder):
    """The chance that takes the fresh task of the highest id, as long as there is any."""

    def numbers(self, *, lease_seed: int, job_id: int, count: int) -> list[float]:
        return [1.0 - 2**-53] * count


def test_an_audit_waits_for_a_bounded_time(pool: Workshop) -> None:
    pool.draws.drawn = 0.0
    job_id = pool.job(HIDDEN_AMONG_TASKS + 10, level=VerificationLevel.STANDARD)
    pool.hand_in(pool.lease(pool.car("a"), 1))  # task 0, which is audited
    pool.order = LastOfAll()
    # 1. Chance would have it that the audit stays behind, and it does.
    car = pool.car("b")
    early = pool.lease(car, 4)
    assert inputs_of(0) not in [grant.inputs for grant in early.attempts]
    # 2. Until the result has waited for long: then the next lease has it, whatever chance says.
    pool.wait(seconds=HIDDEN_WAIT_US_MAX / 1e6)
    assert inputs_of(0) not in [grant.inputs for grant in pool.lease(pool.car("c"), 1).attempts]
    pool.wait(seconds=0.000_001)
    late = pool.lease(car, 1, held=[early.lease_id])
    assert [grant.inputs for grant in late.attempts] == [inputs_of(0)]
    assert late.job_id == job_id


def test_an_audit_goes_out_at_once_when_nothing_else_is_ready(pool: Workshop) -> None:
    pool.draws.drawn = 0.0
    pool.order = LastOfAll()
    pool.job(3, level=VerificationLevel.STANDARD)
    pool.hand_in(pool.lease(pool.car("a")))
    assert len(pool.lease(pool.car("b"), 3).attempts) == 2  # an even share of three for two cars
    assert len(pool.lease(pool.car("c"), 3).attempts) == 1


def test_fresh_tasks_are_drawn_from_the_whole_job(pool: Workshop) -> None:
    pool.order = LastOfAll()
    pool.job(100)
    first, second = pool.lease(pool.car("a"), 1), pool.lease(pool.car("b"), 2)
    assert [grant.inputs for grant in first.attempts] == [inputs_of(99)]
    # Where two draw the same place, the oldest steps in.
    assert {grant.inputs for grant in second.attempts} == {inputs_of(98), inputs_of(0)}


def test_the_last_tasks_are_spread_over_the_fleet(pool: Workshop) -> None:
    cars = [pool.car(name) for name in "abcd"]
    for car in cars:
        pool.ask(car)
    pool.job(8)
    sizes = [len(pool.lease(car).attempts) for car in cars]
    assert sizes == [2, 2, 1, 1]


def test_a_lease_fits_the_time_a_car_has(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(100)
    # A task takes this car 1 ms (see `report`): 1,000 tasks a second.
    pool.hand_in(pool.lease(car, 1))
    granted = pool.ask(car, 100, available_ms=20)
    assert isinstance(granted, LeaseGranted)
    assert len(granted.attempts) == 20


def test_negative_wishes_are_refused(pool: Workshop) -> None:
    with pytest.raises(PoolError) as refusal:
        pool.ask(pool.car("a"), -1)
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def test_an_audit_looks_like_any_other_work(pool: Workshop) -> None:
    """Nothing in the answer differs between a first attempt and one that checks it."""
    pool.draws.drawn = 0.0
    pool.job(2, level=VerificationLevel.STANDARD)
    work = pool.lease(pool.car("a"), 1)
    pool.hand_in(work)
    audit = pool.lease(pool.car("b"), 1)
    assert audit.job_id == work.job_id
    assert audit.price_micros_per_wu == work.price_micros_per_wu
    assert audit.attempts[0].inputs == work.attempts[0].inputs
    assert audit.attempts[0].work_uwu == work.attempts[0].work_uwu


# --- networks -----------------------------------------------------------------------------------


def test_vehicles_of_one_network_do_not_check_each_other_while_others_may(pool: Workshop) -> None:
    here, there = "198.41.0.0/24", "198.41.1.0/24"
    one, neighbour, stranger, unknown = [
        pool.car(name) for name in ("one", "neighbour", "stranger", "unknown")
    ]
    pool.job(1, level=VerificationLevel.FULL)
    lease = pool.ask(one, network=here)
    assert isinstance(lease, LeaseGranted)
    # 1. Neither while it computes, nor for a minute afterwards.
    assert isinstance(pool.ask(neighbour, network=here), NoWorkNow)
    pool.hand_in(lease)
    pool.wait(seconds=59)
    assert isinstance(pool.ask(neighbour, network=here), NoWorkNow)
    # 2. Others may, and so may the neighbour when nobody came.
    for vehicle_id, network in ((stranger, there), (unknown, "")):
        job_id = pool.job(1, level=VerificationLevel.FULL)
        first = pool.ask(one, network=here)
        assert isinstance(first, LeaseGranted)
        assert first.job_id == job_id
        granted = pool.ask(vehicle_id, network=network)
        assert isinstance(granted, LeaseGranted), network
        pool.hand_in(granted)
        pool.hand_in(first)
    pool.wait(seconds=61)
    assert isinstance(pool.ask(neighbour, network=here), LeaseGranted)


def test_fresh_tasks_are_for_every_network(pool: Workshop) -> None:
    pool.job(4)
    for name in ("one", "two"):
        assert isinstance(pool.ask(pool.car(name), 1, network="198.41.0.0/24"), LeaseGranted)


def test_an_operator_may_do_without_other_networks(tmp_path: Path) -> None:
    pool = Workshop(tmp_path / "pool.sqlite3", policy=WorkPolicy(network_patience_us=0))
    one, two = pool.car("one"), pool.car("two")
    pool.job(1, level=VerificationLevel.FULL)
    for vehicle_id in (one, two):
        assert isinstance(pool.ask(vehicle_id, network="198.41.0.0/24"), LeaseGranted)
    pool.books.engine.dispose()

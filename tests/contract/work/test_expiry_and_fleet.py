"""What time does to leases, results and vehicles, and what owners and operators do to vehicles."""

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app import expiry, fleet
from pool_server.app.money import expire_pending
from pool_server.app.work_commands import AckStatus, LeaseGranted, NoWorkNow
from pool_server.core.effects import AttemptsCancelled, WorkAvailable
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import TaskState
from pool_server.core.verification import VerificationLevel
from tests.support.workshop import TASK_MICROS, Workshop, computed


def to_the_end_of_leases(pool: Workshop) -> None:
    pool.wait(seconds=(pool.policy.lease_timeout_us + pool.policy.lease_grace_us) / 1e6 + 1)


def events(pool: Workshop, entity: str, entity_id: object) -> list[tuple[str, str]]:
    rows = pool.books.run(lambda uow: uow.events.of(entity, str(entity_id)))
    return [(row.from_state, row.to_state) for row in rows]


# --- leases -------------------------------------------------------------------------------------


def test_an_ended_lease_gives_money_and_tasks_back(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(2)
    lease = pool.lease(car)
    pool.submit(car, lease.lease_id, [computed(lease.attempts[0])])
    pool.effects.clear()
    # Not at its end, nor in the grace behind it.
    pool.wait(seconds=pool.policy.lease_timeout_us / 1e6)
    assert pool.expire() == 0
    pool.wait(seconds=pool.policy.lease_grace_us / 1e6 + 1)
    assert pool.expire() == 1
    assert pool.expire() == 0
    assert WorkAvailable() in pool.effects
    assert pool.result(job_id, 1).state is TaskState.READY
    [escrow] = pool.books.run(lambda uow: uow.ledger.accounts_by_prefix(f"job:{job_id}:"))
    assert escrow.debits_pending_micros == 0
    view = pool.vehicle(car)
    assert (view.state, view.abandoned_attempts, view.running_attempts) == (VehicleState.AVAILABLE, 1, 0)
    assert events(pool, "lease", lease.lease_id) == [("", "live"), ("live", "expired")]


def test_a_result_in_the_grace_is_in_time(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1)
    lease = pool.lease(car)
    pool.wait(seconds=pool.policy.lease_timeout_us / 1e6 + 1)
    pool.expire()
    assert pool.hand_in(lease) == [AckStatus.VERIFIED]


def test_many_leases_end_in_one_sweep(pool: Workshop) -> None:
    job_id = pool.job(40)
    for number in range(expiry.LEASES_PER_SWEEP // 8):
        pool.lease(pool.car(f"n{number}"), 2)
    to_the_end_of_leases(pool)
    assert pool.expire() == expiry.LEASES_PER_SWEEP // 8
    assert pool.view(job_id).running_count == 0
    assert pool.balance(f"job:{job_id}:escrow") == 40 * TASK_MICROS


def test_a_task_whose_leases_all_end_is_given_up_at_last(pool: Workshop) -> None:
    job_id = pool.job(1, close=True)
    while pool.view(job_id).state == "closing":
        for name in "abc":
            pool.ask(pool.car(name))
        to_the_end_of_leases(pool)
        pool.expire()
    assert pool.result(job_id).reason == "TASK_ATTEMPTS_EXHAUSTED"
    assert pool.balance("buyer:buyer_b:available") == TASK_MICROS


def test_a_result_that_nobody_could_judge_is_given_up_in_the_end(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(1, level=VerificationLevel.FULL)
    pool.work(car)

    def sweep() -> int:
        return pool.books.run(lambda uow: expiry.expire_unjudged(uow, policy=pool.policy, now_us=pool.now_us))

    assert sweep() == 0
    pool.wait(seconds=expiry.UNJUDGED_AFTER_US / 1e6 + 1)
    assert sweep() == 1
    assert sweep() == 0
    assert pool.balance(f"job:{job_id}:escrow") == 2 * TASK_MICROS
    # The owner may try again, and two others as well.
    assert pool.work(car) == [AckStatus.RECORDED]
    assert pool.work(pool.car("b")) == [AckStatus.VERIFIED]


# --- vehicles -----------------------------------------------------------------------------------


def test_a_silent_vehicle_is_lost_until_it_calls(pool: Workshop) -> None:
    car, busy = pool.car("a"), pool.car("b")
    pool.ask(car)
    pool.job(1)
    pool.lease(busy)

    def sweep() -> int:
        return pool.books.run(
            lambda uow: expiry.lose_silent_vehicles(uow, policy=pool.policy, now_us=pool.now_us)
        )

    assert sweep() == 0
    pool.wait(seconds=pool.policy.vehicle_silence_us / 1e6 + 1)
    assert sweep() == 1
    assert pool.vehicle(car).state is VehicleState.LOST
    # One that has a lease is not lost before its lease has ended.
    assert pool.vehicle(busy).state is VehicleState.LEASED
    pool.ask(car)
    assert pool.vehicle(car).state is VehicleState.AVAILABLE
    assert events(pool, "vehicle", car) == [
        ("", "enrolled"),
        ("enrolled", "available"),
        ("available", "lost"),
        ("lost", "available"),
    ]


def test_registering_again_changes_nothing_but_another_owner_is_refused(pool: Workshop) -> None:
    car = pool.car("a")
    pool.ask(car)
    pool.car("a")
    assert pool.vehicle(car).state is VehicleState.AVAILABLE
    with pytest.raises(PoolError) as refusal:
        pool.car("a", owner="owner_x")
    assert refusal.value.code is ErrorCode.EXISTS_WITH_DIFFERENT


def test_a_retired_vehicles_work_goes_to_others_and_its_pay_stays(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(3, close=True)
    lease = pool.lease(car)
    pool.submit(car, lease.lease_id, [computed(lease.attempts[0])])
    pool.effects.clear()
    pool.retire(car)
    pool.retire(car)
    [stopped] = [effect for effect in pool.effects if isinstance(effect, AttemptsCancelled)]
    assert (stopped.vehicle_id, stopped.reason, len(stopped.attempt_ids)) == (car, "VEHICLE_RETIRED", 2)
    assert pool.vehicle(car).state is VehicleState.RETIRED
    assert pool.held("a") == TASK_MICROS * 95 // 100
    assert pool.hand_in(lease) == [AckStatus.DUPLICATE, AckStatus.LATE, AckStatus.LATE]
    pool.exhaust(pool.car("b"))
    assert pool.view(job_id).state == "done"


def test_retired_is_for_good(pool: Workshop) -> None:
    car = pool.car("a")
    pool.retire(car)
    for change in (pool.release, pool.quarantine):
        with pytest.raises(PoolError) as refusal:
            change(car)
        assert refusal.value.code is ErrorCode.INVALID_STATE
    assert pool.vehicle(car).state is VehicleState.RETIRED


def test_quarantine_and_release_may_be_said_twice(pool: Workshop) -> None:
    car = pool.car("a")
    pool.quarantine(car, reason="first")
    pool.quarantine(car, reason="second")
    assert pool.vehicle(car).quarantine_reason == "first"
    pool.release(car)
    pool.release(car)
    assert pool.vehicle(car).quarantine_reason == ""
    assert events(pool, "vehicle", car)[1:] == [("enrolled", "quarantined"), ("quarantined", "available")]
    with pytest.raises(PoolError) as refusal:
        pool.quarantine(car, reason="")
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_draining_vehicle_finishes_what_it_has(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(2)
    lease = pool.lease(car, 1)
    for _ in range(2):
        pool.books.run(lambda uow: fleet.set_draining(uow, vehicle_id=car, draining=True, now_us=pool.now_us))
    assert isinstance(pool.ask(car, held=[lease.lease_id]), NoWorkNow)
    assert pool.hand_in(lease) == [AckStatus.VERIFIED]
    assert pool.vehicle(car).state is VehicleState.DRAINING
    pool.books.run(lambda uow: fleet.set_draining(uow, vehicle_id=car, draining=False, now_us=pool.now_us))
    assert isinstance(pool.ask(car), LeaseGranted)
    odd = pool.car("odd")
    pool.quarantine(odd)
    with pytest.raises(PoolError) as refusal:
        pool.books.run(lambda uow: fleet.set_draining(uow, vehicle_id=odd, draining=True, now_us=pool.now_us))
    assert refusal.value.code is ErrorCode.INVALID_STATE


def test_owners_name_their_vehicles(pool: Workshop) -> None:
    car = pool.car("a")

    def rename(label: str) -> None:
        pool.books.run(lambda uow: fleet.rename_vehicle(uow, vehicle_id=car, label=label))

    rename("Red one")
    assert pool.vehicle(car).label == "Red one"
    for label in ("", "x" * 81):
        with pytest.raises(PoolError) as refusal:
            rename(label)
        assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(PoolError) as unknown:
        pool.books.run(lambda uow: fleet.rename_vehicle(uow, vehicle_id="vehicle_no", label="x"))
    assert unknown.value.code is ErrorCode.NOT_FOUND


def test_vehicles_are_listed_by_owner_and_state_in_pages(pool: Workshop) -> None:
    cars = sorted(pool.car(name, owner="owner_x") for name in "edcba")
    stranger = pool.car("z")
    pool.ask(cars[1], 0)
    first = pool.books.run(lambda uow: fleet.list_vehicles(uow, owner_id="owner_x", limit=3))
    rest = pool.books.run(
        lambda uow: fleet.list_vehicles(
            uow, owner_id="owner_x", after_vehicle_id=first.next_after_vehicle_id, limit=3
        )
    )
    assert [view.vehicle_id for view in (*first.vehicles, *rest.vehicles)] == cars
    assert rest.next_after_vehicle_id == ""
    everyone = pool.books.run(fleet.list_vehicles)
    assert [view.vehicle_id for view in everyone.vehicles] == [*cars, stranger]
    available = pool.books.run(lambda uow: fleet.list_vehicles(uow, state=VehicleState.AVAILABLE))
    assert [view.vehicle_id for view in available.vehicles] == [cars[1]]


def test_the_overview_counts_everything(pool: Workshop) -> None:
    pool.job(2, close=True)
    pool.job(1)
    car = pool.car("a")
    pool.exhaust(car)
    pool.quarantine(pool.car("b"))
    view = pool.books.run(fleet.overview)
    assert view.vehicles_by_state == {"available": 1, "quarantined": 1}
    assert view.jobs_by_state == {"done": 1, "open": 1}
    assert view.attempts_by_state == {"accepted": 3}
    assert view.tasks_accepted == 3


# --- a server that stood still for more than a month, or a clock that jumped --------------------


@pytest.mark.parametrize("ledger_first", [True, False])
def test_leases_whose_reserved_money_has_timed_out_end_and_their_tasks_go_on(
    pool: Workshop, *, ledger_first: bool
) -> None:
    car = pool.car("a")
    job_id = pool.job(1)
    pool.lease(car)
    pool.wait(seconds=31 * 86_400)
    if ledger_first:
        assert pool._run(lambda uow: expire_pending(uow, now_us=pool.now_us)) == 1
    assert pool.expire() == 1
    pool._run(lambda uow: expire_pending(uow, now_us=pool.now_us))
    pool.wait(seconds=31)
    assert pool.work(car) == [AckStatus.VERIFIED]
    assert pool.result(job_id).state == TaskState.ACCEPTED


@pytest.mark.parametrize("ledger_first", [True, False])
def test_results_whose_reserved_money_has_timed_out_are_paid_all_the_same(
    pool: Workshop, *, ledger_first: bool
) -> None:
    job_id = pool.job(1, level=VerificationLevel.FULL)
    pool.work(pool.car("a"))
    pool.wait(seconds=31 * 86_400)
    if ledger_first:
        assert pool._run(lambda uow: expire_pending(uow, now_us=pool.now_us)) == 1
    assert pool.accept_unverified() == 1
    assert pool.result(job_id).state == TaskState.ACCEPTED
    assert pool.held("a") > 0
    pool._run(lambda uow: expire_pending(uow, now_us=pool.now_us))


def test_results_that_nobody_judged_for_a_month_are_given_up_although_their_money_has_timed_out(
    pool: Workshop,
) -> None:
    job_id = pool.job(1, level=VerificationLevel.FULL)
    cars = [pool.car(name) for name in ("a", "b")]
    leases = [pool.lease(car) for car in cars]
    pool.hand_in(leases[0])
    pool.hand_in(leases[1], error=1.0)
    pool.wait(seconds=31 * 86_400)
    assert (
        pool.books.run(lambda uow: expiry.expire_unjudged(uow, policy=pool.policy, now_us=pool.now_us)) == 2
    )
    assert pool.result(job_id).state == TaskState.READY

"""The pool's own runs over real books: contradictions that no league can outvote, and newcomers' audits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.classes import list_classes, note_probe
from pool_server.app.refereeing import tasks_to_referee
from pool_server.app.work_commands import AckStatus, LeaseGranted, NoWorkNow
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.comparison import Comparator, ComparatorKind
from pool_server.core.effects import RefereeWanted
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import TaskState
from pool_server.core.verification import HistoryAuditRule, VerificationLevel
from pool_server.core.verification.findings import FindingKind, FindingOutcome
from pool_server.ports.verification import FindingRow
from tests.support.classes import probe
from tests.support.workshop import PROGRAM, TASK_MICROS, SetDraws, Workshop

CLOSE = Comparator(kind=ComparatorKind.CLOSE, rtol=1e-5)
FULL, STANDARD = VerificationLevel.FULL, VerificationLevel.STANDARD
RECORDED, VERIFIED = AckStatus.RECORDED, AckStatus.VERIFIED
WORK_UWU = PROGRAM.work_uwu_per_task
NOT_NOW = PoolError(ErrorCode.UNAVAILABLE, "not now")
Make = Callable[..., Workshop]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes pools that have a referee; their books must be sound at the end."""
    made: list[Workshop] = []

    def pool(
        *, run_max: int = WORK_UWU, audit_max: int = 0, waiting_max: int = 8, league: float = 0.0
    ) -> Workshop:
        policy = WorkPolicy(
            pool_run_uwu_max=run_max,
            pool_audit_uwu_max=audit_max,
            pool_audits_waiting_max=waiting_max,
            audit_rule=HistoryAuditRule(colluding_auditor_share=league),
        )
        made.append(Workshop(tmp_path / f"{len(made)}.sqlite3", policy=policy, draws=SetDraws(0.0)))
        return made[-1]

    yield pool
    for workshop in made:
        workshop.books.assert_sound()
        workshop.books.engine.dispose()


def of_class(pool: Workshop, name: str, kind: str) -> str:
    """A vehicle of an owner of its own that computes as `kind` does."""
    vehicle_id = pool.car(name)
    pool.books.run(lambda uow: note_probe(uow, vehicle_id=vehicle_id, probe=probe(kind), now_us=pool.now_us))
    assert isinstance(pool.ask(vehicle_id), NoWorkNow), "it is there before the job is"
    return vehicle_id


def state(pool: Workshop, vehicle_id: str) -> VehicleState:
    return VehicleState(pool.vehicle(vehicle_id).state)


def findings(pool: Workshop, vehicle_id: str) -> list[FindingRow]:
    return pool.books.run(lambda uow: uow.verification.findings_of_vehicle(vehicle_id, limit=10))


# --- contradictions -----------------------------------------------------------------------------


def test_one_honest_owner_wins_against_a_league_that_would_have_outvoted_it(make: Make) -> None:
    pool = make()
    honest, *league = [pool.car(name) for name in ("honest", "one", "two", "three")]
    job_id = pool.job(1, level=FULL)
    leases = [pool.lease(vehicle_id) for vehicle_id in (league[0], honest)]
    # 1. They contradict each other: nobody else is asked, the referee is called.
    assert [pool.hand_in(leases[0], error=7.0), pool.hand_in(leases[1])] == [[RECORDED], [RECORDED]]
    assert all(isinstance(pool.ask(vehicle_id), NoWorkNow) for vehicle_id in league[1:])
    assert [effect for effect in pool.effects if isinstance(effect, RefereeWanted)]
    # 2. Its word decides, at once and for ever.
    assert pool.referee() == 1
    assert pool.result(job_id).state == TaskState.ACCEPTED
    assert pool.value(job_id) == 1.0
    assert (state(pool, honest), state(pool, league[0])) == (VehicleState.AVAILABLE, VehicleState.QUARANTINED)
    assert (pool.held("honest") > 0, pool.held("one")) == (True, 0)
    [finding] = findings(pool, league[0])
    assert (finding.finding, finding.trusted_node, finding.agreeing_owners) == (FindingOutcome.WRONG, True, 1)
    assert pool.referee() == 0


def test_the_same_league_wins_where_owners_decide(make: Make) -> None:
    # What the pool's own run is for: the task is too large for it, and three liars outvote one honest owner.
    pool = make(run_max=WORK_UWU - 1)
    honest, *league = [pool.car(name) for name in ("honest", "one", "two")]
    job_id = pool.job(1, level=FULL)
    leases = [pool.lease(vehicle_id) for vehicle_id in (league[0], honest)]
    pool.hand_in(leases[0], error=7.0)
    pool.hand_in(leases[1])
    pool.work(league[1], error=7.0)
    assert pool.referee() == 0
    assert pool.value(job_id) == 8.0
    assert state(pool, honest) is VehicleState.QUARANTINED


def test_where_all_are_wrong_all_are_rejected_and_one_that_agrees_with_the_pool_is_enough(make: Make) -> None:
    pool = make()
    cars = [of_class(pool, name, "a") for name in ("one", "two", "late", "honest")]
    job_id = pool.job(1, level=FULL)
    leases = [pool.lease(vehicle_id) for vehicle_id in cars[:2]]
    pool.hand_in(leases[0], error=7.0)
    pool.hand_in(leases[1], error=8.0)
    assert pool.referee(numeric_class=probe("a").class_id) == 1
    assert [state(pool, vehicle_id) for vehicle_id in cars[:2]] == [VehicleState.QUARANTINED] * 2
    [finding] = findings(pool, cars[0])
    assert finding.trusted_node
    assert finding.accepted_digest
    # One more liar is measured by the same run, alone; the first that agrees is accepted without a second.
    assert pool.result(job_id).state == TaskState.READY
    pool.work(cars[2], error=7.0)
    assert state(pool, cars[2]) is VehicleState.QUARANTINED
    assert pool.work(cars[3]) == [VERIFIED]
    assert pool.value(job_id) == 1.0
    assert pool.referee() == 0


@pytest.mark.parametrize("code", [ErrorCode.PROGRAM_FAILED, ErrorCode.UNAVAILABLE])
def test_owners_decide_where_the_referee_cannot_run_the_task(make: Make, code: ErrorCode) -> None:
    pool = make()
    one, liar, two = [pool.car(name) for name in ("one", "liar", "two")]
    job_id = pool.job(1, level=FULL)
    leases = [pool.lease(vehicle_id) for vehicle_id in (liar, one)]
    pool.hand_in(leases[0], error=7.0)
    pool.hand_in(leases[1])
    tries = 1 if code is ErrorCode.PROGRAM_FAILED else 3
    for left in range(tries, 0, -1):
        assert isinstance(pool.ask(two), NoWorkNow), left
        assert pool.referee(fails_with=PoolError(code, "no")) == 1
    assert pool.referee() == 0
    assert pool.work(two) == [VERIFIED]
    assert pool.value(job_id) == 1.0
    assert state(pool, liar) is VehicleState.QUARANTINED


def test_a_job_that_is_cancelled_meanwhile_gets_its_money_back_and_the_run_changes_nothing(
    make: Make,
) -> None:
    pool = make()
    one, liar = pool.car("one"), pool.car("liar")
    job_id = pool.job(1, level=FULL)
    leases = [pool.lease(vehicle_id) for vehicle_id in (liar, one)]
    pool.hand_in(leases[0], error=7.0)
    pool.hand_in(leases[1])
    [task_id] = pool.books.run(tasks_to_referee)
    pool.cancel(job_id)
    assert pool.referee() == 0
    # The referee was at it already.
    late = pool._task_run(task_id, error=0.0, numeric_class="")
    pool._take_task_run(task_id, late)
    assert pool.result(job_id).state == TaskState.CANCELLED
    assert state(pool, liar) is VehicleState.AVAILABLE
    assert pool.balance(f"buyer:{'buyer_b'}:available") == 2 * TASK_MICROS


def test_a_look_back_is_settled_by_the_pool_and_upholds_what_is_right(make: Make) -> None:
    # A newcomer's first result is audited and right; then it is caught. A liar that is asked to compute the
    # first again contradicts it: the pool's word upholds it, and pays it.
    pool = make()
    suspect, auditor, liar, honest = [pool.car(name) for name in ("suspect", "auditor", "liar", "honest")]
    pool.draws.drawn = 0.999_999
    first = pool.job(1, level=STANDARD)
    pool.draws.drawn = 0.0
    pool.work(suspect)
    assert pool.work(auditor) == [VERIFIED]
    second = pool.job(1, level=FULL)
    leases = [pool.lease(vehicle_id) for vehicle_id in (suspect, honest)]
    pool.hand_in(leases[0], error=7.0)
    pool.hand_in(leases[1])
    assert pool.referee() == 1
    assert state(pool, suspect) is VehicleState.QUARANTINED
    pool.look_back()
    assert pool.result(first).state == TaskState.READY
    pool.work(liar, error=7.0)
    assert pool.referee() == 1
    pool.look_back()
    assert pool.result(first).state == TaskState.ACCEPTED
    assert (pool.value(first), pool.value(second)) == (1.0, 1.0)
    assert state(pool, liar) is VehicleState.QUARANTINED
    upheld = [row for row in findings(pool, suspect) if row.kind is FindingKind.LOOK_BACK]
    assert [row.finding for row in upheld] == [FindingOutcome.UPHELD]


# --- classes ------------------------------------------------------------------------------------


def test_a_referee_that_rounds_otherwise_convicts_nobody_of_its_own(make: Make) -> None:
    pool = make()
    cars = [of_class(pool, name, "a") for name in ("one", "liar", "two")]
    job_id = pool.job(1, level=FULL)
    leases = [pool.lease(vehicle_id) for vehicle_id in cars[:2]]
    pool.hand_in(leases[0])
    pool.hand_in(leases[1], error=7.0)
    # Its bits are those of no vehicle, and it is of another class: owners decide.
    assert pool.referee(error=1e-6, numeric_class=probe("z").class_id) == 1
    assert pool.result(job_id).state == TaskState.READY
    assert {state(pool, vehicle_id) for vehicle_id in cars} == {VehicleState.AVAILABLE}
    pool.work(cars[2])
    assert pool.value(job_id) == 1.0
    assert state(pool, cars[1]) is VehicleState.QUARANTINED


def test_vehicles_without_a_class_are_not_convicted_by_bits_alone(make: Make) -> None:
    pool = make()
    cars = [pool.car(name) for name in ("one", "liar", "two")]
    job_id = pool.job(1, level=FULL)
    leases = [pool.lease(vehicle_id) for vehicle_id in cars[:2]]
    pool.hand_in(leases[0])
    pool.hand_in(leases[1], error=7.0)
    assert pool.referee(error=1e-6, numeric_class=probe("z").class_id) == 1
    assert pool.result(job_id).state == TaskState.READY
    pool.work(cars[2])
    assert (pool.value(job_id), state(pool, cars[1])) == (1.0, VehicleState.QUARANTINED)


def test_a_whole_class_that_the_pool_contradicts_is_a_fault_and_no_fraud(make: Make) -> None:
    pool = make()
    cars = [of_class(pool, name, kind) for name, kind in (("f1", "f"), ("a1", "a"), ("f2", "f"))]
    job_id = pool.job(1, level=FULL, comparator=CLOSE)
    leases = [pool.lease(vehicle_id) for vehicle_id in cars[:2]]
    pool.hand_in(leases[0], error=1e-3)
    pool.hand_in(leases[1])
    # The pool agrees with one; before the other is called a fraud, one of its kind is heard.
    assert pool.referee(numeric_class=probe("a").class_id) == 1
    assert pool.result(job_id).state == TaskState.READY
    pool.work(cars[2], error=1e-3)
    assert pool.value(job_id) == 1.0
    assert {state(pool, vehicle_id) for vehicle_id in cars} == {VehicleState.AVAILABLE}
    [fault] = pool.books.run(list_classes).faults
    assert fault.numeric_class == probe("f").class_id


# --- audits -------------------------------------------------------------------------------------


def test_the_pool_itself_audits_newcomers_and_the_fund_pays_nobody_for_it(make: Make) -> None:
    pool = make(audit_max=WORK_UWU, league=0.2)
    honest, liar, other = [pool.car(name) for name in ("honest", "liar", "other")]
    job_id = pool.job(2, level=STANDARD)
    fund = pool.balance("pool:verification")
    leases = [pool.lease(vehicle_id, 1) for vehicle_id in (honest, liar)]
    pool.hand_in(leases[0])
    pool.hand_in(leases[1], error=7.0)
    assert isinstance(pool.ask(other), NoWorkNow), "no owner is asked"
    assert pool.referee() == 2
    assert [pool.result(job_id, index).state for index in range(2)] == [TaskState.ACCEPTED, TaskState.READY]
    assert pool.vehicle(honest).clean_uwu == WORK_UWU
    assert pool.balance("pool:verification") >= fund
    # Bits that differ convict where classes say so or somebody agrees; here another owner does.
    assert state(pool, liar) is VehicleState.AVAILABLE
    assert pool.work(other) == [VERIFIED]
    assert state(pool, liar) is VehicleState.QUARANTINED


def test_a_lying_newcomer_of_the_pools_own_class_is_caught_without_another_owner(make: Make) -> None:
    pool = make(audit_max=WORK_UWU, league=0.2)
    liar = of_class(pool, "liar", "a")
    pool.job(1, level=STANDARD)
    pool.work(liar, error=7.0)
    assert pool.referee(numeric_class=probe("a").class_id) == 1
    assert state(pool, liar) is VehicleState.QUARANTINED


def test_a_pool_of_one_owner_need_not_wait_for_another(make: Make) -> None:
    pool = make(audit_max=WORK_UWU, waiting_max=1)
    only = pool.car("only")
    job_id = pool.job(3, level=STANDARD)
    assert pool.work(only) == [RECORDED] * 3
    assert pool.referee() == 3, "there is nobody else to ask, so all of them wait their turn"
    assert [pool.result(job_id, index).state for index in range(3)] == [TaskState.ACCEPTED] * 3
    assert pool.vehicle(only).clean_uwu == 3 * WORK_UWU


def test_auditors_are_asked_while_the_pools_machine_is_busy_and_where_one_is_enough(make: Make) -> None:
    busy = make(audit_max=WORK_UWU, waiting_max=1, league=0.2)
    cars = [busy.car(name) for name in ("one", "two", "three")]
    busy.job(2, level=STANDARD)
    leases = [busy.lease(vehicle_id, 1) for vehicle_id in cars[:2]]
    for lease in leases:
        busy.hand_in(lease)
    assert isinstance(busy.ask(cars[2]), LeaseGranted), "the second waits for an owner"
    assert busy.referee() == 1
    alone = make(audit_max=WORK_UWU, league=0.0)
    one, two = alone.car("one"), alone.car("two")
    assert isinstance(alone.ask(two), NoWorkNow), "it is there"
    alone.job(1, level=STANDARD)
    alone.work(one)
    assert alone.referee() == 0
    assert alone.work(two) == [VERIFIED]


def test_a_vehicle_of_another_class_than_the_pools_is_left_to_owners(make: Make) -> None:
    pool = make(audit_max=WORK_UWU, league=0.2)
    first, second = of_class(pool, "first", "a"), of_class(pool, "second", "a")
    pool.job(2, level=STANDARD)
    leases = [pool.lease(vehicle_id, 1) for vehicle_id in (first, second)]
    pool.hand_in(leases[0])
    # The pool's machine turns out to be of another class: its bits said nothing, so it is not asked again.
    assert pool.referee(error=1e-6, numeric_class=probe("z").class_id) == 1
    pool.hand_in(leases[1])
    assert pool.referee() == 0

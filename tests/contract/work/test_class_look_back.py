"""A class that is found wrong on a program: what was accepted on its own word before is computed again.

As a fault, not fraud: other classes compute it, wrong results are replaced and not paid as far as their money
is held still, and nobody is called a fraud.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pool_protocol import tensors
from pool_server.app.account_events import look_back_news
from pool_server.app.classes import list_classes, note_probe, settle_class_asks
from pool_server.app.evidence import EvidenceValue, vehicle_evidence
from pool_server.app.work_commands import AttemptGrant, AttemptReport, LeaseGranted, NoWorkNow
from pool_server.core.comparison import Comparator, ComparatorKind
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import JobState, ProgramFacts, TaskState
from pool_server.core.trust import TrustRecord, trust_class
from pool_server.core.verification import VerificationLevel
from pool_server.core.verification.findings import Evidence, FindingKind, FindingOutcome
from pool_server.ports.verification import FindingRow, LookBackRow, LookBackState
from tests.simulation.auditor import Auditor
from tests.support.classes import probe
from tests.support.workshop import PROGRAM, TASK_MICROS, SetDraws, Workshop, answer, computed, report

CLOSE = Comparator(kind=ComparatorKind.CLOSE, rtol=1e-5)
SPOT = VerificationLevel.SPOT
NET = TASK_MICROS * 95 // 100
ALWAYS, NEVER = 0.0, 0.999_999
F, A = probe("f").class_id, probe("a").class_id


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Workshop]:
    """A pool whose vehicles have a history that makes audits rare."""
    workshop = Workshop(tmp_path / "pool.sqlite3", draws=SetDraws(NEVER))
    yield workshop
    workshop.books.assert_sound()
    Auditor(workshop).check()
    workshop.books.engine.dispose()


def join(pool: Workshop, name: str, kind: str) -> str:
    """A vehicle of an owner of its own, with a history, of the class that `kind` names."""
    vehicle_id = pool.car(name)
    found, record = probe(kind), TrustRecord(clean_uwu=1_000_000_000)
    pool.books.run(lambda uow: note_probe(uow, vehicle_id=vehicle_id, probe=found, now_us=pool.now_us))
    pool.books.run(lambda uow: uow.fleet.put_trust(vehicle_id, trust_class("map", SPOT), record))
    assert isinstance(pool.ask(vehicle_id), NoWorkNow), "it is there before the job is"
    return vehicle_id


def made(grant: AttemptGrant, *, wrong: bool) -> AttemptReport:
    """What a vehicle computes: where its class is wrong, off in the fourth digit by the same bits always."""
    honest = computed(grant)
    if not wrong:
        return honest
    [y] = tensors.decode(honest.outputs.inline or b"").values()
    return report(grant.attempt_id, answer(float(y[0]) * (1 + 1e-3)))


def do(pool: Workshop, vehicle_id: str, *, wrong: bool = False, times: int = 100) -> int:
    """Let a car take what there is, lease after lease. Returns how many attempts it made."""
    done = 0
    for _ in range(times):
        granted = pool.ask(vehicle_id)
        if isinstance(granted, NoWorkNow):
            break
        reports = [made(grant, wrong=wrong) for grant in granted.attempts]
        done += len(pool.submit(vehicle_id, granted.lease_id, reports))
    return done


def believed(
    pool: Workshop,
    vehicle_id: str,
    tasks: int = 2,
    *,
    wrong: bool = True,
    program: ProgramFacts = PROGRAM,
) -> int:
    """A job that a car does while nobody of another class is there: accepted on its class's own word."""
    job_id = pool.job(tasks, level=SPOT, comparator=CLOSE, close=True, program=program)
    assert do(pool, vehicle_id, wrong=wrong) == tasks
    assert pool.view(job_id).state is JobState.DONE
    return job_id


def find_fault(pool: Workshop) -> None:
    """Two of class f and three of class a do a task: the fault comes to light."""
    others = [join(pool, name, "a") for name in ("a0", "a1", "a2")]
    pool.job(1, level=SPOT, comparator=CLOSE, close=True)
    pool.draws.drawn = ALWAYS
    assert do(pool, "vehicle_f0", wrong=True, times=1) == 1
    pool.draws.drawn = NEVER
    for vehicle_id in (*others, "vehicle_f1"):
        do(pool, vehicle_id, wrong=vehicle_id == "vehicle_f1")
    [fault] = pool.books.run(list_classes).faults
    assert (fault.numeric_class, fault.program_sha256) == (F, PROGRAM.program_sha256)


@pytest.fixture
def faulty(pool: Workshop) -> Workshop:
    """Two vehicles of class f alone in the pool; nobody has noticed yet."""
    join(pool, "f0", "f")
    join(pool, "f1", "f")
    return pool


def look_back(pool: Workshop) -> LookBackRow:
    found = pool.books.run(lambda uow: uow.verification.look_back_of_class(F, PROGRAM.program_sha256))
    assert found is not None
    return found


def findings(pool: Workshop, vehicle_id: str) -> list[FindingRow]:
    return pool.books.run(lambda uow: uow.verification.findings_of_vehicle(vehicle_id, limit=100))[::-1]


def evidence(pool: Workshop, vehicle_id: str) -> EvidenceValue:
    return pool.books.run(
        lambda uow: vehicle_evidence(
            uow, vehicle_id=vehicle_id, policy=pool.policy, for_operator=True, now_us=pool.now_us
        )
    )


def news(pool: Workshop, vehicle_id: str) -> list[tuple[str, str]]:
    """What an owner reads of its vehicle's look-backs."""
    events = pool.books.run(lambda uow: look_back_news(uow, {vehicle_id: "my car"}))
    return [(event.code, event.message) for event in events]


def balance(pool: Workshop, name: str, what: str) -> int:
    return pool.balance(f"owner:owner_{name}:{what}")


def sweep(pool: Workshop) -> int:
    return pool.books.run(lambda uow: settle_class_asks(uow, policy=pool.policy, now_us=pool.now_us))


# --- replaced -----------------------------------------------------------------------------------


def test_what_a_faulty_class_vouched_for_alone_is_replaced_and_nobody_is_a_fraud(faulty: Workshop) -> None:
    pool = faulty
    # 1. Accepted on the class's word: one by history, one because the draw had it checked by its own kind.
    by_history = believed(pool, "vehicle_f0", 2)
    pool.draws.drawn = ALWAYS
    checked = pool.job(1, level=SPOT, comparator=CLOSE, close=True)
    assert do(pool, "vehicle_f0", wrong=True) == do(pool, "vehicle_f1", wrong=True) == 1
    pool.draws.drawn = NEVER
    before = [pool.result(job_id).evidence for job_id in (by_history, checked)]
    assert before == [Evidence.HISTORY, Evidence.AUDITED]
    assert (balance(pool, "f0", "held"), balance(pool, "f1", "held")) == (3 * NET, NET)
    # 2. The fault comes to light: a look-back at the class on this program opens with it.
    find_fault(pool)
    assert (look_back(pool).state, look_back(pool).vehicle_id) == (LookBackState.OPENING, "")
    pool.look_back()
    assert (look_back(pool).state, look_back(pool).questioned_count) == (LookBackState.CHECKING, 4)
    assert pool.view(by_history).rechecking_count == 2
    assert pool.view(checked).state is JobState.CLOSING
    assert (balance(pool, "f0", "questioned"), balance(pool, "f1", "questioned")) == (3 * NET, NET)
    # 3. Its own kind gets none of it; the others compute it.
    assert isinstance(pool.ask("vehicle_f1"), NoWorkNow)
    for vehicle_id in ("vehicle_a0", "vehicle_a1", "vehicle_a2"):
        do(pool, vehicle_id)
    pool.look_back()
    # 4. Replaced, for all that both of class f agreed; paid once by the buyer.
    for job_id, tasks in ((by_history, 2), (checked, 1)):
        assert [pool.value(job_id, index) for index in range(tasks)] == [
            1.0 + index for index in range(tasks)
        ]
        view = pool.view(job_id)
        assert (view.state, view.replaced_count, view.spent_micros) == (
            JobState.DONE,
            tasks,
            tasks * TASK_MICROS,
        )
    assert (look_back(pool).state, look_back(pool).wrong_count) == (LookBackState.DONE, 4)
    # 5. Not paid for what proved wrong; not called frauds; told in plain words.
    for name, wrong in (("f0", 3), ("f1", 1)):
        assert balance(pool, name, "held") == balance(pool, name, "questioned") == 0
        vehicle = pool.vehicle(f"vehicle_{name}")
        assert (vehicle.state, vehicle.rejected_attempts) == (VehicleState.AVAILABLE, 0)
        assert vehicle.verified_attempts == 0
        found = [row for row in findings(pool, f"vehicle_{name}") if row.kind is FindingKind.CLASS_FAULT]
        assert [(row.finding, row.clawed_back_micros, row.numeric_class) for row in found] == [
            (FindingOutcome.CLASS_FAULT, NET, F)
        ] * wrong
        story = " ".join(evidence(pool, f"vehicle_{name}").story)
        assert "a fault of their numeric class, not of this vehicle" in story
        assert f"{wrong} earlier result" in story
        assert f"0 right, {wrong} wrong" in story


def test_owners_read_of_it_without_blame(faulty: Workshop) -> None:
    pool = faulty
    believed(pool, "vehicle_f0")
    find_fault(pool)
    pool.look_back()
    [opened] = news(pool, "vehicle_f0")
    assert opened[0] == "LOOK_BACK"
    assert "no fault of yours; 2 earlier results are computed again" in opened[1]
    for vehicle_id in ("vehicle_a0", "vehicle_a1", "vehicle_a2"):
        do(pool, vehicle_id)
    pool.look_back()
    assert [code for code, _ in news(pool, "vehicle_f0")] == ["LOOK_BACK", "LOOK_BACK_DONE"]
    assert "2 proved wrong" in news(pool, "vehicle_f0")[1][1]
    assert news(pool, "vehicle_f1") == []


def test_what_the_class_had_right_all_the_same_is_upheld_and_its_money_given_back(faulty: Workshop) -> None:
    pool = faulty
    job_id = believed(pool, "vehicle_f0", wrong=False)
    find_fault(pool)
    pool.look_back()
    for vehicle_id in ("vehicle_a0", "vehicle_a1", "vehicle_a2"):
        do(pool, vehicle_id)
    pool.look_back()
    view = pool.view(job_id)
    assert (view.state, view.replaced_count, view.rechecking_count) == (JobState.DONE, 0, 0)
    assert pool.result(job_id).evidence == Evidence.AUDITED
    assert (balance(pool, "f0", "held"), balance(pool, "f0", "questioned")) == (2 * NET, 0)
    upheld = [row for row in findings(pool, "vehicle_f0") if row.kind is FindingKind.LOOK_BACK]
    assert [row.finding for row in upheld] == [FindingOutcome.UPHELD] * 2
    assert (look_back(pool).state, look_back(pool).wrong_count) == (LookBackState.DONE, 0)


# --- left alone ---------------------------------------------------------------------------------


def test_what_another_class_confirmed_is_not_questioned(faulty: Workshop) -> None:
    pool = faulty
    other = join(pool, "b0", "b")
    job_id = pool.job(1, level=SPOT, comparator=CLOSE, close=True)
    assert do(pool, "vehicle_f0") == 1
    assert do(pool, other) == 1, "a class that is new to a program is confirmed by another"
    find_fault(pool)
    pool.look_back()
    assert pool.view(job_id).state is JobState.DONE
    assert look_back(pool).questioned_count == 0


def test_other_programs_and_other_classes_are_not_questioned(faulty: Workshop) -> None:
    pool = faulty
    elsewhere = believed(pool, "vehicle_f0", program=replace(PROGRAM, program_sha256="ab" * 32))
    trusted = join(pool, "c0", "c")
    pool.trust(trusted)
    mixed = pool.job(2, level=SPOT, comparator=CLOSE, close=True)
    assert do(pool, trusted) == 2
    find_fault(pool)
    pool.look_back()
    assert look_back(pool).questioned_count == 0
    assert [pool.view(job_id).state for job_id in (elsewhere, mixed)] == [JobState.DONE] * 2


def test_money_that_was_paid_out_stays_and_its_results_stand(faulty: Workshop) -> None:
    pool = faulty
    job_id = believed(pool, "vehicle_f0")
    pool.books.now_us += pool.books.terms.dispute_window_us + 1
    pool.release_money()
    find_fault(pool)
    pool.look_back()
    assert pool.view(job_id).state is JobState.DONE
    assert balance(pool, "f0", "available") == 2 * NET
    assert (look_back(pool).state, look_back(pool).questioned_count) == (LookBackState.DONE, 0)


def test_what_nobody_of_another_class_computes_stands_at_the_pools_risk(faulty: Workshop) -> None:
    pool = faulty
    job_id = believed(pool, "vehicle_f0")
    find_fault(pool)
    pool.look_back()
    for name in ("a0", "a1", "a2"):
        pool.retire(f"vehicle_{name}")
    pool.wait(seconds=3_600)
    assert sweep(pool) == 2
    assert isinstance(pool.ask("vehicle_f1"), NoWorkNow), "its own kind is not asked, however long it takes"
    pool.books.now_us += pool.policy.accept_unverified_after_us + 1
    pool.look_back()
    result = pool.result(job_id)
    assert (result.state, result.evidence) == (TaskState.ACCEPTED, Evidence.RISK)
    assert balance(pool, "f0", "questioned") == 0
    assert (look_back(pool).state, look_back(pool).wrong_count) == (LookBackState.DONE, 0)


def test_a_class_has_one_look_back_a_program_however_often_it_is_wrong(faulty: Workshop) -> None:
    pool = faulty
    believed(pool, "vehicle_f0")
    find_fault(pool)
    first = look_back(pool).look_back_id
    pool.look_back()
    for vehicle_id in ("vehicle_a0", "vehicle_a1", "vehicle_a2"):
        do(pool, vehicle_id)
    pool.look_back()
    assert look_back(pool).look_back_id == first
    assert look_back(pool).state is LookBackState.DONE
    assert isinstance(pool.ask("vehicle_f0"), NoWorkNow)


def test_no_held_money_is_released_before_the_results_are_questioned(faulty: Workshop) -> None:
    pool = faulty
    believed(pool, "vehicle_f0")
    pool.books.now_us += pool.books.terms.dispute_window_us - 1
    find_fault(pool)
    pool.wait(seconds=10)
    assert pool.release_money() == 0
    pool.look_back()
    assert balance(pool, "f0", "questioned") == 2 * NET


def test_the_pools_receipts_are_walked_in_batches(faulty: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = faulty
    monkeypatch.setattr("pool_server.app.doubts.RECEIPTS_PER_SWEEP", 2)
    monkeypatch.setattr("pool_server.app.doubts.POOL_RECEIPTS_PER_SWEEP", 3)
    believed(pool, "vehicle_f0", 7)
    find_fault(pool)
    turns = 0
    while look_back(pool).state is LookBackState.OPENING:
        assert pool.open_look_backs() > 0
        turns += 1
    assert look_back(pool).questioned_count == 7
    assert turns >= 4
    assert isinstance(pool.lease("vehicle_a0"), LeaseGranted)


def test_what_is_final_stands(faulty: Workshop) -> None:
    pool = faulty
    job_id = believed(pool, "vehicle_f0", 260)
    final = sum(task.final for task in pool.decided(job_id).decided)
    assert 0 < final < 260
    find_fault(pool)
    pool.look_back()
    assert look_back(pool).questioned_count == 260 - final
    assert sum(task.final for task in pool.decided(job_id).decided) == final


def test_under_exact_the_other_classs_bits_are_the_buyers_and_the_owner_keeps_the_money(
    faulty: Workshop,
) -> None:
    pool = faulty
    job_id = pool.job(1, level=SPOT, close=True)
    assert do(pool, "vehicle_f0", wrong=True) == 1
    find_fault(pool)
    pool.look_back()
    assert pool.view(job_id).rechecking_count == 1
    for vehicle_id in ("vehicle_a0", "vehicle_a1", "vehicle_a2"):
        do(pool, vehicle_id)
    pool.look_back()
    assert (pool.value(job_id), pool.view(job_id).replaced_count) == (1.0, 1)
    assert (balance(pool, "f0", "held"), balance(pool, "f0", "questioned")) == (NET, 0)
    assert pool.vehicle("vehicle_f0").state is VehicleState.AVAILABLE

"""An owner appeals: what the pool's own run undoes, what it leaves, and what it makes of the others."""

from dataclasses import replace

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.appeals import AppealCase, AppealRun, close_appeal, open_appeal
from pool_server.app.evidence import vehicle_evidence
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.fleet import VehicleState
from pool_server.core.trust import QuarantineRule
from pool_server.core.verification import VerificationLevel
from pool_server.core.verification.findings import FindingKind, FindingOutcome
from pool_server.ports.verification import FindingRow
from tests.simulation.auditor import Auditor
from tests.support.workshop import TASK_MICROS, Workshop

FULL, SPOT = VerificationLevel.FULL, VerificationLevel.SPOT
NET = TASK_MICROS * 95 // 100
CAR = "vehicle_a"
ALWAYS, NEVER = 0.0, 0.999_999
UPHELD = AppealRun(FindingOutcome.UPHELD, b"\x01" * 32)
STANDS = AppealRun(FindingOutcome.WRONG, b"\x02" * 32)
UNKNOWN = AppealRun(FindingOutcome.OPEN, b"")


@pytest.fixture
def framed(pool: Workshop) -> Workshop:
    """An honest car with a history, outvoted by two that return the same wrong value."""
    for name in ("a", "liar", "friend", "b", "c", "d", "e"):
        pool.car(name)
    pool.job(2, level=FULL, close=True)
    pool.exhaust(CAR, "vehicle_b")
    outvote(pool)
    return pool


def outvote(pool: Workshop) -> int:
    """The car is right, and two others say otherwise. Returns the job."""
    job_id = pool.job(1, level=FULL, close=True)
    pool.work(CAR)
    pool.work("vehicle_liar", error=1.0)
    pool.work("vehicle_friend", error=1.0)
    assert pool.value(job_id) == 2.0
    assert pool.vehicle(CAR).state is VehicleState.QUARANTINED
    return job_id


def rejected_attempt(pool: Workshop, vehicle_id: str = CAR) -> int:
    return findings(pool, vehicle_id)[0].attempt_id


def findings(pool: Workshop, vehicle_id: str = CAR) -> list[FindingRow]:
    """Newest first."""
    return pool.books.run(lambda uow: uow.verification.findings_of_vehicle(vehicle_id, limit=100))


def opened(pool: Workshop, attempt_id: int, *, owner_id: str = "owner_a") -> AppealCase | FindingRow:
    return pool.books.run(
        lambda uow: open_appeal(uow, owner_id=owner_id, attempt_id=attempt_id, now_us=pool.now_us)
    )


def appeal(pool: Workshop, attempt_id: int, run: AppealRun) -> FindingRow:
    case = opened(pool, attempt_id)
    assert isinstance(case, AppealCase)
    return pool._run(lambda uow: close_appeal(uow, case, run, policy=pool.policy, now_us=pool.now_us))


def clean_uwu(pool: Workshop, trust_class: str = "map/full") -> int:
    return pool.books.run(lambda uow: uow.fleet.trust(CAR, trust_class)).clean_uwu


def available(pool: Workshop, name: str = "a") -> int:
    return pool.balance(f"owner:owner_{name}:available")


def story(pool: Workshop) -> tuple[str, ...]:
    return pool.books.run(
        lambda uow: vehicle_evidence(
            uow, vehicle_id=CAR, policy=pool.policy, for_operator=False, now_us=pool.now_us
        )
    ).story


def test_a_result_that_was_right_is_paid_and_its_car_freed_with_its_history(framed: Workshop) -> None:
    pool = framed
    attempt_id = rejected_attempt(pool)
    before = (available(pool), pool.balance("x:verification"))
    assert clean_uwu(pool) == 0
    finding = appeal(pool, attempt_id, UPHELD)
    # 1. The record: a finding of its own, beside the one that it overturns.
    assert (finding.kind, finding.finding, finding.granted_micros) == (
        FindingKind.APPEAL,
        FindingOutcome.UPHELD,
        NET,
    )
    assert [row.finding for row in findings(pool)] == [FindingOutcome.UPHELD, FindingOutcome.WRONG]
    # 2. The money comes from the pool, in full, at once.
    assert (available(pool), pool.balance("x:verification")) == (before[0] + NET, before[1] - NET)
    # 3. Two clean results count again; the car works again, with a clean slate.
    assert clean_uwu(pool) == 2_000_000
    assert pool.vehicle(CAR).state is VehicleState.AVAILABLE
    pool.job(1, level=FULL, close=True)
    assert len(pool.lease(CAR).attempts) == 1
    # 4. It is told.
    told = "\n".join(story(pool))
    assert "the vehicle's result is right, and the rejection is overturned; 0.000095 EUR were paid." in told
    assert "It was freed: the appeal was granted." in told
    Auditor(pool).check()


@pytest.mark.parametrize("run", [STANDS, UNKNOWN])
def test_a_rejection_that_stands_changes_nothing(framed: Workshop, run: AppealRun) -> None:
    pool = framed
    balances = pool.books.balances()
    finding = appeal(pool, rejected_attempt(pool), run)
    assert (finding.finding, finding.granted_micros) == (run.finding, 0)
    assert pool.books.balances() == balances
    assert clean_uwu(pool) == 0
    assert pool.vehicle(CAR).state is VehicleState.QUARANTINED


def test_an_attempt_is_appealed_once(framed: Workshop) -> None:
    pool = framed
    attempt_id = rejected_attempt(pool)
    case = opened(pool, attempt_id)
    assert isinstance(case, AppealCase)
    finding = appeal(pool, attempt_id, STANDS)
    assert opened(pool, attempt_id) == finding
    # A second run that was under way meanwhile comes to nothing.
    late = pool._run(lambda uow: close_appeal(uow, case, UPHELD, policy=pool.policy, now_us=pool.now_us))
    assert late == finding
    assert len(findings(pool)) == 2


def test_only_the_owner_may_within_the_window_against_what_was_found_wrong(framed: Workshop) -> None:
    pool = framed
    attempt_id = rejected_attempt(pool)
    accepted = pool.books.scalar("SELECT min(attempt_id) FROM attempts WHERE owner_id = 'owner_a'")
    assert isinstance(accepted, int)
    for asked_id, owner_id, code in (
        (attempt_id, "owner_b", ErrorCode.NOT_FOUND),
        (999_999, "owner_a", ErrorCode.NOT_FOUND),
        (accepted, "owner_a", ErrorCode.INVALID_STATE),
    ):
        with pytest.raises(PoolError) as refused:
            opened(pool, asked_id, owner_id=owner_id)
        assert refused.value.code is code
    assert any("may appeal until" in line for line in story(pool))
    pool.books.now_us += pool.books.terms.dispute_window_us
    assert isinstance(opened(pool, attempt_id), AppealCase)
    pool.books.now_us += 1
    with pytest.raises(PoolError) as late:
        opened(pool, attempt_id)
    assert late.value.context == {"state": "window_over"}
    assert not any("may appeal until" in line for line in story(pool))


def test_a_car_with_another_standing_rejection_stays_in_quarantine(framed: Workshop) -> None:
    pool = framed
    pool.policy = WorkPolicy(allow_level_none=True, quarantine=QuarantineRule(rejections_max=2))
    first = rejected_attempt(pool)
    pool.release(CAR)
    pool.job(1, level=FULL, close=True)
    pool.work(CAR, error=3.0)
    pool.exhaust("vehicle_b", "vehicle_c")
    pool.policy = WorkPolicy(allow_level_none=True)
    second = outvote(pool)
    assert second
    # 1. The older one, from before it was freed: paid, but a later one had cost the history anyway.
    assert appeal(pool, first, UPHELD).granted_micros == NET
    assert clean_uwu(pool) == 0
    assert pool.vehicle(CAR).state is VehicleState.QUARANTINED
    # 2. The newest: one that is really wrong is left, and one is too many.
    appeal(pool, rejected_attempt_of(pool, second), UPHELD)
    assert pool.vehicle(CAR).state is VehicleState.QUARANTINED


@pytest.mark.parametrize("newest_first", [True, False])
def test_the_order_of_appeals_does_not_matter_to_what_is_given_back(
    framed: Workshop, *, newest_first: bool
) -> None:
    pool = framed
    first = rejected_attempt(pool)
    pool.release(CAR)
    second = rejected_attempt_of(pool, outvote(pool))
    assert clean_uwu(pool) == 0
    order = (second, first) if newest_first else (first, second)
    restored = [appeal(pool, attempt_id, UPHELD).lost_uwu for attempt_id in order]
    assert clean_uwu(pool) == sum(restored) == 2_000_000
    # A third one later costs and gives back what there is by then, once.
    third = rejected_attempt_of(pool, outvote(pool))
    assert clean_uwu(pool) == 0
    assert appeal(pool, third, UPHELD).lost_uwu == clean_uwu(pool) == 2_000_000


def test_what_an_operator_forgave_does_not_keep_a_car_in_quarantine(pool: Workshop) -> None:
    for name in ("a", "liar", "friend", "b", "c"):
        pool.car(name)
    pool.job(1, level=FULL, close=True)
    pool.work(CAR, error=3.0)
    pool.exhaust("vehicle_b", "vehicle_c")
    assert pool.vehicle(CAR).state is VehicleState.QUARANTINED
    pool.wait(seconds=0.5)
    pool.release(CAR)
    job_id = outvote(pool)
    appeal(pool, rejected_attempt_of(pool, job_id), UPHELD)
    assert pool.vehicle(CAR).state is VehicleState.AVAILABLE


def rejected_attempt_of(pool: Workshop, job_id: int) -> int:
    return next(row.attempt_id for row in findings(pool) if row.job_id == job_id)


def test_a_quarantine_that_an_operator_ordered_is_not_ended_by_an_appeal(framed: Workshop) -> None:
    pool = framed
    pool.release(CAR)
    pool.quarantine(CAR, reason="stolen")
    appeal(pool, rejected_attempt(pool), UPHELD)
    assert pool.vehicle(CAR).state is VehicleState.QUARANTINED


def test_what_was_taken_back_is_given_back_and_no_more(pool: Workshop) -> None:
    # 1. A car with a history does two tasks alone; caught elsewhere, they are looked at again.
    pool.draws.drawn = ALWAYS
    for name in ("a", "b", "c", "d"):
        pool.car(name)
    pool.job(2, level=SPOT, close=True)
    pool.exhaust(CAR, "vehicle_b")
    pool.draws.drawn = NEVER
    alone = pool.job(1, level=SPOT, close=True)
    pool.work(CAR)
    pool.draws.drawn = ALWAYS
    pool.job(1, level=SPOT, close=True)
    pool.work(CAR, error=1.0)
    pool.draws.drawn = NEVER
    pool.exhaust("vehicle_b", "vehicle_c")
    pool.look_back()
    # 2. Two others agree that the first is wrong as well.
    for vehicle_id in ("vehicle_b", "vehicle_c", "vehicle_d"):
        if not pool.view(alone).rechecking_count:
            break
        pool.work(vehicle_id, error=7.0)
    [row] = [row for row in findings(pool) if row.job_id == alone]
    assert (row.kind, row.finding, row.clawed_back_micros) == (
        FindingKind.LOOK_BACK,
        FindingOutcome.WRONG,
        NET,
    )
    # 3. The pool computes it, and it was right. The fee is what it was then.
    before = available(pool)
    pool.books.terms = replace(pool.books.terms, fee_ppm=0)
    assert appeal(pool, row.attempt_id, UPHELD).granted_micros == NET
    assert available(pool) == before + NET
    # The lie that it was caught for stands.
    assert pool.vehicle(CAR).state is VehicleState.QUARANTINED


def test_what_was_accepted_instead_is_looked_back_at_and_replaced(framed: Workshop) -> None:
    pool = framed
    attempt_id = rejected_attempt(pool)
    job_id = findings(pool)[0].job_id
    appeal(pool, attempt_id, UPHELD._replace(contradicts_accepted=True))
    pool.look_back()
    # 1. The buyer's job is open again, the money of the two is set aside.
    assert pool.view(job_id).rechecking_count == 1
    assert pool.balance("owner:owner_liar:questioned") == pool.balance("owner:owner_friend:questioned") == NET
    # 2. Others compute it, and outvote them.
    pool.exhaust("vehicle_b", "vehicle_c", "vehicle_d", "vehicle_e")
    pool.look_back()
    assert pool.value(job_id) == 1.0
    assert pool.view(job_id).replaced_count == 1
    for name in ("liar", "friend"):
        assert pool.vehicle(f"vehicle_{name}").state is VehicleState.QUARANTINED
        assert pool.held(name) == pool.balance(f"owner:owner_{name}:questioned") == 0
    assert pool.vehicle(CAR).state is VehicleState.AVAILABLE
    Auditor(pool).check()


def test_the_books_notice_a_grant_that_no_finding_explains(framed: Workshop) -> None:
    pool = framed
    appeal(pool, rejected_attempt(pool), UPHELD)
    pool.books.assert_sound()
    pool.books.sql("UPDATE findings SET granted_micros = 1 WHERE kind = 'APPEAL'")
    assert [check.name for check in pool.books.check().checks if not check.ok] == [
        "appealed_is_granted_appeals"
    ]
    pool.books.sql(f"UPDATE findings SET granted_micros = {NET} WHERE kind = 'APPEAL'")

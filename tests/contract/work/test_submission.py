"""Results: a refusal changes nothing, the same answer twice is one payment, late work counts while needed."""

from collections.abc import Callable

import numpy as np
import pytest

from pool_protocol import tensors
from pool_protocol.digests import output_digest
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import ERRORS_PER_TASK_MAX, RESULTS_PER_REQUEST_MAX
from pool_server.app.outputs import OutputChecker, OutputFinding, check_outputs
from pool_server.app.submission import specs_of_lease, submit_results
from pool_server.app.work_commands import AckStatus, AttemptReport, SubmitResults
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import AttemptOutcome, OutputSpec, TaskState, TensorRef
from pool_server.core.verification import VerificationLevel
from tests.support.workshop import (
    PROGRAM,
    TASK_MICROS,
    Workshop,
    answer,
    computed,
    inline,
    report,
)

NET_MICROS = TASK_MICROS * 95 // 100


def everything(pool: Workshop) -> object:
    """All rows of the work and the books but for who was seen when."""
    with pool.books.engine.begin() as connection:
        return {
            table: connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for table in (
                "jobs",
                "tasks",
                "attempts",
                "leases",
                "attempt_outputs",
                "fleet_trust",
                "transfers",
                "receipts",
                "work_events",
            )
        }


def test_a_result_is_verified_paid_and_kept(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(1, close=True)
    assert pool.work(car) == [AckStatus.VERIFIED]
    found = pool.result(job_id)
    assert found.state is TaskState.ACCEPTED
    assert found.output_digest == output_digest(answer(1.0))
    assert found.cost_micros == TASK_MICROS
    assert len(found.paid_attempt_ids) == 1
    assert pool.value(job_id) == 1.0
    assert pool.held("a") == NET_MICROS
    assert pool.view(job_id).state == "done"
    assert pool.vehicle(car).verified_attempts == 1
    assert pool.vehicle(car).state is VehicleState.AVAILABLE


# --- refusals of the whole call -----------------------------------------------------------------


def test_an_unknown_lease_is_refused(pool: Workshop) -> None:
    with pytest.raises(PoolError) as refusal:
        pool.submit(pool.car("a"), 99, [])
    assert refusal.value.code is ErrorCode.LEASE_UNKNOWN


def test_another_vehicles_lease_is_refused_and_nothing_changes(pool: Workshop) -> None:
    pool.job(1)
    lease = pool.lease(pool.car("a"))
    thief = pool.car("b")
    before = everything(pool)
    with pytest.raises(PoolError) as refusal:
        pool.submit(thief, lease.lease_id, [computed(lease.attempts[0])])
    assert refusal.value.code is ErrorCode.LEASE_NOT_YOURS
    assert everything(pool) == before


@pytest.mark.parametrize("count", [2, RESULTS_PER_REQUEST_MAX + 1])
def test_repeated_and_too_many_reports_are_refused(pool: Workshop, count: int) -> None:
    pool.job(1)
    car = pool.car("a")
    lease = pool.lease(car)
    before = everything(pool)
    with pytest.raises(PoolError) as refusal:
        pool.submit(car, lease.lease_id, [computed(lease.attempts[0])] * count)
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    assert everything(pool) == before


# --- refusals of one report ---------------------------------------------------------------------


def test_results_for_anothers_task_are_refused_one_by_one(pool: Workshop) -> None:
    # 1. Two cars lease; the first has two leases.
    thief, other = pool.car("a"), pool.car("b")
    pool.job(6)
    mine = pool.lease(thief, 1)
    second = pool.lease(thief, 1, held=[mine.lease_id])
    theirs = pool.lease(other, 1)
    before = everything(pool)
    # 2. In the first lease's bundle: an unknown attempt, another car's, one of the other lease.
    acks = pool.submit(
        thief,
        mine.lease_id,
        [
            report(10_000, answer(1.0)),
            report(theirs.attempts[0].attempt_id, answer(1.0)),
            report(second.attempts[0].attempt_id, answer(1.0)),
        ],
    )
    # 3. Each gets its own reason, and nothing has changed.
    assert [(ack.status, ack.reason) for ack in acks] == [
        (AckStatus.REFUSED, "ATTEMPT_UNKNOWN"),
        (AckStatus.REFUSED, "ATTEMPT_NOT_YOURS"),
        (AckStatus.REFUSED, "ATTEMPT_NOT_IN_LEASE"),
    ]
    assert everything(pool) == before


def test_the_same_result_twice_is_one_payment(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1)
    lease = pool.lease(car)
    assert pool.hand_in(lease) == [AckStatus.VERIFIED]
    before = everything(pool)
    assert pool.hand_in(lease) == [AckStatus.DUPLICATE]
    assert everything(pool) == before
    assert pool.held("a") == NET_MICROS


def test_another_result_for_the_same_attempt_is_refused(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1)
    lease = pool.lease(car)
    pool.hand_in(lease)
    before = everything(pool)
    attempt_id = lease.attempts[0].attempt_id
    for other in (report(attempt_id, answer(7.0)), report(attempt_id, outcome=AttemptOutcome.ABANDONED)):
        [ack] = pool.submit(car, lease.lease_id, [other])
        assert (ack.status, ack.reason) == (AckStatus.REFUSED, "RESULT_CONFLICT")
    assert everything(pool) == before


def _other_shape(attempt: AttemptReport) -> AttemptReport:
    return report(attempt.attempt_id, {"y": np.zeros(3, dtype=np.float32)})


def _other_type(attempt: AttemptReport) -> AttemptReport:
    return report(attempt.attempt_id, {"y": np.zeros(2, dtype=np.float64)})


def _other_name(attempt: AttemptReport) -> AttemptReport:
    return report(attempt.attempt_id, {"z": np.zeros(2, dtype=np.float32)})


MALFORMED: dict[str, Callable[[AttemptReport], AttemptReport]] = {
    "another shape": _other_shape,
    "another type": _other_type,
    "another name": _other_name,
    "no outputs": lambda good: good._replace(outputs=TensorRef()),
    "a pickle": lambda good: good._replace(outputs=inline(b"\x80\x04]q\x00.")),
    "cut short": lambda good: good._replace(outputs=inline((good.outputs.inline or b"")[:-1])),
    "a wrong length": lambda good: good._replace(outputs=good.outputs._replace(size_bytes=7)),
    "a digest of something else": lambda good: good._replace(output_digest=bytes(32)),
    "a digest of another length": lambda good: good._replace(output_digest=b"short"),
    "a unit root of another length": lambda good: good._replace(unit_root=b"short"),
    "too many units": lambda good: good._replace(unit_count=10**9),
    "a blob that nobody holds": lambda good: good._replace(
        outputs=TensorRef(blob_sha256="0" * 64, size_bytes=9)
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_outputs_are_refused_and_the_task_goes_to_another(pool: Workshop, kind: str) -> None:
    car, other = pool.car("a"), pool.car("b")
    job_id = pool.job(1)
    lease = pool.lease(car)
    bad = MALFORMED[kind](computed(lease.attempts[0]))
    [ack] = pool.submit(car, lease.lease_id, [bad])
    assert (ack.status, ack.reason) == (AckStatus.REFUSED, "OUTPUT_MALFORMED")
    # Sending it again gives the same answer, and so does a good one sent too late.
    for again in (bad, computed(lease.attempts[0])):
        [ack] = pool.submit(car, lease.lease_id, [again])
        assert (ack.status, ack.reason) == (AckStatus.REFUSED, "OUTPUT_MALFORMED")
    assert pool.held("a") == 0
    assert pool.work(other) == [AckStatus.VERIFIED]
    assert pool.result(job_id).paid_attempt_ids != (lease.attempts[0].attempt_id,)


def test_a_malformed_output_in_a_bundle_leaves_the_others_alone(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(3)
    lease = pool.lease(car)
    reports = [computed(grant) for grant in lease.attempts]
    reports[1] = reports[1]._replace(output_digest=bytes(32))
    statuses = [ack.status for ack in pool.submit(car, lease.lease_id, reports)]
    assert statuses == [AckStatus.VERIFIED, AckStatus.REFUSED, AckStatus.VERIFIED]
    assert [pool.result(job_id, index).state for index in range(3)] == ["accepted", "ready", "accepted"]


# --- no result ----------------------------------------------------------------------------------

NO_RESULT = [AttemptOutcome.ABANDONED, AttemptOutcome.WORKER_FAILED, AttemptOutcome.REFUSED]


@pytest.mark.parametrize("outcome", [*NO_RESULT, AttemptOutcome.PROGRAM_FAILED])
def test_a_task_without_a_result_goes_to_another_vehicle(pool: Workshop, outcome: AttemptOutcome) -> None:
    car, other = pool.car("a"), pool.car("b")
    job_id = pool.job(1)
    lease = pool.lease(car)
    attempt_id = lease.attempts[0].attempt_id
    [ack] = pool.submit(car, lease.lease_id, [report(attempt_id, outcome=outcome)])
    assert ack.status is AckStatus.RECORDED
    assert pool.balance(f"job:{job_id}:escrow") == TASK_MICROS
    # The same report again is a duplicate; a result now contradicts it.
    [ack] = pool.submit(car, lease.lease_id, [report(attempt_id, outcome=outcome)])
    assert ack.status is AckStatus.DUPLICATE
    [ack] = pool.submit(car, lease.lease_id, [computed(lease.attempts[0])])
    assert (ack.status, ack.reason) == (AckStatus.REFUSED, "RESULT_CONFLICT")
    assert pool.work(other) == [AckStatus.VERIFIED]
    assert pool.held("a") == 0
    assert pool.held("b") == NET_MICROS
    assert pool.vehicle(car).abandoned_attempts == (outcome is AttemptOutcome.ABANDONED)


def test_others_get_the_first_chance_at_a_task_that_failed(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1)
    lease = pool.lease(car)
    attempt_id = lease.attempts[0].attempt_id
    pool.submit(car, lease.lease_id, [report(attempt_id, outcome=AttemptOutcome.ABANDONED)])
    assert not hasattr(pool.ask(car), "lease_id")
    pool.wait(seconds=pool.policy.retry_same_owner_us / 1e6)
    assert pool.work(car) == [AckStatus.VERIFIED]


def test_a_task_that_fails_too_often_is_given_up(pool: Workshop) -> None:
    job_id = pool.job(1, close=True)
    for number in range(ERRORS_PER_TASK_MAX):
        car = pool.car(f"car{number}")
        lease = pool.lease(car)
        bad = report(
            lease.attempts[0].attempt_id, outcome=AttemptOutcome.WORKER_FAILED, detail="out of memory"
        )
        pool.submit(car, lease.lease_id, [bad])
    found = pool.result(job_id)
    assert (found.state, found.reason) == (TaskState.FAILED, "TASK_ATTEMPTS_EXHAUSTED")
    assert found.cost_micros == 0
    assert pool.balance("buyer:buyer_b:available") == TASK_MICROS
    assert pool.view(job_id).state == "done"


def test_unplugged_cars_do_not_use_up_the_bound_on_failures(pool: Workshop) -> None:
    job_id = pool.job(1)
    for number in range(ERRORS_PER_TASK_MAX + 1):
        car = pool.car(f"car{number}")
        lease = pool.lease(car)
        gone = report(lease.attempts[0].attempt_id, outcome=AttemptOutcome.ABANDONED)
        pool.submit(car, lease.lease_id, [gone])
    assert pool.work(pool.car("z")) == [AckStatus.VERIFIED]
    assert pool.result(job_id).attempt_count == ERRORS_PER_TASK_MAX + 2


def test_two_owners_that_blame_the_program_are_believed(pool: Workshop) -> None:
    job_id = pool.job(1)
    for name in "ab":
        car = pool.car(name)
        lease = pool.lease(car)
        blame = report(
            lease.attempts[0].attempt_id, outcome=AttemptOutcome.PROGRAM_FAILED, detail="shapes differ"
        )
        pool.submit(car, lease.lease_id, [blame])
    found = pool.result(job_id)
    assert (found.state, found.reason, found.detail) == (
        TaskState.FAILED,
        "PROGRAM_FAILED",
        "shapes differ",
    )


# --- late ---------------------------------------------------------------------------------------


def expire(pool: Workshop) -> None:
    pool.wait(seconds=(pool.policy.lease_timeout_us + pool.policy.lease_grace_us) / 1e6 + 1)
    assert pool.expire() == 1


def test_a_late_result_counts_while_its_task_needs_it(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(1)
    lease = pool.lease(car)
    expire(pool)
    assert pool.balance(f"job:{job_id}:escrow") == TASK_MICROS
    assert pool.hand_in(lease) == [AckStatus.VERIFIED]
    assert pool.held("a") == NET_MICROS


def test_a_late_result_stops_the_one_that_replaces_it(pool: Workshop) -> None:
    car, other = pool.car("a"), pool.car("b")
    job_id = pool.job(1)
    late = pool.lease(car)
    expire(pool)
    replacement = pool.lease(other)
    assert pool.hand_in(late) == [AckStatus.VERIFIED]
    assert pool.result(job_id).paid_attempt_ids == (late.attempts[0].attempt_id,)
    # The other one is told to stop; handing in all the same is late, unpaid and without blame.
    assert pool.hand_in(replacement) == [AckStatus.LATE]
    assert pool.held("b") == 0
    assert pool.vehicle(other).rejected_attempts == 0
    assert pool.vehicle(other).state is VehicleState.AVAILABLE


def test_a_result_that_comes_too_late_is_unpaid_and_not_blamed(pool: Workshop) -> None:
    car, other = pool.car("a"), pool.car("b")
    pool.job(1)
    late = pool.lease(car)
    expire(pool)
    assert pool.work(other) == [AckStatus.VERIFIED]
    before = everything(pool)
    for _ in range(2):
        [ack] = pool.submit(car, late.lease_id, [computed(late.attempts[0])])
        assert (ack.status, ack.reason) == (AckStatus.LATE, "RESULT_LATE")
    assert everything(pool) == before
    assert pool.vehicle(car).rejected_attempts == 0


def test_a_late_word_without_a_result_changes_nothing(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1)
    lease = pool.lease(car)
    expire(pool)
    before = everything(pool)
    gone = report(lease.attempts[0].attempt_id, outcome=AttemptOutcome.ABANDONED)
    assert [ack.status for ack in pool.submit(car, lease.lease_id, [gone])] == [AckStatus.LATE]
    malformed = computed(lease.attempts[0])._replace(output_digest=bytes(32))
    assert [ack.reason for ack in pool.submit(car, lease.lease_id, [malformed])] == ["OUTPUT_MALFORMED"]
    assert everything(pool) == before


def test_a_late_result_of_an_owner_that_has_another_try_does_not_count(pool: Workshop) -> None:
    first, second = pool.car("a", owner="owner_x"), pool.car("b", owner="owner_x")
    pool.job(1)
    late = pool.lease(first)
    expire(pool)
    pool.wait(seconds=pool.policy.retry_same_owner_us / 1e6)
    retry = pool.lease(second)
    assert pool.hand_in(late) == [AckStatus.LATE]
    assert pool.hand_in(retry) == [AckStatus.VERIFIED]


def test_a_late_result_of_a_vehicle_in_quarantine_does_not_count(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1)
    lease = pool.lease(car)
    expire(pool)
    pool.quarantine(car)
    assert pool.hand_in(lease) == [AckStatus.LATE]


def test_late_work_of_a_quorum_is_paid_by_the_job_once_only(pool: Workshop) -> None:
    """Three results for a quorum of two, one late: the job pays two, never more than its budget."""
    cars = [pool.car(name) for name in "abc"]
    job_id = pool.job(1, level=VerificationLevel.FULL, close=True)
    late = pool.lease(cars[0])
    expire(pool)
    second, third = pool.lease(cars[1]), pool.lease(cars[2])
    assert pool.hand_in(late) == [AckStatus.RECORDED]
    assert pool.hand_in(third) == [AckStatus.VERIFIED]
    assert pool.hand_in(second) == [AckStatus.LATE]
    assert pool.result(job_id).cost_micros == 2 * TASK_MICROS
    assert pool.view(job_id).state == "done"
    assert pool.balance("buyer:buyer_b:available") == 0


# --- checks before the transaction --------------------------------------------------------------


def test_findings_made_before_the_transaction_are_used(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(2)
    lease = pool.lease(car)
    reports = [computed(grant) for grant in lease.attempts]
    specs = pool.books.run(lambda uow: specs_of_lease(uow, vehicle_id=car, lease_id=lease.lease_id))
    assert specs == PROGRAM.outputs
    findings = check_outputs(reports, specs, blobs=None)
    first = reports[0].attempt_id
    findings[first] = OutputFinding(first, reports[0].output_digest, "found wanting")
    acks = pool.books.run(
        lambda uow: submit_results(
            uow,
            SubmitResults(vehicle_id=car, lease_id=lease.lease_id, reports=reports),
            draws=pool.draws,
            policy=pool.policy,
            now_us=pool.now_us,
            findings=findings,
        )
    )
    assert [ack.status for ack in acks] == [AckStatus.REFUSED, AckStatus.VERIFIED]


def test_what_a_lease_returns_is_told_to_its_vehicle_only(pool: Workshop) -> None:
    pool.job(1)
    lease = pool.lease(pool.car("a"))
    other = pool.car("b")
    assert pool.books.run(lambda uow: specs_of_lease(uow, vehicle_id=other, lease_id=lease.lease_id)) is None
    assert pool.books.run(lambda uow: specs_of_lease(uow, vehicle_id=other, lease_id=99)) is None


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "bool", "complex64"])
def test_the_second_result_with_a_header_is_checked_like_the_first(dtype: str) -> None:
    """The quick way over known headers finds what the strict way finds."""
    checker = OutputChecker([OutputSpec(name="y", dtype=dtype, shape=(2,))], blobs=None)
    for value in (0, 1, 1):
        good = report(1, {"y": np.array([value, 1], dtype=dtype)})
        assert checker.fault(good) == ""
        assert "digest" in checker.fault(good._replace(output_digest=bytes(32)))
        longer = inline((good.outputs.inline or b"") + b"\0")
        assert checker.fault(good._replace(outputs=longer)) != ""


def test_nan_payloads_are_one_value_on_the_quick_way_too() -> None:
    checker = OutputChecker([OutputSpec(name="y", dtype="float32", shape=(1,))], blobs=None)
    plain = np.array([np.nan], dtype=np.float32)
    odd = np.array([0x7FC0_0123], dtype=np.uint32).view(np.float32)
    assert tensors.encode({"y": plain}) != tensors.encode({"y": odd})
    digest = output_digest({"y": plain})
    for array in (plain, odd, odd):
        one = report(1, {"y": array})._replace(output_digest=digest)
        assert checker.fault(one) == ""


def test_a_boolean_that_is_neither_is_found_every_time() -> None:
    checker = OutputChecker([OutputSpec(name="y", dtype="bool", shape=(2,))], blobs=None)
    good = report(1, {"y": np.array([True, False])})
    assert checker.fault(good) == ""
    forged = inline((good.outputs.inline or b"")[:-1] + b"\x02")
    assert "TENSORS_MALFORMED" in checker.fault(good._replace(outputs=forged))

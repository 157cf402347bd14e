"""What certificates mean for results: found before the transaction, applied as a result is recorded.

A job's own check (`app.certificate_terms`) proves a result at once: no history, no audit. A buyer's "no"
alone burns nobody: the pool's referee runs the task too, and only where its result passes the same check,
with the same nonce, and differs from the vehicle's, is the vehicle wrong. A certificate that refuses what the
pool itself computed, or does not run, is the buyer's fault: the level's audits judge, and after a few such
failures the job's certificate is not run any more.
"""

from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Final, NamedTuple

from pool_server.app.task_board import BoardAttempt, TaskBoard
from pool_server.app.work_commands import SubmitResults
from pool_server.core.jobs import AttemptState, TensorRef
from pool_server.core.verification.findings import Evidence, FindingKind
from pool_server.ports.fleet import WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobDelta, JobRow

#: After so many failures the certificate of a job is not run any more.
CERTIFICATE_FAILURES_MAX: Final = 3
WRONG_BY_CERTIFICATE: Final = "CERTIFICATE_REFUSED"
_DETAIL_CHARACTERS: Final = 200


@unique
class CertificateVerdict(StrEnum):
    """What a check of one result found."""

    PROVED = "PROVED"
    REFUTED = "REFUTED"
    """The certificate refuses it, and passes the pool's own result, which is another."""
    DOUBTED = "DOUBTED"
    """The certificate refuses it, and the pool could not compute the task itself."""
    FAILED = "FAILED"
    """The certificate does not run, or refuses what the pool itself computed."""


class CertificateFinding(NamedTuple):
    """What was found of one attempt's result."""

    attempt_id: int
    output_digest: bytes
    """The result that was checked."""
    verdict: CertificateVerdict
    detail: str = ""
    referee_class: str = ""
    """With REFUTED: the referee's numeric class."""


class CertificateCase(NamedTuple):
    """What a check needs to know of a lease's job."""

    job: JobRow
    constants: TensorRef
    inputs: Mapping[int, TensorRef]
    """By attempt."""


def certificate_case(uow: UnitOfWork, command: SubmitResults) -> CertificateCase | None:
    """Return what the certificate of a bundle's job is to check; None where there is nothing to run."""
    lease = uow.leases.get(command.lease_id)
    job = None if lease is None or lease.vehicle_id != command.vehicle_id else uow.jobs.get(lease.job_id)
    if job is None or not job.certificate_sha256 or job.certificate_failures >= CERTIFICATE_FAILURES_MAX:
        return None
    waiting = (AttemptState.LEASED, AttemptState.EXPIRED)
    attempts = uow.attempts.get([report.attempt_id for report in command.reports])
    inputs = {
        attempt_id: uow.disputes.task_inputs(row.task_id)
        for attempt_id, row in attempts.items()
        if row.lease_id == command.lease_id and row.state in waiting
    }
    return CertificateCase(job, uow.jobs.constants(job.job_id), inputs)


def take_certificate(board: TaskBoard, attempt: BoardAttempt, finding: CertificateFinding | None) -> bool:
    """Apply a finding to a result that was just recorded; True when that settles it, without any audit."""
    if finding is None or finding.output_digest != attempt.digest:
        return False
    task = attempt.task
    if task.rechecking:
        return False  # other owners are asked there, about all that was paid
    match finding.verdict:
        case CertificateVerdict.PROVED:
            same = [other for other in task.in_state(AttemptState.RETURNED) if other.digest == attempt.digest]
            for other in task.in_state(AttemptState.RETURNED):
                if other.digest != attempt.digest:
                    board.drop(other, reason="TASK_DECIDED")
            board.accept_as(task, same, Evidence.CERTIFICATE)
            return True
        case CertificateVerdict.REFUTED if _same_class(board, attempt, finding):
            board.reject(attempt, found_by=FindingKind.CERTIFICATE, reason=WRONG_BY_CERTIFICATE)
            board.resolve(task)
            return True
        case CertificateVerdict.REFUTED | CertificateVerdict.DOUBTED:
            board.audit(task, owner_id=attempt.row.owner_id)
        case CertificateVerdict.FAILED:
            _count_failure(board, task.job, finding)
    return False


def _same_class(board: TaskBoard, attempt: BoardAttempt, finding: CertificateFinding) -> bool:
    """Say whether vehicle and referee must return the same bits; a class that is not known counts as equal.

    Across classes an honest result may differ, and a buyer's check could be made to refuse it.
    """
    vehicle = board.uow.fleet.get(attempt.row.vehicle_id)
    own = "" if vehicle is None else vehicle.numeric_class
    return not own or not finding.referee_class or own == finding.referee_class


def _count_failure(board: TaskBoard, job: JobRow, finding: CertificateFinding) -> None:
    uow = board.uow
    uow.jobs.add(job.job_id, JobDelta(certificate_failures=1))
    cause = f"its certificate failed: {finding.detail}"[:_DETAIL_CHARACTERS]
    uow.events.append([WorkEvent("job", str(job.job_id), job.state, job.state, cause, board.now_us)])

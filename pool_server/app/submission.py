"""Takes the results of a lease: records, checks, draws audits, decides tasks, pays.

A bundle is judged report by report, in this order of checks:

1. LEASE_UNKNOWN, LEASE_NOT_YOURS refuse the whole call.
2. Each report: ATTEMPT_UNKNOWN, ATTEMPT_NOT_YOURS, ATTEMPT_NOT_IN_LEASE.
3. A report of an attempt that has one: DUPLICATE when it is the same, RESULT_CONFLICT when it is another.
4. An attempt that was cancelled, or that expired and is not needed any more: LATE, unpaid and without blame.
5. A report without a result ends the attempt; its task goes to another vehicle, within its bounds. A stopped
   step task may commit to the units that it has made: a claim, judged when its task is accepted.
6. OUTPUT_MALFORMED: the outputs are not what the program returns, or not what the digest says, or a step
   task's commitment to its units cannot be one of that task.
7. The result is recorded; then the audit is drawn; then its task is judged.

Energy and its cost are taken beside all this: figures that cannot be true are left out, the work counts.

An acknowledgement is final: sending the same report again gives the same answer (DUPLICATE instead of
RECORDED or VERIFIED), and never a second payment.
"""

from collections.abc import Mapping

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import ERROR_TEXT_CHARACTERS_MAX, RESULTS_PER_REQUEST_MAX
from pool_server.app.certificates import CertificateFinding, take_certificate
from pool_server.app.dispute_gate import commitment_fault_of
from pool_server.app.energy import take_energy
from pool_server.app.outputs import OutputChecker, OutputFinding
from pool_server.app.prefix_claims import commit_prefix, write_claims
from pool_server.app.quarantine import settle_board
from pool_server.app.task_board import BoardAttempt, TaskBoard, read_tensors
from pool_server.app.work_commands import AckStatus, AttemptAckValue, AttemptReport, SubmitResults
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import (
    COUNTING_ATTEMPT_STATES,
    AttemptOutcome,
    AttemptState,
    OutputSpec,
)
from pool_server.core.matching import updated_speed
from pool_server.core.verification import LEVELS, AuditDraw
from pool_server.ports.fleet import VehicleRow
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import LeaseRow, ReportedValues

#: Ends without a result that count against the task's bound on failures; an unplugged car is nobody's fault.
_AT_FAULT = frozenset({AttemptOutcome.PROGRAM_FAILED, AttemptOutcome.WORKER_FAILED, AttemptOutcome.REFUSED})
_OUT_OF_WORK = frozenset({VehicleState.QUARANTINED, VehicleState.RETIRED})


def submit_results(
    uow: UnitOfWork,
    command: SubmitResults,
    *,
    draws: AuditDraw,
    policy: WorkPolicy,
    now_us: int,
    blobs: BlobReader | None = None,
    findings: Mapping[int, OutputFinding] | None = None,
    certified: Mapping[int, CertificateFinding] | None = None,
) -> list[AttemptAckValue]:
    """Record a bundle of results; one acknowledgement per report, in order.

    Args:
        uow: The command's transaction.
        command: The bundle; its signature was checked.
        draws: The secret chance of audits.
        policy: The operator's settings.
        now_us: The command's time.
        blobs: Reads outputs that are blobs.
        findings: What `check_outputs` found before the transaction; the rest is checked here.
        certified: What the job's certificate found before the transaction, by attempt.

    Raises:
        PoolError: LEASE_UNKNOWN, LEASE_NOT_YOURS; INVALID_ARGUMENT for too many reports or a repeated one.
    """
    lease, vehicle = _lease_of(uow, command)
    board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
    board.trusted[vehicle.vehicle_id] = vehicle.trusted
    board.load(uow.attempts.of_lease(lease).values())
    desk = _Desk(board, vehicle, specs=board.job(lease.job_id).outputs, draws=draws, findings=findings or {})
    desk.certified = certified or {}
    energy = take_energy(board, command.reports, vehicle=vehicle, lease_id=lease.lease_id)
    answers = [desk.take(report, lease) for report in energy.reports]
    settle_board(board)
    write_claims(board, desk.stopped)
    uow.fleet.seen(vehicle.vehicle_id, now_us=now_us)
    if desk.speed_uwu_per_s != vehicle.speed_uwu_per_s:
        uow.fleet.set_speed(vehicle.vehicle_id, desk.speed_uwu_per_s)
    acks = [_ack(answer) for answer in answers]
    if not energy.refusals:
        return acks
    return [ack._replace(energy_refused=energy.refusals.get(ack.attempt_id, "")) for ack in acks]


def specs_of_lease(uow: UnitOfWork, *, vehicle_id: str, lease_id: int) -> tuple[OutputSpec, ...] | None:
    """Return what attempts of a lease must return, for `check_outputs`; None for another's lease."""
    lease = uow.leases.get(lease_id)
    if lease is None or lease.vehicle_id != vehicle_id:
        return None
    job = uow.jobs.get(lease.job_id)
    return None if job is None else job.outputs


def _lease_of(uow: UnitOfWork, command: SubmitResults) -> tuple[LeaseRow, VehicleRow]:
    if len(command.reports) > RESULTS_PER_REQUEST_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"{len(command.reports)} results, allowed are {RESULTS_PER_REQUEST_MAX}",
            context={"limit": str(RESULTS_PER_REQUEST_MAX)},
        )
    if len({report.attempt_id for report in command.reports}) != len(command.reports):
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "an attempt stands twice in one bundle")
    lease = uow.leases.get(command.lease_id)
    if lease is None:
        raise PoolError(ErrorCode.LEASE_UNKNOWN, f"there is no lease {command.lease_id}")
    vehicle = uow.fleet.get(command.vehicle_id)
    if vehicle is None or lease.vehicle_id != command.vehicle_id:
        raise PoolError(ErrorCode.LEASE_NOT_YOURS, f"lease {lease.lease_id} is not {command.vehicle_id}'s")
    return lease, vehicle


class _Answer:
    """An acknowledgement in the making: a settled one, or an attempt whose verdict the flush will know."""

    __slots__ = ("attempt", "value")

    def __init__(self, *, value: AttemptAckValue | None = None, attempt: BoardAttempt | None = None) -> None:
        self.value = value
        self.attempt = attempt


def _ack(answer: _Answer) -> AttemptAckValue:
    if answer.value is not None:
        return answer.value
    attempt = answer.attempt
    if attempt is None:
        raise PoolError(ErrorCode.INTERNAL, "an answer is about nothing")
    verified = attempt.state is AttemptState.ACCEPTED
    return AttemptAckValue(attempt.row.attempt_id, AckStatus.VERIFIED if verified else AckStatus.RECORDED)


def _refused(attempt_id: int, code: ErrorCode) -> _Answer:
    return _Answer(value=AttemptAckValue(attempt_id, AckStatus.REFUSED, code.value))


class _Desk:
    """Takes the reports of one bundle, one after the other."""

    def __init__(
        self,
        board: TaskBoard,
        vehicle: VehicleRow,
        *,
        specs: tuple[OutputSpec, ...],
        draws: AuditDraw,
        findings: Mapping[int, OutputFinding],
    ) -> None:
        self.board = board
        self.vehicle = vehicle
        self.checker = OutputChecker(specs, blobs=board.blobs)
        self.draws = draws
        self.findings = findings
        self.certified: Mapping[int, CertificateFinding] = {}
        self.speed_uwu_per_s = vehicle.speed_uwu_per_s
        self.stopped: list[BoardAttempt] = []

    def take(self, report: AttemptReport, lease: LeaseRow) -> _Answer:
        """Take one report: see the module for the order of checks."""
        attempt_id = report.attempt_id
        attempt = self.board.attempts.get(attempt_id)
        if attempt is None or attempt.row.lease_id != lease.lease_id:
            return self._stranger(attempt_id, lease)
        match attempt.state:
            case AttemptState.LEASED:
                return self._in_time(attempt, report)
            case AttemptState.EXPIRED:
                return self._late(attempt, report)
            case AttemptState.CANCELLED:
                return _late(attempt_id)
            case AttemptState.FAILED:
                return self._again_failed(attempt, report)
            case (
                AttemptState.RETURNED | AttemptState.ACCEPTED | AttemptState.REJECTED | AttemptState.DISCARDED
            ):
                same = report.outcome is AttemptOutcome.COMPLETED and report.output_digest == attempt.digest
                return _duplicate(attempt_id) if same else _refused(attempt_id, ErrorCode.RESULT_CONFLICT)

    def _stranger(self, attempt_id: int, lease: LeaseRow) -> _Answer:
        row = self.board.uow.attempts.get([attempt_id]).get(attempt_id)
        if row is None:
            return _refused(attempt_id, ErrorCode.ATTEMPT_UNKNOWN)
        if row.vehicle_id != lease.vehicle_id:
            return _refused(attempt_id, ErrorCode.ATTEMPT_NOT_YOURS)
        return _refused(attempt_id, ErrorCode.ATTEMPT_NOT_IN_LEASE)

    def _in_time(self, attempt: BoardAttempt, report: AttemptReport) -> _Answer:
        if report.outcome is not AttemptOutcome.COMPLETED:
            at_fault = report.outcome in _AT_FAULT
            detail = (report.detail or report.reason)[:ERROR_TEXT_CHARACTERS_MAX]
            self.board.fail(attempt, reason=report.outcome.name, detail=detail, at_fault=at_fault)
            if commit_prefix(attempt, report):
                self.stopped.append(attempt)
            self.board.resolve(attempt.task)
            return _Answer(attempt=attempt)
        fault = self._fault(report, attempt)
        if fault:
            self.board.fail(
                attempt,
                reason=ErrorCode.OUTPUT_MALFORMED.value,
                detail=fault[:ERROR_TEXT_CHARACTERS_MAX],
                at_fault=True,
            )
            self.board.resolve(attempt.task)
            return _refused(attempt.row.attempt_id, ErrorCode.OUTPUT_MALFORMED)
        self._record(attempt, report)
        return _Answer(attempt=attempt)

    def _late(self, attempt: BoardAttempt, report: AttemptReport) -> _Answer:
        """An expired attempt's result still counts while its task needs it and its owner has no other try."""
        attempt_id = attempt.row.attempt_id
        if report.outcome is not AttemptOutcome.COMPLETED or not self._still_needed(attempt):
            return _late(attempt_id)
        if self._fault(report, attempt):
            return _refused(attempt_id, ErrorCode.OUTPUT_MALFORMED)
        self._record(attempt, report)
        return _Answer(attempt=attempt)

    def _still_needed(self, attempt: BoardAttempt) -> bool:
        task = attempt.task
        if not task.undecided or self.vehicle.state in _OUT_OF_WORK:
            return False
        return not any(
            other.row.owner_id == attempt.row.owner_id and other.state in COUNTING_ATTEMPT_STATES
            for other in task.attempts.values()
        )

    def _again_failed(self, attempt: BoardAttempt, report: AttemptReport) -> _Answer:
        attempt_id = attempt.row.attempt_id
        if attempt.reason == ErrorCode.OUTPUT_MALFORMED:
            return _refused(attempt_id, ErrorCode.OUTPUT_MALFORMED)
        if report.outcome.name == attempt.reason:
            return _duplicate(attempt_id)
        return _refused(attempt_id, ErrorCode.RESULT_CONFLICT)

    def _fault(self, report: AttemptReport, attempt: BoardAttempt) -> str:
        finding = self.findings.get(report.attempt_id)
        known = finding is not None and finding.output_digest == report.output_digest
        fault = finding.fault if finding is not None and known else self.checker.fault(report)
        return fault or commitment_fault_of(
            report, attempt.task.job, lambda: read_tensors(report.outputs, self.board.blobs)
        )

    def _record(self, attempt: BoardAttempt, report: AttemptReport) -> None:
        board, task = self.board, attempt.task
        board.record(
            attempt,
            reported=ReportedValues(
                report.output_digest,
                report.unit_root,
                report.unit_count,
                report.run_time_us,
                report.energy_mj,
            ),
            outputs=report.outputs,
        )
        work_uwu = task.job.work_uwu_per_task
        self.speed_uwu_per_s = updated_speed(
            self.speed_uwu_per_s, work_uwu=work_uwu, run_time_us=report.run_time_us
        )
        if task.job.certificate_sha256:
            if take_certificate(board, attempt, self.certified.get(report.attempt_id)):
                return
            task.agreement_needed = max(task.agreement_needed, LEVELS[task.job.level].quorum)
        # The digest is recorded: only now is the audit drawn, once per task. A trusted node is not audited.
        epsilon = LEVELS[task.job.level].epsilon
        if epsilon is not None and task.agreement_needed == 1 and not self.vehicle.trusted:
            plan = board.policy.audit_rule.plan(
                epsilon=epsilon, work_uwu=work_uwu, clean_uwu=board.history(attempt).clean_uwu
            )
            drawn = self.draws.uniform(output_digest=report.output_digest, attempt_id=attempt.row.attempt_id)
            audited = drawn < plan.draw_probability
            due = board.classes.must_confirm(
                attempt, epsilon=epsilon, drawn=drawn, audited=audited, draws=self.draws
            )
            if due or audited:
                others = board.audit(task, owner_id=attempt.row.owner_id, auditors=plan.auditors)
                if (plan.auditors > 1 or not others) and not due:
                    board.pool_runs.audit(attempt, needs_trusted=plan.needs_trusted, alone=not others)
        board.resolve(task)


def _late(attempt_id: int) -> _Answer:
    return _Answer(value=AttemptAckValue(attempt_id, AckStatus.LATE, ErrorCode.RESULT_LATE.value))


def _duplicate(attempt_id: int) -> _Answer:
    return _Answer(value=AttemptAckValue(attempt_id, AckStatus.DUPLICATE))

"""Appeals: an owner asks the pool to compute a rejected result itself, once, within the dispute window.

`open_appeal` gathers what the referee needs; the run lies outside of every transaction; `close_appeal` writes
what it means. A finding of kind APPEAL is the record, and there is one per attempt:

- WRONG: the rejection stands. OPEN: the pool could not tell, and the rejection stands as well.
- UPHELD: the result was right. The pool pays what it should have earned, or what was taken back; the
  vehicle's history has again what the rejection cost it, unless a later one would have cost it that too; it
  leaves quarantine when nothing else speaks against it. What was accepted instead, if the pool's run
  contradicts that, is looked back at like the work of a caught vehicle: others compute it again.

Rows of the past stay as they are: the attempt stays rejected, and its finding is still there.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.money import fee_floor
from pool_server.app.board_findings import open_look_back
from pool_server.app.books import open_accounts, transfer
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.effects import WorkAvailable
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import AttemptState, TensorRef
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import TransferCode, TransferKind, TransferRequest
from pool_server.core.trust import QuarantineReason, trust_class
from pool_server.core.verification.appeal import APPEAL_GRANTED, APPEALABLE, appeal_until_us
from pool_server.core.verification.findings import FindingKind, FindingOutcome
from pool_server.ports.fleet import VehicleRow, WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.verification import FindingRow, QuestionedState
from pool_server.ports.work import AttemptRow, JobRow

#: Findings and changes of state that are looked at: a vehicle in quarantine makes no new ones.
_FINDINGS_MAX = 1_000
_MOVES_MAX = 500


class AppealCase(NamedTuple):
    """What is computed again, and what it is compared with."""

    attempt: AttemptRow
    job: JobRow
    rejection: FindingRow
    constants: TensorRef
    inputs: TensorRef
    claimed: TensorRef | None
    """The rejected result's arrays, where they are still known."""
    accepted: AttemptRow | None
    """What was accepted instead, if anything was."""
    accepted_outputs: TensorRef | None


class AppealRun(NamedTuple):
    """What the pool's own run found."""

    finding: FindingOutcome
    """UPHELD, WRONG or OPEN."""
    output_digest: bytes
    """Empty where the pool could not compute it."""
    contradicts_accepted: bool = False
    """Whether it proves what was accepted instead to be wrong."""


def open_appeal(uow: UnitOfWork, *, owner_id: str, attempt_id: int, now_us: int) -> AppealCase | FindingRow:
    """Return what is to be computed again, or what an earlier appeal found.

    Raises:
        PoolError: NOT_FOUND without such an attempt of this owner; INVALID_STATE when it was not rejected, or
            its window is over.
    """
    attempt = uow.attempts.get([attempt_id]).get(attempt_id)
    if attempt is None or attempt.owner_id != owner_id:
        raise PoolError(ErrorCode.NOT_FOUND, f"{owner_id} has no attempt {attempt_id}")
    findings = uow.verification.findings_of_attempt(attempt_id)
    for finding in findings:
        if finding.kind is FindingKind.APPEAL:
            return finding
    rejections = [finding for finding in findings if finding.finding in APPEALABLE]
    if attempt.state is not AttemptState.REJECTED or not rejections:
        raise PoolError(
            ErrorCode.INVALID_STATE,
            f"attempt {attempt_id} is {attempt.state}",
            context={"state": attempt.state.value},
            advice="Only a result that was found wrong can be appealed.",
        )
    rejection = rejections[-1]
    until_us = appeal_until_us(
        rejection.kind,
        rejection.finding,
        found_at_us=rejection.found_at_us,
        window_us=uow.terms.dispute_window_us,
        appealed=False,
    )
    if now_us > until_us:
        raise PoolError(
            ErrorCode.INVALID_STATE,
            f"attempt {attempt_id} could be appealed until {until_us}",
            context={"state": "window_over"},
        )
    return _case(uow, attempt, rejection)


def _case(uow: UnitOfWork, attempt: AttemptRow, rejection: FindingRow) -> AppealCase:
    job = uow.jobs.get(attempt.job_id)
    task = uow.tasks.get([attempt.task_id]).get(attempt.task_id)
    if job is None or task is None:
        raise InvariantError(f"attempt {attempt.attempt_id} is of a task that is not there")
    accepted_id = task.canonical_attempt_id
    return AppealCase(
        attempt=attempt,
        job=job,
        rejection=rejection,
        constants=uow.jobs.constants(job.job_id),
        inputs=uow.disputes.task_inputs(task.task_id),
        claimed=uow.attempts.outputs(attempt.attempt_id),
        accepted=uow.attempts.get([accepted_id])[accepted_id] if accepted_id else None,
        accepted_outputs=uow.attempts.outputs(accepted_id) if accepted_id else None,
    )


def close_appeal(
    uow: UnitOfWork, case: AppealCase, run: AppealRun, *, policy: WorkPolicy, now_us: int
) -> FindingRow:
    """Write what an appeal found, and do what follows; an appeal that was closed meanwhile stays as it is."""
    attempt = case.attempt
    for finding in uow.verification.findings_of_attempt(attempt.attempt_id):
        if finding.kind is FindingKind.APPEAL:
            return finding
    granted_micros = restored_uwu = 0
    if run.finding is FindingOutcome.UPHELD:
        granted_micros = _grant(uow, case, now_us=now_us)
        findings = uow.verification.findings_of_vehicle(attempt.vehicle_id, limit=_FINDINGS_MAX)
        standing = _standing(findings, attempt)
        restored_uwu = _restore_history(uow, case, findings, standing)
        _free(uow, attempt, standing, policy=policy, now_us=now_us)
        if run.contradicts_accepted:
            _doubt_accepted(uow, attempt, now_us=now_us)
    row = case.rejection._replace(
        finding_id=uow.ids.next_block("finding", 1)[0],
        kind=FindingKind.APPEAL,
        finding=run.finding,
        accepted_digest=run.output_digest,
        agreeing_owners=0,
        trusted_node=bool(run.output_digest),
        unit_index=-1,
        clawed_back_micros=0,
        found_at_us=now_us,
        lost_uwu=restored_uwu,
        granted_micros=granted_micros,
    )
    uow.verification.add_findings([row])
    return row


def _grant(uow: UnitOfWork, case: AppealCase, *, now_us: int) -> int:
    """Pay what was taken back, or what was never paid. Returns micro-units."""
    attempt = case.attempt
    question = uow.verification.questioned([attempt.attempt_id]).get(attempt.attempt_id)
    if question is not None and question.state is QuestionedState.WRONG:
        # It was paid once: what had left the held account stayed its owner's.
        amount_micros = question.net_micros
    else:
        amount_micros = attempt.amount_micros - fee_floor(attempt.amount_micros, uow.terms.fee_ppm)
    if not amount_micros:
        return 0
    specs = (chart.VERIFICATION, chart.owner_available(attempt.owner_id))
    accounts = open_accounts(uow, specs, now_us=now_us)
    request = TransferRequest(
        kind=TransferKind.SINGLE.value,
        code=TransferCode.APPEALED.value,
        debit_account_id=accounts[chart.VERIFICATION.name].account_id,
        credit_account_id=accounts[chart.owner_available_name(attempt.owner_id)].account_id,
        amount_micros=amount_micros,
        reference_id=attempt.attempt_id,
    )
    transfer(uow, [request], accounts.values(), now_us=now_us)
    return amount_micros


def _overturned(findings: Iterable[FindingRow]) -> set[int]:
    """Return the attempts whose appeals were granted."""
    return {
        finding.attempt_id
        for finding in findings
        if finding.kind is FindingKind.APPEAL and finding.finding is FindingOutcome.UPHELD
    }


def _is_rejection(finding: FindingRow) -> bool:
    return finding.kind is not FindingKind.APPEAL and finding.finding in APPEALABLE


def _standing(findings: Sequence[FindingRow], attempt: AttemptRow) -> list[FindingRow]:
    """Return what else was found wrong of a vehicle and not overturned, newest first."""
    gone = _overturned(findings) | {attempt.attempt_id}
    return [finding for finding in findings if _is_rejection(finding) and finding.attempt_id not in gone]


def _restore_history(
    uow: UnitOfWork, case: AppealCase, findings: Sequence[FindingRow], standing: Sequence[FindingRow]
) -> int:
    """Give back the clean work that rejections cost, beside what was done since. Returns micro-WU.

    What came before a rejection that stands is lost to that one. Once no such is left, all that overturned
    rejections cost is given back, less what was: so the order of appeals does not matter.
    """
    name = trust_class(case.job.kind, case.job.level)
    jobs: dict[int, JobRow | None] = {case.job.job_id: case.job}

    def is_alike(finding: FindingRow) -> bool:
        if finding.job_id not in jobs:
            jobs[finding.job_id] = uow.jobs.get(finding.job_id)
        job = jobs[finding.job_id]
        return job is not None and trust_class(job.kind, job.level) == name

    after_id = max((finding.finding_id for finding in standing if is_alike(finding)), default=0)
    overturned = _overturned(findings) | {case.attempt.attempt_id}
    recent = [finding for finding in findings if finding.finding_id > after_id and is_alike(finding)]
    lost_uwu = sum(
        finding.lost_uwu for finding in recent if _is_rejection(finding) and finding.attempt_id in overturned
    )
    restored_uwu = sum(finding.lost_uwu for finding in recent if finding.kind is FindingKind.APPEAL)
    due_uwu = max(0, lost_uwu - restored_uwu)
    if due_uwu:
        record = uow.fleet.trust(case.attempt.vehicle_id, name)
        uow.fleet.put_trust(case.attempt.vehicle_id, name, record.restored(due_uwu))
    return due_uwu


def _free(
    uow: UnitOfWork,
    attempt: AttemptRow,
    standing: list[FindingRow],
    *,
    policy: WorkPolicy,
    now_us: int,
) -> None:
    """Let a vehicle out of verification's quarantine, when nothing else speaks against it."""
    vehicle = uow.fleet.get(attempt.vehicle_id)
    if vehicle is None:
        raise InvariantError(f"{attempt.vehicle_id} had results and is not there")
    freed_at_us = _freed_at_us(uow, vehicle)
    left = sum(finding.found_at_us >= freed_at_us for finding in standing)
    caught = vehicle.quarantine_reason == QuarantineReason.WRONG_RESULT
    if vehicle.state is not VehicleState.QUARANTINED or not caught or policy.quarantine.reason(left):
        return
    if not uow.fleet.move(
        vehicle.vehicle_id, from_states=[vehicle.state], to_state=VehicleState.AVAILABLE, forgive=True
    ):
        raise InvariantError(f"{vehicle.vehicle_id} is not {vehicle.state} any more")
    uow.events.append(
        [
            WorkEvent(
                "vehicle",
                vehicle.vehicle_id,
                vehicle.state,
                VehicleState.AVAILABLE,
                APPEAL_GRANTED,
                now_us,
            )
        ]
    )
    uow.effects.append(WorkAvailable())


def _freed_at_us(uow: UnitOfWork, vehicle: VehicleRow) -> int:
    """Return when a vehicle was last freed; 0 for never."""
    for event in uow.events.newest("vehicle", vehicle.vehicle_id, limit=_MOVES_MAX):
        if (event.from_state, event.to_state) == (VehicleState.QUARANTINED, VehicleState.AVAILABLE):
            return event.at_us
    return 0


def _doubt_accepted(uow: UnitOfWork, attempt: AttemptRow, *, now_us: int) -> None:
    """Look back at whoever returned what was accepted instead: others compute it again, as a suspect's."""
    for paid in uow.verification.paid([attempt.task_id]):
        open_look_back(
            uow,
            vehicle_id=paid.vehicle_id,
            owner_id=paid.owner_id,
            cause_attempt_id=attempt.attempt_id,
            now_us=now_us,
        )

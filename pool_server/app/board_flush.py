"""Writes a `TaskBoard`: money, attempts, tasks, leases, vehicles, events, effects, jobs, in bulk.

Nothing is decided here but bookkeeping: which pending transfers an attempt's state asks for, when a lease or
a job is through, which vehicles have too many rejected results.
"""

from collections import defaultdict
from dataclasses import dataclass

from pool_protocol.errors import InvariantError
from pool_server.app.board_findings import answer_questions, open_class_look_back, write_findings
from pool_server.app.fair_shares import give_back_shares
from pool_server.app.money import fund_attempts, has_lapsed, release_job, settle_attempts, void_attempts
from pool_server.app.task_board import BoardAttempt, BoardTask, TaskBoard
from pool_server.core.effects import AttemptsCancelled, JobProgressed, WorkAvailable
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import (
    ATTEMPT_LIFECYCLE,
    FUNDED_ATTEMPT_STATES,
    JOB_LIFECYCLE,
    LEASE_LIFECYCLE,
    AttemptOutcome,
    AttemptState,
    JobState,
    LeaseState,
    TaskState,
)
from pool_server.core.ledger.model import TransferCode
from pool_server.core.matching import TaskRank
from pool_server.core.settlement import (
    UNRESOLVED_AFTER_LEASE_US,
    AttemptFunding,
    AttemptSettlement,
    unresolved_expiry_us,
)
from pool_server.ports.fleet import VehicleDelta, WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import AttemptChange, JobDelta, JobRow, TaskRow

_STRAIGHT = frozenset({AttemptState.RETURNED, AttemptState.ACCEPTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A vehicle that verification has caught."""

    vehicle_id: str
    reason: str


def flush(board: TaskBoard, *, finish_jobs: bool = True) -> list[Suspect]:
    """Write the board; return the vehicles that the quarantine rule now names.

    Args:
        board: All verdicts are in.
        finish_jobs: Whether closing jobs whose last task was decided end here, and not by the caller.

    Raises:
        InvariantError: a row was not in the state in which this transaction had read it.
    """
    attempts = [attempt for attempt in board.attempts.values() if attempt.changed]
    for attempt in attempts:
        # The board takes two steps at once (recorded, then judged); what is written must be one legal step.
        ATTEMPT_LIFECYCLE.check(attempt.row.state, attempt.state, what=str(attempt.row.attempt_id))
    pendings = _move_money(board, attempts)
    answer_questions(board, attempts)
    _write_attempts(board, attempts, pendings)
    tasks = [task for task in board.tasks.values() if task.changed]
    if board.uow.tasks.change([_task_row(board, task) for task in tasks]) != len(tasks):
        raise InvariantError("a task was decided twice")
    deltas = _count_jobs(board, tasks)
    _grant_outputs(board, tasks)
    _close_leases(board, attempts)
    faults = board.classes.write()
    suspects = _count_vehicles(board, attempts)
    write_findings(board, attempts)
    for fault in faults:
        open_class_look_back(board.uow, fault, now_us=board.now_us)
    _tell(board, attempts, tasks)
    give_back_shares(board, attempts)
    for job_id, delta in deltas.items():
        board.uow.jobs.add(job_id, delta)
    if finish_jobs:
        for job_id in sorted(board.progressed):
            job, delta = board.job(job_id), deltas[job_id]
            decided = delta.accepted_count + delta.failed_count + delta.cancelled_count
            if job.state is JobState.CLOSING and job.undecided_count == decided:
                finish_job(board.uow, job, now_us=board.now_us)
    return suspects


def finish_job(uow: UnitOfWork, job: JobRow, *, now_us: int) -> None:
    """CLOSING -> DONE for a job without undecided tasks; the rest of its escrow goes back to the buyer."""
    if not uow.jobs.move(
        job.job_id,
        from_states=JOB_LIFECYCLE.sources(JobState.DONE),
        to_state=JobState.DONE,
        ended_at_us=now_us,
        end_reason="",
    ):
        raise InvariantError(f"job {job.job_id} is not closing")
    cause = JOB_LIFECYCLE.transitions[JobState.CLOSING, JobState.DONE]
    uow.events.append([WorkEvent("job", str(job.job_id), JobState.CLOSING, JobState.DONE, cause, now_us)])
    release_job(uow, buyer_id=job.buyer_id, job_id=job.job_id, now_us=now_us)


# --- money --------------------------------------------------------------------------------------


def _move_money(board: TaskBoard, attempts: list[BoardAttempt]) -> dict[int, int]:
    """Give back, reserve, pay, in this order; return each changed attempt's pending transfer."""
    pendings: dict[int, int] = {}
    rejected: list[int] = []
    expired: list[int] = []
    to_fund: list[BoardAttempt] = []
    accepted: list[BoardAttempt] = []
    lapsed = _lapsed(board, attempts)
    for attempt in attempts:
        row = attempt.row
        if attempt.questioned is not None:
            # It was paid before: `answer_questions` sees to its money.
            holds = attempt.state in (AttemptState.RETURNED, AttemptState.ACCEPTED)
            pendings[row.attempt_id] = row.pending_transfer_id if holds else 0
            continue
        is_paid = attempt.state is AttemptState.ACCEPTED
        needs = is_paid or attempt.state in FUNDED_ATTEMPT_STATES
        keeps = needs and row.pending_transfer_id > 0 and attempt.payer is row.payer
        keeps = keeps and row.pending_transfer_id not in lapsed
        if row.pending_transfer_id and not keeps:
            (expired if attempt.state is AttemptState.EXPIRED else rejected).append(row.pending_transfer_id)
        if needs and not keeps and row.amount_micros:
            to_fund.append(attempt)
        if is_paid:
            accepted.append(attempt)
        pendings[row.attempt_id] = row.pending_transfer_id if keeps else 0
    uow, now_us = board.uow, board.now_us
    if rejected:
        void_attempts(uow, rejected, code=TransferCode.REJECTED, now_us=now_us)
    if expired:
        void_attempts(uow, expired, code=TransferCode.EXPIRED, now_us=now_us)
    if to_fund:
        items = [
            AttemptFunding(
                attempt_id=attempt.row.attempt_id,
                owner_id=attempt.row.owner_id,
                job_id=attempt.row.job_id,
                amount_micros=attempt.row.amount_micros,
                payer=attempt.payer,
            )
            for attempt in to_fund
        ]
        ids = fund_attempts(uow, items, expires_at_us=unresolved_expiry_us(now_us), now_us=now_us)
        pendings.update((item.attempt_id, new) for item, new in zip(items, ids, strict=True))
    if accepted:
        settle_attempts(uow, [_settlement(attempt, pendings) for attempt in accepted], now_us=now_us)
    return pendings


def _lapsed(board: TaskBoard, attempts: list[BoardAttempt]) -> set[int]:
    """Return reserved money whose time is over: the server stood still for a month, or its clock jumped."""
    before_us = board.now_us - UNRESOLVED_AFTER_LEASE_US
    old = [
        attempt.row.pending_transfer_id
        for attempt in attempts
        if attempt.row.pending_transfer_id and attempt.row.leased_at_us < before_us
    ]
    if not old:
        return set()
    found = board.uow.ledger.pendings(old)
    return {number for number, pending in found.items() if has_lapsed(pending, now_us=board.now_us)}


def _settlement(attempt: BoardAttempt, pendings: dict[int, int]) -> AttemptSettlement:
    row, job = attempt.row, attempt.task.job
    return AttemptSettlement(
        attempt_id=row.attempt_id,
        pending_transfer_id=pendings[row.attempt_id],
        owner_id=row.owner_id,
        vehicle_id=row.vehicle_id,
        job_id=row.job_id,
        task_index=row.task_index,
        program_sha256=job.program_sha256,
        output_digest=attempt.digest,
        work_uwu=job.work_uwu_per_task,
        price_micros_per_wu=row.price_micros_per_wu,
        gross_micros=row.amount_micros,
    )


# --- rows ---------------------------------------------------------------------------------------


def _write_attempts(board: TaskBoard, attempts: list[BoardAttempt], pendings: dict[int, int]) -> None:
    now_us = board.now_us
    changes = [
        AttemptChange(
            attempt.row.attempt_id,
            attempt.row.state,
            attempt.state,
            attempt.payer,
            pendings[attempt.row.attempt_id],
            attempt.reason,
            attempt.detail,
            attempt.ended_at_us,
            0 if attempt.state is AttemptState.RETURNED else now_us,
            attempt.reported,
            attempt.odometer_uwu,
        )
        for attempt in attempts
    ]
    if board.uow.attempts.change(changes) != len(changes):
        raise InvariantError("an attempt was not in the state in which it had been read")
    board.uow.attempts.store_outputs(
        [(attempt.row.attempt_id, attempt.outputs) for attempt in attempts if attempt.outputs is not None]
    )


def _task_row(board: TaskBoard, task: BoardTask) -> TaskRow:
    row = task.row
    if not task.undecided:
        canonical = 0 if task.canonical is None else task.canonical.row.attempt_id
        return TaskRow(
            row.task_id,
            row.job_id,
            row.task_index,
            task.state,
            task.rank,
            0,
            task.agreement_needed,
            row.attempt_count,
            0,
            task.failure_count,
            0,
            task.decided_seq,
            canonical,
            task.cost_micros,
            task.reason,
            task.detail,
            board.now_us,
            task.evidence,
            task.replaced_count,
        )
    return row._replace(
        state=task.state,
        rank=task.rank,
        wanted=task.wanted,
        agreement_needed=task.agreement_needed,
        live_count=len(task.in_state(AttemptState.LEASED)),
        failure_count=task.failure_count,
        job_funded_count=task.job_funded(),
    )


def _count_jobs(board: TaskBoard, tasks: list[BoardTask]) -> dict[int, JobDelta]:
    deltas: dict[int, JobDelta] = defaultdict(JobDelta)
    for task in tasks:
        delta = deltas[task.job.job_id]
        was_ready, is_ready = task.row.state is TaskState.READY, task.state is TaskState.READY
        delta.ready_count += is_ready - was_ready
        delta.urgent_count += (is_ready and task.rank == TaskRank.WAITED_FOR) - (
            was_ready and task.row.rank == TaskRank.WAITED_FOR
        )
        if task.undecided:
            continue
        delta.decided_seq += 1
        delta.spent_micros += task.cost_micros - task.row.cost_micros
        delta.rechecking_count -= task.rechecking
        delta.replaced_count += task.replaced_count - task.row.replaced_count
        delta.accepted_count += task.state is TaskState.ACCEPTED
        delta.failed_count += task.state is TaskState.FAILED
        delta.cancelled_count += task.state is TaskState.CANCELLED
    for attempt in board.rejected:
        deltas[attempt.row.job_id].rejected_count += 1
    return dict(deltas)


def _grant_outputs(board: TaskBoard, tasks: list[BoardTask]) -> None:
    """Let buyers read the blobs of what was accepted: those on the board, and those that came before."""
    blobs: dict[str, list[str]] = defaultdict(list)
    earlier: dict[int, str] = {}
    for task in tasks:
        if task.canonical is None or task.undecided:
            continue
        if task.canonical.outputs is None:
            earlier[task.canonical.row.attempt_id] = task.job.buyer_id
        elif task.canonical.outputs.blob_sha256 is not None:
            blobs[task.job.buyer_id].append(task.canonical.outputs.blob_sha256)
    if earlier:
        for attempt_id, blob_sha256 in board.uow.attempts.output_blobs(list(earlier)).items():
            blobs[earlier[attempt_id]].append(blob_sha256)
    for buyer_id, names in blobs.items():
        board.uow.blobs.grant(names, holder=buyer_id)


# --- leases and vehicles ------------------------------------------------------------------------


def _close_leases(board: TaskBoard, attempts: list[BoardAttempt]) -> None:
    """Take what is no longer under way off the leases; a lease without open attempts has ended."""
    closed: dict[int, int] = defaultdict(int)
    for attempt in attempts:
        if attempt.row.state is AttemptState.LEASED and attempt.state is not AttemptState.LEASED:
            closed[attempt.row.lease_id] += 1
    uow, now_us = board.uow, board.now_us
    idle: dict[str, None] = {}
    for lease in uow.leases.many(list(closed)):
        state = board.lease_ends.get(lease.lease_id)
        if state is None:
            state = LeaseState.LIVE if lease.open_count > closed[lease.lease_id] else LeaseState.DONE
        ended_at_us = 0 if state is LeaseState.LIVE else now_us
        if not uow.leases.close_attempts(
            lease.lease_id, closed=closed[lease.lease_id], state=state, ended_at_us=ended_at_us
        ):
            raise InvariantError(f"lease {lease.lease_id} had ended, and attempts of it were under way")
        if state is not LeaseState.LIVE:
            idle[lease.vehicle_id] = None
            cause = LEASE_LIFECYCLE.transitions[LeaseState.LIVE, state]
            uow.events.append(
                [WorkEvent("lease", str(lease.lease_id), LeaseState.LIVE, state, cause, now_us)]
            )
    for vehicle_id in idle:
        _rest(board, vehicle_id)


def _rest(board: TaskBoard, vehicle_id: str) -> None:
    """LEASED -> AVAILABLE when no live lease is left. A vehicle in another state stays there."""
    uow = board.uow
    if uow.leases.live(vehicle_id):
        return
    if uow.fleet.move(vehicle_id, from_states=[VehicleState.LEASED], to_state=VehicleState.AVAILABLE):
        uow.events.append(
            [
                WorkEvent(
                    "vehicle",
                    vehicle_id,
                    VehicleState.LEASED,
                    VehicleState.AVAILABLE,
                    "its last live lease ends",
                    board.now_us,
                )
            ]
        )


def _count_vehicles(board: TaskBoard, attempts: list[BoardAttempt]) -> list[Suspect]:
    deltas: dict[str, VehicleDelta] = defaultdict(VehicleDelta)
    for attempt in attempts:
        delta = deltas[attempt.row.vehicle_id]
        if attempt.questioned is None:
            verified = int(attempt.state is AttemptState.ACCEPTED)
        else:
            # It was counted as verified when it was accepted.
            verified = -int(attempt.state is not AttemptState.ACCEPTED)
        if verified:
            delta.verified_attempts += verified
            delta.verified_uwu += verified * board.job(attempt.row.job_id).work_uwu_per_task
        delta.rejected_attempts += attempt.state is AttemptState.REJECTED
        delta.abandoned_attempts += attempt.state is AttemptState.EXPIRED or (
            attempt.state is AttemptState.FAILED and attempt.reason == AttemptOutcome.ABANDONED.name
        )
    suspects: list[Suspect] = []
    for vehicle_id, delta in deltas.items():
        if delta == VehicleDelta():
            continue
        vehicle = board.uow.fleet.add(vehicle_id, delta)
        if not delta.rejected_attempts:
            continue
        reason = board.policy.quarantine.reason(vehicle.rejected_since_release)
        if reason is not None:
            suspects.append(Suspect(vehicle_id=vehicle_id, reason=reason.value))
    for (vehicle_id, trust_class), record in board.trust.items():
        board.uow.fleet.put_trust(vehicle_id, trust_class, record)
    return suspects


# --- story and effects --------------------------------------------------------------------------


def _tell(board: TaskBoard, attempts: list[BoardAttempt], tasks: list[BoardTask]) -> None:
    """Events of all that left the straight road, and what the shell should do."""
    events: list[WorkEvent] = []
    for attempt in attempts:
        is_straight = attempt.state in _STRAIGHT and attempt.questioned is None
        if is_straight and attempt.row.state is not AttemptState.EXPIRED:
            continue
        if attempt.state is attempt.row.state:
            continue
        events.append(
            WorkEvent(
                "attempt",
                str(attempt.row.attempt_id),
                attempt.row.state,
                attempt.state,
                attempt.reason or ("late" if attempt.questioned is None else "it is upheld"),
                board.now_us,
            )
        )
    has_new_work = False
    for task in tasks:
        is_ready = task.state is TaskState.READY
        has_new_work = has_new_work or (is_ready and task.wanted > task.row.wanted)
        if task.state is task.row.state or (task.state is TaskState.ACCEPTED and not task.rechecking):
            continue
        events.append(
            WorkEvent(
                "task",
                f"{task.row.job_id}/{task.row.task_index}",
                task.row.state,
                task.state,
                task.reason or _task_cause(task),
                board.now_us,
            )
        )
    uow = board.uow
    uow.events.append(events)
    uow.effects.extend(
        AttemptsCancelled(vehicle_id=vehicle_id, attempt_ids=tuple(attempt_ids), reason=reason)
        for (vehicle_id, reason), attempt_ids in board.stopped.items()
    )
    uow.effects.extend(JobProgressed(job_id=job_id) for job_id in sorted(board.progressed))
    if has_new_work:
        uow.effects.append(WorkAvailable())


def _task_cause(task: BoardTask) -> str:
    if task.state is TaskState.ACCEPTED:
        return "checked again: replaced" if task.replaced_count > task.row.replaced_count else "checked again"
    return "wanted again" if task.state is TaskState.READY else "enough under way"

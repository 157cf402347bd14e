"""What happens because time passed: leases end, deadlines pass, unjudged results go stale, vehicles are lost.

Expiry is a decision that a sweep takes, never a side effect of reading. Each sweep takes a bounded number of
rows, so that it never holds the writer for long; the shell calls it again until it answers 0.
"""

from pool_protocol.errors import InvariantError
from pool_protocol.limits import DAY_US
from pool_server.app.job_end import end_job
from pool_server.app.quarantine import settle_board
from pool_server.app.task_board import TaskBoard
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.fleet import VEHICLE_LIFECYCLE, VehicleState
from pool_server.core.jobs import AttemptState, LeaseState, TaskFailure, TaskState
from pool_server.core.settlement import UNRESOLVED_AFTER_LEASE_US
from pool_server.core.verification.findings import Evidence
from pool_server.ports.fleet import WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork

#: Leases in one sweep: at most 64 x 256 attempts in one transaction.
LEASES_PER_SWEEP = 64
JOBS_PER_SWEEP = 8
ATTEMPTS_PER_SWEEP = 1_000
VEHICLES_PER_SWEEP = 500
TASKS_PER_SWEEP = 500
#: A result that nobody could judge for this long is given up, before its reserved money times out.
UNJUDGED_AFTER_US = UNRESOLVED_AFTER_LEASE_US - DAY_US
UNJUDGED = "UNJUDGED"


def expire_leases(
    uow: UnitOfWork, *, policy: WorkPolicy, now_us: int, blobs: BlobReader | None = None
) -> int:
    """End leases whose time and grace have passed; their open tasks go to others. Returns how many."""
    leases = uow.leases.overdue(before_us=now_us - policy.lease_grace_us, limit=LEASES_PER_SWEEP)
    if not leases:
        return 0
    board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
    for lease in leases:
        board.lease_ends[lease.lease_id] = LeaseState.EXPIRED
        rows = uow.attempts.of_lease(lease)
        board.load(row for row in rows.values() if row.state is AttemptState.LEASED)
        for row in rows.values():
            if row.state is AttemptState.LEASED:
                board.expire(board.attempts[row.attempt_id])
    for task in list(board.tasks.values()):
        board.resolve(task)
    settle_board(board)
    return len(leases)


def expire_jobs(uow: UnitOfWork, *, now_us: int) -> int:
    """Cancel jobs whose deadline has passed; their undecided tasks fail. Returns how many."""
    jobs = uow.jobs.due(now_us=now_us, limit=JOBS_PER_SWEEP)
    for job in jobs:
        reason = TaskFailure.DEADLINE_EXCEEDED.value
        end_job(uow, job, task_state=TaskState.FAILED, reason=reason, now_us=now_us)
    return len(jobs)


def expire_unjudged(
    uow: UnitOfWork, *, policy: WorkPolicy, now_us: int, blobs: BlobReader | None = None
) -> int:
    """Give up results that waited too long for a second opinion; their tasks go on. Returns how many."""
    rows = uow.attempts.returned_before(now_us - UNJUDGED_AFTER_US, limit=ATTEMPTS_PER_SWEEP)
    if not rows:
        return 0
    board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
    board.load(rows)
    for row in rows:
        board.drop(board.attempts[row.attempt_id], reason=UNJUDGED)
    for task in list(board.tasks.values()):
        board.resolve(task)
    settle_board(board)
    return len(rows)


def accept_unverified(
    uow: UnitOfWork, *, policy: WorkPolicy, now_us: int, blobs: BlobReader | None = None
) -> int:
    """Accept, at the pool's risk, what waited too long for other owners and nobody contradicts. How many.

    The work was done and paid for: that nobody came to check it is not its owner's fault. It builds no trust.
    """
    before_us = now_us - policy.accept_unverified_after_us
    rows = uow.attempts.unopposed_before(before_us, limit=ATTEMPTS_PER_SWEEP)
    if not rows:
        return 0
    board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
    board.load(rows)
    for task in list(board.tasks.values()):
        board.accept_as(task, task.in_state(AttemptState.RETURNED), Evidence.RISK)
    settle_board(board)
    return len(rows)


def settle_out_of_owners(
    uow: UnitOfWork, *, policy: WorkPolicy, now_us: int, blobs: BlobReader | None = None
) -> int:
    """Judge tasks again that wait for auditors that are gone. Returns how many were decided.

    Owners that were counted when the audit was drawn may be caught or leave without touching the task.
    """
    task_ids = uow.tasks.out_of_owners(limit=TASKS_PER_SWEEP)
    if not task_ids:
        return 0
    board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
    board.load(uow.attempts.of_tasks(task_ids))
    for task in list(board.tasks.values()):
        board.resolve(task)
    decided = sum(1 for task in board.tasks.values() if not task.undecided)
    if decided:
        settle_board(board)
    return decided


def lose_silent_vehicles(uow: UnitOfWork, *, policy: WorkPolicy, now_us: int) -> int:
    """AVAILABLE -> LOST for vehicles that have not called for long. Returns how many."""
    silent = uow.fleet.silent(before_us=now_us - policy.vehicle_silence_us, limit=VEHICLES_PER_SWEEP)
    cause = VEHICLE_LIFECYCLE.transitions[VehicleState.AVAILABLE, VehicleState.LOST]
    for vehicle in silent:
        if not uow.fleet.move(
            vehicle.vehicle_id, from_states=[VehicleState.AVAILABLE], to_state=VehicleState.LOST
        ):
            raise InvariantError(f"{vehicle.vehicle_id} is not available any more")
    uow.events.append(
        WorkEvent("vehicle", vehicle.vehicle_id, VehicleState.AVAILABLE, VehicleState.LOST, cause, now_us)
        for vehicle in silent
    )
    return len(silent)

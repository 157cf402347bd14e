"""What the pool runs itself: the unit that a dispute has come down to, or a whole task; and what that means.

`unit_order` and `task_order` say what to run, outside of every transaction; `take_run` and `take_task_run`
judge by what came out. The referee runs exactly that. When it cannot, or when what it returns refutes nobody,
nobody is to blame and the task asks for more opinions.
"""

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.app.dispute_gate import CLASS_PROBLEM, WRONG_UNIT, close_dispute, convict, start_state
from pool_server.app.quarantine import settle_board
from pool_server.app.task_board import TaskBoard
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.jobs import AttemptState
from pool_server.core.verification.audit import AuditDraw
from pool_server.core.verification.dispute import DisputeState, Parting, rule_on
from pool_server.core.verification.pool_run import POOL_RUN_LIFECYCLE, PoolRunState
from pool_server.ports.disputes import DisputeRow, UnitOrder, UnitRun
from pool_server.ports.pool_runs import PoolRunRow, TaskOrder, TaskRun
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobRow

DISPUTES_PER_SWEEP = 16
TASKS_PER_SWEEP = 16
#: Runs of one unit or task that may fail by the referee's own fault.
REFEREE_TRIES_MAX = 3
#: Tasks of a job that may fail on the pool's machine, up to its deadline each, before it tries no more.
TASK_FAILURES_MAX = 3


def disputes_to_referee(uow: UnitOfWork) -> list[int]:
    """Return disputes that have come down to one unit, oldest first."""
    return uow.disputes.refereeing(limit=DISPUTES_PER_SWEEP)


def unit_order(uow: UnitOfWork, dispute_id: int) -> UnitOrder | None:
    """Return what the referee runs for a dispute; None when it does not wait for one."""
    dispute = uow.disputes.get(dispute_id)
    if dispute is None or dispute.state is not DisputeState.REFEREEING:
        return None
    job = _job_of(uow, dispute)
    start = None
    if dispute.unit_index > 0:
        held = start_state(uow.disputes.queries(_sides(dispute)), dispute)
        if held is None:
            raise InvariantError(f"dispute {dispute_id} waits for the referee without a state")
        start = held.tensors
    return UnitOrder(
        program_sha256=job.program_sha256,
        constants=uow.jobs.constants(job.job_id),
        inputs=uow.disputes.task_inputs(dispute.task_id),
        start=start,
        unit_index=dispute.unit_index,
        steps=min(job.unit_steps, job.steps_per_task - dispute.unit_index * job.unit_steps),
    )


def take_run(
    uow: UnitOfWork,
    dispute_id: int,
    run: UnitRun | PoolError,
    *,
    draws: AuditDraw,
    policy: WorkPolicy,
    blobs: BlobReader | None,
    now_us: int,
) -> None:
    """Judge a dispute by the referee's run of its unit, or by the referee's failure to run it.

    Args:
        uow: The command's transaction.
        dispute_id: Which.
        run: What the referee came to.
        draws: The secret chance that draws units of the claims, should this one prove nothing.
        policy: The operator's settings.
        blobs: Reads outputs that are blobs.
        now_us: The command's time.
    """
    dispute = uow.disputes.get(dispute_id)
    if dispute is None or dispute.state is not DisputeState.REFEREEING:
        return
    board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
    sides = _sides(dispute)
    board.load(uow.attempts.get(sides).values())
    task = board.attempts[sides[0]].task
    if any(board.attempts[side].state is not AttemptState.RETURNED for side in sides):
        close_dispute(board, dispute, DisputeState.ENDED, reason="SIDE_GONE")
    elif isinstance(run, PoolError):
        _take_failure(board, dispute, run)
    else:
        _rule(board, dispute, run, draws=draws)
    board.resolve(task)
    settle_board(board)


def _rule(board: TaskBoard, dispute: DisputeRow, run: UnitRun, *, draws: AuditDraw) -> None:
    sides = _sides(dispute)
    unit_index = dispute.unit_index
    claimed = {
        query.attempt_id: query.digest
        for query in board.uow.disputes.queries(sides)
        if query.unit_index == unit_index and query.digest
    }
    first, second = sides
    parting = Parting(unit_index, dispute.start_digest, ((first, claimed[first]), (second, claimed[second])))
    classes = {
        attempt_id: commitment.numeric_class
        for attempt_id, commitment in board.uow.disputes.commitments(sides).items()
    }
    ruling = rule_on(
        parting, referee_digest=run.state_digest, referee_class=run.numeric_class, classes=classes
    )
    judged = dispute._replace(referee_digest=run.state_digest, referee_class=run.numeric_class)
    task = board.attempts[first].task
    if ruling.wrong:
        convict(board, task, judged, ruling.wrong, reason=WRONG_UNIT, unit_index=unit_index)
    elif not board.unit_checks.begin(task, judged, draws=draws):
        close_dispute(board, judged, DisputeState.NO_BLAME, reason=CLASS_PROBLEM)


def _take_failure(board: TaskBoard, dispute: DisputeRow, error: PoolError) -> None:
    """A program that fails from this state refutes nobody; a referee that is not well is tried again."""
    tried = dispute._replace(referee_tries=dispute.referee_tries + 1)
    if error.code is not ErrorCode.PROGRAM_FAILED and tried.referee_tries < REFEREE_TRIES_MAX:
        if not board.uow.disputes.change(tried, from_state=DisputeState.REFEREEING):
            raise InvariantError(f"dispute {dispute.dispute_id} is not with the referee any more")
        return
    close_dispute(board, tried, DisputeState.NO_BLAME, reason=error.code.value)


def tasks_to_referee(uow: UnitOfWork) -> list[int]:
    """Return tasks that wait for the pool's own run: contradictions first, then the oldest."""
    return uow.pool_runs.wanted(limit=TASKS_PER_SWEEP)


def task_order(uow: UnitOfWork, task_id: int) -> TaskOrder | PoolError | None:
    """Return what the referee runs for a task; None when it does not wait for one.

    Where too many tasks of its job have failed there, it is PROGRAM_FAILED without being tried.
    """
    run = uow.pool_runs.of_tasks([task_id]).get(task_id)
    if run is None or run.state is not PoolRunState.WANTED:
        return None
    task = uow.tasks.get([task_id])[task_id]
    if uow.pool_runs.failed_count(task.job_id, at_most=TASK_FAILURES_MAX) == TASK_FAILURES_MAX:
        return PoolError(
            ErrorCode.PROGRAM_FAILED, f"{TASK_FAILURES_MAX} tasks of job {task.job_id} failed on this machine"
        )
    job = uow.jobs.get(task.job_id)
    if job is None:
        raise InvariantError(f"task {task_id} is of a job that is not there")
    return TaskOrder(
        program_sha256=job.program_sha256,
        constants=uow.jobs.constants(job.job_id),
        inputs=uow.disputes.task_inputs(task_id),
        steps=job.steps_per_task,
        unit_steps=job.unit_steps,
    )


def take_task_run(
    uow: UnitOfWork,
    task_id: int,
    run: TaskRun | PoolError,
    *,
    policy: WorkPolicy,
    blobs: BlobReader | None,
    now_us: int,
) -> None:
    """Judge a task by the pool's own result of it, or by the referee's failure to compute one."""
    wanted = uow.pool_runs.of_tasks([task_id]).get(task_id)
    if wanted is None or wanted.state is not PoolRunState.WANTED:
        return
    board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
    board.load(uow.attempts.of_tasks([task_id]))
    task = board.tasks[task_id]
    if isinstance(run, TaskRun):
        ended = wanted._replace(
            output_digest=run.output_digest, outputs=run.outputs, numeric_class=run.numeric_class
        )
        board.pool_runs.end(task, _ended(ended, PoolRunState.DONE, now_us=now_us))
    else:
        ended = wanted._replace(tries=wanted.tries + 1, reason=run.code.value)
        if run.code is ErrorCode.PROGRAM_FAILED or ended.tries >= REFEREE_TRIES_MAX:
            ended = _ended(ended, PoolRunState.FAILED, now_us=now_us)
        board.pool_runs.end(task, ended)
    board.resolve(task)
    settle_board(board)


def _ended(row: PoolRunRow, state: PoolRunState, *, now_us: int) -> PoolRunRow:
    POOL_RUN_LIFECYCLE.check(row.state, state, what=str(row.task_id))
    return row._replace(state=state, ended_at_us=now_us)


def _sides(dispute: DisputeRow) -> tuple[int, int]:
    return dispute.first_attempt_id, dispute.second_attempt_id


def _job_of(uow: UnitOfWork, dispute: DisputeRow) -> JobRow:
    task = uow.tasks.get([dispute.task_id]).get(dispute.task_id)
    job = None if task is None else uow.jobs.get(task.job_id)
    if job is None:
        raise InvariantError(f"dispute {dispute.dispute_id} is about a task that is not there")
    return job

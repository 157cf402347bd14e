"""How a job ends, and whose it is: the parts that buyers' use cases and the sweeps share."""

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.app.board_flush import flush
from pool_server.app.money import release_job
from pool_server.app.task_board import TaskBoard
from pool_server.app.work_policy import DEFAULT_POLICY
from pool_server.core.effects import JobProgressed
from pool_server.core.jobs import JOB_LIFECYCLE, JobState, TaskState
from pool_server.ports.fleet import WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobDelta, JobRow


def end_job(
    uow: UnitOfWork,
    job: JobRow,
    *,
    task_state: TaskState,
    reason: str,
    now_us: int,
) -> JobRow:
    """OPEN or CLOSING -> CANCELLED: undecided tasks end in `task_state`, the rest of the escrow goes back."""
    # Nothing is judged here, so neither the policy nor a blob's bytes matter.
    board = TaskBoard(uow, policy=DEFAULT_POLICY, blobs=None, now_us=now_us)
    board.load(uow.attempts.undecided_of_job(job.job_id))
    for task in list(board.tasks.values()):
        board.end(task, task_state, reason=reason)
    flush(board, finish_jobs=False)
    # Tasks without an attempt under way end in one statement, however many they are.
    now = reread(uow, job.job_id)
    count = uow.tasks.end_undecided(
        job.job_id, state=task_state, reason=reason, seq_base=now.decided_seq, now_us=now_us
    )
    uow.jobs.add(
        job.job_id,
        JobDelta(
            ready_count=-now.ready_count,
            urgent_count=-now.urgent_count,
            cancelled_count=count if task_state is TaskState.CANCELLED else 0,
            failed_count=count if task_state is TaskState.FAILED else 0,
            decided_seq=now.task_count if count else 0,
        ),
    )
    if not uow.jobs.move(
        job.job_id,
        from_states=JOB_LIFECYCLE.sources(JobState.CANCELLED),
        to_state=JobState.CANCELLED,
        ended_at_us=now_us,
        end_reason=reason,
    ):
        raise InvariantError(f"job {job.job_id} had ended already")
    uow.events.append([WorkEvent("job", str(job.job_id), job.state, JobState.CANCELLED, reason, now_us)])
    release_job(uow, buyer_id=job.buyer_id, job_id=job.job_id, now_us=now_us)
    uow.effects.append(JobProgressed(job_id=job.job_id))
    return reread(uow, job.job_id)


def job_of(uow: UnitOfWork, job_id: int, *, buyer_id: str | None) -> JobRow:
    """Read a job of a buyer, or of anyone for an operator (None).

    Raises:
        PoolError: NOT_FOUND, also for another buyer's job: it tells nothing about what others do.
    """
    job = uow.jobs.get(job_id)
    if job is None or (buyer_id is not None and job.buyer_id != buyer_id):
        raise PoolError(ErrorCode.NOT_FOUND, f"no job {job_id} of {buyer_id}")
    return job


def reread(uow: UnitOfWork, job_id: int) -> JobRow:
    """Read a job that is there.

    Raises:
        InvariantError: it is not.
    """
    job = uow.jobs.get(job_id)
    if job is None:
        raise InvariantError(f"job {job_id} was there and is not")
    return job

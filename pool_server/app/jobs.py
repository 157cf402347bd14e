"""A buyer's jobs: open with money reserved, add tasks, close, cancel, look. Others' jobs do not exist."""

from collections.abc import Sequence
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.app.board_flush import finish_job
from pool_server.app.certificates import CERTIFICATE_FAILURES_MAX
from pool_server.app.classes import waiting_for_another_class
from pool_server.app.finality import final_tasks
from pool_server.app.job_end import end_job, job_of, reread
from pool_server.app.job_terms import (
    check_batch,
    check_price,
    check_room,
    check_terms,
    input_sha256,
    price_terms,
    request_sha256,
)
from pool_server.app.money import reserve_job
from pool_server.app.offers import above_bid, bid_of
from pool_server.app.pricing import posted_price
from pool_server.app.work_commands import (
    AddTasks,
    CreateJob,
    DecidedPage,
    JobPage,
    JobViewValue,
    TaskResultValue,
    WaitingReason,
)
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.effects import JobProgressed, WorkAvailable
from pool_server.core.jobs import (
    ACTIVE_JOB_STATES,
    JOB_LIFECYCLE,
    JobState,
    TaskState,
    retry_bounds,
)
from pool_server.core.verification import LEVELS, VerificationLevel
from pool_server.ports.fleet import WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import DecidedRow, JobDelta, JobRow, NewTaskRow

JOB_CANCELLED = "JOB_CANCELLED"
#: Where so many owners have vehicles, nobody is told that a job waits for another one: some will come by.
OWNERS_COUNTED_MAX = 8


#: Reasons that no certificate would help against.
_FIRST = frozenset({WaitingReason.PRICE_ABOVE_CAP, WaitingReason.NO_VEHICLES})


def create_job(uow: UnitOfWork, command: CreateJob, *, policy: WorkPolicy, now_us: int) -> JobViewValue:
    """Open a job and reserve its budget; the same key gives the same job.

    Raises:
        PoolError: INVALID_ARGUMENT; EXISTS_WITH_DIFFERENT when the key was used for another request;
            PRICE_ABOVE_CAP; INSUFFICIENT_FUNDS; SPEND_LIMIT_REACHED.
    """
    asked_sha256 = request_sha256(command)
    existing = uow.jobs.by_key(command.buyer_id, command.idempotency_key)
    if existing is not None:
        if existing.request_sha256 != asked_sha256:
            raise PoolError(
                ErrorCode.EXISTS_WITH_DIFFERENT,
                f"the key was used for job {existing.job_id} with other terms",
                context={"job_id": str(existing.job_id)},
            )
        return job_view(uow, existing, now_us=now_us)
    check_terms(command, policy, now_us=now_us)
    check_price(command, posted_micros=posted_price(uow))
    job = JobRow(
        job_id=uow.ids.next_block("job", 1)[0],
        buyer_id=command.buyer_id,
        idempotency_key=command.idempotency_key,
        request_sha256=asked_sha256,
        name=command.name,
        state=JobState.OPEN,
        program_sha256=command.program.program_sha256,
        kind=command.program.kind,
        work_uwu_per_task=command.program.work_uwu_per_task,
        unit_steps=command.program.unit_steps,
        steps_per_task=command.steps_per_task,
        outputs=command.program.outputs,
        terms=price_terms(command),
        budget_micros=command.budget_micros,
        level=command.level,
        comparator=command.comparator,
        bounds=retry_bounds(command.attempts_may_fail),
        deadline_us=command.deadline_us,
        created_at_us=now_us,
        certificate_sha256=command.certificate_sha256,
    )
    uow.jobs.insert(job, command.constants)
    reserve_job(
        uow,
        buyer_id=command.buyer_id,
        job_id=job.job_id,
        amount_micros=command.budget_micros,
        now_us=now_us,
        token_id=command.token_id,
    )
    uow.events.append([WorkEvent("job", str(job.job_id), "", JobState.OPEN, "created", now_us)])
    return job_view(uow, job, now_us=now_us)


def add_tasks(uow: UnitOfWork, command: AddTasks, *, now_us: int) -> int:
    """Add tasks; those already there must carry the same inputs. Returns how many tasks the job holds now.

    Checked in this order, and nothing is added when one fails: the job is the buyer's (NOT_FOUND); counts,
    sizes and indexes without a gap (INVALID_ARGUMENT, TENSORS_TOO_LARGE); tasks already there
    (EXISTS_WITH_DIFFERENT); then, for new ones, the job is open (JOB_CLOSED) and in time (DEADLINE_EXCEEDED),
    its bound (INVALID_ARGUMENT), its budget (BUDGET_EXCEEDED).

    Raises:
        PoolError: as above.
    """
    job = job_of(uow, command.job_id, buyer_id=command.buyer_id)
    check_batch(command, job)
    hashes = [input_sha256(task.inputs) for task in command.tasks]
    known = uow.tasks.input_hashes(job.job_id, first_index=command.first_index, count=len(hashes))
    for offset, stored in enumerate(known):
        if stored != hashes[offset]:
            index = command.first_index + offset
            raise PoolError(
                ErrorCode.EXISTS_WITH_DIFFERENT,
                f"task {index} of job {job.job_id} has other inputs",
                context={"index": str(index)},
            )
    fresh = command.tasks[len(known) :]
    if not fresh:
        return job.task_count
    check_room(job, len(fresh), now_us=now_us)
    task_ids = uow.ids.next_block("task", len(fresh))
    # A certificate proves one result; where it cannot, the level's owners are asked for then.
    quorum = 1 if job.certificate_sha256 else LEVELS[job.level].quorum
    first_fresh = command.first_index + len(known)
    uow.tasks.insert(
        job.job_id,
        [
            NewTaskRow(
                task_ids[offset], first_fresh + offset, quorum, task.inputs, hashes[len(known) + offset]
            )
            for offset, task in enumerate(fresh)
        ],
    )
    uow.jobs.add(job.job_id, JobDelta(task_count=len(fresh), ready_count=len(fresh)))
    uow.effects.append(WorkAvailable())
    return job.task_count + len(fresh)


def close_job(uow: UnitOfWork, *, buyer_id: str, job_id: int, now_us: int) -> JobViewValue:
    """OPEN -> CLOSING, and DONE at once when all is decided. Again changes nothing.

    Raises:
        PoolError: NOT_FOUND; INVALID_STATE for a cancelled job.
    """
    job = job_of(uow, job_id, buyer_id=buyer_id)
    if job.state in {JobState.CLOSING, JobState.DONE}:
        return job_view(uow, job, now_us=now_us)
    JOB_LIFECYCLE.require(job.state, JobState.CLOSING, what=f"job {job_id}")
    if not uow.jobs.move(
        job_id, from_states=[JobState.OPEN], to_state=JobState.CLOSING, ended_at_us=0, end_reason=""
    ):
        raise InvariantError(f"job {job_id} is not open any more")
    cause = JOB_LIFECYCLE.transitions[JobState.OPEN, JobState.CLOSING]
    uow.events.append([WorkEvent("job", str(job_id), JobState.OPEN, JobState.CLOSING, cause, now_us)])
    if job.undecided_count == 0:
        finish_job(uow, job, now_us=now_us)
    uow.effects.append(JobProgressed(job_id=job_id))
    return job_view(uow, reread(uow, job_id), now_us=now_us)


def cancel_job(uow: UnitOfWork, *, buyer_id: str, job_id: int, now_us: int) -> JobViewValue:
    """Stop a job: undecided tasks are cancelled, what was verified stays paid. Again changes nothing.

    Raises:
        PoolError: NOT_FOUND; INVALID_STATE for a job that is done.
    """
    job = job_of(uow, job_id, buyer_id=buyer_id)
    if job.state is JobState.CANCELLED:
        return job_view(uow, job, now_us=now_us)
    JOB_LIFECYCLE.require(job.state, JobState.CANCELLED, what=f"job {job_id}")
    ended = end_job(uow, job, task_state=TaskState.CANCELLED, reason=JOB_CANCELLED, now_us=now_us)
    return job_view(uow, ended, now_us=now_us)


# --- queries ------------------------------------------------------------------------------------


def get_job(uow: UnitOfWork, *, buyer_id: str | None, job_id: int, now_us: int) -> JobViewValue:
    """Return a job in figures; `buyer_id` None is an operator's.

    Raises:
        PoolError: NOT_FOUND.
    """
    return job_view(uow, job_of(uow, job_id, buyer_id=buyer_id), now_us=now_us)


def list_jobs(
    uow: UnitOfWork, *, buyer_id: str | None, before_job_id: int = 0, limit: int = 100, now_us: int
) -> JobPage:
    """Return a page of a buyer's jobs, or of all (None), newest first."""
    jobs = uow.jobs.page(buyer_id=buyer_id, before_job_id=before_job_id, limit=limit + 1)
    shown = jobs[:limit]
    more = len(jobs) > limit
    return JobPage(
        jobs=tuple(job_view(uow, job, now_us=now_us) for job in shown),
        next_before_job_id=shown[-1].job_id if more else 0,
    )


def decided_after(
    uow: UnitOfWork, *, buyer_id: str | None, job_id: int, cursor: int, limit: int, now_us: int
) -> DecidedPage:
    """Return tasks decided after a cursor, in order of decision: every decision once, across reconnects.

    Raises:
        PoolError: NOT_FOUND.
    """
    job = job_of(uow, job_id, buyer_id=buyer_id)
    results = _results(uow, uow.tasks.decided_after(job_id, after_seq=cursor, limit=limit))
    return DecidedPage(
        decided=tuple(results),
        cursor=results[-1].cursor if results else cursor,
        job=job_view(uow, job, now_us=now_us),
    )


def get_results(
    uow: UnitOfWork, *, buyer_id: str | None, job_id: int, indexes: Sequence[int]
) -> list[TaskResultValue]:
    """Return tasks by index, in the order asked; undecided ones too.

    Raises:
        PoolError: NOT_FOUND for the job, or for an index that it does not hold.
    """
    job_of(uow, job_id, buyer_id=buyer_id)
    found = uow.tasks.results(job_id, list(dict.fromkeys(indexes)))
    missing = [index for index in indexes if index not in found]
    if missing:
        raise PoolError(
            ErrorCode.NOT_FOUND,
            f"job {job_id} has no task {missing[0]}",
            context={"index": str(missing[0])},
        )
    by_index = {result.index: result for result in _results(uow, list(found.values()))}
    return [by_index[index] for index in indexes]


def _results(uow: UnitOfWork, rows: Sequence[DecidedRow]) -> list[TaskResultValue]:
    accepted = [row.task.task_id for row in rows if row.task.state is TaskState.ACCEPTED]
    paid = uow.attempts.paid(accepted)
    final = final_tasks(uow, [row.task for row in rows if row.task.state is TaskState.ACCEPTED])
    return [
        TaskResultValue(
            index=row.task.task_index,
            state=row.task.state,
            cursor=row.task.decided_seq,
            outputs=row.outputs,
            output_digest=row.output_digest,
            cost_micros=row.task.cost_micros,
            paid_attempt_ids=tuple(paid.get(row.task.task_id, ())),
            reason=row.task.reason,
            detail=row.task.detail,
            attempt_count=row.task.attempt_count,
            final=row.task.task_id in final,
            replaced_count=row.task.replaced_count,
            evidence=row.task.evidence if row.task.decided_seq else "",
        )
        for row in rows
    ]


def job_view(uow: UnitOfWork, job: JobRow, *, now_us: int) -> JobViewValue:
    """Return a job in figures."""
    is_active = job.state in ACTIVE_JOB_STATES
    bid_micros = bid_of(uow, job, now_us=now_us) if is_active else 0
    waiting = _waiting(uow, job, bid_micros=bid_micros) if is_active and job.ready_count else _NOT_WAITING
    waiting_reason = waiting.reason
    if is_active and waiting_reason not in _FIRST and job.certificate_failures >= CERTIFICATE_FAILURES_MAX:
        waiting_reason = WaitingReason.CERTIFICATE_FAILS
    return JobViewValue(
        job_id=job.job_id,
        buyer_id=job.buyer_id,
        name=job.name,
        state=job.state,
        end_reason=job.end_reason,
        waiting_reason=waiting_reason,
        waiting_count=waiting.waiting_count,
        waiting_detail=waiting.detail,
        bid_micros_per_wu=bid_micros,
        program_sha256=job.program_sha256,
        level=job.level,
        price_mode=job.terms.mode,
        price_micros_per_wu=job.terms.price_micros_per_wu,
        steps_per_task=job.steps_per_task,
        task_count=job.task_count,
        accepted_count=job.accepted_count,
        failed_count=job.failed_count,
        cancelled_count=job.cancelled_count,
        running_count=job.undecided_count - job.ready_count,
        attempt_count=job.attempt_count,
        rejected_count=job.rejected_count,
        budget_micros=job.budget_micros,
        escrow_micros=job.budget_micros - job.spent_micros if is_active else 0,
        spent_micros=job.spent_micros,
        created_at_us=job.created_at_us,
        ended_at_us=job.ended_at_us,
        deadline_us=job.deadline_us,
        decided_cursor=job.decided_seq,
        rechecking_count=job.rechecking_count,
        replaced_count=job.replaced_count,
        certificate_sha256=job.certificate_sha256,
    )


class _Waiting(NamedTuple):
    reason: WaitingReason | None = None
    waiting_count: int = 0
    """Results that wait for another owner."""
    detail: str = ""


_NOT_WAITING = _Waiting()


def _waiting(uow: UnitOfWork, job: JobRow, *, bid_micros: int) -> _Waiting:
    """Say why ready tasks wait."""
    posted_micros = posted_price(uow)
    if job.terms.price_now(posted_micros, bid_micros_per_wu=bid_micros) is None:
        detail = above_bid(job.terms, posted_micros=posted_micros, bid_micros=bid_micros)
        return _Waiting(WaitingReason.PRICE_ABOVE_CAP, detail=detail)
    if not uow.fleet.active_count(at_most=1):
        return _Waiting(WaitingReason.NO_VEHICLES)
    if job.level is VerificationLevel.NONE or not job.attempt_count:
        return _NOT_WAITING
    count = waiting_for_another_class(uow, job.job_id, program_sha256=job.program_sha256)
    if count:
        return _Waiting(WaitingReason.WAITING_FOR_ANOTHER_CLASS, count)
    owner_ids = uow.fleet.active_owners(at_most=OWNERS_COUNTED_MAX)
    if len(owner_ids) == OWNERS_COUNTED_MAX:
        return _NOT_WAITING
    count = uow.tasks.waiting_for_others(job.job_id, owner_ids=owner_ids)
    return _Waiting(WaitingReason.WAITING_FOR_ANOTHER_OWNER, count) if count else _NOT_WAITING

"""What a job and its tasks may look like: sizes, counts, names, money. Checks only."""

import hashlib
import json

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import (
    ATTEMPTS_PER_TASK_MAX,
    BLOB_BYTES_MAX,
    INLINE_TENSOR_BYTES_MAX,
    NAME_CHARACTERS_MAX,
    TASKS_PER_JOB_MAX,
    TASKS_PER_REQUEST_MAX,
)
from pool_protocol.money import require_amount
from pool_server.app.work_commands import AddTasks, CreateJob
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.jobs import JobState, PriceMode, PriceTerms, TensorRef
from pool_server.core.pricing.bid_path import BidPath
from pool_server.core.verification import LEVELS, VerificationLevel
from pool_server.ports.work import JobRow

#: A client's idempotency key.
KEY_CHARACTERS_MAX = 128


def input_sha256(inputs: TensorRef) -> bytes:
    """Return the hash that says whether two tasks have the same inputs: of the bytes, wherever they are."""
    if inputs.inline is not None:
        return hashlib.sha256(inputs.inline).digest()
    if inputs.blob_sha256 is not None:
        return bytes.fromhex(inputs.blob_sha256)
    return hashlib.sha256(b"").digest()


def _invalid(detail: str, field: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, detail, context={"field": field})


def check_terms(command: CreateJob, policy: WorkPolicy, *, now_us: int) -> None:
    """Check a new job's terms.

    Raises:
        PoolError: INVALID_ARGUMENT with the field; TENSORS_TOO_LARGE.
    """
    if not 1 <= len(command.idempotency_key) <= KEY_CHARACTERS_MAX:
        raise _invalid(f"an idempotency key has 1 to {KEY_CHARACTERS_MAX} characters", "idempotency_key")
    if len(command.name) > NAME_CHARACTERS_MAX or not command.name.isprintable():
        raise _invalid(f"a job's name has at most {NAME_CHARACTERS_MAX} printable characters", "name")
    if command.program.work_uwu_per_task < 1:
        raise _invalid("a task's work is at least one micro-WU", "work_uwu_per_task")
    if (command.program.kind == "step") != (command.steps_per_task > 0):
        raise _invalid("step programs need steps per task, map programs have none", "steps_per_task")
    if command.level is VerificationLevel.NONE and not policy.allow_level_none:
        raise _invalid("this pool verifies every job: choose another level", "level")
    if not 0 <= command.attempts_may_fail <= ATTEMPTS_PER_TASK_MAX:
        raise _invalid(f"attempts_max is 0 to {ATTEMPTS_PER_TASK_MAX}", "attempts_max")
    if command.deadline_us and command.deadline_us <= now_us:
        raise _invalid("the deadline has passed", "deadline_us")
    require_amount(command.budget_micros, what="budget_micros")
    require_amount(command.price_micros_per_wu, what="price_micros_per_wu")
    if command.price_mode is PriceMode.DONATE and (command.budget_micros or command.price_micros_per_wu):
        raise _invalid("donated work has no price and no budget", "budget_micros")
    if command.price_start_micros_per_wu:
        _check_start(command)
    _check_ref(command.constants, "constants")


def _check_start(command: CreateJob) -> None:
    field = "price_start_micros_per_wu"
    if command.price_mode is not PriceMode.SPOT:
        raise _invalid(
            "only a spot job has a start price: a quote's price stands, donated work has none", field
        )
    if not command.deadline_us:
        raise _invalid("a start price needs a deadline towards which the bid rises", field)
    if command.price_start_micros_per_wu < 0:
        raise _invalid("a start price is not negative", field)
    BidPath(
        start_micros_per_wu=command.price_start_micros_per_wu,
        cap_micros_per_wu=command.price_micros_per_wu,
        deadline_us=command.deadline_us,
    )


def price_terms(command: CreateJob) -> PriceTerms:
    """Return the terms by which a new job bids."""
    return PriceTerms(
        mode=command.price_mode,
        price_micros_per_wu=command.price_micros_per_wu,
        start_micros_per_wu=command.price_start_micros_per_wu,
        deadline_us=command.deadline_us,
        tasks_max=command.quoted_task_count,
    )


def check_price(command: CreateJob, *, posted_micros: int) -> None:
    """Check that a job that does not want to wait for a lower price does not have to.

    Raises:
        PoolError: PRICE_ABOVE_CAP with both numbers.
    """
    if command.price_mode is not PriceMode.SPOT or not command.refuses_price_above_cap:
        return
    if posted_micros > command.price_micros_per_wu:
        raise PoolError(
            ErrorCode.PRICE_ABOVE_CAP,
            f"the price is {posted_micros} micros per WU, above the job's cap of "
            f"{command.price_micros_per_wu}",
            context={
                "price_micros_per_wu": str(posted_micros),
                "price_cap_micros_per_wu": str(command.price_micros_per_wu),
            },
        )


def check_batch(command: AddTasks, job: JobRow) -> None:
    """Check a batch's form: count, sizes, and that it leaves no gap.

    Raises:
        PoolError: INVALID_ARGUMENT, TENSORS_TOO_LARGE.
    """
    if not 1 <= len(command.tasks) <= TASKS_PER_REQUEST_MAX:
        raise _invalid(f"a batch has 1 to {TASKS_PER_REQUEST_MAX} tasks", "tasks")
    for task in command.tasks:
        _check_ref(task.inputs, "inputs")
    if not 0 <= command.first_index <= job.task_count:
        raise _invalid(
            f"job {job.job_id} has {job.task_count} tasks: a batch cannot begin at {command.first_index}",
            "first_index",
        )


def check_room(job: JobRow, fresh_count: int, *, now_us: int) -> None:
    """Check that a job takes so many new tasks: open, in time, within its bound and its budget.

    Raises:
        PoolError: JOB_CLOSED, DEADLINE_EXCEEDED, INVALID_ARGUMENT, BUDGET_EXCEEDED.
    """
    if job.state is not JobState.OPEN:
        raise PoolError(
            ErrorCode.JOB_CLOSED, f"job {job.job_id} is {job.state.value}", context={"state": job.state.value}
        )
    if job.deadline_us and job.deadline_us <= now_us:
        raise PoolError(ErrorCode.DEADLINE_EXCEEDED, f"the deadline of job {job.job_id} has passed")
    task_count = job.task_count + fresh_count
    if task_count > TASKS_PER_JOB_MAX:
        raise _invalid(f"a job has at most {TASKS_PER_JOB_MAX} tasks", "tasks")
    if job.terms.tasks_max and task_count > job.terms.tasks_max:
        raise PoolError(
            ErrorCode.BUDGET_EXCEEDED,
            f"the quote of job {job.job_id} was for {job.terms.tasks_max} tasks, not {task_count}",
            context={"field": "tasks", "tasks_quoted": str(job.terms.tasks_max)},
        )
    cost_micros = job.terms.cost_micros_max(job.work_uwu_per_task, quorum=LEVELS[job.level].quorum)
    if cost_micros * task_count > job.budget_micros:
        raise PoolError(
            ErrorCode.BUDGET_EXCEEDED,
            f"{task_count} tasks can cost {cost_micros * task_count} micros, "
            f"the budget is {job.budget_micros}",
            context={
                "cost_micros": str(cost_micros * task_count),
                "budget_micros": str(job.budget_micros),
                "tasks_within_budget": str(job.budget_micros // cost_micros),
            },
        )


def _check_ref(ref: TensorRef, field: str) -> None:
    if ref.inline is not None and ref.blob_sha256 is not None:
        raise _invalid(f"{field} are both inline and a blob", field)
    if ref.inline is not None and len(ref.inline) != ref.size_bytes:
        raise _invalid(f"{field} have {len(ref.inline)} bytes and claim {ref.size_bytes}", field)
    limit = INLINE_TENSOR_BYTES_MAX if ref.inline is not None else BLOB_BYTES_MAX
    if not 0 <= ref.size_bytes <= limit:
        raise PoolError(
            ErrorCode.TENSORS_TOO_LARGE,
            f"{field} have {ref.size_bytes} bytes, allowed are {limit}",
            context={"limit": str(limit)},
        )


def request_sha256(command: CreateJob) -> bytes:
    """Hash all that a job is, so that a key cannot stand for two requests."""
    program = command.program
    comparator = command.comparator
    parts: list[object] = [
        command.name,
        program.program_sha256,
        program.work_uwu_per_task,
        input_sha256(command.constants).hex(),
        command.price_mode.value,
        command.price_micros_per_wu,
        command.budget_micros,
        command.level.value,
        comparator.kind.value,
        repr(comparator.rtol),
        repr(comparator.atol),
        command.steps_per_task,
        command.deadline_us,
        command.attempts_may_fail,
    ]
    if comparator.ulps or comparator.outputs:
        # Jobs without these keep the hash that they were stored with.
        parts.append(comparator.ulps)
        parts.extend(
            (name, rule.kind.value, repr(rule.rtol), repr(rule.atol), rule.ulps)
            for name, rule in sorted(comparator.outputs.items())
        )
    if command.certificate_sha256:
        parts.append(command.certificate_sha256)
    if command.price_start_micros_per_wu:
        parts.append(["price_start", command.price_start_micros_per_wu])
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()

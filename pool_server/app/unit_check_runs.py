"""Units of claims that the pool runs again, each from the claim's own state: what to run, and what it means.

`check_order` says what to run and `measure` compares, outside of every transaction; `take_check` judges. A
program that fails from a claimed state, and a referee that fails three times, leave the unit unsettled: that
blames nobody, and no claim stands by it.
"""

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.tensors import decode
from pool_server.app.dispute_gate import CLASS_PROBLEM, MOOT
from pool_server.app.quarantine import settle_board
from pool_server.app.refereeing import REFEREE_TRIES_MAX
from pool_server.app.task_board import TaskBoard, read_tensors
from pool_server.app.unit_checks import held_state
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.jobs import AttemptState
from pool_server.core.verification.unit_check import UnitCheckState, finding_of, unit_fit
from pool_server.ports.disputes import UnitOrder, UnitRun
from pool_server.ports.unit_checks import CheckOrder, Measured
from pool_server.ports.unit_of_work import UnitOfWork

CHECKS_PER_SWEEP = 64


def checks_to_referee(uow: UnitOfWork) -> list[int]:
    """Return checks whose states are here, oldest first."""
    return uow.unit_checks.refereeing(limit=CHECKS_PER_SWEEP)


def check_order(uow: UnitOfWork, check_id: int) -> CheckOrder | None:
    """Return what the referee runs for a check; None when it does not wait for one."""
    row = uow.unit_checks.get(check_id)
    if row is None or row.state is not UnitCheckState.REFEREEING:
        return None
    job = uow.jobs.get(uow.tasks.get([row.task_id])[row.task_id].job_id)
    if job is None:
        raise InvariantError(f"unit check {check_id} is about a task of a job that is not there")
    unit = UnitOrder(
        program_sha256=job.program_sha256,
        constants=uow.jobs.constants(job.job_id),
        inputs=uow.disputes.task_inputs(row.task_id),
        start=held_state(uow, job, row.attempt_id, row.unit_index - 1) if row.unit_index else None,
        unit_index=row.unit_index,
        steps=min(job.unit_steps, job.steps_per_task - row.unit_index * job.unit_steps),
    )
    return CheckOrder(unit, held_state(uow, job, row.attempt_id, row.unit_index), job.comparator)


def measure(order: CheckOrder, run: UnitRun, blobs: BlobReader | None) -> Measured:
    """Compare the claim's state after the unit with the referee's; reads and decodes, in no transaction.

    Raises:
        PoolError: what the blob store and the decoder raise.
    """
    fit = unit_fit(order.comparator, read_tensors(order.claimed, blobs), decode(run.state))
    return Measured(run.state_digest, run.numeric_class, fit)


def take_check(
    uow: UnitOfWork,
    check_id: int,
    outcome: Measured | PoolError,
    *,
    policy: WorkPolicy,
    blobs: BlobReader | None,
    now_us: int,
) -> None:
    """Judge a unit of a claim by the referee's run of it, or by the referee's failure to run it."""
    row = uow.unit_checks.get(check_id)
    if row is None or row.state is not UnitCheckState.REFEREEING:
        return
    board = TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us)
    board.load(uow.attempts.get([row.attempt_id]).values())
    attempt = board.attempts[row.attempt_id]
    if attempt.state is not AttemptState.RETURNED:
        found = row._replace(state=UnitCheckState.UNSETTLED, reason=MOOT)
    elif isinstance(outcome, PoolError):
        found = row._replace(tries=row.tries + 1, reason=outcome.code.value)
        if outcome.code is ErrorCode.PROGRAM_FAILED or found.tries >= REFEREE_TRIES_MAX:
            found = found._replace(state=UnitCheckState.UNSETTLED)
    else:
        claimed = uow.disputes.queries([row.attempt_id])
        equal = any(
            query.unit_index == row.unit_index and query.digest == outcome.state_digest for query in claimed
        )
        state = finding_of(
            outcome.fit,
            equal=equal,
            same_bits=board.classes.alike(attempt, outcome.numeric_class),
        )
        found = row._replace(
            state=state,
            referee_digest=outcome.state_digest,
            referee_class=outcome.numeric_class,
            reason=CLASS_PROBLEM if state is UnitCheckState.UNSETTLED else "",
        )
    if found.state is not UnitCheckState.REFEREEING:
        found = found._replace(closed_at_us=now_us)
    board.unit_checks.write(row, found)
    board.resolve(attempt.task)
    settle_board(board)

"""Answers of vehicles for states that they committed to, and questions whose time is over.

An answer is checked in this order:

1. A question that is unknown, another vehicle's, closed or overdue: the answer is dropped without a word;
   the same answer may come again after a broken line.
2. No digest: the reason is noted and the question stays open until its time is over. Where the state was
   asked for and is forgotten for good, it is closed without blame: the other side may have it.
3. The digest must have its place under the root that the attempt signed, and a state must have that digest.
   Otherwise the attempt is wrong: nobody else could have signed for it.

A question that is not answered in time convicts (`WITHHELD`): who commits to states must be able to show
them. A state that cannot be computed while the car does not charge is said to be so, and convicts nobody.
Not decided here: what is asked next (`app.dispute_gate`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.blobs import require_held
from pool_server.app.dispute_gate import (
    MOOT,
    OPEN_DISPUTES,
    WITHHELD,
    WRONG_UNIT,
    convict,
    unit_digest,
)
from pool_server.app.prefix_claims import is_about_prefix, look_at_prefixes
from pool_server.app.quarantine import settle_board
from pool_server.app.task_board import BoardTask, TaskBoard, read_tensors
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.comparison import spec_mismatch
from pool_server.core.effects import UnitQuestion
from pool_server.core.jobs import NO_TENSORS, AttemptState, TensorRef
from pool_server.core.verification.dispute import Claim, DisputeState, checked_digest
from pool_server.ports.disputes import DisputeRow, UnitQueryRow
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobRow

#: Answers in one message, and questions in one push.
UNIT_ANSWERS_MAX = 64
QUERIES_PER_SWEEP = 256
#: The vehicle cannot give this state any more, charging or not.
STATE_FORGOTTEN = "STATE_FORGOTTEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitAnswerReport:
    """What a vehicle answers."""

    query_id: int
    digest: bytes
    inclusion_path: tuple[bytes, ...]
    state: TensorRef
    reason: str


class CheckedAnswer(NamedTuple):
    """An answer that was looked at outside of the transaction."""

    query: UnitQueryRow
    digest: bytes
    """Empty when none was given or it does not stand up."""
    state: TensorRef
    reason: str
    """Why there is no answer."""
    fault: str
    """What proves the attempt wrong; empty where nothing does."""


def open_questions(uow: UnitOfWork, *, vehicle_id: str, now_us: int) -> tuple[UnitQuestion, ...]:
    """Return what a vehicle is asked now: for a stream that begins."""
    rows = uow.disputes.open_of_vehicle(vehicle_id, now_us=now_us, limit=UNIT_ANSWERS_MAX)
    return tuple(
        UnitQuestion(
            query_id=row.query_id,
            attempt_id=row.attempt_id,
            unit_index=row.unit_index,
            want_state=row.want_state,
            expires_at_us=row.expires_at_us,
        )
        for row in rows
    )


def check_answers(
    uow: UnitOfWork,
    answers: Sequence[UnitAnswerReport],
    *,
    vehicle_id: str,
    blobs: BlobReader | None,
    now_us: int,
) -> list[CheckedAnswer]:
    """Check answers against what was signed; a query, decoding and hashing need no transaction.

    Raises:
        PoolError: INVALID_ARGUMENT for too many answers; BLOB_MISSING for a state that was not uploaded.
    """
    if len(answers) > UNIT_ANSWERS_MAX:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"more than {UNIT_ANSWERS_MAX} answers")
    queries = uow.disputes.queries_by_id([answer.query_id for answer in answers])
    checked = []
    for answer in answers:
        query = queries.get(answer.query_id)
        if query is not None and query.vehicle_id == vehicle_id and _is_open(query, now_us):
            checked.append(_check(uow, query, answer, blobs))
    return checked


def _is_open(query: UnitQueryRow, now_us: int) -> bool:
    return query.state == "asked" and now_us < query.expires_at_us


def _check(
    uow: UnitOfWork, query: UnitQueryRow, answer: UnitAnswerReport, blobs: BlobReader | None
) -> CheckedAnswer:
    if not answer.digest:
        return CheckedAnswer(query, b"", NO_TENSORS, answer.reason or "NO_ANSWER", "")
    commitment = uow.disputes.commitments([query.attempt_id])[query.attempt_id]
    claim = Claim(attempt_id=query.attempt_id, unit_root=commitment.unit_root, final_digest=b"")
    try:
        digest = checked_digest(
            answer.digest,
            claim=claim,
            unit_index=query.unit_index,
            unit_count=commitment.unit_count,
            inclusion_path=answer.inclusion_path,
        )
    except PoolError as error:
        return CheckedAnswer(query, b"", NO_TENSORS, "", error.detail)
    if not query.want_state:
        return CheckedAnswer(query, digest, NO_TENSORS, "", "")
    if answer.state == NO_TENSORS:
        return CheckedAnswer(query, b"", NO_TENSORS, answer.reason or "NO_ANSWER", "")
    if answer.state.blob_sha256 is not None:
        require_held(uow, [answer.state.blob_sha256], holder=query.vehicle_id)
    fault = _state_fault(_job_of(uow, query), query, digest, answer.state, blobs)
    return CheckedAnswer(query, b"" if fault else digest, NO_TENSORS if fault else answer.state, "", fault)


def _job_of(uow: UnitOfWork, query: UnitQueryRow) -> JobRow | None:
    task = uow.tasks.get([query.task_id]).get(query.task_id)
    return None if task is None else uow.jobs.get(task.job_id)


def _state_fault(
    job: JobRow | None, query: UnitQueryRow, digest: bytes, state: TensorRef, blobs: BlobReader | None
) -> str:
    """Say why a state is not the one committed to; empty when it is."""
    if job is None:
        return "its job is not there"
    try:
        tensors = read_tensors(state, blobs)
    except PoolError as error:
        if error.code in {ErrorCode.BLOB_MISSING, ErrorCode.BLOB_DIGEST_MISMATCH}:
            raise  # the pool's own disk, not the vehicle's fault
        return f"{error.code}: {error.detail}"
    mismatch = spec_mismatch(tensors, job.outputs)
    if mismatch is not None:
        return mismatch
    actual = unit_digest(tensors, program_sha256=job.program_sha256, unit_index=query.unit_index)
    return "" if actual == digest else "the digest is not that of the state"


def take_answers(
    uow: UnitOfWork,
    answers: Sequence[CheckedAnswer],
    *,
    policy: WorkPolicy,
    blobs: BlobReader | None,
    now_us: int,
) -> None:
    """Record answers, convict where one proves a lie, and let the disputes go on."""
    desk = _Desk(TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us))
    current = uow.disputes.queries_by_id([answer.query.query_id for answer in answers])
    for answer in answers:
        query = current.get(answer.query.query_id)
        if query is not None and _is_open(query, now_us):
            desk.take(query, answer)
    desk.finish()


def expire_questions(
    uow: UnitOfWork, *, policy: WorkPolicy, now_us: int, blobs: BlobReader | None = None
) -> int:
    """Close questions whose time is over; silence convicts. Returns how many."""
    overdue = uow.disputes.overdue(now_us=now_us, limit=QUERIES_PER_SWEEP)
    if overdue:
        desk = _Desk(TaskBoard(uow, policy=policy, blobs=blobs, now_us=now_us))
        for query in overdue:
            desk.expire(query)
        desk.finish()
    return len(overdue)


class _Desk:
    """Closes questions on one board."""

    def __init__(self, board: TaskBoard) -> None:
        self._board = board
        self._uow = board.uow
        self._prefix_tasks: dict[int, None] = {}

    def take(self, query: UnitQueryRow, answer: CheckedAnswer) -> None:
        """Record one answer to an open question."""
        now_us = self._board.now_us
        task, dispute = self._dispute_of(query)
        if dispute is None and is_about_prefix(self._uow, query):
            self._take_of_prefix(query, answer)
        elif dispute is None:
            self._close(query._replace(state="answered", reason=MOOT, answered_at_us=now_us))
        elif answer.fault:
            self._close(query._replace(state="answered", reason=WRONG_UNIT, answered_at_us=now_us))
            convict(
                self._board,
                task,
                dispute,
                [query.attempt_id],
                reason=WRONG_UNIT,
                unit_index=query.unit_index,
            )
        elif answer.digest:
            self._close(
                query._replace(
                    state="answered", digest=answer.digest, tensors=answer.state, answered_at_us=now_us
                )
            )
        elif query.want_state and answer.reason == STATE_FORGOTTEN:
            self._close(query._replace(state="answered", reason=STATE_FORGOTTEN, answered_at_us=now_us))
        else:
            self._close(query._replace(reason=answer.reason))

    def expire(self, query: UnitQueryRow) -> None:
        """Close a question that was not answered in time."""
        now_us = self._board.now_us
        task, dispute = self._dispute_of(query)
        if dispute is None and is_about_prefix(self._uow, query):
            self._prefix_tasks[query.task_id] = None
            self._close(query._replace(state="withheld", answered_at_us=now_us))
        elif dispute is None or dispute.state is DisputeState.REFEREEING or self._is_one_sided(dispute):
            self._close(query._replace(state="answered", reason=MOOT, answered_at_us=now_us))
        elif query.want_state and query.reason:
            # It said that it may not compute now: its digest stands, and the state may come from the other.
            self._close(query._replace(state="answered", answered_at_us=now_us))
        else:
            self._close(query._replace(state="withheld", answered_at_us=now_us))
            convict(
                self._board,
                task,
                dispute,
                [query.attempt_id],
                reason=WITHHELD,
                unit_index=query.unit_index,
            )

    def finish(self) -> None:
        """Judge the tasks again, and write."""
        for task in list(self._board.tasks.values()):
            self._board.resolve(task)
        board = self._board
        settle_board(board)
        look_at_prefixes(
            self._uow, self._prefix_tasks, policy=board.policy, blobs=board.blobs, now_us=board.now_us
        )

    def _take_of_prefix(self, query: UnitQueryRow, answer: CheckedAnswer) -> None:
        """Record what a claimant or a witness of a prefix shows; what it means is decided elsewhere."""
        self._prefix_tasks[query.task_id] = None
        closed = query._replace(state="answered", digest=answer.digest, answered_at_us=self._board.now_us)
        if answer.fault:
            self._close(closed._replace(reason=WRONG_UNIT))
        elif answer.digest or answer.reason == STATE_FORGOTTEN:
            self._close(closed._replace(reason=answer.reason))
        else:
            self._close(query._replace(reason=answer.reason))

    def _close(self, query: UnitQueryRow) -> None:
        self._uow.disputes.close_query(query)

    def _is_one_sided(self, dispute: DisputeRow) -> bool:
        """Say whether a side was taken out for another reason: then silence convicts nobody."""
        sides = (dispute.first_attempt_id, dispute.second_attempt_id)
        return any(self._board.attempts[side].state is not AttemptState.RETURNED for side in sides)

    def _dispute_of(self, query: UnitQueryRow) -> tuple[BoardTask, DisputeRow | None]:
        """Return the task and the open dispute for which a question was asked, if it still matters."""
        board = self._board
        board.load(self._uow.attempts.get([query.attempt_id]).values())
        attempt = board.attempts[query.attempt_id]
        if attempt.state is not AttemptState.RETURNED:
            return attempt.task, None
        for dispute in self._uow.disputes.of_task(query.task_id):
            sides = {dispute.first_attempt_id, dispute.second_attempt_id}
            if dispute.state in OPEN_DISPUTES and query.attempt_id in sides:
                return attempt.task, dispute
        return attempt.task, None

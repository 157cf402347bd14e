"""Answers the pool's questions about states that this vehicle has committed to.

A digest is shown with its place under the signed root, from the journal, whatever the car does. A state is
computed again from the task's inputs, as work like any other: only while the car may compute, and killed like
any other when it may not. Then the answer says so, and the pool asks again on the next line. While others are
asked for, the last state is kept, and a later one of the same attempt is computed from there. A state that
does not come out as it was committed to is not sent.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from car_agent.journal.commitments import KeptCommitment
from car_agent.journal.store import Journal
from car_agent.journal.thread import JournalThread
from car_agent.runner.work import AttemptOutcome, Outcome
from car_agent.session.care import Caretaker
from car_agent.session.leases import kept_lease
from car_agent.session.outbox import put_blob
from car_agent.session.supplies import Supplies, shortened
from car_agent.session.wire import SessionListener
from pool_protocol import digests, limits
from pool_protocol.errors import PoolError
from pool_protocol.v1 import common_pb2
from pool_protocol.v1.fleet_service_pb2 import UnitAnswer, UnitQuery

if TYPE_CHECKING:
    from pool_protocol.v1.fleet_service_pb2_grpc import FleetServiceAsyncStub

#: What it is not kept for any more, or does not come out the same: nobody needs to ask again.
STATE_FORGOTTEN: Final = "STATE_FORGOTTEN"
NOT_CHARGING: Final = "NOT_CHARGING"
#: Leases of this kind exist in this process only: they hold a state to be computed again.
_LEASE_PREFIX: Final = "question_"
_ANSWERS_PER_MESSAGE: Final = 64
_MESSAGE_BYTES_MAX: Final = 4 * limits.MIB
#: A larger state is not kept for the next question: the supervisor is a small process.
_KEPT_BYTES_MAX: Final = 16 * limits.MIB
#: States that wait to be computed; a pool that asks for more is answered when these are done.
_WAITING_MAX: Final = 64

_log = logging.getLogger(__name__)


class _Reached(NamedTuple):
    """A state that was computed again, from which the next one is."""

    attempt_id: int
    units: int
    """After how many units it is the state."""
    state: bytes
    """safetensors."""


class QuestionDesk:
    """The pool's open questions to this vehicle."""

    def __init__(
        self,
        *,
        journal: JournalThread,
        supplies: Supplies,
        listener: SessionListener,
        on_answer: Callable[[], None],
        on_done: Callable[[str], None],
    ) -> None:
        """Answer; `on_answer` when one waits to be sent, `on_done` when a state's computation has ended."""
        self._journal = journal
        self._supplies = supplies
        self._listener = listener
        self._on_answer = on_answer
        self._on_done = on_done
        self._answers: list[UnitAnswer] = []
        self._states: asyncio.Queue[tuple[UnitQuery, KeptCommitment]] = asyncio.Queue(_WAITING_MAX)
        self._computing: dict[str, asyncio.Future[AttemptOutcome | None]] = {}
        self._reached: _Reached | None = None

    # --- in and out ----------------------------------------------------------------------------

    @property
    def has_answers(self) -> bool:
        """Whether answers wait to be sent."""
        return bool(self._answers)

    def take_answers(self) -> list[UnitAnswer]:
        """Return answers for one message."""
        taken: list[UnitAnswer] = []
        size = 0
        while self._answers and len(taken) < _ANSWERS_PER_MESSAGE and size < _MESSAGE_BYTES_MAX:
            taken.append(self._answers.pop(0))
            size += taken[-1].ByteSize()
        return taken

    def reset(self) -> None:
        """The line is new: the pool asks again whatever is open."""
        self._answers.clear()
        while not self._states.empty():
            self._states.get_nowait()

    async def ask(self, queries: Iterable[UnitQuery]) -> None:
        """Take questions; digests are answered before this returns."""
        for query in queries:
            kept = await self._journal.do(partial(Journal.commitment, attempt_id=query.attempt_id))
            if kept is None or query.unit_index >= len(kept.unit_digests):
                self._answer(UnitAnswer(query_id=query.query_id, reason=STATE_FORGOTTEN))
            elif not query.want_state:
                self._answer(_shown(query, kept))
            else:
                with contextlib.suppress(asyncio.QueueFull):
                    self._states.put_nowait((query, kept))

    def _answer(self, answer: UnitAnswer) -> None:
        self._answers.append(answer)
        self._on_answer()

    # --- states --------------------------------------------------------------------------------

    async def run(self, stub: "FleetServiceAsyncStub", caretaker: Caretaker) -> None:
        """Compute the states that are asked for, one after another, while a connection lasts."""
        while True:
            query, kept = await self._states.get()
            try:
                answer = await self._state_answer(query, kept, stub, caretaker)
            except PoolError as error:
                if error.retryable:
                    raise  # the line broke; the pool asks again
                _log.warning("a state is lost", extra={"code": error.code.value, "cause": error.detail[:200]})
                answer = UnitAnswer(query_id=query.query_id, reason=STATE_FORGOTTEN)
            if self._states.empty():
                self._reached = None
            self._answer(answer)

    async def _state_answer(
        self, query: UnitQuery, kept: KeptCommitment, stub: "FleetServiceAsyncStub", caretaker: Caretaker
    ) -> UnitAnswer:
        if not self._listener.needs_stream():
            return UnitAnswer(query_id=query.query_id, reason=NOT_CHARGING)
        outcome = await self._compute(query, kept, stub, caretaker)
        if outcome is None:
            return UnitAnswer(query_id=query.query_id, reason=NOT_CHARGING)
        if (
            outcome.outcome is not Outcome.COMPLETED
            or outcome.unit_digests[-1] != kept.unit_digests[query.unit_index]
        ):
            self._reached = None
            return UnitAnswer(query_id=query.query_id, reason=STATE_FORGOTTEN)
        if len(outcome.outputs) <= _KEPT_BYTES_MAX:
            self._reached = _Reached(query.attempt_id, query.unit_index + 1, outcome.outputs)
        answer = _shown(query, kept)
        answer.state.CopyFrom(await _bundle(outcome.outputs, stub))
        return answer

    async def _compute(
        self, query: UnitQuery, kept: KeptCommitment, stub: "FleetServiceAsyncStub", caretaker: Caretaker
    ) -> AttemptOutcome | None:
        """Run the attempt again up to a unit; None when the car may not compute."""
        lease = kept_lease(kept.lease_envelope)
        others = frozenset(attempt.attempt_id for attempt in lease.attempts) - {query.attempt_id}
        work = await self._supplies.fetch(lease, stub, root=caretaker.identity.root, without=others)
        lease_id = f"{_LEASE_PREFIX}{query.query_id}"
        reached = self._reached
        if reached is None or reached.attempt_id != query.attempt_id or reached.units > query.unit_index:
            reached = _Reached(query.attempt_id, 0, b"")
        work = shortened(
            work,
            lease_id=lease_id,
            units=query.unit_index + 1,
            expires_at_us=query.expires_at_us,
            first_unit=reached.units,
            start=reached.state,
        )
        done: asyncio.Future[AttemptOutcome | None] = asyncio.get_running_loop().create_future()
        self._computing[lease_id] = done
        self._listener.lease_taken(lease_id)
        self._listener.lease_supplied(work)
        return await done

    def take(self, outcome: AttemptOutcome) -> bool:
        """Take the outcome of a state's computation; return False when it is of ordinary work."""
        if not outcome.lease_id.startswith(_LEASE_PREFIX):
            return False
        self._end(outcome.lease_id, outcome)
        self._on_done(outcome.lease_id)
        return True

    def abandon(self, lease_ids: Iterable[str]) -> None:
        """The car may not compute any more: what was being computed is not."""
        for lease_id in lease_ids:
            self._end(lease_id, None)

    def _end(self, lease_id: str, outcome: AttemptOutcome | None) -> None:
        done = self._computing.pop(lease_id, None)
        if done is not None and not done.done():
            done.set_result(outcome)


def _shown(query: UnitQuery, kept: KeptCommitment) -> UnitAnswer:
    return UnitAnswer(
        query_id=query.query_id,
        digest=kept.unit_digests[query.unit_index],
        inclusion_path=digests.inclusion_proof(kept.unit_digests, query.unit_index),
    )


async def _bundle(state: bytes, stub: "FleetServiceAsyncStub") -> common_pb2.TensorBundle:
    if len(state) <= limits.INLINE_TENSOR_BYTES_MAX:
        return common_pb2.TensorBundle(inline=state, size_bytes=len(state))
    blob_sha256 = digests.sha256_hex(state)
    await put_blob(stub, blob_sha256, state)
    return common_pb2.TensorBundle(blob_sha256=blob_sha256, size_bytes=len(state))

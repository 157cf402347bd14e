"""Watches the pool's log of receipts: new heads must continue the old one, new receipts must be in it.

After every connection and whenever the pool says that more attempts were verified, the keeper asks for the
newest signed head, has it proved that the log only grew, and fetches this vehicle's new receipts with their
places in it. What does not hold is told loudly, in a plain sentence, and kept as evidence with both signed
heads; the head that was trusted stays trusted. Nothing here stops the work: whether to go on with such a pool
is the owner's decision.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from google.protobuf.message import Message

from car_agent.journal.identity import Identity
from car_agent.journal.receipt_book import BookPosition, Evidence, ReceiptBook
from pool_protocol import log_follow
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.log_audit import KeptReceipt, audit
from pool_protocol.roots import Role
from pool_protocol.transparency import TreeHead, open_tree_head
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import log_service_pb2 as pb

if TYPE_CHECKING:
    from pool_protocol.v1.log_service_pb2_grpc import LogServiceAsyncStub

_CALL_TIMEOUT_S: Final = 20.0
_PAGE: Final = 500
#: Pages of one look; the next look goes on from there.
_PAGES_MAX: Final = 20
#: A pool that has verified nothing new is still asked for its head so often.
_IDLE_US: Final = 3_600_000_000
#: After it has: so often, until a head was signed since, or this long.
_SOON_US: Final = 30_000_000
_SETTLED_US: Final = 600_000_000
#: Own receipts that are looked up in a log that was rewritten, to say what was done to them.
_SAMPLE: Final = 200

_log = logging.getLogger(__name__)

_Call = Callable[[str, Message], Awaitable[Any]]
_Tell = Callable[[str, str], None]


class LogKeeper:
    """Watches one pool's log for one vehicle."""

    def __init__(self, path: Path, *, clock: Clock, on_event: _Tell) -> None:
        """Keep what is seen in the receipt book at `path`; `on_event` tells the owner."""
        self._path = path
        self._clock = clock
        self._on_event = on_event
        self._looked_at_us = 0
        self._seen_attempts = -1
        self._changed_at_us = 0
        self._head_at_us = 0
        self._told: set[str] = set()

    async def look_when_due(
        self, stub: "LogServiceAsyncStub", identity: Identity, *, verified_attempts: int
    ) -> None:
        """Look at once, then every half minute while a head over what was verified is awaited, else hourly.

        Raises:
            PoolError: as `look`.
        """
        now_us = self._clock.now_us()
        if verified_attempts != self._seen_attempts:
            self._seen_attempts, self._changed_at_us = verified_attempts, now_us
        is_awaited = self._head_at_us < self._changed_at_us and now_us < self._changed_at_us + _SETTLED_US
        wait_us = _SOON_US if is_awaited else _IDLE_US
        if self._looked_at_us and 0 <= now_us - self._looked_at_us < wait_us:
            return
        head = await self.look(stub, identity)
        self._looked_at_us = now_us
        self._head_at_us = 0 if head is None else head.timestamp_us

    async def look(self, stub: "LogServiceAsyncStub", identity: Identity) -> TreeHead | None:
        """Ask for the newest head, check it, and take up the vehicle's receipts under it.

        Returns:
            The head; None where there is none, or it does not hold.

        Raises:
            PoolError: the code of a call that failed and may succeed later; KEY_UNKNOWN when a head is
                signed with a key that is not in our root: ask for newer roots, then look again.
        """

        async def call(method: str, request: Message) -> Any:
            try:
                return await getattr(stub, method)(request, timeout=_CALL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error

        try:
            async with self._opened(identity) as look:
                return await look.follow_and_fetch(call)
        except PoolError as error:
            if error.retryable or error.code is ErrorCode.KEY_UNKNOWN:
                raise
            await self.refused(error, identity)
        return None

    async def refused(self, error: PoolError, identity: Identity) -> None:
        """Tell that the pool has no log any more, or that what it sends proves nothing."""
        with contextlib.suppress(PoolError):  # of the book itself: that is what is told then
            async with self._opened(identity) as look:
                if error.code is ErrorCode.UNIMPLEMENTED and not look.position.last_head:
                    return  # an older pool
                if error.code.value.startswith("LOG_"):
                    await look.keep(error, trusted=look.position.last_head, offered=b"")
                    return
        sentence = f"The pool's log cannot be checked: {error.public} ({error.detail})"
        if sentence not in self._told:
            self._told.add(sentence)
            self._on_event(error.code.value, sentence)
            _log.warning("the pool's log cannot be checked", extra={"code": error.code.value})

    @asynccontextmanager
    async def _opened(self, identity: Identity) -> "AsyncIterator[_Look]":
        book = await asyncio.to_thread(ReceiptBook, self._path)
        try:
            yield _Look(
                book=book,
                identity=identity,
                position=await asyncio.to_thread(book.position, identity.pool_id),
                clock=self._clock,
                tell=self._on_event,
            )
        finally:
            book.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One look, with the book open."""

    book: ReceiptBook
    identity: Identity
    position: BookPosition
    clock: Clock
    tell: _Tell

    async def follow_and_fetch(self, call: _Call) -> TreeHead | None:
        """Check the head, then take up the receipts under it; return it if it holds."""
        head = await self._follow(call)
        if head is not None:
            await self._fetch(call, head)
        return head

    # --- the head ------------------------------------------------------------------------------

    async def _follow(self, call: _Call) -> TreeHead | None:
        """Return the newest head after keeping it; None when there is none, or it contradicts."""
        position = self.position
        trusted = self._open(position.last_head) if position.last_head else None
        exchange = log_follow.follow_head(
            trusted,
            keys=self.identity.root.keys_for(Role.RECEIPT),
            pool_id=self.identity.pool_id,
            now_us=self.clock.now_us(),
        )
        try:
            followed = await log_follow.run_async(exchange, call)
        except log_follow.LogConflictError as conflict:
            await self._accuse(call, conflict)
            return None
        if followed is None:
            return None
        head, path = followed.head, followed.path
        if trusted is not None and head.tree_size == trusted.tree_size:
            return trusted
        if position.last_used_head != position.last_head:
            # The last head goes: the new one is to follow on the newest that receipts are proved under.
            path = await self._path_from(position.last_used_head, head, call)
        await asyncio.to_thread(
            self.book.trust,
            self.identity.pool_id,
            tree_size=head.tree_size,
            envelope=head.envelope,
            path=path,
        )
        return head

    async def _path_from(self, envelope: bytes, head: TreeHead, call: _Call) -> tuple[bytes, ...]:
        if not envelope:
            return ()
        exchange = log_follow.continue_from(self._open(envelope), head)
        return (await log_follow.run_async(exchange, call)).path

    def _open(self, envelope: bytes) -> TreeHead:
        return open_tree_head(
            common_pb2.Envelope.FromString(envelope),
            keys=self.identity.root.keys_for(Role.RECEIPT),
            now_us=self.clock.now_us(),
            pool_id=self.identity.pool_id,
        )

    # --- the receipts --------------------------------------------------------------------------

    async def _fetch(self, call: _Call, head: TreeHead) -> None:
        first = self.position.next_log_index
        for _ in range(_PAGES_MAX):
            exchange = log_follow.logged_receipts(head, from_log_index=first, limit=_PAGE)
            kept, has_more = await log_follow.run_async(exchange, call)
            if not kept:
                return
            await self._examine(kept)
            placed = [(pb.LogProof.FromString(one.proof).log_index, one) for one in kept]
            await asyncio.to_thread(self.book.add, self.identity.pool_id, placed)
            first = placed[-1][0] + 1
            if not has_more:
                return

    async def _examine(self, kept: list[KeptReceipt]) -> None:
        """Check new receipts together with the last one before them; what is wrong is told and kept."""
        pool_id = self.identity.pool_id
        report = await asyncio.to_thread(
            lambda: audit(
                [*self.book.receipts(pool_id, last=1), *kept],
                self.book.heads(pool_id),
                keys=self.identity.root.keys_for(Role.RECEIPT),
                pool_id=pool_id,
                now_us=self.clock.now_us(),
            )
        )
        newest = b"" if report.head is None else report.head.envelope
        for fault in report.faults:
            await self._keep(fault.code, f"{fault.what}: {fault.sentence}", trusted=b"", offered=newest)

    # --- what is wrong -------------------------------------------------------------------------

    async def _accuse(self, call: _Call, conflict: log_follow.LogConflictError) -> None:
        """Say what was done to the log: to one of our own receipts, if one is among what was rewritten."""
        fault: PoolError = conflict
        if conflict.code is ErrorCode.LOG_FORKED:
            kept = await asyncio.to_thread(self.book.receipts, self.identity.pool_id, last=_SAMPLE)
            # Which receipt it hit is good to know; that it happened is proved already.
            with contextlib.suppress(PoolError):
                exchange = log_follow.name_fault(kept, self._open(conflict.offered))
                named = await log_follow.run_async(exchange, call)
                fault = conflict if named is None else named
        await self.keep(fault, trusted=conflict.trusted, offered=conflict.offered)

    async def keep(self, fault: PoolError, *, trusted: bytes, offered: bytes) -> None:
        """Keep evidence and tell of it, unless the same was told before."""
        sentence = f"{fault.public} ({fault.detail})"
        await self._keep(fault.code.value, sentence, trusted=trusted, offered=offered)

    async def _keep(self, code: str, sentence: str, *, trusted: bytes, offered: bytes) -> None:
        evidence = Evidence(
            at_us=self.clock.now_us(), code=code, sentence=sentence, trusted=trusted, offered=offered
        )
        if await asyncio.to_thread(self.book.accuse, self.identity.pool_id, evidence):
            _log.error("the pool's log does not hold", extra={"code": code, "cause": sentence})
            self.tell(code, f"{sentence} The proof is kept: car-agent receipts evidence.")

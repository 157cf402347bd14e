"""Bundles on their way: which is due, which is in flight, and when one that failed is tried again."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import grpc.aio

from car_agent.journal.store import Journal, JournalledBundle
from car_agent.journal.thread import JournalThread
from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.v1 import fleet_service_pb2

if TYPE_CHECKING:
    from pool_protocol.v1.fleet_service_pb2_grpc import FleetServiceAsyncStub

#: Bundles sent and not yet acknowledged: the pool's transaction is not waited for between two of them.
_IN_FLIGHT_MAX: Final = 4
_RETRY_S: Final = 5.0
_UPLOAD_TIMEOUT_S: Final = 300.0
_NS_PER_S: Final = 1_000_000_000
#: Refusals that say nothing about the results: a fault of the pool, or of a clock. They are sent again.
_NOT_FINAL: Final = frozenset(
    {ErrorCode.INTERNAL, ErrorCode.UNAUTHENTICATED, ErrorCode.ENVELOPE_NOT_YET_VALID, ErrorCode.ROOT_EXPIRED}
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Posted:
    bundle: JournalledBundle
    in_flight: bool = False
    not_before_ns: int = 0


class Outbox:
    """The bundles of the journal that the pool has not acknowledged."""

    def __init__(self, journal: JournalThread) -> None:
        """Begin empty; `load` reads what the journal holds."""
        self._journal = journal
        self._posted: OrderedDict[int, _Posted] = OrderedDict()
        self._emptied = asyncio.Event()
        self._emptied.set()

    async def load(self) -> None:
        """Take up what an earlier run of the agent left."""
        for bundle in await self._journal.do(Journal.bundles):
            self.add(bundle)

    def add(self, bundle: JournalledBundle) -> None:
        """Take a bundle that is in the journal."""
        self._posted.setdefault(bundle.bundle_id, _Posted(bundle))
        self._emptied.clear()

    def __len__(self) -> int:
        return len(self._posted)

    @property
    def attempts(self) -> int:
        """Results that are not acknowledged."""
        return sum(posted.bundle.attempts for posted in self._posted.values())

    def reset(self) -> None:
        """The line is new: nothing is in flight."""
        for posted in self._posted.values():
            posted.in_flight = False

    def next_due(self, now_ns: int) -> JournalledBundle | None:
        """Return the oldest bundle to be sent now, and count it as in flight."""
        if sum(1 for posted in self._posted.values() if posted.in_flight) >= _IN_FLIGHT_MAX:
            return None
        for posted in self._posted.values():
            if not posted.in_flight and posted.not_before_ns <= now_ns:
                posted.in_flight = True
                return posted.bundle
        return None

    def next_due_in_s(self, now_ns: int) -> float:
        """Return the time until a postponed bundle is due; long when there is none."""
        waits = [
            (posted.not_before_ns - now_ns) / _NS_PER_S
            for posted in self._posted.values()
            if not posted.in_flight and posted.not_before_ns > now_ns
        ]
        return min(waits, default=3_600.0)

    async def settle(self, bundle_id: int) -> None:
        """The pool has it, or will never take it."""
        await self._journal.do(partial(Journal.settle_bundle, bundle_id=bundle_id))
        self._posted.pop(bundle_id, None)
        if not self._posted:
            self._emptied.set()

    async def wait_empty(self) -> None:
        """Wait until the pool has acknowledged everything."""
        await self._emptied.wait()

    async def refused(self, bundle_id: int, error: PoolError, *, now_ns: int) -> bool:
        """Drop a bundle that will never be taken; return False when it will be tried again."""
        posted = self._posted.get(bundle_id)
        if posted is not None and (error.retryable or error.code in _NOT_FINAL):
            delay_s = max(_RETRY_S, (error.retry_after_ms or 0) / 1_000)
            posted.in_flight = False
            posted.not_before_ns = now_ns + int(delay_s * _NS_PER_S)
            return False
        _log.warning("results refused", extra={"code": error.code.value, "cause": error.detail[:200]})
        await self.settle(bundle_id)
        # Seen before means that the pool has them.
        return error.code is not ErrorCode.ENVELOPE_REPLAYED

    async def upload(self, bundle: JournalledBundle, stub: "FleetServiceAsyncStub") -> None:
        """Upload a bundle's large outputs that the pool does not hold yet.

        Raises:
            PoolError: the code of a failed call.
        """
        uploads = await self._journal.do(partial(Journal.uploads, bundle_id=bundle.bundle_id))
        for blob_sha256, content in uploads.items():
            await put_blob(stub, blob_sha256, content)
            await self._journal.do(partial(Journal.uploaded, bundle_id=bundle.bundle_id, sha256=blob_sha256))


async def put_blob(stub: "FleetServiceAsyncStub", blob_sha256: str, content: bytes) -> None:
    """Upload one blob; durable when this returns.

    Raises:
        PoolError: the code of a failed call.
    """
    try:
        await stub.PutBlob(_pieces(blob_sha256, content), timeout=_UPLOAD_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def _pieces(
    blob_sha256: str, content: bytes
) -> AsyncIterator[fleet_service_pb2.FleetServicePutBlobRequest]:
    for offset in range(0, max(1, len(content)), limits.BLOB_CHUNK_BYTES):
        yield fleet_service_pb2.FleetServicePutBlobRequest(
            blob_sha256=blob_sha256 if offset == 0 else "",
            chunk=content[offset : offset + limits.BLOB_CHUNK_BYTES],
        )

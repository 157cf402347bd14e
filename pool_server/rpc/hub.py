"""Wakes those who wait: vehicles on their exchange streams, buyers who watch jobs.

Effects of committed commands come in from the writer thread and are handed on in the event loop. Everything
pushed is advice: a push that is lost, or dropped because a vehicle reads too slowly, only delays what the
vehicle or buyer would find out by asking.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import assert_never

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb2
from pool_server.core.effects import (
    AttemptsCancelled,
    Effect,
    JobProgressed,
    RefereeWanted,
    UnitQuestion,
    UnitsAsked,
    VehicleQuarantined,
    WorkAvailable,
)
from pool_server.rpc.convert_units import unit_queries

_log = logging.getLogger(__name__)
#: Messages that may wait for a vehicle. Its own answers make it wait; pushes beyond this are dropped.
OUTBOX_MAX = 32
#: Idle vehicles that are told of new work are told to come over this long, so that they do not come at once.
HERD_SPREAD_MS_PER_VEHICLE = 2
HERD_SPREAD_MS_MAX = 5_000


class Outbox:
    """What waits to be sent to one vehicle, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[fleet_pb2.ExchangeResponse | None] = asyncio.Queue(OUTBOX_MAX)
        self._closed = asyncio.Event()
        self.waits_for_work = False
        """Its last answer was that there is no work."""

    async def put(self, response: fleet_pb2.ExchangeResponse) -> None:
        """Send an answer; waits while the vehicle does not read."""
        await self._queue.put(response)

    def push(self, response: fleet_pb2.ExchangeResponse) -> bool:
        """Send unasked, if there is room."""
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(response)
            return True
        return False

    def close(self) -> None:
        """End the stream, after what waits already where there is room to say so."""
        self._closed.set()
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(None)

    async def next(self) -> fleet_pb2.ExchangeResponse | None:
        """Return the next message; None at the end."""
        if self._closed.is_set() and self._queue.empty():
            return None
        return await self._queue.get()


class Hub:
    """The streams and watchers of this process. All methods but `dispatch_from_thread` belong to the loop."""

    def __init__(self, *, streams_max: int) -> None:
        self._streams_max = streams_max
        self._streams: dict[str, Outbox] = {}
        self._watchers: dict[int, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False
        self.referee_wanted = asyncio.Event()
        """Set when a dispute has come down to one unit."""

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop in which streams and watchers live."""
        self._loop = loop

    def dispatch_from_thread(self, effects: Sequence[Effect]) -> None:
        """Take a committed group's effects; the group commit calls this on its writer thread."""
        loop = self._loop
        if loop is not None:
            # The loop may be closing: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._dispatch, tuple(effects))

    @contextlib.contextmanager
    def stream(self, vehicle_id: str) -> Iterator[Outbox]:
        """Register a vehicle's stream. A vehicle has one: an older one, perhaps half dead, is ended.

        Raises:
            PoolError: DRAINING; UNAVAILABLE when too many streams are open.
        """
        if self.draining:
            raise PoolError(ErrorCode.DRAINING, "the server is shutting down", retry_after_ms=1_000)
        older = self._streams.get(vehicle_id)
        if older is None and len(self._streams) >= self._streams_max:
            raise PoolError(
                ErrorCode.UNAVAILABLE, f"{self._streams_max} streams are open", retry_after_ms=10_000
            )
        if older is not None:
            older.close()
        outbox = self._streams[vehicle_id] = Outbox()
        self._empty.clear()
        try:
            yield outbox
        finally:
            if self._streams.get(vehicle_id) is outbox:
                del self._streams[vehicle_id]
            if not self._streams:
                self._empty.set()

    def end_stream(self, vehicle_id: str) -> None:
        """End a vehicle's stream: it was retired."""
        outbox = self._streams.get(vehicle_id)
        if outbox is not None:
            outbox.close()

    @contextlib.contextmanager
    def watching(self, job_id: int) -> Iterator[asyncio.Event]:
        """Register a watcher of a job; the event is set whenever the job progressed."""
        woken = asyncio.Event()
        self._watchers[job_id].add(woken)
        try:
            yield woken
        finally:
            self._watchers[job_id].discard(woken)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    def drain(self, *, retry_after_ms: int) -> None:
        """Tell every vehicle to hand in what is done and come back later; wake every watcher."""
        self.draining = True
        for outbox in self._streams.values():
            outbox.push(fleet_pb2.ExchangeResponse(drain=fleet_pb2.Drain(retry_after_ms=retry_after_ms)))
        for events in self._watchers.values():
            for woken in events:
                woken.set()

    async def streams_ended_within(self, timeout_s: float) -> None:
        """Wait until no vehicle holds a stream, at most so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)

    def close_streams(self) -> None:
        """End every stream."""
        for outbox in self._streams.values():
            outbox.close()

    def _dispatch(self, effects: Sequence[Effect]) -> None:
        work_available = False
        asked: dict[str, list[UnitQuestion]] = defaultdict(list)
        for effect in effects:
            match effect:
                case JobProgressed(job_id=job_id):
                    for woken in self._watchers.get(job_id, ()):
                        woken.set()
                case WorkAvailable():
                    work_available = True
                case AttemptsCancelled():
                    self._cancel(effect)
                case UnitsAsked(vehicle_id=vehicle_id, questions=questions):
                    asked[vehicle_id] += questions
                case RefereeWanted():
                    self.referee_wanted.set()
                case VehicleQuarantined():
                    _log.warning(
                        "vehicle %s is in quarantine: %s",
                        effect.vehicle_id,
                        effect.reason,
                        extra={"action": "quarantined", "vehicle_id": effect.vehicle_id},
                    )
                case _:
                    assert_never(effect)
        for vehicle_id, together in asked.items():
            self.ask(vehicle_id, together)
        if work_available:
            self._offer_work()

    def _cancel(self, effect: AttemptsCancelled) -> None:
        outbox = self._streams.get(effect.vehicle_id)
        if outbox is not None:
            cancel = fleet_pb2.Cancel(attempt_ids=effect.attempt_ids, reason=effect.reason)
            outbox.push(fleet_pb2.ExchangeResponse(cancel=cancel))

    def ask(self, vehicle_id: str, questions: Sequence[UnitQuestion]) -> None:
        """Push questions about committed states; what is not heard is asked again on the next stream.

        Silence convicts, so a question is never dropped in silence: a stream without room for it is ended.
        """
        outbox = self._streams.get(vehicle_id)
        if outbox is not None and questions:
            asked = fleet_pb2.ExchangeResponse(unit_queries=unit_queries(questions))
            if not outbox.push(asked):
                outbox.close()

    def _offer_work(self) -> None:
        waiting = [outbox for outbox in self._streams.values() if outbox.waits_for_work]
        spread_ms = min(HERD_SPREAD_MS_MAX, HERD_SPREAD_MS_PER_VEHICLE * len(waiting))
        for place, outbox in enumerate(waiting):
            outbox.waits_for_work = False
            news = fleet_pb2.NoWork(
                reason="WORK_AVAILABLE",
                message="There is work now.",
                retry_after_ms=spread_ms * place // len(waiting),
            )
            outbox.push(fleet_pb2.ExchangeResponse(no_work=news))

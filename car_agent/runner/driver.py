"""Keeps one worker busy with the attempts of leases, and turns what it answers into outcomes.

The driver decides in which order frames go out, how far ahead of the worker they run, and when a worker took
too long. It checks every answer against the manifest before anyone signs it: the worker, who runs strangers'
programs, is not trusted. Whether it may live is decided by `car_agent.core.lifecycle`.
"""

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

from car_agent.runner.frames import FailureKind, Frame, FrameType
from car_agent.runner.judge import judge_outputs, probe_families, stopped_outcome, walked_units
from car_agent.runner.process import WorkerProcess, WorkerSettings
from car_agent.runner.warm_set import WarmSet
from car_agent.runner.work import AttemptOutcome, AttemptWork, LeaseWork, Outcome, ProbeDesk
from pool_protocol import limits
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError

#: Run frames that may be ahead of the worker: it never waits for a small task, and a kill loses little.
_AHEAD_ATTEMPTS: Final = 64
_AHEAD_BYTES: Final = 8 * limits.MIB
#: How long a worker may take from exec to ready. Importing JAX on a busy small computer took up to 20 s.
_START_DEADLINE_S: Final = 90.0
_LOAD_DEADLINE_S: Final = 180.0
_NS_PER_S: Final = 1_000_000_000
#: Workers that die before they are ready, one after another, before the leases are given up.
_START_FAILURES_MAX: Final = 3
_DETAIL_CHARACTERS_MAX: Final = 500

_log = logging.getLogger(__name__)


class DriverListener(Protocol):
    """Who hears what the driver's worker does. Called on the event loop; must not block."""

    def worker_ready(self, sandbox_missing: tuple[str, ...], jaxlib_version: str) -> None:
        """The worker takes programs."""
        ...

    def worker_exited(self, cause: str, *, crashed: bool) -> None:
        """No worker process is left."""
        ...

    def attempt_ended(self, outcome: AttemptOutcome) -> None:
        """An attempt has its outcome."""
        ...

    def progressed(self, attempt_id: int, share: float) -> None:
        """The running attempt has come this far, 0 to 1."""
        ...

    def went_idle(self) -> None:
        """Nothing is left to compute."""
        ...

    def probe_ended(self) -> None:
        """The worker answered the numeric probe."""
        ...


@dataclass(slots=True)
class _Queued:
    """An attempt that has no outcome yet."""

    work: AttemptWork
    lease: LeaseWork


@dataclass(slots=True)
class _Current:
    """One worker's life: what it was sent and holds."""

    process: WorkerProcess | None = None
    ready: bool = False
    programs: WarmSet = field(default_factory=WarmSet.for_programs)
    constants: WarmSet = field(default_factory=WarmSet.for_constants)
    sent: deque[_Queued] = field(default_factory=deque)
    sent_bytes: int = 0
    walked: list[bytes] = field(default_factory=list)  # digests of the running attempt's units
    loading: set[str] = field(default_factory=set)
    jaxlib_version: str = ""
    probing: bool = False
    watched_since_ns: int = 0
    crash_cause: str = ""


class WorkDriver:
    """Drives at most one worker."""

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        clock: Clock,
        listener: DriverListener,
        probes: ProbeDesk | None = None,
        attempt_deadline_s: float = 3_600.0,
    ) -> None:
        """Drive workers made with `settings`; an attempt may run for `attempt_deadline_s`."""
        self._settings = settings
        self._clock = clock
        self._listener = listener
        self._probes = probes
        self._attempt_deadline_s = attempt_deadline_s
        self._waiting: deque[_Queued] = deque()
        self._current: _Current | None = None
        self._starting: asyncio.Task[None] | None = None
        self.stopped: AttemptOutcome | None = None
        self._start_failures = 0

    # --- what the agent asks for ---------------------------------------------------------------

    def start(self) -> None:
        """Start a worker. Whether it came up is told to the listener."""
        current = _Current(watched_since_ns=self._clock.monotonic_ns())
        self._current = current
        self._starting = asyncio.create_task(self._start(current), name="start worker")

    def kill(self) -> None:
        """Kill the worker now and forget what was queued; `worker_exited` follows when nothing is left.

        What the attempt that ran has made of whole units is in `stopped` then: the pool may pay for it.
        """
        self._waiting.clear()
        self.stopped = None
        current = self._current
        if current is None:
            return
        broke_a_rule, current.crash_cause = bool(current.crash_cause), "killed"
        if current.process is not None:
            current.process.kill()
        if current.sent and not broke_a_rule:  # else nothing that it told counts
            run_time_us = (self._clock.monotonic_ns() - current.watched_since_ns) // 1_000
            self.stopped = stopped_outcome(current.sent[0].work, current.walked, run_time_us=run_time_us)
        current.sent.clear()

    def feed(self, lease: LeaseWork) -> None:
        """Queue a lease's attempts behind what is queued."""
        self._waiting.extend(_Queued(work, lease) for work in lease.attempts)
        self._pump()

    def drop(self, attempt_ids: frozenset[int]) -> bool:
        """Take attempts that have not begun from the queue; return whether the running one is among them.

        Attempts that are with the worker already run to their end, and their outcome is told.
        """
        self._waiting = deque(item for item in self._waiting if item.work.attempt_id not in attempt_ids)
        running = self.running_attempt
        return running is not None and running in attempt_ids

    def interrupt(self, attempt_ids: frozenset[int]) -> None:
        """End the worker if it still computes one of these attempts; a new one goes on with the others."""
        current = self._current
        if current is not None and self.running_attempt in attempt_ids:
            self._crash(current, "its task was cancelled")

    @property
    def lives(self) -> bool:
        """Whether a worker process may exist."""
        return self._current is not None

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        process = self._current.process if self._current is not None else None
        return None if process is None else process.pid

    @property
    def running_attempt(self) -> int | None:
        """The attempt that the worker computes now."""
        current = self._current
        return current.sent[0].work.attempt_id if current is not None and current.sent else None

    @property
    def running_program(self) -> str:
        """The program that the worker computes now, or an empty text."""
        current = self._current
        return current.sent[0].lease.program_sha256 if current is not None and current.sent else ""

    @property
    def warm_programs(self) -> tuple[str, ...]:
        """The programs that the worker holds compiled."""
        return self._current.programs.keys if self._current is not None else ()

    @property
    def queued(self) -> int:
        """Attempts without an outcome."""
        return len(self._waiting) + (len(self._current.sent) if self._current is not None else 0)

    # --- starting and ending -------------------------------------------------------------------

    async def _start(self, current: _Current) -> None:
        try:
            process = await WorkerProcess.start(
                self._settings,
                on_frame=lambda frame: self._on_frame(current, frame),
                on_exit=lambda _process, cause: self._on_exit(current, cause),
            )
        except PoolError as error:
            self._on_exit(current, error.detail)
            return
        current.process = process
        if current.crash_cause:  # killed while it was being started
            process.kill()

    def _on_exit(self, current: _Current, cause: str) -> None:
        killed = current.crash_cause == "killed"
        cause = current.crash_cause or cause
        if not current.ready and not killed:
            self._start_failures += 1
        if current.probing and self._probes is not None:
            self._probes.lost(killed=killed)
        self._current = None
        if killed:
            self._listener.worker_exited(cause, crashed=False)
            return
        _log.warning("worker lost", extra={"cause": cause})
        casualties = list(current.sent)
        if casualties:
            # The first one was running; the others did nothing wrong and go back to the head of the queue.
            self._waiting.extendleft(reversed(casualties[1:]))
            self._fail(casualties[0], Outcome.WORKER_FAILED, ErrorCode.WORKER_LOST, cause)
        if self._start_failures >= _START_FAILURES_MAX:
            self._give_up(cause)
        self._listener.worker_exited(cause, crashed=True)

    def _give_up(self, cause: str) -> None:
        self._start_failures = 0
        abandoned, self._waiting = self._waiting, deque()
        for item in abandoned:
            self._fail(item, Outcome.WORKER_FAILED, ErrorCode.WORKER_LOST, cause)

    def _crash(self, current: _Current, cause: str) -> None:
        """End a worker that broke a rule or a limit."""
        if not current.crash_cause:
            current.crash_cause = cause
        if current.process is not None:
            current.process.kill()

    # --- frames out ----------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send as much as may be ahead."""
        current = self._current
        if current is None or not current.ready or current.process is None or current.crash_cause:
            return
        while self._waiting and self._has_room(current, self._waiting[0]):
            item = self._waiting.popleft()
            if self._has_ended(item.lease):
                # Nobody waits for it any more; a worker that took it up would be killed at once.
                self._fail(
                    item, Outcome.ABANDONED, ErrorCode.LEASE_EXPIRED, "the lease ended before it began"
                )
                continue
            try:
                self._send(current, current.process, item)
            except PoolError as error:
                self._fail(item, Outcome.WORKER_FAILED, error.code, error.detail)
                continue
            if not current.sent:
                current.watched_since_ns = self._clock.monotonic_ns()
            current.sent.append(item)
            current.sent_bytes += len(item.work.inputs)
        if not self._waiting and not current.sent:
            self._listener.went_idle()

    def _has_ended(self, lease: LeaseWork) -> bool:
        return self._clock.now_us() > lease.expires_at_us + limits.CLOCK_SKEW_US_MAX

    def _has_room(self, current: _Current, item: _Queued) -> bool:
        if not current.sent:
            return True
        full = len(current.sent) >= _AHEAD_ATTEMPTS
        return not full and current.sent_bytes + len(item.work.inputs) <= _AHEAD_BYTES

    def _send(self, current: _Current, process: WorkerProcess, item: _Queued) -> None:
        lease, work = item.lease, item.work
        if lease.program_sha256 in current.programs:
            current.programs.touch(lease.program_sha256)
        else:
            process.send(
                FrameType.LOAD,
                {"program_sha256": lease.program_sha256, "manifest": lease.manifest_json.decode("ascii")},
                [lease.artifact],
            )
            current.programs.add(lease.program_sha256)
            current.loading.add(lease.program_sha256)
        key = lease.constants_sha256
        if key and key in current.constants:
            current.constants.touch(key)
        elif key:
            process.send(FrameType.CONSTANTS, {"key": key}, [lease.constants])
            current.constants.add(key, len(lease.constants))
        process.send(
            FrameType.RUN,
            {
                "attempt_id": work.attempt_id,
                "program_sha256": lease.program_sha256,
                "constants_key": key or None,
                "steps": work.steps,
                "unit_steps": work.unit_steps,
                "first_unit": work.first_unit,
            },
            [work.inputs, work.start] if work.start else [work.inputs],
        )

    # --- frames in -----------------------------------------------------------------------------

    async def _on_frame(self, current: _Current, frame: Frame) -> None:
        if current.crash_cause:
            return
        try:
            await self._take(current, frame)
        except PoolError as error:
            self._crash(current, error.detail)

    async def _take(self, current: _Current, frame: Frame) -> None:
        match frame.type:
            case FrameType.READY:
                current.ready = True
                self._start_failures = 0
                self._begin_probe(current, frame.text("jaxlib"))
                self._listener.worker_ready(tuple(frame.texts("sandbox_missing")), frame.text("jaxlib"))
                self._pump()
            case FrameType.PROBED:
                self._take_probe(current, frame)
            case FrameType.LOADED:
                current.loading.discard(frame.text("program_sha256"))
                current.watched_since_ns = self._clock.monotonic_ns()
            case FrameType.PROGRESS:
                head = self._head(current, frame)
                current.walked += walked_units(frame, work=head.work, before=len(current.walked))
                total = frame.number("units_total")
                share = frame.number("units_done") / total if total else 0.0
                self._listener.progressed(head.work.attempt_id, min(1.0, share))
            case FrameType.DONE:
                head = self._head(current, frame)
                outcome = await judge_outputs(frame, work=head.work, manifest=head.lease.manifest)
                if current.crash_cause:  # killed while the outputs were being judged
                    return
                self._pop(current)
                self._listener.attempt_ended(outcome)
                self._pump()
            case FrameType.FAILED:
                head = self._head(current, frame)
                self._pop(current)
                self._take_failure(current, head, frame)
                self._pump()
            case _:
                raise PoolError(ErrorCode.WORKER_LOST, f"a worker does not send {frame.type}")

    def _begin_probe(self, current: _Current, jaxlib_version: str) -> None:
        """Let a worker that is up run the numeric probe first, where what it found last does not hold."""
        current.jaxlib_version = jaxlib_version
        if self._probes is not None and current.process is not None and self._probes.wants(jaxlib_version):
            current.probing = True
            current.process.send(FrameType.PROBE, {})

    def _take_probe(self, current: _Current, frame: Frame) -> None:
        if self._probes is None or not current.probing:
            raise PoolError(ErrorCode.WORKER_LOST, "the worker answered a probe that nobody asked for")
        current.probing = False
        current.watched_since_ns = self._clock.monotonic_ns()
        self._probes.took(current.jaxlib_version, probe_families(frame))
        self._listener.probe_ended()

    def _head(self, current: _Current, frame: Frame) -> _Queued:
        """Return the attempt that a frame is about: the worker answers in order, and only what it was asked.

        Raises:
            PoolError: WORKER_LOST when it answers something else.
        """
        attempt_id = frame.number("attempt_id")
        if not current.sent or current.sent[0].work.attempt_id != attempt_id:
            raise PoolError(ErrorCode.WORKER_LOST, f"the worker answered attempt {attempt_id} out of turn")
        return current.sent[0]

    def _pop(self, current: _Current) -> None:
        item = current.sent.popleft()
        current.sent_bytes -= len(item.work.inputs)
        current.walked.clear()
        current.watched_since_ns = self._clock.monotonic_ns()

    def _take_failure(self, current: _Current, item: _Queued, frame: Frame) -> None:
        try:
            kind = FailureKind(frame.text("kind"))
        except ValueError:
            kind = FailureKind.WORKER
        program_fault = kind in {FailureKind.PROGRAM, FailureKind.INPUT}
        outcome = Outcome.PROGRAM_FAILED if program_fault else Outcome.WORKER_FAILED
        code = ErrorCode.PROGRAM_FAILED if program_fault else ErrorCode.WORKER_LOST
        self._fail(item, outcome, code, f"{kind}: {frame.text('detail')}")
        if item.lease.program_sha256 in current.loading:
            # It never loaded; the worker does not hold it, so the next attempt sends it again.
            current.loading.discard(item.lease.program_sha256)
            current.programs.discard(item.lease.program_sha256)

    def _fail(self, item: _Queued, outcome: Outcome, code: ErrorCode, detail: str) -> None:
        self._listener.attempt_ended(
            AttemptOutcome(
                lease_id=item.work.lease_id,
                attempt_id=item.work.attempt_id,
                outcome=outcome,
                reason=code.value,
                detail=detail[:_DETAIL_CHARACTERS_MAX],
            )
        )

    # --- deadlines -----------------------------------------------------------------------------

    def check_deadlines(self) -> None:
        """Kill a worker that takes too long. Called about once a second.

        A program in an endless loop hears nothing, so the deadline is kept here and not in the worker.
        """
        current = self._current
        if current is None or current.crash_cause:
            return
        waited_s = (self._clock.monotonic_ns() - current.watched_since_ns) / _NS_PER_S
        if not current.ready:
            if waited_s > _START_DEADLINE_S:
                self._crash(current, f"the worker was not ready after {waited_s:.0f} s")
        elif current.sent and current.sent[0].lease.program_sha256 in current.loading:
            if waited_s > _LOAD_DEADLINE_S:
                self._crash(current, f"loading took more than {_LOAD_DEADLINE_S:.0f} s")
        elif current.sent:
            self._check_running(current, waited_s)

    def _check_running(self, current: _Current, waited_s: float) -> None:
        lease = current.sent[0].lease
        if waited_s > self._attempt_deadline_s:
            self._crash(current, f"the attempt took more than {self._attempt_deadline_s:.0f} s")
        elif self._has_ended(lease):
            self._crash(current, "the lease ended before the attempt did")

    async def close(self) -> None:
        """Kill the worker and wait until nothing is left of it."""
        self.kill()
        if self._starting is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._starting
        process = self._current.process if self._current is not None else None
        if process is not None:
            process.kill()
            await process.wait_closed()

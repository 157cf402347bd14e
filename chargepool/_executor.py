"""A real `concurrent.futures.Executor` whose workers are cars.

Each program that is submitted gets a lane: one job, a thread that sends what was submitted since its last
message, and a thread that resolves futures as tasks are decided. A future is pending while its task waits
here, and running once its task is in the pool: from then on it cannot be cancelled alone, as with threads and
processes.
"""

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as BaseExecutor
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from chargepool._comparators import Comparator
from chargepool._errors import BudgetExceeded, ChargepoolError, InputRefused, JobCancelled
from chargepool._opening import JobOptions, Opener
from chargepool._outcomes import OutcomeReader, cancelled
from chargepool._program import Program
from chargepool._session import Session
from chargepool._values import Result
from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import market_service_pb2

if TYPE_CHECKING:
    from chargepool._client import Client

_BATCH_SIZE = 256


class TaskFuture(Future[Any]):
    """A future of one task; beside the value it keeps what the task cost and the proof of it."""

    def __init__(self) -> None:
        super().__init__()
        self.outcome: Result | None = None
        """The task's result with cost and receipts, once it is decided."""


class Executor(BaseExecutor):
    """Runs functions on the pool's cars. Made by `Client.executor`; shut it down, or use it with `with`."""

    def __init__(
        self,
        client: "Client",
        session: Session,
        opener: Opener,
        *,
        options: JobOptions,
        tasks: int,
        constants: Any,
        comparator: Comparator,
        window: int,
    ) -> None:
        """Start without any job; the first submission of a function opens one."""
        if tasks < 1:
            raise InputRefused(f"An executor reserves money for at least one task, not {tasks}.")
        self._client = client
        self._session = session
        self._opener = opener
        self._options = options
        self._tasks = tasks
        self._constants = constants
        self._comparator = comparator
        self._window = window
        self._lanes: dict[object, _Lane] = {}
        self._spread: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._lock = threading.Lock()
        self._is_shut_down = False
        atexit.register(_shut_down_at_exit, weakref.ref(self))

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The ids of the jobs that were opened so far."""
        with self._lock:
            return tuple(lane.job_id for lane in self._lanes.values())

    def submit(self, fn: Callable[..., Any] | Program, /, *args: Any, **kwargs: Any) -> TaskFuture:
        """Send one task and return its future, whose result is what the function returns, as NumPy arrays.

        Args:
            fn: A JAX function, or a `Program` (which takes exactly one argument).
            *args: Its arguments.
            **kwargs: Its keyword arguments, arrays too.

        Raises:
            RuntimeError: The executor was shut down.
            ProgramRefused: The function cannot be a program. Nothing was spent.
            InputRefused: The arguments do not fit. Nothing was spent.
            BudgetExceeded: Money was reserved for fewer tasks.
        """
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        program, key, item = self._prepared(fn, args, kwargs)
        arrays = program.encode(item)
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            lane = self._lanes.get(key)
            if lane is None:
                lane = _Lane(
                    self._session,
                    self._opener,
                    program,
                    options=self._options,
                    tasks_max=self._tasks,
                    window=self._window,
                )
                self._lanes[key] = lane
        return lane.submit(arrays)

    # `wait` is positional in the base class too.
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Take no more submissions; what is in the pool is computed, then the jobs end and free their money.

        Args:
            wait: Return only when every future is done.
            cancel_futures: Cancel what is still waiting here. What is in the pool is not stopped: see
            `cancel`.
        """
        with self._lock:
            self._is_shut_down = True
            lanes = list(self._lanes.values())
        for lane in lanes:
            lane.end(cancel_pending=cancel_futures)
        if wait:
            for lane in lanes:
                lane.join()

    def cancel(self) -> None:
        """Stop everything now: waiting futures are cancelled, those in the pool fail with `JobCancelled`."""
        self.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            lanes = list(self._lanes.values())
        for lane in lanes:
            lane.cancel()
        for lane in lanes:
            lane.join()

    def cancel_noting(self, error: BaseException) -> None:
        """Cancel because of `error`; what goes wrong with that becomes a note on it."""
        try:
            self.cancel()
        except ChargepoolError as failure:
            jobs = ", ".join(self.job_ids)
            error.add_note(f"{jobs} could not be cancelled ({failure}). Run: chargepool job cancel ID")

    def _prepared(
        self, fn: Callable[..., Any] | Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Program, object, Any]:
        """Return the program, the key of its lane and the task's item."""
        if isinstance(fn, Program):
            if len(args) != 1 or kwargs:
                raise InputRefused(f"A program takes one task's input, not {len(args) + len(kwargs)}.")
            return fn, (fn.program_id, id(fn)), args[0]
        item: Any
        if len(args) == 1 and not kwargs:
            function, item = fn, args[0]
        else:
            function, item = self._taking_one(fn), {"args": tuple(args), "kwargs": dict(kwargs)}
        program = self._client.program(function, item, constants=self._constants, comparator=self._comparator)
        return program, program.program_id, item

    def _taking_one(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return `fn` as a function of one container; the same one each time, so that it is traced once."""
        with self._lock:
            known = self._spread.get(fn)
            if known is None:
                known = _spreading(fn, has_constants=self._constants is not None)
                self._spread[fn] = known
            return known


def _spreading(fn: Callable[..., Any], *, has_constants: bool) -> Callable[..., Any]:
    def with_constants(constants: Any, item: Mapping[str, Any]) -> Any:
        return fn(constants, *item["args"], **item["kwargs"])

    def alone(item: Mapping[str, Any]) -> Any:
        return fn(*item["args"], **item["kwargs"])

    chosen: Callable[..., Any] = with_constants if has_constants else alone
    chosen.__name__ = getattr(fn, "__name__", type(fn).__name__)
    return chosen


class _Lane:
    """One program's job with its two threads."""

    def __init__(
        self,
        session: Session,
        opener: Opener,
        program: Program,
        *,
        options: JobOptions,
        tasks_max: int,
        window: int,
    ) -> None:
        """Open the job and start."""
        self._session = session
        self._tasks_max = tasks_max
        self._window = window
        self._job, _ = opener.open(program, options, tasks=tasks_max)
        self._changed = threading.Condition()
        self._pending: deque[tuple[TaskFuture, Mapping[str, NDArray[Any]]]] = deque()
        self._running: dict[int, TaskFuture] = {}
        self._sent = 0
        self._is_ending = False
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=target, name=f"chargepool-{self._job.id}-{what}", daemon=True)
            for what, target in (("send", self._send_all), ("watch", self._watch))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def job_id(self) -> str:
        return self._job.id

    def submit(self, arrays: Mapping[str, NDArray[Any]]) -> TaskFuture:
        future = TaskFuture()
        with self._changed:
            if self._failure is not None:
                raise self._failure
            if self._is_ending:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._sent + len(self._pending) >= self._tasks_max:
                raise BudgetExceeded(
                    f"This executor reserved money for {self._tasks_max} tasks of a program; all are taken.",
                    next_step="Make the executor with a larger tasks=N.",
                    context={"job_id": self.job_id},
                )
            self._pending.append((future, arrays))
            self._changed.notify_all()
        return future

    def end(self, *, cancel_pending: bool) -> None:
        with self._changed:
            self._is_ending = True
            waiting = list(self._pending) if cancel_pending else []
            self._changed.notify_all()
        for future, _ in waiting:
            future.cancel()  # outside the lock: it calls the callbacks of whoever waits for it

    def cancel(self) -> None:
        self._job.cancel()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _send_all(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                first_index, inputs = batch
                if inputs:
                    self._session.add_tasks(self.job_id, first_index, inputs)
            self._session.close_job(self.job_id)
        except Exception as error:  # noqa: BLE001 - every future must hear of it, whatever it is
            self._fail(error)

    def _next_batch(self) -> tuple[int, list[Mapping[str, NDArray[Any]]]] | None:
        """Wait for something to send; None when the lane ends. Futures in the batch are running then."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    (self._pending and len(self._running) < self._window)
                    or (self._is_ending and not self._pending)
                    or self._failure is not None
                )
            )
            if self._failure is not None or (self._is_ending and not self._pending):
                return None
            first_index, inputs = self._sent, list[Mapping[str, NDArray[Any]]]()
            while self._pending and len(inputs) < _BATCH_SIZE and len(self._running) < self._window:
                future, arrays = self._pending.popleft()
                if future.set_running_or_notify_cancel():
                    self._running[first_index + len(inputs)] = future
                    inputs.append(arrays)
            self._sent += len(inputs)
            return first_index, inputs

    def _watch(self) -> None:
        try:
            for news in self._session.watch(self.job_id):
                for task in news.decided:
                    with self._changed:
                        future = self._running.pop(task.index, None)
                        self._changed.notify_all()
                    if future is not None:
                        _resolve(future, self._job.reader, task)
            self._fail(None)
        except Exception as error:  # noqa: BLE001 - every future must hear of it, whatever it is
            self._fail(error)

    def _fail(self, error: Exception | None) -> None:
        """Resolve what can no longer be decided: with `error`, or because the job is over."""
        with self._changed:
            if self._failure is None:
                self._failure = error or JobCancelled(
                    f"{self.job_id} is over.", code=ErrorCode.JOB_CLOSED, context={"job_id": self.job_id}
                )
            running, waiting = dict(self._running), list(self._pending)
            self._running.clear()
            self._pending.clear()
            self._changed.notify_all()
        for index, future in running.items():
            future.set_exception(error or cancelled(self.job_id, index))
        for future, _ in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(self._failure)


def _resolve(future: TaskFuture, reader: OutcomeReader, task: market_service_pb2.TaskResult) -> None:
    try:
        future.outcome = reader.read(task)
    except ChargepoolError as error:
        future.set_exception(error)
        return
    if future.outcome.error is not None:
        future.set_exception(future.outcome.error)
    else:
        future.set_result(future.outcome.value)


def _shut_down_at_exit(reference: "weakref.ref[Executor]") -> None:
    executor = reference()
    if executor is not None:
        executor.shutdown(wait=True)

"""Group commit: commands that wait together share one transaction on the one writer thread.

Per group: BEGIN IMMEDIATE, or on PostgreSQL the lock of all writers; each command in its own savepoint;
COMMIT; then, and only then, the futures are resolved; then the effects of the commands that succeeded are
handed on, in order. What can go wrong, and what then happens:

* a command raises `PoolError`: its savepoint is rolled back, its refusals are written, its future gets the
  error;
* a command raises anything else: its savepoint is rolled back, its future gets INTERNAL, the others go on;
* BEGIN or COMMIT fails: nothing of the group is kept, every future gets UNAVAILABLE, the next group is tried;
* a command raises `InvariantError`: nothing of the group is kept, the writer stops for good, `on_fatal` is
  told.

The queue is bounded: when it is full, a command is answered UNAVAILABLE at once instead of waiting without
end.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.core.effects import Effect
from pool_server.ports.unit_of_work import Refusal
from pool_server.store.driver import Driver
from pool_server.store.engine import read_only
from pool_server.store.postgresql import is_broken

#: Commands that may wait. At 2,000 commands/s this is two seconds: beyond, a caller had better come back.
QUEUE_MAX = 4_096
#: Commands in one transaction: bounds how long the first one waits for the last one's work.
GROUP_MAX = 256
#: Threads, hence connections, for reads.
READERS = 2
#: Advised delay before another try when the writer is busy or the disk refused.
RETRY_AFTER_MS = 200

_log = logging.getLogger(__name__)
T = TypeVar("T")


class CommandUnit(Protocol):
    """What the writer needs of a unit of work."""

    @property
    def effects(self) -> list[Effect]:
        """Effects of the command."""
        ...

    @property
    def refusals(self) -> list[Refusal]:
        """What stays remembered when the command is refused."""
        ...

    def write_refusals(self) -> None:
        """Write it."""
        ...


U = TypeVar("U", bound=CommandUnit)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterMetrics:
    """Counts since the start."""

    groups: int
    """Transactions committed."""
    commands: int
    """Commands in them, refused ones included."""
    refused: int
    """Commands that ended in an error of their own."""
    failed_groups: int
    """Transactions that could not be begun or committed."""
    largest_group: int
    turned_away: int
    """Commands refused because the queue was full."""
    waiting: int
    """Commands in the queue now."""


@dataclass(slots=True)
class _Command(Generic[U]):
    run: Callable[[U], Any]
    future: "Future[Any]"
    error: BaseException | None = None
    value: Any = None


class GroupCommitWriter(Generic[U]):
    """The one door through which the database is written, and a small pool of readers beside it."""

    def __init__(
        self,
        engine: Engine,
        make_uow: Callable[[Connection], U],
        on_committed: Callable[[Sequence[Effect]], None],
        *,
        on_fatal: Callable[[InvariantError], None] | None = None,
        queue_max: int = QUEUE_MAX,
        group_max: int = GROUP_MAX,
        readers: int = READERS,
    ) -> None:
        """Make a writer; `start` starts its thread.

        Args:
            engine: From `open_engine`.
            make_uow: Makes a unit of work on a connection; called once per command.
            on_committed: Takes a committed group's effects, on the writer thread; must be quick.
            on_fatal: Told once, on the writer thread, when an invariant broke; the process should then end.
            queue_max: Commands that may wait.
            group_max: Commands in one transaction.
            readers: Read connections.
        """
        self._engine = engine
        self._make_uow = make_uow
        self._on_committed = on_committed
        self._on_fatal = on_fatal
        self._queue_max = queue_max
        self._group_max = group_max
        self._queue: deque[_Command[U]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._fatal: InvariantError | None = None
        self._thread = threading.Thread(target=self._serve, name="group-commit", daemon=True)
        self._readers = ThreadPoolExecutor(max_workers=readers, thread_name_prefix="store-reader")
        self._reader = threading.local()
        self._reader_connections: list[Connection] = []
        self._counts_lock = threading.Lock()
        self._groups = self._commands = self._refused = self._failed_groups = 0
        self._largest_group = self._turned_away = 0

    def start(self) -> None:
        """Start the writer thread."""
        self._thread.start()

    def submit(self, command: Callable[[U], T]) -> "Future[T]":
        """Queue a command; its future is resolved after its transaction is on disk.

        The future's exception is a `PoolError`: the command's own, UNAVAILABLE when the queue is full or the
        database failed, DRAINING after `stop`.
        """
        future: Future[T] = Future()
        with self._wake:
            refusal = self._refusal()
            if refusal is None:
                self._queue.append(_Command(run=command, future=future))
                self._wake.notify()
        if refusal is not None:
            future.set_exception(refusal)
        return future

    def read(self, query: Callable[[U], T]) -> "Future[T]":
        """Run a query on a read connection, on one snapshot of all that is committed when it starts."""
        if self._stopping:
            future: Future[T] = Future()
            future.set_exception(PoolError(ErrorCode.DRAINING, "the store is closed"))
            return future
        return self._readers.submit(self._run_query, query)

    def metrics(self) -> WriterMetrics:
        """Return the counts."""
        with self._counts_lock:
            return WriterMetrics(
                groups=self._groups,
                commands=self._commands,
                refused=self._refused,
                failed_groups=self._failed_groups,
                largest_group=self._largest_group,
                turned_away=self._turned_away,
                waiting=len(self._queue),
            )

    def stop(self, *, timeout_s: float | None = None) -> bool:
        """Take nothing new, finish what waits, close the connections. True when all was finished in time."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        finished = not self._thread.is_alive()
        if not finished:
            self._fail_waiting(PoolError(ErrorCode.DRAINING, "the store was closed before this command ran"))
        self._readers.shutdown(wait=True)
        for connection in self._reader_connections:
            connection.close()
        self._reader_connections.clear()
        return finished

    def _refusal(self) -> PoolError | None:
        if self._fatal is not None:
            return PoolError(ErrorCode.UNAVAILABLE, "the store stopped: an invariant is broken")
        if self._stopping:
            return PoolError(ErrorCode.DRAINING, "the store is closing")
        if len(self._queue) >= self._queue_max:
            with self._counts_lock:
                self._turned_away += 1
            return PoolError(
                ErrorCode.UNAVAILABLE,
                f"{self._queue_max} commands wait already",
                retry_after_ms=RETRY_AFTER_MS,
            )
        return None

    def _serve(self) -> None:
        while self._fatal is None and (group := self._next_group()) is not None:
            if group:
                self._commit_group(group)
        if self._fatal is not None:
            self._fail_waiting(PoolError(ErrorCode.UNAVAILABLE, "the store stopped: an invariant is broken"))
            if self._on_fatal is not None:
                self._on_fatal(self._fatal)

    def _next_group(self) -> list[_Command[U]] | None:
        """Wait for commands and take all that are there, up to the limit; None when stopped and empty."""
        with self._wake:
            while not self._queue and not self._stopping:
                self._wake.wait()
            if not self._queue:
                return None
            taken = [self._queue.popleft() for _ in range(min(len(self._queue), self._group_max))]
        return [command for command in taken if command.future.set_running_or_notify_cancel()]

    def _commit_group(self, group: list[_Command[U]]) -> None:
        effects: list[Effect] = []
        try:
            with self._engine.begin() as connection:
                for command in group:
                    effects.extend(self._run_in_savepoint(connection, command))
        except InvariantError as error:
            _log.critical("an invariant is broken; the store stops", exc_info=error)
            with self._wake:
                self._fatal = error
            self._fail_group(
                group, PoolError(ErrorCode.UNAVAILABLE, "the store stopped: an invariant is broken")
            )
            return
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
            _log.exception("a group of %d commands could not be committed", len(group))
            self._fail_group(group, _unavailable(error))
            return
        self._count(group)
        for command in group:
            if command.error is None:
                command.future.set_result(command.value)
            else:
                command.future.set_exception(command.error)
        self._hand_on(effects)

    def _run_in_savepoint(self, connection: Connection, command: _Command[U]) -> list[Effect]:
        driver = Driver(connection)
        driver.run("SAVEPOINT command")
        uow = self._make_uow(connection)
        try:
            command.value = command.run(uow)
        except (InvariantError, OperationalError):
            # The books or the disk: not this command's fault, and not one to go on with.
            raise
        except PoolError as error:
            command.error = error
        except Exception as error:  # noqa: BLE001 - one command's bug must not fail its neighbours
            _log.exception("a command failed in an unexpected way")
            internal = PoolError(ErrorCode.INTERNAL, f"unexpected {type(error).__name__}")
            internal.__cause__ = error
            command.error = internal
        if command.error is None:
            driver.run("RELEASE command")
            return uow.effects
        driver.run("ROLLBACK TO command")
        if uow.refusals:
            uow.write_refusals()
        driver.run("RELEASE command")
        return []

    def _count(self, group: list[_Command[U]]) -> None:
        with self._counts_lock:
            self._groups += 1
            self._commands += len(group)
            self._refused += sum(1 for command in group if command.error is not None)
            self._largest_group = max(self._largest_group, len(group))

    def _fail_group(self, group: list[_Command[U]], error: PoolError) -> None:
        with self._counts_lock:
            self._failed_groups += 1
        for command in group:
            command.future.set_exception(error)

    def _fail_waiting(self, error: PoolError) -> None:
        with self._wake:
            waiting = list(self._queue)
            self._queue.clear()
        for command in waiting:
            if command.future.set_running_or_notify_cancel():
                command.future.set_exception(error)

    def _hand_on(self, effects: list[Effect]) -> None:
        if not effects:
            return
        try:
            self._on_committed(effects)
        except Exception:  # noqa: BLE001 - see below
            # The commands are durable and answered; a listener's fault must not stop the books.
            _log.exception("the listener for effects failed")

    def _run_query(self, query: Callable[[U], T]) -> T:
        try:
            return self._try_query(query)
        except SQLAlchemyError as error:
            if getattr(self._reader, "connection", None) is not None:
                raise _unavailable(error) from error
        # The server ended the connection, perhaps long ago; a query changes nothing, so it is asked again.
        try:
            return self._try_query(query)
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    def _try_query(self, query: Callable[[U], T]) -> T:
        connection = self._reader_connection()
        transaction = connection.begin()
        try:
            return query(self._make_uow(connection))
        finally:
            if is_broken(connection):
                self._forget_reader(connection)
            else:
                transaction.rollback()

    def _forget_reader(self, connection: Connection) -> None:
        self._reader.connection = None
        with self._counts_lock:
            self._reader_connections.remove(connection)
        connection.invalidate()
        connection.close()

    def _reader_connection(self) -> Connection:
        connection: Connection | None = getattr(self._reader, "connection", None)
        if connection is None:
            connection = read_only(self._engine.connect())
            self._reader.connection = connection
            with self._counts_lock:
                self._reader_connections.append(connection)
        return connection


def _unavailable(error: Exception) -> PoolError:
    refusal = PoolError(
        ErrorCode.UNAVAILABLE,
        f"the database failed: {type(error).__name__}: {error}",
        retry_after_ms=RETRY_AFTER_MS,
    )
    refusal.__cause__ = error
    return refusal

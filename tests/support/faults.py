"""Breaks the store at its n-th statement: an error of the disk, or the end of the process.

Counted are the statements of the driver (of those that run once per row, each row), SQLAlchemy's own, and
the commit. Everything of the pool that speaks to the database goes through one of them.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from pool_server.store.driver import Answer, Driver


@dataclass
class Fault:
    """What happens, and when."""

    at: int
    """The statement before which it happens, from 1; 0 for never."""
    strike: Callable[[str], None]
    seen: int = 0
    """Statements so far."""

    def pass_(self, statement: str) -> None:
        """Let a statement through, or strike."""
        self.seen += 1
        if self.seen == self.at:
            self.strike(statement)


def disk_error(statement: str) -> None:
    """Fail as a disk does."""
    raise OperationalError(statement, None, OSError("disk I/O error"))


def sigkill(_statement: str) -> None:
    """End this process without a word."""
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def faulty(engine: Engine, fault: Fault) -> Iterator[Fault]:
    """Let everything that this process sends to a database pass by a fault."""
    run, load, stream = Driver.run, Driver.load, Driver.stream

    def counted_run(self: Driver, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        fault.pass_(statement)
        return run(self, statement, parameters)

    def counted_run_many(self: Driver, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        # One at a time, so that half of them may have been written.
        return sum(counted_run(self, statement, row).rowcount for row in rows)

    def counted_load(self: Driver, table: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
        fault.pass_(f"COPY {table}")
        load(self, table, columns, rows)

    def counted_stream(
        self: Driver, statement: str, parameters: Sequence[Any], *, size: int
    ) -> Iterator[Any]:
        fault.pass_(statement)
        return stream(self, statement, parameters, size=size)

    def before_execute(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        fault.pass_(statement)

    def before_commit(_connection: Any) -> None:
        fault.pass_("COMMIT")

    event.listen(engine, "before_cursor_execute", before_execute)
    event.listen(engine, "commit", before_commit)
    with (
        mock.patch.object(Driver, "run", counted_run),
        mock.patch.object(Driver, "run_many", counted_run_many),
        mock.patch.object(Driver, "load", counted_load),
        mock.patch.object(Driver, "stream", counted_stream),
    ):
        try:
            yield fault
        finally:
            event.remove(engine, "before_cursor_execute", before_execute)
            event.remove(engine, "commit", before_commit)

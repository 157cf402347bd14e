"""How coroutines reach the store: commands on its writer thread, queries on its readers, awaited."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from pool_protocol.clock import Clock
from pool_server.ports.unit_of_work import UnitOfWork

T = TypeVar("T")


class CommandWriter(Protocol):
    """What the group commit offers."""

    def submit(self, command: Callable[[UnitOfWork], T]) -> "Future[T]":
        """Queue a command; the future is resolved once it is durable."""
        ...

    def read(self, query: Callable[[UnitOfWork], T]) -> "Future[T]":
        """Run a query on a snapshot."""
        ...


def _take_note(answer: "asyncio.Future[T]") -> None:
    """Look at an answer, so that one whose caller has gone away is not reported as forgotten."""
    if not answer.cancelled():
        answer.exception()


class StoreAccess:
    """Awaits commands and queries, and tells the time that they are given."""

    def __init__(self, writer: CommandWriter, clock: Clock) -> None:
        self._writer = writer
        self.clock = clock
        # What reads whole tables takes turns, so that it never holds all of the store's readers at once:
        # every call needs one, if only to look up its token.
        self.long_read = asyncio.Lock()

    def now_us(self) -> int:
        """Return the wall time, microseconds since the epoch. Taken once per command."""
        return self.clock.now_us()

    async def write(self, command: Callable[[UnitOfWork], T]) -> T:
        """Run a command; its answer is durable.

        A caller that goes away does not stop a command that was queued: whether it was done is found out by
        repeating it, as after any lost reply.
        """
        answer = asyncio.wrap_future(self._writer.submit(command))
        answer.add_done_callback(_take_note)
        return await asyncio.shield(answer)

    async def read(self, query: Callable[[UnitOfWork], T]) -> T:
        """Run a query."""
        return await asyncio.wrap_future(self._writer.read(query))

"""The journal's own thread: a slow disk must never delay a stop, so nothing is written on the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from car_agent.journal.store import Journal

T = TypeVar("T")


class JournalThread:
    """Runs functions over the journal one after another, in the order in which they were asked for."""

    def __init__(self, journal: Journal) -> None:
        """Use `journal` from one thread only."""
        self._journal = journal
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    async def do(self, function: Callable[[Journal], T]) -> T:
        """Run a function over the journal and return what it returns; it is on disk then."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, self._journal)

    def close(self) -> None:
        """Let what was asked for finish, then close the journal."""
        self._executor.submit(self._journal.close)
        self._executor.shutdown(wait=True)

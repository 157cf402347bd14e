"""Counters and events: kept in the journal, mirrored in memory so that a status never waits for the disk."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from car_agent.journal.energy_days import EnergyUsed
from car_agent.journal.store import Journal
from car_agent.journal.thread import JournalThread
from pool_protocol.clock import Clock


class Books:
    """The mirror of the journal's counters, and the queue of events on their way into it."""

    def __init__(self, journal: JournalThread, clock: Clock) -> None:
        """Begin with zeros; `refresh` reads the journal."""
        self._journal = journal
        self._clock = clock
        self._events: asyncio.Queue[Callable[[Journal], object]] = asyncio.Queue()
        self.completed_total = 0
        self.abandoned_total = 0
        self.compute_today_us = 0
        self.compute_total_us = 0
        self.energy_today = EnergyUsed()

    def add_event(self, code: str, message: str, *, now_us: int) -> None:
        """Queue an event for the journal."""
        self._events.put_nowait(partial(Journal.add_event, code=code, message=message, now_us=now_us))

    def add_energy(self, used: EnergyUsed, *, now_us: int) -> None:
        """Queue energy that no attempt is reported with."""
        if used != EnergyUsed():
            self._events.put_nowait(partial(Journal.add_energy, used=used, now_us=now_us))

    def keep(self, key: str, value: Any) -> None:
        """Queue a small JSON value."""
        self._events.put_nowait(partial(Journal.put_meta, key=key, value=value))

    async def run(self) -> None:
        """Write events as they come."""
        while True:
            await self._journal.do(await self._events.get())

    async def flush(self) -> None:
        """Write the events that wait."""
        while not self._events.empty():
            await self._journal.do(self._events.get_nowait())

    async def refresh(self) -> None:
        """Read the counters."""
        now_us = self._clock.now_us()

        def read(journal: Journal) -> tuple[int, int, int, int, EnergyUsed]:
            return (
                journal.counter("completed_total"),
                journal.counter("abandoned_total"),
                journal.compute_today_us(now_us=now_us),
                journal.counter("compute_total_us"),
                journal.energy_today(now_us=now_us),
            )

        figures = await self._journal.do(read)
        self.completed_total, self.abandoned_total, self.compute_today_us, self.compute_total_us = figures[:4]
        self.energy_today = figures[4]

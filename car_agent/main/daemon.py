"""Runs one agent as a daemon: lock, journal, sources, control socket, signals, and an orderly end.

Side tasks are supervised: one that ends or fails ends the daemon, with the worker killed first. Whoever
starts the daemon (systemd) starts it again; what it knew is in the journal.
"""

import asyncio
import contextlib
import logging
import signal
import sqlite3
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from car_agent.control import ControlServer
from car_agent.core.forecast import EtaForecast
from car_agent.journal.consent import ConsentFile
from car_agent.journal.identity import Identity, load_identity
from car_agent.journal.lock import exclusive
from car_agent.journal.probe_file import ProbeFile
from car_agent.journal.settings import AgentSettings, PolicyFile
from car_agent.journal.state_directory import StateDirectory
from car_agent.journal.store import Journal, JournalledLease
from car_agent.journal.thread import JournalThread
from car_agent.main.agent import Agent
from car_agent.main.books import Books
from car_agent.main.economy import Economy, open_economy
from car_agent.main.numeric import NumericProbes
from car_agent.main.pool_link import PoolLink
from car_agent.main.switchboard import Switchboard
from car_agent.runner.process import DEFAULT_COMMAND, WorkerSettings
from car_agent.session.care import FIGURES_META
from car_agent.session.intake import attempt_ids_of
from car_agent.session.wire import PoolFigures
from car_agent.vehicle.source import SignalSource
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.system import IdSource

_PAIRING_POLL_S: Final = 1.0
#: After the worker is gone: how long to try to tell the pool what was given back.
_FAREWELL_S: Final = 2.0
_EVENTS_SHOWN: Final = 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """What a daemon is made of."""

    directory: StateDirectory
    settings: AgentSettings
    source: SignalSource
    clock: Clock
    ids: IdSource

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            PoolError: when it cannot start: another agent runs here, a file is wrong, the socket's path is
                too long.
        """
        self.directory.create()
        socket_path = self.directory.socket_path()
        with exclusive(self.directory.lock):
            policy = PolicyFile(self.directory.policy).read()
            identity = load_identity(self.directory)
            journal = Journal(self.directory.journal, now_us=self.clock.now_us())
            thread = JournalThread(journal)
            try:
                books = Books(thread, self.clock)
                consent = ConsentFile(self.directory.consent)
                worker = self._worker_settings()
                economy = await open_economy(
                    self.settings, self.directory, policy, books=books, journal=thread, clock=self.clock
                )
                agent = Agent(
                    settings=self.settings,
                    worker=worker,
                    probes=NumericProbes(ProbeFile(self.directory.numeric), worker),
                    policy=policy,
                    switches=consent.read(),
                    books=books,
                    forecast=EtaForecast(),
                    economy=economy,
                    clock=self.clock,
                )
                agent.recall(await thread.do(partial(Journal.events, limit=_EVENTS_SHOWN)))
                await books.refresh()
                switchboard = Switchboard(
                    agent, consent=consent, policy_file=PolicyFile(self.directory.policy), clock=self.clock
                )
                control = ControlServer(switchboard, socket_path)
                await self._run(
                    agent, books=books, thread=thread, identity=identity, control=control, economy=economy
                )
            finally:
                thread.close()

    def _worker_settings(self) -> WorkerSettings:
        return WorkerSettings(
            command=self.settings.worker_command or DEFAULT_COMMAND,
            scratch=self.directory.scratch.absolute(),
            memory_bytes=self.settings.worker_memory_bytes,
            platforms=self.settings.platforms,
        )

    async def _run(
        self,
        agent: Agent,
        *,
        books: Books,
        thread: JournalThread,
        identity: Identity | None,
        control: ControlServer,
        economy: Economy,
    ) -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        tasks = _SideTasks()
        try:
            await control.start()
            tasks.start("clockwork", agent.run())
            tasks.start("source", self.source.run(agent.report))
            tasks.start("events", books.run())
            tasks.start("economy", economy.run())
            if identity is None:
                identity = await self._paired_later(tasks, stopping)
            if identity is not None:
                link = await self._link(agent, books, thread, identity)
                tasks.start("sealing", link.run_sealing())
                session = tasks.start("session", link.session.run())
                await tasks.until(stopping)
                await self._farewell(agent, link, session)
            else:
                await agent.stop()
        finally:
            # Whatever happened: no worker outlives this line.
            await agent.close()
            await tasks.end()
            await control.stop()
            economy.keep()
            with contextlib.suppress(sqlite3.Error):  # what ended the daemon may be the disk
                await books.flush()

    async def _paired_later(self, tasks: "_SideTasks", stopping: asyncio.Event) -> Identity | None:
        """Wait until `car-agent pair` has written an identity; None when the daemon is to stop."""
        _log.info("not paired", extra={"next_step": "car-agent pair --pool HOST:PORT --ca FILE"})
        while not stopping.is_set():
            identity = load_identity(self.directory)
            if identity is not None:
                return identity
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAIRING_POLL_S):
                    await tasks.until(stopping)
        return None

    async def _link(self, agent: Agent, books: Books, thread: JournalThread, identity: Identity) -> PoolLink:
        """Wire the pool, and take up what an earlier run left in the journal."""
        link = PoolLink(
            directory=self.directory,
            identity=identity,
            settings=self.settings,
            journal=thread,
            books=books,
            clock=self.clock,
            source=self.ids,
            listener=agent,
            on_lease_done=agent.lease_done,
        )
        await link.outbox.load()
        recovered: list[JournalledLease] = []
        for lease in await thread.do(Journal.open_leases):
            try:
                attempt_ids = set(attempt_ids_of(lease)) - lease.reported
            except PoolError:
                await thread.do(partial(Journal.drop_lease, lease_id=lease.lease_id))
                continue
            link.desk.open(lease.lease_id, attempt_ids, attempts_total=lease.attempts_total)
            recovered.append(lease)
        figures = await thread.do(partial(Journal.meta, key=FIGURES_META))
        agent.pair_with(link, recovered, _figures_of(figures))
        return link

    async def _farewell(self, agent: Agent, link: PoolLink, session: "asyncio.Task[None]") -> None:
        """Kill the worker, give work back, and tell the pool if it is there."""
        await agent.stop()
        await link.seal()
        if not session.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await link.outbox.wait_empty()


class _SideTasks:
    """Tasks that must not end while the daemon runs."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Start one."""
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def until(self, stopping: asyncio.Event) -> None:
        """Wait for the stop; a task that ends before is an error.

        Raises:
            PoolError: INTERNAL when a task ended without an error of its own.
        """
        stop = asyncio.create_task(stopping.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([stop, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        for task in done - {stop}:
            task.result()
            raise PoolError(ErrorCode.INTERNAL, f"the task {task.get_name()!r} ended by itself")

    async def end(self) -> None:
        """Cancel all and wait for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _figures_of(stored: Any) -> PoolFigures:
    """Return the figures as last heard; zeros when they were kept by another version."""
    try:
        return PoolFigures(**stored) if isinstance(stored, dict) else PoolFigures()
    except TypeError:
        return PoolFigures()

"""Everything that belongs to one pool: session, desk, outbox, and the task that seals results."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final

from car_agent.journal.identity import Identity
from car_agent.journal.settings import AgentSettings
from car_agent.journal.state_directory import StateDirectory
from car_agent.journal.store import JournalledBundle
from car_agent.journal.thread import JournalThread
from car_agent.main.books import Books
from car_agent.session.care import Caretaker
from car_agent.session.intake import LeaseIntake
from car_agent.session.log_keeper import LogKeeper
from car_agent.session.outbox import Outbox
from car_agent.session.questions import QuestionDesk
from car_agent.session.results import ResultDesk
from car_agent.session.stream import Session
from car_agent.session.supplies import Supplies
from car_agent.session.wire import SessionListener
from pool_protocol.clock import Clock
from pool_protocol.system import IdSource

_SEED_BYTES: Final = 8


class PoolLink:
    """The wiring of one pool."""

    def __init__(
        self,
        *,
        directory: StateDirectory,
        identity: Identity,
        settings: AgentSettings,
        journal: JournalThread,
        books: Books,
        clock: Clock,
        source: IdSource,
        listener: SessionListener,
        on_lease_done: Callable[[str], None],
    ) -> None:
        """Wire session, desk and outbox of `identity`'s pool."""
        self._books = books
        self._flush_after_s = settings.flush_after_s
        self._pending = asyncio.Event()
        self._at_once = asyncio.Event()
        self.outbox = Outbox(journal)
        self.desk = ResultDesk(
            journal=journal,
            clock=clock,
            source=source,
            vehicle_id=identity.vehicle_id,
            pool_id=identity.pool_id,
            key=identity.envelope_key,
            on_lease_done=on_lease_done,
            on_bundle=self._bundle_sealed,
        )
        caretaker = Caretaker(
            directory=directory,
            identity=identity,
            journal=journal,
            clock=clock,
            on_figures=listener.figures_changed,
            on_event=listener.happened,
            log=LogKeeper(directory.receipt_book, clock=clock, on_event=listener.happened),
        )
        supplies = Supplies(directory.cache, bytes_max=settings.blob_cache_bytes, clock=clock)
        self.questions = QuestionDesk(
            journal=journal,
            supplies=supplies,
            listener=listener,
            on_answer=self._ask_again,
            on_done=on_lease_done,
        )
        intake = LeaseIntake(
            journal=journal,
            supplies=supplies,
            desk=self.desk,
            clock=clock,
            listener=listener,
            reserve_price_micros_per_wu=settings.reserve_price_micros_per_wu,
            on_refused=self._pause_asking,
            on_free=self._ask_again,
        )
        # Chance only spreads cars in time; it is seeded from the system so that no two cars march in step.
        seed = int.from_bytes(source.random_bytes(_SEED_BYTES), "little")
        self.session = Session(
            caretaker=caretaker,
            intake=intake,
            outbox=self.outbox,
            questions=self.questions,
            journal=journal,
            clock=clock,
            chance=random.Random(seed),  # noqa: S311
            listener=listener,
        )

    def _pause_asking(self, delay_ms: int) -> None:
        self.session.refuse_work_for(delay_ms)

    def _ask_again(self) -> None:
        self.session.nudge()

    def _bundle_sealed(self, bundle: JournalledBundle) -> None:
        self.outbox.add(bundle)
        self.session.nudge()

    def flush_soon(self) -> None:
        """Seal what is pending within the settings' delay, or at once when a lease is complete."""
        self._pending.set()
        if self.desk.remaining == 0:
            self._at_once.set()

    def flush_now(self) -> None:
        """Seal what is pending at once."""
        self._pending.set()
        self._at_once.set()

    async def run_sealing(self) -> None:
        """Seal results as they come, several at a time."""
        while True:
            await self._pending.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._flush_after_s):
                    await self._at_once.wait()
            self._pending.clear()
            self._at_once.clear()
            await self.seal()

    async def seal(self) -> None:
        """Seal and journal everything that has an outcome."""
        await self.desk.flush()
        await self._books.refresh()

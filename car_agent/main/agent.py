"""The agent itself: every event of sources, owner, worker and pool goes through the state machine here.

Everything runs on one event loop. The way from a source's report to the kill of the worker is plain calls,
without an await between them: report, evaluate, step, kill. What needs the disk or the network (journalling
results, giving leases back) happens afterwards.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from car_agent.core.evaluation import evaluate
from car_agent.core.forecast import DepartureForecast
from car_agent.core.lifecycle import (
    AbandonLeases,
    AgentState,
    Connected,
    Disconnected,
    Effect,
    Event,
    IdleElapsed,
    KillWorker,
    LeaseEnded,
    LeaseTaken,
    Paired,
    ProbeSeen,
    ShutdownAsked,
    StartWorker,
    Unpaired,
    VerdictGiven,
    WorkerExited,
    WorkerReady,
    WorkerRetryDue,
    step,
)
from car_agent.core.policy import OwnerSwitches, Policy, PolicyState
from car_agent.core.reasons import ReasonCode
from car_agent.core.signals import VehicleSignals
from car_agent.core.status import AgentSnapshot
from car_agent.journal.settings import AgentSettings
from car_agent.journal.store import JournalledEvent, JournalledLease
from car_agent.main.books import Books
from car_agent.main.economy import Economy
from car_agent.main.news import News
from car_agent.main.numeric import NumericProbes
from car_agent.main.pace import Backoff, Pace
from car_agent.main.pool_link import PoolLink
from car_agent.main.view import WorkerMood, take_snapshot
from car_agent.runner.driver import WorkDriver
from car_agent.runner.process import WorkerSettings
from car_agent.runner.work import AttemptOutcome, LeaseWork, Outcome
from car_agent.session.wire import PoolFigures, WorkWish
from pool_protocol.clock import Clock

_NS_PER_S: Final = 1_000_000_000
_TICK_S: Final = 0.25
#: A running attempt that the pool cancelled may finish within this time; then its worker is replaced.
_CANCEL_GRACE_S: Final = 2.0
#: At a start these say nothing yet about whether leases of the last run may go on.
_UNDECIDED: Final = frozenset({ReasonCode.NO_SIGNALS, ReasonCode.SETTLING})

_log = logging.getLogger(__name__)


class Agent:
    """One vehicle's agent, without its sources, sockets and files."""

    def __init__(
        self,
        *,
        settings: AgentSettings,
        worker: WorkerSettings,
        policy: Policy,
        switches: OwnerSwitches,
        books: Books,
        forecast: DepartureForecast,
        economy: Economy,
        clock: Clock,
        probes: NumericProbes | None = None,
    ) -> None:
        """Begin unpaired and stopped; `report`, `pair_with` and the owner change that."""
        self._settings = settings
        self._policy = policy
        self._switches = switches
        self._books = books
        self._forecast = forecast
        self._economy = economy
        self._clock = clock
        self._state = AgentState()
        self._policy_state = PolicyState()
        self._signals: VehicleSignals | None = None
        self._driver = WorkDriver(
            settings=worker,
            clock=clock,
            listener=self,
            probes=probes,
            attempt_deadline_s=settings.attempt_deadline_s,
        )
        self._probes = probes
        self._pace = Pace(attempts_max=settings.lease_attempts_max)
        self._link: PoolLink | None = None
        self._recovered: list[JournalledLease] = []
        self._figures = PoolFigures()
        self._news = News(books, clock)
        self._mood = WorkerMood()
        self._idle_since_ns: int | None = None
        self._last_outcome_ns: int | None = None
        self._stop_began_ns: int | None = None
        self._retry = Backoff()
        self._no_worker = asyncio.Event()
        self._no_worker.set()
        self._changed = asyncio.Event()
        self._version = 0

    # --- the state machine ---------------------------------------------------------------------

    @property
    def state(self) -> AgentState:
        """What the state machine knows."""
        return self._state

    def _apply(self, event: Event) -> None:
        before = self._state.phase
        self._state, effects = step(self._state, event)
        for effect in effects:
            self._do(effect)
        if self._state.phase is not before:
            _log.info("phase", extra={"phase": self._state.phase.value, "event": type(event).__name__})
        if self._link is not None:
            self._link.session.nudge()
        self._mark_changed()

    def _do(self, effect: Effect) -> None:
        match effect:
            case StartWorker():
                self._no_worker.clear()
                self._idle_since_ns = None
                self._economy.worker_starts()
                self._driver.start()
            case KillWorker(reason):
                self._stop_began_ns = self._clock.monotonic_ns()
                self._driver.kill()
                self._driver.stopped = self._economy.stopped(self._driver.stopped)
                _log.info("worker killed", extra={"reason": reason})
            case AbandonLeases(lease_ids, reason):
                self._abandon(lease_ids, reason)

    def _abandon(self, lease_ids: Iterable[str], reason: str) -> None:
        if self._link is None:
            return
        self._link.questions.abandon(lease_ids)
        count = self._link.desk.abandon(lease_ids, reason=reason, stopped=self._driver.stopped)
        if count:
            self.happened("WORK_ABANDONED", f"{count} tasks went back to the pool: {reason}.")
        self._link.flush_now()

    def _mark_changed(self) -> None:
        self._version += 1
        self._changed.set()

    # --- signals, owner, time ------------------------------------------------------------------

    def report(self, signals: VehicleSignals) -> None:
        """Take a report of the source. If it forbids computing, the worker is killed before this returns."""
        self._signals = signals
        self.reevaluate()

    def reevaluate(self) -> None:
        """Ask the policy again and act on its verdict."""
        evaluation = evaluate(
            self._signals,
            self._policy,
            self._switches,
            self._policy_state,
            now_us=self._clock.now_us(),
            now_mono_ns=self._clock.monotonic_ns(),
        )
        self._policy_state = evaluation.state
        before = self._state.verdict
        if evaluation.verdict != before:
            if self._probes is not None and evaluation.verdict.runs and not before.runs:
                self._probes.look()
                self.probe_ended()
            self._apply(VerdictGiven(evaluation.verdict))
            self._news.verdict(before, evaluation.verdict)
        self._settle_recovered()

    def set_switches(self, switches: OwnerSwitches) -> None:
        """Take over opt-in and pause; a worker that may not live is killed before this returns."""
        self._switches = switches
        self.reevaluate()
        self._mark_changed()

    @property
    def switches(self) -> OwnerSwitches:
        """Opt-in and pause, as they hold."""
        return self._switches

    def set_policy(self, policy: Policy) -> None:
        """Take over the owner's limits."""
        self._policy = policy
        self._economy.set_policy(policy)
        self.reevaluate()

    @property
    def policy(self) -> Policy:
        """The owner's limits, as they hold."""
        return self._policy

    async def run(self) -> None:
        """Look at time passing: freshness, debounce, the end of a pause, deadlines, idleness."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.reevaluate()
            self._economy.tick()
            self._driver.check_deadlines()
            if self._idle_since_ns is not None:
                idle_s = (self._clock.monotonic_ns() - self._idle_since_ns) / _NS_PER_S
                if idle_s > self._settings.idle_unload_s:
                    self._idle_since_ns = None
                    self._apply(IdleElapsed())

    async def stop(self) -> None:
        """Kill the worker, give everything back, and return when no worker is left."""
        self._apply(ShutdownAsked())
        await self.worker_gone()

    @property
    def worker_lives(self) -> bool:
        """Whether a worker process may exist."""
        return self._driver.lives

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, while it has one."""
        return self._driver.pid

    async def worker_gone(self) -> None:
        """Wait until no worker process is left."""
        await self._no_worker.wait()

    async def close(self) -> None:
        """End without any state machine: nothing of a worker is left when this returns."""
        await self._driver.close()

    # --- the pool ------------------------------------------------------------------------------

    def pair_with(self, link: PoolLink, recovered: list[JournalledLease], figures: PoolFigures) -> None:
        """Take a pool, with what the journal kept of it."""
        self._link = link
        self._recovered = recovered
        self.figures_changed(figures)
        self._apply(Paired())
        self.reevaluate()

    def _settle_recovered(self) -> None:
        """Go on with leases of the last run once it is clear that the car may, or give them back."""
        verdict = self._state.verdict
        if not self._recovered or self._link is None or verdict.headline in _UNDECIDED:
            return
        leases, self._recovered = self._recovered, []
        for lease in leases:
            self._apply(LeaseTaken(lease.lease_id))
            self._link.session.resume(lease)

    def wish(self) -> WorkWish | None:
        """Return what work is wanted now."""
        if not self._state.may_ask or self._link is None or self._recovered:
            return None
        available_ms = self._forecast.available_ms(self._signals)
        attempts = self._pace.attempts_wanted(
            open_leases=self._link.desk.open_leases,
            remaining=self._link.desk.remaining,
            available_ms=available_ms,
        )
        if attempts == 0 or self._news.bars_asking(self._economy.refusal()):
            return None
        return WorkWish(
            attempts_max=attempts,
            available_ms=available_ms,
            warm_programs=self._driver.warm_programs,
            reserve_price_micros_per_wu=self._economy.now.reserve_price_micros_per_wu,
            sandbox_missing=self._mood.sandbox_missing,
            jaxlib_version=self._mood.jaxlib_version,
            platforms=(self._settings.platforms,),
            numeric=None if self._probes is None else self._probes.current,
        )

    def needs_stream(self) -> bool:
        """Whether the car may compute, so that work and cancellations should reach it."""
        return self._state.may_compute

    def connected(self) -> None:
        """The pool answers; a vehicle that it had refused is a member again."""
        if not self._state.paired:
            self._apply(Paired())
        self._apply(Connected())

    def disconnected(self, cause: str) -> None:
        """The stream is down."""
        if self._state.connected and cause:
            self.happened("POOL_LOST", f"The connection to the pool broke: {cause}.")
        self._apply(Disconnected())

    def loses_at(self, price_micros_per_wu: int) -> str:
        """Say why work at this price would lose money; nothing when it would not."""
        return self._economy.now.loses_at(price_micros_per_wu)

    def lease_taken(self, lease_id: str) -> None:
        """A lease is in the journal."""
        self._apply(LeaseTaken(lease_id))

    def lease_supplied(self, work: LeaseWork) -> None:
        """A lease can be worked on, if it is still ours."""
        if work.lease_id in self._state.lease_ids:
            self._idle_since_ns = None
            if not self._driver.queued:
                self._last_outcome_ns = None
                self._economy.worker_resumes()
            self._driver.feed(work)

    def attempts_cancelled(self, attempt_ids: frozenset[int], reason: str) -> None:
        """The pool no longer wants these attempts."""
        if self._link is None:
            return
        running = self._driver.drop(attempt_ids)
        self._link.desk.cancel(attempt_ids)
        self._link.flush_now()
        self.happened("WORK_CANCELLED", f"The pool no longer needs {len(attempt_ids)} tasks: {reason}.")
        if running:
            asyncio.get_running_loop().call_later(_CANCEL_GRACE_S, self._driver.interrupt, attempt_ids)

    def outcomes_added(self) -> None:
        """Outcomes wait to be sealed."""
        if self._link is not None:
            self._link.flush_now()

    def lease_done(self, lease_id: str) -> None:
        """Every attempt of a lease has its result in the journal."""
        self._apply(LeaseEnded(lease_id))

    def revoked(self, code: str) -> None:
        """The pool no longer knows this vehicle."""
        self.happened(code, "The pool no longer knows this vehicle; pair it again.")
        self._apply(Unpaired())

    def figures_changed(self, figures: PoolFigures) -> None:
        """The pool told money and counts."""
        self._figures = figures
        self._economy.heard(figures)
        self._mark_changed()

    def happened(self, code: str, message: str) -> None:
        """Keep an event, in memory at once and in the journal soon."""
        self._news.add(code, message)
        self._mark_changed()

    def recall(self, events: Iterable[JournalledEvent]) -> None:
        """Take up the events of earlier runs, newest first."""
        self._news.recall(events)

    # --- the worker ----------------------------------------------------------------------------

    def worker_ready(self, sandbox_missing: tuple[str, ...], jaxlib_version: str) -> None:
        """The worker takes programs."""
        self._mood.sandbox_missing = sandbox_missing
        self._mood.jaxlib_version = jaxlib_version
        self._retry.reset()
        self._apply(WorkerReady())
        self.probe_ended()

    def worker_exited(self, cause: str, *, crashed: bool) -> None:
        """No worker process is left."""
        self._no_worker.set()
        self._economy.worker_gone()
        self._mood.attempt_progress = -1.0
        if self._stop_began_ns is not None:
            self._mood.last_stop_ms = (self._clock.monotonic_ns() - self._stop_began_ns) / 1e6
            self._stop_began_ns = None
        if crashed:
            self.happened("WORKER_LOST", f"The worker ended by itself: {cause[:120]}.")
        self._apply(WorkerExited())
        self.probe_ended()
        if self._state.worker_barred:
            asyncio.get_running_loop().call_later(self._retry.next_s(), self._apply, WorkerRetryDue())

    def attempt_ended(self, outcome: AttemptOutcome) -> None:
        """An attempt has its outcome."""
        self._mood.attempt_progress = -1.0
        outcome = self._economy.measured(outcome)
        if self._link is not None and self._link.questions.take(outcome):
            self._economy.spent(outcome.energy)
            self._mark_changed()
            return
        now_ns = self._clock.monotonic_ns()
        if self._last_outcome_ns is not None:
            self._pace.took((now_ns - self._last_outcome_ns) / _NS_PER_S)
        elif outcome.run_time_us:
            self._pace.took(outcome.run_time_us / 1e6)
        self._last_outcome_ns = now_ns
        if outcome.outcome is not Outcome.COMPLETED:
            self.happened(outcome.reason, f"Attempt {outcome.attempt_id}: {outcome.outcome}.")
        if self._link is not None and self._link.desk.take(outcome):
            self._economy.learn(outcome)
            self._link.flush_soon()
        else:  # cancelled meanwhile: nobody is told of it
            self._economy.spent(outcome.energy)
        self._mark_changed()

    def progressed(self, attempt_id: int, share: float) -> None:
        """The running attempt has come this far."""
        self._mood.attempt_progress = share
        self._mark_changed()

    def probe_ended(self) -> None:
        """The numeric probe was answered, or what is due of it may have changed."""
        if self._probes is not None and self._probes.due is not self._state.probe_due:
            self._apply(ProbeSeen(self._probes.due))

    def went_idle(self) -> None:
        """Nothing is left to compute."""
        self._idle_since_ns = self._clock.monotonic_ns()
        self._last_outcome_ns = None
        self._economy.worker_rests()

    # --- what people see -----------------------------------------------------------------------

    async def changed(self, version: int) -> int:
        """Wait until something differs from what `version` saw; return the new version."""
        while self._version == version:
            self._changed.clear()
            await self._changed.wait()
        return self._version

    def snapshot(self) -> AgentSnapshot:
        """Return how everything stands."""
        return take_snapshot(
            state=self._state,
            switches=self._switches,
            signals=self._signals,
            driver=self._driver,
            books=self._books,
            economy=self._economy,
            link=self._link,
            figures=self._figures,
            mood=self._mood,
            events=self._news.shown(),
            clock=self._clock,
        )

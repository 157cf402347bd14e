"""Puts together what the owner sees from what the parts of the agent know. Decides nothing."""

from dataclasses import dataclass

from car_agent import __version__
from car_agent.core.lifecycle import AgentState, Phase
from car_agent.core.policy import OwnerSwitches, Verdict, VerdictKind
from car_agent.core.signals import VehicleSignals
from car_agent.core.status import AgentEvent, AgentSnapshot, ComputeFigures, PoolContact
from car_agent.main.books import Books
from car_agent.main.economy import Economy
from car_agent.main.pool_link import PoolLink
from car_agent.runner.driver import WorkDriver
from car_agent.session.wire import PoolFigures
from pool_protocol.clock import Clock


@dataclass(slots=True, kw_only=True)
class WorkerMood:
    """What is known of the worker besides its being there, as last heard."""

    last_stop_ms: float = -1.0
    """From the last stop decision to no worker alive; negative when there was none."""
    sandbox_missing: tuple[str, ...] = ()
    jaxlib_version: str = ""
    attempt_progress: float = -1.0
    """0 to 1; negative when unknown."""


def take_snapshot(
    *,
    state: AgentState,
    switches: OwnerSwitches,
    signals: VehicleSignals | None,
    driver: WorkDriver,
    books: Books,
    economy: Economy,
    link: PoolLink | None,
    figures: PoolFigures,
    mood: WorkerMood,
    events: tuple[AgentEvent, ...],
    clock: Clock,
) -> AgentSnapshot:
    """Return how everything stands."""
    energy, now_mono_ns = economy.figures(), clock.monotonic_ns()
    return AgentSnapshot(
        agent_version=__version__,
        vehicle_id="" if link is None else link.session.identity.vehicle_id,
        phase=state.phase,
        computing=state.phase is Phase.RUNNING and driver.running_attempt is not None,
        verdict=_shown_verdict(state, driver, economy),
        switches=switches,
        signals=signals,
        signals_fresh=signals is not None and signals.is_fresh(now_mono_ns),
        signals_age_ms=0 if signals is None else signals.age_ms(now_mono_ns),
        compute=_compute_figures(driver, books, link, mood, watts=energy.watts),
        energy=energy,
        pool=PoolContact() if link is None else _pool_contact(state, link, figures),
        events=events,
        at_us=clock.now_us(),
    )


def _shown_verdict(state: AgentState, driver: WorkDriver, economy: Economy) -> Verdict:
    """Return the policy's verdict, or that the work which there is does not pay.

    That does not stop what was begun: its price is locked.
    """
    if not state.verdict.runs or not state.paired or driver.queued:
        return state.verdict
    refusal = economy.refusal()
    return state.verdict if refusal is None else Verdict(kind=VerdictKind.WAIT, reasons=(refusal,))


def _compute_figures(
    driver: WorkDriver, books: Books, link: PoolLink | None, mood: WorkerMood, *, watts: float
) -> ComputeFigures:
    attempts, done = (0, 0) if link is None else link.desk.figures()
    return ComputeFigures(
        worker_alive=driver.lives,
        program_sha256=driver.running_program,
        lease_attempts=attempts,
        lease_done=done,
        completed_total=books.completed_total,
        abandoned_total=books.abandoned_total,
        unacknowledged=0 if link is None else link.outbox.attempts,
        compute_today_ms=books.compute_today_us // 1_000,
        compute_total_ms=books.compute_total_us // 1_000,
        last_stop_ms=mood.last_stop_ms,
        sandbox_missing=mood.sandbox_missing,
        attempt_progress=mood.attempt_progress,
        watts=watts,
    )


def _pool_contact(state: AgentState, link: PoolLink, figures: PoolFigures) -> PoolContact:
    session = link.session
    return PoolContact(
        address=session.identity.fleet_address,
        connected=state.connected,
        last_contact_us=session.last_contact_us,
        currency=figures.currency,
        held_micros=figures.held_micros,
        available_micros=figures.available_micros,
        paid_micros=figures.paid_micros,
        vehicle_net_micros=figures.vehicle_net_micros,
        verified_attempts=figures.verified_attempts,
        rejected_attempts=figures.rejected_attempts,
        quarantine_reason=figures.quarantine_reason,
        no_work_reason=session.no_work_reason,
    )

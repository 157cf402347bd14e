"""Puts together what the owner sees from what the parts of the agent know. Decides nothing."""

from dataclasses import dataclass

from car_agent import __version__
from car_agent.core.lifecycle import AgentState, Phase
from car_agent.core.policy import OwnerSwitches
from car_agent.core.signals import VehicleSignals
from car_agent.core.status import AgentEvent, AgentSnapshot, ComputeFigures, PoolContact
from car_agent.main.books import Books
from car_agent.main.pool_link import PoolLink
from car_agent.runner.driver import WorkDriver
from car_agent.session.wire import PoolFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMood:
    """What is known of the worker besides its being there."""

    last_stop_ms: float
    sandbox_missing: tuple[str, ...]
    attempt_progress: float


def take_snapshot(
    *,
    state: AgentState,
    switches: OwnerSwitches,
    signals: VehicleSignals | None,
    driver: WorkDriver,
    books: Books,
    link: PoolLink | None,
    figures: PoolFigures,
    mood: WorkerMood,
    events: tuple[AgentEvent, ...],
    now_us: int,
    now_mono_ns: int,
) -> AgentSnapshot:
    """Return how everything stands."""
    return AgentSnapshot(
        agent_version=__version__,
        vehicle_id="" if link is None else link.session.identity.vehicle_id,
        phase=state.phase,
        computing=state.phase is Phase.RUNNING and driver.running_attempt is not None,
        verdict=state.verdict,
        switches=switches,
        signals=signals,
        signals_fresh=signals is not None and signals.is_fresh(now_mono_ns),
        signals_age_ms=0 if signals is None else signals.age_ms(now_mono_ns),
        compute=_compute_figures(driver, books, link, mood),
        pool=PoolContact() if link is None else _pool_contact(state, link, figures),
        events=events,
        at_us=now_us,
    )


def _compute_figures(
    driver: WorkDriver, books: Books, link: PoolLink | None, mood: WorkerMood
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

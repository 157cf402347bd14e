"""How the agent stands at one moment: what the owner's screen and `car-agent status` show. Values only."""

from dataclasses import dataclass

from car_agent.core.lifecycle import Phase
from car_agent.core.policy import OwnerSwitches, Verdict
from car_agent.core.signals import VehicleSignals


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeFigures:
    """The computing."""

    worker_alive: bool = False
    program_sha256: str = ""
    lease_attempts: int = 0
    lease_done: int = 0
    completed_total: int = 0
    abandoned_total: int = 0
    unacknowledged: int = 0
    compute_today_ms: int = 0
    compute_total_ms: int = 0
    last_stop_ms: float = -1.0
    """From the last stop decision to no worker alive; negative when there was none."""
    watts: float = 0.0
    sandbox_missing: tuple[str, ...] = ()
    attempt_progress: float = -1.0
    """0 to 1; negative when unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyFigures:
    """What computing takes and leaves."""

    source: str = ""
    """How energy is found: rapl, nvml, rapl+nvml, declared."""
    not_measured: str = ""
    """Why not by a counter; empty where it is."""
    watts: float = 0.0
    """What the work draws now; 0 when nothing is computed."""
    idle_watts: float = -1.0
    """What the machine draws without work; negative when unknown."""
    today_mj: int = 0
    """Energy of this day (UTC)."""
    electricity_today_micros: int | None = None
    """What it cost; None when none of it had a price."""
    unpriced_today_mj: int = 0
    """The part of today's energy that had no price."""
    joules_per_wu: float = 0.0
    wu_per_hour: float = 0.0
    estimated: bool = True
    """Whether these two are the defaults: nothing was measured lately."""
    tariff: str = ""
    """The tariff in a few words; empty when none is set."""
    tariff_currency: str = ""
    tariff_micros_per_kwh: int | None = None
    """The price now."""
    net_micros_per_hour: int | None = None
    """What an hour leaves at the posted price, after fee and electricity."""
    reserve_price_micros_per_wu: int = 0
    """The lowest price that is asked for."""
    refusal: str = ""
    """Code of why no work is wanted for its price; empty when it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolContact:
    """The pool as last heard."""

    address: str = ""
    connected: bool = False
    last_contact_us: int = 0
    currency: str = ""
    held_micros: int = 0
    available_micros: int = 0
    paid_micros: int = 0
    vehicle_net_micros: int = 0
    verified_attempts: int = 0
    rejected_attempts: int = 0
    quarantine_reason: str = ""
    no_work_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEvent:
    """One thing that happened."""

    at_us: int
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSnapshot:
    """Everything the owner may ask about, at one moment."""

    agent_version: str
    vehicle_id: str
    phase: Phase
    computing: bool
    verdict: Verdict
    switches: OwnerSwitches
    signals: VehicleSignals | None
    signals_fresh: bool
    signals_age_ms: int
    compute: ComputeFigures
    energy: EnergyFigures
    pool: PoolContact
    events: tuple[AgentEvent, ...]
    at_us: int

    @property
    def paused(self) -> bool:
        """Whether a pause holds."""
        return self.switches.is_paused(self.at_us)

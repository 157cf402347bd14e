"""What the dashboard knows: plain values, as the agent and the pool reported them.

Nothing is decided here, and nothing here knows protobuf, gRPC or a terminal: `convert` makes these values,
`view_models` reads them. Text in them came over the network and is not clean; `view_models.text.clean` is.
"""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What the agent's policy says."""

    UNKNOWN = "unknown"
    RUN = "run"
    WAIT = "wait"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonFacts:
    """One reason of the policy, and what would change it."""

    code: str
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFacts:
    """The car, normalised. `None` is unknown."""

    plug: str = "unknown"
    charge: str = "unknown"
    discharging: bool | None = None
    moving: bool | None = None
    at_home: bool | None = None
    soc_percent: float | None = None
    soc_limit_percent: float | None = None
    charge_power_w: float | None = None
    battery_power_w: float | None = None
    eta_full_s: float | None = None
    source: str = ""
    source_class: str = ""
    age_ms: int = 0
    """Age of the youngest reading when the agent spoke."""
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyFacts:
    """Energy and its cost over several attempts, as the owner's cars told them."""

    energy_mj: int = 0
    """Millijoules at the wall."""
    measured_mj: int = 0
    source: str = ""
    """rapl, nvml, rapl+nvml, declared, or mixed; empty when nothing was told."""
    electricity_micros: int = 0
    attempts: int = 0
    unpriced_attempts: int = 0
    """Of the attempts, those whose cost was not told."""

    @property
    def cost_micros(self) -> int | None:
        """The cost; None when none was told."""
        return self.electricity_micros if self.attempts > self.unpriced_attempts else None

    @property
    def partly_priced(self) -> bool:
        """Whether some of the energy had no price, so that the cost is at least this."""
        return 0 < self.unpriced_attempts < self.attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class CarEnergyFacts:
    """What the car's own computing takes and leaves. Energies in millijoules, money in micro-units."""

    source: str = ""
    """rapl, nvml, rapl+nvml, declared; empty for an agent that does not say."""
    not_measured: str = ""
    watts: float = 0.0
    idle_watts: float | None = None
    today_mj: int = 0
    electricity_today_micros: int | None = None
    unpriced_today_mj: int = 0
    joules_per_wu: float = 0.0
    wu_per_hour: float = 0.0
    estimated: bool = True
    """Whether these two are guesses."""
    tariff: str = ""
    tariff_currency: str = ""
    tariff_micros_per_kwh: int | None = None
    net_micros_per_hour: int | None = None
    """What an hour leaves after fee and electricity; None when a part is not known."""
    reserve_price_micros_per_wu: int = 0
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeFacts:
    """The computing. Times in milliseconds, power in watts."""

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
    """Negative when nothing was ever stopped."""
    watts: float = 0.0
    """0 when unknown."""
    attempt_progress: float = -1.0
    """0 to 1; negative when unknown."""
    sandbox_missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLinkFacts:
    """The pool as the car last heard it."""

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
class EventFacts:
    """One thing that happened, on the car or on the account."""

    at_us: int
    code: str
    message: str
    origin: str = "car"
    """"car" or "pool": who says so."""
    vehicle_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """How the agent on this machine stands."""

    agent_version: str = ""
    vehicle_id: str = ""
    """Empty before pairing."""
    state: str = "idle"
    computing: bool = False
    verdict: Verdict = Verdict.UNKNOWN
    reasons: tuple[ReasonFacts, ...] = ()
    opted_in: bool = False
    opt_in_changed_us: int = 0
    paused: bool = False
    pause_until_us: int = 0
    """0: until resumed."""
    signals: SignalFacts = SignalFacts()
    compute: ComputeFacts = ComputeFacts()
    pool: PoolLinkFacts = PoolLinkFacts()
    energy: CarEnergyFacts = CarEnergyFacts()
    events: tuple[EventFacts, ...] = ()
    """Newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFacts:
    """What a pause or an opt-out answered."""

    agent: AgentFacts
    stop_ms: float
    """From the request to no worker alive, measured by the agent; 0 when none lived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFacts:
    """One day's sum. The date is ISO, UTC."""

    date: str
    net_micros: int
    verified_attempts: int
    energy: EnergyFacts = EnergyFacts()
    """Of the work reported on this day."""
    after_electricity_micros: int | None = None
    """None when no cost was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarningsFacts:
    """The owner's money. Times in microseconds since the epoch, 0 for none."""

    currency: str
    held_micros: int = 0
    available_micros: int = 0
    paid_micros: int = 0
    gross_micros: int = 0
    fee_micros: int = 0
    pending_micros: int = 0
    next_payout_us: int = 0
    payout_threshold_micros: int = 0
    next_release_us: int = 0
    days: tuple[DayFacts, ...] = ()
    """Newest last."""
    energy: EnergyFacts = EnergyFacts()
    """Of all work that was reported, paid or not."""
    after_electricity_micros: int | None = None
    """Gross minus fee minus electricity; None when no cost was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleFacts:
    """A vehicle as the pool knows it."""

    vehicle_id: str
    label: str
    state: str
    owner_id: str = ""
    last_seen_us: int = 0
    verified_attempts: int = 0
    rejected_attempts: int = 0
    abandoned_attempts: int = 0
    running_attempts: int = 0
    net_micros: int = 0
    clean_uwu: int = 0
    quarantine_reason: str = ""
    enrolled_at_us: int = 0
    agent_version: str = ""
    trusted: bool = False
    """The operator's own: its results are the pool's word."""
    numeric_class: str = ""
    """Vehicles of the same class return the same bits; empty while unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFacts:
    """What the pool pays for work."""

    price_micros_per_wu: int
    currency: str
    past_day: tuple[int, ...] = ()
    """Prices of the last 24 hours, oldest first, evenly apart; micro-units per WU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """What the pool says about the owner's account, asked for together."""

    earnings: EarningsFacts
    vehicles: tuple[VehicleFacts, ...] = ()
    events: tuple[EventFacts, ...] = ()
    """Newest first."""
    price: PriceFacts | None = None
    """None where the pool does not say."""


class ReceiptCheck(StrEnum):
    """What came of checking a receipt on this machine."""

    VERIFIED = "verified"
    """Signature and proof hold under the pool's published keys."""
    FAILED = "FAILED"
    """They do not: the receipt is not what the pool signed."""
    UNCHECKED = "not checked"
    """No root document is at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFacts:
    """One receipt and what came of checking it here."""

    attempt_id: int
    vehicle_id: str
    job_id: str
    task_index: int
    program_sha256: str
    work_uwu: int
    price_micros_per_wu: int
    gross_micros: int
    fee_micros: int
    net_micros: int
    verified_at_us: int
    batch_id: int
    check: ReceiptCheck
    check_detail: str = ""
    """Why the check failed or was not made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptPage:
    """A page of receipts, newest first."""

    receipts: tuple[ReceiptFacts, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLineFacts:
    """One line of a statement."""

    at_us: int
    kind: str
    reference: str
    work_uwu: int = 0
    price_micros_per_wu: int = 0
    gross_micros: int = 0
    fee_micros: int = 0
    net_micros: int = 0
    energy_mj: int = 0
    energy_source: str = ""
    """As in `EnergyFacts`; empty when nothing was told."""
    electricity_micros: int | None = None
    after_electricity_micros: int | None = None
    """Both None when no cost was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTotalsFacts:
    """The sums of a statement's work, and of its energy."""

    work_uwu: int = 0
    gross_micros: int = 0
    fee_micros: int = 0
    net_micros: int = 0
    energy: EnergyFacts = EnergyFacts()
    after_electricity_micros: int | None = None
    """None when no cost was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementFacts:
    """One month, UTC."""

    month: str
    currency: str
    opening_micros: int
    closing_micros: int
    lines: tuple[StatementLineFacts, ...] = ()
    totals: StatementTotalsFacts | None = None
    """None from a pool that does not tell them."""
    csv: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """A device that asks to be enrolled."""

    user_code: str
    agent_version: str
    key_fingerprint: str
    """First 16 hexadecimal digits of the SHA-256 of the device's key, shown by the device too."""
    expires_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BankFacts:
    """How the owner is paid."""

    holder_name: str = ""
    iban: str = ""
    threshold_micros: int = 0
    town: str = ""
    country: str = ""
    """Two letters."""
    bic: str = ""
    """Empty where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """A buyer's job as the operator sees it."""

    job_id: str
    name: str
    state: str
    task_count: int
    accepted_count: int
    failed_count: int
    running_count: int
    rejected_count: int
    spent_micros: int
    escrow_micros: int
    created_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutFacts:
    """A payout run."""

    payout_id: str
    state: str
    total_micros: int
    planned_by: str
    approved_by: str
    planned_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewFacts:
    """The pool in figures."""

    pool_id: str
    currency: str
    server_version: str
    posted_price_micros_per_wu: int
    vehicles_by_state: tuple[tuple[str, int], ...]
    jobs_by_state: tuple[tuple[str, int], ...]
    attempts_by_state: tuple[tuple[str, int], ...]
    tasks_accepted: int
    buyers_available_micros: int
    escrow_micros: int
    held_micros: int
    available_micros: int
    fees_micros: int
    verification_cost_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFacts:
    """What the operator's screen shows, asked for together."""

    overview: OverviewFacts
    fleet: tuple[VehicleFacts, ...]
    jobs: tuple[JobFacts, ...]
    payouts: tuple[PayoutFacts, ...]

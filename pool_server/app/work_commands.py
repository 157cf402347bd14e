"""What the use cases of the work take and answer: plain values, valid whatever the transport.

Ids of jobs, leases and attempts are the integers of the database here; the wire's `job_12` and `lease_7` are
the shell's matter. Times are microseconds since the epoch, UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import NamedTuple

from pool_server.core.comparison import Comparator
from pool_server.core.energy import EnergySource
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import (
    NO_TENSORS,
    AttemptOutcome,
    JobState,
    PriceMode,
    ProgramFacts,
    TaskState,
    TensorRef,
)
from pool_server.core.matching import NoWorkReason
from pool_server.core.verification import VerificationLevel

# --- leasing ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseWork:
    """A vehicle asks for work."""

    vehicle_id: str
    attempts_max: int
    """At most this many attempts; 0 asks for none."""
    available_ms: int = 0
    """How long the vehicle can compute; 0: unknown."""
    warm_programs: Sequence[str] = ()
    """Programs that the worker holds compiled."""
    reserve_price_micros_per_wu: int = 0
    """The owner's lowest price."""
    network: str = ""
    """From which the vehicle calls; empty where that is not known."""
    held_lease_ids: Sequence[int] = ()
    """Leases that the vehicle has: a live one that is not named here was lost and is sent again."""


class AttemptGrant(NamedTuple):
    """One attempt of a lease."""

    attempt_id: int
    inputs: TensorRef
    steps: int
    """Steps to run; 0 for map programs."""
    unit_steps: int
    """Steps per unit; 0 for map programs."""
    work_uwu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseGranted:
    """A lease, new or sent again: the same attempts that are still under way, the same end."""

    lease_id: int
    vehicle_id: str
    job_id: int
    program_sha256: str
    constants: TensorRef
    price_micros_per_wu: int
    attempts: tuple[AttemptGrant, ...]
    issued_at_us: int
    expires_at_us: int
    resent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoWorkNow:
    """Why there is no lease."""

    reason: NoWorkReason
    message: str
    """A plain sentence for the owner."""
    retry_after_ms: int


# --- results ------------------------------------------------------------------------------------


class AttemptReport(NamedTuple):
    """How an attempt ended on the vehicle."""

    attempt_id: int
    outcome: AttemptOutcome
    output_digest: bytes = b""
    """32 bytes when completed: the commitment."""
    outputs: TensorRef = NO_TENSORS
    unit_root: bytes = b""
    """Step programs: RFC 9162 root over the digests of the states, 32 bytes; empty otherwise."""
    unit_count: int = 0
    run_time_us: int = 0
    energy_mj: int = 0
    """Millijoules, as the vehicle told them, unchecked; 0 when unknown."""
    reason: str = ""
    """Reason code when not completed."""
    detail: str = ""
    energy_source: EnergySource | None = None
    """How `energy_mj` was found; None when that was not told."""
    electricity_micros: int | None = None
    """What it cost by the owner's tariff; None when that was not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitResults:
    """A vehicle hands in results of one lease."""

    vehicle_id: str
    lease_id: int
    reports: Sequence[AttemptReport]


@unique
class AckStatus(StrEnum):
    """How a report was taken."""

    RECORDED = "recorded"
    VERIFIED = "verified"
    DUPLICATE = "duplicate"
    LATE = "late"
    REFUSED = "refused"


class AttemptAckValue(NamedTuple):
    """What became of one report."""

    attempt_id: int
    status: AckStatus
    reason: str = ""
    """Error code when it was refused, RESULT_LATE when it came too late, otherwise empty."""
    energy_refused: str = ""
    """Why its energy or its cost was not taken, otherwise empty."""


# --- jobs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateJob:
    """A buyer opens a job. The shell has resolved the program (and the quote) before."""

    buyer_id: str
    idempotency_key: str
    name: str
    program: ProgramFacts
    constants: TensorRef
    price_mode: PriceMode
    price_micros_per_wu: int
    """SPOT: the buyer's cap. QUOTE: the quote's price. DONATE: 0."""
    budget_micros: int
    """The most that the job may spend; reserved at once. DONATE: 0."""
    level: VerificationLevel
    comparator: Comparator
    steps_per_task: int = 0
    deadline_us: int = 0
    """0: none."""
    attempts_may_fail: int = 0
    """Attempts that may fail before a task is given up; 0: the pool's default."""
    certificate_sha256: str = ""
    """An admitted program that proves results; it was checked to fit. Empty: none."""
    price_start_micros_per_wu: int = 0
    """SPOT with a deadline: what the job bids at first; 0: its cap from the first."""
    quoted_task_count: int = 0
    """QUOTE: tasks that the quote was for; 0: no bound."""
    refuses_price_above_cap: bool = False
    """Whether a job that would only wait for a lower price is not to be opened at all."""
    token_id: str = ""
    """The token that asks, for its cap; no part of what the key stands for. Empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """One task's inputs."""

    inputs: TensorRef


@dataclass(frozen=True, slots=True, kw_only=True)
class AddTasks:
    """A buyer adds tasks, in order, from an index on. Indexes already there must carry the same inputs."""

    buyer_id: str
    job_id: int
    first_index: int
    tasks: Sequence[NewTask]


@unique
class WaitingReason(StrEnum):
    """Why an active job with ready tasks is not being leased now."""

    PRICE_ABOVE_CAP = "PRICE_ABOVE_CAP"
    NO_VEHICLES = "NO_VEHICLES"
    WAITING_FOR_ANOTHER_OWNER = "WAITING_FOR_ANOTHER_OWNER"
    """Results wait to be checked, and every owner with a vehicle here has had its turn at those tasks."""
    WAITING_FOR_ANOTHER_CLASS = "WAITING_FOR_ANOTHER_CLASS"
    """Results wait to be checked by a vehicle of another numeric class, and none is here."""
    CERTIFICATE_FAILS = "CERTIFICATE_FAILS"
    """Its certificate does not run, or refuses right results, which are audited instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobViewValue:
    """A job in figures."""

    job_id: int
    buyer_id: str
    name: str
    state: JobState
    end_reason: str
    """Why it was cancelled: CANCELLED or DEADLINE_EXCEEDED; empty otherwise."""
    waiting_reason: WaitingReason | None
    waiting_count: int
    """With WAITING_FOR_ANOTHER_OWNER: tasks whose results wait so, up to the store's bound; 0 otherwise."""
    program_sha256: str
    level: VerificationLevel
    price_mode: PriceMode
    price_micros_per_wu: int
    steps_per_task: int
    task_count: int
    accepted_count: int
    failed_count: int
    cancelled_count: int
    running_count: int
    """Tasks that wait for results of attempts under way."""
    attempt_count: int
    rejected_count: int
    budget_micros: int
    escrow_micros: int
    """Reserved and not yet spent; 0 once ended."""
    spent_micros: int
    created_at_us: int
    ended_at_us: int
    deadline_us: int
    decided_cursor: int
    """The newest cursor of `decided_after`."""
    rechecking_count: int = 0
    """Tasks whose accepted result is being checked again."""
    replaced_count: int = 0
    """Results that such a check replaced so far."""
    certificate_sha256: str = ""
    bid_micros_per_wu: int = 0
    """The most that it pays now; 0 once ended."""
    waiting_detail: str = ""
    """With PRICE_ABOVE_CAP: both numbers, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResultValue:
    """A task's end, or where it is."""

    index: int
    state: TaskState
    cursor: int
    """Its place in the order of decisions; 0 while undecided."""
    outputs: TensorRef | None
    """The canonical outputs, when accepted."""
    output_digest: bytes
    cost_micros: int
    """What the buyer paid for it."""
    paid_attempt_ids: tuple[int, ...]
    """Accepted attempts, in order: their receipts prove the result."""
    reason: str
    detail: str
    attempt_count: int
    final: bool = False
    """Whether no look-back can question the result any more."""
    replaced_count: int = 0
    evidence: str = ""
    """Why the result is believed; empty while undecided, and where the level asks for no verification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedPage:
    """Tasks decided after a cursor, in order of decision."""

    decided: tuple[TaskResultValue, ...]
    cursor: int
    """Resume from here."""
    job: JobViewValue


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Jobs, newest first."""

    jobs: tuple[JobViewValue, ...]
    next_before_job_id: int
    """Give it back as `before_job_id` for the next page; 0 at the end."""


# --- fleet --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleViewValue:
    """A vehicle as the pool sees it. Its earnings are the ledger's matter."""

    vehicle_id: str
    owner_id: str
    label: str
    state: VehicleState
    enrolled_at_us: int
    last_seen_us: int
    verified_attempts: int
    rejected_attempts: int
    abandoned_attempts: int
    running_attempts: int
    clean_uwu: int
    """Clean work since the last failed check, over all classes."""
    quarantine_reason: str
    trusted: bool = False
    numeric_class: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPage:
    """Vehicles by id."""

    vehicles: tuple[VehicleViewValue, ...]
    next_after_vehicle_id: str
    """Give it back as `after_vehicle_id` for the next page; empty at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOverview:
    """The work of the pool in figures."""

    vehicles_by_state: dict[str, int]
    jobs_by_state: dict[str, int]
    attempts_by_state: dict[str, int]
    tasks_accepted: int

"""What the work's use cases need of a store: jobs, tasks and attempts; vehicles are in `ports.fleet`.

Rows of the hot path are named tuples, everything in bulk; nothing here decides anything. A guarded write says
how many rows it changed, and the use case compares: the guard is the lifecycle's table, see `core.lifecycle`.
Times are microseconds since the epoch, UTC, 0 for "not yet". `""` and `b""` stand for "none".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pool_server.core.comparison import Comparator
from pool_server.core.hand_out import ReadyTask, StartedTask, TaskTake
from pool_server.core.jobs import (
    AttemptState,
    JobState,
    LeaseState,
    OutputSpec,
    PriceTerms,
    RetryBounds,
    TaskState,
    TensorRef,
)
from pool_server.core.networks import NetworkGuest
from pool_server.core.settlement import Payer
from pool_server.core.verification import VerificationLevel
from pool_server.ports.classes import ClassGuest
from pool_server.ports.market import OfferRow


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job: what it asks for, and its counters."""

    job_id: int
    buyer_id: str
    idempotency_key: str
    request_sha256: bytes
    name: str
    state: JobState
    program_sha256: str
    kind: str
    work_uwu_per_task: int
    unit_steps: int
    steps_per_task: int
    outputs: tuple[OutputSpec, ...]
    terms: PriceTerms
    budget_micros: int
    level: VerificationLevel
    comparator: Comparator
    bounds: RetryBounds
    deadline_us: int
    created_at_us: int
    ended_at_us: int = 0
    end_reason: str = ""
    task_count: int = 0
    ready_count: int = 0
    urgent_count: int = 0
    accepted_count: int = 0
    failed_count: int = 0
    cancelled_count: int = 0
    attempt_count: int = 0
    rejected_count: int = 0
    spent_micros: int = 0
    decided_seq: int = 0
    """Decisions so far: the newest cursor."""
    last_lease_id: int = 0
    rechecking_count: int = 0
    """Tasks whose accepted result is checked again: they count as undecided."""
    replaced_count: int = 0
    certificate_sha256: str = ""
    certificate_failures: int = 0

    @property
    def undecided_count(self) -> int:
        """Tasks without a decision."""
        return self.task_count - self.accepted_count - self.failed_count - self.cancelled_count


@dataclass(slots=True, kw_only=True)
class JobDelta:
    """What a command adds to a job's counters; summed up in memory, written once."""

    task_count: int = 0
    ready_count: int = 0
    urgent_count: int = 0
    accepted_count: int = 0
    failed_count: int = 0
    cancelled_count: int = 0
    attempt_count: int = 0
    rejected_count: int = 0
    spent_micros: int = 0
    decided_seq: int = 0
    last_lease_id: int = 0
    """The new value, not an addition; 0 leaves it."""
    rechecking_count: int = 0
    replaced_count: int = 0
    certificate_failures: int = 0


class JobRepository(Protocol):
    """Jobs: `uow.jobs`."""

    def insert(self, job: JobRow, constants: TensorRef) -> None:
        """Insert a job and its constants."""
        ...

    def get(self, job_id: int) -> JobRow | None:
        """Read a job."""
        ...

    def by_key(self, buyer_id: str, idempotency_key: str) -> JobRow | None:
        """Read the job that a buyer opened with this key."""
        ...

    def constants(self, job_id: int) -> TensorRef:
        """Read a job's constants."""
        ...

    def offers(self) -> list[OfferRow]:
        """All active jobs that have ready tasks."""
        ...

    def page(self, *, buyer_id: str | None, before_job_id: int, limit: int) -> list[JobRow]:
        """Jobs with smaller ids (0: from the newest), newest first."""
        ...

    def due(self, *, now_us: int, limit: int) -> list[JobRow]:
        """Active jobs whose deadline has passed, by (deadline, id)."""
        ...

    def move(
        self,
        job_id: int,
        *,
        from_states: Sequence[JobState],
        to_state: JobState,
        ended_at_us: int,
        end_reason: str,
    ) -> bool:
        """Move a job if it is in one of the states; True when this call did it."""
        ...

    def add(self, job_id: int, delta: JobDelta) -> None:
        """Add to a job's counters."""
        ...

    def counts_by_state(self) -> dict[str, int]:
        """Jobs by state."""
        ...

    def tasks_accepted(self) -> int:
        """Accepted tasks of all jobs."""
        ...


# --- tasks, attempts, leases --------------------------------------------------------------------


class NewTaskRow(NamedTuple):
    """A task to insert, ready, and its inputs."""

    task_id: int
    task_index: int
    wanted: int
    """Attempts to be leased: the quorum."""
    inputs: TensorRef
    input_sha256: bytes


class TaskRow(NamedTuple):
    """A task. Its work is its job's `work_uwu_per_task`."""

    task_id: int
    job_id: int
    task_index: int
    state: TaskState
    rank: int
    """A `core.matching.TaskRank`: its place in the queue."""
    wanted: int
    """Attempts to lease now; above 0 exactly in READY."""
    agreement_needed: int
    """Agreeing owners that decide it."""
    attempt_count: int
    live_count: int
    failure_count: int
    job_funded_count: int
    """Attempts leased or returned whose pending transfer is on the job's escrow."""
    decided_seq: int
    """Its place in the job's order of decisions; 0 while undecided."""
    canonical_attempt_id: int
    cost_micros: int
    reason: str
    detail: str
    decided_at_us: int
    evidence: str = ""
    """An `Evidence`, once accepted. An undecided task that has one is checked again by a look-back."""
    replaced_count: int = 0
    """How often such a check replaced its result."""

    @property
    def rechecking(self) -> bool:
        """Whether its result, accepted before, is checked again."""
        return bool(self.evidence) and not self.decided_seq


class AttemptRow(NamedTuple):
    """An attempt."""

    attempt_id: int
    task_id: int
    lease_id: int
    job_id: int
    task_index: int
    vehicle_id: str
    owner_id: str
    state: AttemptState
    payer: Payer
    price_micros_per_wu: int
    amount_micros: int
    pending_transfer_id: int
    """0 without money: donated work, or none reserved now."""
    output_digest: bytes
    reason: str
    leased_at_us: int
    ended_at_us: int
    """When its report came, or when it ended without one."""
    decided_at_us: int
    numeric_class: str = ""
    """The vehicle's numeric class when it was leased; "" is unknown."""
    odometer_uwu: int = 0
    """Where its vehicle's history stood once it was accepted; 0 where it counts for none."""
    network: str = ""
    """From which its vehicle leased it; "" is unknown."""


class ReportedValues(NamedTuple):
    """What a report adds to an attempt's row."""

    output_digest: bytes
    unit_root: bytes
    unit_count: int
    run_time_us: int
    energy_mj: int


class AttemptChange(NamedTuple):
    """A guarded step of one attempt."""

    attempt_id: int
    from_state: AttemptState
    state: AttemptState
    payer: Payer
    pending_transfer_id: int
    reason: str
    detail: str
    ended_at_us: int
    decided_at_us: int
    reported: ReportedValues | None
    """None keeps what the row holds."""
    odometer_uwu: int = 0


class GrantRow(NamedTuple):
    """An attempt under way with its task's inputs: what a lease sent again needs."""

    attempt_id: int
    inputs: TensorRef


class LeaseRow(NamedTuple):
    """A lease. Its attempts have neighbouring ids."""

    lease_id: int
    vehicle_id: str
    owner_id: str
    job_id: int
    state: LeaseState
    price_micros_per_wu: int
    first_attempt_id: int
    attempt_count: int
    open_count: int
    """Attempts still under way."""
    issued_at_us: int
    expires_at_us: int
    ended_at_us: int


class DecidedRow(NamedTuple):
    """A task with its canonical outputs, for buyers."""

    task: TaskRow
    output_digest: bytes
    outputs: TensorRef | None


class TaskRepository(Protocol):
    """Tasks: `uow.tasks`."""

    def insert(self, job_id: int, tasks: Sequence[NewTaskRow]) -> None:
        """Insert ready tasks with their inputs."""
        ...

    def input_hashes(self, job_id: int, *, first_index: int, count: int) -> list[bytes]:
        """Input hashes of the tasks that exist in a range of indexes, in order."""
        ...

    def get(self, task_ids: Sequence[int]) -> dict[int, TaskRow]:
        """Read tasks by id."""
        ...

    def started(
        self,
        job_id: int,
        *,
        owner_id: str,
        retry_before_us: int,
        overdue_before_us: int,
        limit: int,
        guest: ClassGuest | None = None,
        network: NetworkGuest | None = None,
    ) -> list[StartedTask]:
        """Ready tasks of a job that have had an attempt and that an owner may be given, by (rank, id).

        Left out are tasks on which the owner has an attempt that counts, or one that ended without a result
        after `retry_before_us`; and where the vehicle's class is known (`guest`) tasks that wait for others.
        Overdue is a task with a result that waits since before `overdue_before_us`.
        """
        ...

    def fresh(self, job_id: int, *, places: Sequence[float], share: float = 1.0) -> list[int]:
        """Fresh tasks, one for each place if there are as many. A place, from 0 to 1, is in a share of them.

        The share is of ids, the oldest; where a task was taken, one of the oldest steps in.
        """
        ...

    def ready(self, task_ids: Sequence[int]) -> list[ReadyTask]:
        """Read ready tasks with their inputs, in the order of the ids."""
        ...

    def waiting_for_others(self, job_id: int, *, owner_ids: Sequence[str]) -> int:
        """Ready tasks of a job with a result that waits, on which each of these owners has had its turn.

        A bounded number of the most urgent started tasks is looked at.
        """
        ...

    def out_of_owners(self, *, limit: int) -> list[int]:
        """Ready tasks that wait for several auditors, on which every owner that is there had its turn."""
        ...

    def take(self, takes: Sequence[TaskTake]) -> int:
        """READY: one wanted less, one live more; RUNNING when none is wanted any more. Rows changed."""
        ...

    def change(self, rows: Sequence[TaskRow]) -> int:
        """Write tasks that were READY or RUNNING. Rows changed."""
        ...

    def reopen(self, rows: Sequence[TaskRow]) -> int:
        """Write tasks that were ACCEPTED and are READY again. Rows changed."""
        ...

    def end_undecided(self, job_id: int, *, state: TaskState, reason: str, seq_base: int, now_us: int) -> int:
        """READY or RUNNING -> CANCELLED or FAILED for all tasks of a job, cursors `seq_base` + index + 1."""
        ...

    def decided_after(self, job_id: int, *, after_seq: int, limit: int) -> list[DecidedRow]:
        """Tasks decided after a cursor, in order of decision."""
        ...

    def results(self, job_id: int, indexes: Sequence[int]) -> dict[int, DecidedRow]:
        """Tasks by index, with their canonical outputs where accepted."""
        ...


class AttemptRepository(Protocol):
    """Attempts and their outputs: `uow.attempts`."""

    def insert(self, rows: Sequence[AttemptRow]) -> None:
        """Insert attempts under way."""
        ...

    def get(self, attempt_ids: Sequence[int]) -> dict[int, AttemptRow]:
        """Read attempts by id."""
        ...

    def of_lease(self, lease: LeaseRow) -> dict[int, AttemptRow]:
        """Read a lease's attempts by id."""
        ...

    def of_tasks(self, task_ids: Sequence[int]) -> list[AttemptRow]:
        """Read all attempts of tasks, by id."""
        ...

    def undecided_of_job(self, job_id: int) -> list[AttemptRow]:
        """Attempts of a job that are leased or returned, by id."""
        ...

    def undecided_of_vehicle(self, vehicle_id: str) -> list[AttemptRow]:
        """Attempts of a vehicle that are leased or returned, by id."""
        ...

    def returned_before(self, before_us: int, *, limit: int) -> list[AttemptRow]:
        """Returned attempts whose report came before a time, by (time, id); not those that are questioned."""
        ...

    def unopposed_before(self, before_us: int, *, limit: int) -> list[AttemptRow]:
        """The same, of tasks on which nobody works and no other result waits that is not the same."""
        ...

    def paid(self, task_ids: Sequence[int]) -> dict[int, list[int]]:
        """Accepted attempts by task, in order."""
        ...

    def change(self, changes: Sequence[AttemptChange]) -> int:
        """Write guarded steps. Rows changed."""
        ...

    def store_outputs(self, outputs: Sequence[tuple[int, TensorRef]]) -> None:
        """Keep the outputs of attempts."""
        ...

    def output_blobs(self, attempt_ids: Sequence[int]) -> dict[int, str]:
        """Read which blobs attempts returned; those with inline outputs are left out."""
        ...

    def outputs(self, attempt_id: int) -> TensorRef | None:
        """Read an attempt's outputs."""
        ...

    def grants(self, lease: LeaseRow) -> list[GrantRow]:
        """A lease's attempts still under way, with inputs, by id."""
        ...

    def counts_by_state(self) -> dict[str, int]:
        """Attempts by state."""
        ...

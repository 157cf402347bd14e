"""Tables of the work: vehicles, trust, jobs, tasks, attempts, leases, events.

Bytes that may be large (constants, inputs, outputs) stand in tables of their own, so that a change of state
never rewrites them. The hot path touches few indexes, all of them partial: ready tasks, decided tasks, live
leases. What the lifecycles promise, the schema enforces where it can: known states, `wanted` above 0 exactly
in READY, an owner at most once on a task (attempts that count), cursors that are unique within a job.
"""

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Column, Float, ForeignKey, Index, Integer, String
from sqlalchemy import text as sql
from sqlmodel import Field, SQLModel

from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import AttemptState, JobState, LeaseState, PriceMode, TaskState
from pool_server.core.settlement import Payer
from pool_server.core.verification import VerificationLevel
from pool_server.store.columns import big_int, blob, numbered_row_id, partial_index, row_id, text

#: Jobs that matching looks at; queries must repeat this text for the database to use the index.
JOB_HAS_READY_TASKS = "ready_count > 0 AND state IN ('open', 'closing')"
#: Tasks that want an attempt.
TASK_IS_READY = "state = 'ready'"
#: Leases that have not ended.
LEASE_IS_LIVE = "state = 'live'"


def _known(column: str, values: Iterable[StrEnum], name: str) -> CheckConstraint:
    listed = ", ".join(f"'{value.value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


def not_negative(name: str, *columns: str) -> CheckConstraint:
    """Make a constraint that columns hold no negative number."""
    return CheckConstraint(" AND ".join(f"{column} >= 0" for column in columns), name=name)


def row_of(target: str) -> Column[int]:
    """Make a primary key that is another row's id; on SQLite it is the row's own number."""
    kind = BigInteger().with_variant(Integer(), "sqlite")
    return Column(kind, ForeignKey(target), primary_key=True, autoincrement=False)


def _real() -> Column[float]:
    return Column(Float(53), nullable=False)


def _added_int(default: int = 0) -> Column[int]:
    """Make a column that a later revision added: rows of before have the default."""
    return Column(BigInteger, nullable=False, server_default=sql(str(default)))


def _added_text(default: str = "") -> Column[str]:
    return Column(String, nullable=False, server_default=sql(f"'{default}'"))


class FleetVehicleTable(SQLModel, table=True):
    """Vehicles as the pool sees them; who they are stands in the tables of identity."""

    __tablename__ = "fleet_vehicles"
    __table_args__ = (
        _known("state", VehicleState, "vehicle_state_known"),
        not_negative(
            "vehicle_counters_sign",
            "verified_attempts",
            "rejected_attempts",
            "abandoned_attempts",
            "rejected_since_release",
            "speed_uwu_per_s",
        ),
        CheckConstraint(
            "state <> 'quarantined' OR quarantine_reason <> ''", name="vehicle_quarantine_has_reason"
        ),
        Index("fleet_vehicles_by_state", "state", "last_seen_us", "vehicle_id"),
        Index("fleet_vehicles_by_owner", "owner_id", "vehicle_id"),
        Index("vehicles_by_class", "numeric_class", "state", "owner_id"),
    )
    vehicle_id: str = Field(sa_column=text(primary_key=True))
    owner_id: str = Field(sa_column=text())
    label: str = Field(sa_column=text())
    state: str = Field(sa_column=text())
    enrolled_at_us: int = Field(sa_column=big_int())
    last_seen_us: int = Field(sa_column=big_int())
    verified_attempts: int = Field(sa_column=big_int())
    rejected_attempts: int = Field(sa_column=big_int())
    abandoned_attempts: int = Field(sa_column=big_int())
    rejected_since_release: int = Field(sa_column=big_int())
    speed_uwu_per_s: int = Field(sa_column=big_int())
    quarantine_reason: str = Field(sa_column=text())
    trusted: int = Field(sa_column=_added_int())
    numeric_class: str = Field(sa_column=_added_text())
    numeric_families_json: str = Field(sa_column=_added_text("{}"))
    asked_at_us: int = Field(sa_column=_added_int())
    ask_micros_per_wu: int = Field(sa_column=_added_int())
    available_until_us: int = Field(sa_column=_added_int())
    verified_uwu: int = Field(sa_column=_added_int())


class FleetTrustTable(SQLModel, table=True):
    """Histories: clean work per vehicle and class."""

    __tablename__ = "fleet_trust"
    __table_args__ = (
        not_negative("trust_counters_sign", "clean_uwu", "accepted_attempts", "rejected_attempts"),
    )
    vehicle_id: str = Field(sa_column=text(primary_key=True))
    trust_class: str = Field(sa_column=text(primary_key=True))
    clean_uwu: int = Field(sa_column=big_int())
    accepted_attempts: int = Field(sa_column=big_int())
    rejected_attempts: int = Field(sa_column=big_int())
    odometer_uwu: int = Field(sa_column=_added_int())
    final_uwu: int = Field(sa_column=_added_int())


class JobTable(SQLModel, table=True):
    """Jobs: what they ask for, and their counters."""

    __tablename__ = "jobs"
    __table_args__ = (
        _known("state", JobState, "job_state_known"),
        _known("price_mode", PriceMode, "job_price_mode_known"),
        _known("level", VerificationLevel, "job_level_known"),
        CheckConstraint("work_uwu_per_task > 0", name="job_work_positive"),
        not_negative("job_money_sign", "price_micros_per_wu", "budget_micros", "spent_micros"),
        CheckConstraint("spent_micros <= budget_micros", name="job_within_budget"),
        not_negative(
            "job_counters_sign",
            "task_count",
            "ready_count",
            "urgent_count",
            "accepted_count",
            "failed_count",
            "cancelled_count",
            "attempt_count",
            "rejected_count",
            "decided_seq",
            "last_lease_id",
        ),
        CheckConstraint(
            "ready_count + accepted_count + failed_count + cancelled_count <= task_count",
            name="job_counters_fit",
        ),
        CheckConstraint("urgent_count <= ready_count", name="job_urgent_fit"),
        CheckConstraint("(state IN ('done', 'cancelled')) = (ended_at_us > 0)", name="job_end_has_time"),
        CheckConstraint(
            "state NOT IN ('done', 'cancelled') "
            "OR accepted_count + failed_count + cancelled_count = task_count",
            name="job_end_decides_all",
        ),
        Index("jobs_by_key", "buyer_id", "idempotency_key", unique=True),
        Index("jobs_by_buyer", "buyer_id", "job_id"),
        partial_index("jobs_with_ready_tasks", "job_id", where=JOB_HAS_READY_TASKS),
        partial_index(
            "jobs_by_deadline",
            "deadline_us",
            "job_id",
            where="deadline_us > 0 AND state IN ('open', 'closing')",
        ),
        Index("jobs_by_state", "state"),
    )
    job_id: int = Field(sa_column=row_id())
    buyer_id: str = Field(sa_column=text())
    idempotency_key: str = Field(sa_column=text())
    request_sha256: bytes = Field(sa_column=blob())
    name: str = Field(sa_column=text())
    state: str = Field(sa_column=text())
    program_sha256: str = Field(sa_column=text())
    kind: str = Field(sa_column=text())
    work_uwu_per_task: int = Field(sa_column=big_int())
    unit_steps: int = Field(sa_column=big_int())
    steps_per_task: int = Field(sa_column=big_int())
    outputs_json: str = Field(sa_column=text())
    price_mode: str = Field(sa_column=text())
    price_micros_per_wu: int = Field(sa_column=big_int())
    budget_micros: int = Field(sa_column=big_int())
    level: str = Field(sa_column=text())
    comparator: str = Field(sa_column=text())
    rtol: float = Field(sa_column=_real())
    atol: float = Field(sa_column=_real())
    failures_max: int = Field(sa_column=big_int())
    attempts_max: int = Field(sa_column=big_int())
    deadline_us: int = Field(sa_column=big_int())
    created_at_us: int = Field(sa_column=big_int())
    ended_at_us: int = Field(sa_column=big_int())
    end_reason: str = Field(sa_column=text())
    task_count: int = Field(sa_column=big_int())
    ready_count: int = Field(sa_column=big_int())
    urgent_count: int = Field(sa_column=big_int())
    accepted_count: int = Field(sa_column=big_int())
    failed_count: int = Field(sa_column=big_int())
    cancelled_count: int = Field(sa_column=big_int())
    attempt_count: int = Field(sa_column=big_int())
    rejected_count: int = Field(sa_column=big_int())
    spent_micros: int = Field(sa_column=big_int())
    decided_seq: int = Field(sa_column=big_int())
    last_lease_id: int = Field(sa_column=big_int())
    ulps: int = Field(sa_column=_added_int())
    output_comparators_json: str = Field(sa_column=_added_text("{}"))
    certificate_sha256: str = Field(sa_column=_added_text())
    certificate_failures: int = Field(sa_column=_added_int())
    rechecking_count: int = Field(sa_column=_added_int())
    replaced_count: int = Field(sa_column=_added_int())
    price_start_micros_per_wu: int = Field(sa_column=_added_int())
    quoted_task_count: int = Field(sa_column=_added_int())


class JobConstantsTable(SQLModel, table=True):
    """Shared inputs of a job's tasks."""

    __tablename__ = "job_constants"
    job_id: int = Field(sa_column=row_of("jobs.job_id"))
    inline: bytes | None = Field(sa_column=blob(nullable=True))
    blob_sha256: str | None = Field(sa_column=text(nullable=True))
    size_bytes: int = Field(sa_column=big_int())


class TaskTable(SQLModel, table=True):
    """Tasks: small rows that change with every attempt."""

    __tablename__ = "tasks"
    __table_args__ = (
        _known("state", TaskState, "task_state_known"),
        CheckConstraint("(wanted > 0) = (state = 'ready')", name="task_ready_wants"),
        CheckConstraint(
            "(decided_seq > 0) = (state NOT IN ('ready', 'running'))", name="task_decided_has_cursor"
        ),
        CheckConstraint("(canonical_attempt_id > 0) = (state = 'accepted')", name="task_accepted_has_result"),
        not_negative(
            "task_counters_sign",
            "wanted",
            "attempt_count",
            "live_count",
            "failure_count",
            "job_funded_count",
            "cost_micros",
        ),
        CheckConstraint("live_count = 0 OR state IN ('ready', 'running')", name="task_decided_is_quiet"),
        CheckConstraint("agreement_needed BETWEEN 1 AND 8", name="task_agreement_range"),
        CheckConstraint("rank BETWEEN 0 AND 2", name="task_rank_range"),
        Index("tasks_by_index", "job_id", "task_index", unique=True),
        partial_index("tasks_ready", "job_id", "rank", "task_id", where=TASK_IS_READY),
        partial_index("tasks_decided", "job_id", "decided_seq", unique=True, where="decided_seq > 0"),
    )
    task_id: int = Field(sa_column=row_id())
    job_id: int = Field(sa_column=big_int(foreign_key="jobs.job_id"))
    task_index: int = Field(sa_column=big_int())
    state: str = Field(sa_column=text())
    rank: int = Field(sa_column=big_int())
    wanted: int = Field(sa_column=big_int())
    agreement_needed: int = Field(sa_column=big_int())
    attempt_count: int = Field(sa_column=big_int())
    live_count: int = Field(sa_column=big_int())
    failure_count: int = Field(sa_column=big_int())
    job_funded_count: int = Field(sa_column=big_int())
    decided_seq: int = Field(sa_column=big_int())
    canonical_attempt_id: int = Field(sa_column=big_int())
    cost_micros: int = Field(sa_column=big_int())
    reason: str = Field(sa_column=text())
    detail: str = Field(sa_column=text())
    decided_at_us: int = Field(sa_column=big_int())
    evidence: str = Field(sa_column=_added_text())
    replaced_count: int = Field(sa_column=_added_int())
    visible_at_us: int = Field(sa_column=_added_int())


class TaskInputTable(SQLModel, table=True):
    """A task's inputs."""

    __tablename__ = "task_inputs"
    __table_args__ = (CheckConstraint("length(input_sha256) = 32", name="task_input_hash_length"),)
    task_id: int = Field(sa_column=row_of("tasks.task_id"))
    inline: bytes | None = Field(sa_column=blob(nullable=True))
    blob_sha256: str | None = Field(sa_column=text(nullable=True))
    size_bytes: int = Field(sa_column=big_int())
    input_sha256: bytes = Field(sa_column=blob())


class LeaseTable(SQLModel, table=True):
    """Leases: all that is needed to send the same lease again."""

    __tablename__ = "leases"
    __table_args__ = (
        _known("state", LeaseState, "lease_state_known"),
        CheckConstraint("open_count BETWEEN 0 AND attempt_count", name="lease_open_fits"),
        CheckConstraint("open_count = 0 OR state = 'live'", name="lease_ended_is_quiet"),
        CheckConstraint("(state = 'live') = (ended_at_us = 0)", name="lease_end_has_time"),
        CheckConstraint("price_micros_per_wu >= 0", name="lease_price_sign"),
        partial_index("leases_live_by_vehicle", "vehicle_id", "lease_id", where=LEASE_IS_LIVE),
        partial_index("leases_live_by_end", "expires_at_us", "lease_id", where=LEASE_IS_LIVE),
    )
    lease_id: int = Field(sa_column=row_id())
    vehicle_id: str = Field(sa_column=text())
    owner_id: str = Field(sa_column=text())
    job_id: int = Field(sa_column=big_int(foreign_key="jobs.job_id"))
    state: str = Field(sa_column=text())
    price_micros_per_wu: int = Field(sa_column=big_int())
    first_attempt_id: int = Field(sa_column=big_int())
    attempt_count: int = Field(sa_column=big_int())
    open_count: int = Field(sa_column=big_int())
    issued_at_us: int = Field(sa_column=big_int())
    expires_at_us: int = Field(sa_column=big_int())
    ended_at_us: int = Field(sa_column=big_int())


class AttemptTable(SQLModel, table=True):
    """Attempts. `counting` is 1 while the attempt binds its owner to the task: see `core.jobs`."""

    __tablename__ = "attempts"
    __table_args__ = (
        _known("state", AttemptState, "attempt_state_known"),
        _known("payer", Payer, "attempt_payer_known"),
        CheckConstraint(
            "(counting = 1) = (state IN ('leased', 'returned', 'accepted', 'rejected'))",
            name="attempt_counting_is_state",
        ),
        not_negative("attempt_money_sign", "amount_micros", "pending_transfer_id"),
        CheckConstraint("(state = 'leased') = (ended_at_us = 0)", name="attempt_end_has_time"),
        CheckConstraint("length(output_digest) IN (0, 32)", name="attempt_digest_length"),
        partial_index("attempts_counting", "task_id", "owner_id", unique=True, where="counting = 1"),
        partial_index("attempts_not_counting", "task_id", "owner_id", where="counting = 0"),
        partial_index("attempts_returned_by_vehicle", "vehicle_id", where="state = 'returned'"),
        partial_index("attempts_returned_by_time", "ended_at_us", "attempt_id", where="state = 'returned'"),
    )
    attempt_id: int = Field(sa_column=row_id())
    task_id: int = Field(sa_column=big_int(foreign_key="tasks.task_id"))
    lease_id: int = Field(sa_column=big_int(foreign_key="leases.lease_id"))
    job_id: int = Field(sa_column=big_int())
    task_index: int = Field(sa_column=big_int())
    vehicle_id: str = Field(sa_column=text())
    owner_id: str = Field(sa_column=text())
    state: str = Field(sa_column=text())
    counting: int = Field(sa_column=big_int())
    payer: str = Field(sa_column=text())
    price_micros_per_wu: int = Field(sa_column=big_int())
    amount_micros: int = Field(sa_column=big_int())
    pending_transfer_id: int = Field(sa_column=big_int())
    output_digest: bytes = Field(sa_column=blob())
    unit_root: bytes = Field(sa_column=blob())
    unit_count: int = Field(sa_column=big_int())
    run_time_us: int = Field(sa_column=big_int())
    energy_mj: int = Field(sa_column=big_int())
    reason: str = Field(sa_column=text())
    detail: str = Field(sa_column=text())
    leased_at_us: int = Field(sa_column=big_int())
    ended_at_us: int = Field(sa_column=big_int())
    decided_at_us: int = Field(sa_column=big_int())
    odometer_uwu: int = Field(sa_column=_added_int())
    numeric_class: str = Field(sa_column=_added_text())
    network: str = Field(sa_column=_added_text())


class AttemptOutputTable(SQLModel, table=True):
    """What attempts returned."""

    __tablename__ = "attempt_outputs"
    attempt_id: int = Field(sa_column=row_of("attempts.attempt_id"))
    inline: bytes | None = Field(sa_column=blob(nullable=True))
    blob_sha256: str | None = Field(sa_column=text(nullable=True))
    size_bytes: int = Field(sa_column=big_int())


class WorkEventTable(SQLModel, table=True):
    """Transitions: of jobs, leases and vehicles all; of tasks and attempts those off the straight road.

    A task or attempt that goes straight (leased, returned, accepted) tells its story in its own row's times.
    """

    __tablename__ = "work_events"
    __table_args__ = (Index("work_events_by_entity", "entity", "entity_id", "event_id"),)
    event_id: int = Field(sa_column=numbered_row_id())
    entity: str = Field(sa_column=text())
    entity_id: str = Field(sa_column=text())
    from_state: str = Field(sa_column=text())
    to_state: str = Field(sa_column=text())
    cause: str = Field(sa_column=text())
    at_us: int = Field(sa_column=big_int())

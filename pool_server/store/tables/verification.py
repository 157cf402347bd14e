"""Tables of verification: look-backs, what they question, findings, class faults, disputes in progress.

Findings are the evidence that owners and operators read; nothing here is needed to lease or to pay what goes
the straight road.
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index
from sqlalchemy import text as sql
from sqlmodel import Field, SQLModel

from pool_server.store.columns import big_int, blob, partial_index, row_id, text
from pool_server.store.tables.work import not_negative, row_of


def _int_or_0() -> Column[int]:
    """Make a column for what most rows have none of."""
    return Column(BigInteger, nullable=False, server_default=sql("0"))


class LookBackTable(SQLModel, table=True):
    """Vehicles, or classes on a program, whose results are looked at again: how far each look-back is."""

    __tablename__ = "look_backs"
    __table_args__ = (
        CheckConstraint("state IN ('opening', 'checking', 'done')", name="look_back_state_known"),
        not_negative("look_back_counters_sign", "cursor_receipt_id", "questioned_count", "wrong_count"),
        partial_index("look_backs_open", "look_back_id", where="state <> 'done'"),
        Index("look_backs_by_vehicle", "vehicle_id", "look_back_id"),
        partial_index(
            "look_backs_by_class",
            "numeric_class",
            "program_sha256",
            unique=True,
            where="numeric_class > ''",
        ),
        CheckConstraint("(vehicle_id = '') = (numeric_class > '')", name="look_back_of_vehicle_or_class"),
    )
    look_back_id: int = Field(sa_column=row_id())
    vehicle_id: str = Field(sa_column=text())
    owner_id: str = Field(sa_column=text())
    cause_attempt_id: int = Field(sa_column=big_int())
    state: str = Field(sa_column=text())
    cursor_receipt_id: int = Field(sa_column=big_int())
    questioned_count: int = Field(sa_column=big_int())
    wrong_count: int = Field(sa_column=big_int())
    opened_at_us: int = Field(sa_column=big_int())
    closed_at_us: int = Field(sa_column=big_int())
    numeric_class: str = Field(sa_column=text())
    program_sha256: str = Field(sa_column=text())


class QuestionedTable(SQLModel, table=True):
    """Paid attempts that a look-back checks again, and their money while it does."""

    __tablename__ = "questioned_attempts"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'upheld', 'wrong')", name="questioned_state_known"),
        CheckConstraint("(state = 'open') = (closed_at_us = 0)", name="questioned_end_has_time"),
        CheckConstraint("net_micros >= 0", name="questioned_money_sign"),
        Index("questioned_by_vehicle", "vehicle_id", "attempt_id"),
        Index("questioned_by_look_back", "look_back_id", "attempt_id"),
        Index("questioned_by_receipt", "receipt_id"),
        partial_index("questioned_by_time", "opened_at_us", "attempt_id", where="state = 'open'"),
    )
    attempt_id: int = Field(sa_column=row_of("attempts.attempt_id"))
    look_back_id: int = Field(sa_column=big_int(foreign_key="look_backs.look_back_id"))
    task_id: int = Field(sa_column=big_int())
    vehicle_id: str = Field(sa_column=text())
    owner_id: str = Field(sa_column=text())
    receipt_id: int = Field(sa_column=big_int())
    net_micros: int = Field(sa_column=big_int())
    state: str = Field(sa_column=text())
    opened_at_us: int = Field(sa_column=big_int())
    closed_at_us: int = Field(sa_column=big_int())


class FindingTable(SQLModel, table=True):
    """What checks found: the evidence for and against vehicles. Append-only."""

    __tablename__ = "findings"
    __table_args__ = (
        Index("findings_by_vehicle", "vehicle_id", "finding_id"),
        Index("findings_by_task", "task_id", "finding_id"),
        Index("findings_by_attempt", "attempt_id", "finding_id"),
        Index("findings_by_class", "numeric_class", "program_sha256"),
    )
    finding_id: int = Field(sa_column=row_id())
    vehicle_id: str = Field(sa_column=text())
    owner_id: str = Field(sa_column=text())
    attempt_id: int = Field(sa_column=big_int())
    task_id: int = Field(sa_column=big_int())
    job_id: int = Field(sa_column=big_int())
    task_index: int = Field(sa_column=big_int())
    kind: str = Field(sa_column=text())
    finding: str = Field(sa_column=text())
    claimed_digest: bytes = Field(sa_column=blob())
    accepted_digest: bytes = Field(sa_column=blob())
    agreeing_owners: int = Field(sa_column=big_int())
    trusted_node: int = Field(sa_column=big_int())
    unit_index: int = Field(sa_column=big_int())
    clawed_back_micros: int = Field(sa_column=big_int())
    numeric_class: str = Field(sa_column=text())
    program_sha256: str = Field(sa_column=text())
    found_at_us: int = Field(sa_column=big_int())
    lost_uwu: int = Field(sa_column=_int_or_0())
    granted_micros: int = Field(sa_column=_int_or_0())


class ClassFaultTable(SQLModel, table=True):
    """Numeric classes that are wrong on a program as a whole."""

    __tablename__ = "class_faults"
    __table_args__ = (
        not_negative("class_fault_counters_sign", "vehicle_count", "task_count"),
        Index("class_faults_by_class", "numeric_class", "program_sha256", unique=True),
    )
    class_fault_id: int = Field(sa_column=row_id())
    numeric_class: str = Field(sa_column=text())
    program_sha256: str = Field(sa_column=text())
    vehicle_count: int = Field(sa_column=big_int())
    task_count: int = Field(sa_column=big_int())
    found_at_us: int = Field(sa_column=big_int())


class ClassAskTable(SQLModel, table=True):
    """Undecided tasks whose next opinion shall come from some numeric classes and not from others."""

    __tablename__ = "class_asks"
    __table_args__ = (
        CheckConstraint("scope IN ('across', 'within')", name="class_ask_scope_known"),
        Index("class_asks_by_time", "until_us", "task_id"),
        Index("class_asks_by_class", "numeric_class", "task_id"),
    )
    task_id: int = Field(sa_column=row_of("tasks.task_id"))
    scope: str = Field(sa_column=text())
    numeric_class: str = Field(sa_column=text())
    until_us: int = Field(sa_column=big_int())


class DisputeTable(SQLModel, table=True):
    """Pairs of results of step tasks that disagree: the unit in which they part, and what came of it."""

    __tablename__ = "disputes"
    __table_args__ = (
        CheckConstraint(
            "state IN ('asking', 'refereeing', 'checking', 'decided', 'no_blame', 'ended')",
            name="dispute_state_known",
        ),
        CheckConstraint(
            "(state IN ('asking', 'refereeing', 'checking')) = (closed_at_us = 0)", name="dispute_has_end"
        ),
        Index("disputes_by_task", "task_id", "dispute_id"),
        partial_index("disputes_refereeing", "dispute_id", where="state = 'refereeing'"),
    )
    dispute_id: int = Field(sa_column=row_id())
    task_id: int = Field(sa_column=big_int())
    first_attempt_id: int = Field(sa_column=big_int())
    second_attempt_id: int = Field(sa_column=big_int())
    first_final_digest: bytes = Field(sa_column=blob())
    second_final_digest: bytes = Field(sa_column=blob())
    state: str = Field(sa_column=text())
    rounds: int = Field(sa_column=big_int())
    unit_index: int = Field(sa_column=big_int())
    start_digest: bytes = Field(sa_column=blob())
    winner_attempt_id: int = Field(sa_column=big_int())
    referee_digest: bytes = Field(sa_column=blob())
    referee_class: str = Field(sa_column=text())
    referee_tries: int = Field(sa_column=big_int())
    reason: str = Field(sa_column=text())
    opened_at_us: int = Field(sa_column=big_int())
    closed_at_us: int = Field(sa_column=big_int())


class PrefixClaimTable(SQLModel, table=True):
    """Step attempts that were stopped after whole units: what they claim, and what is reserved for it."""

    __tablename__ = "prefix_claims"
    __table_args__ = (
        CheckConstraint(
            "state IN ('waiting', 'asking', 'standing', 'paid', 'wrong', 'unpaid')", name="prefix_state_known"
        ),
        CheckConstraint(
            "(state IN ('waiting', 'asking', 'standing')) = (closed_at_us = 0)", name="prefix_has_end"
        ),
        CheckConstraint("unit_count > 0 AND work_uwu > 0 AND gross_micros > 0", name="prefix_is_something"),
        partial_index("prefix_claims_open", "look_at_us", "attempt_id", where="closed_at_us = 0"),
        Index("prefix_claims_by_task", "task_id", "attempt_id"),
        Index("prefix_claims_by_vehicle", "vehicle_id", "attempt_id"),
    )
    attempt_id: int = Field(sa_column=row_of("attempts.attempt_id"))
    task_id: int = Field(sa_column=big_int())
    job_id: int = Field(sa_column=big_int())
    vehicle_id: str = Field(sa_column=text())
    owner_id: str = Field(sa_column=text())
    unit_count: int = Field(sa_column=big_int())
    work_uwu: int = Field(sa_column=big_int())
    gross_micros: int = Field(sa_column=big_int())
    pending_transfer_id: int = Field(sa_column=big_int())
    state: str = Field(sa_column=text())
    reason: str = Field(sa_column=text())
    look_at_us: int = Field(sa_column=big_int())
    claimed_at_us: int = Field(sa_column=big_int())
    expires_at_us: int = Field(sa_column=big_int())
    closed_at_us: int = Field(sa_column=big_int())


class UnitQueryTable(SQLModel, table=True):
    """Questions about committed states, and their answers: a dispute in progress."""

    __tablename__ = "unit_queries"
    __table_args__ = (
        CheckConstraint("state IN ('asked', 'answered', 'withheld')", name="unit_query_state_known"),
        Index("unit_queries_by_attempt", "attempt_id", "query_id"),
        partial_index("unit_queries_open", "vehicle_id", "query_id", where="state = 'asked'"),
        partial_index("unit_queries_by_time", "expires_at_us", "query_id", where="state = 'asked'"),
    )
    query_id: int = Field(sa_column=row_id())
    task_id: int = Field(sa_column=big_int())
    attempt_id: int = Field(sa_column=big_int())
    vehicle_id: str = Field(sa_column=text())
    unit_index: int = Field(sa_column=big_int())
    want_state: int = Field(sa_column=big_int())
    state: str = Field(sa_column=text())
    digest: bytes = Field(sa_column=blob())
    inline: bytes | None = Field(sa_column=blob(nullable=True))
    blob_sha256: str | None = Field(sa_column=text(nullable=True))
    size_bytes: int = Field(sa_column=big_int())
    reason: str = Field(sa_column=text())
    asked_at_us: int = Field(sa_column=big_int())
    expires_at_us: int = Field(sa_column=big_int())
    answered_at_us: int = Field(sa_column=big_int())


class UnitCheckTable(SQLModel, table=True):
    """Single units of claims, run again from the claim's own state: how far each is, and what it found."""

    __tablename__ = "unit_checks"
    __table_args__ = (
        CheckConstraint(
            "state IN ('asking', 'refereeing', 'within', 'outside', 'unsettled')",
            name="unit_check_state_known",
        ),
        CheckConstraint(
            "(state IN ('asking', 'refereeing')) = (closed_at_us = 0)", name="unit_check_has_end"
        ),
        Index("unit_checks_by_attempt", "attempt_id", "unit_index", unique=True),
        partial_index("unit_checks_refereeing", "check_id", where="state = 'refereeing'"),
    )
    check_id: int = Field(sa_column=row_id())
    task_id: int = Field(sa_column=big_int())
    attempt_id: int = Field(sa_column=big_int())
    unit_index: int = Field(sa_column=big_int())
    state: str = Field(sa_column=text())
    tries: int = Field(sa_column=big_int())
    referee_digest: bytes = Field(sa_column=blob())
    referee_class: str = Field(sa_column=text())
    reason: str = Field(sa_column=text())
    opened_at_us: int = Field(sa_column=big_int())
    closed_at_us: int = Field(sa_column=big_int())


class PoolRunTable(SQLModel, table=True):
    """Tasks that the pool computes itself: where results contradict each other, or instead of auditors."""

    __tablename__ = "pool_runs"
    __table_args__ = (
        CheckConstraint("state IN ('wanted', 'done', 'failed')", name="pool_run_state_known"),
        CheckConstraint("cause IN ('contradiction', 'audit')", name="pool_run_cause_known"),
        CheckConstraint("(state = 'wanted') = (ended_at_us = 0)", name="pool_run_has_end"),
        partial_index("pool_runs_wanted", "task_id", where="state = 'wanted'"),
        partial_index("pool_runs_done", "ended_at_us", where="state = 'done'"),
        partial_index("pool_runs_failed", "task_id", where="state = 'failed'"),
    )
    task_id: int = Field(sa_column=row_of("tasks.task_id"))
    cause: str = Field(sa_column=text())
    state: str = Field(sa_column=text())
    tries: int = Field(sa_column=big_int())
    output_digest: bytes = Field(sa_column=blob())
    inline: bytes | None = Field(sa_column=blob(nullable=True))
    blob_sha256: str | None = Field(sa_column=text(nullable=True))
    size_bytes: int = Field(sa_column=big_int())
    numeric_class: str = Field(sa_column=text())
    reason: str = Field(sa_column=text())
    wanted_at_us: int = Field(sa_column=big_int())
    ended_at_us: int = Field(sa_column=big_int())

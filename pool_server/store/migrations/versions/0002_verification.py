"""Verification: trusted nodes, numeric classes, comparators, look-backs, findings, disputes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "class_faults",
        sa.Column(
            "class_fault_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("numeric_class", sa.String(), nullable=False),
        sa.Column("program_sha256", sa.String(), nullable=False),
        sa.Column("vehicle_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("found_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("vehicle_count >= 0 AND task_count >= 0", name="class_fault_counters_sign"),
        sa.PrimaryKeyConstraint("class_fault_id"),
    )
    op.create_index("class_faults_by_class", "class_faults", ["numeric_class", "program_sha256"], unique=True)
    op.create_table(
        "findings",
        sa.Column(
            "finding_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("finding", sa.String(), nullable=False),
        sa.Column("claimed_digest", sa.LargeBinary(), nullable=False),
        sa.Column("accepted_digest", sa.LargeBinary(), nullable=False),
        sa.Column("agreeing_owners", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("trusted_node", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("unit_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("clawed_back_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("numeric_class", sa.String(), nullable=False),
        sa.Column("program_sha256", sa.String(), nullable=False),
        sa.Column("found_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lost_uwu", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("granted_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("finding_id"),
    )
    op.create_index("findings_by_attempt", "findings", ["attempt_id", "finding_id"], unique=False)
    op.create_index("findings_by_class", "findings", ["numeric_class", "program_sha256"], unique=False)
    op.create_index("findings_by_task", "findings", ["task_id", "finding_id"], unique=False)
    op.create_index("findings_by_vehicle", "findings", ["vehicle_id", "finding_id"], unique=False)
    op.create_table(
        "look_backs",
        sa.Column(
            "look_back_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("cause_attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cursor_receipt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("questioned_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("wrong_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("opened_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("closed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("numeric_class", sa.String(), nullable=False),
        sa.Column("program_sha256", sa.String(), nullable=False),
        sa.CheckConstraint("(vehicle_id = '') = (numeric_class > '')", name="look_back_of_vehicle_or_class"),
        sa.CheckConstraint("state IN ('opening', 'checking', 'done')", name="look_back_state_known"),
        sa.CheckConstraint(
            "cursor_receipt_id >= 0 AND questioned_count >= 0 AND wrong_count >= 0",
            name="look_back_counters_sign",
        ),
        sa.PrimaryKeyConstraint("look_back_id"),
    )
    op.create_index(
        "look_backs_by_class",
        "look_backs",
        ["numeric_class", "program_sha256"],
        unique=True,
        sqlite_where=sa.text("numeric_class > ''"),
        postgresql_where=sa.text("numeric_class > ''"),
    )
    op.create_index("look_backs_by_vehicle", "look_backs", ["vehicle_id", "look_back_id"], unique=False)
    op.create_index(
        "look_backs_open",
        "look_backs",
        ["look_back_id"],
        unique=False,
        sqlite_where=sa.text("state <> 'done'"),
        postgresql_where=sa.text("state <> 'done'"),
    )
    op.create_table(
        "disputes",
        sa.Column(
            "dispute_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("second_attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_final_digest", sa.LargeBinary(), nullable=False),
        sa.Column("second_final_digest", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("rounds", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("unit_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("start_digest", sa.LargeBinary(), nullable=False),
        sa.Column("winner_attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("referee_digest", sa.LargeBinary(), nullable=False),
        sa.Column("referee_class", sa.String(), nullable=False),
        sa.Column("referee_tries", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("opened_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("closed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint(
            "(state IN ('asking', 'refereeing', 'checking')) = (closed_at_us = 0)", name="dispute_has_end"
        ),
        sa.CheckConstraint(
            "state IN ('asking', 'refereeing', 'checking', 'decided', 'no_blame', 'ended')",
            name="dispute_state_known",
        ),
        sa.PrimaryKeyConstraint("dispute_id"),
    )
    op.create_index("disputes_by_task", "disputes", ["task_id", "dispute_id"], unique=False)
    op.create_index(
        "disputes_refereeing",
        "disputes",
        ["dispute_id"],
        unique=False,
        sqlite_where=sa.text("state = 'refereeing'"),
        postgresql_where=sa.text("state = 'refereeing'"),
    )
    op.create_table(
        "unit_queries",
        sa.Column(
            "query_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("unit_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("want_state", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("inline", sa.LargeBinary(), nullable=True),
        sa.Column("blob_sha256", sa.String(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("asked_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("answered_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("state IN ('asked', 'answered', 'withheld')", name="unit_query_state_known"),
        sa.PrimaryKeyConstraint("query_id"),
    )
    op.create_index("unit_queries_by_attempt", "unit_queries", ["attempt_id", "query_id"], unique=False)
    op.create_index(
        "unit_queries_by_time",
        "unit_queries",
        ["expires_at_us", "query_id"],
        unique=False,
        sqlite_where=sa.text("state = 'asked'"),
        postgresql_where=sa.text("state = 'asked'"),
    )
    op.create_index(
        "unit_queries_open",
        "unit_queries",
        ["vehicle_id", "query_id"],
        unique=False,
        sqlite_where=sa.text("state = 'asked'"),
        postgresql_where=sa.text("state = 'asked'"),
    )
    op.create_table(
        "prefix_claims",
        sa.Column(
            "attempt_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("unit_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("work_uwu", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("gross_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pending_transfer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("look_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("claimed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("closed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint(
            "state IN ('waiting', 'asking', 'standing', 'paid', 'wrong', 'unpaid')", name="prefix_state_known"
        ),
        sa.CheckConstraint(
            "(state IN ('waiting', 'asking', 'standing')) = (closed_at_us = 0)", name="prefix_has_end"
        ),
        sa.CheckConstraint(
            "unit_count > 0 AND work_uwu > 0 AND gross_micros > 0", name="prefix_is_something"
        ),
        sa.ForeignKeyConstraint(
            ["attempt_id"],
            ["attempts.attempt_id"],
        ),
        sa.PrimaryKeyConstraint("attempt_id"),
    )
    op.create_index("prefix_claims_by_task", "prefix_claims", ["task_id", "attempt_id"], unique=False)
    op.create_index("prefix_claims_by_vehicle", "prefix_claims", ["vehicle_id", "attempt_id"], unique=False)
    op.create_index(
        "prefix_claims_open",
        "prefix_claims",
        ["look_at_us", "attempt_id"],
        unique=False,
        sqlite_where=sa.text("closed_at_us = 0"),
        postgresql_where=sa.text("closed_at_us = 0"),
    )
    op.create_table(
        "unit_checks",
        sa.Column(
            "check_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("unit_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tries", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("referee_digest", sa.LargeBinary(), nullable=False),
        sa.Column("referee_class", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("opened_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("closed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint(
            "(state IN ('asking', 'refereeing')) = (closed_at_us = 0)", name="unit_check_has_end"
        ),
        sa.CheckConstraint(
            "state IN ('asking', 'refereeing', 'within', 'outside', 'unsettled')",
            name="unit_check_state_known",
        ),
        sa.PrimaryKeyConstraint("check_id"),
    )
    op.create_index("unit_checks_by_attempt", "unit_checks", ["attempt_id", "unit_index"], unique=True)
    op.create_index(
        "unit_checks_refereeing",
        "unit_checks",
        ["check_id"],
        unique=False,
        sqlite_where=sa.text("state = 'refereeing'"),
        postgresql_where=sa.text("state = 'refereeing'"),
    )
    op.create_table(
        "class_asks",
        sa.Column(
            "task_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("numeric_class", sa.String(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("scope IN ('across', 'within')", name="class_ask_scope_known"),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["tasks.task_id"],
        ),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_index("class_asks_by_class", "class_asks", ["numeric_class", "task_id"], unique=False)
    op.create_index("class_asks_by_time", "class_asks", ["until_us", "task_id"], unique=False)
    op.create_table(
        "questioned_attempts",
        sa.Column(
            "attempt_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("look_back_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("receipt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("net_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("opened_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("closed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("(state = 'open') = (closed_at_us = 0)", name="questioned_end_has_time"),
        sa.CheckConstraint("state IN ('open', 'upheld', 'wrong')", name="questioned_state_known"),
        sa.CheckConstraint("net_micros >= 0", name="questioned_money_sign"),
        sa.ForeignKeyConstraint(
            ["attempt_id"],
            ["attempts.attempt_id"],
        ),
        sa.ForeignKeyConstraint(
            ["look_back_id"],
            ["look_backs.look_back_id"],
        ),
        sa.PrimaryKeyConstraint("attempt_id"),
    )
    op.create_index(
        "questioned_by_look_back", "questioned_attempts", ["look_back_id", "attempt_id"], unique=False
    )
    op.create_index("questioned_by_receipt", "questioned_attempts", ["receipt_id"], unique=False)
    op.create_index(
        "questioned_by_time",
        "questioned_attempts",
        ["opened_at_us", "attempt_id"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "questioned_by_vehicle", "questioned_attempts", ["vehicle_id", "attempt_id"], unique=False
    )
    op.create_table(
        "pool_runs",
        sa.Column(
            "task_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tries", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("output_digest", sa.LargeBinary(), nullable=False),
        sa.Column("inline", sa.LargeBinary(), nullable=True),
        sa.Column("blob_sha256", sa.String(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("numeric_class", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("wanted_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("(state = 'wanted') = (ended_at_us = 0)", name="pool_run_has_end"),
        sa.CheckConstraint("cause IN ('contradiction', 'audit')", name="pool_run_cause_known"),
        sa.CheckConstraint("state IN ('wanted', 'done', 'failed')", name="pool_run_state_known"),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["tasks.task_id"],
        ),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_index(
        "pool_runs_done",
        "pool_runs",
        ["ended_at_us"],
        unique=False,
        sqlite_where=sa.text("state = 'done'"),
        postgresql_where=sa.text("state = 'done'"),
    )
    op.create_index(
        "pool_runs_failed",
        "pool_runs",
        ["task_id"],
        unique=False,
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index(
        "pool_runs_wanted",
        "pool_runs",
        ["task_id"],
        unique=False,
        sqlite_where=sa.text("state = 'wanted'"),
        postgresql_where=sa.text("state = 'wanted'"),
    )
    op.add_column(
        "attempts", sa.Column("odometer_uwu", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "attempts", sa.Column("numeric_class", sa.String(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column("attempts", sa.Column("network", sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column(
        "fleet_trust", sa.Column("odometer_uwu", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "fleet_trust", sa.Column("final_uwu", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "fleet_vehicles", sa.Column("trusted", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "fleet_vehicles",
        sa.Column("numeric_class", sa.String(), server_default=sa.text("''"), nullable=False),
    )
    op.add_column(
        "fleet_vehicles",
        sa.Column("numeric_families_json", sa.String(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.create_index(
        "vehicles_by_class", "fleet_vehicles", ["numeric_class", "state", "owner_id"], unique=False
    )
    op.add_column("jobs", sa.Column("ulps", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column(
        "jobs",
        sa.Column("output_comparators_json", sa.String(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column(
        "jobs", sa.Column("certificate_sha256", sa.String(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column(
        "jobs",
        sa.Column("certificate_failures", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "jobs", sa.Column("rechecking_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "jobs", sa.Column("replaced_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("tasks", sa.Column("evidence", sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column(
        "tasks", sa.Column("replaced_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "tasks", sa.Column("visible_at_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")

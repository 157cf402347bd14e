"""The initial schema: work, identities, the books with their triggers."""

import sqlalchemy as sa
from alembic import op

from pool_server.store.triggers import POSTGRESQL_FUNCTION, append_only, refuse

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


#: What was written to the books stays as it was written.
_APPEND_ONLY = (
    "transfers",
    "idempotency_keys",
    "failed_ids",
    "receipt_batches",
    "receipts",
    "posted_prices",
    "payout_rows",
    "payout_files",
)
_ACCOUNT_IDENTITY = (
    "account_id, name, code, debits_must_not_exceed_credits, credits_must_not_exceed_debits, "
    "sweep_to_account_id, opened_at_us, chain_hash"
)
_RUN_FIGURES = "payout_id, currency, total_micros, row_count, idempotency_key, planned_by, planned_at_us"
#: Name, moment, table, what is refused, when.
_REFUSED = (
    ("accounts_no_delete", "DELETE", "accounts", "rows are immutable", ""),
    ("accounts_identity", f"UPDATE OF {_ACCOUNT_IDENTITY}", "accounts", "identity is immutable", ""),
    (
        "accounts_state_forward",
        "UPDATE OF state",
        "accounts",
        "state only goes forward",
        "NEW.state < OLD.state",
    ),
    ("marks_forward", "UPDATE", "marks", "only goes forward", "NEW.value < OLD.value"),
    ("payout_runs_no_delete", "DELETE", "payout_runs", "rows are immutable", ""),
    ("payout_runs_figures", f"UPDATE OF {_RUN_FIGURES}", "payout_runs", "figures are immutable", ""),
    (
        "payout_runs_ended",
        "UPDATE",
        "payout_runs",
        "the run has ended",
        "OLD.state IN ('exported', 'cancelled')",
    ),
)


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column(
            "account_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("code", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("debits_must_not_exceed_credits", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("credits_must_not_exceed_debits", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sweep_to_account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("debits_pending", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("debits_posted", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("credits_pending", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("credits_posted", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("opened_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("chain_hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("account_id > 0", name="account_id_positive"),
        sa.CheckConstraint(
            "credits_must_not_exceed_debits = 0 OR credits_pending + credits_posted <= debits_posted",
            name="account_credits_limit",
        ),
        sa.CheckConstraint("credits_must_not_exceed_debits IN (0, 1)", name="account_credits_flag"),
        sa.CheckConstraint("credits_pending >= 0", name="account_credits_pending_sign"),
        sa.CheckConstraint("credits_posted >= 0", name="account_credits_posted_sign"),
        sa.CheckConstraint(
            "debits_must_not_exceed_credits = 0 OR debits_pending + debits_posted <= credits_posted",
            name="account_debits_limit",
        ),
        sa.CheckConstraint("debits_must_not_exceed_credits IN (0, 1)", name="account_debits_flag"),
        sa.CheckConstraint("debits_pending >= 0", name="account_debits_pending_sign"),
        sa.CheckConstraint("debits_posted >= 0", name="account_debits_posted_sign"),
        sa.CheckConstraint(
            "state <> 2 OR (debits_pending = 0 AND credits_pending = 0 AND debits_posted = credits_posted)",
            name="account_closed_is_empty",
        ),
        sa.CheckConstraint("state IN (0, 1, 2)", name="account_state_known"),
        sa.PrimaryKeyConstraint("account_id"),
    )
    op.create_index("account_name", "accounts", ["name"], unique=True)
    op.create_index(
        "account_sweep_to",
        "accounts",
        ["sweep_to_account_id"],
        unique=False,
        sqlite_where=sa.text("sweep_to_account_id > 0"),
        postgresql_where=sa.text("sweep_to_account_id > 0"),
    )
    op.create_table(
        "blob_grants",
        sa.Column("blob_sha256", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("uploaded", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("blob_sha256", "holder"),
    )
    op.create_index("blob_grants_by_holder", "blob_grants", ["holder"], unique=False)
    op.create_table(
        "blobs",
        sa.Column("blob_sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("size_bytes >= 0", name="blob_size_not_negative"),
        sa.PrimaryKeyConstraint("blob_sha256"),
    )
    op.create_table(
        "enrolments",
        sa.Column("device_code_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("user_code", sa.String(), nullable=False),
        sa.Column("csr_pem", sa.LargeBinary(), nullable=False),
        sa.Column("envelope_public_key", sa.LargeBinary(), nullable=False),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("certificate_pem", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "state <> 'approved' OR (vehicle_id <> '' AND length(certificate_pem) > 0)",
            name="enrolment_approved_is_whole",
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'approved', 'denied', 'used', 'superseded')", name="enrolment_state_known"
        ),
        sa.CheckConstraint("length(envelope_public_key) = 32", name="enrolment_key_length"),
        sa.PrimaryKeyConstraint("device_code_sha256"),
    )
    op.create_index("enrolments_by_code", "enrolments", ["user_code"], unique=False)
    op.create_index("enrolments_by_vehicle", "enrolments", ["vehicle_id"], unique=False)
    op.create_index(
        "enrolments_pending_code",
        "enrolments",
        ["user_code"],
        unique=True,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "failed_ids",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("input_hash", sa.LargeBinary(), nullable=False),
        sa.Column("failed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("length(input_hash) = 32", name="failed_id_hash_size"),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "fleet_trust",
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("trust_class", sa.String(), nullable=False),
        sa.Column("clean_uwu", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("accepted_attempts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("rejected_attempts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint(
            "clean_uwu >= 0 AND accepted_attempts >= 0 AND rejected_attempts >= 0", name="trust_counters_sign"
        ),
        sa.PrimaryKeyConstraint("vehicle_id", "trust_class"),
    )
    op.create_table(
        "fleet_vehicles",
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("enrolled_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_seen_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("verified_attempts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("rejected_attempts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("abandoned_attempts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("rejected_since_release", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("speed_uwu_per_s", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("quarantine_reason", sa.String(), nullable=False),
        sa.CheckConstraint(
            "state <> 'quarantined' OR quarantine_reason <> ''", name="vehicle_quarantine_has_reason"
        ),
        sa.CheckConstraint(
            "state IN ('enrolled', 'available', 'leased', 'draining', 'lost', 'quarantined', 'retired')",
            name="vehicle_state_known",
        ),
        sa.CheckConstraint(
            "verified_attempts >= 0 AND rejected_attempts >= 0 AND abandoned_attempts >= 0 AND rejected_since_release >= 0 AND speed_uwu_per_s >= 0",
            name="vehicle_counters_sign",
        ),
        sa.PrimaryKeyConstraint("vehicle_id"),
    )
    op.create_index("fleet_vehicles_by_owner", "fleet_vehicles", ["owner_id", "vehicle_id"], unique=False)
    op.create_index(
        "fleet_vehicles_by_state", "fleet_vehicles", ["state", "last_seen_us", "vehicle_id"], unique=False
    )
    op.create_table(
        "id_counters",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("next_value", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "jobs",
        sa.Column(
            "job_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("buyer_id", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("program_sha256", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("work_uwu_per_task", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("unit_steps", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("steps_per_task", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("outputs_json", sa.String(), nullable=False),
        sa.Column("price_mode", sa.String(), nullable=False),
        sa.Column("price_micros_per_wu", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("budget_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("comparator", sa.String(), nullable=False),
        sa.Column("rtol", sa.Float(precision=53), nullable=False),
        sa.Column("atol", sa.Float(precision=53), nullable=False),
        sa.Column("failures_max", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempts_max", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("deadline_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end_reason", sa.String(), nullable=False),
        sa.Column("task_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ready_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("urgent_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("accepted_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("failed_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("cancelled_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("rejected_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("spent_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("decided_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_lease_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("(state IN ('done', 'cancelled')) = (ended_at_us > 0)", name="job_end_has_time"),
        sa.CheckConstraint(
            "level IN ('spot', 'standard', 'careful', 'strict', 'full', 'none')", name="job_level_known"
        ),
        sa.CheckConstraint("price_mode IN ('spot', 'quote', 'donate')", name="job_price_mode_known"),
        sa.CheckConstraint("state IN ('open', 'closing', 'done', 'cancelled')", name="job_state_known"),
        sa.CheckConstraint(
            "state NOT IN ('done', 'cancelled') OR accepted_count + failed_count + cancelled_count = task_count",
            name="job_end_decides_all",
        ),
        sa.CheckConstraint(
            "price_micros_per_wu >= 0 AND budget_micros >= 0 AND spent_micros >= 0", name="job_money_sign"
        ),
        sa.CheckConstraint(
            "ready_count + accepted_count + failed_count + cancelled_count <= task_count",
            name="job_counters_fit",
        ),
        sa.CheckConstraint("spent_micros <= budget_micros", name="job_within_budget"),
        sa.CheckConstraint(
            "task_count >= 0 AND ready_count >= 0 AND urgent_count >= 0 AND accepted_count >= 0 AND failed_count >= 0 AND cancelled_count >= 0 AND attempt_count >= 0 AND rejected_count >= 0 AND decided_seq >= 0 AND last_lease_id >= 0",
            name="job_counters_sign",
        ),
        sa.CheckConstraint("urgent_count <= ready_count", name="job_urgent_fit"),
        sa.CheckConstraint("work_uwu_per_task > 0", name="job_work_positive"),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("jobs_by_buyer", "jobs", ["buyer_id", "job_id"], unique=False)
    op.create_index(
        "jobs_by_deadline",
        "jobs",
        ["deadline_us", "job_id"],
        unique=False,
        sqlite_where=sa.text("deadline_us > 0 AND state IN ('open', 'closing')"),
        postgresql_where=sa.text("deadline_us > 0 AND state IN ('open', 'closing')"),
    )
    op.create_index("jobs_by_key", "jobs", ["buyer_id", "idempotency_key"], unique=True)
    op.create_index("jobs_by_state", "jobs", ["state"], unique=False)
    op.create_index(
        "jobs_with_ready_tasks",
        "jobs",
        ["job_id"],
        unique=False,
        sqlite_where=sa.text("ready_count > 0 AND state IN ('open', 'closing')"),
        postgresql_where=sa.text("ready_count > 0 AND state IN ('open', 'closing')"),
    )
    op.create_table(
        "marks",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "owner_days",
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("work_uwu", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("gross_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fee_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("net_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "day", "vehicle_id"),
    )
    op.create_table(
        "payout_details",
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("holder_name", sa.String(), nullable=False),
        sa.Column("iban", sa.String(), nullable=False),
        sa.Column("threshold_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("threshold_micros > 0", name="payout_details_threshold"),
        sa.PrimaryKeyConstraint("owner_id"),
    )
    op.create_table(
        "payout_runs",
        sa.Column(
            "payout_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("total_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("row_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("planned_by", sa.String(), nullable=False),
        sa.Column("planned_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("approved_by", sa.String(), nullable=False),
        sa.Column("approved_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ended_by", sa.String(), nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("file_sha256", sa.String(), nullable=False),
        sa.CheckConstraint(
            "(state IN ('approved', 'exported')) = (approved_by <> '')", name="payout_run_approved_by_someone"
        ),
        sa.CheckConstraint("approved_by <> planned_by OR approved_by = ''", name="payout_run_four_eyes"),
        sa.CheckConstraint(
            "state IN ('planned', 'approved', 'exported', 'cancelled')", name="payout_run_state"
        ),
        sa.CheckConstraint("total_micros >= 0 AND total_micros % 10000 = 0", name="payout_run_whole_cents"),
        sa.PrimaryKeyConstraint("payout_id"),
    )
    op.create_index("payout_run_key", "payout_runs", ["idempotency_key"], unique=True)
    op.create_index(
        "payout_run_one_planned",
        "payout_runs",
        ["state"],
        unique=True,
        sqlite_where=sa.text("state = 'planned'"),
        postgresql_where=sa.text("state = 'planned'"),
    )
    op.create_table(
        "posted_prices",
        sa.Column(
            "price_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("price_micros_per_wu", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("price_micros_per_wu >= 0", name="posted_price_sign"),
        sa.PrimaryKeyConstraint("price_id"),
    )
    op.create_table(
        "principals",
        sa.Column("principal_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("role IN ('owner', 'buyer', 'operator')", name="principal_role_known"),
        sa.PrimaryKeyConstraint("principal_id"),
    )
    op.create_table(
        "programs",
        sa.Column("program_sha256", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("work_uwu", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("admission", sa.LargeBinary(), nullable=False),
        sa.Column("admitted_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('map', 'step')", name="program_kind_known"),
        sa.CheckConstraint("work_uwu > 0", name="program_work_positive"),
        sa.PrimaryKeyConstraint("program_sha256"),
    )
    op.create_table(
        "receipt_batches",
        sa.Column(
            "batch_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("first_receipt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("leaf_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("merkle_root", sa.LargeBinary(), nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.Column("signed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("leaf_count > 0", name="receipt_batch_not_empty"),
        sa.CheckConstraint("length(merkle_root) = 32", name="receipt_batch_root_size"),
        sa.PrimaryKeyConstraint("batch_id"),
    )
    op.create_index("receipt_batch_first", "receipt_batches", ["first_receipt_id"], unique=True)
    op.create_index("receipt_batch_time", "receipt_batches", ["signed_at_us", "batch_id"], unique=False)
    op.create_table(
        "roots",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("signed_root", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "settings",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "work_events",
        sa.Column(
            "event_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("entity_id", sa.String(), nullable=False),
        sa.Column("from_state", sa.String(), nullable=False),
        sa.Column("to_state", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("work_events_by_entity", "work_events", ["entity", "entity_id", "event_id"], unique=False)
    op.create_table(
        "job_constants",
        sa.Column(
            "job_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("inline", sa.LargeBinary(), nullable=True),
        sa.Column("blob_sha256", sa.String(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.job_id"],
        ),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "leases",
        sa.Column(
            "lease_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("price_micros_per_wu", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("open_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("issued_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("(state = 'live') = (ended_at_us = 0)", name="lease_end_has_time"),
        sa.CheckConstraint("open_count = 0 OR state = 'live'", name="lease_ended_is_quiet"),
        sa.CheckConstraint("state IN ('live', 'done', 'expired', 'cancelled')", name="lease_state_known"),
        sa.CheckConstraint("open_count BETWEEN 0 AND attempt_count", name="lease_open_fits"),
        sa.CheckConstraint("price_micros_per_wu >= 0", name="lease_price_sign"),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.job_id"],
        ),
        sa.PrimaryKeyConstraint("lease_id"),
    )
    op.create_index(
        "leases_live_by_end",
        "leases",
        ["expires_at_us", "lease_id"],
        unique=False,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_index(
        "leases_live_by_vehicle",
        "leases",
        ["vehicle_id", "lease_id"],
        unique=False,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_table(
        "payout_files",
        sa.Column("payout_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("sha256_hex", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["payout_id"],
            ["payout_runs.payout_id"],
        ),
        sa.PrimaryKeyConstraint("payout_id"),
    )
    op.create_table(
        "payout_rows",
        sa.Column("payout_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("holder_name", sa.String(), nullable=False),
        sa.Column("iban", sa.String(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.CheckConstraint("amount_micros > 0 AND amount_micros % 10000 = 0", name="payout_row_whole_cents"),
        sa.ForeignKeyConstraint(
            ["payout_id"],
            ["payout_runs.payout_id"],
        ),
        sa.PrimaryKeyConstraint("payout_id", "owner_id"),
    )
    op.create_index("payout_row_owner", "payout_rows", ["owner_id", "payout_id"], unique=False)
    op.create_table(
        "program_submissions",
        sa.Column("submission_sha256", sa.String(), nullable=False),
        sa.Column("program_sha256", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["program_sha256"],
            ["programs.program_sha256"],
        ),
        sa.PrimaryKeyConstraint("submission_sha256"),
    )
    op.create_table(
        "quotes",
        sa.Column("quote_id", sa.String(), nullable=False),
        sa.Column("buyer_id", sa.String(), nullable=False),
        sa.Column("program_sha256", sa.String(), nullable=False),
        sa.Column("task_count", sa.BigInteger(), nullable=False),
        sa.Column("steps_per_task", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("price_micros_per_wu", sa.BigInteger(), nullable=False),
        sa.Column("work_uwu_per_task", sa.BigInteger(), nullable=False),
        sa.Column("attempts_per_task", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros_per_task", sa.BigInteger(), nullable=False),
        sa.Column("total_micros", sa.BigInteger(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("price_micros_per_wu >= 0 AND total_micros >= 0", name="quote_not_negative"),
        sa.ForeignKeyConstraint(
            ["buyer_id"],
            ["principals.principal_id"],
        ),
        sa.ForeignKeyConstraint(
            ["program_sha256"],
            ["programs.program_sha256"],
        ),
        sa.PrimaryKeyConstraint("quote_id"),
    )
    op.create_table(
        "tasks",
        sa.Column(
            "task_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("rank", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("wanted", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("agreement_needed", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("live_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("failure_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_funded_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("decided_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("canonical_attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("decided_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint(
            "(canonical_attempt_id > 0) = (state = 'accepted')", name="task_accepted_has_result"
        ),
        sa.CheckConstraint(
            "(decided_seq > 0) = (state NOT IN ('ready', 'running'))", name="task_decided_has_cursor"
        ),
        sa.CheckConstraint("(wanted > 0) = (state = 'ready')", name="task_ready_wants"),
        sa.CheckConstraint("live_count = 0 OR state IN ('ready', 'running')", name="task_decided_is_quiet"),
        sa.CheckConstraint(
            "state IN ('ready', 'running', 'accepted', 'failed', 'cancelled')", name="task_state_known"
        ),
        sa.CheckConstraint("agreement_needed BETWEEN 1 AND 8", name="task_agreement_range"),
        sa.CheckConstraint("rank BETWEEN 0 AND 2", name="task_rank_range"),
        sa.CheckConstraint(
            "wanted >= 0 AND attempt_count >= 0 AND live_count >= 0 AND failure_count >= 0 AND job_funded_count >= 0 AND cost_micros >= 0",
            name="task_counters_sign",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.job_id"],
        ),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_index("tasks_by_index", "tasks", ["job_id", "task_index"], unique=True)
    op.create_index(
        "tasks_decided",
        "tasks",
        ["job_id", "decided_seq"],
        unique=True,
        sqlite_where=sa.text("decided_seq > 0"),
        postgresql_where=sa.text("decided_seq > 0"),
    )
    op.create_index(
        "tasks_ready",
        "tasks",
        ["job_id", "rank", "task_id"],
        unique=False,
        sqlite_where=sa.text("state = 'ready'"),
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("principal_id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("scope IN ('owner', 'buyer', 'operator')", name="token_scope_known"),
        sa.CheckConstraint("length(token_sha256) = 32", name="token_hash_length"),
        sa.ForeignKeyConstraint(
            ["principal_id"],
            ["principals.principal_id"],
        ),
        sa.PrimaryKeyConstraint("token_id"),
    )
    op.create_index("tokens_by_hash", "tokens", ["token_sha256"], unique=True)
    op.create_table(
        "transfers",
        sa.Column(
            "transfer_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("kind", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("code", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("debit_account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("credit_account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pending_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("reference_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reference_round", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("recorded_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("canonical", sa.LargeBinary(), nullable=False),
        sa.Column("chain_hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "(kind >= 2) = (pending_id IS NOT NULL)", name="transfer_pending_id_of_resolution"
        ),
        sa.CheckConstraint("amount_micros > 0", name="transfer_amount_positive"),
        sa.CheckConstraint("debit_account_id <> credit_account_id", name="transfer_accounts_differ"),
        sa.CheckConstraint("expires_at_us IS NULL OR kind = 1", name="transfer_timeout_of_pending"),
        sa.CheckConstraint("kind BETWEEN 0 AND 3", name="transfer_kind_known"),
        sa.CheckConstraint(
            "pending_id IS NULL OR pending_id < transfer_id", name="transfer_pending_id_before"
        ),
        sa.ForeignKeyConstraint(
            ["credit_account_id"],
            ["accounts.account_id"],
        ),
        sa.ForeignKeyConstraint(
            ["debit_account_id"],
            ["accounts.account_id"],
        ),
        sa.ForeignKeyConstraint(
            ["pending_id"],
            ["transfers.transfer_id"],
        ),
        sa.PrimaryKeyConstraint("transfer_id"),
    )
    op.create_index(
        "transfer_credit",
        "transfers",
        ["credit_account_id", "transfer_id"],
        unique=False,
        sqlite_where=sa.text("(code < 300 OR code >= 400)"),
        postgresql_where=sa.text("(code < 300 OR code >= 400)"),
    )
    op.create_index(
        "transfer_debit",
        "transfers",
        ["debit_account_id", "transfer_id"],
        unique=False,
        sqlite_where=sa.text("(code < 300 OR code >= 400)"),
        postgresql_where=sa.text("(code < 300 OR code >= 400)"),
    )
    op.create_index(
        "transfer_funds_attempt_once",
        "transfers",
        ["reference_id", "reference_round"],
        unique=True,
        sqlite_where=sa.text("kind = 1"),
        postgresql_where=sa.text("kind = 1"),
    )
    op.create_index(
        "transfer_pays_attempt_once",
        "transfers",
        ["reference_id"],
        unique=True,
        sqlite_where=sa.text("code = 310"),
        postgresql_where=sa.text("code = 310"),
    )
    op.create_index(
        "transfer_resolves_once",
        "transfers",
        ["pending_id"],
        unique=True,
        sqlite_where=sa.text("pending_id IS NOT NULL"),
        postgresql_where=sa.text("pending_id IS NOT NULL"),
    )
    op.create_index(
        "transfer_timeout",
        "transfers",
        ["expires_at_us", "transfer_id"],
        unique=False,
        sqlite_where=sa.text("expires_at_us IS NOT NULL"),
        postgresql_where=sa.text("expires_at_us IS NOT NULL"),
    )
    op.create_table(
        "vehicle_identities",
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("envelope_public_key", sa.LargeBinary(), nullable=False),
        sa.Column("enrolled_at_us", sa.BigInteger(), nullable=False),
        sa.Column("first_used_at_us", sa.BigInteger(), nullable=False),
        sa.Column("retired_at_us", sa.BigInteger(), nullable=False),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.CheckConstraint("length(envelope_public_key) = 32", name="vehicle_key_length"),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["principals.principal_id"],
        ),
        sa.PrimaryKeyConstraint("vehicle_id"),
    )
    op.create_index("vehicle_identities_by_key", "vehicle_identities", ["envelope_public_key"], unique=True)
    op.create_index("vehicle_identities_by_owner", "vehicle_identities", ["owner_id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column(
            "attempt_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lease_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("counting", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("payer", sa.String(), nullable=False),
        sa.Column("price_micros_per_wu", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pending_transfer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("output_digest", sa.LargeBinary(), nullable=False),
        sa.Column("unit_root", sa.LargeBinary(), nullable=False),
        sa.Column("unit_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_time_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("energy_mj", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("leased_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("decided_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint(
            "(counting = 1) = (state IN ('leased', 'returned', 'accepted', 'rejected'))",
            name="attempt_counting_is_state",
        ),
        sa.CheckConstraint("(state = 'leased') = (ended_at_us = 0)", name="attempt_end_has_time"),
        sa.CheckConstraint("payer IN ('job', 'verification')", name="attempt_payer_known"),
        sa.CheckConstraint(
            "state IN ('leased', 'returned', 'accepted', 'rejected', 'failed', 'expired', 'cancelled', 'discarded')",
            name="attempt_state_known",
        ),
        sa.CheckConstraint("amount_micros >= 0 AND pending_transfer_id >= 0", name="attempt_money_sign"),
        sa.CheckConstraint("length(output_digest) IN (0, 32)", name="attempt_digest_length"),
        sa.ForeignKeyConstraint(
            ["lease_id"],
            ["leases.lease_id"],
        ),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["tasks.task_id"],
        ),
        sa.PrimaryKeyConstraint("attempt_id"),
    )
    op.create_index(
        "attempts_counting",
        "attempts",
        ["task_id", "owner_id"],
        unique=True,
        sqlite_where=sa.text("counting = 1"),
        postgresql_where=sa.text("counting = 1"),
    )
    op.create_index(
        "attempts_not_counting",
        "attempts",
        ["task_id", "owner_id"],
        unique=False,
        sqlite_where=sa.text("counting = 0"),
        postgresql_where=sa.text("counting = 0"),
    )
    op.create_index(
        "attempts_returned_by_time",
        "attempts",
        ["ended_at_us", "attempt_id"],
        unique=False,
        sqlite_where=sa.text("state = 'returned'"),
        postgresql_where=sa.text("state = 'returned'"),
    )
    op.create_index(
        "attempts_returned_by_vehicle",
        "attempts",
        ["vehicle_id"],
        unique=False,
        sqlite_where=sa.text("state = 'returned'"),
        postgresql_where=sa.text("state = 'returned'"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("input_hash", sa.LargeBinary(), nullable=False),
        sa.Column("transfer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("recorded_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("length(input_hash) = 32", name="idempotency_key_hash_size"),
        sa.ForeignKeyConstraint(
            ["transfer_id"],
            ["transfers.transfer_id"],
        ),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "receipts",
        sa.Column(
            "receipt_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("batch_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("transfer_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("work_uwu", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("price_micros_per_wu", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("gross_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fee_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("net_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("verified_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "(transfer_id IS NULL) = (gross_micros = 0)", name="receipt_transfer_unless_donated"
        ),
        sa.CheckConstraint("fee_micros >= 0 AND net_micros >= 0", name="receipt_signs"),
        sa.CheckConstraint("gross_micros = fee_micros + net_micros", name="receipt_adds_up"),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["receipt_batches.batch_id"],
        ),
        sa.ForeignKeyConstraint(
            ["transfer_id"],
            ["transfers.transfer_id"],
        ),
        sa.PrimaryKeyConstraint("receipt_id"),
    )
    op.create_index("receipt_attempt", "receipts", ["attempt_id"], unique=True)
    op.create_index("receipt_owner", "receipts", ["owner_id", "receipt_id"], unique=False)
    op.create_index(
        "receipt_transfer",
        "receipts",
        ["transfer_id"],
        unique=True,
        sqlite_where=sa.text("transfer_id IS NOT NULL"),
        postgresql_where=sa.text("transfer_id IS NOT NULL"),
    )
    op.create_table(
        "task_inputs",
        sa.Column(
            "task_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("inline", sa.LargeBinary(), nullable=True),
        sa.Column("blob_sha256", sa.String(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("input_sha256", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("length(input_sha256) = 32", name="task_input_hash_length"),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["tasks.task_id"],
        ),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_table(
        "vehicle_certificates",
        sa.Column("serial_hex", sa.String(), nullable=False),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("issued_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["vehicle_id"],
            ["vehicle_identities.vehicle_id"],
        ),
        sa.PrimaryKeyConstraint("serial_hex"),
    )
    op.create_index("vehicle_certificates_by_vehicle", "vehicle_certificates", ["vehicle_id"], unique=False)
    op.create_table(
        "attempt_outputs",
        sa.Column(
            "attempt_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("inline", sa.LargeBinary(), nullable=True),
        sa.Column("blob_sha256", sa.String(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"],
            ["attempts.attempt_id"],
        ),
        sa.PrimaryKeyConstraint("attempt_id"),
    )
    dialect = op.get_context().dialect.name
    if dialect == "postgresql":
        op.execute(POSTGRESQL_FUNCTION)
    for table in _APPEND_ONLY:
        for statement in append_only(dialect, table):
            op.execute(statement)
    for name, moment, table, words, when in _REFUSED:
        op.execute(refuse(dialect, name, moment, table, words, when=when))


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")

"""Triggers: what was written to the books stays as it was written, on SQLite and on PostgreSQL.

A statement that a trigger refuses fails with "... is immutable"; repositories turn that into
`InvariantError`.
"""

#: Tables whose rows never change and never go.
APPEND_ONLY = (
    "transfers",
    "idempotency_keys",
    "failed_ids",
    "receipt_batches",
    "receipts",
    "posted_prices",
    "price_epochs",
    "payout_rows",
    "payout_files",
    "operator_entries",
    "operator_entry_ends",
    "attempt_energy",
    "buyer_documents",
    "bank_reports",
    "bank_report_results",
    "payout_steps",
    "log_tiles",
    "log_nodes",
    "log_heads",
    "solvency_statements",
)
_ACCOUNT_IDENTITY = (
    "account_id, name, code, debits_must_not_exceed_credits, credits_must_not_exceed_debits, "
    "sweep_to_account_id, opened_at_us, chain_hash"
)
_RUN_FIGURES = "payout_id, currency, total_micros, row_count, idempotency_key, planned_by, planned_at_us"

#: What every trigger on PostgreSQL runs; its argument says what is refused.
POSTGRESQL_FUNCTION = (
    "CREATE OR REPLACE FUNCTION chargepool_refuse() RETURNS trigger LANGUAGE plpgsql AS $refuse$ "
    "BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ': ' || TG_ARGV[0], "
    "ERRCODE = 'integrity_constraint_violation'; "
    "END $refuse$"
)


def refuse(dialect: str, name: str, moment: str, table: str, words: str, *, when: str = "") -> str:
    """Return the statement that makes a trigger.

    Args:
        dialect: SQLAlchemy's name of the database: "sqlite" or "postgresql".
        name: The trigger's name.
        moment: "UPDATE", "DELETE", or "UPDATE OF column, ...".
        table: Where.
        words: What the error says after the table's name.
        when: A condition over OLD and NEW; empty for always.
    """
    condition = f"WHEN ({when}) " if when and dialect == "postgresql" else f"WHEN {when} " if when else ""
    if dialect == "postgresql":
        return (
            f"CREATE OR REPLACE TRIGGER {name} BEFORE {moment} ON {table} FOR EACH ROW {condition}"
            f"EXECUTE FUNCTION chargepool_refuse('{words}')"
        )
    return (
        f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {moment} ON {table} {condition}"
        f"BEGIN SELECT RAISE(ABORT, '{table}: {words}'); END"
    )


def append_only(dialect: str, table: str) -> tuple[str, ...]:
    """Return the statements that make a table's rows stay as they are."""
    return (
        refuse(dialect, f"{table}_no_update", "UPDATE", table, "rows are immutable"),
        refuse(dialect, f"{table}_no_delete", "DELETE", table, "rows are immutable"),
        *((_no_truncate(table),) if dialect == "postgresql" else ()),
    )


def _no_truncate(table: str) -> str:
    """Return the statement that refuses to empty a table: PostgreSQL does so past the triggers of rows."""
    return (
        f"CREATE OR REPLACE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT "
        "EXECUTE FUNCTION chargepool_refuse('rows are immutable')"
    )


def triggers(dialect: str) -> tuple[str, ...]:
    """Return all statements of a database, in order."""
    return (
        *((POSTGRESQL_FUNCTION,) if dialect == "postgresql" else ()),
        *(statement for table in APPEND_ONLY for statement in append_only(dialect, table)),
        # Of an account only counters and state ever change.
        refuse(dialect, "accounts_no_delete", "DELETE", "accounts", "rows are immutable"),
        refuse(
            dialect,
            "accounts_identity",
            f"UPDATE OF {_ACCOUNT_IDENTITY}",
            "accounts",
            "identity is immutable",
        ),
        refuse(
            dialect,
            "accounts_state_forward",
            "UPDATE OF state",
            "accounts",
            "state only goes forward",
            when="NEW.state < OLD.state",
        ),
        refuse(
            dialect, "marks_forward", "UPDATE", "marks", "only goes forward", when="NEW.value < OLD.value"
        ),
        # A run's figures are fixed when it is planned; it ends in exported or cancelled and is never deleted.
        refuse(dialect, "payout_runs_no_delete", "DELETE", "payout_runs", "rows are immutable"),
        refuse(
            dialect,
            "payout_runs_figures",
            f"UPDATE OF {_RUN_FIGURES}",
            "payout_runs",
            "figures are immutable",
        ),
        refuse(dialect, "payout_runs_rail", "UPDATE OF rail", "payout_runs", "figures are immutable"),
        refuse(
            dialect,
            "payout_runs_ended",
            "UPDATE",
            "payout_runs",
            "the run has ended",
            when="OLD.state IN ('exported', 'cancelled')",
        ),
    )

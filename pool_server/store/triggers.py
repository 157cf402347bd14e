"""Triggers: what was written to the books stays as it was written. SQLite's syntax.

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
    "payout_rows",
    "payout_files",
)
_ACCOUNT_IDENTITY = (
    "account_id, name, code, debits_must_not_exceed_credits, credits_must_not_exceed_debits, "
    "sweep_to_account_id, opened_at_us, chain_hash"
)
_RUN_FIGURES = "payout_id, currency, total_micros, row_count, idempotency_key, planned_by, planned_at_us"


def _refuse(name: str, moment: str, table: str, words: str, *, when: str = "") -> str:
    condition = f"WHEN {when} " if when else ""
    return (
        f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {moment} ON {table} {condition}"
        f"BEGIN SELECT RAISE(ABORT, '{table}: {words}'); END"
    )


TRIGGERS: tuple[str, ...] = (
    *(_refuse(f"{table}_no_update", "UPDATE", table, "rows are immutable") for table in APPEND_ONLY),
    *(_refuse(f"{table}_no_delete", "DELETE", table, "rows are immutable") for table in APPEND_ONLY),
    # Of an account only counters and state ever change.
    _refuse("accounts_no_delete", "DELETE", "accounts", "rows are immutable"),
    _refuse("accounts_identity", f"UPDATE OF {_ACCOUNT_IDENTITY}", "accounts", "identity is immutable"),
    _refuse(
        "accounts_state_forward",
        "UPDATE OF state",
        "accounts",
        "state only goes forward",
        when="NEW.state < OLD.state",
    ),
    _refuse("marks_forward", "UPDATE", "marks", "only goes forward", when="NEW.value < OLD.value"),
    # A run's figures are fixed when it is planned; it ends in exported or cancelled and is never deleted.
    _refuse("payout_runs_no_delete", "DELETE", "payout_runs", "rows are immutable"),
    _refuse("payout_runs_figures", f"UPDATE OF {_RUN_FIGURES}", "payout_runs", "figures are immutable"),
    _refuse(
        "payout_runs_ended",
        "UPDATE",
        "payout_runs",
        "the run has ended",
        when="OLD.state IN ('exported', 'cancelled')",
    ),
)

"""Triggers: what was written to the books stays as it was written. SQLite's syntax.

A statement that a trigger refuses fails with "... is immutable"; repositories turn that into `InvariantError`.
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


def _append_only(table: str) -> tuple[str, str]:
    return (
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_update BEFORE UPDATE ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is immutable'); END",
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_delete BEFORE DELETE ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is immutable'); END",
    )


TRIGGERS: tuple[str, ...] = (
    *(statement for table in APPEND_ONLY for statement in _append_only(table)),
    # A sequence without gaps: the chain would show one, this refuses it.
    "CREATE TRIGGER IF NOT EXISTS transfer_in_sequence BEFORE INSERT ON transfers "
    "WHEN NEW.transfer_id <> 1 + COALESCE((SELECT MAX(transfer_id) FROM transfers), 0) "
    "BEGIN SELECT RAISE(ABORT, 'transfers is out of sequence'); END",
    # Of an account only counters and state ever change.
    "CREATE TRIGGER IF NOT EXISTS account_no_delete BEFORE DELETE ON accounts "
    "BEGIN SELECT RAISE(ABORT, 'accounts is immutable'); END",
    "CREATE TRIGGER IF NOT EXISTS account_identity_no_update BEFORE UPDATE OF account_id, name, code, "
    "debits_must_not_exceed_credits, credits_must_not_exceed_debits, sweep_to_account_id, opened_at_us, chain_hash "
    "ON accounts BEGIN SELECT RAISE(ABORT, 'accounts is immutable'); END",
    "CREATE TRIGGER IF NOT EXISTS account_state_forward BEFORE UPDATE OF state ON accounts "
    "WHEN NEW.state < OLD.state BEGIN SELECT RAISE(ABORT, 'accounts state only goes forward'); END",
    "CREATE TRIGGER IF NOT EXISTS mark_forward BEFORE UPDATE ON marks "
    "WHEN NEW.value < OLD.value BEGIN SELECT RAISE(ABORT, 'marks only goes forward'); END",
    # A run's figures are fixed when it is planned; it ends in exported or cancelled and is never deleted.
    "CREATE TRIGGER IF NOT EXISTS payout_run_no_delete BEFORE DELETE ON payout_runs "
    "BEGIN SELECT RAISE(ABORT, 'payout_runs is immutable'); END",
    "CREATE TRIGGER IF NOT EXISTS payout_run_figures_no_update BEFORE UPDATE OF payout_id, currency, total_micros, "
    "row_count, idempotency_key, planned_by, planned_at_us ON payout_runs "
    "BEGIN SELECT RAISE(ABORT, 'payout_runs is immutable'); END",
    "CREATE TRIGGER IF NOT EXISTS payout_run_ended BEFORE UPDATE ON payout_runs "
    "WHEN OLD.state IN ('exported', 'cancelled') BEGIN SELECT RAISE(ABORT, 'payout_runs has ended'); END",
)

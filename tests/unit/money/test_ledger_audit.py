"""The auditor of the books finds every kind of wrong; it shares no arithmetic with what it audits."""

from dataclasses import replace
from typing import Any

import pytest

from pool_server.core.ledger.audit import AccountsAudit, LogAudit, check_equal
from pool_server.core.ledger.chain import EMPTY_HEAD, GENESIS_HASH, account_bytes, canonical_bytes, next_hash
from pool_server.core.ledger.decision import decide
from pool_server.core.ledger.model import (
    Account,
    AccountCode,
    AccountSpec,
    AccountState,
    LedgerState,
    Outcome,
    PendingTransfer,
    TransferRequest,
    TransferRow,
)

Row = tuple[int, int, int, int, int | None]
"""Kind, debit, credit, amount, pending."""


def log_of(*rows: Row) -> LogAudit:
    """Audit a log that is chained correctly, whatever it says."""
    log = LogAudit()
    chain_hash = EMPTY_HEAD.chain_hash
    for number, (kind, debit, credit, amount, pending_id) in enumerate(rows, start=1):
        row = TransferRow(number, kind, 300, debit, credit, amount, pending_id, number, 0, None, 5, b"", b"")
        row = row._replace(canonical=canonical_bytes(row))
        chain_hash = next_hash(chain_hash, row.canonical)
        log.take(row._replace(chain_hash=chain_hash))
    return log


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([(1, 1, 2, 9, None), (2, 1, 2, 9, 1), (3, 1, 2, 9, 1)], "transfer 3 resolves 1, which is not open"),
        ([(2, 1, 2, 9, 7)], "transfer 1 resolves 7, which is not open"),
        ([(1, 1, 2, 9, None), (2, 1, 3, 9, 1)], "other accounts"),
        ([(1, 1, 2, 9, None), (2, 1, 2, 10, 1)], "more than 1 reserved"),
    ],
)
def test_what_is_wrong_with_a_resolution_is_found(rows: list[Row], problem: str) -> None:
    [check] = [check for check in log_of(*rows).checks() if check.name == "pending_resolved_once"]

    assert not check.ok
    assert problem in check.detail


def test_a_gap_and_a_swap_are_found() -> None:
    log = LogAudit()
    row = TransferRow(2, 0, 100, 1, 2, 5, None, 0, 0, None, 5, b"", bytes(32))
    log.take(row._replace(canonical=canonical_bytes(row)))

    failed = {check.name for check in log.checks() if not check.ok}
    assert failed == {"sequence_has_no_gap", "hash_chain_holds"}


def account(**changes: Any) -> Account:
    values = Account(
        account_id=1,
        name="account",
        code=AccountCode.JOB_ESCROW,
        state=AccountState.OPEN,
        debits_must_not_exceed_credits=False,
        credits_must_not_exceed_debits=False,
        sweep_to_account_id=0,
    )
    return replace(values, **changes)


@pytest.mark.parametrize(
    ("wrong", "check", "problem"),
    [
        (account(debits_pending_micros=-1), "limits_hold", "negative"),
        (
            account(debits_must_not_exceed_credits=True, debits_pending_micros=3, credits_posted_micros=2),
            "limits_hold",
            "overdrawn by 1",
        ),
        (
            account(credits_must_not_exceed_debits=True, credits_pending_micros=3, debits_posted_micros=1),
            "limits_hold",
            "overpaid by 2",
        ),
        (account(state=AccountState.CLOSED, debits_pending_micros=1), "ended_escrows_are_empty", "closed"),
        (account(state=AccountState.DRAINING, credits_posted_micros=4), "ended_escrows_are_empty", "holds 4"),
        (account(credits_posted_micros=4), "sum_is_zero", "add up to 4"),
        (account(credits_posted_micros=4), "debits_equal_credits", "posted 0 != 4"),
        (account(credits_posted_micros=4), "counters_match_log", "the log says"),
        (account(name="renamed"), "account_chain_holds", "renamed"),
    ],
)
def test_what_is_wrong_with_an_account_is_found(wrong: Account, check: str, problem: str) -> None:
    spec = AccountSpec(
        name="account",
        code=AccountCode.JOB_ESCROW,
        debits_must_not_exceed_credits=wrong.debits_must_not_exceed_credits,
        credits_must_not_exceed_debits=wrong.credits_must_not_exceed_debits,
    )
    audit = AccountsAudit(LogAudit())
    audit.take(wrong, 1, next_hash(GENESIS_HASH, account_bytes(1, spec, opened_at_us=1)))

    [found] = [entry for entry in audit.checks() if entry.name == check]
    assert not found.ok
    assert problem in found.detail


def test_an_account_that_only_the_log_knows_is_found() -> None:
    audit = AccountsAudit(log_of((0, 8, 9, 5, None)))

    [found] = [entry for entry in audit.checks() if entry.name == "counters_match_log"]
    assert found.detail.startswith("2 problems in 0 accounts: the log names account 8")


def test_only_a_few_problems_are_shown_and_all_are_counted() -> None:
    found = check_equal("same", {str(n): n for n in range(1, 10)}, {}, what="9 keys")

    assert found.detail == "9 problems in 9 keys: 1: 1 != 0; 2: 2 != 0; 3: 3 != 0"


@pytest.mark.parametrize(
    ("missing", "outcome"), [(1, Outcome.DEBIT_ACCOUNT_NOT_FOUND), (2, Outcome.CREDIT_ACCOUNT_NOT_FOUND)]
)
def test_a_pending_transfer_whose_account_was_not_loaded_is_not_resolved(
    missing: int, outcome: Outcome
) -> None:
    accounts = {number: account(account_id=number) for number in (1, 2)}
    state = LedgerState(head=EMPTY_HEAD, accounts=accounts, pendings={}, keys={})
    reserved = decide(state, [TransferRequest(1, 300, 1, 2, 5)], now_us=1)
    del accounts[missing]

    pendings = {1: PendingTransfer(1, 1, 2, 5, 0, 0, 0, 0, 0)}
    again = decide(replace(state, pendings=pendings), [TransferRequest(3, 320, pending_id=1)], now_us=1)

    assert reserved.answers[0].outcome is Outcome.CREATED
    assert again.answers[0].outcome is outcome

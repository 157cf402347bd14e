"""Statements over real books: what is owed at one moment, kept for ever, proved for each account."""

from __future__ import annotations

from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.liabilities import verify_liability
from pool_protocol.limits import DAY_US
from pool_server.app.solvency import (
    BANK_MICROS_MAX,
    enter_bank_balance,
    get_statement,
    known_tree,
    make_daily_statement,
    present_coverage,
    prove_liabilities,
)
from pool_server.core.solvency import CoverageState
from pool_server.ports.receipt_log import SolvencyRow
from tests.integration.store.test_receipt_log import PlainSigner
from tests.support.books import Books

SECRET = bytes(range(32))
SIGNER = PlainSigner()


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """1.00 paid in: 0.50 free, 0.30 for a job of which two owners have earned some."""
    books = Books(tmp_path / "pool.sqlite3")
    books.deposit(1_000_000)
    books.reserve(1, 500_000)
    books.earn("owner_a", [1_000, 2_000], first_attempt=1)
    books.earn("owner_b", [4_000], first_attempt=3)
    return books


def enter(books: Books, balance_micros: int, *, as_of: str = "") -> SolvencyRow:
    return books.run(
        lambda uow: enter_bank_balance(
            uow,
            balance_micros=balance_micros,
            as_of=as_of,
            operator_id="operator_o",
            signer=SIGNER,
            secret=SECRET,
            now_us=books.now_us,
        )
    )


def daily(books: Books) -> int:
    return books.run(lambda uow: make_daily_statement(uow, signer=SIGNER, secret=SECRET, now_us=books.now_us))


def test_a_statement_is_the_ledger_at_one_sequence_number(books: Books) -> None:
    facts = enter(books, 999_000).facts
    assert dict(facts.liabilities) == {
        "buyers_available": 500_000,
        "jobs_escrow": 493_000,
        "owners_held": 7_000 - 350,  # the fee of 5 % is the pool's own
    }
    assert facts.liabilities_micros == sum(amount for _, amount in facts.liabilities)
    assert facts.books_micros == 1_000_000
    assert facts.ledger_sequence == books.run(lambda uow: uow.ledger.head().transfer_id)
    assert facts.liability_count == 4
    assert (facts.bank_as_of, facts.statement_id) == ("2026-01-01", 1)
    assert books.run(lambda uow: uow.solvency.statement(1)) == books.run(lambda uow: uow.solvency.last())


@pytest.mark.usefixtures("on_both_databases")
def test_everyone_s_balance_is_proved_from_what_was_kept(books: Books) -> None:
    facts = enter(books, 10**6).facts
    books.earn("owner_a", [5_000], first_attempt=9)  # later money is not in it
    known = books.run(lambda uow: known_tree(uow, statement_id=1))
    assert known is not None
    balances = {}
    for principal in ("owner_a", "owner_b", "buyer_b", "operator_o", "owner_nobody"):
        for proof in books.run(lambda uow: prove_liabilities(uow, known, principal_id=principal)):  # noqa: B023
            balances[proof.account] = verify_liability(
                proof,
                root=facts.liability_root,
                total_micros=facts.liabilities_micros,
                leaf_count=facts.liability_count,
            )
    assert balances == {
        "owner:owner_a:held": 2_850,
        "owner:owner_b:held": 3_800,
        "buyer:buyer_b:available": 500_000,
        "job:1:escrow": 493_000,
    }
    assert sum(balances.values()) == facts.liabilities_micros


@pytest.mark.usefixtures("on_both_databases")
def test_one_a_day_is_made_once_a_figure_was_entered(books: Books) -> None:
    assert daily(books) == 0
    assert books.run(lambda uow: get_statement(uow, date="")) is None
    assert books.run(lambda uow: known_tree(uow, statement_id=0)) is None
    enter(books, 5_000_000)
    assert daily(books) == 0
    books.now_us += DAY_US
    assert (daily(books), daily(books)) == (1, 0)
    second = books.run(lambda uow: get_statement(uow, date="2026-01-02"))
    assert second is not None
    assert (second.facts.statement_id, second.entered_by) == (2, "")
    assert (second.facts.bank_micros, second.facts.bank_as_of) == (5_000_000, "2026-01-01")
    first = books.run(lambda uow: get_statement(uow, date="2026-01-01"))
    assert first is not None
    assert (first.facts.statement_id, first.entered_by) == (1, "operator_o")
    rows = books.run(lambda uow: uow.solvency.statements(before_id=0, limit=9))
    assert [row.facts.statement_id for row in rows] == [2, 1]
    for date, code in (
        ("2026-01-03", ErrorCode.NOT_FOUND),
        ("2025-12-31", ErrorCode.NOT_FOUND),
        ("soon", ErrorCode.INVALID_ARGUMENT),
        ("2026-1-1", ErrorCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(PoolError) as raised:
            books.run(lambda uow: get_statement(uow, date=date))  # noqa: B023
        assert raised.value.code is code


@pytest.mark.parametrize(
    ("balance", "as_of", "field"),
    [
        (1, "2026-01-02", "as_of"),
        (1, "yesterday", "as_of"),
        (1, "1969-12-31", "as_of"),
        (1, "20260101", "as_of"),
        (BANK_MICROS_MAX + 1, "", "balance_micros"),
        (-BANK_MICROS_MAX - 1, "", "balance_micros"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    books: Books, balance: int, as_of: str, field: str
) -> None:
    with pytest.raises(PoolError) as raised:
        enter(books, balance, as_of=as_of)
    assert (raised.value.code, raised.value.context) == (ErrorCode.INVALID_ARGUMENT, {"field": field})
    assert books.scalar("SELECT COUNT(*) FROM solvency_statements") == 0


@pytest.mark.usefixtures("on_both_databases")
def test_statements_stay_as_they_were_made(books: Books) -> None:
    enter(books, 1)
    for statement in ("DELETE FROM solvency_statements", "UPDATE solvency_statements SET bank_micros = 9"):
        with pytest.raises(Exception, match="rows are immutable"):
            books.sql(statement)


def test_a_pool_that_owes_nothing_states_that(tmp_path: Path) -> None:
    books = Books(tmp_path / "empty.sqlite3")
    facts = enter(books, 0).facts
    assert (facts.liabilities, facts.liabilities_micros, facts.liability_count) == ((), 0, 0)


def test_coverage_takes_what_is_owed_now_and_what_the_bank_said_last(books: Books) -> None:
    def now(**paying: int) -> tuple[CoverageState, int]:
        found = books.run(lambda uow: present_coverage(uow, now_us=books.now_us, **paying))
        return found.state, found.surplus_micros

    assert now()[0] is CoverageState.UNKNOWN
    enter(books, 1_000_000)
    assert now() == (CoverageState.COVERED, 350)
    books.deposit(400, reference="bank-2")
    assert now() == (CoverageState.INSOLVENT, -50)

"""What is owed, and whether a bank balance covers it."""

from __future__ import annotations

import pytest

from pool_server.app.solvency import coverage_sentences
from pool_server.core.ledger.chart import NATURE, Nature
from pool_server.core.ledger.model import Account, AccountCode
from pool_server.core.solvency import (
    FRESH_DAYS_MAX,
    KINDS,
    CoverageState,
    coverage,
    owed,
    pack_leaves,
    unpack_leaves,
)


def account(number: int, code: int, *, debits: int = 0, credits: int = 0) -> Account:  # noqa: A002
    return Account(
        account_id=number,
        name=f"account {number}",
        code=code,
        state=0,
        debits_must_not_exceed_credits=False,
        credits_must_not_exceed_debits=False,
        sweep_to_account_id=0,
        debits_posted_micros=debits,
        credits_posted_micros=credits,
    )


def test_everything_that_is_others_is_owed_and_nothing_else() -> None:
    found = owed(
        [
            account(1, AccountCode.BANK, debits=1_000),
            account(2, AccountCode.BUYER_AVAILABLE, credits=300),
            account(3, AccountCode.JOB_ESCROW, credits=200, debits=150),
            account(4, AccountCode.OWNER_HELD, credits=100, debits=100),
            account(5, AccountCode.OWNER_AVAILABLE, credits=70),
            account(6, AccountCode.POOL_FEE, credits=40),
            account(7, AccountCode.VERIFICATION, debits=10),
            account(8, AccountCode.PAYOUT_CLEARING, credits=5),
            account(9, AccountCode.OWNER_AVAILABLE, credits=1),
        ]
    )
    assert found.by_kind == (
        ("buyers_available", 300), ("jobs_escrow", 50), ("owners_available", 71), ("payouts_clearing", 5),
    )  # fmt: skip
    assert (found.total_micros, found.books_micros) == (426, 1_000)
    assert [number for number, _, _ in found.accounts] == [2, 3, 5, 8, 9]
    assert unpack_leaves(pack_leaves(found.accounts)) == [(2, 300), (3, 50), (5, 70), (8, 5), (9, 1)]


def test_every_liability_of_the_chart_has_its_kind_and_nothing_else_has() -> None:
    assert {code for code in AccountCode if NATURE[code] is Nature.LIABILITY} == set(KINDS)


@pytest.mark.parametrize(
    ("bank", "age", "owes", "paying", "state", "warns", "words"),
    [
        (None, 0, 5, 0, CoverageState.UNKNOWN, True, "solvency enter"),
        (10, 0, 10, 0, CoverageState.COVERED, False, "are owed"),
        (9, 0, 10, 0, CoverageState.INSOLVENT, True, "INSOLVENT by 0.000001 EUR"),
        (9, 0, 10, 9, CoverageState.INSOLVENT, True, "INSOLVENT"),
        (9, 0, 9, 10, CoverageState.COVERED, True, "is not covered"),
        (10, FRESH_DAYS_MAX, 1, 1, CoverageState.COVERED, False, "holds"),
        (10, FRESH_DAYS_MAX + 1, 1, 1, CoverageState.COVERED, True, "5 days old"),
        (-1, 0, 0, 0, CoverageState.INSOLVENT, True, "INSOLVENT by 0.000001 EUR"),
    ],
)
def test_what_a_bank_balance_means(
    *, bank: int | None, age: int, owes: int, paying: int, state: CoverageState, warns: bool, words: str
) -> None:
    found = coverage(bank_micros=bank, bank_age_days=age, liabilities_micros=owes, about_to_pay_micros=paying)
    assert (found.state, found.is_warning) == (state, warns)
    assert words in " ".join(coverage_sentences(found, currency="EUR"))
    assert found.surplus_micros == (0 if bank is None else bank - owes)

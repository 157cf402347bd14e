"""Names of accounts in journals: allowed by both programs, and never one name for two accounts."""

import re

import hypothesis.strategies as st
from hypothesis import given

from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import Account, AccountSpec
from pool_server.reports.journals import account_part, journal_account

PART = re.compile(r"[A-Z0-9][A-Za-z0-9-]*")
#: What names are confused with: escapes, their letters, capitals.
TRICKY = st.text(alphabet="aAbxXzZ019-_5fF:é ", max_size=6) | st.text(max_size=4)


def opened(spec: AccountSpec) -> Account:
    return Account(
        account_id=1,
        name=spec.name,
        code=spec.code,
        state=0,
        debits_must_not_exceed_credits=spec.debits_must_not_exceed_credits,
        credits_must_not_exceed_debits=spec.credits_must_not_exceed_debits,
        sweep_to_account_id=0,
    )


@given(TRICKY, TRICKY)
def test_two_parts_never_become_one(one: str, other: str) -> None:
    assert (account_part(one) == account_part(other)) == (one == other)


@given(TRICKY)
def test_a_part_is_allowed_by_both_programs(part: str) -> None:
    assert PART.fullmatch(account_part(part))


def test_names_keep_the_ledgers_parts() -> None:
    assert journal_account(opened(chart.BANK)) == "Assets:Bank:Main"
    assert journal_account(opened(chart.owner_held("owner_q7"))) == "Liabilities:Owner:Owner--q7:Held"
    assert journal_account(opened(chart.POOL_FEE)) == "Income:Fee:Pool"
    assert journal_account(opened(chart.BANK_FEES)) == "Expenses:X:Psp-2dfees"
    assert journal_account(opened(chart.OPENING)) == "Equity:Opening"
    assert journal_account(opened(chart.job_escrow(12, buyer_account_id=1))) == "Liabilities:Job:12:Escrow"

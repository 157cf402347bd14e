"""The chart: every account has its place in a balance sheet, every code its pairs of accounts."""

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.ledger import accounts
from pool_server.core.ledger.chart import FLOWS, NATURE, PARTY_ACCOUNTS, POOL_ACCOUNTS, Nature
from pool_server.core.ledger.model import AccountCode, TransferCode


def test_every_account_has_a_nature_and_every_code_its_flows() -> None:
    assert set(NATURE) == set(AccountCode)
    assert set(FLOWS) == set(TransferCode)
    assert all(FLOWS.values())


def test_liabilities_are_limited_and_what_carries_the_other_side_is_not() -> None:
    for spec in (
        accounts.BANK,
        accounts.POOL_FEE,
        accounts.VERIFICATION,
        accounts.GOODWILL,
        accounts.BANK_FEES,
        accounts.PAYOUT_CLEARING,
        accounts.ROUNDING,
        accounts.VAT,
        accounts.TAX_WITHHELD,
        accounts.SLA_RESERVE,
        accounts.OPENING,
        accounts.buyer_available("b"),
        accounts.owner_held("o"),
        accounts.owner_available("o"),
        accounts.owner_questioned("o"),
        accounts.job_escrow(1, buyer_account_id=1),
    ):
        is_limited = NATURE[spec.code] in {Nature.LIABILITY, Nature.INCOME}
        assert spec.debits_must_not_exceed_credits == is_limited, spec.name


def test_money_never_goes_from_one_party_to_another_by_hand() -> None:
    by_hand = FLOWS[TransferCode.CORRECTION] | FLOWS[TransferCode.OPENING]

    assert not any(debit in PARTY_ACCOUNTS and credit in PARTY_ACCOUNTS for debit, credit in by_hand)
    assert {side for pair in by_hand for side in pair} == POOL_ACCOUNTS | PARTY_ACCOUNTS


def test_a_bank_has_a_plain_id() -> None:
    assert accounts.bank("main") == accounts.BANK
    assert accounts.bank("de-2").name == "bank:de-2"
    for bad in ("", "Main", "a:b", "a b", "-a", "x" * 33, "bänk"):
        with pytest.raises(PoolError) as refusal:
            accounts.bank(bad)
        assert refusal.value.code is ErrorCode.INVALID_ARGUMENT

"""Words about transfers and entries: what a number names, how ids and codes are read, what may be opened."""

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.ledger import accounts
from pool_server.core.ledger.about import about, code_name
from pool_server.core.ledger.entries import (
    ENTRY_CODES,
    Entry,
    parse_entry_code,
    parse_entry_id,
    party_account,
    pool_account,
)
from pool_server.core.ledger.model import TransferCode


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (TransferCode.DEPOSIT, "7"),
        (TransferCode.RESERVE, "job_7"),
        (TransferCode.RELEASE, "job_7"),
        (TransferCode.LEASE, "attempt_7"),
        (TransferCode.VERIFIED, "attempt_7"),
        (TransferCode.FEE, "receipt batch 7"),
        (TransferCode.AVAILABLE, "receipts up to 7"),
        (TransferCode.CLAWED_BACK, "attempt_7"),
        (TransferCode.PAYOUT, "payout_7"),
        (TransferCode.PAYOUT_SETTLED, "payout_7"),
        (TransferCode.CORRECTION, "entry_7"),
        (TransferCode.GOODWILL, "entry_7"),
    ],
)
def test_what_a_transfer_is_about(code: TransferCode, text: str) -> None:
    assert about(code, 7) == text
    assert about(code, 0) == ""


def test_a_code_of_a_later_version_is_its_number() -> None:
    assert code_name(TransferCode.PAYOUT_RETURNED) == "payout_returned"
    assert code_name(999) == "999"


def test_every_code_by_hand_has_a_name_and_no_other_has() -> None:
    assert {parse_entry_code(code.name.lower()) for code in ENTRY_CODES} == ENTRY_CODES
    for name in ("deposit", "payout", "verified", "CORRECTION", "700", ""):
        with pytest.raises(PoolError) as refusal:
            parse_entry_code(name)
        assert refusal.value.context["field"] == "code"
        assert "correction" in refusal.value.detail


def test_an_entrys_id_has_one_spelling() -> None:
    assert parse_entry_id("entry_12") == 12
    for text in (
        "12",
        "entry_",
        "entry_0",
        "entry_01",
        "entry_-1",
        "entry_1 ",
        "entry_٣",
        "entry_" + "9" * 19,
    ):
        with pytest.raises(PoolError) as refusal:
            parse_entry_id(text)
        assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def test_accounts_that_may_be_opened_by_their_name() -> None:
    assert pool_account("bank:main") == accounts.BANK
    assert pool_account("tax:withheld") == accounts.TAX_WITHHELD
    assert party_account("buyer:b:available") == accounts.buyer_available("b")
    assert party_account("owner:o:available") == accounts.owner_available("o")
    for name in (
        "payout:clearing",
        "job:1:escrow",
        "owner:o:held",
        "buyer::available",
        "x:y:available",
        "buyer",
    ):
        assert pool_account(name) is None
        assert party_account(name) is None


def test_an_entry_has_the_id_that_people_see() -> None:
    entry = Entry(
        entry_id=3,
        code=TransferCode.VAT,
        debit_account="fee:pool",
        credit_account="tax:vat",
        amount_micros=1,
        reason="tax",
        is_at_most=False,
        idempotency_key="k",
        proposed_by="op_a",
        proposed_at_us=1,
    )

    assert parse_entry_id(entry.text_id) == 3

"""Entries by hand: one operator proposes, another one approves; nothing but one further transfer is made."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.app.books import transfer
from pool_server.app.entries import (
    ProposeEntry,
    approve_entry,
    list_entries,
    propose_entry,
    withdraw_entry,
)
from pool_server.core.ledger.entries import Entry, EntryState
from pool_server.core.ledger.model import TransferCode, TransferRequest
from tests.support.books import Books
from tests.support.databases import intrude

WISH = ProposeEntry(
    code="correction",
    debit_account="buyer:buyer_b:available",
    credit_account="bank:main",
    amount_micros=300,
    reason="bank-1 was booked for the wrong buyer",
    idempotency_key="k1",
)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    books = Books(tmp_path / "pool.sqlite3")
    books.deposit(1_000)
    return books


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Books:
    """Books on which nothing that is asked for may be done."""
    books = Books(tmp_path_factory.mktemp("untouched") / "pool.sqlite3")
    books.deposit(1_000)
    books.deposit(5, buyer_id="buyer_c", reference="c")
    books.reserve(1, 10)
    return books


def wish(**changes: Any) -> ProposeEntry:
    values = {name: getattr(WISH, name) for name in WISH.__slots__}
    return ProposeEntry(**{**values, **changes})


def propose(books: Books, asked: ProposeEntry = WISH, *, by: str = "op_a") -> Entry:
    return books.run(lambda uow: propose_entry(uow, asked, operator_id=by, now_us=books.now_us))


def approve(books: Books, entry: Entry, *, by: str = "op_b", amount_micros: int = 0) -> Entry:
    return books.run(
        lambda uow: approve_entry(
            uow,
            entry_id=entry.entry_id,
            operator_id=by,
            expected_amount_micros=amount_micros or entry.amount_micros,
            now_us=books.now_us,
        )
    )


def withdraw(books: Books, entry: Entry) -> Entry:
    return books.run(
        lambda uow: withdraw_entry(uow, entry_id=entry.entry_id, operator_id="op_c", now_us=books.now_us)
    )


def refused(act: Any, code: ErrorCode, field: str = "") -> PoolError:
    with pytest.raises(PoolError) as refusal:
        act()
    assert refusal.value.code is code
    if field:
        assert refusal.value.context["field"] == field
    return refusal.value


def test_a_proposal_books_nothing_and_an_approval_one_further_transfer(books: Books) -> None:
    entry = propose(books)
    assert books.balances()["buyer:buyer_b:available"] == 1_000

    booked = approve(books, entry)

    assert (booked.state, booked.transfer_id, booked.decided_by) == (EntryState.BOOKED, 2, "op_b")
    assert books.balances() == {"buyer:buyer_b:available": 700, "bank:main": -700}
    [row] = [
        row
        for row in books.run(lambda uow: list(uow.ledger.all_transfers()))
        if row.code == TransferCode.CORRECTION
    ]
    assert (row.reference_id, row.amount_micros) == (entry.entry_id, 300)
    assert books.run(lambda uow: uow.entries.reasons_of([2])) == {2: WISH.reason}
    books.assert_sound()


def test_nobody_approves_their_own_entry(books: Books) -> None:
    entry = propose(books)

    refused(lambda: approve(books, entry, by="op_a"), ErrorCode.FOUR_EYES)

    assert books.balances()["buyer:buyer_b:available"] == 1_000


def test_nor_does_the_schema_let_them(books: Books) -> None:
    entry = propose(books)
    approve(books, entry)
    other = propose(books, wish(idempotency_key="k2"))

    with pytest.raises(IntegrityError, match="four_eyes"):
        books.sql(
            f"INSERT INTO operator_entry_ends VALUES ({other.entry_id}, 'booked', 'op_a', 'op_a', 1, 1)"
        )
    for statement in (
        "UPDATE operator_entries SET amount_micros = 1",
        "DELETE FROM operator_entries",
        "UPDATE operator_entry_ends SET decided_by = 'op_z'",
        "DELETE FROM operator_entry_ends",
    ):
        with pytest.raises(IntegrityError, match="immutable"):
            books.sql(statement)


def test_repeating_changes_nothing(books: Books) -> None:
    entry = propose(books)

    assert propose(books) == entry
    assert approve(books, entry) == approve(books, entry)
    assert propose(books).state is EntryState.BOOKED
    assert books.scalar("SELECT COUNT(*) FROM transfers") == 2
    refused(lambda: approve(books, entry, by="op_c"), ErrorCode.INVALID_STATE)
    refused(lambda: withdraw(books, entry), ErrorCode.INVALID_STATE)
    refused(lambda: propose(books, wish(amount_micros=301)), ErrorCode.EXISTS_WITH_DIFFERENT)
    refused(lambda: propose(books, by="op_b"), ErrorCode.EXISTS_WITH_DIFFERENT)


def test_what_is_withdrawn_is_never_booked(books: Books) -> None:
    entry = propose(books)

    assert withdraw(books, entry).state is EntryState.WITHDRAWN
    assert withdraw(books, entry).state is EntryState.WITHDRAWN
    refused(lambda: approve(books, entry), ErrorCode.INVALID_STATE)
    assert books.balances()["buyer:buyer_b:available"] == 1_000
    books.assert_sound()


def test_the_amount_that_was_looked_at_is_the_one_that_is_booked(books: Books) -> None:
    entry = propose(books)

    refused(lambda: approve(books, entry, amount_micros=299), ErrorCode.CONFLICT)


def test_an_entry_without_money_stays_proposed_until_there_is_some(books: Books) -> None:
    entry = propose(books, wish(amount_micros=1_200))

    refused(lambda: approve(books, entry), ErrorCode.INSUFFICIENT_FUNDS)
    books.deposit(200, reference="bank-2")

    assert approve(books, entry).state is EntryState.BOOKED
    assert books.balances() == {}
    books.assert_sound()


def test_a_refund_gives_back_what_is_free_and_nothing_that_is_reserved(books: Books) -> None:
    entry = propose(books, wish(code="refund", amount_micros=1_000, is_at_most=True))
    books.reserve(1, 400)

    booked = approve(books, entry)

    assert books.balances() == {"bank:main": -400, "job:1:escrow": 400}
    assert books.scalar("SELECT amount_micros FROM transfers WHERE code = 600") == 600
    assert booked.amount_micros == 1_000
    books.assert_sound()


ENTERED = [
    ("opening", "opening", "fee:pool"),
    ("opening", "bank:second-1", "opening"),
    ("deposit_fee", "x:psp-fees", "bank:main"),
    ("goodwill", "x:goodwill", "buyer:buyer_b:available"),
    ("correction", "x:verification", "fee:pool"),
    ("vat", "fee:pool", "tax:vat"),
    ("vat", "tax:vat", "bank:main"),
    ("sla_credit", "fee:pool", "sla:reserve"),
    ("sla_credit", "sla:reserve", "buyer:buyer_b:available"),
]


def test_an_account_of_the_pool_is_opened_when_it_is_first_needed(books: Books) -> None:
    for number, (code, debit, credit) in enumerate(ENTERED):
        asked = wish(
            code=code,
            debit_account=debit,
            credit_account=credit,
            amount_micros=10,
            idempotency_key=f"n{number}",
        )
        approve(books, propose(books, asked))

    assert books.balances() == {
        "bank:main": -980,
        "bank:second-1": -10,
        "buyer:buyer_b:available": 1_020,
        "x:goodwill": -10,
        "x:psp-fees": -10,
        "x:verification": -10,
    }
    books.assert_sound()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"code": "deposit"}, "code"),
        ({"code": "payout"}, "code"),
        ({"code": ""}, "code"),
        ({"amount_micros": 0}, "amount_micros"),
        ({"amount_micros": -1}, "amount_micros"),
        ({"amount_micros": 2**63}, "amount_micros"),
        ({"reason": " a "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "a\x00bcd"}, "reason"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "k\n"}, "idempotency_key"),
        ({"credit_account": "buyer:buyer_b:available"}, "credit_account"),
        ({"credit_account": "bank:No Bank"}, "bank_id"),
        # From party to party, and to what follows from jobs and receipts.
        ({"credit_account": "buyer:buyer_c:available"}, "credit_account"),
        ({"credit_account": "job:1:escrow"}, "credit_account"),
        ({"debit_account": "x:goodwill", "credit_account": "job:1:escrow"}, "credit_account"),
        ({"debit_account": "job:1:escrow"}, "debit_account"),
        ({"code": "refund", "debit_account": "fee:pool"}, "debit_account"),
        ({"code": "goodwill"}, "debit_account"),
    ],
    ids=str,
)
def test_what_cannot_be_entered(untouched: Books, changes: dict[str, object], field: str) -> None:
    before = untouched.balances()

    error = refused(lambda: propose(untouched, wish(**changes)), ErrorCode.INVALID_ARGUMENT, field)

    assert error.detail
    assert untouched.balances() == before
    assert untouched.run(lambda uow: list_entries(uow, before_entry_id=0, limit=9)) == []


def test_an_account_that_nobody_has_is_told_with_names_like_it(books: Books) -> None:
    error = refused(
        lambda: propose(books, wish(debit_account="buyer:buyer_b:availabel")), ErrorCode.NOT_FOUND
    )

    assert error.context["near"] == "buyer:buyer_b:available"


def test_lists_go_by_pages(books: Books) -> None:
    made = [propose(books, wish(idempotency_key=f"k{number}")) for number in range(5)]

    first = books.run(lambda uow: list_entries(uow, before_entry_id=0, limit=3))
    rest = books.run(lambda uow: list_entries(uow, before_entry_id=first[-1].entry_id, limit=3))

    assert [*first, *rest] == made[::-1]


def test_a_correction_that_was_never_entered_is_found(books: Books) -> None:
    def book(uow: Any) -> None:
        accounts = uow.ledger.accounts_by_name(["buyer:buyer_b:available", "bank:main"])
        debit, credit = accounts["buyer:buyer_b:available"], accounts["bank:main"]
        request = TransferRequest(0, 700, debit.account_id, credit.account_id, 5)
        transfer(uow, [request], accounts.values(), now_us=books.now_us)

    books.run(book)

    failed = {check.name for check in books.check().checks if not check.ok}
    assert failed == {"entries_match_ledger"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE operator_entries SET amount_micros = 299",
        "UPDATE operator_entries SET debit_account = 'bank:other'",
        "UPDATE operator_entries SET code = 600",
        "UPDATE operator_entry_ends SET transfer_id = 1",
        "UPDATE operator_entry_ends SET transfer_id = 99",
        "DELETE FROM operator_entry_ends",
    ],
)
def test_the_check_finds_an_entry_that_someone_with_the_file_changed(books: Books, statement: str) -> None:
    approve(books, propose(books))
    books.assert_sound()

    intrude(books.engine, statement)

    assert {check.name for check in books.check().checks if not check.ok} == {"entries_match_ledger"}


def test_an_entry_ends_once(books: Books) -> None:
    entry = approve(books, propose(books))

    with pytest.raises(InvariantError):
        books.run(lambda uow: uow.entries.end(entry))

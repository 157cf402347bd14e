"""Exported books are accepted by two accounting programs that know nothing of us, and no error slips by."""

import csv
import io
import re
from pathlib import Path

import pytest

from pool_server.app import payouts
from pool_server.app.books_export import JournalFormat, export_books
from pool_server.app.earnings import release_held
from pool_server.app.money import release_job, void_attempts
from pool_server.core.settlement import Payer
from pool_server.reports.journals import make_journal
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support.accounting import complaint, planted, write_journal
from tests.support.books import Books, settlement
from tests.support.payees import DETAILS

PROGRAMS = [JournalFormat.BEANCOUNT, JournalFormat.HLEDGER]
DAY_US = 86_400 * 1_000_000


def pay_out(books: Books, owner_id: str) -> None:
    """Plan and approve a run, as two operators do."""

    def plan(uow: SqlUnitOfWork) -> payouts.PayoutView:
        payouts.set_payout_details(uow, owner_id=owner_id, details=DETAILS, now_us=books.now_us)
        return payouts.plan_payout(uow, operator_id="op_a", idempotency_key="k", now_us=books.now_us)

    run = books.run(plan).run
    books.run(
        lambda uow: payouts.approve_payout(
            uow,
            payout_id=run.payout_id,
            operator_id="op_b",
            expected_total_micros=run.total_micros,
            now_us=books.now_us,
        )
    )


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Books:
    """A pool that has seen everything that moves money, over some days, and names that are hard to write."""
    books = Books(tmp_path_factory.mktemp("books") / "pool.sqlite3")
    books.deposit(25_000_001, reference='Müller; "Söhne" -> \\ x')
    books.deposit(2**62, buyer_id="buyer_B", reference="much")
    books.reserve(1, 9_000_000)
    owners = ("owner_a", "owner_A", "owner-a", "owner_5f", "_", "7")
    for place, owner_id in enumerate(owners):
        books.now_us += DAY_US
        books.earn(owner_id, [1, 19, 1_234_567], first_attempt=1 + 10 * place)
    [half, gone, open_still] = books.fund([101, 102, 103], amount_micros=50_000)
    books.settle([settlement(101, half, gross_micros=12_345)])
    books.run(lambda uow: void_attempts(uow, [gone], now_us=books.now_us))
    [audit] = books.fund([104], payer=Payer.VERIFICATION)
    books.settle([settlement(104, audit)])
    books.now_us += DAY_US
    books.run(lambda uow: release_held(uow, now_us=books.now_us))
    pay_out(books, "owner_a")
    books.run(lambda uow: release_job(uow, buyer_id="buyer_b", job_id=1, now_us=books.now_us))
    assert open_still
    books.assert_sound()
    return books


def exported(books: Books, journal_format: JournalFormat) -> str:
    return books.run(lambda uow: "".join(export_books(uow, make_journal, journal_format)))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_books_are_accepted(books: Books, program: JournalFormat, tmp_path: Path) -> None:
    path = books.run(lambda uow: write_journal(uow, program, tmp_path / "books"))

    assert complaint(program, path) == ""


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("place", ["one leg", "both legs", "a balance", "a transfer that is missing"])
def test_an_error_of_one_micro_unit_is_refused(
    books: Books, program: JournalFormat, place: str, tmp_path: Path
) -> None:
    text = exported(books, program)
    wrong = planted(program, text)[place]
    assert wrong != text
    path = tmp_path / "books"
    path.write_text(wrong, encoding="ascii")

    assert complaint(program, path) != ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_journal_holds_every_link_of_the_chain_in_order(books: Books, program: JournalFormat) -> None:
    hashes = [row.chain_hash.hex() for row in books.run(lambda uow: list(uow.ledger.all_transfers()))]

    assert re.findall(r'chain:? "?([0-9a-f]{64})', exported(books, program)) == hashes


def test_the_same_books_give_the_same_bytes(books: Books) -> None:
    for journal_format in JournalFormat:
        assert exported(books, journal_format) == exported(books, journal_format)


def test_the_lines_of_the_csv_are_the_log(books: Books) -> None:
    rows = books.run(lambda uow: list(uow.ledger.all_transfers()))
    lines = list(csv.DictReader(io.StringIO(exported(books, JournalFormat.CSV))))

    assert [int(line["transfer"]) for line in lines] == [row.transfer_id for row in rows]
    assert [int(line["amount"].replace(".", "")) for line in lines] == [row.amount_micros for row in rows]
    assert lines[0]["key"] == 'deposit:Müller; "Söhne" -> \\ x'
    assert {line["kind"] for line in lines} == {"single", "pending", "post", "void"}
    assert {line["posted"] for line in lines if line["kind"] in {"pending", "void"}} == {"0.000000"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_books_without_a_transfer_are_accepted(program: JournalFormat, tmp_path: Path) -> None:
    empty = Books(tmp_path / "pool.sqlite3")

    path = empty.run(lambda uow: write_journal(uow, program, tmp_path / "books"))

    assert complaint(program, path) == ""

"""The time machine: counters as of every transfer, and histories, against books that are folded by hand."""

from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app import account_reading
from pool_server.app.account_reading import (
    HistoryLine,
    Reading,
    balance_micros,
    begin_history,
    begin_reading,
    history_back,
    last_transfer_before,
    near_names,
    read_on,
)
from pool_server.app.money import void_attempts
from pool_server.ports.books import Counters
from tests.support.books import Books, settlement
from tests.support.ledger_audit import LedgerAudit
from tests.support.ledger_workload import Workload

HOT = ("job:1:escrow", "owner:owner_a:held", "fee:pool")
QUIET = ("bank:main", "buyer:buyer_b:available")


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Books:
    books = Books(tmp_path_factory.mktemp("reading") / "pool.sqlite3")
    books.deposit(10_000)
    books.reserve(1, 6_000)
    [part, gone, still] = books.fund([1, 2, 3], amount_micros=1_000)
    books.settle([settlement(1, part, gross_micros=700)])
    books.run(lambda uow: void_attempts(uow, [gone], now_us=books.now_us))
    books.deposit(5, reference="bank-2")
    assert still
    return books


def read(books: Books, name: str, at: int | None = None) -> Reading:
    reading = books.run(lambda uow: begin_reading(uow, name=name, at_transfer_id=at))
    while not reading.done:
        books.run(lambda uow: read_on(uow, reading))
    return reading


def history(books: Books, name: str, *, limit: int = 100, before: int = 0) -> list[HistoryLine]:
    reading = read(books, name, before - 1 if before else None)
    found = begin_history(reading, limit=limit)
    lines: list[HistoryLine] = []
    while not found.done:
        books.run(lambda uow: history_back(uow, found))
        lines += found.lines
    return lines


def by_hand(books: Books, account_id: int, at: int) -> Counters:
    """Fold the log as a person would, one reservation at a time."""
    reserved: dict[int, int] = {}
    sides = [[0, 0], [0, 0]]
    for row in books.run(lambda uow: list(uow.ledger.all_transfers()))[:at]:
        for side, number in enumerate((row.debit_account_id, row.credit_account_id)):
            if number != account_id:
                continue
            if row.kind == 1:
                sides[side][0] += row.amount_micros
                reserved[row.transfer_id] = row.amount_micros
            if row.kind in {2, 3}:
                sides[side][0] -= reserved[row.pending_id or 0]
            if row.kind in {0, 2}:
                sides[side][1] += row.amount_micros
    return Counters(*sides[0], *sides[1])


@pytest.mark.parametrize("step", [200_000, 3])
@pytest.mark.parametrize("name", [*QUIET, *HOT])
def test_counters_as_of_every_transfer(
    books: Books, name: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_reading, "STEP_TRANSFERS", step)
    head = books.run(lambda uow: uow.ledger.head()).transfer_id

    for at in range(head + 1):
        reading = read(books, name, at)
        assert reading.counters == by_hand(books, reading.account.account_id, at)
        assert reading.agrees
    assert read(books, name).counters == read(books, name, head).counters


def test_only_accounts_of_the_hot_path_are_searched_through_the_whole_log(books: Books) -> None:
    assert all(read(books, name).is_indexed for name in QUIET)
    assert not any(read(books, name).is_indexed for name in HOT)


def test_a_balance_counts_in_the_accounts_own_direction(books: Books) -> None:
    figures = {name: read(books, name) for name in (*QUIET, *HOT)}

    assert {name: balance_micros(reading.account, reading.counters) for name, reading in figures.items()} == {
        "bank:main": 10_005,
        "buyer:buyer_b:available": 4_005,
        "job:1:escrow": 5_300,
        "owner:owner_a:held": 665,
        "fee:pool": 35,
    }


def test_a_counter_that_is_not_what_the_log_says_is_told(tmp_path: Path) -> None:
    books = Books(tmp_path / "pool.sqlite3")
    books.deposit(10)
    with books.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE accounts SET credits_posted = 11 WHERE code = 2")

    reading = read(books, "buyer:buyer_b:available")

    assert not reading.agrees
    assert reading.counters.credits_posted_micros == 10


@pytest.mark.parametrize("step", [200_000, 2])
@pytest.mark.parametrize("name", [*QUIET, *HOT])
def test_a_history_leads_from_each_balance_to_the_next(
    books: Books, name: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_reading, "STEP_TRANSFERS", step)
    lines = history(books, name)

    account = read(books, name).account
    for line in lines:
        counters = by_hand(books, account.account_id, line.row.transfer_id)
        assert line.balance_micros == balance_micros(account, counters)
    assert sum(line.change_micros for line in lines) == lines[0].balance_micros
    assert [line.row.transfer_id for line in lines] == sorted(
        (line.row.transfer_id for line in lines), reverse=True
    )
    # In pages it is the same.
    paged: list[HistoryLine] = []
    while True:
        page = history(books, name, limit=2, before=paged[-1].row.transfer_id if paged else 0)
        if not page:
            break
        paged += page
    assert paged == lines


def test_a_history_names_the_other_side_and_the_banks_reference(books: Books) -> None:
    newest, oldest = history(books, "bank:main")

    assert (newest.key, oldest.key) == ("deposit:bank-2", "deposit:bank-1")
    assert newest.counter_account == "buyer:buyer_b:available"
    assert newest.is_debit


def test_the_last_transfer_before_a_time(tmp_path: Path) -> None:
    books = Books(tmp_path / "pool.sqlite3")
    assert books.run(lambda uow: last_transfer_before(uow, 1)) == 0
    times = [books.now_us + late for late in (0, 0, 5, 9, 9, 9, 20)]
    for number, books.now_us in enumerate(times):
        books.deposit(1, reference=f"r{number}")

    for at_us in range(times[0] - 1, times[-1] + 3):
        found = books.run(lambda uow, at_us=at_us: last_transfer_before(uow, at_us))  # type: ignore[misc]
        assert found == sum(time < at_us for time in times)


def test_names_that_may_have_been_meant(books: Books) -> None:
    def near(name: str) -> list[str]:
        return books.run(lambda uow: near_names(uow, name))

    assert near("buyer_b") == ["buyer:buyer_b:available"]
    assert near("OWNER_A")[:1] == ["owner:owner_a:held"]
    assert near("bank:mian") == ["bank:main"]
    assert near("job:2:escrow") == ["job:1:escrow"]
    assert near("100%_\\") == []
    assert near("") == []


def test_what_cannot_be_read(books: Books) -> None:
    head = books.run(lambda uow: uow.ledger.head()).transfer_id
    for name, at, code in (
        ("bank:mian", None, ErrorCode.NOT_FOUND),
        ("bank:main", head + 1, ErrorCode.INVALID_ARGUMENT),
        ("bank:main", -1, ErrorCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(PoolError) as refusal:
            read(books, name, at)
        assert refusal.value.code is code
    with pytest.raises(PoolError):
        begin_history(read(books, "bank:main"), limit=0)


def test_random_books_at_random_times(tmp_path: Path) -> None:
    """Reservations between any accounts: where the index misses one, the whole log is read."""
    books = Books(tmp_path / "pool.sqlite3")
    audit = LedgerAudit(books.engine, commands_per_commit=50)
    workload = Workload.of_seed(audit, 5)
    workload.begin()
    workload.run(1_200)
    audit.commit()

    indexed = set()
    for name in ("bank:main", "buyer:buyer_a:available", "buyer:buyer_whale:available", "tax:vat"):
        for at in workload.chance.sample(range(audit.paper.transfers + 1), 4):
            reading = read(books, name, at)
            assert reading.counters == by_hand(books, reading.account.account_id, at)
            indexed.add(reading.is_indexed)
    assert indexed == {True, False}

"""What only PostgreSQL has: languages, other writers, a server that goes away, sums that are no integers."""

import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.ports.shell import Principal, Role
from pool_server.store import postgresql
from pool_server.store.driver import Driver
from pool_server.store.engine import open_engine, read_only
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.postgresql import LOCK_TIMEOUT_MS, SILENCE_TIMEOUT_MS, translated
from pool_server.store.statements import ROWS_TO_LOAD, insert_many, stream, write_many
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support import databases
from tests.support.books import Books
from tests.support.databases import CHOICE


@pytest.fixture(autouse=True)
def _on_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, "postgresql")


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "pool")


@pytest.fixture
def writer(books: Books) -> Iterator[GroupCommitWriter[SqlUnitOfWork]]:
    writer: GroupCommitWriter[SqlUnitOfWork] = GroupCommitWriter(
        books.engine, books.make_uow, lambda effects: None
    )
    writer.start()
    yield writer
    writer.stop()


def driver_of(connection: Any) -> Any:
    return connection.connection.driver_connection


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lock_timeout", f"{LOCK_TIMEOUT_MS // 1000}s"),
        ("idle_in_transaction_session_timeout", f"{SILENCE_TIMEOUT_MS // 60_000}min"),
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
        ("application_name", "chargepool"),
    ],
)
def test_every_connection_is_set_up(books: Books, setting: str, value: str) -> None:
    with books.engine.begin() as connection:
        assert connection.exec_driver_sql(f"SHOW {setting}").scalar() == value


def test_a_server_that_acknowledges_before_the_disk_is_told_otherwise(books: Books) -> None:
    name = books.engine.url.database
    books.sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    books.engine.dispose()

    with books.engine.begin() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


def test_a_reader_sees_one_snapshot_and_never_waits_for_a_writer(books: Books) -> None:
    with books.engine.connect() as unused:
        reader = read_only(unused)
        with reader.begin(), books.engine.begin() as writing:
            assert Driver(reader).run("SELECT count(*) FROM marks").scalar_one() == 0
            Driver(writing).run("INSERT INTO marks (name, value) VALUES ('a', 1)")
            writing.commit()
            assert Driver(reader).run("SELECT count(*) FROM marks").scalar_one() == 0
        with reader.begin():
            assert Driver(reader).run("SELECT count(*) FROM marks").scalar_one() == 1


def test_a_second_writer_waits_for_the_first_and_then_sees_what_it_wrote(
    books: Books, tmp_path: Path
) -> None:
    other = databases.open_at(tmp_path / "pool")
    seen: list[int] = []

    def second() -> None:
        with other.begin() as connection:
            seen.append(Driver(connection).run("SELECT count(*) FROM marks").scalar_one())

    with books.engine.begin() as connection:
        thread = threading.Thread(target=second)
        thread.start()
        driver = Driver(connection)
        while not driver.run("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one():
            pass
        driver.run("INSERT INTO marks (name, value) VALUES ('a', 1)")
        assert seen == []
    thread.join()

    assert seen == [1]


def test_a_writer_does_not_wait_for_ever(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "LOCK_TIMEOUT_MS", 20)
    other = databases.open_at(tmp_path / "pool")

    with (
        books.engine.begin(),
        pytest.raises(OperationalError, match="lock timeout"),
        other.begin(),
    ):
        pass


def test_a_killed_connection_costs_a_command_and_no_more(
    books: Books, writer: GroupCommitWriter[SqlUnitOfWork]
) -> None:
    kill = "SELECT pg_terminate_backend(pg_backend_pid())"
    assert writer.submit(lambda uow: uow.ids.next_block("a", 1)).result() == range(1, 2)

    # 1. In the midst of a command: it is answered UNAVAILABLE, its work is not kept.
    def killed(uow: SqlUnitOfWork) -> None:
        uow.ids.next_block("a", 1)
        uow.ids._driver.run(kill)

    error = writer.submit(killed).exception()
    assert isinstance(error, PoolError)
    assert (error.code, error.retry_after_ms is not None) == (ErrorCode.UNAVAILABLE, True)
    assert writer.submit(lambda uow: uow.ids.next_block("a", 1)).result() == range(2, 3)
    # 2. In the midst of a query: it is asked again.
    asked: list[int] = []

    def query(uow: SqlUnitOfWork) -> int:
        asked.append(1)
        if len(asked) == 1:
            uow.ids._driver.run(kill)
        return len(uow.ledger.accounts_by_prefix(""))

    assert writer.read(query).result() == 0
    assert len(asked) == 2
    # 3. While nothing is done, as when the server is started anew: nobody notices.
    databases.end_connections(books.engine)
    assert writer.submit(lambda uow: uow.ids.next_block("a", 1)).result() == range(3, 4)
    assert writer.read(lambda uow: len(uow.ledger.accounts_by_prefix(""))).result() == 0


def test_a_query_that_always_loses_its_connection_is_refused_in_the_end(
    writer: GroupCommitWriter[SqlUnitOfWork],
) -> None:
    def query(uow: SqlUnitOfWork) -> None:
        uow.ids._driver.run("SELECT pg_terminate_backend(pg_backend_pid())")

    error = writer.read(query).exception()

    assert isinstance(error, PoolError)
    assert error.code is ErrorCode.UNAVAILABLE


def test_a_query_with_a_fault_is_refused_once(writer: GroupCommitWriter[SqlUnitOfWork]) -> None:
    asked: list[int] = []

    def query(uow: SqlUnitOfWork) -> None:
        asked.append(1)
        uow.ids._driver.run("SELECT nothing FROM nowhere")

    error = writer.read(query).exception()

    assert isinstance(error, PoolError)
    assert len(asked) == 1
    assert writer.read(lambda uow: len(uow.ledger.accounts_by_prefix(""))).result() == 0


def test_no_text_is_in_the_order_of_a_language(books: Books) -> None:
    assert (
        books.rows(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
            "AND data_type IN ('character varying', 'text') AND collation_name IS DISTINCT FROM 'C'"
        )
        == []
    )


def test_names_are_sorted_and_compared_by_their_characters(books: Books) -> None:
    names = ["a", "B", "A:1", "a-1", "a_1", "a1", "Z", "Ä", "z"]
    with books.engine.begin() as connection:
        driver = Driver(connection)
        insert_many(driver, "id_counters", "name, next_value", [(name, 1) for name in names])
        found = [row[0] for row in driver.run("SELECT name FROM id_counters ORDER BY name")]
        after = driver.run("SELECT count(*) FROM id_counters WHERE name > ?", ("Z",)).scalar_one()

    assert found == sorted(names)
    assert after == sum(name > "Z" for name in names)


def test_sums_are_integers_and_truths_too(books: Books) -> None:
    with books.engine.begin() as connection:
        driver = Driver(connection)
        write_many(driver, "INSERT INTO id_counters VALUES (?, ?)", [("a", True), ("b", 2**62), ("c", 2**62)])
        [total, mean, one] = driver.run(
            "SELECT sum(next_value), avg(next_value) FILTER (WHERE name IN ('a', 'd')), max(next_value) "
            "FROM id_counters WHERE name <> ?",
            ("d",),
        ).one()

    assert (total, mean, one) == (2**63 + 1, 1, 2**62)
    assert [type(value) for value in (total, mean, one)] == [int, int, int]


def test_streams_are_read_in_parts_and_other_statements_run_between(books: Books) -> None:
    with books.engine.begin() as connection:
        driver = Driver(connection)
        insert_many(driver, "id_counters", "name, next_value", [(f"n{n:05}", n) for n in range(5_000)])
        first, second = (stream(driver, "SELECT next_value FROM id_counters ORDER BY name") for _ in range(2))
        values = []
        for a, b in zip(first, second, strict=True):
            assert a == b
            values.append(a[0])
            if len(values) == 2_500:
                assert driver.run("SELECT count(*) FROM id_counters").scalar_one() == 5_000
        # One that is left in the midst troubles nobody.
        next(stream(driver, "SELECT next_value FROM id_counters ORDER BY name"))
    with books.engine.begin() as connection:
        assert Driver(connection).run("SELECT count(*) FROM id_counters").scalar_one() == 5_000

    assert values == list(range(5_000))


@pytest.mark.parametrize("count", [2, ROWS_TO_LOAD])
def test_a_refused_write_does_not_repeat_the_row(books: Books, count: int) -> None:
    # Not a word of the statement below: a traceback shows that.
    rows = [("secret", 1)] * count
    with (
        pytest.raises(InvariantError, match="id_counters_pkey") as refusal,
        books.engine.begin() as connection,
    ):
        insert_many(Driver(connection), "id_counters", "name, next_value", rows)

    assert "secret" not in "".join(traceback.format_exception(refusal.value))


def test_neither_does_a_refused_statement_of_the_quiet_paths(books: Books) -> None:
    principal = Principal(principal_id="buyer_secret", role=Role.BUYER, name="Bea", created_at_us=1)
    books.run(lambda uow: uow.identity.add_principal(principal))

    with pytest.raises(IntegrityError, match="principals_pkey") as refusal:
        books.run(lambda uow: uow.identity.add_principal(principal))

    assert "secret" not in "".join(traceback.format_exception(refusal.value))


def test_statements_are_translated() -> None:
    assert translated("SELECT a % 7 FROM t AS x INDEXED BY x_y WHERE b = ? AND c IN (?,?)") == (
        "SELECT a %% 7 FROM t AS x WHERE b = %s AND c IN (%s,%s)"
    )


def test_no_server_is_said_so(tmp_path: Path) -> None:
    engine = open_engine(f"postgresql://pool:hunter2@/pool?host={tmp_path}")

    with pytest.raises(DBAPIError) as refusal, engine.begin():
        pass

    assert "hunter2" not in str(refusal.value)


def test_a_missing_driver_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "find_spec", lambda name: None)

    with pytest.raises(PoolError) as refusal:
        open_engine("postgresql://pool:hunter2@host/pool")

    assert "pip install 'chargepool[postgresql]'" in str(refusal.value.advice)


def test_a_database_that_cannot_hold_every_name_is_refused(books: Books) -> None:
    engine = databases.open_in_encoding("LATIN1")

    with pytest.raises(PoolError, match="LATIN1") as refusal, engine.begin():
        pass

    assert refusal.value.code is ErrorCode.INVALID_STATE

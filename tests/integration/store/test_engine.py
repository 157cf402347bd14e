"""The database is opened durable, strict and one writer at a time; ids come in blocks that roll back."""

from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.store.engine import open_engine, read_only
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support.books import Books


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),  # FULL
        ("foreign_keys", 1),
        ("recursive_triggers", 1),
        ("busy_timeout", 10_000),
    ],
)
def test_every_connection_is_set_up(tmp_path: Path, pragma: str, value: object) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'pool.sqlite3'}")

    with engine.connect() as first, engine.connect() as second:
        for connection in (read_only(first), read_only(second)):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
    engine.dispose()


def test_a_second_writer_is_refused_instead_of_losing_an_update(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'pool.sqlite3'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE counts (n INTEGER)")
    other = open_engine(f"sqlite:///{tmp_path / 'pool.sqlite3'}")

    with engine.begin(), other.connect() as second:
        driver = second.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(OperationalError, match="locked"):
            second.exec_driver_sql("INSERT INTO counts VALUES (1)")
    engine.dispose()
    other.dispose()


@pytest.mark.usefixtures("on_both_databases")
def test_a_reader_refuses_to_write(tmp_path: Path) -> None:
    books = Books(tmp_path / "pool.sqlite3")

    with books.engine.connect() as connection, pytest.raises(DBAPIError, match=r"read-?only"):
        read_only(connection).exec_driver_sql("INSERT INTO marks VALUES ('x', 1)")


@pytest.mark.usefixtures("on_both_databases")
def test_a_foreign_key_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    books = Books(tmp_path / "pool.sqlite3")

    with pytest.raises(IntegrityError):
        books.sql("INSERT INTO payout_files VALUES (1, 'x', x'00', '')")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://localhost/pool",
        "postgresql+asyncpg://localhost/pool",
        "pool.sqlite3",
        "",
        "postgresql://h:x/",
    ],
)
def test_another_database_is_refused_in_words(url: str) -> None:
    with pytest.raises(PoolError) as refusal:
        open_engine(url)

    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_database_in_memory_is_one_database() -> None:
    engine = open_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE counts (n INTEGER)")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM counts").scalar() == 0
    engine.dispose()


def take_five_and_refuse(uow: SqlUnitOfWork) -> None:
    assert uow.ids.next_block("attempt", 5) == range(4, 9)
    raise PoolError(ErrorCode.CONFLICT, "no")


@pytest.mark.usefixtures("on_both_databases")
def test_ids_come_in_blocks_without_gaps_and_roll_back_with_their_command(tmp_path: Path) -> None:
    books = Books(tmp_path / "pool.sqlite3")

    assert books.run(lambda uow: uow.ids.next_block("attempt", 3)) == range(1, 4)
    with pytest.raises(PoolError):
        books.run(take_five_and_refuse)
    assert books.run(lambda uow: uow.ids.next_block("attempt", 1)) == range(4, 5)
    assert books.run(lambda uow: uow.ids.next_block("lease", 2)) == range(1, 3)
    assert books.run(lambda uow: uow.ids.next_block("lease", 0)) == range(0)

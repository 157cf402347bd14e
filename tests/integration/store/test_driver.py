"""Statements on the driver's own cursor: SQLAlchemy's errors, whole lists, always in a transaction."""

from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, NoResultFound

from pool_protocol.errors import InvariantError
from pool_server.store.driver import Driver
from pool_server.store.statements import ROWS_PER_STATEMENT, insert_many, stream
from tests.support.books import Books

pytestmark = pytest.mark.usefixtures("on_both_databases")

COUNTERS = "SELECT name, next_value FROM id_counters ORDER BY next_value"


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "pool.sqlite3")


@pytest.mark.parametrize(
    "count",
    [0, 1, ROWS_PER_STATEMENT - 1, ROWS_PER_STATEMENT, ROWS_PER_STATEMENT + 1, 5 * ROWS_PER_STATEMENT + 3],
)
def test_a_list_of_any_length_is_inserted_whole_and_in_order(books: Books, count: int) -> None:
    rows = [(f"kind {index}", index) for index in range(count)]
    with books.engine.begin() as connection:
        insert_many(Driver(connection), "id_counters", "name, next_value", rows)
    with books.engine.begin() as connection:
        driver = Driver(connection)
        assert driver.run(COUNTERS).fetchall() == rows
        assert list(stream(driver, COUNTERS)) == rows


@pytest.mark.parametrize("count", [2, ROWS_PER_STATEMENT])
def test_a_row_that_the_schema_refuses_breaks_an_invariant(books: Books, count: int) -> None:
    with pytest.raises(InvariantError, match=r"UNIQUE|id_counters_pkey"), books.engine.begin() as connection:
        insert_many(Driver(connection), "id_counters", "name, next_value", [("same", 1)] * count)
    assert books.scalar("SELECT count(*) FROM id_counters") == 0


def test_errors_are_those_of_sqlalchemy(books: Books) -> None:
    with books.engine.begin() as connection:
        driver = Driver(connection)
        driver.run("INSERT INTO id_counters (name, next_value) VALUES ('a', 1)")
        with pytest.raises(IntegrityError), connection.begin_nested():
            driver.run("INSERT INTO id_counters (name, next_value) VALUES ('a', 1)")
        with pytest.raises(IntegrityError), connection.begin_nested():
            driver.run_many("INSERT INTO id_counters (name, next_value) VALUES (?, ?)", [("b", 1), ("b", 1)])
        with pytest.raises(IntegrityError), connection.begin_nested():
            driver.run("INSERT INTO marks (name) VALUES ('a')")
        with pytest.raises(DBAPIError), connection.begin_nested():
            list(stream(driver, "SELECT nothing FROM nowhere"))
        with pytest.raises(DBAPIError), connection.begin_nested():
            driver.run("SELECT nothing FROM nowhere")
        with pytest.raises(NoResultFound):
            driver.run("SELECT next_value FROM id_counters WHERE name = 'c'").scalar_one()


def test_what_is_written_without_a_transaction_is_in_one_all_the_same(books: Books) -> None:
    with books.engine.connect() as connection:
        Driver(connection).run("INSERT INTO id_counters (name, next_value) VALUES ('a', 1)")
        assert connection.in_transaction()
    assert books.scalar("SELECT count(*) FROM id_counters") == 0

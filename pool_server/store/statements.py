"""How repositories speak to the driver: bulk statements with positional parameters, long lists in chunks."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy.exc import IntegrityError

from pool_protocol.errors import InvariantError
from pool_server.store.driver import Driver

#: Values in one `IN (...)`: well under SQLite's limit of 32,766 parameters, long enough to be one round trip.
IN_LIST_MAX = 1_000
#: Rows that one INSERT takes, always as many, so that the driver's cache holds it. The rest go one by one.
ROWS_PER_INSERT = 20
#: Rows fetched at a time when a whole table is streamed.
STREAM_ROWS = 2_000

T = TypeVar("T")


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield a list in parts that fit one `IN (...)`."""
    for start in range(0, len(values), IN_LIST_MAX):
        yield values[start : start + IN_LIST_MAX]


def marks(count: int) -> str:
    """Return `?,?,?`."""
    return ",".join("?" * count)


def fetch_in(
    driver: Driver, statement: str, values: Sequence[Any], *, before: tuple[Any, ...] = ()
) -> list[Any]:
    """Run a query that ends in or holds `{marks}` for a list of values, chunk by chunk; return all rows."""
    rows: list[Any] = []
    for part in chunks(values):
        rows.extend(driver.run(statement.format(marks=marks(len(part))), (*before, *part)).fetchall())
    return rows


def write_many(driver: Driver, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Run a statement once per row; return how many rows of the table it changed.

    Raises:
        InvariantError: a constraint or a trigger of the schema refused a row.
    """
    if not rows:
        return 0
    try:
        return driver.run_many(statement, rows)
    except IntegrityError as error:
        raise _refused(error) from error


def insert_many(driver: Driver, table: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, many to a statement: SQLite then opens the table and its indexes once for them all.

    Raises:
        InvariantError: a constraint or a trigger of the schema refused a row.
    """
    if not rows:
        return
    mark = f"({marks(len(rows[0]))})"
    insert = f"INSERT INTO {table} ({columns}) VALUES {mark}"
    whole = len(rows) - len(rows) % ROWS_PER_INSERT
    several = insert + f",{mark}" * (ROWS_PER_INSERT - 1)
    try:
        for start in range(0, whole, ROWS_PER_INSERT):
            driver.run(several, tuple(chain.from_iterable(rows[start : start + ROWS_PER_INSERT])))
        if whole < len(rows):
            driver.run_many(insert, rows[whole:])
    except IntegrityError as error:
        raise _refused(error) from error


def stream(driver: Driver, statement: str, parameters: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Yield the rows of a query without holding them all."""
    return driver.stream(statement, parameters, size=STREAM_ROWS)


def _refused(error: IntegrityError) -> InvariantError:
    return InvariantError(f"the schema refused a write: {error.orig}")

"""How repositories speak to the driver: bulk statements with positional parameters, long lists in chunks."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy.exc import IntegrityError

from pool_protocol.errors import InvariantError
from pool_server.store.driver import Driver

#: Values in one `IN (...)`: well under SQLite's limit of 32,766 parameters, long enough to be one round trip.
IN_LIST_MAX = 1_000
#: Rows that one statement takes, always as many, so that the driver's cache holds it; the rest go singly.
ROWS_PER_STATEMENT = 20
#: From so many rows on, PostgreSQL takes them by COPY: two more messages, and far less for each row.
ROWS_TO_LOAD = 8
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


def set_from_values(columns: Sequence[str], *, first: int) -> str:
    """Return `a = new.column2, b = new.column3`: columns set from a list of rows that is called `new`."""
    return ", ".join(f"{column} = new.column{first + offset}" for offset, column in enumerate(columns))


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


def write_rows(driver: Driver, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Run a statement over many rows at a time; return how many rows of the table it changed.

    SQLite then opens the table and its indexes once for all of them, and the interpreter's lock is let go
    once and not row by row, which is dear while other threads wait for it.

    Args:
        driver: The transaction.
        statement: Holds `{rows}`, where a comma-separated list of `(?,?)`, one per row, is put in.
        rows: All of one length.

    Raises:
        InvariantError: a constraint or a trigger of the schema refused a row.
    """
    if not rows:
        return 0
    mark = f"({marks(len(rows[0]))})"
    whole = len(rows) - len(rows) % ROWS_PER_STATEMENT
    changed = 0
    try:
        if whole:
            several = statement.format(rows=mark + f",{mark}" * (ROWS_PER_STATEMENT - 1))
            for start in range(0, whole, ROWS_PER_STATEMENT):
                values = tuple(chain.from_iterable(rows[start : start + ROWS_PER_STATEMENT]))
                changed += driver.run(several, values).rowcount
        if whole < len(rows):
            changed += driver.run_many(statement.format(rows=mark), rows[whole:])
    except IntegrityError as error:
        raise _refused(error) from error
    return changed


def insert_many(driver: Driver, table: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, many to a statement.

    Raises:
        InvariantError: a constraint or a trigger of the schema refused a row.
    """
    if len(rows) < ROWS_TO_LOAD or driver.dialect != "postgresql":
        write_rows(driver, f"INSERT INTO {table} ({columns}) VALUES {{rows}}", rows)
        return
    try:
        driver.load(table, columns, rows)
    except IntegrityError as error:
        raise _refused(error) from error


def stream(driver: Driver, statement: str, parameters: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Yield the rows of a query without holding them all."""
    return driver.stream(statement, parameters, size=STREAM_ROWS)


def _refused(error: IntegrityError) -> InvariantError:
    return InvariantError(f"the schema refused a write: {error.orig}")

"""How repositories speak to the driver: bulk statements with positional parameters, long lists in chunks."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from pool_protocol.errors import InvariantError

#: Values in one `IN (...)`: well under SQLite's limit of 32,766 parameters, long enough to be one round trip.
IN_LIST_MAX = 1_000
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
    connection: Connection, statement: str, values: Sequence[Any], *, before: tuple[Any, ...] = ()
) -> list[Any]:
    """Run a query that ends in or holds `{marks}` for a list of values, chunk by chunk; return all rows."""
    rows: list[Any] = []
    for part in chunks(values):
        rows.extend(
            connection.exec_driver_sql(statement.format(marks=marks(len(part))), (*before, *part)).fetchall()
        )
    return rows


def write_many(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Run a statement once per row; return how many rows of the table it changed.

    Raises:
        InvariantError: a constraint or a trigger of the schema refused a row.
    """
    if not rows:
        return 0
    try:
        # One row goes as one, so that the driver can cache the statement either way.
        return connection.exec_driver_sql(statement, list(rows)).rowcount
    except IntegrityError as error:
        raise InvariantError(f"the schema refused a write: {error.orig}") from error


def stream(connection: Connection, statement: str, parameters: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Yield the rows of a query without holding them all."""
    result = connection.execution_options(stream_results=True).exec_driver_sql(statement, parameters)
    while rows := result.fetchmany(STREAM_ROWS):
        yield from rows

"""The driver's own cursor, for the statements of the hot path.

A command of a hundred tasks runs some fifty statements. SQLAlchemy opens the connection, begins and ends its
transaction, and builds the statements of the quiet paths; for those of the hot path its execution context and
result objects cost several times what SQLite does. Errors are SQLAlchemy's all the same.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, NoResultFound


class Answer:
    """All rows of a statement, and how many it changed."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def fetchall(self) -> list[Any]:
        """Return all rows."""
        return self._rows

    def one_or_none(self) -> Any:
        """Return the first row, None when there is none; for queries that find one at most."""
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        """Return the first row.

        Raises:
            NoResultFound: there is none.
        """
        if not self._rows:
            raise NoResultFound("the query found no row, and one was to be there")
        return self._rows[0]

    def scalar_one_or_none(self) -> Any:
        """Return the first value of the first row, None when there is none."""
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        """Return the first value of the first row.

        Raises:
            NoResultFound: there is none.
        """
        return self.one()[0]


class Driver:
    """Runs statements with positional parameters inside a connection's transaction."""

    __slots__ = ("_driver",)

    def __init__(self, connection: Connection) -> None:
        """Take a connection; a transaction is begun on it unless it has one, as SQLAlchemy would."""
        if not connection.in_transaction():
            connection.begin()
        # Not `driver_connection`: a detached connection (every reader's) has none.
        self._driver: Any = connection.connection.dbapi_connection

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        """Run one statement and fetch all that it answers.

        Raises:
            DBAPIError: as SQLAlchemy would, for example IntegrityError.
        """
        try:
            cursor = self._driver.execute(statement, parameters)
            return Answer(cursor.fetchall(), cursor.rowcount)
        except sqlite3.Error as error:
            raise _wrapped(statement, parameters, error) from error

    def run_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement once per row; return how many rows of the table it changed.

        Raises:
            DBAPIError: as SQLAlchemy would.
        """
        try:
            changed: int = self._driver.executemany(statement, rows).rowcount
        except sqlite3.Error as error:
            raise _wrapped(statement, rows, error) from error
        return changed

    def stream(self, statement: str, parameters: Sequence[Any], *, size: int) -> Iterator[Any]:
        """Yield the rows of a query, `size` in memory at a time.

        Raises:
            DBAPIError: as SQLAlchemy would.
        """
        try:
            cursor = self._driver.execute(statement, parameters)
            while rows := cursor.fetchmany(size):
                yield from rows
        except sqlite3.Error as error:
            raise _wrapped(statement, parameters, error) from error


def _wrapped(statement: str, parameters: Sequence[Any], error: sqlite3.Error) -> Exception:
    """Return what SQLAlchemy makes of a driver's error."""
    wrapped: Exception = DBAPIError.instance(
        statement, parameters, error, sqlite3.Error, hide_parameters=True
    )
    return wrapped

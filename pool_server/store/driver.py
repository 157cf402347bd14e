"""The driver's own cursor, for the statements of the hot path, on SQLite and on PostgreSQL.

A command of a hundred tasks runs some fifty statements. SQLAlchemy opens the connection, begins and ends its
transaction, and builds the statements of the quiet paths; for those of the hot path its execution context and
result objects cost several times what SQLite does. Errors are SQLAlchemy's all the same.

Statements are written once for both databases: parameters are `?`, integers and texts only, and a list of
rows `(VALUES ...) AS new` has columns `column1`, `column2`, ...
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, NoResultFound

from pool_server.store.postgresql import cursor_of, forget_row, translated

#: Names of cursors that the server holds: two of one transaction never have the same.
_STREAMS = count(1)


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

    __slots__ = ("_cursor", "_error", "_is_postgresql", "_words", "dialect")

    def __init__(self, connection: Connection) -> None:
        """Take a connection; a transaction is begun on it unless it has one, as SQLAlchemy would."""
        if not connection.in_transaction():
            connection.begin()
        #: SQLAlchemy's name of the database: "sqlite" or "postgresql".
        self.dialect = connection.dialect.name
        self._is_postgresql = self.dialect == "postgresql"
        self._error: Any = connection.dialect.loaded_dbapi.Error
        self._cursor: Any = cursor_of(connection) if self._is_postgresql else _cursor(connection)
        self._words: Callable[[str], str] = translated if self._is_postgresql else str

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        """Run one statement and fetch all that it answers.

        Raises:
            DBAPIError: as SQLAlchemy would, for example IntegrityError.
        """
        try:
            cursor = self._cursor.execute(self._words(statement), parameters)
            return Answer([] if cursor.description is None else cursor.fetchall(), cursor.rowcount)
        except self._error as error:
            raise self._wrapped(statement, parameters, error) from error

    def run_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement once per row; return how many rows of the table it changed.

        Raises:
            DBAPIError: as SQLAlchemy would.
        """
        try:
            self._cursor.executemany(self._words(statement), rows)
        except self._error as error:
            raise self._wrapped(statement, rows, error) from error
        changed: int = self._cursor.rowcount
        return changed

    def load(self, table: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows by PostgreSQL's own way for many: no statement is parsed, no parameter bound.

        Constraints and triggers see each row all the same.

        Raises:
            DBAPIError: as SQLAlchemy would.
        """
        statement = f"COPY {table} ({columns}) FROM STDIN"
        try:
            with self._cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
        except self._error as error:
            raise self._wrapped(statement, rows, error) from error

    def stream(self, statement: str, parameters: Sequence[Any], *, size: int) -> Iterator[Any]:
        """Yield the rows of a query, `size` in memory at a time.

        Raises:
            DBAPIError: as SQLAlchemy would.
        """
        if self._is_postgresql:
            yield from self._stream_from_server(statement, parameters, size)
            return
        try:
            # A cursor of its own: other statements are run while the rows are read.
            cursor = self._cursor.connection.cursor()
            cursor.execute(statement, parameters)
            while rows := cursor.fetchmany(size):
                yield from rows
        except self._error as error:
            raise self._wrapped(statement, parameters, error) from error

    def _stream_from_server(self, statement: str, parameters: Sequence[Any], size: int) -> Iterator[Any]:
        # The driver's own would be closed by whoever collects it, in the midst of another transaction; this
        # one ends with its transaction.
        name = f"chargepool_stream_{next(_STREAMS)}"
        self.run(f"DECLARE {name} NO SCROLL CURSOR FOR {statement}", parameters)
        while rows := self.run(f"FETCH FORWARD {size} FROM {name}").fetchall():
            yield from rows
        self.run(f"CLOSE {name}")

    def _wrapped(self, statement: str, parameters: Sequence[Any], error: Exception) -> Exception:
        """Return what SQLAlchemy makes of a driver's error."""
        if self._is_postgresql:
            forget_row(error)
        wrapped: Exception = DBAPIError.instance(
            statement, parameters, error, self._error, hide_parameters=True
        )
        return wrapped


def _cursor(connection: Connection) -> Any:
    # Not `driver_connection`: a detached connection (every reader's) has none.
    driver: Any = connection.connection.dbapi_connection
    return driver.cursor()

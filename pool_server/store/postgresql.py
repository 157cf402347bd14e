"""PostgreSQL: how its connections are set, and how statements that SQLite takes are told to it.

One writer at a time, as on SQLite: a transaction that may write takes one advisory lock first, whichever
process it is in, so it never reads what another is about to change. Its statements then see all that is
committed (READ COMMITTED); readers have a snapshot (REPEATABLE READ) and cannot write.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from pool_protocol.errors import ErrorCode, PoolError

#: The lock of all writers of a database: "chargepo" in ASCII.
WRITER_LOCK = 0x6368617267657000 | 0x6F
#: Held by the one server process of a database as long as it runs.
SERVER_LOCK = WRITER_LOCK + 1
#: The oldest server that has all that the schema uses (CREATE OR REPLACE TRIGGER).
SERVER_VERSION_MIN = 140_000
#: Until a server answers at all.
CONNECT_TIMEOUT_S = 10
#: Another writer is waited for this long.
LOCK_TIMEOUT_MS = 10_000
#: A writer that says nothing for so long loses its transaction: one that hangs must not stop the others.
SILENCE_TIMEOUT_MS = 60_000
#: Prepared statements kept per connection.
PREPARED_STATEMENTS = 512
#: Statements whose translation is kept; lists of several lengths are statements of their own.
_TRANSLATIONS = 4_096

_CURSOR = "chargepool_cursor"
_INDEXED_BY = re.compile(r" INDEXED BY \w+")


@lru_cache(maxsize=_TRANSLATIONS)
def translated(statement: str) -> str:
    """Return a statement with `?` for parameters in the driver's words; hints to SQLite's planner fall out.

    No statement holds a question mark of its own; a test reads them all.
    """
    return _INDEXED_BY.sub("", statement).replace("%", "%%").replace("?", "%s")


def make_engine(url: URL) -> Engine:
    """Make an engine; the first connection is made when it is needed.

    Raises:
        PoolError: INVALID_ARGUMENT for another driver than psycopg, INVALID_STATE when that is not installed.
    """
    if url.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"PostgreSQL is reached by psycopg only, not by {url.drivername!r}",
            advice="Begin the database's URL with postgresql://",
        )
    if find_spec("psycopg") is None:
        raise PoolError(
            ErrorCode.INVALID_STATE,
            "the database is PostgreSQL, and its driver psycopg is not installed",
            advice="Install it: pip install 'chargepool[postgresql]'",
        )
    defaults = {"connect_timeout": str(CONNECT_TIMEOUT_S), "application_name": "chargepool"}
    engine = create_engine(
        url.set(drivername="postgresql+psycopg", query={**defaults, **url.query}),
        hide_parameters=True,
        # A server that was started anew is noticed before a command is lost on it.
        pool_pre_ping=True,
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "handle_error", _forget_detail)
    return engine


def begin_writing(connection: Connection) -> None:
    """Wait until no other writer is at work."""
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")


def cursor_of(connection: Connection) -> Any:
    """Return the one cursor that a connection keeps for the statements of the hot path.

    It speaks the binary format, and alone has our conversions: SQLAlchemy's own statements have theirs.
    """
    kept = connection.info.get(_CURSOR)
    if kept is None:
        driver: Any = connection.connection.dbapi_connection
        kept = driver.cursor(binary=True)
        _adapt(kept.adapters)
        connection.info[_CURSOR] = kept
    return kept


def claim(engine: Engine) -> Callable[[], None]:
    """Hold a database for this server process; return what lets go of it. It ends with the process.

    Raises:
        PoolError: INVALID_STATE when another holds it.
    """
    held = engine.raw_connection()
    driver: Any = held.driver_connection
    held.detach()
    driver.autocommit = True
    [is_ours] = driver.execute("SELECT pg_try_advisory_lock(%s)", (SERVER_LOCK,)).fetchone()
    if not is_ours:
        driver.close()
        raise PoolError(
            ErrorCode.INVALID_STATE,
            "another server runs on this database",
            advice="Stop it first (Ctrl-C, or SIGTERM to its process); one server serves one database.",
        )

    def let_go() -> None:
        driver.close()

    return let_go


def make_reader(driver_connection: Any) -> None:
    """Make a driver's connection, on which nothing was begun, one that reads snapshots."""
    from psycopg import IsolationLevel

    driver_connection.isolation_level = IsolationLevel.REPEATABLE_READ
    driver_connection.read_only = True


def forget_row(error: Exception) -> None:
    """Take the detail out of a server's error: it repeats the row that was refused, and errors are logged."""
    diagnosis = getattr(error, "diag", None)
    if diagnosis is not None and diagnosis.message_detail:
        error.args = (diagnosis.message_primary,)


def _forget_detail(context: Any) -> None:
    diagnosis = getattr(context.original_exception, "diag", None)
    detail = diagnosis.message_detail if diagnosis is not None else None
    forget_row(context.original_exception)
    if detail and context.sqlalchemy_exception is not None:
        told = context.sqlalchemy_exception
        told.args = tuple(str(part).replace(detail, "(not shown)") for part in told.args)


def is_broken(connection: Connection) -> bool:
    """Whether the server, or the way to it, has ended a connection; never one to SQLite."""
    return bool(getattr(connection.connection.dbapi_connection, "closed", False))


def _configure(dbapi_connection: Any, _record: object) -> None:
    from psycopg import IsolationLevel

    if dbapi_connection.info.server_version < SERVER_VERSION_MIN:
        raise PoolError(
            ErrorCode.INVALID_STATE,
            f"the PostgreSQL server is of version {dbapi_connection.info.server_version // 10_000}",
            advice=f"Version {SERVER_VERSION_MIN // 10_000} is the oldest that has what the pool needs.",
        )
    dbapi_connection.prepared_max = PREPARED_STATEMENTS
    dbapi_connection.isolation_level = IsolationLevel.READ_COMMITTED
    encoding, _, _, _ = dbapi_connection.execute(
        "SELECT current_setting('server_encoding'), set_config('lock_timeout', %s, false), "
        "set_config('idle_in_transaction_session_timeout', %s, false), "
        # A commit is on disk before it is acknowledged, whatever the server's default; stricter stays.
        "set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' "
        "ELSE current_setting('synchronous_commit') END, false)",
        (str(LOCK_TIMEOUT_MS), str(SILENCE_TIMEOUT_MS)),
    ).fetchone()
    dbapi_connection.commit()
    if encoding != "UTF8":
        raise PoolError(
            ErrorCode.INVALID_STATE,
            f"the database keeps texts as {encoding}, which cannot hold every name",
            advice="Make it anew: createdb --encoding=UTF8 --template=template0 NAME",
        )


def _adapt(adapters: Any) -> None:
    """Make Python's integers and truths 64-bit integers, and whole sums Python's integers, as on SQLite."""
    from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper, NumericBinaryLoader, NumericLoader

    class TruthDumper(Int8Dumper):
        def dump(self, obj: Any) -> Any:
            return super().dump(int(obj))

    class SumLoader(NumericLoader):
        def load(self, data: Any) -> Any:
            return _whole(super().load(data))

    class SumBinaryLoader(NumericBinaryLoader):
        def load(self, data: Any) -> Any:
            return _whole(super().load(data))

    adapters.register_dumper(int, Int8Dumper)
    adapters.register_dumper(int, Int8BinaryDumper)
    adapters.register_dumper(bool, TruthDumper)
    adapters.register_loader("numeric", SumLoader)
    adapters.register_loader("numeric", SumBinaryLoader)


def _whole(value: Any) -> int | float:
    """Return a sum of integers as one; a mean as SQLite would."""
    return int(value) if value == value.to_integral_value() else float(value)

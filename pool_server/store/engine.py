"""Opens the database the one way it may be opened: SQLite, embedded, or PostgreSQL (`store.postgresql`).

SQLite: write-ahead log, `synchronous=FULL` (a commit is on disk before it is acknowledged), foreign keys on,
and every transaction begun by us: `BEGIN IMMEDIATE` for writers, so that two of them never read the same row
and both write it, and a deferred `BEGIN` for readers. The driver's own transaction handling is switched off.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import StaticPool

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.store.postgresql import begin_writing, claim, make_engine, make_reader

#: A writer in another process (an operator's tool) is waited for this long.
BUSY_TIMEOUT_MS = 10_000
#: Pages of 4 KiB kept in memory per connection, in KiB: the hot part of the indexes of a real small pool.
CACHE_KIB = 65_536
#: Prepared statements kept per connection: all that the repositories have, lists of several lengths included.
CACHED_STATEMENTS = 512
#: Pages of log before it is folded into the database: fewer, longer pauses than the default of 1000.
WAL_AUTOCHECKPOINT_PAGES = 4_000

_READ_ONLY_OPTION = "chargepool_read_only"


def open_engine(url: str) -> Engine:
    """Open the database at `url`; nothing is read or written yet.

    `sqlite:////var/lib/chargepool/pool.sqlite3` is a file; `sqlite://` is an empty database in memory with
    one shared connection, for tests. `postgresql://user:password@host/database` is on a server.

    Raises:
        PoolError: INVALID_ARGUMENT for what is no URL of these; INVALID_STATE when the driver for PostgreSQL
            is not installed.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, hide_parameters=True, **_pool_options(parsed))
        event.listen(engine, "connect", _configure)
    else:
        engine = make_engine(parsed)
    event.listen(engine, "begin", _begin)
    return engine


def parse_url(url: str) -> URL:
    """Read a database's URL.

    Raises:
        PoolError: INVALID_ARGUMENT; it never repeats the URL, which may hold a password.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            "the database's URL cannot be read",
            advice="It looks like postgresql://user:password@host:5432/database; "
            "write @ : / in a password as %40 %3A %2F.",
        ) from error.with_traceback(None)
    if backend not in {"sqlite", "postgresql"}:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"only sqlite and postgresql URLs are supported, not {backend!r}"
        )
    return parsed


def shown_url(engine: Engine) -> str:
    """Return a database's URL as people may see it: without its password."""
    return engine.url.set(drivername=engine.url.get_backend_name()).render_as_string(hide_password=True)


def require_reachable(engine: Engine) -> None:
    """Connect once, so that what is wrong is said in words before anything begins.

    Raises:
        PoolError: UNAVAILABLE when nobody answers, or the database refuses us; what the server's version or
            encoding is refused with.
    """
    try:
        with engine.connect():
            pass
    except DBAPIError as error:
        engine.dispose()
        first_line = str(error.orig).strip().partition("\n")[0]
        raise PoolError(
            ErrorCode.UNAVAILABLE,
            f"the database {shown_url(engine)} cannot be opened: {first_line}",
            advice="Is its server running, and are host, port, name and password right? Correct "
            "`database_url` in pool.toml, or the variable CHARGEPOOL_SERVER_DATABASE_URL.",
        ) from error.with_traceback(None)


def claim_database(engine: Engine) -> Callable[[], None]:
    """Hold a database for this server process, where its directory does not say that already.

    Returns what lets go of it.

    Raises:
        PoolError: INVALID_STATE when another server runs on it.
    """
    return claim(engine) if engine.dialect.name == "postgresql" else _nothing


def _nothing() -> None:
    """An embedded database is held by the lock of its directory."""


def read_only(connection: Connection) -> Connection:
    """Make a connection a reader for the rest of its life: deferred transactions, writes refused."""
    connection.execution_options(**{_READ_ONLY_OPTION: True})
    driver_connection = _driver_connection(connection)
    if connection.dialect.name == "postgresql":
        make_reader(driver_connection)
    else:
        cursor = driver_connection.cursor()
        cursor.execute("PRAGMA query_only = ON")
        cursor.close()
    # Out of the pool, so that closing it really does: nobody may get it back and wonder why it cannot write.
    connection.detach()
    return connection


def _pool_options(url: URL) -> dict[str, Any]:
    connect_args: dict[str, Any] = {
        "check_same_thread": False,
        "timeout": BUSY_TIMEOUT_MS / 1000,
        "cached_statements": CACHED_STATEMENTS,
    }
    if url.database in {None, "", ":memory:"}:
        return {"connect_args": connect_args, "poolclass": StaticPool}
    return {"connect_args": connect_args}


def _driver_connection(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _configure(dbapi_connection: Any, _record: object) -> None:
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        # Else `INSERT OR REPLACE` would delete rows past the triggers that refuse it.
        "recursive_triggers = ON",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        f"cache_size = -{CACHE_KIB}",
        f"wal_autocheckpoint = {WAL_AUTOCHECKPOINT_PAGES}",
        "temp_store = MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    is_reader = connection.get_execution_options().get(_READ_ONLY_OPTION, False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN" if is_reader else "BEGIN IMMEDIATE")
    elif not is_reader:
        begin_writing(connection)

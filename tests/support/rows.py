"""All rows of a SQLite database, read beside whoever writes it: what a refusal must leave as it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

Rows = dict[str, list[tuple[Any, ...]]]
#: What goes on beside any call: when a vehicle was last heard of, and how far the server's sweeps have come.
BESIDE = frozenset({("fleet_vehicles", "last_seen_us"), ("marks", "name"), ("marks", "value")})

#: Tables that the server's sweeps alone write, whenever their time comes: epochs of prices, the log.
SWEPT = frozenset({"price_epochs", "log_heads", "log_tiles", "log_nodes"})


def rows_of(database: Path, *, without: Collection[tuple[str, str]] = ()) -> Rows:
    """Return every row of every table, in a fixed order, without some columns (table, column)."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")  # one snapshot of all tables
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return {name: _table(connection, name, without) for (name,) in names.fetchall() if name not in SWEPT}


def _table(
    connection: sqlite3.Connection, name: str, without: Collection[tuple[str, str]]
) -> list[tuple[Any, ...]]:
    described = connection.execute(f'PRAGMA table_info("{name}")').fetchall()
    columns = [column[1] for column in described if (name, column[1]) not in without]
    if not columns:
        return []
    listed = ", ".join(f'"{column}"' for column in columns)
    found = connection.execute(f'SELECT {listed} FROM "{name}"').fetchall()
    return sorted(found, key=repr)


@contextmanager
def nothing_changes(database: Path) -> Iterator[None]:
    """What happens inside leaves every row as it was, balances, tasks and programs among them."""
    before = rows_of(database, without=BESIDE)
    assert sum(map(len, before.values())) > 0, "an empty database cannot show a change"
    yield
    after = rows_of(database, without=BESIDE)
    changed = [name for name in after if after[name] != before.get(name)]
    assert not changed, f"a refusal changed {changed}"
    assert after == before

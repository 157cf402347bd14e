"""What a database gives without the books: rows of the same width by its fastest way in, and bare commits.

Part of `benchmarks.ledger_throughput`; says what the books cost above what they cannot do without.
"""

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pool_server.store.driver import Driver
from pool_server.store.engine import open_engine

#: Rows of a task: pending, posted, fee.
ROWS_PER_TASK = 3
COMMITS = 150
_FAR_US = 2**60
_COLUMNS = 13
_INTEGERS = ["kind", "code", "debit", "credit", "amount", "pending", "reference", "round", "expires", "at"]
_INTEGER_COLUMNS = ", ".join(f"{name} BIGINT" for name in _INTEGERS)
_TABLE = (
    f"CREATE TABLE plain (id BIGINT PRIMARY KEY, {_INTEGER_COLUMNS}, canonical {{bytes}}, chain {{bytes}})",
    "CREATE UNIQUE INDEX plain_pending ON plain (pending) WHERE pending IS NOT NULL",
    "CREATE UNIQUE INDEX plain_funds ON plain (reference, round) WHERE kind = 1",
    "CREATE UNIQUE INDEX plain_pays ON plain (reference) WHERE code = 310",
    "CREATE INDEX plain_timeout ON plain (expires, id) WHERE expires IS NOT NULL",
)


_INSERT = "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def rows_alone_per_s(url: str, commands: int, tasks: int, waiting: int) -> float:
    """Return tasks per second whose rows are written and committed, in the groups of the books."""
    engine = open_engine(url)
    with engine.begin() as connection:
        for statement in _TABLE:
            kind = "BLOB" if engine.dialect.name == "sqlite" else "BYTEA"
            connection.exec_driver_sql(statement.replace("{bytes}", kind))
    rows = _rows(commands * tasks, tasks * waiting)
    groups = -(-commands // waiting)
    begin = time.perf_counter()
    for group in range(groups):
        in_group = tasks * min(waiting, commands - group * waiting)
        for count in (in_group, in_group * (ROWS_PER_TASK - 1)):
            with engine.begin() as connection:
                driver: Any = connection.connection.driver_connection
                _write(driver, list(islice(rows, count)), is_sqlite=engine.dialect.name == "sqlite")
    seconds = time.perf_counter() - begin
    engine.dispose()
    return commands * tasks / seconds


def commits_per_s(url: str) -> float:
    """Return durable commits of one small row per second."""
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE marks (value BIGINT)")
    begin = time.perf_counter()
    for number in range(COMMITS):
        with engine.begin() as connection:
            Driver(connection).run("INSERT INTO marks VALUES (?)", (number,))
    seconds = time.perf_counter() - begin
    engine.dispose()
    return COMMITS / seconds


def _write(driver: Any, rows: list[tuple[Any, ...]], *, is_sqlite: bool) -> None:
    if is_sqlite:
        driver.executemany(_INSERT, rows)
        return
    with driver.cursor().copy("COPY plain FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int8"] * (_COLUMNS - 2) + ["bytea"] * 2)
        for row in rows:
            copy.write_row(row)


def _rows(task_count: int, group: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of tasks as the books write them: a group's pending ones, then postings and fees."""
    canonical, chain = bytes(75), bytes(32)
    row_id = 0
    for first in range(0, task_count, group):
        tasks = range(first, min(first + group, task_count))
        pending_of = {}
        for task in tasks:
            row_id += 1
            pending_of[task] = row_id
            yield (row_id, 1, 300, 3, 4, 1_000, None, task, 0, _FAR_US, 1, canonical, chain)
        for task in tasks:
            row_id += 1
            yield (row_id, 2, 310, 3, 4, 1_000, pending_of[task], task, 0, None, 1, canonical, chain)
            row_id += 1
            yield (row_id, 0, 311, 4, 5, 50, None, task, 0, None, 1, canonical, chain)

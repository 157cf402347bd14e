"""The pool's own runs of tasks in SQL."""

from collections.abc import Sequence
from typing import Any

from pool_protocol.errors import ErrorCode
from pool_server.core.jobs import TensorRef
from pool_server.core.verification.pool_run import PoolRunCause, PoolRunState
from pool_server.ports.pool_runs import PoolRunRow
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, marks

_COLUMNS = (
    "task_id, cause, state, tries, output_digest, inline, blob_sha256, size_bytes, numeric_class, reason, "
    "wanted_at_us, ended_at_us"
)
#: A run is kept for its task: one that was decided meanwhile may be opened again.
_WANTED = (
    "FROM pool_runs AS p JOIN tasks AS t ON t.task_id = p.task_id JOIN jobs AS j ON j.job_id = t.job_id "
    "WHERE p.state = 'wanted' AND t.state IN ('ready', 'running')"
)
#: One buyer's many do not stand before another's few.
_TURN = "ROW_NUMBER() OVER (PARTITION BY j.buyer_id, p.cause ORDER BY p.wanted_at_us, p.task_id)"


class SqlPoolRunRepository:
    """Implements `ports.pool_runs.PoolRunRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def insert(self, row: PoolRunRow) -> None:
        """Insert a run that is wanted."""
        self._driver.run(f"INSERT INTO pool_runs ({_COLUMNS}) VALUES ({marks(12)})", _values(row))

    def of_tasks(self, task_ids: Sequence[int]) -> dict[int, PoolRunRow]:
        """Runs by task, of those that have one."""
        rows = fetch_in(
            self._driver, f"SELECT {_COLUMNS} FROM pool_runs WHERE task_id IN ({{marks}})", task_ids
        )
        return {row[0]: _row(row) for row in rows}

    def wanted(self, *, limit: int) -> list[int]:
        """Undecided tasks that wait for the referee: contradictions first, of each buyer the oldest."""
        rows = self._driver.run(
            f"SELECT task_id FROM (SELECT p.task_id, p.cause, p.wanted_at_us, {_TURN} AS turn {_WANTED}) "
            "AS waiting ORDER BY cause DESC, turn, wanted_at_us, task_id LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    def wanted_count(self, *, at_most: int) -> int:
        """Count the undecided tasks that wait for the referee, up to a number."""
        [count] = self._driver.run(
            f"SELECT COUNT(*) FROM (SELECT 1 {_WANTED} LIMIT ?) AS waiting",
            (at_most,),
        ).one()
        return int(count)

    def failed_count(self, job_id: int, *, at_most: int) -> int:
        """Count the tasks of a job that fail on the pool's machine, up to a number."""
        [count] = self._driver.run(
            "SELECT COUNT(*) FROM (SELECT 1 FROM pool_runs AS p CROSS JOIN tasks AS t "
            "WHERE p.state = 'failed' AND p.reason = ? AND t.task_id = p.task_id AND t.job_id = ? LIMIT ?) "
            "AS failures",
            (ErrorCode.PROGRAM_FAILED.value, job_id, at_most),
        ).one()
        return int(count)

    def newest_class(self) -> str:
        """The class that the pool's machine had when it last ran a task; empty where unknown."""
        row = self._driver.run(
            "SELECT numeric_class FROM pool_runs WHERE state = 'done' ORDER BY ended_at_us DESC LIMIT 1"
        ).one_or_none()
        return "" if row is None else str(row[0])

    def change(self, row: PoolRunRow) -> bool:
        """Write a run that is still wanted; True when it was."""
        result = self._driver.run(
            "UPDATE pool_runs SET state = ?, tries = ?, output_digest = ?, inline = ?, blob_sha256 = ?, "
            "size_bytes = ?, numeric_class = ?, reason = ?, ended_at_us = ? "
            "WHERE task_id = ? AND state = 'wanted'",
            (
                row.state.value,
                row.tries,
                row.output_digest,
                *row.outputs,
                row.numeric_class,
                row.reason,
                row.ended_at_us,
                row.task_id,
            ),
        )
        return result.rowcount == 1


def _values(row: PoolRunRow) -> tuple[Any, ...]:
    return (row.task_id, row.cause.value, row.state.value, *row[3:5], *row.outputs, *row[6:])


def _row(row: Any) -> PoolRunRow:
    state, outputs = PoolRunState(row[2]), TensorRef._make(row[5:8])
    return PoolRunRow._make((row[0], PoolRunCause(row[1]), state, *row[3:5], outputs, *row[8:]))

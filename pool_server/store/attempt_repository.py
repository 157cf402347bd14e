"""Attempts and their outputs in SQL: bulk inserts, guarded steps, the sets that decisions need."""

from collections.abc import Iterable, Sequence
from typing import Any

from pool_server.core.jobs import COUNTING_ATTEMPT_STATES, AttemptState, TensorRef
from pool_server.core.settlement import Payer
from pool_server.ports.work import AttemptChange, AttemptRow, GrantRow, LeaseRow
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many, set_from_values, write_rows

_STATES = {state.value: state for state in AttemptState}
_PAYERS = {payer.value: payer for payer in Payer}
_COLUMNS = (
    "attempt_id, task_id, lease_id, job_id, task_index, vehicle_id, owner_id, state, payer, "
    "price_micros_per_wu, amount_micros, pending_transfer_id, output_digest, reason, leased_at_us, "
    "ended_at_us, decided_at_us, numeric_class, odometer_uwu, network"
)
_SELECT = f"SELECT {_COLUMNS} FROM attempts"
_ALIAS_COLUMNS = ", ".join(f"a.{column.strip()}" for column in _COLUMNS.split(","))
_RETURNED_BEFORE = (
    f"SELECT {_ALIAS_COLUMNS} FROM attempts AS a WHERE a.state = 'returned' AND a.ended_at_us < ? "
    "AND NOT EXISTS (SELECT 1 FROM questioned_attempts AS q "
    "WHERE q.attempt_id = a.attempt_id AND q.state = 'open')"
)
_UNOPPOSED = (
    "AND NOT EXISTS (SELECT 1 FROM attempts AS b WHERE b.task_id = a.task_id AND b.counting = 1 AND "
    "(b.state = 'leased' OR (b.state = 'returned' AND b.output_digest <> a.output_digest)))"
)
_BY_TIME = "ORDER BY a.ended_at_us, a.attempt_id LIMIT ?"
#: `counting` to `detail` of a new attempt.
_NEW = (1, b"", 0, 0, 0, "")
_STEP_COLUMNS = (
    "state",
    "payer",
    "pending_transfer_id",
    "reason",
    "detail",
    "ended_at_us",
    "decided_at_us",
    "odometer_uwu",
)
_REPORTED_COLUMNS = ("output_digest", "unit_root", "unit_count", "run_time_us", "energy_mj")


class SqlAttemptRepository:
    """Implements `ports.work.AttemptRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def insert(self, rows: Sequence[AttemptRow]) -> None:
        """Insert attempts under way."""
        insert_many(
            self._driver,
            "attempts",
            f"{_COLUMNS}, counting, unit_root, unit_count, run_time_us, energy_mj, detail",
            [(*row[:7], row.state.value, row.payer.value, *row[9:], *_NEW) for row in rows],
        )

    def get(self, attempt_ids: Sequence[int]) -> dict[int, AttemptRow]:
        """Read attempts by id."""
        return _rows(fetch_in(self._driver, f"{_SELECT} WHERE attempt_id IN ({{marks}})", attempt_ids))

    def of_lease(self, lease: LeaseRow) -> dict[int, AttemptRow]:
        """Read a lease's attempts by id."""
        return self._read(
            f"{_SELECT} WHERE attempt_id >= ? AND attempt_id < ? AND lease_id = ? ORDER BY attempt_id",
            (lease.first_attempt_id, lease.first_attempt_id + lease.attempt_count, lease.lease_id),
        )

    def of_tasks(self, task_ids: Sequence[int]) -> list[AttemptRow]:
        """Read all attempts of tasks, by id."""
        found = _rows(
            [
                *fetch_in(self._driver, f"{_SELECT} WHERE counting = 1 AND task_id IN ({{marks}})", task_ids),
                *fetch_in(self._driver, f"{_SELECT} WHERE counting = 0 AND task_id IN ({{marks}})", task_ids),
            ]
        )
        return [found[attempt_id] for attempt_id in sorted(found)]

    def undecided_of_job(self, job_id: int) -> list[AttemptRow]:
        """Attempts of a job that are leased or returned, by id."""
        found = self._read(
            f"SELECT {_ALIAS_COLUMNS} FROM tasks AS t JOIN attempts AS a "
            "ON a.task_id = t.task_id AND a.counting = 1 "
            "WHERE t.job_id = ? AND t.decided_seq = 0 AND t.attempt_count > 0 "
            "AND a.state IN ('leased', 'returned') ORDER BY a.attempt_id",
            (job_id,),
        )
        return list(found.values())

    def undecided_of_vehicle(self, vehicle_id: str) -> list[AttemptRow]:
        """Attempts of a vehicle that are leased or returned, by id."""
        found = self._read(
            f"SELECT {_ALIAS_COLUMNS} FROM leases AS l JOIN attempts AS a "
            "ON a.attempt_id >= l.first_attempt_id AND a.attempt_id < l.first_attempt_id + l.attempt_count "
            "WHERE l.vehicle_id = ? AND l.state = 'live' AND a.state = 'leased'",
            (vehicle_id,),
        )
        found.update(self._read(f"{_SELECT} WHERE vehicle_id = ? AND state = 'returned'", (vehicle_id,)))
        return [found[attempt_id] for attempt_id in sorted(found)]

    def paid(self, task_ids: Sequence[int]) -> dict[int, list[int]]:
        """Accepted attempts by task, in order."""
        rows = fetch_in(
            self._driver,
            "SELECT task_id, attempt_id FROM attempts "
            "WHERE counting = 1 AND state = 'accepted' AND task_id IN ({marks})",
            task_ids,
        )
        found: dict[int, list[int]] = {}
        for task_id, attempt_id in sorted(tuple(row) for row in rows):
            found.setdefault(task_id, []).append(attempt_id)
        return found

    def change(self, changes: Sequence[AttemptChange]) -> int:
        """Write guarded steps. Rows changed."""
        by_statement: dict[str, list[tuple[Any, ...]]] = {}
        for change in changes:
            statement = _STATEMENTS[
                (
                    change.from_state in COUNTING_ATTEMPT_STATES,
                    change.state in COUNTING_ATTEMPT_STATES,
                    change.reported is not None,
                )
            ]
            by_statement.setdefault(statement, []).append(
                (
                    change.attempt_id,
                    change.from_state.value,
                    change.state.value,
                    change.payer.value,
                    change.pending_transfer_id,
                    change.reason,
                    change.detail,
                    change.ended_at_us,
                    change.decided_at_us,
                    change.odometer_uwu,
                    *(change.reported or ()),
                )
            )
        changed = 0
        for statement, parameters in by_statement.items():
            changed += write_rows(self._driver, statement, parameters)
        return changed

    def store_outputs(self, outputs: Sequence[tuple[int, TensorRef]]) -> None:
        """Keep the outputs of attempts."""
        insert_many(
            self._driver,
            "attempt_outputs",
            "attempt_id, inline, blob_sha256, size_bytes",
            [(attempt_id, ref.inline, ref.blob_sha256, ref.size_bytes) for attempt_id, ref in outputs],
        )

    def output_blobs(self, attempt_ids: Sequence[int]) -> dict[int, str]:
        """Read which blobs attempts returned; those with inline outputs are left out."""
        rows = fetch_in(
            self._driver,
            "SELECT attempt_id, blob_sha256 FROM attempt_outputs "
            "WHERE blob_sha256 IS NOT NULL AND attempt_id IN ({marks})",
            attempt_ids,
        )
        return {row[0]: row[1] for row in rows}

    def outputs(self, attempt_id: int) -> TensorRef | None:
        """Read an attempt's outputs."""
        row = self._driver.run(
            "SELECT inline, blob_sha256, size_bytes FROM attempt_outputs WHERE attempt_id = ?", (attempt_id,)
        ).one_or_none()
        return None if row is None else TensorRef(inline=row[0], blob_sha256=row[1], size_bytes=row[2])

    def grants(self, lease: LeaseRow) -> list[GrantRow]:
        """A lease's attempts still under way, with inputs, by id."""
        rows = self._driver.run(
            "SELECT a.attempt_id, i.inline, i.blob_sha256, i.size_bytes FROM attempts AS a "
            "JOIN task_inputs AS i ON i.task_id = a.task_id "
            "WHERE a.attempt_id >= ? AND a.attempt_id < ? AND a.lease_id = ? AND a.state = 'leased' "
            "ORDER BY a.attempt_id",
            (lease.first_attempt_id, lease.first_attempt_id + lease.attempt_count, lease.lease_id),
        )
        return [
            GrantRow(row[0], TensorRef(inline=row[1], blob_sha256=row[2], size_bytes=row[3])) for row in rows
        ]

    def counts_by_state(self) -> dict[str, int]:
        """Attempts by state."""
        rows = self._driver.run("SELECT state, count(*) FROM attempts GROUP BY state")
        return {row[0]: row[1] for row in rows}

    def returned_before(self, before_us: int, *, limit: int) -> list[AttemptRow]:
        """Returned attempts whose report came before a time, by (time, id); not those that are questioned."""
        return list(self._read(f"{_RETURNED_BEFORE} {_BY_TIME}", (before_us, limit)).values())

    def unopposed_before(self, before_us: int, *, limit: int) -> list[AttemptRow]:
        """The same, of tasks on which nobody works and no other result waits that is not the same."""
        return list(self._read(f"{_RETURNED_BEFORE} {_UNOPPOSED} {_BY_TIME}", (before_us, limit)).values())

    def _read(self, query: str, parameters: tuple[Any, ...]) -> dict[int, AttemptRow]:
        return _rows(self._driver.run(query, parameters))


def _rows(rows: Iterable[Any]) -> dict[int, AttemptRow]:
    make = AttemptRow._make
    return {row[0]: make((*row[:7], _STATES[row[7]], _PAYERS[row[8]], *row[9:])) for row in rows}


def _statement(*, was_counting: bool, is_counting: bool, reported: bool) -> str:
    columns = (*_STEP_COLUMNS, *_REPORTED_COLUMNS) if reported else _STEP_COLUMNS
    # Only where it changes: naming `counting` makes SQLite rewrite its indexes.
    counting = f", counting = {int(is_counting)}" if was_counting != is_counting else ""
    return (
        f"UPDATE attempts SET {set_from_values(columns, first=3)}{counting} FROM (VALUES {{rows}}) AS new "
        "WHERE attempt_id = new.column1 AND attempts.state = new.column2"
    )


_STATEMENTS = {
    (was, now, reported): _statement(was_counting=was, is_counting=now, reported=reported)
    for was in (False, True)
    for now in (False, True)
    for reported in (False, True)
}

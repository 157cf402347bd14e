"""Disputes and their questions in SQL."""

from collections.abc import Sequence
from typing import Any

from pool_protocol.errors import InvariantError
from pool_server.core.jobs import TensorRef
from pool_server.core.verification.dispute import DisputeState
from pool_server.ports.disputes import Commitment, DisputeRow, UnitQueryRow
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many, marks

_COLUMNS = (
    "dispute_id, task_id, first_attempt_id, second_attempt_id, first_final_digest, second_final_digest, "
    "state, rounds, unit_index, start_digest, winner_attempt_id, referee_digest, referee_class, "
    "referee_tries, reason, opened_at_us, closed_at_us"
)
_STATE = DisputeRow._fields.index("state")
_STATES = {state.value: state for state in DisputeState}
_QUERY_COLUMNS = (
    "query_id, task_id, attempt_id, vehicle_id, unit_index, want_state, state, digest, inline, blob_sha256, "
    "size_bytes, reason, asked_at_us, expires_at_us, answered_at_us"
)
_SELECT_QUERY = f"SELECT {_QUERY_COLUMNS} FROM unit_queries"
_ALIAS_COLUMNS = ", ".join(f"q.{column.strip()}" for column in _QUERY_COLUMNS.split(","))


class SqlDisputeRepository:
    """Implements `ports.disputes.DisputeRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def insert(self, dispute: DisputeRow) -> None:
        """Insert a dispute."""
        self._driver.run(f"INSERT INTO disputes ({_COLUMNS}) VALUES ({marks(17)})", _values(dispute))

    def change(self, dispute: DisputeRow, *, from_state: DisputeState) -> bool:
        """Write a dispute if it is in a state; True when this call did it."""
        columns = ", ".join(f"{name} = ?" for name in DisputeRow._fields[_STATE:])
        result = self._driver.run(
            f"UPDATE disputes SET {columns} WHERE dispute_id = ? AND state = ?",
            (*_values(dispute)[_STATE:], dispute.dispute_id, from_state.value),
        )
        return result.rowcount == 1

    def get(self, dispute_id: int) -> DisputeRow | None:
        """Read a dispute."""
        row = self._driver.run(
            f"SELECT {_COLUMNS} FROM disputes WHERE dispute_id = ?", (dispute_id,)
        ).one_or_none()
        return None if row is None else _dispute(row)

    def of_task(self, task_id: int) -> list[DisputeRow]:
        """All disputes of a task, oldest first."""
        rows = self._driver.run(
            f"SELECT {_COLUMNS} FROM disputes WHERE task_id = ? ORDER BY dispute_id", (task_id,)
        )
        return [_dispute(row) for row in rows]

    def refereeing(self, *, limit: int) -> list[int]:
        """Disputes that wait for the referee, oldest first."""
        rows = self._driver.run(
            "SELECT dispute_id FROM disputes WHERE state = 'refereeing' ORDER BY dispute_id LIMIT ?", (limit,)
        )
        return [row[0] for row in rows]

    def commitments(self, attempt_ids: Sequence[int]) -> dict[int, Commitment]:
        """What attempts have committed to, by id."""
        rows = fetch_in(
            self._driver,
            "SELECT attempt_id, vehicle_id, unit_root, unit_count, numeric_class FROM attempts "
            "WHERE attempt_id IN ({marks})",
            attempt_ids,
        )
        return {row[0]: Commitment._make(row) for row in rows}

    def task_inputs(self, task_id: int) -> TensorRef:
        """A task's inputs, its initial state among them."""
        row = self._driver.run(
            "SELECT inline, blob_sha256, size_bytes FROM task_inputs WHERE task_id = ?", (task_id,)
        ).one_or_none()
        if row is None:
            raise InvariantError(f"task {task_id} has no inputs")
        return TensorRef._make(row)

    def ask(self, queries: Sequence[UnitQueryRow]) -> None:
        """Insert questions."""
        insert_many(self._driver, "unit_queries", _QUERY_COLUMNS, [_query_values(query) for query in queries])

    def queries(self, attempt_ids: Sequence[int]) -> list[UnitQueryRow]:
        """Questions to attempts, oldest first."""
        rows = fetch_in(self._driver, f"{_SELECT_QUERY} WHERE attempt_id IN ({{marks}})", attempt_ids)
        return sorted((_query(row) for row in rows), key=lambda query: query.query_id)

    def queries_by_id(self, query_ids: Sequence[int]) -> dict[int, UnitQueryRow]:
        """Questions by id."""
        rows = fetch_in(self._driver, f"{_SELECT_QUERY} WHERE query_id IN ({{marks}})", query_ids)
        return {row[0]: _query(row) for row in rows}

    def open_of_vehicle(self, vehicle_id: str, *, now_us: int, limit: int) -> list[UnitQueryRow]:
        """Questions that a vehicle may still answer, and that still matter, oldest first."""
        rows = self._driver.run(
            f"SELECT {_ALIAS_COLUMNS} FROM unit_queries AS q "
            "JOIN attempts AS a ON a.attempt_id = q.attempt_id "
            "WHERE q.vehicle_id = ? AND q.state = 'asked' AND q.expires_at_us > ? AND (a.state = 'returned' "
            "OR EXISTS (SELECT 1 FROM prefix_claims AS c WHERE c.task_id = q.task_id "
            "AND c.state = 'asking' AND c.unit_count = q.unit_index + 1)) "
            "ORDER BY q.query_id LIMIT ?",
            (vehicle_id, now_us, limit),
        )
        return [_query(row) for row in rows]

    def overdue(self, *, now_us: int, limit: int) -> list[UnitQueryRow]:
        """Questions whose time is over, by (time, id)."""
        rows = self._driver.run(
            f"{_SELECT_QUERY} WHERE state = 'asked' AND expires_at_us <= ? "
            "ORDER BY expires_at_us, query_id LIMIT ?",
            (now_us, limit),
        )
        return [_query(row) for row in rows]

    def close_query(self, query: UnitQueryRow) -> bool:
        """Write the end of a question that was open, or a reason why it still is; True when it was open."""
        result = self._driver.run(
            "UPDATE unit_queries SET state = ?, digest = ?, inline = ?, blob_sha256 = ?, size_bytes = ?, "
            "reason = ?, answered_at_us = ? WHERE query_id = ? AND state = 'asked'",
            (
                query.state,
                query.digest,
                *query.tensors,
                query.reason,
                query.answered_at_us,
                query.query_id,
            ),
        )
        return result.rowcount == 1


def _values(dispute: DisputeRow) -> tuple[Any, ...]:
    return (*dispute[:_STATE], dispute.state.value, *dispute[_STATE + 1 :])


def _dispute(row: Any) -> DisputeRow:
    return DisputeRow._make((*row[:_STATE], _STATES[row[_STATE]], *row[_STATE + 1 :]))


def _query_values(query: UnitQueryRow) -> tuple[Any, ...]:
    return (*query[:5], int(query.want_state), query.state, query.digest, *query.tensors, *query[9:])


def _query(row: Any) -> UnitQueryRow:
    return UnitQueryRow._make((*row[:5], bool(row[5]), row[6], row[7], TensorRef._make(row[8:11]), *row[11:]))

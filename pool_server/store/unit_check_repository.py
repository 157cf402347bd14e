"""Checks of single units of claims in SQL."""

from collections.abc import Sequence
from typing import Any

from pool_server.core.verification.unit_check import UnitCheckState
from pool_server.ports.unit_checks import UnitCheckRow
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many

_COLUMNS = (
    "check_id, task_id, attempt_id, unit_index, state, tries, referee_digest, referee_class, reason, "
    "opened_at_us, closed_at_us"
)
_STATE = UnitCheckRow._fields.index("state")


class SqlUnitCheckRepository:
    """Implements `ports.unit_checks.UnitCheckRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def insert(self, rows: Sequence[UnitCheckRow]) -> None:
        """Insert checks; a claim has one of a unit at most."""
        insert_many(self._driver, "unit_checks", _COLUMNS, [_values(row) for row in rows])

    def get(self, check_id: int) -> UnitCheckRow | None:
        """Read a check."""
        row = self._driver.run(
            f"SELECT {_COLUMNS} FROM unit_checks WHERE check_id = ?", (check_id,)
        ).one_or_none()
        return None if row is None else _row(row)

    def of_attempts(self, attempt_ids: Sequence[int]) -> list[UnitCheckRow]:
        """All checks of attempts, by (attempt, unit)."""
        rows = fetch_in(
            self._driver, f"SELECT {_COLUMNS} FROM unit_checks WHERE attempt_id IN ({{marks}})", attempt_ids
        )
        return sorted((_row(row) for row in rows), key=lambda row: (row.attempt_id, row.unit_index))

    def refereeing(self, *, limit: int) -> list[int]:
        """Checks that wait for the referee, about results that are not judged yet, oldest first."""
        rows = self._driver.run(
            "SELECT c.check_id FROM unit_checks AS c JOIN attempts AS a ON a.attempt_id = c.attempt_id "
            "WHERE c.state = 'refereeing' AND a.state = 'returned' ORDER BY c.check_id LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    def change(self, row: UnitCheckRow, *, from_state: UnitCheckState) -> bool:
        """Write a check if it is in a state; True when this call did it."""
        columns = ", ".join(f"{name} = ?" for name in UnitCheckRow._fields[_STATE:])
        result = self._driver.run(
            f"UPDATE unit_checks SET {columns} WHERE check_id = ? AND state = ?",
            (*_values(row)[_STATE:], row.check_id, from_state.value),
        )
        return result.rowcount == 1


def _values(row: UnitCheckRow) -> tuple[Any, ...]:
    return (*row[:_STATE], row.state.value, *row[_STATE + 1 :])


def _row(row: Any) -> UnitCheckRow:
    return UnitCheckRow._make((*row[:_STATE], UnitCheckState(row[_STATE]), *row[_STATE + 1 :]))

"""Claims of prefixes in SQL."""

from collections.abc import Sequence
from typing import Any

from pool_server.core.verification.prefix_claim import OPEN_CLAIMS, PrefixState
from pool_server.ports.prefixes import PrefixClaimRow, PrefixSums
from pool_server.store.driver import Driver
from pool_server.store.statements import insert_many

_COLUMNS = ", ".join(PrefixClaimRow._fields)
_ALIAS_COLUMNS = ", ".join(f"c.{name}" for name in PrefixClaimRow._fields)
_STATE = PrefixClaimRow._fields.index("state")
_STATES = {state.value: state for state in PrefixState}
_SELECT = f"SELECT {_COLUMNS} FROM prefix_claims"
#: Queries must repeat this text for the database to use the index.
_OPEN = "closed_at_us = 0"


class SqlPrefixRepository:
    """Implements `ports.prefixes.PrefixRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def insert(self, claims: Sequence[PrefixClaimRow]) -> None:
        """Insert claims."""
        insert_many(self._driver, "prefix_claims", _COLUMNS, [_values(claim) for claim in claims])

    def change(self, claim: PrefixClaimRow, *, from_state: PrefixState) -> bool:
        """Write a claim if it is in a state; True when this call did it."""
        result = self._driver.run(
            "UPDATE prefix_claims SET pending_transfer_id = ?, state = ?, reason = ?, look_at_us = ?, "
            "closed_at_us = ? WHERE attempt_id = ? AND state = ?",
            (
                claim.pending_transfer_id,
                claim.state.value,
                claim.reason,
                claim.look_at_us,
                claim.closed_at_us,
                claim.attempt_id,
                from_state.value,
            ),
        )
        return result.rowcount == 1

    def of_task(self, task_id: int) -> list[PrefixClaimRow]:
        """Claims on a task, oldest first."""
        return self._read(f"{_SELECT} WHERE task_id = ? ORDER BY attempt_id", (task_id,))

    def due(self, *, now_us: int, limit: int) -> list[PrefixClaimRow]:
        """Open claims to be looked at: on decided tasks, or given up; by (time, id)."""
        return self._read(
            f"SELECT {_ALIAS_COLUMNS} FROM prefix_claims AS c JOIN tasks AS t ON t.task_id = c.task_id "
            f"WHERE c.{_OPEN} AND c.look_at_us <= ? AND (t.decided_seq > 0 OR c.expires_at_us <= ?) "
            "ORDER BY c.look_at_us, c.attempt_id LIMIT ?",
            (now_us, now_us, limit),
        )

    def open_of_vehicle(self, vehicle_id: str) -> int:
        """Open claims of a vehicle."""
        row = self._driver.run(
            f"SELECT count(*) FROM prefix_claims WHERE vehicle_id = ? AND {_OPEN}", (vehicle_id,)
        ).one()
        return int(row[0])

    def sums(self, vehicle_id: str) -> PrefixSums:
        """Figures of a vehicle's claims."""
        rows = self._driver.run(
            "SELECT state, count(*), sum(gross_micros), sum(work_uwu) FROM prefix_claims "
            "WHERE vehicle_id = ? GROUP BY state",
            (vehicle_id,),
        )
        figures = {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in rows}
        nothing = (0, 0, 0)
        waiting = [figures.get(state, nothing) for state in OPEN_CLAIMS]
        return PrefixSums(
            sum(count for count, _, _ in waiting),
            sum(micros for _, micros, _ in waiting),
            *figures.get(PrefixState.PAID, nothing),
            figures.get(PrefixState.UNPAID, nothing)[0],
        )

    def all_open(self) -> list[PrefixClaimRow]:
        """Open claims, by id."""
        return self._read(f"{_SELECT} WHERE {_OPEN} ORDER BY attempt_id", ())

    def _read(self, query: str, parameters: tuple[Any, ...]) -> list[PrefixClaimRow]:
        return [_claim(row) for row in self._driver.run(query, parameters)]


def _values(claim: PrefixClaimRow) -> tuple[Any, ...]:
    return (*claim[:_STATE], claim.state.value, *claim[_STATE + 1 :])


def _claim(row: Any) -> PrefixClaimRow:
    return PrefixClaimRow._make((*row[:_STATE], _STATES[row[_STATE]], *row[_STATE + 1 :]))

"""Leases in SQL."""

from collections.abc import Sequence
from typing import Any

from pool_server.core.jobs import LeaseState
from pool_server.ports.work import LeaseRow
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, marks

_COLUMNS = (
    "lease_id, vehicle_id, owner_id, job_id, state, price_micros_per_wu, first_attempt_id, attempt_count, "
    "open_count, issued_at_us, expires_at_us, ended_at_us"
)
_SELECT = f"SELECT {_COLUMNS} FROM leases"
_STATES = {state.value: state for state in LeaseState}


class SqlLeaseRepository:
    """Implements `ports.leases.LeaseRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def insert(self, lease: LeaseRow) -> None:
        """Insert a live lease."""
        self._driver.run(
            f"INSERT INTO leases ({_COLUMNS}) VALUES ({marks(12)})",
            (*lease[:4], lease.state.value, *lease[5:]),
        )

    def get(self, lease_id: int) -> LeaseRow | None:
        """Read a lease."""
        found = self._read(f"{_SELECT} WHERE lease_id = ?", (lease_id,))
        return found[0] if found else None

    def many(self, lease_ids: Sequence[int]) -> list[LeaseRow]:
        """Read leases, by id."""
        rows = fetch_in(self._driver, f"{_SELECT} WHERE lease_id IN ({{marks}})", sorted(lease_ids))
        return sorted(_lease(row) for row in rows)

    def live(self, vehicle_id: str) -> list[LeaseRow]:
        """A vehicle's live leases, by id."""
        return self._read(
            f"{_SELECT} WHERE vehicle_id = ? AND state = 'live' ORDER BY lease_id", (vehicle_id,)
        )

    def newest_id(self) -> int:
        """The newest lease's id; 0 when there is none."""
        return int(self._driver.run("SELECT coalesce(max(lease_id), 0) FROM leases").scalar_one())

    def overdue(self, *, before_us: int, limit: int) -> list[LeaseRow]:
        """Live leases that ended before a time, by (end, id)."""
        return self._read(
            f"{_SELECT} WHERE state = 'live' AND expires_at_us < ? ORDER BY expires_at_us, lease_id LIMIT ?",
            (before_us, limit),
        )

    def close_attempts(self, lease_id: int, *, closed: int, state: LeaseState, ended_at_us: int) -> bool:
        """Take `closed` attempts off a live lease's open ones and set its state. True when it was live."""
        result = self._driver.run(
            "UPDATE leases SET open_count = open_count - ?, state = ?, ended_at_us = ? "
            "WHERE lease_id = ? AND state = 'live'",
            (closed, state.value, ended_at_us, lease_id),
        )
        return result.rowcount == 1

    def _read(self, query: str, parameters: tuple[Any, ...]) -> list[LeaseRow]:
        return [_lease(row) for row in self._driver.run(query, parameters)]


def _lease(row: Any) -> LeaseRow:
    return LeaseRow._make((*row[:4], _STATES[row[4]], *row[5:]))

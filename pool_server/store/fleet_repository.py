"""Vehicles' states, counters and histories in SQL, and the events of the work."""

from collections.abc import Iterable, Sequence
from typing import Any

from pool_protocol.errors import InvariantError
from pool_server.core.fleet import ACTIVE_STATES, VehicleState
from pool_server.core.trust import TrustRecord
from pool_server.ports.fleet import VehicleDelta, VehicleRow, WorkEvent
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many, marks

_COLUMNS = (
    "vehicle_id, owner_id, label, state, enrolled_at_us, last_seen_us, verified_attempts, rejected_attempts, "
    "abandoned_attempts, rejected_since_release, speed_uwu_per_s, quarantine_reason, "
    "trusted, numeric_class"
)
_TRUST_COLUMNS = "clean_uwu, accepted_attempts, rejected_attempts, odometer_uwu, final_uwu"
_SELECT = f"SELECT {_COLUMNS} FROM fleet_vehicles"
#: A vehicle that has done so much is believed any speed: counting on would outgrow 63 bits.
_VERIFIED_UWU_ENOUGH = 2**62
_STATES = {state.value: state for state in VehicleState}
_ACTIVE = ", ".join(f"'{state.value}'" for state in ACTIVE_STATES)


class SqlFleetRepository:
    """Implements `ports.fleet.FleetRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def insert(self, vehicle: VehicleRow) -> None:
        """Insert a vehicle."""
        self._driver.run(
            f"INSERT INTO fleet_vehicles ({_COLUMNS}) VALUES ({marks(len(VehicleRow._fields))})",
            (*vehicle[:3], vehicle.state.value, *vehicle[4:]),
        )

    def get(self, vehicle_id: str) -> VehicleRow | None:
        """Read a vehicle."""
        found = self._read(f"{_SELECT} WHERE vehicle_id = ?", (vehicle_id,))
        return found[0] if found else None

    def page(
        self, *, owner_id: str | None, state: VehicleState | None, after_vehicle_id: str, limit: int
    ) -> list[VehicleRow]:
        """Vehicles by id, after one."""
        clauses: list[str] = ["vehicle_id > ?"]
        parameters: list[Any] = [after_vehicle_id]
        if owner_id is not None:
            clauses.append("owner_id = ?")
            parameters.append(owner_id)
        if state is not None:
            clauses.append("state = ?")
            parameters.append(state.value)
        query = f"{_SELECT} WHERE {' AND '.join(clauses)} ORDER BY vehicle_id LIMIT ?"
        return self._read(query, (*parameters, limit))

    def move(
        self,
        vehicle_id: str,
        *,
        from_states: Sequence[VehicleState],
        to_state: VehicleState,
        quarantine_reason: str = "",
        forgive: bool = False,
    ) -> bool:
        """Move a vehicle if it is in one of the states; True when this call did it."""
        result = self._driver.run(
            "UPDATE fleet_vehicles SET state = ?, quarantine_reason = ?, "
            "rejected_since_release = CASE WHEN ? = 1 THEN 0 ELSE rejected_since_release END "
            f"WHERE vehicle_id = ? AND state IN ({marks(len(from_states))})",
            (
                to_state.value,
                quarantine_reason,
                int(forgive),
                vehicle_id,
                *(state.value for state in from_states),
            ),
        )
        return result.rowcount == 1

    def seen(self, vehicle_id: str, *, now_us: int) -> None:
        """Note that a vehicle called."""
        self._driver.run(
            "UPDATE fleet_vehicles SET last_seen_us = ? WHERE vehicle_id = ? AND last_seen_us < ?",
            (now_us, vehicle_id, now_us),
        )

    def set_speed(self, vehicle_id: str, speed_uwu_per_s: int) -> None:
        """Note a vehicle's speed."""
        self._driver.run(
            "UPDATE fleet_vehicles SET speed_uwu_per_s = ? WHERE vehicle_id = ?",
            (speed_uwu_per_s, vehicle_id),
        )

    def set_trusted(self, vehicle_id: str, *, trusted: bool) -> bool:
        """Make a vehicle a trusted node, or an ordinary one; False when there is none."""
        result = self._driver.run(
            "UPDATE fleet_vehicles SET trusted = ? WHERE vehicle_id = ?", (int(trusted), vehicle_id)
        )
        return result.rowcount == 1

    def trusted_among(self, vehicle_ids: Sequence[str]) -> set[str]:
        """Which of these vehicles are trusted nodes."""
        rows = fetch_in(
            self._driver,
            "SELECT vehicle_id FROM fleet_vehicles WHERE trusted = 1 AND vehicle_id IN ({marks})",
            vehicle_ids,
        )
        return {row[0] for row in rows}

    def set_label(self, vehicle_id: str, label: str) -> bool:
        """Rename a vehicle; False when there is none."""
        result = self._driver.run(
            "UPDATE fleet_vehicles SET label = ? WHERE vehicle_id = ?", (label, vehicle_id)
        )
        return result.rowcount == 1

    def add(self, vehicle_id: str, delta: VehicleDelta) -> VehicleRow:
        """Add to a vehicle's counters, rejections to `rejected_since_release` too; return the row."""
        rows = self._driver.run(
            "UPDATE fleet_vehicles SET verified_attempts = verified_attempts + ?, "
            "verified_uwu = CASE WHEN verified_uwu < ? THEN verified_uwu + ? ELSE verified_uwu END, "
            "rejected_attempts = rejected_attempts + ?, abandoned_attempts = abandoned_attempts + ?, "
            f"rejected_since_release = rejected_since_release + ? WHERE vehicle_id = ? RETURNING {_COLUMNS}",
            (
                delta.verified_attempts,
                _VERIFIED_UWU_ENOUGH,
                delta.verified_uwu,
                delta.rejected_attempts,
                delta.abandoned_attempts,
                delta.rejected_attempts,
                vehicle_id,
            ),
        ).fetchall()
        if not rows:
            raise InvariantError(f"{vehicle_id} is not there to be counted")
        return _vehicle(rows[0])

    def active_count(self, *, at_most: int) -> int:
        """Vehicles that are given leases, counted no further than `at_most`."""
        return int(
            self._driver.run(
                "SELECT count(*) FROM (SELECT 1 FROM fleet_vehicles "
                f"WHERE state IN ({_ACTIVE}) LIMIT ?) AS active",
                (at_most,),
            ).scalar_one()
        )

    def active_owners(self, *, at_most: int) -> list[str]:
        """Owners of vehicles that are given leases, `at_most` of them."""
        rows = self._driver.run(
            f"SELECT DISTINCT owner_id FROM fleet_vehicles WHERE state IN ({_ACTIVE}) LIMIT ?", (at_most,)
        )
        return [row[0] for row in rows]

    def silent(self, *, before_us: int, limit: int) -> list[VehicleRow]:
        """Available vehicles not heard of since a time, by (last seen, id)."""
        return self._read(
            f"{_SELECT} WHERE state = 'available' AND last_seen_us < ? "
            "ORDER BY last_seen_us, vehicle_id LIMIT ?",
            (before_us, limit),
        )

    def counts_by_state(self) -> dict[str, int]:
        """Vehicles by state."""
        rows = self._driver.run("SELECT state, count(*) FROM fleet_vehicles GROUP BY state")
        return {row[0]: row[1] for row in rows}

    def running_attempts(self, vehicle_ids: Sequence[str]) -> dict[str, int]:
        """Open attempts in live leases, by vehicle."""
        return self._sums(
            "SELECT vehicle_id, sum(open_count) FROM leases WHERE state = 'live' AND vehicle_id IN ({}) "
            "GROUP BY vehicle_id",
            vehicle_ids,
        )

    def clean_uwu(self, vehicle_ids: Sequence[str]) -> dict[str, int]:
        """Clean work since the last failed check over all classes, by vehicle."""
        return self._sums(
            "SELECT vehicle_id, sum(clean_uwu) FROM fleet_trust WHERE vehicle_id IN ({}) GROUP BY vehicle_id",
            vehicle_ids,
        )

    def trust(self, vehicle_id: str, trust_class: str) -> TrustRecord:
        """Read a history; an empty one when there is none."""
        row = self._driver.run(
            f"SELECT {_TRUST_COLUMNS} FROM fleet_trust WHERE vehicle_id = ? AND trust_class = ?",
            (vehicle_id, trust_class),
        ).one_or_none()
        return TrustRecord() if row is None else _record(row)

    def active_histories(self, trust_class: str, *, at_most: int) -> list[int]:
        """Clean work in a class of vehicles that are given leases, 0 where there is none; micro-WU."""
        rows = self._driver.run(
            "SELECT COALESCE(t.clean_uwu, 0) FROM fleet_vehicles v LEFT JOIN fleet_trust t "
            "ON t.vehicle_id = v.vehicle_id AND t.trust_class = ? "
            f"WHERE v.state IN ({_ACTIVE}) ORDER BY v.vehicle_id LIMIT ?",
            (trust_class, at_most),
        )
        return [row[0] for row in rows]

    def histories(self, vehicle_id: str) -> list[tuple[str, TrustRecord]]:
        """All histories of a vehicle with their classes, by class."""
        rows = self._driver.run(
            f"SELECT trust_class, {_TRUST_COLUMNS} FROM fleet_trust WHERE vehicle_id = ? "
            "ORDER BY trust_class",
            (vehicle_id,),
        )
        return [(row[0], _record(row[1:])) for row in rows]

    def put_trust(self, vehicle_id: str, trust_class: str, record: TrustRecord) -> None:
        """Write a history."""
        self._driver.run(
            f"INSERT INTO fleet_trust (vehicle_id, trust_class, {_TRUST_COLUMNS}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (vehicle_id, trust_class) DO UPDATE SET "
            "clean_uwu = excluded.clean_uwu, accepted_attempts = excluded.accepted_attempts, "
            "rejected_attempts = excluded.rejected_attempts, odometer_uwu = excluded.odometer_uwu, "
            "final_uwu = excluded.final_uwu",
            (
                vehicle_id,
                trust_class,
                record.clean_uwu,
                record.accepted_attempts,
                record.rejected_attempts,
                record.odometer_uwu,
                record.final_uwu,
            ),
        )

    def _read(self, query: str, parameters: tuple[Any, ...]) -> list[VehicleRow]:
        return [_vehicle(row) for row in self._driver.run(query, parameters)]

    def _sums(self, query: str, vehicle_ids: Sequence[str]) -> dict[str, int]:
        if not vehicle_ids:
            return {}
        rows = self._driver.run(query.format(marks(len(vehicle_ids))), tuple(vehicle_ids))
        return {row[0]: row[1] for row in rows}


def _vehicle(row: Any) -> VehicleRow:
    return VehicleRow._make((*row[:3], _STATES[row[3]], *row[4:12], bool(row[12]), *row[13:]))


class SqlEventRepository:
    """Implements `ports.fleet.EventRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def append(self, events: Iterable[WorkEvent]) -> None:
        """Write events."""
        insert_many(
            self._driver, "work_events", "entity, entity_id, from_state, to_state, cause, at_us", list(events)
        )

    def of(self, entity: str, entity_id: str) -> list[WorkEvent]:
        """An entity's events, oldest first."""
        rows = self._driver.run(
            "SELECT entity, entity_id, from_state, to_state, cause, at_us FROM work_events "
            "WHERE entity = ? AND entity_id = ? ORDER BY event_id",
            (entity, entity_id),
        )
        return [WorkEvent._make(row) for row in rows]

    def newest(self, entity: str, entity_id: str, *, limit: int) -> list[WorkEvent]:
        """An entity's last events, newest first."""
        rows = self._driver.run(
            "SELECT entity, entity_id, from_state, to_state, cause, at_us FROM work_events "
            "WHERE entity = ? AND entity_id = ? ORDER BY event_id DESC LIMIT ?",
            (entity, entity_id, limit),
        )
        return [WorkEvent._make(row) for row in rows]


def _record(row: Any) -> TrustRecord:
    return TrustRecord(
        clean_uwu=row[0],
        accepted_attempts=row[1],
        rejected_attempts=row[2],
        odometer_uwu=row[3],
        final_uwu=row[4],
    )

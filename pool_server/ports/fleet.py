"""What the use cases need of a store about the fleet: vehicles, trust, and the events of the work.

The manners are those of `ports.work`: plain rows, everything in bulk, guarded writes that say how many rows
changed. Times are microseconds since the epoch, UTC, 0 for "not yet"; `""` stands for "none".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pool_server.core.fleet import VehicleState
from pool_server.core.trust import TrustRecord

# --- fleet --------------------------------------------------------------------------------------


class VehicleRow(NamedTuple):
    """A vehicle as the pool sees it."""

    vehicle_id: str
    owner_id: str
    label: str
    state: VehicleState
    enrolled_at_us: int
    last_seen_us: int
    verified_attempts: int
    rejected_attempts: int
    abandoned_attempts: int
    rejected_since_release: int
    """Rejected attempts since an operator last freed it."""
    speed_uwu_per_s: int
    """0: unknown."""
    quarantine_reason: str
    trusted: bool = False
    """True for the operator's own vehicle: its results are the pool's word."""
    numeric_class: str = ""
    """Vehicles of one class return the same bits; empty while unknown."""


@dataclass(slots=True, kw_only=True)
class VehicleDelta:
    """What a command adds to a vehicle's counters."""

    verified_attempts: int = 0
    verified_uwu: int = 0
    rejected_attempts: int = 0
    abandoned_attempts: int = 0


class FleetRepository(Protocol):
    """Vehicles' states, counters and trust: `uow.fleet`."""

    def insert(self, vehicle: VehicleRow) -> None:
        """Insert a vehicle."""
        ...

    def get(self, vehicle_id: str) -> VehicleRow | None:
        """Read a vehicle."""
        ...

    def page(
        self, *, owner_id: str | None, state: VehicleState | None, after_vehicle_id: str, limit: int
    ) -> list[VehicleRow]:
        """Vehicles by id, after one."""
        ...

    def move(
        self,
        vehicle_id: str,
        *,
        from_states: Sequence[VehicleState],
        to_state: VehicleState,
        quarantine_reason: str = "",
        forgive: bool = False,
    ) -> bool:
        """Move a vehicle if it is in one of the states; True when this call did it.

        `quarantine_reason` replaces the old one; `forgive` sets `rejected_since_release` to 0.
        """
        ...

    def seen(self, vehicle_id: str, *, now_us: int) -> None:
        """Note that a vehicle called."""
        ...

    def set_speed(self, vehicle_id: str, speed_uwu_per_s: int) -> None:
        """Note a vehicle's speed."""
        ...

    def set_trusted(self, vehicle_id: str, *, trusted: bool) -> bool:
        """Make a vehicle a trusted node, or an ordinary one; False when there is none."""
        ...

    def trusted_among(self, vehicle_ids: Sequence[str]) -> set[str]:
        """Which of these vehicles are trusted nodes."""
        ...

    def set_label(self, vehicle_id: str, label: str) -> bool:
        """Rename a vehicle; False when there is none."""
        ...

    def add(self, vehicle_id: str, delta: VehicleDelta) -> VehicleRow:
        """Add to a vehicle's counters, rejections to `rejected_since_release` too; return the row."""
        ...

    def active_count(self, *, at_most: int) -> int:
        """Vehicles that are given leases, counted no further than `at_most`."""
        ...

    def active_owners(self, *, at_most: int) -> list[str]:
        """Owners of vehicles that are given leases, `at_most` of them."""
        ...

    def silent(self, *, before_us: int, limit: int) -> list[VehicleRow]:
        """Available vehicles not heard of since a time, by (last seen, id)."""
        ...

    def counts_by_state(self) -> dict[str, int]:
        """Vehicles by state."""
        ...

    def running_attempts(self, vehicle_ids: Sequence[str]) -> dict[str, int]:
        """Open attempts in live leases, by vehicle."""
        ...

    def clean_uwu(self, vehicle_ids: Sequence[str]) -> dict[str, int]:
        """Clean work since the last failed check over all classes, by vehicle."""
        ...

    def trust(self, vehicle_id: str, trust_class: str) -> TrustRecord:
        """Read a history; an empty one when there is none."""
        ...

    def active_histories(self, trust_class: str, *, at_most: int) -> list[int]:
        """Clean work in a class of vehicles that are given leases, 0 where there is none; micro-WU."""
        ...

    def histories(self, vehicle_id: str) -> list[tuple[str, TrustRecord]]:
        """All histories of a vehicle with their classes, by class."""
        ...

    def put_trust(self, vehicle_id: str, trust_class: str, record: TrustRecord) -> None:
        """Write a history."""
        ...


# --- events -------------------------------------------------------------------------------------


class WorkEvent(NamedTuple):
    """One transition, for people and for the auditor."""

    entity: str
    """job, task, attempt, lease or vehicle."""
    entity_id: str
    from_state: str
    """Empty for a new row."""
    to_state: str
    cause: str
    at_us: int


class EventRepository(Protocol):
    """The story of the work: `uow.events`."""

    def append(self, events: Iterable[WorkEvent]) -> None:
        """Write events."""
        ...

    def of(self, entity: str, entity_id: str) -> list[WorkEvent]:
        """An entity's events, oldest first."""
        ...

    def newest(self, entity: str, entity_id: str, *, limit: int) -> list[WorkEvent]:
        """An entity's last events, newest first."""
        ...

"""What the use cases need of a store about leases: rows and manners are those of `ports.work`."""

from collections.abc import Sequence
from typing import Protocol

from pool_server.core.jobs import LeaseState
from pool_server.ports.work import LeaseRow


class LeaseRepository(Protocol):
    """Leases: `uow.leases`."""

    def insert(self, lease: LeaseRow) -> None:
        """Insert a live lease."""
        ...

    def get(self, lease_id: int) -> LeaseRow | None:
        """Read a lease."""
        ...

    def many(self, lease_ids: Sequence[int]) -> list[LeaseRow]:
        """Read leases, by id."""
        ...

    def live(self, vehicle_id: str) -> list[LeaseRow]:
        """A vehicle's live leases, by id."""
        ...

    def newest_id(self) -> int:
        """The newest lease's id; 0 when there is none."""
        ...

    def overdue(self, *, before_us: int, limit: int) -> list[LeaseRow]:
        """Live leases that ended before a time, by (end, id)."""
        ...

    def close_attempts(self, lease_id: int, *, closed: int, state: LeaseState, ended_at_us: int) -> bool:
        """Take `closed` attempts off a live lease's open ones and set its state. True when it was live."""
        ...

"""What claims of a prefix need of a store. The manners are those of `ports.work`."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pool_server.core.verification.prefix_claim import PrefixState


class PrefixClaimRow(NamedTuple):
    """What an attempt that was stopped has computed of its task, and what it is promised for it."""

    attempt_id: int
    task_id: int
    job_id: int
    vehicle_id: str
    owner_id: str
    unit_count: int
    """Whole units."""
    work_uwu: int
    """Of those units."""
    gross_micros: int
    pending_transfer_id: int
    """What is reserved for it."""
    state: PrefixState
    reason: str
    """Why it is not paid (yet)."""
    look_at_us: int
    """When it is looked at again by itself."""
    claimed_at_us: int
    expires_at_us: int
    """When it is given up."""
    closed_at_us: int


class PrefixSums(NamedTuple):
    """A vehicle's claims."""

    open_count: int
    open_micros: int
    paid_count: int
    paid_micros: int
    paid_uwu: int
    unpaid_count: int


class PrefixRepository(Protocol):
    """Claims of prefixes: `uow.prefixes`."""

    def insert(self, claims: Sequence[PrefixClaimRow]) -> None:
        """Insert claims."""
        ...

    def change(self, claim: PrefixClaimRow, *, from_state: PrefixState) -> bool:
        """Write a claim if it is in a state; True when this call did it."""
        ...

    def of_task(self, task_id: int) -> list[PrefixClaimRow]:
        """Claims on a task, oldest first."""
        ...

    def due(self, *, now_us: int, limit: int) -> list[PrefixClaimRow]:
        """Open claims to be looked at: on decided tasks, or given up; by (time, id)."""
        ...

    def open_of_vehicle(self, vehicle_id: str) -> int:
        """Open claims of a vehicle."""
        ...

    def sums(self, vehicle_id: str) -> PrefixSums:
        """Figures of a vehicle's claims."""
        ...

    def all_open(self) -> list[PrefixClaimRow]:
        """Open claims, by id."""
        ...

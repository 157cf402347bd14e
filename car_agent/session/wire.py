"""What the session tells the agent, and what it asks of it."""

from dataclasses import dataclass
from typing import Protocol

from car_agent.runner.work import LeaseWork
from pool_protocol.numeric import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkWish:
    """How much work the agent wants now."""

    attempts_max: int
    available_ms: int
    """Estimated time that the vehicle can compute; 0 means unknown."""
    warm_programs: tuple[str, ...]
    reserve_price_micros_per_wu: int
    sandbox_missing: tuple[str, ...]
    jaxlib_version: str
    platforms: tuple[str, ...]
    numeric: Probe | None = None
    """What the numeric probe found with this worker; None before it ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFigures:
    """Money and counts as the pool told them last."""

    currency: str = ""
    held_micros: int = 0
    available_micros: int = 0
    paid_micros: int = 0
    vehicle_net_micros: int = 0
    verified_attempts: int = 0
    rejected_attempts: int = 0
    quarantine_reason: str = ""
    posted_price_micros_per_wu: int | None = None
    """What the pool pays for new work; None when it has not told."""
    fee_ppm: int = 0


class SessionListener(Protocol):
    """The agent, as the session sees it. Called on the event loop; must not block."""

    def wish(self) -> WorkWish | None:
        """Return what work is wanted now, or None."""
        ...

    def needs_stream(self) -> bool:
        """Whether the stream should be up although nothing waits to be sent."""
        ...

    def connected(self) -> None:
        """The pool answers."""
        ...

    def disconnected(self, cause: str) -> None:
        """The stream is down; `cause` is empty when we closed it."""
        ...

    def loses_at(self, price_micros_per_wu: int) -> str:
        """Return why work at this price would lose the owner money; empty when it would not."""
        ...

    def lease_taken(self, lease_id: str) -> None:
        """A verified lease is in the journal; its supplies are being fetched."""
        ...

    def lease_supplied(self, work: LeaseWork) -> None:
        """Everything that a lease needs is here."""
        ...

    def attempts_cancelled(self, attempt_ids: frozenset[int], reason: str) -> None:
        """The pool no longer wants these attempts."""
        ...

    def outcomes_added(self) -> None:
        """Outcomes wait to be sealed."""
        ...

    def revoked(self, code: str) -> None:
        """The pool no longer knows this vehicle."""
        ...

    def happened(self, code: str, message: str) -> None:
        """Something the owner may want to know."""
        ...

    def figures_changed(self, figures: PoolFigures) -> None:
        """The pool told money and counts."""
        ...

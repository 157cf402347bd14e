"""What checks of single units of claims need: a store, and the order that the referee runs.

The manners are those of `ports.work`.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pool_server.core.comparison import Comparator
from pool_server.core.jobs import TensorRef
from pool_server.core.verification.unit_check import Fit, UnitCheckState
from pool_server.ports.disputes import UnitOrder


class UnitCheckRow(NamedTuple):
    """One unit of a claim, to be run again from the claim's own state before it."""

    check_id: int
    task_id: int
    attempt_id: int
    unit_index: int
    state: UnitCheckState
    tries: int
    """Runs that failed by the referee's own fault."""
    referee_digest: bytes
    """Of the state that the referee came to; empty until it ran."""
    referee_class: str
    """The referee's numeric class; empty where unknown."""
    reason: str
    """Why it is unsettled."""
    opened_at_us: int
    closed_at_us: int


class UnitCheckRepository(Protocol):
    """Checks of single units: `uow.unit_checks`."""

    def insert(self, rows: Sequence[UnitCheckRow]) -> None:
        """Insert checks; a claim has one of a unit at most."""
        ...

    def get(self, check_id: int) -> UnitCheckRow | None:
        """Read a check."""
        ...

    def of_attempts(self, attempt_ids: Sequence[int]) -> list[UnitCheckRow]:
        """All checks of attempts, by (attempt, unit)."""
        ...

    def refereeing(self, *, limit: int) -> list[int]:
        """Checks that wait for the referee, about results that are not judged yet, oldest first."""
        ...

    def change(self, row: UnitCheckRow, *, from_state: UnitCheckState) -> bool:
        """Write a check if it is in a state; True when this call did it."""
        ...


class CheckOrder(NamedTuple):
    """One unit of a claim to run again, and what the claim says of its end."""

    unit: UnitOrder
    claimed: TensorRef
    comparator: Comparator


class Measured(NamedTuple):
    """What the referee found."""

    state_digest: bytes
    numeric_class: str
    """The referee's; empty where unknown."""
    fit: Fit

"""What the use cases need of a store to keep energy as vehicles told it. Nothing here decides anything."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pool_server.core.energy import EnergyFigures, EnergySums


class AttemptEnergyRow(NamedTuple):
    """What a vehicle told of one attempt."""

    attempt_id: int
    owner_id: str
    vehicle_id: str
    figures: EnergyFigures
    told_at_us: int


class EnergyRepository(Protocol):
    """Energy of attempts, told once each, and its sums by day."""

    def told_of(self, attempt_ids: Sequence[int]) -> set[int]:
        """Return those of these attempts whose energy was told before."""
        ...

    def append(self, rows: Sequence[AttemptEnergyRow]) -> None:
        """Keep figures and add them to the sums of their day.

        Raises:
            InvariantError: an attempt's energy was told before.
        """
        ...

    def of_paid(self, owner_id: str, *, from_us: int, until_us: int) -> dict[int, EnergyFigures]:
        """Return figures of an owner's attempts that were verified in a time range, by attempt."""
        ...

    def of_paid_by_day(
        self, owner_id: str, *, from_us: int, until_us: int
    ) -> dict[tuple[int, str], EnergySums]:
        """Return the sums of those same figures by day of verification and vehicle."""
        ...

    def of_unpaid(self, owner_id: str, *, from_us: int, until_us: int) -> EnergySums:
        """Return the sum over an owner's attempts that ended in a time range and brought no receipt.

        An attempt whose result still waits for its verdict has not ended.
        """
        ...

    def days(self, owner_id: str, *, from_day: int, until_day: int) -> dict[int, EnergySums]:
        """Return sums over what was told, by day (from_day <= day < until_day)."""
        ...

    def owner_sums(self, owner_id: str) -> EnergySums:
        """Return the sum over everything an owner's vehicles told."""
        ...

"""What a step task that was not finished is worth: its verified prefix, in whole units.

A car that is unplugged after i of n units has made i units that can be verified like any other work: by the
state after the last of them, from which another car goes on. Work is metered per step, and the last unit may
be shorter, so a prefix is worth its steps, rounded down (`div_floor`): prefix and rest are together never
worth more than the whole.

Its pay is the price of that work, as on every receipt.

Not decided here: whether a prefix is right, and when it is paid (`core.verification.prefix_claim`).
"""

from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import ceil_div, div_floor, work_price_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTask:
    """The size of a step task."""

    steps: int
    """In all, at least 1."""
    unit_steps: int
    """K, at least 1."""
    work_uwu: int
    """Metered work of all steps, micro-WU."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.unit_steps < 1 or self.work_uwu < 0:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{self} is no task")

    @property
    def units(self) -> int:
        """Units of the whole task."""
        return ceil_div(self.steps, self.unit_steps)

    def prefix_steps(self, units: int) -> int:
        """Return the steps in the first so many units.

        Raises:
            PoolError: INVALID_ARGUMENT when the task does not have as many.
        """
        if not 0 <= units <= self.units:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{units} units of {self.units}")
        return min(self.steps, units * self.unit_steps)

    def prefix_uwu(self, units: int) -> int:
        """Return the work in the first so many units, rounded down, micro-WU.

        Raises:
            PoolError: as `prefix_steps`.
        """
        return div_floor(self.work_uwu * self.prefix_steps(units), self.steps)

    def prefix_micros(self, units: int, *, price_micros_per_wu: int) -> int:
        """Return what a verified prefix is paid at a price: never more than the whole task.

        Raises:
            PoolError: as `prefix_steps`.
        """
        return work_price_micros(self.prefix_uwu(units), price_micros_per_wu)

"""What a counter of energy is to the meter, and two of them read as one."""

from collections.abc import Sequence
from typing import Protocol

from car_agent.core.energy import EnergySource


class EnergyCounter(Protocol):
    """Counts what the machine draws."""

    @property
    def source(self) -> EnergySource:
        """How the owner is told that it was found."""
        ...

    def step_uj(self, now_ns: int) -> int | None:
        """Return the microjoules since the call before; None when nobody can know. The first returns None.

        Never raises: a counter that cannot be read any more answers None.
        """
        ...

    def close(self) -> None:
        """Let go of files and libraries."""
        ...


class CountersTogether:
    """The processor's counters and the card's: known only while both are."""

    source = EnergySource.RAPL_NVML

    def __init__(self, counters: Sequence[EnergyCounter]) -> None:
        """Read all of `counters` at each step."""
        self._counters = counters

    def step_uj(self, now_ns: int) -> int | None:
        steps = [counter.step_uj(now_ns) for counter in self._counters]
        known = [step for step in steps if step is not None]
        return sum(known) if len(known) == len(steps) else None

    def close(self) -> None:
        for counter in self._counters:
            counter.close()

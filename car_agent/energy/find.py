"""Which counters this machine has for what the worker uses, and what to tell the owner where it has none."""

from dataclasses import dataclass
from pathlib import Path

from car_agent.energy.counter import CountersTogether, EnergyCounter
from car_agent.energy.nvml import open_nvml
from car_agent.energy.rapl import open_rapl


@dataclass(frozen=True, slots=True)
class FoundCounter:
    """The counters, or why the declared watts count."""

    counter: EnergyCounter | None
    why_not: str = ""


def find_counter(*, source: str, platforms: str, rapl_root: Path) -> FoundCounter:
    """Open what measures the worker.

    A worker that computes on a card is measured only when the card is: the processor's counters alone would
    miss the most of it.

    Args:
        source: "auto", or "declared" for the declared watts in any case.
        platforms: What the worker uses: "cpu" or "cuda".
        rapl_root: Where the processor's counters are.
    """
    if source == "declared":
        return FoundCounter(None, "you chose the declared watts")
    rapl = open_rapl(rapl_root)
    if platforms != "cuda":
        return FoundCounter(rapl.counter, rapl.why_not)
    nvml = open_nvml()
    if nvml.counter is None:
        if rapl.counter is not None:
            rapl.counter.close()
        return FoundCounter(None, nvml.why_not)
    if rapl.counter is None:
        return FoundCounter(nvml.counter, f"the card alone is measured: {rapl.why_not}")
    return FoundCounter(CountersTogether((rapl.counter, nvml.counter)))

"""The graphics cards' energy counters, through the driver's own library, without any package of ours.

Cards since 2017 count their millijoules (`nvmlDeviceGetTotalEnergyConsumption`). The library is opened only
where the worker may use a card. All cards that the driver shows are counted; what they draw without work goes
into the idle baseline.
"""

import ctypes
from dataclasses import dataclass, field
from typing import Any, Final

from car_agent.core.energy import EnergySource, counter_step_uj

LIBRARY: Final = "libnvidia-ml.so.1"
_CARDS_MAX: Final = 64
_UJ_PER_MJ: Final = 1_000


@dataclass(slots=True)
class _Card:
    """One card and its last reading."""

    handle: Any
    last_mj: int | None = None
    last_ns: int = 0


@dataclass(slots=True)
class NvmlCounter:
    """The counters of all cards."""

    source = EnergySource.NVML
    library: Any
    cards: list[_Card] = field(default_factory=list)

    def step_uj(self, now_ns: int) -> int | None:
        steps = [self._step_of(card, now_ns) for card in self.cards]
        known = [step for step in steps if step is not None]
        return sum(known) if len(known) == len(steps) else None

    def _step_of(self, card: _Card, now_ns: int) -> int | None:
        before_mj, before_ns = card.last_mj, card.last_ns
        card.last_mj, card.last_ns = _total_mj(self.library, card.handle), now_ns
        if before_mj is None or card.last_mj is None:
            return None
        # 64 bits of millijoules do not go round: a lower reading is a driver that was loaded anew.
        return counter_step_uj(
            before_mj * _UJ_PER_MJ, card.last_mj * _UJ_PER_MJ, range_uj=0, elapsed_ns=now_ns - before_ns
        )

    def close(self) -> None:
        if self.cards:
            self.cards.clear()
            self.library.nvmlShutdown()


@dataclass(frozen=True, slots=True)
class NvmlFinding:
    """The counters, or why there are none."""

    counter: NvmlCounter | None
    why_not: str = ""


def open_nvml(library: Any = None) -> NvmlFinding:
    """Open the counters; `library` is the driver's, opened here when it is not given."""
    if library is None:
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError:
            return NvmlFinding(None, f"there is no {LIBRARY}: no NVIDIA driver is installed")
    try:
        return _open_cards(library)
    except AttributeError as error:
        return NvmlFinding(None, f"the NVIDIA driver is too old: {error}")


def _open_cards(library: Any) -> NvmlFinding:
    """Open every card.

    Raises:
        AttributeError: the library lacks a function.
    """
    needed = (library.nvmlDeviceGetTotalEnergyConsumption, library.nvmlShutdown)
    del needed
    if library.nvmlInit_v2() != 0:
        return NvmlFinding(None, "the NVIDIA driver does not answer")
    counter = NvmlCounter(library)
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0:
        for index in range(min(count.value, _CARDS_MAX)):
            handle = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) == 0:
                counter.cards.append(_Card(handle))
    if counter.cards and all(_total_mj(library, card.handle) is not None for card in counter.cards):
        return NvmlFinding(counter)
    counter.cards.clear()
    library.nvmlShutdown()
    return NvmlFinding(None, "not every NVIDIA card here counts its energy")


def _total_mj(library: Any, handle: Any) -> int | None:
    """Return the millijoules since the driver was loaded; None when the card does not say."""
    total = ctypes.c_ulonglong()
    if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(total)) != 0:
        return None
    return int(total.value)

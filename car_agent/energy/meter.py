"""The meter: follows what the worker draws, and says of each attempt what it took and what that cost.

Time is cut into intervals at every event and every few seconds. An interval in which the worker computes
belongs to the attempt that ends next: what the counters say, less what the machine draws when it idles, times
the owner's factor for what is lost between wall and chip. An interval that no counter can tell of is the
declared watts times its length, and makes its attempt a declared one. Intervals without a worker teach the
idle baseline; those in which a worker waits for work count for nobody.

See docs/explanation/energy.md.
"""

from enum import Enum, auto, unique
from typing import Final

from car_agent.core.energy import (
    PICOJOULES_PER_MICROJOULE,
    PPM,
    AttemptEnergy,
    EnergySource,
    IdleBaseline,
    Lap,
)
from car_agent.core.tariff import Tariff
from car_agent.energy.counter import EnergyCounter
from pool_protocol.clock import Clock

#: At least this often the counters are read, so that none goes round unseen and the shown watts are fresh.
_READ_EVERY_NS: Final = 2 * 10**9


@unique
class _Mood(Enum):
    """What the machine does for us."""

    IDLE = auto()
    """No worker lives."""
    COMPUTING = auto()
    """A worker starts, or computes."""
    RESTING = auto()
    """A worker has nothing to do."""


class Meter:
    """Measures one agent's worker. All calls come from the event loop."""

    def __init__(
        self,
        *,
        counter: EnergyCounter | None,
        declared_watts: float,
        wall_factor: float,
        count_idle: bool,
        tariff: Tariff,
        clock: Clock,
        idle_milliwatts: int | None = None,
    ) -> None:
        """Begin without a worker.

        Args:
            counter: What measures; None where nothing does.
            declared_watts: At the wall, while the worker computes.
            wall_factor: Energy at the wall per energy at the counter.
            count_idle: Whether attempts carry what the machine would draw without them.
            tariff: Prices.
            clock: Both times.
            idle_milliwatts: The baseline of an earlier run.
        """
        self._counter = counter
        self._declared_mw = round(declared_watts * 1_000)
        self._wall_ppm = round(wall_factor * PPM)
        self._count_idle = count_idle
        self._tariff = tariff
        self._clock = clock
        self._baseline = IdleBaseline(milliwatts=idle_milliwatts)
        self._mood = _Mood.IDLE
        self._lap = Lap()
        self._busy_ns = 0
        self._window_pj = self._window_ns = 0
        self._watts = 0.0
        self._last_ns = clock.monotonic_ns()
        if counter is not None:
            counter.step_uj(self._last_ns)

    # --- what happens --------------------------------------------------------------------------

    def starts(self) -> None:
        """A worker is started."""
        self._flow()
        self._mood = _Mood.COMPUTING

    def resumes(self) -> None:
        """There is work again for the worker, if one lives."""
        self._flow()
        if self._mood is _Mood.RESTING:
            self._mood = _Mood.COMPUTING

    def rests(self) -> None:
        """The worker has nothing to do."""
        self._flow()
        if self._mood is _Mood.COMPUTING:
            self._mood = _Mood.RESTING
        self._show_nothing()

    def is_idle(self) -> None:
        """No worker lives any more."""
        self._flow()
        self._mood = _Mood.IDLE
        self._show_nothing()

    def tick(self) -> None:
        """Time has passed."""
        if self._clock.monotonic_ns() - self._last_ns >= _READ_EVERY_NS:
            self._flow()

    def lap(self) -> tuple[AttemptEnergy, int]:
        """Return what the attempt that just ended took, and for how many microseconds it was computed."""
        self._flow()
        busy_us, self._busy_ns = self._busy_ns // 1_000, 0
        return self._lap.close(None if self._counter is None else self._counter.source), busy_us

    # --- what people see -----------------------------------------------------------------------

    @property
    def source(self) -> EnergySource:
        """How energy is found here."""
        return EnergySource.DECLARED if self._counter is None else self._counter.source

    @property
    def watts(self) -> float:
        """What the worker has drawn lately, as it is counted; 0 when it does not compute."""
        return self._watts

    @property
    def idle_milliwatts(self) -> int | None:
        """What the machine draws without a worker; None before that is known, and without counters."""
        return self._baseline.milliwatts

    # --- inside --------------------------------------------------------------------------------

    def _flow(self) -> None:
        """Account for the time since the last call."""
        now_ns = self._clock.monotonic_ns()
        elapsed_ns, self._last_ns = now_ns - self._last_ns, now_ns
        step_uj = None if self._counter is None else self._counter.step_uj(now_ns)
        if elapsed_ns <= 0:
            return
        if self._mood is _Mood.IDLE and step_uj is not None:
            self._baseline.idled(step_uj, elapsed_ns)
        else:
            self._baseline.break_off()
        if self._mood is not _Mood.COMPUTING:
            return
        energy_pj = self._attributed_pj(step_uj, elapsed_ns)
        price = self._tariff.price(self._clock.now_us()).micros_per_kwh
        self._lap.add(energy_pj, price_micros_per_kwh=price, measured=step_uj is not None)
        self._busy_ns += elapsed_ns
        self._show(energy_pj, elapsed_ns)

    def _attributed_pj(self, step_uj: int | None, elapsed_ns: int) -> int:
        if step_uj is None:
            return self._declared_mw * elapsed_ns
        idle_mw = 0 if self._count_idle else self._baseline.milliwatts or 0
        return (step_uj * PICOJOULES_PER_MICROJOULE - idle_mw * elapsed_ns) * self._wall_ppm // PPM

    def _show(self, energy_pj: int, elapsed_ns: int) -> None:
        self._window_pj += energy_pj
        self._window_ns += elapsed_ns
        if self._window_ns >= _READ_EVERY_NS or self._watts == 0:
            self._watts = max(0.0, self._window_pj / self._window_ns / 1_000)
            self._window_pj = self._window_ns = 0

    def _show_nothing(self) -> None:
        self._watts = 0.0
        self._window_pj = self._window_ns = 0

"""One normalised observation of the vehicle, whatever source it came from.

This module decides what a signal may be and when an observation is too old to trust. It does not decide
whether the car may compute: see `car_agent.core.policy`. Unknown is a value of its own here; nothing turns
it into "fine".
"""

from dataclasses import dataclass
from enum import StrEnum, unique

from pool_protocol.errors import ErrorCode, PoolError

NANOSECONDS_PER_MILLISECOND = 1_000_000
NANOSECONDS_PER_SECOND = 1_000_000_000


@unique
class PlugState(StrEnum):
    """Whether a charging cable is in the car."""

    UNKNOWN = "unknown"
    UNPLUGGED = "unplugged"
    PLUGGED = "plugged"


@unique
class ChargeState(StrEnum):
    """What the charger does. Only CHARGING lets the car compute."""

    UNKNOWN = "unknown"
    IDLE = "idle"
    STARTING = "starting"
    CHARGING = "charging"
    COMPLETE = "complete"
    STOPPED = "stopped"
    NOPOWER = "nopower"
    FAULT = "fault"


@unique
class SourceClass(StrEnum):
    """How late a source may be: A 1 s (in-vehicle push), B 1-5 s (local poll), C 20-60 s (house or cloud)."""

    A = "A"
    B = "B"
    C = "C"


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleSignals:
    """What one source says about the car at one moment. None means that the source does not know.

    Raises:
        PoolError: INVALID_ARGUMENT when a number lies outside what is physically possible.
    """

    source: str
    """Which source, for example "sysfs"."""
    source_class: SourceClass
    observed_mono_ns: int
    """Monotonic time of the observation, nanoseconds."""
    observed_us: int
    """Wall time of the observation, microseconds since the epoch."""
    fresh_for_ms: int
    """Freshness deadline: older than this, nothing in here counts."""
    sequence: int = 0
    """Increases with each observation of the source."""
    plug: PlugState = PlugState.UNKNOWN
    charge: ChargeState = ChargeState.UNKNOWN
    discharging: bool | None = None
    """Energy flows out of the battery, to the grid or to the load."""
    moving: bool | None = None
    soc_percent: float | None = None
    soc_limit_percent: float | None = None
    charge_power_w: float | None = None
    """Power from the charger."""
    battery_power_w: float | None = None
    """Power into the battery; negative is out of it."""
    eta_full_s: float | None = None
    battery_temp_c: float | None = None
    cabin_temp_c: float | None = None
    compute_temp_c: float | None = None
    low_voltage_v: float | None = None
    """The 12 V system."""
    at_home: bool | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that no car has: a garbled reading is worse than none."""
        for name, lowest, highest in _RANGES:
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                raise PoolError(
                    ErrorCode.INVALID_ARGUMENT,
                    f"signal {name} is {value!r}, possible is {lowest:g} to {highest:g}",
                    context={"field": name},
                )
        if self.fresh_for_ms <= 0:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, "a freshness deadline is more than 0 ms")

    def age_ms(self, now_mono_ns: int) -> int:
        """Return how old the observation is, milliseconds; never negative."""
        return max(0, now_mono_ns - self.observed_mono_ns) // NANOSECONDS_PER_MILLISECOND

    def is_fresh(self, now_mono_ns: int) -> bool:
        """Say whether the observation may be used. One from the future is a broken clock, hence not fresh."""
        age_ns = now_mono_ns - self.observed_mono_ns
        return 0 <= age_ns <= self.fresh_for_ms * NANOSECONDS_PER_MILLISECOND


#: Name, least and greatest possible value. NaN fails every comparison and is refused with the rest.
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("soc_percent", 0, 100),
    ("soc_limit_percent", 0, 100),
    ("charge_power_w", 0, 2_000_000),
    ("battery_power_w", -2_000_000, 2_000_000),
    ("eta_full_s", 0, 30 * 86_400),
    ("battery_temp_c", -80, 200),
    ("cabin_temp_c", -80, 150),
    ("compute_temp_c", -80, 200),
    ("low_voltage_v", 0, 60),
)

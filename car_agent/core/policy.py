"""The owner's limits and switches, and the shape of a verdict.

This module decides what a valid policy is. What the limits mean for a car that reports certain signals is
decided by `car_agent.core.evaluation`.
"""

from dataclasses import dataclass, field, fields
from enum import StrEnum, unique
from typing import Final

from car_agent.core.reasons import Reason, ReasonCode
from pool_protocol.errors import ErrorCode, PoolError


@unique
class VerdictKind(StrEnum):
    """What the policy says. The worker may live under RUN only."""

    RUN = "run"
    WAIT = "wait"
    """Not yet: something may change by itself."""
    STOP = "stop"
    """Stopped by the owner or by the car."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict and why; the first reason is the headline. RUN has none."""

    kind: VerdictKind
    reasons: tuple[Reason, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether computing is allowed."""
        return self.kind is VerdictKind.RUN

    @property
    def headline(self) -> ReasonCode | None:
        """The most important reason, or None when the car may compute."""
        return self.reasons[0].code if self.reasons else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerSwitches:
    """What the owner has set by hand. The default is what holds when nothing can be read: no consent."""

    opted_in: bool = False
    opt_in_changed_us: int = 0
    paused: bool = False
    pause_until_us: int = 0
    """When the pause ends, microseconds since the epoch; 0 means when the owner resumes."""
    consent_readable: bool = True
    """False when the consent record is damaged; it then counts as no consent."""

    def is_paused(self, now_us: int) -> bool:
        """Whether a pause holds at this moment."""
        return self.paused and (self.pause_until_us == 0 or now_us < self.pause_until_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The owner's limits. Each stop threshold has its resume threshold; None switches a limit off.

    Raises:
        PoolError: INVALID_ARGUMENT with the key in its context, when a value or a pair makes no sense.
    """

    start_after_s: float = 5.0
    """How long the car must charge without interruption before work starts. Stopping has no delay."""
    min_soc_percent: float = 50.0
    """Below this battery level the car does not compute; 0 switches the reserve off."""
    resume_soc_percent: float = 55.0
    """After the reserve stopped it, the car computes again from this level."""
    max_battery_c: float | None = 45.0
    resume_battery_c: float | None = 40.0
    max_cabin_c: float | None = 35.0
    resume_cabin_c: float | None = 32.0
    max_compute_c: float | None = 85.0
    resume_compute_c: float | None = 75.0
    min_low_voltage_v: float | None = 12.2
    resume_low_voltage_v: float | None = 12.6
    min_battery_power_w: float | None = 0.0
    """Power into the battery may not fall below this, where the source reports it: charging comes first.

    The default only asks that the battery loses nothing, which suits laptops too; 500 and 800 suit cars.
    """
    resume_battery_power_w: float | None = 0.0
    max_share_of_charge_power: float | None = 0.10
    """Compute may take this share of the charger's power, where both are known."""
    compute_power_w: float = 0.0
    """What computing draws on this machine, watts; 0 means unknown, and the share is not checked."""
    stop_when_eta_under_min: float | None = None
    """Stop this many minutes before the battery is full, where the source estimates it."""
    at_home_only: bool = False
    """Compute only where the car says that it is at home."""
    electricity_margin: float | None = 0.10
    """With a tariff: work must pay electricity and this share more; None works at a loss too."""
    min_net_per_hour: float | None = None
    """With a tariff: what an hour must leave after fee and electricity, units of the pool's currency."""

    def __post_init__(self) -> None:
        """Check values and pairs."""
        for key in fields(self):
            _check_value(key.name, getattr(self, key.name))
        for lower, upper in _ASCENDING:
            _check_pair(self, lower, upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyState:
    """What the policy remembers between evaluations."""

    holding: frozenset[ReasonCode] = frozenset()
    """Numeric limits that stopped the car and have not reached their resume threshold."""
    eligible_since_ns: int | None = None
    """Monotonic time since when everything but the debounce allows computing."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The verdict and what to remember for the next one."""

    verdict: Verdict
    state: PolicyState = field(default_factory=PolicyState)


#: Highest value of a policy key that is a number; the lowest is 0 but for temperatures.
_HIGHEST: Final[dict[str, float]] = {
    "start_after_s": 3_600,
    "min_soc_percent": 100,
    "resume_soc_percent": 100,
    "max_share_of_charge_power": 1,
    "stop_when_eta_under_min": 24 * 60,
    "electricity_margin": 10,
}
_HIGHEST_OTHER: Final = 1_000_000.0
#: Pairs that must ascend: the first may not exceed the second.
_ASCENDING: Final = (
    ("min_soc_percent", "resume_soc_percent"),
    ("resume_battery_c", "max_battery_c"),
    ("resume_cabin_c", "max_cabin_c"),
    ("resume_compute_c", "max_compute_c"),
    ("min_low_voltage_v", "resume_low_voltage_v"),
    ("min_battery_power_w", "resume_battery_power_w"),
)


def _refuse(key: str, detail: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"policy key {key}: {detail}", context={"field": key})


def _check_value(key: str, value: object) -> None:
    if key == "at_home_only":
        if not isinstance(value, bool):
            raise _refuse(key, "say true or false")
        return
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(key, f"needs a number, not {value!r}")
    lowest = -80.0 if key.endswith("_c") else 0.0
    highest = _HIGHEST.get(key, _HIGHEST_OTHER)
    if not lowest <= value <= highest:
        raise _refuse(key, f"{value!r} is outside {lowest:g} to {highest:g}")


def _check_pair(policy: Policy, lower: str, upper: str) -> None:
    low, high = getattr(policy, lower), getattr(policy, upper)
    if (low is None) != (high is None):
        raise _refuse(lower, f"{lower} and {upper} are set or left out together")
    if low is not None and low > high:
        raise _refuse(lower, f"{lower} ({low:g}) may not exceed {upper} ({high:g})")

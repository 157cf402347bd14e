"""Why the agent does not compute: stable codes in order of priority, and the sentence of each.

The first code of `ReasonCode` that applies is the headline that the owner reads. A sentence names both
numbers, the one measured and the one needed; a remedy says what would change it. Which reasons apply is
decided in `car_agent.core.policy`.
"""

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class ReasonCode(StrEnum):
    """Reasons, the most important first. Codes are shown to owners and never renamed."""

    NOT_OPTED_IN = "NOT_OPTED_IN"
    PAUSED_BY_OWNER = "PAUSED_BY_OWNER"
    NO_SIGNALS = "NO_SIGNALS"
    SOURCE_STALE = "SOURCE_STALE"
    UNPLUGGED = "UNPLUGGED"
    MOVING = "MOVING"
    DISCHARGING = "DISCHARGING"
    CHARGE_COMPLETE = "CHARGE_COMPLETE"
    PLUGGED_NOT_CHARGING = "PLUGGED_NOT_CHARGING"
    SIGNALS_UNKNOWN = "SIGNALS_UNKNOWN"
    SOC_BELOW_RESERVE = "SOC_BELOW_RESERVE"
    DEPARTURE_SOON = "DEPARTURE_SOON"
    NOT_AT_HOME = "NOT_AT_HOME"
    HOT_COMPUTE = "HOT_COMPUTE"
    HOT_CABIN = "HOT_CABIN"
    HOT_BATTERY = "HOT_BATTERY"
    LOW_12V = "LOW_12V"
    POWER_CAP = "POWER_CAP"
    TARIFF_UNKNOWN = "TARIFF_UNKNOWN"
    PRICE_BELOW_RESERVE = "PRICE_BELOW_RESERVE"
    NET_BELOW_MINIMUM = "NET_BELOW_MINIMUM"
    SETTLING = "SETTLING"


_PRIORITY = {code: position for position, code in enumerate(ReasonCode)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason, ready to be read."""

    code: ReasonCode
    message: str
    """Plain sentence with both numbers."""
    remedy: str
    """What would change it, plain sentence."""


def by_priority(reasons: list[Reason]) -> tuple[Reason, ...]:
    """Return the reasons, most important first."""
    return tuple(sorted(reasons, key=lambda reason: _PRIORITY[reason.code]))


def duration_text(seconds: float) -> str:
    """Return a duration as people say it: "45 s", "12 min", "3 h 05 min"."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"

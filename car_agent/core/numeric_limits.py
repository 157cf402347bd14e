"""Limits on numbers the car reports, each with a threshold to stop and another to start again.

A limit that stopped the car holds until its resume threshold is reached. A limit whose signal disappears
while it holds keeps holding. The battery reserve is stricter: it also holds when the level was never known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from car_agent.core.policy import Policy
from car_agent.core.reasons import Reason, ReasonCode
from car_agent.core.signals import VehicleSignals


@dataclass(frozen=True, slots=True)
class _Limit:
    """A number that stops on one side of a threshold and resumes on the other side of a second one."""

    code: ReasonCode
    signal: str
    stop_key: str
    resume_key: str
    stops_below: bool
    describe: Callable[[float, float], str]
    remedy: str


_LIMITS: Final[tuple[_Limit, ...]] = (
    _Limit(
        ReasonCode.SOC_BELOW_RESERVE,
        "soc_percent",
        "min_soc_percent",
        "resume_soc_percent",
        stops_below=True,
        describe=lambda value, resume: f"Waiting: battery {value:.0f} %, resumes at {resume:.0f} %.",
        remedy="It resumes by itself while the car charges; min_soc_percent sets the reserve.",
    ),
    _Limit(
        ReasonCode.HOT_BATTERY,
        "battery_temp_c",
        "max_battery_c",
        "resume_battery_c",
        stops_below=False,
        describe=lambda value, resume: f"Cooling: battery {value:.0f} °C, resumes at {resume:.0f} °C.",
        remedy="It resumes by itself; max_battery_c sets the limit.",
    ),
    _Limit(
        ReasonCode.HOT_CABIN,
        "cabin_temp_c",
        "max_cabin_c",
        "resume_cabin_c",
        stops_below=False,
        describe=lambda value, resume: f"Cooling: cabin {value:.0f} °C, resumes at {resume:.0f} °C.",
        remedy="It resumes by itself; max_cabin_c sets the limit.",
    ),
    _Limit(
        ReasonCode.HOT_COMPUTE,
        "compute_temp_c",
        "max_compute_c",
        "resume_compute_c",
        stops_below=False,
        describe=lambda value, resume: f"Cooling: computer {value:.0f} °C, resumes at {resume:.0f} °C.",
        remedy="It resumes by itself; max_compute_c sets the limit.",
    ),
    _Limit(
        ReasonCode.LOW_12V,
        "low_voltage_v",
        "min_low_voltage_v",
        "resume_low_voltage_v",
        stops_below=True,
        describe=lambda value, resume: f"Waiting: 12 V system at {value:.1f} V, resumes at {resume:.1f} V.",
        remedy="It resumes by itself while the car charges; a battery that stays low needs a check.",
    ),
    _Limit(
        ReasonCode.POWER_CAP,
        "battery_power_w",
        "min_battery_power_w",
        "resume_battery_power_w",
        stops_below=True,
        describe=lambda value, resume: f"Waiting: battery gets {value:.0f} W, resumes at {resume:.0f} W.",
        remedy="Charging comes first; a stronger charger, or a lower min_battery_power_w, helps.",
    ),
)


def limit_reasons(
    signals: VehicleSignals, policy: Policy, holding: frozenset[ReasonCode]
) -> tuple[list[Reason], frozenset[ReasonCode]]:
    """Apply every numeric limit with its hysteresis; return the reasons and what holds from now on."""
    reasons: list[Reason] = []
    held: set[ReasonCode] = set()
    for limit in _LIMITS:
        stop, resume = getattr(policy, limit.stop_key), getattr(policy, limit.resume_key)
        value = getattr(signals, limit.signal)
        if stop is None or resume is None or (limit.code is ReasonCode.SOC_BELOW_RESERVE and stop == 0):
            continue
        if value is None:
            # A limit whose signal went away keeps holding; the reserve holds also when it was never known.
            if limit.code is ReasonCode.SOC_BELOW_RESERVE:
                reasons.append(_unknown_reserve(signals, stop))
            elif limit.code in holding:
                reasons.append(_lost_signal(limit, signals))
            if limit.code in holding:
                held.add(limit.code)
            continue
        threshold = resume if limit.code in holding else stop
        blocked = value < threshold if limit.stops_below else value > threshold
        if blocked:
            held.add(limit.code)
            reasons.append(
                Reason(code=limit.code, message=limit.describe(value, resume), remedy=limit.remedy)
            )
    return reasons, frozenset(held)


def _unknown_reserve(signals: VehicleSignals, reserve: float) -> Reason:
    return Reason(
        code=ReasonCode.SOC_BELOW_RESERVE,
        message=f"{signals.source} does not report the battery level; the reserve is {reserve:.0f} %.",
        remedy="Use a source that reports it, or set min_soc_percent and resume_soc_percent to 0.",
    )


def _lost_signal(limit: _Limit, signals: VehicleSignals) -> Reason:
    return Reason(
        code=limit.code,
        message=f"{signals.source} stopped reporting {limit.signal} while its limit {limit.stop_key} held.",
        remedy="It resumes when the value is reported again and is within the limit.",
    )

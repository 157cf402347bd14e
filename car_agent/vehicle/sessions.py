"""Charging sessions drawn from a seed: a household car's weeks in the form of a script without end.

The shape follows published figures of home charging: about three plug-ins a week here made denser so that
a simulation has something to do, stays of hours, energies of some to some dozens of kWh, and charging that
ends long before the car leaves. It is meant for trying the agent, not for claims about real fleets.
"""

import itertools
import random
from collections.abc import Generator, Iterator
from typing import Final

from car_agent.core.signals import ChargeState, PlugState
from car_agent.vehicle.script import ScriptedChange

_BATTERY_KWH: Final = 60.0
_LIMIT_PERCENT: Final = 80.0
#: Exceeded by this share of home sessions, kWh: interpolated for a draw.
_ENERGY_KWH: Final = (
    (0.0, 1.5),
    (0.05, 1.8),
    (0.25, 8.2),
    (0.5, 19.4),
    (0.75, 35.8),
    (0.9, 40.0),
    (1.0, 45.0),
)
_CHARGER_W: Final = (3_700.0, 7_400.0, 7_400.0, 11_000.0)
_STARTING_S: Final = 20.0
_REPORT_EVERY_S: Final = 60.0


def charging_sessions(seed: int) -> Iterator[ScriptedChange]:
    """Yield the changes of endless charging sessions; the same seed gives the same car. Times in seconds."""
    # Chance here is a seeded simulation's, nothing secret.
    chance = random.Random(seed)  # noqa: S311
    at_s = chance.uniform(0.0, 60.0)
    while True:
        at_s = yield from _one_session(chance, at_s)


def _one_session(chance: random.Random, at_s: float) -> Generator[ScriptedChange, None, float]:
    """Yield one session from plugging in to the end of the drive after it; return when that is."""
    energy_kwh = _interpolated(chance.random())
    power_w = chance.choice(_CHARGER_W)
    soc = max(5.0, _LIMIT_PERCENT - energy_kwh / _BATTERY_KWH * 100)
    charge_s = (_LIMIT_PERCENT - soc) / 100 * _BATTERY_KWH * 3_600_000 / power_w
    stay_s = charge_s * chance.uniform(0.6, 4.0)
    yield ScriptedChange(
        at_s=at_s,
        values={
            "plug": PlugState.PLUGGED,
            "charge": ChargeState.STARTING,
            "moving": False,
            "discharging": False,
            "soc_percent": soc,
            "soc_limit_percent": _LIMIT_PERCENT,
            "at_home": True,
        },
    )
    leaves_s = at_s + _STARTING_S + stay_s
    now_s = at_s + _STARTING_S
    full_s = now_s + charge_s
    while now_s < min(full_s, leaves_s):
        done = (now_s - at_s - _STARTING_S) / charge_s
        yield ScriptedChange(
            at_s=now_s,
            values={
                "charge": ChargeState.CHARGING,
                "soc_percent": soc + (_LIMIT_PERCENT - soc) * done,
                "charge_power_w": power_w,
                "battery_power_w": power_w * 0.9,
                "eta_full_s": full_s - now_s,
            },
        )
        now_s += _REPORT_EVERY_S
    if full_s <= leaves_s:
        yield ScriptedChange(
            at_s=full_s,
            values={
                "charge": ChargeState.COMPLETE,
                "soc_percent": _LIMIT_PERCENT,
                "charge_power_w": 0.0,
                "battery_power_w": 0.0,
                "eta_full_s": 0.0,
            },
        )
    yield ScriptedChange(
        at_s=leaves_s,
        values={
            "plug": PlugState.UNPLUGGED,
            "charge": ChargeState.IDLE,
            "charge_power_w": 0.0,
            "battery_power_w": 0.0,
            "eta_full_s": None,
        },
    )
    drive_s = chance.uniform(600.0, 5_400.0)
    yield ScriptedChange(
        at_s=leaves_s + 30.0, values={"moving": True, "battery_power_w": -15_000.0, "at_home": False}
    )
    yield ScriptedChange(at_s=leaves_s + drive_s, values={"moving": False, "battery_power_w": 0.0})
    return leaves_s + drive_s + chance.uniform(60.0, 6 * 3_600.0)


def _interpolated(share: float) -> float:
    for (low, low_kwh), (high, high_kwh) in itertools.pairwise(_ENERGY_KWH):
        if share <= high:
            return low_kwh + (high_kwh - low_kwh) * (share - low) / (high - low)
    return _ENERGY_KWH[-1][1]

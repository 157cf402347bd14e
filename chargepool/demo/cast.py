"""Who plays in the demo, and what happens to their cars: all of it drawn from one seed."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SESSION_S = 900.0
LEVELS_S = 2.0


class Part(enum.StrEnum):
    """What a car is there to show."""

    HONEST = "honest"
    LIAR = "liar"
    UNPLUGGED = "unplugged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Car:
    """One car, its owner and its charging sessions."""

    name: str
    owner_name: str
    iban: str
    part: Part
    arrives_s: float
    """When it is plugged in, seconds after the agents start."""
    leaves_s: float | None
    """When it is unplugged for a while, by itself; None when it stays."""
    away_s: float
    """How long it is away then."""
    soc_percent: float
    charge_w: float
    watts: float
    """What its owner declares that computing draws: six cars on one machine cannot share its counters."""
    tariff: str
    """What its owner pays for electricity, as `tariff.toml`; empty when none was set."""


def _fixed(price: str) -> str:
    return f'kind = "fixed"\ncurrency = "EUR"\nprice_per_kwh = {price}\n'


_BY_THE_HOUR = """kind = "time-of-use"
currency = "EUR"
zone = "UTC"
price_per_kwh = 0.34
[[window]]
from = "22:00"
to = "06:00"
price_per_kwh = 0.18
"""
#: Name, owner, part, declared watts, tariff.
_ROLES = (
    ("aurora", "Ada Lindqvist", Part.HONEST, 65.0, _fixed("0.32")),
    ("borealis", "Ben Okafor", Part.HONEST, 45.0, _BY_THE_HOUR),
    ("cirrus", "Chiara Rossi", Part.HONEST, 150.0, _fixed("0.26")),
    ("dune", "Dmitri Volkov", Part.LIAR, 65.0, _fixed("0.30")),
    ("ember", "Emma Schulz", Part.UNPLUGGED, 30.0, _fixed("0.08")),
    ("fjord", "Finn Haugen", Part.HONEST, 65.0, ""),
)


def iban_of(account: int) -> str:
    """A German-format IBAN with right check digits for a bank code that no bank has."""
    bban = f"10000000{account:010d}"
    check = 98 - int(bban + "131400") % 97
    return f"DE{check:02d}{bban}"


def cast(seed: int) -> list[Car]:
    """The six cars of `seed`; the same seed gives the same sessions."""
    rng = np.random.default_rng(seed)
    cars = []
    for index, (name, owner, part, watts, tariff) in enumerate(_ROLES):
        leaves = float(rng.uniform(25.0, 40.0)) if part is Part.HONEST and index % 2 else None
        cars.append(
            Car(
                name=name,
                owner_name=owner,
                iban=iban_of(4_711_000 + index),
                part=part,
                arrives_s=float(rng.uniform(0.0, 2.0)),
                leaves_s=leaves,
                away_s=float(rng.uniform(4.0, 8.0)),
                soc_percent=float(np.round(rng.uniform(56.0, 74.0), 1)),
                charge_w=float(rng.choice([3_700.0, 7_400.0, 11_000.0])),
                watts=watts,
                tariff=tariff,
            )
        )
    return cars


def charging(car: Car, *, soc_percent: float) -> dict[str, Any]:
    """The signals of a car that charges."""
    return {
        "plug": "plugged",
        "charge": "charging",
        "discharging": False,
        "moving": False,
        "soc_percent": round(soc_percent, 1),
        "soc_limit_percent": 90.0,
        "charge_power_w": car.charge_w,
        "battery_power_w": car.charge_w * 0.9,
    }


def unplugged(*, soc_percent: float) -> dict[str, Any]:
    """The signals of a car that stands unplugged."""
    return {
        "plug": "unplugged",
        "charge": "idle",
        "discharging": False,
        "moving": False,
        "soc_percent": round(soc_percent, 1),
        "charge_power_w": 0.0,
        "battery_power_w": 0.0,
    }


def write_script(car: Car, path: Path) -> None:
    """Writes the car's sessions as a script for the agent's `simulated` source."""
    lines: list[dict[str, Any]] = [{"at_s": 0.0, "set": unplugged(soc_percent=car.soc_percent)}]
    at_s = car.arrives_s
    while at_s < SESSION_S:
        away = car.leaves_s is not None and car.leaves_s <= at_s < car.leaves_s + car.away_s
        soc = min(89.0, car.soc_percent + (at_s - car.arrives_s) * car.charge_w / 3.0e6)
        now = unplugged(soc_percent=soc) if away else charging(car, soc_percent=soc)
        lines.append({"at_s": round(at_s, 2), "set": now})
        at_s += LEVELS_S
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_signals(path: Path, signals: dict[str, Any]) -> None:
    """Replaces the file that the agent's `file` source reads, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(signals))
    fresh.replace(path)

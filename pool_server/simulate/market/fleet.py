"""The owners of a simulated month: their cars' computers, tariffs, wishes, and when they charge.

When cars come, how long they stay and how much they charge follows published statistics of home and workplace
charging (ElaadNL's open data; the tables below are its quantiles). Computers and owners' wishes are
assumptions. Nothing here depends on the price: the same seed has the same cars charging at the same times,
whatever the market does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import accumulate, pairwise
from random import Random
from typing import NamedTuple

from pool_protocol.money import PPM, ceil_div
from pool_server.core.forecast.energy import JOULES_PER_KWH
from pool_server.core.pricing.orders import PRICE_MICROS_PER_WU_MAX
from pool_server.simulate.market.tariffs import QUARTERS_PER_DAY, Tariff, fixed, night

HOUR_S = 3_600
DAY_S = 24 * HOUR_S
QUARTER_S = 900


class Computer(NamedTuple):
    """A kind of computer on board."""

    name: str
    weight: int
    """Its share of the fleet, percent."""
    speed_wu_per_s: float
    """What it keeps up, WU per second; 1 WU is 1e12 FLOP."""
    watts: int
    """What computing draws at the computer."""


#: Assumptions: what small and large computers of the kind keep up in single precision.
COMPUTERS = (
    Computer("infotainment", 25, 0.3, 35),
    Computer("driving, older", 35, 0.9, 70),
    Computer("driving, newer", 30, 3.0, 120),
    Computer("inference", 10, 9.0, 300),
)
#: From the computer to the wall: 90 % of the charger, 92 % of the converter.
WALL_PPM = 1_207_729

#: Arrivals by hour, per mille. ElaadNL, home on weekdays and weekends, workplace.
_HOME = (21, 5, 2, 1, 1, 1, 2, 6, 14, 11, 11, 15, 22, 22, 27, 37, 57, 121, 170, 115, 91, 89, 91, 66)
_HOME_WEEKEND = (41, 20, 8, 3, 2, 1, 1, 4, 9, 17, 30, 48, 60, 62, 62, 69, 88, 102, 79, 65, 68, 62, 58, 41)
_WORK = (0, 0, 0, 0, 1, 14, 43, 143, 267, 181, 77, 49, 54, 53, 40, 30, 20, 10, 6, 5, 3, 1, 1, 0)
#: Share of home arrivals that stay overnight, by hour, percent.
_OVERNIGHT = (85, 80, 70, 50, 30, 20, 15, 12, 10, 10, 10, 10, 12, 15, 25, 50, 58, 62, 68, 74, 80, 85, 88, 88)
#: (share of sessions below, value), interpolated between.
_HOME_KWH = (
    (0.0, 0.5),
    (0.05, 1.8),
    (0.1, 3.3),
    (0.25, 8.2),
    (0.5, 19.4),
    (0.75, 35.8),
    (0.95, 59.6),
    (1.0, 70.0),
)
_WORK_KWH = ((0.0, 0.5), (0.05, 1.4), (0.25, 5.4), (0.5, 8.8), (0.75, 16.7), (0.95, 31.9), (1.0, 45.0))
_WORK_STAY_H = ((0.0, 0.3), (0.1, 1.2), (0.25, 2.5), (0.5, 4.9), (0.75, 8.5), (0.9, 9.8), (1.0, 12.0))
_CHARGERS_W = (3_700, 7_400, 7_400, 11_000)
_PLUG_INS_PER_WEEK = 3.0
_SHARE_WORKPLACE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Vehicle:
    """One owner's car."""

    vehicle_id: str
    owner_id: str
    computer: Computer
    speed_uwu_per_s: int
    joules_per_kwu: int
    """At the wall, joules per 1,000 WU."""
    tariff: Tariff
    margin_ppm: int
    """What the owner wants over the cost of electricity, parts per million of it."""
    wish_micros_per_hour: int
    """What the owner wants for an hour of computing beside that."""
    reserves: tuple[int, ...]
    """The lowest posted price, micros per WU, by the quarter hour of the week."""
    charging: tuple[tuple[int, int], ...]
    """(quarter since the month began, seconds of it charging)."""

    def electricity_micros_per_kwu(self, quarter: int) -> int:
        """Return what electricity for 1,000 WU costs, micro-units, rounded up; may be negative."""
        return ceil_div(self.tariff.at(quarter) * self.joules_per_kwu, JOULES_PER_KWH)

    def limit_micros_per_kwu(self, quarter: int) -> int:
        """Return the least that the owner wants in hand for 1,000 WU: electricity, margin and wish."""
        electricity = self.electricity_micros_per_kwu(quarter)
        with_margin = electricity + ceil_div(max(0, electricity) * self.margin_ppm, PPM)
        wish = ceil_div(self.wish_micros_per_hour * 1_000 * PPM, self.speed_uwu_per_s * HOUR_S)
        return with_margin + wish


def draw_fleet(
    chance: Random, *, vehicles: int, days: int, tariff: Tariff | None, fee_ppm: int
) -> list[Vehicle]:
    """Draw the fleet. With a tariff all owners have it; without, 60 % a fixed one, 40 % a night rate."""
    return [
        _draw_vehicle(Random(chance.getrandbits(64)), number, days, tariff, fee_ppm)  # noqa: S311 - a simulation
        for number in range(vehicles)
    ]


def _draw_vehicle(chance: Random, number: int, days: int, tariff: Tariff | None, fee_ppm: int) -> Vehicle:
    (computer,) = chance.choices(COMPUTERS, [computer.weight for computer in COMPUTERS])
    speed = max(1, int(computer.speed_wu_per_s * chance.lognormvariate(0, 0.15) * 1_000_000))
    watts = computer.watts * chance.lognormvariate(0, 0.1)
    own = tariff or _draw_tariff(chance)
    waits_for_cheap_hours = not own.is_fixed and chance.random() < 0.6
    sessions = _sessions(chance, days, own if waits_for_cheap_hours else None)
    vehicle = Vehicle(
        vehicle_id=f"vehicle_{number:05d}",
        owner_id=f"owner_{number:05d}",
        computer=computer,
        speed_uwu_per_s=speed,
        joules_per_kwu=max(1, int(watts * WALL_PPM * 1_000 / speed)),
        tariff=own,
        margin_ppm=int(chance.uniform(0.1, 0.8) * PPM),
        wish_micros_per_hour=int(chance.uniform(0, 0.05) * 1_000_000),
        reserves=(),
        charging=tuple(_quarters(sessions, days)),
    )
    return _with_reserves(vehicle, fee_ppm)


def _with_reserves(vehicle: Vehicle, fee_ppm: int) -> Vehicle:
    """Work out the posted prices of which enough is left after the pool's fee."""
    by_tariff = {
        rate: ceil_div(vehicle.limit_micros_per_kwu(quarter) * PPM, 1_000 * (PPM - fee_ppm))
        for quarter, rate in enumerate(vehicle.tariff.micros_per_kwh)
    }
    reserves = tuple(
        min(max(0, by_tariff[rate]), PRICE_MICROS_PER_WU_MAX) for rate in vehicle.tariff.micros_per_kwh
    )
    return replace(vehicle, reserves=reserves)


def _draw_tariff(chance: Random) -> Tariff:
    day = Decimal(chance.randint(24, 40)) / 100
    if chance.random() < 0.6:
        return fixed(day)
    return night(day + Decimal("0.03"), Decimal(chance.randint(14, 22)) / 100)


def _sessions(chance: Random, days: int, cheap: Tariff | None) -> list[tuple[float, float]]:
    """Draw when a car charges: (start, end), seconds since the month began, in order, apart."""
    works_at_a_charger = chance.random() < _SHARE_WORKPLACE
    charger_w = chance.choice(_CHARGERS_W)
    sessions: list[tuple[float, float]] = []
    away_until = 0.0
    for day in range(-1, days):
        weekend = day % 7 >= 5
        if works_at_a_charger and not weekend and chance.random() < 0.4:
            arrives = _arrival(chance, day, _WORK)
            stay_s = _interpolated(chance, _WORK_STAY_H) * HOUR_S
            if arrives >= away_until:
                charge_s = min(stay_s, _interpolated(chance, _WORK_KWH) * JOULES_PER_KWH / 11_000)
                sessions.append((arrives, arrives + charge_s))
                away_until = arrives + stay_s + HOUR_S / 2
        if chance.random() >= _PLUG_INS_PER_WEEK / 7:
            continue
        arrives = _arrival(chance, day, _HOME_WEEKEND if weekend else _HOME)
        leaves = _leaves_home(chance, arrives)
        charge_s = min(leaves - arrives, _interpolated(chance, _HOME_KWH) * JOULES_PER_KWH / charger_w)
        if arrives < away_until:
            continue
        starts = arrives if cheap is None else _cheapest_start(cheap, arrives, leaves - charge_s, charge_s)
        sessions.append((starts, starts + charge_s))
        away_until = leaves + HOUR_S / 2
    return sessions


def _arrival(chance: Random, day: int, by_hour: Sequence[int]) -> float:
    (hour,) = chance.choices(range(24), by_hour)
    return day * DAY_S + (hour + chance.random()) * HOUR_S


def _leaves_home(chance: Random, arrives: float) -> float:
    hour = int(arrives % DAY_S // HOUR_S)
    if chance.random() * 100 >= _OVERNIGHT[hour]:
        return arrives + chance.lognormvariate(0.875, 0.9) * HOUR_S
    # Before five in the morning the night goes on; later it is the next one.
    morning = arrives // DAY_S + (0 if hour < 5 else 1)
    return max(arrives + HOUR_S / 2, morning * DAY_S + chance.gauss(8.6, 1.9) * HOUR_S)


def _cheapest_start(tariff: Tariff, earliest: float, latest: float, charge_s: float) -> float:
    """Return when a car that waits for cheap hours begins to charge: the earliest of the cheapest starts."""
    first = int(earliest // QUARTER_S)
    starts = [
        earliest,
        *((first + 1 + n) * QUARTER_S for n in range(max(0, int(latest // QUARTER_S) - first))),
    ]
    length = max(1, round(charge_s / QUARTER_S))
    prices = [tariff.at(quarter) for quarter in range(first, first + len(starts) + length)]
    sums = [0, *accumulate(prices)]
    costs = [sums[place + length] - sums[place] for place in range(len(starts))]
    return starts[costs.index(min(costs))]


def _interpolated(chance: Random, table: Sequence[tuple[float, float]]) -> float:
    share = chance.random()
    for (low_share, low), (high_share, high) in pairwise(table):
        if share <= high_share:
            return low + (high - low) * (share - low_share) / (high_share - low_share)
    return table[-1][1]


def _quarters(sessions: Sequence[tuple[float, float]], days: int) -> Iterator[tuple[int, int]]:
    """Cut sessions into quarter hours of the month."""
    seconds: dict[int, float] = {}
    for start, end in sessions:
        for quarter in range(int(start // QUARTER_S), int(end // QUARTER_S) + 1):
            inside = min(end, (quarter + 1) * QUARTER_S) - max(start, quarter * QUARTER_S)
            seconds[quarter] = seconds.get(quarter, 0.0) + inside
    for quarter in sorted(seconds):
        if 0 <= quarter < days * QUARTERS_PER_DAY and seconds[quarter] >= 1:
            yield quarter, int(seconds[quarter])

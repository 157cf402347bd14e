"""What a kilowatt-hour costs an owner, by the quarter hour of the week: fixed, or by time of use."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import MICROS_PER_UNIT

QUARTERS_PER_HOUR = 4
QUARTERS_PER_DAY = 24 * QUARTERS_PER_HOUR
QUARTERS_PER_WEEK = 7 * QUARTERS_PER_DAY
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: A tariff beyond this is a mistake, in any currency that a pool would keep: 1,000 units per kWh.
_PER_KWH_MAX = 1_000
_FILE_BYTES_MAX = 100_000
_TIME = re.compile(r"([01]\d|2[0-3]):(00|15|30|45)|24:00")
_EXAMPLE = """Write it like this (TOML, prices in the pool's currency per kWh):
per_kwh = 0.34
[[period]]
days = ["mon", "tue", "wed", "thu", "fri"]   # optional: every day
from = "22:00"
to = "06:00"
per_kwh = 0.18"""


@dataclass(frozen=True)
class Tariff:
    """Micro-units per kWh for each quarter hour of a week that begins on Monday; valid once built."""

    name: str
    micros_per_kwh: tuple[int, ...]

    @cached_property
    def is_fixed(self) -> bool:
        """Whether it costs the same at all times."""
        return len(set(self.micros_per_kwh)) == 1

    def at(self, quarter: int) -> int:
        """Return what a kWh costs in a quarter hour, counted from a Monday's midnight; micro-units."""
        return self.micros_per_kwh[quarter % QUARTERS_PER_WEEK]


def fixed(per_kwh: Decimal, *, name: str = "fixed") -> Tariff:
    """Return a tariff that costs the same at all times, in currency per kWh.

    Raises:
        PoolError: INVALID_ARGUMENT for a price out of bounds.
    """
    return Tariff(name, (_micros(per_kwh),) * QUARTERS_PER_WEEK)


def night(day_per_kwh: Decimal, night_per_kwh: Decimal, *, name: str = "night rate") -> Tariff:
    """Return a tariff that is cheaper from 22:00 to 06:00.

    Raises:
        PoolError: INVALID_ARGUMENT for a price out of bounds.
    """
    rates = [_micros(day_per_kwh)] * QUARTERS_PER_WEEK
    _fill(rates, DAYS, "22:00", "06:00", _micros(night_per_kwh))
    return Tariff(name, tuple(rates))


def read_tariff(text: str) -> Tariff:
    """Return the tariff that an option names: a number, or a TOML file.

    Raises:
        PoolError: INVALID_ARGUMENT for a file that says no tariff, NOT_FOUND for what is neither number nor
            file.
    """
    if re.fullmatch(r"\d+([.,]\d+)?", text):
        return fixed(Decimal(text.replace(",", ".")), name=f"fixed {text}")
    path = Path(text)
    try:
        data = path.read_bytes()[: _FILE_BYTES_MAX + 1]
    except OSError as error:
        raise PoolError(
            ErrorCode.NOT_FOUND,
            f"the tariff {text!r} is neither a price per kWh nor a file that can be read: {error.strerror}",
            advice="Give a number such as 0.30, or a file.\n" + _EXAMPLE,
        ) from error
    if len(data) > _FILE_BYTES_MAX:
        raise _refused(f"{path.name} is longer than {_FILE_BYTES_MAX} bytes")
    try:
        table = tomllib.loads(data.decode(), parse_float=Decimal)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _refused(f"{path.name} is no TOML: {error}") from error
    return _from_table(table, name=path.stem)


def _from_table(table: Mapping[str, Any], *, name: str) -> Tariff:
    _require_keys(table, {"per_kwh", "period"}, where="the file")
    rates = [_micros(_number(table, where="the file"))] * QUARTERS_PER_WEEK
    periods = table.get("period", [])
    if not isinstance(periods, list):
        raise _refused("`period` is written [[period]]")
    for number, period in enumerate(periods, start=1):
        where = f"period {number}"
        if not isinstance(period, dict):
            raise _refused("`period` is written [[period]]")
        _require_keys(period, {"days", "from", "to", "per_kwh"}, where=where)
        days = period.get("days", list(DAYS))
        if not isinstance(days, list) or not days or not set(map(str, days)) <= set(DAYS):
            raise _refused(f"{where}: days are of {', '.join(DAYS)}")
        start, end = str(period.get("from")), str(period.get("to"))
        if not (_TIME.fullmatch(start) and _TIME.fullmatch(end)):
            raise _refused(f"{where}: `from` and `to` are quarter hours from 00:00 to 24:00")
        _fill(rates, days, start, end, _micros(_number(period, where=where)))
    return Tariff(name, tuple(rates))


def _fill(rates: list[int], days: Sequence[str], start: str, end: str, micros: int) -> None:
    """Set a period of each day; one that ends no later than it starts goes on into the next day."""
    first, last = _quarter(start), _quarter(end)
    length = (last - first) % QUARTERS_PER_DAY or QUARTERS_PER_DAY
    for day in days:
        begins = DAYS.index(day) * QUARTERS_PER_DAY + first
        for quarter in range(begins, begins + length):
            rates[quarter % QUARTERS_PER_WEEK] = micros


def _quarter(time: str) -> int:
    hour, minute = time.split(":")
    return int(hour) * QUARTERS_PER_HOUR + int(minute) * QUARTERS_PER_HOUR // 60


def _number(table: Mapping[str, Any], *, where: str) -> Decimal:
    number = table.get("per_kwh")
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        raise _refused(f"{where} needs `per_kwh`, a number")
    return Decimal(number)


def _require_keys(table: Mapping[str, Any], known: set[str], *, where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise _refused(f"{where} has {', '.join(unknown)}, which is not known")


def _micros(per_kwh: Decimal) -> int:
    if not (per_kwh.is_finite() and 0 <= per_kwh <= _PER_KWH_MAX):
        raise _refused(f"a kWh costs 0 to {_PER_KWH_MAX}, not {per_kwh}")
    return int(per_kwh * MICROS_PER_UNIT)


def _refused(why: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"the tariff cannot be used: {why}", advice=_EXAMPLE)

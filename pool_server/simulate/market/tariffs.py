"""What a kilowatt-hour costs an owner, by the quarter hour of the week: fixed, or by time of use.

Files are those that the agent reads (`car-agent tariff`): kind, price_per_kwh, and windows of weekdays and
hours, of which the first that holds counts. The simulated week is local time, so a time zone says nothing
here; nor is there a live price to read.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import MICROS_PER_UNIT

QUARTERS_PER_HOUR = 4
QUARTERS_PER_DAY = 24 * QUARTERS_PER_HOUR
QUARTERS_PER_WEEK = 7 * QUARTERS_PER_DAY
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTES_PER_QUARTER = 15
_MINUTES_PER_DAY = 24 * 60
#: A tariff beyond this, up or down, is a mistake in any currency.
_PER_KWH_MAX = 100_000
_FILE_BYTES_MAX = 100_000
_TIME = re.compile(r"(?:([01]?\d|2[0-3]):([0-5]\d))|24:00")
_KEYS = {
    "fixed": {"kind", "currency", "price_per_kwh"},
    "time-of-use": {"kind", "currency", "price_per_kwh", "zone", "window"},
}
_WINDOW_KEYS = {"days", "from", "to", "price_per_kwh"}
_EXAMPLE = """A tariff file is written as for the agent (TOML, the price in the pool's currency):
kind = "time-of-use"
price_per_kwh = 0.34          # whenever no window holds
[[window]]
days = "mon-fri"              # left out: every day
from = "22:00"
to = "06:00"                  # of the next morning
price_per_kwh = 0.18"""


@dataclass(frozen=True)
class Tariff:
    """Micro-units per kWh for each quarter hour of a week from Monday on; negative where a tariff is."""

    name: str
    micros_per_kwh: tuple[int, ...]

    @cached_property
    def is_fixed(self) -> bool:
        """Whether it costs the same at all times."""
        return len(set(self.micros_per_kwh)) == 1

    def at(self, quarter: int) -> int:
        """Return what a kWh costs in a quarter hour, counted from a Monday's midnight; micro-units."""
        return self.micros_per_kwh[quarter % QUARTERS_PER_WEEK]


@dataclass(frozen=True, slots=True)
class _Window:
    days: frozenset[int]
    start_minute: int
    end_minute: int
    micros_per_kwh: int

    def holds(self, day: int, minute: int) -> bool:
        """Whether it holds at a minute of a day; past midnight the evening's day counts."""
        if self.start_minute < self.end_minute:
            return day in self.days and self.start_minute <= minute < self.end_minute
        yesterday = (day - 1) % 7
        return (day in self.days and minute >= self.start_minute) or (
            yesterday in self.days and minute < self.end_minute
        )


def fixed(per_kwh: Decimal, *, name: str = "fixed") -> Tariff:
    """Return a tariff that costs the same at all times, in currency per kWh.

    Raises:
        PoolError: INVALID_ARGUMENT for a price out of bounds.
    """
    return Tariff(name, (_micros(per_kwh),) * QUARTERS_PER_WEEK)


def night(day_per_kwh: Decimal, night_per_kwh: Decimal, *, name: str = "night rate") -> Tariff:
    """Return a tariff that has another price from 22:00 to 06:00.

    Raises:
        PoolError: INVALID_ARGUMENT for a price out of bounds.
    """
    window = _Window(frozenset(range(7)), 22 * 60, 6 * 60, _micros(night_per_kwh))
    return _by_windows(name, _micros(day_per_kwh), [window])


def read_tariff(text: str, *, currency: str) -> Tariff:
    """Return the tariff that an option names: a number, or a file as the agent reads.

    Raises:
        PoolError: INVALID_ARGUMENT for a file that says no tariff, or one in another currency; NOT_FOUND for
            what is neither number nor file.
    """
    if re.fullmatch(r"\d{1,6}([.,]\d{1,9})?", text):
        return fixed(Decimal(text.replace(",", ".")), name=f"fixed {text}")
    path = Path(text)
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise PoolError(
            ErrorCode.NOT_FOUND,
            f"the tariff {text!r} is neither a price per kWh nor a file that can be read: {why}",
            advice=f"Give a number such as 0.30, or a file.\n{_EXAMPLE}",
        ) from error
    if len(data) > _FILE_BYTES_MAX:
        raise _refused(f"{path.name} is longer than {_FILE_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(data.decode(), parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise _refused(f"{path.name} is no TOML: {error}") from error
    if document.get("currency", currency) != currency:
        raise _refused(f"{path.name} is in {document['currency']}, the month in {currency}: see --currency")
    return _from_document(document, name=path.stem)


def _from_document(document: Mapping[str, Any], *, name: str) -> Tariff:
    kind = document.get("kind")
    if kind not in _KEYS:
        raise _refused(f"`kind` is one of {', '.join(_KEYS)}; a live price cannot be simulated")
    _require_keys(document, _KEYS[kind], where="the file")
    windows = document.get("window", [])
    if not isinstance(windows, list) or not all(isinstance(window, dict) for window in windows):
        raise _refused("each window is written [[window]]")
    return _by_windows(
        name,
        _price(document, where="the file"),
        [_window(window, where=f"window {number}") for number, window in enumerate(windows, start=1)],
    )


def _by_windows(name: str, base_micros: int, windows: list[_Window]) -> Tariff:
    rates = []
    for quarter in range(QUARTERS_PER_WEEK):
        day, minute = divmod(quarter * _MINUTES_PER_QUARTER, _MINUTES_PER_DAY)
        holding = [window.micros_per_kwh for window in windows if window.holds(day, minute)]
        rates.append(holding[0] if holding else base_micros)
    return Tariff(name, tuple(rates))


def _window(window: Mapping[str, Any], *, where: str) -> _Window:
    _require_keys(window, _WINDOW_KEYS, where=where)
    start, end = (_minute(window.get(key), where=f"{where}, `{key}`") for key in ("from", "to"))
    if start == _MINUTES_PER_DAY:
        raise _refused(f"{where} begins before 24:00")
    days = _days(window.get("days", "mon-sun"), where=where)
    return _Window(days, start, end or _MINUTES_PER_DAY, _price(window, where=where))


def _days(given: object, *, where: str) -> frozenset[int]:
    """Read "mon-fri", "sat", or a list of such."""
    parts = [given] if isinstance(given, str) else given
    if not isinstance(parts, list) or not parts:
        raise _refused(f'{where}: `days` is "mon-fri", "sat", or a list of such')
    days: set[int] = set()
    for part in parts:
        first, dash, last = part.partition("-") if isinstance(part, str) else ("", "", "")
        if first not in DAYS or (dash and last not in DAYS):
            raise _refused(
                f"{where}: {str(part)[:40]!r} is no weekday such as mon, and no range such as mon-fri"
            )
        start = DAYS.index(first)
        span = (DAYS.index(last) - start) % 7 if dash else 0
        days.update((start + offset) % 7 for offset in range(span + 1))
    return frozenset(days)


def _minute(given: object, *, where: str) -> int:
    found = _TIME.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise _refused(f"{where} is a time such as 22:00, not {str(given)[:20]!r}")
    if found[1] is None:
        return _MINUTES_PER_DAY
    return int(found[1]) * 60 + int(found[2])


def _price(table: Mapping[str, Any], *, where: str) -> int:
    price = table.get("price_per_kwh")
    if isinstance(price, bool) or not isinstance(price, int | Decimal):
        raise _refused(f"{where} needs `price_per_kwh`, a number")
    return _micros(Decimal(price))


def _micros(per_kwh: Decimal) -> int:
    if not (per_kwh.is_finite() and -_PER_KWH_MAX <= per_kwh <= _PER_KWH_MAX):
        raise _refused(f"{str(per_kwh)[:20]} per kWh is no price of electricity")
    return int((per_kwh * MICROS_PER_UNIT).to_integral_value(rounding=ROUND_HALF_UP))


def _require_keys(table: Mapping[str, Any], known: set[str], *, where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise _refused(f"{where} has {', '.join(unknown)[:80]}, which is not known there")


def _refused(why: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"the tariff cannot be used: {why}", advice=_EXAMPLE)

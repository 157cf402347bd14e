"""Reads what an owner writes about the price of electricity: `tariff.toml`, and the file it may point to.

Nothing here touches a disk. What is wrong is refused with the key named. Prices are read as decimal numbers
and kept as whole micro-units, to the nearest.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from car_agent.core.tariff import MINUTES_PER_DAY, FixedTariff, NoTariff, TimeOfUseTariff, Window
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import TARIFF_MICROS_PER_KWH_MAX
from pool_protocol.money import MICROS_PER_UNIT

KINDS: Final = ("fixed", "time-of-use", "file")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOWS_MAX: Final = 200
_KEYS: Final = {
    "fixed": {"kind", "currency", "price_per_kwh"},
    "time-of-use": {"kind", "currency", "price_per_kwh", "zone", "window"},
    "file": {"kind", "currency", "path", "fresh_for_s", "fallback_per_kwh"},
}
_WINDOW_KEYS: Final = {"days", "from", "to", "price_per_kwh"}
_FRESH_FOR_S: Final = 3_900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTariffText:
    """Where a price is read from, again and again."""

    currency: str
    path: str
    fresh_for_s: float
    """How long its content counts after it was written."""
    fallback_micros_per_kwh: int | None
    """What counts when it is missing, wrong or old; None then knows no price."""


TariffText = NoTariff | FixedTariff | TimeOfUseTariff | FileTariffText


def parse_tariff(text: str) -> TariffText:
    """Read `tariff.toml`.

    Raises:
        PoolError: INVALID_ARGUMENT naming the key.
    """
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"the tariff is not TOML: {error}") from error
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        _refuse("kind", f"say one of {', '.join(KINDS)}")
    for key in document:
        if key not in _KEYS[kind]:
            _refuse(key, f"a tariff of kind {kind} has no such key; it has {', '.join(sorted(_KEYS[kind]))}")
    currency = _currency(document)
    if kind == "fixed":
        return FixedTariff(currency=currency, micros_per_kwh=_price(document, "price_per_kwh"))
    if kind == "time-of-use":
        return _time_of_use(document, currency)
    return FileTariffText(
        currency=currency,
        path=_text(document, "path"),
        fresh_for_s=_seconds(document, "fresh_for_s", default=_FRESH_FOR_S),
        fallback_micros_per_kwh=(
            _price(document, "fallback_per_kwh") if "fallback_per_kwh" in document else None
        ),
    )


def parse_price_file(content: bytes, *, currency: str) -> int:
    """Read the file that a tariff of kind `file` points to: `{"price_per_kwh": 0.27}`, or the number alone.

    Raises:
        PoolError: INVALID_ARGUMENT when it says no price, or one in another currency.
    """
    try:
        found = json.loads(content, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"it is not JSON: {error}") from error
    if not isinstance(found, dict):
        found = {"price_per_kwh": found}
    if found.get("currency", currency) != currency:
        _refuse("currency", f"it is not in {currency}")
    return _price(found, "price_per_kwh")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no price")


def _time_of_use(document: Mapping[str, Any], currency: str) -> TimeOfUseTariff:
    zone_name = _text(document, "zone")
    try:
        # Small systems have no table of time zones; this one needs none.
        zone: tzinfo = UTC if zone_name == "UTC" else ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _refusal("zone", f"{zone_name!r} is no time zone such as Europe/Berlin") from error
    windows = document.get("window", [])
    if not isinstance(windows, list) or not all(isinstance(window, dict) for window in windows):
        _refuse("window", "write each as [[window]]")
    if len(windows) > _WINDOWS_MAX:
        _refuse("window", f"there are at most {_WINDOWS_MAX}")
    return TimeOfUseTariff(
        currency=currency,
        zone=zone,
        zone_name=zone_name,
        base_micros_per_kwh=_price(document, "price_per_kwh"),
        windows=tuple(_window(window) for window in windows),
    )


def _window(window: Mapping[str, Any]) -> Window:
    for key in window:
        if key not in _WINDOW_KEYS:
            _refuse(key, f"a window has no such key; it has {', '.join(sorted(_WINDOW_KEYS))}")
    start, end = _minute(window, "from"), _minute(window, "to")
    if start == MINUTES_PER_DAY:
        _refuse("from", "a window begins before 24:00")
    return Window(
        days=_weekdays(window),
        start_minute=start,
        end_minute=end or MINUTES_PER_DAY,
        micros_per_kwh=_price(window, "price_per_kwh"),
    )


def _weekdays(window: Mapping[str, Any]) -> frozenset[int]:
    """Read `"mon-fri"`, `"sat"`, or a list of such; without it every day."""
    given = window.get("days", "mon-sun")
    parts = [given] if isinstance(given, str) else given
    days: set[int] = set()
    if not isinstance(parts, list) or not parts:
        _refuse("days", 'write "mon-fri", "sat", or a list of such')
    for part in parts:
        first, dash, last = part.partition("-") if isinstance(part, str) else ("", "", "")
        if first not in _DAYS or (dash and last not in _DAYS):
            _refuse("days", f"{str(part)[:40]!r} is not a weekday such as mon, or a range such as mon-fri")
        start = _DAYS.index(first)
        span = (_DAYS.index(last) - start) % len(_DAYS) if dash else 0
        days.update((start + offset) % len(_DAYS) for offset in range(span + 1))
    return frozenset(days)


def _minute(window: Mapping[str, Any], key: str) -> int:
    """Read `"22:00"`; `"24:00"` is the end of the day."""
    text = _text(window, key)
    hours, colon, minutes = text.partition(":")
    is_time = colon and len(minutes) == 2 and (hours + minutes).isascii() and (hours + minutes).isdigit()
    total = int(hours) * 60 + int(minutes) if is_time and len(hours) <= 2 else -1
    if not 0 <= total <= MINUTES_PER_DAY or int(minutes) > 59:
        _refuse(key, f"{text[:20]!r} is not a time such as 22:00")
    return total


def _currency(document: Mapping[str, Any]) -> str:
    currency = _text(document, "currency")
    if len(currency) != 3 or not (currency.isascii() and currency.isalpha() and currency.isupper()):
        _refuse("currency", f"{currency[:20]!r} is not an ISO 4217 code such as EUR")
    return currency


def _price(document: Mapping[str, Any], key: str) -> int:
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        _refuse(key, "write a number of units of the currency per kWh, such as 0.32")
    price = Decimal(value)
    limit = TARIFF_MICROS_PER_KWH_MAX // MICROS_PER_UNIT
    if not price.is_finite() or not -limit <= price <= limit:  # `abs` would overflow where this does not
        _refuse(key, f"{str(value)[:20]} per kWh is no price of electricity")
    return int((price * MICROS_PER_UNIT).to_integral_value(rounding=ROUND_HALF_UP))


def _seconds(document: Mapping[str, Any], key: str, *, default: float) -> float:
    value = document.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        _refuse(key, "write a number of seconds")
    seconds = float(value)
    if not 1 <= seconds <= 7 * 86_400:
        _refuse(key, "it is 1 second to a week")
    return seconds


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        _refuse(key, "it is missing, or no text")
    return value


def _refusal(key: str, detail: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"tariff key {key}: {detail}", context={"field": key})


def _refuse(key: str, detail: str) -> NoReturn:
    raise _refusal(key, detail)

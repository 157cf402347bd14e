"""Words for numbers, times and money; one place each. All functions are pure.

`clean` is the gate for text from the network. `money` is the only way an amount is written; its
digits come from `pool_protocol.amounts`, in the locale of the account.
"""

import unicodedata
from datetime import UTC, datetime, tzinfo

from pool_protocol import amounts
from pool_protocol.money import MICROS_PER_CENT, ceil_div

SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86_400
MILLIJOULES_PER_WATT_HOUR = 3_600_000
MICROSECONDS_PER_SECOND = 1_000_000

#: A sentence from the network is cut here; a panel is narrower anyway.
TEXT_CHARACTERS_MAX = 240
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ELLIPSIS = "…"
_SPARKS = "▁▂▃▄▅▆▇█"
#: Months and days in English whatever the locale: the rest of the screen is English too.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def clean(text: str, *, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """Make text from the network safe to show: one line, no control or direction characters, bounded."""
    shown = "".join(_clean_character(character) for character in text[: characters_max + 1])
    return shown if len(shown) <= characters_max else shown[: characters_max - 1] + _ELLIPSIS


def _clean_character(character: str) -> str:
    if character in "\n\r\t":
        return " "
    # C*: control, format (direction overrides, zero width), surrogate, private, unassigned; Z*: line ends
    category = unicodedata.category(character)
    if category[0] == "C" or category in {"Zl", "Zp"}:
        return _REPLACEMENT
    return character


def shorten(text: str, characters_max: int) -> str:
    """Cut our own text to a width, with an ellipsis."""
    return text if len(text) <= characters_max else text[: max(0, characters_max - 1)] + _ELLIPSIS


def short_id(identifier: str, *, characters: int = 8) -> str:
    """Shorten an id or a digest, keeping its visible prefix: `vehicle_ab12cd34…`."""
    text = clean(identifier)
    prefix, separator, body = text.rpartition("_")
    if len(body) <= characters:
        return text
    return f"{prefix}{separator}{body[:characters]}{_ELLIPSIS}"


def money(amount_micros: int, currency: str, *, cents: bool = False) -> str:
    """Write an amount: two decimals when it is large or whole cents, up to six when they matter.

    Cut towards zero, never rounded up: the screen must not promise more than the ledger holds.

    Args:
        amount_micros: What to write.
        currency: ISO 4217 code, or nothing where the column says it.
        cents: Two decimals even for a middling amount; an amount below a cent is still written out.
    """
    return amounts.brief(amount_micros, clean(currency, characters_max=8), in_cents=cents)


def shown_cents(amount_micros: int) -> int:
    """Cut an amount to what two decimals show, towards zero."""
    cut = abs(amount_micros) // MICROS_PER_CENT * MICROS_PER_CENT
    return cut if amount_micros >= 0 else -cut


def signed_money(amount_micros: int, currency: str) -> str:
    """Write a change: `+0.12 EUR`, `-3.00 EUR`."""
    return money(amount_micros, currency) if amount_micros < 0 else f"+{money(amount_micros, currency)}"


def price_per_wu(price_micros_per_wu: int, currency: str) -> str:
    """Write a price: `0.0012 EUR/WU`."""
    return f"{money(price_micros_per_wu, currency)}/WU"


def power(watts: float) -> str:
    """Write a power: `85 W`, `7.4 kW`."""
    return f"{watts / 1000:.1f} kW" if abs(watts) >= 1000 else f"{watts:.0f} W"


def kwh(energy_mj: int) -> str:
    """Write an energy: `0.412 kWh`, `27 kWh`; below a thousandth in watt-hours, `0.29 Wh`."""
    hours = energy_mj / MILLIJOULES_PER_WATT_HOUR
    if hours < 1:
        return f"{hours:.2f} Wh"
    return f"{hours / 1000:.3f} kWh" if hours < 10_000 else f"{hours / 1000:,.0f} kWh"


def metered(source: str) -> str:
    """Say how an energy was found: `measured`, `declared` (by the owner), or `mixed`."""
    return source if source in {"declared", "mixed"} else "measured"


def percent(value: float) -> str:
    """Write a percentage that is already 0 to 100."""
    return f"{value:.0f} %"


def milliseconds(value_ms: float) -> str:
    """Write a measured time: `84 ms`, `1.2 s`."""
    return f"{value_ms / 1000:.1f} s" if value_ms >= 1000 else f"{value_ms:.0f} ms"


def duration(seconds: float) -> str:
    """Write a duration with its two largest units: `45 s`, `12 min`, `3 h 12 min`, `2 d 4 h`."""
    whole = max(0, int(seconds))
    if whole < SECONDS_PER_MINUTE:
        return f"{whole} s"
    if whole < SECONDS_PER_HOUR:
        return f"{whole // SECONDS_PER_MINUTE} min"
    if whole < SECONDS_PER_DAY:
        hours, rest = divmod(whole, SECONDS_PER_HOUR)
        minutes = rest // SECONDS_PER_MINUTE
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, rest = divmod(whole, SECONDS_PER_DAY)
    hours = rest // SECONDS_PER_HOUR
    return f"{days} d {hours} h" if hours else f"{days} d"


def ago(age_us: int, *, coarse: bool = False) -> str:
    """Write an age: `now` below a second, then `12 s ago`. A clock that is behind makes no negative ages.

    `coarse` keeps the largest unit only, for narrow columns.
    """
    if age_us < MICROSECONDS_PER_SECOND:
        return "now"
    age = duration(age_us / MICROSECONDS_PER_SECOND)
    return f"{' '.join(age.split()[:2]) if coarse else age} ago"


def local(at_us: int, zone: tzinfo | None) -> datetime:
    """Return a moment in the reader's zone; `None` is the machine's own."""
    return datetime.fromtimestamp(at_us / MICROSECONDS_PER_SECOND, UTC).astimezone(zone)


def clock_time(at_us: int, zone: tzinfo | None) -> str:
    """Write the time of day: `06:40`."""
    return f"{local(at_us, zone):%H:%M}"


def day(at_us: int, zone: tzinfo | None) -> str:
    """Write the date: `12 Nov 2026`."""
    at = local(at_us, zone)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


def moment(at_us: int, zone: tzinfo | None, *, now_us: int) -> str:
    """Write a moment as short as it is clear: the time today, with the date on other days."""
    at, now = local(at_us, zone), local(now_us, zone)
    if at.date() == now.date():
        return f"{at:%H:%M}"
    year = "" if at.year == now.year else f" {at.year}"
    return f"{at.day} {_MONTHS[at.month - 1]}{year} {at:%H:%M}"


def bar(share: float, *, width: int) -> str:
    """Draw a share of 0 to 1 as a bar of `width` cells; full only when it is full."""
    filled = min(width, max(0, int(share * width)))
    return "█" * filled + "░" * (width - filled)


def sparkline(values: list[int]) -> str:
    """Draw amounts as one character each, scaled to the largest; nothing earned is a dot, never a bar."""
    top = max(values, default=0)
    if top <= 0:
        return "·" * len(values)
    return "".join(
        "·" if value <= 0 else _SPARKS[ceil_div(value * len(_SPARKS), top) - 1] for value in values
    )


def count(number: int, singular: str, plural: str = "") -> str:
    """Write a number of things: `1 task`, `1,204 tasks`."""
    noun = singular if number == 1 else plural or f"{singular}s"
    return f"{number:,} {noun}"


def sentence(text: str) -> str:
    """End a sentence with a full stop if it has no end of its own."""
    stripped = text.rstrip()
    return stripped if not stripped or stripped[-1] in ".!?…" else f"{stripped}."

"""Amounts, work and dates as text: the one place where micro-units become digits that a person reads.

Two forms, and no third. `decimal` is for machines: six decimals, a point, no grouping, whatever the locale;
files and JSON use it. `amount` is for people: grouping, decimal mark and minus sign of a locale (CLDR, by
babel), and behind the number the currency's ISO code, in every locale, because a "$" names six currencies.
Digits are cut towards zero, never rounded: nothing promises more than the ledger holds. No float is made on
the way.

The locale is an argument, or the one that the program chose with `use_locale` (the account's own, see
`account set --locale`). A locale that is not known is refused where somebody sets it
(`parse_locale`); where somebody only reads, it falls back to English as written in Europe
(`locale_or_fallback`): 1,234.56 EUR, 25 Nov 2026.

Not for cars: an agent has no babel. What an amount is worth is decided elsewhere (`pool_protocol.money`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import NumberPattern, parse_pattern

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import MICROS_PER_CENT, MICROS_PER_UNIT, format_micros, format_wu

#: Where nobody said otherwise, and where what somebody said is not known (any more).
FALLBACK_LOCALE = "en_GB"
DECIMALS_MAX = 6
_MICROSECONDS = 1_000_000
_LOCALE_CHARACTERS_MAX = 32
_LOCALE_TEXT = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*", re.ASCII)
_COUNTRY_TEXT = re.compile(r"[A-Za-z]{2}", re.ASCII)
#: Territories of CLDR that are no countries: unions, and codes for what is unknown or only for tests.
_NO_COUNTRIES = frozenset({"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"})
#: Direction marks that some locales put beside a minus sign; a table of figures has one direction.
_DIRECTION_MARKS = re.compile("[\u200e\u200f\u061c]")
_NARROW_SPACE, _SPACE = "\u202f", "\u00a0"

_locale: ContextVar[str | None] = ContextVar("locale", default=None)


class _Process:
    """What `use_locale` chose: for every thread, which a context variable is not."""

    locale = FALLBACK_LOCALE


# --- locales ------------------------------------------------------------------------------------


def parse_locale(text: str) -> str:
    """Return a locale as it is kept: `de-de` -> `de_DE`.

    Raises:
        PoolError: INVALID_ARGUMENT when CLDR, as shipped with babel, does not have it.
    """
    if len(text) <= _LOCALE_CHARACTERS_MAX and _LOCALE_TEXT.fullmatch(text):
        try:
            return str(Locale.parse(text.replace("-", "_")))
        except (UnknownLocaleError, ValueError):
            pass
    raise PoolError(
        ErrorCode.INVALID_ARGUMENT,
        "a locale is written like de_DE or en_GB: a language and a country",
        context={"field": "locale"},
    )


def locale_or_fallback(text: str) -> str:
    """Return a locale that can be used: the given one if it is known, else `FALLBACK_LOCALE`."""
    try:
        return parse_locale(text)
    except PoolError:
        return FALLBACK_LOCALE


def parse_country(text: str) -> str:
    """Return a country's ISO 3166 code in upper case: `de` -> `DE`.

    Raises:
        PoolError: INVALID_ARGUMENT when there is no such country.
    """
    # Judged before it is made upper: "ß" would become "SS", which is South Sudan.
    if _COUNTRY_TEXT.fullmatch(text):
        code = text.upper()
        if code not in _NO_COUNTRIES and code in _locale_of("en").territories:
            return code
    raise PoolError(
        ErrorCode.INVALID_ARGUMENT,
        "a country is two letters of ISO 3166, like DE or US",
        context={"field": "country"},
    )


def use_locale(text: str) -> None:
    """Write amounts and dates of this process as a locale does, if it is known: a program has one account."""
    _Process.locale = locale_or_fallback(text)


@contextmanager
def in_locale(text: str) -> Iterator[None]:
    """Use a locale in this thread or task, whatever the process uses, and afterwards the one before."""
    before = _locale.set(locale_or_fallback(text))
    try:
        yield
    finally:
        _locale.reset(before)


def current_locale() -> str:
    """Return the locale of this context, else the process's."""
    return _locale.get() or _Process.locale


# --- amounts and work ---------------------------------------------------------------------------


def decimal(amount_micros: int, *, decimals: int = DECIMALS_MAX) -> str:
    """Write an amount for a machine: `decimal(-1_234_567) == "-1.234567"`; fewer decimals cut.

    Raises:
        PoolError: INVALID_ARGUMENT when `decimals` is not 0 to 6.
    """
    return format_micros(amount_micros, decimals=decimals)


def decimal_pico(amount_pico: int) -> str:
    """Write millionths of a micro-unit for a machine, exactly: `decimal_pico(1_500_000) == "0.0000015"`.

    Work times price has twelve decimals before it is rounded; zeros at the end are left out.
    """
    whole, rest = divmod(abs(amount_pico), 10**12)
    fraction = f"{rest:012d}".rstrip("0")
    text = f"{whole}.{fraction}" if fraction else str(whole)
    return f"-{text}" if amount_pico < 0 else text


def decimal_work(work_uwu: int) -> str:
    """Write work for a machine, in WU, six decimals."""
    return format_wu(work_uwu)


def amount(
    amount_micros: int,
    currency: str = "",
    *,
    decimals: int = DECIMALS_MAX,
    decimals_min: int | None = None,
    locale: str | None = None,
) -> str:
    """Write an amount for a person: `amount(-1_234_560_000, "EUR", decimals=2)` is `-1,234.56 EUR`.

    Args:
        amount_micros: What to write; of any size and sign.
        currency: ISO 4217 code, written behind the number; empty where the column says it.
        decimals: Digits behind the decimal mark, 0 to 6; what is left is cut towards zero.
        decimals_min: Zeros at the end are dropped down to this many digits; by default none is.
        locale: Whose marks; by default the program's (`use_locale`). An unknown one falls back.

    Raises:
        PoolError: INVALID_ARGUMENT when the decimals are not 0 to 6, the least not above the most.
    """
    at_least = decimals if decimals_min is None else decimals_min
    if not 0 <= at_least <= decimals <= DECIMALS_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"decimals are 0 to {DECIMALS_MAX}, the least not above the most: {at_least}, {decimals}",
        )
    cut = abs(amount_micros) // 10 ** (DECIMALS_MAX - decimals)
    sign = 1 if amount_micros < 0 and cut else 0
    value = Decimal((sign, tuple(map(int, str(cut))), -decimals))
    pattern = "#,##0" + ("." if decimals else "") + "0" * at_least + "#" * (decimals - at_least)
    chosen = current_locale() if locale is None else _known(locale)
    with localcontext() as context:
        # The value has no more digits than the pattern: nothing is left for babel to round, however many.
        context.prec = len(value.as_tuple().digits) + 2 * DECIMALS_MAX
        text = _pattern(pattern).apply(value, _locale_of(chosen), decimal_quantization=False)
    text = _DIRECTION_MARKS.sub("", text).replace(_NARROW_SPACE, _SPACE)
    return f"{text} {currency}" if currency else text


def cents(amount_micros: int, currency: str = "", *, locale: str | None = None) -> str:
    """Write an amount for a person with two decimals, cut towards zero: what a bank would move."""
    return amount(amount_micros, currency, decimals=2, locale=locale)


def brief(
    amount_micros: int, currency: str = "", *, in_cents: bool = False, locale: str | None = None
) -> str:
    """Write an amount as short as it is exact: two decimals when it is large or whole cents, else up to six.

    `in_cents` asks for two decimals for a middling amount too; one below a cent is still written out.
    """
    size = abs(amount_micros)
    is_round = size >= 10 * MICROS_PER_UNIT or size % MICROS_PER_CENT == 0
    if is_round or (in_cents and size >= MICROS_PER_CENT):
        return amount(amount_micros, currency, decimals=2, locale=locale)
    return amount(amount_micros, currency, decimals_min=2, locale=locale)


def work(work_uwu: int, *, locale: str | None = None) -> str:
    """Write work for a person, in WU, six decimals."""
    return amount(work_uwu, locale=locale)


def percent(ppm: int, *, locale: str | None = None) -> str:
    """Write parts per million as a percentage: `percent(125_000)` is `12.5 %`."""
    return f"{amount(ppm * 100, decimals=4, decimals_min=0, locale=locale)} %"


# --- times --------------------------------------------------------------------------------------


def iso_time(at_us: int) -> str:
    """Write a time for a machine, UTC: `2026-11-25T13:00:00Z`."""
    return datetime.fromtimestamp(at_us // _MICROSECONDS, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_date(at_us: int) -> str:
    """Write a date for a machine, UTC: `2026-11-25`."""
    return _date(at_us).isoformat()


def day(at_us: int, *, locale: str | None = None) -> str:
    """Write a date, UTC, for a person: `25 Nov 2026`, `25.11.2026`."""
    chosen = current_locale() if locale is None else _known(locale)
    text = format_date(_date(at_us), format="medium", locale=_locale_of(chosen))
    return _DIRECTION_MARKS.sub("", text).replace(_NARROW_SPACE, _SPACE)


def month_name(month: str) -> str:
    """Write a month such as `2026-11` in English, the papers' language: `November 2026`.

    Raises:
        PoolError: INVALID_ARGUMENT when it is none.
    """
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, "a month is written like 2026-11", context={"field": "month"}
        ) from error
    return str(format_date(first, format="MMMM y", locale=_locale_of(FALLBACK_LOCALE)))


def _date(at_us: int) -> date:
    return datetime.fromtimestamp(at_us // _MICROSECONDS, tz=UTC).date()


@lru_cache(maxsize=256)
def _known(text: str) -> str:
    return locale_or_fallback(text)


@lru_cache(maxsize=64)
def _pattern(text: str) -> NumberPattern:
    # Parsing one costs as much as using it.
    return parse_pattern(text)


@lru_cache(maxsize=64)
def _locale_of(text: str) -> Locale:
    return Locale.parse(text)

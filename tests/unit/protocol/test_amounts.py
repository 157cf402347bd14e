"""Amounts, work and dates as text: exact in every locale, of every size, and never more than there is."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, localcontext

import pytest
from babel import localedata
from babel.numbers import get_group_symbol, parse_decimal
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol import amounts
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import AMOUNT_MICROS_MAX

NOON_US = 1_795_608_000_000_000  # 2026-11-25 12:00 UTC
LOCALES = ("en_GB", "de_DE", "fr_FR", "de_CH", "sv_SE", "pl_PL", "en_IN", "ar_EG", "fa_IR", "ja_JP")


def exactly(value: int) -> Decimal:
    """Units out of micros, with as many digits as it takes."""
    with localcontext(prec=80):
        return Decimal(value).scaleb(-6)


micros = st.integers(min_value=-(10**30), max_value=10**30)


@pytest.mark.parametrize(
    ("locale", "shown"),
    [
        ("en_GB", "-1,234,567.891234 EUR"),
        ("de_DE", "-1.234.567,891234 EUR"),
        ("fr_FR", "-1\u00a0234\u00a0567,891234 EUR"),
        ("de_CH", "-1’234’567.891234 EUR"),
        ("ar_EG", "-1,234,567.891234 EUR"),
    ],
)
def test_an_amount_has_the_marks_of_its_locale_and_the_code_of_its_currency(locale: str, shown: str) -> None:
    assert amounts.amount(-1_234_567_891_234, "EUR", locale=locale) == shown


@pytest.mark.parametrize(
    ("value", "decimals", "shown"),
    [
        (0, 6, "0.000000"),
        (0, 2, "0.00"),
        (-1, 6, "-0.000001"),
        (-9_999, 2, "0.00"),  # cut to nothing: no minus before a zero
        (999_999, 2, "0.99"),  # cut, never rounded up
        (999_999, 0, "0"),
        (1_000_000, 0, "1"),
        (AMOUNT_MICROS_MAX, 6, "9,223,372,036,854.775807"),
        (-(10**40), 2, "-10,000,000,000,000,000,000,000,000,000,000,000.00"),
    ],
)
def test_any_sign_and_size(value: int, decimals: int, shown: str) -> None:
    assert amounts.amount(value, decimals=decimals) == shown


@given(value=micros, locale=st.sampled_from(LOCALES))
def test_nothing_is_lost_in_any_locale(value: int, locale: str) -> None:
    shown = amounts.amount(value, locale=locale).replace("\u00a0", get_group_symbol(locale))
    assert parse_decimal(shown, locale=locale) == exactly(value)


@given(value=micros, decimals=st.integers(min_value=0, max_value=6))
def test_what_is_shown_is_never_further_from_zero_than_what_there_is(value: int, decimals: int) -> None:
    shown = Decimal(amounts.amount(value, decimals=decimals).replace(",", ""))
    with localcontext(prec=80):
        assert 0 <= abs(exactly(value)) - abs(shown) < Decimal(1).scaleb(-decimals)


@given(value=micros)
def test_machines_get_the_same_digits_without_marks(value: int) -> None:
    assert amounts.decimal(value) == amounts.amount(value, locale="en_GB").replace(",", "")


def test_the_machines_form_does_not_follow_the_locale() -> None:
    with amounts.in_locale("de_DE"):
        assert amounts.decimal(1_234_567_891) == "1234.567891"
        assert amounts.decimal_work(1_500_000) == "1.500000"
        assert amounts.iso_time(NOON_US) == "2026-11-25T12:00:00Z"
        assert amounts.iso_date(NOON_US) == "2026-11-25"
        assert amounts.amount(1_234_567_891) == "1.234,567891"
        assert amounts.cents(1_234_567_891, "EUR") == "1.234,56 EUR"
        assert amounts.work(1_500_000) == "1,500000"


@pytest.mark.parametrize(
    ("pico", "shown"),
    [
        (0, "0"),
        (1, "0.000000000001"),
        (-1_500_000, "-0.0000015"),
        (2 * 10**12, "2"),
        (10**30, "1" + "0" * 18),
    ],
)
def test_what_is_not_rounded_yet_is_exact(pico: int, shown: str) -> None:
    assert amounts.decimal_pico(pico) == shown


@pytest.mark.parametrize(
    ("ppm", "shown"),
    [(0, "0 %"), (100_000, "10 %"), (125_000, "12.5 %"), (-1, "-0.0001 %"), (10**6, "100 %")],
)
def test_percentages(ppm: int, shown: str) -> None:
    assert amounts.percent(ppm) == shown


@pytest.mark.parametrize(
    ("value", "in_cents", "shown"),
    [
        (1_500_000, False, "1.50"),
        (1_234_567, False, "1.234567"),
        (1_230_500, False, "1.2305"),
        (1_234_567, True, "1.23"),
        (9_999, True, "0.009999"),
        (10_009_999, False, "10.00"),
        (-12, False, "-0.000012"),
    ],
)
def test_brief_drops_what_says_nothing(*, value: int, in_cents: bool, shown: str) -> None:
    assert amounts.brief(value, in_cents=in_cents) == shown


@pytest.mark.parametrize(("decimals", "least"), [(7, None), (-1, None), (2, 3), (2, -1)])
def test_decimals_out_of_range_are_refused(decimals: int, least: int | None) -> None:
    with pytest.raises(PoolError) as refused:
        amounts.amount(1, decimals=decimals, decimals_min=least)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("text", "kept"), [("de-de", "de_DE"), ("en_GB", "en_GB"), ("zh_Hans_CN", "zh_Hans_CN"), ("fr", "fr")]
)
def test_a_known_locale_is_kept_in_one_spelling(text: str, kept: str) -> None:
    assert amounts.parse_locale(text) == kept


@pytest.mark.parametrize(
    "text", ["", "C", "POSIX", "en_XX", "root", "../../etc/passwd", "de_DE.UTF-8", "x" * 40, "de\n", "ｄｅ"]
)
def test_an_unknown_locale_is_refused_where_it_is_set_and_falls_back_where_it_is_read(text: str) -> None:
    with pytest.raises(PoolError) as refused:
        amounts.parse_locale(text)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert refused.value.context["field"] == "locale"
    assert amounts.locale_or_fallback(text) == amounts.FALLBACK_LOCALE
    assert amounts.amount(1_234_000_000, "EUR", decimals=2, locale=text) == "1,234.00 EUR"
    with amounts.in_locale(text):
        assert amounts.current_locale() == amounts.FALLBACK_LOCALE


def test_a_context_has_a_locale_of_its_own() -> None:
    before = amounts.current_locale()
    with amounts.in_locale("de_DE"):
        assert amounts.current_locale() == "de_DE"
        with amounts.in_locale("fr_FR"):
            assert amounts.day(NOON_US) == "25 nov. 2026"
        assert amounts.day(NOON_US) == "25.11.2026"
    assert amounts.current_locale() == before == "en_GB"
    assert amounts.day(NOON_US) == "25 Nov 2026"


def test_a_process_has_a_locale_in_all_its_threads_and_a_task_may_have_another() -> None:
    def shown() -> str:
        return amounts.cents(1_234_000_000)

    try:
        amounts.use_locale("de_DE")
        with ThreadPoolExecutor(max_workers=1) as pool:
            assert (shown(), pool.submit(shown).result()) == ("1.234,00", "1.234,00")
            with amounts.in_locale("en_GB"):
                assert (shown(), pool.submit(shown).result()) == ("1,234.00", "1.234,00")
        amounts.use_locale("no such locale")
        assert shown() == "1,234.00"
    finally:
        amounts.use_locale("")


def test_no_locale_leaves_direction_marks_or_other_digits_in_a_table_of_figures() -> None:
    allowed = set("-0123456789.,’٫،⹁ EUR\u00a0")
    odd = {
        name: shown
        for name in sorted(localedata.locale_identifiers())[::7]
        if set(shown := amounts.amount(-1_234_567_891_234, "EUR", locale=name)) - allowed
    }
    assert not odd


@pytest.mark.parametrize(("text", "code"), [("de", "DE"), ("US", "US"), ("XK", "XK")])
def test_countries(text: str, code: str) -> None:
    assert amounts.parse_country(text) == code


@pytest.mark.parametrize("text", ["", "D", "DEU", "EU", "ZZ", "XA", "QQ", "1A", "ß"])
def test_what_is_no_country_is_refused(text: str) -> None:
    with pytest.raises(PoolError) as refused:
        amounts.parse_country(text)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_month_has_an_english_name() -> None:
    with amounts.in_locale("de_DE"):
        assert amounts.month_name("2026-03") == "March 2026"
    for text in ("2026-13", "march", ""):
        with pytest.raises(PoolError):
            amounts.month_name(text)

"""Numbers, times and money in words."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol import amounts
from tests.tui.scenes import NOW_US, at
from tui.view_models import text

TOKYO = timezone(timedelta(hours=9))


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        (0, "0.00 EUR"),
        (1, "0.000001 EUR"),
        (12_340, "0.01234 EUR"),
        (100_000, "0.10 EUR"),
        (1_234_567, "1.234567 EUR"),
        (9_999_999, "9.999999 EUR"),
        (10_009_999, "10.00 EUR"),
        (-1_500_000, "-1.50 EUR"),
        (-12, "-0.000012 EUR"),
    ],
)
def test_money(micros: int, shown: str) -> None:
    assert text.money(micros, "EUR") == shown


@pytest.mark.parametrize(
    ("micros", "shown"), [(1_239_999, "1.23"), (9_999, "0.009999"), (10_000, "0.01"), (0, "0.00")]
)
def test_money_in_cents_still_shows_what_is_below_a_cent(micros: int, shown: str) -> None:
    assert text.money(micros, "", cents=True) == shown


def test_money_is_written_as_the_account_reads_it() -> None:
    with amounts.in_locale("de_DE"):
        assert text.money(1_234_500_000, "EUR") == "1.234,50 EUR"
        assert text.price_per_wu(20, "EUR") == "0,00002 EUR/WU"
    assert text.money(1_234_500_000, "EUR") == "1,234.50 EUR"


@given(st.integers(min_value=0, max_value=10**15))
def test_money_never_promises_more_than_there_is(micros: int) -> None:
    for cents in (False, True):
        whole, fraction = text.money(micros, "", cents=cents).split(".")
        shown = int(whole.replace(",", "")) * 1_000_000 + int(fraction.ljust(6, "0"))
        assert shown <= micros
        assert (shown == 0) == (micros == 0)


@given(st.text(max_size=400))
def test_clean_text_is_one_bounded_line_without_control_characters(raw: str) -> None:
    shown = text.clean(raw)
    assert len(shown) <= text.TEXT_CHARACTERS_MAX
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in shown)
    assert "\u202e" not in shown
    assert "\u200b" not in shown
    assert len(shown.splitlines()) <= 1


def test_clean_keeps_ordinary_words_of_any_language() -> None:
    assert text.clean("Zoë's Wagen, 車 🚗") == "Zoë's Wagen, 車 🚗"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (11_520, "3 h 12 min"),
        (86_400, "1 d"),
        (100_000, "1 d 3 h"),
        (-5, "0 s"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(("age_us", "shown"), [(-7, "now"), (999_999, "now"), (1_000_000, "1 s ago")])
def test_ago(age_us: int, shown: str) -> None:
    assert text.ago(age_us) == shown


def test_a_coarse_age_has_one_unit() -> None:
    assert text.ago(145_000_000_000, coarse=True) == "1 d ago"
    assert text.ago(5_000_000, coarse=True) == "5 s ago"


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("2026-11-12T06:05:00", "15:05"),
        ("2026-11-11T06:05:00", "11 Nov 15:05"),
        ("2025-11-12T20:00:00", "13 Nov 2025 05:00"),
    ],
)
def test_moments_are_in_the_readers_zone_and_as_short_as_is_clear(moment: str, shown: str) -> None:
    assert text.moment(at(moment), TOKYO, now_us=at("2026-11-12T10:00:00")) == shown


def test_day_and_time_of_day() -> None:
    assert text.day(NOW_US, TOKYO) == "13 Nov 2026"
    assert text.clock_time(NOW_US, TOKYO) == "08:28"


@pytest.mark.parametrize(
    ("watts", "shown"), [(0, "0 W"), (112.4, "112 W"), (7400, "7.4 kW"), (-1500, "-1.5 kW")]
)
def test_power(watts: float, shown: str) -> None:
    assert text.power(watts) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(-1, "░░░░"), (0, "░░░░"), (0.49, "█░░░"), (0.999, "███░"), (1, "████")]
)
def test_a_bar_is_full_only_when_all_is_done(share: float, shown: str) -> None:
    assert text.bar(share, width=4) == shown


def test_sparkline_scales_to_the_largest_and_nothing_is_a_dot() -> None:
    assert text.sparkline([0, 1, 4, 8]) == "·▁▄█"
    assert text.sparkline([0, 0]) == "··"
    assert text.sparkline([-5, 5]) == "·█"
    assert text.sparkline([]) == ""


@given(st.lists(st.integers(min_value=-(10**12), max_value=10**12), max_size=60))
def test_a_sparkline_has_one_character_per_day(values: list[int]) -> None:
    assert len(text.sparkline(values)) == len(values)


@pytest.mark.parametrize(
    ("identifier", "shown"),
    [("vehicle_mfrggzdfmztwq2lk", "vehicle_mfrggzdf…"), ("job_12", "job_12"), ("3f2a91c47bd0", "3f2a91c4…")],
)
def test_short_ids_keep_their_prefix(identifier: str, shown: str) -> None:
    assert text.short_id(identifier) == shown


def test_small_words() -> None:
    assert text.count(1, "task") == "1 task"
    assert text.count(1204, "task") == "1,204 tasks"
    assert text.count(2, "entry", "entries") == "2 entries"
    assert text.sentence("Battery low ") == "Battery low."
    assert text.sentence("Why?") == "Why?"
    assert text.sentence("") == ""
    assert text.shorten("abcdef", 4) == "abc…"
    assert text.shorten("abcd", 4) == "abcd"
    assert text.milliseconds(84.2) == "84 ms"
    assert text.milliseconds(1234) == "1.2 s"
    assert text.signed_money(-1_500_000, "EUR") == "-1.50 EUR"
    assert text.signed_money(1_500_000, "EUR") == "+1.50 EUR"

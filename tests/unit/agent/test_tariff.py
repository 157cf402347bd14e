"""Tariffs: prices by the local hour over daylight saving, files that are read again, text that is refused."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from car_agent.core.tariff import FixedTariff, NoTariff, TariffPrice
from car_agent.energy.owner_tariff import OwnerTariff
from car_agent.energy.tariff_text import parse_price_file, parse_tariff
from pool_protocol.errors import ErrorCode, PoolError
from tests.support.clock import START_US, ManualClock

FIXED = """
kind = "fixed"
currency = "EUR"
price_per_kwh = 0.30
"""
BERLIN = """
kind = "time-of-use"
currency = "EUR"
zone = "Europe/Berlin"
price_per_kwh = 0.34
[[window]]
days = "mon-fri"
from = "17:00"
to = "20:00"
price_per_kwh = 0.45
[[window]]
from = "22:00"
to = "06:00"
price_per_kwh = 0.18
[[window]]
days = ["sat", "sun"]
from = "00:00"
to = "24:00"
price_per_kwh = 0.25
"""


def price_at(text: str, moment: str) -> int | None:
    tariff = parse_tariff(text)
    assert not hasattr(tariff, "path")
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return tariff.price(int(at.timestamp()) * 1_000_000).micros_per_kwh


@pytest.mark.parametrize(
    ("utc", "price"),
    [
        # Wednesday in winter: Berlin is an hour ahead.
        ("2026-01-14 15:59:59", 340_000),
        ("2026-01-14 16:00:00", 450_000),
        ("2026-01-14 18:59:59", 450_000),
        ("2026-01-14 19:00:00", 340_000),
        ("2026-01-14 21:00:00", 180_000),
        ("2026-01-15 04:59:59", 180_000),
        ("2026-01-15 05:00:00", 340_000),
        # In summer two.
        ("2026-07-15 15:00:00", 450_000),
        ("2026-07-15 18:00:00", 340_000),
        # The nights in which 02:00 becomes 03:00, and 03:00 becomes 02:00.
        ("2026-03-29 00:59:59", 180_000),
        ("2026-03-29 01:00:00", 180_000),
        ("2026-03-29 03:59:59", 180_000),
        ("2026-03-29 04:00:00", 250_000),
        ("2026-10-25 00:30:00", 180_000),
        ("2026-10-25 01:30:00", 180_000),
        ("2026-10-25 04:59:59", 180_000),
        ("2026-10-25 05:00:00", 250_000),
        # Saturday noon; the first window that holds counts, so at night it is the night.
        ("2026-01-17 11:00:00", 250_000),
        ("2026-01-17 22:00:00", 180_000),
    ],
)
def test_the_price_is_that_of_the_local_hour(utc: str, price: int) -> None:
    assert price_at(BERLIN, utc) == price


@given(st.integers(0, 6), st.integers(0, 1_439), st.integers(0, 1_440), st.integers(0, 6 * 1_440 + 1_439))
def test_a_window_is_its_minutes_from_its_days_on_and_no_other(
    day: int, start: int, end: int, at: int
) -> None:
    names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    text = f"""
    kind = "time-of-use"
    currency = "EUR"
    zone = "UTC"
    price_per_kwh = 1
    [[window]]
    days = "{names[day]}"
    from = "{start // 60:02d}:{start % 60:02d}"
    to = "{end // 60:02d}:{end % 60:02d}"
    price_per_kwh = 2
    """
    length = end - start if end > start else end - start + 1_440
    monday_us = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp()) * 1_000_000

    tariff = parse_tariff(text)
    price = tariff.price(monday_us + at * 60_000_000)  # type: ignore[union-attr]  # it is one by the hour

    inside = (at - day * 1_440 - start) % (7 * 1_440) < length
    assert price == TariffPrice(2_000_000 if inside else 1_000_000)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("kind =", None),
        ("", "kind"),
        ("kind = 3", "kind"),
        ("kind = 'spot'", "kind"),
        ("kind = 'fixed'\ncurrency = 'eur'\nprice_per_kwh = 1", "currency"),
        ("kind = 'fixed'\nprice_per_kwh = 1", "currency"),
        ("kind = 'fixed'\ncurrency = 'EUR'", "price_per_kwh"),
        ("kind = 'fixed'\ncurrency = 'EUR'\nprice_per_kwh = '0.3'", "price_per_kwh"),
        ("kind = 'fixed'\ncurrency = 'EUR'\nprice_per_kwh = true", "price_per_kwh"),
        ("kind = 'fixed'\ncurrency = 'EUR'\nprice_per_kwh = nan", "price_per_kwh"),
        ("kind = 'fixed'\ncurrency = 'EUR'\nprice_per_kwh = inf", "price_per_kwh"),
        ("kind = 'fixed'\ncurrency = 'EUR'\nprice_per_kwh = 1e999999999", "price_per_kwh"),
        ("kind = 'fixed'\ncurrency = 'EUR'\nprice_per_kwh = -100000.000001", "price_per_kwh"),
        (f"kind = 'fixed'\ncurrency = 'EUR'\nprice_per_kwh = {'9' * 5_000}", None),
        ("kind = 'fixed'\ncurrency = 'EUR'\nprice_per_kwh = 1\nzone = 'UTC'", "zone"),
        ("kind = 'time-of-use'\ncurrency = 'EUR'\nprice_per_kwh = 1\nzone = 'Mars/North'", "zone"),
        ("kind = 'time-of-use'\ncurrency = 'EUR'\nprice_per_kwh = 1\nzone = '../etc/passwd'", "zone"),
        ("kind = 'time-of-use'\ncurrency = 'EUR'\nprice_per_kwh = 1\nzone = 'UTC'\nwindow = 3", "window"),
        ("kind = 'file'\ncurrency = 'EUR'", "path"),
        ("kind = 'file'\ncurrency = 'EUR'\npath = 'p'\nfresh_for_s = 0", "fresh_for_s"),
        ("kind = 'file'\ncurrency = 'EUR'\npath = 'p'\nfresh_for_s = nan", "fresh_for_s"),
    ],
)
def test_a_tariff_that_cannot_be_meant_is_refused_with_its_key(text: str, field: str | None) -> None:
    with pytest.raises(PoolError) as refusal:
        parse_tariff(text)

    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    assert refusal.value.context.get("field") == field


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("days = 'someday'", "days"),
        ("days = 'mon-someday'", "days"),
        ("days = []", "days"),
        ("days = [3]", "days"),
        ("from = '24:00'", "from"),
        ("from = '7:5'", "from"),
        ("from = '25:00'", "from"),
        ("from = '12:60'", "from"),
        ("from = 7", "from"),
        ("to = '٢٢:٠٠'", "to"),
        ("hours = 3", "hours"),
        ("price_per_kwh = 'x'", "price_per_kwh"),
    ],
)
def test_a_window_that_cannot_be_meant_is_refused_with_its_key(line: str, field: str) -> None:
    fine = {"days": "'mon'", "from": "'22:00'", "to": "'06:00'", "price_per_kwh": "0.1"}
    key, _, value = line.partition(" = ")
    fine[key] = value
    window = "\n".join(f"{name} = {given}" for name, given in fine.items())

    with pytest.raises(PoolError) as refusal:
        parse_tariff(
            f"kind = 'time-of-use'\ncurrency = 'EUR'\nprice_per_kwh = 1\nzone = 'UTC'\n[[window]]\n{window}"
        )

    assert refusal.value.context["field"] == field


def test_prices_are_whole_micro_units_and_may_be_below_nothing() -> None:
    parsed = parse_tariff("kind = 'fixed'\ncurrency = 'GBP'\nprice_per_kwh = -0.0512345")

    assert parsed == FixedTariff(currency="GBP", micros_per_kwh=-51_235)


@pytest.mark.parametrize(
    ("content", "micros"),
    [
        (b'{"price_per_kwh": 0.2712}', 271_200),
        (b'{"price_per_kwh": 0.2712, "currency": "EUR", "source": "evcc"}', 271_200),
        (b"0.2712\n", 271_200),
        (b"-0.01", -10_000),
        (b'{"price_per_kwh": 0.2712, "currency": "USD"}', None),
        (b'{"price": 0.2712}', None),
        (b'"0.2712"', None),
        (b"NaN", None),
        (b"1e400", None),
        (b"", None),
        (b"[" * 100_000, None),
        (b"\xff\xfe", None),
    ],
)
def test_a_price_file_says_a_price_or_is_refused(content: bytes, micros: int | None) -> None:
    if micros is None:
        with pytest.raises(PoolError):
            parse_price_file(content, currency="EUR")
    else:
        assert parse_price_file(content, currency="EUR") == micros


# --- on disk --------------------------------------------------------------------------------------


def write(path: Path, text: str, *, at_us: int = START_US) -> None:
    path.write_text(text)
    os.utime(path, ns=(at_us * 1_000, at_us * 1_000))


def test_a_tariff_is_read_again_when_it_changes_and_forgotten_when_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "tariff.toml"
    tariff = OwnerTariff(path, ManualClock())
    tariff.refresh()
    assert (tariff.is_set, tariff.price(START_US).micros_per_kwh) == (False, None)
    write(path, FIXED)
    tariff.refresh()
    seen = [(tariff.is_set, tariff.currency, tariff.price(START_US))]
    write(path, FIXED.replace("0.30", "0.315"))
    tariff.refresh()
    seen.append((tariff.is_set, tariff.currency, tariff.price(START_US)))
    assert seen == [(True, "EUR", TariffPrice(300_000)), (True, "EUR", TariffPrice(315_000))]
    path.unlink()
    tariff.refresh()
    assert not tariff.is_set
    assert tariff.describe() == NoTariff().describe()


def test_a_tariff_that_cannot_be_read_knows_no_price_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "tariff.toml"
    tariff = OwnerTariff(path, ManualClock())
    for content, why in ((b"kind = 'spot'", "kind"), (b"\xff", "UTF-8"), (b"#" * 300_000, "more than")):
        path.write_bytes(content)
        tariff.refresh()
        price = tariff.price(START_US)
        assert tariff.is_set, "the owner has set one: it is not as if there were none"
        assert price.micros_per_kwh is None
        assert why in price.why_not


def test_a_price_in_a_file_counts_while_it_is_fresh(tmp_path: Path) -> None:
    prices = tmp_path / "price.json"
    path = tmp_path / "tariff.toml"
    write(path, f"kind = 'file'\ncurrency = 'EUR'\npath = '{prices}'\nfresh_for_s = 600")
    tariff = OwnerTariff(path, ManualClock())
    tariff.refresh()
    assert "cannot be read" in tariff.price(START_US).why_not
    write(prices, "0.20")
    tariff.refresh()
    assert tariff.price(START_US + 600_000_000).micros_per_kwh == 200_000
    old = tariff.price(START_US + 660_000_000)
    assert old.micros_per_kwh is None
    assert "11 min old and counts for 10 min" in old.why_not
    write(prices, "0.25", at_us=START_US + 660_000_000)
    tariff.refresh()
    assert tariff.price(START_US + 660_000_000).micros_per_kwh == 250_000
    assert "future" in tariff.price(START_US).why_not
    write(prices, "half writ")
    tariff.refresh()
    assert "not JSON" in tariff.price(START_US).why_not


def test_a_fallback_counts_when_the_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "tariff.toml"
    write(path, "kind = 'file'\ncurrency = 'EUR'\npath = '/nowhere/at/all'\nfallback_per_kwh = 0.4")
    tariff = OwnerTariff(path, ManualClock())
    tariff.refresh()

    assert tariff.price(START_US) == TariffPrice(400_000)
    assert tariff.describe() == "from /nowhere/at/all"

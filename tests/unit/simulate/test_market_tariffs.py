"""A tariff is a number, or a file as the agent reads; all else is told what to write."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.simulate.market.fleet import draw_fleet
from pool_server.simulate.market.tariffs import (
    QUARTERS_PER_DAY,
    QUARTERS_PER_WEEK,
    Tariff,
    fixed,
    read_tariff,
)

SATURDAY, SUNDAY = 5 * QUARTERS_PER_DAY, 6 * QUARTERS_PER_DAY
BY_TIME = 'kind = "time-of-use"\nprice_per_kwh = 0.34\n'


def read(path: Path, text: str) -> Tariff:
    path.write_text(text)
    return read_tariff(str(path), currency="EUR")


@pytest.mark.parametrize(
    ("text", "micros"), [("0.30", 300_000), ("0,2999", 299_900), ("0", 0), ("12", 12_000_000)]
)
def test_a_number_is_a_fixed_tariff(text: str, micros: int) -> None:
    tariff = read_tariff(text, currency="EUR")
    assert tariff.is_fixed
    assert tariff.at(QUARTERS_PER_WEEK * 3 + 5) == micros


def test_the_agents_own_file_can_be_used(tmp_path: Path) -> None:
    tariff = read(
        tmp_path / "tariff.toml",
        """
        kind = "time-of-use"
        currency = "EUR"
        zone = "Europe/Berlin"
        price_per_kwh = 0.34
        [[window]]
        days = ["sat-sun"]
        from = "23:00"
        to = "24:00"
        price_per_kwh = -0.05
        [[window]]
        from = "22:30"
        to = "6:00"
        price_per_kwh = 0.18
        [[window]]
        days = "mon"
        from = "13:10"
        to = "13:40"
        price_per_kwh = 0.50
        """,
    )
    assert not tariff.is_fixed
    assert [tariff.at(hour * 4) for hour in (0, 5, 6, 22, 23)] == [
        180_000,
        180_000,
        340_000,
        340_000,
        180_000,
    ]
    # A quarter hour has the price of its first minute.
    assert [tariff.at(13 * 4 + n) for n in range(4)] == [340_000, 500_000, 500_000, 340_000]
    # The first window that holds counts; after Sunday's midnight it is the night of Sunday.
    assert [tariff.at(SATURDAY + 23 * 4), tariff.at(SUNDAY + 23 * 4 + 3)] == [-50_000, -50_000]
    assert [tariff.at(SUNDAY + 22 * 4 + 2), tariff.at(SUNDAY + 24 * 4)] == [180_000, 180_000]


def test_a_night_belongs_to_the_evenings_weekday(tmp_path: Path) -> None:
    window = '[[window]]\ndays = "fri"\nfrom = "20:00"\nto = "02:00"\nprice_per_kwh = 0.1'
    tariff = read(tmp_path / "fri.toml", BY_TIME + window)
    cheap = [quarter for quarter in range(QUARTERS_PER_WEEK) if tariff.at(quarter) == 100_000]
    assert cheap == list(range(SATURDAY - 16, SATURDAY + 8))


def test_where_electricity_pays_a_car_works_for_its_wish_alone() -> None:
    paid, free = (
        draw_fleet(Random(1), vehicles=5, days=1, tariff=fixed(Decimal(price)), fee_ppm=0)
        for price in ("-9", "0")
    )
    assert all(vehicle.reserves[0] == 0 for vehicle in paid)
    assert all(vehicle.reserves[0] > 0 for vehicle in free)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("kind = ", id="no TOML"),
        pytest.param("", id="empty"),
        pytest.param("price_per_kwh = 0.3", id="no kind"),
        pytest.param('kind = "file"\npath = "/run/now.json"', id="a live price"),
        pytest.param('kind = "fixed"', id="no price"),
        pytest.param('kind = "fixed"\nprice_per_kwh = "much"', id="no number"),
        pytest.param('kind = "fixed"\nprice_per_kwh = true', id="a boolean"),
        pytest.param('kind = "fixed"\nprice_per_kwh = 100001', id="absurd"),
        pytest.param('kind = "fixed"\nprice_per_kwh = nan', id="not a number"),
        pytest.param('kind = "fixed"\nprice_per_kwh = 0.3\ncurrency = "USD"', id="another currency"),
        pytest.param('kind = "fixed"\nprice_per_kwh = 0.3\ntax = 1', id="an unknown key"),
        pytest.param(BY_TIME + "window = 4", id="a window that is none"),
        pytest.param(BY_TIME + "window = [4]", id="windows that are none"),
        pytest.param(BY_TIME + "[[window]]\nprice_per_kwh = 0.1", id="a window without times"),
        pytest.param(BY_TIME + '[[window]]\nfrom = "22:70"\nto = "6:00"\nprice_per_kwh = 1', id="no time"),
        pytest.param(BY_TIME + '[[window]]\nfrom = "24:00"\nto = "6:00"\nprice_per_kwh = 1', id="from 24:00"),
        pytest.param(BY_TIME + '[[window]]\nfrom = "22:00"\nto = "6:00"', id="a window without a price"),
        pytest.param(
            BY_TIME + '[[window]]\ndays = "day"\nfrom = "22:00"\nto = "6:00"\nprice_per_kwh = 1',
            id="no weekday",
        ),
        pytest.param(
            BY_TIME + '[[window]]\ndays = []\nfrom = "22:00"\nto = "6:00"\nprice_per_kwh = 1',
            id="no weekdays",
        ),
        pytest.param(
            BY_TIME + '[[window]]\nfrom = "22:00"\nto = "6:00"\nprice_per_kwh = 1\nx = 1',
            id="an unknown key there",
        ),
        pytest.param(BY_TIME + "#" * 100_001, id="too long"),
    ],
)
def test_what_is_no_tariff_is_refused_with_an_example(text: str, tmp_path: Path) -> None:
    with pytest.raises(PoolError) as refused:
        read(tmp_path / "mine.toml", text)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert "[[window]]" in refused.value.next_step


@pytest.mark.parametrize("text", ["none.toml", ".", "nan", "a\0b"])
def test_what_is_neither_number_nor_file_is_told(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PoolError, match="neither a price per kWh nor a file") as refused:
        read_tariff(text, currency="EUR")
    assert refused.value.code is ErrorCode.NOT_FOUND

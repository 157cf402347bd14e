"""A tariff is a number, or a file that says what a quarter hour costs; all else is told what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.simulate.market.tariffs import QUARTERS_PER_DAY, QUARTERS_PER_WEEK, read_tariff

SUNDAY = 6 * QUARTERS_PER_DAY


@pytest.mark.parametrize(
    ("text", "micros"), [("0.30", 300_000), ("0,2999", 299_900), ("0", 0), ("12", 12_000_000)]
)
def test_a_number_is_a_fixed_tariff(text: str, micros: int) -> None:
    tariff = read_tariff(text)
    assert tariff.is_fixed
    assert tariff.at(QUARTERS_PER_WEEK * 3 + 5) == micros


def test_a_file_says_periods(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        """
        per_kwh = 0.34
        [[period]]
        from = "22:30"
        to = "06:00"
        per_kwh = 0.18
        [[period]]
        days = ["sun"]
        from = "22:00"
        to = "24:00"
        per_kwh = 0
        """
    )
    tariff = read_tariff(str(path))
    assert not tariff.is_fixed
    assert [tariff.at(hour * 4) for hour in (0, 5, 6, 22, 23)] == [
        180_000,
        180_000,
        340_000,
        340_000,
        180_000,
    ]
    assert tariff.at(22 * 4 + 2) == 180_000
    # Later periods count; after Sunday's midnight it is Monday's night again.
    assert [tariff.at(SUNDAY + quarter) for quarter in (22 * 4, 24 * 4 - 1, 24 * 4)] == [0, 0, 180_000]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("per_kwh = ", id="no TOML"),
        pytest.param("per_kwh = 'much'", id="no number"),
        pytest.param("per_kwh = true", id="a boolean"),
        pytest.param("", id="empty"),
        pytest.param("per_kwh = -0.1", id="negative"),
        pytest.param("per_kwh = 1001", id="absurd"),
        pytest.param("per_kwh = nan", id="not a number"),
        pytest.param("per_kwh = 0.3\ntax = 1", id="an unknown key"),
        pytest.param("per_kwh = 0.3\nperiod = 4", id="a period that is none"),
        pytest.param("per_kwh = 0.3\nperiod = [4]", id="periods that are none"),
        pytest.param("per_kwh = 0.3\n[[period]]\nper_kwh = 0.1", id="a period without times"),
        pytest.param(
            "per_kwh = 0.3\n[[period]]\nfrom = '22:10'\nto = '06:00'\nper_kwh = 0.1", id="no quarter hour"
        ),
        pytest.param(
            "per_kwh = 0.3\n[[period]]\ndays = ['day']\nfrom = '22:00'\nto = '06:00'\nper_kwh = 0.1",
            id="an unknown day",
        ),
        pytest.param("per_kwh = 0.3\n" + "#" * 100_001, id="too long"),
    ],
)
def test_what_is_no_tariff_is_refused_with_an_example(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(PoolError) as refused:
        read_tariff(str(path))
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert "[[period]]" in refused.value.next_step


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="neither a price per kWh nor a file") as refused:
        read_tariff(str(tmp_path / "none.toml"))
    assert refused.value.code is ErrorCode.NOT_FOUND

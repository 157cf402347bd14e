"""A statement leads from its opening to its closing, and its CSV says the same."""

import csv
import io

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.energy import NO_ENERGY, EnergyFigures, EnergySource, EnergySums, add_up, sum_of
from pool_server.core.statement import (
    LineKind,
    StatementLine,
    format_kwh,
    make_statement,
    month_bounds_us,
)

FIGURES = st.builds(
    EnergyFigures,
    st.integers(0, 10**9),
    st.sampled_from(EnergySource),
    st.none() | st.integers(-(10**6), 10**9),
)
ENERGY = st.lists(FIGURES.map(sum_of), max_size=3).map(add_up)
LINES = st.lists(
    st.builds(
        StatementLine,
        at_us=st.integers(0, 10**15),
        kind=st.sampled_from(LineKind),
        reference=st.sampled_from(["attempt_1", "payout_2"]),
        net_micros=st.integers(-(10**12), 10**12),
        energy=ENERGY,
    ),
    max_size=12,
)
NO_TRANSFER = {LineKind.WORK, LineKind.UNPAID}


@given(LINES, st.integers(0, 10**12))
def test_closing_is_opening_plus_every_line_but_work_and_unpaid(
    lines: list[StatementLine], opening: int
) -> None:
    statement = make_statement(month="2026-11", currency="EUR", opening_micros=opening, lines=lines)

    changes = [line.net_micros for line in statement.lines if line.kind not in NO_TRANSFER]
    assert statement.closing_micros == opening + sum(changes)
    assert [line.at_us for line in statement.lines] == sorted(line.at_us for line in lines)
    rows = list(csv.DictReader(io.StringIO(statement.csv.decode(), newline="")))
    assert len(rows) == len(lines) + 3
    in_micros = [
        int(row["net"].replace(".", ""))
        for row in rows
        if row["kind"] not in {"work", "unpaid", "total work"}
    ]
    assert sum(in_micros[:-1]) == in_micros[-1] == statement.closing_micros


@pytest.mark.parametrize(
    ("month", "first", "after"),
    [
        ("2026-11", 1_793_491_200, 1_796_083_200),
        ("2026-12", 1_796_083_200, 1_798_761_600),
        ("2028-02", 1_832_976_000, 1_835_481_600),
    ],
)
def test_a_month_is_utc_and_half_open(month: str, first: int, after: int) -> None:
    assert month_bounds_us(month) == (first * 1_000_000, after * 1_000_000)


@pytest.mark.parametrize(
    "month", ["", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "２０２６-11", "0000-01"]
)
def test_what_is_not_a_month_is_refused(month: str) -> None:
    with pytest.raises(PoolError) as refusal:
        month_bounds_us(month)

    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


@given(LINES)
def test_totals_are_the_sums_of_the_lines_and_the_file_says_the_same(lines: list[StatementLine]) -> None:
    statement = make_statement(month="2026-11", currency="EUR", opening_micros=0, lines=lines)

    totals = statement.totals
    work = [line for line in lines if line.kind is LineKind.WORK]
    assert totals.net_micros == sum(line.net_micros for line in work)
    assert totals.energy.energy_mj == sum(line.energy.energy_mj for line in lines)
    assert totals.energy.electricity_micros == sum(line.energy.electricity_micros for line in lines)
    rows = list(csv.DictReader(io.StringIO(statement.csv.decode(), newline="")))
    assert (rows[-2]["kind"], rows[-1]["kind"]) == ("total work", "closing")
    left = rows[-2]["net_after_electricity"]
    if totals.after_electricity_micros is None:
        assert left == ""
    else:
        assert int(left.replace(".", "")) == totals.after_electricity_micros


def a_line(net_micros: int, energy: EnergySums) -> StatementLine:
    return StatementLine(
        at_us=0, kind=LineKind.WORK, reference="attempt_1", net_micros=net_micros, energy=energy
    )


def test_what_is_left_after_electricity_may_be_less_than_nothing() -> None:
    dear = a_line(1_000, sum_of(EnergyFigures(36_000_000, EnergySource.DECLARED, 3_000)))

    assert dear.after_electricity_micros == -2_000
    csv_text = make_statement(month="2026-11", currency="EUR", opening_micros=0, lines=[dear]).csv.decode()
    assert ",0.001000,EUR,0.010000000,declared,0.003000,-0.002000" in csv_text


def test_without_a_tariff_the_energy_is_told_and_what_is_left_is_not() -> None:
    unpriced = a_line(1_000, sum_of(EnergyFigures(36_000_000, EnergySource.RAPL, None)))

    assert unpriced.after_electricity_micros is None
    csv_text = make_statement(
        month="2026-11", currency="EUR", opening_micros=0, lines=[unpriced]
    ).csv.decode()
    assert ",0.010000000,rapl,," in csv_text
    assert a_line(1_000, NO_ENERGY).after_electricity_micros is None


def test_a_column_is_only_ever_added_at_the_end() -> None:
    header = make_statement(month="2026-11", currency="EUR", opening_micros=0, lines=[]).csv.split(b"\r\n")[0]

    assert header == (
        b"time,kind,reference,work_wu,price_per_wu,gross,fee,net,currency,"
        b"energy_kwh,energy_source,electricity,net_after_electricity,receipt"
    )


@pytest.mark.parametrize(
    ("energy_mj", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000000"),
        (4, "0.000000001"),
        (3_600_000_000, "1.000000000"),
        (3_599_999_999, "0.999999999"),
        (5_400_000_000, "1.500000000"),
    ],
)
def test_energy_is_written_in_kwh_and_cut(energy_mj: int, text: str) -> None:
    assert format_kwh(energy_mj) == text

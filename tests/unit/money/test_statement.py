"""A statement leads from its opening to its closing, and its CSV says the same."""

import csv
import io

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.statement import LineKind, StatementLine, make_statement, month_bounds_us

LINES = st.lists(
    st.builds(
        StatementLine,
        at_us=st.integers(0, 10**15),
        kind=st.sampled_from(LineKind),
        reference=st.sampled_from(["attempt_1", "payout_2"]),
        net_micros=st.integers(-(10**12), 10**12),
    ),
    max_size=12,
)


@given(LINES, st.integers(0, 10**12))
def test_closing_is_opening_plus_every_line_but_work(lines: list[StatementLine], opening: int) -> None:
    statement = make_statement(month="2026-11", currency="EUR", opening_micros=opening, lines=lines)

    changes = [line.net_micros for line in statement.lines if line.kind is not LineKind.WORK]
    assert statement.closing_micros == opening + sum(changes)
    assert [line.at_us for line in statement.lines] == sorted(line.at_us for line in lines)
    rows = list(csv.DictReader(io.StringIO(statement.csv.decode(), newline="")))
    assert len(rows) == len(lines) + 2
    in_micros = [int(row["net"].replace(".", "")) for row in rows if row["kind"] != "work"]
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

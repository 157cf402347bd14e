"""The operator's report: sums, who paid, and the file."""

import csv
import io

import pytest

from pool_protocol.errors import InvariantError
from pool_server.core.pool_report import OwnerLine, PoolReport, make_report
from pool_server.reports.pool_csv import COLUMNS, render

ADA = OwnerLine(
    owner_id="owner_ada",
    verified_attempts=3,
    work_uwu=4_500_000,
    gross_micros=1_000,
    fee_micros=100,
    net_micros=900,
    held_micros=400,
    available_micros=300,
    paid_micros=200,
)
BEA = OwnerLine(owner_id="owner_bea", gross_micros=50, fee_micros=5, net_micros=45, verified_attempts=1)
IDLE = OwnerLine(owner_id="owner_idle")


def report(*owners: OwnerLine, verification_cost_micros: int = 50) -> PoolReport:
    return make_report(
        month="2026-11",
        currency="EUR",
        made_at_us=1_795_000_000_000_000,
        owners=owners,
        verification_cost_micros=verification_cost_micros,
        vehicles_quarantined=2,
    )


def test_it_sums_owners_and_says_who_paid() -> None:
    made = report(BEA, IDLE, ADA)
    assert made.owners == (ADA, BEA)
    assert (made.total.verified_attempts, made.total.work_uwu) == (4, 4_500_000)
    assert (made.total.gross_micros, made.total.fee_micros, made.total.net_micros) == (1_050, 105, 945)
    assert (made.total.held_micros, made.total.available_micros, made.total.paid_micros) == (400, 300, 200)
    assert (made.buyers_spent_micros, made.verification_cost_micros) == (1_000, 50)


def test_figures_that_do_not_add_up_are_not_reported() -> None:
    with pytest.raises(InvariantError, match="is not fee"):
        report(OwnerLine(owner_id="owner_x", gross_micros=10, fee_micros=1, net_micros=8))
    with pytest.raises(InvariantError, match="audits cost"):
        report(ADA, verification_cost_micros=1_001)


def test_the_file_has_a_line_per_owner_their_sum_and_the_payers() -> None:
    content = render(report(BEA, ADA))
    assert content == render(report(ADA, BEA))
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [row["line"] for row in rows[:5]] == ["owner", "owner", "total", "paid_by_buyers", "paid_by_pool"]
    assert {row["period"] for row in rows} == {"2026-11"}
    assert {row["made_at"] for row in rows} == {"2026-11-18T11:06:40Z"}
    assert [row["gross"] for row in rows[:5]] == ["0.001000", "0.000050", "0.001050", "0.001000", "0.000050"]
    assert (rows[0]["owner_id"], rows[0]["work_wu"], rows[0]["held"]) == ("owner_ada", "4.500000", "0.000400")
    assert rows[4]["paid"] == ""

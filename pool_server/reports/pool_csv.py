"""The operator's report as CSV (RFC 4180): a line per owner, their sum, who paid it, and what else there is.

`line` says what a row is: owner, total, paid_by_buyers, paid_by_pool (audits), mover (net is the
month's, the note says the month before's), held_by_age, escrow_by_age, questioned, returned, clawed_back,
appealed, left_out, take_rate_ppm, net_take_rate_ppm, vehicles_quarantined. The last column says more. Columns
and lines are only ever added: people have spreadsheets.
"""

from collections.abc import Iterator

from pool_protocol import amounts
from pool_server.core.pool_report import OwnerLine, PoolReport
from pool_server.reports.csv_file import typed, written

COLUMNS = (
    *("period", "line", "owner_id", "verified_attempts", "work_wu", "gross", "fee", "net", "held"),
    *("available", "paid", "currency", "made_at", "note"),
)
_FIGURES = COLUMNS[2:11]


def render(report: PoolReport) -> bytes:
    """Return the report's file."""
    period, made_at = report.month or "all", amounts.iso_time(report.made_at_us)
    return written(
        COLUMNS,
        (
            (period, kind, *(cells.get(name, "") for name in _FIGURES), report.currency, made_at, note)
            for kind, cells, note in _rows(report)
        ),
    )


def _rows(report: PoolReport) -> Iterator[tuple[str, dict[str, str], str]]:
    money = amounts.decimal
    figures = report.figures
    for line in report.owners:
        yield "owner", _figures(line), ""
    yield "total", _figures(report.total), ""
    yield "paid_by_buyers", {"gross": money(report.buyers_spent_micros)}, ""
    yield "paid_by_pool", {"gross": money(report.verification_cost_micros)}, ""
    for mover in figures.movers:
        cells = {
            "owner_id": mover.owner_id,
            "net": money(mover.net_micros),
        }
        note = f"before {money(mover.before_micros)}, change {money(mover.change_micros)}"
        yield "mover", cells, note
    for one in figures.held_by_age:
        cells = {"verified_attempts": str(one.count), "held": money(one.amount_micros)}
        yield "held_by_age", cells, one.label
    for one in figures.escrow_by_age:
        yield "escrow_by_age", {"gross": money(one.amount_micros)}, f"{one.count} jobs, {one.label}"
    yield "questioned", {"held": money(figures.questioned_micros)}, ""
    yield "returned", {"paid": money(-figures.returned_micros)}, f"{figures.returned_count} payouts"
    yield "clawed_back", {"net": money(-figures.clawed_back_micros)}, ""
    yield "appealed", {"net": money(figures.appealed_micros)}, ""
    for row in figures.left_out:
        cells = {"owner_id": row.owner_id, "available": money(row.amount_micros)}
        yield "left_out", cells, typed(f"{row.payout_id}: {row.reason}")
    yield "take_rate_ppm", {}, str(figures.take_rate_ppm)
    yield "net_take_rate_ppm", {}, str(figures.net_take_rate_ppm)
    yield "vehicles_quarantined", {}, str(report.vehicles_quarantined)


def _figures(line: OwnerLine) -> dict[str, str]:
    money = amounts.decimal
    return {
        "owner_id": line.owner_id,
        "verified_attempts": str(line.verified_attempts),
        "work_wu": amounts.decimal_work(line.work_uwu),
        "gross": money(line.gross_micros),
        "fee": money(line.fee_micros),
        "net": money(line.net_micros),
        "held": money(line.held_micros),
        "available": money(line.available_micros),
        "paid": money(line.paid_micros),
    }

"""The operator's report as CSV (RFC 4180): a line per owner, their sum, and who paid it."""

import csv
import io
from datetime import UTC, datetime

from pool_protocol import amounts
from pool_server.core.pool_report import OwnerLine, PoolReport

#: `line` is owner, total, paid_by_buyers or paid_by_pool (audits).
COLUMNS = (
    "period",
    "line",
    "owner_id",
    "verified_attempts",
    "work_wu",
    "gross",
    "fee",
    "net",
    "held",
    "available",
    "paid",
    "currency",
    "made_at",
)
_MICROSECONDS = 1_000_000


def render(report: PoolReport) -> bytes:
    """Return the report's file."""
    period = report.month or "all"
    made_at = datetime.fromtimestamp(report.made_at_us // _MICROSECONDS, tz=UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for kind, line in [*(("owner", line) for line in report.owners), ("total", report.total)]:
        writer.writerow((period, kind, *_figures(line), report.currency, made_at))
    payers = (
        ("paid_by_buyers", report.buyers_spent_micros),
        ("paid_by_pool", report.verification_cost_micros),
    )
    for kind, amount_micros in payers:
        blank = ("",) * 5
        writer.writerow(
            (period, kind, "", "", "", amounts.decimal(amount_micros), *blank, report.currency, made_at)
        )
    return buffer.getvalue().encode()


def _figures(line: OwnerLine) -> tuple[str, ...]:
    return (
        line.owner_id,
        str(line.verified_attempts),
        amounts.decimal_work(line.work_uwu),
        *(
            amounts.decimal(amount_micros)
            for amount_micros in (
                line.gross_micros,
                line.fee_micros,
                line.net_micros,
                line.held_micros,
                line.available_micros,
                line.paid_micros,
            )
        ),
    )

"""An owner's monthly statement: lines, opening, closing, and the same as CSV. Pure.

Opening and closing are *available* money, which is what payouts come from. Lines of kind `work` say what was
verified and credited to held money; every other line changes available money, so that

    closing = opening + sum of the net of all lines whose kind is not `work`

and that sum is what the ledger says. A month with more work lines than a statement shows has one line per day
and vehicle instead, its reference being `<date> <vehicle>`.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum, unique

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import format_micros, format_wu

#: Work lines of one statement before they are summed by day.
WORK_LINES_MAX = 20_000
_MICROSECONDS = 1_000_000
_MONTH_CHARACTERS = 7


@unique
class LineKind(StrEnum):
    """What a line stands for."""

    WORK = "work"
    RELEASE = "release"
    PAYOUT = "payout"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One line."""

    at_us: int
    kind: LineKind
    reference: str
    work_uwu: int = 0
    price_micros_per_wu: int = 0
    gross_micros: int = 0
    fee_micros: int = 0
    net_micros: int
    """Positive is towards the owner: for work the credit to held, else the change of available money."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A month of one owner."""

    month: str
    currency: str
    opening_micros: int
    lines: tuple[StatementLine, ...]
    closing_micros: int
    csv: bytes


def month_bounds_us(month: str) -> tuple[int, int]:
    """Return the first microsecond of a month and of the next one, UTC: `2026-11`.

    Raises:
        PoolError: INVALID_ARGUMENT.
    """
    try:
        if len(month) != _MONTH_CHARACTERS or not month.isascii():
            raise ValueError(month)
        start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
        end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    except ValueError as error:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, "a month is written like 2026-11", context={"field": "month"}
        ) from error
    return int(start.timestamp()) * _MICROSECONDS, int(end.timestamp()) * _MICROSECONDS


def date_of(at_us: int) -> str:
    """Return the UTC date of a time: `2026-11-23`."""
    return datetime.fromtimestamp(at_us // _MICROSECONDS, tz=UTC).date().isoformat()


def make_statement(
    *, month: str, currency: str, opening_micros: int, lines: Sequence[StatementLine]
) -> Statement:
    """Put a statement together: lines in the order of time (as given where it is the same), closing, CSV."""
    ordered = tuple(sorted(lines, key=lambda line: line.at_us))
    changes = sum(line.net_micros for line in ordered if line.kind is not LineKind.WORK)
    closing_micros = opening_micros + changes
    return Statement(
        month=month,
        currency=currency,
        opening_micros=opening_micros,
        lines=ordered,
        closing_micros=closing_micros,
        csv=_csv(currency, opening_micros, ordered, closing_micros),
    )


_COLUMNS = ("time", "kind", "reference", "work_wu", "price_per_wu", "gross", "fee", "net", "currency")


def _csv(currency: str, opening_micros: int, lines: Sequence[StatementLine], closing_micros: int) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    writer.writerow(("", "opening", "", "", "", "", "", format_micros(opening_micros), currency))
    for line in lines:
        is_work = line.kind is LineKind.WORK
        writer.writerow(
            (
                datetime.fromtimestamp(line.at_us // _MICROSECONDS, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                line.kind.value,
                line.reference,
                format_wu(line.work_uwu) if is_work else "",
                format_micros(line.price_micros_per_wu) if is_work else "",
                format_micros(line.gross_micros) if is_work else "",
                format_micros(line.fee_micros) if is_work else "",
                format_micros(line.net_micros),
                currency,
            )
        )
    writer.writerow(("", "closing", "", "", "", "", "", format_micros(closing_micros), currency))
    return buffer.getvalue().encode()

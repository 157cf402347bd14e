"""An owner's monthly statement: lines, opening, closing, and the same as CSV. Pure.

Opening and closing are *available* money, which is what payouts come from. Lines of kind `work` say what was
verified and credited to held money; every other line changes available money, so that

    closing = opening + sum of the net of all lines whose kind is neither `work` nor `unpaid`

and that sum is what the ledger says. A month with more work lines than a statement shows has one line per day
and vehicle instead, its reference being `<date> <vehicle>`.

Electricity is the owner's own matter: what the vehicles told of energy and its cost, by the owner's meter
and tariff. It moves no money here, but what is left after it is what the owner earned, so every work line
says it, negative or not. A line of kind `unpaid` holds the energy of attempts that ended without pay in the
month.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum, unique

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import format_micros, format_wu
from pool_server.core.energy import MILLIJOULES_PER_KWH, NO_ENERGY, EnergySums, add_up

#: Work lines of one statement before they are summed by day.
WORK_LINES_MAX = 20_000
_MICROSECONDS = 1_000_000
_MONTH_CHARACTERS = 7


@unique
class LineKind(StrEnum):
    """What a line stands for."""

    WORK = "work"
    UNPAID = "unpaid"
    """Energy of attempts that ended without pay: it changes no balance."""
    RELEASE = "release"
    PAYOUT = "payout"
    PAYOUT_RETURNED = "payout_returned"
    APPEAL = "appeal"
    """A rejection was overturned: the pool pays for the result."""
    GOODWILL = "goodwill"
    """A gift of the pool."""
    CORRECTION = "correction"


#: Lines that stand for no change of available money.
_WITHOUT_TRANSFER = frozenset({LineKind.WORK, LineKind.UNPAID})


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
    energy: EnergySums = NO_ENERGY
    """For work and unpaid lines, as the owner's vehicles told it."""
    receipt_id: int = 0
    """The receipt of a work line; 0 for others, and for work that is summed by day."""

    @property
    def after_electricity_micros(self) -> int | None:
        """Net minus electricity; None when no cost was told."""
        return self.energy.after(self.net_micros)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTotals:
    """Sums over a statement's work and unpaid lines."""

    work_uwu: int
    gross_micros: int
    fee_micros: int
    net_micros: int
    """Before electricity."""
    energy: EnergySums

    @property
    def after_electricity_micros(self) -> int | None:
        """Net minus electricity; None when no cost was told."""
        return self.energy.after(self.net_micros)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A month of one owner."""

    month: str
    currency: str
    opening_micros: int
    lines: tuple[StatementLine, ...]
    closing_micros: int
    csv: bytes
    totals: StatementTotals


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
    changes = sum(line.net_micros for line in ordered if line.kind not in _WITHOUT_TRANSFER)
    closing_micros = opening_micros + changes
    totals = totals_of(ordered)
    return Statement(
        month=month,
        currency=currency,
        opening_micros=opening_micros,
        lines=ordered,
        closing_micros=closing_micros,
        csv=_csv(currency, opening_micros, ordered, closing_micros, totals),
        totals=totals,
    )


def totals_of(lines: Sequence[StatementLine]) -> StatementTotals:
    """Add up work and energy of a statement's lines."""
    work = [line for line in lines if line.kind is LineKind.WORK]
    return StatementTotals(
        work_uwu=sum(line.work_uwu for line in work),
        gross_micros=sum(line.gross_micros for line in work),
        fee_micros=sum(line.fee_micros for line in work),
        net_micros=sum(line.net_micros for line in work),
        energy=add_up(line.energy for line in lines),
    )


def format_kwh(energy_mj: int) -> str:
    """Write an energy in kWh, cut to nine decimals: a thousandth of a millijoule less at most."""
    return f"{energy_mj // MILLIJOULES_PER_KWH}.{energy_mj % MILLIJOULES_PER_KWH * 10 // 36:09d}"


#: Columns are only ever added at the end: people have spreadsheets.
_COLUMNS = (
    *("time", "kind", "reference", "work_wu", "price_per_wu", "gross", "fee", "net", "currency"),
    *("energy_kwh", "energy_source", "electricity", "net_after_electricity", "receipt"),
)


def _csv(
    currency: str,
    opening_micros: int,
    lines: Sequence[StatementLine],
    closing_micros: int,
    totals: StatementTotals,
) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    no_energy = ("", "", "", "", "")
    opening, closing = format_micros(opening_micros), format_micros(closing_micros)
    writer.writerow(("", "opening", "", "", "", "", "", opening, currency, *no_energy))
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
                *_energy_cells(line.energy, line.net_micros),
                str(line.receipt_id or ""),
            )
        )
    writer.writerow(
        (
            *("", "total work", "", format_wu(totals.work_uwu), ""),
            format_micros(totals.gross_micros),
            format_micros(totals.fee_micros),
            format_micros(totals.net_micros),
            currency,
            *_energy_cells(totals.energy, totals.net_micros),
            "",
        )
    )
    writer.writerow(("", "closing", "", "", "", "", "", closing, currency, *no_energy))
    return buffer.getvalue().encode()


def _energy_cells(energy: EnergySums, net_micros: int) -> tuple[str, str, str, str]:
    """Write energy, source, cost and what is left; empty where it was not told."""
    if not energy.attempts:
        return ("", "", "", "")
    after_micros = energy.after(net_micros)
    if after_micros is None:
        return (format_kwh(energy.energy_mj), energy.source, "", "")
    cost = format_micros(energy.electricity_micros)
    return (format_kwh(energy.energy_mj), energy.source, cost, format_micros(after_micros))

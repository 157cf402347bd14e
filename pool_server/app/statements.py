"""An owner's statement of a month, from receipts and the books."""

from pool_protocol.errors import InvariantError
from pool_protocol.limits import DAY_US
from pool_server.app.books import account
from pool_server.core.energy import NO_ENERGY, EnergyFigures, sum_of
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import TransferCode, TransferRow
from pool_server.core.statement import (
    WORK_LINES_MAX,
    LineKind,
    Statement,
    StatementLine,
    date_of,
    make_statement,
    month_bounds_us,
)
from pool_server.ports.money import ReceiptRow
from pool_server.ports.unit_of_work import UnitOfWork

_KIND_OF_CODE = {
    TransferCode.AVAILABLE.value: LineKind.RELEASE,
    TransferCode.UPHELD.value: LineKind.RELEASE,
    TransferCode.PAYOUT.value: LineKind.PAYOUT,
    TransferCode.PAYOUT_RETURNED.value: LineKind.PAYOUT_RETURNED,
    TransferCode.APPEALED.value: LineKind.APPEAL,
    TransferCode.GOODWILL.value: LineKind.GOODWILL,
}


def owner_statement(uow: UnitOfWork, *, owner_id: str, month: str) -> Statement:
    """Return an owner's statement of a month such as `2026-11`.

    Raises:
        PoolError: INVALID_ARGUMENT for something that is not a month.
        InvariantError: the lines do not lead from the opening to the closing balance of the ledger.
    """
    from_us, until_us = month_bounds_us(month)
    lines = _work_lines(uow, owner_id, from_us=from_us, until_us=until_us)
    lines.extend(_unpaid_line(uow, owner_id, from_us=from_us, until_us=until_us))
    opening_micros = expected_closing = 0
    available = account(uow, chart.owner_available_name(owner_id))
    if available is not None:
        account_id = available.account_id
        opening_micros = uow.ledger.account_balance_before(account_id, before_us=from_us)
        expected_closing = uow.ledger.account_balance_before(account_id, before_us=until_us)
        rows = uow.ledger.account_transfers(account_id, from_us=from_us, until_us=until_us)
        lines.extend(_ledger_line(row, account_id) for row in rows)
    statement = make_statement(
        month=month, currency=uow.terms.currency, opening_micros=opening_micros, lines=lines
    )
    if statement.closing_micros != expected_closing:
        raise InvariantError(
            f"the statement of {owner_id} for {month} closes with {statement.closing_micros}, "
            f"the ledger with {expected_closing}"
        )
    return statement


def _work_lines(uow: UnitOfWork, owner_id: str, *, from_us: int, until_us: int) -> list[StatementLine]:
    receipts = uow.receipts.in_range(owner_id, from_us=from_us, until_us=until_us, limit=WORK_LINES_MAX + 1)
    if len(receipts) <= WORK_LINES_MAX:
        told = uow.energy.of_paid(owner_id, from_us=from_us, until_us=until_us)
        return [_work_line(receipt, told.get(receipt.attempt_id)) for receipt in receipts]
    told_by_day = uow.energy.of_paid_by_day(owner_id, from_us=from_us, until_us=until_us)
    days = uow.receipts.days(owner_id, from_day=from_us // DAY_US, until_day=until_us // DAY_US)
    return [
        StatementLine(
            at_us=(day.day + 1) * DAY_US - 1,
            kind=LineKind.WORK,
            reference=f"{date_of(day.day * DAY_US)} {day.vehicle_id}",
            work_uwu=day.work_uwu,
            gross_micros=day.gross_micros,
            fee_micros=day.fee_micros,
            net_micros=day.net_micros,
            energy=told_by_day.get((day.day, day.vehicle_id), NO_ENERGY),
        )
        for day in days
    ]


def _unpaid_line(uow: UnitOfWork, owner_id: str, *, from_us: int, until_us: int) -> list[StatementLine]:
    """Return the line of attempts that ended without pay; none without such energy."""
    unpaid = uow.energy.of_unpaid(owner_id, from_us=from_us, until_us=until_us)
    if not unpaid.attempts:
        return []
    reference = "1 attempt" if unpaid.attempts == 1 else f"{unpaid.attempts} attempts"
    return [
        StatementLine(
            at_us=until_us - 1, kind=LineKind.UNPAID, reference=reference, net_micros=0, energy=unpaid
        )
    ]


def _work_line(receipt: ReceiptRow, told: EnergyFigures | None) -> StatementLine:
    return StatementLine(
        at_us=receipt.verified_at_us,
        kind=LineKind.WORK,
        reference=f"attempt_{receipt.attempt_id}",
        work_uwu=receipt.work_uwu,
        price_micros_per_wu=receipt.price_micros_per_wu,
        gross_micros=receipt.gross_micros,
        fee_micros=receipt.fee_micros,
        net_micros=receipt.net_micros,
        energy=NO_ENERGY if told is None else sum_of(told),
        receipt_id=receipt.receipt_id,
    )


def _ledger_line(row: TransferRow, account_id: int) -> StatementLine:
    kind = _KIND_OF_CODE.get(row.code, LineKind.CORRECTION)
    of_run = kind in (LineKind.PAYOUT, LineKind.PAYOUT_RETURNED)
    reference = f"payout_{row.reference_id}" if of_run else f"transfer_{row.transfer_id}"
    net_micros = row.amount_micros if row.credit_account_id == account_id else -row.amount_micros
    return StatementLine(at_us=row.recorded_at_us, kind=kind, reference=reference, net_micros=net_micros)

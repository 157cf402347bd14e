"""Imports what the bank says of payouts: settled, rejected, returned; each books its money once.

The same bytes again give the same answer and change nothing. A report that the bank sends twice under another
name finds its payments decided and says so. Settled payments of a run leave clearing for the bank in one
transfer per report (code 505); rejected and returned ones go back to their owners one by one (code 510), from
clearing or, once settled, from the bank.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pool_protocol import amounts
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import NAME_CHARACTERS_MAX
from pool_server.app.books import open_accounts, transfer
from pool_server.app.leaving import finish_leaving
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import Account, TransferCode, TransferKind, TransferRequest
from pool_server.core.payouts.bank_report import (
    BankReport,
    KnownPayment,
    LineResult,
    Outcome,
    Verdict,
    decide_report,
)
from pool_server.core.payouts.references import block_rows, message_id, payout_id_of
from pool_server.core.payouts.row_state import RowState, RowStep
from pool_server.ports.banks import StoredReport
from pool_server.ports.unit_of_work import UnitOfWork

_STATES = {
    Verdict.SETTLED: RowState.SETTLED,
    Verdict.REJECTED: RowState.REJECTED,
    Verdict.RETURNED: RowState.RETURNED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportAnswer:
    """A report and what became of its lines."""

    report: StoredReport
    results: tuple[LineResult, ...]
    was_known: bool
    """The same bytes were imported before; nothing was changed now."""


def import_status(
    uow: UnitOfWork,
    *,
    report: BankReport,
    content: bytes,
    file_name: str,
    operator_id: str,
    now_us: int,
) -> ImportAnswer:
    """Take a bank's report.

    Args:
        uow: The command's transaction.
        report: The file, read.
        content: The file's bytes, which are kept.
        file_name: As the operator's machine calls it.
        operator_id: Who imports it.
        now_us: The command's time.

    Raises:
        PoolError: INVALID_ARGUMENT for a name that is too long.
    """
    checked = check_status(uow, report=report, content=content, file_name=file_name)
    if checked.was_known:
        return checked
    [report_id] = uow.ids.next_block("bank_report", 1)
    stored = replace(checked.report, report_id=report_id, imported_by=operator_id, imported_at_us=now_us)
    uow.banks.add_report(stored, content, checked.results)
    applied = [result for result in checked.results if result.outcome is Outcome.APPLIED]
    uow.banks.add_steps([_step(result, report_id, now_us) for result in applied])
    _book(uow, applied, now_us=now_us)
    finish_leaving(uow, sorted({result.owner_id for result in applied}), now_us=now_us)
    return replace(checked, report=stored)


def check_status(uow: UnitOfWork, *, report: BankReport, content: bytes, file_name: str) -> ImportAnswer:
    """Say what would become of a bank's report, or what became of it; change nothing.

    Raises:
        PoolError: INVALID_ARGUMENT for a name that is too long.
    """
    if len(file_name) > NAME_CHARACTERS_MAX or not file_name.isprintable():
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"a file's name has at most {NAME_CHARACTERS_MAX} printable characters",
            context={"field": "file_name"},
        )
    sha256_hex = hashlib.sha256(content).hexdigest()
    known = uow.banks.report_by_hash(sha256_hex)
    if known is not None:
        results = uow.banks.results(known.report_id)
        return ImportAnswer(report=known, results=tuple(results), was_known=True)
    seen = StoredReport(
        report_id=0,
        sha256_hex=sha256_hex,
        file_name=file_name,
        format=report.format,
        message_id=report.message_id,
        imported_by="",
        imported_at_us=0,
    )
    results = decide_report(report, _payments(uow, report), money=amounts.cents)
    return ImportAnswer(report=seen, results=tuple(results), was_known=False)


def list_reports(uow: UnitOfWork, *, limit: int) -> list[StoredReport]:
    """Return imported reports, newest first."""
    return uow.banks.reports(limit=limit)


def _payments(uow: UnitOfWork, report: BankReport) -> list[KnownPayment]:
    """Load the payments that a report may be about."""
    payout_ids: set[int] = set()
    for line in report.lines:
        if line.reference:
            continue
        block = block_rows(line.block)
        payout_id = payout_id_of(block[0] if block else line.message)
        if payout_id is not None:
            payout_ids.add(payout_id)
    found = uow.banks.sent_payments(
        references={line.reference for line in report.lines if line.reference}, payout_ids=payout_ids
    )
    pool_id = uow.terms.pool_id
    return [replace(payment, message=message_id(pool_id, payment.payout_id)) for payment in found]


def _step(result: LineResult, report_id: int, now_us: int) -> RowStep:
    return RowStep(
        payout_id=result.payout_id,
        owner_id=result.owner_id,
        state=_STATES[result.verdict],
        from_state=RowState(result.from_state),
        amount_micros=result.amount_micros,
        reason_code=result.reason_code,
        reason_text=result.reason_text,
        report_id=report_id,
        at_us=now_us,
    )


def _book(uow: UnitOfWork, applied: Sequence[LineResult], *, now_us: int) -> None:
    if not applied:
        return
    own = open_accounts(uow, [chart.PAYOUT_CLEARING, chart.BANK], now_us=now_us)
    clearing, bank = own[chart.PAYOUT_CLEARING.name], own[chart.BANK.name]
    names = {
        chart.owner_available_name(result.owner_id)
        for result in applied
        if result.verdict is not Verdict.SETTLED
    }
    owners = uow.ledger.accounts_by_name(sorted(names))
    requests = [
        *_settlements(applied, clearing, bank),
        *(
            TransferRequest(
                kind=TransferKind.SINGLE.value,
                code=TransferCode.PAYOUT_RETURNED.value,
                debit_account_id=(
                    bank if result.from_state == RowState.SETTLED.value else clearing
                ).account_id,
                credit_account_id=owners[chart.owner_available_name(result.owner_id)].account_id,
                amount_micros=result.amount_micros,
                reference_id=result.payout_id,
            )
            for result in applied
            if result.verdict is not Verdict.SETTLED
        ),
    ]
    transfer(uow, requests, [clearing, bank, *owners.values()], now_us=now_us)


def _settlements(applied: Iterable[LineResult], clearing: Account, bank: Account) -> list[TransferRequest]:
    sums: dict[int, int] = {}
    for result in applied:
        if result.verdict is Verdict.SETTLED:
            sums[result.payout_id] = sums.get(result.payout_id, 0) + result.amount_micros
    return [
        TransferRequest(
            kind=TransferKind.SINGLE.value,
            code=TransferCode.PAYOUT_SETTLED.value,
            debit_account_id=clearing.account_id,
            credit_account_id=bank.account_id,
            amount_micros=amount_micros,
            reference_id=payout_id,
        )
        for payout_id, amount_micros in sorted(sums.items())
    ]

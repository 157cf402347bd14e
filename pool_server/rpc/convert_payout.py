"""Between the wire and payouts: runs, rows, reviews, banks' reports, owners who leave. Decides nothing."""

from collections.abc import Sequence

from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import payout_service_pb2 as pb
from pool_server.app.bank_status import ImportAnswer
from pool_server.app.leaving import LeavingView
from pool_server.app.payout_review import PayoutReview
from pool_server.app.payouts import ListedRun, PayoutView
from pool_server.core.payouts.bank_reasons import reason_words
from pool_server.core.payouts.bank_report import LineResult, Verdict
from pool_server.core.payouts.model import LEFT_OUT_WORDS, PayoutRow, PayoutRun
from pool_server.core.payouts.row_state import RowState
from pool_server.ports.banks import StoredReport


def _run(run: PayoutRun, word: str) -> admin_pb.PayoutView:
    return admin_pb.PayoutView(
        payout_id=run.text_id,
        state=word,
        total_micros=run.total_micros,
        planned_by=run.planned_by,
        approved_by=run.approved_by,
        planned_at_us=run.planned_at_us,
        approved_at_us=run.approved_at_us,
        file_sha256=run.file_sha256,
        currency=run.currency,
        rail=run.rail,
    )


def listed_run(listed: ListedRun) -> admin_pb.PayoutView:
    """Write a payout run without rows."""
    return _run(listed.run, listed.word)


def payout_summary(view: PayoutView) -> admin_pb.PayoutView:
    """Write a payout run without rows."""
    message = _run(view.run, view.word())
    progress = view.progress()
    message.progress.extend(
        admin_pb.PayoutProgress(state=state.value, count=progress.count[state], micros=progress.micros[state])
        for state in RowState
        if state in progress.count
    )
    return message


def payout_view(view: PayoutView) -> admin_pb.PayoutView:
    """Write a payout run with its rows."""
    message = payout_summary(view)
    message.rows.extend(_row(row, view.state_of(row).value, _explanation(view, row)) for row in view.rows)
    message.quarantined.extend(
        _row(row, "", LEFT_OUT_WORDS.get(row.reason, row.reason)) for row in view.quarantined
    )
    return message


def _row(row: PayoutRow, state: str, explanation: str) -> admin_pb.PayoutRow:
    return admin_pb.PayoutRow(
        owner_id=row.owner_id,
        holder_name=row.holder_name,
        iban=row.iban,
        amount_micros=row.amount_micros,
        reason=row.reason,
        reference=row.reference,
        state=state,
        explanation=explanation,
        town=row.town,
        country=row.country,
        bic=row.bic,
    )


def _explanation(view: PayoutView, row: PayoutRow) -> str:
    steps = view.steps.get(row.owner_id, ())
    if not steps or steps[-1].state is RowState.SETTLED:
        return ""
    if steps[-1].state is RowState.WITHHELD:
        return steps[-1].reason_text
    return reason_words(steps[-1].reason_code, steps[-1].reason_text)


def review_response(review: PayoutReview) -> pb.ReviewPayoutResponse:
    """Write a review."""
    found, coverage = review.review, review.coverage
    return pb.ReviewPayoutResponse(
        payout=payout_view(review.view),
        previous_payout_id=f"payout_{review.previous_payout_id}" if review.previous_payout_id else "",
        previous_total_micros=found.previous_total_micros,
        previous_row_count=found.previous_row_count,
        movers=[
            pb.PayoutMover(
                owner_id=mover.owner_id,
                amount_micros=mover.amount_micros,
                previous_micros=mover.previous_micros,
            )
            for mover in found.movers
        ],
        new_accounts=found.new_accounts,
        below_threshold_count=found.below_threshold_count,
        below_threshold_micros=found.below_threshold_micros,
        bank_micros=coverage.bank_micros,
        owed_micros=coverage.owed_micros,
        under_way_micros=coverage.under_way_micros,
        warnings=found.warnings,
        entered_bank_micros=coverage.entered_micros,
        entered_bank_as_of=coverage.entered_as_of,
    )


def import_response(answer: ImportAnswer, *, currency: str) -> pb.ImportBankStatusResponse:
    """Write what became of a bank's report."""
    return pb.ImportBankStatusResponse(
        report=report_view(answer.report),
        results=_results(answer.results),
        was_known=answer.was_known,
        currency=currency,
    )


def report_view(report: StoredReport) -> pb.BankReportView:
    """Write a bank's report without its lines."""
    return pb.BankReportView(
        report_id=report.report_id,
        format=report.format,
        message_id=report.message_id,
        file_name=report.file_name,
        sha256=report.sha256_hex,
        imported_by=report.imported_by,
        imported_at_us=report.imported_at_us,
    )


def _results(results: Sequence[LineResult]) -> list[pb.BankReportResult]:
    return [
        pb.BankReportResult(
            line_number=result.line_number,
            reference=result.reference,
            payout_id=f"payout_{result.payout_id}" if result.payout_id else "",
            owner_id=result.owner_id,
            status=result.status,
            verdict=result.verdict.value,
            outcome=result.outcome.value,
            amount_micros=result.amount_micros,
            reason_code=result.reason_code,
            reason=(
                reason_words(result.reason_code, result.reason_text)
                if result.verdict in (Verdict.REJECTED, Verdict.RETURNED)
                else result.reason_text
            ),
            detail=result.detail,
        )
        for result in results
    ]


def close_out_view(view: LeavingView, *, currency: str) -> pb.CloseOutView:
    """Write an owner who leaves."""
    return pb.CloseOutView(
        owner_id=view.leaving.owner_id,
        asked_by=view.leaving.asked_by,
        asked_at_us=view.leaving.asked_at_us,
        closed_at_us=view.leaving.closed_at_us,
        rounding_micros=view.leaving.rounding_micros,
        available_micros=view.available_micros,
        held_micros=view.held_micros,
        under_way=view.under_way,
        obstacle=view.obstacle,
        currency=currency,
    )

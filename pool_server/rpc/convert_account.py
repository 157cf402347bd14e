"""Between the wire and what owners and operators ask: vehicles, money, books. Decides nothing."""

from collections.abc import Sequence

from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_server.app.earnings import Earnings, VehicleEarnings
from pool_server.app.ledger_check import LedgerReport
from pool_server.app.work_commands import VehicleViewValue
from pool_server.core.energy import EnergySums
from pool_server.core.ledger.model import Account
from pool_server.core.payouts.model import PayoutDetails
from pool_server.core.pool_report import OwnerLine, PoolReport
from pool_server.core.report_figures import AgeClass
from pool_server.core.statement import Statement


def vehicle_view(
    vehicle: VehicleViewValue, earnings: VehicleEarnings, *, agent_version: str
) -> account_pb.VehicleView:
    """Write a vehicle."""
    return account_pb.VehicleView(
        vehicle_id=vehicle.vehicle_id,
        owner_id=vehicle.owner_id,
        label=vehicle.label,
        state=vehicle.state.value,
        last_seen_us=vehicle.last_seen_us,
        verified_attempts=vehicle.verified_attempts,
        rejected_attempts=vehicle.rejected_attempts,
        abandoned_attempts=vehicle.abandoned_attempts,
        net_micros=earnings.net_micros,
        clean_uwu=vehicle.clean_uwu,
        quarantine_reason=vehicle.quarantine_reason,
        running_attempts=vehicle.running_attempts,
        enrolled_at_us=vehicle.enrolled_at_us,
        agent_version=agent_version,
        trusted=vehicle.trusted,
        numeric_class=vehicle.numeric_class,
    )


def earnings_response(earnings: Earnings) -> account_pb.GetEarningsResponse:
    """Write an owner's money."""
    return account_pb.GetEarningsResponse(
        currency=earnings.currency,
        held_micros=earnings.held_micros,
        available_micros=earnings.available_micros,
        paid_micros=earnings.paid_micros,
        gross_micros=earnings.gross_micros,
        fee_micros=earnings.fee_micros,
        next_payout_us=earnings.next_payout_us,
        payout_threshold_micros=earnings.payout_threshold_micros,
        days=[
            account_pb.DayEarnings(
                date=day.date,
                net_micros=day.net_micros,
                verified_attempts=day.verified_attempts,
                energy=energy_sums(day.energy),
                after_electricity_micros=day.energy.after(day.net_micros),
            )
            for day in earnings.days
        ],
        next_release_us=earnings.next_release_us,
        pending_micros=earnings.pending_micros,
        energy=energy_sums(earnings.energy),
        after_electricity_micros=earnings.after_electricity_micros,
    )


def statement_response(statement: Statement) -> account_pb.GetStatementResponse:
    """Write a statement."""
    return account_pb.GetStatementResponse(
        month=statement.month,
        opening_micros=statement.opening_micros,
        lines=[
            account_pb.StatementLine(
                at_us=line.at_us,
                kind=line.kind.value,
                reference=line.reference,
                work_uwu=line.work_uwu,
                price_micros_per_wu=line.price_micros_per_wu,
                gross_micros=line.gross_micros,
                fee_micros=line.fee_micros,
                net_micros=line.net_micros,
                energy_mj=line.energy.energy_mj,
                energy_source=line.energy.source,
                electricity_micros=line.energy.electricity_micros if line.energy.priced else None,
                after_electricity_micros=line.after_electricity_micros,
            )
            for line in statement.lines
        ],
        closing_micros=statement.closing_micros,
        csv=statement.csv,
        currency=statement.currency,
        totals=account_pb.StatementTotals(
            work_uwu=statement.totals.work_uwu,
            gross_micros=statement.totals.gross_micros,
            fee_micros=statement.totals.fee_micros,
            net_micros=statement.totals.net_micros,
            energy=energy_sums(statement.totals.energy),
            after_electricity_micros=statement.totals.after_electricity_micros,
        ),
    )


def energy_sums(sums: EnergySums) -> account_pb.EnergySums:
    """Write energy and its cost."""
    return account_pb.EnergySums(
        energy_mj=sums.energy_mj,
        measured_mj=sums.measured_mj,
        source=sums.source,
        electricity_micros=sums.electricity_micros,
        attempts=sums.attempts,
        unpriced_attempts=sums.unpriced_attempts,
    )


def details_message(details: PayoutDetails | None) -> account_pb.PayoutDetails:
    """Write how an owner is paid; empty when nothing was set."""
    if details is None:
        return account_pb.PayoutDetails()
    return account_pb.PayoutDetails(
        holder_name=details.holder_name,
        iban=details.iban,
        threshold_micros=details.threshold_micros,
        town=details.town,
        country=details.country,
        bic=details.bic,
    )


def payout_details(message: account_pb.PayoutDetails) -> PayoutDetails:
    """Read how an owner wants to be paid; checked by the use case."""
    return PayoutDetails(
        holder_name=message.holder_name,
        iban=message.iban,
        threshold_micros=message.threshold_micros,
        town=message.town,
        country=message.country,
        bic=message.bic,
    )


def _owner_report(line: OwnerLine) -> admin_pb.OwnerReport:
    return admin_pb.OwnerReport(
        owner_id=line.owner_id,
        verified_attempts=line.verified_attempts,
        work_uwu=line.work_uwu,
        gross_micros=line.gross_micros,
        fee_micros=line.fee_micros,
        net_micros=line.net_micros,
        held_micros=line.held_micros,
        available_micros=line.available_micros,
        paid_micros=line.paid_micros,
    )


def report_response(report: PoolReport, *, csv: bytes) -> admin_pb.GetReportResponse:
    """Write the pool's report with its file."""
    figures = report.figures
    return admin_pb.GetReportResponse(
        month=report.month,
        currency=report.currency,
        made_at_us=report.made_at_us,
        owners=[_owner_report(line) for line in report.owners],
        total=_owner_report(report.total),
        buyers_spent_micros=report.buyers_spent_micros,
        verification_cost_micros=report.verification_cost_micros,
        vehicles_quarantined=report.vehicles_quarantined,
        csv=csv,
        file_name=f"report_{report.month or 'all'}.csv",
        take_rate_ppm=figures.take_rate_ppm,
        net_take_rate_ppm=figures.net_take_rate_ppm,
        movers=[
            admin_pb.ReportMover(
                owner_id=mover.owner_id, net_micros=mover.net_micros, before_micros=mover.before_micros
            )
            for mover in figures.movers
        ],
        held_by_age=_ages(figures.held_by_age),
        questioned_micros=figures.questioned_micros,
        escrow_by_age=_ages(figures.escrow_by_age),
        left_out=[
            admin_pb.ReportLeftOut(
                payout_id=row.payout_id,
                owner_id=row.owner_id,
                amount_micros=row.amount_micros,
                reason=row.reason,
            )
            for row in figures.left_out
        ],
        returned_count=figures.returned_count,
        returned_micros=figures.returned_micros,
        clawed_back_micros=figures.clawed_back_micros,
        appealed_micros=figures.appealed_micros,
    )


def _ages(classes: Sequence[AgeClass]) -> list[admin_pb.ReportAge]:
    return [
        admin_pb.ReportAge(
            from_days=one.from_days,
            until_days=one.until_days,
            count=one.count,
            amount_micros=one.amount_micros,
        )
        for one in classes
    ]


def ledger_report(report: LedgerReport) -> admin_pb.CheckLedgerResponse:
    """Write what was checked in the books."""
    return admin_pb.CheckLedgerResponse(
        ok=report.ok,
        checks=[
            admin_pb.LedgerCheck(name=check.name, ok=check.ok, detail=check.detail) for check in report.checks
        ],
        transfer_count=report.transfer_count,
        sum_micros=report.sum_micros,
    )


def account_view(account: Account) -> admin_pb.AccountView:
    """Write an account."""
    return admin_pb.AccountView(
        name=account.name,
        debits_pending_micros=account.debits_pending_micros,
        debits_posted_micros=account.debits_posted_micros,
        credits_pending_micros=account.credits_pending_micros,
        credits_posted_micros=account.credits_posted_micros,
    )

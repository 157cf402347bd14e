"""The operator's payout report as a paper."""

from pool_protocol import amounts
from pool_server.core.issuer import Issuer
from pool_server.core.pool_report import OwnerLine, PoolReport
from pool_server.core.report_figures import AgeClass
from pool_server.reports.paper import Column, Paper, Table, render

_OWNERS = (
    Column(title="Owner", share=3),
    Column(title="Verified", share=0.9, is_number=True),
    Column(title="Work (WU)", share=1.5, is_number=True),
    *(
        Column(title=title, share=1.5, is_number=True)
        for title in ("Gross", "Fee", "Net", "Held", "Payable", "Paid out")
    ),
)
_MOVERS = (
    Column(title="Owner", share=3),
    *(Column(title=title, share=1.5, is_number=True) for title in ("Net", "Month before", "Change")),
)
_LEFT_OUT = (
    Column(title="Run", share=1.2),
    Column(title="Owner", share=3),
    Column(title="Amount", share=1.5, is_number=True),
    Column(title="Reason", share=3),
)

_TERMS = (
    "Work, fees, movers and payouts are of the period; held, payable, reserved and quarantined are of the "
    "time at which the report was made. Every figure can be derived again from the ledger."
)


def report_pdf(report: PoolReport, *, issuer: Issuer) -> bytes:
    """Return the report's paper, in the fallback locale: operators have no account to set another."""
    with amounts.in_locale(amounts.FALLBACK_LOCALE):
        return render(_paper(report, issuer=issuer))


def _paper(report: PoolReport, *, issuer: Issuer) -> Paper:
    currency, total, figures = report.currency, report.total, report.figures
    what_else = (
        ("Paid by buyers for verified work", _money(report.buyers_spent_micros)),
        ("Paid by the pool for audits", _money(report.verification_cost_micros)),
        ("Take rate: fees per gross", _percent(figures.take_rate_ppm)),
        ("Net take rate: fees minus audits, per what buyers paid", _percent(figures.net_take_rate_ppm)),
        ("Taken back for wrong results", _money(figures.clawed_back_micros)),
        ("Paid for rejections that were overturned", _money(figures.appealed_micros)),
        (f"Payouts that came back: {figures.returned_count}", _money(figures.returned_micros)),
        ("Of results that are checked again, now", _money(figures.questioned_micros)),
        ("Vehicles in quarantine, now", str(report.vehicles_quarantined)),
    )
    return Paper(
        title="Payout report",
        subtitle=amounts.month_name(report.month) if report.month else "All time",
        issuer=(issuer.name, *issuer.address_lines),
        recipient=("For the pool's operators",),
        facts=(
            ("Pool", issuer.pool_id),
            ("Made", amounts.iso_time(report.made_at_us)),
            ("Currency", currency),
        ),
        figures=(
            ("Owners' net", amounts.amount(total.net_micros, currency)),
            ("Fees", amounts.amount(total.fee_micros, currency)),
            ("Cost of audits", amounts.amount(report.verification_cost_micros, currency)),
            ("Held now", amounts.amount(total.held_micros, currency)),
            ("Payable now", amounts.amount(total.available_micros, currency)),
            ("Paid out", amounts.amount(total.paid_micros, currency)),
        ),
        tables=(
            Table(
                heading="Owners",
                columns=_OWNERS,
                rows=tuple(_owner(line) for line in report.owners),
                totals=(_owner(total),),
            ),
            Table(
                heading="Sums",
                columns=(Column(title="What", share=4), Column(title="Figure", share=1.5, is_number=True)),
                rows=what_else,
            ),
            Table(
                heading="Top movers against the month before",
                columns=_MOVERS,
                rows=tuple(
                    (
                        mover.owner_id,
                        _money(mover.net_micros),
                        _money(mover.before_micros),
                        _money(mover.change_micros),
                    )
                    for mover in figures.movers
                ),
                when_empty="None: no other month, or nothing changed.",
            ),
            _ages("Held money by age, now", "Receipts", figures.held_by_age),
            _ages("Money reserved for jobs by age, now", "Jobs", figures.escrow_by_age),
            Table(
                heading="Payout rows in quarantine",
                columns=_LEFT_OUT,
                rows=tuple(
                    (row.payout_id, row.owner_id, _money(row.amount_micros), row.reason)
                    for row in figures.left_out
                ),
            ),
        ),
        terms=(_TERMS,),
        footer=f"{issuer.name} · payout report · {report.month or 'all time'}",
        is_landscape=True,
    )


def _owner(line: OwnerLine) -> tuple[str, ...]:
    return (
        line.owner_id or "Total",
        str(line.verified_attempts),
        amounts.work(line.work_uwu),
        _money(line.gross_micros),
        _money(line.fee_micros),
        _money(line.net_micros),
        _money(line.held_micros),
        _money(line.available_micros),
        _money(line.paid_micros),
    )


def _ages(heading: str, what: str, classes: tuple[AgeClass, ...]) -> Table:
    return Table(
        heading=heading,
        columns=(
            Column(title="Age", share=3),
            Column(title=what, share=1, is_number=True),
            Column(title="Amount", share=1.5, is_number=True),
        ),
        rows=tuple((one.label, str(one.count), _money(one.amount_micros)) for one in classes),
        totals=(
            (
                "Total",
                str(sum(one.count for one in classes)),
                _money(sum(one.amount_micros for one in classes)),
            ),
        ),
    )


def _money(amount_micros: int) -> str:
    return amounts.amount(amount_micros)


def _percent(ppm: int) -> str:
    return amounts.percent(ppm)

"""An owner's statement as a paper."""

from pool_protocol import amounts
from pool_protocol.limits import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from pool_server.core.energy import EnergySums
from pool_server.core.issuer import Issuer
from pool_server.core.particulars import Particulars
from pool_server.core.statement import LineKind, Statement, StatementLine
from pool_server.reports.paper import Column, Paper, Table, render
from pool_server.reports.type_faces import printable_locale

_COLUMNS = (
    Column(title="Date", share=1.25),
    Column(title="What", share=1.05),
    Column(title="Receipt, reference", share=2.15),
    Column(title="Work (WU)", share=1.15, is_number=True),
    Column(title="Price per WU", share=1.15, is_number=True),
    Column(title="Gross", share=1.15, is_number=True),
    Column(title="Fee", share=1.1, is_number=True),
    Column(title="Net", share=1.15, is_number=True),
    Column(title="kWh", share=0.95, is_number=True),
    Column(title="Source", share=0.9),
    Column(title="Electricity", share=1.1, is_number=True),
    Column(title="Left", share=1.15, is_number=True),
)
_MONEY = (
    Column(title="", share=4),
    Column(title="Lines", share=1, is_number=True),
    Column(title="Amount", share=2, is_number=True),
)
#: By kind; one that has no words here is written as it is called.
_WORDS = {"unpaid": "not paid", "release": "released", "payout_returned": "came back"}
_MOVES = {
    "release": "Released: its dispute window is over",
    "payout": "Paid out, or on its way to the bank",
    "payout_returned": "Payouts that came back",
    "appeal": "Rejections that were overturned",
    "goodwill": "Gifts of the pool",
    "correction": "Corrections and others",
}
#: Millijoules in a millionth of a kWh.
_MILLIJOULES = 3_600
_ENERGY_TERMS = (
    "Energy and electricity are the owner's own figures, by the owner's meter and tariff: they move no money "
    "here. Sources: rapl and nvml are measured, declared is watts times time."
)
_RECEIPT_TERMS = (
    "Each line of work stands for a receipt that the pool signed; its number is the first one given. This is "
    "a payout statement, not a VAT invoice. Amounts are exact to the millionth; banks get whole cents, the "
    "rest stays payable."
)


def statement_pdf(
    statement: Statement, *, owner_id: str, owner_name: str, particulars: Particulars, issuer: Issuer
) -> bytes:
    """Return the statement's paper."""
    locale = printable_locale(particulars.locale)
    currency, totals = statement.currency, statement.totals

    def money(amount_micros: int) -> str:
        return amounts.amount(amount_micros, locale=locale)

    after = totals.after_electricity_micros
    left = "not told" if after is None else amounts.amount(after, currency, locale=locale)
    figures = [
        ("Net of verified work", amounts.amount(totals.net_micros, currency, locale=locale)),
        ("Electricity", _electricity(totals.energy, currency, locale=locale)),
        ("Left after electricity", left),
        ("Payable at the end", amounts.amount(statement.closing_micros, currency, locale=locale)),
    ]
    work_lines = sum(line.kind is LineKind.WORK for line in statement.lines)
    paper = Paper(
        title="Statement of earnings",
        subtitle=amounts.month_name(statement.month),
        issuer=_issuer_lines(issuer),
        recipient=(particulars.display_name or owner_name, *particulars.address_lines, particulars.country),
        facts=(
            ("Account", owner_id),
            ("Period", f"{statement.month}, UTC"),
            ("Currency", currency),
            *((("Tax number", particulars.tax_id),) if particulars.tax_id else ()),
            *((("VAT number", particulars.vat_id),) if particulars.vat_id else ()),
        ),
        figures=tuple(figures),
        tables=(
            Table(
                heading="Lines",
                columns=_COLUMNS,
                rows=tuple(_row(line, locale=locale) for line in statement.lines),
                totals=(
                    (
                        "Work",
                        "",
                        f"{work_lines} lines",
                        amounts.work(totals.work_uwu, locale=locale),
                        "",
                        money(totals.gross_micros),
                        money(totals.fee_micros),
                        money(totals.net_micros),
                        _kwh(totals.energy, locale=locale),
                        totals.energy.source,
                        money(totals.energy.electricity_micros) if totals.energy.priced else "",
                        "" if after is None else money(after),
                    ),
                ),
                when_empty="Nothing happened on the account in this month.",
            ),
            Table(
                heading="Payable money",
                columns=_MONEY,
                rows=(
                    ("Payable at the beginning", "", money(statement.opening_micros)),
                    *_moves(statement, locale=locale),
                ),
                totals=(("Payable at the end", "", money(statement.closing_micros)),),
            ),
        ),
        terms=(*issuer.terms, *_terms(issuer, locale=locale)),
        footer=f"{issuer.name} · {owner_id} · {statement.month}",
        is_landscape=True,
    )
    return render(paper)


def _row(line: StatementLine, *, locale: str) -> tuple[str, ...]:
    is_work = line.kind is LineKind.WORK
    after = line.after_electricity_micros if line.energy.attempts else None

    def money(amount_micros: int, *, if_work: bool = False) -> str:
        return amounts.amount(amount_micros, locale=locale) if is_work or not if_work else ""

    reference = f"{line.receipt_id} · {line.reference}" if line.receipt_id else line.reference
    return (
        amounts.day(line.at_us, locale=locale),
        _WORDS.get(line.kind.value, line.kind.value),
        reference,
        amounts.work(line.work_uwu, locale=locale) if is_work else "",
        money(line.price_micros_per_wu, if_work=True),
        money(line.gross_micros, if_work=True),
        money(line.fee_micros, if_work=True),
        money(line.net_micros),
        _kwh(line.energy, locale=locale),
        line.energy.source,
        money(line.energy.electricity_micros) if line.energy.priced else "",
        "" if after is None else money(after),
    )


def _moves(statement: Statement, *, locale: str) -> tuple[tuple[str, str, str], ...]:
    moves = []
    for kind in LineKind:
        lines = [line for line in statement.lines if line.kind is kind]
        if kind in {LineKind.WORK, LineKind.UNPAID} or not lines:
            continue
        words = _MOVES.get(kind.value, kind.value.replace("_", " ").capitalize())
        total = sum(line.net_micros for line in lines)
        moves.append((words, str(len(lines)), amounts.amount(total, locale=locale)))
    return tuple(moves)


def _kwh(energy: EnergySums, *, locale: str) -> str:
    return amounts.amount(energy.energy_mj // _MILLIJOULES, locale=locale) if energy.attempts else ""


def _electricity(energy: EnergySums, currency: str, *, locale: str) -> str:
    return amounts.amount(energy.electricity_micros, currency, locale=locale) if energy.priced else "not told"


def _issuer_lines(issuer: Issuer) -> tuple[str, ...]:
    vat = (f"VAT {issuer.vat_id}",) if issuer.vat_id else ()
    return (issuer.name, *issuer.address_lines, *vat)


def _terms(issuer: Issuer, *, locale: str) -> tuple[str, ...]:
    fee = amounts.percent(issuer.fee_ppm, locale=locale)
    held_for = _span(issuer.dispute_window_us)
    pay = (
        f"Pay: work units times the price locked in the lease, rounded up; the pool's fee is {fee}, rounded "
        f"down. Verified money is held for {held_for} in case a result proves wrong; then a line of the kind "
        "released makes it payable, perhaps in another month. Nothing is taken from payable money for "
        "results, and an idle account costs nothing."
    )
    return (pay, _ENERGY_TERMS, _RECEIPT_TERMS)


def _span(span_us: int) -> str:
    """Write a span in the largest unit that divides it: `1 day`, `36 hours`, `90 minutes`."""
    units = (("day", DAY_US), ("hour", HOUR_US), ("minute", MINUTE_US), ("second", SECOND_US))
    name, unit_us = next((one for one in units if span_us and span_us % one[1] == 0), units[-1])
    count = span_us // unit_us
    return f"{count} {name}" if count == 1 else f"{count} {name}s"

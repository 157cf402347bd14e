"""A buyer's invoice or usage statement as a paper and as CSV."""

from pool_protocol import amounts
from pool_protocol.limits import DAY_US
from pool_server.core.buyer_month import BuyerMonth, DocumentKind, vat_included
from pool_server.core.issuer import Issuer
from pool_server.core.particulars import Particulars, VatScheme
from pool_server.reports.csv_file import typed, written
from pool_server.reports.paper import Column, Paper, Table, render
from pool_server.reports.type_faces import printable_locale

TITLES = {
    DocumentKind.INVOICE: "Invoice",
    DocumentKind.USAGE_STATEMENT: "Statement of prepaid usage",
}
_WORK = (
    Column(title="Job", share=0.9),
    Column(title="Name", share=2.9),
    Column(title="Level", share=0.9),
    Column(title="Results", share=0.8, is_number=True),
    Column(title="Work (WU)", share=1.3, is_number=True),
    Column(title="Price per WU", share=1.2, is_number=True),
    Column(title="Cost", share=1.3, is_number=True),
)
_MONEY = (
    Column(title="Date", share=1.2),
    Column(title="What", share=3),
    Column(title="Reference", share=2),
    Column(title="Amount", share=1.8, is_number=True),
)
_TERMS = (
    "Only verified work is charged, each result at the price locked when it was leased, rounded up to a "
    "millionth. A result that several cars must agree on is paid to each; checks of the pool's own are the "
    "pool's cost. Reserved money that is not spent comes back."
)
CSV_COLUMNS = (
    *(
        "document",
        "kind",
        "month",
        "buyer_id",
        "line",
        "date",
        "job_id",
        "job_name",
        "level",
        "program_sha256",
    ),
    *("verified_results", "work_wu", "price_per_wu", "amount", "reference", "currency"),
    *("buyer_name", "buyer_vat_id", "vat_scheme", "vat_rate_percent", "vat_amount"),
)


def invoice_pdf(
    month: BuyerMonth,
    *,
    number: str,
    kind: DocumentKind,
    issued_at_us: int,
    buyer_name: str,
    particulars: Particulars,
    issuer: Issuer,
) -> bytes:
    """Return the paper; without a number it is a preview."""
    locale = printable_locale(particulars.locale)

    def money(amount_micros: int, currency: str = "") -> str:
        return amounts.amount(amount_micros, currency, locale=locale)

    title = TITLES[kind] if number else f"Preview: {TITLES[kind].lower()}"
    paper = Paper(
        title=title,
        subtitle=amounts.month_name(month.month),
        issuer=(
            issuer.name,
            *issuer.address_lines,
            *((f"VAT {issuer.vat_id}",) if issuer.vat_id else ()),
        ),
        recipient=(particulars.display_name or buyer_name, *particulars.address_lines, particulars.country),
        facts=(
            ("Number", number or "none: the month is not over"),
            ("Issued" if number else "Made", amounts.day(issued_at_us, locale=locale)),
            ("Period", f"{month.month}, UTC"),
            ("Account", month.buyer_id),
            *((("Your VAT number", particulars.vat_id),) if particulars.vat_id else ()),
            ("Currency", month.currency),
        ),
        figures=(
            ("Verified results", f"{month.attempts:,}"),
            ("Work", f"{amounts.work(month.work_uwu, locale=locale)} WU"),
            ("Cost", money(month.cost_micros, month.currency)),
            ("Prepaid at the end", money(month.closing_micros, month.currency)),
        ),
        tables=(
            Table(
                heading="Verified work",
                columns=_WORK,
                rows=tuple(
                    (
                        f"job_{job.job_id}",
                        job.job_name,
                        job.level,
                        str(job.attempts),
                        amounts.work(job.work_uwu, locale=locale),
                        money(job.price_micros_per_wu),
                        money(job.cost_micros),
                    )
                    for job in month.jobs
                ),
                totals=(
                    (
                        "Total",
                        "",
                        "",
                        str(month.attempts),
                        amounts.work(month.work_uwu, locale=locale),
                        "",
                        money(month.cost_micros),
                    ),
                ),
                when_empty="No work was verified in this month.",
            ),
            Table(
                heading="Prepaid money, free and reserved",
                columns=_MONEY,
                rows=(
                    ("", "At the beginning", "", money(month.opening_micros)),
                    *(
                        (
                            amounts.day(entry.at_us, locale=locale),
                            entry.words,
                            entry.reference,
                            money(entry.amount_micros),
                        )
                        for entry in month.entries
                    ),
                    ("", "Verified work, as above", "", money(-month.cost_micros)),
                ),
                totals=(("", "At the end", "", money(month.closing_micros)),),
            ),
        ),
        notes=_vat_notes(month, kind, particulars, issuer, locale=locale),
        terms=(
            *issuer.terms,
            _TERMS,
        ),
        footer=f"{issuer.name} · {number or 'preview'} · {month.buyer_id} · {month.month}",
    )
    return render(paper)


def invoice_csv(
    month: BuyerMonth,
    *,
    number: str,
    kind: DocumentKind,
    buyer_name: str,
    particulars: Particulars,
    issuer: Issuer,
) -> bytes:
    """Return the same as CSV: a line per job, price and day, per entry, and the balances."""
    head = (number or "preview", kind.value, month.month, month.buyer_id)
    rate, vat = _vat_cells(month, kind, particulars, issuer)
    tail = (
        typed(particulars.display_name or buyer_name),
        particulars.vat_id,
        particulars.vat_scheme.value,
    )
    none = ("",) * 6

    def line(what: str, cells: tuple[str, ...], *, vat_cells: tuple[str, str] = ("", "")) -> tuple[str, ...]:
        return (*head, what, *cells, month.currency, *tail, *vat_cells)

    def balance(what: str, amount_micros: int, vat_cells: tuple[str, str] = ("", "")) -> tuple[str, ...]:
        cells = ("", *none, "", amounts.decimal(amount_micros), "")
        return line(what, cells, vat_cells=vat_cells)

    rows = [balance("opening", month.opening_micros)]
    rows += [
        line(
            "work",
            (
                amounts.iso_date(charge.day * DAY_US),
                f"job_{charge.job_id}",
                typed(charge.job_name),
                charge.level,
                charge.program_sha256,
                str(charge.attempts),
                amounts.decimal_work(charge.work_uwu),
                amounts.decimal(charge.price_micros_per_wu),
                amounts.decimal(-charge.cost_micros),
                "",
            ),
        )
        for charge in month.charges
    ]
    rows += [
        line(
            entry.words,
            (amounts.iso_date(entry.at_us), *none, "", amounts.decimal(entry.amount_micros), entry.reference),
        )
        for entry in month.entries
    ]
    rows.append(balance("total work", -month.cost_micros, (rate, vat)))
    rows.append(balance("closing", month.closing_micros))
    return written(CSV_COLUMNS, rows)


def _has_vat(kind: DocumentKind, particulars: Particulars, issuer: Issuer) -> bool:
    return (
        kind is DocumentKind.INVOICE
        and issuer.vat_ppm > 0
        and particulars.vat_scheme in {VatScheme.STANDARD, VatScheme.UNSTATED}
    )


def _vat_cells(
    month: BuyerMonth, kind: DocumentKind, particulars: Particulars, issuer: Issuer
) -> tuple[str, str]:
    if not _has_vat(kind, particulars, issuer):
        return ("", "")
    share = vat_included(month.cost_micros, rate_ppm=issuer.vat_ppm)
    return (amounts.decimal(issuer.vat_ppm * 100, decimals=4), amounts.decimal(share.vat_micros))


def _vat_notes(
    month: BuyerMonth, kind: DocumentKind, particulars: Particulars, issuer: Issuer, *, locale: str
) -> tuple[str, ...]:
    if kind is DocumentKind.USAGE_STATEMENT:
        return ("This is no invoice: the work was paid in advance. It says what became of the deposits.",)
    if _has_vat(kind, particulars, issuer):
        share = vat_included(month.cost_micros, rate_ppm=issuer.vat_ppm)
        net = amounts.amount(share.net_micros, month.currency, locale=locale)
        vat = amounts.amount(share.vat_micros, month.currency, locale=locale)
        rate = amounts.percent(issuer.vat_ppm, locale=locale)
        return (f"The cost includes {rate} VAT: {net} net, {vat} VAT. It was paid from prepaid money.",)
    if particulars.vat_scheme is VatScheme.REVERSE_CHARGE:
        return (
            (
                "Reverse charge: the recipient owes the VAT (article 196 of Directive 2006/112/EC). "
                "The cost was paid from prepaid money."
            ),
        )
    if particulars.vat_scheme is VatScheme.EXEMPT:
        return ("No VAT is charged. The cost was paid from prepaid money.",)
    return ("The cost was paid from prepaid money. No VAT is stated.",)

"""Receipts, each with what came of checking it here, and the month's statement."""

from datetime import UTC

from tui.facts import (
    ReceiptCheck,
    ReceiptFacts,
    StatementFacts,
    StatementLineFacts,
    StatementTotalsFacts,
)
from tui.view_models.panel import Line, Span, bad, dim, good, labelled, line, strong, warn
from tui.view_models.state import Moment
from tui.view_models.table import Column, Row, TableView
from tui.view_models.text import (
    clean,
    count,
    kwh,
    local,
    metered,
    moment,
    money,
    price_per_wu,
    short_id,
    signed_money,
)

RECEIPT_COLUMNS = (
    Column(key="check", label="Checked here"),
    Column(key="when", label="Verified"),
    Column(key="task", label="Task"),
    Column(key="work", label="Work (WU)", right=True),
    Column(key="gross", label="Gross", right=True),
    Column(key="fee", label="Fee", right=True),
    Column(key="net", label="Net", right=True),
)
STATEMENT_COLUMNS = (
    Column(key="when", label="When"),
    Column(key="kind", label="What"),
    Column(key="reference", label="Reference"),
    Column(key="net", label="Change", right=True),
    Column(key="electricity", label="Electricity", right=True),
    Column(key="left", label="Net", right=True),
    Column(key="gross", label="Gross", right=True),
    Column(key="fee", label="Fee", right=True),
)
_KINDS = {
    "work": "verified work",
    "unpaid": "not paid",
    "total": "total of work",
    "release": "freed",
    "payout": "paid out",
    "payout_returned": "payout returned",
    "clawback": "taken back",
    "appeal": "appeal granted",
    "goodwill": "gift of the pool",
    "correction": "correction",
}


def receipts_table(receipts: tuple[ReceiptFacts, ...], *, more: bool, currency: str, at: Moment) -> TableView:
    """Return the receipts; the caption says how many of them hold."""
    rows = tuple(
        _receipt_row(index, receipt, currency=currency, at=at) for index, receipt in enumerate(receipts)
    )
    if not receipts:
        return TableView(
            columns=RECEIPT_COLUMNS, rows=(), caption=line("No receipt yet: they come with verified work.")
        )
    of_check = {check: sum(1 for receipt in receipts if receipt.check is check) for check in ReceiptCheck}
    shown = count(len(receipts), "receipt")
    spans: list[Span | str] = [strong(f"{shown}{' shown, n loads older' if more else ''}"), "  "]
    if of_check[ReceiptCheck.VERIFIED]:
        spans.append(good(f"✓ {of_check[ReceiptCheck.VERIFIED]:,} verified "))
    if of_check[ReceiptCheck.FAILED]:
        spans.append(bad(f"✗ {of_check[ReceiptCheck.FAILED]:,} FAILED "))
    if of_check[ReceiptCheck.UNCHECKED]:
        why = next(r.check_detail for r in receipts if r.check is ReceiptCheck.UNCHECKED)
        spans.append(warn(f"? {of_check[ReceiptCheck.UNCHECKED]:,} not checked: {clean(why)}"))
    return TableView(columns=RECEIPT_COLUMNS, rows=rows, caption=line(*spans))


def check_span(receipt: ReceiptFacts) -> Span:
    """Return what came of the check, with a sign."""
    match receipt.check:
        case ReceiptCheck.VERIFIED:
            return good("✓ verified")
        case ReceiptCheck.FAILED:
            return bad("✗ FAILED")
        case ReceiptCheck.UNCHECKED:
            return warn("? not checked")


def _receipt_row(index: int, receipt: ReceiptFacts, *, currency: str, at: Moment) -> Row:
    # An attempt has one receipt; an unreadable one has no attempt, so its place stands in.
    key = f"attempt {receipt.attempt_id}" if receipt.attempt_id else f"row {index}"
    job = clean(receipt.job_id, characters_max=16)
    task = f"{job}/{receipt.task_index}" if job else "unreadable"
    when = moment(receipt.verified_at_us, at.zone, now_us=at.now_us) if receipt.verified_at_us else ""
    return Row(
        key=key,
        cells=(
            check_span(receipt),
            Span(when),
            Span(task),
            Span(money(receipt.work_uwu, "")),
            Span(money(receipt.gross_micros, "")),
            dim(money(receipt.fee_micros, "")),
            strong(money(receipt.net_micros, "")),
        ),
        detail=_receipt_detail(receipt, currency),
    )


def _receipt_detail(receipt: ReceiptFacts, currency: str) -> tuple[Line, ...]:
    batch = f", batch {receipt.batch_id}" if receipt.batch_id else ""
    return (
        labelled("Check", check_span(receipt), dim(f"  {clean(receipt.check_detail)}{batch}")),
        labelled(
            "Price",
            f"{money(receipt.work_uwu, '')} WU at {price_per_wu(receipt.price_micros_per_wu, currency)}"
            f" = {money(receipt.gross_micros, currency)}, fee {money(receipt.fee_micros, currency)}",
        ),
        labelled(
            "Program", short_id(receipt.program_sha256, characters=16), dim(f"  attempt {receipt.attempt_id}")
        ),
        labelled("Car", clean(receipt.vehicle_id)),
    )


def statement_table(statement: StatementFacts, *, at: Moment) -> TableView:
    """Return a month's statement; the caption has opening and closing balance."""
    currency = statement.currency
    rows = tuple(
        _statement_row(f"line {index}", entry, currency=currency, at=at)
        for index, entry in enumerate(statement.lines)
    )
    if statement.totals is not None:
        total = _statement_row(
            "total",
            _total_line(statement.totals),
            currency=currency,
            at=at,
            at_least=statement.totals.energy.partly_priced,
        )
        rows = (*rows, total)
    caption = line(
        strong(clean(statement.month, characters_max=8)),
        "  opening ",
        money(statement.opening_micros, currency),
        "  closing ",
        strong(money(statement.closing_micros, currency)),
        dim(f"  {count(len(statement.lines), 'line')}, days in UTC"),
    )
    return TableView(columns=STATEMENT_COLUMNS, rows=rows, caption=caption)


def _total_line(totals: StatementTotalsFacts) -> StatementLineFacts:
    """Return the totals as the last line of the table."""
    return StatementLineFacts(
        at_us=0,
        kind="total",
        reference="",
        work_uwu=totals.work_uwu,
        gross_micros=totals.gross_micros,
        fee_micros=totals.fee_micros,
        net_micros=totals.net_micros,
        energy_mj=totals.energy.energy_mj,
        energy_source=totals.energy.source,
        electricity_micros=totals.energy.cost_micros,
        after_electricity_micros=totals.after_electricity_micros,
    )


def _statement_row(
    key: str, entry: StatementLineFacts, *, currency: str, at: Moment, at_least: bool = False
) -> Row:
    kind = _KINDS.get(entry.kind, clean(entry.kind, characters_max=20))
    is_work, is_total = entry.kind in {"work", "total"}, entry.kind == "total"
    left, cost = entry.after_electricity_micros, entry.electricity_micros
    return Row(
        key=key,
        cells=(
            Span("" if is_total else moment(entry.at_us, at.zone, now_us=at.now_us)),
            strong(kind) if is_total else Span(kind),
            Span(clean(entry.reference, characters_max=24)),
            strong(signed_money(entry.net_micros, "")) if entry.kind != "unpaid" else Span(""),
            Span("" if cost is None else f"{'≥ ' if at_least else ''}{money(cost, '')}"),
            Span("") if left is None else (strong if left >= 0 else warn)(money(left, "")),
            Span(money(entry.gross_micros, "") if is_work else ""),
            dim(money(entry.fee_micros, "") if is_work else ""),
        ),
        detail=(labelled("Work", *_statement_work(entry, currency)), *_statement_energy(entry, currency)),
    )


def _statement_work(entry: StatementLineFacts, currency: str) -> tuple[Span | str, ...]:
    gross, fee = money(entry.gross_micros, currency), money(entry.fee_micros, "")
    match entry.kind:
        case "work":
            price = price_per_wu(entry.price_micros_per_wu, currency)
            return (f"{money(entry.work_uwu, '')} WU at {price} = {gross}, fee {fee}",)
        case "total":
            return (f"{money(entry.work_uwu, '')} WU = {gross}, fee {fee}",)
        case "unpaid":
            return (dim("ended without pay: given back, too late, or not accepted"),)
        case _:
            return (dim("none: money only moved"),)


def _statement_energy(entry: StatementLineFacts, currency: str) -> tuple[Line, ...]:
    """Return what the energy was and cost; nothing where no car told it."""
    if not entry.energy_source:
        return ()
    told = f"{kwh(entry.energy_mj)}, {metered(entry.energy_source)}"
    if entry.electricity_micros is None:
        return (labelled("Energy", told, dim("; its cost was not told, so what is left is not known")),)
    cost = money(entry.electricity_micros, currency)
    return (labelled("Energy", told, f", cost {cost} by your tariff"),)


def month_of(at: Moment) -> str:
    """Return the current month, "2026-11". Statements count months in UTC."""
    return f"{local(at.now_us, UTC):%Y-%m}"


def shifted_month(month: str, by: int) -> str:
    """Return the month `by` months later (earlier when negative)."""
    year, number = (int(part) for part in month.split("-"))
    index = year * 12 + number - 1 + by
    return f"{index // 12:04d}-{index % 12 + 1:02d}"

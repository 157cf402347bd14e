"""Papers are re-derived: every figure against an independent sum over the transfers."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import replace
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.app.buyer_months import buyer_month, charges_since
from pool_server.app.invoices import Draft, draft_document, issue_document
from pool_server.app.pool_report import pool_report
from pool_server.app.statements import owner_statement
from pool_server.app.yearly import owner_years
from pool_server.core.buyer_month import BuyerMonth, DocumentKind, months_between
from pool_server.core.issuer import Issuer, TaxRules
from pool_server.core.ledger.model import TransferCode
from pool_server.core.particulars import EMPTY
from pool_server.core.statement import LineKind, date_of, month_bounds_us
from pool_server.core.yearly import FormRule, quarter_bounds_us
from pool_server.ports.papers import IssuedDocument
from pool_server.reports.focus_csv import COLUMNS
from pool_server.reports.printer import Printer
from tests.support.books import Books
from tests.support.paper_story import BUYERS, OWNERS, Accountant, Story, at_us

MONTHS = ("2025-12", "2026-01", "2026-02", "2026-03", "2026-04", "2026-05")
ISSUER = Issuer(
    pool_id="pool_test",
    name="Sonnenstrom Rechenpool GmbH",
    address_lines=("Am Ladepark 1", "10115 Berlin"),
    vat_id="DE123456789",
    terms=("These are the pool's terms.",),
    document=DocumentKind.INVOICE,
    vat_ppm=190_000,
    fee_ppm=50_000,
    dispute_window_us=1_000_000,
)
PRINTER = Printer(ISSUER)
RULES = TaxRules(
    dac7_activity="unclassified", form=FormRule(form="1099-MISC", threshold_units=1, payments_over=0)
)
PAYOUTS = {TransferCode.PAYOUT, TransferCode.PAYOUT_RETURNED}


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Books:
    made = Books(tmp_path_factory.mktemp("papers") / "pool.sqlite3")
    Story(made).play()
    return made


@pytest.fixture(scope="module")
def accountant(books: Books) -> Accountant:
    return Accountant(books)


def months_of(books: Books, buyer_id: str) -> list[BuyerMonth]:
    return [books.run(partial(buyer_month, buyer_id=buyer_id, month=month)) for month in MONTHS]


def read_csv(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


# --- owners -------------------------------------------------------------------------------------


@pytest.mark.parametrize("month", MONTHS)
@pytest.mark.parametrize("owner_id", OWNERS)
def test_a_statement_is_the_sum_of_its_lines_and_of_the_ledgers_entries(
    books: Books, accountant: Accountant, owner_id: str, month: str
) -> None:
    statement = books.run(lambda uow: owner_statement(uow, owner_id=owner_id, month=month))
    from_us, until_us = month_bounds_us(month)
    available = f"owner:{owner_id}:available"
    of_month = [one for one in accountant.between(from_us, until_us) if available in (one.debit, one.credit)]

    changes = [line for line in statement.lines if line.kind not in {LineKind.WORK, LineKind.UNPAID}]
    assert len(changes) == len(of_month)
    codes = {LineKind.GOODWILL: TransferCode.GOODWILL, LineKind.PAYOUT_RETURNED: TransferCode.PAYOUT_RETURNED}
    for kind, code in codes.items():
        assert sum(line.kind is kind for line in changes) == sum(one.code == code for one in of_month)
    assert sum(line.net_micros for line in changes) == sum(
        one.amount_micros if one.credit == available else -one.amount_micros for one in of_month
    )
    verified = accountant.crossing(owner_id, from_us, until_us)
    gross, fee = verified.get(TransferCode.VERIFIED, 0), -verified.get(TransferCode.FEE, 0)
    assert (statement.totals.gross_micros, statement.totals.fee_micros) == (gross, fee)
    assert statement.totals.net_micros == gross - fee
    rows = read_csv(statement.csv)
    assert {row["receipt"] for row in rows if row["kind"] == "work"} == {
        str(line.receipt_id) for line in statement.lines if line.kind is LineKind.WORK
    }
    assert Decimal(rows[-1]["net"]).scaleb(6) == statement.closing_micros


def test_each_month_opens_with_what_the_one_before_closed_with(books: Books) -> None:
    for owner_id in OWNERS:
        statements = [books.run(partial(owner_statement, owner_id=owner_id, month=month)) for month in MONTHS]
        assert all(after.opening_micros == before.closing_micros for before, after in pairwise(statements))
    for buyer_id in BUYERS:
        months = months_of(books, buyer_id)
        assert all(after.opening_micros == before.closing_micros for before, after in pairwise(months))


def test_the_years_quarters_are_what_the_ledger_moved(books: Books, accountant: Accountant) -> None:
    years = {one.owner_id: one for one in books.run(lambda uow: owner_years(uow, year=2026))}
    assert set(years) == set(OWNERS)
    for owner_id, year in years.items():
        paid = count = 0
        for quarter, (from_us, until_us) in zip(year.quarters, quarter_bounds_us(2026), strict=True):
            moved = accountant.crossing(owner_id, from_us, until_us)
            earned = sum(amount for code, amount in moved.items() if code not in PAYOUTS)
            assert quarter.consideration_micros == earned
            assert quarter.fees_micros == -moved.get(TransferCode.FEE, 0)
            paid -= sum(amount for code, amount in moved.items() if code in PAYOUTS)
            mine = [
                one
                for one in accountant.between(from_us, until_us)
                if owner_id in (accountant.party(one.debit), accountant.party(one.credit))
            ]
            count += sum(one.code == TransferCode.PAYOUT for one in mine)
            count -= sum(one.code == TransferCode.PAYOUT_RETURNED for one in mine)
            assert quarter.activities == sum(one.code == TransferCode.VERIFIED for one in mine)
        assert (year.payments_micros, year.payment_count) == (paid, count)
        assert year.consideration_micros - year.payments_micros == accountant.balance(owner_id, 2**62)
    assert years["owner_ada"].payments_micros > 0
    assert years["owner_cem"].payments_micros == 0, "no bank account, hence never paid"
    assert books.run(lambda uow: owner_years(uow, year=2025)) == ()
    with pytest.raises(PoolError):
        books.run(lambda uow: owner_years(uow, year=99))


def test_yearly_files_say_what_is_missing_and_nothing_else(books: Books) -> None:
    years = books.run(lambda uow: owner_years(uow, year=2026))
    dac7 = read_csv(PRINTER.dac7_csv(years, year=2026, currency="EUR", rules=RULES))
    assert [row["owner_id"] for row in dac7] == list(OWNERS)
    assert {row["missing"] for row in dac7} == {"display_name address_lines country kind tax_id"}
    assert {row["name"] for row in dac7} == {""}
    for row, year in zip(dac7, years, strict=True):
        quarters = [Decimal(row[f"q{quarter}_consideration"]) for quarter in range(1, 5)]
        assert sum(quarters) == Decimal(row["year_consideration"])
        assert Decimal(row["year_consideration"]).scaleb(6) == year.consideration_micros
    forms = read_csv(PRINTER.form_1099_csv(years, year=2026, currency="EUR", rules=RULES))
    for row in forms:
        reached = Decimal(row["payments"]) >= 1
        assert row["threshold_reached"] == ("yes" if reached else "no")
    assert {row["threshold_reached"] for row in forms} == {"yes", "no"}


@pytest.mark.parametrize(
    ("form", "threshold", "over", "is_reached"),
    [
        ("1099-MISC", 7, 0, True),
        ("1099-NEC", 8, 0, False),
        ("1099-K", 6, 2, True),
        ("1099-K", 7, 2, False),
        ("1099-K", 6, 3, False),
        ("none", 0, 0, False),
    ],
)
def test_thresholds(books: Books, *, form: str, threshold: int, over: int, is_reached: bool) -> None:
    [year, *_] = books.run(lambda uow: owner_years(uow, year=2026))
    year = replace(year, payments_micros=7_000_000, payment_count=3)
    rule = FormRule(form=form, threshold_units=threshold, payments_over=over)
    assert rule.is_reached(year) is is_reached


# --- buyers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("buyer_id", BUYERS)
def test_a_buyers_month_is_what_the_ledger_moved(books: Books, accountant: Accountant, buyer_id: str) -> None:
    for month, figures in zip(MONTHS, months_of(books, buyer_id), strict=True):
        from_us, until_us = month_bounds_us(month)
        moved = accountant.crossing(buyer_id, from_us, until_us)
        assert figures.cost_micros == -moved.pop(TransferCode.VERIFIED, 0)
        assert figures.entries_micros == sum(moved.values())
        assert figures.opening_micros == accountant.balance(buyer_id, from_us)
        assert figures.closing_micros == accountant.balance(buyer_id, until_us)
        assert sum(job.cost_micros for job in figures.jobs) == figures.cost_micros
        since = books.run(partial(charges_since, month=month))
        again = books.run(partial(buyer_month, buyer_id=buyer_id, month=month, charges=since))
        assert again == figures


def test_figures_that_do_not_lead_to_the_ledgers_balance_are_no_month(books: Books) -> None:
    figures = books.run(lambda uow: buyer_month(uow, buyer_id="buyer_xu", month="2026-02"))
    with pytest.raises(InvariantError, match="the ledger says"):
        replace(figures, closing_micros=figures.closing_micros + 1)


def test_a_buyer_that_never_was_has_an_empty_month(books: Books) -> None:
    figures = books.run(lambda uow: buyer_month(uow, buyer_id="buyer_nobody", month="2026-02"))
    assert figures.is_empty
    assert figures.closing_micros == 0


@pytest.fixture
def own_books(tmp_path: Path) -> Books:
    made = Books(tmp_path / "pool.sqlite3")
    Story(made, days=45).play()
    return made


def issue(books: Books, buyer_id: str, month: str, *, now_us: int = 0) -> IssuedDocument:
    """Draft, render, issue, as the servicer does."""
    at = now_us or books.now_us
    found = books.run(
        lambda uow: draft_document(uow, buyer_id=buyer_id, month=month, kind=DocumentKind.INVOICE, now_us=at)
    )
    if isinstance(found, IssuedDocument):
        return found
    pdf, text = rendered(found)
    return books.run(lambda uow: issue_document(uow, draft=found, pdf=pdf, csv=text))


def rendered(draft: Draft) -> tuple[bytes, bytes]:
    about: dict[str, Any] = {
        "number": draft.number,
        "kind": draft.kind,
        "buyer_name": draft.buyer_name,
        "particulars": draft.particulars,
    }
    return (
        PRINTER.invoice_pdf(draft.month, issued_at_us=draft.issued_at_us, **about),
        PRINTER.invoice_csv(draft.month, **about),
    )


def test_attack_a_booking_that_waits_at_the_turn_of_the_month_is_on_the_paper(own_books: Books) -> None:
    last = own_books.run(lambda uow: uow.ledger.head().recorded_at_us)
    month = date_of(last)[:7]
    _, until_us = month_bounds_us(month)

    def drafted(now_us: int) -> IssuedDocument | Draft:
        return own_books.run(
            lambda uow: draft_document(
                uow, buyer_id="buyer_xu", month=month, kind=DocumentKind.INVOICE, now_us=now_us
            )
        )

    # The month has just ended, and nothing was booked since: something of it may still wait for its turn.
    at_once, later = drafted(until_us + 1), drafted(until_us + 3_600_000_000)
    assert isinstance(at_once, Draft)
    assert isinstance(later, Draft)
    assert (at_once.number, at_once.document_id) == ("", 0)
    assert later.number
    # What is booked after the turn ends the wait: the books' time never goes back.
    own_books.now_us = until_us + 2
    Story(own_books).move(TransferCode.GOODWILL, "x:goodwill", "buyer_xu", 5)
    now = drafted(until_us + 3)
    assert isinstance(now, Draft)
    assert now.number == later.number


def test_invoices_are_numbered_without_gaps_and_never_change(own_books: Books) -> None:
    first = issue(own_books, "buyer_xu", "2026-01")
    second = issue(own_books, "buyer_yan", "2026-01")
    assert (first.number, second.number) == ("INV-2026-000001", "INV-2026-000002")
    assert (
        first.total_micros
        == own_books.run(lambda uow: buyer_month(uow, buyer_id="buyer_xu", month="2026-01")).cost_micros
    )

    own_books.now_us += 40 * 86_400_000_000
    Story(own_books).move(TransferCode.GOODWILL, "x:goodwill", "buyer_xu", 5)
    again = issue(own_books, "buyer_xu", "2026-01")
    assert again == first, "the same paper, whatever happened since"
    assert hashlib.sha256(again.pdf).hexdigest() == again.pdf_sha256
    for statement in (
        "UPDATE buyer_documents SET total_micros = 0",
        "DELETE FROM buyer_documents",
    ):
        with pytest.raises(Exception, match="immutable"):
            own_books.sql(statement)
    assert issue(own_books, "buyer_xu", "2026-02").number == "INV-2026-000003"
    assert [one.document_id for one in own_books.run(lambda uow: uow.papers.documents("2026-01"))] == [1, 2]


def test_a_number_that_was_taken_meanwhile_is_not_given_twice(own_books: Books) -> None:
    drafts = [
        own_books.run(
            partial(
                draft_document,
                buyer_id=buyer_id,
                month="2026-01",
                kind=DocumentKind.USAGE_STATEMENT,
                now_us=own_books.now_us,
            )
        )
        for buyer_id in BUYERS
    ]
    assert all(isinstance(draft, Draft) and draft.number == "USE-2026-000001" for draft in drafts)
    one, other = (draft for draft in drafts if isinstance(draft, Draft))
    own_books.run(lambda uow: issue_document(uow, draft=one, pdf=b"a", csv=b"b"))
    with pytest.raises(PoolError) as refused:
        own_books.run(lambda uow: issue_document(uow, draft=other, pdf=b"c", csv=b"d"))
    assert refused.value.code is ErrorCode.CONFLICT
    kept = own_books.run(lambda uow: issue_document(uow, draft=one, pdf=b"other", csv=b"bytes"))
    assert kept.pdf == b"a", "issued once, whoever asks again"


def test_a_month_that_runs_has_a_preview_and_an_empty_one_has_no_paper(own_books: Books) -> None:
    def ask(month: str, buyer_id: str = "buyer_xu") -> IssuedDocument | Draft:
        return own_books.run(
            lambda uow: draft_document(
                uow, buyer_id=buyer_id, month=month, kind=DocumentKind.INVOICE, now_us=own_books.now_us
            )
        )

    preview = ask("2026-02")
    assert isinstance(preview, Draft)
    assert (preview.document_id, preview.number) == (0, "")
    with pytest.raises(PoolError) as early:
        own_books.run(lambda uow: issue_document(uow, draft=preview, pdf=b"", csv=b""))
    assert early.value.code is ErrorCode.INVALID_STATE
    for month, buyer_id, code in (
        ("2026-03", "buyer_xu", ErrorCode.INVALID_ARGUMENT),  # has not begun
        ("2025-12", "buyer_xu", ErrorCode.NOT_FOUND),
        ("2026-01", "buyer_nobody", ErrorCode.NOT_FOUND),
        ("January", "buyer_xu", ErrorCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(PoolError) as refused:
            ask(month, buyer_id)
        assert refused.value.code is code


# --- FOCUS --------------------------------------------------------------------------------------

# FOCUS 1.2, "Columns": the mandatory ones, and whether each may be null.
MANDATORY = {
    "BilledCost": False,
    "BillingAccountId": False,
    "BillingAccountName": True,
    "BillingCurrency": False,
    "BillingPeriodEnd": False,
    "BillingPeriodStart": False,
    "ChargeCategory": False,
    "ChargeClass": True,
    "ChargeDescription": True,
    "ChargePeriodEnd": False,
    "ChargePeriodStart": False,
    "ContractedCost": False,
    "EffectiveCost": False,
    "InvoiceIssuerName": False,
    "ListCost": False,
    "PricingQuantity": True,
    "PricingUnit": True,
    "ProviderName": False,
    "PublisherName": False,
    "ServiceCategory": False,
    "ServiceName": False,
}
# Recommended or conditional columns of the same version that we have.
OTHERS = {
    "BillingAccountType",
    "ChargeFrequency",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedUnitPrice",
    "InvoiceId",
    "ListUnitPrice",
    "PricingCategory",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceId",
}
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"", "Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {"Compute"},
    "ServiceSubcategory": {"Serverless Compute"},
}
NUMBERS = {
    *("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "ListUnitPrice", "ContractedUnitPrice"),
    *("PricingQuantity", "ConsumedQuantity", "x_WorkUnits", "x_EnergyKwh", "x_EnergyResults"),
}
TIMES = {"BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"}


@pytest.fixture(scope="module")
def focus(books: Books) -> list[dict[str, str]]:
    content = PRINTER.usage_csv(
        months_of(books, "buyer_xu"),
        numbers={"2026-01": "INV-2026-000001"},
        buyer_name="Xu & Söhne",
        particulars=EMPTY,
    )
    rows = read_csv(content)
    assert rows
    return rows


def test_focus_has_every_mandatory_column_and_own_ones_last(focus: list[dict[str, str]]) -> None:
    names = list(focus[0])
    assert names == list(COLUMNS)
    own = [name for name in names if name.startswith("x_")]
    assert names[-len(own) :] == own
    assert set(names) - set(own) == set(MANDATORY) | OTHERS
    assert len(MANDATORY) == 21


def test_focus_values_have_their_types_and_allowed_values(focus: list[dict[str, str]]) -> None:
    for row in focus:
        assert not [name for name, may_be_null in MANDATORY.items() if not may_be_null and not row[name]]
        assert not [name for name, allowed in ALLOWED.items() if row[name] not in allowed]
        for name in NUMBERS:
            if row[name]:
                assert set(row[name]) <= set("-0123456789.")
                Decimal(row[name])
        for name in TIMES:
            assert at_us(row[name].removesuffix("Z")) % 86_400_000_000 == 0
            assert row[name].endswith("Z")
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"]
        assert row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        assert row["BillingCurrency"] == "EUR"
        json.dumps(row)


def test_focus_rows_obey_the_rules_of_their_category(focus: list[dict[str, str]]) -> None:
    usage = [row for row in focus if row["ChargeCategory"] == "Usage"]
    assert usage
    for row in usage:
        quantity = Decimal(row["PricingQuantity"])
        for price, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
            assert Decimal(row[price]) >= 0
            assert Decimal(row[price]) * quantity == Decimal(row[cost])
        assert row["PricingUnit"] == row["ConsumedUnit"] == "Work Units"
        assert row["PricingCategory"] == "Dynamic"
        assert row["SkuId"]
        assert row["SkuPriceId"]
        assert row["ConsumedQuantity"]
    for row in focus:
        if row["ChargeCategory"] != "Usage":
            assert not row["ConsumedQuantity"]
            assert row["ContractedCost"] == row["BilledCost"], "a charge without a unit price"


def test_focus_adds_up_to_the_invoice_and_to_the_ledger(
    books: Books, focus: list[dict[str, str]], accountant: Accountant
) -> None:
    months = {figures.month: figures for figures in months_of(books, "buyer_xu")}
    for month, figures in months.items():
        rows = [row for row in focus if row["BillingPeriodStart"].startswith(month)]
        work = [row for row in rows if row["ResourceId"]]
        assert sum(Decimal(row["BilledCost"]).scaleb(6) for row in work) == figures.cost_micros
        others = accountant.crossing("buyer_xu", *month_bounds_us(month))
        expected = sum(
            amount
            for code, amount in others.items()
            if code not in {TransferCode.VERIFIED, TransferCode.DEPOSIT, TransferCode.REFUND}
        )
        billed = sum(Decimal(row["BilledCost"]).scaleb(6) for row in rows if not row["ResourceId"])
        assert -billed == expected
    numbered = [row for row in focus if row["InvoiceId"]]
    assert {row["InvoiceId"] for row in numbered} == {"INV-2026-000001"}
    assert sum(Decimal(row["BilledCost"]).scaleb(6) for row in numbered) == months["2026-01"].cost_micros


def test_focus_tells_a_quoted_price_from_the_markets(own_books: Books) -> None:
    told = own_books.run(lambda uow: buyer_month(uow, buyer_id="buyer_xu", month="2026-01"))
    quoted = replace(told, charges=(replace(told.charges[0], is_quoted=True), *told.charges[1:]))
    rows = read_csv(PRINTER.usage_csv([quoted], numbers={}, buyer_name="", particulars=EMPTY))
    categories = [row["PricingCategory"] for row in rows if row["ChargeCategory"] == "Usage"]
    assert categories == ["Standard", *["Dynamic"] * (len(told.charges) - 1)]


def test_focus_says_energy_as_far_as_it_was_told(own_books: Books) -> None:
    told = own_books.run(lambda uow: buyer_month(uow, buyer_id="buyer_xu", month="2026-01"))
    assert {charge.energy_attempts for charge in told.charges} == {0}
    first = own_books.scalar(
        "SELECT MIN(r.attempt_id) FROM receipts r JOIN transfers t ON t.transfer_id = r.transfer_id "
        "JOIN accounts a ON a.account_id = t.debit_account_id WHERE a.name = 'job:1:escrow'"
    )
    own_books.sql(
        "INSERT INTO attempt_energy (attempt_id, owner_id, vehicle_id, energy_mj, source, told_at_us) "
        f"VALUES ({first}, 'owner_ada', 'vehicle_ada', 7200000000, 'rapl', 0)"
    )
    told = own_books.run(lambda uow: buyer_month(uow, buyer_id="buyer_xu", month="2026-01"))
    rows = read_csv(PRINTER.usage_csv([told], numbers={}, buyer_name="", particulars=EMPTY))
    usage = [row for row in rows if row["ChargeCategory"] == "Usage"]
    assert [row["x_EnergyKwh"] for row in usage if row["x_EnergyResults"] == "1"] == ["2.000000000"]
    assert {row["x_EnergyKwh"] for row in usage if row["x_EnergyResults"] == "0"} == {""}


def test_months_of_a_file() -> None:
    assert months_between("2026-11", "2027-02") == ("2026-11", "2026-12", "2027-01", "2027-02")
    for first, last in (("2026-02", "2026-01"), ("2020-01", "2026-01"), ("x", "2026-01"), ("2026-01", "")):
        with pytest.raises(PoolError):
            months_between(first, last)


# --- the operator's report ----------------------------------------------------------------------


@pytest.mark.parametrize("month", ["2026-02", "2026-03", ""])
def test_the_payout_report_is_what_the_ledger_moved(books: Books, accountant: Accountant, month: str) -> None:
    report = books.run(lambda uow: pool_report(uow, month=month, now_us=books.now_us))
    from_us, until_us = month_bounds_us(month) if month else (0, 2**62)
    moved = {owner_id: accountant.crossing(owner_id, from_us, until_us) for owner_id in OWNERS}

    def total(code: TransferCode) -> int:
        return sum(codes.get(code, 0) for codes in moved.values())

    assert report.total.gross_micros == total(TransferCode.VERIFIED)
    assert report.total.fee_micros == -total(TransferCode.FEE)
    assert report.total.paid_micros == -total(TransferCode.PAYOUT) - total(TransferCode.PAYOUT_RETURNED)
    assert report.figures.returned_micros == total(TransferCode.PAYOUT_RETURNED)
    buyers = sum(
        -accountant.crossing(buyer_id, from_us, until_us).get(TransferCode.VERIFIED, 0) for buyer_id in BUYERS
    )
    assert report.buyers_spent_micros == buyers
    assert report.verification_cost_micros == total(TransferCode.VERIFIED) - buyers
    assert report.figures.take_rate_ppm == report.total.fee_micros * 10**6 // report.total.gross_micros
    balances = books.balances()
    held = sum(amount for name, amount in balances.items() if name.endswith(":held"))
    assert sum(one.amount_micros for one in report.figures.held_by_age) == held == report.total.held_micros
    escrow = sum(amount for name, amount in balances.items() if name.endswith(":escrow"))
    assert sum(one.amount_micros for one in report.figures.escrow_by_age) == escrow
    assert [one.count for one in report.figures.escrow_by_age] == [0, 0, 0, 0, 2]
    left_out = {row.owner_id for row in report.figures.left_out}
    assert left_out == {"owner_cem"}, "no bank account"
    if not month:
        assert report.figures.movers == ()


def test_movers_are_those_whose_net_changed_most(books: Books, accountant: Accountant) -> None:
    report = books.run(lambda uow: pool_report(uow, month="2026-03", now_us=books.now_us))

    def net(owner_id: str, month: str) -> int:
        codes = accountant.crossing(owner_id, *month_bounds_us(month))
        return codes.get(TransferCode.VERIFIED, 0) + codes.get(TransferCode.FEE, 0)

    assert {mover.owner_id for mover in report.figures.movers} == set(OWNERS)
    for mover in report.figures.movers:
        assert mover.net_micros == net(mover.owner_id, "2026-03")
        assert mover.before_micros == net(mover.owner_id, "2026-02")
    changes = [mover.change_micros for mover in report.figures.movers]
    risen, fallen = [one for one in changes if one > 0], [one for one in changes if one < 0]
    assert changes == sorted(risen, reverse=True) + sorted(fallen)


def test_the_books_of_the_story_are_sound(books: Books) -> None:
    assert books.assert_sound().transfer_count > 300

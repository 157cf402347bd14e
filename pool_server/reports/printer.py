"""All renderers behind one seam: what the papers' servicer is handed. See `ports.papers.PaperPrinter`."""

from collections.abc import Mapping, Sequence

from pool_server.core.buyer_month import BuyerMonth, DocumentKind
from pool_server.core.issuer import Issuer, TaxRules
from pool_server.core.particulars import Particulars
from pool_server.core.pool_report import PoolReport
from pool_server.core.statement import Statement
from pool_server.core.yearly import OwnerYear
from pool_server.reports import (
    focus_csv,
    papers_of_buyers,
    papers_of_owners,
    pool_csv,
    report_paper,
    yearly_csv,
)


class Printer:
    """Implements `ports.papers.PaperPrinter`: the same bytes for the same values."""

    def __init__(self, issuer: Issuer) -> None:
        """Take who gives the papers out."""
        self._issuer = issuer

    def statement_pdf(
        self, statement: Statement, *, owner_id: str, owner_name: str, particulars: Particulars
    ) -> bytes:
        return papers_of_owners.statement_pdf(
            statement, owner_id=owner_id, owner_name=owner_name, particulars=particulars, issuer=self._issuer
        )

    def invoice_pdf(
        self,
        month: BuyerMonth,
        *,
        number: str,
        kind: DocumentKind,
        issued_at_us: int,
        buyer_name: str,
        particulars: Particulars,
    ) -> bytes:
        return papers_of_buyers.invoice_pdf(
            month,
            number=number,
            kind=kind,
            issued_at_us=issued_at_us,
            buyer_name=buyer_name,
            particulars=particulars,
            issuer=self._issuer,
        )

    def invoice_csv(
        self,
        month: BuyerMonth,
        *,
        number: str,
        kind: DocumentKind,
        buyer_name: str,
        particulars: Particulars,
    ) -> bytes:
        return papers_of_buyers.invoice_csv(
            month,
            number=number,
            kind=kind,
            buyer_name=buyer_name,
            particulars=particulars,
            issuer=self._issuer,
        )

    def usage_csv(
        self,
        months: Sequence[BuyerMonth],
        *,
        numbers: Mapping[str, str],
        buyer_name: str,
        particulars: Particulars,
    ) -> bytes:
        return focus_csv.focus_csv(
            months, numbers=numbers, buyer_name=buyer_name, particulars=particulars, issuer=self._issuer
        )

    def report_pdf(self, report: PoolReport) -> bytes:
        return report_paper.report_pdf(report, issuer=self._issuer)

    def report_csv(self, report: PoolReport) -> bytes:
        return pool_csv.render(report)

    def dac7_csv(self, years: Sequence[OwnerYear], *, year: int, currency: str, rules: TaxRules) -> bytes:
        return yearly_csv.dac7_csv(years, year=year, currency=currency, issuer=self._issuer, rules=rules)

    def form_1099_csv(
        self, years: Sequence[OwnerYear], *, year: int, currency: str, rules: TaxRules
    ) -> bytes:
        return yearly_csv.form_1099_csv(years, year=year, currency=currency, issuer=self._issuer, rules=rules)

"""ReportService: papers as streams of parts. Figures are read, papers rendered off the loop, one at a time.

Rendering takes seconds for a large account; a lock lets papers take turns, so that a thousand owners who ask
at the first of a month wait for each other and not for the pool.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import report_service_pb2 as pb
from pool_protocol.v1 import report_service_pb2_grpc
from pool_server.app.buyer_months import buyer_month, charges_since
from pool_server.app.invoices import Draft, draft_document, is_settled, issue_document
from pool_server.app.pool_report import pool_report
from pool_server.app.statements import owner_statement
from pool_server.app.yearly import owner_years
from pool_server.core.buyer_month import BuyerMonth, DocumentKind, months_between
from pool_server.core.issuer import TaxRules
from pool_server.core.particulars import Particulars, missing_for_1099, missing_for_dac7
from pool_server.core.statement import Statement, month_bounds_us
from pool_server.ports.papers import ChargeRow, IssuedDocument, PaperPrinter
from pool_server.ports.shell import Role
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.store_access import StoreAccess

_Context = Any
T = TypeVar("T")
#: A number that another paper took between drafting and issuing: so often is drafted again.
_ISSUING_TRIES = 5
_PDF, _CSV = pb.PAPER_FORMAT_PDF, pb.PAPER_FORMAT_CSV
_ENDINGS: dict[int, str] = {_PDF: "pdf", _CSV: "csv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paid:
    """An owner's statement and whose it is."""

    owner_id: str
    owner_name: str
    particulars: Particulars
    statement: Statement


class ReportServicer(report_service_pb2_grpc.ReportServiceServicer):
    """Implements ReportService."""

    def __init__(
        self,
        *,
        store: StoreAccess,
        printer: PaperPrinter,
        document: DocumentKind,
        tax: TaxRules,
        currency: str,
    ) -> None:
        self._store = store
        self._printer = printer
        self._document = document
        self._tax = tax
        self._currency = currency
        self._turn, self._issuing = asyncio.Lock(), asyncio.Lock()

    # --- owners ---------------------------------------------------------------------------------

    async def GetOwnerStatement(
        self, request: pb.GetOwnerStatementRequest, context: _Context
    ) -> AsyncIterator[pb.GetOwnerStatementResponse]:
        owner_id, month, wanted = current_caller().principal_id, request.month, _format(request.format)
        paid = await self._store.read(partial(_paid, owner_id=owner_id, month=month))
        content = await self._statement(paid, wanted)
        for part in _parts(content, name=f"statement_{month}.{_ENDINGS[wanted]}"):
            yield pb.GetOwnerStatementResponse(part=part)

    async def ExportStatements(
        self, request: pb.ExportStatementsRequest, context: _Context
    ) -> AsyncIterator[pb.ExportStatementsResponse]:
        month, formats = request.month, [_format(one) for one in request.formats] or [_PDF, _CSV]
        month_bounds_us(month)
        owner_ids = await self._store.read(
            lambda uow: [principal.principal_id for principal in uow.identity.principals(Role.OWNER)]
        )
        count = len(owner_ids) * len(formats)
        index = 0
        for place, owner_id in enumerate(owner_ids):
            paid = await self._store.read(partial(_paid, owner_id=owner_id, month=month))
            index = place * len(formats)
            if not paid.statement.lines and not paid.statement.opening_micros:
                continue
            for offset, wanted in enumerate(formats):
                content = await self._statement(paid, wanted)
                name = f"statement_{month}_{owner_id}.{_ENDINGS[wanted]}"
                for part in _parts(content, name=name, index=index + offset, count=count):
                    yield pb.ExportStatementsResponse(part=part, owner_id=owner_id)

    async def _statement(self, paid: _Paid, wanted: int) -> bytes:
        if wanted == _CSV:
            return paid.statement.csv
        return await self._rendered(
            lambda: self._printer.statement_pdf(
                paid.statement,
                owner_id=paid.owner_id,
                owner_name=paid.owner_name,
                particulars=paid.particulars,
            )
        )

    # --- buyers ---------------------------------------------------------------------------------

    async def GetBuyerInvoice(
        self, request: pb.GetBuyerInvoiceRequest, context: _Context
    ) -> AsyncIterator[pb.GetBuyerInvoiceResponse]:
        buyer_id, month, wanted = current_caller().principal_id, request.month, _format(request.format)
        found = await self._document_of(buyer_id, month)
        if isinstance(found, IssuedDocument):
            content, number = (found.csv if wanted == _CSV else found.pdf), found.number
        else:
            pdf, csv = await self._drafted(found)
            content, number = (csv if wanted == _CSV else pdf), ""
        name = f"{number or f'preview_{month}'}.{_ENDINGS[wanted]}"
        for part in _parts(content, name=name):
            yield pb.GetBuyerInvoiceResponse(part=part, number=number)

    async def GetBuyerUsage(
        self, request: pb.GetBuyerUsageRequest, context: _Context
    ) -> AsyncIterator[pb.GetBuyerUsageResponse]:
        buyer_id = current_caller().principal_id
        months = months_between(request.month, request.until_month or request.month)

        def read(uow: UnitOfWork) -> tuple[list[BuyerMonth], dict[str, str], str, Particulars]:
            documents = {month: uow.papers.document(buyer_id, month) for month in months}
            principal = uow.identity.principal(buyer_id)
            return (
                [buyer_month(uow, buyer_id=buyer_id, month=month) for month in months],
                {month: document.number for month, document in documents.items() if document},
                principal.name if principal else "",
                uow.particulars.get(buyer_id),
            )

        figures, numbers, name, particulars = await self._store.read(read)
        content = await self._rendered(
            lambda: self._printer.usage_csv(
                figures, numbers=numbers, buyer_name=name, particulars=particulars
            )
        )
        last = "" if months[0] == months[-1] else f"_to_{months[-1]}"
        for part in _parts(content, name=f"focus_{months[0]}{last}.csv"):
            yield pb.GetBuyerUsageResponse(part=part)

    async def ExportInvoices(
        self, request: pb.ExportInvoicesRequest, context: _Context
    ) -> AsyncIterator[pb.ExportInvoicesResponse]:
        month, formats = request.month, [_format(one) for one in request.formats] or [_PDF, _CSV]
        _, until_us = month_bounds_us(month)
        now_us = self._store.now_us()
        # Whether the month is complete, and what it holds, are read in one moment.
        is_over, buyer_ids, charges = await self._store.read(
            lambda uow: (
                is_settled(uow, until_us, now_us=now_us),
                [principal.principal_id for principal in uow.identity.principals(Role.BUYER)],
                charges_since(uow, month=month),
            )
        )
        if not is_over:
            why = "is not over yet" if now_us < until_us else "is complete within an hour of its end"
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{month} {why}", context={"field": "month"})
        count = len(buyer_ids) * len(formats)
        for place, buyer_id in enumerate(buyer_ids):
            document = await self._issued_or_none(buyer_id, month, charges)
            if document is None:
                continue
            for offset, wanted in enumerate(formats):
                content = document.csv if wanted == _CSV else document.pdf
                name, index = f"{document.number}.{_ENDINGS[wanted]}", place * len(formats) + offset
                for part in _parts(content, name=name, index=index, count=count):
                    yield pb.ExportInvoicesResponse(
                        part=part,
                        buyer_id=buyer_id,
                        number=document.number,
                        total_micros=document.total_micros,
                    )

    async def _issued_or_none(
        self, buyer_id: str, month: str, charges: list[ChargeRow]
    ) -> IssuedDocument | None:
        """Return a buyer's paper of a month that is over; None when nothing was paid or used in it."""
        try:
            found = await self._document_of(buyer_id, month, charges)
        except PoolError as error:
            if error.code is ErrorCode.NOT_FOUND:
                return None
            raise
        return found if isinstance(found, IssuedDocument) else None

    async def _document_of(
        self, buyer_id: str, month: str, charges: list[ChargeRow] | None = None
    ) -> IssuedDocument | Draft:
        """Return a month's paper, issued now if need be; a draft while the month runs."""

        def draft(uow: UnitOfWork) -> IssuedDocument | Draft:
            return draft_document(
                uow,
                buyer_id=buyer_id,
                month=month,
                kind=self._document,
                charges=charges,
                now_us=self._store.now_us(),
            )

        found = await self._store.read(draft)
        if isinstance(found, IssuedDocument) or not found.document_id:
            return found
        # One at a time, from the number that is drafted to the number that is issued. Another server on the
        # same database may still come between: then it is drafted again.
        async with self._issuing:
            for _ in range(_ISSUING_TRIES):
                found = await self._store.read(draft)
                if isinstance(found, IssuedDocument):
                    return found
                pdf, csv = await self._drafted(found)
                try:
                    return await self._store.write(partial(issue_document, draft=found, pdf=pdf, csv=csv))
                except PoolError as error:
                    if error.code is not ErrorCode.CONFLICT:
                        raise
        raise PoolError(ErrorCode.CONFLICT, f"numbers were taken {_ISSUING_TRIES} times; ask again")

    async def _drafted(self, draft: Draft) -> tuple[bytes, bytes]:
        about: dict[str, Any] = {
            "number": draft.number,
            "kind": draft.kind,
            "buyer_name": draft.buyer_name,
            "particulars": draft.particulars,
        }
        return await self._rendered(
            lambda: (
                self._printer.invoice_pdf(draft.month, issued_at_us=draft.issued_at_us, **about),
                self._printer.invoice_csv(draft.month, **about),
            )
        )

    # --- operators ------------------------------------------------------------------------------

    async def ExportReport(
        self, request: pb.ExportReportRequest, context: _Context
    ) -> AsyncIterator[pb.ExportReportResponse]:
        month, wanted, now_us = request.month, _format(request.format), self._store.now_us()
        report = await self._store.read(lambda uow: pool_report(uow, month=month, now_us=now_us))
        render = self._printer.report_csv if wanted == _CSV else self._printer.report_pdf
        content = await self._rendered(lambda: render(report))
        for part in _parts(content, name=f"report_{month or 'all'}.{_ENDINGS[wanted]}"):
            yield pb.ExportReportResponse(part=part)

    async def ExportYearly(
        self, request: pb.ExportYearlyRequest, context: _Context
    ) -> AsyncIterator[pb.ExportYearlyResponse]:
        year, wanted = request.year, request.format
        if wanted not in {pb.YEARLY_FORMAT_DAC7, pb.YEARLY_FORMAT_1099}:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT, "say which: DAC7 or 1099", context={"field": "format"}
            )
        years = await self._store.read(lambda uow: owner_years(uow, year=year))
        is_dac7 = wanted == pb.YEARLY_FORMAT_DAC7
        render = self._printer.dac7_csv if is_dac7 else self._printer.form_1099_csv
        missing_of = missing_for_dac7 if is_dac7 else missing_for_1099
        content = await self._rendered(
            lambda: render(years, year=year, currency=self._currency, rules=self._tax)
        )
        missing = [
            pb.MissingParticulars(principal_id=one.owner_id, fields=fields)
            for one in years
            if (fields := missing_of(one.particulars))
        ]
        for part in _parts(content, name=f"{'dac7' if is_dac7 else '1099'}_{year}.csv"):
            yield pb.ExportYearlyResponse(part=part, missing=missing)
            missing = []

    async def _rendered(self, render: Callable[[], T]) -> T:
        async with self._turn:
            rendering: Awaitable[T] = asyncio.to_thread(render)
            return await rendering


def _paid(uow: UnitOfWork, *, owner_id: str, month: str) -> _Paid:
    principal = uow.identity.principal(owner_id)
    return _Paid(
        owner_id=owner_id,
        owner_name=principal.name if principal else "",
        particulars=uow.particulars.get(owner_id),
        statement=owner_statement(uow, owner_id=owner_id, month=month),
    )


def _format(wanted: int) -> int:
    if wanted == pb.PAPER_FORMAT_UNSPECIFIED:
        return _PDF
    if wanted not in _ENDINGS:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"no such format: {wanted}", context={"field": "format"})
    return wanted


def _parts(content: bytes, *, name: str, index: int = 0, count: int = 1) -> list[pb.FilePart]:
    """Cut a file into parts; an empty file is one empty part."""
    sha256 = hashlib.sha256(content).hexdigest()
    return [
        pb.FilePart(
            file_index=index,
            file_count=count,
            file_name=name,
            size_bytes=len(content),
            sha256=sha256,
            content=content[start : start + limits.BLOB_CHUNK_BYTES],
        )
        for start in range(0, max(1, len(content)), limits.BLOB_CHUNK_BYTES)
    ]

"""PayoutService: the review of payouts, the bank's reports, owners who leave."""

import asyncio
from typing import Any

from pool_protocol import ids
from pool_protocol.v1 import payout_service_pb2 as pb
from pool_protocol.v1 import payout_service_pb2_grpc
from pool_server.app.bank_status import check_status, import_status, list_reports
from pool_server.app.leaving import close_out, list_leaving
from pool_server.app.payout_review import review_payout
from pool_server.app.payouts import parse_payout_id
from pool_server.app.solvency import bank_warnings
from pool_server.ports.banks import BankReportReader
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc import convert_payout
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.store_access import StoreAccess

_Context = Any
_REPORTS_DEFAULT = 50
_REPORTS_MAX = 500


class PayoutServicer(payout_service_pb2_grpc.PayoutServiceServicer):
    """Implements PayoutService."""

    def __init__(self, *, store: StoreAccess, reports: BankReportReader, currency: str) -> None:
        self._currency = currency
        self._store = store
        self._reports = reports
        # A report is megabytes of XML: one is read at a time.
        self._reading = asyncio.Lock()

    async def ReviewPayout(
        self, request: pb.ReviewPayoutRequest, context: _Context
    ) -> pb.ReviewPayoutResponse:
        payout_id = parse_payout_id(request.payout_id)
        now_us = self._store.now_us()

        def read(uow: UnitOfWork) -> pb.ReviewPayoutResponse:
            response = convert_payout.review_response(review_payout(uow, payout_id=payout_id))
            # Beside what the run itself shows: whether the pool is solvent, and how old the bank's figure is.
            response.warnings.extend(bank_warnings(uow, now_us=now_us))
            return response

        return await self._store.read(read)

    async def ImportBankStatus(
        self, request: pb.ImportBankStatusRequest, context: _Context
    ) -> pb.ImportBankStatusResponse:
        operator_id, now_us, content = current_caller().principal_id, self._store.now_us(), request.file
        async with self._reading:
            report = await asyncio.to_thread(self._reports.read, content)
        if request.check_only:
            answer = await self._store.read(
                lambda uow: check_status(uow, report=report, content=content, file_name=request.file_name)
            )
            return convert_payout.import_response(answer, currency=self._currency)
        answer = await self._store.write(
            lambda uow: import_status(
                uow,
                report=report,
                content=content,
                file_name=request.file_name,
                operator_id=operator_id,
                now_us=now_us,
            )
        )
        return convert_payout.import_response(answer, currency=self._currency)

    async def ListBankReports(
        self, request: pb.ListBankReportsRequest, context: _Context
    ) -> pb.ListBankReportsResponse:
        limit = min(request.limit or _REPORTS_DEFAULT, _REPORTS_MAX)
        reports = await self._store.read(lambda uow: list_reports(uow, limit=limit))
        return pb.ListBankReportsResponse(reports=[convert_payout.report_view(report) for report in reports])

    async def CloseOut(self, request: pb.CloseOutRequest, context: _Context) -> pb.CloseOutResponse:
        owner_id = ids.parse_owner_id(request.owner_id)
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        view = await self._store.write(
            lambda uow: close_out(uow, owner_id=owner_id, asked_by=operator_id, now_us=now_us)
        )
        return pb.CloseOutResponse(close_out=convert_payout.close_out_view(view, currency=self._currency))

    async def CloseAccount(
        self, request: pb.CloseAccountRequest, context: _Context
    ) -> pb.CloseAccountResponse:
        owner_id, now_us = current_caller().principal_id, self._store.now_us()
        view = await self._store.write(
            lambda uow: close_out(uow, owner_id=owner_id, asked_by=owner_id, now_us=now_us)
        )
        return pb.CloseAccountResponse(close_out=convert_payout.close_out_view(view, currency=self._currency))

    async def ListCloseOuts(
        self, request: pb.ListCloseOutsRequest, context: _Context
    ) -> pb.ListCloseOutsResponse:
        views = await self._store.read(list_leaving)
        return pb.ListCloseOutsResponse(
            close_outs=[convert_payout.close_out_view(view, currency=self._currency) for view in views]
        )

"""AdminService: what operators ask of the pool."""

import asyncio
from collections.abc import Callable
from typing import Any

from pool_protocol import ids
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.system import IdSource
from pool_protocol.v1 import admin_service_pb2 as pb
from pool_protocol.v1 import admin_service_pb2_grpc, common_pb2
from pool_server.app.classes import list_classes
from pool_server.app.deposits import record_deposit
from pool_server.app.earnings import list_accounts, pool_totals
from pool_server.app.evidence import vehicle_evidence
from pool_server.app.fleet import get_vehicle, list_vehicles, overview, set_quarantine, set_trusted
from pool_server.app.jobs import list_jobs
from pool_server.app.ledger_check import check_ledger
from pool_server.app.payouts import (
    approve_payout,
    cancel_payout,
    draft_export,
    get_payout,
    keep_export,
    listed_payouts,
    parse_payout_id,
    plan_payout,
)
from pool_server.app.pool_report import pool_report
from pool_server.app.pricing import posted_price, set_posted_price
from pool_server.app.principals import CreatePrincipal, create_principal, require_principal, revoke_token
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.fleet import VehicleState
from pool_server.core.payouts.model import RailName
from pool_server.core.pool_report import PoolReport
from pool_server.identity.tokens import new_token
from pool_server.ports.shell import Role
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rails.choice import Rails
from pool_server.rpc import convert_account, convert_market, convert_payout
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.caps_servicer import first_caps
from pool_server.rpc.convert_evidence import evidence_message
from pool_server.rpc.convert_work import invalid
from pool_server.rpc.key_desk import KeyDesk
from pool_server.rpc.owner_figures import vehicle_messages
from pool_server.rpc.paging import page_size, row_token, row_token_text
from pool_server.rpc.probe_desk import classes_response
from pool_server.rpc.store_access import StoreAccess

_Context = Any
_REASON_CHARACTERS_MAX = 200


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """Implements AdminService."""

    def __init__(
        self,
        *,
        store: StoreAccess,
        keys: KeyDesk,
        policy: WorkPolicy,
        blob_reader: BlobReader,
        rails: Rails,
        render_report: Callable[[PoolReport], bytes],
        id_source: IdSource,
        pool_id: str,
        currency: str,
        server_version: str,
    ) -> None:
        self._store = store
        self._keys = keys
        self._policy = policy
        self._blob_reader = blob_reader
        self._rails = rails
        self._render_report = render_report
        self._ids = id_source
        self._pool_id = pool_id
        self._currency = currency
        self._server_version = server_version

    async def GetOverview(self, request: pb.GetOverviewRequest, context: _Context) -> pb.GetOverviewResponse:
        def read(uow: UnitOfWork) -> pb.GetOverviewResponse:
            work, money = overview(uow), pool_totals(uow)
            return pb.GetOverviewResponse(
                pool_id=self._pool_id,
                currency=self._currency,
                posted_price_micros_per_wu=posted_price(uow),
                vehicles_by_state=work.vehicles_by_state,
                jobs_by_state=work.jobs_by_state,
                tasks_accepted=work.tasks_accepted,
                attempts_by_state=work.attempts_by_state,
                buyers_available_micros=money.buyers_available_micros,
                escrow_micros=money.escrow_micros,
                held_micros=money.held_micros,
                available_micros=money.available_micros,
                fees_micros=money.fees_micros,
                verification_cost_micros=money.verification_cost_micros,
                server_version=self._server_version,
            )

        return await self._store.read(read)

    async def ListFleet(self, request: pb.ListFleetRequest, context: _Context) -> pb.ListFleetResponse:
        state = _vehicle_state(request.state)
        after = ids.parse_vehicle_id(request.page.page_token) if request.page.page_token else ""
        limit = page_size(request.page)

        def read(uow: UnitOfWork) -> pb.ListFleetResponse:
            page = list_vehicles(uow, state=state, after_vehicle_id=after, limit=limit)
            return pb.ListFleetResponse(
                vehicles=vehicle_messages(uow, page.vehicles), next_page_token=page.next_after_vehicle_id
            )

        return await self._store.read(read)

    async def ListAllJobs(self, request: pb.ListAllJobsRequest, context: _Context) -> pb.ListAllJobsResponse:
        before_job_id, limit = row_token(request.page), page_size(request.page)
        now_us = self._store.now_us()
        page = await self._store.read(
            lambda uow: list_jobs(uow, buyer_id=None, before_job_id=before_job_id, limit=limit, now_us=now_us)
        )
        return pb.ListAllJobsResponse(
            jobs=[convert_market.job_view(job) for job in page.jobs],
            next_page_token=row_token_text(page.next_before_job_id),
        )

    async def SetQuarantine(
        self, request: pb.SetQuarantineRequest, context: _Context
    ) -> pb.SetQuarantineResponse:
        vehicle_id = ids.parse_vehicle_id(request.vehicle_id)
        reason = request.reason.strip()
        if request.quarantined and not 1 <= len(reason) <= _REASON_CHARACTERS_MAX:
            raise invalid("reason", f"1 to {_REASON_CHARACTERS_MAX} characters; the owner sees it")
        now_us = self._store.now_us()

        def change(uow: UnitOfWork) -> pb.SetQuarantineResponse:
            set_quarantine(
                uow,
                vehicle_id=vehicle_id,
                quarantined=request.quarantined,
                reason=reason,
                policy=self._policy,
                blobs=self._blob_reader,
                now_us=now_us,
            )
            [view] = vehicle_messages(uow, [get_vehicle(uow, vehicle_id=vehicle_id)])
            return pb.SetQuarantineResponse(vehicle=view)

        return await self._store.write(change)

    async def SetTrusted(self, request: pb.SetTrustedRequest, context: _Context) -> pb.SetTrustedResponse:
        vehicle_id = ids.parse_vehicle_id(request.vehicle_id)
        now_us = self._store.now_us()

        def change(uow: UnitOfWork) -> pb.SetTrustedResponse:
            set_trusted(uow, vehicle_id=vehicle_id, trusted=request.trusted, now_us=now_us)
            [view] = vehicle_messages(uow, [get_vehicle(uow, vehicle_id=vehicle_id)])
            return pb.SetTrustedResponse(vehicle=view)

        return await self._store.write(change)

    async def CreatePrincipal(
        self, request: pb.CreatePrincipalRequest, context: _Context
    ) -> pb.CreatePrincipalResponse:
        role = _role(request.role)
        token = new_token(role, self._ids)
        command = CreatePrincipal(
            role=role,
            name=request.name,
            principal_id=request.principal_id,
            new_principal_id=self._new_principal_id(role),
            token_id=token.token_id,
            token_sha256=token.token_sha256,
            token_expires_at_us=request.expires_at_us,
            caps=first_caps(request),
            made_by=current_caller().principal_id,
        )
        now_us = self._store.now_us()
        principal = await self._store.write(lambda uow: create_principal(uow, command, now_us=now_us))
        return pb.CreatePrincipalResponse(
            principal_id=principal.principal_id, token=token.text, token_id=token.token_id
        )

    def _new_principal_id(self, role: Role) -> str:
        match role:
            case Role.OWNER:
                return self._ids.new_owner_id()
            case Role.BUYER:
                return self._ids.new_buyer_id()
            case Role.OPERATOR:
                return self._ids.new_operator_id()

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: _Context) -> pb.RevokeTokenResponse:
        now_us = self._store.now_us()
        await self._store.write(lambda uow: revoke_token(uow, request.token_id, now_us=now_us))
        return pb.RevokeTokenResponse()

    async def RecordDeposit(
        self, request: pb.RecordDepositRequest, context: _Context
    ) -> pb.RecordDepositResponse:
        buyer_id = ids.parse_buyer_id(request.buyer_id)
        now_us = self._store.now_us()

        def deposit(uow: UnitOfWork) -> pb.RecordDepositResponse:
            require_principal(uow, buyer_id, Role.BUYER)
            booked = record_deposit(
                uow,
                buyer_id=buyer_id,
                amount_micros=request.amount_micros,
                reference=request.reference,
                now_us=now_us,
            )
            return pb.RecordDepositResponse(
                transfer_id=booked.transfer_id, available_micros=booked.available_micros
            )

        return await self._store.write(deposit)

    async def PlanPayout(self, request: pb.PlanPayoutRequest, context: _Context) -> pb.PlanPayoutResponse:
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        rail = self._rails.choose(request.rail)
        view = await self._store.write(
            lambda uow: plan_payout(
                uow,
                operator_id=operator_id,
                idempotency_key=request.idempotency_key,
                now_us=now_us,
                rail=rail,
            )
        )
        return pb.PlanPayoutResponse(payout=convert_payout.payout_view(view))

    async def GetPayout(self, request: pb.GetPayoutRequest, context: _Context) -> pb.GetPayoutResponse:
        payout_id = parse_payout_id(request.payout_id)
        view = await self._store.read(lambda uow: get_payout(uow, payout_id=payout_id))
        return pb.GetPayoutResponse(payout=convert_payout.payout_view(view))

    async def ListPayouts(self, request: pb.ListPayoutsRequest, context: _Context) -> pb.ListPayoutsResponse:
        runs = await self._store.read(listed_payouts)
        return pb.ListPayoutsResponse(payouts=[convert_payout.listed_run(run) for run in runs])

    async def ApprovePayout(
        self, request: pb.ApprovePayoutRequest, context: _Context
    ) -> pb.ApprovePayoutResponse:
        payout_id = parse_payout_id(request.payout_id)
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        view = await self._store.write(
            lambda uow: approve_payout(
                uow,
                payout_id=payout_id,
                operator_id=operator_id,
                expected_total_micros=request.expected_total_micros,
                now_us=now_us,
            )
        )
        return pb.ApprovePayoutResponse(payout=convert_payout.payout_view(view))

    async def CancelPayout(
        self, request: pb.CancelPayoutRequest, context: _Context
    ) -> pb.CancelPayoutResponse:
        payout_id = parse_payout_id(request.payout_id)
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        view = await self._store.write(
            lambda uow: cancel_payout(uow, payout_id=payout_id, operator_id=operator_id, now_us=now_us)
        )
        return pb.CancelPayoutResponse(payout=convert_payout.payout_view(view))

    async def ExportPayout(
        self, request: pb.ExportPayoutRequest, context: _Context
    ) -> pb.ExportPayoutResponse:
        payout_id = parse_payout_id(request.payout_id)
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        draft = await self._store.read(
            lambda uow: draft_export(uow, payout_id=payout_id, operator_id=operator_id, now_us=now_us)
        )
        if draft.file is not None:
            file, view = draft.file, draft.view
        else:
            # Rendering and validating ten thousand payments takes seconds: beside the writer, not in it.
            rail = self._rails.rail(RailName(draft.run.rail))
            rendered = await asyncio.to_thread(rail.render, draft.run, draft.view.to_send())
            file, view = await self._store.write(lambda uow: keep_export(uow, draft=draft, file=rendered))
        return pb.ExportPayoutResponse(
            file=file.content,
            file_name=file.name,
            sha256=file.sha256_hex,
            payout=convert_payout.payout_summary(view),
        )

    async def GetReport(self, request: pb.GetReportRequest, context: _Context) -> pb.GetReportResponse:
        now_us = self._store.now_us()

        def read(uow: UnitOfWork) -> pb.GetReportResponse:
            report = pool_report(uow, month=request.month, now_us=now_us)
            return convert_account.report_response(report, csv=self._render_report(report))

        async with self._store.long_read:
            return await self._store.read(read)

    async def ListClasses(self, request: pb.ListClassesRequest, context: _Context) -> pb.ListClassesResponse:
        async with self._store.long_read:
            return classes_response(await self._store.read(list_classes))

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: _Context) -> pb.GetEvidenceResponse:
        vehicle_id, now_us = ids.parse_vehicle_id(request.vehicle_id), self._store.now_us()

        def read(uow: UnitOfWork) -> pb.GetEvidenceResponse:
            found = vehicle_evidence(
                uow, vehicle_id=vehicle_id, policy=self._policy, for_operator=True, now_us=now_us
            )
            [view] = vehicle_messages(uow, [found.vehicle])
            return pb.GetEvidenceResponse(evidence=evidence_message(found, view))

        async with self._store.long_read:
            return await self._store.read(read)

    async def CheckLedger(self, request: pb.CheckLedgerRequest, context: _Context) -> pb.CheckLedgerResponse:
        async with self._store.long_read:
            return convert_account.ledger_report(await self._store.read(check_ledger))

    async def ListAccounts(
        self, request: pb.ListAccountsRequest, context: _Context
    ) -> pb.ListAccountsResponse:
        accounts = await self._store.read(lambda uow: list_accounts(uow, prefix=request.prefix))
        return pb.ListAccountsResponse(
            accounts=[convert_account.account_view(account) for account in accounts]
        )

    async def GetKeys(self, request: pb.GetKeysRequest, context: _Context) -> pb.GetKeysResponse:
        roots = await self._keys.roots()
        return pb.GetKeysResponse(
            roots=[common_pb2.SignedRoot.FromString(root) for root in roots],
            keys=[
                pb.KeyView(role=role.value, key_id=key.key_id, public_key=key.public_bytes)
                for role, key in self._keys.in_force()
            ],
        )

    async def RotateKey(self, request: pb.RotateKeyRequest, context: _Context) -> pb.RotateKeyResponse:
        key_id, version = await self._keys.rotate(request.role)
        return pb.RotateKeyResponse(key_id=key_id, root_version=version)

    async def SetPostedPrice(
        self, request: pb.SetPostedPriceRequest, context: _Context
    ) -> pb.SetPostedPriceResponse:
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        price = await self._store.write(
            lambda uow: set_posted_price(
                uow,
                price_micros_per_wu=request.price_micros_per_wu,
                operator_id=operator_id,
                now_us=now_us,
            )
        )
        return pb.SetPostedPriceResponse(price_micros_per_wu=price)


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"a role is owner, buyer or operator, not {text[:20]!r}",
            context={"field": "role"},
        ) from error


def _vehicle_state(text: str) -> VehicleState | None:
    if not text:
        return None
    try:
        return VehicleState(text)
    except ValueError as error:
        known = ", ".join(VehicleState)
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"a state is one of {known}", context={"field": "state"}
        ) from error

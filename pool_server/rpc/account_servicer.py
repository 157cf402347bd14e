"""AccountService: what owners ask of the pool."""

import asyncio
from dataclasses import replace
from typing import Any

from pool_protocol import ids
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import account_service_pb2 as pb
from pool_protocol.v1 import account_service_pb2_grpc
from pool_server.app.account_events import account_events
from pool_server.app.earnings import owner_earnings
from pool_server.app.evidence import vehicle_evidence
from pool_server.app.fleet import get_vehicle, list_vehicles, retire_vehicle
from pool_server.app.payouts import check_payout_details, get_payout_details, set_payout_details
from pool_server.app.receipts import list_receipts
from pool_server.app.statements import owner_statement
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.ports.banks import BankDirectory
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc import convert_account
from pool_server.rpc.appeal_desk import AppealDesk
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.convert_evidence import evidence_message, item_message
from pool_server.rpc.convert_market import proven_receipt
from pool_server.rpc.enrolment_desk import EnrolmentDesk
from pool_server.rpc.hub import Hub
from pool_server.rpc.owner_figures import vehicle_messages
from pool_server.rpc.paging import page_size
from pool_server.rpc.store_access import StoreAccess

_Context = Any
_FINGERPRINT_DIGITS = 16
_EVENTS_DEFAULT = 50
_EVENTS_MAX = 200
#: An owner's vehicles fit one answer.
_VEHICLES_MAX = 1_000


class AccountServicer(account_service_pb2_grpc.AccountServiceServicer):
    """Implements AccountService."""

    def __init__(
        self,
        *,
        store: StoreAccess,
        enrolment: EnrolmentDesk,
        policy: WorkPolicy,
        blob_reader: BlobReader,
        hub: Hub,
        appeals: AppealDesk,
        banks: BankDirectory,
    ) -> None:
        self._store = store
        self._enrolment = enrolment
        self._policy = policy
        self._blob_reader = blob_reader
        self._hub = hub
        self._appeals = appeals
        self._banks = banks

    async def GetDeviceCode(
        self, request: pb.GetDeviceCodeRequest, context: _Context
    ) -> pb.GetDeviceCodeResponse:
        enrolment = await self._enrolment.look(request.user_code, owner_id=current_caller().principal_id)
        return pb.GetDeviceCodeResponse(
            agent_version=enrolment.agent_version,
            key_fingerprint=key_fingerprint(enrolment.envelope_public_key),
            expires_at_us=enrolment.expires_at_us,
        )

    async def ApproveDevice(
        self, request: pb.ApproveDeviceRequest, context: _Context
    ) -> pb.ApproveDeviceResponse:
        vehicle_id = await self._enrolment.approve(
            user_code=request.user_code,
            label=request.label,
            refuse=request.refuse,
            owner_id=current_caller().principal_id,
        )
        return pb.ApproveDeviceResponse(vehicle_id=vehicle_id)

    async def ListVehicles(
        self, request: pb.ListVehiclesRequest, context: _Context
    ) -> pb.ListVehiclesResponse:
        owner_id = current_caller().principal_id

        def read(uow: UnitOfWork) -> list[pb.VehicleView]:
            page = list_vehicles(uow, owner_id=owner_id, limit=_VEHICLES_MAX)
            return vehicle_messages(uow, sorted(page.vehicles, key=lambda view: view.enrolled_at_us))

        return pb.ListVehiclesResponse(vehicles=await self._store.read(read))

    async def RetireVehicle(
        self, request: pb.RetireVehicleRequest, context: _Context
    ) -> pb.RetireVehicleResponse:
        owner_id = current_caller().principal_id
        vehicle_id = ids.parse_vehicle_id(request.vehicle_id)
        now_us = self._store.now_us()

        def retire(uow: UnitOfWork) -> pb.VehicleView:
            identity = uow.identity.vehicle(vehicle_id)
            if identity is None or identity.owner_id != owner_id:
                raise PoolError(ErrorCode.NOT_FOUND, f"{owner_id} has no {vehicle_id}")
            if uow.identity.retire_vehicle(vehicle_id, now_us=now_us):
                retire_vehicle(
                    uow,
                    vehicle_id=vehicle_id,
                    policy=self._policy,
                    blobs=self._blob_reader,
                    now_us=now_us,
                )
            [view] = vehicle_messages(uow, [get_vehicle(uow, vehicle_id=vehicle_id)])
            return view

        vehicle = await self._store.write(retire)
        self._hub.end_stream(vehicle_id)
        return pb.RetireVehicleResponse(vehicle=vehicle)

    async def GetVehicleEvidence(
        self, request: pb.GetVehicleEvidenceRequest, context: _Context
    ) -> pb.GetVehicleEvidenceResponse:
        owner_id, vehicle_id = current_caller().principal_id, ids.parse_vehicle_id(request.vehicle_id)
        now_us = self._store.now_us()

        def read(uow: UnitOfWork) -> pb.GetVehicleEvidenceResponse:
            identity = uow.identity.vehicle(vehicle_id)
            if identity is None or identity.owner_id != owner_id:
                raise PoolError(ErrorCode.NOT_FOUND, f"{owner_id} has no {vehicle_id}")
            found = vehicle_evidence(
                uow, vehicle_id=vehicle_id, policy=self._policy, for_operator=False, now_us=now_us
            )
            [view] = vehicle_messages(uow, [found.vehicle])
            return pb.GetVehicleEvidenceResponse(evidence=evidence_message(found, view))

        return await self._store.read(read)

    async def Appeal(self, request: pb.AppealRequest, context: _Context) -> pb.AppealResponse:
        owner_id = current_caller().principal_id
        finding = await self._appeals.appeal(owner_id=owner_id, attempt_id=request.attempt_id)
        return pb.AppealResponse(item=item_message(finding))

    async def GetEarnings(self, request: pb.GetEarningsRequest, context: _Context) -> pb.GetEarningsResponse:
        owner_id, now_us = current_caller().principal_id, self._store.now_us()
        earnings = await self._store.read(
            lambda uow: owner_earnings(uow, owner_id=owner_id, days=request.days, now_us=now_us)
        )
        return convert_account.earnings_response(earnings)

    async def ListReceipts(
        self, request: pb.ListReceiptsRequest, context: _Context
    ) -> pb.ListReceiptsResponse:
        owner_id = current_caller().principal_id
        vehicle_id = ids.parse_vehicle_id(request.vehicle_id) if request.vehicle_id else ""
        page = await self._store.read(
            lambda uow: list_receipts(
                uow,
                owner_id=owner_id,
                vehicle_id=vehicle_id,
                page_size=page_size(request.page),
                page_token=request.page.page_token,
            )
        )
        return pb.ListReceiptsResponse(
            receipts=[proven_receipt(proven) for proven in page.receipts],
            next_page_token=page.next_page_token,
        )

    async def GetStatement(
        self, request: pb.GetStatementRequest, context: _Context
    ) -> pb.GetStatementResponse:
        owner_id = current_caller().principal_id
        statement = await self._store.read(
            lambda uow: owner_statement(uow, owner_id=owner_id, month=request.month)
        )
        return convert_account.statement_response(statement)

    async def GetPayoutDetails(
        self, request: pb.GetPayoutDetailsRequest, context: _Context
    ) -> pb.GetPayoutDetailsResponse:
        owner_id = current_caller().principal_id
        details = await self._store.read(lambda uow: get_payout_details(uow, owner_id=owner_id))
        return pb.GetPayoutDetailsResponse(details=convert_account.details_message(details))

    async def SetPayoutDetails(
        self, request: pb.SetPayoutDetailsRequest, context: _Context
    ) -> pb.SetPayoutDetailsResponse:
        owner_id, now_us = current_caller().principal_id, self._store.now_us()
        wanted = convert_account.payout_details(request.details)
        checked = await self._store.read(lambda uow: check_payout_details(uow, wanted))
        bank = await asyncio.to_thread(self._banks.look_up, checked)
        complete = replace(checked, bic=checked.bic or bank.bic)
        kept = await self._store.write(
            lambda uow: set_payout_details(uow, owner_id=owner_id, details=complete, now_us=now_us)
        )
        return pb.SetPayoutDetailsResponse(details=convert_account.details_message(kept), bank_name=bank.name)

    async def ListEvents(self, request: pb.ListEventsRequest, context: _Context) -> pb.ListEventsResponse:
        owner_id = current_caller().principal_id
        limit = min(request.limit or _EVENTS_DEFAULT, _EVENTS_MAX)
        events = await self._store.read(lambda uow: account_events(uow, owner_id=owner_id, limit=limit))
        return pb.ListEventsResponse(
            events=[
                pb.AccountEvent(
                    at_us=event.at_us,
                    code=event.code,
                    message=event.message,
                    vehicle_id=event.vehicle_id,
                )
                for event in events
            ]
        )


def key_fingerprint(public_key: bytes) -> str:
    """Return what device and dashboard show of an envelope key: its id."""
    from pool_protocol.keys import key_id_of

    return str(key_id_of(public_key))[:_FINGERPRINT_DIGITS]

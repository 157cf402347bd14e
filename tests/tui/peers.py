"""Real gRPC peers for the dashboard: an agent on a unix socket and a pool on loopback, told what to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import to_grpc_status
from pool_protocol.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    admin_service_pb2,
    admin_service_pb2_grpc,
    agent_control_service_pb2,
    agent_control_service_pb2_grpc,
    common_pb2,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    price_service_pb2,
    price_service_pb2_grpc,
)

control = agent_control_service_pb2
account = account_service_pb2
admin = admin_service_pb2
Context = grpc.aio.ServicerContext[Any, Any]


class FakeAgent(agent_control_service_pb2_grpc.AgentControlServiceServicer):
    """An agent that says what the test tells it, over its real service on a real socket."""

    def __init__(self, socket: Path, status: control.AgentStatus) -> None:
        self.socket = socket
        self.status = status
        self.stop_ms = 84.0
        self.calls: list[str] = []
        self.refusal: PoolError | None = None
        self.hung = False
        self.gate = asyncio.Event()
        """Changes wait for it; open from the start."""
        self.gate.set()
        self._changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server()
        agent_control_service_pb2_grpc.add_AgentControlServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def tell(self, **fields: Any) -> None:
        """Change the status and push it to every watcher."""
        for name, value in fields.items():
            if isinstance(value, list):
                self.status.ClearField(name)  # type: ignore[arg-type]
                getattr(self.status, name).extend(value)
            elif hasattr(value, "DESCRIPTOR"):
                getattr(self.status, name).CopyFrom(value)
            else:
                setattr(self.status, name, value)
        async with self._changed:
            self._changed.notify_all()

    async def _admit(self, call: str, context: Context) -> None:
        self.calls.append(call)
        await self.gate.wait()
        if self.refusal is not None:
            await context.abort_with_status(to_grpc_status(self.refusal))

    async def GetStatus(
        self, request: control.GetStatusRequest, context: Context
    ) -> control.GetStatusResponse:
        self.calls.append("GetStatus")
        if self.hung:
            await asyncio.Event().wait()
        return control.GetStatusResponse(status=self.status)

    async def WatchStatus(
        self, request: control.WatchStatusRequest, context: Context
    ) -> AsyncIterator[control.WatchStatusResponse]:
        self.calls.append("WatchStatus")
        while True:
            yield control.WatchStatusResponse(status=self.status)
            async with self._changed:
                await self._changed.wait()

    async def SetOptIn(self, request: control.SetOptInRequest, context: Context) -> control.SetOptInResponse:
        await self._admit(f"SetOptIn {request.opted_in}", context)
        self.status.opted_in = request.opted_in
        await self._halt("opted_out" if not request.opted_in else "waiting")
        return control.SetOptInResponse(status=self.status, stop_ms=self.stop_ms)

    async def Pause(self, request: control.PauseRequest, context: Context) -> control.PauseResponse:
        await self._admit(f"Pause {request.duration_s}", context)
        self.status.paused = True
        await self._halt("paused")
        return control.PauseResponse(status=self.status, stop_ms=self.stop_ms)

    async def Resume(self, request: control.ResumeRequest, context: Context) -> control.ResumeResponse:
        await self._admit("Resume", context)
        self.status.paused = False
        await self.tell(state="running", computing=True)
        return control.ResumeResponse(status=self.status)

    async def _halt(self, state: str) -> None:
        self.status.compute.last_stop_ms = self.stop_ms
        self.status.compute.watts = 0
        self.status.compute.worker_alive = False
        await self.tell(state=state, computing=False)

    async def GetPolicy(
        self, request: control.GetPolicyRequest, context: Context
    ) -> control.GetPolicyResponse:
        return control.GetPolicyResponse()

    async def SetPolicy(
        self, request: control.SetPolicyRequest, context: Context
    ) -> control.SetPolicyResponse:
        return control.SetPolicyResponse()


class FakePool(
    account_service_pb2_grpc.AccountServiceServicer,
    admin_service_pb2_grpc.AdminServiceServicer,
):
    """The owner's and the operator's half of a pool, on a loopback port."""

    def __init__(self) -> None:
        self.earnings = account.GetEarningsResponse(currency="EUR")
        self.vehicles: list[account.VehicleView] = []
        self.events: list[account.AccountEvent] = []
        self.pages: dict[str, account.ListReceiptsResponse] = {"": account.ListReceiptsResponse()}
        self.statements: dict[str, account.GetStatementResponse] = {}
        self.devices: dict[str, account.GetDeviceCodeResponse] = {}
        self.details = account.PayoutDetails()
        self.roots: list[common_pb2.SignedRoot] = []
        self.overview = admin.GetOverviewResponse(currency="EUR")
        self.jobs: list[Any] = []
        self.payouts: list[admin.PayoutView] = []
        self.price: price_service_pb2.GetPriceResponse | None = None
        """None: a pool that does not tell its price."""
        self.epochs: list[price_service_pb2.PriceEpoch] = []
        self.refusal: PoolError | None = None
        self.calls: list[str] = []
        self.tokens: list[str] = []
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server()
        account_service_pb2_grpc.add_AccountServiceServicer_to_server(self, self._server)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(self, self._server)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(
            _RootOnly(self),  # type: ignore[abstract]
            self._server,
        )
        if self.price is not None:
            price_service_pb2_grpc.add_PriceServiceServicer_to_server(
                _Prices(self),  # type: ignore[abstract]
                self._server,
            )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _admit(self, call: str, context: Context) -> None:
        self.calls.append(call)
        if self.refusal is not None:
            await context.abort_with_status(to_grpc_status(self.refusal))

    async def GetEarnings(
        self, request: account.GetEarningsRequest, context: Context
    ) -> account.GetEarningsResponse:
        await self._admit("GetEarnings", context)
        return self.earnings

    async def ListVehicles(
        self, request: account.ListVehiclesRequest, context: Context
    ) -> account.ListVehiclesResponse:
        await self._admit("ListVehicles", context)
        return account.ListVehiclesResponse(vehicles=self.vehicles)

    async def ListEvents(
        self, request: account.ListEventsRequest, context: Context
    ) -> account.ListEventsResponse:
        await self._admit("ListEvents", context)
        return account.ListEventsResponse(events=self.events)

    async def ListReceipts(
        self, request: account.ListReceiptsRequest, context: Context
    ) -> account.ListReceiptsResponse:
        await self._admit(f"ListReceipts {request.page.page_token}".rstrip(), context)
        return self.pages[request.page.page_token]

    async def GetStatement(
        self, request: account.GetStatementRequest, context: Context
    ) -> account.GetStatementResponse:
        await self._admit(f"GetStatement {request.month}", context)
        return self.statements.get(
            request.month, account.GetStatementResponse(month=request.month, currency="EUR")
        )

    async def GetDeviceCode(
        self, request: account.GetDeviceCodeRequest, context: Context
    ) -> account.GetDeviceCodeResponse:
        await self._admit(f"GetDeviceCode {request.user_code}", context)
        device = self.devices.get(request.user_code)
        if device is None:
            await context.abort_with_status(to_grpc_status(PoolError(ErrorCode.DEVICE_CODE_UNKNOWN)))
            raise AssertionError("abort returns never")
        return device

    async def ApproveDevice(
        self, request: account.ApproveDeviceRequest, context: Context
    ) -> account.ApproveDeviceResponse:
        answer = "refuse" if request.refuse else "approve"
        await self._admit(f"ApproveDevice {answer} {request.user_code} {request.label}".rstrip(), context)
        return account.ApproveDeviceResponse(vehicle_id="" if request.refuse else "vehicle_new")

    async def RetireVehicle(
        self, request: account.RetireVehicleRequest, context: Context
    ) -> account.RetireVehicleResponse:
        return account.RetireVehicleResponse()

    async def GetPayoutDetails(
        self, request: account.GetPayoutDetailsRequest, context: Context
    ) -> account.GetPayoutDetailsResponse:
        await self._admit("GetPayoutDetails", context)
        return account.GetPayoutDetailsResponse(details=self.details)

    async def SetPayoutDetails(
        self, request: account.SetPayoutDetailsRequest, context: Context
    ) -> account.SetPayoutDetailsResponse:
        await self._admit(f"SetPayoutDetails {request.details.iban}", context)
        if not request.details.holder_name.isascii():
            refusal = PoolError(
                ErrorCode.INVALID_ARGUMENT,
                "holder_name: banks would be given 'Lukasz Zolc'",
                context={"field": "holder_name", "proposal": "Lukasz Zolc"},
            )
            await context.abort_with_status(to_grpc_status(refusal, public_detail=True))
        self.details = request.details
        return account.SetPayoutDetailsResponse(details=self.details)

    async def GetOverview(
        self, request: admin.GetOverviewRequest, context: Context
    ) -> admin.GetOverviewResponse:
        await self._admit("GetOverview", context)
        return self.overview

    async def ListFleet(self, request: admin.ListFleetRequest, context: Context) -> admin.ListFleetResponse:
        await self._admit("ListFleet", context)
        return admin.ListFleetResponse(vehicles=self.vehicles)

    async def ListAllJobs(
        self, request: admin.ListAllJobsRequest, context: Context
    ) -> admin.ListAllJobsResponse:
        await self._admit("ListAllJobs", context)
        return admin.ListAllJobsResponse(jobs=self.jobs)

    async def ListPayouts(
        self, request: admin.ListPayoutsRequest, context: Context
    ) -> admin.ListPayoutsResponse:
        await self._admit("ListPayouts", context)
        return admin.ListPayoutsResponse(payouts=self.payouts)


class _Prices(price_service_pb2_grpc.PriceServiceServicer):
    def __init__(self, pool: FakePool) -> None:
        self._pool = pool

    async def GetPrice(
        self, request: price_service_pb2.GetPriceRequest, context: Context
    ) -> price_service_pb2.GetPriceResponse:
        return self._pool.price or price_service_pb2.GetPriceResponse()

    async def ListPriceEpochs(
        self, request: price_service_pb2.ListPriceEpochsRequest, context: Context
    ) -> price_service_pb2.ListPriceEpochsResponse:
        return price_service_pb2.ListPriceEpochsResponse(epochs=self._pool.epochs[: request.page.page_size])


class _RootOnly(fleet_service_pb2_grpc.FleetServiceServicer):
    def __init__(self, pool: FakePool) -> None:
        self._pool = pool

    async def GetRoot(
        self, request: fleet_service_pb2.GetRootRequest, context: Context
    ) -> fleet_service_pb2.GetRootResponse:
        return fleet_service_pb2.GetRootResponse(roots=self._pool.roots)

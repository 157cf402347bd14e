"""The gateways over gRPC: the agent's unix socket, and the pool over TLS with a token.

Calls are asynchronous and have deadlines; a channel reconnects by itself within two seconds of the other side
coming back. Everything that fails leaves here as a `GatewayError`.
"""

import os
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import TypeVar

import grpc

from pool_protocol.clock import Clock
from pool_protocol.errors import CATALOGUE, ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
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
from tui import convert, facts
from tui.gateway import GatewayError
from tui.receipt_check import ReceiptChecker, open_roots

_Answer = TypeVar("_Answer")

#: A local socket answers in milliseconds; an agent that takes longer is not well.
AGENT_TIMEOUT_S = 3.0
#: Stopping a worker is bounded by the kill; the disk may be slow.
AGENT_CHANGE_TIMEOUT_S = 10.0
POOL_TIMEOUT_S = 10.0
EARNINGS_DAYS = 30
EVENTS_SHOWN = 50
#: A day of quarter hours; a pool with shorter epochs shows less of the day.
PRICE_EPOCHS_ASKED = 96
RECEIPTS_PER_PAGE = 100
OPERATOR_ROWS = 200
#: Reconnect soon: a person is looking.
RECONNECT_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
)

_UNREACHABLE = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED, ErrorCode.DRAINING})


def gateway_error(error: PoolError, *, place: str, unreachable_step: str) -> GatewayError:
    """Say what a failed call means to the person before the screen."""
    if error.code in _UNREACHABLE:
        return GatewayError(
            code=error.code.value,
            public=f"No answer from {place}.",
            next_step=unreachable_step,
            unreachable=True,
        )
    entry = CATALOGUE[error.code]
    return GatewayError(
        code=error.code.value,
        public=entry.public,
        next_step=entry.next_step,
        unreachable=False,
        detail=error.detail.removeprefix(entry.public).strip(),
        field=error.context.get("field", ""),
        proposal=error.context.get("proposal", ""),
    )


def agent_step(*, exists: bool, may_open: bool) -> str:
    """Say what to do about an agent's socket that does not answer."""
    if exists and not may_open:
        return "You may not open its socket: run this as the agent's user, or join its group."
    return "Start it: `car-agent run`. Elsewhere? Give --agent-socket or --state-dir."


class GrpcAgentGateway:
    """Talks to the agent through its control socket."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._channel = grpc.aio.insecure_channel(
            f"unix:{socket_path}",
            options=[*RECONNECT_OPTIONS, ("grpc.default_authority", "localhost")],
        )
        self._stub = agent_control_service_pb2_grpc.AgentControlServiceStub(self._channel)

    @property
    def place(self) -> str:
        return self._path

    def _error(self, error: grpc.RpcError) -> GatewayError:
        return gateway_error(
            from_rpc_error(error),
            place=self._path,
            unreachable_step=agent_step(
                exists=Path(self._path).exists(), may_open=os.access(self._path, os.R_OK | os.W_OK)
            ),
        )

    async def _ask(self, call: Awaitable[_Answer]) -> _Answer:
        try:
            return await call
        except grpc.RpcError as error:
            raise self._error(error) from error

    async def watch(self) -> AsyncGenerator[facts.AgentFacts, None]:
        call = self._stub.WatchStatus(agent_control_service_pb2.WatchStatusRequest())
        try:
            async for answer in call:
                yield convert.agent_facts(answer.status)
        except grpc.RpcError as error:
            raise self._error(error) from error
        finally:
            call.cancel()
        # A stream that ends in good order: the agent is shutting down.
        raise gateway_error(
            PoolError(ErrorCode.UNAVAILABLE),
            place=self._path,
            unreachable_step="The agent has stopped. Start it with `car-agent run`.",
        )

    async def status(self) -> facts.AgentFacts:
        request = agent_control_service_pb2.GetStatusRequest()
        answer = await self._ask(self._stub.GetStatus(request, timeout=AGENT_TIMEOUT_S))
        return convert.agent_facts(answer.status)

    async def set_opt_in(self, *, opted_in: bool) -> facts.StopFacts:
        request = agent_control_service_pb2.SetOptInRequest(opted_in=opted_in)
        answer = await self._ask(self._stub.SetOptIn(request, timeout=AGENT_CHANGE_TIMEOUT_S))
        return facts.StopFacts(agent=convert.agent_facts(answer.status), stop_ms=answer.stop_ms)

    async def pause(self, *, duration_s: int) -> facts.StopFacts:
        request = agent_control_service_pb2.PauseRequest(duration_s=duration_s)
        answer = await self._ask(self._stub.Pause(request, timeout=AGENT_CHANGE_TIMEOUT_S))
        return facts.StopFacts(agent=convert.agent_facts(answer.status), stop_ms=answer.stop_ms)

    async def resume(self) -> facts.AgentFacts:
        request = agent_control_service_pb2.ResumeRequest()
        answer = await self._ask(self._stub.Resume(request, timeout=AGENT_CHANGE_TIMEOUT_S))
        return convert.agent_facts(answer.status)

    async def close(self) -> None:
        await self._channel.close()


class _PoolCaller:
    """What the account's and the operator's gateway share: a channel, a deadline, one way to fail."""

    def __init__(self, *, channel: grpc.aio.Channel, address: str) -> None:
        self._channel = channel
        self._address = address

    @property
    def place(self) -> str:
        return self._address

    async def _ask(self, call: Awaitable[_Answer]) -> _Answer:
        try:
            return await call
        except grpc.RpcError as error:
            raise gateway_error(
                from_rpc_error(error),
                place=self._address,
                unreachable_step="Check the address and the network; the dashboard goes on trying.",
            ) from error

    async def close(self) -> None:
        await self._channel.close()


class GrpcAccountGateway(_PoolCaller):
    """Talks to the pool as an owner. `channel` sends the owner's token with each call."""

    def __init__(self, *, channel: grpc.aio.Channel, address: str, clock: Clock) -> None:
        super().__init__(channel=channel, address=address)
        self._clock = clock
        self._stub = account_service_pb2_grpc.AccountServiceStub(channel)
        self._fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
        self._prices = price_service_pb2_grpc.PriceServiceStub(channel)

    async def account(self) -> facts.AccountFacts:
        earnings = await self._ask(
            self._stub.GetEarnings(
                account_service_pb2.GetEarningsRequest(days=EARNINGS_DAYS), timeout=POOL_TIMEOUT_S
            )
        )
        vehicles = await self._ask(
            self._stub.ListVehicles(account_service_pb2.ListVehiclesRequest(), timeout=POOL_TIMEOUT_S)
        )
        events = await self._ask(
            self._stub.ListEvents(
                account_service_pb2.ListEventsRequest(limit=EVENTS_SHOWN), timeout=POOL_TIMEOUT_S
            )
        )
        return facts.AccountFacts(
            earnings=convert.earnings_facts(earnings),
            vehicles=tuple(map(convert.vehicle_facts, vehicles.vehicles)),
            events=tuple(map(convert.account_event_facts, events.events)),
            price=await self._price(),
        )

    async def _price(self) -> facts.PriceFacts | None:
        """Ask for the price; nothing else on the screen waits for a pool that does not tell it."""
        page = common_pb2.PageRequest(page_size=PRICE_EPOCHS_ASKED)
        try:
            price = await self._ask(
                self._prices.GetPrice(price_service_pb2.GetPriceRequest(), timeout=POOL_TIMEOUT_S)
            )
            epochs = await self._ask(
                self._prices.ListPriceEpochs(
                    price_service_pb2.ListPriceEpochsRequest(page=page), timeout=POOL_TIMEOUT_S
                )
            )
        except GatewayError:
            return None
        return convert.price_facts(price, epochs.epochs)

    async def _checker(self) -> ReceiptChecker:
        """Return a checker under the pool's newest root; without a root it says why it checks nothing."""
        now_us = self._clock.now_us()
        try:
            answer = await self._ask(
                self._fleet.GetRoot(fleet_service_pb2.GetRootRequest(after_version=0), timeout=POOL_TIMEOUT_S)
            )
            root = open_roots(answer.roots, now_us=now_us)
        except (GatewayError, PoolError) as error:
            return ReceiptChecker(clock=self._clock, root=None, why_not=f"no root document: {error.public}")
        why_not = "" if root else "the pool published no root document"
        return ReceiptChecker(clock=self._clock, root=root, why_not=why_not)

    async def receipts(self, *, page_token: str, vehicle_id: str) -> facts.ReceiptPage:
        request = account_service_pb2.ListReceiptsRequest(
            page=common_pb2.PageRequest(page_size=RECEIPTS_PER_PAGE, page_token=page_token),
            vehicle_id=vehicle_id,
        )
        answer = await self._ask(self._stub.ListReceipts(request, timeout=POOL_TIMEOUT_S))
        checker = await self._checker()
        return facts.ReceiptPage(
            receipts=tuple(map(checker.check, answer.receipts)), next_page_token=answer.next_page_token
        )

    async def statement(self, *, month: str) -> facts.StatementFacts:
        request = account_service_pb2.GetStatementRequest(month=month)
        answer = await self._ask(self._stub.GetStatement(request, timeout=POOL_TIMEOUT_S))
        return convert.statement_facts(answer)

    async def device(self, *, user_code: str) -> facts.DeviceFacts:
        request = account_service_pb2.GetDeviceCodeRequest(user_code=user_code)
        answer = await self._ask(self._stub.GetDeviceCode(request, timeout=POOL_TIMEOUT_S))
        return facts.DeviceFacts(
            user_code=user_code,
            agent_version=answer.agent_version,
            key_fingerprint=answer.key_fingerprint,
            expires_at_us=answer.expires_at_us,
        )

    async def answer_device(self, *, user_code: str, label: str, refuse: bool) -> str:
        request = account_service_pb2.ApproveDeviceRequest(user_code=user_code, label=label, refuse=refuse)
        answer = await self._ask(self._stub.ApproveDevice(request, timeout=POOL_TIMEOUT_S))
        return answer.vehicle_id

    async def bank(self) -> facts.BankFacts:
        request = account_service_pb2.GetPayoutDetailsRequest()
        answer = await self._ask(self._stub.GetPayoutDetails(request, timeout=POOL_TIMEOUT_S))
        return convert.bank_facts(answer.details)

    async def set_bank(self, details: facts.BankFacts) -> facts.BankFacts:
        request = account_service_pb2.SetPayoutDetailsRequest(
            details=account_service_pb2.PayoutDetails(
                holder_name=details.holder_name,
                iban=details.iban,
                threshold_micros=details.threshold_micros,
                town=details.town,
                country=details.country,
                bic=details.bic,
            )
        )
        answer = await self._ask(self._stub.SetPayoutDetails(request, timeout=POOL_TIMEOUT_S))
        return convert.bank_facts(answer.details)


class GrpcOperatorGateway(_PoolCaller):
    """Talks to the pool as an operator. `channel` sends the operator's token with each call."""

    def __init__(self, *, channel: grpc.aio.Channel, address: str) -> None:
        super().__init__(channel=channel, address=address)
        self._stub = admin_service_pb2_grpc.AdminServiceStub(channel)

    async def pool(self) -> facts.OperatorFacts:
        page = common_pb2.PageRequest(page_size=OPERATOR_ROWS)
        overview = await self._ask(
            self._stub.GetOverview(admin_service_pb2.GetOverviewRequest(), timeout=POOL_TIMEOUT_S)
        )
        fleet = await self._ask(
            self._stub.ListFleet(admin_service_pb2.ListFleetRequest(page=page), timeout=POOL_TIMEOUT_S)
        )
        jobs = await self._ask(
            self._stub.ListAllJobs(admin_service_pb2.ListAllJobsRequest(page=page), timeout=POOL_TIMEOUT_S)
        )
        payouts = await self._ask(
            self._stub.ListPayouts(admin_service_pb2.ListPayoutsRequest(), timeout=POOL_TIMEOUT_S)
        )
        return facts.OperatorFacts(
            overview=convert.overview_facts(overview),
            fleet=tuple(map(convert.vehicle_facts, fleet.vehicles)),
            jobs=tuple(map(convert.job_facts, jobs.jobs)),
            payouts=tuple(map(convert.payout_facts, payouts.payouts)),
        )

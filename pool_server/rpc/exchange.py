"""One vehicle's exchange stream: its messages answered in order, pushes in between.

A refusal answers the message that earned it and the stream goes on; only a broken stream, a newer stream of
the same vehicle, or the end of the server end it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator

import grpc

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import to_status
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb2
from pool_server.ports.shell import VehicleIdentity
from pool_server.rpc import convert_work
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.dispute_desk import DisputeDesk
from pool_server.rpc.hub import Hub, Outbox
from pool_server.rpc.interceptor import EdgeInterceptor, detail_is_public
from pool_server.rpc.probe_desk import ProbeDesk
from pool_server.rpc.store_access import StoreAccess
from pool_server.rpc.work_desk import WorkDesk

_log = logging.getLogger(__name__)
_METHOD = "/pool_protocol.v1.FleetService/Exchange"
DRAIN_RETRY_MS = 2_000


class ExchangeStreams:
    """Serves exchange streams."""

    def __init__(
        self,
        *,
        store: StoreAccess,
        desk: WorkDesk,
        disputes: DisputeDesk,
        hub: Hub,
        edge: EdgeInterceptor,
    ) -> None:
        self._store = store
        self._desk = desk
        self._disputes = disputes
        self._hub = hub
        self._edge = edge
        self.probes = ProbeDesk(store)

    async def serve(
        self, requests: AsyncIterator[fleet_pb2.ExchangeRequest], *, vehicle: VehicleIdentity
    ) -> AsyncGenerator[fleet_pb2.ExchangeResponse, None]:
        """Answer a vehicle's messages until it goes away.

        Raises:
            PoolError: DRAINING; UNAVAILABLE when too many streams are open.
        """
        with self._hub.stream(vehicle.vehicle_id) as outbox:
            # Registered first, read then: a question that is opened in between is pushed, perhaps twice.
            self._hub.ask(vehicle.vehicle_id, await self._disputes.open_questions(vehicle))
            reading = asyncio.create_task(self._read(requests, vehicle, outbox))
            try:
                while (response := await outbox.next()) is not None:
                    yield response
            finally:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading

    async def _read(
        self,
        requests: AsyncIterator[fleet_pb2.ExchangeRequest],
        vehicle: VehicleIdentity,
        outbox: Outbox,
    ) -> None:
        agent_version = vehicle.agent_version
        try:
            async for request in requests:
                outbox.waits_for_work = False
                response = await self._answer(request, vehicle)
                outbox.waits_for_work = response.HasField("no_work") and response.no_work.reason in {
                    "NO_WORK",
                    "PRICE_BELOW_RESERVE",
                }
                await outbox.put(response)
                agent_version = await self.note_agent(vehicle, request.want.agent, known=agent_version)
        except grpc.aio.BaseError as ended:
            # The call was cancelled or the server stopped while a message was waited for: nobody is there to
            # be told, and what was recorded is found out by sending it again.
            _log.debug("an exchange stream of %s ended: %s", vehicle.vehicle_id, ended)
        finally:
            outbox.close()

    async def note_agent(self, vehicle: VehicleIdentity, agent: fleet_pb2.AgentInfo, *, known: str) -> str:
        """Note a vehicle's agent version where it changed; return the one known now."""
        version = convert_work.fit_to_show(agent.agent_version, characters_max=60)
        if version in {"", known}:
            return known
        await self._store.write(lambda uow: uow.identity.set_agent_version(vehicle.vehicle_id, version))
        return version

    async def _answer(
        self, request: fleet_pb2.ExchangeRequest, vehicle: VehicleIdentity
    ) -> fleet_pb2.ExchangeResponse:
        response = fleet_pb2.ExchangeResponse(request_id=request.request_id)
        try:
            await self._fill(response, request, vehicle)
        except Exception as error:  # noqa: BLE001 - every error becomes a typed refusal of this message
            refusal = self._edge.refusal(_METHOD, error)
            status = to_status(refusal, public_detail=detail_is_public(refusal))
            return fleet_pb2.ExchangeResponse(
                request_id=request.request_id,
                error=fleet_pb2.ExchangeError(status=status.SerializeToString()),
            )
        return response

    async def _fill(
        self,
        response: fleet_pb2.ExchangeResponse,
        request: fleet_pb2.ExchangeRequest,
        vehicle: VehicleIdentity,
    ) -> None:
        if request.request_id == 0:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, "request_id begins at 1")
        # First of all: the results of this very message may be judged by the class that it tells.
        await self.probes.note(vehicle.vehicle_id, request.want.agent)
        if request.unit_answers:
            await self._disputes.answer(request.unit_answers, vehicle=vehicle)
        results = None
        if request.HasField("results"):
            results = self._desk.open_results(request.results, vehicle=vehicle)
        want = None
        if request.HasField("want") and request.want.attempts_max > 0:
            want = convert_work.lease_work(
                request.want,
                request.held_lease_ids,
                vehicle_id=vehicle.vehicle_id,
                network=current_caller().network,
            )
        if want is not None and self._hub.draining:
            want = None
            response.no_work.CopyFrom(draining())
        if results is not None and want is not None:
            acks, answer = await self._desk.submit_and_lease(results, want)
            response.submitted.CopyFrom(acks)
            _set_answer(response, answer)
        elif results is not None:
            response.submitted.CopyFrom(await self._desk.submit(results))
        elif want is not None:
            _set_answer(response, await self._desk.lease(want))


def draining() -> fleet_pb2.NoWork:
    """Return the answer of a server that is going away."""
    return fleet_pb2.NoWork(
        reason="DRAINING", message="This server is shutting down.", retry_after_ms=DRAIN_RETRY_MS
    )


def _set_answer(response: fleet_pb2.ExchangeResponse, answer: common_pb2.Envelope | fleet_pb2.NoWork) -> None:
    if isinstance(answer, fleet_pb2.NoWork):
        response.no_work.CopyFrom(answer)
    else:
        response.lease.CopyFrom(answer)

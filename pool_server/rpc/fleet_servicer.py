"""FleetService: what vehicles and devices that enrol ask of the pool."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from pool_protocol import limits
from pool_protocol.ids import parse_program_id
from pool_protocol.v1 import common_pb2, fleet_service_pb2_grpc
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_server.app.keys import roots_after
from pool_server.app.programs import require_program
from pool_server.rpc import convert_work
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.blob_transfer import BlobTransfer
from pool_server.rpc.enrolment_desk import EnrolmentDesk
from pool_server.rpc.exchange import ExchangeStreams, draining
from pool_server.rpc.hub import Hub
from pool_server.rpc.owner_figures import OwnerFigures
from pool_server.rpc.program_desk import ProgramDesk
from pool_server.rpc.store_access import StoreAccess
from pool_server.rpc.work_desk import WorkDesk

_Context = Any


class FleetServicer(fleet_service_pb2_grpc.FleetServiceServicer):
    """Implements FleetService."""

    def __init__(
        self,
        *,
        store: StoreAccess,
        enrolment: EnrolmentDesk,
        desk: WorkDesk,
        streams: ExchangeStreams,
        programs: ProgramDesk,
        blobs: BlobTransfer,
        figures: OwnerFigures,
        hub: Hub,
        pool_id: str,
        ca_pem: bytes,
    ) -> None:
        self._store = store
        self._enrolment = enrolment
        self._desk = desk
        self._streams = streams
        self._programs = programs
        self._blobs = blobs
        self._figures = figures
        self._hub = hub
        self._pool_id = pool_id
        self._ca_pem = ca_pem
        #: host:port of the fleet listener, known once it is bound.
        self.fleet_address = ""

    async def BeginEnrolment(
        self, request: pb.BeginEnrolmentRequest, context: _Context
    ) -> pb.BeginEnrolmentResponse:
        device_code, begun = await self._enrolment.begin(
            csr_pem=request.csr_pem,
            envelope_public_key=request.envelope_public_key,
            agent_version=convert_work.fit_to_show(request.agent.agent_version, characters_max=60),
        )
        return pb.BeginEnrolmentResponse(
            device_code=device_code,
            user_code=begun.user_code,
            expires_at_us=begun.expires_at_us,
            poll_interval_s=limits.DEVICE_CODE_POLL_S,
        )

    async def CompleteEnrolment(
        self, request: pb.CompleteEnrolmentRequest, context: _Context
    ) -> pb.CompleteEnrolmentResponse:
        enrolment = await self._enrolment.complete(request.device_code)
        roots = await self._store.read(lambda uow: roots_after(uow, 0))
        return pb.CompleteEnrolmentResponse(
            vehicle_id=enrolment.vehicle_id,
            owner_id=enrolment.owner_id,
            pool_id=self._pool_id,
            certificate_pem=enrolment.certificate_pem,
            ca_pem=self._ca_pem,
            root=common_pb2.SignedRoot.FromString(roots[-1]),
            fleet_address=self.fleet_address,
        )

    async def RenewCertificate(
        self, request: pb.RenewCertificateRequest, context: _Context
    ) -> pb.RenewCertificateResponse:
        vehicle = current_caller().require_vehicle()
        issued = await self._enrolment.renew(vehicle_id=vehicle.vehicle_id, csr_pem=request.csr_pem)
        return pb.RenewCertificateResponse(certificate_pem=issued.certificate_pem)

    async def GetRoot(self, request: pb.GetRootRequest, context: _Context) -> pb.GetRootResponse:
        version = min(request.after_version, 2**62)
        roots = await self._store.read(lambda uow: roots_after(uow, version))
        return pb.GetRootResponse(roots=[common_pb2.SignedRoot.FromString(root) for root in roots])

    async def GetProgram(self, request: pb.GetProgramRequest, context: _Context) -> pb.GetProgramResponse:
        program_sha256 = parse_program_id(request.program_sha256)
        program = await self._store.read(lambda uow: require_program(uow, program_sha256))
        artifact = await self._programs.artifact(program_sha256)
        return pb.GetProgramResponse(
            artifact=artifact, admission=common_pb2.Envelope.FromString(program.admission)
        )

    async def GetBlob(
        self, request: pb.FleetServiceGetBlobRequest, context: _Context
    ) -> AsyncIterator[pb.FleetServiceGetBlobResponse]:
        vehicle = current_caller().require_vehicle()
        pieces = self._blobs.send(request.blob_sha256, offset=request.offset, holder=vehicle.vehicle_id)
        async with contextlib.aclosing(pieces):
            async for chunk, size_bytes in pieces:
                yield pb.FleetServiceGetBlobResponse(chunk=chunk, size_bytes=size_bytes)

    async def PutBlob(
        self, request_iterator: AsyncIterator[pb.FleetServicePutBlobRequest], context: _Context
    ) -> pb.FleetServicePutBlobResponse:
        vehicle = current_caller().require_vehicle()
        pieces = ((request.blob_sha256, request.chunk) async for request in request_iterator)
        size_bytes = await self._blobs.receive(pieces, holder=vehicle.vehicle_id)
        return pb.FleetServicePutBlobResponse(size_bytes=size_bytes)

    async def Exchange(
        self, request_iterator: AsyncIterator[pb.ExchangeRequest], context: _Context
    ) -> AsyncIterator[pb.ExchangeResponse]:
        vehicle = current_caller().require_vehicle()
        responses = self._streams.serve(request_iterator, vehicle=vehicle)
        async with contextlib.aclosing(responses):
            async for response in responses:
                yield response

    async def LeaseWork(self, request: pb.LeaseWorkRequest, context: _Context) -> pb.LeaseWorkResponse:
        caller = current_caller()
        vehicle = caller.require_vehicle()
        command = convert_work.lease_work(
            request.want, request.held_lease_ids, vehicle_id=vehicle.vehicle_id, network=caller.network
        )
        await self._streams.probes.note(vehicle.vehicle_id, request.want.agent)
        await self._streams.note_agent(vehicle, request.want.agent, known=vehicle.agent_version)
        if self._hub.draining:
            return pb.LeaseWorkResponse(no_work=draining())
        answer = await self._desk.lease(command)
        if isinstance(answer, pb.NoWork):
            return pb.LeaseWorkResponse(no_work=answer)
        return pb.LeaseWorkResponse(lease=answer)

    async def SubmitResults(
        self, request: pb.SubmitResultsRequest, context: _Context
    ) -> pb.SubmitResultsResponse:
        vehicle = current_caller().require_vehicle()
        return await self._desk.submit(self._desk.open_results(request.results, vehicle=vehicle))

    async def GetVehicleEarnings(
        self, request: pb.GetVehicleEarningsRequest, context: _Context
    ) -> pb.GetVehicleEarningsResponse:
        return await self._figures.of_vehicle(current_caller().require_vehicle())

"""The work's use cases as a vehicle's calls need them: results in, the next lease out, signed.

One place for the unary calls and the exchange stream, so that both are the same to the byte. Signatures are
checked and made here, in the event loop, never on the writer thread.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from pool_protocol.envelope import PayloadType, open_envelope
from pool_protocol.keys import TrustedKeys, VerifyingKey
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb2
from pool_server.app.blobs import grant_outputs, require_held
from pool_server.app.certificates import CertificateCase, CertificateFinding, certificate_case
from pool_server.app.compare_ahead import compare_pairs, pairs_of_bundle
from pool_server.app.leasing import lease_work
from pool_server.app.outputs import OutputFinding, check_outputs
from pool_server.app.submission import specs_of_lease, submit_results
from pool_server.app.work_commands import (
    AttemptAckValue,
    LeaseGranted,
    LeaseWork,
    NoWorkNow,
    SubmitResults,
)
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.hand_out import HandOutOrder
from pool_server.core.jobs import OutputSpec
from pool_server.core.verification import AuditDraw
from pool_server.identity.signing import PoolSigner
from pool_server.ports.shell import VehicleIdentity
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc import convert_work
from pool_server.rpc.certificate_desk import CertificateDesk
from pool_server.rpc.store_access import StoreAccess


class _Findings(NamedTuple):
    """What was found of a bundle before its transaction, by attempt."""

    outputs: dict[int, OutputFinding]
    certificates: dict[int, CertificateFinding]


class WorkDesk:
    """Takes results and hands out leases."""

    def __init__(
        self,
        *,
        store: StoreAccess,
        signer: PoolSigner,
        policy: WorkPolicy,
        draws: AuditDraw,
        order: HandOutOrder,
        blob_reader: BlobReader,
        certificates: CertificateDesk,
    ) -> None:
        self._store = store
        self._signer = signer
        self._policy = policy
        self._draws = draws
        self._order = order
        self._blob_reader = blob_reader
        self._certificates = certificates
        self._comparing = asyncio.Lock()

    def open_results(self, envelope: common_pb2.Envelope, *, vehicle: VehicleIdentity) -> SubmitResults:
        """Return the results that a vehicle signed.

        The envelope may be sent again and again: a result that was recorded before gets the same answer and
        no second payment, so no nonce is remembered.

        Raises:
            PoolError: what `open_envelope` raises; what `convert_work.submit_results` raises.
        """
        verified = open_envelope(
            envelope,
            payload_type=PayloadType.RESULTS,
            audience=self._signer.pool_id,
            keys=TrustedKeys([VerifyingKey(vehicle.envelope_public_key)]),
            now_us=self._store.now_us(),
            issuer=vehicle.vehicle_id,
        )
        return convert_work.submit_results(verified.body, vehicle_id=vehicle.vehicle_id)

    async def submit(self, command: SubmitResults) -> fleet_pb2.SubmitResultsResponse:
        """Record results; the answer is durable.

        Raises:
            PoolError: BLOB_MISSING; LEASE_UNKNOWN; LEASE_NOT_YOURS.
        """
        findings = await self._findings(command)
        now_us = self._store.now_us()
        acks = await self._store.write(lambda uow: self._submit(uow, command, findings, now_us))
        return convert_work.acknowledgements(acks)

    async def lease(self, command: LeaseWork) -> common_pb2.Envelope | fleet_pb2.NoWork:
        """Give a lease, signed for the vehicle, or say why not.

        Raises:
            PoolError: NOT_FOUND.
        """
        now_us = self._store.now_us()
        granted = await self._store.write(lambda uow: self._lease(uow, command, now_us))
        return self._answer(granted)

    async def submit_and_lease(
        self, results: SubmitResults, want: LeaseWork
    ) -> tuple[fleet_pb2.SubmitResultsResponse, common_pb2.Envelope | fleet_pb2.NoWork]:
        """Do both, queued together so that they usually share one commit; results first.

        Raises:
            PoolError: as `submit`; then the wish for work was answered too, and a lease that was granted is
                sent again when the vehicle asks next.
        """
        findings = await self._findings(results)
        now_us = self._store.now_us()
        recorded = asyncio.ensure_future(
            self._store.write(lambda uow: self._submit(uow, results, findings, now_us))
        )
        granted = asyncio.ensure_future(self._store.write(lambda uow: self._lease(uow, want, now_us)))
        acks, lease = await asyncio.gather(recorded, granted)
        return convert_work.acknowledgements(acks), self._answer(lease)

    async def _findings(self, command: SubmitResults) -> _Findings:
        """Decode, hash and certify outputs outside of the transaction: that is the dear part of a submit."""
        blobs = convert_work.result_blobs(command)

        def look(uow: UnitOfWork) -> tuple[tuple[OutputSpec, ...] | None, CertificateCase | None]:
            require_held(uow, blobs, holder=command.vehicle_id)
            specs = specs_of_lease(uow, vehicle_id=command.vehicle_id, lease_id=command.lease_id)
            return specs, None if specs is None else certificate_case(uow, command)

        specs, case = await self._store.read(look)
        if specs is None:
            return _Findings({}, {})  # the use case refuses the bundle
        outputs = await asyncio.to_thread(check_outputs, command.reports, specs, blobs=self._blob_reader)
        if blobs:
            await self._compare_ahead(command, outputs)
        if case is None:
            return _Findings(outputs, {})
        return _Findings(outputs, await self._certificates.check(case, command.reports, outputs))

    async def _compare_ahead(self, command: SubmitResults, findings: Mapping[int, OutputFinding]) -> None:
        """Compare large results with what they will be set against, one bundle at a time."""
        pairs = await self._store.read(lambda uow: pairs_of_bundle(uow, command, findings))
        if pairs:
            async with self._comparing:
                await asyncio.to_thread(compare_pairs, pairs, blobs=self._blob_reader)

    def _submit(
        self,
        uow: UnitOfWork,
        command: SubmitResults,
        findings: _Findings,
        now_us: int,
    ) -> list[AttemptAckValue]:
        acks = submit_results(
            uow,
            command,
            draws=self._draws,
            policy=self._policy,
            now_us=now_us,
            blobs=self._blob_reader,
            findings=findings.outputs,
            certified=findings.certificates,
        )
        blobs = convert_work.result_blobs(command)
        if blobs:
            grant_outputs(uow, blobs, lease_id=command.lease_id)
        return acks

    def _lease(self, uow: UnitOfWork, command: LeaseWork, now_us: int) -> LeaseGranted | NoWorkNow:
        granted = lease_work(uow, command, order=self._order, policy=self._policy, now_us=now_us)
        if isinstance(granted, LeaseGranted):
            uow.blobs.grant(convert_work.lease_blobs(granted), holder=command.vehicle_id)
        return granted

    def _answer(self, granted: LeaseGranted | NoWorkNow) -> common_pb2.Envelope | fleet_pb2.NoWork:
        if isinstance(granted, NoWorkNow):
            return convert_work.no_work(granted)
        return self._signer.lease(
            convert_work.lease_body(granted),
            vehicle_id=granted.vehicle_id,
            now_us=self._store.now_us(),
            expires_at_us=granted.expires_at_us,
        )

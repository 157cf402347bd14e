"""A pool of our own making and an agent around it, over real TLS sockets in one process.

`FakeFleet` is the vehicle's side of a pool: it hands out what a test puts into it, honest or not, and keeps
what it receives. `Rig` is one agent on one state directory; `crash` ends it without any goodbye.
"""

import asyncio
import datetime as dt
import ipaddress
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from car_agent.core.forecast import EtaForecast
from car_agent.core.policy import OwnerSwitches, Policy
from car_agent.core.signals import ChargeState, PlugState, SourceClass, VehicleSignals
from car_agent.journal.consent import ConsentFile
from car_agent.journal.identity import (
    Identity,
    load_identity,
    new_pairing_keys,
    save_identity,
)
from car_agent.journal.probe_file import ProbeFile
from car_agent.journal.settings import AgentSettings, PolicyFile
from car_agent.journal.state_directory import StateDirectory
from car_agent.journal.store import Journal
from car_agent.journal.thread import JournalThread
from car_agent.main.agent import Agent
from car_agent.main.books import Books
from car_agent.main.economy import open_economy
from car_agent.main.numeric import NumericProbes
from car_agent.main.pool_link import PoolLink
from car_agent.main.switchboard import Switchboard
from car_agent.runner.process import WorkerSettings
from car_agent.session.intake import attempt_ids_of
from car_agent.session.wire import PoolFigures
from pool_protocol import digests, tensors
from pool_protocol.envelope import ANY_AUDIENCE, EnvelopeHeader, PayloadType, open_envelope, seal_envelope
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import to_grpc_status, to_status
from pool_protocol.keys import SigningKey, TrustedKeys
from pool_protocol.program.manifest import ProgramManifest
from pool_protocol.roots import Role, RootDocument, build_root, open_first_root
from pool_protocol.system import SystemClock, SystemIds
from pool_protocol.v1 import common_pb2, fleet_service_pb2, fleet_service_pb2_grpc
from tests.unit.agent.test_leases import manifest as simple_manifest

STUB = Path(__file__).with_name("stub_worker.py")
TIMEOUT_S = 20.0
ARTIFACT = b"a program that only stubs run"
DAY = dt.timedelta(days=1)


async def until(condition: Callable[[], object], *, what: str = "") -> None:
    """Wait until something holds; fail after a while. For integration tests only."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in another part
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never came true: {what or condition}") from None


@dataclass
class TestAuthority:
    """A CA for loopback."""

    __test__ = False
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test ca")])
        self.certificate = self._issue(self.key.public_key(), self.name, is_ca=True)

    def _issue(
        self,
        public_key: Any,
        subject: x509.Name,
        *,
        is_ca: bool = False,
        days: tuple[int, int] = (-1, 30),
    ) -> x509.Certificate:
        now = dt.datetime.fromtimestamp(SystemClock().now_us() / 1e6, tz=dt.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, csr_pem: bytes, *, days: tuple[int, int] = (-1, 30)) -> bytes:
        request = x509.load_pem_x509_csr(csr_pem)
        return self._issue(request.public_key(), request.subject, days=days).public_bytes(
            serialization.Encoding.PEM
        )

    def server_pair(self) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem, self._issue(key.public_key(), subject).public_bytes(serialization.Encoding.PEM)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def inputs(value: float = 1.0) -> bytes:
    """Inputs that fit `simple_manifest`; the stub's outputs are the same."""
    return tensors.encode({"value": np.full(4, value, np.float32)})


class FakeFleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """The vehicle's side of a pool that does as the test says."""

    def __init__(self) -> None:
        ids = SystemIds()
        self.authority = TestAuthority()
        self.pool_id = "pool-fake"
        self.root_key, self.program_key, self.lease_key, self.receipt_key = (
            SigningKey.generate(ids) for _ in range(4)
        )
        self.clock = SystemClock()
        self.root_bytes = build_root(self.root_document(), [self.root_key])
        self.newer_roots: list[bytes] = []
        self.vehicle_id = ""
        self.vehicle_key: SigningKey | None = None
        self.sequence = 0
        #: What a request for work is answered with, one after another.
        self.offers: list[common_pb2.Envelope] = []
        self.no_work_retry_ms = 20
        self.posted_price_micros_per_wu = 1_000
        self.answers_results = True
        self.refuse_results: PoolError | None = None
        self.results_before_refusal = 0
        self.requests: list[fleet_service_pb2.ExchangeRequest] = []
        self.bundles: list[fleet_service_pb2.ResultBundleBody] = []
        self.bundle_bytes: list[bytes] = []
        self.uploads: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.artifacts: dict[str, tuple[bytes, common_pb2.Envelope]] = {}
        self.renewals = 0
        self.pushes: asyncio.Queue[fleet_service_pb2.ExchangeResponse | None] = asyncio.Queue()
        self.streams = 0
        self.gone: PoolError | None = None
        self.address = ""
        self._server: grpc.aio.Server | None = None
        self.admit(ARTIFACT, simple_manifest(ARTIFACT))

    # --- signing -------------------------------------------------------------------------------

    def root_document(self, **changes: Any) -> RootDocument:
        now_us = self.clock.now_us()
        values: dict[str, Any] = {
            "pool_id": self.pool_id,
            "version": 1,
            "issued_at_us": now_us - 1_000_000,
            "expires_at_us": now_us + 86_400_000_000,
            "keys": {
                Role.ROOT: (self.root_key.verifying_key,),
                Role.PROGRAM: (self.program_key.verifying_key,),
                Role.LEASE: (self.lease_key.verifying_key,),
                Role.RECEIPT: (self.receipt_key.verifying_key,),
            },
            "root_threshold": 1,
        }
        return RootDocument(**(values | changes))

    def admit(self, artifact: bytes, manifest: ProgramManifest, *, key: SigningKey | None = None) -> str:
        sha256 = digests.sha256_hex(artifact)
        body = common_pb2.ProgramAdmissionBody(artifact_sha256=sha256, manifest=manifest.to_json())
        header = self.header(audience=ANY_AUDIENCE, expires_at_us=0)
        envelope = seal_envelope(
            body.SerializeToString(),
            payload_type=PayloadType.PROGRAM_ADMISSION,
            header=header,
            key=key or self.program_key,
        )
        self.artifacts[sha256] = (artifact, envelope)
        return sha256

    def header(self, *, audience: str = "", expires_at_us: int | None = None) -> EnvelopeHeader:
        now_us = self.clock.now_us()
        self.sequence = max(self.sequence + 1, now_us)
        return EnvelopeHeader(
            issuer=self.pool_id,
            audience=audience or self.vehicle_id,
            nonce=SystemIds().nonce(),
            sequence=self.sequence,
            issued_at_us=now_us - 1_000_000,
            expires_at_us=now_us + 60_000_000 if expires_at_us is None else expires_at_us,
        )

    def lease(
        self,
        number: int,
        *attempt_ids: int,
        program_sha256: str = "",
        key: SigningKey | None = None,
        audience: str = "",
        lives_us: int = 60_000_000,
        **changes: Any,
    ) -> common_pb2.Envelope:
        """A lease of attempts whose inputs are their own numbers."""
        header = self.header(audience=audience, expires_at_us=self.clock.now_us() + lives_us)
        values: dict[str, Any] = {
            "lease_id": f"lease_{number}",
            "vehicle_id": audience or self.vehicle_id,
            "program_sha256": program_sha256 or digests.sha256_hex(ARTIFACT),
            "price_micros_per_wu": 100,
            "attempts": [
                fleet_service_pb2.AttemptSpec(attempt_id=n, inputs=bundle(inputs(n))) for n in attempt_ids
            ],
            "expires_at_us": header.expires_at_us,
        }
        content = fleet_service_pb2.LeaseBody(**(values | changes)).SerializeToString()
        return seal_envelope(
            content, payload_type=PayloadType.LEASE, header=header, key=key or self.lease_key
        )

    # --- what came in --------------------------------------------------------------------------

    def results(self) -> dict[int, fleet_service_pb2.AttemptResult]:
        """Every attempt's first result."""
        found: dict[int, fleet_service_pb2.AttemptResult] = {}
        for body in self.bundles:
            for result in body.results:
                found.setdefault(result.attempt_id, result)
        return found

    # --- the service ---------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        self._server = grpc.aio.server()
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(self, self._server)
        credentials = grpc.ssl_server_credentials(
            [self.authority.server_pair()],
            root_certificates=self.authority.pem,
            require_client_auth=True,
        )
        bound = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        self.address = f"127.0.0.1:{bound}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def restart(self) -> None:
        await self.stop()
        await self.start(int(self.address.rsplit(":", 1)[1]))

    async def BeginEnrolment(self, request: Any, context: Any) -> Any:
        return await self._not_here(context)

    async def CompleteEnrolment(self, request: Any, context: Any) -> Any:
        return await self._not_here(context)

    async def LeaseWork(self, request: Any, context: Any) -> Any:
        return await self._not_here(context)

    async def SubmitResults(self, request: Any, context: Any) -> Any:
        return await self._not_here(context)

    async def _not_here(self, context: Any) -> Any:
        await context.abort_with_status(to_grpc_status(PoolError(ErrorCode.UNIMPLEMENTED)))

    async def GetRoot(self, request: Any, context: Any) -> fleet_service_pb2.GetRootResponse:
        if self.gone is not None:
            await context.abort_with_status(to_grpc_status(self.gone))
        roots = [common_pb2.SignedRoot.FromString(item) for item in self.newer_roots]
        return fleet_service_pb2.GetRootResponse(roots=roots)

    async def GetProgram(self, request: Any, context: Any) -> fleet_service_pb2.GetProgramResponse:
        if request.program_sha256 not in self.artifacts:
            await context.abort_with_status(to_grpc_status(PoolError(ErrorCode.PROGRAM_NOT_ADMITTED)))
        artifact, admission = self.artifacts[request.program_sha256]
        return fleet_service_pb2.GetProgramResponse(artifact=artifact, admission=admission)

    async def GetBlob(
        self, request: Any, context: Any
    ) -> AsyncIterator[fleet_service_pb2.FleetServiceGetBlobResponse]:
        content = self.blobs[request.blob_sha256]
        half = len(content) // 2
        for chunk in (content[:half], content[half:]):
            yield fleet_service_pb2.FleetServiceGetBlobResponse(chunk=chunk, size_bytes=len(content))

    async def PutBlob(self, requests: Any, context: Any) -> fleet_service_pb2.FleetServicePutBlobResponse:
        name, content = "", b""
        async for piece in requests:
            name = name or piece.blob_sha256
            content += piece.chunk
        self.uploads[name] = content
        return fleet_service_pb2.FleetServicePutBlobResponse(size_bytes=len(content))

    async def RenewCertificate(
        self, request: Any, context: Any
    ) -> fleet_service_pb2.RenewCertificateResponse:
        self.renewals += 1
        return fleet_service_pb2.RenewCertificateResponse(
            certificate_pem=self.authority.issue(request.csr_pem)
        )

    async def GetVehicleEarnings(
        self, request: Any, context: Any
    ) -> fleet_service_pb2.GetVehicleEarningsResponse:
        return fleet_service_pb2.GetVehicleEarningsResponse(
            currency="EUR",
            held_micros=len(self.bundles),
            posted_price_micros_per_wu=self.posted_price_micros_per_wu,
            fee_ppm=100_000,
        )

    async def Exchange(
        self, requests: Any, context: Any
    ) -> AsyncIterator[fleet_service_pb2.ExchangeResponse]:
        self.streams += 1
        # A stream has its own queue: one that is dying must not take what is meant for the next.
        answers = self.pushes = asyncio.Queue()

        async def read() -> None:
            async for request in requests:
                if self.pushes is not answers:
                    return
                response = self._answer(request)
                if response is not None:
                    answers.put_nowait(response)

        reader = asyncio.create_task(read())
        try:
            while (response := await answers.get()) is not None:
                yield response
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _answer(
        self, request: fleet_service_pb2.ExchangeRequest
    ) -> fleet_service_pb2.ExchangeResponse | None:
        self.requests.append(request)
        response = fleet_service_pb2.ExchangeResponse(request_id=request.request_id)
        if request.HasField("results"):
            if self.refuse_results is not None and len(self.bundles) >= self.results_before_refusal:
                status = _status_bytes(self.refuse_results)
                return fleet_service_pb2.ExchangeResponse(
                    request_id=request.request_id, error=fleet_service_pb2.ExchangeError(status=status)
                )
            body = self._open(request.results)
            self.bundles.append(body)
            self.bundle_bytes.append(request.results.SerializeToString())
            if not self.answers_results:
                return None
            for result in body.results:
                response.submitted.acks.add(
                    attempt_id=result.attempt_id, status=fleet_service_pb2.ACK_STATUS_RECORDED
                )
        if request.want.attempts_max:
            if self.offers:
                response.lease.CopyFrom(self.offers.pop(0))
            else:
                response.no_work.reason = "NO_WORK"
                response.no_work.retry_after_ms = self.no_work_retry_ms
        return response

    def _open(self, envelope: common_pb2.Envelope) -> fleet_service_pb2.ResultBundleBody:
        if self.vehicle_key is None:
            raise RuntimeError("no vehicle")
        opened = open_envelope(
            envelope,
            payload_type=PayloadType.RESULTS,
            audience=self.pool_id,
            keys=TrustedKeys([self.vehicle_key.verifying_key]),
            now_us=self.clock.now_us(),
            issuer=self.vehicle_id,
        )
        return fleet_service_pb2.ResultBundleBody.FromString(opened.body)

    # --- pairing without ceremony ---------------------------------------------------------------

    def identity(self, *, days: tuple[int, int] = (-1, 30)) -> Identity:
        """An enrolled vehicle."""
        ids = SystemIds()
        keys = new_pairing_keys(ids)
        self.vehicle_id = ids.new_vehicle_id()
        self.vehicle_key = keys.envelope_key
        return Identity(
            vehicle_id=self.vehicle_id,
            owner_id=ids.new_owner_id(),
            pool_id=self.pool_id,
            fleet_address=self.address,
            api_address=self.address,
            tls_key_pem=keys.tls_key_pem,
            certificate_pem=self.authority.issue(keys.csr_pem, days=days),
            ca_pem=self.authority.pem,
            envelope_key=keys.envelope_key,
            root=open_first_root(self.root_bytes, now_us=self.clock.now_us()),
        )


def _status_bytes(error: PoolError) -> bytes:
    serialized: bytes = to_status(error).SerializeToString()
    return serialized


def bundle(content: bytes) -> common_pb2.TensorBundle:
    return common_pb2.TensorBundle(inline=content, size_bytes=len(content))


def blob(content: bytes) -> common_pb2.TensorBundle:
    return common_pb2.TensorBundle(blob_sha256=digests.sha256_hex(content), size_bytes=len(content))


class Rig:
    """One agent on one state directory, with a stub for a worker."""

    def __init__(self, path: Path, *worker_arguments: str, **settings: Any) -> None:
        self.directory = StateDirectory(path)
        self.directory.create()
        self.clock = SystemClock()
        self.settings = AgentSettings(source="simulated", **settings)
        self.worker = WorkerSettings(
            command=(sys.executable, str(STUB), *worker_arguments), scratch=self.directory.scratch
        )
        self.agent: Agent
        self.link: PoolLink
        self.switchboard: Switchboard
        self._thread: JournalThread
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, identity: Identity | None = None) -> None:
        """As the daemon does it, without files to lock and sockets to serve."""
        if identity is not None:
            save_identity(self.directory, identity)
        known = load_identity(self.directory)
        if known is None:
            raise RuntimeError("not paired")
        consent = ConsentFile(self.directory.consent)
        if not self.directory.consent.exists():
            consent.opt_in(now_us=self.clock.now_us())
        self._thread = JournalThread(Journal(self.directory.journal, now_us=self.clock.now_us()))
        books = Books(self._thread, self.clock)
        policy = Policy(start_after_s=0)
        self.economy = await open_economy(
            self.settings, self.directory, policy, books=books, journal=self._thread, clock=self.clock
        )
        self.agent = Agent(
            settings=self.settings,
            worker=self.worker,
            policy=policy,
            switches=consent.read(),
            books=books,
            forecast=EtaForecast(),
            economy=self.economy,
            clock=self.clock,
            probes=NumericProbes(ProbeFile(self.directory.numeric), self.worker),
        )
        self.switchboard = Switchboard(
            self.agent, consent=consent, policy_file=PolicyFile(self.directory.policy), clock=self.clock
        )
        self.link = PoolLink(
            directory=self.directory,
            identity=known,
            settings=self.settings,
            journal=self._thread,
            books=books,
            clock=self.clock,
            source=SystemIds(),
            listener=self.agent,
            on_lease_done=self.agent.lease_done,
        )
        await self.link.outbox.load()
        leases = await self._thread.do(Journal.open_leases)
        for lease in leases:
            left = set(attempt_ids_of(lease)) - lease.reported
            self.link.desk.open(lease.lease_id, left, attempts_total=lease.attempts_total)
        self.agent.pair_with(self.link, leases, PoolFigures())
        work = (
            self.agent.run(),
            books.run(),
            self.economy.run(),
            self.link.run_sealing(),
            self.link.session.run(),
        )
        self._tasks = [asyncio.create_task(item) for item in work]

    def report(self, **changes: Any) -> None:
        values: dict[str, Any] = {
            "plug": PlugState.PLUGGED,
            "charge": ChargeState.CHARGING,
            "soc_percent": 70.0,
        }
        self.agent.report(
            VehicleSignals(
                source="test",
                source_class=SourceClass.A,
                observed_mono_ns=self.clock.monotonic_ns(),
                observed_us=self.clock.now_us(),
                fresh_for_ms=600_000,
                **(values | changes),
            )
        )

    def charge(self) -> None:
        """The car charges."""
        self.report()

    def unplug(self) -> None:
        """The car was unplugged."""
        self.report(plug=PlugState.UNPLUGGED, charge=ChargeState.IDLE)

    async def journal(self, function: Callable[[Journal], Any]) -> Any:
        """Ask the journal."""
        return await self._thread.do(function)

    def has_a_program(self) -> bool:
        """Whether a program was fetched, or given to the worker; that runs for its probe in any case."""
        return bool(self.agent._driver.warm_programs) or any(self.directory.cache.glob("*"))

    def event_codes(self) -> list[str]:
        """What happened, newest first."""
        return [event.code for event in self.agent.snapshot().events]

    async def crash(self) -> None:
        """End as a power cut would, as far as one process can: no abandoning, no sealing, no goodbye."""
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.agent.close()
        self._thread.close()
        self._tasks = []
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def switches(self) -> OwnerSwitches:
        """What is on disk."""
        return await asyncio.to_thread(partial(ConsentFile.read, ConsentFile(self.directory.consent)))

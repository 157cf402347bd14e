"""A real pool in this process: its own thread and event loop, free loopback ports, all made at run time.

    with running_pool(tmp_path) as pool:
        owner = pool.create_principal("owner", "Olga")
        car = pool.enrol_vehicle(owner)

What is real: TLS, mTLS, tokens, signatures, the database, admission in a child. `restart` closes the server
and opens another over the same data.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pool_protocol.clock import Clock
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.keys import SigningKey
from pool_protocol.program.admission import vet_in_child
from pool_protocol.system import SystemClock, SystemIds
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import (
    account_service_pb2_grpc,
    admin_service_pb2_grpc,
    books_service_pb2_grpc,
    caps_service_pb2_grpc,
    fleet_service_pb2_grpc,
    market_service_pb2_grpc,
    particulars_service_pb2_grpc,
    report_service_pb2_grpc,
)
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb
from pool_server.admission.queue import Vet
from pool_server.config import config_from
from pool_server.main.disputes import PoolReferee
from pool_server.main.initialize import PoolMade, initialize_pool
from pool_server.main.operators import make_operator
from pool_server.main.serve import Addresses, PoolServer

START_TIMEOUT_S = 30.0
#: Quick sweeps and short goodbyes; the rest is as an operator would have it.
TEST_CONFIG: dict[str, Any] = {
    "api_port": 0,
    "fleet_port": 0,
    "sweep_interval_s": 0.05,
    "drain_grace_s": 0.5,
    "posted_price_micros_per_wu": 1_000_000,
    # Most tests run on the wall clock: a full quarter of an hour must not change their prices.
    "price_mode": "fixed",
    "allow_level_none": True,
    # Programs of these tests are mostly none that a referee could run: owners decide, unless a test says so.
    "pool_run_wu_max": 0,
    "pool_audit_wu_max": 0,
}


@dataclass(frozen=True, kw_only=True)
class PrincipalHandle:
    """Someone with an account, and the token to prove it."""

    principal_id: str
    token: str
    token_id: str
    role: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return (("authorization", f"Bearer {self.token}"),)


@dataclass(frozen=True, kw_only=True)
class VehicleHandle:
    """An enrolled vehicle: everything that an agent keeps."""

    vehicle_id: str
    owner_id: str
    pool_id: str
    certificate_pem: bytes
    tls_key_pem: bytes
    envelope_key: SigningKey
    ca_pem: bytes
    fleet_address: str
    device_code: str


class _Running:
    """One server in a thread of its own."""

    def __init__(
        self, data: Path, config: dict[str, Any], clock: Clock, vet: Vet, referee: PoolReferee | None
    ) -> None:
        self._data = data
        self._config = config
        self._clock = clock
        self._vet = vet
        self._referee = referee
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self.addresses = Addresses(api="", fleet="")
        self._thread = threading.Thread(target=self._run, name="pool-server", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise TimeoutError("the pool did not start")
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the test, whatever it is
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = PoolServer(
            self._data,
            config=config_from(self._config),
            clock=self._clock,
            id_source=SystemIds(),
            vet=self._vet,
            referee=self._referee,
        )
        try:
            self.addresses = await server.start()
            self._started.set()
            await server.wait(self._stopping)
        finally:
            await server.stop()

    def stop(self) -> None:
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(START_TIMEOUT_S)
        if self._failure is not None:
            raise self._failure


@dataclass
class PoolHandle:
    """A running pool, and what a test needs to talk to it."""

    data_dir: Path
    made: PoolMade
    config: dict[str, Any]
    clock: Clock
    vet: Vet
    referee: PoolReferee | None = None
    _running: _Running | None = None
    _channels: list[grpc.Channel] = field(default_factory=list)

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server; its ports are new ones the first time and stay the same after a restart."""
        self._running = _Running(self.data_dir, self.config, self.clock, self.vet, self.referee)
        api_port, fleet_port = (
            int(text.rsplit(":", 1)[1]) for text in (self.api_address, self.fleet_address)
        )
        self.config = {**self.config, "api_port": api_port, "fleet_port": fleet_port}

    def stop(self) -> None:
        """Close the test's channels, then drain and stop the server."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        if self._running is not None:
            running, self._running = self._running, None
            running.stop()

    def restart(self) -> None:
        """Stop the server and start another over the same data."""
        self.stop()
        self.start()

    @property
    def _server(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the pool does not run")
        return self._running

    # --- where and who --------------------------------------------------------------------------

    @property
    def pool_id(self) -> str:
        """The pool's id: the audience of what vehicles sign."""
        return self.made.pool_id

    @property
    def api_address(self) -> str:
        """host:port for owners, buyers, operators and enrolment."""
        return self._server.addresses.api

    @property
    def fleet_address(self) -> str:
        """host:port for vehicles."""
        return self._server.addresses.fleet

    @property
    def ca_file(self) -> Path:
        """The pool's CA certificate."""
        return self.made.ca_file

    @property
    def ca_pem(self) -> bytes:
        """The pool's CA certificate."""
        return self.made.ca_file.read_bytes()

    @property
    def operator_token(self) -> str:
        """The first operator's token."""
        return self.made.operator_token_file.read_text(encoding="ascii").strip()

    @property
    def operator(self) -> PrincipalHandle:
        """The first operator."""
        return PrincipalHandle(
            principal_id=self.made.operator_id, token=self.operator_token, token_id="", role="operator"
        )

    # --- channels and stubs ---------------------------------------------------------------------

    def api_channel(self) -> grpc.Channel:
        """A channel to the API listener, closed with the pool."""
        channel = grpc.secure_channel(self.api_address, grpc.ssl_channel_credentials(self.ca_pem))
        self._channels.append(channel)
        return channel

    def fleet_channel(self, vehicle: VehicleHandle) -> grpc.Channel:
        """A channel to the fleet listener as a vehicle, closed with the pool."""
        credentials = grpc.ssl_channel_credentials(
            self.ca_pem, private_key=vehicle.tls_key_pem, certificate_chain=vehicle.certificate_pem
        )
        channel = grpc.secure_channel(self.fleet_address, credentials)
        self._channels.append(channel)
        return channel

    def admin(self) -> admin_service_pb2_grpc.AdminServiceStub:
        """AdminService."""
        return admin_service_pb2_grpc.AdminServiceStub(self.api_channel())

    def books(self) -> books_service_pb2_grpc.BooksServiceStub:
        """The keepers' stub."""
        return books_service_pb2_grpc.BooksServiceStub(self.api_channel())

    def caps(self) -> caps_service_pb2_grpc.CapsServiceStub:
        """CapsService on a new channel."""
        return caps_service_pb2_grpc.CapsServiceStub(self.api_channel())

    def account(self) -> account_service_pb2_grpc.AccountServiceStub:
        """AccountService."""
        return account_service_pb2_grpc.AccountServiceStub(self.api_channel())

    def market(self) -> market_service_pb2_grpc.MarketServiceStub:
        """MarketService."""
        return market_service_pb2_grpc.MarketServiceStub(self.api_channel())

    def particulars(self) -> particulars_service_pb2_grpc.ParticularsServiceStub:
        """ParticularsService."""
        return particulars_service_pb2_grpc.ParticularsServiceStub(self.api_channel())

    def reports(self) -> report_service_pb2_grpc.ReportServiceStub:
        """ReportService."""
        return report_service_pb2_grpc.ReportServiceStub(self.api_channel())

    def enrolment(self) -> fleet_service_pb2_grpc.FleetServiceStub:
        """FleetService on the API listener: what a device without a certificate may call."""
        return fleet_service_pb2_grpc.FleetServiceStub(self.api_channel())

    def fleet(self, vehicle: VehicleHandle) -> fleet_service_pb2_grpc.FleetServiceStub:
        """FleetService as a vehicle."""
        return fleet_service_pb2_grpc.FleetServiceStub(self.fleet_channel(vehicle))

    # --- the usual errands ----------------------------------------------------------------------

    def create_principal(self, role: str, name: str) -> PrincipalHandle:
        """Make an owner or a buyer over the wire, an operator on the pool's machine."""
        if role == "operator":
            made = make_operator(
                self.data_dir,
                name=name,
                config=config_from(self.config),
                clock=self.clock,
                id_source=SystemIds(),
            )
            return PrincipalHandle(
                principal_id=made.operator_id, token=made.token, token_id=made.token_id, role=role
            )
        answer = self.admin().CreatePrincipal(
            admin_pb.CreatePrincipalRequest(role=role, name=name), metadata=self.operator.metadata
        )
        return PrincipalHandle(
            principal_id=answer.principal_id, token=answer.token, token_id=answer.token_id, role=role
        )

    def deposit(self, buyer: PrincipalHandle, amount_micros: int, *, reference: str = "") -> None:
        """Book money that a buyer has paid in."""
        self.admin().RecordDeposit(
            admin_pb.RecordDepositRequest(
                buyer_id=buyer.principal_id,
                amount_micros=amount_micros,
                reference=reference or f"deposit of {buyer.principal_id}",
            ),
            metadata=self.operator.metadata,
        )

    def enrol_vehicle(self, owner: PrincipalHandle, *, label: str = "car") -> VehicleHandle:
        """Enrol a vehicle the whole way: device code, approval, certificate."""
        tls_key = ec.generate_private_key(ec.SECP256R1())
        envelope_key = SigningKey.generate(SystemIds())
        stub = self.enrolment()
        begun = stub.BeginEnrolment(
            fleet_pb.BeginEnrolmentRequest(
                csr_pem=signing_request(tls_key),
                envelope_public_key=envelope_key.public_bytes,
                agent=fleet_pb.AgentInfo(agent_version="test", platforms=["cpu"]),
            )
        )
        self.account().ApproveDevice(
            account_pb.ApproveDeviceRequest(user_code=begun.user_code, label=label), metadata=owner.metadata
        )
        done = stub.CompleteEnrolment(fleet_pb.CompleteEnrolmentRequest(device_code=begun.device_code))
        return VehicleHandle(
            vehicle_id=done.vehicle_id,
            owner_id=done.owner_id,
            pool_id=done.pool_id,
            certificate_pem=done.certificate_pem,
            tls_key_pem=key_pem(tls_key),
            envelope_key=envelope_key,
            ca_pem=done.ca_pem,
            fleet_address=done.fleet_address,
            device_code=begun.device_code,
        )


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A PEM signing request with an empty subject, as a device sends it."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def code_of(error: grpc.RpcError) -> str:
    """The stable code that a failed call carries."""
    return from_rpc_error(error).code.value


@contextmanager
def running_pool(
    tmp_path: Path,
    *,
    clock: Clock | None = None,
    vet: Vet = vet_in_child,
    referee: PoolReferee | None = None,
    **config: Any,
) -> Iterator[PoolHandle]:
    """Make a pool in `tmp_path/pool`, run it, and stop it at the end.

    Args:
        tmp_path: An empty folder.
        clock: Wall time of the server; the system's by default. Certificates are checked by TLS against the
            real one, so a test's clock should start near it.
        vet: How programs are vetted; in a sandboxed child by default.
        referee: Who runs disputed units again; by default the pool's own referee.
        config: Settings by key, over those for tests.
    """
    values = {**TEST_CONFIG, **config}
    the_clock = clock if clock is not None else SystemClock()
    made = initialize_pool(
        tmp_path / "pool",
        pool_name="test",
        currency="EUR",
        config=config_from(values),
        clock=the_clock,
        id_source=SystemIds(),
    )
    pool = PoolHandle(data_dir=made.data, made=made, config=values, clock=the_clock, vet=vet, referee=referee)
    pool.start()
    try:
        yield pool
    finally:
        pool.stop()

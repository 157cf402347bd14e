"""A real pool server as a process, and a car with real keys, for the benchmarks to talk to."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chargepool._channel import open_channel
from pool_protocol.keys import SigningKey
from pool_protocol.system import SystemIds
from pool_protocol.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    admin_service_pb2,
    admin_service_pb2_grpc,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
)

SETTINGS = {
    "allow_level_none": "true",
    "lease_timeout_s": "600",
    "posted_price_micros_per_wu": "1000000000",
    "price_mode": "fixed",
}
START_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach the benchmark's pool."""

    api_address: str
    fleet_address: str
    ca_pem: bytes
    operator_token: str
    server_pid: int

    def channel(self, token: str | None) -> grpc.Channel:
        """A channel to the API listener."""
        return open_channel(self.api_address, ca_pem=self.ca_pem, token=token)


@dataclass(frozen=True, kw_only=True)
class CarIdentity:
    """An enrolled car's keys."""

    vehicle_id: str
    pool_id: str
    certificate_pem: bytes
    private_key_pem: bytes
    envelope_seed: bytes
    root: bytes


@contextmanager
def running_pool(directory: Path) -> Iterator[Access]:
    """Runs `pool-server` on free ports below `directory` and ends it afterwards."""
    data = directory / "pool"
    server = [sys.executable, "-m", "pool_server.cli"]
    subprocess.run([*server, "init", "--data", str(data), "--json"], check=True, capture_output=True)
    settings = data / "pool.toml"
    kept = [line for line in settings.read_text().splitlines() if line.split("=")[0].strip() not in SETTINGS]
    mine = [f"{key} = {value}" for key, value in SETTINGS.items()]
    settings.write_text("\n".join([*mine, *kept]) + "\n")
    with (directory / "pool-server.log").open("wb") as log:
        process = subprocess.Popen(
            [*server, "run", "--data", str(data), "--api-port", "0", "--fleet-port", "0"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield wait_for(process, data)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], data: Path) -> Access:
    """Waits until the server has written where it listens."""
    import json

    addresses = data / "run" / "addresses.json"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"pool-server ended with {process.returncode}; see pool-server.log")
        if addresses.exists():
            where = json.loads(addresses.read_text())
            return Access(
                api_address=where["api"],
                fleet_address=where["fleet"],
                ca_pem=(data / "ca.pem").read_bytes(),
                operator_token=(data / "operator.token").read_text().strip(),
                server_pid=process.pid,
            )
        time.sleep(0.05)
    raise RuntimeError("pool-server did not start in time")


def make_principal(access: Access, role: str) -> admin_service_pb2.CreatePrincipalResponse:
    """An owner, buyer or operator with a token."""
    with access.channel(access.operator_token) as channel:
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        made: admin_service_pb2.CreatePrincipalResponse = admin.CreatePrincipal(
            admin_service_pb2.CreatePrincipalRequest(role=role, name=f"benchmark {role}")
        )
        return made


def deposit(access: Access, buyer_id: str, amount_micros: int) -> None:
    """Books money for the buyer."""
    with access.channel(access.operator_token) as channel:
        admin_service_pb2_grpc.AdminServiceStub(channel).RecordDeposit(
            admin_service_pb2.RecordDepositRequest(
                buyer_id=buyer_id, amount_micros=amount_micros, reference="benchmark"
            )
        )


def enrol(access: Access, owner_token: str) -> CarIdentity:
    """Enrols a car as an agent does: keys made here, code shown, code approved by the owner."""
    private = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(private, hashes.SHA256())
    envelope_seed = SystemIds().random_bytes(32)
    envelope_key = SigningKey.from_seed(envelope_seed)
    with access.channel(None) as channel:
        fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
        begun = fleet.BeginEnrolment(
            fleet_service_pb2.BeginEnrolmentRequest(
                csr_pem=csr.public_bytes(serialization.Encoding.PEM),
                envelope_public_key=envelope_key.public_bytes,
                agent=fleet_service_pb2.AgentInfo(agent_version="benchmark", platforms=["cpu"]),
            )
        )
        with access.channel(owner_token) as owner:
            account_service_pb2_grpc.AccountServiceStub(owner).ApproveDevice(
                account_service_pb2.ApproveDeviceRequest(user_code=begun.user_code, label="benchmark")
            )
        done = fleet.CompleteEnrolment(
            fleet_service_pb2.CompleteEnrolmentRequest(device_code=begun.device_code)
        )
    return CarIdentity(
        vehicle_id=done.vehicle_id,
        pool_id=done.pool_id,
        certificate_pem=done.certificate_pem,
        private_key_pem=private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        envelope_seed=envelope_seed,
        root=done.root.SerializeToString(),
    )

"""Tasks per second from lease to ledger, beside a floor that keeps nothing.

The pool: a real `pool-server` process on SQLite with synchronous=FULL, mutual TLS, every batch signed
both ways, each task verified (quorum 1) and booked. The car: a process that verifies every lease,
does nothing, and signs every bundle. The floor: the same car against a server that answers the same
messages from memory.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.pool_process import Access, CarIdentity, deposit, enrol, make_principal, running_pool
from chargepool._channel import open_channel
from pool_protocol.program.export import export_map
from pool_protocol.system import SystemIds
from pool_protocol.tensors import encode
from pool_protocol.v1 import (
    common_pb2,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    market_service_pb2,
    market_service_pb2_grpc,
)

BATCH = 100
STREAMS = 4
PUT_BATCH = 1000
DEPOSIT_MICROS = 100_000_000_000
FAR = dt.timedelta(days=2)


def admit_noop(market: market_service_pb2_grpc.MarketServiceStub) -> tuple[str, bytes, bytes]:
    """Admits the smallest program; returns its id, one task's inputs and its outputs."""
    value = np.arange(4, dtype=np.float32)
    exported = export_map(lambda inputs: {"y": inputs["x"] + 1.0}, {"x": value})
    admitted = market.AdmitProgram(
        market_service_pb2.AdmitProgramRequest(
            artifact=exported.artifact, manifest_draft=exported.draft.to_json()
        )
    )
    draft = exported.draft
    inputs = encode({draft.arguments[0].tensor.name: value})
    outputs = encode({draft.outputs[0].tensor.name: value + np.float32(1.0)})
    return admitted.program_sha256, inputs, outputs


def put_tasks(access: Access, buyer_token: str, tasks: int) -> bytes:
    """Opens a job and fills it; returns what every task's outputs are."""
    with access.channel(buyer_token) as channel:
        market = market_service_pb2_grpc.MarketServiceStub(channel)
        program, inputs, outputs = admit_noop(market)
        job = market.CreateJob(
            market_service_pb2.CreateJobRequest(
                idempotency_key=SystemIds().nonce().hex(),
                program_sha256=program,
                price_mode=common_pb2.PRICE_MODE_SPOT,
                price_cap_micros_per_wu=10**9,
                budget_micros=DEPOSIT_MICROS // 20,
                level=common_pb2.VERIFICATION_LEVEL_NONE,
                comparator=common_pb2.Comparator(kind=common_pb2.COMPARATOR_KIND_EXACT),
                name="benchmark",
            )
        )
        task = market_service_pb2.TaskInputs(
            inputs=common_pb2.TensorBundle(inline=inputs, size_bytes=len(inputs))
        )
        for first in range(0, tasks, PUT_BATCH):
            market.AddTasks(
                market_service_pb2.AddTasksRequest(
                    job_id=job.job_id, first_index=first, tasks=[task] * min(PUT_BATCH, tasks - first)
                )
            )
        market.CloseJob(market_service_pb2.CloseJobRequest(job_id=job.job_id))
    return outputs


def self_signed() -> tuple[bytes, bytes]:
    """A key and a certificate for the echo server on loopback."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "echo floor")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - FAR)
        .not_valid_after(now + FAR)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def base64_text(value: bytes) -> str:
    """Bytes for a JSON configuration."""
    return base64.b64encode(value).decode()


def client_config(
    cars: list[CarIdentity], *, address: str, ca: bytes, outputs: bytes, tasks: int
) -> dict[str, Any]:
    """What `benchmarks.exchange_client` reads: one stream for each car."""
    return {
        "pool_id": cars[0].pool_id,
        "root": base64_text(cars[0].root),
        "cars": [
            {
                "vehicle_id": car.vehicle_id,
                "envelope_seed": base64_text(car.envelope_seed),
                "certificate": base64_text(car.certificate_pem),
                "private_key": base64_text(car.private_key_pem),
            }
            for car in cars
        ],
        "ca": base64_text(ca),
        "address": address,
        "outputs": base64_text(outputs),
        "tasks": tasks,
        "batch": BATCH,
    }


def drive(config: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Runs the car's process and returns what it measured."""
    path = directory / "client.json"
    path.write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.exchange_client", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the benchmark's car failed: {done.stderr[-1500:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def record_lease(access: Access, car: CarIdentity) -> bytes:
    """One real lease as the echo server will repeat it."""
    with open_channel(
        access.fleet_address,
        ca_pem=access.ca_pem,
        certificate_pem=car.certificate_pem,
        private_key_pem=car.private_key_pem,
    ) as channel:
        leased = fleet_service_pb2_grpc.FleetServiceStub(channel).LeaseWork(
            fleet_service_pb2.LeaseWorkRequest(
                want=fleet_service_pb2.WorkRequest(
                    attempts_max=BATCH, agent=fleet_service_pb2.AgentInfo(platforms=["cpu"])
                )
            )
        )
    if not leased.HasField("lease"):
        raise RuntimeError(f"no lease to record: {leased.no_work.reason}")
    return fleet_service_pb2.ExchangeResponse(lease=leased.lease).SerializeToString()


def measure_floor(answer: bytes, access: Access, config: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The same car against the echo server."""
    key, certificate = self_signed()
    path = directory / "echo.json"
    path.write_text(
        json.dumps(
            {
                "answer": base64_text(answer),
                "server_key": base64_text(key),
                "server_certificate": base64_text(certificate),
                "ca": base64_text(access.ca_pem),
            }
        )
    )
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.echo_server", str(path)], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            if server.stdout is None:
                raise RuntimeError("the echo server has no output")
            port = int(server.stdout.readline())
            return drive(
                {
                    **config,
                    "address": f"127.0.0.1:{port}",
                    "ca": base64_text(certificate),
                    # The recorded lease is the first car's: it stands for all.
                    "cars": config["cars"][:1] * len(config["cars"]),
                },
                directory,
            )
        finally:
            server.terminate()


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, from /proc; 0 where there is none."""
    import os

    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(*, tasks: int, rounds: int) -> dict[str, Any]:
    """Measures pool and floor in turn, `rounds` times; returns medians and their ratio."""
    pool_rates, floor_rates, server_us, client_us = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with running_pool(directory) as access:
            buyer = make_principal(access, "buyer")
            owner = make_principal(access, "owner")
            deposit(access, buyer.principal_id, DEPOSIT_MICROS)
            cars = [enrol(access, owner.token) for _ in range(STREAMS)]
            answer = b""
            for _ in range(rounds):
                outputs = put_tasks(access, buyer.token, tasks)
                config = client_config(
                    cars,
                    address=access.fleet_address,
                    ca=access.ca_pem,
                    outputs=outputs,
                    tasks=tasks,
                )
                if not answer:
                    answer = record_lease(access, cars[0])
                before = cpu_seconds(access.server_pid)
                measured = drive(config, directory)
                if measured["verified"] < tasks:
                    raise RuntimeError(f"only {measured['verified']} of {tasks} tasks were verified")
                server_us.append((cpu_seconds(access.server_pid) - before) / tasks * 1e6)
                client_us.append(measured["client_cpu_s"] / tasks * 1e6)
                pool_rates.append(tasks / measured["elapsed_s"])
                floor = measure_floor(answer, access, config, directory)
                floor_rates.append(tasks / floor["elapsed_s"])
    pool, floor_rate = statistics.median(pool_rates), statistics.median(floor_rates)
    return {
        "tasks": tasks,
        "rounds": rounds,
        "batch": BATCH,
        "streams": STREAMS,
        "tasks_per_s": round(pool),
        "tasks_per_s_min_max": [round(min(pool_rates)), round(max(pool_rates))],
        "floor_tasks_per_s": round(floor_rate),
        "ratio_to_floor": round(pool / floor_rate, 3),
        "server_us_per_task": round(statistics.median(server_us), 1),
        "client_us_per_task": round(statistics.median(client_us), 1),
    }


if __name__ == "__main__":
    print(json.dumps(run(tasks=20_000, rounds=3)))

"""A car at full speed: real mutual TLS, real signatures, a worker that does nothing.

Runs as a process of its own (`python -m benchmarks.exchange_client CONFIG.json`), so that its work
shares the machine with the server as a second program would, and prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop

from chargepool._channel import channel_credentials, channel_options
from pool_protocol.digests import output_digest
from pool_protocol.envelope import EnvelopeHeader, PayloadType, open_envelope, seal_envelope
from pool_protocol.keys import SigningKey
from pool_protocol.roots import Role, open_first_root
from pool_protocol.system import SystemClock, SystemIds
from pool_protocol.tensors import decode
from pool_protocol.v1 import common_pb2, fleet_service_pb2, fleet_service_pb2_grpc

RESULT_LIFETIME_US = 3_600_000_000


class Progress:
    """What all cars have done together."""

    def __init__(self, tasks: int) -> None:
        """Starts with all tasks to do."""
        self.remaining = tasks
        self.done = 0


class Car:
    """One enrolled car. A vehicle has one exchange stream, so each stream is a car of its own."""

    def __init__(self, config: dict[str, Any], identity: dict[str, str], progress: Progress) -> None:
        """Reads keys and limits from the configuration."""
        self.clock = SystemClock()
        self.ids = SystemIds()
        self.progress = progress
        self.vehicle_id: str = identity["vehicle_id"]
        self.pool_id: str = config["pool_id"]
        self.batch: int = config["batch"]
        self.envelope_key = SigningKey.from_seed(base64.b64decode(identity["envelope_seed"]))
        root = open_first_root(base64.b64decode(config["root"]), now_us=self.clock.now_us())
        self.lease_keys = root.keys_for(Role.LEASE)
        self.outputs = base64.b64decode(config["outputs"])
        self.digest = output_digest(decode(self.outputs))
        self.sequence = 0

    def open_lease(self, envelope: common_pb2.Envelope) -> fleet_service_pb2.LeaseBody:
        """Verifies a lease as an agent does and parses it."""
        verified = open_envelope(
            envelope,
            payload_type=PayloadType.LEASE,
            audience=self.vehicle_id,
            keys=self.lease_keys,
            now_us=self.clock.now_us(),
        )
        return fleet_service_pb2.LeaseBody.FromString(verified.body)

    def results_of(self, lease: fleet_service_pb2.LeaseBody) -> common_pb2.Envelope:
        """Signs one bundle with a result per attempt; the work itself is nothing."""
        bundle = fleet_service_pb2.ResultBundleBody(lease_id=lease.lease_id)
        for attempt in lease.attempts:
            result = bundle.results.add()
            result.attempt_id = attempt.attempt_id
            result.outcome = fleet_service_pb2.ATTEMPT_OUTCOME_COMPLETED
            result.output_digest = self.digest
            result.outputs.inline = self.outputs
            result.outputs.size_bytes = len(self.outputs)
            result.run_time_us = 1
        self.sequence += 1
        now_us = self.clock.now_us()
        header = EnvelopeHeader(
            issuer=self.vehicle_id,
            audience=self.pool_id,
            nonce=self.ids.nonce(),
            sequence=self.sequence,
            issued_at_us=now_us,
            expires_at_us=now_us + RESULT_LIFETIME_US,
        )
        return seal_envelope(
            bundle.SerializeToString(),
            payload_type=PayloadType.RESULTS,
            header=header,
            key=self.envelope_key,
        )


async def exchange(car: Car, stub: fleet_service_pb2_grpc.FleetServiceAsyncStub) -> None:
    """One stream: results and the wish for the next lease in one message, until all work is done."""
    progress = car.progress
    outbox: asyncio.Queue[fleet_service_pb2.ExchangeRequest | None] = asyncio.Queue()

    async def requests() -> AsyncIterator[fleet_service_pb2.ExchangeRequest]:
        while (request := await outbox.get()) is not None:
            yield request

    want = fleet_service_pb2.WorkRequest(
        attempts_max=car.batch, agent=fleet_service_pb2.AgentInfo(platforms=["cpu"])
    )
    request_id = 1
    await outbox.put(fleet_service_pb2.ExchangeRequest(request_id=request_id, want=want))
    held = 0
    async for answer in stub.Exchange(requests()):
        if answer.HasField("error"):
            raise RuntimeError(f"refused: {answer.error.status!r}")
        if answer.no_work.reason == "WORK_AVAILABLE":
            continue  # a push; what is wanted was asked for already
        progress.done += sum(
            1 for a in answer.submitted.acks if a.status == fleet_service_pb2.ACK_STATUS_VERIFIED
        )
        progress.remaining -= len(answer.submitted.acks)
        request_id += 1
        request = fleet_service_pb2.ExchangeRequest(request_id=request_id)
        if answer.HasField("lease"):
            lease = car.open_lease(answer.lease)
            held = len(lease.attempts)
            request.results.CopyFrom(car.results_of(lease))
            if progress.remaining > held:
                request.want.CopyFrom(want)
            await outbox.put(request)
        else:
            await outbox.put(None)


async def run(config: dict[str, Any]) -> dict[str, Any]:
    """Runs the streams and measures from the first request to the last acknowledgement."""
    tasks: int = config["tasks"]
    progress = Progress(tasks)
    cars = [Car(config, identity, progress) for identity in config["cars"]]
    channels = [
        grpc.aio.secure_channel(
            config["address"],
            channel_credentials(
                ca_pem=base64.b64decode(config["ca"]),
                certificate_pem=base64.b64decode(identity["certificate"]),
                private_key_pem=base64.b64decode(identity["private_key"]),
            ),
            options=channel_options(),
        )
        for identity in config["cars"]
    ]
    for channel in channels:
        await channel.channel_ready()
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(
        *(
            exchange(car, fleet_service_pb2_grpc.FleetServiceStub(channel))
            for car, channel in zip(cars, channels, strict=True)
        )
    )
    elapsed_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    for channel in channels:
        await channel.close()
    return {"tasks": tasks, "verified": progress.done, "elapsed_s": elapsed_s, "client_cpu_s": cpu_s}


def main() -> None:
    """Command line entry."""
    config = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(uvloop.run(run(config))))


if __name__ == "__main__":
    main()

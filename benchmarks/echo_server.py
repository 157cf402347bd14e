"""The floor: a server that answers the same messages over the same mutual TLS and keeps nothing.

Replays one signed lease, recorded from the real server, and acknowledges every result, so that
what remains is the cost of gRPC, protobuf and TLS, and of the client.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

from chargepool._channel import channel_options
from pool_protocol.v1 import fleet_service_pb2

EXCHANGE = "/pool_protocol.v1.FleetService/Exchange"


class EchoFleet(grpc.GenericRpcHandler):
    """Answers `Exchange` from memory and nothing else."""

    def __init__(self, answer: bytes) -> None:
        """Keeps the recorded answer with its lease."""
        self.lease = fleet_service_pb2.ExchangeResponse.FromString(answer).lease

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Finds the handler of a call."""
        if handler_call_details.method != EXCHANGE:
            return None
        return grpc.stream_stream_rpc_method_handler(
            self.exchange,
            request_deserializer=fleet_service_pb2.ExchangeRequest.FromString,
            response_serializer=fleet_service_pb2.ExchangeResponse.SerializeToString,
        )

    async def exchange(
        self, requests: AsyncIterator[fleet_service_pb2.ExchangeRequest], _context: Any
    ) -> AsyncIterator[fleet_service_pb2.ExchangeResponse]:
        """Acknowledges what comes in and hands out the recorded lease again."""
        async for request in requests:
            answer = fleet_service_pb2.ExchangeResponse(request_id=request.request_id)
            if request.HasField("results"):
                bundle = fleet_service_pb2.ResultBundleBody.FromString(request.results.body)
                for result in bundle.results:
                    answer.submitted.acks.add(
                        attempt_id=result.attempt_id, status=fleet_service_pb2.ACK_STATUS_VERIFIED
                    )
            if request.HasField("want"):
                answer.lease.CopyFrom(self.lease)
            yield answer


async def serve(config: dict[str, Any]) -> None:
    """Serves until it is ended; prints the port first."""
    server = grpc.aio.server(options=channel_options())
    server.add_generic_rpc_handlers((EchoFleet(base64.b64decode(config["answer"])),))
    credentials = grpc.ssl_server_credentials(
        [(base64.b64decode(config["server_key"]), base64.b64decode(config["server_certificate"]))],
        root_certificates=base64.b64decode(config["ca"]),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def main() -> None:
    """Command line entry."""
    uvloop.run(serve(json.loads(Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()

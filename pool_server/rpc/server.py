"""The two gRPC listeners: TLS, limits, keepalive, health, reflection; started, drained and stopped together.

* API: server TLS, tokens; owners, buyers, operators, and devices that enrol.
* Fleet: mutual TLS; vehicles.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    admin_service_pb2,
    admin_service_pb2_grpc,
    books_service_pb2,
    books_service_pb2_grpc,
    caps_service_pb2,
    caps_service_pb2_grpc,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    log_service_pb2,
    log_service_pb2_grpc,
    market_service_pb2,
    market_service_pb2_grpc,
    particulars_service_pb2,
    particulars_service_pb2_grpc,
    payout_service_pb2,
    payout_service_pb2_grpc,
    price_service_pb2,
    price_service_pb2_grpc,
    report_service_pb2,
    report_service_pb2_grpc,
)
from pool_server.identity.pki import KeyPair
from pool_server.rpc.exchange import DRAIN_RETRY_MS
from pool_server.rpc.hub import Hub
from pool_server.rpc.interceptor import EdgeInterceptor

_FLEET = fleet_service_pb2.DESCRIPTOR.services_by_name["FleetService"].full_name
_MARKET = market_service_pb2.DESCRIPTOR.services_by_name["MarketService"].full_name
_ACCOUNT = account_service_pb2.DESCRIPTOR.services_by_name["AccountService"].full_name
_BOOKS = books_service_pb2.DESCRIPTOR.services_by_name["BooksService"].full_name
_PRICE = price_service_pb2.DESCRIPTOR.services_by_name["PriceService"].full_name
_PARTICULARS = particulars_service_pb2.DESCRIPTOR.services_by_name["ParticularsService"].full_name
_REPORTS = report_service_pb2.DESCRIPTOR.services_by_name["ReportService"].full_name
_ADMIN = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
_CAPS = caps_service_pb2.DESCRIPTOR.services_by_name["CapsService"].full_name
_LOG = log_service_pb2.DESCRIPTOR.services_by_name["LogService"].full_name
_PAYOUT = payout_service_pb2.DESCRIPTOR.services_by_name["PayoutService"].full_name
_ALL_SERVICES = (
    _FLEET,
    _MARKET,
    _ACCOUNT,
    _ADMIN,
    _BOOKS,
    _CAPS,
    _PAYOUT,
    _PRICE,
    _PARTICULARS,
    _REPORTS,
    _LOG,
)

#: Calls that are answered at once on one listener, streams included; more wait in the transport.
CONCURRENT_RPCS_MAX = 20_000
_KEEPALIVE_MS = 30_000
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", limits.MESSAGE_BYTES_MAX),
    # Metadata is a token and little else.
    ("grpc.max_metadata_size", 16 * limits.KIB),
    # A car that lost its network without a word is noticed within a minute.
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 5),
    # A second server on the same port would take half of the calls unnoticed.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servicers:
    """What answers the calls."""

    fleet: fleet_service_pb2_grpc.FleetServiceServicer
    market: market_service_pb2_grpc.MarketServiceServicer
    account: account_service_pb2_grpc.AccountServiceServicer
    admin: admin_service_pb2_grpc.AdminServiceServicer
    books: books_service_pb2_grpc.BooksServiceServicer
    caps: caps_service_pb2_grpc.CapsServiceServicer
    payouts: payout_service_pb2_grpc.PayoutServiceServicer
    price: price_service_pb2_grpc.PriceServiceServicer
    particulars: particulars_service_pb2_grpc.ParticularsServiceServicer
    reports: report_service_pb2_grpc.ReportServiceServicer
    log: log_service_pb2_grpc.LogServiceServicer


class Listeners:
    """Both listeners of one server process."""

    def __init__(
        self,
        *,
        servicers: Servicers,
        api_edge: EdgeInterceptor,
        fleet_edge: EdgeInterceptor,
        server_key: KeyPair,
        ca_pem: bytes,
        hub: Hub,
        with_reflection: bool,
    ) -> None:
        """Make both servers; nothing listens yet."""
        self._hub = hub
        self._health = health.aio.HealthServicer()
        self._api = self._server(api_edge)
        self._fleet = self._server(fleet_edge)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(servicers.fleet, self._api)
        market_service_pb2_grpc.add_MarketServiceServicer_to_server(servicers.market, self._api)
        account_service_pb2_grpc.add_AccountServiceServicer_to_server(servicers.account, self._api)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(servicers.admin, self._api)
        books_service_pb2_grpc.add_BooksServiceServicer_to_server(servicers.books, self._api)
        caps_service_pb2_grpc.add_CapsServiceServicer_to_server(servicers.caps, self._api)
        payout_service_pb2_grpc.add_PayoutServiceServicer_to_server(servicers.payouts, self._api)
        particulars_service_pb2_grpc.add_ParticularsServiceServicer_to_server(
            servicers.particulars, self._api
        )
        report_service_pb2_grpc.add_ReportServiceServicer_to_server(servicers.reports, self._api)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(servicers.fleet, self._fleet)
        for server in (self._api, self._fleet):
            price_service_pb2_grpc.add_PriceServiceServicer_to_server(servicers.price, server)
            log_service_pb2_grpc.add_LogServiceServicer_to_server(servicers.log, server)
        if with_reflection:
            names = (*_ALL_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._api)
        pair = [(server_key.private_key_pem, server_key.certificate_pem)]
        self._api_credentials = grpc.ssl_server_credentials(pair)
        self._fleet_credentials = grpc.ssl_server_credentials(
            pair, root_certificates=ca_pem, require_client_auth=True
        )

    def _server(self, edge: EdgeInterceptor) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[edge], options=_OPTIONS, maximum_concurrent_rpcs=CONCURRENT_RPCS_MAX
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server

    def bind(self, *, host: str, api_port: int, fleet_port: int) -> tuple[int, int]:
        """Take both ports (0: a free one) and return them.

        Raises:
            PoolError: UNAVAILABLE when a port is taken.
        """
        return (
            _bind(self._api, self._api_credentials, host, api_port),
            _bind(self._fleet, self._fleet_credentials, host, fleet_port),
        )

    async def start(self) -> None:
        """Serve."""
        await self._api.start()
        await self._fleet.start()
        for service in ("", *_ALL_SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, *, grace_s: float) -> None:
        """Stop taking calls, tell streams to finish, and wait for what runs, at most `grace_s`."""
        await self._health.enter_graceful_shutdown()
        self._hub.drain(retry_after_ms=DRAIN_RETRY_MS)
        stopping = [
            asyncio.ensure_future(self._api.stop(grace_s)),
            asyncio.ensure_future(self._fleet.stop(grace_s)),
        ]
        await self._hub.streams_ended_within(grace_s)
        self._hub.close_streams()
        await asyncio.gather(*stopping)


def _bind(server: grpc.aio.Server, credentials: Any, host: str, port: int) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise PoolError(
            ErrorCode.UNAVAILABLE, f"cannot listen on {address}: is another server running?"
        ) from error
    if bound == 0:
        raise PoolError(ErrorCode.UNAVAILABLE, f"cannot listen on {address}")
    return bound

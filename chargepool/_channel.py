"""TLS channels to a pool, synchronous and asyncio, with the limits that both ends agree on.

A channel trusts the pool's own CA and nothing else. Buyers, owners and operators send a token as metadata,
over encrypted channels only (see `chargepool._bearer`); a vehicle shows its certificate. Retries are not made
here: see `chargepool._retry`. This module never loads JAX, so that every program may stand on it.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

# gRPC writes to stderr when a peer restarts, over whatever a terminal shows; set it to see that again.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from chargepool._bearer import BearerInterceptor, aio_bearer_interceptors
from pool_protocol.limits import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    import grpc.aio

#: gRPC's own frame around a message of the largest size.
_FRAME_BYTES = 64 * 1024

#: Keepalive finds a dead peer behind a silent network; reconnecting is quick because a pool that was
#: restarted is back within seconds.
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX + _FRAME_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX + _FRAME_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", "chargepool-python"),
)


def channel_options(extra: Sequence[tuple[str, int | str]] = ()) -> list[tuple[str, int | str]]:
    """Return the options of every channel to a pool, with `extra` ones last."""
    return [*_OPTIONS, *extra]


def channel_credentials(
    *,
    ca_pem: bytes,
    certificate_pem: bytes | None = None,
    private_key_pem: bytes | None = None,
) -> grpc.ChannelCredentials:
    """Return credentials that trust `ca_pem` only and show a client certificate, or none.

    Args:
        ca_pem: The pool's CA certificate.
        certificate_pem: The client's certificate chain, for mutual TLS; needs `private_key_pem`.
        private_key_pem: The certificate's key.
    """
    return grpc.ssl_channel_credentials(
        root_certificates=ca_pem, private_key=private_key_pem, certificate_chain=certificate_pem
    )


def open_channel(
    address: str,
    *,
    ca_pem: bytes,
    token: str | None = None,
    certificate_pem: bytes | None = None,
    private_key_pem: bytes | None = None,
    options: Sequence[tuple[str, int | str]] = (),
) -> grpc.Channel:
    """Return a channel for synchronous stubs. It connects on first use; close it when done.

    Args:
        address: host:port; the host must stand in the server's certificate.
        ca_pem: The pool's CA certificate.
        token: The caller's token, or None.
        certificate_pem: The client's certificate chain for mutual TLS, or None.
        private_key_pem: Its key, or None.
        options: gRPC channel options beyond `channel_options`.
    """
    credentials = channel_credentials(
        ca_pem=ca_pem, certificate_pem=certificate_pem, private_key_pem=private_key_pem
    )
    channel = grpc.secure_channel(address, credentials, options=channel_options(options))
    return channel if token is None else grpc.intercept_channel(channel, BearerInterceptor(token))


def open_aio_channel(
    address: str,
    *,
    ca_pem: bytes,
    token: str | None = None,
    certificate_pem: bytes | None = None,
    private_key_pem: bytes | None = None,
    options: Sequence[tuple[str, int | str]] = (),
) -> "grpc.aio.Channel":
    """Return a channel for asyncio stubs; arguments as in `open_channel`. Call it inside the running loop."""
    import grpc.aio

    credentials = channel_credentials(
        ca_pem=ca_pem, certificate_pem=certificate_pem, private_key_pem=private_key_pem
    )
    interceptors = [] if token is None else aio_bearer_interceptors(token)
    return grpc.aio.secure_channel(
        address, credentials, options=channel_options(options), interceptors=interceptors
    )

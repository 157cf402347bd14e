"""gRPC channels to the pool: TLS always, with our certificate on the fleet's listener."""

from typing import Final

import grpc
import grpc.aio

from pool_protocol import limits

#: A lease of inline tensors may fill a message; envelopes add a little around it.
_MESSAGE_BYTES_MAX: Final = limits.MESSAGE_BYTES_MAX + limits.MIB
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
    # A mobile network drops a silent connection without a word: notice it within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # We have our own back-off and open a channel per try.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


def open_channel(
    address: str,
    *,
    ca_pem: bytes,
    tls_key_pem: bytes | None = None,
    certificate_pem: bytes | None = None,
) -> grpc.aio.Channel:
    """Return a channel; with key and certificate it is mutual TLS. Nothing is sent before the first call."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=ca_pem, private_key=tls_key_pem, certificate_chain=certificate_pem
    )
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)

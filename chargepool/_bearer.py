"""Shows the caller's token with every call, as metadata.

Not as call credentials: gRPC for Python keeps those in a plugin whose destructor takes the GIL on one of
gRPC's own threads, while closing a channel holds the GIL and waits for those threads. The two can wait for
each other for ever (grpc/grpc#42247; met here in a program that opened and closed many channels). An
interceptor has no such destructor. The token may only go where it is encrypted; `chargepool._channel` opens
no other channels.
"""

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from chargepool._errors import ConfigError


class _WithToken:
    """Call details as they were, with one more metadata entry."""

    def __init__(self, token: str) -> None:
        if not token.isascii() or not token.isprintable():
            raise ConfigError("A token holds printable ASCII characters only.")
        self._entry = ("authorization", f"Bearer {token}")


class BearerInterceptor(
    _WithToken,
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """For synchronous channels; all four kinds of call."""

    def _details(self, details: Any) -> Any:
        return _SyncDetails(details, (*(details.metadata or ()), self._entry))

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._details(details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._details(details), request)

    def intercept_stream_unary(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        return continuation(self._details(details), requests)

    def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        return continuation(self._details(details), requests)


class _SyncDetails(grpc.ClientCallDetails):
    """What a call was made with, and its new metadata."""

    def __init__(self, details: Any, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = metadata
        self.credentials = details.credentials
        self.wait_for_ready = getattr(details, "wait_for_ready", None)
        self.compression = getattr(details, "compression", None)


class _AioWithToken(_WithToken):
    def _details(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._entry)
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


class _AioUnaryUnary(_AioWithToken, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self._details(details), request)


class _AioUnaryStream(_AioWithToken, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self._details(details), request)


class _AioStreamUnary(_AioWithToken, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await continuation(self._details(details), requests)


class _AioStreamStream(_AioWithToken, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await continuation(self._details(details), requests)


def aio_bearer_interceptors(token: str) -> list[grpc.aio.ClientInterceptor]:
    """Return the interceptors of an asyncio channel, one per kind of call."""
    return [kind(token) for kind in (_AioUnaryUnary, _AioUnaryStream, _AioStreamUnary, _AioStreamStream)]

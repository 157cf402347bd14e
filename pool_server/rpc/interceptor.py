"""Stands before every call: authenticates it, and turns every error into a status with details.

A `PoolError` becomes its catalogue entry. Anything else becomes INTERNAL with a correlation id that is also
in the log: the caller learns nothing of what went wrong inside, the operator everything.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import to_grpc_status
from pool_protocol.system import IdSource
from pool_server.rpc.authentication import Authenticator, set_current_caller

_log = logging.getLogger(__name__)
#: Refusals whose internal text speaks of the caller's own things only: it says what to mend. Not among them
#: is PROGRAM_UNPARSABLE, whose text may quote the admission child.
_PUBLIC_DETAILS = frozenset(
    {
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.EXISTS_WITH_DIFFERENT,
        ErrorCode.JOB_CLOSED,
        ErrorCode.BUDGET_EXCEEDED,
        ErrorCode.PAYOUT_STATE,
        ErrorCode.FOUR_EYES,
        ErrorCode.CONFLICT,
        *(
            code
            for code in ErrorCode
            if code.startswith(("PROGRAM_", "TENSORS_")) and code is not ErrorCode.PROGRAM_UNPARSABLE
        ),
    }
)


def detail_is_public(error: PoolError) -> bool:
    """Say whether an error's internal text may be told to the caller."""
    return error.code in _PUBLIC_DETAILS


_Context = Any


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Authenticates and translates errors for one listener."""

    def __init__(self, *, authenticator: Authenticator, id_source: IdSource) -> None:
        self._authenticator = authenticator
        self._ids = id_source

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = str(handler_call_details.method)
        handler = await continuation(handler_call_details)
        if handler is None:
            return grpc.unary_unary_rpc_method_handler(self._unlisted(method))
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(method, handler.stream_stream), **codec
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method, handler.unary_stream), **codec
            )
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                self._answering(method, handler.stream_unary), **codec
            )
        return grpc.unary_unary_rpc_method_handler(self._answering(method, handler.unary_unary), **codec)

    def _unlisted(self, method: str) -> Callable[[Any, _Context], Awaitable[Any]]:
        async def refuse(_request: Any, context: _Context) -> Any:
            await self._abort(
                context, method, PoolError(ErrorCode.UNIMPLEMENTED, f"no method {method[:100]}")
            )

        return refuse

    def _answering(
        self, method: str, behaviour: Callable[[Any, _Context], Awaitable[Any]]
    ) -> Callable[[Any, _Context], Awaitable[Any]]:
        async def answer(request: Any, context: _Context) -> Any:
            try:
                set_current_caller(await self._authenticator.caller(method, context))
                return await behaviour(request, context)
            except (grpc.aio.AbortError, asyncio.CancelledError):
                raise
            except Exception as error:  # noqa: BLE001 - every error becomes a status here
                return await self._abort(context, method, error)

        return answer

    def _streaming(
        self, method: str, behaviour: Callable[[Any, _Context], AsyncIterator[Any]]
    ) -> Callable[[Any, _Context], AsyncIterator[Any]]:
        async def stream(request: Any, context: _Context) -> AsyncIterator[Any]:
            try:
                set_current_caller(await self._authenticator.caller(method, context))
                responses: Any = behaviour(request, context)
                if not hasattr(responses, "__aiter__"):
                    # The health and reflection services write to the context themselves.
                    await responses
                    return
                async with contextlib.aclosing(responses):
                    async for response in responses:
                        yield response
            except (grpc.aio.AbortError, asyncio.CancelledError):
                raise
            except Exception as error:  # noqa: BLE001 - every error becomes a status here
                await self._abort(context, method, error)

        return stream

    async def _abort(self, context: _Context, method: str, error: Exception) -> None:
        refusal = self.refusal(method, error)
        status = to_grpc_status(refusal, public_detail=detail_is_public(refusal))
        await context.abort(status.code, status.details, status.trailing_metadata)

    def refusal(self, method: str, error: Exception) -> PoolError:
        """Return what the caller is told of an error, after logging it."""
        if isinstance(error, PoolError) and error.code is not ErrorCode.INTERNAL:
            _log.info(
                "refused %s: %s",
                method,
                error,
                extra={"action": "refused", "method": method, "code": error.code.value},
            )
            return error
        correlation_id = self._ids.nonce().hex()
        _log.error(
            "failed %s (correlation id %s)",
            method,
            correlation_id,
            exc_info=error,
            extra={"action": "failed", "method": method, "correlation_id": correlation_id},
        )
        return PoolError(ErrorCode.INTERNAL, context={"correlation_id": correlation_id})

"""A `PoolError` as a gRPC status with details, and back.

The status carries, as `google.rpc` details: `ErrorInfo` (reason = the code, domain "chargepool", the
context as metadata), `LocalizedMessage` (what went wrong), `Help` (what to do next) and, where a delay is
advised, `RetryInfo`. Only the catalogue's public text and the context cross the wire; `detail` stays in our
logs, except where the caller says that its detail is meant for the other side.

Only servicers and clients import this module.
"""

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from pool_protocol import limits
from pool_protocol.errors import CATALOGUE, ErrorCode, PoolError

DOMAIN = "chargepool"
#: What a status without our details means to a client: the transport or a proxy spoke, not the pool.
_CODE_OF_BARE_STATUS: dict[str, ErrorCode] = {
    "INVALID_ARGUMENT": ErrorCode.INVALID_ARGUMENT,
    "UNAUTHENTICATED": ErrorCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": ErrorCode.PERMISSION_DENIED,
    "NOT_FOUND": ErrorCode.NOT_FOUND,
    "ALREADY_EXISTS": ErrorCode.ALREADY_EXISTS,
    "RESOURCE_EXHAUSTED": ErrorCode.MESSAGE_TOO_LARGE,
    "UNAVAILABLE": ErrorCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": ErrorCode.DEADLINE_EXCEEDED,
    "CANCELLED": ErrorCode.CANCELLED,
    "UNIMPLEMENTED": ErrorCode.UNIMPLEMENTED,
    "ABORTED": ErrorCode.CONFLICT,
    "FAILED_PRECONDITION": ErrorCode.INVALID_STATE,
}
_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class DetailedStatus(grpc.Status):
    """What `ServicerContext.abort_with_status` reads."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def to_status(error: PoolError, *, public_detail: bool = False) -> status_pb2.Status:
    """Return the wire form of an error.

    Args:
        error: What happened.
        public_detail: Send the internal text too. For refusals that only repeat what the caller sent.
    """
    entry = CATALOGUE[error.code]
    message = (
        f"{entry.public} {error.detail}" if public_detail and error.detail != entry.public else entry.public
    )
    status = status_pb2.Status(
        code=code_pb2.Code.Value(entry.grpc_code), message=message[: limits.ERROR_TEXT_CHARACTERS_MAX]
    )
    context = list(error.context.items())[: limits.ERROR_CONTEXT_ENTRIES_MAX]
    details = [
        error_details_pb2.ErrorInfo(
            reason=error.code.value,
            domain=DOMAIN,
            metadata={name: value[: limits.ERROR_TEXT_CHARACTERS_MAX] for name, value in context},
        ),
        error_details_pb2.LocalizedMessage(locale="en", message=status.message),
        error_details_pb2.Help(links=[error_details_pb2.Help.Link(description=entry.next_step)]),
    ]
    for detail in details:
        status.details.add().Pack(detail)
    if error.retry_after_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(error.retry_after_ms)
        status.details.add().Pack(retry)
    return status


def to_grpc_status(error: PoolError, *, public_detail: bool = False) -> DetailedStatus:
    """Return what `ServicerContext.abort_with_status` takes."""
    status = to_status(error, public_detail=public_detail)
    return DetailedStatus(
        code=grpc.StatusCode[CATALOGUE[error.code].grpc_code],
        details=status.message,
        trailing_metadata=((_DETAILS_KEY, status.SerializeToString()),),
    )


def from_status(status: status_pb2.Status) -> PoolError:
    """Return the error that a status carries; a status that is not the pool's becomes the nearest code."""
    info, retry_after_ms = error_details_pb2.ErrorInfo(), None
    is_ours = False
    for detail in status.details:
        try:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                detail.Unpack(info)
                is_ours = info.domain == DOMAIN
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo()
                detail.Unpack(retry)
                retry_after_ms = retry.retry_delay.ToMilliseconds()
        except DecodeError:
            continue  # a detail that cannot be read adds nothing; the status itself still says what happened
    if is_ours and info.reason in ErrorCode.__members__:
        return PoolError(
            ErrorCode(info.reason), status.message, context=dict(info.metadata), retry_after_ms=retry_after_ms
        )
    grpc_code = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "UNKNOWN"
    context = {"grpc_code": grpc_code}
    if is_ours:
        context["reason"] = info.reason  # a code that is newer than we are
    return PoolError(
        _CODE_OF_BARE_STATUS.get(grpc_code, ErrorCode.INTERNAL),
        status.message,
        context=context,
        retry_after_ms=retry_after_ms,
    )


def from_rpc_error(error: grpc.RpcError) -> PoolError:
    """Return the `PoolError` behind a failed call, of the synchronous or the asyncio stack."""
    # A failed call of the synchronous stack is an RpcError and a Call at once; the types do not say so.
    call: Any = error
    if not isinstance(error, grpc.aio.AioRpcError) and not isinstance(call, grpc.Call):
        return PoolError(ErrorCode.UNAVAILABLE, f"the call failed: {error!r}")
    code: grpc.StatusCode = call.code()
    trailing: tuple[tuple[str, str | bytes], ...] = tuple(call.trailing_metadata() or ())
    for name, value in trailing:
        if name == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    return from_status(status_pb2.Status(code=code_pb2.Code.Value(code.name), message=call.details() or ""))

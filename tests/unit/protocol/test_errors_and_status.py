"""The catalogue is whole, and an error survives the wire, in both gRPC stacks."""

import copy
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from pool_protocol import grpc_status
from pool_protocol.errors import CATALOGUE, ErrorCode, PoolError


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_an_entry_that_a_person_can_act_on(code: ErrorCode) -> None:
    entry = CATALOGUE[code]
    assert code_pb2.Code.Value(entry.grpc_code) > 0
    assert entry.grpc_code in grpc.StatusCode.__members__
    for text in (entry.public, entry.next_step):
        assert text.endswith(".")
        assert text[0].isupper() or text[0] == "`"
    assert code.name == code.value


def _unchanged(message: bytes) -> bytes:
    return message


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_survives_the_wire(code: ErrorCode) -> None:
    error = PoolError(code, "internal text", context={"field": "x"}, retry_after_ms=1500)
    status = status_pb2.Status.FromString(grpc_status.to_status(error).SerializeToString())
    again = grpc_status.from_status(status)
    assert (again.code, again.context, again.retry_after_ms) == (code, {"field": "x"}, 1500)
    assert "internal text" not in status.message
    assert again.detail == CATALOGUE[code].public


def test_internal_text_crosses_only_when_asked_and_never_at_length() -> None:
    error = PoolError(ErrorCode.INVALID_ARGUMENT, "because " + "x" * 5000, context={"field": "y" * 5000})
    assert "because" not in grpc_status.to_status(error).message
    status = grpc_status.to_status(error, public_detail=True)
    assert "because" in status.message
    assert status.ByteSize() < 8192


def test_help_and_public_text_are_there_for_other_clients() -> None:
    status = grpc_status.to_status(PoolError(ErrorCode.QUOTE_EXPIRED))
    help_links, localized = error_details_pb2.Help(), error_details_pb2.LocalizedMessage()
    for detail in status.details:
        detail.Unpack(help_links) if detail.Is(help_links.DESCRIPTOR) else None
        detail.Unpack(localized) if detail.Is(localized.DESCRIPTOR) else None
    assert help_links.links[0].description == CATALOGUE[ErrorCode.QUOTE_EXPIRED].next_step
    assert localized.message == CATALOGUE[ErrorCode.QUOTE_EXPIRED].public


def test_a_status_that_is_not_ours_becomes_the_nearest_code() -> None:
    unavailable = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="connection refused")
    assert grpc_status.from_status(unavailable).code is ErrorCode.UNAVAILABLE
    strange = grpc_status.from_status(status_pb2.Status(code=77))
    assert (strange.code, strange.context) == (ErrorCode.INTERNAL, {"grpc_code": "UNKNOWN"})


def test_a_newer_servers_code_is_kept_as_text() -> None:
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="m")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="FROM_THE_FUTURE", domain="chargepool"))
    status.details.append(any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff\xff"))
    error = grpc_status.from_status(status)
    assert (error.code, error.context["reason"]) == (ErrorCode.NOT_FOUND, "FROM_THE_FUTURE")


def test_anothers_error_info_is_not_taken_for_ours() -> None:
    status = status_pb2.Status(code=code_pb2.INTERNAL)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="QUARANTINED", domain="proxy.example"))
    assert grpc_status.from_status(status).code is ErrorCode.INTERNAL


def test_an_error_can_be_copied() -> None:
    error = PoolError(ErrorCode.RATE_LIMITED, "slow down", context={"a": "b"}, retry_after_ms=5)
    again = copy.copy(error)
    assert copy.copy(PoolError(ErrorCode.NOT_FOUND, advice="look there")).next_step == "look there"
    assert (again.code, again.detail, again.context, again.retry_after_ms) == (
        ErrorCode.RATE_LIMITED,
        "slow down",
        {"a": "b"},
        5,
    )
    assert PoolError(ErrorCode.NOT_FOUND).detail == CATALOGUE[ErrorCode.NOT_FOUND].public
    assert (error.retryable, error.public, error.next_step) == (
        True,
        error.entry.public,
        error.entry.next_step,
    )


class _Refusing(grpc.GenericRpcHandler):
    """A server whose every method refuses with one error."""

    def __init__(self, refuse: Callable[[grpc.ServicerContext], None]) -> None:
        self._refuse = refuse

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            self._refuse(context)
            return b""

        return grpc.unary_unary_rpc_method_handler(handle)


def _serve(refuse: Callable[[grpc.ServicerContext], None]) -> tuple[grpc.Server, int]:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    server.add_generic_rpc_handlers((_Refusing(refuse),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


_ERROR = PoolError(ErrorCode.LEASE_EXPIRED, "x", context={"lease": "lease_7"}, retry_after_ms=250)


async def test_over_real_calls_of_both_stacks() -> None:
    server, port = _serve(lambda context: context.abort_with_status(grpc_status.to_grpc_status(_ERROR)))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/x/y", _unchanged, _unchanged)(b"", timeout=10)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as aio_channel:
            with pytest.raises(grpc.RpcError) as aio_raised:
                await aio_channel.unary_unary("/x/y", _unchanged, _unchanged)(b"", timeout=10)
    finally:
        server.stop(None).wait()
    for caught in (raised.value, aio_raised.value):
        error = grpc_status.from_rpc_error(caught)
        assert (error.code, error.context, error.retry_after_ms) == (
            ErrorCode.LEASE_EXPIRED,
            {"lease": "lease_7"},
            250,
        )


def test_bare_refusals_and_broken_details() -> None:
    def refuse(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")

    server, port = _serve(refuse)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/x/y", _unchanged, _unchanged)(b"", timeout=10)
    finally:
        server.stop(None).wait()
    assert grpc_status.from_rpc_error(raised.value).code is ErrorCode.PERMISSION_DENIED
    assert grpc_status.from_rpc_error(grpc.RpcError()).code is ErrorCode.UNAVAILABLE

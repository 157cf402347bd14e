"""The command's side of the control socket, and what can be done while no daemon runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
from google.protobuf import descriptor
from google.protobuf.message import Message

from car_agent.journal.state_directory import StateDirectory
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.v1 import agent_control_service_pb2 as pb
from pool_protocol.v1.agent_control_service_pb2_grpc import AgentControlServiceStub

CALL_TIMEOUT_S: Final = 10.0


class AgentNotRunningError(Exception):
    """Nobody listens on the control socket."""


@contextmanager
def control_stub(directory: StateDirectory) -> Iterator[AgentControlServiceStub]:
    """Yield a stub of the running agent; failed calls come out as `PoolError`.

    Raises:
        AgentNotRunningError: when there is no daemon.
        PoolError: when it refused.
    """
    path = directory.socket_path()
    if not path.exists():
        raise AgentNotRunningError
    with grpc.insecure_channel(f"unix:{path}") as channel:
        try:
            yield AgentControlServiceStub(channel)
        except grpc.RpcError as error:
            refusal = from_rpc_error(error)
            if refusal.code is ErrorCode.UNAVAILABLE and not refusal.context:
                raise AgentNotRunningError from error
            raise refusal from error


def get_status(directory: StateDirectory) -> pb.AgentStatus:
    """Return the running agent's status.

    Raises:
        AgentNotRunningError: when there is no daemon.
        PoolError: when it refused.
    """
    with control_stub(directory) as stub:
        return stub.GetStatus(pb.GetStatusRequest(), timeout=CALL_TIMEOUT_S).status


def plain(message: Message) -> dict[str, Any]:
    """Return a message as JSON values: numbers stay numbers, enums are their last word, absent is null."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_value(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(value, field)


def _value(value: Any, field: Any) -> Any:
    if field.type == descriptor.FieldDescriptor.TYPE_MESSAGE:
        return plain(value)
    if field.type == descriptor.FieldDescriptor.TYPE_ENUM and field.enum_type is not None:
        return field.enum_type.values_by_number[value].name.rsplit("_", 1)[-1].lower()
    if field.type == descriptor.FieldDescriptor.TYPE_BYTES:
        return value.hex()
    return value


def unreachable(directory: StateDirectory) -> PoolError:
    """Return the error of a command that needs the daemon."""
    return PoolError(
        ErrorCode.UNAVAILABLE,
        f"no agent runs on {directory.path}",
        advice=f"Start it: car-agent --state-dir {directory.path} run",
    )

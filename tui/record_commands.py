"""`pool-tui evidence` and `pool-tui appeal`: an owner's vehicle on record, for people and for scripts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from chargepool._config import ClientConfig
from pool_protocol.errors import PoolError

#: The pool computes the whole task before it answers.
_APPEAL_TIMEOUT_S = 660.0
_TIMEOUT_S = 30.0
_WHAT_IT_MEANS = {
    "UPHELD": "The result was right: the rejection is overturned.",
    "WRONG": "The result is wrong: the rejection stands.",
    "OPEN": "The pool could not tell: the rejection stands.",
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.argument("vehicle")
@json_option
@click.pass_obj
def evidence(pool: ClientConfig, *, vehicle: str, as_json: bool) -> None:
    """Tell what the pool holds for and against VEHICLE, one of yours, in plain words."""
    from pool_protocol.v1 import account_service_pb2 as pb

    with _account(pool) as call:
        record = call("GetVehicleEvidence", pb.GetVehicleEvidenceRequest(vehicle_id=vehicle)).evidence
    if as_json:
        _print_json(record)
        return
    for sentence in record.story:
        click.echo(sentence)
    for item in record.items:
        if item.appeal_until_us:
            click.echo(f"  {item.summary}\n  To appeal: pool-tui appeal {item.attempt_id}")


@click.command()
@click.argument("attempt", type=click.IntRange(1, 2**63 - 1))
@json_option
@click.pass_obj
def appeal(pool: ClientConfig, *, attempt: int, as_json: bool) -> None:
    """Have the pool itself compute what your vehicle's rejected ATTEMPT should have returned; once.

    The numbers of attempts are in `pool-tui evidence VEHICLE`. It takes as long as the task takes.
    """
    from pool_protocol.v1 import account_service_pb2 as pb

    with _account(pool) as call:
        item = call("Appeal", pb.AppealRequest(attempt_id=attempt), timeout_s=_APPEAL_TIMEOUT_S).item
    if as_json:
        _print_json(item)
        return
    click.echo(item.summary)
    click.echo(_WHAT_IT_MEANS.get(item.finding, item.finding))


@contextmanager
def _account(pool: ClientConfig) -> Iterator[Any]:
    """Open the account for calls; what the pool refuses ends the command with its words."""
    import grpc

    from chargepool._channel import open_channel
    from pool_protocol.grpc_status import from_rpc_error
    from pool_protocol.v1 import account_service_pb2_grpc

    channel = open_channel(pool.address, ca_pem=pool.ca_pem, token=pool.token)
    stub = account_service_pb2_grpc.AccountServiceStub(channel)

    def call(method: str, request: Any, *, timeout_s: float = _TIMEOUT_S) -> Any:
        try:
            return getattr(stub, method)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _refusal(from_rpc_error(error)) from error

    try:
        yield call
    finally:
        channel.close()


def _refusal(error: PoolError) -> click.ClickException:
    return click.ClickException(f"{error.public} {error.next_step} ({error.code.value})")


def _print_json(message: Any) -> None:
    click.echo(json.dumps(_plain(message), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """Turn a message into plain values: every field, integers as integers, bytes as hexadecimal."""
    if hasattr(value, "DESCRIPTOR"):
        return {field.name: _plain(getattr(value, field.name)) for field in value.DESCRIPTOR.fields}
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "__len__") and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value

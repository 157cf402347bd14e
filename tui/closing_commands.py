"""`pool-tui close-account`: an owner leaves, and is paid to the cent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from chargepool._config import ClientConfig
from pool_protocol import amounts

_TIMEOUT_S = 30.0


@click.command("close-account")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; does not ask.")
@click.pass_obj
def close_account(pool: ClientConfig, *, yes: bool, as_json: bool) -> None:
    """Leave the pool: retire your vehicles, and be paid what there is, below your threshold too.

    Money inside the dispute window is paid once it is over. What is left in the end is less than a cent,
    which no bank can pay; it goes to the pool's rounding account. Running this again shows how far it is.
    Pairing a vehicle again takes it back.
    """
    with _services(pool) as (account, payouts):
        from pool_protocol.v1 import account_service_pb2 as account_pb
        from pool_protocol.v1 import payout_service_pb2 as pb

        listed = account.ListVehicles(account_pb.ListVehiclesRequest(), timeout=_TIMEOUT_S).vehicles
        active = [vehicle for vehicle in listed if vehicle.state != "retired"]
        if active and not yes and not as_json:
            labels = ", ".join(_printable(vehicle.label or vehicle.vehicle_id) for vehicle in active)
            click.confirm(f"Retire {labels}, for good, and close the account?", abort=True)
        for vehicle in active:
            request = account_pb.RetireVehicleRequest(vehicle_id=vehicle.vehicle_id)
            account.RetireVehicle(request, timeout=_TIMEOUT_S)
        view = payouts.CloseAccount(pb.CloseAccountRequest(), timeout=_TIMEOUT_S).close_out
    if as_json:
        click.echo(
            json.dumps({field.name: getattr(view, field.name) for field in view.DESCRIPTOR.fields}, indent=2)
        )
        return
    for line in closing_lines(view):
        click.echo(line)


def closing_lines(view: Any) -> Iterator[str]:
    """Say how far the closing of an account is."""

    def cents(amount_micros: int) -> str:
        return amounts.cents(amount_micros, view.currency)

    if view.closed_at_us and not (view.available_micros or view.held_micros or view.under_way):
        yield "Your account is closed; everything is paid."
        if view.rounding_micros:
            rest = amounts.amount(view.rounding_micros, view.currency)
            yield f"{rest}, less than a cent, went to the pool's rounding account."
        return
    yield "Your account is being closed."
    if view.available_micros:
        yield f"The next payout run pays {cents(view.available_micros)}."
    if view.held_micros:
        yield f"{cents(view.held_micros)} are inside the dispute window; a later run pays them."
    if view.under_way:
        yield "A payment is on its way; the bank has not reported yet."
    if view.obstacle:
        yield f"It cannot be paid yet: {_printable(view.obstacle)}. Set it in pool-tui, key b."


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


@contextmanager
def _services(pool: ClientConfig) -> Iterator[tuple[Any, Any]]:
    """Open the account's two services; what the pool refuses ends the command with its words."""
    import grpc

    from chargepool._channel import open_channel
    from pool_protocol.grpc_status import from_rpc_error
    from pool_protocol.v1 import account_service_pb2_grpc, payout_service_pb2_grpc

    channel = open_channel(pool.address, ca_pem=pool.ca_pem, token=pool.token)
    try:
        yield (
            account_service_pb2_grpc.AccountServiceStub(channel),
            payout_service_pb2_grpc.PayoutServiceStub(channel),
        )
    except grpc.RpcError as error:
        refusal = from_rpc_error(error)
        raise click.ClickException(f"{refusal.public} {refusal.next_step} ({refusal.code.value})") from error
    finally:
        channel.close()

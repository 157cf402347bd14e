"""Operator commands about one vehicle: whether the pool trusts it."""

import click

from pool_protocol.v1 import admin_service_pb2 as pb
from pool_server.cli.output import json_option, print_json
from pool_server.cli.remote import Remote


@click.group()
def vehicles() -> None:
    """Look after single vehicles."""


@vehicles.command()
@click.argument("vehicle")
@click.option("--off", is_flag=True, help="Make it an ordinary vehicle again.")
@json_option
@click.pass_obj
def trust(remote: Remote, *, vehicle: str, off: bool, as_json: bool) -> None:
    """Make VEHICLE a trusted node: your own machine, whose results are the pool's word."""
    answer: pb.SetTrustedResponse = remote.call(
        "SetTrusted", pb.SetTrustedRequest(vehicle_id=vehicle, trusted=not off)
    )
    if as_json:
        print_json(answer)
        return
    what = "a trusted node" if answer.vehicle.trusted else "an ordinary vehicle"
    click.echo(f"{answer.vehicle.vehicle_id} ({answer.vehicle.label}) is {what} now.")

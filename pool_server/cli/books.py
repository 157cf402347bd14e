"""Operator commands for deposits and the keys."""

import click

from pool_protocol.money import AMOUNT_MICROS_MAX
from pool_protocol.v1 import admin_service_pb2 as pb
from pool_server.cli.output import json_option, print_json, print_pairs
from pool_server.cli.remote import Remote


@click.command()
@click.option("--buyer", required=True, help="The buyer's id.")
@click.option(
    "--amount-micros",
    required=True,
    type=click.IntRange(1, AMOUNT_MICROS_MAX),
    help="Millionths of the currency.",
)
@click.option("--reference", required=True, help="The bank's reference: the same again books nothing twice.")
@json_option
@click.pass_obj
def deposit(
    remote: Remote,
    *,
    buyer: str,
    amount_micros: int,
    reference: str,
    as_json: bool,
) -> None:
    """Book money that a buyer has paid in."""
    answer: pb.RecordDepositResponse = remote.call(
        "RecordDeposit",
        pb.RecordDepositRequest(buyer_id=buyer, amount_micros=amount_micros, reference=reference),
    )
    if as_json:
        print_json(answer)
        return
    click.echo(
        f"Booked as transfer {answer.transfer_id}; {buyer} has {answer.available_micros} micros free now."
    )


@click.group()
def keys() -> None:
    """The pool's signing keys."""


@keys.command("show")
@json_option
@click.pass_obj
def show_keys(remote: Remote, *, as_json: bool) -> None:
    """Show the keys in force and the versions of the root document."""
    answer: pb.GetKeysResponse = remote.call("GetKeys", pb.GetKeysRequest())
    if as_json:
        print_json(answer)
        return
    print_pairs([(f"{key.role} key", key.key_id) for key in answer.keys])
    click.echo(f"root document: version {len(answer.roots)}")


@keys.command("rotate")
@click.argument("role", type=click.Choice(["lease", "receipt"]))
@json_option
@click.pass_obj
def rotate_key(remote: Remote, *, role: str, as_json: bool) -> None:
    """Make a new key for ROLE in a new root document. The root key file must be on the server."""
    answer: pb.RotateKeyResponse = remote.call("RotateKey", pb.RotateKeyRequest(role=role))
    if as_json:
        print_json(answer)
        return
    click.echo(f"The new {role} key is {answer.key_id}, in root version {answer.root_version}.")

"""Operator commands for caps on what buyers and their tokens may spend."""

from typing import Any

import click

from pool_protocol import amounts
from pool_protocol.money import AMOUNT_MICROS_MAX
from pool_protocol.v1 import caps_service_pb2 as pb
from pool_protocol.v1 import caps_service_pb2_grpc
from pool_server.cli.output import json_option, print_json, print_table
from pool_server.cli.remote import Remote

MICROS = click.IntRange(0, AMOUNT_MICROS_MAX)


@click.group()
def caps() -> None:
    """Caps on what a buyer's account, or one of its tokens, may reserve and spend.

    What counts is what was reserved for jobs and did not come back. A job that does not fit is refused with
    SPEND_LIMIT_REACHED. Months are calendar months in UTC.
    """


@caps.command()
@click.argument("buyer_id")
@json_option
@click.pass_obj
def show(remote: Remote, *, buyer_id: str, as_json: bool) -> None:
    """Show the caps of BUYER_ID and of its tokens, what is used of them and what is left."""
    _print(_call(remote, "ListCaps", pb.ListCapsRequest(buyer_id=buyer_id)), as_json=as_json)


@caps.command(name="set")
@click.option("--buyer", default="", help="The account of this buyer.")
@click.option("--token", default="", help="This token of a buyer: its id, not the secret.")
@click.option(
    "--per",
    type=click.Choice(["ever", "month"]),
    default="ever",
    show_default=True,
    help="In all, or in each calendar month (UTC).",
)
@click.option(
    "--max-spend-micros", type=MICROS, help="Millionths of the currency; 0 lets nothing be reserved."
)
@click.option("--lift", is_flag=True, help="No cap any more.")
@json_option
@click.pass_obj
def set_(
    remote: Remote,
    *,
    buyer: str,
    token: str,
    per: str,
    max_spend_micros: int | None,
    lift: bool,
    as_json: bool,
) -> None:
    """Set a cap, or lift it. What is reserved already stays, even where it is more."""
    if bool(buyer) == bool(token):
        raise click.UsageError("Say whose cap: --buyer ID for an account, or --token ID for one token.")
    if lift == (max_spend_micros is not None):
        raise click.UsageError("Say how much: --max-spend-micros N, or --lift for no cap.")
    request = pb.SetCapRequest(period=per, max_spend_micros=max_spend_micros)
    if buyer:
        request.buyer_id = buyer
    else:
        request.token_id = token
    _print(_call(remote, "SetCap", request), as_json=as_json)


def _call(remote: Remote, method: str, request: Any) -> Any:
    return remote.call(method, request, service=caps_service_pb2_grpc.CapsServiceStub)


def _print(answer: pb.ListCapsResponse | pb.SetCapResponse, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    print_table(
        ["of", "id", "in", "at most", "used", "left"],
        [
            [
                cap.holder,
                cap.subject_id,
                "all" if cap.period == "ever" else cap.period,
                amounts.amount(cap.max_spend_micros) if cap.HasField("max_spend_micros") else "no cap",
                amounts.amount(cap.used_micros),
                amounts.amount(cap.left_micros) if cap.HasField("left_micros") else "",
            ]
            for cap in answer.caps
        ],
    )
    click.echo(f"\nAmounts in {answer.currency}.")

"""Operator commands for owners, buyers, operators and their tokens."""

import os

import click

from pool_protocol.v1 import admin_service_pb2 as pb
from pool_server.cli.caps import MICROS
from pool_server.cli.output import json_option, print_json, print_pairs
from pool_server.cli.remote import Remote
from pool_server.identity.directory import PoolDirectory


@click.group()
def principals() -> None:
    """Owners, buyers and operators."""


@principals.command()
@click.option(
    "--role", required=True, type=click.Choice(["owner", "buyer", "operator"]), help="What they may do."
)
@click.option("--name", default="", help="Name for lists; needed for a new principal.")
@click.option("--principal", default="", help="Add a token to this existing principal instead.")
@click.option(
    "--expires-at-us",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    help="When the token ends, microseconds since the epoch; 0 for never.",
)
@click.option(
    "--max-spend-micros",
    type=MICROS,
    help="A new buyer: the most that it may reserve and spend in all, millionths of the currency.",
)
@click.option(
    "--max-spend-per-month-micros", type=MICROS, help="A new buyer: the same in each calendar month (UTC)."
)
@click.option(
    "--token-max-spend-micros", type=MICROS, help="A buyer's token: the most that it may reserve and spend."
)
@json_option
@click.pass_obj
def create(
    remote: Remote,
    *,
    role: str,
    name: str,
    principal: str,
    expires_at_us: int,
    max_spend_micros: int | None,
    max_spend_per_month_micros: int | None,
    token_max_spend_micros: int | None,
    as_json: bool,
) -> None:
    """Make a principal and its first token, or one more token.

    Operators are made on the pool's own machine, with --data: one who could make others over the network
    would be both pairs of eyes that a payout needs. Give the second operator's token to another person.

    Caps on spending can be changed later: see `pool-server caps set`.
    """
    if not name and not principal:
        raise click.UsageError("Give the new principal a --name, or name an existing one with --principal.")
    if role == "operator":
        if max_spend_micros or max_spend_per_month_micros or token_max_spend_micros:
            raise click.UsageError("Caps on spending are for buyers.")
        answer = _make_operator(remote, name=name, principal=principal, expires_at_us=expires_at_us)
    else:
        answer = remote.call(
            "CreatePrincipal",
            pb.CreatePrincipalRequest(
                role=role,
                name=name,
                principal_id=principal,
                expires_at_us=expires_at_us,
                max_spend_micros=max_spend_micros,
                max_spend_per_month_micros=max_spend_per_month_micros,
                token_max_spend_micros=token_max_spend_micros,
            ),
        )
    if as_json:
        print_json(answer)
        return
    print_pairs(
        [
            (role, answer.principal_id),
            ("token (shown this once)", answer.token),
            ("token id", answer.token_id),
        ]
    )


def _make_operator(
    remote: Remote, *, name: str, principal: str, expires_at_us: int
) -> pb.CreatePrincipalResponse:
    if remote.data is None or remote.address is not None:
        raise click.UsageError(
            "Operators are made on the pool's own machine: pool-server --data DIR principals create --role "
            "operator --name NAME"
        )
    # Imported here: the other commands need neither database nor keys, and should start at once.
    from pool_protocol.system import SystemClock, SystemIds
    from pool_server.config import load_config
    from pool_server.main.operators import make_operator

    made = make_operator(
        remote.data,
        name=name,
        operator_id=principal,
        token_expires_at_us=expires_at_us,
        config=load_config(PoolDirectory(remote.data).config, environment=os.environ),
        clock=SystemClock(),
        id_source=SystemIds(),
    )
    return pb.CreatePrincipalResponse(principal_id=made.operator_id, token=made.token, token_id=made.token_id)


@click.group()
def tokens() -> None:
    """API tokens."""


@tokens.command()
@click.argument("token_id")
@json_option
@click.pass_obj
def revoke(remote: Remote, *, token_id: str, as_json: bool) -> None:
    """Revoke TOKEN_ID (from `principals create`): it is refused from now on."""
    remote.call("RevokeToken", pb.RevokeTokenRequest(token_id=token_id))
    if as_json:
        print_json({"token_id": token_id, "revoked": True})
        return
    click.echo(f"{token_id} is revoked.")

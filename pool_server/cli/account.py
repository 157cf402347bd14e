"""Operator commands for the particulars of owners and buyers."""

from typing import Any

import click

from pool_protocol.particulars_options import changed, particulars_options, plain, shown
from pool_protocol.v1 import particulars_service_pb2 as pb
from pool_protocol.v1 import particulars_service_pb2_grpc
from pool_server.cli.output import json_option, print_json, print_pairs
from pool_server.cli.remote import Remote

_STUB = particulars_service_pb2_grpc.ParticularsServiceStub


@click.group()
def account() -> None:
    """What papers and tax reports say of an owner or a buyer."""


@account.command()
@click.argument("principal_id")
@json_option
@click.pass_obj
def show(remote: Remote, *, principal_id: str, as_json: bool) -> None:
    """Show the particulars of PRINCIPAL_ID, an owner or a buyer."""
    _print(_get(remote, principal_id), as_json=as_json)


@account.command(name="set")
@click.argument("principal_id")
@particulars_options
@json_option
@click.pass_obj
def set_(
    remote: Remote, /, *, principal_id: str, clear: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    """Set particulars of PRINCIPAL_ID, an owner or a buyer; what is not given stays as it is."""
    wanted = changed(_get(remote, principal_id), given, clear)
    answer: pb.SetAccountParticularsResponse = remote.call(
        "SetAccountParticulars",
        pb.SetAccountParticularsRequest(principal_id=principal_id, particulars=wanted),
        service=_STUB,
    )
    _print(answer.particulars, as_json=as_json)


def _get(remote: Remote, principal_id: str) -> pb.Particulars:
    answer: pb.GetAccountParticularsResponse = remote.call(
        "GetAccountParticulars", pb.GetAccountParticularsRequest(principal_id=principal_id), service=_STUB
    )
    return answer.particulars


def _print(particulars: pb.Particulars, *, as_json: bool) -> None:
    if as_json:
        print_json(plain(particulars))
        return
    print_pairs([(name, value or "-") for name, value in shown(particulars)])

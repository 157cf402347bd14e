"""The operator's look at numeric classes."""

import click

from pool_protocol.v1 import admin_service_pb2 as pb
from pool_server.cli.output import json_option, print_json, print_table, time
from pool_server.cli.remote import Remote


@click.command()
@json_option
@click.pass_obj
def classes(remote: Remote, *, as_json: bool) -> None:
    """List numeric classes, and those that are wrong as a whole."""
    answer: pb.ListClassesResponse = remote.call("ListClasses", pb.ListClassesRequest())
    if as_json:
        print_json(answer)
        return
    print_table(
        ["class", "vehicles", "agreed within", "agreed across", "disagreed across"],
        [
            [
                item.class_id,
                str(item.vehicle_count),
                str(item.agreed_within),
                str(item.agreed_across),
                str(item.disagreed_across),
            ]
            for item in answer.classes
        ],
    )
    for fault in answer.faults:
        click.echo(f"\n{time(fault.found_at_us)}  {fault.summary}")

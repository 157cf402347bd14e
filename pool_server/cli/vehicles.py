"""Operator commands for one vehicle: its record, and whether it is the operator's own."""

import click

from pool_protocol import amounts
from pool_protocol.v1 import admin_service_pb2 as pb
from pool_server.cli.output import json_option, print_json, print_table, time
from pool_server.cli.remote import Remote


@click.group()
def vehicles() -> None:
    """Look into one vehicle, or make it a trusted node."""


@vehicles.command()
@click.argument("vehicle")
@json_option
@click.pass_obj
def evidence(remote: Remote, *, vehicle: str, as_json: bool) -> None:
    """Tell what the pool holds for and against VEHICLE, in plain words. Its owner reads the same.

    The ids of vehicles are in `pool-server fleet`.
    """
    answer: pb.GetEvidenceResponse = remote.call("GetEvidence", pb.GetEvidenceRequest(vehicle_id=vehicle))
    record = answer.evidence
    if as_json:
        print_json(record)
        return
    click.echo(f"{record.vehicle.vehicle_id} ({record.vehicle.label}), owner {record.vehicle.owner_id}\n")
    for sentence in record.story:
        click.echo(f"  {sentence}")
    if record.histories:
        click.echo("\nHistories, by which checks are drawn:")
        print_table(
            ["history", "clean work, WU", "accepted", "rejected", "next one is checked with p"],
            [
                [
                    history.trust_class,
                    amounts.amount(history.clean_uwu, decimals=3),
                    str(history.accepted_attempts),
                    str(history.rejected_attempts),
                    f"{history.audit_probability:.4f}",
                ]
                for history in record.histories
            ],
        )
    if record.items:
        click.echo("\nFindings, newest first:")
        print_table(
            ["time", "attempt", "task", "check", "finding", "claimed", "accepted"],
            [
                [
                    time(item.found_at_us),
                    str(item.attempt_id),
                    f"{item.job_id}/{item.task_index}",
                    item.kind,
                    item.finding,
                    item.claimed_digest.hex()[:8],
                    item.accepted_digest.hex()[:8] or "-",
                ]
                for item in record.items
            ],
        )


@vehicles.command()
@click.argument("vehicle")
@click.option("--off", is_flag=True, help="Make it an ordinary vehicle again.")
@json_option
@click.pass_obj
def trust(remote: Remote, *, vehicle: str, off: bool, as_json: bool) -> None:
    """Make VEHICLE a trusted node: the operator's own machine, whose results decide.

    A trusted node is never checked, and settles what others disagree about. Trust only machines that nobody
    else can reach.
    """
    answer: pb.SetTrustedResponse = remote.call(
        "SetTrusted", pb.SetTrustedRequest(vehicle_id=vehicle, trusted=not off)
    )
    if as_json:
        print_json(answer)
        return
    kind = "an ordinary vehicle" if off else "a trusted node"
    click.echo(f"{answer.vehicle.vehicle_id} ({answer.vehicle.label}) is {kind} now.")

"""Operator commands that look at the work: overview, fleet, jobs, quarantine."""

import click

from pool_protocol.v1 import admin_service_pb2 as pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import market_service_pb2 as market_pb
from pool_protocol.waiting import waiting_text
from pool_server.cli.output import json_option, money, print_json, print_pairs, print_table, time
from pool_server.cli.remote import Remote

_PAGE = 1_000


@click.command()
@json_option
@click.pass_obj
def overview(remote: Remote, *, as_json: bool) -> None:
    """Show the pool in figures."""
    answer: pb.GetOverviewResponse = remote.call("GetOverview", pb.GetOverviewRequest())
    if as_json:
        print_json(answer)
        return
    currency = answer.currency
    print_pairs(
        [
            ("pool", answer.pool_id),
            ("server version", answer.server_version),
            ("posted price", f"{answer.posted_price_micros_per_wu} micro-{currency} per WU"),
            ("vehicles", _counts(dict(answer.vehicles_by_state))),
            ("jobs", _counts(dict(answer.jobs_by_state))),
            ("attempts", _counts(dict(answer.attempts_by_state))),
            ("tasks accepted", str(answer.tasks_accepted)),
            ("buyers' free money", money(answer.buyers_available_micros, currency)),
            ("reserved for jobs", money(answer.escrow_micros, currency)),
            ("owners' held", money(answer.held_micros, currency)),
            ("owners' payable", money(answer.available_micros, currency)),
            ("fees", money(answer.fees_micros, currency)),
            ("cost of audits", money(answer.verification_cost_micros, currency)),
        ]
    )


def _counts(by_state: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(by_state.items()) if count) or "none"


@click.command()
@click.option("--state", default="", help="Only vehicles in this state.")
@json_option
@click.pass_obj
def fleet(remote: Remote, *, state: str, as_json: bool) -> None:
    """List all vehicles."""
    vehicles = []
    token = ""
    while True:
        page = common_pb2.PageRequest(page_size=_PAGE, page_token=token)
        answer: pb.ListFleetResponse = remote.call("ListFleet", pb.ListFleetRequest(page=page, state=state))
        vehicles += list(answer.vehicles)
        token = answer.next_page_token
        if not token:
            break
    if as_json:
        print_json(pb.ListFleetResponse(vehicles=vehicles))
        return
    print_table(
        [
            "vehicle",
            "label",
            "state",
            "owner",
            "last seen",
            "verified",
            "rejected",
            "abandoned",
            "running",
            "why",
        ],
        [
            [
                vehicle.vehicle_id,
                vehicle.label,
                vehicle.state,
                vehicle.owner_id,
                time(vehicle.last_seen_us),
                str(vehicle.verified_attempts),
                str(vehicle.rejected_attempts),
                str(vehicle.abandoned_attempts),
                str(vehicle.running_attempts),
                vehicle.quarantine_reason,
            ]
            for vehicle in vehicles
        ],
    )


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, _PAGE), default=50, show_default=True, help="At most so many."
)
@json_option
@click.pass_obj
def jobs(remote: Remote, *, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    answer: pb.ListAllJobsResponse = remote.call(
        "ListAllJobs", pb.ListAllJobsRequest(page=common_pb2.PageRequest(page_size=limit))
    )
    if as_json:
        print_json(answer)
        return
    print_table(
        ["job", "name", "state", "tasks", "accepted", "failed", "running", "rejected", "spent", "created"],
        [
            [
                job.job_id,
                job.name,
                market_pb.JobState.Name(job.state).removeprefix("JOB_STATE_").lower(),
                str(job.task_count),
                str(job.accepted_count),
                str(job.failed_count),
                str(job.running_count),
                str(job.rejected_count),
                str(job.spent_micros),
                time(job.created_at_us),
            ]
            for job in answer.jobs
        ],
    )
    for job in answer.jobs:
        if why := waiting_text(job.waiting_reason, job.waiting_count, job.waiting_detail):
            click.echo(f"{job.job_id}: {why}.")


@click.command()
@click.argument("vehicle")
@click.option("--reason", default="", help="Why; the owner sees it.")
@click.option("--release", is_flag=True, help="Free the vehicle instead.")
@json_option
@click.pass_obj
def quarantine(remote: Remote, *, vehicle: str, reason: str, release: bool, as_json: bool) -> None:
    """Put VEHICLE in quarantine, or free it."""
    if not release and not reason:
        raise click.UsageError("Say why with --reason, or free the vehicle with --release.")
    answer: pb.SetQuarantineResponse = remote.call(
        "SetQuarantine",
        pb.SetQuarantineRequest(vehicle_id=vehicle, quarantined=not release, reason=reason),
    )
    if as_json:
        print_json(answer)
        return
    click.echo(f"{answer.vehicle.vehicle_id} ({answer.vehicle.label}) is {answer.vehicle.state} now.")

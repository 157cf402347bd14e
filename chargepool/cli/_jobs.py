"""`chargepool jobs` and `chargepool job ...`: what runs, what came of it, and how to take it up again."""

from pathlib import Path
from typing import Any

import click

from chargepool._client import Client
from chargepool._comparators import Comparator, close
from chargepool._errors import JobError
from chargepool._job import Job, JobResults
from chargepool._progress import progress_callback
from chargepool._values import JobStatus
from chargepool.cli._connection import Connection, connection_options, emit, json_option, say, table
from chargepool.cli._files import FunctionSpec, Inputs, ResultSink
from chargepool.cli._work import load_program, run_map
from pool_protocol import amounts

_FILE = click.Path(path_type=Path, dir_okay=False)


def status_json(status: JobStatus) -> dict[str, Any]:
    """Return a job's figures as JSON says them."""
    return {name: getattr(status, name) for name in JobStatus.__slots__}


@click.command()
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The newest so many."
)
@connection_options
@json_option
def jobs(*, limit: int, connection: Connection, as_json: bool) -> None:
    """List your jobs, newest first."""
    with connection.connect() as client:
        found = [status for status, _ in zip(client.jobs(), range(limit), strict=False)]
    if as_json:
        emit([status_json(status) for status in found])
        return
    if not found:
        say("You have no jobs yet. Try: chargepool run FILE.py:FUNCTION --inputs FILE")
        return
    table(
        ["job", "name", "state", "tasks", "accepted", "failed", "running", "spent", "reserved"],
        [
            [
                status.job_id,
                status.name,
                status.state,
                str(status.task_count),
                str(status.accepted_count),
                str(status.failed_count),
                str(status.running_count),
                amounts.amount(status.spent_micros),
                amounts.amount(status.escrow_micros),
            ]
            for status in found
        ],
    )


@click.group()
def job() -> None:
    """Look at a job, take it up again, or end it."""


@job.command()
@click.argument("job_id")
@connection_options
@json_option
def show(*, job_id: str, connection: Connection, as_json: bool) -> None:
    """Show one job in figures."""
    with connection.connect() as client:
        handle = client.job(job_id)
        _print(handle.status(), handle.currency, as_json=as_json)


@job.command()
@click.argument("job_id")
@connection_options
@json_option
def watch(*, job_id: str, connection: Connection, as_json: bool) -> int:
    """Follow a job until it is over. Ctrl-C ends the watching, not the job."""
    with connection.connect() as client:
        handle = client.job(job_id)
        status = handle.wait(progress_callback(True))
        _print(status, handle.currency, as_json=as_json)
    return 0 if status.state == "done" and not status.failed_count else 1


@job.command()
@click.argument("job_id")
@click.option("--output", "-o", type=_FILE, help="Results (.npz, .jsonl); JSON lines to stdout otherwise.")
@click.option("--follow", is_flag=True, help="Wait for tasks that are not decided yet.")
@connection_options
def results(*, job_id: str, output: Path | None, follow: bool, connection: Connection) -> int:
    """Write the results of a job: those there are, or with --follow all of them."""
    with connection.connect() as client:
        return _collect(client.job(job_id), output, waits=follow)


@job.command()
@click.argument("job_id")
@connection_options
@json_option
def cancel(*, job_id: str, connection: Connection, as_json: bool) -> None:
    """Stop a job. Undecided tasks cost nothing; results so far stay readable."""
    with connection.connect() as client:
        handle = client.job(job_id)
        _print(handle.cancel(), handle.currency, as_json=as_json)


@job.command(
    epilog="""\b
Example:
  chargepool job resume job_12
"""
)
@click.argument("job_id")
@click.option("--output", "-o", type=_FILE, help="Results; the file named when the job was made otherwise.")
@click.option(
    "--close", "closes", is_flag=True, help="No more inputs will come: finish with those there are."
)
@connection_options
def resume(*, job_id: str, output: Path | None, closes: bool, connection: Connection) -> int:
    """Take up a job whose script or command ended: send what it lacks, wait, and write all results.

    A job that `chargepool run` made on this machine is continued with its own files. Of any other job the
    results are collected; if it is still open for inputs, its own script can go on with `client.map(...,
    resume="ID")`.
    """
    with connection.connect() as client:
        remembered = client.remembered(job_id)
        if "source" in remembered and not closes:
            return _continue(client, job_id, remembered, output)
        handle = client.job(job_id)
        if closes:
            handle.close()
        elif handle.status().state == "open":
            raise JobError(
                f"{job_id} is still open for inputs, and this machine does not know where they come from.",
                next_step=f'Go on in its script, client.map(..., resume="{job_id}"), or end it with --close.',
            )
        return _collect(handle, output, waits=True)


def _continue(client: Client, job_id: str, remembered: dict[str, Any], output: Path | None) -> int:
    source = FunctionSpec().convert(remembered["source"], None, None)
    items = Inputs(Path(remembered["inputs"]))
    if items.fingerprint() != remembered["inputs_sha256"]:
        raise JobError(
            f"{remembered['inputs']} has changed since {job_id} was made from it.",
            next_step="Put the old file back, or end the job with --close and run the new inputs as another.",
        )
    constants = remembered.get("constants")
    program = load_program(
        client,
        source,
        items,
        constants=None if constants is None else Path(constants),
        comparator=_remembered_comparator(remembered),
        unit_steps=remembered.get("unit_steps"),
    )
    target = output or (None if remembered.get("output") is None else Path(remembered["output"]))
    say(f"Going on with {job_id}: {program}")
    return run_map(client, program, items, target, resume=job_id, on_error="return")


def _remembered_comparator(remembered: dict[str, Any]) -> Comparator | None:
    if remembered.get("comparator") is not None:
        return Comparator.from_json(remembered["comparator"])
    tolerances = remembered.get("tolerances")  # of versions that knew nothing else
    return None if tolerances is None else close(rtol=tolerances[0], atol=tolerances[1])


def _collect(handle: Job, output: Path | None, *, waits: bool) -> int:
    expected = handle.status().decided_count
    with ResultSink(output) as sink:
        found: JobResults = handle.results()
        try:
            while waits or sink.count < expected:
                result = next(found, None)
                if result is None:
                    break
                sink.add(result)
        finally:
            found.close()
    say(f"{sink.count - sink.failed_count} results, {sink.failed_count} failed.")
    return 1 if sink.failed_count else 0


def _print(status: JobStatus, currency: str, *, as_json: bool) -> None:
    if as_json:
        emit(status_json(status))
        return
    lines = [
        ("job", f"{status.job_id}  {status.name}"),
        ("state", status.state),
        ("program", status.program_sha256),
        ("level", status.level),
        ("tasks", f"{status.accepted_count} accepted, {status.failed_count} failed, of {status.task_count}"),
        ("attempts", f"{status.attempt_count} leased, {status.rejected_count} results rejected"),
        ("spent", amounts.amount(status.spent_micros, currency)),
        ("reserved", amounts.amount(status.escrow_micros, currency)),
    ]
    if status.steps:
        lines.append(("steps", f"{status.steps} per task"))
    if status.rechecking_count or status.replaced_count:
        lines.append(
            ("checks", f"{status.rechecking_count} results checked again, {status.replaced_count} replaced")
        )
    if status.waiting:
        lines.append(("waiting", status.waiting))
    for heading, text in lines:
        click.echo(f"{heading:<9} {text}")

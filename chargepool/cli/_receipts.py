"""`chargepool receipts`: keep the pool's signed receipts, and check them, also without the pool."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

from chargepool._client import Client
from chargepool._errors import ProofInvalid
from chargepool._job import Job
from chargepool._log import LogMemory
from chargepool._receipt_file import Checked, ReceiptFile, check_file, read_file, write_file
from chargepool._receipts import Receipt
from chargepool._records import default_directory
from chargepool.cli._connection import Connection, connection_options, emit, json_option, say
from pool_protocol import amounts
from pool_protocol.errors import ErrorCode
from pool_protocol.ids import JobId, job_id_text
from pool_protocol.log_audit import AuditReport, Fault, KeptHead, KeptReceipt, audit
from pool_protocol.roots import Role
from pool_protocol.system import SystemClock
from pool_protocol.transparency import TreeHead

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def receipts() -> None:
    """Keep and check the pool's signed receipts."""


@receipts.command()
@click.argument("file", type=_FILE)
@click.option("--job", "job_id", required=True, help="The job.")
@connection_options
def save(*, file: Path, job_id: str, connection: Connection) -> None:
    """Write the receipts of a job to FILE, one JSON line each, with everything that proves them.

    The first line holds the pool's root documents and its newest tree head; each receipt has its place in the
    pool's log. The file can be checked years later, with `chargepool receipts verify FILE`, without the pool.
    Of a job that is not over it holds the receipts so far.
    """
    with connection.connect() as client:
        found = _of_job(client.job(job_id))
        kept, head = _logged(client, found)
        write_file(file, found, kept, pool_id=client.pool_id, roots=client.log.roots(), head=head)
    logged = sum(1 for one in kept if one.proof)
    say(f"{len(found)} receipts in {file}, {logged} of them with their place in the pool's log.")


@receipts.command(
    epilog="""\b
Examples:
  chargepool receipts verify receipts.jsonl             without the pool
  chargepool receipts verify receipts.jsonl --online    and does the pool's log still hold them?
  chargepool receipts verify --job job_12 --json
\b
Exit status 1 when anything does not hold; --json lists every fault with its code.
"""
)
@click.argument("file", type=_FILE, required=False)
@click.option("--job", "job_id", help="The receipts of this job, from the pool.")
@click.option("--online", is_flag=True, help="Also ask the pool whether its log still holds them.")
@click.option(
    "--fingerprint", default="", help="Of the root document, from someone you trust; 16 digits or all."
)
@connection_options
@json_option
def verify(
    *,
    file: Path | None,
    job_id: str | None,
    online: bool,
    fingerprint: str,
    connection: Connection,
    as_json: bool,
) -> None:
    """Check receipts: the pool's signature, that they add up, and their place in the pool's log."""
    if (file is None) == (job_id is None):
        raise click.UsageError("give either a FILE of receipts or --job ID")
    if file is None:
        with connection.connect() as client:
            _show(_check_job(client, str(job_id)), as_json=as_json)
        return
    content = read_file(file)
    checked = _check_offline(content, fingerprint) if content.pool_id else None
    if checked is None or (online and checked.report.ok):
        with connection.connect() as client:
            checked = _check_online(client, content, fingerprint)
    _show(checked, as_json=as_json)


def _check_offline(content: ReceiptFile, fingerprint: str) -> Checked:
    memory = LogMemory(default_directory(os.environ), content.pool_id)
    return check_file(content, memory, fingerprint=fingerprint, now_us=SystemClock().now_us())


def _check_job(client: Client, job_id: str) -> Checked:
    found = _of_job(client.job(job_id))
    kept, head = _logged(client, found)
    return _audited(client, kept, head)


def _check_online(client: Client, content: ReceiptFile, fingerprint: str) -> Checked:
    """Check against the pool's newest head."""
    if content.pool_id and content.pool_id != client.pool_id:
        raise ProofInvalid(
            f"These are receipts of pool {content.pool_id}, this is {client.pool_id}.",
            code=ErrorCode.RECEIPT_INVALID,
            next_step="Leave --online out, or name the other pool's --address.",
        )
    if fingerprint and not client.log.fingerprint.startswith(fingerprint):
        raise ProofInvalid(
            f"The pool's root has the fingerprint {client.log.fingerprint}.", code=ErrorCode.ROOT_INVALID
        )
    head = client.log.follow()
    proven = [one.proven for one in content.receipts]
    kept = list(content.receipts) if head is None else client.log.prove(proven, head)
    return _audited(client, kept, head)


def _logged(client: Client, found: Sequence[Receipt]) -> tuple[list[KeptReceipt], TreeHead | None]:
    """Return receipts with their places in the log, as far as a head covers them already."""
    head = client.log.follow()
    proven = [receipt.proven_bytes for receipt in found]
    if head is None:
        return [KeptReceipt(proven=one, proof=b"", tree_size=0) for one in proven], None
    return client.log.prove(proven, head), head


def _audited(client: Client, kept: Sequence[KeptReceipt], head: TreeHead | None) -> Checked:
    root = client.log.root
    heads = [] if head is None else [KeptHead(envelope=head.envelope, path=())]
    report = audit(
        kept,
        heads,
        keys=root.keys_for(Role.RECEIPT),
        pool_id=root.document.pool_id,
        now_us=SystemClock().now_us(),
    )
    known = client.log.memory.root()
    return Checked(report=report, root=root, known_since_us=0 if known is None else known[1])


def _show(checked: Checked, *, as_json: bool) -> None:
    report = checked.report
    if as_json:
        emit(_json(checked))
    else:
        _show_text(checked)
    if not report.ok:
        raise _error(report.faults)


def _json(checked: Checked) -> dict[str, Any]:
    report, head = checked.report, checked.report.head
    return {
        "verified": report.signed,
        "gross_micros": report.gross_micros,
        "jobs": [job_id_text(JobId(job_id)) for job_id in report.jobs],
        "receipts": report.receipts,
        "logged": report.logged,
        "waiting": report.waiting,
        "tree_size": 0 if head is None else head.tree_size,
        "pool_id": checked.root.document.pool_id,
        "root_fingerprint": checked.root.fingerprint,
        "root_known_since_us": checked.known_since_us,
        "faults": [fault.to_json() for fault in report.faults],
    }


def _show_text(checked: Checked) -> None:
    report: AuditReport = checked.report
    waiting = f", {report.waiting} not in the log yet" if report.waiting else ""
    click.echo(
        f"{report.receipts} receipts of pool {checked.root.document.pool_id}: {report.signed} receipts "
        f"verified, {report.logged} in the log{waiting}, {amounts.amount(report.gross_micros)} in all."
    )
    for fault in report.faults:
        click.echo(f"WRONG {fault.code} {fault.what}: {fault.sentence}")
    digits = checked.root.fingerprint[:16]
    if checked.known_since_us:
        click.echo(f"Checked with the root that this machine knows (fingerprint {digits}).")
    else:
        click.echo(
            f"Checked with the root in the file itself (fingerprint {digits}): this machine does not know "
            "the pool. Compare the fingerprint with one from elsewhere (--fingerprint)."
        )


def _error(faults: Sequence[Fault]) -> ProofInvalid:
    first, others = faults[0], len(faults) - 1
    more = f", and {others} more" if others else ""
    return ProofInvalid(f"{first.what}: {first.sentence}{more}", code=ErrorCode(first.code))


def _of_job(job: Job) -> list[Receipt]:
    """Return the receipts of all results of a job that is over, and of those decided now of one that runs."""
    status = job.status()
    results = job.results()
    if status.is_over:
        return [receipt for result in results for receipt in result.receipts]
    try:
        decided = list(islice(results, status.decided_count))
    finally:
        results.close()
    say(f"{status.job_id} is not over: its receipts so far. Say it again when it is.")
    return [receipt for result in decided for receipt in result.receipts]

"""`car-agent receipts`: the pool's receipts for this car, checked without the pool."""

import base64
import json
import sys
from typing import Any

import click

from car_agent.cli.explained import explained
from car_agent.cli.show import moment
from car_agent.journal.identity import Identity, load_identity
from car_agent.journal.receipt_book import ReceiptBook
from car_agent.journal.state_directory import StateDirectory
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.log_audit import AuditReport, audit
from pool_protocol.money import format_micros
from pool_protocol.roots import Role
from pool_protocol.system import SystemClock
from pool_protocol.transparency import TreeHead


@click.group("receipts")
def receipts_group() -> None:
    """Check what the pool has signed for this car's work."""


@receipts_group.command(
    "verify",
    epilog="""\b
What is checked, of every receipt that the agent keeps:
  the pool's signature over its batch, its place in the batch, that it adds up
  its place in the pool's log under a signed tree head, and that heads only grew
  its order and its date in the log
Exit status 1 when anything does not hold.
""",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@explained
def verify_command(directory: StateDirectory, *, as_json: bool) -> None:
    """Check every kept receipt and tree head; needs neither the pool nor the daemon."""
    identity = _identity(directory)
    book = _book(directory)
    try:
        report = audit_book(book, identity, clock=SystemClock())
        evidence_count = len(book.evidence(identity.pool_id))
    finally:
        book.close()
    if as_json:
        click.echo(json.dumps(_report_json(report, identity, evidence_count), indent=2))
    else:
        _show(report, identity, evidence_count)
    if not report.ok:
        sys.exit(1)


@receipts_group.command("evidence")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the signed tree heads in base64.")
@click.pass_obj
@explained
def evidence_command(directory: StateDirectory, *, as_json: bool) -> None:
    """Show what the pool was caught at, with the proof."""
    identity = _identity(directory)
    book = _book(directory)
    try:
        found = book.evidence(identity.pool_id)
    finally:
        book.close()
    if as_json:
        entries = [
            {
                "at_us": one.at_us,
                "code": one.code,
                "sentence": one.sentence,
                "trusted_head": _base64(one.trusted),
                "offered_head": _base64(one.offered),
            }
            for one in found
        ]
        content = {
            "pool_id": identity.pool_id,
            "root": _base64(identity.root.root_bytes),
            "evidence": entries,
        }
        click.echo(json.dumps(content, indent=2))
        return
    if not found:
        click.echo(f"Nothing is held against pool {identity.pool_id}.")
    for one in found:
        click.echo(f"{moment(one.at_us)} {one.code}: {one.sentence}")
    if found:
        click.echo("The signed tree heads: car-agent receipts evidence --json")


def audit_book(book: ReceiptBook, identity: Identity, *, clock: Clock) -> AuditReport:
    """Check everything that a book holds of the vehicle's pool, with the root that the car trusts."""
    return audit(
        book.receipts(identity.pool_id),
        book.heads(identity.pool_id),
        keys=identity.root.keys_for(Role.RECEIPT),
        pool_id=identity.pool_id,
        now_us=clock.now_us(),
    )


def _identity(directory: StateDirectory) -> Identity:
    identity = load_identity(directory)
    if identity is None:
        raise PoolError(
            ErrorCode.NOT_FOUND,
            f"no vehicle is paired in {directory.path}",
            advice="Pair it, or name another --state-dir.",
        )
    return identity


def _book(directory: StateDirectory) -> ReceiptBook:
    if not directory.receipt_book.exists():
        raise PoolError(
            ErrorCode.NOT_FOUND,
            f"no receipts are kept in {directory.path}",
            advice="The agent fetches them once it is connected and the pool has verified something.",
        )
    return ReceiptBook(directory.receipt_book)


def _report_json(report: AuditReport, identity: Identity, evidence_count: int) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "pool_id": identity.pool_id,
        "root_version": identity.root.document.version,
        "root_fingerprint": identity.root.fingerprint,
        "receipts": report.receipts,
        "signed": report.signed,
        "logged": report.logged,
        "waiting": report.waiting,
        "gross_micros": report.gross_micros,
        "net_micros": report.net_micros,
        "tree_heads": report.heads,
        "newest_head": _head_json(report.head),
        "faults": [fault.to_json() for fault in report.faults],
        "evidence": evidence_count,
    }


def _head_json(head: TreeHead | None) -> dict[str, Any] | None:
    if head is None:
        return None
    return {
        "tree_size": head.tree_size,
        "root_hash": head.root_hash.hex(),
        "timestamp_us": head.timestamp_us,
        "key_id": head.key_id,
    }


def _show(report: AuditReport, identity: Identity, evidence_count: int) -> None:
    waiting = f", {report.waiting} not in the log yet" if report.waiting else ""
    click.echo(
        f"{report.receipts} receipts of pool {identity.pool_id}: {report.signed} signed, "
        f"{report.logged} in the log{waiting}."
    )
    head = "No tree head is known yet."
    if report.head is not None:
        head = (
            f"{report.heads} tree heads, the newest of {report.head.tree_size} receipts, signed "
            f"{moment(report.head.timestamp_us)}."
        )
    net, gross = format_micros(report.net_micros), format_micros(report.gross_micros)
    click.echo(f"Net {net}, gross {gross}. {head}")
    for fault in report.faults:
        next_step = PoolError(ErrorCode(fault.code)).next_step
        click.echo(f"WRONG {fault.code} {fault.what}: {fault.sentence}\n  next: {next_step}")
    if evidence_count:
        click.echo(f"{evidence_count} pieces of evidence against the pool: car-agent receipts evidence")
    click.echo("Everything holds." if report.ok else f"{len(report.faults)} things do not hold.")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

"""Operator commands for the ledger: check it, look into it at any time, hand it out, and enter by hand."""

import hashlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from pool_protocol.amounts import amount
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import books_service_pb2 as pb
from pool_server.cli import entries
from pool_server.cli.books_stream import read_balance, stream, with_progress
from pool_server.cli.output import json_option, money, plain, print_json, print_pairs, print_table, time
from pool_server.cli.remote import Remote

_FORMATS = {
    "beancount": pb.JOURNAL_FORMAT_BEANCOUNT,
    "hledger": pb.JOURNAL_FORMAT_HLEDGER,
    "csv": pb.JOURNAL_FORMAT_CSV,
}


@click.group(
    epilog="""\b
For example:
  pool-server --data ./pool ledger check
  pool-server --data ./pool ledger balance bank:main --at 1200
  pool-server --data ./pool ledger history owner:owner_abc:available --limit 20
  pool-server --data ./pool ledger export --format beancount --out books.beancount
"""
)
def ledger() -> None:
    """The books: check, look, hand out, and put right."""


@ledger.command()
@json_option
@click.pass_obj
def check(remote: Remote, *, as_json: bool) -> None:
    """Check every invariant of the books; exit status 1 when one is broken."""
    if not as_json:
        click.echo("Checking every transfer, receipt and payout...", err=True)
    answer = _report(remote)
    if as_json:
        print_json(answer)
    else:
        print_table(
            ["invariant", "holds", "figures"],
            [[entry.name, "yes" if entry.ok else "NO", entry.detail] for entry in answer.checks],
        )
        click.echo(f"\n{answer.transfer_count} transfers, sum {answer.sum_micros}")
        click.echo("The books balance." if answer.ok else "THE BOOKS ARE BROKEN: stop paying out and look.")
    if not answer.ok:
        sys.exit(1)


def _report(remote: Remote) -> admin_pb.CheckLedgerResponse:
    report: admin_pb.CheckLedgerResponse | None = None
    for answer in with_progress(stream(remote, "CheckBooks", pb.CheckBooksRequest())):
        if answer.HasField("report"):
            report = answer.report
    if report is None:
        raise PoolError(ErrorCode.UNAVAILABLE, "the pool broke off before it had an answer")
    return report


@ledger.command()
@click.option("--prefix", default="", help="Only accounts whose name begins so, for example owner:")
@json_option
@click.pass_obj
def accounts(remote: Remote, *, prefix: str, as_json: bool) -> None:
    """List accounts and their counters, in micro-units, all of one moment.

    The balance counts in the account's own direction: what a bank has, what an owner is owed.
    """
    found = [
        account
        for answer in stream(remote, "StreamAccounts", pb.StreamAccountsRequest(prefix=prefix))
        for account in answer.accounts
    ]
    if as_json:
        print_json({"accounts": [_account_values(account) for account in found]})
        return
    print_table(
        ["account", "balance", "debits pending", "debits posted", "credits pending", "credits posted"],
        [
            [
                account.name,
                str(account.balance_micros),
                str(account.counters.debits_pending_micros),
                str(account.counters.debits_posted_micros),
                str(account.counters.credits_pending_micros),
                str(account.counters.credits_posted_micros),
            ]
            for account in found
        ],
    )


def _account_values(account: pb.NamedAccount) -> dict[str, Any]:
    values = plain(account)
    return {**values, **values.pop("counters")}


@ledger.command()
@click.argument("account")
@click.option(
    "--at",
    type=click.IntRange(0, 2**63 - 1),
    help="As of this transfer, itself included; 0 is before the first. Default: the last one.",
)
@click.option(
    "--on",
    "day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="As of the end of this day, UTC, for example 2026-12-31.",
)
@json_option
@click.pass_obj
def balance(remote: Remote, *, account: str, at: int | None, day: datetime | None, as_json: bool) -> None:
    """Show the four counters of ACCOUNT as of any transfer, read from the log again.

    ACCOUNT is a name as `ledger accounts` lists it, for example bank:main. Without --at and --on, what the
    log comes to is compared with what the ledger keeps; exit status 1 when the two differ.
    """
    request = pb.GetAccountAtRequest(account=account)
    if at is not None and day is not None:
        raise click.UsageError("--at and --on both say when: give one")
    if at is not None:
        request.at = at
    if day is not None:
        request.before_us = int((day.replace(tzinfo=UTC) + timedelta(days=1)).timestamp()) * 1_000_000
    found = read_balance(remote, request)
    if as_json:
        print_json(found)
    else:
        _show_balance(found)
    if not found.agrees_with_ledger:
        click.echo("THE LOG AND THE LEDGER DIFFER: run `pool-server ledger check`.", err=True)
        sys.exit(1)


def _show_balance(found: pb.AccountAt) -> None:
    counters, currency = found.counters, found.currency
    print_pairs(
        [
            ("account", f"{found.account} ({found.nature})"),
            ("as of transfer", f"{found.at} of {found.head}, {time(found.recorded_at_us)}"),
            ("balance", money(found.balance_micros, currency)),
            ("debits posted", money(counters.debits_posted_micros, currency)),
            ("debits pending", money(counters.debits_pending_micros, currency)),
            ("credits posted", money(counters.credits_posted_micros, currency)),
            ("credits pending", money(counters.credits_pending_micros, currency)),
        ]
    )


@ledger.command()
@click.argument("account")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Transfers.")
@click.option("--before", type=click.IntRange(1, 2**63 - 1), help="Only transfers before this one.")
@json_option
@click.pass_obj
def history(remote: Remote, *, account: str, limit: int, before: int | None, as_json: bool) -> None:
    """Show the transfers of ACCOUNT, newest first, each with the balance after it.

    A balance counts in the account's own direction: what a bank has, what an expense cost, what an owner is
    owed. What only reserves or releases money changes no balance; its amount stands in brackets.
    """
    request = pb.GetAccountHistoryRequest(account=account, limit=limit, before=before or 0)
    lines: list[pb.HistoryLine] = []
    currency = nature = ""
    for answer in with_progress(stream(remote, "GetAccountHistory", request)):
        lines.extend(answer.lines)
        currency, nature = answer.currency or currency, answer.nature or nature
    if as_json:
        print_json(
            {
                "account": account,
                "nature": nature,
                "currency": currency,
                "transfers": [plain(line) for line in lines],
            }
        )
        return
    print_table(
        ["transfer", "time", "code", "other account", "change", f"balance {currency}", "about"],
        [
            [
                str(line.transfer_id),
                time(line.recorded_at_us),
                line.code_name,
                line.counter_account,
                _change(line),
                amount(line.balance_micros),
                _about(line),
            ]
            for line in lines
        ],
    )
    if len(lines) == limit:
        click.echo(f"\nOlder ones: --before {lines[-1].transfer_id}")


def _change(line: pb.HistoryLine) -> str:
    if line.kind in {"single", "post"}:
        return f"{'+' if line.change_micros > 0 else ''}{amount(line.change_micros)}"
    return f"({amount(line.amount_micros)} {'reserved' if line.kind == 'pending' else 'released'})"


def _about(line: pb.HistoryLine) -> str:
    return "; ".join(text for text in (line.about, line.key, line.reason) if text)


@ledger.command()
@click.option(
    "--format", "journal_format", type=click.Choice(sorted(_FORMATS)), required=True, help="Written as what."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write this file, whole or not at all. Default: to standard output.",
)
@json_option
@click.pass_obj
def export(remote: Remote, *, journal_format: str, out: Path | None, as_json: bool) -> None:
    """Write the whole books as a journal that other accounting programs check, or as CSV.

    Check what you got with `bean-check FILE` or `hledger check --strict -f FILE`: both hold every transfer
    against the balances of the ledger, to the micro-unit.
    """
    if as_json and out is None:
        raise click.UsageError("--json says where the file is: give --out too")
    request = pb.ExportBooksRequest(format=_FORMATS[journal_format])
    answers = with_progress(stream(remote, "ExportBooks", request))
    if out is None:
        for answer in answers:
            sys.stdout.buffer.write(answer.chunk)
        sys.stdout.buffer.flush()
        return
    size_bytes, sha256, transfers = _write_whole(answers, out)
    if as_json:
        print_json(
            {
                "format": journal_format,
                "written_to": str(out),
                "bytes": size_bytes,
                "sha256": sha256,
                "transfers": transfers,
            }
        )
        return
    click.echo(f"{out}: {transfers} transfers, {size_bytes} bytes, SHA-256 {sha256}", err=True)


def _write_whole(answers: Iterator[Any], out: Path) -> tuple[int, str, int]:
    """Write a file beside its place, check its hash, and move it there; nothing half-made stays."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    digest, size_bytes, said, transfers = hashlib.sha256(), 0, "", 0
    try:
        with partial.open("wb") as file:
            for answer in answers:
                file.write(answer.chunk)
                digest.update(answer.chunk)
                size_bytes += len(answer.chunk)
                said, transfers = answer.sha256, answer.progress.of
            file.flush()
            os.fsync(file.fileno())
        if said != digest.hexdigest():
            raise PoolError(ErrorCode.UNAVAILABLE, "the pool broke off before the end of the books")
        partial.replace(out)
    except OSError as error:
        raise click.ClickException(f"cannot write {out}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    return size_bytes, said, transfers


for command in (entries.correct, entries.refund, entries.approve, entries.withdraw, entries.entries):
    ledger.add_command(command)

"""`chargepool log` and `chargepool solvency`: is the pool's log one and the same, and is the money there?"""

import base64
import datetime as dt
import json
from pathlib import Path
from typing import Any

import click
from google.protobuf.message import DecodeError

from chargepool._client import Client
from chargepool._errors import ConfigError, ProofInvalid
from chargepool._log import Counted
from chargepool.cli._connection import Connection, connection_options, emit, json_option, say
from pool_protocol import amounts
from pool_protocol.errors import ErrorCode
from pool_protocol.transparency import TreeHead
from pool_protocol.v1 import common_pb2

_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


@click.group()
def log() -> None:
    """The pool's log of receipts: its signed head, and whether others are shown the same."""


@log.command()
@connection_options
def head(*, connection: Connection) -> None:
    """Print the newest signed tree head as JSON, after checking that the log only grew.

    Give what it prints to someone else who uses this pool: `chargepool log compare` holds it against theirs.
    """
    with connection.connect() as client:
        newest = client.log.follow()
        pool_id = client.pool_id
    if newest is None:
        raise ProofInvalid(
            "The pool has signed no tree head yet.",
            code=ErrorCode.NOT_FOUND,
            next_step="Ask again once something was computed.",
        )
    emit({"pool_id": pool_id, **_head_json(newest)})


@log.command()
@click.argument("file", type=_FILE)
@connection_options
@json_option
def compare(*, file: Path, connection: Connection, as_json: bool) -> None:
    """Hold the tree head in FILE (- for standard input) against the one that you are shown.

    FILE is what `chargepool log head` printed elsewhere, for someone else. When the pool shows the two of you
    different logs, it cannot prove that one continues the other.
    """
    other = _read_head(file)
    with connection.connect() as client:
        first, second = client.log.compare(other)
    if as_json:
        emit({"same": True, "first_size": first.tree_size, "second_size": second.tree_size})
        return
    if first.tree_size == second.tree_size:
        click.echo(f"The pool shows both the same log, of {first.tree_size} receipts.")
    else:
        click.echo(
            f"The pool shows both the same log: its tree of {second.tree_size} receipts continues the one of "
            f"{first.tree_size}."
        )


@click.command()
@click.option("--date", default="", help="The last statement made on this day (UTC), for example 2026-11-25.")
@click.option("--verify", "prove", is_flag=True, help="Have it proved that your own balances are counted.")
@connection_options
@json_option
def solvency(*, date: str, prove: bool, connection: Connection, as_json: bool) -> None:
    """Show the pool's signed statement of what it owes, and what its bank is said to hold."""
    with connection.connect() as client:
        found = _solvency(client, date=date, prove=prove)
    if as_json:
        emit(_solvency_json(found, proved=prove))
        return
    statement = found.statement
    click.echo(statement.sentence(amounts.amount))
    width = max((len(kind) for kind, _ in statement.owed), default=0)
    for kind, amount in statement.owed:
        click.echo(f"  {kind.ljust(width)}  {amounts.amount(amount):>16}")
    if prove:
        own = sum(amount for _, amount in found.accounts)
        click.echo(
            f"Your balances are counted: {amounts.amount(own, statement.currency)} in "
            f"{len(found.accounts)} accounts."
            if found.accounts
            else "You had no money in the pool when it was made: there is nothing of yours to count."
        )
    made = dt.datetime.fromtimestamp(statement.made_at_us / 1_000_000, tz=dt.UTC)
    say(f"Statement {statement.statement_id}, made {made:%Y-%m-%d %H:%M:%S} UTC, signed by the pool.")


def _solvency(client: Client, *, date: str, prove: bool) -> Counted:
    found = client.log.solvency(date=date, prove=prove)
    if found is None:
        raise ProofInvalid(
            "The pool has made no statement of solvency yet.",
            code=ErrorCode.NOT_FOUND,
            next_step="Ask the operator for one: pool-server solvency enter.",
        )
    return found


def _solvency_json(found: Counted, *, proved: bool) -> dict[str, Any]:
    statement = found.statement
    return {
        **statement.to_json(),
        "ledger_sequence": statement.ledger_sequence,
        "tree_size": statement.tree_size,
        "signed": base64.b64encode(statement.envelope).decode("ascii"),
        "own_counted": dict(found.accounts) if proved else None,
    }


def _head_json(newest: TreeHead) -> dict[str, Any]:
    return {
        "tree_size": newest.tree_size,
        "root_hash": newest.root_hash.hex(),
        "timestamp_us": newest.timestamp_us,
        "key_id": newest.key_id,
        "signed": base64.b64encode(newest.envelope).decode("ascii"),
    }


def _read_head(path: Path) -> common_pb2.Envelope:
    try:
        with click.open_file(str(path), encoding="utf-8") as stream:
            content = json.load(stream)
        return common_pb2.Envelope.FromString(base64.b64decode(content["signed"], validate=True))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", next_step="Name the file with the head."
        ) from error
    except (ValueError, KeyError, TypeError, DecodeError) as error:
        raise ProofInvalid(
            f"{path} holds no tree head.",
            code=ErrorCode.PROOF_INVALID,
            next_step="It is what `chargepool log head` prints.",
        ) from error

"""Long answers about the books: read as they come, with their progress, and names that were mistyped."""

import sys
from collections.abc import Iterator
from typing import Any

import click

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import books_service_pb2 as pb
from pool_protocol.v1 import books_service_pb2_grpc
from pool_server.cli.remote import Remote

_STUB = books_service_pb2_grpc.BooksServiceStub


class NearNames:
    """Turns the pool's list of near names into advice."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, PoolError) or error.code is not ErrorCode.NOT_FOUND:
            return
        if "account" not in error.context:
            return
        near = error.context.get("near", "")
        raise PoolError(
            error.code,
            f"There is no account {error.context['account']}.",
            context=error.context,
            advice=f"Did you mean {near}?" if near else "`pool-server ledger accounts` lists all names.",
        ) from error


def stream(remote: Remote, method: str, request: Any) -> Iterator[Any]:
    """Make a call of BooksService and yield its answers.

    Raises:
        PoolError: what the pool answers.
    """
    with NearNames():
        yield from remote.stream(method, request, service=_STUB)


def with_progress(answers: Iterator[Any]) -> Iterator[Any]:
    """Say on a terminal how far a long reading is; the line is gone when it ends."""
    shown = False
    for answer in answers:
        progress = answer.progress
        if sys.stderr.isatty() and progress.of and progress.read < progress.of:
            percent = 100 * progress.read // progress.of
            click.echo(f"\r{progress.read} of {progress.of} transfers read ({percent} %)", nl=False, err=True)
            shown = True
        yield answer
    if shown:
        click.echo("\r\033[K", nl=False, err=True)


def read_balance(remote: Remote, request: pb.GetAccountAtRequest) -> pb.AccountAt:
    """Read an account's counters.

    Raises:
        PoolError: what the pool answers; UNAVAILABLE when it broke off.
    """
    found: pb.AccountAt | None = None
    for answer in with_progress(stream(remote, "GetAccountAt", request)):
        if answer.HasField("balance"):
            found = answer.balance
    if found is None:
        raise PoolError(ErrorCode.UNAVAILABLE, "the pool broke off before it had an answer")
    return found

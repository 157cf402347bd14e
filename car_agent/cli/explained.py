"""How a command fails: in a sentence, with what to do next."""

import sqlite3
import sys
from collections.abc import Callable
from functools import wraps
from typing import NoReturn, ParamSpec, TypeVar

import click

from pool_protocol.errors import ErrorCode, PoolError

P = ParamSpec("P")
T = TypeVar("T")


def _fail(error: PoolError) -> NoReturn:
    click.echo(f"car-agent: {error.detail} ({error.code.value})", err=True)
    click.echo(f"  next: {error.next_step}", err=True)
    sys.exit(1)


def explained(command: Callable[P, T]) -> Callable[P, T]:
    """Turn expected failures into a sentence, a next step and exit status 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except PoolError as error:
            _fail(error)
        except (OSError, sqlite3.Error) as error:
            _fail(PoolError(ErrorCode.UNAVAILABLE, f"the system refused: {error}"))

    return run

"""Options that every command shares: which pool, and how answers are printed."""

import json
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from chargepool._client import Client
from chargepool._config import ClientConfig, load_config
from chargepool._connect import connect_with
from chargepool._papers import locale_of_account
from pool_protocol import amounts

#: What a number is written with, in one locale or another.
_OF_NUMBERS = "0123456789.,-’\u00a0"
F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, dir_okay=False)


class Connection:
    """Where the pool is, as far as the command line says it; the rest is found when it is needed."""

    def __init__(self, *, address: str | None, ca: Path | None, token_file: Path | None) -> None:
        """Take the options as they were given."""
        self._address = address
        self._ca = ca
        self._token_file = token_file

    def config(self) -> ClientConfig:
        """Return the complete configuration.

        Raises:
            ConfigError: Something is missing or unreadable.
        """
        return load_config(address=self._address, ca_file=self._ca, token_file=self._token_file)

    def connect(self) -> Client:
        """Connect, and write amounts from now on as the account says; raises as `chargepool.connect`."""
        config = self.config()
        client = connect_with(config)
        amounts.use_locale(locale_of_account(config))
        return client


def connection_options(function: F) -> F:
    """Add --address, --ca and --token-file; the function gets one `connection`."""

    @click.option("--address", metavar="HOST:PORT", help="The pool's API.")
    @click.option("--ca", type=_FILE, help="The pool's CA certificate (PEM).")
    @click.option("--token-file", type=_FILE, help="A file with your buyer's token.")
    @wraps(function)
    def wrapped(
        *args: Any, address: str | None, ca: Path | None, token_file: Path | None, **kwargs: Any
    ) -> Any:
        connection = Connection(address=address, ca=ca, token_file=token_file)
        return function(*args, connection=connection, **kwargs)

    return wrapped  # type: ignore[return-value]


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def emit(content: Mapping[str, Any] | list[Any]) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(content, indent=2 if sys.stdout.isatty() else None))


def say(text: str) -> None:
    """Tell a person something, on standard error."""
    click.echo(text, err=True)


def table(headings: list[str], rows: list[list[str]]) -> None:
    """Print aligned columns on standard output; numbers to the right."""
    columns = list(zip(headings, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    is_number = [
        bool(rows) and all(cell.strip(_OF_NUMBERS) == "" != cell for cell in column[1:]) for column in columns
    ]
    for row in [headings, *rows]:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())

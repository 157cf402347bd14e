"""What commands print: JSON for programs, tables for people."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from google.protobuf.message import Message

from pool_protocol import amounts

#: What a number is written with, in one locale or another.
_OF_NUMBERS = frozenset("0123456789.,-’\u00a0")
JsonFlag = Callable[[Callable[..., Any]], Callable[..., Any]]
json_option: JsonFlag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def plain(value: Any) -> Any:
    """Turn a message into plain values: every field, integers as integers, bytes as hexadecimal."""
    if isinstance(value, Message):
        return {
            field.name: _field(value, field.name, is_map=_is_map(field)) for field in value.DESCRIPTOR.fields
        }
    if isinstance(value, bytes):
        return value.hex()
    return value


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _field(message: Message, name: str, *, is_map: bool) -> Any:
    value = getattr(message, name)
    if is_map:
        return {str(key): plain(item) for key, item in sorted(value.items())}
    if hasattr(value, "__len__") and not isinstance(value, str | bytes | Message):
        return [plain(item) for item in value]
    return plain(value)


def print_json(value: Any) -> None:
    """Print a message or plain values as one JSON document."""
    click.echo(json.dumps(plain(value), indent=2, sort_keys=False, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; numbers (everything that looks like one) to the right."""
    if not rows:
        click.echo("(none)")
        return
    table = [list(headers), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(headers))]
    numeric = [all(_is_number(row[column]) for row in rows) for column in range(len(headers))]
    for place, row in enumerate(table):
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        line = "  ".join(cells).rstrip()
        click.echo(click.style(line, bold=True) if place == 0 else line)


def _is_number(text: str) -> bool:
    return bool(text) and set(text) <= _OF_NUMBERS


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{name.ljust(width)}  {value}")


def write_file(path: Path, content: bytes) -> None:
    """Write a file that was asked for.

    Raises:
        click.ClickException: it cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error


def money(amount_micros: int, currency: str) -> str:
    """Write an amount for people."""
    return amounts.amount(amount_micros, currency)


def time(at_us: int) -> str:
    """Write a time for people; a dash for never."""
    if at_us == 0:
        return "-"
    return datetime.fromtimestamp(at_us // 1_000_000, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ")

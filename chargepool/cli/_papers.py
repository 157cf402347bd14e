"""`chargepool invoice`, `usage` and `account`: a buyer's papers, and what they say of the buyer."""

from pathlib import Path
from typing import Any

import click

from chargepool._papers import PaperDesk
from chargepool.cli._connection import Connection, connection_options, emit, json_option, say
from pool_protocol import amounts
from pool_protocol.particulars_options import changed, particulars_options, plain, shown
from pool_protocol.system import SystemClock

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    epilog="""\b
Examples:
  chargepool invoice --month 2026-11 --out november.pdf
  chargepool invoice --month 2026-11 --out november.csv
"""
)
@click.option("--month", required=True, help="For example 2026-11, UTC.")
@click.option("--out", required=True, type=_FILE, help="Write it here; its ending says which: .pdf or .csv.")
@connection_options
@json_option
def invoice(*, month: str, out: Path, connection: Connection, as_json: bool) -> None:
    """Write the invoice, or the statement of prepaid usage, of a month.

    A month that is over gets its number at the first call, and the same bytes ever after. Of the running
    month there is a preview without a number.
    """
    if out.suffix.lower() not in {".pdf", ".csv"}:
        raise click.UsageError("FILE ends in .pdf or .csv: that says which of the two is written")
    with PaperDesk(connection.config()) as desk:
        file, number = desk.invoice(month, as_csv=out.suffix.lower() == ".csv")
    _write(out, file.content)
    if as_json:
        emit({"file": str(out), "number": number, "bytes": len(file.content), "sha256": file.sha256})
        return
    say(f"{out}: {number or 'a preview; the month is not over'}.")


@click.command(
    epilog="""\b
Examples:
  chargepool usage --focus usage.csv
  chargepool usage --focus november.csv --month 2026-11
  chargepool usage --focus year.csv --month 2026-01 --until 2026-12
"""
)
@click.option("--focus", required=True, type=_FILE, help="Write the usage in the FOCUS 1.2 format here.")
@click.option("--month", default="", help="The first month, for example 2026-11, UTC. Default: this one.")
@click.option("--until", default="", help="The last month; default: the first.")
@connection_options
@json_option
def usage(*, focus: Path, month: str, until: str, connection: Connection, as_json: bool) -> None:
    """Write what verified work cost, job by job and day by day, for cost tools."""
    month = month or amounts.iso_date(SystemClock().now_us())[:7]
    with PaperDesk(connection.config()) as desk:
        file = desk.usage(month, until)
    _write(focus, file.content)
    count = file.content.count(b"\n") - 1
    if as_json:
        emit({"file": str(focus), "rows": count, "sha256": file.sha256})
        return
    say(f"{focus}: {count} rows.")


@click.group()
def account() -> None:
    """What papers say of you, and how amounts are written for you."""


@account.command()
@connection_options
@json_option
def show(*, connection: Connection, as_json: bool) -> None:
    """Show what the pool knows of you."""
    with PaperDesk(connection.config()) as desk:
        _print(desk.particulars(), as_json=as_json)


@account.command(
    name="set",
    epilog="""\b
Examples:
  chargepool account set --locale de_DE --name "Institut für Strömung" --kind company
  chargepool account set --vat-id DE123456789 --vat-scheme reverse_charge
  chargepool account set --clear vat_id --clear vat_scheme
""",
)
@particulars_options
@connection_options
@json_option
def set_(*, connection: Connection, clear: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Set what papers say of you; everything is optional, what is not given stays as it is."""
    with PaperDesk(connection.config()) as desk:
        _print(desk.set_particulars(changed(desk.particulars(), given, clear)), as_json=as_json)


def _print(particulars: Any, *, as_json: bool) -> None:
    if as_json:
        emit(plain(particulars))
        return
    for name, value in shown(particulars):
        click.echo(f"{name:<13} {value or '-'}")


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error

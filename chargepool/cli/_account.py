"""`chargepool balance`, `receipts`, `config`, `doctor`, `demo`: money, proofs, and is all in place."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from cryptography import x509

from chargepool._config import ClientConfig
from chargepool._connect import connect_with
from chargepool._errors import ChargepoolError, ProofInvalid
from chargepool.cli._connection import Connection, connection_options, emit, json_option, say
from pool_protocol import amounts
from pool_protocol.errors import ErrorCode

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@connection_options
@json_option
def balance(*, connection: Connection, as_json: bool) -> None:
    """Show your money in this pool."""
    with connection.connect() as client:
        money = client.balance()
    if as_json:
        emit(asdict(money))
        return
    for heading, amount in (
        ("available", money.available_micros),
        ("reserved", money.escrow_micros),
        ("spent", money.spent_micros),
    ):
        click.echo(f"{heading:<10} {amounts.amount(amount):>16} {money.currency}")
    for cap in money.caps:
        whose = "your account" if cap.holder == "account" else "this token"
        when = "in all" if cap.period == "ever" else f"in {cap.period}"
        most, left = amounts.amount(cap.max_spend_micros), amounts.amount(cap.left_micros)
        click.echo(f"{whose} may spend {most} {money.currency} {when}; {left} {money.currency} left")


@click.command()
@connection_options
@json_option
def config(*, connection: Connection, as_json: bool) -> None:
    """Show which pool, CA and token hold, and where each comes from. The token itself is not shown."""
    found = connection.config()
    if as_json:
        emit({"address": found.address, "origins": dict(found.origins), "warnings": list(found.warnings)})
        return
    click.echo(f"address  {found.address} (from {found.origins['address']})")
    click.echo(f"ca       {found.origins['ca']}")
    click.echo(f"token    {found.origins['token']}")
    for warning in found.warnings:
        say(f"Warning: {warning}")


@click.command()
@connection_options
@json_option
def doctor(*, connection: Connection, as_json: bool) -> int:
    """Check everything that a run needs: settings, CA, connection, token, keys, money, JAX."""
    report: list[dict[str, Any]] = []

    def check(what: str, test: Callable[[], str]) -> bool:
        try:
            found, is_well, next_step = test(), True, ""
        except ChargepoolError as error:
            found, is_well, next_step = error.detail, False, error.next_step
        report.append({"check": what, "ok": is_well, "found": found, "next_step": next_step})
        if not as_json:
            click.echo(f"{'ok  ' if is_well else 'FAIL'}  {what:<10} {found}")
            if next_step:
                click.echo(f"      next: {next_step}")
        return is_well

    settings: list[ClientConfig] = []

    def check_settings() -> str:
        settings.append(connection.config())
        return "; ".join((f"pool at {settings[0].address}", *settings[0].warnings))

    if check("settings", check_settings):
        check("CA", lambda: _ca_line(settings[0]))
        check("pool", lambda: _pool_line(settings[0]))
    check("JAX", _jax_line)
    if as_json:
        emit(report)
    return 0 if all(entry["ok"] for entry in report) else 1


def _ca_line(found: ClientConfig) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(found.ca_pem)
    except ValueError as error:
        raise ProofInvalid(
            f"The CA certificate cannot be read: {error}",
            code=ErrorCode.CERTIFICATE_INVALID,
            next_step="Use the file ca.pem that `pool-server init` wrote.",
        ) from error
    return f"{certificate.subject.rfc4514_string()}, until {certificate.not_valid_after_utc:%Y-%m-%d}"


def _pool_line(found: ClientConfig) -> str:
    with connect_with(found) as client:
        money = client.balance()
        return (
            f"{client.pool_id} answers; token of {money.buyer_id}; "
            f"{amounts.amount(money.available_micros, money.currency)} free"
        )


def _jax_line() -> str:
    if importlib.util.find_spec("jax") is None:
        raise ChargepoolError(
            "JAX is not installed; functions cannot be exported here.",
            code=ErrorCode.UNIMPLEMENTED,
            next_step="Install it: pip install 'chargepool[buyer]'.",
        )
    from importlib.metadata import version

    return f"jax {version('jax')}"


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
)
@click.pass_context
def demo(context: click.Context) -> None:
    """Run the whole road on this machine: pool, cars, job, payout (`chargepool demo --help`)."""
    if importlib.util.find_spec("chargepool.demo") is None:
        raise ChargepoolError(
            "The demo is not installed.",
            code=ErrorCode.UNIMPLEMENTED,
            next_step="Install it: pip install 'chargepool[demo]'.",
        )
    entry = importlib.import_module("chargepool.demo.__main__")
    entry.main(args=context.args, prog_name="chargepool demo", standalone_mode=True)

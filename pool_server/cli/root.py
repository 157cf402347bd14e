"""The root command and the errors that people see."""

import sys
from pathlib import Path

import click

from pool_protocol import amounts
from pool_protocol.errors import PoolError
from pool_server.cli import (
    account,
    books,
    caps,
    classes,
    fleet,
    init,
    ledger,
    payout_bank,
    payouts,
    price,
    principals,
    report,
    run,
    simulate,
    solvency,
    vehicles,
)
from pool_server.cli.remote import Remote

_EPILOG = """\b
Begin with:
  pool-server init --data ./pool
  pool-server run --data ./pool
  pool-server --data ./pool principals create --role buyer --name Alice
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CHARGEPOOL_SERVER_DATA",
    help="Data directory of a pool on this machine: address, CA and operator token are found in it.",
)
@click.option("--address", help="host:port of the API listener, for a pool elsewhere.")
@click.option("--ca", "ca_file", type=click.Path(path_type=Path, dir_okay=False), help="The pool's ca.pem.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that holds an operator's token.",
)
@click.option(
    "--locale",
    envvar="CHARGEPOOL_LOCALE",
    default="",
    help="How amounts are written: de_DE, en_GB (default).",
)
@click.version_option(package_name="chargepool", prog_name="pool-server")
@click.pass_context
def cli(
    context: click.Context,
    *,
    data: Path | None,
    address: str | None,
    ca_file: Path | None,
    token_file: Path | None,
    locale: str,
) -> None:
    """Make, run and operate a compute pool of charging cars."""
    amounts.use_locale(amounts.parse_locale(locale) if locale else "")
    context.obj = Remote(data=data, address=address, ca_file=ca_file, token_file=token_file)


for command in (
    init.init,
    run.run,
    fleet.overview,
    principals.principals,
    principals.tokens,
    account.account,
    books.deposit,
    caps.caps,
    fleet.fleet,
    fleet.jobs,
    fleet.quarantine,
    vehicles.vehicles,
    classes.classes,
    payouts.payouts,
    report.report,
    ledger.ledger,
    price.price,
    solvency.solvency,
    solvency.log,
    books.keys,
    simulate.simulate,
):
    cli.add_command(command)
for command in (payout_bank.import_status, payout_bank.reports, payout_bank.close_out):
    payouts.payouts.add_command(command)


def main() -> None:
    """Run the command and end the process."""
    try:
        cli.main(standalone_mode=False)
    except PoolError as error:
        click.echo(f"Error: {_sentence(error)} [{error.code.value}]", err=True)
        click.echo(f"What to do: {error.next_step}", err=True)
        sys.exit(1)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted; nothing half-made was left behind.", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(1)


def _sentence(error: PoolError) -> str:
    """Say what happened once: what the server refused begins with the code's own sentence already."""
    if error.advice or error.detail.startswith(error.public):
        return error.detail.replace(f"{error.public} {error.public}", error.public)
    return f"{error.public} {error.detail}"

"""`car-agent tariff`: what electricity costs the owner. The running agent takes a change up by itself."""

import json
from decimal import Decimal
from pathlib import Path

import click

from car_agent.cli.explained import explained
from car_agent.energy.owner_tariff import OwnerTariff
from car_agent.energy.tariff_text import parse_tariff
from car_agent.journal.durable import remove_durably, write_durably
from car_agent.journal.state_directory import StateDirectory
from pool_protocol.money import format_micros
from pool_protocol.system import SystemClock

_EXAMPLES = """\b
A tariff by the hour, as FILE:
  kind = "time-of-use"
  currency = "EUR"
  zone = "Europe/Berlin"
  price_per_kwh = 0.34          # whenever no window holds
  [[window]]
  days = "mon-fri"              # left out: every day
  from = "22:00"
  to = "06:00"                  # of the next morning
  price_per_kwh = 0.18

\b
A price that something else writes (a number, or {"price_per_kwh": 0.27}):
  kind = "file"
  currency = "EUR"
  path = "/run/prices/now.json"
  fresh_for_s = 3900            # older does not count
  fallback_per_kwh = 0.40       # left out: the car then waits
"""


#: Digits of a price that is worth writing out; whether it is a price at all is judged after that.
_DIGITS_MAX = 20


@click.group("tariff")
def tariff_group() -> None:
    """Show or set what electricity costs you.

    With a tariff the car computes only what pays its electricity (electricity_margin and min_net_per_hour in
    your limits say how much more), and every statement says what is left of your money after electricity.
    """


@tariff_group.command("show")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
@explained
def tariff_show_command(directory: StateDirectory, *, as_json: bool) -> None:
    """Print the tariff and its price now."""
    clock = SystemClock()
    tariff = OwnerTariff(directory.tariff, clock)
    tariff.refresh()
    price = tariff.price(clock.now_us())
    if as_json:
        shown = {
            "set": tariff.is_set,
            "kind": tariff.describe(),
            "currency": tariff.currency or None,
            "price_micros_per_kwh": price.micros_per_kwh,
            "why_no_price": price.why_not or None,
        }
        click.echo(json.dumps(shown))
        return
    if not tariff.is_set:
        click.echo(price.why_not)
        return
    click.echo(directory.tariff.read_text(encoding="utf-8", errors="replace").rstrip())
    if price.micros_per_kwh is None:
        click.echo(f"No price now. {price.why_not}")
    else:
        click.echo(f"Now: {format_micros(price.micros_per_kwh)} {tariff.currency} per kWh.")


@tariff_group.command("set", epilog=_EXAMPLES)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--fixed", metavar="PRICE", help="One price per kWh, such as 0.30, instead of a FILE.")
@click.option("--currency", metavar="CODE", help="With --fixed: the pool's currency, such as EUR.")
@click.pass_obj
@explained
def tariff_set_command(
    directory: StateDirectory, file: Path | None, fixed: str | None, currency: str | None
) -> None:
    """Set the tariff from a TOML FILE, or to one price; on an error the old one stays."""
    if (file is None) == (fixed is None):
        raise click.UsageError("Give a FILE, or --fixed PRICE --currency CODE.")
    if file is not None:
        if currency is not None:
            raise click.UsageError("--currency goes with --fixed; a FILE says its own.")
        text = file.read_text(encoding="utf-8")
    else:
        text = _fixed_text(fixed or "", currency)
    parse_tariff(text)
    directory.create()
    write_durably(directory.tariff, text.encode())
    click.echo("Tariff set. A running agent takes it up within seconds.")


def _fixed_text(price: str, currency: str | None) -> str:
    if currency is None:
        raise click.UsageError("--fixed needs --currency.")
    try:
        number = Decimal(price)
    except ArithmeticError as error:
        raise click.BadParameter(f"{price!r} is not a price such as 0.30", param_hint="--fixed") from error
    if not number.is_finite() or abs(number.adjusted()) > _DIGITS_MAX:
        raise click.BadParameter(f"{price!r} is not a price such as 0.30", param_hint="--fixed")
    return f'kind = "fixed"\ncurrency = {json.dumps(currency)}\nprice_per_kwh = {number:f}\n'


@tariff_group.command("clear")
@click.pass_obj
@explained
def tariff_clear_command(directory: StateDirectory) -> None:
    """Forget the tariff: the car then works at any price, and nothing is said of what is left."""
    if directory.tariff.exists():
        remove_durably(directory.tariff)
    click.echo("No tariff is set.")

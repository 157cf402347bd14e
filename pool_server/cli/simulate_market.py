"""`pool-server simulate market`: a month of the market with the pool's own price, for people and programs."""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import PPM
from pool_server.cli.output import json_option, money, print_json, print_pairs, print_table
from pool_server.core.pricing.limiter import STEP_PPM_DEFAULT

if TYPE_CHECKING:
    from pool_server.simulate.market.figures import Figures, OwnersFigures
    from pool_server.simulate.market.month import Month, World

#: The limiters that stand beside the chosen one.
_COMPARED_PPM = (None, 200_000, 100_000, 50_000)
_BAR_CELLS = 30
_PER_HOUR = ("per hour p10", "median", "p90")
_IN_ALL = ("in all p10", "median", "p90")
_TELL_EVERY_NS = 100_000_000


@click.command()
@click.option(
    "--days", type=click.IntRange(1, 366), default=30, show_default=True, help="The first is a Monday."
)
@click.option(
    "--vehicles", type=click.IntRange(1, 50_000), default=1_500, show_default=True, help="Cars in the pool."
)
@click.option(
    "--buyers", type=click.IntRange(1, 5_000), default=40, show_default=True, help="Who hand in work."
)
@click.option(
    "--demand",
    type=click.FloatRange(0, 100, min_open=True),
    default=0.8,
    show_default=True,
    callback=lambda _context, _option, value: _number(value),
    help="Work handed in, as a multiple of what the cars can do while they charge.",
)
@click.option(
    "--impatient",
    is_flag=True,
    help="Work that is not done in the quarter hour in which it comes is gone. Otherwise it waits.",
)
@click.option(
    "--higher-bids-first",
    is_flag=True,
    help="Scarce cars go to higher bids first. Otherwise to buyers by even shares, as in the server.",
)
@click.option(
    "--step-ppm",
    type=click.IntRange(1, PPM),
    default=STEP_PPM_DEFAULT,
    show_default=True,
    help="Most that the posted price moves in a quarter hour, parts per million of it.",
)
@click.option(
    "--tariff",
    "tariff_text",
    metavar="PRICE|FILE",
    help="All owners' electricity: a price per kWh, or a file as the agent's.  [default: a mixture]",
)
@click.option(
    "--fee-ppm",
    type=click.IntRange(0, PPM - 1),
    default=100_000,
    show_default=True,
    help="The pool's fee, parts per million.",
)
@click.option(
    "--currency",
    default="EUR",
    show_default=True,
    callback=lambda _context, _option, value: _currency(value),
    help="How amounts are named: three capital letters.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed, the same month."
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path, file_okay=False),
    help="Draw two pictures into this folder (needs the extra `plots`).",
)
@json_option
def market(**options: Any) -> None:
    """Play a month of the market: what the price does, what owners and buyers have of it.

    Owners, cars and buyers are made up; the auction, the limiter, the bids that deadlines raise and the order
    of jobs are the ones that the server runs. The same month is played without a limiter, and with others.

    \b
    A tariff file, as for `car-agent tariff`:
      kind = "time-of-use"
      price_per_kwh = 0.34          # whenever no window holds
      [[window]]
      days = "mon-fri"              # left out: every day
      from = "22:00"
      to = "06:00"                  # of the next morning
      price_per_kwh = 0.18

    \b
    Examples:
      pool-server simulate market --days 30
      pool-server simulate market --tariff 0.30 --step-ppm 100000
      pool-server simulate market --tariff night.toml --plots pictures
    """  # noqa: D301 - click wants the character
    from pool_server.simulate.market.figures import day_prices, figures, owners_figures
    from pool_server.simulate.market.month import Settings, draw_world, run_month
    from pool_server.simulate.market.tariffs import read_tariff

    folder: Path | None = options["plots"]
    if folder is not None:
        _prepare_pictures(folder)
    tell, tariff_text = _bar(), options["tariff_text"]
    settings = Settings(
        days=options["days"],
        vehicles=options["vehicles"],
        buyers=options["buyers"],
        seed=options["seed"],
        demand=options["demand"],
        patient=not options["impatient"],
        higher_bids_first=options["higher_bids_first"],
        fee_ppm=options["fee_ppm"],
        tariff=None if tariff_text is None else read_tariff(tariff_text, currency=options["currency"]),
    )
    tell("the cars")(0.0)
    world = draw_world(settings)
    chosen = options["step_ppm"]
    steps = sorted({chosen, *_COMPARED_PPM}, key=lambda step: -(step or PPM + 1))
    months = {step: run_month(world, step_ppm=step, tell=tell(f"limiter {_limiter(step)}")) for step in steps}
    tell("")(1.0)
    rows = {step: figures(world, month, unlimited=months[None]) for step, month in months.items()}
    month, owners = months[chosen], owners_figures(world, months[chosen])
    pictures = _draw(world, month, folder, options["currency"]) if folder is not None else []
    if options["as_json"]:
        print_json(
            {
                "settings": {**_plain_settings(options), "start_micros_per_wu": settings.start_micros_per_wu},
                "capacity_uwu": world.capacity_uwu,
                "work_wanted_uwu": sum(job.work_uwu for job in world.jobs),
                "days": [price._asdict() for price in day_prices(month)],
                "posted_micros_per_wu": [quarter.posted_micros_per_wu for quarter in month.quarters],
                "owners": [_plain(row) for row in owners],
                "limiters": [_plain(rows[step]) for step in steps],
                "pictures": [str(path) for path in pictures],
            }
        )
        return
    _print_month(world, month, rows[chosen], currency=options["currency"])
    _print_owners(owners, currency=options["currency"])
    _print_limiters([rows[step] for step in steps], chosen=chosen, currency=options["currency"])
    for path in pictures:
        click.echo(f"drawn: {path}")


def _number(value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("nan is no number")
    return value


def _currency(value: str) -> str:
    if not re.fullmatch("[A-Z]{3}", value):
        raise click.BadParameter(f"{value!r} is no currency's code, such as EUR")
    return value


def _print_month(world: "World", month: "Month", row: "Figures", *, currency: str) -> None:
    from pool_server.simulate.market.figures import day_prices

    wanted = sum(job.work_uwu for job in world.jobs)
    click.echo(f"Posted price by day, micro-{currency} per WU (limiter {_limiter(month.step_ppm)}):")
    print_table(
        ["day", "", "min", "median", "max"],
        [[str(p.day), p.weekday, str(p.min), str(p.median), str(p.max)] for p in day_prices(month)],
    )
    click.echo()
    print_pairs(
        [
            ("price, median", f"{row.price_p50} micro-{currency} per WU"),
            ("step, median and p95", f"{_percent(row.step_p50)}, {_percent(row.step_p95)} in a quarter hour"),
            (
                "surplus",
                f"{money(row.gain_micros, currency)}, {_percent(row.gain_kept)} of that without a limiter",
            ),
            ("work done", f"{_million_wu(row.work_uwu)} of {_million_wu(wanted)} handed in"),
            (
                "willing work queued",
                f"{_percent(row.queued_share)} (counted in each quarter hour that it waits)",
            ),
            ("willing cars idle", f"{_percent(row.idle_share)} of their time"),
            ("wait until work begins", _times(row.wait_minutes_p50, row.wait_minutes_p95)),
            ("wait until it is done", _times(row.done_minutes_p50, row.done_minutes_p95)),
            ("jobs finished", f"{row.jobs_finished} of {row.jobs}"),
            ("deadlines met", f"{_met(row)} of {row.deadlines}"),
            (
                "those missed",
                f"{_percent(row.missed_outbid_share)} capped below the price most of their time",
            ),
        ]
    )
    click.echo()


def _print_owners(owners: "list[OwnersFigures]", *, currency: str) -> None:
    click.echo(f"Owners' net of fee and electricity, {currency}, by hour of charging and in the month:")
    print_table(
        ["computer", "cars", "charging h", "computing", *_PER_HOUR, *_IN_ALL, "losing"],
        [
            [
                row.computer,
                str(row.vehicles),
                str(row.charging_h_p50),
                _percent(row.computing_share),
                *(f"{net / 1e6:.4f}" for net in row.net_per_charging_hour),
                *(f"{net / 1e6:.2f}" for net in row.net_in_all),
                str(row.losing),
            ]
            for row in owners
        ],
    )
    click.echo()


def _print_limiters(rows: "list[Figures]", *, chosen: int, currency: str) -> None:
    click.echo("The same month under other limiters:")
    print_table(
        [
            *(
                "limiter",
                "p95 step",
                "surplus kept",
                "queued",
                "idle",
                "wait p50",
                "wait p95",
                "deadlines met",
            ),
            "owners' net",
        ],
        [
            [
                _limiter(row.step_ppm) + (" *" if row.step_ppm == chosen else ""),
                _percent(row.step_p95),
                _percent(row.gain_kept),
                _percent(row.queued_share),
                _percent(row.idle_share),
                _time(row.wait_minutes_p50),
                _time(row.wait_minutes_p95),
                _met(row),
                f"{row.net_per_charging_hour.p50 / 1e6:.4f} {currency}/h",
            ]
            for row in rows
        ],
    )
    if any(row.step_ppm is not None and row.step_p95 * PPM > row.step_ppm for row in rows):
        click.echo("A step is at least 1 micro, which is a larger share of a low price.")


def _prepare_pictures(folder: Path) -> None:
    """Make the folder, and tell before the simulation when nothing could be drawn.

    Raises:
        PoolError: INVALID_STATE without matplotlib; INVALID_ARGUMENT when the folder cannot be made.
    """
    if find_spec("matplotlib") is None:
        raise PoolError(
            ErrorCode.INVALID_STATE,
            "pictures need matplotlib, which is not installed",
            advice="pip install 'chargepool[plots]', or leave --plots out.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"the folder {folder} cannot be made: {error.strerror}",
            advice="Give --plots a folder that you may write to.",
        ) from error


def _draw(world: "World", month: "Month", folder: Path, currency: str) -> list[Path]:
    from pool_server.simulate.market.plots import draw

    return draw(world, month, folder=folder, currency=currency)


def _bar() -> Callable[[str], Callable[[float], None]]:
    """Return what makes a progress bar with a label: on a terminal, and nothing elsewhere."""
    from pool_protocol.system import SystemClock

    clock, told_at_ns, shows = SystemClock(), 0, sys.stderr.isatty()

    def labelled(label: str) -> Callable[[float], None]:
        def tell(share: float) -> None:
            nonlocal told_at_ns
            now_ns = clock.monotonic_ns() if shows else 0
            if not shows or (label and now_ns - told_at_ns < _TELL_EVERY_NS):
                return
            told_at_ns = now_ns
            done = int(share * _BAR_CELLS)
            bar = f"{label:<13} [{'#' * done}{'.' * (_BAR_CELLS - done)}] {share:4.0%}" if label else ""
            click.echo(f"\r\033[K{bar}\r", err=True, nl=False)

        return tell

    return labelled


def _plain_settings(options: dict[str, Any]) -> dict[str, Any]:
    names = (
        "days",
        "vehicles",
        "buyers",
        "demand",
        "impatient",
        "higher_bids_first",
        "seed",
        "step_ppm",
        "fee_ppm",
        "currency",
    )
    return {**{name: options[name] for name in names}, "tariff": options["tariff_text"]}


def _plain(row: "Figures | OwnersFigures") -> dict[str, Any]:
    return {
        name: value._asdict() if hasattr(value, "_asdict") else value
        for name, value in ((field.name, getattr(row, field.name)) for field in fields(row))
    }


def _limiter(step_ppm: int | None) -> str:
    return "none" if step_ppm is None else f"{step_ppm / 10_000:g} %"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _met(row: "Figures") -> str:
    return _percent(row.deadlines_met_share) if row.deadlines else "-"


def _million_wu(work_uwu: int) -> str:
    return f"{work_uwu / 1e12:,.1f} million WU"


def _time(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min" if hours else f"{rest} min"


def _times(median_minutes: int, p95_minutes: int) -> str:
    return f"median {_time(median_minutes)}, p95 {_time(p95_minutes)}"

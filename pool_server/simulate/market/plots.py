"""Two pictures of a simulated month: the price with demand and supply, and what owners have of an hour.

Needs matplotlib, which is an extra (`plots`): this module is imported only by who is asked to draw.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import MICROS_PER_UNIT
from pool_server.simulate.market.figures import net_per_charging_hour, percentile
from pool_server.simulate.market.fleet import COMPUTERS, HOUR_S
from pool_server.simulate.market.month import Month, World
from pool_server.simulate.market.tariffs import DAYS, QUARTERS_PER_DAY, QUARTERS_PER_HOUR

PRICE_PICTURE = "market-price.png"
OWNERS_PICTURE = "market-owners.png"
_UWU_PER_MILLION_WU = 10**12
#: Colours that people who see few of them can tell apart (after Okabe and Ito).
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "figure.dpi": 110,
}


def draw(world: World, month: Month, *, folder: Path, currency: str) -> list[Path]:
    """Draw both pictures into a folder; return their paths.

    Raises:
        PoolError: INVALID_ARGUMENT when the folder cannot be written.
    """
    mpl.use("Agg")
    paths = [folder / PRICE_PICTURE, folder / OWNERS_PICTURE]
    with mpl.rc_context(_STYLE):
        pictures = [_price_picture(world, month), _owners_picture(world, month, currency)]
        try:
            for path, picture in zip(paths, pictures, strict=True):
                picture.savefig(path, metadata={"Software": None})
        except OSError as error:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                f"the pictures cannot be written to {folder}: {error.strerror}",
                advice="Give --plots a folder that you may write to.",
            ) from error
        finally:
            plt.close("all")
    return paths


def _price_picture(world: World, month: Month) -> Any:
    figure, (price, cars, line) = plt.subplots(
        3, 1, sharex=True, figsize=(12, 8.5), height_ratios=(5, 3, 2.2), layout="constrained"
    )
    quarters = month.quarters
    days = [number / QUARTERS_PER_DAY for number in range(len(quarters))]
    targets = [q.target_micros_per_wu for q in quarters]
    price.plot(days, targets, color=_ORANGE, lw=0.7, label="the auction's target")
    price.plot(
        days, [q.posted_micros_per_wu for q in quarters], color=_BLUE, lw=1.5, label=_posted_label(month)
    )
    # One auction may point to the moon; the picture is of the rest.
    highest = max(percentile(targets, 0.998), *(q.posted_micros_per_wu for q in quarters))
    price.set(ylim=(0, 1.2 * max(highest, 1)), ylabel="price, micros per WU")
    price.set_title(_title(world), loc="left")
    supply = [q.willing_ask_uwu * QUARTERS_PER_HOUR / _UWU_PER_MILLION_WU for q in quarters]
    done = [q.traded_uwu * QUARTERS_PER_HOUR / _UWU_PER_MILLION_WU for q in quarters]
    cars.fill_between(
        days, supply, color=_GREEN, alpha=0.35, lw=0, label="supply: what charging cars could do at the price"
    )
    cars.plot(days, done, color=_GREEN, lw=1.0, label="done")
    cars.set(ylim=(0, 1.3 * max([*supply, 1e-6])), ylabel="million WU per hour")
    waiting = [q.willing_bid_uwu / _UWU_PER_MILLION_WU for q in quarters]
    line.fill_between(days, waiting, color=_RED, lw=0, label="demand: work not yet done that bids the price")
    line.set(ylim=(0, 1.4 * max([*waiting, 1e-6])), ylabel="million WU", xlabel="day (grey: weekend)")
    for axes in (price, cars, line):
        _weeks(axes, len(quarters) // QUARTERS_PER_DAY)
        axes.legend(loc="upper left", ncols=2)
    return figure


def _title(world: World) -> str:
    settings = world.settings
    return (
        f"A simulated month of the market (synthetic): {settings.vehicles:,} cars, {settings.buyers} buyers, "
        f"{len(world.jobs):,} jobs, seed {settings.seed}"
    )


def _posted_label(month: Month) -> str:
    if month.step_ppm is None:
        return "posted price (no limiter)"
    return f"posted price (at most {month.step_ppm / 10_000:g} % a quarter hour)"


def _weeks(axes: Axes, days: int) -> None:
    """Mark weekends and name days."""
    axes.set_xlim(0, days)
    for day in range(days):
        if day % 7 >= 5:
            axes.axvspan(day, day + 1, color="#f1f1f1", lw=0, zorder=0)
    step = 1 if days <= 10 else 2 if days <= 31 else 7
    ticks = range(0, days, step)
    axes.set_xticks([day + 0.5 for day in ticks], [f"{DAYS[day % 7].title()}\n{day + 1}" for day in ticks])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")


def _owners_picture(world: World, month: Month, currency: str) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=(3, 2), layout="constrained")
    groups = [
        (computer.name, kind, places)
        for computer in COMPUTERS
        for kind, fixed in (("fixed tariff", True), ("tariff by time", False))
        if (
            places := [
                place
                for place, vehicle in enumerate(world.fleet)
                if vehicle.computer is computer and vehicle.tariff.is_fixed is fixed
            ]
        )
    ]
    _spreads(left, month, groups, currency)
    _where_it_goes(right, world, month, currency)
    return figure


def _spreads(axes: Axes, month: Month, groups: Sequence[tuple[str, str, list[int]]], currency: str) -> None:
    colours = {"fixed tariff": _BLUE, "tariff by time": _ORANGE}
    named: set[str] = set()
    top = 0.0
    for row, (_, kind, places) in enumerate(groups):
        nets = [net / MICROS_PER_UNIT for net in net_per_charging_hour(month, places)]
        low, middle, high = (percentile(nets, share) for share in (0.1, 0.5, 0.9))
        label = None if kind in named else kind
        named.add(kind)
        axes.plot([low, high], [row, row], color=colours[kind], lw=7, alpha=0.35, solid_capstyle="round")
        axes.plot(middle, row, "o", color=colours[kind], label=label)
        axes.annotate(f"{middle:.3f}", (high, row), xytext=(9, 0), textcoords="offset points", va="center")
        top = max(top, high)
    axes.set_yticks(range(len(groups)), [f"{name} ({len(places)})" for name, _, places in groups])
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, axes.get_xlim()[0]) - 0.02 * top, 1.15 * max(top, 1e-6))
    axes.axvline(0, color="black", lw=0.8)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"net of fee and electricity, {currency} per hour of charging")
    axes.set_title("Owners' net by computer (cars): median, 10 % to 90 %", loc="left")
    axes.legend(loc="upper right")


def _where_it_goes(axes: Axes, world: World, month: Month, currency: str) -> None:
    """Stack what an hour of charging brings: net, electricity, fee."""
    names = []
    for row, computer in enumerate(COMPUTERS):
        owners = [
            owner
            for owner, vehicle in zip(month.owners, world.fleet, strict=True)
            if vehicle.computer is computer
        ]
        hours = max(1e-9, sum(owner.charging_s for owner in owners) / HOUR_S)
        parts = (
            (sum(owner.net_micros for owner in owners), _GREEN, "net"),
            (sum(owner.electricity_micros for owner in owners), _RED, "electricity"),
            (sum(owner.fee_micros for owner in owners), _GREY, "the pool's fee"),
        )
        bottom = 0.0
        for micros, colour, label in parts:
            height = micros / MICROS_PER_UNIT / hours
            axes.bar(row, height, bottom=bottom, color=colour, width=0.6, label=label if row == 0 else None)
            bottom += height
        names.append(computer.name.replace(", ", ",\n"))
    axes.set_xticks(range(len(names)), names)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(f"{currency} per hour of charging")
    axes.set_title("What buyers' pay goes to (mean)", loc="left")
    axes.legend(loc="upper left")

"""`chargepool price`: what a work unit costs now, and what it cost before."""

import functools
import math
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeAlias, TypeVar, cast

import click

from chargepool._prices import MarketPrice, PriceEpoch
from chargepool.cli._connection import Connection, connection_options, emit, json_option
from pool_protocol import amounts
from pool_protocol.money import AMOUNT_MICROS_MAX

#: A day of quarter hours.
HISTORY_DEFAULT = 96

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
PriceWords: TypeAlias = dict[str, Any]
_Command = TypeVar("_Command", bound=Callable[..., Any])


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A span of time such as 90s, 30m, 6h or 2d; plain numbers are seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        number, unit = (text[:-1], text[-1]) if text[-1:] in _SECONDS else (text, "s")
        try:
            seconds = float(number) * _SECONDS[unit]
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r} is no span of time: say 90s, 30m, 6h or 2d.", param, ctx)
        return seconds


def price_options(command: _Command) -> _Command:
    """Add what a buyer can say about the price; the command takes it as `price`, words of `Client.map`."""

    @functools.wraps(command)
    def with_price(
        *,
        price_cap_micros: int | None,
        price_start_micros: int | None,
        deadline_s: float | None,
        is_patient: bool,
        is_donated: bool,
        **options: Any,
    ) -> Any:
        words = {
            "price_cap_micros_per_wu": price_cap_micros,
            "price_start_micros_per_wu": price_start_micros,
            "deadline_s": deadline_s,
            "wait_for_price": is_patient or None,
            "donated": is_donated or None,
        }
        return command(price={name: word for name, word in words.items() if word is not None}, **options)

    decorated: Any = with_price
    for option in (
        click.option(
            "--donate",
            "is_donated",
            is_flag=True,
            help="Ask owners to compute for nothing; only cars without a reserve price do.",
        ),
        click.option(
            "--wait-for-price",
            "is_patient",
            is_flag=True,
            help="Open the job even while the price is above its cap; it waits for a lower one.",
        ),
        click.option(
            "--deadline",
            "deadline_s",
            type=Duration(),
            help="Stop what is undecided after so long: 90s, 30m, 6h, 2d.",
        ),
        click.option(
            "--price-start-micros",
            type=click.IntRange(1, AMOUNT_MICROS_MAX),
            help="With a cap and a deadline: bid this at first, and more as the deadline comes near.",
        ),
        click.option(
            "--price-cap-micros",
            type=click.IntRange(1, AMOUNT_MICROS_MAX),
            help="Pay the posted price, never more than this per work unit. Left out: the quote's price.",
        ),
    ):
        decorated = option(decorated)
    return cast("_Command", decorated)


@click.command(
    epilog="""\b
Examples:
  chargepool price
  chargepool price --history
  chargepool price --history --last 672 --json
"""
)
@click.option("--history", "with_history", is_flag=True, help="The auctions that moved it too, newest first.")
@click.option(
    "--last",
    type=click.IntRange(1, 2**63 - 1),
    default=HISTORY_DEFAULT,
    show_default=True,
    help="With --history: so many auctions.",
)
@connection_options
@json_option
def price(*, with_history: bool, last: int, connection: Connection, as_json: bool) -> None:
    """Show what a work unit costs now. A spot job pays it while its bid is no less; a quote keeps it."""
    with connection.connect() as client:
        now = client.price()
        epochs = list(islice(client.price_history(), last)) if with_history else []
    if as_json:
        emit(asdict(now) | ({"history": [asdict(epoch) for epoch in epochs]} if with_history else {}))
        return
    for line in _price_lines(now):
        click.echo(line)
    if with_history:
        click.echo(f"{'from':<17} {'price':>10} {'target':>10} {'bid WU':>16} {'asked WU':>16}")
        for epoch in epochs:
            click.echo(_epoch_line(epoch))


def _price_lines(now: MarketPrice) -> list[str]:
    lines = [f"{now.price_micros_per_wu} micro-{now.currency} per WU"]
    if now.is_fixed:
        lines.append("The operator has fixed it.")
        return lines
    lines.append(f"The next auction is due at {_time(now.next_epoch_us)}.")
    if now.last_epoch is not None:
        target = now.last_epoch.target_micros_per_wu
        if target != now.price_micros_per_wu:
            lines.append(f"It is on its way to {target}, by a step at most with each auction.")
    return lines


def _epoch_line(epoch: PriceEpoch) -> str:
    kept = "  fixed" if epoch.is_fixed else ""
    return (
        f"{_time(epoch.starts_at_us):<17} {epoch.price_micros_per_wu:>10} {epoch.target_micros_per_wu:>10} "
        f"{amounts.work(epoch.bid_uwu):>16} {amounts.work(epoch.ask_uwu):>16}{kept}"
    )


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, tz=UTC).strftime("%Y-%m-%d %H:%MZ")

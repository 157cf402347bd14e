"""`pool-server simulate`: the pool's own rules against simulated vehicles. Needs no pool."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import work_price_micros
from pool_server.cli.output import json_option, print_json, print_table
from pool_server.cli.simulate_market import market
from pool_server.core.verification import LEVELS, HistoryAuditRule, VerificationLevel
from pool_server.core.verification.deterrence import Deterrence, deterrence

if TYPE_CHECKING:
    from pool_server.simulate.verification.rows import Row

_LEVELS = [level.value for level, terms in LEVELS.items() if terms.epsilon is not None]
_TELL_EVERY_NS = 200_000_000
_WU = 1_000_000


@click.group()
def simulate() -> None:
    """Run the pool's own rules against simulated vehicles."""


simulate.add_command(market)


class _Count(click.ParamType["int"]):
    """A whole number that may be written 1e6."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = float(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not (number.is_integer() and 1 <= number <= 1e12):
            self.fail(f"{value!r} is not a whole number from 1 to 1e12", param, ctx)
        return int(number)


@simulate.command()
@click.option("--vehicles", type=_Count(), default=2_000, show_default=True, help="Vehicles in the pool.")
@click.option(
    "--units-per-vehicle",
    type=_Count(),
    default=10_000,
    show_default=True,
    help="Tasks that each vehicle does, for example 1e6.",
)
@click.option(
    "--faulty",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of vehicles that play the strategy; the others are honest.",
)
@click.option(
    "--level", type=click.Choice(_LEVELS), default="spot", show_default=True, help="Whose error target."
)
@click.option(
    "--strategy",
    "strategy_names",
    multiple=True,
    default=["all"],
    show_default=True,
    help="A name, all, or module:Class of your own. Repeat it for several.",
)
@click.option(
    "--policy",
    "policy_names",
    multiple=True,
    type=click.Choice(["chargepool", "boinc", "quorum2", "all"]),
    default=["all"],
    show_default=True,
    help="Whose rule; repeat it for several. The peers' are simulated for at most 10,000 units per vehicle.",
)
@click.option(
    "--assumed-faulty-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.2,
    show_default=True,
    help="f that the rule is sized for; 1 is safe for any fleet.",
)
@click.option(
    "--colluding-auditors",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of auditors that the rule assumes to be in league with the audited.",
)
@click.option(
    "--league",
    type=click.FloatRange(0, 1),
    default=None,
    help="Share of auditors that really are, for strategies in league.  [default: as --faulty]",
)
@click.option(
    "--contradictions",
    type=click.Choice(["pool", "owners"]),
    default="pool",
    show_default=True,
    help="Who settles results that contradict each other: the pool's own run of the task, or more owners.",
)
@click.option(
    "--price-micros-per-wu", type=_Count(), default=20, show_default=True, help="For the deterrence figures."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="The same seed gives the same figures.",
)
@json_option
def verification(**options: Any) -> None:
    """Show what every kind of cheat gets past verification, and what that costs.

    The audit rule is the one that the server runs. `error` counts wrong work that was accepted at once;
    look-backs revoke a part of it later. BOINC's adaptive replication and a quorum of two stand beside it.

    \b
    Examples:
      pool-server simulate verification --level standard --units-per-vehicle 1e5
      pool-server simulate verification --strategy sleeper --policy chargepool --policy boinc
      pool-server simulate verification --strategy my_cheats:Patient --json
    """  # noqa: D301 - click wants the character
    # NumPy and SciPy take a second to load: only this command pays for it.
    from pool_server.simulate.verification.contradictions import Contradictions
    from pool_server.simulate.verification.pool import Settings
    from pool_server.simulate.verification.rows import Policy, find_strategy, simulate
    from pool_server.simulate.verification.strategies import STRATEGIES

    level, vehicles, faulty = str(options["level"]), int(options["vehicles"]), float(options["faulty"])
    epsilon = LEVELS[VerificationLevel(level)].epsilon
    if epsilon is None or round(vehicles * faulty) >= vehicles:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            "at least one vehicle must be honest",
            advice="Give a smaller --faulty, or more --vehicles.",
        )
    rule = HistoryAuditRule(
        assumed_faulty_share=options["assumed_faulty_share"],
        colluding_auditor_share=options["colluding_auditors"],
    )
    settings = Settings(
        vehicles=vehicles,
        units_per_vehicle=options["units_per_vehicle"],
        faulty_share=faulty,
        epsilon=epsilon,
        rule=rule,
        league_share=faulty if options["league"] is None else options["league"],
        settled=Contradictions(options["contradictions"]),
        seed=options["seed"],
    )
    names = options["strategy_names"]
    policies = options["policy_names"]
    rows = simulate(
        settings,
        level=level,
        policies=list(Policy) if "all" in policies else [Policy(name) for name in policies],
        strategies=[find_strategy(name) for name in (STRATEGIES if "all" in names else names)],
        told=_teller(),
    )
    figures = [
        deterrence(
            rule,
            epsilon=epsilon,
            history_units=history,
            net_micros_per_unit=work_price_micros(_WU, options["price_micros_per_wu"]),
        )
        for history in _histories(settings.units_per_vehicle)
    ]
    if options["as_json"]:
        print_json(
            {
                "rows": [row.as_json() for row in rows],
                "deterrence": [{**asdict(item), "deters": item.deters} for item in figures],
                "seed": settings.seed,
            }
        )
        return
    _print_rows(rows)
    click.echo(f"\nError target {epsilon:g}; right results of honest vehicles rejected: {_rejected(rows)}.")
    _print_deterrence(figures)


def _rejected(rows: Sequence["Row"]) -> str:
    worst: dict[str, int] = {}
    for row in rows:
        worst[row.policy] = max(worst.get(row.policy, 0), row.honest_quarantined)
    return ", ".join(f"{policy} {count:,}" for policy, count in worst.items())


def _print_rows(rows: Sequence["Row"]) -> None:
    names = ("policy", "strategy", "error", "95 % from", "to", "/ eps", "after look-back", "overhead")
    print_table(
        [*names, "formula", "delay p50", "income"],
        [
            [
                row.policy,
                row.strategy,
                f"{row.error:.2e}",
                f"{row.error_ci95[0]:.2e}",
                f"{row.error_ci95[1]:.2e}",
                f"{row.error / row.eps:.2f}",
                f"{row.error_after_look_back:.2e}",
                f"{row.overhead:.4f}",
                f"{row.overhead_formula:.4f}",
                "-" if row.detection_delay_units_p50 is None else f"{row.detection_delay_units_p50:.0f}",
                f"{row.attacker_income_ratio:.3f}",
            ]
            for row in rows
        ],
    )


def _histories(units_per_vehicle: int) -> list[int]:
    return sorted({min(units_per_vehicle, 100), max(1, units_per_vehicle // 10), units_per_vehicle})


def _print_deterrence(deterrents: Sequence[Deterrence]) -> None:
    click.echo("\nWhat cheating costs, for tasks of 1 WU (money in millionths of the pool's currency):")
    names = ("history", "caught with p", "correct units per wrong one", "money per wrong one")
    print_table(
        [*names, "held units", "needed", "a lie pays"],
        [
            [
                str(item.history_units),
                f"{item.catch_probability:.4f}",
                f"{item.correct_units_per_wrong:.0f}",
                str(int(item.cost_of_wrong_micros)),
                str(item.lag_units),
                f"{item.escrow_needed_units:.1f}",
                "no" if item.deters else "yes",
            ]
            for item in deterrents
        ],
    )


def _teller() -> Callable[[str, float], None]:
    """Return a function that shows progress on a terminal, and nothing elsewhere."""
    from pool_protocol.system import SystemClock

    clock, told_at_ns, shows = SystemClock(), 0, sys.stderr.isatty()

    def tell(label: str, share: float) -> None:
        nonlocal told_at_ns
        now_ns = clock.monotonic_ns() if shows else 0
        if shows and now_ns - told_at_ns > _TELL_EVERY_NS:
            told_at_ns = now_ns
            click.echo(f"\r\033[K{label} {share:4.0%}\r", err=True, nl=False)

    return tell

"""The demo from its first process to its last figure."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chargepool.demo.accounting import Books, settle_and_check
from chargepool.demo.cast import Part, cast
from chargepool.demo.console import Console
from chargepool.demo.digits import load_digits
from chargepool.demo.director import AGENT_KILL_AT, SERVER_KILLS_AT, Chaos, Director, Scene
from chargepool.demo.job import LEVELS, JobOutcome, check_results, pool_roots, run_job
from chargepool.demo.processes import DemoFailed, Household
from chargepool.demo.progress import Progress
from chargepool.demo.report import print_books
from chargepool.demo.screen import Dashboard
from chargepool.demo.world import World, build_world, fresh_directory, remove, start_agents
from pool_protocol.keys import TrustedKeys
from pool_protocol.roots import Role, open_first_root, open_root_chain
from pool_protocol.system import SystemClock

ACCURACY_MIN = 0.95
JOB_LIMIT_S = 420.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for on the command line."""

    seed: int
    chaos: bool
    tui: bool
    keep: bool
    data: Path | None


class BuyersJob(threading.Thread):
    """The buyer's script, beside the director."""

    def __init__(self, world: World, seed: int, progress: Progress) -> None:
        """Runs as a daemon: a failed demo does not wait for it."""
        super().__init__(name="buyer", daemon=True)
        self.world, self.seed, self.progress = world, seed, progress
        self.outcome: JobOutcome | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.outcome = run_job(self.world, load_digits(self.seed), self.seed, self.progress)
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self.error = error


def play(options: Options, console: Console) -> dict[str, Any]:
    """Plays the demo and returns its figures.

    Raises:
        DemoFailed: something that the demo promises does not hold.
    """
    directory = fresh_directory(options.data)
    console.say(f"seed {options.seed}; data and logs in {directory}")
    failed = True
    try:
        figures = with_processes(directory, options, console)
        failed = False
    finally:
        if failed or options.keep or options.data is not None:
            console.line(f"data, logs and books are kept in {directory}")
            console.line(f"  to look into the books: pool-server run --data {directory}/pool, and beside it")
            console.line(f"  pool-server --data {directory}/pool ledger check")
        else:
            remove(directory)
    return figures


def with_processes(directory: Path, options: Options, console: Console) -> dict[str, Any]:
    """The part that has processes; none is left when it returns or raises."""
    cars = cast(options.seed)
    with Household() as household:
        world = build_world(directory, household, cars, say=console.say)
        start_agents(world, household)
        console.say("six agents run; each computes only while its car charges")
        dashboard = Dashboard(world, world.cars[0], console)
        dashboard.offer()
        if options.tui:
            dashboard.open()
        progress = Progress()
        job = BuyersJob(world, options.seed, progress)
        agent = world.cars[1].agent
        if agent is None:
            raise DemoFailed("no agent was started")
        director = Director(
            world=world,
            household=household,
            progress=progress,
            say=console.say,
            chaos=Chaos(server=world.server, agent=agent) if options.chaos else None,
            limit_s=JOB_LIMIT_S,
            on_tick=lambda: watch(console, progress, dashboard),
        )
        try:
            job.start()
            scene = director.run(job)
            console.end_progress()
            if job.error is not None or job.outcome is None:
                raise DemoFailed(f"the buyer's script failed: {job.error!r}") from job.error
            outcome = job.outcome
            wrong = check_results(outcome, say=console.say, on_each=dashboard.tick)
            books = settle_and_check(world, *receipt_keys(world), say=console.say)
            dashboard.wait()
        finally:
            dashboard.close()
            console.release()
    console.say("all processes have ended")
    print_books(console, books, outcome)
    figures = figures_of(
        options=options,
        outcome=outcome,
        books=books,
        scene=scene,
        chaos=director.chaos,
        wrong=wrong,
        elapsed_s=console.elapsed_s,
    )
    require(figures, books, outcome, options)
    return figures


def receipt_keys(world: World) -> tuple[TrustedKeys, str]:
    """The keys that may sign receipts, by the pool's chain of roots, and the pool's id."""
    pool_id, roots = pool_roots(world)
    now_us = SystemClock().now_us()
    trusted = open_root_chain(roots[1:], open_first_root(roots[0], now_us=now_us), now_us=now_us)
    return trusted.keys_for(Role.RECEIPT), pool_id


def watch(console: Console, progress: Progress, dashboard: Dashboard) -> None:
    """One look at keys and progress."""
    dashboard.tick()
    console.progress(progress.stage, progress.tasks_done, progress.tasks_total)


def figures_of(
    *,
    options: Options,
    outcome: JobOutcome,
    books: Books,
    scene: Scene,
    chaos: Chaos | None,
    wrong: int,
    elapsed_s: float,
) -> dict[str, Any]:
    """What the last line says."""
    liar = next(car for car in books.cars if car.part is Part.LIAR)
    left = next(car for car in books.cars if car.part is Part.UNPLUGGED)
    return {
        "accuracy": round(outcome.accuracy, 4),
        "tasks": outcome.tasks,
        "attempts": outcome.attempts,
        "levels": LEVELS,
        "liar_quarantined": liar.state == "quarantined",
        "liar_rejected": liar.rejected,
        "liar_net_micros": liar.net_micros,
        "liar_verified": liar.verified,
        "liar_results_looked_back": books.liar_looked_back,
        "wrong_results_accepted": wrong,
        "receipts_verified": books.receipts_verified,
        "ledger_ok": books.ledger_ok,
        "ledger_checks": books.ledger_checks,
        "ledger_sum_micros": books.ledger_sum_micros,
        "owners_net_micros": sum(car.net_micros for car in books.cars),
        "payout_total_micros": books.payout_total_micros,
        "payout_rows": books.payout_rows,
        "buyer_spent_micros": outcome.spent_micros,
        "unplug_to_stop_ms": round(scene.stop_ms, 1),
        "abandoned_attempts": left.abandoned,
        "server_kills": chaos.server_kills if chaos else 0,
        "agent_kills": chaos.agent_kills if chaos else 0,
        "seed": options.seed,
        "elapsed_s": round(elapsed_s, 1),
    }


def require(figures: dict[str, Any], books: Books, outcome: JobOutcome, options: Options) -> None:
    """Holds the figures against what the demo promises.

    Raises:
        DemoFailed: with every promise that does not hold.
    """
    broken = list(books.problems) + list(outcome.problems)
    promises = {
        f"accuracy is at least {ACCURACY_MIN}": figures["accuracy"] >= ACCURACY_MIN,
        "no wrong result was accepted": figures["wrong_results_accepted"] == 0,
        "the liar was caught": figures["liar_quarantined"] and figures["liar_rejected"] > 0,
        "the liar's story is told": any("quarantine" in line for line in books.liar_story),
        "receipts were verified": figures["receipts_verified"] > 0,
        "the books balance": figures["ledger_ok"] and figures["ledger_sum_micros"] == 0,
        "somebody was paid": figures["payout_total_micros"] > 0 and figures["payout_rows"] > 0,
        "the unplugged car stopped": figures["unplug_to_stop_ms"] >= 0,
        "its work was given up and done by others": figures["abandoned_attempts"] > 0,
    }
    if options.chaos:
        promises["the server was killed three times"] = figures["server_kills"] == len(SERVER_KILLS_AT)
        promises[f"an agent was killed at {AGENT_KILL_AT:.0%}"] = figures["agent_kills"] == 1
    broken += [f"it does not hold that {text}" for text, holds in promises.items() if not holds]
    if broken:
        raise DemoFailed("; ".join(broken))

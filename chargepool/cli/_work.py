"""`chargepool quote` and `run`: what a function costs, and what it gives."""

import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np

from chargepool._client import Client
from chargepool._comparators import Comparator, exact
from chargepool._errors import ChargepoolError
from chargepool._numerics import NumericsWarning
from chargepool._opening import numerics_objection
from chargepool._program import Program
from chargepool._terms import with_margin
from chargepool._values import LEVELS, Level, Quote
from chargepool.cli._comparing import comparator_options, words_of
from chargepool.cli._connection import Connection, connection_options, emit, json_option, say
from chargepool.cli._files import (
    CertificateSpec,
    FunctionSource,
    FunctionSpec,
    Inputs,
    ResultSink,
    as_pair,
    read_constants,
)
from chargepool.cli._price import PriceWords, price_options
from pool_protocol import amounts
from pool_protocol.limits import TASKS_PER_JOB_MAX
from pool_protocol.money import AMOUNT_MICROS_MAX

if TYPE_CHECKING:
    from chargepool._admission import CertificateLike

_FILE = click.Path(path_type=Path, dir_okay=False)
_level_option = click.option(
    "--level", type=click.Choice(LEVELS), default="standard", show_default=True, help="How much verification."
)
_steps_option = click.option(
    "--steps", type=click.IntRange(1, 2**31 - 1), help="Steps per task, for step functions."
)
constants_option = click.option("--constants", type=_FILE, help="Arrays that all tasks share (.npz).")
unit_steps_option = click.option(
    "--unit-steps",
    type=click.IntRange(1, 2**31 - 1),
    help="The function is a step(state, inputs, constants); so many steps make a unit.",
)


@click.command(
    epilog="""\b
Examples:
  chargepool quote sweep.py:simulate --inputs points.npz
  chargepool quote sweep.py:simulate --tasks 100000 --level careful --json
"""
)
@click.argument("source", type=FunctionSpec(), metavar="FILE.py:FUNCTION")
@click.option("--inputs", type=_FILE, help="Inputs (.npz, .npy, .jsonl): their number and the example.")
@click.option(
    "--tasks",
    type=click.IntRange(1, TASKS_PER_JOB_MAX),
    help="How many tasks; the number of inputs otherwise.",
)
@constants_option
@_level_option
@_steps_option
@comparator_options
@unit_steps_option
@connection_options
@json_option
def quote(
    *,
    source: FunctionSource,
    inputs: Path | None,
    tasks: int | None,
    constants: Path | None,
    level: str,
    steps: int | None,
    comparator: Comparator | None,
    unit_steps: int | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Say what a function would cost on the pool. Spends nothing; only the lowered program is uploaded.

    The price offered binds the pool for some minutes: `run` pays it. Besides, an estimate that binds nobody:
    where the spot price may go, how long the job takes, its energy and CO2, and what each level of
    verification costs.

    The example of one task's input is the first one in --inputs, or a variable `example` in FILE.py.
    """
    items = None if inputs is None else Inputs(inputs)
    count = tasks if tasks is not None else (len(items) if items is not None else 1)
    with connection.connect() as client:
        ready = load_program(
            client, source, items, constants=constants, comparator=comparator, unit_steps=unit_steps
        )
        offer = client.quote(ready, count, level=cast("Level", level), steps=steps)
    if as_json:
        emit(_quote_json(offer))
        return
    click.echo(str(ready))
    click.echo(str(offer))
    for line in _quote_lines(offer):
        click.echo(line)
    if offer.promise:
        click.echo(offer.promise)
    if offer.epsilon:
        click.echo(
            f"Checks expected now: {offer.audit_overhead_now:.2f} per result "
            f"({offer.audit_overhead_newcomer:.2f} of a car without history). The pool pays them."
        )
    if offer.warning:
        say(f"Note: {offer.warning}")
    _note_numerics(ready, level=level, steps=steps, certified=False)
    click.echo(f"You have {amounts.amount(offer.available_micros, offer.currency)} free.")


@click.command(
    epilog="""\b
Examples:
  chargepool run sweep.py:simulate --inputs points.npz --output results.npz
  chargepool run sweep.py:simulate --inputs points.jsonl --yes > results.jsonl
  chargepool run model.py:classify --inputs x.npy --constants w.npz --close 1e-4 1e-5 -o y.npz
  chargepool run fit.py:fit --inputs d.npz --ulp 16 --compare hits=unordered -o fits.npz
  chargepool run sweep.py:simulate --inputs p.npz --price-cap-micros 30 --deadline 6h
"""
)
@click.argument("source", type=FunctionSpec(), metavar="FILE.py:FUNCTION")
@click.option("--inputs", type=_FILE, required=True, help="Inputs (.npz, .npy, .jsonl).")
@click.option("--output", "-o", type=_FILE, help="Results (.npz, .jsonl); JSON lines to stdout otherwise.")
@constants_option
@_level_option
@_steps_option
@comparator_options
@unit_steps_option
@click.option(
    "--budget-micros", type=click.IntRange(1, AMOUNT_MICROS_MAX), help="The most that the job may spend."
)
@price_options
@click.option(
    "--on-error",
    type=click.Choice(["raise", "return", "skip"]),
    default="raise",
    show_default=True,
    help="When a task fails for good: stop, write the error, or leave it out.",
)
@click.option(
    "--on-interrupt",
    type=click.Choice(["leave", "cancel"]),
    default="leave",
    show_default=True,
    help="What Ctrl-C does to the job.",
)
@click.option("--name", help="The job's name in lists.")
@click.option(
    "--certificate",
    type=CertificateSpec(),
    metavar="NAME|FILE.py:FUNCTION",
    help="A check that proves each result: freivalds and the like, or your verify(inputs, outputs, nonce).",
)
@click.option("--yes", "-y", "is_agreed", is_flag=True, help="Do not ask before money is reserved.")
@connection_options
def run(
    *,
    source: FunctionSource,
    inputs: Path,
    output: Path | None,
    constants: Path | None,
    level: str,
    steps: int | None,
    comparator: Comparator | None,
    unit_steps: int | None,
    budget_micros: int | None,
    price: PriceWords,
    on_error: str,
    on_interrupt: str,
    name: str | None,
    certificate: "CertificateLike | None",
    is_agreed: bool,
    connection: Connection,
) -> int:
    """Compute a function of every input and write the results.

    Shows the quote first and asks before any money is reserved, unless --yes or --budget-micros says how
    much.
    """
    items = Inputs(inputs)
    with connection.connect() as client:
        ready = load_program(
            client, source, items, constants=constants, comparator=comparator, unit_steps=unit_steps
        )
        offer = client.quote(
            ready,
            max(len(items), 1),
            level=cast("Level", level),
            steps=steps,
            certified=certificate is not None,
        )
        say(str(ready))
        say(str(offer))
        if offer.warning:
            say(f"Note: {offer.warning}")
        _note_numerics(ready, level=level, steps=steps, certified=certificate is not None)
        if not is_agreed and budget_micros is None and not price.get("donated"):
            _ask(offer)
        return run_map(
            client,
            ready,
            items,
            output,
            remembered={
                "source": source.spec,
                "inputs": str(inputs.resolve()),
                "inputs_sha256": items.fingerprint(),
                "output": None if output is None else str(output.resolve()),
                "constants": None if constants is None else str(constants.resolve()),
                "comparator": ready.comparator.to_json(),
                "unit_steps": unit_steps,
            },
            level=level,
            steps=steps,
            budget_micros=budget_micros,
            **price,
            on_error=on_error,
            on_interrupt=on_interrupt,
            name=name,
            certificate=certificate,
        )


def run_map(
    client: Client,
    program: Program,
    items: Inputs,
    output: Path | None,
    *,
    remembered: dict[str, Any] | None = None,
    **options: Any,
) -> int:
    """Run a map with results into a file; returns the exit status.

    Args:
        client: The connection.
        program: What to compute.
        items: The inputs.
        output: Where results go; None for standard output.
        remembered: What `job resume` must know to do the same again.
        **options: Of `Client.map`.
    """
    options = {name: value for name, value in options.items() if value is not None}
    items.are_pairs = program.is_step
    # Opened first: a file that cannot be written must not cost anything.
    with ResultSink(output) as sink:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericsWarning)  # it was said before, in the command's words
            results = client.map(program, items, progress=True, **options)
        if len(items) == 0:
            say("There are no inputs; nothing was spent.")
            return 0
        if remembered is not None:
            client.remember(results.job.id, remembered)
        with results:
            for result in results:
                sink.add(result)
    status = results.job.status()
    where = "" if output is None else f" in {output}"
    say(
        f"{sink.count - sink.failed_count} results{where}, {sink.failed_count + results.skipped} failed; "
        f"{results.job.id} cost {amounts.amount(status.spent_micros, results.job.currency)}."
    )
    return 1 if sink.failed_count else 0


def load_program(
    client: Client,
    source: FunctionSource,
    items: Inputs | None,
    *,
    constants: Path | None,
    comparator: Comparator | None,
    unit_steps: int | None,
) -> Program:
    """Have the function of a file admitted, as a map or, with `unit_steps`, as a step program."""
    example, shared = example_of(source, items), read_constants(constants, source)
    comparator = exact() if comparator is None else comparator
    with tracing(source, example, shared):
        if unit_steps is None:
            ready = client.program(source.function, example, constants=shared, comparator=comparator)
        else:
            state, inputs = state_and_inputs(example)
            ready = client.step_program(
                source.function, state, inputs, shared, unit_steps=unit_steps, comparator=comparator
            )
    if comparator.is_measured and ready.numerics is not None:
        say(str(ready.numerics))
    return ready


@contextmanager
def tracing(source: FunctionSource, example: Any, constants: Any) -> Iterator[None]:
    """Say where a buyer's own function fails, and on what, instead of showing ours above it."""
    try:
        yield
    except (ChargepoolError, click.ClickException):
        raise
    except Exception as error:
        where = ""
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == source.spec.rpartition(":")[0]:
                where = f", line {frame.lineno}"
        given = f"its inputs are {_shape_of(example)}"
        if constants is not None:
            given += f", its constants {_shape_of(constants)}"
        raise click.ClickException(
            f"{source.spec}{where} fails while it is traced: {type(error).__name__}: {error}; {given}"
        ) from error


def _shape_of(value: Any) -> str:
    """Describe the arrays that a function is given: names, element types, shapes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shape_of(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_shape_of(item) for item in value) + ")"
    if value is None:
        return "nothing"
    array = np.asarray(value)
    return f"{array.dtype}{list(array.shape)}"


def example_of(source: FunctionSource, items: Inputs | None) -> Any:
    """Return the example of one task's input: the first of the file, or what stands beside the function."""
    if items is not None and len(items) > 0:
        return next(iter(items))
    if source.example is None:
        raise click.UsageError("give --inputs FILE, or a variable `example` in the function's file")
    return source.example


def state_and_inputs(example: Any) -> tuple[Any, Any]:
    """Return the two parts of a step program's example."""
    pair = as_pair(example)
    if pair is None:
        raise click.UsageError('a step function\'s inputs are {"state": ..., "inputs": ...} in .jsonl')
    return pair


def _note_numerics(program: Program, *, level: str, steps: int | None, certified: bool) -> None:
    objection = numerics_objection(program, level=level, steps=steps or 0, certified=certified)
    if objection is None or program.numerics is None:
        return
    wanted = program.numerics.proposal.comparator
    say(f"Note: {objection}" + ("" if wanted is None else f" Say {words_of(wanted)}"))


def _ask(offer: Quote) -> None:
    most = min(with_margin(offer.total_micros, offer.cost_micros_per_task), offer.available_micros)
    question = (
        f"Reserve up to {amounts.amount(most, offer.currency)} (what is not spent comes back) and start?"
    )
    if not sys.stdin.isatty():
        raise click.UsageError("money would be reserved: say --yes, or how much with --budget-micros")
    click.confirm(question, abort=True, err=True)


def _quote_lines(offer: Quote) -> list[str]:
    work = (
        f"Work: {amounts.work(offer.work_uwu_total)} WU, {amounts.work(offer.work_uwu_per_task)} WU per task."
    )
    lines = [work]
    if offer.levels:
        lines.append(
            "Per task: "
            + ", ".join(
                f"{level.level} {amounts.amount(level.cost_micros_per_task)}"
                + (f" (error {level.epsilon:g})" if level.epsilon else "")
                for level in offer.levels
            )
            + f" {offer.currency}."
        )
    if offer.estimate is not None:
        lines += offer.estimate.lines(offer.currency)
    return lines


def _quote_json(offer: Quote) -> dict[str, Any]:
    return {
        "quote_id": offer.quote_id,
        "program_id": offer.program_sha256,
        "tasks": offer.tasks,
        "level": offer.level,
        "steps": offer.steps,
        "price_micros_per_wu": offer.price_micros_per_wu,
        "work_uwu_per_task": offer.work_uwu_per_task,
        "cost_micros_per_task": offer.cost_micros_per_task,
        "attempts_per_task": offer.attempts_per_task,
        "total_micros": offer.total_micros,
        "currency": offer.currency,
        "expires_at_us": offer.expires_at_us,
        "vehicles_now": offer.vehicles_now,
        "available_micros": offer.available_micros,
        "owners_now": offer.owners_now,
        "audit_overhead_now": offer.audit_overhead_now,
        "audit_overhead_newcomer": offer.audit_overhead_newcomer,
        "epsilon": offer.epsilon,
        "promise": offer.promise,
        "work_uwu_total": offer.work_uwu_total,
        "levels": [asdict(level) for level in offer.levels],
        "estimate": None if offer.estimate is None else asdict(offer.estimate),
    }

"""`chargepool program check`: is a function allowed, what does it cost, and how are its results compared?"""

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from chargepool._comparators import Comparator, exact
from chargepool._errors import ProgramRefused
from chargepool._numerics import NumericsReport, check_exported
from chargepool._records import Records, default_directory
from chargepool.cli._comparing import comparator_options, words_of
from chargepool.cli._connection import emit, json_option
from chargepool.cli._files import FunctionSource, FunctionSpec, Inputs, read_constants
from chargepool.cli._work import constants_option, example_of, state_and_inputs, unit_steps_option
from pool_protocol import amounts

if TYPE_CHECKING:
    from chargepool._export import Exported
    from pool_protocol.program.vetting import VettedProgram

#: Inputs that the numerics are checked on; more take more time, and rarely say more.
SAMPLES_MAX: Final = 3
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def program() -> None:
    """Look at functions before the pool does."""


@program.command(
    epilog="""\b
Examples:
  chargepool program check sweep.py:simulate --inputs points.npz
  chargepool program check fit.py:step --inputs starts.jsonl --unit-steps 10 --steps 200
  chargepool program check sweep.py:simulate --ulp 4     # will this comparator hold?
"""
)
@click.argument("source", type=FunctionSpec(), metavar="FILE.py:FUNCTION")
@click.option(
    "--inputs",
    type=_FILE,
    help=f"Inputs (.npz, .npy, .jsonl): the first is the example, the first {SAMPLES_MAX} are run.",
)
@constants_option
@unit_steps_option
@click.option(
    "--steps", type=click.IntRange(min=1), help="Steps of each run, for step functions; two units otherwise."
)
@comparator_options
@click.option(
    "--numerics/--no-numerics",
    "checks_numerics",
    default=True,
    help="Run it here under several numeric settings and propose a comparator (some seconds).  [default: do]",
)
@json_option
def check(
    *,
    source: FunctionSource,
    inputs: Path | None,
    constants: Path | None,
    unit_steps: int | None,
    steps: int | None,
    comparator: Comparator | None,
    checks_numerics: bool,
    as_json: bool,
) -> int:
    """Say whether a function can be a program, and how its results should be compared. Sends nothing.

    What it finds is remembered on this machine: `chargepool run` then says when a comparator will not hold.
    The status is 1 when the function is refused, when two runs of it differ, or when the comparator given
    here will not hold.
    """
    if comparator is not None and comparator.is_measured:
        comparator = None  # that is what it will print
    if steps is not None and unit_steps is None:
        raise click.UsageError("--steps is for step functions: say --unit-steps too")
    items = None if inputs is None else Inputs(inputs)
    try:
        exported = _export(source, example_of(source, items), constants, unit_steps)
        if comparator is not None:
            comparator.require_outputs([tensor.name for tensor in exported.program.draft.output_types])
    except ProgramRefused as error:
        _tell_refusal(error, as_json=as_json)
        return 1
    from pool_protocol.program.vetting import vet_program

    vetted = vet_program(exported.program.artifact, exported.program.draft)
    report = objection = None
    if checks_numerics:
        report = check_exported(exported, samples=_samples(source, items, unit_steps), steps=steps)
        Records(default_directory(os.environ)).remember_numerics(report)
        if comparator is not None:
            objection = report.objection(comparator)
    if as_json:
        emit(_vetted_json(exported, vetted) | _numerics_json(report, comparator, objection))
    else:
        _tell(exported, vetted)
        _tell_numerics(report, comparator, objection)
    return 1 if objection is not None or (report is not None and report.refusals) else 0


def _export(
    source: FunctionSource, example: Any, constants: Path | None, unit_steps: int | None
) -> "Exported":
    from chargepool._export import Exporter

    shared = read_constants(constants, source)
    if unit_steps is None:
        return Exporter().map_program(source.function, example, shared, exact(), lapack=False)
    state, inputs = state_and_inputs(example)
    return Exporter().step_program(
        source.function, state, inputs, shared, exact(), unit_steps=unit_steps, lapack=False
    )


def _samples(source: FunctionSource, items: Inputs | None, unit_steps: int | None) -> list[Any]:
    if items is not None and len(items) > 0:
        chosen = list(itertools.islice(items, SAMPLES_MAX))
    else:
        chosen = [source.example]
    return chosen if unit_steps is None else [state_and_inputs(item) for item in chosen]


# --- telling ------------------------------------------------------------------------------------


def _tell_refusal(error: ProgramRefused, *, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "allowed": False,
                "code": error.code.value,
                "message": error.detail,
                "next_step": error.next_step,
            }
        )
        return
    click.echo(f"Refused [{error.code.value}]: {error.detail}")
    click.echo(f"Next: {error.next_step}")


def _vetted_json(exported: "Exported", vetted: "VettedProgram") -> dict[str, Any]:
    draft = exported.program.draft
    return {
        "allowed": True,
        "program_id": draft.artifact_sha256,
        "artifact_bytes": len(exported.program.artifact),
        "work_uwu": vetted.cost.work_uwu,
        "arguments": [f"{item.group.value}/{_typed(item.tensor)}" for item in draft.arguments],
        "outputs": [_typed(item.tensor) for item in draft.outputs],
        "operations": dict(vetted.operations),
    }


def _numerics_json(
    report: NumericsReport | None, comparator: Comparator | None, objection: str | None
) -> dict[str, Any]:
    if report is None:
        return {}
    wanted = report.proposal.comparator
    return {
        "numerics": {
            **report.to_json(),
            "options": None if wanted is None else words_of(wanted),
            "declared": None if comparator is None else str(comparator),
            "objection": objection,
        }
    }


def _tell(exported: "Exported", vetted: "VettedProgram") -> None:
    draft = exported.program.draft
    click.echo(
        f"Allowed: {exported.name}, {len(exported.program.artifact)} bytes, {draft.artifact_sha256[:12]}"
    )
    unit = "step" if draft.unit_steps else "task"
    click.echo(f"About {amounts.work(vetted.cost.work_uwu)} WU per {unit}; the pool's own count decides.")
    for argument in draft.arguments:
        click.echo(f"  takes    {argument.group.value}/{_typed(argument.tensor)}")
    for result in draft.outputs:
        click.echo(f"  returns  {_typed(result.tensor)}")


def _tell_numerics(
    report: NumericsReport | None, comparator: Comparator | None, objection: str | None
) -> None:
    if report is None:
        return
    click.echo(str(report))
    proposal = report.proposal
    if proposal.comparator is not None:
        or_else = "" if proposal.alternative is None else f", or {words_of(proposal.alternative)}"
        click.echo(f"Say {words_of(proposal.comparator)}{or_else}")
    if objection is not None:
        click.echo(objection)
    elif comparator is not None:
        click.echo(f"Nothing that was seen speaks against {comparator}.")


def _typed(tensor: Any) -> str:
    return f"{tensor.name} {tensor.dtype}{list(tensor.shape)}"

"""The check of a program's numerics: how its results differ between settings, and what to declare for that.

`check` runs the program under the cars' profile twice, once more with its inputs rounded otherwise, and once
under each other setting; it measures and proposes. A report keeps what was measured; what follows from it is
worked out anew, by `_proposal`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from chargepool._comparators import Comparator
from chargepool._differences import Difference, OutputEvidence, measure_samples
from chargepool._errors import ChargepoolError, ProgramRefused
from chargepool._objection import objection
from chargepool._program import encode_task
from chargepool._proposal import ClassRule, OutputProposal, Proposal, Refusal, propose
from chargepool._settings import (
    OTHERS,
    PINNED,
    ROUNDED,
    TIMEOUT_S,
    Arrays,
    Outcome,
    Runs,
    RunSettings,
    Setting,
    Workload,
    run_settings,
)
from pool_protocol.errors import ErrorCode
from pool_protocol.numeric import Family, families_of
from pool_protocol.program.manifest import ProgramDraft

if TYPE_CHECKING:
    from chargepool._export import Exported

__all__ = [
    "ClassRule",
    "NumericsReport",
    "NumericsWarning",
    "OutputProposal",
    "Refusal",
    "check",
    "check_exported",
    "workload",
]

_FORMAT: Final = 1
_WHOM: Final = {
    ClassRule.SAME_CLASS: "within a numeric class",
    ClassRule.ANY_CLASS: "between any two cars",
}
_OTHER_RULE: Final = {
    ClassRule.SAME_CLASS: ClassRule.ANY_CLASS,
    ClassRule.ANY_CLASS: ClassRule.SAME_CLASS,
}
#: Units of a step program's task when nobody says how many steps it makes.
UNITS_BY_DEFAULT: Final = 2


class NumericsWarning(UserWarning):
    """A job was made with a comparator that will not hold, as a check of the program's numerics has shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericsReport:
    """What a check saw, and what it proposes. Made by `Program.check_numerics`; print it to read it."""

    program_id: str
    name: str
    jax_version: str
    settings: tuple[str, ...]
    """The settings tried, the cars' profile first."""
    skipped: Mapping[str, str]
    """Settings that could not be tried on this machine, and why."""
    samples: int
    """How many inputs were run; 0 when one was made up from the declared types."""
    steps: int
    """Steps of each run; 0 for map programs."""
    families: tuple[str, ...]
    """Families of operations that the program uses: cars whose digests of these agree may compare bits."""
    outputs: tuple[OutputEvidence, ...] = field(repr=False)
    """What was measured."""

    @property
    def proposal(self) -> Proposal:
        """What to declare, or why the program should not be sent as it is; with the reasons."""
        return propose(self.outputs, only_whole_numbers=self.families == (Family.INTEGER.value,))

    @property
    def comparator(self) -> Comparator:
        """The comparator to declare, for `Client.program`.

        Raises:
            ProgramRefused: Two runs under one setting differ, or two cuts of the same steps do.
        """
        proposal = self.proposal
        if proposal.comparator is None:
            first = proposal.refusals[0]
            raise ProgramRefused(
                first.reason,
                code=_code_of(self.outputs),
                next_step=first.next_step,
                context={"name": first.name},
            )
        return proposal.comparator

    @property
    def class_rule(self) -> ClassRule | None:
        """Whose results may be compared; None when the program is refused."""
        return self.proposal.class_rule

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Why the program should not be sent as it is; empty when nothing speaks against it."""
        return self.proposal.refusals

    def objection(self, comparator: Comparator) -> str | None:
        """Say why another comparator will not hold, or None when nothing that was seen speaks against it."""
        return objection(self.outputs, comparator, proposal=self.proposal)

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, what follows from it included; `from_json` reads them."""
        proposal = self.proposal
        return {
            "format": _FORMAT,
            "program_id": self.program_id,
            "name": self.name,
            "jax_version": self.jax_version,
            "settings": list(self.settings),
            "skipped": dict(self.skipped),
            "samples": self.samples,
            "steps": self.steps,
            "families": list(self.families),
            "outputs": [_output_json(output) for output in self.outputs],
            "proposal": {
                "comparator": None if proposal.comparator is None else str(proposal.comparator),
                "class_rule": None if proposal.class_rule is None else proposal.class_rule.value,
                "reason": proposal.reason,
                "alternative": None if proposal.alternative is None else str(proposal.alternative),
                "outputs": [
                    {"name": one.name, "comparator": str(one.comparator), "reason": one.reason}
                    for one in proposal.outputs
                ],
                "refusals": [
                    {"name": one.name, "reason": one.reason, "next_step": one.next_step}
                    for one in proposal.refusals
                ],
            },
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "NumericsReport":
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r} is not {_FORMAT}")
        return cls(
            program_id=str(content["program_id"]),
            name=str(content["name"]),
            jax_version=str(content["jax_version"]),
            settings=tuple(content["settings"]),
            skipped=dict(content["skipped"]),
            samples=int(content["samples"]),
            steps=int(content["steps"]),
            families=tuple(content["families"]),
            outputs=tuple(_output_of(item) for item in content["outputs"]),
        )


def workload(
    *,
    name: str,
    artifact: bytes,
    draft: ProgramDraft,
    operations: Iterable[str],
    samples: Iterable[Any],
    constants: Arrays,
    steps: int | None = None,
    timeout_s: float | None = None,
) -> Workload:
    """Return what a check runs; see `Program.check_numerics`.

    Args:
        name: The program's, for people.
        artifact: Its bytes.
        draft: What they are.
        operations: StableHLO operations in it.
        samples: Inputs of a few tasks, as `Client.map` takes them.
        constants: By their names; of those that are missing all are made up.
        steps: Of one task; None for two units of a step program.
        timeout_s: For each process; None for five minutes.

    Raises:
        InputRefused: A sample does not fit the program.
    """
    return Workload(
        name=name,
        artifact=artifact,
        draft=draft,
        operations=tuple(operations),
        samples=[encode_task(item, draft, where=f"sample {index}") for index, item in enumerate(samples)],
        constants=constants,
        steps=UNITS_BY_DEFAULT * draft.unit_steps if steps is None else steps,
        timeout_s=TIMEOUT_S if timeout_s is None else timeout_s,
    )


def check_exported(
    exported: "Exported", *, samples: Sequence[Any], steps: int | None = None
) -> NumericsReport:
    """Check a program that no pool has admitted yet. Loads JAX.

    Args:
        exported: The program.
        samples: Inputs of a few tasks; of those that are only types one is made up.
        steps: Of one task; None for two units of a step program.

    Raises:
        InputRefused: A sample does not fit the program.
        ProgramRefused: It fails on a sample.
    """
    import jax

    from pool_protocol.program.vetting import vet_program

    has_types = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(samples))
    program = exported.program
    return check(
        workload(
            name=exported.name,
            artifact=program.artifact,
            draft=program.draft,
            operations=vet_program(program.artifact, program.draft).operations,
            samples=() if has_types else samples,
            constants=exported.constants,
            steps=steps,
        )
    )


def check(
    work: Workload,
    *,
    others: Sequence[Setting] = OTHERS,
    run: RunSettings | None = None,
) -> NumericsReport:
    """Run a program under the cars' profile twice and under other settings, and measure.

    Args:
        work: The program, and what to run it on.
        others: The other settings.
        run: Runs them, in place of child processes.

    Raises:
        ProgramRefused: It fails under the cars' profile, or no other setting could be tried.
    """
    outcomes = (run or run_settings)(work, (PINNED, PINNED, ROUNDED, *others))
    first, again, rounded = (_required(outcome) for outcome in outcomes[:3])
    tried: dict[str, Runs] = {}
    skipped: dict[str, ChargepoolError] = {}
    for setting, outcome in zip(others, outcomes[3:], strict=True):
        if isinstance(outcome, Runs):
            tried[setting.name] = outcome
        else:
            skipped[setting.name] = outcome
    if not tried:
        raise next(iter(skipped.values()))
    tensors = [argument.tensor for argument in work.draft.arguments] + list(work.draft.output_types)
    families = families_of(work.operations, dtypes=[tensor.dtype for tensor in tensors])
    return NumericsReport(
        program_id=work.draft.artifact_sha256,
        name=work.name,
        jax_version=work.draft.jax_version,
        settings=(PINNED.name, *tried),
        skipped={name: error.detail for name, error in skipped.items()},
        samples=len(work.samples),
        steps=work.steps,
        families=tuple(sorted(family.value for family in families)),
        outputs=tuple(
            OutputEvidence(
                name=tensor.name,
                dtype=tensor.dtype,
                again=measure_samples(again.outputs, first.outputs, tensor.name),
                rounded=measure_samples(rounded.outputs, first.outputs, tensor.name),
                others={
                    setting: measure_samples(runs.outputs, first.outputs, tensor.name)
                    for setting, runs in tried.items()
                },
                cut=measure_samples(first.whole, first.outputs, tensor.name) if first.whole else None,
            )
            for tensor in work.draft.output_types
        ),
    )


def _required(outcome: Outcome) -> Runs:
    if isinstance(outcome, ChargepoolError):
        raise outcome
    return outcome


def _code_of(outputs: Sequence[OutputEvidence]) -> ErrorCode:
    if all(output.again.is_equal for output in outputs):
        return ErrorCode.PROGRAM_UNITS_DIFFER
    return ErrorCode.PROGRAM_NOT_REPRODUCIBLE


def _output_json(output: OutputEvidence) -> dict[str, Any]:
    return {
        "name": output.name,
        "dtype": output.dtype,
        "again": output.again.to_json(),
        "rounded": output.rounded.to_json(),
        "others": {name: seen.to_json() for name, seen in output.others.items()},
        "cut": None if output.cut is None else output.cut.to_json(),
    }


def _output_of(content: Mapping[str, Any]) -> OutputEvidence:
    cut = content["cut"]
    return OutputEvidence(
        name=str(content["name"]),
        dtype=str(content["dtype"]),
        again=Difference(**content["again"]),
        rounded=Difference(**content["rounded"]),
        others={name: Difference(**seen) for name, seen in content["others"].items()},
        cut=None if cut is None else Difference(**cut),
    )


def _lines(report: NumericsReport) -> list[str]:
    first, *others = report.settings
    several = "s" if report.samples > 1 else ""
    sampled = f"{report.samples} input{several}" if report.samples else "made-up inputs"
    steps = f", {report.steps} steps each" if report.steps else ""
    lines = [
        f"Tried on {sampled}{steps}: {first} twice and with inputs rounded otherwise; {', '.join(others)}."
    ]
    lines += [f"Not tried: {name}: {why}" for name, why in report.skipped.items()]
    proposal = report.proposal
    if proposal.comparator is None or proposal.class_rule is None:
        for refusal in proposal.refusals:
            lines += [f"Refused: {refusal.reason}", f"Next: {refusal.next_step}"]
        return lines
    lines.append(f"Declare {proposal.comparator}, compared {_WHOM[proposal.class_rule]}. {proposal.reason}")
    lines += [f"  {one.name}: {one.comparator}. {one.reason}" for one in proposal.outputs]
    if proposal.alternative is not None:
        other = _WHOM[_OTHER_RULE[proposal.class_rule]]
        lines.append(f"Or {proposal.alternative}, compared {other}.")
    if proposal.class_rule is ClassRule.SAME_CLASS:
        lines.append(
            f"Cars are of one class here when they compute these alike: {', '.join(report.families)}."
        )
    return lines

"""Whether two attempts returned the same thing: the comparator a job declares, and agreement groups.

Digests come first: equal digests agree under every comparator. Otherwise each output is compared by its own
rule, or by the job's where it has none; results agree when all their outputs do. `core.agreement_rules` says
what the rules exact, close, ulp and set make of NaN, infinities, zeros and integers.

`close` and `ulp` are not transitive, so a group is not a chain of neighbours. Attempts are taken in the order
of their ids; each joins the first group whose *anchor* (its lowest id) it agrees with, the anchor being the
reference, or founds a group of its own. The outcome depends on the set of attempts alone, not on who came
first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from pool_server.core.agreement_rules import ComparatorKind, Rule, arrays_agree
from pool_server.core.jobs import OutputSpec

__all__ = [
    "AgreementGroup",
    "Candidate",
    "Comparator",
    "ComparatorKind",
    "Rule",
    "Tensors",
    "agreement_groups",
    "agrees",
    "compare_ahead",
    "spec_mismatch",
    "tensors_agree",
]

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparator(Rule):
    """The comparator a job declares: a rule for all outputs, and rules of their own for some."""

    outputs: Mapping[str, Rule] = field(default_factory=dict, hash=False)
    """Rules of outputs, by name, that take the place of the job's."""

    @property
    def is_exact(self) -> bool:
        """True when the digest alone decides."""
        return all(rule.kind is ComparatorKind.EXACT for rule in (self, *self.outputs.values()))

    @property
    def compares_bits(self) -> bool:
        """True when some output must have equal bits, so that only machines that round alike may check it."""
        return any(
            rule.kind in {ComparatorKind.EXACT, ComparatorKind.SET} for rule in (self, *self.outputs.values())
        )

    def rule_of(self, name: str) -> Rule:
        """Return the rule that compares an output."""
        return self.outputs.get(name, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A result that waits for its verdict."""

    attempt_id: int
    owner_id: str
    output_digest: bytes
    """32 bytes, already checked against the outputs."""
    trusted: bool = False
    """Whether a trusted node returned it: the pool's own word."""


@dataclass(frozen=True, slots=True)
class AgreementGroup:
    """Results that agree with their anchor."""

    members: tuple[Candidate, ...]
    """In ascending order of attempt ids; the first is the anchor."""

    @property
    def anchor(self) -> Candidate:
        """The member whose outputs stand for the group."""
        return self.members[0]

    @property
    def trusted(self) -> bool:
        """Whether a trusted node is among the members."""
        return any(member.trusted for member in self.members)

    def owner_count(self) -> int:
        """Count the different owners in the group."""
        return len({member.owner_id for member in self.members})


def spec_mismatch(tensors: Tensors, specs: Sequence[OutputSpec]) -> str | None:
    """Say in one sentence how arrays differ from what the program returns; None when they fit."""
    expected = {spec.name: spec for spec in specs}
    if tensors.keys() != expected.keys():
        missing = sorted(expected.keys() - tensors.keys())
        extra = sorted(tensors.keys() - expected.keys())
        return f"outputs missing: {missing[:5]}, not asked for: {extra[:5]}"
    for name, spec in expected.items():
        array = tensors[name]
        if array.dtype.name != spec.dtype:
            return f"output {name!r} is {array.dtype.name}, the program returns {spec.dtype}"
        if array.shape != spec.shape:
            return f"output {name!r} has shape {list(array.shape)}, the program returns {list(spec.shape)}"
    return None


def tensors_agree(comparator: Comparator, tensors: Tensors, reference: Tensors) -> bool:
    """Compare arrays output by output; `reference` is b in |a - b| <= atol + rtol * |b|."""
    if tensors.keys() != reference.keys():
        return False
    return all(arrays_agree(comparator.rule_of(name), tensors[name], reference[name]) for name in reference)


def agreement_groups(
    comparator: Comparator,
    candidates: Sequence[Candidate],
    outputs_of: Callable[[int], Tensors],
) -> list[AgreementGroup]:
    """Partition results into agreement groups, in ascending order of their anchors.

    Args:
        comparator: The job's rule.
        candidates: Results of one task.
        outputs_of: Reads an attempt's arrays; called only where digests differ and do not decide alone.
    """
    if len({candidate.output_digest for candidate in candidates}) == 1:
        return [AgreementGroup(tuple(sorted(candidates, key=lambda item: item.attempt_id)))]
    groups: list[list[Candidate]] = []
    for candidate in sorted(candidates, key=lambda item: item.attempt_id):
        for group in groups:
            if agrees(comparator, candidate, group[0], outputs_of):
                group.append(candidate)
                break
        else:
            groups.append([candidate])
    return [AgreementGroup(tuple(group)) for group in groups]


def agrees(
    comparator: Comparator,
    candidate: Candidate,
    reference: Candidate,
    outputs_of: Callable[[int], Tensors],
) -> bool:
    """Say whether one result agrees with another that is the reference."""
    if candidate.output_digest == reference.output_digest:
        return True
    if comparator.is_exact:
        return False
    key = (comparator, candidate.output_digest, reference.output_digest)
    known = _COMPARED.get(key)
    if known is None:
        arrays, other = outputs_of(candidate.attempt_id), outputs_of(reference.attempt_id)
        known = _remember(key, answer=tensors_agree(comparator, arrays, other))
    return known


def compare_ahead(
    comparator: Comparator,
    one: tuple[bytes, Callable[[], Tensors]],
    other: tuple[bytes, Callable[[], Tensors]],
) -> None:
    """Compare two results both ways, so that `agrees` knows: large ones take seconds, which no writer has.

    Args:
        comparator: The job's rule.
        one: A digest that is known to be that of its arrays, and what reads them.
        other: The same of the other.
    """
    keys = ((comparator, one[0], other[0]), (comparator, other[0], one[0]))
    if comparator.is_exact or one[0] == other[0] or all(key in _COMPARED for key in keys):
        return
    arrays, others = one[1](), other[1]()
    _remember(keys[0], answer=tensors_agree(comparator, arrays, others))
    _remember(keys[1], answer=tensors_agree(comparator, others, arrays))


#: What was compared, by the rule and both digests, which say all about the arrays.
_COMPARED: dict[tuple[Comparator, bytes, bytes], bool] = {}
_COMPARED_MAX = 1 << 16


def _remember(key: tuple[Comparator, bytes, bytes], *, answer: bool) -> bool:
    if len(_COMPARED) >= _COMPARED_MAX:
        _COMPARED.clear()
    _COMPARED[key] = answer
    return answer

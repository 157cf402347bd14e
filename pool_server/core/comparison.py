"""Whether two attempts returned the same thing: the comparators `exact` and `close`, and agreement groups.

Shapes and element types come first, under every comparator. `exact` compares digests: equal bit patterns,
all NaN being one value, -0.0 and 0.0 being two. `close` compares floating-point and complex arrays
elementwise, |a - b| <= atol + rtol * |b|, with b the reference: NaN agrees with NaN only, an infinity with
the same infinity only, -0.0 agrees with 0.0; booleans and integers must be equal.

`close` is not transitive, so a group is not a chain of neighbours. Attempts are taken in the order of their
ids; each joins the first group whose *anchor* (its lowest id) it agrees with, the anchor being the reference,
or founds a group of its own. The outcome depends on the set of attempts alone, not on who came first.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.jobs import OutputSpec

Tensors = Mapping[str, NDArray[Any]]


@unique
class ComparatorKind(StrEnum):
    """Which rule compares two results."""

    EXACT = "exact"
    CLOSE = "close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparator:
    """The comparator a job declares."""

    kind: ComparatorKind = ComparatorKind.EXACT
    rtol: float = 0.0
    """Relative tolerance, used by CLOSE."""
    atol: float = 0.0
    """Absolute tolerance, used by CLOSE."""

    def __post_init__(self) -> None:
        for name, tolerance in (("rtol", self.rtol), ("atol", self.atol)):
            if not (math.isfinite(tolerance) and tolerance >= 0):
                raise PoolError(
                    ErrorCode.INVALID_ARGUMENT,
                    f"{name} must be finite and not negative, not {tolerance!r}",
                    context={"field": name},
                )


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
    """Compare arrays by a CLOSE comparator; `reference` is b in |a - b| <= atol + rtol * |b|."""
    if tensors.keys() != reference.keys():
        return False
    return all(_arrays_agree(comparator, tensors[name], reference[name]) for name in reference)


def _arrays_agree(comparator: Comparator, array: NDArray[Any], reference: NDArray[Any]) -> bool:
    if array.shape != reference.shape or array.dtype.name != reference.dtype.name:
        return False
    if array.dtype.kind in "biu":
        return bool(np.array_equal(array, reference))
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    a, b = array.astype(wide), reference.astype(wide)
    nan_a, nan_b = np.isnan(a), np.isnan(b)
    if not np.array_equal(nan_a, nan_b):
        return False
    finite = np.isfinite(a) & np.isfinite(b)
    # What is not finite on one side must be the very same value on the other.
    if not bool(np.all(finite | nan_a | (a == b))):
        return False
    a, b = a[finite], b[finite]
    with np.errstate(over="ignore"):
        # |a - b| may overflow to infinity, which is then rightly too far.
        distance = np.abs(a - b)
        allowed = comparator.atol + comparator.rtol * np.abs(b)
    return bool(np.all(distance <= allowed))


def agreement_groups(
    comparator: Comparator,
    candidates: Sequence[Candidate],
    outputs_of: Callable[[int], Tensors],
) -> list[AgreementGroup]:
    """Partition results into agreement groups, in ascending order of their anchors.

    Args:
        comparator: The job's rule.
        candidates: Results of one task.
        outputs_of: Reads an attempt's arrays; called only under CLOSE and only where digests differ.
    """
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
    if comparator.kind is ComparatorKind.EXACT:
        return False
    return tensors_agree(comparator, outputs_of(candidate.attempt_id), outputs_of(reference.attempt_id))

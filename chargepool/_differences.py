"""How far two runs of one program are apart, output by output: measured as the pool's comparators measure.

Only measures. What follows from the figures is decided in `_proposal`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pool_protocol.ulps import canonical_bytes, max_ulps, real_parts, sorted_rows, specials_alike

_FLOAT_MAX = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far one output of two runs is apart, over all samples: the worst of each figure."""

    numbers: int
    """How many were compared; a complex one counts as two."""
    differing: int = 0
    """How many have other bits; all NaN are the same bits."""
    ulps: int = 0
    """Representable values between two finite numbers, at most; 0 for whole numbers and booleans."""
    absolute: float = 0.0
    """Largest distance of two finite numbers."""
    scale: float = 0.0
    """Largest finite magnitude on either side."""
    scale_min: float = 0.0
    """The same of the sample where it was smallest, zeros left out."""
    finite: int = 0
    """How many are finite on both sides; 0 for whole numbers and booleans."""
    relative: float = 0.0
    """Largest distance as a share of the largest magnitude of its sample."""
    specials_alike: bool = True
    """Whether NaN and infinities stand in the same places."""
    same_rows: bool = True
    """Whether the rows along the first axis are the same, in whatever order."""

    @property
    def is_equal(self) -> bool:
        """True when all bits are the same."""
        return self.differing == 0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, which make it again as keyword arguments."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputEvidence:
    """What was seen of one output."""

    name: str
    dtype: str
    again: Difference
    """Between two processes under the profile of the cars."""
    rounded: Difference
    """Between inputs and their neighbours, under that profile: how much one rounding of each matters."""
    others: Mapping[str, Difference]
    """Between each other setting and that profile, by the setting's name."""
    cut: Difference | None = None
    """Between the same steps in one unit and in several; of step programs alone."""

    @property
    def is_whole(self) -> bool:
        """True for whole numbers and booleans, which have no tolerance."""
        return "float" not in self.dtype and "complex" not in self.dtype

    @property
    def says_nothing(self) -> bool:
        """True when it held NaN and infinities alone, of which all settings make the same."""
        return not self.is_whole and self.again.numbers > 0 and self.again.finite == 0

    @property
    def elsewhere(self) -> Difference:
        """The worst over all other settings."""
        return worst(self.others.values())

    @property
    def where(self) -> str:
        """The settings under which it differs, for a sentence."""
        return " and ".join(name for name, seen in self.others.items() if not seen.is_equal)

    def told(self, seen: Difference) -> str:
        """Say how far two runs are apart, as a verb and what belongs to it."""
        if self.is_whole or not seen.specials_alike or seen.same_rows:
            how = ", being the same rows in another order" if seen.same_rows else ""
            return f"differs in {seen.differing} of {seen.numbers} numbers{how}"
        return (
            f"differs in {seen.differing} of {seen.numbers} numbers, by up to {seen.ulps} representable "
            f"values ({seen.relative:.2g} of its largest value)"
        )


def measure(array: NDArray[Any], reference: NDArray[Any]) -> Difference:
    """Measure one output of two runs, which has the same shape and element type in both."""
    differing = _differing(array, reference)
    numbers = real_parts(reference).size
    same_rows = differing == 0 or sorted_rows(array) == sorted_rows(reference)
    if reference.dtype.kind in "biu":
        # Whole numbers have no tolerance: how far they are apart would decide nothing.
        return Difference(numbers=numbers, differing=differing, same_rows=same_rows)
    wide = np.complex128 if reference.dtype.kind == "c" else np.float64
    a, b = array.astype(wide).reshape(-1), reference.astype(wide).reshape(-1)
    finite = np.isfinite(a) & np.isfinite(b)
    with np.errstate(over="ignore"):
        distances, sizes = np.abs(a[finite] - b[finite]), np.maximum(np.abs(a[finite]), np.abs(b[finite]))
    absolute = min(float(distances.max(initial=0.0)), _FLOAT_MAX)
    scale = min(float(sizes.max(initial=0.0)), _FLOAT_MAX)
    return Difference(
        numbers=numbers,
        differing=differing,
        ulps=max_ulps(array, reference) if differing else 0,
        absolute=absolute,
        scale=scale,
        scale_min=scale,
        finite=int(np.count_nonzero(finite)),
        relative=absolute / scale if scale else 0.0,
        specials_alike=differing == 0 or specials_alike(array, reference),
        same_rows=same_rows,
    )


def worst(differences: Iterable[Difference]) -> Difference:
    """Return the worst of several, figure by figure."""
    several = tuple(differences)
    return Difference(
        numbers=max((one.numbers for one in several), default=0),
        differing=max((one.differing for one in several), default=0),
        ulps=max((one.ulps for one in several), default=0),
        absolute=max((one.absolute for one in several), default=0.0),
        scale=max((one.scale for one in several), default=0.0),
        scale_min=min((one.scale_min for one in several if one.scale_min), default=0.0),
        finite=max((one.finite for one in several), default=0),
        relative=max((one.relative for one in several), default=0.0),
        specials_alike=all(one.specials_alike for one in several),
        same_rows=all(one.same_rows for one in several),
    )


def measure_samples(
    runs: Iterable[Mapping[str, NDArray[Any]]], references: Iterable[Mapping[str, NDArray[Any]]], name: str
) -> Difference:
    """Measure one output over the samples of two runs: the worst of each figure, all numbers counted."""
    several = [
        measure(outputs[name], reference[name]) for outputs, reference in zip(runs, references, strict=True)
    ]
    return replace(
        worst(several),
        numbers=sum(one.numbers for one in several),
        differing=sum(one.differing for one in several),
    )


def _differing(array: NDArray[Any], reference: NDArray[Any]) -> int:
    content, expected = canonical_bytes(array), canonical_bytes(reference)
    if content == expected:
        return 0
    width = len(expected) // real_parts(reference).size
    a, b = (np.frombuffer(side, np.uint8).reshape(-1, width) for side in (content, expected))
    return int(np.count_nonzero((a != b).any(axis=1)))

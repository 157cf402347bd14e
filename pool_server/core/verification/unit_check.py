"""Claims of a step task checked one by one, where their bits prove nothing about each other. Pure.

Machines that round differently part in the first unit, and a chaotic program makes of that two end states
without likeness. Both may be right. So where a dispute comes down to a unit that bits cannot decide, each
claim is checked by itself: the pool's secret draws some of its units, and for each of them the referee starts
from the claim's *own* state before the unit and compares what comes out with the claim's own state after it,

    |x - x'| <= atol + rtol max|x|,

with the job's tolerance. Within one unit rounding has no time to grow; what is further off was not computed.

How many units. If a share s of a claim's units is wrong, n of them drawn at random all miss it with
probability (1 - s)^n at most, so n = ceil(ln(miss) / ln(1 - s)) units find it but with probability `miss`
(`UnitCheckRule`). A task of no more units has all of them checked. So has a claim of a class that may not
vouch for itself: what a vehicle says of its class is its own word, and must not spare it the bits.

Besides, the unit is checked in which the claims' bits part, and, if both still stand, the one in which they
part by more than the tolerance (`next_parting`). A claim that is wrong in a single unit, and goes on from it
honestly, is found by the draw with probability n / units (`found_probability`), but surely by the unit of
parting, as long as honest claims would not have parted before: chaos hides it, nothing else does.

What follows is `settle`. Not decided here: when claims are checked at all, and what an answer may take.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ulps import real_parts
from pool_server.core.agreement_rules import ComparatorKind, Rule, arrays_agree
from pool_server.core.comparison import Comparator, Tensors
from pool_server.core.lifecycle import Lifecycle

#: Units drawn of a claim of a class that may not vouch for itself: all, up to so many.
UNVOUCHED_UNITS_MAX = 64
#: Rules that leave room for rounding.
TOLERANT = frozenset({ComparatorKind.CLOSE, ComparatorKind.ULP})


@unique
class UnitCheckState(StrEnum):
    """Where the check of one unit of one claim is."""

    ASKING = "asking"
    REFEREEING = "refereeing"
    WITHIN = "within"
    OUTSIDE = "outside"
    UNSETTLED = "unsettled"


UNIT_CHECK_LIFECYCLE: Lifecycle[UnitCheckState] = Lifecycle(
    name="unit check",
    initial=UnitCheckState.ASKING,
    transitions={
        (UnitCheckState.ASKING, UnitCheckState.REFEREEING): "the states before and after the unit are here",
        (UnitCheckState.ASKING, UnitCheckState.UNSETTLED): "a state is not to be had",
        (UnitCheckState.REFEREEING, UnitCheckState.WITHIN): "the claim is within the job's tolerance",
        (UnitCheckState.REFEREEING, UnitCheckState.OUTSIDE): "the claim is outside of it",
        (UnitCheckState.REFEREEING, UnitCheckState.UNSETTLED): "the unit does not run, or proves nothing",
    },
)
_OPEN = frozenset({UnitCheckState.ASKING, UnitCheckState.REFEREEING})


# --- which units --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCheckRule:
    """How many units of a claim are drawn: so many that a claim wrong in a share of them is seldom missed."""

    wrong_share: float = 0.25
    """s, above 0 and below 1: share of units that are wrong."""
    miss_max: float = 0.1
    """How likely such a claim may be missed, above 0 and below 1."""

    def __post_init__(self) -> None:
        if not (0 < self.wrong_share < 1 and 0 < self.miss_max < 1):
            raise PoolError(ErrorCode.INVALID_ARGUMENT, "a share of the unit check rule is out of bounds")

    def units(self, unit_count: int, *, vouched: bool = True) -> int:
        """Return how many units of a task of so many are drawn: all where they are few.

        Args:
            unit_count: Units of the task.
            vouched: Whether the claim's class may vouch for itself, so that others of it hold it to its bits.
        """
        if not vouched:
            return min(unit_count, UNVOUCHED_UNITS_MAX)
        return min(unit_count, math.ceil(math.log(self.miss_max) / math.log1p(-self.wrong_share)))


def found_probability(*, unit_count: int, wrong: int, checked: int) -> float:
    """Return how likely drawn units hold one of the wrong ones: 1 - C(n - w, c) / C(n, c)."""
    return 1 - math.comb(unit_count - wrong, checked) / math.comb(unit_count, checked)


def drawn_units(numbers: Sequence[float], unit_count: int) -> tuple[int, ...]:
    """Return as many different units as there are numbers, in ascending order; every set is as likely.

    Args:
        numbers: From 0 to below 1, drawn in secret; no more than there are units.
        unit_count: Units of the task.
    """
    units = list(range(unit_count))
    for place, number in enumerate(numbers):
        other = place + int(number * (unit_count - place))
        units[place], units[other] = units[other], units[place]
    return tuple(sorted(units[: len(numbers)]))


def next_parting(unit_count: int, shown: Iterable[int], near: Callable[[int], bool]) -> int | None:
    """Return which unit two claims show next in search of the one in which they part beyond the tolerance.

    Bisection between the initial state, which they share, and the last one: about log2(units) units. Where
    claims come together again it finds one of the places where they part.

    Args:
        unit_count: Units of the task.
        shown: Units of which both have been checked.
        near: Whether the claims' states after a unit, shown or the last, are within the tolerance.

    Returns:
        None where it has been checked, or where they do not part.
    """
    agreed, parted, checked = -1, unit_count - 1, set(shown)
    if near(parted):
        return None
    while between := sorted(unit for unit in checked if agreed < unit < parted):
        middle = between[len(between) // 2]
        if near(middle):
            agreed = middle
        else:
            parted = middle
    if parted - agreed > 1:
        return (agreed + parted) // 2
    return None if parted in checked else parted


# --- what a re-run means ------------------------------------------------------------------------


@unique
class Fit(StrEnum):
    """How a claimed state compares with the referee's, whatever their classes."""

    WITHIN = "within"
    OUTSIDE = "outside"
    BITS_DIFFER = "bits_differ"
    """Within the tolerance where there is one; outputs without one have other bits."""


def has_tolerance(comparator: Comparator, names: Iterable[str]) -> bool:
    """Say whether the rule of some output leaves room for rounding."""
    return any(comparator.rule_of(name).kind in TOLERANT for name in names)


def unit_fit(comparator: Comparator, claimed: Tensors, rerun: Tensors) -> Fit:
    """Compare a claim's state after a unit with the referee's, which started from the claim's own before it.

    Args:
        comparator: The job's.
        claimed: What the claim says.
        rerun: What the referee computed: the x of max|x|.
    """
    if claimed.keys() != rerun.keys():
        return Fit.OUTSIDE
    fit = Fit.WITHIN
    for name, reference in rerun.items():
        rule = comparator.rule_of(name)
        if rule.kind in TOLERANT:
            if not _within(rule, claimed[name], reference):
                return Fit.OUTSIDE
        elif not arrays_agree(rule, claimed[name], reference):
            fit = Fit.BITS_DIFFER
    return fit


def _within(rule: Rule, array: NDArray[Any], reference: NDArray[Any]) -> bool:
    """Say whether an array is within a rule's tolerance of the reference, relative to the largest value.

    What agrees under the rule itself is within. As there, NaN fits NaN alone, an infinity the same one, and
    what is counted must be equal.
    """
    if array.shape != reference.shape or array.dtype.name != reference.dtype.name:
        return False
    if array.dtype.kind in "biu":
        return bool(np.array_equal(array, reference))
    if rule.kind is ComparatorKind.ULP:
        array, reference = real_parts(array), real_parts(reference)
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    a, b = array.astype(wide), reference.astype(wide)
    nan_a, nan_b = np.isnan(a), np.isnan(b)
    finite = np.isfinite(a) & np.isfinite(b)
    if not (np.array_equal(nan_a, nan_b) and bool(np.all(finite | nan_a | (a == b)))):
        return False
    a, b = a[finite], b[finite]
    with np.errstate(over="ignore"):
        # What overflows is rightly too far.
        distance = float(np.abs(a - b).max(initial=0.0))
        largest = float(np.abs(b).max(initial=0.0))
        if rule.kind is ComparatorKind.CLOSE:
            return distance <= rule.atol + rule.rtol * largest
    largest = max(largest, float(np.abs(a).max(initial=0.0)))
    return distance <= rule.ulps * _spacing(largest, reference.dtype)


def _spacing(value: float, dtype: np.dtype[Any]) -> float:
    """Return how far the representable values next to one are apart; of the largest of all, those below."""
    bits = np.array([value]).astype(dtype).view(f"u{dtype.itemsize}")
    above = float((bits + 1).view(dtype).astype(np.float64)[0])
    if math.isfinite(above):
        return above - value
    return value - float((bits - 1).view(dtype).astype(np.float64)[0])


def finding_of(fit: Fit, *, equal: bool, same_bits: bool) -> UnitCheckState:
    """Return what a re-run proves of a claim.

    Args:
        fit: How the states compare.
        equal: Whether their digests are equal.
        same_bits: Whether claim and referee are known to compute alike: then nothing but equal bits will do.
    """
    if equal:
        return UnitCheckState.WITHIN
    if same_bits or fit is Fit.OUTSIDE:
        return UnitCheckState.OUTSIDE
    return UnitCheckState.WITHIN if fit is Fit.WITHIN else UnitCheckState.UNSETTLED


# --- what follows -------------------------------------------------------------------------------


@unique
class Standing(StrEnum):
    """What the checks of a claim's units say of it."""

    OPEN = "open"
    STANDS = "stands"
    WRONG = "wrong"
    UNSETTLED = "unsettled"


def standing_of(states: Iterable[UnitCheckState]) -> Standing:
    """Return it: one unit outside is enough, and all must be within."""
    found = set(states)
    if UnitCheckState.OUTSIDE in found:
        return Standing.WRONG
    if not found or found & _OPEN:
        return Standing.OPEN
    return Standing.UNSETTLED if UnitCheckState.UNSETTLED in found else Standing.STANDS


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of two claims, by attempt."""

    wrong: tuple[int, ...] = ()
    upheld: int = 0
    """Which beats the other; 0 where none does."""
    set_aside: tuple[int, ...] = ()
    """Not proved wrong, but beaten: without pay and without blame."""
    both_stand: bool = False
    """They count as agreeing: whoever came first is believed, and both are paid."""


def settle(standings: Mapping[int, Standing]) -> Settlement | None:
    """Return what becomes of two claims; None while a check is open that matters."""
    if Standing.OPEN in standings.values():
        return None
    wrong = tuple(claim for claim, standing in standings.items() if standing is Standing.WRONG)
    standing_ones = [claim for claim, standing in standings.items() if standing is Standing.STANDS]
    if len(standing_ones) == len(standings):
        return Settlement(both_stand=True)
    if not standing_ones:
        return Settlement(wrong=wrong)
    beaten = tuple(claim for claim, standing in standings.items() if standing is Standing.UNSETTLED)
    return Settlement(wrong=wrong, upheld=standing_ones[0], set_aside=beaten)


def voices(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the digest that results count under in verdicts, where that is another than their own.

    Args:
        pairs: Output digests that were found to be right both, the earlier result's first.
    """
    leader: dict[bytes, bytes] = {}

    def lead(digest: bytes) -> bytes:
        while digest in leader:
            digest = leader[digest]
        return digest

    for first, second in pairs:
        one, other = lead(first), lead(second)
        if one != other:
            leader[other] = one
    return {digest: lead(digest) for digest in leader}

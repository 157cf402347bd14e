"""When two arrays agree: the rules exact, close, ulp and set, for one output at a time.

Shape and element type come first, under every rule. What each rule says of the odd values:

    rule    NaN           infinity          -0.0 and 0.0    integers, booleans
    exact   all are one   by bit pattern    differ          equal
    close   NaN alone     the same alone    agree           equal
    ulp     NaN alone     the same alone    agree, 0 apart  equal
    set     all are one   by bit pattern    differ          as a multiset of rows

`exact`, `ulp` and `set` are symmetric, `exact` and `set` transitive as well. `close` is neither, since it
measures by the reference; `ulp` is not transitive. Arrays with equal digests agree under every rule.
"""

import math
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ulps import ULPS_MAX, canonical_bytes, max_ulps, sorted_rows, specials_alike


@unique
class ComparatorKind(StrEnum):
    """Which rule compares two results."""

    EXACT = "exact"
    CLOSE = "close"
    ULP = "ulp"
    SET = "set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule with its bounds."""

    kind: ComparatorKind = ComparatorKind.EXACT
    rtol: float = 0.0
    """Relative tolerance, used by CLOSE."""
    atol: float = 0.0
    """Absolute tolerance, used by CLOSE."""
    ulps: int = 0
    """Largest distance in representable values, used by ULP."""

    def __post_init__(self) -> None:
        for name, tolerance in (("rtol", self.rtol), ("atol", self.atol)):
            if not (math.isfinite(tolerance) and tolerance >= 0):
                raise _invalid(name, f"{name} must be finite and not negative, not {tolerance!r}")
        least = 1 if self.kind is ComparatorKind.ULP else 0
        if not least <= self.ulps <= ULPS_MAX:
            raise _invalid("ulps", f"{self.kind.value} takes {least} to {ULPS_MAX} ulps, not {self.ulps}")


def _invalid(field: str, detail: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, detail, context={"field": field})


def arrays_agree(rule: Rule, array: NDArray[Any], reference: NDArray[Any]) -> bool:
    """Say whether an array agrees with the reference."""
    if array.shape != reference.shape or array.dtype.name != reference.dtype.name:
        return False
    match rule.kind:
        case ComparatorKind.EXACT:
            return canonical_bytes(array) == canonical_bytes(reference)
        case ComparatorKind.SET:
            return sorted_rows(array) == sorted_rows(reference)
        case ComparatorKind.CLOSE:
            if array.dtype.kind in "biu":
                return bool(np.array_equal(array, reference))
            return _close(rule, array, reference)
        case ComparatorKind.ULP:
            if array.dtype.kind in "biu":
                return bool(np.array_equal(array, reference))
            return specials_alike(array, reference) and max_ulps(array, reference) <= rule.ulps


def _close(rule: Rule, array: NDArray[Any], reference: NDArray[Any]) -> bool:
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
        allowed = rule.atol + rule.rtol * np.abs(b)
    return bool(np.all(distance <= allowed))

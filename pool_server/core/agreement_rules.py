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
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pool_protocol.errors import ErrorCode, PoolError

#: Most representable values that `ulp` may allow: 2**24 is a factor of four in float32, no rounding error.
ULPS_MAX: Final = 2**24

_UNSIGNED: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


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
            return _sorted_rows(array) == _sorted_rows(reference)
        case ComparatorKind.CLOSE:
            if array.dtype.kind in "biu":
                return bool(np.array_equal(array, reference))
            return _close(rule, array, reference)
        case ComparatorKind.ULP:
            if array.dtype.kind in "biu":
                return bool(np.array_equal(array, reference))
            return _special_alike(array, reference) and max_ulps(array, reference) <= rule.ulps


def canonical_bytes(array: NDArray[Any]) -> bytes:
    """Return an array's bit patterns, little-endian and row-major, every NaN replaced by the same one."""
    dense = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if dense.dtype.kind in "biu":
        return dense.tobytes()
    parts = _real_parts(dense)
    return np.where(np.isnan(parts), parts.dtype.type(np.nan), parts).tobytes()


def max_ulps(array: NDArray[Any], reference: NDArray[Any]) -> int:
    """Return how many representable values lie between two floating-point arrays, at most, at any element.

    Bit patterns of one sign are ordered as their values are, so within a sign the distance is that of the
    patterns without it; across zero the two distances to zero add up, -0.0 and 0.0 being 0 apart. Complex
    numbers count by their parts. Elements that are not finite on both sides are left out.
    """
    a, b = _real_parts(array), _real_parts(reference)
    finite = np.isfinite(a) & np.isfinite(b)
    (sign_a, size_a), (sign_b, size_b) = _sign_and_size(a[finite]), _sign_and_size(b[finite])
    within = np.maximum(size_a, size_b) - np.minimum(size_a, size_b)
    # Both sizes are below 2**63, their sum is below 2**64.
    distances = np.where(sign_a == sign_b, within, size_a + size_b)
    return int(distances.max(initial=0))


def _sign_and_size(values: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
    bits = np.ascontiguousarray(values).view(_UNSIGNED[values.dtype.itemsize]).astype(np.uint64)
    sign_bit = np.uint64(1 << (8 * values.dtype.itemsize - 1))
    return (bits & sign_bit) != 0, bits & (sign_bit - np.uint64(1))


def _real_parts(array: NDArray[Any]) -> NDArray[Any]:
    """Return the elements as a line of real numbers: of a complex number both parts, one by one."""
    line = np.ascontiguousarray(array).reshape(-1)
    return line.view(line.real.dtype) if line.dtype.kind == "c" else line


def _special_alike(array: NDArray[Any], reference: NDArray[Any]) -> bool:
    """Say whether NaN stands where NaN stands, and each infinity where the same one does."""
    a, b = _real_parts(array).astype(np.float64), _real_parts(reference).astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    return bool(np.all(finite | (np.isnan(a) & np.isnan(b)) | (a == b)))


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


def _sorted_rows(array: NDArray[Any]) -> bytes:
    """Return the rows along the first axis, canonical and in order: equal for equal multisets."""
    content = canonical_bytes(array)
    width = len(content) // array.shape[0] if array.ndim and array.shape[0] else 0
    if width == 0:
        return content
    return np.sort(np.frombuffer(content, dtype=np.dtype((np.void, width)))).tobytes()

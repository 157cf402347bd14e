"""Bit patterns of arrays: how many representable values lie between two, and what is the same pattern.

Where results of different hardware are compared, by the pool and by those who test a program beforehand.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Most representable values that a comparator may allow: an eighth of the value in float32.
ULPS_MAX: Final = 2**20

#: Knuth's: neighbouring whole numbers become numbers that look like noise.
_MULTIPLIER: Final = 2_654_435_761
_UNSIGNED: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def canonical_bytes(array: NDArray[Any]) -> bytes:
    """Return an array's bit patterns, little-endian and row-major, every NaN replaced by the same one."""
    dense = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if dense.dtype.kind in "biu":
        return dense.tobytes()
    parts = real_parts(dense)
    return np.where(np.isnan(parts), parts.dtype.type(np.nan), parts).tobytes()


def max_ulps(array: NDArray[Any], reference: NDArray[Any]) -> int:
    """Return how many representable values lie between two floating-point arrays, at most, at any element.

    Bit patterns of one sign are ordered as their values are, so within a sign the distance is that of the
    patterns without it; across zero the two distances to zero add up, -0.0 and 0.0 being 0 apart. Complex
    numbers count by their parts. Elements that are not finite on both sides are left out.
    """
    a, b = real_parts(array), real_parts(reference)
    finite = np.isfinite(a) & np.isfinite(b)
    (sign_a, size_a), (sign_b, size_b) = _sign_and_size(a[finite]), _sign_and_size(b[finite])
    within = np.maximum(size_a, size_b) - np.minimum(size_a, size_b)
    # Both sizes are below 2**63, their sum is below 2**64.
    distances = np.where(sign_a == sign_b, within, size_a + size_b)
    return int(distances.max(initial=0))


def specials_alike(array: NDArray[Any], reference: NDArray[Any]) -> bool:
    """Say whether NaN stands where NaN stands, and each infinity where the same one does."""
    a, b = real_parts(array).astype(np.float64), real_parts(reference).astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    return bool(np.all(finite | (np.isnan(a) & np.isnan(b)) | (a == b)))


def sorted_rows(array: NDArray[Any]) -> bytes:
    """Return the rows along the first axis, canonical and in order: equal for equal multisets."""
    content = canonical_bytes(array)
    width = len(content) // array.shape[0] if array.ndim and array.shape[0] else 0
    if width == 0:
        return content
    return np.sort(np.frombuffer(content, dtype=np.dtype((np.void, width)))).tobytes()


def rounded_otherwise(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array with every fraction moved to one of its neighbours, as if it were rounded otherwise.

    Which way each goes looks like chance and is the same every time. Whole numbers are exact and stay, and so
    do NaN and infinities.
    """
    if array.dtype.kind in "biu":
        return array
    parts = real_parts(array)
    wide = parts.astype(np.float64)
    # All numbers from some size on are whole: a fraction's neighbours are finite, and of its sign or zero.
    is_fraction = np.isfinite(wide) & (wide != np.floor(wide))
    bits = parts.view(_UNSIGNED[parts.dtype.itemsize]).copy()
    noise = np.arange(bits.size, dtype=np.uint64) * np.uint64(_MULTIPLIER) >> np.uint64(16)
    is_up = noise & np.uint64(1) == 1
    bits[is_fraction & is_up] += 1
    bits[is_fraction & ~is_up] -= 1
    return bits.view(array.dtype).reshape(array.shape)


def _sign_and_size(values: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
    bits = np.ascontiguousarray(values).view(_UNSIGNED[values.dtype.itemsize]).astype(np.uint64)
    sign_bit = np.uint64(1 << (8 * values.dtype.itemsize - 1))
    return (bits & sign_bit) != 0, bits & (sign_bit - np.uint64(1))


def real_parts(array: NDArray[Any]) -> NDArray[Any]:
    """Return the elements as a line of real numbers: of a complex number both parts, one by one."""
    line = np.ascontiguousarray(array).reshape(-1)
    return line.view(line.real.dtype) if line.dtype.kind == "c" else line

"""Content addressing: SHA-256 of bytes, of named arrays, and of whole batches by Merkle trees.

Array digests are canonical: they do not depend on how arrays were stored, ordered or sent, only on names,
element types, shapes and values. All NaN are one value (a NaN's payload differs between machines that agree
on everything else); -0.0 and 0.0 are two.

Merkle trees are those of RFC 9162, section 2.1: a leaf is hashed behind 0x00 and an inner node behind 0x01,
so that no leaf can pass for a node.
"""

import hashlib
import struct
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ids import Sha256Hex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIGEST_BYTES = 32

_OUTPUT_DOMAIN = b"chargepool/v1/outputs\0"
_STATE_DOMAIN = b"chargepool/v1/unit-state\0"
_LEAF_PREFIX = b"\x00"
_NODE_PREFIX = b"\x01"


def sha256(content: bytes) -> bytes:
    """Return the 32 bytes of the SHA-256 of `content`."""
    return hashlib.sha256(content).digest()


def sha256_hex(content: bytes) -> Sha256Hex:
    """Return the SHA-256 of `content` in lower-case hexadecimal: the name of a blob or a program."""
    return Sha256Hex(hashlib.sha256(content).hexdigest())


def verify_sha256_hex(content: bytes, expected: str) -> Sha256Hex:
    """Return the digest of `content` after checking that it is the expected one.

    Raises:
        PoolError: BLOB_DIGEST_MISMATCH otherwise.
    """
    actual = sha256_hex(content)
    if actual != expected:
        raise PoolError(
            ErrorCode.BLOB_DIGEST_MISMATCH,
            f"{len(content)} bytes hash to {actual}, not {expected[:64]}",
            context={"sha256": actual},
        )
    return actual


def output_digest(tensors: "Mapping[str, NDArray[Any]]") -> bytes:
    """Return the 32-byte digest of an attempt's outputs: what quorums compare and receipts name."""
    return _tensors_digest(_OUTPUT_DOMAIN, tensors)


class OutputDigester:
    """Output digests of many results of one program: what they share is laid out once.

    Gives what `output_digest` gives, from the arrays' little-endian bytes, without building arrays.
    """

    def __init__(self, layout: "Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]") -> None:
        """Prepare for arrays with these names, element types and shapes; complex ones are not taken.

        Raises:
            PoolError: TENSORS_DTYPE_UNSUPPORTED for complex elements, whose parts are normalised one by one.
        """
        for name, (dtype, _shape) in layout.items():
            if dtype.kind == "c":
                raise PoolError(ErrorCode.TENSORS_DTYPE_UNSUPPORTED, f"{name!r} is complex")
        self.names = tuple(sorted(layout))
        self._opening = _OUTPUT_DOMAIN + struct.pack("<Q", len(layout))
        self._prefixes = tuple(_array_prefix(name, *layout[name]) for name in self.names)
        self._floats = tuple(layout[name][0] if _is_float(layout[name][0]) else None for name in self.names)

    def digest(self, contents: Sequence[bytes]) -> bytes:
        """Return the digest of arrays given as little-endian, row-major bytes in the order of `names`."""
        import numpy as np

        parts = [self._opening]
        for prefix, dtype, content in zip(self._prefixes, self._floats, contents, strict=True):
            parts.append(prefix)
            if dtype is not None:
                array = np.frombuffer(content, dtype=dtype)
                if np.isnan(array).any():
                    parts.append(_canonical_bytes(array))
                    continue
            parts.append(content)
        return hashlib.sha256(b"".join(parts)).digest()


def state_digest(
    tensors: "Mapping[str, NDArray[Any]]",
    *,
    job_id: str,
    program_sha256: str,
    task_index: int,
    unit_index: int,
) -> bytes:
    """Return the 32-byte digest d_i of a step program's state after `unit_index` units.

    It is bound to job, program, task and unit, so that a committed state cannot be presented as another's.
    """
    position = (
        _length_prefixed(job_id.encode())
        + _length_prefixed(program_sha256.encode())
        + struct.pack("<QQ", task_index, unit_index)
    )
    return _tensors_digest(_STATE_DOMAIN + position, tensors)


def _length_prefixed(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def _tensors_digest(domain: bytes, tensors: "Mapping[str, NDArray[Any]]") -> bytes:
    """Hash domain and count, then per array by name: name, dtype name, rank, dimensions, bytes."""
    digest = hashlib.sha256(domain)
    digest.update(struct.pack("<Q", len(tensors)))
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(_array_prefix(name, array.dtype, array.shape))
        digest.update(_canonical_bytes(array))
    return digest.digest()


def _array_prefix(name: str, dtype: "np.dtype[Any]", shape: Sequence[int]) -> bytes:
    return (
        _length_prefixed(name.encode())
        + _length_prefixed(_dtype_name(dtype).encode())
        + struct.pack(f"<{len(shape) + 1}Q", len(shape), *shape)
    )


def _canonical_bytes(array: "NDArray[Any]") -> bytes:
    """Return little-endian bytes in row-major order with every NaN in one pattern."""
    # NumPy is imported on use: those who only hash bytes and trees (core, the operator's tools) do without.
    import numpy as np

    if array.dtype.kind == "c":
        # The parts of a complex number are normalised one by one: NaN + 1j and NaN + 2j stay two values.
        parts = np.stack([array.real, array.imag], axis=-1)
        return _canonical_bytes(parts)
    if _is_float(array.dtype):
        nan_mask = np.isnan(array)
        if nan_mask.any():
            array = np.where(nan_mask, np.array(np.nan, dtype=array.dtype), array)
    if array.dtype.itemsize > 1 and (array.dtype.byteorder == ">" or sys.byteorder == "big"):
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes(order="C")


@lru_cache(maxsize=64)
def _dtype_name(dtype: "np.dtype[Any]") -> str:
    return dtype.name  # NumPy works it out anew each time, for longer than hashing a small array takes


@lru_cache(maxsize=64)
def _is_float(dtype: "np.dtype[Any]") -> bool:
    # The types of ml_dtypes (bfloat16, float8_...) have kind "V"; their names say what they are.
    return dtype.kind == "f" or "float" in dtype.name


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a Merkle leaf."""
    return hashlib.sha256(_LEAF_PREFIX + leaf).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE_PREFIX + left + right).digest()


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return all levels, leaves first. A node without a sibling rises unchanged: RFC 9162's shape."""
    levels = [[leaf_hash(leaf) for leaf in leaves]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        paired = [_node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        levels.append(paired + below[len(paired) * 2 :])
    return levels


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the RFC 9162 tree hash of the leaves in order; of no leaves, the SHA-256 of nothing."""
    return _levels(leaves)[-1][0] if leaves else sha256(b"")


def inclusion_proof(leaves: Sequence[bytes], leaf_index: int) -> tuple[bytes, ...]:
    """Return the sibling hashes from the leaf up to the root.

    Raises:
        PoolError: INVALID_ARGUMENT when there is no such leaf.
    """
    return inclusion_proofs(leaves, [leaf_index])[0]


def inclusion_proofs(leaves: Sequence[bytes], leaf_indexes: Sequence[int]) -> list[tuple[bytes, ...]]:
    """Return the proofs of several leaves of one tree, which is hashed once.

    Raises:
        PoolError: INVALID_ARGUMENT when there is no such leaf.
    """
    levels = _levels(leaves) if leaves else []
    return [_path(levels, len(leaves), leaf_index) for leaf_index in leaf_indexes]


def merkle_root_and_proofs(leaves: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """Return the root and every leaf's proof of a tree that is hashed once. There must be a leaf.

    Raises:
        PoolError: INVALID_ARGUMENT when there is none.
    """
    if not leaves:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "a tree of no leaves has no proofs")
    levels = _levels(leaves)
    return levels[-1][0], [_path(levels, len(leaves), leaf_index) for leaf_index in range(len(leaves))]


def _path(levels: Sequence[Sequence[bytes]], leaf_count: int, leaf_index: int) -> tuple[bytes, ...]:
    if not 0 <= leaf_index < leaf_count:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"no leaf {leaf_index} among {leaf_count}")
    path: list[bytes] = []
    position = leaf_index
    for level in levels[:-1]:
        sibling = position ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        position //= 2
    return tuple(path)


def verify_inclusion(
    leaf: bytes, *, leaf_index: int, leaf_count: int, inclusion_path: Sequence[bytes], root: bytes
) -> bytes:
    """Return the leaf after checking that it stands at `leaf_index` of the tree with this root and size.

    Raises:
        PoolError: PROOF_INVALID otherwise, also when the proof has a hash too many or too few.
    """
    if not 0 <= leaf_index < leaf_count:
        raise PoolError(ErrorCode.PROOF_INVALID, f"leaf {leaf_index} is not in a tree of {leaf_count}")
    if any(len(sibling) != DIGEST_BYTES for sibling in inclusion_path):
        raise PoolError(ErrorCode.PROOF_INVALID, "a hash of the proof does not have 32 bytes")
    computed = leaf_hash(leaf)
    siblings = iter(inclusion_path)
    position, last = leaf_index, leaf_count - 1
    while last > 0:
        if position % 2 == 1 or position < last:
            sibling = next(siblings, None)
            if sibling is None:
                raise PoolError(ErrorCode.PROOF_INVALID, "the proof is too short")
            computed = _node_hash(sibling, computed) if position % 2 == 1 else _node_hash(computed, sibling)
        position, last = position // 2, last // 2
    if next(siblings, None) is not None:
        raise PoolError(ErrorCode.PROOF_INVALID, "the proof is too long")
    if computed != root:
        raise PoolError(ErrorCode.PROOF_INVALID, "the proof leads to another root")
    return leaf

"""Named arrays as safetensors bytes, and back, strictly.

Encoding is deterministic: the same arrays give the same bytes on every machine, so bytes can be named by
their SHA-256. Decoding takes bytes from strangers: sizes, counts, ranks and names are checked against
`TensorLimits` before anything is built, and what is not safetensors is refused - a pickle or an archive
with a code of its own, since opening one would run its author's code. Nothing here imports JAX; `ml_dtypes`
(bfloat16 and the 8-bit floats) is used when it is installed and asked for only when such an array turns up.

This module does not judge values, nor whether the names are those a program wants: see
`pool_protocol.program`.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import safetensors
from numpy.typing import NDArray

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import BLOB_TENSORS, TensorLimits

#: safetensors' code -> NumPy's name. The names are what manifests and digests use.
_NAME_OF_CODE: Final[dict[str, str]] = {
    "BOOL": "bool",
    "I8": "int8",
    "U8": "uint8",
    "I16": "int16",
    "U16": "uint16",
    "I32": "int32",
    "U32": "uint32",
    "I64": "int64",
    "U64": "uint64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
_ML_DTYPES: Final = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})
DTYPE_NAMES: Final = frozenset(_NAME_OF_CODE.values())

_LENGTH_BYTES = 8
_SIGNATURES_OF_CODE: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "a zip archive (.npz, .pt)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x93NUMPY", "a .npy file, which may hold a pickle"),
    (b"\x1f\x8b", "gzip"),
    (b"ustar", "a tar archive"),
)
_PICKLE_PROTOCOLS = range(2, 6)
_PICKLE_TEXT_OPENINGS = (
    b"(lp",
    b"(dp",
    b"(ip",
    b"cos\n",
    b"cposix\n",
    b"cbuiltins\n",
    b"c__builtin__\n",
    b"(cos",
)


@lru_cache(maxsize=64)
def dtype_of(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of a name out of `DTYPE_NAMES`.

    Raises:
        PoolError: TENSORS_DTYPE_UNSUPPORTED when the name is not one that travels, or `ml_dtypes` is not
            installed and the type needs it.
    """
    if name not in DTYPE_NAMES:
        raise _unsupported(name)
    if name not in _ML_DTYPES:
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise PoolError(
            ErrorCode.TENSORS_DTYPE_UNSUPPORTED,
            f"{name} needs the package ml_dtypes",
            context={"dtype": name, "package": "ml_dtypes"},
        ) from error
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype


def encode(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Encode named arrays as safetensors. The order of the mapping does not matter.

    Args:
        tensors: Arrays of any rank, scalars (rank 0) and empty arrays included.

    Raises:
        PoolError: TENSORS_DTYPE_UNSUPPORTED for an element type that cannot travel (objects, strings, dates,
            complex128, 4-bit numbers); TENSORS_MALFORMED for a name that is not a string.
    """
    specs: dict[str, safetensors.TensorSpec] = {}
    kept_alive: list[NDArray[Any]] = []  # the specs hold addresses only
    for name, value in tensors.items():
        _check_name(name, BLOB_TENSORS)
        array = np.asarray(value)
        dtype_name = _name_of(array.dtype)
        if dtype_name not in DTYPE_NAMES:
            raise _unsupported(dtype_name)
        dense = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
        kept_alive.append(dense)
        specs[name] = safetensors.TensorSpec(
            dtype=dtype_name, shape=dense.shape, data_ptr=dense.ctypes.data, data_len=dense.nbytes
        )
    encoded = bytes(safetensors.serialize(specs))
    del kept_alive
    return encoded


def decode(encoded: bytes, limits: TensorLimits = BLOB_TENSORS) -> dict[str, NDArray[Any]]:
    """Decode safetensors bytes from a stranger into arrays of their own memory, in the order of their names.

    1. The whole is within `limits.bytes_max`.
    2. It is safetensors at all; pickles and archives are named as such.
    3. The header is one JSON object within limits, without repeated names, metadata or unknown keys.
    4. The safetensors library accepts layout, offsets and lengths (no holes, no overlap, nothing left over).
    5. Booleans are 0 or 1.

    Raises:
        PoolError: TENSORS_TOO_LARGE, TENSORS_PICKLE, TENSORS_MALFORMED or TENSORS_DTYPE_UNSUPPORTED.
    """
    if len(encoded) > limits.bytes_max:
        raise PoolError(
            ErrorCode.TENSORS_TOO_LARGE,
            f"{len(encoded)} bytes of tensors, allowed are {limits.bytes_max}",
            context={"limit": str(limits.bytes_max)},
        )
    header_bytes = _header_bytes(encoded, limits)
    _check_header(header_bytes, limits)
    try:
        parts = safetensors.deserialize(encoded)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise _malformed(f"safetensors refuses it: {error}") from error
    arrays = {name: _array_of(name, part) for name, part in parts}
    return dict(sorted(arrays.items()))


@lru_cache(maxsize=64)
def _name_of(dtype: np.dtype[Any]) -> str:
    return dtype.name  # NumPy works it out anew each time


def _array_of(name: str, part: Mapping[str, Any]) -> NDArray[Any]:
    dtype = dtype_of(_NAME_OF_CODE[part["dtype"]])
    raw = part["data"]
    if dtype == np.bool_ and raw and max(raw) > 1:
        raise _malformed(f"tensor {name!r} holds a boolean that is neither 0 nor 1")
    array: NDArray[Any] = np.frombuffer(raw, dtype=dtype).reshape(part["shape"])
    return array


def _header_bytes(encoded: bytes, limits: TensorLimits) -> bytes:
    header_length = int.from_bytes(encoded[:_LENGTH_BYTES], "little")
    starts_as_header = encoded[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"
    fits = _LENGTH_BYTES + header_length <= len(encoded)
    if not (starts_as_header and fits):
        code_carrier = _carrier_of_code(encoded)
        if code_carrier is not None:
            raise PoolError(ErrorCode.TENSORS_PICKLE, f"the bytes are {code_carrier}, not safetensors")
        raise _malformed("the bytes do not start with a safetensors header")
    if header_length > limits.header_bytes_max:
        raise PoolError(
            ErrorCode.TENSORS_TOO_LARGE,
            f"a header of {header_length} bytes, allowed are {limits.header_bytes_max}",
            context={"limit": str(limits.header_bytes_max)},
        )
    return encoded[_LENGTH_BYTES : _LENGTH_BYTES + header_length]


def _carrier_of_code(encoded: bytes) -> str | None:
    """Say what kind of code-carrying file this is, judged by its first and last bytes only."""
    for signature, kind in _SIGNATURES_OF_CODE:
        if encoded.startswith(signature):
            return kind
    if len(encoded) >= 2 and encoded[0] == 0x80 and encoded[1] in _PICKLE_PROTOCOLS:
        return f"a pickle of protocol {encoded[1]}"
    if encoded.startswith(_PICKLE_TEXT_OPENINGS) or (
        encoded[:1] in b"(c]}" and encoded.rstrip().endswith(b".")
    ):
        return "a pickle of protocol 0 or 1"
    return None


def _check_header(header_bytes: bytes, limits: TensorLimits) -> None:
    try:
        header = json.loads(header_bytes, object_pairs_hook=_object_without_repeats)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise _malformed("the header is not a JSON object")
    if len(header) > limits.tensors_max:
        raise PoolError(
            ErrorCode.TENSORS_TOO_LARGE,
            f"{len(header)} tensors, allowed are {limits.tensors_max}",
            context={"limit": str(limits.tensors_max)},
        )
    for name, entry in header.items():
        _check_name(name, limits)
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise _malformed(f"the entry of {name!r} is not dtype, shape and data_offsets")
        if entry["dtype"] not in _NAME_OF_CODE:
            raise _unsupported(str(entry["dtype"]))
        shape = entry["shape"]
        if not isinstance(shape, list) or len(shape) > limits.rank_max:
            raise _malformed(f"tensor {name!r} has more than {limits.rank_max} dimensions, or no shape")


def _object_without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    collected = dict(pairs)
    if len(collected) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return collected


def _check_name(name: object, limits: TensorLimits) -> None:
    # "__metadata__" is free text in safetensors: no use here, and a way to make equal arrays differ in bytes.
    if not isinstance(name, str) or not name or name == "__metadata__":
        raise _malformed(f"not a tensor's name: {name!r}")
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise _malformed("a tensor's name is not Unicode text") from error
    if length > limits.name_bytes_max or "\0" in name:
        raise _malformed(f"a tensor's name has more than {limits.name_bytes_max} bytes, or a NUL")


def _malformed(detail: str) -> PoolError:
    return PoolError(ErrorCode.TENSORS_MALFORMED, detail)


def _unsupported(dtype_name: str) -> PoolError:
    return PoolError(
        ErrorCode.TENSORS_DTYPE_UNSUPPORTED,
        f"arrays of {dtype_name[:40]!r} cannot travel; use one of {', '.join(sorted(DTYPE_NAMES))}",
        context={"dtype": dtype_name[:40]},
    )

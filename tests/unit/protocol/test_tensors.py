"""Tensors: every kind of array survives the journey; strangers' bytes are refused with the right name."""

import contextlib
import json
import pickle  # noqa: TID251 - the attack itself
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pool_protocol import tensors
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import TensorLimits

_PLAIN = sorted(tensors.DTYPE_NAMES - {"bfloat16", "float8_e4m3fn", "float8_e5m2"})
_ARRAYS = st.sampled_from(_PLAIN).flatmap(
    lambda name: hnp.arrays(
        dtype=name, shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    )
)


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1), _ARRAYS, max_size=4
    )
)
@settings(max_examples=60)
def test_round_trip_keeps_names_types_shapes_and_bits(arrays: dict[str, NDArray[Any]]) -> None:
    encoded = tensors.encode(arrays)
    decoded = tensors.decode(encoded)
    assert sorted(decoded) == sorted(arrays)
    for name, array in arrays.items():
        assert decoded[name].dtype == array.dtype
        assert decoded[name].shape == array.shape
        assert decoded[name].tobytes() == array.tobytes()
    assert tensors.encode(dict(reversed(arrays.items()))) == encoded


def test_scalars_empty_arrays_and_odd_layouts_survive() -> None:
    x = np.arange(12, dtype=np.int32).reshape(3, 4)
    arrays = {
        "scalar": np.float64(3.5),
        "empty": np.zeros((0, 3), np.int8),
        "strided": x[:, ::2],
        "turned": x.T,
    }
    decoded = tensors.decode(tensors.encode({name: np.asarray(value) for name, value in arrays.items()}))
    for name, value in arrays.items():
        np.testing.assert_array_equal(decoded[name], value)
        assert decoded[name].shape == np.asarray(value).shape
    assert tensors.encode({"x": x.astype(">i4")}) == tensors.encode({"x": x})
    assert tensors.decode(tensors.encode({})) == {}


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_small_floats_travel_where_ml_dtypes_is_installed(name: str) -> None:
    pytest.importorskip("ml_dtypes")
    array = np.array([1.5, -2.0, 0.25]).astype(tensors.dtype_of(name))
    decoded = tensors.decode(tensors.encode({"x": array}))["x"]
    assert decoded.dtype == array.dtype
    assert decoded.tobytes() == array.tobytes()


def test_importing_the_module_loads_neither_jax_nor_ml_dtypes() -> None:
    script = "import sys, pool_protocol.tensors; print([m for m in ('jax', 'ml_dtypes') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "value", [np.array(["a"]), np.array([object()]), np.zeros(2, "c16"), np.zeros(1, "M8[s]")]
)
def test_element_types_that_cannot_travel_are_refused_on_encoding(value: NDArray[Any]) -> None:
    with pytest.raises(PoolError) as raised:
        tensors.encode({"x": value})
    assert raised.value.code is ErrorCode.TENSORS_DTYPE_UNSUPPORTED


def _with_header(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _entry(dtype: str = "F32", shape: Any = (1,), start: int = 0, end: int = 4) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


_HOSTILE: list[tuple[str, bytes, ErrorCode]] = [
    ("nothing", b"", ErrorCode.TENSORS_MALFORMED),
    ("short", b"\x01\x02", ErrorCode.TENSORS_MALFORMED),
    ("noise", bytes(range(64)), ErrorCode.TENSORS_MALFORMED),
    ("header beyond the end", struct.pack("<Q", 2**60) + b"{}", ErrorCode.TENSORS_MALFORMED),
    ("header not JSON", _with_header(b"{nope"), ErrorCode.TENSORS_MALFORMED),
    ("deep header", _with_header(b'{"x":' * 20_000), ErrorCode.TENSORS_MALFORMED),
    ("metadata", _with_header({"__metadata__": {"a": "b"}}), ErrorCode.TENSORS_MALFORMED),
    ("unknown key", _with_header({"x": _entry() | {"code": "1"}}, bytes(4)), ErrorCode.TENSORS_MALFORMED),
    ("hole", _with_header({"x": _entry(start=4, end=8)}, bytes(8)), ErrorCode.TENSORS_MALFORMED),
    ("overlap", _with_header({"x": _entry(), "y": _entry()}, bytes(4)), ErrorCode.TENSORS_MALFORMED),
    ("left over", _with_header({"x": _entry()}, bytes(5)), ErrorCode.TENSORS_MALFORMED),
    ("too few bytes", _with_header({"x": _entry(shape=(2,))}, bytes(4)), ErrorCode.TENSORS_MALFORMED),
    ("huge shape", _with_header({"x": _entry(shape=(2**62, 2**62))}, bytes(4)), ErrorCode.TENSORS_MALFORMED),
    ("negative shape", _with_header({"x": _entry(shape=(-1,))}, bytes(4)), ErrorCode.TENSORS_MALFORMED),
    ("rank 20", _with_header({"x": _entry(shape=(1,) * 20)}, bytes(4)), ErrorCode.TENSORS_MALFORMED),
    ("boolean of 2", _with_header({"x": _entry("BOOL", end=1)}, b"\x02"), ErrorCode.TENSORS_MALFORMED),
    ("repeated name", _with_header(b'{"x":{},"x":{}}'), ErrorCode.TENSORS_MALFORMED),
    ("NUL in a name", _with_header({"a\0b": _entry()}, bytes(4)), ErrorCode.TENSORS_MALFORMED),
    ("lone surrogate", _with_header(b'{"\\ud800":{}}'), ErrorCode.TENSORS_MALFORMED),
    ("4-bit floats", _with_header({"x": _entry("F4", end=1)}, b"\0"), ErrorCode.TENSORS_DTYPE_UNSUPPORTED),
    ("unknown type", _with_header({"x": _entry("OBJ")}, bytes(4)), ErrorCode.TENSORS_DTYPE_UNSUPPORTED),
    ("zip", b"PK\x03\x04" + bytes(60), ErrorCode.TENSORS_PICKLE),
    ("npy", b"\x93NUMPY\x01\x00" + bytes(60), ErrorCode.TENSORS_PICKLE),
]


@pytest.mark.parametrize(("what", "encoded", "code"), _HOSTILE, ids=[row[0] for row in _HOSTILE])
def test_hostile_bytes_are_refused(what: str, encoded: bytes, code: ErrorCode) -> None:
    with pytest.raises(PoolError) as raised:
        tensors.decode(encoded)
    assert raised.value.code is code, what


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (pytest.fail, ("the pickle was executed",))


@pytest.mark.parametrize("protocol", range(6))
def test_attack_a_pickle_in_place_of_safetensors_is_named_and_not_run(protocol: int) -> None:
    with pytest.raises(PoolError) as raised:
        tensors.decode(pickle.dumps(_Bomb(), protocol=protocol))
    assert raised.value.code is ErrorCode.TENSORS_PICKLE


def test_limits_are_kept() -> None:
    encoded = tensors.encode({"a": np.zeros(4), "b": np.zeros(4)})
    roomy = len(encoded)
    assert tensors.decode(encoded, TensorLimits(bytes_max=roomy))
    for limits in (
        TensorLimits(bytes_max=roomy - 1),
        TensorLimits(bytes_max=roomy, tensors_max=1),
        TensorLimits(bytes_max=roomy, header_bytes_max=10),
    ):
        with pytest.raises(PoolError) as raised:
            tensors.decode(encoded, limits)
        assert raised.value.code is ErrorCode.TENSORS_TOO_LARGE


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_else(noise: bytes) -> None:
    for encoded in (noise, _with_header(noise), _with_header({"x": _entry()}, noise)):
        with contextlib.suppress(PoolError):
            tensors.decode(encoded)

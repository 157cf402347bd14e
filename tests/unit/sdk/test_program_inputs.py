"""What fits a program and what is refused, before anything is sent."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import chargepool
from chargepool._comparators import exact
from chargepool._export import Exporter
from chargepool._program import Program
from pool_protocol.errors import ErrorCode
from pool_protocol.program.manifest import ProgramCost, ProgramManifest

COST = ProgramCost(
    operations={"add": 1}, flops=1, bytes_moved=1, work_uwu=5, peak_bytes=1, temporary_bytes=0, cost_model=1
)
EXAMPLE = {
    "x": np.zeros((2, 3), np.float32),
    "n": np.int32(0),
    "parts": [np.zeros(2, bool), (np.zeros(1, np.uint8),)],
}


def mixed(tree: Any) -> Any:
    return {"x": tree["x"][::-1], "rest": (tree["n"], tree["parts"])}


def made(fn: Any, example: Any, constants: Any = None) -> Program:
    exported = Exporter().map_program(fn, example, constants, exact(), lapack=False)
    manifest = ProgramManifest(draft=exported.program.draft, cost=COST)
    return Program(
        program_id=manifest.program_id,
        name=exported.name,
        manifest=manifest,
        comparator=exact(),
        constants=exported.constants,
        artifact=exported.program.artifact,
    )


@pytest.fixture(scope="module")
def program() -> Program:
    return made(mixed, EXAMPLE)


@given(
    x=hnp.arrays(np.float32, (2, 3)),
    n=st.integers(-(2**31), 2**31 - 1),
    flags=hnp.arrays(np.bool_, 2),
    small=hnp.arrays(np.uint8, 1),
)
def test_values_keep_structure_and_bits_on_the_way_to_a_car_and_back(
    program: Program, x: Any, n: int, flags: Any, small: Any
) -> None:
    item = {"x": x, "n": n, "parts": [flags, (small,)]}
    arrays = program.encode(item)
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "x": "float32", "n": "int32", "parts/0": "bool", "parts/1/0": "uint8",
    }  # fmt: skip
    returned = program.local(item)
    np.testing.assert_array_equal(returned["x"], x[::-1])
    assert isinstance(returned["rest"], tuple)
    assert isinstance(returned["rest"][1], list)
    assert returned["rest"][0] == n
    np.testing.assert_array_equal(returned["rest"][1][1][0], small)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": np.zeros((3, 2), np.float32)}, r"x has shape \[3, 2\]; the program takes float32\[2, 3\]"),
        ({"x": np.zeros((2, 3), np.int32)}, "x has dtype int32"),
        ({"x": np.zeros((2, 3), np.float16)}, "x has dtype float16"),
        ({"x": np.full((2, 3), "a")}, "not an array of numbers"),
        ({"x": "text"}, "not an array of numbers"),
        ({"x": object()}, "not an array of numbers"),
        ({"n": 2**31}, "values that int32 cannot hold"),
        ({"n": np.int64(2**40)}, "values that int32 cannot hold"),
        ({"n": 1.5}, "n is 1.5"),
        ({"n": None}, "not an array of numbers"),
        ({"parts": [np.zeros(2, bool)]}, "structure"),
        ({"extra": np.zeros(1)}, "structure"),
    ],
)
def test_what_does_not_fit_is_named(program: Program, change: dict[str, Any], said: str) -> None:
    with pytest.raises(chargepool.InputRefused, match=said) as caught:
        program.encode(EXAMPLE | change, index=7)
    assert "input 7" in caught.value.detail
    assert caught.value.next_step


def test_sixty_four_bits_narrow_as_jax_narrows_them(program: Program) -> None:
    arrays = program.encode(EXAMPLE | {"x": np.full((2, 3), 1.5), "n": np.int64(9)})
    assert arrays["x"].dtype == np.float32
    assert arrays["n"].dtype == np.int32


def test_jax_arrays_are_as_good_as_numpy_s(program: Program) -> None:
    arrays = program.encode(EXAMPLE | {"x": jnp.ones((2, 3))})
    np.testing.assert_array_equal(arrays["x"], np.ones((2, 3), np.float32))


def test_bfloat16_travels() -> None:
    program = made(lambda x: x + 1, jnp.zeros(2, jnp.bfloat16))
    assert program.encode(jnp.ones(2, jnp.bfloat16))["value"].dtype.name == "bfloat16"
    assert program.local(jnp.ones(2, jnp.bfloat16)).tolist() == [2, 2]


def test_constants_come_first_and_travel_apart() -> None:
    program = made(lambda c, x: x @ c["w"], np.zeros(3, np.float32), {"w": np.ones((3, 2), np.float32)})
    assert list(program.constants) == ["w"]
    assert list(program.encode(np.zeros(3, np.float32))) == ["value"]
    assert program.local(np.ones(3, np.float32)).tolist() == [3, 3]


def test_a_step_program_takes_pairs_and_steps() -> None:
    exported = Exporter().step_program(
        lambda state, inputs, constants: {"sum": state["sum"] + inputs},
        {"sum": np.float32(0)}, np.float32(0), None, exact(), unit_steps=10, lapack=False,
    )  # fmt: skip
    manifest = ProgramManifest(draft=exported.program.draft, cost=COST)
    program = Program(
        program_id=manifest.program_id, name="sum", manifest=manifest, comparator=exact(),
        constants={}, artifact=exported.program.artifact,
    )  # fmt: skip
    item = ({"sum": 1.0}, 2.0)
    assert sorted(program.encode(item)) == ["state/sum", "value"]
    assert program.local(item, steps=5)["sum"] == 11
    with pytest.raises(chargepool.InputRefused, match="steps"):
        program.local(item)
    with pytest.raises(chargepool.InputRefused, match="pair"):
        program.encode({"sum": 1.0})


def test_a_map_program_makes_no_steps(program: Program) -> None:
    with pytest.raises(chargepool.InputRefused, match="no steps"):
        program.local(EXAMPLE, steps=3)


class Wrapper:
    def __init__(self, value: Any) -> None:
        self.value = value


def with_callback(x: Any) -> Any:
    return jax.pure_callback(lambda value: value, jax.eval_shape(jnp.abs, x), x)


def with_branch(x: Any) -> Any:
    return x if x > 0 else -x


def with_numpy(x: Any) -> Any:
    return np.asarray(x) + 1


def with_unknown_loop(x: Any) -> Any:
    return jax.lax.while_loop(lambda v: v < 10, lambda v: v * 2, x)


@pytest.mark.parametrize(
    ("fn", "example", "code"),
    [
        (with_callback, np.float32(0), ErrorCode.PROGRAM_CALLBACK),
        (with_branch, np.float32(0), ErrorCode.PROGRAM_DYNAMIC_SHAPE),
        (with_numpy, np.float32(0), ErrorCode.PROGRAM_DYNAMIC_SHAPE),
        (with_unknown_loop, np.float32(1), ErrorCode.PROGRAM_UNBOUNDED_LOOP),
        (Wrapper, np.float32(0), ErrorCode.PROGRAM_CUSTOM_PYTREE),
        (lambda x: x, Wrapper(1), ErrorCode.PROGRAM_CUSTOM_PYTREE),
        (lambda x: x, "text", ErrorCode.PROGRAM_CUSTOM_PYTREE),
        (lambda x: x, {1: np.float32(0)}, ErrorCode.PROGRAM_CUSTOM_PYTREE),
        (jnp.nonzero, np.zeros(3, np.float32), ErrorCode.PROGRAM_DYNAMIC_SHAPE),
    ],
)
def test_a_function_that_cannot_be_a_program_is_refused_by_its_rule(
    fn: Any, example: Any, code: ErrorCode
) -> None:
    with pytest.raises(chargepool.ProgramRefused) as caught:
        Exporter().map_program(fn, example, None, exact(), lapack=False)
    assert caught.value.code is code
    assert caught.value.next_step


def test_what_the_function_itself_raises_passes_through() -> None:
    def broken(x: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Exporter().map_program(broken, np.float32(0), None, exact(), lapack=False)


def test_a_function_is_traced_once_per_types() -> None:
    traced = []

    def counted(x: Any) -> Any:
        traced.append(x.shape)
        return x

    exporter = Exporter()
    for shape in [(2,), (2,), (3,), (2,)]:
        exporter.map_program(counted, np.zeros(shape, np.float32), None, exact(), lapack=False)
    assert traced == [(2,), (3,)]

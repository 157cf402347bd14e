"""The rules exact, close, ulp and set for one array: tables of odd values, properties of any arrays."""

from __future__ import annotations

import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pool_protocol.digests import output_digest
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ulps import ULPS_MAX, max_ulps
from pool_server.core.agreement_rules import ComparatorKind, Rule, arrays_agree
from pool_server.core.comparison import Candidate, Comparator, agreement_groups, tensors_agree

Array = NDArray[Any]
EXACT = Rule()
CLOSE = Rule(kind=ComparatorKind.CLOSE, rtol=1e-3, atol=1e-6)
ULP = Rule(kind=ComparatorKind.ULP, ulps=2)
SET = Rule(kind=ComparatorKind.SET)
RULES = (EXACT, CLOSE, ULP, SET)
FLOATS: tuple[Any, ...] = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)

float_arrays = st.sampled_from(["float16", "float32", "float64", "complex64"]).flatmap(
    lambda name: hnp.arrays(name, st.integers(0, 5))
)


def f32(*values: Any) -> Array:
    return np.array(values, np.float32)


# One row per pair of odd values; the columns say whether exact, close, ulp and set call them the same.
@pytest.mark.parametrize(
    ("left", "right", "verdicts"),
    [
        pytest.param(math.nan, -math.nan, (True, True, True, True), id="NaN with another sign"),
        pytest.param(math.nan, 1.0, (False, False, False, False), id="NaN and a number"),
        pytest.param(math.nan, math.inf, (False, False, False, False), id="NaN and infinity"),
        pytest.param(math.inf, math.inf, (True, True, True, True), id="the same infinity"),
        pytest.param(math.inf, -math.inf, (False, False, False, False), id="the other infinity"),
        pytest.param(-0.0, 0.0, (False, True, True, False), id="minus zero and zero"),
        pytest.param(1.0, 1.0, (True, True, True, True), id="equal"),
    ],
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_odd_values(left: float, right: float, verdicts: tuple[bool, ...], dtype: Any) -> None:
    a, b = np.array([left], dtype), np.array([right], dtype)
    assert tuple(arrays_agree(rule, a, b) for rule in RULES) == verdicts
    assert tuple(arrays_agree(rule, b, a) for rule in RULES) == verdicts


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind.value)
@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param(f32(1), np.array([1.0]), id="another type"),
        pytest.param(f32(1), f32(1, 1), id="another length"),
        pytest.param(f32(1, 2), f32(1, 2).reshape(2, 1), id="another rank"),
        pytest.param(np.array([7]), np.array([8]), id="integers have no tolerance"),
        pytest.param(np.array([True]), np.array([False]), id="nor have booleans"),
    ],
)
def test_what_no_rule_allows(rule: Rule, left: Array, right: Array) -> None:
    assert not arrays_agree(rule, left, right)
    assert arrays_agree(rule, left, left.copy())


@pytest.mark.parametrize("dtype", FLOATS)
def test_neighbours_are_one_apart_in_every_type(dtype: Any) -> None:
    one = np.array([1.0], dtype)
    unsigned = f"u{one.dtype.itemsize}"
    for steps, agree in ((1, True), (2, True), (3, False)):
        moved = (one.view(unsigned) + np.array(steps, unsigned)).view(one.dtype)
        assert max_ulps(moved, one) == steps
        assert arrays_agree(ULP, moved, one) is agree


def test_across_zero_the_distances_to_zero_add_up() -> None:
    least = np.nextafter(np.float32(0), np.float32(1))
    assert max_ulps(f32(least), f32(-least)) == 2
    assert max_ulps(f32(least), f32(-0.0)) == 1
    assert arrays_agree(ULP, f32(least), f32(-least))
    assert not arrays_agree(ULP, f32(2 * least), f32(-least))


def test_the_largest_number_is_no_neighbour_of_infinity() -> None:
    assert not arrays_agree(ULP, f32(np.finfo(np.float32).max), f32(math.inf))


def test_the_whole_range_of_the_widest_type_does_not_wrap_around() -> None:
    most = np.array([np.finfo(np.float64).max])
    assert max_ulps(most, -most) == 2 * int(most.view(np.uint64)[0])


def test_complex_numbers_count_by_their_parts() -> None:
    one = np.array([1 + 1j], np.complex64)
    near = np.array([complex(1, np.nextafter(np.float32(1), np.float32(2)))], np.complex64)
    assert max_ulps(near, one) == 1
    assert not arrays_agree(ULP, np.array([1 - 1j], np.complex64), one)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        pytest.param(f32(1, 2, 2), f32(2, 1, 2), True, id="elements in another order"),
        pytest.param(f32(1, 2, 2), f32(1, 1, 2), False, id="a multiset, not a set"),
        pytest.param(f32(math.nan, 1), f32(1, -math.nan), True, id="NaN moves as one value"),
        pytest.param(np.array([[1, 2], [3, 4]]), np.array([[3, 4], [1, 2]]), True, id="rows move"),
        pytest.param(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 4]]), False, id="inside a row none"),
        pytest.param(np.array(1), np.array(1), True, id="rank 0 is exact"),
        pytest.param(f32(-0.0).reshape(()), f32(0.0).reshape(()), False, id="rank 0 minus zero"),
        pytest.param(np.zeros((0, 3)), np.zeros((0, 3)), True, id="no rows"),
        pytest.param(np.zeros((3, 0)), np.zeros((3, 0)), True, id="empty rows"),
    ],
)
def test_set_compares_multisets_of_rows(left: Array, right: Array, *, same: bool) -> None:
    assert arrays_agree(SET, left, right) is same
    assert arrays_agree(SET, right, left) is same


@given(float_arrays, float_arrays)
def test_equal_digests_agree_under_every_rule(array: Array, other: Array) -> None:
    same = output_digest({"y": array}) == output_digest({"y": other})
    assert arrays_agree(EXACT, array, other) == same
    for rule in RULES:
        assert arrays_agree(rule, array, array.copy())
        assert not same or arrays_agree(rule, array, other)


@given(st.data(), st.sampled_from([ULP, SET, Rule(kind=ComparatorKind.ULP, ulps=ULPS_MAX)]))
def test_ulp_and_set_are_symmetric(data: st.DataObject, rule: Rule) -> None:
    array = data.draw(float_arrays)
    other = data.draw(hnp.arrays(array.dtype, array.shape))
    assert arrays_agree(rule, array, other) == arrays_agree(rule, other, array)


@given(hnp.arrays("float32", hnp.array_shapes(max_dims=3, max_side=4)), st.randoms(use_true_random=False))
def test_any_permutation_of_the_rows_is_the_same_set(array: Array, chance: Any) -> None:
    order = list(range(array.shape[0]))
    chance.shuffle(order)
    assert arrays_agree(SET, array[order], array)


@given(st.lists(st.integers(0, 2), max_size=4), st.lists(st.integers(0, 2), max_size=4))
def test_set_is_equality_of_sorted_lists(left: list[int], right: list[int]) -> None:
    same = sorted(left) == sorted(right)
    assert arrays_agree(SET, np.array(left, np.int32), np.array(right, np.int32)) is same


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 5))
def test_ulp_counts_steps_of_nextafter(value: float, steps: int) -> None:
    moved = np.float32(value)
    for _ in range(steps):
        moved = np.nextafter(moved, np.float32(-math.inf))
    if np.isfinite(moved):
        assert max_ulps(f32(moved), f32(value)) == steps


@pytest.mark.parametrize("ulps", [-1, 0, ULPS_MAX + 1])
def test_ulps_have_bounds(ulps: int) -> None:
    with pytest.raises(PoolError) as refusal:
        Rule(kind=ComparatorKind.ULP, ulps=ulps)
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    assert refusal.value.context == {"field": "ulps"}


def test_an_output_with_a_rule_of_its_own_is_compared_by_it() -> None:
    comparator = Comparator(outputs={"loss": CLOSE, "order": SET})
    right = {"loss": f32(1.0), "order": np.array([3, 1]), "count": np.array([2])}
    assert tensors_agree(comparator, {**right, "loss": f32(1.0005), "order": np.array([1, 3])}, right)
    assert not tensors_agree(comparator, {**right, "loss": f32(1.1)}, right)
    assert not tensors_agree(comparator, {**right, "count": np.array([3])}, right)
    tolerant = Comparator(kind=ComparatorKind.CLOSE, atol=1.0, outputs={"loss": EXACT})
    assert not tensors_agree(tolerant, {**right, "loss": f32(1.0005)}, right)


def test_digests_alone_decide_when_every_output_is_exact() -> None:
    assert Comparator(outputs={"y": EXACT}).is_exact
    assert not Comparator(outputs={"y": SET}).is_exact
    assert not Comparator(kind=ComparatorKind.ULP, ulps=1, outputs={"y": EXACT}).is_exact


def test_bits_matter_when_any_output_is_compared_by_them() -> None:
    tolerant = Comparator(kind=ComparatorKind.CLOSE, atol=1.0)
    assert not tolerant.compares_bits
    assert not Comparator(kind=ComparatorKind.ULP, ulps=1, outputs={"y": CLOSE}).compares_bits
    for rule in (EXACT, SET):
        assert Comparator(kind=ComparatorKind.CLOSE, atol=1.0, outputs={"y": rule}).compares_bits
        assert Comparator(kind=rule.kind).compares_bits


def test_ulp_is_not_transitive_and_the_anchor_decides() -> None:
    one, unit = np.float32(1), np.spacing(np.float32(1))
    results = {1: {"y": f32(one)}, 2: {"y": f32(one + 2 * unit)}, 3: {"y": f32(one + 4 * unit)}}
    candidates = [
        Candidate(attempt_id=number, owner_id=str(number), output_digest=output_digest(arrays))
        for number, arrays in results.items()
    ]
    comparator = Comparator(kind=ComparatorKind.ULP, ulps=2)
    for order in itertools.permutations(candidates):
        groups = agreement_groups(comparator, order, results.__getitem__)
        assert [[member.attempt_id for member in group.members] for group in groups] == [[1, 2], [3]]

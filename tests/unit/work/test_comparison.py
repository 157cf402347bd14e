"""Comparators and agreement groups: tables for each rule, properties for what must hold of any arrays."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pool_protocol.digests import OutputDigester, output_digest
from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.comparison import (
    Candidate,
    Comparator,
    ComparatorKind,
    agreement_groups,
    agrees,
    spec_mismatch,
    tensors_agree,
)
from pool_server.core.jobs import OutputSpec

Arrays = dict[str, NDArray[Any]]
EXACT = Comparator()
TIGHT = Comparator(kind=ComparatorKind.CLOSE, rtol=1e-3, atol=1e-6)

finite = st.floats(-1e6, 1e6, width=32)
tolerances = st.floats(0, 1, allow_nan=False)
float_arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=4), elements=st.floats(width=32))
close_comparators = st.builds(
    Comparator, kind=st.just(ComparatorKind.CLOSE), rtol=tolerances, atol=tolerances
)


def f32(*values: float) -> Arrays:
    return {"y": np.array(values, dtype=np.float32)}


def candidate(attempt_id: int, arrays: Arrays) -> Candidate:
    return Candidate(
        attempt_id=attempt_id, owner_id=f"owner_{attempt_id}", output_digest=output_digest(arrays)
    )


def group_ids(comparator: Comparator, results: Mapping[int, Arrays]) -> list[tuple[int, ...]]:
    groups = agreement_groups(
        comparator,
        [candidate(attempt_id, arrays) for attempt_id, arrays in results.items()],
        results.__getitem__,
    )
    return [tuple(member.attempt_id for member in group.members) for group in groups]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        pytest.param(f32(1.0), f32(1.0), True, id="equal"),
        pytest.param(f32(1.0), f32(np.nextafter(np.float32(1), np.float32(2))), False, id="one ulp"),
        pytest.param(f32(0.0), f32(-0.0), False, id="minus zero is another value"),
        pytest.param(f32(math.nan), f32(-math.nan), True, id="all NaN are one"),
        pytest.param(f32(1.0), {"z": np.array([1], dtype=np.float32)}, False, id="another name"),
        pytest.param(f32(1.0), {"y": np.array([1], dtype=np.float64)}, False, id="another type"),
        pytest.param(f32(1.0), {"y": np.array([[1]], dtype=np.float32)}, False, id="another shape"),
    ],
)
def test_exact_compares_values_types_and_shapes(left: Arrays, right: Arrays, *, same: bool) -> None:
    assert (output_digest(left) == output_digest(right)) == same
    expected = [(1, 2)] if same else [(1,), (2,)]
    assert group_ids(EXACT, {1: left, 2: right}) == expected


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        pytest.param(f32(1.0), f32(1.0009), True, id="within the relative tolerance"),
        pytest.param(f32(1.0), f32(1.01), False, id="beyond it"),
        pytest.param(f32(0.0), f32(5e-7), True, id="within the absolute tolerance"),
        pytest.param(f32(0.0), f32(-0.0), True, id="minus zero is zero"),
        pytest.param(f32(math.nan, 1), f32(math.nan, 1), True, id="NaN in the same place"),
        pytest.param(f32(math.nan, 1), f32(1, math.nan), False, id="NaN in another place"),
        pytest.param(f32(math.nan), f32(1.0), False, id="NaN and a number"),
        pytest.param(f32(math.inf), f32(math.inf), True, id="the same infinity"),
        pytest.param(f32(math.inf), f32(-math.inf), False, id="the other infinity"),
        pytest.param(f32(math.inf), f32(1e30), False, id="infinity and a number"),
        pytest.param(f32(3e38), f32(-3e38), False, id="a distance that overflows"),
        pytest.param(f32(1.0), {"y": np.array([1], dtype=np.float64)}, False, id="another type"),
        pytest.param(f32(1.0), f32(1.0, 1.0), False, id="another shape"),
        pytest.param(f32(1.0), {"z": np.array([1], dtype=np.float32)}, False, id="another name"),
        pytest.param(
            {"y": np.array([7], dtype=np.int64)},
            {"y": np.array([7], dtype=np.int64)},
            True,
            id="equal integers",
        ),
        pytest.param(
            {"y": np.array([10**9], dtype=np.int64)},
            {"y": np.array([10**9 + 1], dtype=np.int64)},
            False,
            id="integers have no tolerance",
        ),
        pytest.param({"y": np.array([True])}, {"y": np.array([False])}, False, id="nor have booleans"),
        pytest.param(
            {"y": np.array([1 + 1j], dtype=np.complex64)},
            {"y": np.array([1 + 1.0005j], dtype=np.complex64)},
            True,
            id="complex numbers by their distance",
        ),
    ],
)
def test_close_compares_element_by_element(left: Arrays, right: Arrays, *, same: bool) -> None:
    assert tensors_agree(TIGHT, left, right) == same
    assert group_ids(TIGHT, {1: left, 2: right}) == ([(1, 2)] if same else [(1,), (2,)])


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
def test_a_tolerance_is_finite_and_not_negative(tolerance: float) -> None:
    for rtol, atol in ((tolerance, 0.0), (0.0, tolerance)):
        with pytest.raises(PoolError) as refusal:
            Comparator(kind=ComparatorKind.CLOSE, rtol=rtol, atol=atol)
        assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


@given(comparator=close_comparators, array=float_arrays)
def test_everything_agrees_with_itself(comparator: Comparator, array: NDArray[np.float32]) -> None:
    assert tensors_agree(comparator, {"y": array}, {"y": array.copy()})


@given(array=float_arrays, other=float_arrays, comparator=close_comparators)
def test_what_is_exactly_equal_is_close(
    array: NDArray[np.float32], other: NDArray[np.float32], comparator: Comparator
) -> None:
    if output_digest({"y": array}) == output_digest({"y": other}):
        assert tensors_agree(comparator, {"y": array}, {"y": other})


@given(values=st.lists(finite, min_size=1, max_size=5), noise=st.floats(-1e-3, 1e-3), atol=tolerances)
def test_close_without_relative_tolerance_is_a_distance(
    values: list[float], noise: float, atol: float
) -> None:
    array = np.array(values, dtype=np.float64)
    moved = array + noise
    comparator = Comparator(kind=ComparatorKind.CLOSE, atol=atol)
    assert tensors_agree(comparator, {"y": moved}, {"y": array}) == bool(
        np.all(np.abs(moved - array) <= atol)
    )


@given(
    values=st.lists(finite, min_size=1, max_size=6), atol=tolerances, seed=st.randoms(use_true_random=False)
)
def test_groups_do_not_depend_on_who_came_first(values: list[float], atol: float, seed: Any) -> None:
    results = {index + 1: f32(value) for index, value in enumerate(values)}
    comparator = Comparator(kind=ComparatorKind.CLOSE, atol=atol)
    in_order = group_ids(comparator, results)
    shuffled_ids = list(results)
    seed.shuffle(shuffled_ids)
    assert group_ids(comparator, {attempt_id: results[attempt_id] for attempt_id in shuffled_ids}) == in_order


@given(values=st.lists(finite, min_size=1, max_size=6), comparator=close_comparators | st.just(EXACT))
def test_groups_partition_the_results_around_their_anchors(
    values: list[float], comparator: Comparator
) -> None:
    results = {index + 1: f32(value) for index, value in enumerate(values)}
    candidates = {attempt_id: candidate(attempt_id, arrays) for attempt_id, arrays in results.items()}
    groups = agreement_groups(comparator, list(candidates.values()), results.__getitem__)
    seen = [member.attempt_id for group in groups for member in group.members]
    assert sorted(seen) == sorted(results)
    anchors = [group.anchor.attempt_id for group in groups]
    assert anchors == sorted(anchors)
    for group in groups:
        assert group.anchor.attempt_id == min(member.attempt_id for member in group.members)
        for member in group.members:
            assert agrees(comparator, member, group.anchor, results.__getitem__)
    for position, group in enumerate(groups):
        for earlier in groups[:position]:
            if earlier.anchor.attempt_id < group.anchor.attempt_id:
                assert not agrees(comparator, group.anchor, earlier.anchor, results.__getitem__)


def test_close_is_not_transitive_and_the_anchor_decides() -> None:
    comparator = Comparator(kind=ComparatorKind.CLOSE, atol=1.0)
    assert group_ids(comparator, {1: f32(0.0), 2: f32(0.9), 3: f32(1.8)}) == [(1, 2), (3,)]
    assert group_ids(comparator, {1: f32(0.9), 2: f32(0.0), 3: f32(1.8)}) == [(1, 2, 3)]


def test_outputs_are_read_only_where_digests_differ() -> None:
    def unreadable(attempt_id: int) -> Arrays:
        raise AssertionError(f"read {attempt_id}")

    same = [candidate(1, f32(1.0)), candidate(2, f32(1.0))]
    assert len(agreement_groups(TIGHT, same, unreadable)) == 1
    different = [candidate(1, f32(1.0)), candidate(2, f32(2.0))]
    assert len(agreement_groups(EXACT, different, unreadable)) == 2


SPECS = (OutputSpec(name="y", dtype="float32", shape=(2,)),)


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        pytest.param(f32(1, 2), None, id="as it should be"),
        pytest.param({}, "missing: ['y']", id="missing"),
        pytest.param({**f32(1, 2), "z": np.zeros(1)}, "not asked for: ['z']", id="one too many"),
        pytest.param({"y": np.zeros(2)}, "is float64", id="another type"),
        pytest.param(f32(1, 2, 3), "has shape [3]", id="another shape"),
    ],
)
def test_outputs_must_be_what_the_program_returns(arrays: Arrays, fault: str | None) -> None:
    found = spec_mismatch(arrays, SPECS)
    assert (found is None) == (fault is None)
    if fault is not None and found is not None:
        assert fault in found


dtypes = st.sampled_from(["float32", "float64", "float16", "int32", "uint8", "int64"])


@given(
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=6),
        dtypes.flatmap(lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, max_dims=3, max_side=3))),
        max_size=4,
    )
)
def test_the_prepared_digester_gives_the_digest_of_the_arrays(arrays: Arrays) -> None:
    digester = OutputDigester({name: (array.dtype, array.shape) for name, array in arrays.items()})
    assert digester.digest([arrays[name].tobytes() for name in digester.names]) == output_digest(arrays)


def test_the_prepared_digester_takes_no_complex_numbers() -> None:
    with pytest.raises(PoolError) as refusal:
        OutputDigester({"y": (np.dtype(np.complex64), (1,))})
    assert refusal.value.code is ErrorCode.TENSORS_DTYPE_UNSUPPORTED

"""Units of claims: which are drawn, how far a state may be off, and what follows for two claims."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pool_protocol.errors import PoolError
from pool_protocol.ulps import ULPS_MAX
from pool_server.core.agreement_rules import ComparatorKind, Rule, arrays_agree
from pool_server.core.comparison import Comparator
from pool_server.core.verification.unit_check import (
    UNIT_CHECK_LIFECYCLE,
    Fit,
    Settlement,
    Standing,
    UnitCheckRule,
    UnitCheckState,
    drawn_units,
    finding_of,
    found_probability,
    has_tolerance,
    next_parting,
    settle,
    standing_of,
    unit_fit,
    voices,
)

Array = NDArray[Any]
CLOSE = Comparator(kind=ComparatorKind.CLOSE, rtol=1e-3, atol=1e-6)
ULP = Comparator(kind=ComparatorKind.ULP, ulps=4)
FLOATS = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def fit(comparator: Comparator, claimed: Array, rerun: Array) -> Fit:
    return unit_fit(comparator, {"x": claimed}, {"x": rerun})


# --- which units --------------------------------------------------------------------------------


@given(st.integers(1, 300), st.data())
def test_drawn_units_are_different_and_of_the_task(unit_count: int, data: st.DataObject) -> None:
    below_one = st.floats(0, 1, exclude_max=True)
    numbers = data.draw(st.lists(below_one, max_size=min(unit_count, 20)))
    units = drawn_units(numbers, unit_count)
    assert len(set(units)) == len(units) == len(numbers)
    assert all(0 <= unit < unit_count for unit in units)
    assert list(units) == sorted(units)


def test_every_set_of_units_is_as_likely() -> None:
    # All numbers in twelfths: each pair of four units comes up as often as every other.
    twelfths = [number / 12 for number in range(12)]
    seen = Counter(drawn_units(numbers, 4) for numbers in product(twelfths, repeat=2))
    assert len(seen) == 6
    assert set(seen.values()) == {144 // 6}


@given(st.floats(0.01, 0.9), st.floats(0.001, 0.5), st.integers(1, 400))
def test_a_claim_wrong_in_the_share_is_found_as_often_as_promised(
    share: float, miss: float, unit_count: int
) -> None:
    rule = UnitCheckRule(wrong_share=share, miss_max=miss)
    wrong = math.ceil(share * unit_count)
    found = found_probability(unit_count=unit_count, wrong=wrong, checked=rule.units(unit_count))
    assert found >= 1 - miss - 1e-9


def test_the_figures_of_the_defaults() -> None:
    # docs/explanation/disputes.md prints these.
    rule = UnitCheckRule()
    assert [rule.units(count) for count in (1, 8, 9, 10, 64, 1_000)] == [1, 8, 9, 9, 9, 9]
    assert [rule.units(count, vouched=False) for count in (1, 10, 64, 1_000)] == [1, 10, 64, 64]
    found = [
        round(found_probability(unit_count=64, wrong=wrong, checked=rule.units(64)), 3)
        for wrong in (1, 4, 7, 16, 32)
    ]
    assert found == [0.141, 0.463, 0.673, 0.939, 0.999]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_shares_out_of_bounds_are_refused(share: float) -> None:
    with pytest.raises(PoolError):
        UnitCheckRule(wrong_share=share)
    with pytest.raises(PoolError):
        UnitCheckRule(miss_max=share)


def searched(unit_count: int, far: set[int], shown: set[int]) -> list[int]:
    """The units that are looked at in turn."""
    looked: list[int] = []
    while (unit := next_parting(unit_count, shown | set(looked), lambda unit: unit not in far)) is not None:
        assert unit not in looked
        looked.append(unit)
    return looked


@given(st.integers(1, 200), st.data())
def test_the_unit_in_which_claims_part_is_among_those_looked_at(unit_count: int, data: st.DataObject) -> None:
    units = st.integers(0, unit_count - 1)
    parting, shown = data.draw(units), data.draw(st.sets(units, max_size=9))
    looked = searched(unit_count, set(range(parting, unit_count)), shown)
    assert parting in {*shown, *looked}
    assert len(looked) <= 1 + (unit_count - 1).bit_length()


@given(st.integers(1, 60), st.data())
def test_of_claims_that_part_and_meet_again_one_parting_is_found(
    unit_count: int, data: st.DataObject
) -> None:
    units = st.integers(0, unit_count - 1)
    far = data.draw(st.sets(units)) | {unit_count - 1}
    shown = data.draw(st.sets(units, max_size=9))
    looked = {*shown, *searched(unit_count, far, shown)}
    assert any(unit in far and unit - 1 not in far for unit in looked)


def test_claims_that_end_near_each_other_are_not_searched() -> None:
    assert searched(64, {3, 4}, {3}) == []
    assert searched(1, {0}, set()) == [0]
    assert searched(1, {0}, {0}) == []


# --- how far off --------------------------------------------------------------------------------


def test_the_tolerance_is_relative_to_the_largest_value() -> None:
    # What cancels near zero is as exact as the largest value lets it be.
    assert fit(CLOSE, f32(1000.0, 0.5), f32(1000.0, 0.0)) is Fit.WITHIN
    assert fit(CLOSE, f32(1000.0, 1.5), f32(1000.0, 0.0)) is Fit.OUTSIDE
    assert fit(ULP, f32(1.0, 4 * 2.0**-23), f32(1.0, 0.0)) is Fit.WITHIN
    assert fit(ULP, f32(1.0, 5 * 2.0**-23), f32(1.0, 0.0)) is Fit.OUTSIDE


def test_a_large_claim_makes_itself_no_room() -> None:
    assert fit(CLOSE, f32(1e30, 7.0), f32(1.0, 0.0)) is Fit.OUTSIDE


@pytest.mark.parametrize("comparator", [CLOSE, ULP], ids=["close", "ulp"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("claimed", "rerun", "expected"),
    [
        pytest.param(math.nan, math.nan, Fit.WITHIN, id="NaN"),
        pytest.param(math.nan, 1.0, Fit.OUTSIDE, id="NaN and a number"),
        pytest.param(1.0, math.nan, Fit.OUTSIDE, id="a number and NaN"),
        pytest.param(math.inf, math.inf, Fit.WITHIN, id="the same infinity"),
        pytest.param(math.inf, -math.inf, Fit.OUTSIDE, id="the other infinity"),
        pytest.param(1.0, math.inf, Fit.OUTSIDE, id="a number and infinity"),
        pytest.param(-0.0, 0.0, Fit.WITHIN, id="zeros"),
    ],
)
def test_odd_values_are_as_under_the_rule(
    comparator: Comparator, dtype: Any, claimed: float, rerun: float, expected: Fit
) -> None:
    assert fit(comparator, np.array([claimed, 1.0], dtype), np.array([rerun, 1.0], dtype)) is expected
    assert fit(comparator, np.array([claimed], dtype), np.array([rerun], dtype)) is expected


@pytest.mark.parametrize(
    ("claimed", "rerun"),
    [
        pytest.param(f32(1), np.array([1.0]), id="another type"),
        pytest.param(f32(1), f32(1, 1), id="another length"),
        pytest.param(f32(1, 2), f32(1, 2).reshape(2, 1), id="another rank"),
        pytest.param(np.array([7]), np.array([8]), id="what is counted has no tolerance"),
        pytest.param(np.array([True]), np.array([False]), id="nor has what is true"),
    ],
)
@pytest.mark.parametrize("comparator", [CLOSE, ULP], ids=["close", "ulp"])
def test_what_no_tolerance_allows(comparator: Comparator, claimed: Array, rerun: Array) -> None:
    assert fit(comparator, claimed, rerun) is Fit.OUTSIDE
    assert fit(comparator, rerun, rerun.copy()) is Fit.WITHIN


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_value_of_all_has_neighbours_too(dtype: Any) -> None:
    infinity = np.array([math.inf], dtype).view(f"u{np.dtype(dtype).itemsize}")
    largest, below = ((infinity - steps).view(dtype) for steps in (1, 2))
    assert fit(ULP, below, largest) is Fit.WITHIN
    assert fit(ULP, -largest, largest) is Fit.OUTSIDE


def test_arrays_without_elements_and_without_axes() -> None:
    assert fit(ULP, f32(), f32()) is Fit.WITHIN
    assert fit(CLOSE, np.array(1.0001, np.float32), np.array(1, np.float32)) is Fit.WITHIN
    assert fit(ULP, np.array(1.0001, np.float32), np.array(1, np.float32)) is Fit.OUTSIDE


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Array, Array]:
    dtype = draw(st.sampled_from(["float32", "float64", "complex64"]))
    shape = draw(hnp.array_shapes(max_dims=2, max_side=3, min_side=0))
    return draw(hnp.arrays(dtype, shape)), draw(hnp.arrays(dtype, shape))


RULES = [
    Rule(kind=ComparatorKind.CLOSE, rtol=0.5, atol=2.0),
    Rule(kind=ComparatorKind.ULP, ulps=3),
    Rule(kind=ComparatorKind.ULP, ulps=ULPS_MAX),
]


@given(pair=pairs(), rule=st.sampled_from(RULES), near=st.booleans())
def test_what_agrees_under_the_rule_fits(pair: tuple[Array, Array], rule: Rule, *, near: bool) -> None:
    array, reference = pair
    if near:
        with np.errstate(all="ignore"):
            array = (reference * reference.dtype.type(1 + 2**-22)).astype(reference.dtype)
    assume(arrays_agree(rule, array, reference))
    comparator = Comparator(kind=rule.kind, rtol=rule.rtol, atol=rule.atol, ulps=rule.ulps)
    assert fit(comparator, array, reference) is Fit.WITHIN


MIXED = Comparator(
    kind=ComparatorKind.CLOSE, rtol=1e-3, outputs={"index": Rule(), "rows": Rule(kind=ComparatorKind.SET)}
)


def test_outputs_have_rules_of_their_own() -> None:
    rerun = {"x": f32(1), "index": np.array([3]), "rows": np.array([1, 2])}
    assert unit_fit(MIXED, rerun | {"x": f32(1.0001), "rows": np.array([2, 1])}, rerun) is Fit.WITHIN
    assert unit_fit(MIXED, rerun | {"index": np.array([4])}, rerun) is Fit.BITS_DIFFER
    assert unit_fit(MIXED, rerun | {"index": np.array([4]), "x": f32(2)}, rerun) is Fit.OUTSIDE
    assert unit_fit(MIXED, {"x": f32(1)}, rerun) is Fit.OUTSIDE
    assert has_tolerance(MIXED, ["x", "index"])
    assert not has_tolerance(MIXED, ["index", "rows"])
    assert not has_tolerance(Comparator(), ["x"])


# --- what it means ------------------------------------------------------------------------------

WITHIN, OUTSIDE, UNSETTLED = UnitCheckState.WITHIN, UnitCheckState.OUTSIDE, UnitCheckState.UNSETTLED


@pytest.mark.parametrize(
    ("fit", "equal", "same_bits", "expected"),
    [
        (Fit.WITHIN, True, True, WITHIN),
        (Fit.OUTSIDE, True, False, WITHIN),  # equal bits agree under every rule: NaN rules included
        (Fit.WITHIN, False, True, OUTSIDE),
        (Fit.BITS_DIFFER, False, True, OUTSIDE),
        (Fit.OUTSIDE, False, True, OUTSIDE),
        (Fit.WITHIN, False, False, WITHIN),
        (Fit.OUTSIDE, False, False, OUTSIDE),
        (Fit.BITS_DIFFER, False, False, UNSETTLED),
    ],
)
def test_bits_within_a_class_and_the_tolerance_across(
    fit: Fit, *, equal: bool, same_bits: bool, expected: UnitCheckState
) -> None:
    assert finding_of(fit, equal=equal, same_bits=same_bits) is expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], Standing.OPEN),
        ([WITHIN, WITHIN], Standing.STANDS),
        ([WITHIN, UnitCheckState.ASKING], Standing.OPEN),
        ([UNSETTLED, UnitCheckState.REFEREEING], Standing.OPEN),
        ([OUTSIDE, UnitCheckState.ASKING], Standing.WRONG),
        ([OUTSIDE, UNSETTLED, WITHIN], Standing.WRONG),
        ([WITHIN, UNSETTLED], Standing.UNSETTLED),
    ],
)
def test_the_standing_of_a_claim(states: list[UnitCheckState], expected: Standing) -> None:
    assert standing_of(states) is expected


STANDS, WRONG, OPEN, LEFT = Standing.STANDS, Standing.WRONG, Standing.OPEN, Standing.UNSETTLED


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (STANDS, STANDS, Settlement(both_stand=True)),
        (WRONG, STANDS, Settlement(wrong=(1,), upheld=2)),
        (STANDS, WRONG, Settlement(wrong=(2,), upheld=1)),
        (WRONG, WRONG, Settlement(wrong=(1, 2))),
        (STANDS, LEFT, Settlement(upheld=1, set_aside=(2,))),
        (LEFT, STANDS, Settlement(upheld=2, set_aside=(1,))),
        (WRONG, LEFT, Settlement(wrong=(1,))),
        (LEFT, LEFT, Settlement()),
        (WRONG, OPEN, None),
        (OPEN, STANDS, None),
    ],
)
def test_what_becomes_of_two_claims(first: Standing, second: Standing, expected: Settlement | None) -> None:
    assert settle({1: first, 2: second}) == expected


@given(st.sampled_from(list(Standing)), st.sampled_from(list(Standing)))
def test_only_what_is_wrong_is_blamed_and_never_both_are_upheld(first: Standing, second: Standing) -> None:
    standings = {1: first, 2: second}
    settlement = settle(standings)
    mirrored = settle({2: second, 1: first})
    if settlement is None or mirrored is None:
        assert settlement is mirrored is None
        return
    assert set(settlement.wrong) == {claim for claim in standings if standings[claim] is WRONG}
    assert settlement.upheld == mirrored.upheld
    assert settlement.upheld == 0 or standings[settlement.upheld] is STANDS
    assert not set(settlement.set_aside) & {settlement.upheld, *settlement.wrong}


def test_results_found_as_right_count_under_the_first_ones_digest() -> None:
    assert voices([]) == {}
    assert voices([(b"a", b"b"), (b"a", b"c")]) == {b"b": b"a", b"c": b"a"}
    assert voices([(b"a", b"b"), (b"c", b"d"), (b"b", b"d")]) == {b"b": b"a", b"c": b"a", b"d": b"a"}
    assert voices([(b"a", b"b"), (b"b", b"a")]) == {b"b": b"a"}


def test_a_check_ends_in_one_of_three_ways() -> None:
    assert UNIT_CHECK_LIFECYCLE.terminal() == {WITHIN, OUTSIDE, UNSETTLED}

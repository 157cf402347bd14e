"""What is proposed for what was seen: held against the pool's own comparison, on arrays of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import chargepool
from chargepool._comparators import Comparator
from chargepool._differences import Difference, OutputEvidence, measure, measure_samples
from chargepool._objection import objection
from chargepool._proposal import TOLERANCE_MAX, ClassRule, Proposal, propose
from pool_protocol.ulps import max_ulps, rounded_otherwise
from pool_server.core import comparison
from pool_server.rpc import convert_market

Arrays = dict[str, NDArray[Any]]

EQUAL = Difference(numbers=4, finite=4)
SETTINGS = ("unpinned", "unfused", "reassociated")
DTYPES = ("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "complex64", "int32", "bool")


def seen(name: str, runs: Mapping[str, NDArray[Any]], reference: NDArray[Any], **more: Any) -> OutputEvidence:
    """Evidence of one output out of runs by setting; everything else was equal."""
    equal = measure(reference, reference)
    return OutputEvidence(
        name=name,
        dtype=reference.dtype.name,
        again=more.get("again", equal),
        rounded=more.get("rounded", equal),
        others={setting: measure(array, reference) for setting, array in runs.items()},
        cut=more.get("cut"),
    )


def one(reference: Any, other: Any, dtype: str = "float32", **more: Any) -> Proposal:
    """The proposal for one output y that is `other` under one other setting."""
    made = [np.asarray(value, dtype) for value in (other, reference)]
    return propose([seen("y", {"unfused": made[0]}, made[1], **more)], only_whole_numbers=False)


def f32(*values: float) -> NDArray[Any]:
    return np.asarray(values, np.float32)


def i32(*values: int) -> NDArray[Any]:
    return np.asarray(values, np.int32)


def next_up(value: float, ulps: int, dtype: str = "float32") -> NDArray[Any]:
    """A number so many representable values above a positive one."""
    start = np.asarray([value], dtype)
    above: NDArray[Any] = (start.view(f"u{start.itemsize}") + np.asarray(ulps, f"u{start.itemsize}")).view(
        dtype
    )
    return above


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "other", "dtype", "comparator", "class_rule"),
    [
        ([1.0, 2.0], [1.0, 2.0], "float32", chargepool.exact(), ClassRule.SAME_CLASS),
        ([np.nan, 2.0], [-np.nan, 2.0], "float32", chargepool.exact(), ClassRule.SAME_CLASS),
        ([0.0, 2.0], [-0.0, 2.0], "float32", chargepool.ulp(16), ClassRule.ANY_CLASS),
        ([1.0], next_up(1.0, 1), "float32", chargepool.ulp(16), ClassRule.ANY_CLASS),
        ([1.0], next_up(1.0, 3), "float32", chargepool.ulp(32), ClassRule.ANY_CLASS),
        ([1.0], next_up(1.0, 3, "float64"), "float64", chargepool.ulp(32), ClassRule.ANY_CLASS),
        ([1.0], [1 + 2**-7], "bfloat16", chargepool.ulp(2), ClassRule.ANY_CLASS),
        ([1.0], [1 + 2**-10], "float16", chargepool.ulp(2), ClassRule.ANY_CLASS),
        # Far apart in representable values because one number is near zero, and close by magnitude.
        (
            [100.0, 1e-6],
            [100.0, 1e-6 + 3e-4],
            "float32",
            chargepool.close(rtol=5e-5, atol=5e-3),
            ClassRule.ANY_CLASS,
        ),
        ([1 + 1j], [1 + 1.0000003j], "complex64", chargepool.ulp(32), ClassRule.ANY_CLASS),
        # No tolerance will do.
        ([1.0, 2.0], [1.5, 2.0], "float32", chargepool.exact(), ClassRule.SAME_CLASS),
        ([1.0], [1.125], "float8_e4m3fn", chargepool.exact(), ClassRule.SAME_CLASS),
        ([1, 2], [1, 3], "int32", chargepool.exact(), ClassRule.SAME_CLASS),
        ([True, False], [True, True], "bool", chargepool.exact(), ClassRule.SAME_CLASS),
        ([1.0, np.nan], [1.0, 2.0], "float32", chargepool.exact(), ClassRule.SAME_CLASS),
        ([1.0, np.inf], [1.0, -np.inf], "float32", chargepool.exact(), ClassRule.SAME_CLASS),
        # Only the order of rows.
        ([1.0, 2.0, 2.0], [2.0, 1.0, 2.0], "float32", chargepool.unordered(), ClassRule.SAME_CLASS),
        ([[1, 2], [3, 4]], [[3, 4], [1, 2]], "int32", chargepool.unordered(), ClassRule.SAME_CLASS),
        ([[1, 2], [3, 4]], [[2, 1], [3, 4]], "int32", chargepool.exact(), ClassRule.SAME_CLASS),
        ([], [], "float32", chargepool.exact(), ClassRule.SAME_CLASS),
    ],
)
def test_what_is_proposed_for_one_output(
    reference: Any, other: Any, dtype: str, comparator: Comparator, class_rule: ClassRule
) -> None:
    with np.errstate(invalid="ignore"):
        proposal = one(reference, other, dtype)
    assert proposal.comparator == comparator
    assert proposal.class_rule == class_rule


def test_a_program_without_fractions_is_the_same_everywhere() -> None:
    whole = np.arange(4, dtype=np.int32)
    proposal = propose([seen("n", {"unfused": whole}, whole)], only_whole_numbers=True)
    assert (proposal.comparator, proposal.class_rule) == (chargepool.exact(), ClassRule.ANY_CLASS)


def test_outputs_have_their_own_tolerance_and_none_is_left_exact() -> None:
    # One exact output would keep all checks within a class.
    x, n = f32(1.0), i32(1, 2)
    outputs = [
        seen("loss", {"unfused": next_up(1.0, 1)}, x),
        seen("parameters", {"unfused": next_up(1.0, 5)}, x),
        seen("steady", {"unfused": x}, x),
        seen("count", {"unfused": n}, n),
    ]
    proposal = propose(outputs, only_whole_numbers=False)
    assert proposal.comparator == chargepool.per_output(
        {"parameters": chargepool.ulp(64)}, otherwise=chargepool.ulp(16)
    )
    assert proposal.class_rule is ClassRule.ANY_CLASS
    assert [one.name for one in proposal.outputs] == ["loss", "parameters", "steady", "count"]


def test_one_output_without_a_tolerance_takes_it_from_all() -> None:
    x, n = f32(1.0, 2.0), i32(1, 2)
    outputs = [
        seen("loss", {"unfused": x + np.float32(1e-6)}, x),
        seen("label", {"unfused": n + 1}, n),
        seen("hits", {"unfused": n[::-1]}, n),
    ]
    proposal = propose(outputs, only_whole_numbers=False)
    assert proposal.comparator == chargepool.per_output({"hits": chargepool.unordered()})
    assert proposal.class_rule is ClassRule.SAME_CLASS
    assert "'label'" in proposal.reason


def test_a_tolerance_has_room_for_one_rounding_of_the_inputs() -> None:
    # No flag of this machine may sum in another order; another machine does.
    x = f32(1.0)
    proposal = one(x, next_up(1.0, 1), rounded=measure(next_up(1.0, 5), x))
    assert proposal.comparator == chargepool.ulp(64)
    assert "rounding each input otherwise" in proposal.outputs[0].reason


def test_what_one_rounding_of_the_inputs_turns_over_has_no_tolerance() -> None:
    x, n = f32(1.0, 2.0), i32(1, 2)
    chaotic = one(x, next_up(1.0, 1)[[0, 0]] * x, rounded=measure(x[::-1] * np.float32(1.5), x))
    assert chaotic.class_rule is ClassRule.SAME_CLASS
    label = seen("label", {"unfused": n}, n, rounded=measure(n + 1, n))
    loss = seen("loss", {"unfused": x + np.float32(1e-6)}, x)
    assert propose([loss, label], only_whole_numbers=False).comparator == chargepool.exact()


def test_a_tolerance_by_magnitude_fits_the_smallest_sample_too() -> None:
    # Held against what results of a million differ by, results of one could be anything.
    large, small = f32(1e6, 1e-3), f32(1.0, 1e-3)
    runs = [{"y": large + f32(1.0, 1e-2)}, {"y": small}]
    both = measure_samples(runs, [{"y": large}, {"y": small}], "y")
    alone = measure_samples(runs[:1], [{"y": large}], "y")

    def rule(seen_under: Difference) -> ClassRule | None:
        output = OutputEvidence(
            name="y", dtype="float32", again=EQUAL, rounded=EQUAL, others={"unfused": seen_under}
        )
        return propose([output], only_whole_numbers=False).class_rule

    assert rule(alone) is ClassRule.ANY_CLASS
    assert rule(both) is ClassRule.SAME_CLASS


def test_nothing_is_learned_from_results_that_are_no_numbers() -> None:
    nan = f32(np.nan, np.inf)
    loss = seen("loss", {"unfused": f32(1.0) + f32(1e-6)}, f32(1.0))
    proposal = propose([loss, seen("y", {"unfused": nan}, nan)], only_whole_numbers=False)
    assert proposal.class_rule is ClassRule.SAME_CLASS
    assert "no finite number" in proposal.outputs[1].reason
    alone = propose([seen("y", {"unfused": nan}, nan)], only_whole_numbers=False)
    assert "no finite number" in alone.outputs[0].reason
    assert alone.alternative is None


def test_the_other_class_rule_is_told_where_it_holds_too() -> None:
    x = f32(1.0)
    steady = one(x, x, rounded=measure(next_up(1.0, 2), x))
    assert (steady.comparator, steady.alternative) == (chargepool.exact(), chargepool.ulp(32))
    assert one(x, next_up(1.0, 1)).alternative == chargepool.exact()
    assert one(x, x, rounded=measure(x * 2, x)).alternative is None, "chaos"
    assert one([1], [1], "int32").alternative is None


def test_a_nan_in_another_place_is_told_as_such() -> None:
    told = one([1.0, np.nan], [1.0, 2.0]).outputs[0].reason
    assert told == "NaN or infinity stands in other places under unfused."


# --- refusals -----------------------------------------------------------------------------------


def test_other_bits_under_one_setting_are_refused_and_it_says_where_how_far_and_what_to_do() -> None:
    x = f32(1.0, 2.0)
    proposal = one(x, x, again=measure(f32(1.0, 2.5), x))
    assert (proposal.comparator, proposal.class_rule) == (None, None)
    [refusal] = proposal.refusals
    assert refusal.name == "y"
    assert "'y' differs in 1 of 2 numbers, by up to 2097152 representable values" in refusal.reason
    assert refusal.next_step
    reordered = one(x, x, again=measure(x[::-1], x))
    assert "Sort its rows" in reordered.refusals[0].next_step


def test_other_bits_after_another_cut_are_refused() -> None:
    x = f32(1.0, 2.0)
    proposal = one(x, x, cut=measure(x * 2, x))
    assert proposal.comparator is None
    assert "units" in proposal.refusals[0].reason


# --- what was declared --------------------------------------------------------------------------


def test_objections() -> None:
    x = f32(1.0, 2.0)
    output = seen("y", {"unfused": x, "reassociated": x + np.float32(1e-6)}, x)
    proposal = propose([output], only_whole_numbers=False)

    def says(comparator: Comparator) -> str | None:
        return objection([output], comparator, proposal=proposal)

    told = says(chargepool.exact())
    assert told is not None
    assert told.startswith(
        "exact() will not hold across numeric classes: output 'y' differs in 2 of 2 numbers"
    )
    assert "under reassociated" in told
    assert str(proposal.comparator) in told
    assert says(chargepool.ulp(4)) is not None
    assert says(chargepool.close(rtol=0, atol=1e-7)) is not None
    assert says(chargepool.per_output({"y": chargepool.ulp(64)})) is None
    assert says(chargepool.close(rtol=1e-4, atol=0)) is None


def test_exact_is_right_where_only_bits_can_be_compared() -> None:
    x = f32(1.0, 2.0)
    output = seen("y", {"unfused": x * 3}, x)
    proposal = propose([output], only_whole_numbers=False)
    assert objection([output], chargepool.exact(), proposal=proposal) is None
    assert objection([output], chargepool.ulp(4), proposal=proposal) is not None


def test_nothing_exact_holds_where_two_runs_differ() -> None:
    x = f32(1.0, 2.0)
    output = seen("y", {"unfused": x}, x, again=measure(x + np.float32(1e-3), x))
    proposal = propose([output], only_whole_numbers=False)
    told = objection([output], chargepool.exact(), proposal=proposal)
    assert told is not None
    assert "under one and the same setting" in told
    assert objection([output], chargepool.close(rtol=1e-2, atol=0), proposal=proposal) is None


# --- properties ---------------------------------------------------------------------------------


@st.composite
def programs(draw: st.DrawFn) -> tuple[Arrays, dict[str, Arrays]]:
    """The outputs of a program under the cars' profile, and under other settings: from equal to unlike."""
    reference: Arrays = {}
    others: dict[str, Arrays] = {setting: {} for setting in SETTINGS}
    for index in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from(DTYPES))
        count = draw(st.integers(1, 5))
        array = draw(arrays_of(dtype, count))
        reference[f"o{index}"] = array
        for setting in SETTINGS:
            others[setting][f"o{index}"] = draw(changed(array))
    return reference, others


def arrays_of(dtype: str, count: int) -> st.SearchStrategy[NDArray[Any]]:
    finite = [0.0, -0.0, 1.5, -2.25, 300.0, 1e-4, 3.0]
    element = {
        "int32": st.integers(-9, 9),
        "bool": st.booleans(),
        # Of a complex NaN `close` does not look at the parts, and the measure does.
        "complex64": st.sampled_from([*finite, 1 - 1j]),
    }.get(dtype, st.sampled_from([*finite, np.nan, np.inf]))
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else getattr(ml_dtypes, dtype, dtype)
    return st.lists(element, min_size=count, max_size=count).map(lambda items: np.asarray(items).astype(kind))


@st.composite
def changed(draw: st.DrawFn, array: NDArray[Any]) -> NDArray[Any]:
    how = draw(st.sampled_from(["equal", "rounded", "scaled", "reversed", "other"]))
    if how == "equal":
        return array
    if how == "rounded":
        return rounded_otherwise(array)
    if how == "scaled" and array.dtype.kind not in "biu":
        factor = 1.0 + draw(st.sampled_from([1e-7, 1e-5, 1e-3, 0.5]))
        wide = np.complex128 if array.dtype.kind == "c" else np.float64
        with np.errstate(over="ignore", invalid="ignore"):
            return (array.astype(wide) * factor).astype(array.dtype)
    if how == "reversed":
        return array[::-1].copy()
    return draw(arrays_of(array.dtype.name, array.size))


def proposed(reference: Arrays, others: Mapping[str, Arrays]) -> tuple[list[OutputEvidence], Proposal]:
    outputs = [
        seen(name, {setting: runs[name] for setting, runs in others.items()}, array)
        for name, array in reference.items()
    ]
    return outputs, propose(outputs, only_whole_numbers=False)


def as_the_pool_reads_it(declared: Comparator, reference: Arrays) -> comparison.Comparator:
    return convert_market.comparator(declared.to_wire(), outputs=reference)


@given(program=programs())
def test_what_is_proposed_holds_in_the_pool_between_any_two_settings(
    program: tuple[Arrays, dict[str, Arrays]],
) -> None:
    reference, others = program
    outputs, proposal = proposed(reference, others)
    assert proposal.comparator is not None
    rule = as_the_pool_reads_it(proposal.comparator, reference)
    fleet = [reference, *others.values()]
    agree = [comparison.tensors_agree(rule, a, b) for a in fleet for b in fleet]
    if proposal.class_rule is ClassRule.ANY_CLASS:
        assert all(agree)
        assert not rule.compares_bits, "the pool would keep checks within a class"
    else:
        assert rule.compares_bits, "the pool would compare across classes, where nothing holds"
    assert objection(outputs, proposal.comparator, proposal=proposal) is None


@given(program=programs())
def test_a_tolerance_is_given_only_where_bits_differ_and_is_never_wide(
    program: tuple[Arrays, dict[str, Arrays]],
) -> None:
    reference, others = program
    outputs, proposal = proposed(reference, others)
    assert proposal.comparator is not None
    has_tolerance = not as_the_pool_reads_it(proposal.comparator, reference).compares_bits
    assert not (has_tolerance and all(output.elsewhere.is_equal for output in outputs))
    for output in outputs:
        rule = proposal.comparator.rule_of(output.name)
        assert rule.rtol <= (TOLERANCE_MAX if output.dtype in {"float32", "float64"} else 0.1)
        assert not has_tolerance or output.dtype not in {"int32", "bool"} or output.elsewhere.is_equal


@given(program=programs())
def test_every_output_has_its_reason_in_one_sentence(program: tuple[Arrays, dict[str, Arrays]]) -> None:
    reference, others = program
    _outputs, proposal = proposed(reference, others)
    assert proposal.comparator is not None
    assert [told.name for told in proposal.outputs] == list(reference)
    for told in proposal.outputs:
        assert told.comparator == proposal.comparator.rule_of(told.name)
    for reason in (proposal.reason, *(told.reason for told in proposal.outputs)):
        assert reason.endswith(".")
        assert ". " not in reason


@given(
    program=programs(),
    declared=st.one_of(
        st.builds(chargepool.ulp, st.integers(1, 2**20)),
        st.builds(
            lambda rtol, atol: chargepool.close(rtol=rtol, atol=atol), *[st.sampled_from([1e-6, 1e-3])] * 2
        ),
    ),
)
def test_an_objection_to_a_tolerance_is_never_wrong(
    program: tuple[Arrays, dict[str, Arrays]], declared: Comparator
) -> None:
    reference, others = program
    outputs, proposal = proposed(reference, others)
    told = objection(outputs, declared, proposal=proposal)
    rule = as_the_pool_reads_it(declared, reference)
    agrees = [comparison.tensors_agree(rule, runs, reference) for runs in others.values()]
    if told is not None:
        assert not all(agrees)
    if declared.ulps and not all(agrees):
        assert told is not None


@given(program=programs())
def test_the_worst_of_several_samples_counts(program: tuple[Arrays, dict[str, Arrays]]) -> None:
    reference, others = program
    for name in reference:
        single = [measure(runs[name], reference[name]) for runs in others.values()]
        together = measure_samples(list(others.values()), [reference] * len(others), name)
        assert together.differing == sum(one.differing for one in single)
        assert together.ulps == max(one.ulps for one in single)
        assert together.is_equal == all(one.is_equal for one in single)
        assert together.specials_alike == all(one.specials_alike for one in single)


# --- rounding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "complex64"])
def test_every_fraction_is_rounded_to_a_neighbour_and_nothing_else_changes(dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    fractions = np.asarray([0.1, -0.1, 1.3, -2.5, 2**-10], kind)
    moved = rounded_otherwise(np.tile(fractions, 20))
    before = np.tile(fractions, 20)
    assert max_ulps(moved, before) == 1
    assert all(max_ulps(moved[index : index + 1], before[index : index + 1]) == 1 for index in range(100))
    up = np.abs(moved.astype(np.complex128)) > np.abs(before.astype(np.complex128))
    assert 20 < up.sum() < 80, "both directions occur"
    whole = np.asarray([0.0, -0.0, 1.0, -3.0, 128.0, np.inf, -np.inf], kind)
    assert rounded_otherwise(whole).tobytes() == whole.tobytes()


def test_whole_numbers_are_not_rounded() -> None:
    numbers = np.arange(3, dtype=np.int32)
    assert rounded_otherwise(numbers) is numbers

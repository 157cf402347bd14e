"""Robust means: what they compute, what they bear, where they break, and what they refuse."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chargepool
from chargepool import rounds
from tests.support.repository import ROOT

Mean = Callable[[list[Any]], Any]
VAST = (1e30, -1e30, 1.7e308, -1.7e308)
ROBUST: dict[str, Mean] = {
    "median": rounds.coordinate_median,
    "trimmed": lambda updates: rounds.trimmed_mean(updates, beta=0.3),
    "clipping": lambda updates: rounds.centered_clipping(updates, tau=2.0, iterations=30),
}

honest_values = st.lists(st.floats(-1, 1), min_size=3, max_size=12)
lies = st.sampled_from([*VAST, math.nan, math.inf, -math.inf])


def updates_of(values: list[float]) -> list[dict[str, Any]]:
    return [{"w": np.array([value, -value])} for value in values]


def test_what_they_compute() -> None:
    updates = updates_of([0.0, 1.0, 2.0, 9.0])
    np.testing.assert_array_equal(rounds.mean(updates)["w"], [3.0, -3.0])
    np.testing.assert_array_equal(rounds.coordinate_median(updates)["w"], [1.5, -1.5])
    np.testing.assert_array_equal(rounds.trimmed_mean(updates, beta=0.25)["w"], [1.5, -1.5])
    np.testing.assert_array_equal(rounds.trimmed_mean(updates, beta=0)["w"], [3.0, -3.0])


def test_clipping_moves_towards_each_by_at_most_tau() -> None:
    far = [np.array([3.0, 4.0]), np.array([0.0, 0.0])]
    np.testing.assert_allclose(rounds.centered_clipping(far, tau=1.0), [0.3, 0.4])
    np.testing.assert_allclose(rounds.centered_clipping(far, tau=100.0), [1.5, 2.0])
    again = rounds.centered_clipping(far, tau=1.0, start=rounds.centered_clipping(far, tau=1.0))
    np.testing.assert_allclose(again, rounds.centered_clipping(far, tau=1.0, iterations=2))


def test_lengths_are_of_the_whole_update() -> None:
    update = {"a": np.array([3.0]), "b": (np.array(4.0),)}
    moved = rounds.centered_clipping([update], tau=1.0)
    np.testing.assert_allclose([moved["a"][0], moved["b"][0]], [0.6, 0.8])


@given(honest_values, st.data())
def test_below_its_breakdown_point_the_median_stays_within_the_honest(
    values: list[float], data: st.DataObject
) -> None:
    wrong = data.draw(st.lists(lies, max_size=len(values) - 1))
    median = rounds.coordinate_median(data.draw(st.permutations(updates_of([*values, *wrong]))))
    assert min(values) <= median["w"][0] <= max(values)
    assert -max(values) <= median["w"][1] <= -min(values)


@given(honest_values, st.sampled_from([0.1, 0.25, 0.3, 0.45]), st.data())
def test_below_its_breakdown_point_the_trimmed_mean_stays_within_the_honest(
    values: list[float], beta: float, data: st.DataObject
) -> None:
    wrong: list[float] = []
    for lie in data.draw(st.lists(lies, max_size=len(values))):
        if len(wrong) + 1 <= math.floor(beta * (len(values) + len(wrong) + 1)):
            wrong.append(lie)
    trimmed = rounds.trimmed_mean(updates_of([*values, *wrong]), beta=beta)
    assert min(values) - 1e-12 <= trimmed["w"][0] <= max(values) + 1e-12


@given(honest_values, st.lists(lies, max_size=20), st.floats(1e-3, 10), st.integers(1, 4))
def test_clipping_moves_no_further_than_tau_per_iteration(
    values: list[float], wrong: list[float], tau: float, iterations: int
) -> None:
    start = {"w": np.array([0.5, 0.5])}
    moved = rounds.centered_clipping(
        updates_of([*values, *wrong]), tau=tau, iterations=iterations, start=start
    )
    distance = float(np.linalg.norm(moved["w"] - start["w"]))
    assert distance <= tau * iterations * (1 + 1e-9)


@given(st.lists(st.floats(-1, 1), min_size=9, max_size=9), st.sampled_from(VAST))
def test_one_liar_of_ten_moves_clipping_by_no_more_than_its_share(values: list[float], lie: float) -> None:
    with_lie = rounds.centered_clipping(updates_of([*values, lie]), tau=2.0)["w"]
    without = rounds.centered_clipping(updates_of([*values, 0.0]), tau=2.0)["w"]
    assert float(np.linalg.norm(with_lie - without)) <= 2.0 / 10 * (1 + 1e-9)


def test_beyond_the_breakdown_point_they_break() -> None:
    assert abs(rounds.mean(updates_of([0.0] * 99 + [1e30]))["w"][0]) > 1e27, "one is enough for the mean"
    assert rounds.coordinate_median(updates_of([0.0] * 4 + [1e30] * 3))["w"][0] == 0
    assert rounds.coordinate_median(updates_of([0.0] * 4 + [1e30] * 4))["w"][0] > 1e29
    assert rounds.trimmed_mean(updates_of([0.0] * 8 + [1e30] * 2), beta=0.2)["w"][0] == 0
    assert rounds.trimmed_mean(updates_of([0.0] * 7 + [1e30] * 3), beta=0.2)["w"][0] > 1e28
    lead = rounds.centered_clipping(updates_of([0.0] * 4 + [1e30] * 6), tau=1.0, iterations=100)
    assert float(np.linalg.norm(lead["w"])) > 10, "a majority leads clipping away, step by step"


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_an_update_that_is_not_finite_is_left_out_as_a_whole(name: str, poison: float) -> None:
    honest = updates_of([0.1, 0.2, 0.3])
    poisoned = [*honest, {"w": np.array([1.0, poison])}]
    np.testing.assert_array_equal(ROBUST[name](poisoned)["w"], ROBUST[name](honest)["w"])
    with pytest.raises(chargepool.InputRefused, match="NaN"):
        ROBUST[name](poisoned[3:])


def test_the_mean_leaves_nothing_out() -> None:
    assert math.isnan(rounds.mean([np.array(1.0), np.array(math.nan)]))


@pytest.mark.parametrize("name", [*ROBUST, "mean"])
def test_structure_and_types_are_kept(name: str) -> None:
    aggregate = {**ROBUST, "mean": rounds.mean}[name]
    update = {
        "b": [np.ones((2, 3), np.float32), (np.float16(0.5), None)],
        "a": np.zeros((0,)),
        "c": np.ones(2, ml_dtypes.bfloat16),
    }
    result = aggregate([update, update, update])
    assert list(result) == ["b", "a", "c"]
    assert result["b"][0].dtype == np.float32
    assert result["b"][1][0].dtype == np.float16
    assert result["b"][1][1] is None
    assert result["c"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(result["a"], update["a"])


@pytest.mark.parametrize("name", [*ROBUST, "mean"])
@pytest.mark.parametrize(
    ("updates", "words"),
    [
        pytest.param([], "no updates", id="none"),
        pytest.param([np.zeros(2), np.zeros(3)], "Update 1", id="another shape"),
        pytest.param([{"a": np.zeros(2)}, {"b": np.zeros(2)}], "Update 1", id="another name"),
        pytest.param([np.zeros(2), np.zeros(2, np.float32)], "Update 1", id="another type"),
        pytest.param([np.zeros(2, np.int32)], "int32", id="integers"),
        pytest.param([np.zeros(2, np.complex64)], "complex64", id="complex numbers"),
    ],
)
def test_what_cannot_be_averaged_is_refused(name: str, updates: list[Any], words: str) -> None:
    with pytest.raises(chargepool.InputRefused, match=words):
        {**ROBUST, "mean": rounds.mean}[name](updates)


@pytest.mark.parametrize("beta", [-0.1, 0.5, math.nan])
def test_beta_has_a_range(beta: float) -> None:
    with pytest.raises(chargepool.InputRefused, match="beta"):
        rounds.trimmed_mean([np.zeros(1)], beta=beta)


@pytest.mark.parametrize(
    "arguments",
    [
        {"tau": 0.0},
        {"tau": math.inf},
        {"tau": 1.0, "iterations": 0},
        {"tau": 1.0, "start": np.zeros(3)},
        {"tau": 1.0, "start": np.array([math.nan])},
    ],
)
def test_clipping_needs_a_length_a_count_and_a_start_that_fit(arguments: dict[str, Any]) -> None:
    with pytest.raises(chargepool.InputRefused):
        rounds.centered_clipping([np.zeros(1)], **arguments)


def test_they_load_no_jax() -> None:
    code = "import sys; from chargepool import rounds; print('jax' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"

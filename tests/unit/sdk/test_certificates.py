"""Certificates: honest results pass over shapes and seeds, planted errors do not, misses are as stated."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from chargepool import certificates
from chargepool.certificates import Certificate

SEEDS = range(8)
Case = tuple[dict[str, Any], Any]


@cache
def compiled(certificate: Certificate) -> Callable[..., Any]:
    return jax.jit(certificate.verify)


def accepts(certificate: Certificate, inputs: Any, outputs: Any, *, nonce: int = 0) -> bool:
    words = np.random.default_rng(nonce).integers(0, 2**32, certificate.nonce_words, dtype=np.uint32)
    return bool(compiled(certificate)(inputs, outputs, words))


FREIVALDS = certificates.freivalds()
LINEAR = certificates.linear_system()
EIGEN = certificates.eigen()
SORTED = certificates.sorted_permutation()
LEAST = certificates.least_squares()


def matrix(kind: str, shape: tuple[int, ...], seed: int) -> Any:
    source = np.random.default_rng(seed)
    makers: dict[str, Callable[[], Any]] = {
        "normal": lambda: source.standard_normal(shape),
        "positive": lambda: source.random(shape),
        "wide": lambda: np.exp(3 * source.standard_normal(shape)),
        "sparse": lambda: source.standard_normal(shape) * (source.random(shape) < 0.05),
        "constant": lambda: np.full(shape, 1 / 3),
    }
    return makers[kind]().astype(np.float32)


# --- products -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "positive", "wide", "sparse", "constant"])
@pytest.mark.parametrize(("m", "n", "p"), [(1, 1, 1), (3, 5, 7), (64, 64, 64), (30, 500, 20), (20, 10, 400)])
def test_freivalds_accepts_honest_products(kind: str, m: int, n: int, p: int) -> None:
    for seed in SEEDS:
        a, b = matrix(kind, (m, n), seed), matrix(kind, (n, p), seed + 100)
        assert accepts(FREIVALDS, {"a": a, "b": b}, jnp.matmul(a, b), nonce=seed)


def test_freivalds_never_misses_a_lone_wrong_element_even_in_one_round() -> None:
    once = certificates.freivalds(rounds=1)
    source = np.random.default_rng(5)
    a, b = matrix("normal", (64, 64), 1), matrix("normal", (64, 64), 2)
    right = np.asarray(jnp.matmul(a, b))
    assert accepts(once, {"a": a, "b": b}, right)
    for nonce in range(200):
        wrong = right.copy()
        row, column = source.integers(0, 64, 2)
        wrong[row, column] += source.choice([-1, 1]) * 0.02 * np.abs(right).mean()
        assert not accepts(once, {"a": a, "b": b}, wrong, nonce=nonce)


def test_freivalds_misses_as_often_as_it_says_and_no_oftener() -> None:
    """Two equal errors in a row are the worst case: they cancel in every second round."""
    a, b = matrix("normal", (16, 16), 1), matrix("normal", (16, 16), 2)
    wrong = np.asarray(jnp.matmul(a, b)).copy()
    wrong[3, [2, 9]] += 1.0
    for rounds, expected in ((1, 0.5), (3, 0.125)):
        certificate = certificates.freivalds(rounds=rounds)
        assert certificate.miss_probability == expected
        tries = 2_000
        words = np.random.default_rng(7).integers(0, 2**32, (tries, 2), dtype=np.uint32)
        check: Any = jax.vmap(lambda nonce, c=certificate: c.verify({"a": a, "b": b}, wrong, nonce))
        missed = int(np.sum(np.asarray(check(words))))
        # Three standard deviations of a binomial.
        assert abs(missed - expected * tries) <= 3 * (tries * expected * (1 - expected)) ** 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_freivalds_refuses_what_is_no_number(value: float) -> None:
    a, b = matrix("normal", (8, 8), 1), matrix("normal", (8, 8), 2)
    wrong = np.asarray(jnp.matmul(a, b)).copy()
    wrong[1, 1] = value
    assert not accepts(FREIVALDS, {"a": a, "b": b}, wrong)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_freivalds_on_results_of_few_bits(dtype: str) -> None:
    a, b = matrix("normal", (256, 256), 1), matrix("normal", (256, 256), 2)
    right = jnp.matmul(a, b).astype(dtype)
    assert accepts(FREIVALDS, {"a": a, "b": b}, right)
    assert not accepts(FREIVALDS, {"a": a, "b": b}, right.at[7, 9].add(200.0))


@pytest.mark.parametrize("size", [1e25, 1e38])
def test_attack_a_result_that_is_too_large_does_not_excuse_itself(size: float) -> None:
    a, b = matrix("normal", (8, 8), 1), matrix("normal", (8, 8), 2)
    huge = np.full((8, 8), size, np.float32)
    assert not accepts(FREIVALDS, {"a": a, "b": b}, huge)
    for certificate in (LINEAR, LEAST):
        assert not accepts(certificate, {"a": a, "b": b}, huge)
        assert not accepts(certificate, {"a": a, "b": b}, np.full_like(huge, np.inf))
    values = np.full(8, size, np.float32)
    assert not accepts(EIGEN, a + a.T, (values, huge))
    assert not accepts(EIGEN, a + a.T, (np.full(8, np.inf, np.float32), huge))


def test_freivalds_sees_a_product_that_was_computed_in_half_precision() -> None:
    a, b = matrix("normal", (256, 256), 1), matrix("normal", (256, 256), 2)
    lazy = jnp.matmul(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
    assert not accepts(FREIVALDS, {"a": a, "b": b}, lazy)


def test_arrays_are_picked_where_a_task_holds_more() -> None:
    certificate = certificates.freivalds(arrays=lambda given, out: (given["x"], given["w"].T, out["y"]))
    x, w = matrix("normal", (4, 6), 1), matrix("normal", (5, 6), 2)
    inputs = {"x": x, "w": w, "more": np.zeros(3, np.float32)}
    assert accepts(certificate, inputs, {"y": x @ w.T})
    assert not accepts(certificate, inputs, {"y": x @ w.T + 1})
    with pytest.raises(ValueError, match="pass arrays="):
        accepts(FREIVALDS, inputs, {"y": x @ w.T})


# --- linear systems -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "positive", "wide"])
@pytest.mark.parametrize("columns", [(), (3,)])
@pytest.mark.parametrize("size", [1, 5, 40, 200])
def test_linear_system_accepts_honest_solutions(kind: str, columns: tuple[int, ...], size: int) -> None:
    for seed in SEEDS:
        a, b = matrix(kind, (size, size), seed), matrix("normal", (size, *columns), seed + 100)
        assert accepts(LINEAR, {"a": a, "b": b}, jnp.linalg.solve(a, b))


def test_linear_system_refuses_a_wrong_element_and_a_swapped_solution() -> None:
    for seed in range(50):
        source = np.random.default_rng(seed)
        a, b = matrix("normal", (40, 40), seed), matrix("normal", (40, 2), seed + 100)
        right = np.asarray(jnp.linalg.solve(a, b))
        wrong = right.copy()
        wrong[source.integers(40), source.integers(2)] += 0.01 * np.abs(right).max()
        assert not accepts(LINEAR, {"a": a, "b": b}, wrong)
        assert not accepts(LINEAR, {"a": a, "b": b}, right[:, ::-1])
        assert not accepts(LINEAR, {"a": a, "b": b}, np.full_like(right, np.nan))


# --- eigenvalues --------------------------------------------------------------------------------


def symmetric(kind: str, size: int, seed: int) -> Any:
    a = matrix(kind, (size, size), seed)
    return (a + a.T) / 2


@pytest.mark.parametrize("kind", ["normal", "positive", "constant"])
@pytest.mark.parametrize("size", [1, 2, 30, 100])
def test_eigen_accepts_honest_pairs(kind: str, size: int) -> None:
    for seed in SEEDS:
        a = symmetric(kind, size, seed)
        values, vectors = jnp.linalg.eigh(a)
        assert accepts(EIGEN, a, (values, vectors), nonce=seed)
        assert accepts(EIGEN, a, (values, -vectors), nonce=seed), "the sign is free"


def test_eigen_refuses_wrong_pairs() -> None:
    for seed in range(30):
        a = symmetric("normal", 30, seed)
        values, vectors = (np.asarray(part) for part in jnp.linalg.eigh(a))
        off = values.copy()
        off[seed] += 0.01 * np.abs(values).max()
        bent = vectors.copy()
        bent[seed, 3] += 0.01
        doubled = vectors.copy()
        doubled[:, 1] = doubled[:, 2]
        same = values.copy()
        same[1] = same[2]
        for wrong in (
            (np.sort(off), vectors),
            (values, bent),
            (same, doubled),
            (values[::-1], vectors[:, ::-1]),
            (values, vectors * 2),
        ):
            assert not accepts(EIGEN, a, wrong, nonce=seed)


# --- sorting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint32", "int8", "uint16", "float16", "bfloat16"])
def test_sorted_permutation_accepts_sorted_copies(dtype: str) -> None:
    for seed in SEEDS:
        values = np.random.default_rng(seed).integers(0, 100, (3, 200))
        x = jnp.asarray(values).astype(dtype)
        assert accepts(SORTED, x, jnp.sort(x), nonce=seed)
        assert not accepts(SORTED, x, jnp.sort(x)[:, ::-1], nonce=seed)


def test_sorted_permutation_takes_nan_zeros_and_infinities_as_jnp_sorts_them() -> None:
    x = jnp.asarray([np.nan, 1, -0.0, 0.0, np.inf, -np.inf, np.nan, -1], jnp.float32)
    assert accepts(SORTED, x, jnp.sort(x))
    assert not accepts(SORTED, x, jnp.sort(jnp.where(jnp.isnan(x), 2.0, x)))


def test_sorted_permutation_refuses_one_wrong_bit_and_one_element_twice() -> None:
    for seed in range(100):
        source = np.random.default_rng(seed)
        x = source.standard_normal(300).astype(np.float32)
        right = np.sort(x)
        place = int(source.integers(1, 299))
        nudged = right.copy()
        nudged[place] = np.nextafter(nudged[place], np.float32(np.inf))
        twice = right.copy()
        twice[place] = twice[place - 1]
        assert accepts(SORTED, x, right, nonce=seed)
        assert not accepts(SORTED, x, nudged, nonce=seed)
        assert not accepts(SORTED, x, twice, nonce=seed)


def test_attack_equal_sums_do_not_pass_for_equal_sets() -> None:
    x = np.array([1, 2, 3, 4], np.int32)
    assert not accepts(SORTED, x, np.array([1, 1, 4, 4], np.int32)), "same sum"
    assert not accepts(SORTED, x, np.array([2, 2, 3, 3], np.int32))


# --- least squares ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "positive", "wide"])
@pytest.mark.parametrize(("m", "n"), [(5, 1), (50, 8), (400, 60)])
def test_least_squares_accepts_honest_solutions(kind: str, m: int, n: int) -> None:
    for seed in SEEDS:
        a, b = matrix(kind, (m, n), seed), matrix("normal", (m, 2), seed + 100)
        assert accepts(LEAST, {"a": a, "b": b}, jnp.linalg.lstsq(a, b)[0])


def test_least_squares_refuses_what_is_not_the_best() -> None:
    for seed in range(50):
        source = np.random.default_rng(seed)
        a, b = matrix("normal", (60, 10), seed), matrix("normal", (60, 1), seed + 100)
        right = np.asarray(jnp.linalg.lstsq(a, b)[0])
        wrong = right.copy()
        wrong[source.integers(10)] += 0.01 * np.abs(right).max()
        assert not accepts(LEAST, {"a": a, "b": b}, wrong)
        assert not accepts(LEAST, {"a": a, "b": b}, np.zeros_like(right))


# --- chance -------------------------------------------------------------------------------------


def test_signs_are_fair_follow_the_nonce_and_differ_with_it() -> None:
    nonce = jnp.array([1, 2], jnp.uint32)
    drawn = np.asarray(certificates.signs(nonce, (100, 101)))
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    assert abs(drawn.mean()) < 3 / drawn.size**0.5
    assert np.array_equal(drawn, certificates.signs(nonce, (100, 101)))
    other = np.asarray(certificates.signs(nonce + 1, (100, 101)))
    assert abs((drawn * other).mean()) < 3 / drawn.size**0.5

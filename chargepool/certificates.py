"""Certificates: cheap checks that prove a result, so that it is accepted at once, from any car.

    pool.map(product, pairs, certificate=chargepool.certificates.freivalds())

A certificate is a function `verify(inputs, outputs, nonce)`, or `verify(constants, inputs, outputs, nonce)`
for a program with constants, in JAX, that returns one boolean. It becomes a program like yours. The pool runs
it on its own machine over each result, with a `nonce` that is drawn after the car committed to the result:
what no car can know, none can cheat. A result that passes needs neither the car's history nor an audit. One
that does not goes to another car.

Ready ones stand below, each with its formula, what it costs, how likely it misses an error, and what it
cannot see: they all allow for rounding, and errors smaller than that pass. They find their arrays by
themselves where inputs and outputs hold nothing else, in the order of their names; elsewhere pass `arrays`, a
function of what the program got and returned:

    freivalds(arrays=lambda weights, batch, outputs: (batch["x"], weights["w"], outputs["y"]))

Any function will do as well; `signs` gives it random numbers out of the nonce. This module imports JAX.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

__all__ = [
    "Certificate",
    "eigen",
    "freivalds",
    "least_squares",
    "linear_system",
    "signs",
    "sorted_permutation",
]

#: Words of chance that the pool gives: the key of a pseudo-random function.
NONCE_WORDS: Final = 2
#: Products with signs from which a norm is estimated: with fewer it may come out much too small.
_SAMPLES_MIN: Final = 8
#: Picks the arrays of a check out of what the program got, and what it returned.
Arrays = Callable[..., Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A check of results, ready to go with a job."""

    verify: Callable[..., Any]
    """`verify(inputs, outputs, nonce)`, with the constants first where there are any; returns a boolean."""
    miss_probability: float = 0.0
    """The chance that an error above rounding passes; 0 where none can."""
    nonce_words: int = NONCE_WORDS
    """How many uint32 the nonce has; 1 to 64."""


def signs(nonce: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return random float32 numbers of 1 and -1, which follow from the nonce (its first two words).

    One bit of the Threefry function each: whoever does not know the nonce cannot tell them from fair coins.
    """
    count = math.prod(shape)
    key = jax.random.wrap_key_data(nonce[:2], impl="threefry2x32")
    words = jax.random.bits(key, (-(-count // 32), 1), jnp.uint32)
    bits = (words >> jnp.arange(32, dtype=jnp.uint32)) & 1
    return (1.0 - 2.0 * bits.reshape(-1)[:count].astype(jnp.float32)).reshape(shape)


def freivalds(*, rounds: int = 8, slack: float = 16.0, arrays: Arrays | None = None) -> Certificate:
    """A product of matrices, C = A B, checked by Freivalds' rule with random signs.

    Formula: for `rounds` vectors x of fair signs, row by row, with u' the unit of rounding of C's type and u
    that of the check (single precision at least), A of m x n and B of n x p,

        |A (B x) - C x|_i  <=  slack * ((u' + u sqrt(max(n, p))) * |C_i| + u * |A_i| * |B|_F)

    where the norms are estimated from the same products with signs, at least eight, and vary by a quarter.

    Rounding: the signs are drawn after C is fixed, so the rounding errors of an honest C and of the check add
    up like a random walk. Measured on random matrices of all shapes up to 2048, honest products reach the
    right-hand side with a slack of 1 to 2; constant ones with 8; where long sums cancel by design (rows that
    alternate in sign) with 17: raise `slack` for those.

    Misses: a row with an element that is wrong by more than twice the right-hand side passes one round with a
    chance of at most 1/2, whatever its other elements are: turning the sign of that element moves the
    left-hand side by twice its error, and the passing interval is narrower. So 2**-rounds in all; a wrong
    element that is alone in its row is never missed. Cannot see: elements that are wrong by less. NaN,
    infinity and rows whose squares overflow never pass, right or wrong.

    Cost: 2 rounds (2 m n + n p + m p) operations, against 2 m n p of the product, and one pass over each
    matrix.

    Args:
        rounds: How many vectors. Eight cost least; 10 go with the level "standard", 20 with "strict".
        slack: Factor of the tolerance.
        arrays: Picks (A, B, C); by default the two inputs and the output.
    """

    def verify(*given: Any) -> Any:
        a, b, c = _arrays(given, arrays, (2, 1))
        own_unit = _unit(c)
        a, b, c = (_wide(array) for array in (a, b, c))
        unit = _unit(c)
        inner, columns = b.shape
        width = max(rounds, _SAMPLES_MIN)
        drawn = signs(given[-1], (columns * width + inner * _SAMPLES_MIN,))
        x = drawn[: columns * width].reshape(columns, width)
        z = drawn[columns * width :].reshape(inner, _SAMPLES_MIN)
        # Three passes over memory, which is what this costs: the norms come out of the same products.
        moved = _dot(b, x)
        through = _dot(a, jnp.concatenate([moved, z], axis=1))
        claimed = _dot(c, x)
        residual = jnp.abs(through[:, :width] - claimed)[:, :rounds]
        row_norm, whole_norm = _mean_size(through[:, width:]), jnp.linalg.norm(_mean_size(moved))
        scale = (own_unit + unit * math.sqrt(max(b.shape))) * _mean_size(claimed)
        scale += unit * whole_norm * row_norm
        return jnp.all(_within(residual, slack * scale[:, None]))

    return Certificate(verify=verify, miss_probability=2.0**-rounds)


def linear_system(*, slack: float = 8.0, arrays: Arrays | None = None) -> Certificate:
    """A solution x of A x = b, checked by its residual; b may have several columns.

    Formula: for each column, with A of n x n,

        max |A x - b|  <=  slack * u * sqrt(n) * (|A|_inf max|x| + max|b|)

    Misses: nothing above it; there is no chance in it. Cannot see: a solution of a system that is that near.
    Where A is badly conditioned, such a solution may be far from the right one, as may an honest one.

    Cost: 2 n**2 operations per column, against 2/3 n**3 of the elimination.

    Args:
        slack: Factor of the tolerance.
        arrays: Picks (A, b, x); by default the two inputs and the output.
    """

    def verify(*given: Any) -> Any:
        a, b, x = _arrays(given, arrays, (2, 1))
        unit = _unit(x)
        a, b, x = (_wide(array) for array in (a, b, x))
        b, x = b.reshape(b.shape[0], -1), x.reshape(x.shape[0], -1)
        residual = jnp.max(jnp.abs(_dot(a, x) - b), axis=0)
        row_sum = jnp.max(jnp.sum(jnp.abs(a), axis=1))
        scale = row_sum * jnp.max(jnp.abs(x), axis=0) + jnp.max(jnp.abs(b), axis=0)
        return jnp.all(_within(residual, slack * unit * math.sqrt(a.shape[0]) * scale))

    return Certificate(verify=verify)


def eigen(*, rounds: int = 10, slack: float = 8.0, arrays: Arrays | None = None) -> Certificate:
    """All eigenvalues w, rising, and eigenvectors V of a symmetric A, as `jnp.linalg.eigh` returns them.

    Formula: for `rounds` vectors x of fair signs, with A of n x n, in every row

        |A (V x) - V (w * x)|  <=  slack * u * n * |A|_F        (they are eigenpairs) |V' (V x) - x|
        <=  slack * u * n                (they are orthonormal, so that none is left out) w_k <= w_(k+1)

    Misses: as `freivalds`: what exceeds the right-hand side passes with a chance of at most 2**-rounds.
    Cannot see: pairs that belong to a matrix that is that near; and it takes any basis where eigenvalues
    are equal, and either sign: no comparator can.

    Cost: 8 rounds n**2 operations, against about 9 n**3.

    Args:
        rounds: How many vectors.
        slack: Factor of the tolerance.
        arrays: Picks (A, w, V); by default the input and the two outputs, the values' name first.
    """

    def verify(*given: Any) -> Any:
        a, w, v = _arrays(given, arrays, (1, 2))
        unit = _unit(v)
        a, w, v = (_wide(array) for array in (a, w, v))
        size = a.shape[0]
        x = signs(given[-1], (size, rounds))
        moved = _dot(v, x)
        pairs = _within(jnp.abs(_dot(a, moved) - _dot(v, w[:, None] * x)), slack * unit * size * _norm(a))
        orthonormal = jnp.abs(_dot(v.T, moved) - x) <= slack * unit * size
        return jnp.all(pairs) & jnp.all(orthonormal) & jnp.all(w[:-1] <= w[1:])

    return Certificate(verify=verify, miss_probability=2.0**-rounds)


def sorted_permutation(*, arrays: Arrays | None = None) -> Certificate:
    """A sorted copy of an array, along its last axis, as `jnp.sort` returns it: NaN last, all NaN being one.

    Formula: y_k <= y_(k+1), and both rows have the same fingerprint, the sum of 64-bit Threefry values of all
    elements under the nonce, each half modulo 2**32.

    Misses: rows of n elements that are not permutations of each other have the same fingerprint with a chance
    of at most (n / 2**32)**2. There is no rounding: one bit is enough.

    Cost: about 80 operations an element, against log2(n) comparisons.

    Args:
        arrays: Picks (x, y); by default the input and the output.
    """

    def verify(*given: Any) -> Any:
        x, y = _arrays(given, arrays, (1, 1))
        if x.shape != y.shape or x.dtype != y.dtype or not x.ndim:
            raise ValueError(
                f"a sorted copy has the type of the original: {x.dtype}{x.shape}, {y.dtype}{y.shape}"
            )
        in_order = y[..., :-1] <= y[..., 1:]
        if jnp.issubdtype(y.dtype, jnp.floating):
            in_order |= jnp.isnan(y[..., 1:])
        same = _fingerprint(x, given[-1]) == _fingerprint(y, given[-1])
        return jnp.all(in_order) & jnp.all(same)

    # The chance depends on the length; of a million elements it is this.
    return Certificate(verify=verify, miss_probability=(2.0**20 / 2.0**32) ** 2)


def least_squares(*, slack: float = 8.0, arrays: Arrays | None = None) -> Certificate:
    """A solution x of min |A x - b|, checked by its optimality; b may have several columns.

    Formula: the gradient vanishes, A' (A x - b) = 0: for each column, with A of m x n, in the norm of
    vectors,

        |A' (A x - b)|  <=  slack * u * sqrt(max(m, n)) * |A|_F * (|A|_F |x| + |b|)

    The problem is convex: no gradient, nothing better. Misses: nothing above it; there is no chance in it.
    Cannot see: a solution of a problem that is that near. Where A lacks rank it takes any of the solutions,
    not only the shortest.

    Cost: 4 m n operations per column, against 2 m n**2 of the factorization.

    Args:
        slack: Factor of the tolerance.
        arrays: Picks (A, b, x); by default the two inputs and the output.
    """

    def verify(*given: Any) -> Any:
        a, b, x = _arrays(given, arrays, (2, 1))
        unit = _unit(x)
        a, b, x = (_wide(array) for array in (a, b, x))
        b, x = b.reshape(b.shape[0], -1), x.reshape(x.shape[0], -1)
        gradient = _norm(_dot(a.T, _dot(a, x) - b), axis=0)
        size = _norm(a)
        scale = size * (size * _norm(x, axis=0) + _norm(b, axis=0))
        return jnp.all(_within(gradient, slack * unit * math.sqrt(max(a.shape)) * scale))

    return Certificate(verify=verify)


def _arrays(given: Sequence[Any], pick: Arrays | None, counts: tuple[int, int]) -> Sequence[Any]:
    """Return the arrays of a check: what `pick` picks, or the leaves of inputs and outputs."""
    *task, outputs, _nonce = given
    if pick is not None:
        return tuple(jnp.asarray(array) for array in pick(*task, outputs))
    found_in, found_out = jax.tree.leaves(task), jax.tree.leaves(outputs)
    if (len(found_in), len(found_out)) != counts:
        raise ValueError(
            f"it looks for {counts[0]} arrays that go in and {counts[1]} that come out, and finds "
            f"{len(found_in)} and {len(found_out)}; pass arrays="
        )
    return (*found_in, *found_out)


def _unit(array: Any) -> float:
    """Return the unit of rounding of an array's type."""
    return float(jnp.finfo(array.dtype).eps) / 2  # type: ignore[no-untyped-call] # as JAX has it


def _wide(array: Any) -> Any:
    """Check in single precision at least."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _within(error: Any, tolerance: Any) -> Any:
    """Compare, and refuse a tolerance that is infinite: a result that overflows would excuse itself."""
    return (error <= tolerance) & jnp.isfinite(tolerance)


def _dot(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _mean_size(products: Any) -> Any:
    """Return the root mean square of each row: of a matrix times fair signs, it estimates the rows' norms."""
    return jnp.sqrt(jnp.mean(products * products, axis=1))


def _norm(array: Any, axis: int | None = None) -> Any:
    return jnp.sqrt(jnp.sum(array * array, axis=axis))


def _fingerprint(array: Any, nonce: Any) -> Any:
    """Return two sums per row."""
    if jnp.issubdtype(array.dtype, jnp.floating):
        array = jnp.where(jnp.isnan(array), jnp.asarray(jnp.nan, array.dtype), array)
    width = array.dtype.itemsize
    if array.dtype == jnp.bool_:
        low, high = array.astype(jnp.uint32), jnp.zeros(array.shape, jnp.uint32)
    elif width == 8:
        halves = jax.lax.bitcast_convert_type(array, jnp.uint32)
        low, high = halves[..., 0], halves[..., 1]
    else:
        raw = jax.lax.bitcast_convert_type(array, {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[width])
        low, high = raw.astype(jnp.uint32), jnp.zeros(array.shape, jnp.uint32)
    hashed = threefry_2x32(nonce[:2], jnp.stack([low, high]))
    return jnp.sum(hashed, axis=-1, dtype=jnp.uint32)

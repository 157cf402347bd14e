"""The numeric probe: small programs, grouped by families of operations, whose bits tell machines apart.

It runs inside the worker, after its sandbox stands and under its pinned profile, like any other program. Its
inputs follow from whole numbers: every machine starts from the same bits. A change of anything here is
a new `pool_protocol.numeric.PROBE_VERSION`. This module imports JAX.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pool_protocol import digests
from pool_protocol.numeric import Family

Array = Any
Outputs = dict[str, Array]

#: Knuth's multiplier: neighbouring whole numbers become numbers that look like noise.
_MULTIPLIER: Final = 2_654_435_761
_WORD: Final = 2**32


def noise(count: int, *, seed: int, low: float = -1.0, high: float = 1.0) -> np.ndarray[Any, Any]:
    """Return float32 numbers in [low, high): 16 bits from whole numbers, exact before the scaling."""
    words = (np.arange(count, dtype=np.uint64) + np.uint64(seed * 7_919 + 1)) * np.uint64(_MULTIPLIER)
    fractions = ((words % np.uint64(_WORD)) >> np.uint64(16)).astype(np.float64) / 65_536.0
    return (low + (high - low) * fractions).astype(np.float32)


def _matrix(rows: int, columns: int, *, seed: int) -> np.ndarray[Any, Any]:
    return noise(rows * columns, seed=seed).reshape(rows, columns)


def _elementwise(x: Array, y: Array) -> Outputs:
    chain = x
    for factor in (1.1, -0.7, 0.3):
        chain = chain * y + factor  # contracted to one rounding where the machine can
    return {
        "multiply_add": chain,
        "divide": x / (y + 1.5),
        "sqrt": jnp.sqrt(x * x + 0.5),
        "half": (x.astype(jnp.bfloat16) * y.astype(jnp.bfloat16)).astype(jnp.float32),
        "round": jnp.round(x * 100.0) + jnp.floor(y * 10.0) % 3.0,
    }


def _transcendental(x: Array, y: Array) -> Outputs:
    positive = jnp.abs(y) + 0.1
    return {
        "exp": jnp.exp(x * 10.0),
        "log": jnp.log(positive) + jnp.log1p(positive),
        "trigonometric": jnp.sin(x * 30.0) + jnp.cos(y * 30.0) + jnp.tan(x),
        "tanh": jnp.tanh(x * 3.0) + lax.logistic(y * 5.0),
        "power": jnp.power(positive, x) + jnp.cbrt(y),
        "special": lax.erf(x) + lax.lgamma(positive) + jnp.arctan2(x, y) + jnp.expm1(x),
    }


def _rsqrt(x: Array, y: Array) -> Outputs:
    positive = jnp.abs(y) + 0.01
    mean = x.mean()
    return {
        "rsqrt": lax.rsqrt(positive),
        "reciprocal": 1.0 / jnp.sqrt(positive),
        "normalised": (x - mean) * lax.rsqrt(((x - mean) ** 2).mean() + 1e-5),
    }


def _dot(a: Array, b: Array, v: Array) -> Outputs:
    return {
        "square": a[:64, :64] @ b[:64, :64],
        "odd": a[:33, :65] @ b[:65, :17],
        "long": a @ b,
        "vector": a @ v,
        "batched": jnp.matmul(a[:64].reshape(4, 16, -1), b[:, :16]),
    }


def _dot_transposed(a: Array, b: Array) -> Outputs:
    return {
        "left": a[:96, :48].T @ b[:96, :40],
        "right": a[:48, :96] @ b[:40, :96].T,
        "both": jnp.einsum("ki,jk->ij", a[:64, :24], b[:32, :64]),
    }


def _conv(image: Array, kernel: Array, line: Array, taps: Array) -> Outputs:
    return {
        "plane": lax.conv(image, kernel, (1, 1), "SAME"),
        "strided": lax.conv(image, kernel, (2, 2), "VALID"),
        "line": jnp.convolve(line, taps),
    }


def _reduce(x: Array, m: Array) -> Outputs:
    return {
        "sum": jnp.sum(x),
        "rows": jnp.sum(m, axis=1),
        "columns": jnp.sum(m, axis=0),
        "variance": jnp.var(m, axis=0),
        "running": jnp.cumsum(x),
        "softmax": jax.nn.softmax(m, axis=1),
        "window": lax.reduce_window(m, 0.0, lax.add, (3, 3), (1, 1), "VALID"),
        "scattered": jnp.zeros(16, jnp.float32).at[jnp.arange(x.size) % 16].add(x),
    }


def _fft(x: Array, m: Array) -> Outputs:
    return {
        "power_of_two": jnp.abs(jnp.fft.fft(x[:256])),
        "odd_length": jnp.fft.rfft(x[:1_000]).real,
        "plane": jnp.fft.fft2(m[:32, :32]).imag,
        "back": jnp.fft.irfft(jnp.fft.rfft(x[:360])),
    }


def _rng(seed: Array) -> Outputs:
    key = jax.random.key(seed)
    return {
        "bits": jax.random.bits(key, (64,)),
        "uniform": jax.random.uniform(key, (64,)),
        "integers": jax.random.randint(key, (64,), 0, 1_000),
    }


def _lapack(m: Array) -> Outputs:
    symmetric = m @ m.T / m.shape[1] + jnp.eye(m.shape[0], dtype=m.dtype)
    right = m[:, :4]
    return {
        "cholesky": jnp.linalg.cholesky(symmetric),
        "solve": jnp.linalg.solve(symmetric, right),
        "eigenvalues": jnp.linalg.eigvalsh(symmetric),
        "singular": jnp.linalg.svd(right, compute_uv=False),
        "triangular": jnp.abs(jnp.linalg.qr(right)[1]),
    }


def _integer(n: Array) -> Outputs:
    return {
        "product": n[:64].reshape(8, 8) @ n[64:128].reshape(8, 8),
        "running": jnp.cumsum(n),
        "bits": lax.population_count(n) + lax.clz(n) + (n >> 3) ^ (n << 2),
        "remainder": n % 97 + n // 13,
    }


def _sort(x: Array, n: Array) -> Outputs:
    return {
        "values": jnp.sort(x),
        "order": jnp.argsort(n % 50, stable=True),
        "largest": lax.top_k(x, 10)[0],
    }


def _inputs() -> Mapping[Family, tuple[Callable[..., Outputs], tuple[Any, ...]]]:
    x, y = noise(1_024, seed=1), noise(1_024, seed=2)
    a, b = _matrix(128, 512, seed=3), _matrix(512, 96, seed=4)
    wide = _matrix(96, 96, seed=5)
    n = (np.arange(1, 1_025, dtype=np.uint64) * np.uint64(_MULTIPLIER) % np.uint64(_WORD)).astype(np.uint32)
    signed = (n >> np.uint32(8)).astype(np.int32)
    image, kernel = noise(2 * 3 * 17 * 19, seed=6), noise(4 * 3 * 3 * 3, seed=7)
    return {
        Family.ELEMENTWISE: (_elementwise, (x, y)),
        Family.TRANSCENDENTAL: (_transcendental, (x, y)),
        Family.RSQRT: (_rsqrt, (x, y)),
        Family.DOT: (_dot, (a, b, noise(512, seed=8))),
        Family.DOT_TRANSPOSED: (_dot_transposed, (_matrix(128, 128, seed=9), _matrix(128, 128, seed=10))),
        Family.CONV: (
            _conv,
            (image.reshape(2, 3, 17, 19), kernel.reshape(4, 3, 3, 3), x[:200], noise(15, seed=11)),
        ),
        Family.REDUCE: (_reduce, (x, wide)),
        Family.FFT: (_fft, (x, wide)),
        Family.RNG: (_rng, (np.uint32(2_026),)),
        Family.LAPACK: (_lapack, (_matrix(24, 32, seed=12),)),
        Family.INTEGER: (_integer, (signed,)),
        Family.SORT: (_sort, (x, signed)),
    }


def run_probe() -> dict[str, bytes]:
    """Run every micro-program; return the SHA-256 of its family's outputs, by family."""
    found: dict[str, bytes] = {}
    for family, (program, arguments) in _inputs().items():
        outputs = jax.jit(program)(*arguments)
        found[family.value] = digests.output_digest({name: np.asarray(out) for name, out in outputs.items()})
    return found

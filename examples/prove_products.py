"""Multiply matrices on charging cars and have each product proved: any car will do, and no result is audited.

export CHARGEPOOL_ADDRESS=... CHARGEPOOL_CA_FILE=... CHARGEPOOL_TOKEN_FILE=...
python examples/prove_products.py
"""

import jax.numpy as jnp
import numpy as np

import chargepool
from chargepool import certificates


def product(pair):
    return pair["a"] @ pair["b"]


def own_check(pair, result, nonce):
    """A check of one's own: both sides agree on a vector that no car knew when it sent its result."""
    x = certificates.signs(nonce, (result.shape[1],))
    return jnp.allclose(result @ x, pair["a"] @ (pair["b"] @ x), rtol=1e-3, atol=1e-2)


def main(count=8, size=128):
    source = np.random.default_rng(1)
    pairs = [
        {name: source.standard_normal((size, size)).astype(np.float32) for name in ("a", "b")}
        for _ in range(count)
    ]
    with chargepool.connect() as pool:
        products = []
        for check in (certificates.freivalds(rounds=20), own_check):
            results = list(pool.map(product, pairs, certificate=check))
            print(f"{len(results)} products, believed because of {sorted({r.evidence for r in results})}")
            products = [result.value for result in results]
        return pairs, products


if __name__ == "__main__":
    main()

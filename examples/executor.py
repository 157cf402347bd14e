"""Use the pool where a thread pool stood: code that takes a `concurrent.futures.Executor` works unchanged."""

from concurrent.futures import as_completed

import jax.numpy as jnp
import numpy as np

import chargepool


def largest_eigenvalue(matrix):
    """Power iteration: a fixed number of rounds, so that the price is known before it runs."""
    vector = jnp.ones(matrix.shape[0])
    for _ in range(30):
        vector = matrix @ vector
        vector = vector / jnp.linalg.norm(vector)
    return vector @ matrix @ vector


def main(count=8):
    source = np.random.default_rng(3)
    matrices = [source.normal(size=(16, 16)).astype(np.float32) for _ in range(count)]
    with chargepool.connect() as pool, pool.executor(tasks=count) as cars:
        futures = {cars.submit(largest_eigenvalue, m @ m.T): number for number, m in enumerate(matrices)}
        for future in as_completed(futures):
            print(
                f"matrix {futures[future]}: {float(future.result()):.3f}, {future.outcome.cost_micros} micros"
            )
        return [float(future.result()) for future in futures]


if __name__ == "__main__":
    main()

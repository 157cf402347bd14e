"""Estimate pi on charging cars: a map over seeds, with a quote first.

export CHARGEPOOL_ADDRESS=... CHARGEPOOL_CA_FILE=... CHARGEPOOL_TOKEN_FILE=...
python examples/estimate_pi.py
"""

import jax
import jax.numpy as jnp
import numpy as np

import chargepool

POINTS_PER_TASK = 100_000
TASKS = 40


def hits(seed):
    """Count random points of the unit square that lie in the quarter circle. Exact: it counts."""
    points = jax.random.uniform(jax.random.key(seed), (POINTS_PER_TASK, 2))
    return jnp.sum(jnp.sum(points**2, axis=1) < 1.0)


def main(tasks=TASKS):
    with chargepool.connect() as pool:
        program = pool.program(hits, np.uint32(0))
        quote = pool.quote(program, tasks)
        print(quote)

        seeds = (np.uint32(seed) for seed in range(tasks))
        inside = sum(int(result.value) for result in pool.map(program, seeds, quote=quote, progress=True))

        pi = 4 * inside / (tasks * POINTS_PER_TASK)
        print(f"pi is about {pi:.4f}, from {tasks * POINTS_PER_TASK:,} points")
        return pi


if __name__ == "__main__":
    main()

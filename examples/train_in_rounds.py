"""Train a model in rounds of local steps: each car improves it on its own shard, the script averages.

Weights travel as the program's constants, so each round sends them once; each task is one shard. A step
program makes many steps per task and leaves a checkpoint every `unit_steps`, so that a car that drives off
costs at most one unit.
"""

import jax
import jax.numpy as jnp
import numpy as np

import chargepool

ROUNDS = 3
SHARDS = 4
STEPS = 50
UNIT_STEPS = 10
RATE = 0.1


def loss(weights, shard):
    return jnp.mean((shard["x"] @ weights - shard["y"]) ** 2)


def step(state, shard, weights):
    """One step of gradient descent; `state` is how far this car has moved from the common weights."""
    gradient = jax.grad(loss)(weights + state["moved"], shard)
    return {"moved": state["moved"] - RATE * gradient}


def main(rounds=ROUNDS):
    source = np.random.default_rng(7)
    truth = np.array([1.0, -2.0, 0.5], np.float32)
    shards = []
    for _ in range(SHARDS):
        x = source.normal(size=(64, 3)).astype(np.float32)
        shards.append({"x": x, "y": x @ truth})

    weights = np.zeros(3, np.float32)
    start = {"moved": np.zeros(3, np.float32)}
    with chargepool.connect() as pool:
        for number in range(rounds):
            program = pool.step_program(
                step,
                start,
                shards[0],
                weights,
                unit_steps=UNIT_STEPS,
                comparator=chargepool.close(rtol=1e-4, atol=1e-5),
            )
            results = pool.map(program, [(start, shard) for shard in shards], steps=STEPS)
            weights = weights + np.mean([result.value["moved"] for result in results], axis=0)
            print(f"round {number + 1}: {np.round(weights, 3)}")
    return weights


if __name__ == "__main__":
    main()

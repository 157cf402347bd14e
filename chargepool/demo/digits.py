"""The demo's job: handwritten digits, a small classifier, and local SGD.

Decides the data split, the model and the arithmetic of a training round. Knows nothing of pools,
cars or processes: every function here runs the same on a laptop and on a car.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Params = dict[str, Array]

PIXELS = 64
CLASSES = 10
HIDDEN = 512
LEARNING_RATE = 0.25
MOMENTUM = 0.9
HELD_OUT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """The UCI handwritten digits, pixels scaled to [0, 1]."""

    train_x: Array
    """float32 [n_train, 64]"""
    train_y: Array
    """int32 [n_train]"""
    test_x: Array
    """float32 [400, 64]"""
    test_y: Array
    """int32 [400]"""


def load_digits(seed: int) -> Digits:
    """Loads the digits that scikit-learn ships and splits them by `seed`."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    x = (np.asarray(bunch.data)[order] / 16.0).astype(np.float32)
    y = np.asarray(bunch.target)[order].astype(np.int32)
    return Digits(train_x=x[HELD_OUT:], train_y=y[HELD_OUT:], test_x=x[:HELD_OUT], test_y=y[:HELD_OUT])


def initial_params(seed: int) -> Params:
    """He-initialised weights of a 64-512-10 network, float32."""
    rng = np.random.default_rng(seed + 1)
    return {
        "b1": np.zeros(HIDDEN, np.float32),
        "b2": np.zeros(CLASSES, np.float32),
        "w1": (rng.standard_normal((PIXELS, HIDDEN)) * (2.0 / PIXELS) ** 0.5).astype(np.float32),
        "w2": (rng.standard_normal((HIDDEN, CLASSES)) * (2.0 / HIDDEN) ** 0.5).astype(np.float32),
    }


def shards(digits: Digits, *, count: int) -> list[dict[str, Array]]:
    """Cuts the training set into `count` shards of equal length; the few left over are not used."""
    size = len(digits.train_y) // count
    return [
        {"x": digits.train_x[i * size : (i + 1) * size], "y": digits.train_y[i * size : (i + 1) * size]}
        for i in range(count)
    ]


def fresh_state(params: Params) -> dict[str, Params]:
    """The state in which a car begins a round: no change yet, no momentum."""
    zeros = {name: np.zeros_like(value) for name, value in params.items()}
    return {"delta": zeros, "momentum": {name: value.copy() for name, value in zeros.items()}}


def local_step(state: Any, inputs: Any, constants: Any) -> Any:
    """One step of SGD with momentum on a car's shard, from the broadcast weights.

    `constants` are the weights that the buyer broadcast for this round, `state["delta"]` is how far
    this car has moved from them. The delta at the end of the round is what the buyer averages.
    """
    import jax
    import jax.numpy as jnp

    def loss(delta: Any) -> Any:
        params = {name: constants[name] + delta[name] for name in delta}
        hidden = jax.nn.relu(inputs["x"] @ params["w1"] + params["b1"])
        logits = hidden @ params["w2"] + params["b2"]
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), inputs["y"][:, None], axis=1)
        return -jnp.mean(picked)

    gradient = jax.grad(loss)(state["delta"])
    momentum = {n: MOMENTUM * state["momentum"][n] + gradient[n] for n in gradient}
    delta = {n: state["delta"][n] - LEARNING_RATE * momentum[n] for n in momentum}
    return {"delta": delta, "momentum": momentum}


def outer_update(params: Params, deltas: list[Params]) -> Params:
    """The buyer's part of a round: moves the weights by the mean of the cars' deltas."""
    return {
        name: (value + np.mean([delta[name] for delta in deltas], axis=0)).astype(np.float32)
        for name, value in params.items()
    }


def classify(constants: Any, inputs: Any) -> Any:
    """Scores of each digit class for a batch of images: float32 [batch, 10]."""
    import jax

    hidden = jax.nn.relu(inputs["x"] @ constants["w1"] + constants["b1"])
    return {"scores": hidden @ constants["w2"] + constants["b2"]}


def accuracy(scores: Array, labels: Array) -> float:
    """Share of images whose highest score is their label."""
    return float(np.mean(np.argmax(scores, axis=1) == labels))

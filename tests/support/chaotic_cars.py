"""A chaotic step program on machines that round differently: honest walks part at once, and end unlike.

The logistic map x -> r x (1 - x) in float32. Each numeric class has its own way to write it, all of them
right; an error of one rounding doubles with every step, and is all there is after two dozen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pool_server.core.jobs import OutputSpec, ProgramFacts
from tests.support.step_cars import PROGRAM_SHA256, SIZE, UNIT_STEPS, State

RATE = np.float32(3.99)
ONE = np.float32(1)
PROGRAM = ProgramFacts(
    program_sha256=PROGRAM_SHA256,
    kind="step",
    work_uwu_per_task=1_000_000,
    unit_steps=UNIT_STEPS,
    outputs=(OutputSpec(name="value", dtype="float32", shape=(SIZE,)),),
)

Step = Callable[[State, int], State]


def start() -> State:
    """The initial state of a task."""
    return {"value": np.linspace(0.2, 0.6, SIZE, dtype=np.float32)}


def _walk(state: State, steps: int, step: Callable[[np.ndarray], np.ndarray]) -> State:
    value = state["value"].copy()
    for _ in range(steps):
        value = step(value).astype(np.float32)
    return {"value": value}


def factored(state: State, steps: int) -> State:
    """Class "a": (r x) (1 - x)."""
    return _walk(state, steps, lambda x: (RATE * x) * (ONE - x))


def expanded(state: State, steps: int) -> State:
    """Class "b": r x - r x x."""
    return _walk(state, steps, lambda x: RATE * x - RATE * x * x)


def wide(state: State, steps: int) -> State:
    """Class "r": rounded once a step."""
    return _walk(state, steps, lambda x: np.float64(RATE) * x * (1 - x.astype(np.float64)))


def off(state: State, steps: int) -> State:
    """A class that is wrong as a whole: in the third digit, always by the same bits."""
    return _walk(state, steps, lambda x: (RATE * x) * (ONE - x) * np.float32(0.999))


def tame_sum(state: State, steps: int) -> State:
    """A program without chaos, class "tame a": x + x / 1000."""
    return _walk(state, steps, lambda x: x + x * np.float32(1e-3))


def tame_product(state: State, steps: int) -> State:
    """The same of class "tame b"."""
    return _walk(state, steps, lambda x: x * np.float32(1.001))


#: What the machines of a class compute.
STEPS: dict[str, Step] = {
    "a": factored,
    "b": expanded,
    "r": wide,
    "off": off,
    "tame a": tame_sum,
    "tame b": tame_product,
}

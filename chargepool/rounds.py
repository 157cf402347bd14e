"""Robust means for training in rounds: one update out of those of many cars, of which some may be wrong.

    from chargepool import rounds

    moved = rounds.trimmed_mean([result.value for result in results], beta=0.2)

Each function takes a sequence of updates, all of one structure (floating-point arrays, or dicts, lists and
tuples of them), and returns one of that structure. They are pure and need NumPy alone; sums are made in
float64 and rounded to the updates' type once. n is the number of updates, d the numbers in each.

Except in `mean`, an update with a NaN or an infinity anywhere is left out as a whole. That costs no breakdown
point: what is left has no larger share of wrong updates than before.

A robust mean bounds what wrong updates can do; it does not prove that anyone worked. A car that sends its
neighbour's update, or none to speak of, goes unnoticed here. So let the inner loop of each round be a step
program: its units are committed and audited like all work, and the mean only has to bear what slips through.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargepool._errors import InputRefused

__all__ = ["centered_clipping", "coordinate_median", "mean", "trimmed_mean"]

_Leaves = list[NDArray[np.float64]]


def mean(updates: Sequence[Any]) -> Any:
    """Return the mean of all updates: `sum(v_i) / n`, in every coordinate.

    Breakdown point 0: one update moves the result anywhere, and one NaN makes it NaN. It is the best choice
    where every update is known to be right. Cost O(n d).

    Raises:
        InputRefused: There is no update, structures or shapes differ, or an array is not floating-point.
    """
    stack, rebuild = _stacked(updates)
    with np.errstate(over="ignore", invalid="ignore"):
        return rebuild([leaf.mean(axis=0) for leaf in stack])


def coordinate_median(updates: Sequence[Any]) -> Any:
    """Return the median of each coordinate; of an even number the mean of the middle two.

    Breakdown point 1/2: while fewer than half of the updates are wrong, each coordinate lies within the range
    of the right ones. For coordinates apart from each other, the result need not be anyone's update. Cost
    O(n d). Source: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
    Statistical Rates", ICML 2018.

    Raises:
        InputRefused: As `mean`; or no update is finite.
    """
    stack, rebuild = _stacked(updates, finite_only=True)
    with np.errstate(over="ignore"):
        # Halved before they are added: two numbers near the largest do not overflow.
        return rebuild([_middle(np.sort(leaf, axis=0)) for leaf in stack])


def trimmed_mean(updates: Sequence[Any], *, beta: float) -> Any:
    """Return, in each coordinate, the mean without the `floor(beta n)` lowest and as many highest values.

    Breakdown point beta: while at most `floor(beta n)` updates are wrong, each coordinate lies within the
    range of the right ones. Less noisy than the median where most are right. Cost O(n log n d). Source: as
    `coordinate_median`.

    Args:
        updates: What the cars returned.
        beta: Share that is cut off at each end, from 0 (the mean of what is finite) to below 1/2.

    Raises:
        InputRefused: As `coordinate_median`; or beta is out of its range.
    """
    if not 0 <= beta < 0.5:
        raise _refused(f"beta is {beta!r}", "Cut off from 0 to below 0.5 at each end.")
    stack, rebuild = _stacked(updates, finite_only=True)
    count = len(stack[0]) if stack else 0
    # A share such as 0.29 of 100 is 28.999... in binary, and means 29.
    cut = min(math.floor(beta * count + 1e-9), (count - 1) // 2)
    with np.errstate(over="ignore"):
        return rebuild([np.sort(leaf, axis=0)[cut : count - cut].mean(axis=0) for leaf in stack])


def centered_clipping(
    updates: Sequence[Any], *, tau: float, iterations: int = 1, start: Any | None = None
) -> Any:
    """Return a centre moved towards every update, by steps that are clipped to the length tau.

    `x <- x + (1/n) sum((v_i - x) min(1, tau / |v_i - x|))`, `iterations` times from `start`, lengths being
    Euclidean over the whole update. Each iteration moves the centre by at most tau, and f wrong updates of n
    move it by at most `tau f / n` of that, whatever they say. Proven for shares of wrong updates up to about
    0.1; up to 1/2 together with validators that recompute and ban (as audits do). Cost O(iterations n d).
    Sources: Karimireddy, He, Jaggi, "Learning from History for Byzantine Robust Optimization", ICML 2021;
    Gorbunov, Borzunov, Diskin, Ryabinin, "Secure Distributed Training at Scale", ICML 2022.

    Args:
        updates: What the cars returned.
        tau: Longest step; about the distance of honest updates from each other.
        iterations: How often; more where `start` is far from the updates.
        start: The first centre, of the updates' structure: the last round's result, so that history helps.
            None: zero.

    Raises:
        InputRefused: As `coordinate_median`; tau or iterations are not positive; `start` does not fit or is
            not finite.
    """
    if not (math.isfinite(tau) and tau > 0):
        raise _refused(f"tau is {tau!r}", "Give a positive length.")
    if iterations < 1:
        raise _refused(f"{iterations} iterations", "Make at least one.")
    stack, rebuild = _stacked(updates, finite_only=True)
    centre = [np.zeros(leaf.shape[1:]) for leaf in stack] if start is None else _start(start, updates[0])
    count = len(stack[0]) if stack else 0
    for _ in range(iterations):
        moves = [np.zeros_like(leaf) for leaf in centre]
        for index in range(count):
            with np.errstate(over="ignore"):
                steps = [leaf[index] - middle for leaf, middle in zip(stack, centre, strict=True)]
            share = _clip_factor(steps, tau) / count
            if share == 0.0:
                continue  # too far away to be told from infinity: it has no direction, and no say
            for move, step in zip(moves, steps, strict=True):
                np.add(move, share * step, out=move)
        centre = [middle + move for middle, move in zip(centre, moves, strict=True)]
    return rebuild(centre)


def _clip_factor(steps: _Leaves, tau: float) -> float:
    largest = max((float(np.abs(step).max(initial=0.0)) for step in steps), default=0.0)
    if largest == 0.0:
        return 1.0
    if not math.isfinite(largest):
        return 0.0
    # Scaled by the largest number first, so that squares do not overflow.
    length = math.sqrt(sum(float(np.sum((step / largest) ** 2)) for step in steps))
    return min(1.0, tau / largest / length)


def _middle(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    middle: NDArray[np.float64] = np.where(low == high, low, low / 2 + high / 2)
    return middle


def _start(start: Any, update: Any) -> _Leaves:
    if _shape_of(start) != _shape_of(update):
        raise _refused(
            "start does not have the updates' structure and shapes", "Pass the last round's result."
        )
    leaves = [np.asarray(leaf, np.float64) for leaf in _leaves_of(start)]
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        raise _refused("start is not finite", "Begin from a result that is, or leave start out.")
    return leaves


def _stacked(
    updates: Sequence[Any], *, finite_only: bool = False
) -> tuple[_Leaves, Callable[[_Leaves], Any]]:
    """Return the updates' leaves, stacked along a new first axis, and what builds an update out of leaves."""
    if len(updates) == 0:
        raise _refused("There are no updates", "Pass at least one.")
    shape = _shape_of(updates[0])
    for index, update in enumerate(updates):
        if _shape_of(update) != shape:
            raise _refused(
                f"Update {index} has another structure, shape or element type than the first",
                "Pass updates of one program.",
            )
    first = _leaves_of(updates[0])
    for leaf in first:
        # The types of ml_dtypes (bfloat16) have kind "V"; their names say what they are.
        if leaf.dtype.kind != "f" and "float" not in leaf.dtype.name:
            raise _refused(f"An update holds {leaf.dtype.name}", "Average floating-point arrays only.")
    rows = [[np.asarray(leaf, np.float64) for leaf in _leaves_of(update)] for update in updates]
    if finite_only:
        rows = [row for row in rows if all(np.isfinite(leaf).all() for leaf in row)]
        if not rows:
            raise _refused("Every update holds NaN or infinity", "Look at what the program computes.")
    stack = [np.stack(column) for column in zip(*rows, strict=True)]

    def rebuild(leaves: _Leaves) -> Any:
        with np.errstate(over="ignore"):
            # What does not fit the updates' type becomes infinity, as in any sum of that type.
            typed = [np.asarray(leaf).astype(like.dtype) for leaf, like in zip(leaves, first, strict=True)]
        return _built(updates[0], iter(typed))

    return stack, rebuild


def _leaves_of(value: Any) -> list[NDArray[Any]]:
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in _leaves_of(value[key])]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _leaves_of(item)]
    return [] if value is None else [np.asarray(value)]


def _shape_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *(_shape_of(item) for item in value)]
    if value is None:
        return None
    array = np.asarray(value)
    return (array.dtype.name, array.shape)


def _built(like: Any, leaves: Any) -> Any:
    if isinstance(like, dict):
        made = {key: _built(like[key], leaves) for key in sorted(like)}
        return {key: made[key] for key in like}
    if isinstance(like, list | tuple):
        items = [_built(item, leaves) for item in like]
        if isinstance(like, list):
            return items
        return type(like)(*items) if hasattr(like, "_fields") else tuple(items)
    return None if like is None else next(leaves)


def _refused(detail: str, next_step: str) -> InputRefused:
    return InputRefused(f"{detail}.", next_step=next_step)

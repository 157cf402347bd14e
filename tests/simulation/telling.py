"""An honest attempt at telling two kinds of rows apart: boosted trees and logistic regression, in numpy.

How well they do is the AUC: the chance that a row of the one kind gets a higher score than one of the other.
A half is guessing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Labels = NDArray[np.bool_]
Scores = NDArray[np.float64]

BINS = 32
ROUNDS = 80
RATE = 0.15
#: Weight that a leaf needs, in rows: smaller ones learn noise.
LEAF_MIN = 40.0


def auc(scores: Scores, labels: Labels) -> float:
    """Return the chance that a true row's score is above a false one's; equal ones count a half."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    values, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    sums = np.bincount(inverse, weights=ranks, minlength=len(values))
    ranks = (sums / counts)[inverse]
    positives = int(labels.sum())
    negatives = len(labels) - positives
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auc_interval(
    runs: Sequence[tuple[Scores, Labels]], *, seed: int, resamples: int = 400
) -> tuple[float, float, float]:
    """Return the AUC over runs, each for itself and weighted by its rows, with a 95 % bootstrap interval.

    Runs are drawn anew, not rows: rows of one run hang together.
    """
    found = np.array([auc(scores, labels) for scores, labels in runs])
    weights = np.array([float(labels.sum()) for _scores, labels in runs])
    chance = np.random.default_rng(seed)
    chosen = chance.integers(0, len(runs), size=(resamples, len(runs)))
    means = (found[chosen] * weights[chosen]).sum(axis=1) / weights[chosen].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float((found * weights).sum() / weights.sum()), float(low), float(high)


# --- logistic regression ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Logistic:
    """Weights over standardized columns, their squares among them."""

    mean: Rows
    scale: Rows
    weights: Rows

    def score(self, rows: Rows) -> Scores:
        """Return log odds."""
        return _bent(rows, self.mean, self.scale) @ self.weights


def _bent(rows: Rows, mean: Rows, scale: Rows) -> Rows:
    flat = np.clip((rows - mean) / scale, -6, 6)
    return np.column_stack([np.ones(len(rows)), flat, flat * flat])


def logistic(rows: Rows, labels: Labels) -> Logistic:
    """Fit by Newton's method, slightly shrunk."""
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    bent = _bent(rows, mean, scale)
    weights = np.zeros(bent.shape[1])
    for _ in range(12):
        odds = np.clip(bent @ weights, -30, 30)
        chance = 1 / (1 + np.exp(-odds))
        slope = bent.T @ (labels - chance) - weights
        bend = (bent * (chance * (1 - chance))[:, None]).T @ bent + np.eye(bent.shape[1])
        weights = weights + np.linalg.solve(bend, slope)
    return Logistic(mean, scale, weights)


# --- boosted trees ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Split:
    column: int
    bin: int
    gain: float


@dataclass(frozen=True, slots=True)
class _Tree:
    """Two questions, the second by the answer to the first; four leaves."""

    root: _Split
    sides: tuple[_Split, _Split]
    leaves: Rows

    def leaf_of(self, binned: NDArray[np.int64]) -> NDArray[np.int64]:
        right = binned[:, self.root.column] > self.root.bin
        columns = np.where(right, self.sides[1].column, self.sides[0].column)
        bins = np.where(right, self.sides[1].bin, self.sides[0].bin)
        second = binned[np.arange(len(binned)), columns] > bins
        return right * 2 + second


@dataclass(frozen=True, slots=True)
class Boosted:
    """Many small trees, each fitted to what those before it left over."""

    edges: list[Rows]
    trees: list[_Tree]

    def score(self, rows: Rows) -> Scores:
        """Return log odds, up to a constant."""
        binned = _binned(rows, self.edges)
        total: Scores = np.sum([RATE * tree.leaves[tree.leaf_of(binned)] for tree in self.trees], axis=0)
        return total


def boosted(rows: Rows, labels: Labels) -> Boosted:
    """Fit trees of depth two by Newton steps on the logistic loss."""
    edges = [
        np.unique(np.quantile(rows[:, column], np.linspace(0, 1, BINS + 1)[1:-1]))
        for column in range(rows.shape[1])
    ]
    binned = _binned(rows, edges)
    base = float(np.log(labels.mean() / (1 - labels.mean())))
    scores = np.full(len(rows), base)
    trees: list[_Tree] = []
    for _ in range(ROUNDS):
        chance = 1 / (1 + np.exp(-scores))
        tree = _tree(binned, labels - chance, chance * (1 - chance))
        trees.append(tree)
        scores = scores + RATE * tree.leaves[tree.leaf_of(binned)]
    return Boosted(edges, trees)


def _binned(rows: Rows, edges: list[Rows]) -> NDArray[np.int64]:
    return np.column_stack(
        [np.searchsorted(edges[column], rows[:, column]) for column in range(rows.shape[1])]
    )


def _tree(binned: NDArray[np.int64], slopes: Rows, bends: Rows) -> _Tree:
    root = _best(binned, slopes, bends)
    right = binned[:, root.column] > root.bin
    sides = (
        _best(binned[~right], slopes[~right], bends[~right]),
        _best(binned[right], slopes[right], bends[right]),
    )
    tree = _Tree(root, sides, np.zeros(4))
    leaf = tree.leaf_of(binned)
    sums = np.bincount(leaf, weights=slopes, minlength=4)
    weights = np.bincount(leaf, weights=bends, minlength=4)
    return _Tree(root, sides, sums / (weights + 1))


def _best(binned: NDArray[np.int64], slopes: Rows, bends: Rows) -> _Split:
    best = _Split(0, BINS, 0.0)
    total, weight = slopes.sum(), bends.sum()
    rows_per_bend = len(slopes) / max(weight, 1e-9)
    for column in range(binned.shape[1]):
        left = np.cumsum(np.bincount(binned[:, column], weights=slopes, minlength=BINS))
        left_weight = np.cumsum(np.bincount(binned[:, column], weights=bends, minlength=BINS))
        right, right_weight = total - left, weight - left_weight
        gains = left**2 / (left_weight + 1) + right**2 / (right_weight + 1)
        gains[np.minimum(left_weight, right_weight) * rows_per_bend < LEAF_MIN] = 0.0
        at = int(np.argmax(gains))
        if gains[at] > best.gain:
            best = _Split(column, at, float(gains[at]))
    return best

"""Can a car tell a check from work? A classifier gets all that an agent sees of its leases, and cannot.

A fleet works on the production's use cases, on a clock that only the test moves. From half of the runs a
classifier learns which attempts were of a task that had another before; on the other half it is asked. The
body of the jobs is judged: when a job's fresh tasks run out, what is left is checks, and nothing hides that.
"""

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, repeat
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pool_server.app.work_commands import LeaseGranted
from pool_server.core.hand_out import HIDDEN_AMONG_TASKS, WINDOW_PER_DELAY, HandOutOrder
from pool_server.core.verification import VerificationLevel
from pool_server.identity.signing import SecretDraws
from tests.support.clock import START_US
from tests.support.workshop import TASK_MICROS, InOrder, SetDraws, Workshop, inputs_of

Floats = NDArray[np.float64]

#: Tasks in one batch.
BATCH = 1_000
#: The share of results that is drawn for an audit: as for a fleet with some history, and steady.
AUDIT_SHARE = 0.2


@dataclass(frozen=True)
class Scene:
    """Who works on what."""

    runs: int
    jobs: int
    tasks_per_job: int
    #: What a car asks for at a time: small leases and large ones.
    lease_sizes: tuple[int, ...]
    #: Hand-outs of a job until as many checks wait as on average: before the first result there are none.
    warm_up: int = 4 * HIDDEN_AMONG_TASKS
    #: Fresh tasks of a job with which its body ends: what is left then is checks, ever more of them.
    fresh_min: int = HIDDEN_AMONG_TASKS

    @property
    def cars(self) -> int:
        return 2 * len(self.lease_sizes)

    @property
    def window(self) -> int:
        return WINDOW_PER_DELAY * (HIDDEN_AMONG_TASKS + 2 * sum(self.lease_sizes))


#: Jobs that are drawn from as a whole.
SMALL = Scene(runs=16, jobs=3, tasks_per_job=520, lease_sizes=(1, 2, 4, 8, 16, 32))
#: A job that is drawn from through a window, which passes over it while it is judged.
LARGE = Scene(runs=4, jobs=1, tasks_per_job=6_500, lease_sizes=(1, 2, 4), warm_up=1_500, fresh_min=2_000)


class SomeAudits(SetDraws):
    """Draws a steady share of the results, whatever the history says."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)

    def uniform(self, *, output_digest: bytes, attempt_id: int) -> float:
        # 1.0 is below no probability: the first results of a car are not audited one and all either.
        return 0.0 if self._chance.random() < AUDIT_SHARE else 1.0


@dataclass
class Eyes:
    """What one agent remembers."""

    asked_at_us: int = 0
    last_lease_id: int = 0
    last_job_id: int = 0
    seen: dict[int, list[int]] = field(default_factory=dict)
    scale: int = 1
    """Tasks of a job."""

    def look(self, lease: LeaseGranted, indexes: Sequence[int], now_us: int) -> list[list[float]]:
        """Return the features of each attempt of a lease."""
        before = self.seen.setdefault(lease.job_id, [])
        mean = sum(indexes) / len(indexes)
        rows = []
        for position, index in enumerate(indexes):
            older = sum(one > index for one in before)
            rest = [abs(index - other) for other in indexes if other != index]
            rows.append(
                [
                    np.log(len(indexes)),
                    position / len(indexes),
                    (len(indexes) - 1 - position) / len(indexes),
                    np.log1p((now_us - self.asked_at_us) / 1e6),
                    (lease.issued_at_us - START_US) / 1e6,
                    older / len(before) if before else 0.5,
                    (max(before) - index) / self.scale if before else 0.0,
                    index / self.scale,
                    (index - mean) / self.scale,
                    min(rest, default=0) / self.scale,
                    lease.attempts[position].attempt_id - lease.attempts[0].attempt_id,
                    np.log1p(lease.lease_id - self.last_lease_id),
                    float(lease.job_id == self.last_job_id),
                    lease.price_micros_per_wu + lease.job_id,
                ]
            )
        before.extend(indexes)
        self.asked_at_us, self.last_lease_id, self.last_job_id = now_us, lease.lease_id, lease.job_id
        return rows


def play(path: Path, seed: int, order: HandOutOrder, scene: Scene) -> tuple[Floats, Floats]:
    """Let a fleet work; return features and labels of the attempts of the jobs' bodies."""
    chance = random.Random(seed)
    pool = Workshop(path, draws=SomeAudits(seed), order=order)
    tasks, sizes = scene.tasks_per_job, scene.lease_sizes
    for number in range(scene.jobs):
        budget_micros = tasks * TASK_MICROS
        buyer = f"buyer_{number}"
        job_id = pool.job(0, level=VerificationLevel.STANDARD, buyer=buyer, budget_micros=budget_micros)
        for first in range(0, tasks, BATCH):
            pool.add(job_id, range(first, min(tasks, first + BATCH)), buyer=buyer)
    index_of = {inputs_of(index).inline: index for index in range(tasks)}
    cars = [pool.car(f"c{number}") for number in range(scene.cars)]
    eyes = {car: Eyes(asked_at_us=pool.now_us, scale=tasks) for car in cars}
    handed: dict[int, list[int]] = {}
    turns = [(pool.now_us + chance.randrange(1_000_000), number, None) for number in range(scene.cars)]
    queue: list[tuple[int, int, LeaseGranted | None]] = list(turns)
    heapq.heapify(queue)
    features: list[list[float]] = []
    labels: list[float] = []
    while True:
        now_us, number, work = heapq.heappop(queue)
        pool.books.now_us, car = now_us, cars[number]
        if work is not None:
            pool.hand_in(work)
        lease = pool.ask(car, sizes[number % len(sizes)])
        assert isinstance(lease, LeaseGranted), lease
        indexes = [index_of[grant.inputs.inline] for grant in lease.attempts]
        known = handed.setdefault(lease.job_id, [])
        if tasks - len(set(known)) < scene.fresh_min + max(sizes):
            break
        rows = eyes[car].look(lease, indexes, now_us)
        if len(known) > scene.warm_up:
            features += rows
            labels += [float(index in known) for index in indexes]
        known += indexes
        seconds = 0.5 + sum(chance.uniform(0.02, 0.1) for _ in indexes)
        heapq.heappush(queue, (now_us + int(seconds * 1e6), number, lease))
    pool.books.engine.dispose()
    return np.array(features), np.array(labels)


# --- the classifier -------------------------------------------------------------------------------


def logistic(features: Floats, labels: Floats) -> Floats:
    """Weights of a logistic regression with a ridge, by Newton's steps."""
    weights = np.zeros(features.shape[1])
    for _ in range(12):
        p = 1 / (1 + np.exp(-features @ weights))
        hessian = (features * (p * (1 - p))[:, None]).T @ features + np.eye(len(weights))
        weights -= np.linalg.solve(hessian, features.T @ (p - labels) + weights)
    return weights


@dataclass
class Stump:
    feature: int
    threshold: float
    low: float
    high: float

    def of(self, features: Floats) -> Floats:
        return np.where(features[:, self.feature] > self.threshold, self.high, self.low)


def boosted(features: Floats, labels: Floats, *, rounds: int = 60, rate: float = 0.3) -> list[Stump]:
    """Stumps, each fitted to what those before it leave (gradient boosting of the logistic loss)."""
    cuts = [
        (column, cut)
        for column in range(features.shape[1])
        for cut in np.unique(np.quantile(features[:, column], np.linspace(0.05, 0.95, 13)))
    ]
    above = np.array([features[:, column] > cut for column, cut in cuts], dtype=np.float64)
    counts = above.sum(axis=1)
    usable = (counts > 0) & (counts < len(labels))
    score = np.full(len(labels), np.log(labels.mean() / (1 - labels.mean())))
    stumps = []
    for _ in range(rounds):
        p = 1 / (1 + np.exp(-score))
        slope, bend = labels - p, p * (1 - p)
        slope_above, bend_above = above @ slope, above @ bend
        slope_below, bend_below = slope.sum() - slope_above, bend.sum() - bend_above
        gain = np.where(usable, slope_above**2 / (bend_above + 1) + slope_below**2 / (bend_below + 1), -1.0)
        best = int(np.argmax(gain))
        column, cut = cuts[best]
        stump = Stump(
            column,
            float(cut),
            rate * slope_below[best] / (bend_below[best] + 1),
            rate * slope_above[best] / (bend_above[best] + 1),
        )
        stumps.append(stump)
        score += stump.of(features)
    return stumps


def auc(scores: Floats, labels: Floats) -> float:
    """The chance that a check scores higher than work does; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = labels.sum()
    return float(
        (ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))
    )


def judged(runs: Sequence[tuple[Floats, Floats]]) -> tuple[float, float, float]:
    """Learn on half of the runs, ask on the others: AUC, and its 95 % interval by resampling whole runs."""
    half = len(runs) // 2
    learned = np.concatenate([features for features, _ in runs[:half]])
    labels = np.concatenate([labels for _, labels in runs[:half]])
    mean, spread = learned.mean(axis=0), learned.std(axis=0) + 1e-9

    def design(features: Floats) -> Floats:
        scaled = (features - mean) / spread
        return np.column_stack([np.ones(len(scaled)), scaled, scaled**2])

    weights, stumps = logistic(design(learned), labels), boosted(learned, labels)
    asked = [
        (design(features) @ weights + sum(stump.of(features) for stump in stumps), truth)
        for features, truth in runs[half:]
    ]

    def of(chosen: Sequence[int]) -> float:
        return auc(
            np.concatenate([asked[run][0] for run in chosen]),
            np.concatenate([asked[run][1] for run in chosen]),
        )

    chance = np.random.default_rng(5)
    resampled = [of(chance.integers(0, len(asked), len(asked)).tolist()) for _ in range(300)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return of(range(len(asked))), float(low), float(high)


def runs_of(
    path: Path, orders: Iterator[HandOutOrder], *, runs: int, scene: Scene = SMALL
) -> list[tuple[Floats, Floats]]:
    return [play(path / f"{seed}.sqlite3", seed, next(orders), scene) for seed in range(runs)]


def secrets() -> Iterator[HandOutOrder]:
    return (SecretDraws(b"secret %d" % number) for number in count())


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "scene", [pytest.param(SMALL, id="small jobs"), pytest.param(LARGE, id="a large job")]
)
def test_a_classifier_cannot_tell_a_check_from_work(tmp_path: Path, scene: Scene) -> None:
    assert (scene.tasks_per_job < scene.window) is (scene is SMALL)
    runs = runs_of(tmp_path, secrets(), runs=scene.runs, scene=scene)
    checks = sum(labels.sum() for _, labels in runs)
    attempts = sum(len(labels) for _, labels in runs)
    assert checks > 0.1 * attempts > 500, "too few to judge by"
    area, low, high = judged(runs)
    told = f"AUC {area:.3f}, 95 % interval {low:.3f} to {high:.3f}, {checks:.0f} checks of {attempts}"
    assert low <= 0.5 or (scene is LARGE and area < 0.53), told
    assert high < 0.6, told


@pytest.mark.timeout(240)
def test_the_same_classifier_finds_what_an_order_without_a_secret_tells(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, repeat(InOrder()), runs=SMALL.runs // 2)
    area, low, high = judged(runs)
    told = f"AUC {area:.3f}, 95 % interval {low:.3f} to {high:.3f}"
    assert low > 0.8, told

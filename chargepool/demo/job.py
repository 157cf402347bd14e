"""The buyer's script: trains on the cars, reads the held-out digits with them, keeps the evidence.

This is what a buyer would write: it uses the public SDK and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import chargepool
from chargepool.demo.digits import (
    Array,
    Digits,
    accuracy,
    classify,
    fresh_state,
    initial_params,
    local_step,
    outer_update,
    shards,
)
from chargepool.demo.progress import Progress
from chargepool.demo.world import World
from pool_protocol.v1 import market_service_pb2, market_service_pb2_grpc

ROUNDS = 4
SHARDS = 12
LOCAL_STEPS = 240
UNIT_STEPS = 40
DIGITS_PER_TASK = 8
LEVELS = {"training": "full", "reading": "careful"}
# Far below what a lie changes, far above what another summation order does.
TOLERANCE = 1e-3
CLOSE_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One accepted result and what is needed to compute it again here."""

    program: chargepool.Program
    item: Any
    steps: int | None
    value: Any
    what: str


@dataclass(kw_only=True)
class JobOutcome:
    """What the buyer got."""

    accuracy: float
    tasks: int
    attempts: int
    spent_micros: int
    evidence: list[Evidence] = field(repr=False)
    problems: list[str]


def run_job(world: World, digits: Digits, seed: int, progress: Progress) -> JobOutcome:
    """Runs the whole job and returns what came of it."""
    progress.tasks_total = ROUNDS * SHARDS + len(digits.test_y) // DIGITS_PER_TASK
    evidence: list[Evidence] = []
    params = initial_params(seed)
    parts = shards(digits, count=SHARDS)
    with chargepool.connect(world.address, token=world.buyer_token, ca=world.ca_file) as pool:
        for number in range(1, ROUNDS + 1):
            progress.stage = f"training, round {number} of {ROUNDS}"
            deltas = train_round(pool, params, parts, number=number, evidence=evidence, progress=progress)
            params = outer_update(params, deltas)
            scores = np.asarray(classify(params, {"x": digits.test_x})["scores"])
            progress.say(
                f"round {number} of {ROUNDS}: {SHARDS} shards trained on the cars, "
                f"accuracy {accuracy(scores, digits.test_y):.1%}"
            )
        progress.stage = "reading digits"
        scores = read_digits(pool, params, digits, evidence, progress)
        right = accuracy(scores, digits.test_y)
        progress.say(f"{len(scores)} held-out digits read on the cars: {right:.1%} right")
        jobs = wait_for_jobs(pool)
        balance = pool.balance()
    spent = sum(job.spent_micros for job in jobs)
    problems = []
    if balance.spent_micros != spent:
        problems.append(f"the account says {balance.spent_micros} spent, the jobs say {spent}")
    if balance.escrow_micros:
        problems.append(f"{balance.escrow_micros} micro-units are still reserved after the last job")
    return JobOutcome(
        accuracy=right,
        tasks=sum(job.task_count for job in jobs),
        attempts=sum(job.attempt_count for job in jobs),
        spent_micros=spent,
        evidence=evidence,
        problems=problems,
    )


def train_round(
    pool: chargepool.Client,
    params: dict[str, Array],
    parts: list[dict[str, Array]],
    *,
    number: int,
    evidence: list[Evidence],
    progress: Progress,
) -> list[dict[str, Array]]:
    """Broadcasts the weights, lets each shard be trained on a car, returns how far each moved."""
    state = fresh_state(params)
    program = pool.step_program(local_step, state, parts[0], params, unit_steps=UNIT_STEPS)
    deltas: dict[int, dict[str, Array]] = {}
    for result in pool.map(
        program,
        [(state, part) for part in parts],
        steps=LOCAL_STEPS,
        level=LEVELS["training"],  # type: ignore[arg-type]
        ordered=False,
        name=f"digits, round {number}",
    ):
        deltas[result.index] = result.value["delta"]
        evidence.append(
            Evidence(
                program=program,
                item=(state, parts[result.index]),
                steps=LOCAL_STEPS,
                value=result.value,
                what=f"round {number}, shard {result.index}",
            )
        )
        progress.one_more()
    return [deltas[index] for index in range(len(parts))]


def read_digits(
    pool: chargepool.Client,
    params: dict[str, Array],
    digits: Digits,
    evidence: list[Evidence],
    progress: Progress,
) -> Array:
    """Lets the cars read the held-out digits: a map over small batches, the weights as its constant."""
    size = DIGITS_PER_TASK
    batches = [{"x": digits.test_x[i : i + size]} for i in range(0, len(digits.test_x) - size + 1, size)]
    program = pool.program(classify, batches[0], constants=params)
    scores: list[Array] = []
    for result in pool.map(
        program,
        batches,
        level=LEVELS["reading"],  # type: ignore[arg-type]
        name="digits, reading",
    ):
        scores.append(result.value["scores"])
        evidence.append(
            Evidence(
                program=program,
                item=batches[result.index],
                steps=None,
                value=result.value,
                what=f"digits batch {result.index}",
            )
        )
        progress.one_more()
    return np.concatenate(scores)


def wait_for_jobs(pool: chargepool.Client) -> list[chargepool.JobStatus]:
    """All jobs of the buyer, once the pool has closed them."""
    deadline = time.monotonic() + CLOSE_TIMEOUT_S
    while True:
        jobs = list(pool.jobs())
        if all(job.is_over for job in jobs) or time.monotonic() > deadline:
            return jobs
        time.sleep(0.2)


def check_results(outcome: JobOutcome, *, say: Callable[[str], None], on_each: Callable[[], None]) -> int:
    """Computes every accepted result again here, and counts those that are wrong."""
    say(f"computing all {len(outcome.evidence)} accepted results again on this machine")
    wrong = []
    for evidence in outcome.evidence:
        on_each()
        if not same(evidence.program.local(evidence.item, steps=evidence.steps), evidence.value):
            wrong.append(evidence.what)
    for what in wrong[:5]:
        outcome.problems.append(f"accepted result of {what} is wrong")
    return len(wrong)


def same(expected: Any, actual: Any) -> bool:
    """Whether two nested results agree within what summation order explains."""
    if isinstance(expected, dict):
        return expected.keys() == actual.keys() and all(same(expected[k], actual[k]) for k in expected)
    return bool(np.allclose(expected, actual, rtol=TOLERANCE, atol=TOLERANCE))


def pool_roots(world: World) -> tuple[str, list[bytes]]:
    """The pool's id and its signed root documents, oldest first."""
    with world.channel(world.buyer_token) as channel:
        answer = market_service_pb2_grpc.MarketServiceStub(channel).GetPoolRoot(
            market_service_pb2.GetPoolRootRequest(), timeout=CLOSE_TIMEOUT_S
        )
    return answer.pool_id, [root.SerializeToString() for root in answer.roots]

"""Disputes over step tasks through the real server: one lying unit is found, and re-run alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from tests.support.fake_car import FakeBuyer, vet_without_jax
from tests.support.pool import PoolHandle, running_pool
from tests.support.step_cars import (
    UNIT_STEPS,
    AnsweringStream,
    CountingReferee,
    StepCar,
    lie_at,
    open_step_job,
)

UNITS = 64


@contextmanager
def answering(*cars: StepCar) -> Iterator[list[AnsweringStream]]:
    """Streams of cars, ended at the end."""
    with ExitStack() as stack:
        streams = []
        for car in cars:
            stream = AnsweringStream(car)
            stack.callback(stream.end)
            streams.append(stream)
        yield streams


@contextmanager
def step_pool(tmp_path: Path, referee: CountingReferee, **config: Any) -> Iterator[PoolHandle]:
    """A pool whose referee is known."""
    with running_pool(tmp_path, vet=vet_without_jax, referee=referee, **config) as pool:
        yield pool


def rows(pool: PoolHandle, query: str) -> list[tuple[Any, ...]]:
    """Look into the database."""
    with closing(sqlite3.connect(pool.data_dir / "pool.sqlite3")) as connection:
        return connection.execute(query).fetchall()


def wait_decided(buyer: FakeBuyer, job_id: str) -> market_pb.TaskResult:
    """Watch the job until its only task is decided."""
    watch = buyer.pool.market().WatchJob(
        market_pb.WatchJobRequest(job_id=job_id), metadata=buyer.principal.metadata, timeout=30
    )
    for _ in watch:
        [result] = buyer.results(job_id, 1)
        if result.state != market_pb.TASK_STATE_OPEN:
            watch.cancel()
            return result
    raise AssertionError("the watch ended before the task did")


@pytest.mark.parametrize("unit", [0, 1, 31, 41, 63])
@pytest.mark.parametrize("comes", ["first", "second"])
def test_a_lying_unit_among_64_is_found_in_seven_questions_and_run_alone(
    tmp_path: Path, unit: int, comes: str
) -> None:
    referee = CountingReferee()
    with step_pool(tmp_path, referee) as pool:
        buyer = FakeBuyer.with_money(pool)
        job_id = open_step_job(buyer, steps=UNITS * UNIT_STEPS)
        liar, truthful = StepCar(pool, spoil=lie_at(unit), name="liar"), StepCar(pool, name="truthful")
        order = (liar, truthful) if comes == "first" else (truthful, liar)
        with answering(liar, truthful):
            for car in order:
                assert [ack.status for ack in car.work_steps()] == [pb.ACK_STATUS_RECORDED]
            result = wait_decided(buyer, job_id)
        assert result.state == market_pb.TASK_STATE_ACCEPTED
        # The bar: at most seven questions for digests, to either side, and one unit run again.
        for car in (liar, truthful):
            assert len(car.digest_queries()) <= 7
            assert car.state_queries() in ([], [unit - 1])
        assert [(done.unit_index, done.steps) for done in referee.orders] == [(unit, UNIT_STEPS)]
        states = dict(rows(pool, "SELECT vehicle_id, state FROM attempts"))
        assert states == {liar.vehicle.vehicle_id: "rejected", truthful.vehicle.vehicle_id: "accepted"}
        [dispute] = rows(pool, "SELECT state, rounds, unit_index, reason FROM disputes")
        assert dispute == ("decided", 7, unit, "WRONG_UNIT")

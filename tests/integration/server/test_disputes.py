"""Disputes over step tasks through the real server: one lying unit is found, and re-run alone."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.system import SystemClock
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from tests.support.clock import ManualClock
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


def state_of(pool: PoolHandle, car: StepCar) -> str:
    """The state of a car's only attempt."""
    [(state,)] = rows(pool, f"SELECT state FROM attempts WHERE vehicle_id = '{car.vehicle.vehicle_id}'")
    return str(state)


def until(condition: Callable[[], bool], *, what: str) -> None:
    """Wait for what another part does; fail after a while."""
    clock, pause = SystemClock(), threading.Event()
    end_ns = clock.monotonic_ns() + 20_000_000_000
    while not condition():
        assert clock.monotonic_ns() < end_ns, f"never came true: {what}"
        pause.wait(0.02)


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


def test_questions_outlive_the_server_and_are_asked_again_on_the_next_stream(tmp_path: Path) -> None:
    referee = CountingReferee()
    with step_pool(tmp_path, referee) as pool:
        buyer = FakeBuyer.with_money(pool)
        job_id = open_step_job(buyer, steps=UNITS * UNIT_STEPS)
        liar, truthful = StepCar(pool, spoil=lie_at(40), name="liar"), StepCar(pool, name="truthful")
        liar.work_steps()
        truthful.work_steps()  # no stream is up: nobody hears the first question
        assert rows(pool, "SELECT count(*) FROM unit_queries WHERE state = 'asked'") == [(2,)]
        liar.answer_with = lambda query: None
        with answering(liar, truthful) as (stream, _):
            assert stream.asked.wait(20)
        pool.restart()
        liar.answer_with = liar.truthful_answer
        liar.asked.clear()
        with answering(liar, truthful):
            result = wait_decided(buyer, job_id)
        assert result.state == market_pb.TASK_STATE_ACCEPTED
        assert [order.unit_index for order in referee.orders] == [40]
        assert len(liar.digest_queries()) == 7


def test_a_server_that_stopped_before_its_referee_ran_runs_it_after_the_start(tmp_path: Path) -> None:
    referee = CountingReferee(fails_with=PoolError(ErrorCode.UNAVAILABLE, "not now"))
    with step_pool(tmp_path, referee) as pool:
        buyer = FakeBuyer.with_money(pool)
        job_id = open_step_job(buyer, steps=UNITS * UNIT_STEPS)
        liar, truthful = StepCar(pool, spoil=lie_at(40), name="liar"), StepCar(pool, name="truthful")
        with answering(liar, truthful):
            liar.work_steps()
            truthful.work_steps()
            until(lambda: bool(referee.orders), what="the referee is called")
        assert rows(pool, "SELECT state FROM disputes") == [("refereeing",)]
        pool.stop()
        referee.fails_with = None
        pool.start()
        assert wait_decided(buyer, job_id).state == market_pb.TASK_STATE_ACCEPTED


def test_silence_for_longer_than_the_operator_allows_is_a_wrong_result(tmp_path: Path) -> None:
    clock = ManualClock(SystemClock().now_us())
    with step_pool(tmp_path, CountingReferee(), clock=clock, unit_answer_s=3_600) as pool:
        buyer = FakeBuyer.with_money(pool)
        job_id = open_step_job(buyer, steps=UNITS * UNIT_STEPS)
        silent, truthful = StepCar(pool, spoil=lie_at(40), name="silent"), StepCar(pool, name="truthful")
        third = StepCar(pool, name="third")
        silent.work_steps()
        with answering(truthful) as (stream,):
            truthful.work_steps()
            assert stream.asked.wait(20)
        assert third.work_steps() == []
        clock.advance(seconds=3_601)
        until(lambda: state_of(pool, silent) == "rejected", what="the sweep")
        assert [ack.status for ack in third.work_steps()] == [pb.ACK_STATUS_VERIFIED]
        [result] = buyer.results(job_id, 1)
        assert result.state == market_pb.TASK_STATE_ACCEPTED
        assert rows(pool, "SELECT state, reason FROM disputes") == [("decided", "WITHHELD")]


def test_malformed_answers_are_refused_and_the_stream_goes_on(tmp_path: Path) -> None:
    referee = CountingReferee()
    with step_pool(tmp_path, referee) as pool:
        buyer = FakeBuyer.with_money(pool)
        job_id = open_step_job(buyer, steps=UNITS * UNIT_STEPS)
        liar, truthful = StepCar(pool, spoil=lie_at(0), name="liar"), StepCar(pool, name="truthful")
        spoiled: list[int] = []

        def clumsy(query: pb.UnitQuery) -> pb.UnitAnswer:
            answer = truthful.truthful_answer(query)
            if not spoiled:
                spoiled.append(query.query_id)
                truthful.asked.remove(query)
                answer.digest = b"short"
            return answer

        truthful.answer_with = clumsy
        liar.work_steps()
        with answering(truthful):
            truthful.work_steps()
            until(lambda: bool(spoiled), what="the first answer")
        with answering(liar, truthful):
            assert wait_decided(buyer, job_id).state == market_pb.TASK_STATE_ACCEPTED
        assert state_of(pool, liar) == "rejected"
        assert [order.unit_index for order in referee.orders] == [0]
        assert referee.orders[0].start is None

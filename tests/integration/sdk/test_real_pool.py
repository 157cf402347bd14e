"""The SDK against the real pool: TLS, admission in a child, SQLite, quorum, ledger, receipts, restarts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

import chargepool
from chargepool._local import LocalProgram
from pool_protocol.errors import ErrorCode, PoolError
from tests.support.fake_car import FakeCar
from tests.support.pool import PoolHandle, PrincipalHandle, running_pool

pytestmark = pytest.mark.slow

MONEY = 10**12


def norm(x: Any) -> Any:
    return {"norm": jnp.sqrt(jnp.sum(x * x)), "first": x[0]}


def rows(count: int) -> list[Any]:
    return [np.array([3 * index, 4 * index], np.float32) for index in range(count)]


@pytest.fixture
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolHandle]:
    with running_pool(tmp_path_factory.mktemp("real")) as running:
        yield running


@pytest.fixture
def buyer(pool: PoolHandle, request: pytest.FixtureRequest) -> PrincipalHandle:
    principal = pool.create_principal("buyer", request.node.name[:60])
    pool.deposit(principal, MONEY)
    return principal


@pytest.fixture
def client(
    pool: PoolHandle, buyer: PrincipalHandle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[chargepool.Client]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with connected(pool, buyer) as connection:
        yield connection


def connected(pool: PoolHandle, buyer: PrincipalHandle) -> chargepool.Client:
    return chargepool.connect(pool.api_address, token=buyer.token, ca=pool.ca_file, patience_s=30)


@contextmanager
def cars_for(pool: PoolHandle, program: chargepool.Program, *, count: int = 2) -> Iterator[None]:
    """Cars of different owners that run the buyer's real artifact until the block ends."""
    runner = LocalProgram(program.artifact, program.manifest)

    def compute(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return runner.run(inputs, program.constants, steps=3 if program.is_step else 0)

    stop = threading.Event()
    failures: list[BaseException] = []

    def drive(car: FakeCar) -> None:
        try:
            while not stop.is_set():
                if not _work(car, compute):
                    stop.wait(0.02)
        except BaseException as error:  # noqa: BLE001 - the test must hear of it
            failures.append(error)

    cars = [FakeCar(pool, name=f"car {number}") for number in range(count)]
    threads = [threading.Thread(target=drive, args=(car,)) for car in cars]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def _work(car: FakeCar, compute: Any) -> bool:
    import grpc

    try:
        return bool(car.work(compute, attempts_max=7))
    except (grpc.RpcError, PoolError, ValueError, RuntimeError):
        return False  # the pool is restarting; an agent would try again too


def test_values_costs_and_receipts_agree_with_the_ledger(client: chargepool.Client, pool: PoolHandle) -> None:
    program = client.program(norm, rows(1)[0])
    quote = client.quote(program, 20)
    assert client.balance().escrow_micros == 0, "a quote reserves nothing"
    assert quote.estimate is not None
    assert not quote.estimate.has_time, "no car has worked yet"
    assert quote.estimate.energy_wh > 0
    with cars_for(pool, program):
        results = list(client.map(program, rows(20), quote=quote))
        status = client.job(results[0].receipt.job_id).wait()
    assert [float(result.value["norm"]) for result in results] == [5.0 * index for index in range(20)]
    assert all(result.cost_micros == quote.cost_micros_per_task for result in results)
    assert all(receipt.verify() == receipt for result in results for receipt in result.receipts)
    assert (status.state, status.accepted_count) == ("done", 20)
    assert status.spent_micros == sum(result.cost_micros for result in results) == quote.total_micros
    again = client.quote(program, 20)
    assert again.estimate is not None
    assert again.estimate.has_time
    assert {offer.level: offer.attempts_per_task for offer in again.levels}["full"] == 2
    balance = client.balance()
    assert (balance.escrow_micros, balance.spent_micros) == (0, quote.total_micros)
    assert balance.available_micros == MONEY - quote.total_micros


def test_full_verification_pays_two_owners_and_says_so(client: chargepool.Client, pool: PoolHandle) -> None:
    program = client.program(norm, rows(1)[0])
    with cars_for(pool, program):
        results = list(client.map(program, rows(3), level="full"))
    for result in results:
        assert len({receipt.fields.owner_id for receipt in result.receipts}) == 2
        assert result.cost_micros == sum(receipt.gross_micros for receipt in result.receipts)


def test_large_constants_reach_the_cars(client: chargepool.Client, pool: PoolHandle) -> None:
    weights = {"w": np.arange(40_000, dtype=np.float32)}
    example = np.float32(0)
    program = client.program(lambda c, x: c["w"][-1] * x, example, constants=weights)
    with cars_for(pool, program):
        results = list(client.map(program, [np.float32(2), np.float32(3)], level="none"))
    assert [float(result.value) for result in results] == [2 * 39_999.0, 3 * 39_999.0]


def test_a_step_program_makes_its_steps(client: chargepool.Client, pool: PoolHandle) -> None:
    def step(state: Any, inputs: Any, constants: Any) -> Any:
        return {"sum": state["sum"] * constants + inputs}

    program = client.step_program(step, {"sum": 1.0}, 0.0, 2.0, unit_steps=3)
    with cars_for(pool, program):
        results = list(client.map(program, [({"sum": 1.0}, 0.0), ({"sum": 1.0}, 3.0)], steps=3, level="none"))
    assert [float(result.value["sum"]) for result in results] == [8.0, 29.0]


def test_a_restart_in_mid_map_loses_nothing_and_pays_nothing_twice(
    client: chargepool.Client, pool: PoolHandle
) -> None:
    program = client.program(norm, rows(1)[0])
    with cars_for(pool, program):
        results = client.map(program, rows(60), level="none", window=12)
        values = []
        for result in results:
            values.append(float(result.value["norm"]))
            if len(values) in (10, 30):
                pool.restart()
        status = results.job.wait()
    assert values == [5.0 * index for index in range(60)]
    assert (status.accepted_count, status.state) == (60, "done")
    assert client.balance().spent_micros == status.spent_micros


def test_a_job_goes_on_without_its_script(
    client: chargepool.Client, pool: PoolHandle, buyer: PrincipalHandle
) -> None:
    program = client.program(norm, rows(1)[0])
    job_id = client.submit_job(program, rows(8), level="none", name="alone").id
    with connected(pool, buyer) as later, cars_for(pool, program):
        job = later.job(job_id)
        assert sorted(float(result.value["norm"]) for result in job.results()) == [5.0 * n for n in range(8)]
        assert job.wait().state == "done"
        assert next(iter(later.jobs())).name == "alone"


def test_tasks_are_added_by_index_and_again_without_harm(client: chargepool.Client) -> None:
    program = client.program(norm, rows(1)[0])
    job = client.submit_job(program, rows(4), tasks=10, close=False)
    assert job.add(rows(4)[2:], first_index=2) == 4
    assert job.add(rows(6)[4:]) == 6
    with pytest.raises(chargepool.ChargepoolError) as caught:
        job.add([rows(9)[8]], first_index=0)
    assert caught.value.code is ErrorCode.EXISTS_WITH_DIFFERENT
    assert job.close().state == "closing"
    with pytest.raises(chargepool.JobClosed):
        job.add(rows(1))
    assert job.cancel().state == "cancelled"
    assert client.balance().available_micros == MONEY


def test_leaving_a_map_early_gives_the_money_back(client: chargepool.Client, pool: PoolHandle) -> None:
    program = client.program(norm, rows(1)[0])
    with cars_for(pool, program), client.map(program, rows(30), level="none", window=4) as results:
        for result in results:
            if result.index == 2:
                break
    status = results.job.status()
    assert status.state == "cancelled"
    balance = client.balance()
    assert balance.available_micros + balance.spent_micros == MONEY


def test_the_executor_computes_on_cars(client: chargepool.Client, pool: PoolHandle) -> None:
    program = client.program(norm, rows(1)[0])
    with cars_for(pool, program), client.executor(tasks=10, level="none") as executor:
        futures = [executor.submit(program, row) for row in rows(10)]
        assert [float(future.result(timeout=60)["norm"]) for future in futures] == [
            5.0 * n for n in range(10)
        ]


def test_money_that_is_not_there_is_refused_before_anything_happens(pool: PoolHandle) -> None:
    poor = pool.create_principal("buyer", "a poor buyer")
    pool.deposit(poor, 1)
    with connected(pool, poor) as client:
        with pytest.raises(chargepool.InsufficientFunds):
            client.map(norm, rows(3))
        assert list(client.jobs()) == []
        assert client.balance().available_micros == 1


def test_a_token_of_another_scope_is_refused_with_what_it_lacks(pool: PoolHandle) -> None:
    owner = pool.create_principal("owner", "not a buyer")
    with pytest.raises(chargepool.AuthError) as caught:
        connected(pool, owner)
    assert caught.value.code is ErrorCode.PERMISSION_DENIED


def test_another_buyer_s_job_is_not_there(client: chargepool.Client, pool: PoolHandle) -> None:
    job_id = client.submit_job(norm, rows(1)).id
    stranger = pool.create_principal("buyer", "a stranger")
    with connected(pool, stranger) as other, pytest.raises(chargepool.JobNotFound):
        other.job(job_id)

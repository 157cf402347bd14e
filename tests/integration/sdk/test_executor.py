"""The executor keeps `concurrent.futures`' promises, with cars as workers."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import chargepool
from tests.integration.sdk.fake_pool import PRICE, FakePool


def square(x: Any) -> Any:
    return jnp.asarray(x) ** 2


def weighted(x: Any, y: Any, *, scale: Any) -> Any:
    return x * scale + y


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not condition():
        pause.wait(0.005)


def test_it_is_an_executor(client: chargepool.Client) -> None:
    assert isinstance(client.executor(), concurrent.futures.Executor)


def test_submit_gives_futures_with_values_and_proofs(client: chargepool.Client) -> None:
    with client.executor(tasks=10) as executor:
        futures = [executor.submit(square, np.float32(n)) for n in range(5)]
        assert [float(future.result()) for future in futures] == [0.0, 1.0, 4.0, 9.0, 16.0]
        outcome = futures[3].outcome
        assert outcome is not None
        assert (outcome.cost_micros, outcome.receipt.is_verified) == (PRICE, True)


def test_map_keeps_the_order_and_takes_several_arguments(client: chargepool.Client) -> None:
    with client.executor(tasks=10) as executor:
        added = executor.map(jnp.add, [np.float32(1), np.float32(2)], [np.float32(10), np.float32(20)])
        assert [float(value) for value in added] == [11.0, 22.0]


def test_keyword_arguments_are_arrays_too(client: chargepool.Client, pool: FakePool) -> None:
    with client.executor(tasks=4) as executor:
        futures = [executor.submit(weighted, 2.0, float(n), scale=3.0) for n in range(3)]
        assert [float(future.result()) for future in futures] == [6.0, 7.0, 8.0]
    assert len(pool.jobs) == 1, "one job per program"
    assert pool.calls["AdmitProgram"] == 1


def test_constants_come_first(client: chargepool.Client) -> None:
    with client.executor(tasks=2, constants=np.float32(100)) as executor:
        assert float(executor.submit(jnp.add, np.float32(1)).result()) == 101.0


def test_as_completed_and_wait_work(client: chargepool.Client) -> None:
    with client.executor(tasks=10) as executor:
        futures = {executor.submit(square, np.float32(n)): n for n in range(4)}
        for future in concurrent.futures.as_completed(futures, timeout=30):
            assert float(future.result()) == futures[future] ** 2  # type: ignore[index]
        done, not_done = concurrent.futures.wait(futures, timeout=30)
        assert (len(done), len(not_done)) == (4, 0)


def test_callbacks_run_once_and_timeouts_are_timeouts(client: chargepool.Client, pool: FakePool) -> None:
    pool.holds = True
    called = threading.Event()
    with client.executor(tasks=1) as executor:
        future = executor.submit(square, np.float32(3))
        future.add_done_callback(lambda _: called.set())
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(timeout=0.05)
        wait_until(future.running)
        assert not future.cancel(), "a task in the pool cannot be cancelled alone"
        pool.holds = False
        pool.decide()
        assert float(future.result()) == 9.0
        assert called.wait(5)


def test_a_failed_task_is_the_future_s_exception(client: chargepool.Client, pool: FakePool) -> None:
    pool.failing = {1}
    with client.executor(tasks=3) as executor:
        futures = [executor.submit(square, np.float32(n)) for n in range(3)]
        assert isinstance(futures[1].exception(), chargepool.TaskFailed)
        assert [futures[n].exception() for n in (0, 2)] == [None, None]


def test_what_waits_here_can_be_cancelled(client: chargepool.Client, pool: FakePool) -> None:
    pool.holds = True
    with client.executor(tasks=10, window=2) as executor:
        futures = [executor.submit(square, np.float32(n)) for n in range(5)]
        wait_until(lambda: sum(future.running() for future in futures) == 2)
        assert futures[3].cancel()
        assert futures[3].cancelled()
        pool.holds = False
        pool.decide()
        kept = [futures[n] for n in (0, 1, 2, 4)]
        assert [float(future.result()) for future in kept] == [0.0, 1.0, 4.0, 16.0]
    assert len(pool.jobs["job_1"].tasks) == 4, "a cancelled future was never sent"


def test_shutdown_refuses_more_and_waits_for_what_is_there(client: chargepool.Client, pool: FakePool) -> None:
    executor = client.executor(tasks=5)
    future = executor.submit(square, np.float32(2))
    executor.shutdown()
    assert future.done()
    assert pool.calls["CloseJob"] == 1
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, np.float32(2))
    executor.shutdown()


def test_shutdown_can_cancel_what_was_not_sent(client: chargepool.Client, pool: FakePool) -> None:
    pool.holds = True
    executor = client.executor(tasks=10, window=1)
    futures = [executor.submit(square, np.float32(n)) for n in range(4)]
    wait_until(futures[0].running)
    executor.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False, True, True, True]
    pool.holds = False
    pool.decide()
    assert float(futures[0].result(timeout=30)) == 0.0
    executor.shutdown()


def test_cancel_stops_the_spending_and_fails_what_was_sent(client: chargepool.Client, pool: FakePool) -> None:
    pool.holds = True
    executor = client.executor(tasks=10)
    futures = [executor.submit(square, np.float32(n)) for n in range(3)]
    wait_until(lambda: all(future.running() for future in futures))
    executor.cancel()
    assert all(isinstance(future.exception(), chargepool.JobCancelled) for future in futures)
    assert pool.jobs["job_1"].spent == 0


def test_money_is_reserved_for_so_many_tasks_and_no_more(client: chargepool.Client, pool: FakePool) -> None:
    with client.executor(tasks=2) as executor:
        executor.submit(square, np.float32(1))
        executor.submit(square, np.float32(2))
        with pytest.raises(chargepool.BudgetExceeded, match="2 tasks"):
            executor.submit(square, np.float32(3))
    assert pool.jobs["job_1"].request.budget_micros == 6 * PRICE


def test_bad_functions_and_arguments_are_refused_at_once(client: chargepool.Client, pool: FakePool) -> None:
    with client.executor() as executor:
        with pytest.raises(chargepool.ProgramRefused):
            executor.submit(lambda x: x if x > 0 else -x, np.float32(1))
        with pytest.raises(chargepool.ProgramRefused):
            executor.submit(square, "text")
        program = client.program(square, np.float32(0))
        with pytest.raises(chargepool.InputRefused, match="shape"):
            executor.submit(program, np.zeros(3, np.float32))
        with pytest.raises(chargepool.InputRefused, match="one task's input, not 2"):
            executor.submit(program, np.float32(1), np.float32(2))
        assert float(executor.submit(program, np.float32(5)).result()) == 25.0
    assert len(pool.jobs) == 1


def test_every_future_hears_of_a_pool_that_lies(client: chargepool.Client, pool: FakePool) -> None:
    def drop(result: Any) -> None:
        del result.receipts[:]

    pool.forge = drop
    with client.executor(tasks=2) as executor:
        assert isinstance(executor.submit(square, np.float32(1)).exception(), chargepool.ProofInvalid)


def test_it_outlasts_a_restart_of_the_pool(client: chargepool.Client, pool: FakePool) -> None:
    pool.holds = True
    with client.executor(tasks=4) as executor:
        first = executor.submit(square, np.float32(3))
        wait_until(lambda: bool(pool.jobs["job_1"].waiting))
        pool.kill()
        second = executor.submit(square, np.float32(4))
        pool.start()
        wait_until(lambda: len(pool.jobs["job_1"].waiting) == 2)
        pool.holds = False
        pool.decide()
        assert [float(future.result(timeout=30)) for future in (first, second)] == [9.0, 16.0]


def test_threads_may_share_it(client: chargepool.Client) -> None:
    values: list[float] = []
    with client.executor(tasks=40) as executor:

        def work(start: int) -> None:
            futures = [executor.submit(square, np.float32(n)) for n in range(start, start + 10)]
            values.extend(float(future.result()) for future in futures)

        threads = [threading.Thread(target=work, args=(start,)) for start in (0, 10, 20, 30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(values) == [float(n**2) for n in range(40)]

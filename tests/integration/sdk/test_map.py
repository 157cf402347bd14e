"""Map against a pool over real sockets: values, order, money, errors before any spend, restarts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import chargepool
from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import common_pb2, market_service_pb2
from tests.integration.sdk.fake_pool import PRICE, TOKEN, FakePool


def double(x: Any) -> Any:
    return {"twice": x * 2, "sum": jnp.sum(x)}


def total(x: Any) -> Any:
    return jnp.sum(x)


def rows(count: int, size: int = 3) -> list[Any]:
    return [np.full(size, index, np.float32) for index in range(count)]


def spent_nothing(pool: FakePool) -> bool:
    return not pool.jobs and pool.calls["CreateJob"] == 0


# --- values, order, money -----------------------------------------------------------------------


def test_values_come_in_order_with_cost_and_verified_receipts(
    client: chargepool.Client, pool: FakePool
) -> None:
    results = list(client.map(double, rows(7)))
    assert [result.index for result in results] == list(range(7))
    for index, result in enumerate(results):
        np.testing.assert_array_equal(result.value["twice"], np.full(3, 2 * index, np.float32))
        assert (result.cost_micros, result.attempts) == (PRICE, 1)
        assert result.receipt.is_verified
        assert result.receipt.verify().net_micros == PRICE - 10
    assert pool.calls["CloseJob"] == 1


def test_constants_are_sent_once_and_reach_every_task(client: chargepool.Client, pool: FakePool) -> None:
    weights = {"w": np.arange(3, dtype=np.float32)}
    results = client.map(lambda c, x: jnp.dot(c["w"], x), rows(4), constants=weights)
    assert [float(result.value) for result in results] == [0.0, 3.0, 6.0, 9.0]
    (job,) = pool.jobs.values()
    assert list(job.constants) == ["w"]


def test_a_step_program_makes_its_steps(client: chargepool.Client) -> None:
    def step(state: Any, inputs: Any, constants: Any) -> Any:
        return {"n": state["n"] + 1, "sum": state["sum"] * constants + inputs}

    start = {"n": 0, "sum": 1.0}
    program = client.step_program(step, start, 0.0, 2.0, unit_steps=5)
    results = list(client.map(program, [(start, 0.0), (start, 3.0)], steps=3))
    assert [int(result.value["n"]) for result in results] == [3, 3]
    assert [float(result.value["sum"]) for result in results] == [8.0, 29.0]
    local = program.local((start, 3.0), steps=3)
    assert local["sum"] == results[1].value["sum"]


def test_the_same_artifact_runs_here(client: chargepool.Client) -> None:
    program = client.program(double, rows(1)[0])
    (result,) = client.map(program, rows(2)[1:])
    np.testing.assert_array_equal(program.local(rows(2)[1])["twice"], result.value["twice"])


def test_as_they_come_is_the_order_of_decision(client: chargepool.Client, pool: FakePool) -> None:
    pool.holds = True
    results = client.map(total, rows(6), ordered=False)
    decided = threading.Thread(target=_decide_backwards, args=(pool, 6))
    decided.start()
    indexes = [result.index for result in results]
    decided.join()
    assert indexes == [5, 4, 3, 2, 1, 0]


def _decide_backwards(pool: FakePool, count: int) -> None:
    _wait_for(pool, lambda: sum(len(job.waiting) for job in pool.jobs.values()) == count)
    pool.decide(last_first=True)


def _wait_for(pool: FakePool, condition: Any) -> None:
    pause = threading.Event()
    while not condition():
        pause.wait(0.005)


def test_a_quote_spends_nothing_and_is_kept_by_the_job(client: chargepool.Client, pool: FakePool) -> None:
    program = client.program(total, rows(1)[0])
    quote = client.quote(program, 5)
    assert (quote.total_micros, quote.currency) == (5 * PRICE, "EUR")
    assert spent_nothing(pool)
    list(client.map(program, rows(5), quote=quote))
    (job,) = pool.jobs.values()
    assert job.request.quote_id == quote.quote_id
    assert job.request.price_mode == common_pb2.PRICE_MODE_QUOTE
    assert job.request.budget_micros == 5 * PRICE + 4 * PRICE


def test_a_cap_a_budget_a_level_and_a_name_reach_the_pool(client: chargepool.Client, pool: FakePool) -> None:
    list(
        client.map(
            total, iter(rows(5)), price_cap_micros_per_wu=150, budget_micros=2_000, level="careful",
            name="sums", deadline_s=60, attempts_max=3, comparator=chargepool.close(rtol=1e-3, atol=1e-6),
        )
    )  # fmt: skip
    request = next(iter(pool.jobs.values())).request
    assert (request.price_cap_micros_per_wu, request.budget_micros) == (150, 2_000)
    assert request.price_mode == common_pb2.PRICE_MODE_SPOT
    assert request.level == common_pb2.VERIFICATION_LEVEL_CAREFUL
    assert (request.name, request.attempts_max, request.comparator.rtol) == ("sums", 3, 1e-3)
    assert 0 < request.deadline_us - pool.clock.now_us() <= 60_000_000
    assert request.refuses_price_above_cap
    assert request.price_start_micros_per_wu == 0


def test_a_start_price_and_the_patience_to_wait_reach_the_pool(
    client: chargepool.Client, pool: FakePool
) -> None:
    with pytest.raises(chargepool.PriceAboveCap):
        client.map(total, rows(2), price_cap_micros_per_wu=PRICE - 1)
    assert spent_nothing(pool)
    list(
        client.map(
            total, rows(2), price_cap_micros_per_wu=PRICE - 1, price_start_micros_per_wu=10, deadline_s=60,
            wait_for_price=True,
        )
    )  # fmt: skip
    request = next(iter(pool.jobs.values())).request
    assert (request.price_start_micros_per_wu, request.refuses_price_above_cap) == (10, False)


def test_a_comparator_per_output_reaches_the_pool(client: chargepool.Client, pool: FakePool) -> None:
    output = client.program(total, rows(1)[0]).manifest.draft.output_types[0].name
    list(client.map(total, rows(2), comparator={output: chargepool.ulp(4)}))
    (rule,) = next(iter(pool.jobs.values())).request.comparator.outputs
    assert (rule.name, rule.kind, rule.ulps) == (output, common_pb2.COMPARATOR_KIND_ULP, 4)
    with pytest.raises(chargepool.ProgramRefused, match="no output 'loss'"):
        client.map(total, rows(2), comparator={"loss": "exact"})


def test_no_inputs_make_no_job(client: chargepool.Client, pool: FakePool) -> None:
    assert list(client.map(total, [])) == []
    assert list(client.map(total, iter(()))) == []
    assert spent_nothing(pool)


def test_large_arrays_travel_as_blobs_and_each_only_once(client: chargepool.Client, pool: FakePool) -> None:
    big = np.arange(60_000, dtype=np.float32)
    program = client.program(lambda x: x[::-1], big)
    results = list(client.map(program, [big, big, big + 1]))
    np.testing.assert_array_equal(results[2].value, (big + 1)[::-1])
    assert pool.calls["PutBlob"] == 2
    assert pool.calls["GetBlob"] == 3


def test_a_blob_that_the_pool_no_longer_has_is_sent_again(client: chargepool.Client, pool: FakePool) -> None:
    constants = np.ones(60_000, np.float32)
    list(client.map(lambda c, x: x + c[0], rows(1), constants=constants))
    pool.blobs.clear()
    (result,) = client.map(lambda c, x: x + c[1], rows(1), constants=constants)
    assert result.value.tolist() == [1, 1, 1]
    assert pool.calls["PutBlob"] == 2


# --- refused before any spend -------------------------------------------------------------------


def with_callback(x: Any) -> Any:
    return jax.pure_callback(lambda value: value, jax.eval_shape(jnp.abs, x), x)


@pytest.mark.parametrize(
    ("arguments", "words", "error"),
    [
        ((with_callback, rows(2)), {}, chargepool.ProgramRefused),
        ((lambda x: x if x[0] > 0 else -x, rows(2)), {}, chargepool.ProgramRefused),
        ((total, ["text"]), {}, chargepool.ProgramRefused),
        (("not a function", rows(2)), {}, chargepool.InputRefused),
        ((total, rows(2)), {"level": "sloppy"}, chargepool.InputRefused),
        ((total, rows(2)), {"window": 0}, chargepool.InputRefused),
        ((total, rows(2)), {"on_error": "ignore"}, chargepool.InputRefused),
        ((total, rows(2)), {"on_interrupt": "explode"}, chargepool.InputRefused),
        ((total, rows(2)), {"steps": 3}, chargepool.InputRefused),
        ((total, rows(2)), {"comparator": "roughly"}, chargepool.ProgramRefused),
        ((total, rows(20)), {"budget_micros": 5 * PRICE}, chargepool.BudgetExceeded),
        ((total, iter(rows(20))), {"window": 10}, chargepool.BudgetRequired),
    ],
)
def test_what_cannot_work_is_refused_before_any_money_moves(
    client: chargepool.Client, pool: FakePool, arguments: Any, words: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        client.map(*arguments, **words)
    assert getattr(caught.value, "next_step", "")
    assert spent_nothing(pool)


def test_a_first_input_that_does_not_fit_a_program_costs_nothing(
    client: chargepool.Client, pool: FakePool
) -> None:
    program = client.program(total, rows(1)[0])
    with pytest.raises(chargepool.InputRefused, match="input 0"):
        client.map(program, [np.zeros(4, np.float32)])
    assert spent_nothing(pool)


def test_an_account_without_enough_money_is_told_so_with_figures(
    client: chargepool.Client, pool: FakePool
) -> None:
    pool.available = 199
    with pytest.raises(chargepool.InsufficientFunds, match=r"0\.000200 EUR, the account has 0\.000199"):
        client.map(total, rows(2))
    assert spent_nothing(pool)


def test_a_generator_that_fits_the_window_needs_no_count(client: chargepool.Client) -> None:
    assert len(list(client.map(total, iter(rows(9)), window=10))) == 9


# --- failures -----------------------------------------------------------------------------------


def test_a_task_that_fails_says_which_and_stops_the_spending(
    client: chargepool.Client, pool: FakePool
) -> None:
    pool.failing = {2}
    results = client.map(total, rows(5))
    with pytest.raises(
        chargepool.TaskFailed, match="Task 2 failed after 4 attempts: it divided by zero"
    ) as caught:
        list(results)
    assert (caught.value.index, caught.value.reason) == (2, "PROGRAM_FAILED")
    assert pool.calls["CancelJob"] == 1
    assert "chargepool job results job_1" in caught.value.__notes__[0]


def test_failed_tasks_can_be_returned(client: chargepool.Client, pool: FakePool) -> None:
    pool.failing = {0, 2}
    results = list(client.map(total, rows(4), on_error="return"))
    assert [result.ok for result in results] == [False, True, False, True]
    assert results[0].cost_micros == 0
    with pytest.raises(chargepool.ChargepoolError, match="no receipt"):
        _ = results[0].receipt


def test_a_pool_that_is_killed_and_restarted_loses_nothing(client: chargepool.Client, pool: FakePool) -> None:
    pool.holds = True
    results = client.map(double, rows(20), window=8)
    restarted = threading.Thread(target=_restart_between_decisions, args=(pool,))
    restarted.start()
    values = [float(result.value["sum"]) for result in results]
    restarted.join()
    assert values == [3.0 * index for index in range(20)]
    assert len(pool.jobs) == 1
    assert pool.calls["WatchJob"] >= 2


def _restart_between_decisions(pool: FakePool) -> None:
    for _ in range(2):
        _wait_for(pool, lambda: any(job.waiting for job in pool.jobs.values()))
        pool.decide(2)
        pool.kill()
        pool.start()
    pool.holds = False
    over = market_service_pb2.JOB_STATE_DONE
    while not all(job.state == over for job in pool.jobs.values()):
        pool.decide()
        threading.Event().wait(0.005)


@pytest.mark.parametrize(
    "method", ["AdmitProgram", "GetQuote", "CreateJob", "AddTasks", "CloseJob", "WatchJob"]
)
def test_every_call_of_a_map_outlasts_a_pool_that_is_draining(
    client: chargepool.Client, pool: FakePool, method: str
) -> None:
    pool.refusals[method] = [ErrorCode.DRAINING, ErrorCode.UNAVAILABLE]
    assert len(list(client.map(total, rows(3)))) == 3
    assert len(pool.jobs) == 1
    assert pool.calls[method] >= 3


# --- who is there -------------------------------------------------------------------------------


def test_a_wrong_token_is_an_auth_error(pool: FakePool) -> None:
    with pytest.raises(chargepool.AuthError) as caught:
        chargepool.connect(pool.address, token="cp_buyer_wrongwrongwrong", ca=pool.ca_pem)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


def test_another_pool_s_certificate_is_told_apart_from_silence(
    pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chargepool._connect._FIRST_PATIENCE_MS", 200)
    with pytest.raises(chargepool.PoolUnreachable, match="no certificate of the CA"):
        chargepool.connect(pool.address, token=TOKEN, ca=FakePool().ca_pem)
    pool.kill()
    with pytest.raises(chargepool.PoolUnreachable, match="Nobody answers"):
        chargepool.connect(pool.address, token=TOKEN, ca=pool.ca_pem)


def test_inputs_are_pulled_in_the_caller_s_thread_and_only_on_demand(client: chargepool.Client) -> None:
    pulled_in: list[int] = []

    def source() -> Iterator[Any]:
        for row in rows(50):
            pulled_in.append(threading.get_ident())
            yield row

    results = client.map(total, source(), tasks=50, window=8)
    assert len(pulled_in) == 1, "only the example"
    next(results)
    assert len(pulled_in) <= 8
    list(results)
    assert set(pulled_in) == {threading.get_ident()}

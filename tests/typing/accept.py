"""What a buyer may write: a type checker must accept all of it. Never run."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, as_completed

import numpy as np

import chargepool


def score(inputs: dict[str, np.ndarray]) -> np.ndarray:
    return inputs["x"]


def buy() -> None:
    with chargepool.connect("pool.example.org:7443", token="cp_buyer_x", ca="ca.pem") as pool:
        rows = ({"x": np.ones(3, np.float32)} for _ in range(10))
        program: chargepool.Program = pool.program(score, {"x": np.ones(3, np.float32)}, comparator="exact")
        loose: chargepool.Program = pool.program(score, 1.0, comparator=chargepool.close(rtol=1e-3, atol=0.0))
        rules: dict[str, chargepool.Comparator | str] = {"loss": chargepool.ulp(4), "count": "exact"}
        pool.program(score, 1.0, comparator=rules)
        pool.program(score, 1.0, comparator=chargepool.per_output(rules, otherwise=chargepool.unordered()))
        report: chargepool.NumericsReport = program.check_numerics([{"x": np.ones(3, np.float32)}])
        pool.program(score, 1.0, comparator=report.comparator)
        pool.program(score, 1.0, comparator="measured" if report.refusals == () else "exact")
        quote: chargepool.Quote = pool.quote(program, 10, level="careful")
        total: int = quote.total_micros
        results: chargepool.Results = pool.map(program, rows, quote=quote, ordered=False, on_error="return")
        for result in results:
            index: int = result.index
            cost: int = result.cost_micros
            receipt: chargepool.Receipt = result.receipt.verify()
            if result.error is not None:
                print(result.error.next_step, index, cost, total, receipt.net_micros)
        stepped = pool.step_program(lambda state, inputs, constants: state, 0.0, unit_steps=10)
        first: chargepool.Result = next(pool.map(stepped, [(0.0, None)], steps=100, level="full"))
        job: chargepool.Job = pool.submit_job(loose, [1.0], level="none", name="later", close=False, tasks=5)
        added: int = job.add([2.0, 3.0])
        status: chargepool.JobStatus = job.wait(lambda progress: print(progress.tasks_accepted, added, first))
        found: Iterator[chargepool.JobStatus] = pool.jobs()
        balance: chargepool.Balance = pool.balance()
        print(status.state == "done", list(found), balance.available_micros)


def execute(pool: chargepool.Client) -> None:
    executor: Executor = pool.executor(tasks=100, level="standard")
    with executor:
        futures = [executor.submit(score, {"x": np.ones(3)}) for _ in range(3)]
        for future in as_completed(futures):
            future.result()
    cars: chargepool.Executor = pool.executor()
    outcome = cars.submit(score, 1.0).outcome
    if outcome is not None:
        print(outcome.receipts)


def handle() -> None:
    try:
        chargepool.connect()
    except chargepool.ConfigError as error:
        print(error.next_step)
    except chargepool.FundsError as error:
        print(error.context)
    except chargepool.TaskFailed as error:
        print(error.index, error.reason)
    except chargepool.ChargepoolError as error:
        print(error.code, error.retry_after_ms)

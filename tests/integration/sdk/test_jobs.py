"""Jobs outlive their script: handles by id, cursors, more tasks, resumption, and a client that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import chargepool
from chargepool._values import Progress
from chargepool.cli._receipts import _of_job
from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import market_service_pb2
from tests.integration.sdk.fake_pool import PRICE, TOKEN, FakePool
from tests.support.repository import ROOT


def total(x: Any) -> Any:
    return {"sum": jnp.sum(x)}


def rows(count: int) -> list[Any]:
    return [np.full(3, index, np.float32) for index in range(count)]


def another(pool: FakePool) -> chargepool.Client:
    return chargepool.connect(pool.address, token=TOKEN, ca=pool.ca_pem)


def test_the_receipts_of_a_job_that_runs_are_those_so_far(
    client: chargepool.Client, pool: FakePool, capsys: pytest.CaptureFixture[str]
) -> None:
    pool.holds = True
    job = client.submit_job(total, rows(4))
    pool.decide(3)
    assert len(_of_job(job)) == 3
    assert f"{job.id} is not over" in capsys.readouterr().err
    pool.decide()
    job.wait()
    assert len(_of_job(job)) == 4
    assert capsys.readouterr().err == ""


def test_a_handle_by_id_has_structured_values_in_another_client(
    client: chargepool.Client, pool: FakePool
) -> None:
    job_id = client.submit_job(total, rows(4)).id
    with another(pool) as later:
        job = later.job(job_id)
        assert [float(result.value["sum"]) for result in job.results()] == [0.0, 3.0, 6.0, 9.0]
        status = job.wait()
    assert (status.state, status.accepted_count, status.spent_micros) == ("done", 4, 4 * PRICE)


def test_a_result_that_a_check_replaces_comes_again_and_the_newest_counts(
    client: chargepool.Client, pool: FakePool
) -> None:
    job = client.submit_job(total, rows(2))
    results = job.results()
    first = list(results)
    assert [(result.index, result.replaced_count) for result in first] == [(0, 0), (1, 0)]
    # A look-back finds task 0 wrong: the job is open again, and the task is decided once more.
    replaced = market_service_pb2.TaskResult()
    replaced.CopyFrom(pool.jobs[job.id].decided[1])
    replaced.index = 0
    replaced.replaced_count = 1
    del replaced.receipts[:]
    replaced.cost_micros = 0
    with pool.changed:
        pool.jobs[job.id].decided.append(replaced)
    [again] = job.results(after=results.cursor)
    assert (again.index, again.replaced_count, float(again.value["sum"])) == (0, 1, 3.0)
    assert float(job.result(0).value["sum"]) == 3.0
    assert [result.index for result in job.results()] == [0, 1, 0]


def test_a_machine_that_never_saw_the_program_gets_named_arrays(
    client: chargepool.Client, pool: FakePool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job_id = client.submit_job(total, rows(1)).id
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    with another(pool) as later:
        job = later.job(job_id)
        assert [dict(result.value) for result in job.results()] == [{"sum": np.float32(0)}]
        with pytest.raises(chargepool.InputRefused, match="not known on this machine"):
            job.add(rows(1))
        program = later.program(total, rows(1)[0])
        assert later.job(job_id, program=program).program is program


def test_results_go_on_from_a_cursor(client: chargepool.Client, pool: FakePool) -> None:
    pool.holds = True
    job = client.submit_job(total, rows(130))
    pool.decide(60)
    first = job.results()
    seen = [next(first).index for _ in range(51)]
    cursor = first.cursor
    first.close()
    assert cursor == 50, "what was not handed out to the end of its message comes again"
    pool.decide()
    rest = [result.index for result in job.results(after=cursor)]
    assert seen[:50] + rest == list(range(130))


def test_tasks_are_added_to_an_open_job_and_again_without_harm(
    client: chargepool.Client, pool: FakePool
) -> None:
    program = client.program(total, rows(1)[0])
    job = client.submit_job(program, rows(2), tasks=10, close=False)
    assert job.add(rows(5)[2:]) == 5
    assert job.add(rows(5)[2:], first_index=2) == 5
    with pytest.raises(chargepool.ChargepoolError) as caught:
        job.add(rows(1), first_index=3)
    assert caught.value.code is ErrorCode.EXISTS_WITH_DIFFERENT
    with pytest.raises(chargepool.JobError, match="still open"):
        job.wait()
    assert job.close().state == "done"
    with pytest.raises(chargepool.JobClosed):
        job.add(rows(6)[5:])
    assert job.result(4).value["sum"] == 12


def test_a_result_that_is_not_there_yet_is_an_error(client: chargepool.Client, pool: FakePool) -> None:
    pool.holds = True
    job = client.submit_job(total, rows(2))
    with pytest.raises(chargepool.JobError, match="Task 1 of job_1 is not decided yet"):
        job.result(1)


def test_a_job_can_be_cancelled_and_keeps_its_results(client: chargepool.Client, pool: FakePool) -> None:
    pool.holds = True
    job = client.submit_job(total, rows(4))
    pool.decide(1)
    assert job.cancel().state == "cancelled"
    assert [result.index for result in job.results()] == [0]
    assert job.wait().is_over


def test_waiting_tells_progress(client: chargepool.Client) -> None:
    told: list[Progress] = []
    client.submit_job(total, rows(3)).wait(told.append)
    assert told[-1].tasks_accepted == told[-1].tasks_total == 3
    assert told[-1].currency == "EUR"


def test_unknown_jobs_and_foreign_programs_are_refused(client: chargepool.Client) -> None:
    with pytest.raises(chargepool.JobNotFound, match="job_77"):
        client.job("job_77")
    job = client.submit_job(total, rows(1))
    other = client.program(lambda x: x, rows(1)[0])
    with pytest.raises(chargepool.InputRefused, match="runs program"):
        client.job(job.id, program=other)


def test_jobs_are_listed_newest_first_over_all_pages(client: chargepool.Client) -> None:
    ids = [client.submit_job(total, rows(1)).id for _ in range(5)]
    assert [status.job_id for status in client.jobs()] == ids[::-1]


def test_a_map_resumes_with_the_inputs_that_are_missing(client: chargepool.Client, pool: FakePool) -> None:
    first = client.map(total, iter(rows(12)), tasks=12, window=4)
    for _ in range(3):
        next(first)
    first.leave()
    sent = pool.jobs["job_1"]
    already = len(sent.tasks)
    assert 3 <= already < 12
    resumed = client.map(total, rows(12), resume=first.job.id)
    assert [float(result.value["sum"]) for result in resumed] == [3.0 * index for index in range(12)]
    assert len(pool.jobs) == 1
    assert len(sent.decided) == 12, "nothing was computed twice"


CLIENT = """
import sys
import jax.numpy as jnp
import numpy as np
import chargepool

def total(x):
    return {"sum": jnp.sum(x)}

rows = [np.full(3, index, np.float32) for index in range(30)]
with chargepool.connect() as pool:
    resume = sys.argv[1] if len(sys.argv) > 1 else None
    results = pool.map(total, rows, window=8, resume=resume)
    print(results.job.id, flush=True)
    for result in results:
        print(result.index, float(result.value["sum"]), flush=True)
"""


def environment_for(pool: FakePool, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "ca.pem").write_bytes(pool.ca_pem)
    return os.environ | {
        "CHARGEPOOL_ADDRESS": pool.address,
        "CHARGEPOOL_CA_FILE": str(tmp_path / "ca.pem"),
        "CHARGEPOOL_TOKEN": TOKEN,
        "PYTHONPATH": str(ROOT),
    }


@pytest.mark.slow
def test_ctrl_c_in_a_real_script_leaves_the_job_and_says_how_to_come_back(
    pool: FakePool, tmp_path: Path
) -> None:
    pool.holds = True
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        env=environment_for(pool, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        job_id = process.stdout.readline().strip()
        with pool.changed:
            assert pool.changed.wait_for(lambda: bool(pool.jobs[job_id].waiting), timeout=60)
        pool.decide(1)
        assert process.stdout.readline() == "0 0.0\n"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        status = process.wait(timeout=30)
    assert status == -signal.SIGINT
    assert f"chargepool job resume {job_id}" in said
    assert pool.calls["CancelJob"] == 0


@pytest.mark.slow
def test_a_client_killed_in_mid_map_is_resumed_by_another_process(pool: FakePool, tmp_path: Path) -> None:
    # 1. A real process maps over 30 inputs; the pool decides five and then holds.
    environ = environment_for(pool, tmp_path)
    pool.holds = True
    command = [sys.executable, "-c", CLIENT]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        with pool.changed:
            assert pool.changed.wait_for(lambda: bool(pool.jobs[job_id].waiting), timeout=60)
        pool.decide(5)
        seen = [process.stdout.readline().strip() for _ in range(5)]
        # 2. It is killed: no handler runs, nothing is closed.
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert seen == [f"{index} {3.0 * index}" for index in range(5)]
    # 3. Another process takes the job up and gets all thirty, computed once each.
    pool.holds = False
    pool.decide()
    answer = subprocess.run(
        [*command, job_id], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.splitlines()[1:] == [f"{index} {3.0 * index}" for index in range(30)]
    assert len(pool.jobs) == 1
    assert sorted(task.index for task in pool.jobs[job_id].decided) == list(range(30))
    assert json.dumps(pool.jobs[job_id].spent) == str(30 * PRICE)

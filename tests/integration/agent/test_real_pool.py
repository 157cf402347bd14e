"""Real daemons as processes against the real server: pairing, work, unplugging, SIGKILL, SIGTERM."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from car_agent.cli.client import get_status, plain
from car_agent.journal.lock import exclusive
from car_agent.journal.state_directory import StateDirectory
from pool_protocol import tensors
from pool_protocol.program.export import ExportedProgram, export_step
from pool_protocol.system import SystemClock
from pool_protocol.v1 import account_service_pb2, common_pb2, market_service_pb2
from tests.support.pool import PoolHandle, PrincipalHandle, running_pool

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
TIMEOUT_S = 60.0
POLICY = "start_after_s = 0\n"
#: Signals are written once, and on a busy machine a worker takes long to start. Counters differ by machine.
SETTINGS = 'source_fresh_for_s = 120\nenergy_source = "declared"\n'
CHARGING = {"plug": "plugged", "charge": "charging", "soc_percent": 70}
ROOT = Path(__file__).resolve().parents[3]


def eventually(condition: Any, *, what: str) -> Any:
    """Return what `condition` returns once it is true; for tests with real processes only."""
    import threading

    clock, pause = SystemClock(), threading.Event()
    until_ns = clock.monotonic_ns() + int(TIMEOUT_S * 1e9)
    while clock.monotonic_ns() < until_ns:
        if value := condition():
            return value
        pause.wait(0.02)
    raise AssertionError(f"never came true: {what}")


class Car:
    """One car: a daemon process on its own state directory, fed by a file."""

    def __init__(self, pool: PoolHandle, owner: PrincipalHandle, path: Path) -> None:
        self.owner = owner
        self.state = path
        self.signals = path.with_suffix(".json")
        self.log = path.with_suffix(".log")
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pairing = self._popen("pair", "--pool", pool.api_address, "--ca", str(pool.ca_file), "--json")
        assert pairing.stdout is not None
        code = json.loads(pairing.stdout.readline())["user_code"]
        pool.account().ApproveDevice(
            account_service_pb2.ApproveDeviceRequest(user_code=code, label=path.name), metadata=owner.metadata
        )
        answer, _ = pairing.communicate(timeout=TIMEOUT_S)
        self.vehicle_id = json.loads(answer)["vehicle_id"]
        (path / "policy.toml").write_text(POLICY, encoding="utf-8")
        (path / "agent.toml").write_text(SETTINGS, encoding="utf-8")
        assert "Opted in" in self.command("opt-in")
        self.daemon: subprocess.Popen[str] | None = None

    def _popen(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "car_agent.cli", "--state-dir", str(self.state), *arguments]
        return subprocess.Popen(
            command, env=self.environment, text=True, **{"stdout": subprocess.PIPE, **options}
        )

    def command(self, *arguments: str) -> str:
        """Run a command to its end and return what it printed."""
        process = self._popen(*arguments)
        printed, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, printed
        return printed

    def run(self) -> None:
        """Start the daemon."""
        with self.log.open("a", encoding="utf-8") as log:
            self.daemon = self._popen(
                "run", "--source", "file", "--source-file", str(self.signals), stdout=log, stderr=log
            )

    def report(self, **signals: Any) -> None:
        """Write the signals file, whole."""
        new = self.signals.with_suffix(".new")
        new.write_text(json.dumps(signals), encoding="utf-8")
        new.replace(self.signals)

    def charge(self) -> None:
        self.report(**CHARGING)

    def unplug(self) -> None:
        self.report(plug="unplugged", charge="idle", soc_percent=70)

    def status(self) -> dict[str, Any]:
        return plain(get_status(StateDirectory(self.state)))

    def worker_pids(self) -> list[int]:
        """Processes whose working directory is this car's scratch directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "cwd").readlink() == self.state / "scratch":
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the daemon and return its exit status."""
        if self.daemon is None:
            raise RuntimeError("no daemon")
        self.daemon.send_signal(number)
        status = self.daemon.wait(TIMEOUT_S)
        self.daemon = None
        return status


@contextmanager
def cars(pool: PoolHandle, path: Path, count: int) -> Iterator[list[Car]]:
    made = [Car(pool, pool.create_principal("owner", f"owner {n}"), path / f"car{n}") for n in range(count)]
    try:
        yield made
    finally:
        for car in made:
            if car.daemon is not None:
                car.daemon.kill()
                car.daemon.wait(TIMEOUT_S)


class Buyer:
    """Orders work by plain calls."""

    def __init__(
        self,
        pool: PoolHandle,
        *,
        level: common_pb2.VerificationLevel.ValueType = common_pb2.VERIFICATION_LEVEL_NONE,
        comparator: common_pb2.Comparator | None = None,
    ) -> None:
        self.pool = pool
        self.comparator = comparator or common_pb2.Comparator(kind=common_pb2.COMPARATOR_KIND_EXACT)
        self.level = level
        self.principal = pool.create_principal("buyer", "Berta")
        pool.deposit(self.principal, 10**12)
        self.market = pool.market()

    def order(self, program: ExportedProgram, tasks: list[dict[str, Any]], *, steps: int = 0) -> str:
        metadata = self.principal.metadata
        admitted = self.market.AdmitProgram(
            market_service_pb2.AdmitProgramRequest(
                artifact=program.artifact, manifest_draft=program.draft.to_json()
            ),
            metadata=metadata,
        )
        job = self.market.CreateJob(
            market_service_pb2.CreateJobRequest(
                idempotency_key=admitted.program_sha256[:20],
                program_sha256=admitted.program_sha256,
                price_mode=common_pb2.PRICE_MODE_SPOT,
                price_cap_micros_per_wu=10**7,
                budget_micros=10**11,
                level=self.level,
                comparator=self.comparator,
                steps_per_task=steps,
            ),
            metadata=metadata,
        )
        encoded = [tensors.encode(task) for task in tasks]
        inputs = [
            market_service_pb2.TaskInputs(
                inputs=common_pb2.TensorBundle(inline=content, size_bytes=len(content))
            )
            for content in encoded
        ]
        self.market.AddTasks(
            market_service_pb2.AddTasksRequest(job_id=job.job_id, first_index=0, tasks=inputs),
            metadata=metadata,
        )
        self.market.CloseJob(market_service_pb2.CloseJobRequest(job_id=job.job_id), metadata=metadata)
        return job.job_id

    def job(self, job_id: str) -> market_service_pb2.JobView:
        return self.market.GetJob(
            market_service_pb2.GetJobRequest(job_id=job_id), metadata=self.principal.metadata
        ).job

    def done(self, job_id: str) -> bool:
        return self.job(job_id).state == market_service_pb2.JOB_STATE_DONE


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_car_pairs_computes_is_killed_comes_back_and_earns(tmp_path: Path) -> None:
    """1. Pair, opt in, charge: tasks are computed. 2. SIGKILL in mid-job: no worker is left behind.

    3. It starts again and finishes. 4. Every task is accepted once, and the owner is credited. 5. What its
    electricity cost by the owner's tariff stands in the owner's statement. 6. SIGTERM: exit status 0.
    """
    with running_pool(tmp_path) as pool, cars(pool, tmp_path, 1) as (car,):
        buyer = Buyer(pool)
        slow = export_step(lambda s, i, c: jnp.sin(s) * 1.0001, jnp.zeros(2_000), unit_steps=500)
        starts = [{"state/value": np.full(2_000, n, np.float32)} for n in range(10)]
        job_id = buyer.order(slow, starts, steps=10_000)
        assert "Tariff set" in car.command("tariff", "set", "--fixed", "0.30", "--currency", "EUR")
        car.charge()
        car.run()
        eventually(lambda: buyer.job(job_id).accepted_count >= 2, what="first results")
        workers = car.worker_pids()
        assert len(workers) == 1
        car.end(signal.SIGKILL)
        eventually(lambda: not any(map(alive, workers)), what="the worker dies with its parent")
        car.charge()
        car.run()
        eventually(lambda: buyer.done(job_id), what="the job is done")
        job = buyer.job(job_id)
        assert (job.accepted_count, job.failed_count) == (10, 0)
        status = eventually(
            lambda: (s := car.status())["pool"]["verified_attempts"] == 10 and s, what="the owner's figures"
        )
        assert status["pool"]["held_micros"] > 0
        assert status["compute"]["unacknowledged"] == 0
        assert status["compute"]["sandbox_missing"] == []
        assert status["compute"]["completed_total"] == 10
        printed = json.loads(car.command("status", "--json"))
        assert printed["compute"]["completed_total"] == 10
        assert printed["energy"]["source"] == "declared"
        # Less than a minute of work is a guess, on which no net is promised.
        assert printed["energy"]["estimated"] == (printed["energy"].get("net_micros_per_hour") is None)
        energy = (
            pool.account()
            .GetEarnings(account_service_pb2.GetEarningsRequest(), metadata=car.owner.metadata)
            .energy
        )
        assert (energy.source, energy.unpriced_attempts) == ("declared", 0)
        assert energy.attempts >= 10
        assert 0 < energy.energy_mj <= printed["energy"]["today_mj"]
        assert car.command("status").startswith(("Ready to compute", "Not computing"))
        assert car.end() == 0
        assert car.worker_pids() == []
        assert not (car.state / "control.sock").exists()
        log = car.log.read_text(encoding="utf-8")
        assert all(json.loads(line)["level"] != "error" for line in log.splitlines())


def test_what_one_car_leaves_when_unplugged_another_finishes(tmp_path: Path) -> None:
    with running_pool(tmp_path) as pool, cars(pool, tmp_path, 2) as (leaving, staying):
        buyer = Buyer(pool)
        endless = export_step(lambda s, i, c: jnp.cos(s) + 1, jnp.zeros(4_000), unit_steps=1_000)
        job_id = buyer.order(endless, [{"state/value": np.zeros(4_000, np.float32)}], steps=30_000)
        leaving.charge()
        leaving.run()
        eventually((leaving.state / "control.sock").exists, what="the socket")
        eventually(lambda: leaving.status()["computing"], what="it computes")
        leaving.unplug()
        status = eventually(
            lambda: (s := leaving.status())["compute"]["last_stop_ms"] >= 0 and s, what="it stopped"
        )
        assert status["compute"]["last_stop_ms"] < 1_000
        assert status["reasons"][0]["code"] == "UNPLUGGED"
        assert leaving.worker_pids() == []
        staying.charge()
        staying.run()
        eventually(lambda: buyer.done(job_id), what="the other car finishes")
        assert buyer.job(job_id).accepted_count == 1
        assert leaving.status()["compute"]["abandoned_total"] == 1
        assert leaving.end() == 0
        assert staying.end() == 0


def test_two_daemons_or_two_identities_on_one_directory_are_refused(tmp_path: Path) -> None:
    with running_pool(tmp_path) as pool, cars(pool, tmp_path, 1) as (car,):
        with exclusive(car.state / "lock"):
            second = car._popen("run", "--source", "simulated", stderr=subprocess.PIPE)
            _, said = second.communicate(timeout=TIMEOUT_S)
        assert second.returncode == 1
        assert "another agent runs" in said
        again = car._popen(
            "pair", "--pool", pool.api_address, "--ca", str(pool.ca_file), stderr=subprocess.PIPE
        )
        _, said = again.communicate(timeout=TIMEOUT_S)
        assert (again.returncode, "--again" in said) == (1, True)

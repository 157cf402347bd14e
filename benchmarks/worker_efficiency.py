"""How much of a JAX program's speed is left in the pool's worker.

The same exported program, the same inputs and the same pinned numeric profile, three ways: jitted in a
process of its own (the floor), and in the agent's sandboxed worker behind the supervisor's frames,
judged and hashed as real results are.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from car_agent.runner.driver import WorkDriver
from car_agent.runner.process import WorkerSettings, worker_environment
from car_agent.runner.work import AttemptOutcome, AttemptWork, LeaseWork, Outcome
from pool_protocol.program.admission import AdmittedProgram, vet_in_child
from pool_protocol.program.export import export_map
from pool_protocol.system import SystemClock
from pool_protocol.tensors import encode

RUN_LIMIT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One program to measure."""

    name: str
    calls: int
    function: Callable[[Any], Any]
    inputs: dict[str, Any]


def mlp(inputs: Any) -> Any:
    """Two dense layers on a batch of 256."""
    import jax.numpy as jnp

    hidden = jnp.tanh(inputs["x"] @ inputs["w1"])
    return {"y": hidden @ inputs["w2"]}


def matmuls(inputs: Any) -> Any:
    """Ten products of 1024 x 1024 in one task: a second of one core's work at most."""
    import jax

    def body(_: int, x: Any) -> Any:
        return (x @ inputs["x"]) * np.float32(0.03)

    return {"y": jax.lax.fori_loop(0, 10, body, inputs["x"])}


def cases() -> list[Case]:
    """From milliseconds to a quarter of a second per task."""
    rng = np.random.default_rng(0)

    def matrix(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    return [
        Case(
            name="mlp, batch 256",
            calls=100,
            function=mlp,
            inputs={"x": matrix(256, 64), "w1": matrix(64, 128), "w2": matrix(128, 10)},
        ),
        Case(name="matmul 1024 x10", calls=20, function=matmuls, inputs={"x": matrix(1024, 1024)}),
    ]


class Listener:
    """Waits for outcomes."""

    def __init__(self) -> None:
        """Starts with none."""
        self.outcomes: list[AttemptOutcome] = []
        self.wanted = 0
        self.ready = asyncio.Event()
        self.done = asyncio.Event()
        self.exited = asyncio.Event()

    def worker_ready(self, sandbox_missing: tuple[str, ...], jaxlib_version: str) -> None:
        """The worker takes programs."""
        del sandbox_missing, jaxlib_version
        self.ready.set()

    def worker_exited(self, cause: str, *, crashed: bool) -> None:
        """No worker is left."""
        del cause, crashed
        self.exited.set()

    def attempt_ended(self, outcome: AttemptOutcome) -> None:
        """One more outcome."""
        self.outcomes.append(outcome)
        if len(self.outcomes) >= self.wanted:
            self.done.set()

    def progressed(self, attempt_id: int, share: float) -> None:
        """Not needed here."""

    def probe_ended(self) -> None:
        """Nothing follows from it here."""

    def went_idle(self) -> None:
        """Not needed here."""

    async def wait_for(self, count: int) -> None:
        """Waits until `count` outcomes are there since the last call.

        Raises:
            RuntimeError: an attempt failed.
        """
        await asyncio.wait_for(self.done.wait(), RUN_LIMIT_S)
        failed = [o for o in self.outcomes if o.outcome is not Outcome.COMPLETED]
        if failed or len(self.outcomes) != count:
            raise RuntimeError(f"attempts failed: {failed[:1]}")
        self.outcomes.clear()
        self.done.clear()


def lease_of(admitted: AdmittedProgram, inputs: bytes, attempts: int, number: int) -> LeaseWork:
    """A lease of `attempts` equal attempts."""
    return LeaseWork(
        lease_id=f"lease_{number}",
        program_sha256=admitted.manifest.program_id,
        artifact=admitted.artifact,
        manifest_json=admitted.manifest.to_json(),
        manifest=admitted.manifest,
        constants_sha256="",
        constants=b"",
        attempts=[
            AttemptWork(
                lease_id=f"lease_{number}",
                attempt_id=number * 10_000 + index,
                inputs=inputs,
                steps=0,
                unit_steps=0,
            )
            for index in range(attempts)
        ],
        expires_at_us=SystemClock().now_us() + 600_000_000,
    )


async def in_worker(case: Case, admitted: AdmittedProgram, inputs: bytes, rounds: int) -> list[float]:
    """Seconds per task in the agent's worker, per round; the first lease warms it up."""
    listener = Listener()
    with tempfile.TemporaryDirectory(prefix="bench-worker-") as scratch:
        driver = WorkDriver(
            settings=WorkerSettings(scratch=Path(scratch)), clock=SystemClock(), listener=listener
        )
        driver.start()
        await asyncio.wait_for(listener.ready.wait(), RUN_LIMIT_S)
        seconds = []
        for number in range(rounds + 1):
            count = case.calls if number else 2
            listener.wanted = count
            began = time.perf_counter()
            driver.feed(lease_of(admitted, inputs, count, number + 1))
            await listener.wait_for(count)
            if number:
                seconds.append((time.perf_counter() - began) / count)
        driver.kill()
        await asyncio.wait_for(listener.exited.wait(), RUN_LIMIT_S)
        await driver.close()
    return seconds


def measure_in_process(name: str, rounds: int) -> list[float]:
    """Seconds per call of the plain jitted function in this process; inputs and outputs are NumPy arrays."""
    import jax

    case = next(c for c in cases() if c.name == name)
    jitted = jax.jit(case.function)

    def call() -> None:
        for value in jitted(case.inputs).values():
            np.asarray(value)

    call()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(case.calls):
            call()
        seconds.append((time.perf_counter() - began) / case.calls)
    return seconds


def in_process(case: Case, rounds: int) -> list[float]:
    """The same in a fresh process under the worker's numeric profile."""
    environment = {
        **os.environ,
        **{
            key: value
            for key, value in worker_environment(WorkerSettings()).items()
            if key in {"XLA_FLAGS", "NPROC", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "JAX_PLATFORMS"}
        },
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker_efficiency", case.name, str(rounds)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def run(*, rounds: int) -> list[dict[str, Any]]:
    """Measures every case both ways."""
    rows = []
    for case in cases():
        exported = export_map(case.function, case.inputs)
        admitted = vet_in_child(exported.artifact, exported.draft)
        inputs = encode(
            {
                argument.tensor.name: value
                for argument, value in zip(
                    exported.draft.arguments, (case.inputs[k] for k in sorted(case.inputs)), strict=True
                )
            }
        )
        floor = statistics.median(in_process(case, rounds))
        pool = statistics.median(asyncio.run(in_worker(case, admitted, inputs, rounds)))
        rows.append(
            {
                "program": case.name,
                "in_process_ms": round(floor * 1e3, 3),
                "in_worker_ms": round(pool * 1e3, 3),
                "ratio": round(pool / floor, 3),
            }
        )
    return rows


if __name__ == "__main__":
    print(json.dumps(measure_in_process(sys.argv[1], int(sys.argv[2]))))

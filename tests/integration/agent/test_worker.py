"""The real worker: JAX in its sandbox, one process shared by the tests of this module."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import pytest_asyncio

from car_agent.runner.driver import WorkDriver
from car_agent.runner.process import WorkerSettings, worker_environment
from car_agent.runner.work import AttemptOutcome, AttemptWork, LeaseWork, Outcome
from pool_protocol import digests, tensors
from pool_protocol.numeric import PROFILE_ENVIRONMENT
from pool_protocol.program.export import ExportedProgram, export_map, export_step
from pool_protocol.program.manifest import ProgramCost, ProgramManifest
from pool_protocol.system import SystemClock
from tests.integration.agent.rig import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
COST = ProgramCost(
    operations={"add": 1},
    flops=1,
    bytes_moved=1,
    work_uwu=1,
    peak_bytes=1,
    temporary_bytes=1,
    cost_model=1,
)


class Listener:
    """Keeps what a driver tells."""

    def __init__(self) -> None:
        self.sandbox_missing: tuple[str, ...] | None = None
        self.outcomes: dict[int, AttemptOutcome] = {}
        self.shares: list[float] = []
        self.exits: list[bool] = []

    def worker_ready(self, sandbox_missing: tuple[str, ...], jaxlib_version: str) -> None:
        self.sandbox_missing = sandbox_missing

    def worker_exited(self, cause: str, *, crashed: bool) -> None:
        self.exits.append(crashed)

    def attempt_ended(self, outcome: AttemptOutcome) -> None:
        self.outcomes[outcome.attempt_id] = outcome

    def progressed(self, attempt_id: int, share: float) -> None:
        self.shares.append(share)

    def probe_ended(self) -> None:
        """Nothing follows from it here."""

    def went_idle(self) -> None:
        return


class Bench:
    """A driver with its listener."""

    def __init__(self, scratch: Path) -> None:
        self.listener = Listener()
        self.driver = WorkDriver(
            settings=WorkerSettings(scratch=scratch), clock=SystemClock(), listener=self.listener
        )
        self._next_id = 1

    async def run(
        self,
        program: ExportedProgram,
        *bundles: dict[str, Any],
        constants: dict[str, Any] | None = None,
        steps: int = 0,
        first_unit: int = 0,
        start: dict[str, Any] | None = None,
    ) -> list[AttemptOutcome]:
        """Make one attempt per bundle of inputs."""
        ids = range(self._next_id, self._next_id + len(bundles))
        self._next_id += len(bundles)
        manifest = ProgramManifest(draft=program.draft, cost=COST)
        encoded = tensors.encode(constants) if constants else b""
        work = [
            AttemptWork(
                lease_id="lease_1",
                attempt_id=attempt_id,
                inputs=tensors.encode(arrays),
                steps=steps,
                unit_steps=program.draft.unit_steps,
                first_unit=first_unit,
                start=tensors.encode(start) if start else b"",
            )
            for attempt_id, arrays in zip(ids, bundles, strict=True)
        ]
        self.driver.feed(
            LeaseWork(
                lease_id="lease_1",
                program_sha256=digests.sha256_hex(program.artifact),
                artifact=program.artifact,
                manifest_json=manifest.to_json(),
                manifest=manifest,
                constants_sha256=digests.sha256_hex(encoded) if encoded else "",
                constants=encoded,
                attempts=work,
                expires_at_us=SystemClock().now_us() + 60_000_000,
            )
        )
        await until(lambda: all(attempt_id in self.listener.outcomes for attempt_id in ids))
        return [self.listener.outcomes[attempt_id] for attempt_id in ids]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("worker"))
    made.driver.start()
    await until(lambda: made.listener.sandbox_missing is not None, what="the worker is ready")
    yield made
    await made.driver.close()


def vector(*values: float) -> dict[str, Any]:
    return {"value": np.array(values, np.float32)}


def outputs(outcome: AttemptOutcome) -> dict[str, Any]:
    assert outcome.outcome is Outcome.COMPLETED, outcome
    return tensors.decode(outcome.outputs)


def double(x: Any) -> Any:
    return x * 2


def blur(state: Any, inputs: Any, constants: Any) -> Any:
    return (state + jnp.roll(state, 1)) * 0.5


async def test_a_map_program_with_constants_computes_what_jax_computes(bench: Bench) -> None:
    weights = np.arange(16, dtype=np.float32).reshape(4, 4)

    def affine(constants: Any, x: Any) -> Any:
        return {"y": x @ constants["w"] + 1, "largest": jnp.max(x)}

    program = export_map(affine, jnp.zeros(4), {"w": jnp.zeros((4, 4))})
    points = [np.arange(4, dtype=np.float32) + n for n in range(40)]
    outcomes = await bench.run(program, *[{"value": x} for x in points], constants={"w": weights})
    for x, outcome in zip(points, outcomes, strict=True):
        arrays = outputs(outcome)
        np.testing.assert_allclose(arrays["y"], x @ weights + 1, rtol=1e-6)
        assert arrays["largest"] == x.max()
        assert outcome.output_digest == digests.output_digest(arrays)
        assert outcome.unit_count == 0


async def test_a_step_program_runs_by_units_and_commits_to_each(bench: Bench) -> None:
    program = export_step(blur, jnp.zeros(8), unit_steps=10)
    start = np.zeros(8, np.float32)
    start[0] = 1.0
    (outcome,) = await bench.run(program, {"state/value": start}, steps=25)
    expected = start
    for _ in range(25):
        expected = (expected + np.roll(expected, 1)) * np.float32(0.5)
    np.testing.assert_allclose(outputs(outcome)["value"], expected, rtol=1e-5)
    assert outcome.unit_count == 3
    (again,) = await bench.run(program, {"state/value": start}, steps=25)
    assert again.unit_root == outcome.unit_root
    (longer,) = await bench.run(program, {"state/value": start}, steps=26)
    assert longer.unit_root != outcome.unit_root


async def test_a_step_program_goes_on_from_a_state_to_the_very_same_units(bench: Bench) -> None:
    program = export_step(blur, jnp.zeros(8), unit_steps=10)
    inputs = {"state/value": np.linspace(0, 1, 8, dtype=np.float32)}
    (whole,) = await bench.run(program, inputs, steps=45)
    (begun,) = await bench.run(program, inputs, steps=20)
    (rest,) = await bench.run(program, inputs, steps=25, first_unit=2, start=outputs(begun))
    assert (*begun.unit_digests, *rest.unit_digests) == whole.unit_digests
    assert rest.output_digest == whole.output_digest


async def test_inputs_that_do_not_fit_are_the_programs_failure(bench: Bench) -> None:
    program = export_map(double, jnp.zeros(3))
    wrong, right = await bench.run(program, vector(1, 2), vector(1, 2, 3))
    assert wrong.outcome is Outcome.PROGRAM_FAILED
    assert "input" in wrong.detail
    assert outputs(right)["value"].tolist() == [2, 4, 6]


async def test_missing_constants_fail_the_attempt(bench: Bench) -> None:
    program = export_map(lambda c, x: c["w"] * x, jnp.zeros(2), {"w": jnp.zeros(2)})
    (outcome,) = await bench.run(program, vector(1, 2))
    assert outcome.outcome is Outcome.PROGRAM_FAILED


async def test_more_programs_than_are_kept_warm(bench: Bench) -> None:
    """Nine programs evict each other; supervisor and worker agree on which are left."""
    programs = [export_map(lambda x, n=n: x + n, jnp.zeros(2)) for n in range(9)]
    for _ in range(2):
        for n, program in enumerate(programs):
            (outcome,) = await bench.run(program, vector(0, 1))
            assert outputs(outcome)["value"].tolist() == [n, n + 1]
    assert len(bench.driver.warm_programs) == 8


async def test_an_artifact_that_cannot_be_loaded_fails_its_attempts_and_nothing_else(bench: Bench) -> None:
    good = export_map(double, jnp.zeros(5))
    bad = ExportedProgram(artifact=good.artifact[:-8] + b"\0" * 8, draft=good.draft)
    outcomes = await bench.run(bad, vector(*range(5)), vector(*range(5)))
    assert {outcome.outcome for outcome in outcomes} == {Outcome.PROGRAM_FAILED}
    (outcome,) = await bench.run(good, vector(*range(5)))
    assert outputs(outcome)["value"].tolist() == [0, 2, 4, 6, 8]
    assert bench.listener.exits == []


async def test_64_bit_programs_keep_their_types(bench: Bench) -> None:
    import jax

    with jax.enable_x64(True):
        program = export_map(lambda x: x + 1e-12, jnp.zeros(1, jnp.float64))
    (outcome,) = await bench.run(program, {"value": np.array([1.0])})
    assert outputs(outcome)["value"].dtype == np.float64
    assert outputs(outcome)["value"][0] > 1.0


def process_status(pid: int | None) -> str:
    return Path(f"/proc/{pid}/status").read_text(encoding="ascii")


async def test_the_sandbox_stands_and_the_environment_is_ours(bench: Bench) -> None:
    assert bench.listener.sandbox_missing == ()
    pid = bench.driver.pid
    status = process_status(pid)
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert os.getsid(pid or 0) == pid
    environment = worker_environment(WorkerSettings(scratch=Path("scratch")))
    assert PROFILE_ENVIRONMENT.items() <= environment.items()
    assert environment["NPROC"] == "4"
    assert not {"USER", "LOGNAME", "HOSTNAME", "SSH_AUTH_SOCK", "http_proxy"} & set(environment)


KILLS: list[tuple[str, Callable[[Bench], bool]]] = [
    ("while it computes", lambda bench: bench.driver.running_attempt is not None),
    ("while it starts", lambda bench: bench.driver.pid is not None),
]


@pytest.mark.parametrize(("moment", "reached"), KILLS)
async def test_killed_at_any_moment_nothing_is_left(
    tmp_path: Path, moment: str, reached: Callable[[Bench], bool]
) -> None:
    bench = Bench(tmp_path)
    endless = export_step(lambda s, i, c: jnp.sin(s) + 1, jnp.zeros(64), unit_steps=1_000_000_000)
    bench.driver.start()
    feeding: asyncio.Task[list[AttemptOutcome]] | None = None
    if moment == "while it computes":
        feeding = asyncio.create_task(
            bench.run(endless, {"state/value": np.ones(64, np.float32)}, steps=10**9)
        )
        await until(lambda: bench.listener.sandbox_missing is not None)
    await until(lambda: reached(bench))
    pid = bench.driver.pid
    clock = SystemClock()
    began_ns = clock.monotonic_ns()
    bench.driver.kill()
    await until(lambda: bench.listener.exits == [False])
    took_ms = (clock.monotonic_ns() - began_ns) / 1e6
    with pytest.raises(ProcessLookupError):
        os.kill(pid or 0, 0)
    assert took_ms < 1_000, took_ms
    if feeding is not None:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
    await bench.driver.close()


async def test_a_step_task_that_is_killed_tells_which_units_it_had_made(tmp_path: Path, bench: Bench) -> None:
    """What it commits to are the digests that the same units have when they are run to an end."""
    killed = Bench(tmp_path)
    killed.driver.start()
    program = export_step(blur, jnp.zeros(8), unit_steps=2_000)
    start = {"state/value": np.arange(8, dtype=np.float32)}
    feeding = asyncio.create_task(killed.run(program, start, steps=10**9))
    await until(lambda: len(killed.listener.shares) >= 2, what="it has told of some units")
    killed.driver.kill()
    stopped = killed.driver.stopped
    assert stopped is not None
    await until(lambda: killed.listener.exits == [False])
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    await killed.driver.close()
    assert stopped.outcome is Outcome.ABANDONED
    assert (stopped.lease_id, stopped.attempt_id) == ("lease_1", 1)
    assert stopped.unit_count == len(stopped.unit_digests) >= 2
    assert stopped.run_time_us > 0
    (whole,) = await bench.run(program, start, steps=2_000 * stopped.unit_count)
    assert whole.unit_digests == stopped.unit_digests


async def test_a_worker_that_has_made_no_unit_leaves_nothing_to_claim(tmp_path: Path) -> None:
    killed = Bench(tmp_path)
    endless = export_step(lambda s, i, c: jnp.sin(s) + 1, jnp.zeros(64), unit_steps=1_000_000_000)
    killed.driver.start()
    feeding = asyncio.create_task(
        killed.run(endless, {"state/value": np.ones(64, np.float32)}, steps=2 * 10**9)
    )
    await until(lambda: killed.driver.running_attempt is not None)
    killed.driver.kill()
    stopped = killed.driver.stopped
    assert stopped is not None
    assert (stopped.unit_count, stopped.unit_digests) == (0, ())
    await until(lambda: killed.listener.exits == [False])
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    await killed.driver.close()

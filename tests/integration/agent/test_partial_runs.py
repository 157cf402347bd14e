"""A real daemon is unplugged in mid-task: what it had made is proved by others' digests, and paid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from car_agent.journal.state_directory import StateDirectory
from car_agent.journal.store import Journal
from pool_protocol.program.export import export_step
from pool_protocol.program.load import LoadedProgram
from pool_protocol.system import SystemClock
from pool_protocol.v1 import admin_service_pb2, common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from tests.integration.agent.test_real_pool import Buyer, Car, cars, eventually
from tests.support.pool import PoolHandle, running_pool
from tests.support.step_cars import AnsweringStream, State, StepCar

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
#: Some seconds of work that is metered low, in units of a few hundredths of a second.
UNITS = 128
UNIT_STEPS = 100
SIZE = 1_000
#: Work that is metered high and soon done.
EARNING_SIZE = 12_000
EARNING_STEPS = 5_000


def slow(state: Any, _inputs: Any, _constants: Any) -> Any:
    """Twenty sines for each number that is read."""
    for _ in range(20):
        state = jnp.sin(state) * 1.0001
    return state


def story(pool: PoolHandle, car: Car) -> list[str]:
    """What an operator reads of a vehicle."""
    request = admin_service_pb2.GetEvidenceRequest(vehicle_id=car.vehicle_id)
    return list(pool.admin().GetEvidence(request, metadata=pool.operator.metadata).evidence.story)


def charging(car: Car, condition: Callable[[], Any], *, what: str) -> None:
    """Wait for something while a car charges: a report of its source is fresh for a while only."""

    def it_holds() -> Any:
        car.charge()
        return condition()

    eventually(it_holds, what=what)


def trust(pool: PoolHandle, car: Car, *, trusted: bool) -> None:
    """Make a car one of the operator's own, or not."""
    request = admin_service_pb2.SetTrustedRequest(vehicle_id=car.vehicle_id, trusted=trusted)
    pool.admin().SetTrusted(request, metadata=pool.operator.metadata)


def test_an_unplugged_daemon_is_paid_to_its_last_good_unit(tmp_path: Path) -> None:
    """1. It earns with a whole task. 2. It is unplugged in a longer one. 3. Two others finish that one.

    4. It charges again, shows one digest, and is paid for what it had made.
    """
    earning = export_step(lambda s, i, c: s * 0.999 + 1, jnp.zeros(EARNING_SIZE), unit_steps=500)
    program = export_step(slow, jnp.zeros(SIZE), unit_steps=UNIT_STEPS)
    loaded = LoadedProgram(program.artifact, program.draft)
    start = {"state/value": np.linspace(0, 1, SIZE, dtype=np.float32)}

    def step(state: State, steps: int) -> State:
        return loaded.run_steps(steps, state)

    with running_pool(tmp_path) as pool, cars(pool, tmp_path, 1) as (car,):
        buyer = Buyer(pool, level=common_pb2.VERIFICATION_LEVEL_SPOT)
        trust(pool, car, trusted=True)  # its first results need no other vehicle
        earned_from = {"state/value": np.zeros(EARNING_SIZE, np.float32)}
        first = buyer.order(earning, [earned_from] * 4, steps=EARNING_STEPS)
        car.charge()
        car.run()
        charging(car, lambda: buyer.done(first), what="its first results")
        earned = eventually(lambda: car.status()["pool"]["held_micros"], what="the owner's figures")

        trust(pool, car, trusted=False)
        job_id = buyer.order(program, [start], steps=UNITS * UNIT_STEPS)
        charging(
            car, lambda: car.status()["compute"]["attempt_progress"] > 0.0, what="it has made some units"
        )
        car.unplug()
        status = eventually(
            lambda: (s := car.status())["compute"]["abandoned_total"] == 1 and s,
            what="it gives the task back",
        )
        assert status["compute"]["last_stop_ms"] < 250

        sha256 = program.draft.artifact_sha256
        pair = [StepCar(pool, name=name, step=step, program_sha256=sha256) for name in ("ada", "bob")]
        eventually(lambda: any("1 not settled yet" in line for line in story(pool, car)), what="its claim")
        acks = [ack.status for honest in pair for ack in honest.work_steps()]
        assert acks == [pb.ACK_STATUS_RECORDED, pb.ACK_STATUS_VERIFIED]
        streams = [AnsweringStream(honest) for honest in pair]
        charging(car, lambda: any("1 paid up to" in line for line in story(pool, car)), what="the pay")
        charging(car, lambda: car.status()["pool"]["held_micros"] > earned, what="the owner sees it")
        for stream in streams:
            stream.end()
        units = {query.unit_index for honest in pair for query in honest.asked}
        assert len(units) == 1, "one unit, of all sides"
        [last_unit] = units
        assert 0 < last_unit + 1 < UNITS
        assert buyer.job(job_id).accepted_count == 1
        assert car.end() == 0
    journal = Journal(StateDirectory(car.state).journal, now_us=SystemClock().now_us())
    try:
        kept = journal.commitment(5)
        assert kept is not None
        assert len(kept.unit_digests) == last_unit + 1
        assert tuple(pair[0].walks[6].digests[: last_unit + 1]) == kept.unit_digests
    finally:
        journal.close()

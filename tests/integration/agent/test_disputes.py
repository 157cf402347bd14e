"""A real daemon in a dispute with a liar: it shows its digests and computes the agreed state again."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from pool_protocol.program.export import export_step
from pool_protocol.program.load import LoadedProgram
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from tests.integration.agent.test_real_pool import Buyer, cars, eventually
from tests.support.pool import running_pool
from tests.support.step_cars import AnsweringStream, CountingReferee, State, StepCar

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
UNITS = 16
LYING_UNIT = 11


def lie(unit: int, state: State) -> State:
    """Wrong from one unit on."""
    return {name: array + np.float32(1) for name, array in state.items()} if unit == LYING_UNIT else state


def test_a_daemon_wins_against_a_liar_that_has_forgotten_its_states(tmp_path: Path) -> None:
    size = 500
    program = export_step(lambda s, i, c: jnp.sin(s) * 1.0001, jnp.zeros(size), unit_steps=50)
    loaded = LoadedProgram(program.artifact, program.draft)

    def step(state: State, steps: int) -> State:
        return loaded.run_steps(steps, state)

    referee = CountingReferee(step=step)
    with running_pool(tmp_path, referee=referee) as pool, cars(pool, tmp_path, 1) as (car,):
        buyer = Buyer(pool, level=common_pb2.VERIFICATION_LEVEL_SPOT)
        start = {"state/value": np.linspace(0, 1, size, dtype=np.float32)}
        job_id = buyer.order(program, [start], steps=UNITS * 50)
        liar = StepCar(pool, spoil=lie, name="liar", step=step, program_sha256=program.draft.artifact_sha256)

        def forgetful(query: pb.UnitQuery) -> pb.UnitAnswer:
            if query.want_state:
                return pb.UnitAnswer(query_id=query.query_id, reason="STATE_FORGOTTEN")
            return liar.truthful_answer(query)

        liar.answer_with = forgetful
        assert [ack.status for ack in liar.work_steps()] == [pb.ACK_STATUS_RECORDED]
        stream = AnsweringStream(liar)
        car.charge()
        car.run()
        eventually(lambda: buyer.done(job_id), what="the dispute is decided")
        stream.end()
        assert len(liar.digest_queries()) <= 5
        assert [order.unit_index for order in referee.orders] == [LYING_UNIT]
        job = buyer.job(job_id)
        assert (job.accepted_count, job.rejected_count) == (1, 1)
        status = eventually(
            lambda: (s := car.status())["pool"]["verified_attempts"] == 1 and s, what="the owner's figures"
        )
        assert status["compute"]["completed_total"] == 1
        assert car.end() == 0

"""A real daemon in a dispute with a liar: it shows its digests and computes the agreed state again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from pool_protocol.program.export import export_step
from pool_protocol.program.load import LoadedProgram
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from tests.integration.agent.test_real_pool import Buyer, Car, cars, eventually
from tests.integration.server.test_classes import agent_info, ask
from tests.integration.server.test_disputes import rows
from tests.support.classes import probe
from tests.support.pool import running_pool
from tests.support.step_cars import AnsweringStream, CountingReferee, State, StepCar

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
UNITS = 16
LYING_UNIT = 11


def lie(unit: int, state: State) -> State:
    """Wrong from one unit on."""
    return {name: array + np.float32(1) for name, array in state.items()} if unit == LYING_UNIT else state


def charge_until(car: Car, done: Callable[[], bool], *, what: str) -> None:
    """Run a car that goes on charging: what its source says is trusted for ten seconds only."""

    def told_again() -> bool:
        car.charge()
        return done()

    car.charge()
    car.run()
    eventually(told_again, what=what)


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
        charge_until(car, lambda: buyer.done(job_id), what="the dispute is decided")
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


def test_a_daemon_shows_the_states_of_units_that_are_drawn_of_its_claim(tmp_path: Path) -> None:
    size = 500
    program = export_step(lambda s, i, c: jnp.sin(s) * 1.0001, jnp.zeros(size), unit_steps=50)
    loaded = LoadedProgram(program.artifact, program.draft)

    def step(state: State, steps: int) -> State:
        return loaded.run_steps(steps, state)

    # Of a class of its own, so that its bits prove nothing about anybody.
    referee = CountingReferee(step=step, numeric_class=probe("r").class_id)
    with running_pool(tmp_path, referee=referee) as pool, cars(pool, tmp_path, 1) as (car,):
        close = common_pb2.Comparator(kind=common_pb2.COMPARATOR_KIND_CLOSE, rtol=1e-4)
        buyer = Buyer(pool, level=common_pb2.VERIFICATION_LEVEL_SPOT, comparator=close)
        liar = StepCar(pool, spoil=lie, name="liar", step=step, program_sha256=program.draft.artifact_sha256)
        assert ask(liar, agent_info(probe("b"))) is None
        start = {"state/value": np.linspace(0, 1, size, dtype=np.float32)}
        job_id = buyer.order(program, [start], steps=UNITS * 50)
        assert [ack.status for ack in liar.work_steps()] == [pb.ACK_STATUS_RECORDED]
        stream = AnsweringStream(liar)
        charge_until(car, lambda: buyer.done(job_id), what="both claims are checked")
        stream.end()
        job = buyer.job(job_id)
        assert (job.accepted_count, job.rejected_count) == (1, 1)
        # The dispute's unit once, then at least nine of the daemon's claim, from its own states.
        assert referee.orders[0].unit_index == LYING_UNIT
        assert rows(pool, "SELECT count(*) FROM unit_checks WHERE state = 'within'")[0][0] >= 9
        [(vehicle_id,)] = rows(pool, "SELECT DISTINCT vehicle_id FROM findings")
        assert vehicle_id == liar.vehicle.vehicle_id
        assert car.end() == 0

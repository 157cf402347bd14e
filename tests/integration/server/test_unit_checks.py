"""Claims of two numeric classes through the real server: checked one by one, from their own states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from tests.integration.server.test_classes import agent_info, ask
from tests.integration.server.test_disputes import answering, rows, step_pool, wait_decided
from tests.support.chaotic_cars import STEPS, start
from tests.support.classes import probe
from tests.support.fake_car import FakeBuyer
from tests.support.pool import PoolHandle
from tests.support.step_cars import (
    UNIT_STEPS,
    CountingReferee,
    Spoil,
    State,
    StepCar,
    honest,
    open_step_job,
)

UNITS = 64
CLOSE = common_pb2.Comparator(kind=common_pb2.COMPARATOR_KIND_CLOSE, rtol=1e-4)


class ClassCar(StepCar):
    """A step car of a numeric class, told by its probe."""

    def __init__(self, pool: PoolHandle, kind: str, spoil: Spoil = honest) -> None:
        super().__init__(pool, spoil=spoil, name=f"car-{kind}", step=STEPS[kind])
        assert ask(self, agent_info(probe(kind))) is None, "it is there before the job is"


@contextmanager
def contradiction(
    tmp_path: Path, spoil: Spoil
) -> Iterator[tuple[PoolHandle, FakeBuyer, str, CountingReferee, tuple[ClassCar, ClassCar]]]:
    """A chaotic task that two cars of two classes have computed, the second one perhaps not honestly."""
    referee = CountingReferee(step=STEPS["r"], numeric_class=probe("r").class_id)
    with step_pool(tmp_path, referee, colluding_auditor_share=0.0) as pool:
        pair = ClassCar(pool, "a"), ClassCar(pool, "b", spoil)
        if spoil is honest:
            assert [ClassCar(pool, kind) for kind in "ab"], "of each class there is one more"
        buyer = FakeBuyer.with_money(pool)
        job_id = open_step_job(buyer, steps=UNITS * UNIT_STEPS, start=lambda _seed: start(), comparator=CLOSE)
        with answering(*pair):
            for car in pair:
                assert [ack.status for ack in car.work_steps()] == [pb.ACK_STATUS_RECORDED]
            yield pool, buyer, job_id, referee, pair


def test_two_honest_ends_without_likeness_are_both_accepted(tmp_path: Path) -> None:
    with contradiction(tmp_path, honest) as (pool, buyer, job_id, referee, pair):
        result = wait_decided(buyer, job_id)
        assert result.state == market_pb.TASK_STATE_ACCEPTED
        ends = [next(iter(car.walks.values())).states[-1]["value"] for car in pair]
        assert np.max(np.abs(ends[0] - ends[1])) > 0.1
        assert rows(pool, "SELECT DISTINCT state FROM attempts") == [("accepted",)]
        assert rows(pool, "SELECT state, reason FROM disputes") == [("no_blame", "BOTH_STAND")]
        assert rows(pool, "SELECT count(*) FROM findings") == [(0,)]
        # Nine units of each were drawn, one is where their bits part, and at most seven were searched.
        [(fewest, most)] = rows(
            pool,
            "SELECT min(n), max(n) FROM (SELECT count(*) AS n FROM unit_checks WHERE state = 'within' "
            "GROUP BY attempt_id)",
        )
        assert 9 <= fewest <= most <= 17
        # The unit of parting was run for the dispute, and every checked one for its claim.
        assert len(referee.orders) == 1 + rows(pool, "SELECT count(*) FROM unit_checks")[0][0]
        for car in pair:
            assert len(car.state_queries()) <= 2 * most


def test_who_makes_its_units_up_is_rejected_with_the_unit_named(tmp_path: Path) -> None:
    def lazy(unit: int, state: State) -> State:
        return {"value": state["value"] * np.float32(0.99)} if unit else state

    with contradiction(tmp_path, lazy) as (pool, buyer, job_id, _, (truthful, liar)):
        assert wait_decided(buyer, job_id).state == market_pb.TASK_STATE_ACCEPTED
        found = dict(rows(pool, "SELECT vehicle_id, state FROM attempts"))
        assert found == {truthful.vehicle.vehicle_id: "accepted", liar.vehicle.vehicle_id: "rejected"}
        [(kind, finding, unit)] = rows(pool, "SELECT kind, finding, unit_index FROM findings")
        assert (kind, finding) == ("DISPUTE", "WRONG")
        [(first,)] = rows(
            pool,
            "SELECT min(unit_index) FROM unit_checks WHERE state = 'outside'",
        )
        assert unit == first > 0

"""Numeric classes through a real server: probes on the wire, what is refused, a class fault as told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from pool_protocol.errors import ErrorCode
from pool_protocol.numeric import Probe
from pool_protocol.system import SystemClock
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from pool_server.cli.root import cli
from tests.support.classes import probe
from tests.support.clock import ManualClock
from tests.support.fake_car import Compute, FakeBuyer, FakeCar, inputs_of, square, vet_without_jax
from tests.support.pool import PoolHandle, code_of, running_pool

CLOSE = common_pb2.Comparator(kind=common_pb2.COMPARATOR_KIND_CLOSE, rtol=1e-5)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SystemClock().now_us())


@pytest.fixture
def pool(tmp_path: Path, clock: ManualClock) -> Iterator[PoolHandle]:
    with running_pool(tmp_path, vet=vet_without_jax, clock=clock) as running:
        yield running


def agent_info(found: Probe) -> pb.AgentInfo:
    return pb.AgentInfo(
        agent_version="1.0",
        jaxlib_version=found.jaxlib_version,
        platforms=[found.platform],
        numeric=pb.NumericProbe(
            probe_version=found.probe_version,
            profile=found.profile,
            families=[pb.ProbeDigest(family=name, digest=value) for name, value in found.families.items()],
        ),
    )


def ask(car: FakeCar, agent: pb.AgentInfo) -> pb.LeaseBody | None:
    want = pb.WorkRequest(attempts_max=2, agent=agent)
    answer = car.stub.LeaseWork(pb.LeaseWorkRequest(want=want))
    return car.open_lease(answer.lease) if answer.HasField("lease") else None


def classes(pool: PoolHandle) -> admin_pb.ListClassesResponse:
    return pool.admin().ListClasses(admin_pb.ListClassesRequest(), metadata=pool.operator.metadata)


def spoiled(change: Callable[[pb.AgentInfo], None]) -> pb.AgentInfo:
    agent = agent_info(probe())
    change(agent)
    return agent


def _shorten(agent: pb.AgentInfo) -> None:
    agent.numeric.families[0].digest = b"short"


def _repeat(agent: pb.AgentInfo) -> None:
    agent.numeric.families.append(agent.numeric.families[0])


def _flood(agent: pb.AgentInfo) -> None:
    agent.numeric.families.extend(pb.ProbeDigest(family=f"f{n}", digest=bytes(32)) for n in range(10_000))


def _rename(agent: pb.AgentInfo) -> None:
    agent.numeric.families[0].family = "astrology"


def _empty(agent: pb.AgentInfo) -> None:
    del agent.numeric.families[:]


@pytest.mark.parametrize("change", [_shorten, _repeat, _flood, _rename, _empty])
def test_a_bad_probe_is_refused_and_changes_nothing(
    pool: PoolHandle, change: Callable[[pb.AgentInfo], None]
) -> None:
    car = FakeCar(pool)
    assert ask(car, agent_info(probe("a"))) is None
    with pytest.raises(grpc.RpcError) as refused:
        ask(car, spoiled(change))
    assert code_of(refused.value) == ErrorCode.INVALID_ARGUMENT.value
    [only] = classes(pool).classes
    assert (only.class_id, only.vehicle_count) == (probe("a").class_id, 1)


def test_a_probe_of_tomorrow_is_no_probe(pool: PoolHandle) -> None:
    car, agent = FakeCar(pool), agent_info(probe())
    agent.numeric.probe_version += 1
    agent.numeric.families.append(pb.ProbeDigest(family="quantum", digest=bytes(32)))
    assert ask(car, agent) is None
    assert [item.class_id for item in classes(pool).classes] == ["unknown"]


def test_a_faulty_class_is_told_to_the_operator_in_plain_words(pool: PoolHandle, clock: ManualClock) -> None:
    # 1. Eight cars compute rightly; two of another class are off by 1e-3, by the same bits.
    def off(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"value": np.asarray(square(inputs)["value"] * np.float32(1.001), np.float32)}

    fleet: list[tuple[FakeCar, pb.AgentInfo, Compute]] = [
        (FakeCar(pool, name=f"car-{number}"), agent_info(probe("f" if number < 2 else "a")), square)
        for number in range(10)
    ]
    fleet[:2] = [(car, agent, off) for car, agent, _ in fleet[:2]]  # type: ignore[misc]
    for car, agent, _ in fleet:
        assert ask(car, agent) is None
    buyer = FakeBuyer.with_money(pool)
    created = buyer.call(
        "CreateJob",
        market_pb.CreateJobRequest(
            idempotency_key="k",
            program_sha256=buyer.admit(),
            price_mode=common_pb2.PRICE_MODE_SPOT,
            price_cap_micros_per_wu=10_000_000,
            budget_micros=10**9,
            level=common_pb2.VERIFICATION_LEVEL_CAREFUL,
            comparator=CLOSE,
            name="squares",
        ),
    )
    numbers = list(range(1, 13))
    tasks = [market_pb.TaskInputs(inputs=inputs_of(number)) for number in numbers]
    buyer.call("AddTasks", market_pb.AddTasksRequest(job_id=created.job_id, first_index=0, tasks=tasks))
    buyer.call("CloseJob", market_pb.CloseJobRequest(job_id=created.job_id))
    # 2. All work until nothing is left.
    job = market_pb.JobView()
    for _ in range(100):
        for car, agent, compute in fleet:
            lease = ask(car, agent)
            if lease is not None:
                car.submit(car.seal(car.results(lease, compute)))
        clock.advance(seconds=5)
        job = buyer.call("GetJob", market_pb.GetJobRequest(job_id=created.job_id)).job
        if job.state == market_pb.JOB_STATE_DONE:
            break
    assert job.accepted_count == len(numbers)
    assert job.rejected_count == 0
    # 3. The operator reads of a fault; nobody is in quarantine.
    [fault] = classes(pool).faults
    assert (fault.class_id, fault.vehicle_count) == (probe("f").class_id, 2)
    states = dict(
        pool.admin()
        .GetOverview(admin_pb.GetOverviewRequest(), metadata=pool.operator.metadata)
        .vehicles_by_state
    )
    assert states.get("quarantined", 0) == 0
    told = CliRunner().invoke(cli, ["--data", str(pool.data_dir), "classes"])
    assert told.exit_code == 0, told.output
    assert "not fraud" in told.output
    listed = json.loads(CliRunner().invoke(cli, ["--data", str(pool.data_dir), "classes", "--json"]).output)
    assert [item["vehicle_count"] for item in listed["classes"]] == [8, 2]
    # 4. The class gets no more of this program.
    buyer.open_job([1.0], level=common_pb2.VERIFICATION_LEVEL_CAREFUL, key="again")
    assert ask(*fleet[0][:2]) is None

"""The numeric probe in real workers: equal settings give equal bits, others differ where they touch."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from car_agent.journal.probe_file import ProbeFile, ProbeKey
from car_agent.main.numeric import NumericProbes
from car_agent.runner.driver import WorkDriver
from car_agent.runner.process import WorkerSettings
from pool_protocol.numeric import PROFILE, PROFILE_ENVIRONMENT, Family, Probe
from pool_protocol.system import SystemClock
from pool_protocol.v1 import fleet_service_pb2 as pb
from tests.integration.agent.rig import FakeFleet, Rig, until
from tests.integration.agent.test_worker import Listener

F = Family


async def probed(folder: Path, environment: Mapping[str, str] | None = None) -> Probe:
    """What one real worker process finds."""
    settings = WorkerSettings(scratch=folder / "scratch", environment=environment or {})
    probes = NumericProbes(ProbeFile(folder / "numeric.json"), settings)
    driver = WorkDriver(settings=settings, clock=SystemClock(), listener=Listener(), probes=probes)
    driver.start()
    try:
        await until(lambda: probes.current is not None, what="the probe is done")
    finally:
        await driver.close()
    found = probes.current
    assert found is not None
    return found


def differing(one: Probe, other: Probe) -> set[Family]:
    return {family for family in Family if one.families[family] != other.families[family]}


@pytest.mark.slow
@pytest.mark.asyncio
async def test_equal_settings_give_equal_bits_and_others_differ_where_expected(tmp_path: Path) -> None:
    """Measured before: no fused multiply-add changes products and transcendental functions; the vendor's own
    mathematics changes the reciprocal root and the way of products; another BLAS kernel changes LAPACK alone.
    """
    flags = PROFILE_ENVIRONMENT["XLA_FLAGS"]
    pinned = await probed(tmp_path / "pinned")
    assert pinned.profile == PROFILE
    again = await probed(tmp_path / "again")
    assert again == pinned
    assert again.class_id == pinned.class_id

    old = await probed(tmp_path / "old", {"XLA_FLAGS": flags.replace("AVX2", "SSE4_2")})
    assert old.profile != PROFILE
    assert {F.ELEMENTWISE, F.TRANSCENDENTAL, F.DOT} <= differing(pinned, old)
    assert not differing(pinned, old) & {F.INTEGER, F.RNG, F.SORT}

    vendor = await probed(tmp_path / "vendor", {"XLA_FLAGS": flags.replace("math=false", "math=true")})
    assert {F.RSQRT, F.DOT, F.DOT_TRANSPOSED} <= differing(pinned, vendor)
    assert not differing(pinned, vendor) & {F.ELEMENTWISE, F.INTEGER, F.RNG, F.SORT}

    blas = await probed(tmp_path / "blas", {"OPENBLAS_CORETYPE": "Sandybridge"})
    assert differing(pinned, blas) == {F.LAPACK}
    assert len({found.class_id for found in (pinned, old, vendor, blas)}) == 4


# --- in the life of an agent, with a stub for a worker ------------------------------------------


@pytest.fixture
async def fleet() -> AsyncIterator[FakeFleet]:
    served = FakeFleet()
    await served.start()
    yield served
    await served.stop()


def probes_run(path: Path) -> int:
    told = path / "scratch" / "probed"
    return len(told.read_text(encoding="ascii").splitlines()) if told.exists() else 0


def wishes(fleet: FakeFleet) -> list[pb.AgentInfo]:
    return [request.want.agent for request in fleet.requests if request.HasField("want")]


async def compute(fleet: FakeFleet, rig: Rig, lease_number: int) -> None:
    """One lease from the first report of charging to its result."""
    attempt_id = lease_number * 10
    fleet.offers = [fleet.lease(lease_number, attempt_id)]
    rig.charge()
    await until(lambda: attempt_id in fleet.results() and not rig.link.outbox)


def told_classes(fleet: FakeFleet) -> set[bool]:
    """Whether wishes told a class: all of them, none, or some."""
    return {wish.HasField("numeric") for wish in wishes(fleet)}


async def test_the_probe_runs_once_while_charging_and_before_any_work_is_asked_for(
    fleet: FakeFleet, tmp_path: Path
) -> None:
    # 1. After the enrolment: nothing is computed before the car charges, then the probe comes first.
    car, identity = tmp_path / "car", fleet.identity()
    rig = Rig(car)
    await rig.start(identity)
    rig.unplug()
    assert probes_run(car) == 0
    await compute(fleet, rig, 1)
    assert probes_run(car) == 1
    assert told_classes(fleet) == {True}
    told = wishes(fleet)[0]
    assert {entry.family for entry in told.numeric.families} == {family.value for family in Family}
    assert (told.numeric.profile, told.jaxlib_version) == (PROFILE, "0")
    await rig.crash()
    # 2. The next run knows it already.
    fleet.requests.clear()
    rig = Rig(car)
    await rig.start()
    await compute(fleet, rig, 2)
    assert probes_run(car) == 1
    assert told_classes(fleet) == {True}
    await rig.crash()


@pytest.mark.parametrize("updated", ["agent_version", "jaxlib_version", "machine", "profile", "platform"])
async def test_after_an_update_the_probe_runs_again_before_any_work_is_asked_for(
    fleet: FakeFleet, tmp_path: Path, updated: str
) -> None:
    car = tmp_path / "car"
    rig = Rig(car)
    await rig.start(fleet.identity())
    await compute(fleet, rig, 1)
    await rig.crash()
    file = ProbeFile(rig.directory.numeric)
    kept = file.read()
    assert kept is not None
    file.write(ProbeKey(**{**asdict(kept[0]), updated: "before"}), kept[1])
    fleet.requests.clear()
    rig = Rig(car)
    await rig.start()
    await compute(fleet, rig, 2)
    assert probes_run(car) == 2
    assert told_classes(fleet) == {True}
    await rig.crash()


async def test_a_driver_that_is_updated_under_a_running_agent_is_seen_when_the_car_charges_again(
    fleet: FakeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    car = tmp_path / "car"
    rig = Rig(car)
    await rig.start(fleet.identity())
    await compute(fleet, rig, 1)
    rig.unplug()
    await until(lambda: not rig.agent.worker_lives)
    monkeypatch.setattr("car_agent.main.numeric.machine_facts", lambda: "another driver")
    fleet.requests.clear()
    await compute(fleet, rig, 2)
    assert probes_run(car) == 2
    assert told_classes(fleet) == {True}
    kept = ProbeFile(rig.directory.numeric).read()
    assert kept is not None
    assert kept[0].machine == "another driver"
    await rig.crash()


async def test_a_machine_that_cannot_probe_works_without_a_class(fleet: FakeFleet, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "car", "has no probe")
    await rig.start(fleet.identity())
    await compute(fleet, rig, 1)
    await until(lambda: len(wishes(fleet)) > 2)
    assert not any(wish.HasField("numeric") for wish in wishes(fleet))
    assert not rig.directory.numeric.exists()
    await rig.crash()

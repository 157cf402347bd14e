"""What a probe found is kept, and used only for what it was found for."""

from pathlib import Path

import pytest

from car_agent.journal.probe_file import ProbeFile, ProbeKey, machine_facts
from car_agent.main.numeric import NumericProbes, profile_of
from car_agent.runner.process import WorkerSettings
from pool_protocol.numeric import PROFILE, Family
from tests.support.classes import probe

KEY = ProbeKey(agent_version="1", jaxlib_version="0.10.2", profile=PROFILE, platform="cpu", machine="m")
FAMILIES = {family.value: bytes(32) for family in Family}
CPU = "processor : 0\nmodel name : X\nflags : sse avx2\ncpu MHz : {mhz}\n\nprocessor : 1\nflags : sse\n"


def test_it_is_read_as_written(tmp_path: Path) -> None:
    file = ProbeFile(tmp_path / "numeric.json")
    assert file.read() is None
    file.write(KEY, probe())
    assert file.read() == (KEY, probe())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"key": {}, "probe": {}}', b"\xff" * 100])
def test_a_damaged_file_is_no_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "numeric.json"
    path.write_bytes(content)
    assert ProbeFile(path).read() is None


def test_a_machine_is_told_by_its_features_and_driver_not_by_its_clock_rate(tmp_path: Path) -> None:
    cpu, driver = tmp_path / "cpuinfo", tmp_path / "driver"
    found: list[str] = []
    for text, version in (
        (CPU.format(mhz=1), None),
        (CPU.format(mhz=2), None),
        (CPU.replace("avx2", "avx512f"), None),
        (CPU.format(mhz=1), "535.1"),
    ):
        cpu.write_text(text, encoding="utf-8")
        if version:
            driver.write_text(version, encoding="utf-8")
        found.append(machine_facts(cpuinfo=cpu, driver=driver))
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_probe_is_wanted_until_it_holds_and_again_after_a_change(tmp_path: Path) -> None:
    probes = NumericProbes(ProbeFile(tmp_path / "numeric.json"), WorkerSettings())
    assert probes.wants("0.10.2")
    probes.took("0.10.2", FAMILIES)
    assert probes.current is not None
    assert not probes.wants("0.10.2")
    assert probes.wants("0.11.0"), "another library"
    assert probes.current is None, "what was found with the old one is not told any more"


def test_a_probe_that_ends_its_worker_is_not_tried_for_ever(tmp_path: Path) -> None:
    probes = NumericProbes(ProbeFile(tmp_path / "numeric.json"), WorkerSettings())
    assert probes.due
    for _ in range(2):
        assert probes.wants("0.10.2")
        assert probes.due, "it runs"
        probes.lost(killed=False)
    assert not probes.wants("0.10.2")
    assert not probes.due, "work goes on without a class"


def test_a_car_that_is_unplugged_while_it_probes_tries_again(tmp_path: Path) -> None:
    probes = NumericProbes(ProbeFile(tmp_path / "numeric.json"), WorkerSettings())
    for _ in range(10):
        assert probes.wants("0.10.2")
        probes.lost(killed=True)
        assert probes.due
    assert probes.wants("0.10.2")
    probes.took("0.10.2", FAMILIES)
    assert not probes.due


def test_an_update_under_a_running_agent_makes_the_probe_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("machine_facts", "version"):
        probes = NumericProbes(ProbeFile(tmp_path / "numeric.json"), WorkerSettings())
        probes.took("0.10.2", FAMILIES)
        assert not probes.look()
        monkeypatch.setattr(f"car_agent.main.numeric.{name}", lambda *_, name=name: f"another {name}")
        assert probes.look()
        assert probes.current is None, "what was found before is not told any more"


def test_half_a_probe_is_none(tmp_path: Path) -> None:
    probes = NumericProbes(ProbeFile(tmp_path / "numeric.json"), WorkerSettings())
    probes.took("0.10.2", {"dot": bytes(32)})
    assert probes.current is None
    assert not probes.due, "a machine that cannot has no class, and works"
    assert not (tmp_path / "numeric.json").exists()


def test_a_profile_that_is_not_pinned_has_another_name() -> None:
    assert profile_of(WorkerSettings()) == PROFILE
    assert profile_of(WorkerSettings(environment={"NPROC": "8"})) != PROFILE
    assert profile_of(WorkerSettings(environment={"LC_ALL": "C"})) == PROFILE

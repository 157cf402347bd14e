"""The owner's local service on a real socket, and the command line with and without a daemon."""

import json
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from click.testing import CliRunner, Result

from car_agent.cli import main
from car_agent.cli.client import plain
from car_agent.cli.commands import parse_duration_s
from car_agent.cli.show import status_text
from car_agent.control import ControlServer
from car_agent.journal.consent import ConsentFile
from car_agent.journal.probe_file import ProbeFile, ProbeKey
from car_agent.journal.state_directory import StateDirectory
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.numeric import PROFILE
from pool_protocol.v1 import agent_control_service_pb2 as pb
from pool_protocol.v1.agent_control_service_pb2_grpc import AgentControlServiceStub
from tests.integration.agent.rig import FakeFleet, Rig, until
from tests.support.classes import probe

pytestmark = pytest.mark.slow


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    fleet = FakeFleet()
    await fleet.start()
    made = Rig(tmp_path / "car", "hangs")
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11)]
    await made.start(identity)
    server = ControlServer(made.switchboard, made.directory.socket_path())
    await server.start()
    yield made
    await server.stop()
    await made.crash()
    await fleet.stop()


async def test_status_switches_and_policy_over_the_socket(rig: Rig) -> None:
    path = rig.directory.socket_path()
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert path.stat().st_mode & 0o777 == 0o660
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        stub = AgentControlServiceStub(channel)
        rig.charge()
        await until(lambda: rig.agent.snapshot().computing)
        status = (await stub.GetStatus(pb.GetStatusRequest())).status
        assert (status.state, status.computing, status.verdict) == ("running", True, pb.VERDICT_KIND_RUN)
        assert status.opted_in
        assert status.signals.soc_percent == 70.0
        assert not status.signals.HasField("at_home")
        assert status.compute.worker_alive
        assert status.pool.connected

        paused = await stub.Pause(pb.PauseRequest(duration_s=1_800))
        assert paused.stop_ms > 0
        assert (paused.status.state, paused.status.compute.worker_alive) == ("paused", False)
        assert paused.status.reasons[0].code == "PAUSED_BY_OWNER"
        assert ConsentFile(rig.directory.consent).read().paused, "on disk before it was answered"
        assert (await stub.Resume(pb.ResumeRequest())).status.paused is False

        out = await stub.SetOptIn(pb.SetOptInRequest(opted_in=False))
        assert (out.status.state, out.status.opted_in) == ("opted_out", False)
        assert not ConsentFile(rig.directory.consent).read().opted_in
        assert (await stub.SetOptIn(pb.SetOptInRequest(opted_in=True))).status.opted_in

        policy = (await stub.GetPolicy(pb.GetPolicyRequest())).policy_toml
        assert "min_soc_percent = 50.0" in policy
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SetPolicy(pb.SetPolicyRequest(policy_toml="min_soc_percent = 150"))
        error = from_rpc_error(refused.value)
        assert error.code is ErrorCode.INVALID_ARGUMENT
        assert error.context["field"] == "min_soc_percent"
        assert rig.agent.policy.min_soc_percent == 50.0, "the old limits stay"
        text = "start_after_s = 0\nmin_soc_percent = 75\nresume_soc_percent = 80\n"
        answer = await stub.SetPolicy(pb.SetPolicyRequest(policy_toml=text))
        assert answer.status.reasons[0].code == "SOC_BELOW_RESERVE", "it applies at once"
        assert "min_soc_percent = 75.0" in rig.directory.policy.read_text(encoding="utf-8")


async def test_a_watcher_hears_of_each_change(rig: Rig) -> None:
    async with grpc.aio.insecure_channel(f"unix:{rig.directory.socket_path()}") as channel:
        call = AgentControlServiceStub(channel).WatchStatus(pb.WatchStatusRequest())
        states: list[str] = []
        async for response in call:
            if not states or states[-1] != response.status.state:
                states.append(response.status.state)
            if len(states) == 1:
                rig.charge()
            if states[-1] == "running":
                rig.unplug()
            if states[-1] == "waiting" and "running" in states:
                break
        call.cancel()
    assert states[0] == "waiting"


async def test_the_text_says_why_and_what_would_change_it(rig: Rig) -> None:
    rig.report(soc_percent=41.0)
    async with grpc.aio.insecure_channel(f"unix:{rig.directory.socket_path()}") as channel:
        status = (await AgentControlServiceStub(channel).GetStatus(pb.GetStatusRequest())).status
    text = status_text(status)
    assert text.startswith("Not computing. Waiting: battery 41 %, resumes at 55 %.")
    assert "min_soc_percent sets the reserve" in text
    content = plain(status)
    assert json.loads(json.dumps(content)) == content
    assert content["verdict"] == "wait"
    assert content["signals"]["at_home"] is None
    assert isinstance(content["at_us"], int)


# --- the command line without a daemon ----------------------------------------------------------


def car_agent(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--state-dir", str(tmp_path / "state"), *arguments])


def test_opting_in_and_out_works_while_no_daemon_runs(tmp_path: Path) -> None:
    consent = ConsentFile(tmp_path / "state" / "consent.json")
    assert car_agent(tmp_path, "opt-in").exit_code == 0
    assert consent.read().opted_in
    assert car_agent(tmp_path, "pause", "30m").exit_code == 0
    assert consent.read().paused
    assert consent.read().pause_until_us > 0
    assert car_agent(tmp_path, "resume").exit_code == 0
    assert not consent.read().paused
    assert car_agent(tmp_path, "opt-out").exit_code == 0
    assert not consent.read().opted_in


def test_nothing_but_opt_in_opts_in(tmp_path: Path) -> None:
    for arguments in (["pause"], ["resume"], ["policy", "show"], ["opt-out"]):
        assert car_agent(tmp_path, *arguments).exit_code == 0
        assert not ConsentFile(tmp_path / "state" / "consent.json").read().opted_in


def test_commands_that_need_the_daemon_say_how_to_start_it(tmp_path: Path) -> None:
    result = car_agent(tmp_path, "status")
    assert result.exit_code == 1
    assert f"next: Start it: car-agent --state-dir {tmp_path / 'state'} run" in result.stderr
    assert "UNAVAILABLE" in result.stderr


def test_pairing_with_nobody_says_what_to_look_at(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("not a certificate")
    portless = car_agent(tmp_path, "pair", "--pool", "pool.example.org", "--ca", str(ca_file))
    assert (portless.exit_code, "HOST:PORT" in portless.stderr) == (2, True)
    nobody = car_agent(tmp_path, "pair", "--pool", "127.0.0.1:1", "--ca", str(ca_file))
    assert nobody.exit_code == 1
    assert "no pool answers at 127.0.0.1:1" in nobody.stderr
    assert "this pool's ca.pem" in nobody.stderr
    assert not StateDirectory(tmp_path / "state").identity.exists()


def test_wrong_usage_is_exit_status_2_and_a_refusal_1(tmp_path: Path) -> None:
    assert car_agent(tmp_path, "pause", "soon").exit_code == 2
    assert car_agent(tmp_path, "run", "--source", "mqtt").exit_code == 2
    script = tmp_path / "script.jsonl"
    script.write_text("nonsense")
    result = car_agent(tmp_path, "run", "--source", "simulated", "--simulated-script", str(script))
    assert (result.exit_code, "line 1" in result.stderr) == (1, True)
    assert car_agent(tmp_path, "run", "--source", "file").exit_code == 1


def test_a_policy_is_set_from_a_file_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    wanted = tmp_path / "wanted.toml"
    wanted.write_text("min_soc_percent = 30\nresume_soc_percent = 35\n")
    assert car_agent(tmp_path, "policy", "set", str(wanted)).exit_code == 0
    assert "min_soc_percent = 30.0" in car_agent(tmp_path, "policy", "show").stdout
    wanted.write_text("min_soc_percent = 99\n")
    assert car_agent(tmp_path, "policy", "set", str(wanted)).exit_code == 1
    assert "min_soc_percent = 30.0" in car_agent(tmp_path, "policy", "show").stdout


def test_a_state_directory_too_long_for_a_socket_is_said(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / ("x" * 120))
    with pytest.raises(PoolError, match="too long for a socket"):
        directory.socket_path()


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1_800), ("1h30m", 5_400), ("45s", 45), ("2h", 7_200)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration_s(text) == seconds


def test_doctor_says_what_works_and_what_to_do(tmp_path: Path) -> None:
    """A stub stands in for the worker here; the real one is started in `test_worker`."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    stub = Path(__file__).with_name("stub_worker.py")
    settings = f'source = "simulated"\nworker_command = ["{sys.executable}", "{stub}"]\n'
    (state / "agent.toml").write_text(settings, encoding="utf-8")
    (state / "consent.json").write_text("{")
    result = car_agent(tmp_path, "doctor", "--json")
    found = {line["check"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 1, "a damaged consent is a failure"
    assert found["consent"]["level"] == "fail"
    assert "opt-in" in found["consent"]["text"]
    assert found["worker"]["level"] == "ok"
    assert found["sandbox"]["level"] == "warn"
    assert "not known yet" in found["numeric class"]["text"]
    assert found["source"]["level"] == "ok"
    assert found["keys"]["level"] == "warn"
    assert "pair" in found["keys"]["text"]
    assert (state / "consent.json").read_text() == "{", "examining changes nothing"
    (state / "consent.json").unlink()
    key = ProbeKey(agent_version="0", jaxlib_version="0", profile=PROFILE, platform="cpu", machine="another")
    ProbeFile(state / "numeric.json").write(key, probe())
    state.chmod(0o755)
    opened = {
        line["check"]: line
        for line in map(json.loads, car_agent(tmp_path, "doctor", "--json").stdout.splitlines())
    }
    assert opened["state"]["level"] == "fail"
    assert "chmod 700" in opened["state"]["text"]
    assert opened["numeric class"]["level"] == "warn"
    assert probe().class_id in opened["numeric class"]["text"]

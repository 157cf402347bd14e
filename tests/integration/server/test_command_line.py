"""`pool-server` as processes: init, run, operate; SIGTERM says goodbye, SIGKILL loses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pool_server.cli.root import cli

COMMAND = [sys.executable, "-m", "pool_server.cli"]
START_TIMEOUT_S = 60.0


def invoke(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == expect, done.stderr
    return done


def invoke_json(*arguments: str) -> Any:
    return json.loads(invoke(*arguments, "--json").stdout)


class Server:
    """A server process over a data directory."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.process = subprocess.Popen(
            [*COMMAND, "run", "--data", str(data), "--api-port", "0", "--fleet-port", "0", "--log-json"],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if "serving pool" in line:
                break
        else:
            pytest.fail("".join(self.lines))

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        self.lines += self.process.stderr.readlines()
        self.process.stderr.close()
        return self.process.wait(START_TIMEOUT_S)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "pool"


@pytest.fixture
def server(data: Path) -> Iterator[Server]:
    invoke("init", "--data", str(data), "--pool-name", "berlin", "--currency", "CHF")
    running = Server(data)
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGKILL)


pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def test_init_says_what_it_made_and_never_overwrites(data: Path) -> None:
    made = invoke_json("init", "--data", str(data), "--pool-name", "berlin")
    assert made["pool_id"].startswith("berlin-")
    assert set(made["key_ids"]) == {"root", "program", "lease", "receipt"}
    for secret in (data / "operator.token", *(data / "keys").iterdir()):
        assert secret.stat().st_mode & 0o077 == 0, secret
    before = sorted((path, path.stat().st_mtime_ns) for path in data.rglob("*"))
    again = invoke("init", "--data", str(data), expect=1)
    assert "ALREADY_EXISTS" in again.stderr
    assert (
        f"What to do: Name another directory, or serve the pool that is there: pool-server run --data {data}"
        in (again.stderr)
    )
    assert sorted((path, path.stat().st_mtime_ns) for path in data.rglob("*")) == before
    assert list(data.parent.iterdir()) == [data]
    assert "Usage" in invoke("init", expect=2).stderr


def test_a_server_is_operated_killed_and_goes_on(server: Server, data: Path) -> None:
    addresses = json.loads((data / "run" / "addresses.json").read_text())
    assert addresses["pid"] == server.process.pid
    buyer = invoke_json("--data", str(data), "principals", "create", "--role", "buyer", "--name", "Bea")
    deposit = (
        "deposit",
        "--buyer",
        buyer["principal_id"],
        "--amount-micros",
        "5000000",
        "--reference",
        "bank 1",
    )
    booked = invoke_json("--data", str(data), *deposit)
    assert booked["available_micros"] == 5_000_000

    # Killed without a word: what was acknowledged is there, and the same command gives the same answer.
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    again = Server(data)
    try:
        remote = (
            "--address",
            json.loads((data / "run" / "addresses.json").read_text())["api"],
            "--ca",
            str(data / "ca.pem"),
            "--token-file",
            str(data / "operator.token"),
        )
        assert invoke_json(*remote, *deposit) == booked
        overview = invoke_json(*remote, "overview")
        assert (overview["currency"], overview["buyers_available_micros"]) == ("CHF", 5_000_000)
        assert invoke_json(*remote, "ledger", "check")["ok"] is True
        invoke(*remote, "price", "set", "77")
        assert invoke_json(*remote, "price", "show")["price_micros_per_wu"] == 77
        invoke(*remote, "tokens", "revoke", buyer["token_id"])
        for command in (("fleet",), ("jobs",), ("ledger", "accounts"), ("keys", "show"), ("payouts", "list")):
            invoke(*remote, *command)
        assert invoke_json(*remote, "keys", "show")["keys"][0]["role"] == "program"
        assert invoke_json(*remote, "report")["vehicles_quarantined"] == 0
        november = data / "november.csv"
        assert "2026-11" in invoke(*remote, "report", "--month", "2026-11", "--out", str(november)).stdout
        assert november.read_bytes().startswith(b"period,line,owner_id,")
        assert invoke(*remote, "report", "--month", "May", expect=1).stderr.count("INVALID_ARGUMENT") == 1
        refused = invoke(*remote, "quarantine", "vehicle_x", "--reason", "odd", expect=1)
        assert "INVALID_ARGUMENT" in refused.stderr
        assert "What to do:" in refused.stderr
        assert refused.stderr.count("a field that is not valid") == 1
        twice = invoke("run", "--data", str(data), expect=1)
        assert "Stop it first" in twice.stderr
    finally:
        assert again.end(signal.SIGTERM) == 0
    assert not (data / "run" / "addresses.json").exists()
    log = [json.loads(line) for line in again.lines if line.startswith("{")]
    assert log[-1]["action"] == "stopped"
    token = (data / "operator.token").read_text().strip()
    assert token not in "".join(again.lines)
    assert "pool-server run" in invoke("--data", str(data), "overview", expect=1).stderr


def test_a_setting_that_does_not_exist_stops_the_server_with_its_name(data: Path) -> None:
    invoke("init", "--data", str(data))
    with (data / "pool.toml").open("a") as file:
        file.write("\nfee_pmm = 3\n")
    refused = invoke("run", "--data", str(data), expect=1)
    assert "fee_pmm" in refused.stderr
    assert "What to do: Correct it in pool.toml" in refused.stderr


def test_help_is_there_for_every_command() -> None:
    # In this process: what is tested is the tree of commands, not the interpreter's start.
    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        shown = CliRunner().invoke(cli, [*path, "--help"])
        assert shown.exit_code == 0, path
        assert command.help, f"{path} has no help"
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or getattr(parameter, "help", None), (
                path,
                parameter.name,
            )
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*path, name))

    walk(cli, ())

"""The command itself, as a real process where a terminal matters."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from car_agent.cli.commands import default_state_directory
from tests.support.repository import ROOT
from tests.tui.peers import FakeAgent
from tui import cli, keymap
from tui.view_models.help_text import key_names

COMMAND = [sys.executable, "-m", "tui.cli"]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHARGEPOOL", "XDG"))}
    return {**kept, "HOME": str(tmp_path), "TERM": "xterm-256color", **more}


def run(*arguments: str, tmp_path: Path, terminal: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a terminal only where `terminal` says so: some of "in", "out", "err"."""
    controller, screen = pty.openpty()
    try:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env=environment(tmp_path, **more),
            stdin=screen if "in" in terminal else subprocess.DEVNULL,
            stdout=screen if "out" in terminal else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(controller)
        os.close(screen)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("terminal", "which"), [("", "input"), ("out", "input"), ("in", "output"), ("in out", "error")]
)
def test_refuses_what_is_not_a_terminal_and_points_to_the_plain_command(
    tmp_path: Path, terminal: str, which: str
) -> None:
    answer = run(tmp_path=tmp_path, terminal=terminal)
    assert answer.returncode == 2
    assert f"standard {which} is not one" in answer.stderr
    assert "car-agent status --json" in answer.stderr
    assert "car-agent status --watch" in answer.stderr
    assert not answer.stdout


@pytest.mark.e2e
def test_help_teaches_without_a_terminal_and_without_textual(tmp_path: Path) -> None:
    answer = run("--help", tmp_path=tmp_path, terminal="")
    assert run("-h", tmp_path=tmp_path, terminal="").stdout == answer.stdout
    assert answer.returncode == 0
    for action in keymap.ACTIONS.values():
        assert f"{key_names(action.keys):<12}{action.explained}" in answer.stdout
    for word in ("--agent-socket", "--token-file", "CHARGEPOOL_ADDRESS", "car-agent status --json"):
        assert word in answer.stdout


def usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> str:
    """Run the command's checks with the terminal taken for granted."""
    monkeypatch.setattr(cli, "_require_terminal", lambda: None)
    for name in [name for name in os.environ if name.startswith("CHARGEPOOL")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    answer = CliRunner().invoke(cli.main, arguments)
    assert answer.exit_code == 2
    return answer.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--agent-socket", "a", "--state-dir", "b"), "not both"),
        (("--no-agent",), "there is only the pool"),
        (("--state-dir", "/" + "long/" * 25), "too long for a socket"),
        (("--operator",), "--address"),
        (("--address", "nowhere"), "HOST:PORT"),
        (("--address", "127.0.0.1:1"), "CA certificate"),
        (("--ca-file", "ca.pem"), "address"),
        (("--keymap", "absent.toml"), "does not exist"),
    ],
)
def test_what_cannot_work_is_refused_with_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert said in usage_error(monkeypatch, tmp_path, *arguments)


def test_the_agents_state_directory_is_found_as_the_agent_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli._state_dir(Path("/given"), {}) == Path("/given")
    for environ in ({"XDG_STATE_HOME": "/x"}, {"HOME": "/h"}):
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        assert cli._state_dir(None, environ) == default_state_directory()


@pytest.mark.e2e
async def test_opens_in_a_real_terminal_follows_the_agent_and_quits(tmp_path: Path, agent: FakeAgent) -> None:
    controller, screen = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("--state-dir", str(agent.socket.parent)),
        cwd=ROOT,
        env=environment(tmp_path),
        stdin=screen,
        stdout=screen,
        stderr=screen,
        start_new_session=True,
    )
    os.close(screen)
    painted = b""

    async def until(words: bytes) -> None:
        nonlocal painted
        while words not in painted:
            painted += await asyncio.to_thread(os.read, controller, 65_536)

    try:
        await asyncio.wait_for(until(b"COMPUTING"), 30)
        os.write(controller, b" ")
        await asyncio.wait_for(until(b"PAUSED"), 30)
        os.write(controller, b"q")
        # The terminal is read to its end, or the process would wait for room to write.
        while True:
            try:
                if not await asyncio.to_thread(os.read, controller, 65_536):
                    break
            except OSError:
                break
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        os.close(controller)
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert agent.calls.count("Pause 0") == 1


@pytest.mark.parametrize("command", ["evidence", "appeal"])
def test_help_of_a_command_needs_no_pool(command: str) -> None:
    answer = CliRunner().invoke(cli.main, [command, "--help"])
    assert answer.exit_code == 0
    assert "Usage:" in answer.output

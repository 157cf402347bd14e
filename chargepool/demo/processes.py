"""Starting, killing and never leaving behind the demo's processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

STOP_TIMEOUT_S = 8.0


def free_port() -> int:
    """A port that nothing on loopback listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Program:
    """One program of the house, kept as a command so that it can be started again after a kill."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it in a session of its own, output into its log. Call from the main thread only."""
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chargepool.demo.tether", str(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL to the program itself, without a warning, and waits until it is reaped."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


@dataclass
class Household:
    """All processes of one demo; leaving the context ends every one of them."""

    programs: list[Program] = field(default_factory=list)

    def add(self, name: str, command: Sequence[str], log: Path) -> Program:
        """Starts one more program."""
        program = Program(name, list(command), log)
        self.programs.append(program)
        program.start()
        return program

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()

    def stop_all(self) -> None:
        """SIGTERM to all, then SIGKILL to the sessions of those that did not end in time."""
        running = [p for p in self.programs if p.alive]
        for program in reversed(running):
            if program.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    program.process.terminate()
        for program in running:
            if program.process is None:
                continue
            try:
                program.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()
        for program in self.programs:
            if program.process is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(program.process.pid, signal.SIGKILL)


def run_to_end(command: Sequence[str], *, timeout_s: float = 60.0) -> str:
    """Runs a short command and returns what it printed.

    Raises:
        DemoFailed: it did not exit with 0; the message holds what it said.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DemoFailed(f"`{' '.join(command[:4])} …` did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise DemoFailed(f"`{' '.join(command)}` ended with {done.returncode}: {said}")
    return done.stdout


class DemoFailed(Exception):  # noqa: N818 - it is what the last line says
    """The demo's promise does not hold; the message says what."""

"""The dashboard beside the demo: opened at once with `--tui`, or by the d key on a terminal."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys

from chargepool.demo.console import Console
from chargepool.demo.world import PairedCar, World, command_of


class Dashboard:
    """Runs `pool-tui` in this terminal for one car and its owner, while the demo goes on."""

    def __init__(self, world: World, paired: PairedCar, console: Console) -> None:
        """Writes the owner's token where only this user can read it."""
        self.console = console
        token_file = paired.state_dir / "owner.token"
        token_file.touch(mode=0o600)
        token_file.write_text(paired.owner_token)
        self.command = command_of(
            "tui.cli", "--state-dir", str(paired.state_dir), "--address", world.address,
            "--ca-file", str(world.ca_file), "--token-file", str(token_file),
        )  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.offered = sys.stdin.isatty() and sys.stdout.isatty()

    def offer(self) -> None:
        """Says how to open it, where that is possible."""
        if self.offered:
            self.console.line(
                "         press d and Enter for the live dashboard of this car's owner; q returns"
            )

    def open(self) -> None:
        """Opens it in this terminal; the demo's lines wait."""
        if self.process is None and self.offered:
            self.console.hold()
            self.process = subprocess.Popen(self.command)

    def tick(self) -> None:
        """Looks for the key and for the dashboard's end."""
        if self.process is not None:
            if self.process.poll() is not None:
                self.process = None
                self.console.release()
        elif self.offered and select.select([sys.stdin], [], [], 0)[0]:
            with contextlib.suppress(OSError):
                if sys.stdin.readline().strip().lower() == "d":
                    self.open()

    def wait(self) -> None:
        """Lets the person look on after the job has ended, until they close it."""
        if self.process is not None:
            self.process.wait()
            self.process = None
        self.console.release()

    def close(self) -> None:
        """Ends it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

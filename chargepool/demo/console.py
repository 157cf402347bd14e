"""What the demo prints: a line per event, and a bar where there is a terminal."""

from __future__ import annotations

import sys
import time
from typing import TextIO

BAR = 28


class Console:
    """Prints lines with the time since the start; keeps one bar below them on a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Prints to `stream`, standard output by default."""
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.began = time.monotonic()
        self.bar = ""
        self.last_plain = 0.0
        self.held: list[str] | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self.began

    def say(self, text: str) -> None:
        """One event."""
        self.line(f"[{self.elapsed_s:6.1f} s] {text}")

    def line(self, text: str = "") -> None:
        """One line as it is."""
        if self.held is not None:
            self.held.append(text)
            return
        if self.live and self.bar:
            self.stream.write("\r\x1b[2K")
        self.stream.write(text + "\n")
        if self.live and self.bar:
            self.stream.write(self.bar)
        self.stream.flush()

    def progress(self, stage: str, done: int, total: int) -> None:
        """How far the job is: a bar on a terminal, a line each five seconds elsewhere."""
        if self.held is not None or not total:
            return
        filled = BAR * done // total
        text = f"{stage:<22} [{'#' * filled}{'.' * (BAR - filled)}] {done}/{total} tasks"
        if self.live:
            self.bar = text
            self.stream.write("\r\x1b[2K" + text)
            self.stream.flush()
        elif time.monotonic() - self.last_plain >= 5.0:
            self.last_plain = time.monotonic()
            self.say(text)

    def end_progress(self) -> None:
        """Takes the bar away."""
        if self.live and self.bar:
            self.stream.write("\r\x1b[2K")
            self.stream.flush()
        self.bar = ""

    def hold(self) -> None:
        """Keeps what is said for later: another program has the terminal."""
        self.end_progress()
        self.held = []

    def release(self) -> None:
        """Prints what was kept."""
        held, self.held = self.held or [], None
        for text in held:
            self.line(text)

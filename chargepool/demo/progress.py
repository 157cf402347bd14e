"""What the buyer's thread has achieved so far, for the director to watch."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Counters that one thread raises and another reads."""

    tasks_total: int = 0
    tasks_done: int = 0
    stage: str = "starting"
    lines: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def one_more(self) -> None:
        """One more task has its result."""
        with self._lock:
            self.tasks_done += 1

    def say(self, line: str) -> None:
        """Something worth telling; the director prints it."""
        with self._lock:
            self.lines.append(line)

    def heard(self) -> list[str]:
        """Takes what was said since last time."""
        with self._lock:
            taken, self.lines = self.lines, []
        return taken

    @property
    def share(self) -> float:
        """Share of all tasks that are done, 0 to 1."""
        return self.tasks_done / self.tasks_total if self.tasks_total else 0.0

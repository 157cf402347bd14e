"""A line of progress on a terminal. Somewhere else than on a terminal it stays silent."""

import sys
from typing import TextIO

from chargepool._values import Progress, ProgressCallback
from pool_protocol import amounts
from pool_protocol.clock import Clock
from pool_protocol.system import SystemClock

_BAR_CELLS = 24
#: A person reads no faster, and a terminal over a slow line draws no faster.
_REDRAW_NS = 100_000_000


class ProgressLine:
    """Draws each progress over the one before; the last one stays."""

    def __init__(self, stream: TextIO, *, clock: Clock) -> None:
        """Draw on `stream`, at most ten times a second of `clock`."""
        self._stream = stream
        self._clock = clock
        self._drawn_ns: int | None = None
        self._width = 0
        self._is_over = False
        self._waited = False

    def __call__(self, progress: Progress) -> None:
        """Draw, unless the last drawing is too young."""
        if self._is_over:
            return
        now_ns = self._clock.monotonic_ns()
        begins_to_wait = bool(progress.waiting) and not self._waited
        self._waited = bool(progress.waiting)
        is_due = begins_to_wait or self._drawn_ns is None or now_ns - self._drawn_ns >= _REDRAW_NS
        if not (is_due or progress.is_over):
            return
        self._drawn_ns = now_ns
        text = line_of(progress)
        self._stream.write("\r" + text.ljust(self._width))
        self._width = len(text)
        if progress.is_over:
            self._is_over = True
            self._stream.write("\n")
        self._stream.flush()


def line_of(progress: Progress) -> str:
    """Return the line: bar, tasks, what runs, what failed, what it cost."""
    decided = progress.tasks_accepted + progress.tasks_failed
    if progress.tasks_total:
        cells = min(_BAR_CELLS, decided * _BAR_CELLS // progress.tasks_total)
        bar = f"[{'#' * cells}{'.' * (_BAR_CELLS - cells)}] {decided}/{progress.tasks_total} tasks"
    else:
        bar = f"{decided} of {progress.tasks_sent} tasks sent"
    parts = [f"{progress.job_id} {bar}"]
    if progress.tasks_running and not progress.is_over:
        parts.append(f"{progress.tasks_running} running")
    if progress.tasks_failed:
        parts.append(f"{progress.tasks_failed} failed")
    if progress.rejected_count:
        parts.append(f"{progress.rejected_count} rejected")
    parts.append(f"{amounts.amount(progress.spent_micros, progress.currency)}".rstrip())
    if progress.waiting and not progress.is_over:
        parts.append(progress.waiting)
    return ", ".join(parts)


def progress_callback(wanted: "bool | ProgressCallback | None") -> ProgressCallback | None:
    """Return what to call for a `progress` argument: the callback, a line on the terminal, or nothing."""
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        return ProgressLine(sys.stderr, clock=SystemClock()) if sys.stderr.isatty() else None
    return wanted

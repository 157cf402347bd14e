"""A car that follows a script, for demonstrations, drills and tests.

A script is JSON lines `{"at_s": seconds, "set": {signal: value, ...}}` in order of time, replayed by
monotonic time at any speed. Before its first line the car is parked and unplugged; after its last line the
last state stays. Lines that start with `#` are comments.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from car_agent.core.signals import NANOSECONDS_PER_SECOND, ChargeState, PlugState, SourceClass
from car_agent.vehicle.source import RecordBuilder, Report, checked_values
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError

#: The car before anything happens to it.
PARKED: Final[Mapping[str, Any]] = {
    "plug": PlugState.UNPLUGGED,
    "charge": ChargeState.IDLE,
    "discharging": False,
    "moving": False,
    "soc_percent": 60.0,
    "soc_limit_percent": 80.0,
    "charge_power_w": 0.0,
    "battery_power_w": 0.0,
    "at_home": True,
}
_HEARTBEAT_S: Final = 0.5
_FRESH_FOR_MS: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedChange:
    """Some signals change at a moment of the script."""

    at_s: float
    values: Mapping[str, Any]


def read_script(path: Path) -> tuple[ScriptedChange, ...]:
    """Read a script.

    Raises:
        PoolError: INVALID_ARGUMENT naming the line that is not right, or the file that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"cannot read the script {path}: {error}") from error
    changes: list[ScriptedChange] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        change = _parse_line(line, number)
        if changes and change.at_s < changes[-1].at_s:
            raise _bad_line(number, f"at_s {change.at_s:g} goes back before {changes[-1].at_s:g}")
        changes.append(change)
    return tuple(changes)


def _parse_line(line: str, number: int) -> ScriptedChange:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise _bad_line(number, f"not JSON: {error}") from error
    if not isinstance(entry, dict) or entry.keys() != {"at_s", "set"} or not isinstance(entry["set"], dict):
        raise _bad_line(number, 'a line is {"at_s": seconds, "set": {signal: value}}')
    at_s = entry["at_s"]
    if isinstance(at_s, bool) or not isinstance(at_s, int | float) or not 0 <= at_s < float("inf"):
        raise _bad_line(number, f"at_s is {at_s!r}; it is a number of seconds from 0")
    try:
        return ScriptedChange(at_s=float(at_s), values=checked_values(entry["set"]))
    except PoolError as error:
        raise _bad_line(number, error.detail) from error


def _bad_line(number: int, detail: str) -> PoolError:
    return PoolError(
        ErrorCode.INVALID_ARGUMENT, f"script line {number}: {detail}", context={"line": str(number)}
    )


class SimulatedSource:
    """Replays changes by monotonic time."""

    def __init__(
        self,
        changes: Iterable[ScriptedChange],
        *,
        clock: Clock,
        speed: float = 1.0,
        heartbeat_s: float = _HEARTBEAT_S,
    ) -> None:
        """Replay `changes` in order, `speed` times as fast as they say; they may be endless.

        Raises:
            PoolError: INVALID_ARGUMENT when the speed is not positive.
        """
        if not 0 < speed < float("inf"):
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"a speed of {speed!r} is not possible")
        self._changes: Iterator[ScriptedChange] = iter(changes)
        self._speed = speed
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._records = RecordBuilder(
            name=self.name, source_class=self.source_class, fresh_for_ms=_FRESH_FOR_MS, clock=clock
        )

    @property
    def name(self) -> str:
        """How people call it."""
        return "simulated"

    @property
    def source_class(self) -> SourceClass:
        """It reports at once."""
        return SourceClass.A

    async def run(self, report: Report) -> None:
        """Report each change when it is due, and the last state again and again in between."""
        started_ns = self._clock.monotonic_ns()
        state: dict[str, Any] = dict(PARKED)
        upcoming = next(self._changes, None)
        while True:
            script_s = (self._clock.monotonic_ns() - started_ns) / NANOSECONDS_PER_SECOND * self._speed
            while upcoming is not None and upcoming.at_s <= script_s:
                state.update(upcoming.values)
                upcoming = next(self._changes, None)
            report(self._records.record(state))
            wait_s = self._heartbeat_s
            if upcoming is not None:
                wait_s = min(wait_s, (upcoming.at_s - script_s) / self._speed)
            await asyncio.sleep(max(0.0, wait_s))

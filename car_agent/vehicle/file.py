"""Signals from a JSON file that any script may write; the file's modification time says how fresh it is.

The file is one JSON object of signal names and values, for example
`{"plug": "plugged", "charge": "charging", "soc_percent": 62}`. Write it whole (temporary file, then rename)
at each change and at least once per freshness deadline. A file that is missing, half written or wrong counts
as unknown at once.
"""

import asyncio
import json
import logging
from pathlib import Path
from typing import Final

from car_agent.core.signals import NANOSECONDS_PER_SECOND, SourceClass, VehicleSignals
from car_agent.vehicle.source import RecordBuilder, Report, checked_values
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError

#: Looking at a file's dates costs microseconds; this delay is part of the time from unplug to stop.
_POLL_S: Final = 0.05
FRESH_FOR_S: Final = 10.0
_BYTES_MAX: Final = 64 * 1024

_log = logging.getLogger(__name__)


class FileSource:
    """Watches one file."""

    def __init__(
        self, path: Path, *, clock: Clock, fresh_for_s: float = FRESH_FOR_S, poll_s: float = _POLL_S
    ) -> None:
        """Watch `path`; its content is trusted for `fresh_for_s` after its modification time."""
        self._path = path
        self._clock = clock
        self._poll_s = poll_s
        self._records = RecordBuilder(
            name=self.name,
            source_class=self.source_class,
            fresh_for_ms=max(1, int(fresh_for_s * 1_000)),
            clock=clock,
        )

    @property
    def name(self) -> str:
        """How people call it."""
        return "file"

    @property
    def source_class(self) -> SourceClass:
        """Its writer pushes; we look twenty times a second."""
        return SourceClass.A

    async def run(self, report: Report) -> None:
        """Report whenever the file changes, appears, disappears or becomes unreadable."""
        seen: tuple[int, int, int] | None = (-1, -1, -1)
        while True:
            identity = self._identity()
            if identity != seen:
                seen = identity
                report(self._observe())
            await asyncio.sleep(self._poll_s)

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _observe(self) -> VehicleSignals:
        try:
            return self.read()
        except PoolError as error:
            _log.warning("signals unknown", extra={"code": error.code.value, "cause": error.detail})
            return self._records.unknown()

    def read(self) -> VehicleSignals:
        """Return what the file says now.

        Raises:
            PoolError: INVALID_ARGUMENT when there is no file, or it does not say what a file should.
        """
        try:
            with self._path.open("rb") as file:
                modified_ns = self._path.stat().st_mtime_ns
                content = file.read(_BYTES_MAX + 1)
        except OSError as error:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT, f"cannot read {self._path}: {error.strerror}"
            ) from error
        if len(content) > _BYTES_MAX:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{self._path} has more than {_BYTES_MAX} bytes")
        try:
            values = json.loads(content)
        except ValueError as error:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{self._path} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{self._path} is not one JSON object")
        # A file system's clock ticks more coarsely than ours and may be a tick ahead, hence the floor at 0; a
        # file from the real future (a wall clock set back) is not trusted.
        age_ns = self._clock.now_us() * 1_000 - modified_ns
        if -NANOSECONDS_PER_SECOND < age_ns < 0:
            age_ns = 0
        return self._records.record(checked_values(values), age_ns=age_ns)

"""One worker process as the supervisor sees it: started by exec, spoken to in frames, stopped by a kill.

The worker leads a session and process group of its own, so that one signal ends everything it may have
started. It gets an environment made here, not ours: the pinned numeric profile and nothing that tells about
the owner. Nothing is awaited between the decision to stop and the kill.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from car_agent.runner.frames import Frame, FrameType, encode, read_frame
from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.numeric import PROFILE_ENVIRONMENT

DEFAULT_COMMAND: Final = (sys.executable, "-m", "car_agent.runner.worker")
_READ_CHUNK_BYTES: Final = 4 * limits.MIB
_STDERR_LINE_CHARACTERS: Final = 300

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How a worker is started."""

    command: Sequence[str] = DEFAULT_COMMAND
    scratch: Path = field(default_factory=Path)
    """The one directory the worker may write in; its working directory."""
    memory_bytes: int = 4 * limits.GIB
    """Address space for programs and their data, beyond what JAX itself reserves."""
    platforms: str = "cpu"
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables for the worker, for drills."""


def worker_environment(settings: WorkerSettings) -> dict[str, str]:
    """Return the whole environment of a worker."""
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "HOME": str(settings.scratch),
        "TMPDIR": str(settings.scratch),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "JAX_PLATFORMS": settings.platforms,
        "CHARGEPOOL_WORKER_MEMORY_BYTES": str(settings.memory_bytes),
        "CHARGEPOOL_WORKER_SCRATCH": str(settings.scratch),
        "CHARGEPOOL_WORKER_PARENT": str(os.getpid()),
        **PROFILE_ENVIRONMENT,
    }
    environment.update(settings.environment)
    return environment


class WorkerProcess:
    """A running worker. `on_frame` is awaited for each frame, in order; `on_exit` is called once, last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Wrap a process that `start` made."""
        self._process = process
        self._killed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._exited = asyncio.Event()

    @classmethod
    async def start(
        cls,
        settings: WorkerSettings,
        *,
        on_frame: Callable[[Frame], Any],
        on_exit: Callable[["WorkerProcess", str], None],
    ) -> "WorkerProcess":
        """Start a worker.

        Raises:
            PoolError: WORKER_LOST when the command cannot be started.
        """
        settings.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            process = await asyncio.create_subprocess_exec(
                *settings.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=settings.scratch,
                env=worker_environment(settings),
                start_new_session=True,
                limit=_READ_CHUNK_BYTES,
            )
        except OSError as error:
            raise PoolError(
                ErrorCode.WORKER_LOST, f"cannot start the worker {settings.command[0]!r}: {error}"
            ) from error
        worker = cls(process)
        worker._tasks = [
            asyncio.create_task(worker._read_stderr(), name="worker stderr"),
            asyncio.create_task(worker._supervise(on_frame, on_exit), name="worker frames"),
        ]
        return worker

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group and session."""
        return self._process.pid

    @property
    def killed(self) -> bool:
        """Whether we killed it; an exit without that is a crash."""
        return self._killed

    def kill(self) -> None:
        """Kill the whole process group now. Returns at once; `wait` says when nothing is left."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> None:
        """Wait until the process has been reaped."""
        await self._process.wait()

    async def wait_closed(self) -> None:
        """Wait until it was reaped and `on_exit` has been called."""
        await self._exited.wait()

    def send(self, frame_type: FrameType, fields: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Queue a frame. A worker that is gone swallows it: its exit is reported by `on_exit`.

        Raises:
            PoolError: WORKER_LOST when the frame is larger than frames may be.
        """
        stdin = self._process.stdin
        if stdin is None or stdin.is_closing():
            return
        stdin.writelines(encode(frame_type, fields, buffers))

    async def _supervise(
        self, on_frame: Callable[[Frame], Any], on_exit: Callable[["WorkerProcess", str], None]
    ) -> None:
        try:
            cause = await self._read_frames(on_frame)
        except Exception as error:  # noqa: BLE001 - whatever fails here, the worker must not count as working
            _log.exception("reading the worker failed")
            cause = f"reading the worker failed: {type(error).__name__}"
        if not self._killed and cause:
            # It speaks no sense, or went silent: nothing it holds is worth waiting for.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        returncode = await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        on_exit(self, cause or f"the worker ended with status {returncode}")
        self._exited.set()

    async def _read_frames(self, on_frame: Callable[[Frame], Any]) -> str:
        """Hand on frames until the end of the stream; return what was wrong, or nothing."""
        stdout = self._process.stdout
        if stdout is None:
            return "the worker has no output"
        try:
            while (frame := await read_frame(stdout)) is not None:
                if not self._killed:
                    await on_frame(frame)
        except PoolError as error:
            return error.detail
        return ""

    async def _read_stderr(self) -> None:
        """Log the worker's own words, bounded: a program cannot fill the log."""
        stderr = self._process.stderr
        lines_left = 200
        while stderr is not None and (chunk := await stderr.read(8192)):
            for line in chunk.decode("utf-8", errors="replace").splitlines():
                lines_left -= 1
                if lines_left >= 0 and line.strip():
                    _log.info("worker says", extra={"line": line[:_STDERR_LINE_CHARACTERS]})

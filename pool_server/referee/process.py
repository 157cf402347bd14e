"""The parent's side of one referee child: started by exec, spoken to in frames, killed at its deadline.

Blocking: it runs on the referee's thread. A watchdog kills the child when time is up, which ends whatever
waits for it. The parent believes no more than it checks: forms, counts and lengths.
"""

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from pool_protocol.digests import sha256_hex
from pool_protocol.limits import GIB, MIB
from pool_protocol.numeric import PROFILE_ENVIRONMENT
from pool_server.ports.referee import RefereeError, RefereeReason
from pool_server.referee.frames import BrokenFrameError, Frame, read_frame, write_frame

#: The child's command line. `-P` keeps the working directory off its import path.
CHILD_COMMAND: Final[tuple[str, ...]] = (sys.executable, "-P", "-m", "pool_server.referee.child")
#: Bytes of a pipe: Linux gives unprivileged processes 1 MiB; a matrix then takes four wake-ups, not 64.
_PIPE_BYTES: Final = 1 * MIB
_COMPLAINT_BYTES: Final = 2_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSettings:
    """How children are started."""

    command: Sequence[str] = CHILD_COMMAND
    memory_bytes: int = 4 * GIB
    """Address space for the program and its data, beyond what JAX itself reserves."""
    start_timeout_s: float = 60.0
    """For the interpreter and JAX to come up."""
    load_timeout_s: float = 60.0
    """For parsing and compiling, as at admission; and for constants."""


def child_environment(settings: ChildSettings) -> dict[str, str]:
    """Return the whole environment of a child: the pinned numeric profile, and nothing of the server's."""
    return {
        "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CHARGEPOOL_REFEREE_MEMORY_BYTES": str(settings.memory_bytes),
        "CHARGEPOOL_REFEREE_PARENT": str(os.getpid()),
        **PROFILE_ENVIRONMENT,
    }


class RefereeChild:
    """A running child, which belongs to one program. After a CRASH or a TIMEOUT it is dead."""

    def __init__(self, settings: ChildSettings) -> None:
        """Start it and wait until its sandbox stands.

        Raises:
            RefereeError: CRASH, TIMEOUT.
        """
        self._settings = settings
        self._late = False
        self._constants_sha256 = ""
        try:
            self._process = subprocess.Popen(
                settings.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=child_environment(settings),
                start_new_session=True,
            )
        except OSError as error:
            raise RefereeError(RefereeReason.CRASH, f"the child does not start: {error}") from error
        self._stdin, self._stdout, self._stderr = _pipes(self._process)
        try:
            ready = self._ask(None, (), timeout_s=settings.start_timeout_s)
        except RefereeError:
            self.close()
            raise
        missing = ready.fields.get("sandbox_missing")
        if missing:
            _log.warning("the referee's sandbox lacks %s", missing, extra={"action": "referee_sandbox"})

    @property
    def alive(self) -> bool:
        """Whether it takes another order."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group."""
        return self._process.pid

    def load(self, program_sha256: str, manifest_json: bytes, artifact: bytes) -> None:
        """Compile its program.

        Raises:
            RefereeError: why not.
        """
        fields = {"do": "load", "program_sha256": program_sha256, "manifest": manifest_json.decode("ascii")}
        self._ask(fields, [artifact], timeout_s=self._settings.load_timeout_s)

    def run(
        self, fields: Mapping[str, Any], *, constants: bytes | None, inputs: bytes, timeout_s: float
    ) -> Frame:
        """Run its program; constants are sent only when they are not those of the last run.

        Raises:
            RefereeError: there are no outputs.
        """
        if constants is not None:
            constants_sha256 = sha256_hex(constants)
            if constants_sha256 != self._constants_sha256:
                self._constants_sha256 = ""
                self._ask({"do": "constants"}, [constants], timeout_s=self._settings.load_timeout_s)
                self._constants_sha256 = constants_sha256
        ask = {**fields, "do": "run", "with_constants": constants is not None}
        return self._ask(ask, [inputs], timeout_s=timeout_s)

    def probe(self) -> tuple[str, dict[str, bytes]]:
        """Run the numeric probe; return jaxlib's version and the digests by family.

        Raises:
            RefereeError: it does not run here.
        """
        fields = self._ask({"do": "probe"}, (), timeout_s=self._settings.load_timeout_s).fields
        try:
            families = {str(name): bytes.fromhex(text) for name, text in fields["families"].items()}
            return str(fields["jaxlib"]), families
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self.nonsense("a probe that is none") from error

    def nonsense(self, what: str) -> RefereeError:
        """Kill a child that does not speak sense; return the failure to raise."""
        self.kill()
        return RefereeError(RefereeReason.CRASH, f"the child answered with {what}")

    def kill(self) -> None:
        """End it now, with whatever it may have started, and reap it. May be called from any thread."""
        self._send_kill()
        self._process.wait()

    def close(self) -> None:
        """End it and let go of its pipes. Only the thread that talks to it may call this."""
        self.kill()
        for stream in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(OSError):
                stream.close()

    def _ask(self, fields: Mapping[str, Any] | None, buffers: Sequence[bytes], *, timeout_s: float) -> Frame:
        """Send a frame, unless there is none to send, and return the answer."""
        with self._deadline(timeout_s):
            try:
                if fields is not None:
                    write_frame(self._stdin, fields, buffers)
                frame = read_frame(self._stdout)
            except (OSError, ValueError) as error:
                raise self._lost(f"{type(error).__name__}", timeout_s) from error
            except BrokenFrameError as error:
                raise self._lost(str(error), timeout_s) from error
        if frame is None:
            raise self._lost("it closed its output", timeout_s)
        if "failed" in frame.fields:
            reason = frame.fields["failed"]
            if reason not in RefereeReason.__members__:
                raise self.nonsense("a reason that is none")
            raise RefereeError(RefereeReason(reason), str(frame.fields.get("detail"))[:500])
        return frame

    @contextmanager
    def _deadline(self, timeout_s: float) -> Iterator[None]:
        watchdog = threading.Timer(timeout_s, self._expire)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()

    def _expire(self) -> None:
        self._late = True
        self._send_kill()

    def _send_kill(self) -> None:
        if self._process.returncode is None:  # reaped, its number may be another's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _lost(self, how: str, timeout_s: float) -> RefereeError:
        """Say what a child died of."""
        self.kill()
        if self._late:
            return RefereeError(RefereeReason.TIMEOUT, f"not done after {timeout_s:g} s")
        complaint = _last_words(self._stderr)
        reason = RefereeReason.MEMORY if "MemoryError" in complaint else RefereeReason.CRASH
        return RefereeError(
            reason, f"the child ended with status {self._process.returncode} ({how}): {complaint}"
        )


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[Any, Any, IO[bytes]]:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RefereeError(RefereeReason.CRASH, "the child has no pipes")
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process.stdin, process.stdout, process.stderr


def _last_words(stderr: IO[bytes]) -> str:
    """Return the end of what a dead child wrote to its pipe; its group is dead, so that nothing blocks."""
    os.set_blocking(stderr.fileno(), False)
    with contextlib.suppress(BlockingIOError, OSError, ValueError):
        return os.read(stderr.fileno(), 1 << 17)[-_COMPLAINT_BYTES:].decode("utf-8", "replace")[-500:]
    return ""

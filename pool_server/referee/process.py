"""Starts the referee's child, one for each call, and owns its deadline.

Units in dispute are rare and short, so a fresh process each time costs nothing that matters, and nothing of
one program can reach the next. Request and answer go through unlinked files, so that neither side can block
the other, and the child can write no more than a file may hold.
"""

import asyncio
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any

from pool_protocol import tensors
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.numeric import PROFILE_ENVIRONMENT, parse_probe
from pool_server.referee.calls import LENGTH, PIECES, ProgramAnswer, ProgramCall

_COMMAND = (sys.executable, "-m", "pool_server.referee.child")
_COMPLAINT_BYTES = 2_000
_CPU_PER_WALL = 4


class RefereeProcess:
    """Implements `RunProgram` by sandboxed children, one at a time."""

    def __init__(self, *, timeout_s: float = 120.0, environment: Mapping[str, str] | None = None) -> None:
        """Start nothing yet.

        Args:
            timeout_s: A call that takes longer is killed.
            environment: What children see besides the numeric profile; None for the process's own paths.
        """
        self._timeout_s = timeout_s
        own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
        self._environment = {
            **(own if environment is None else environment),
            **PROFILE_ENVIRONMENT,
            "JAX_PLATFORMS": "cpu",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._turn = asyncio.Lock()
        self._numeric_class = ""

    async def __call__(self, call: ProgramCall, /) -> ProgramAnswer:
        """Run a call; the first one probes this machine's numeric class before.

        Raises:
            PoolError: PROGRAM_FAILED when the program fails on these arrays; PROGRAM_COMPILE_LIMIT when
                it was killed for its time; UNAVAILABLE when the child did not start or died by itself.
        """
        async with self._turn:
            if not self._numeric_class:
                content = await asyncio.to_thread(self._ask, {"probe": True}, {})
                self._numeric_class = parse_probe(content).class_id
            pieces = {
                "manifest": call.manifest.to_json(),
                "artifact": call.artifact,
                "state": tensors.encode(dict(call.state)),
                "inputs": tensors.encode(dict(call.inputs)) if call.inputs else b"",
                "constants": tensors.encode(dict(call.constants)) if call.constants else b"",
            }
            content = await asyncio.to_thread(self._ask, {"probe": False, "steps": call.steps}, pieces)
        return ProgramAnswer(state=tensors.decode(content), numeric_class=self._numeric_class)

    def _ask(self, head: Mapping[str, Any], pieces: Mapping[str, bytes]) -> bytes:
        limits = {"cpu_s": int(self._timeout_s * _CPU_PER_WALL) + 1, "parent_pid": os.getpid()}
        request = {**pieces, "head": json.dumps({**head, **limits}).encode("ascii")}
        with (
            tempfile.TemporaryFile() as questions,
            tempfile.TemporaryFile() as answers,
            tempfile.TemporaryFile() as complaints,
        ):
            for name in PIECES:
                content = request.get(name, b"")
                questions.write(LENGTH.pack(len(content)) + content)
            questions.seek(0)
            self._run_child(questions, answers, complaints)
            answers.seek(0)
            return _answer(answers.read())

    def _run_child(self, questions: IO[bytes], answers: IO[bytes], complaints: IO[bytes]) -> None:
        try:
            process = subprocess.Popen(
                _COMMAND, stdin=questions, stdout=answers, stderr=complaints, env=self._environment
            )
        except OSError as error:
            raise PoolError(ErrorCode.UNAVAILABLE, f"the referee does not start: {error}") from error
        with process:
            try:
                process.wait(self._timeout_s)
            except subprocess.TimeoutExpired as error:
                raise PoolError(
                    ErrorCode.PROGRAM_COMPILE_LIMIT, f"the referee was killed after {self._timeout_s:.0f} s"
                ) from error
            finally:
                process.kill()
        if process.returncode != 0:
            complaints.seek(0, os.SEEK_END)
            complaints.seek(max(0, complaints.tell() - _COMPLAINT_BYTES))
            last = complaints.read().decode("utf-8", "replace")
            raise PoolError(
                ErrorCode.UNAVAILABLE, f"the referee died with status {process.returncode}: {last[-500:]}"
            )


def _answer(content: bytes) -> bytes:
    """Read an answer as one reads a stranger's message."""
    try:
        (length,) = LENGTH.unpack_from(content)
        told = json.loads(content[LENGTH.size : LENGTH.size + length])
        if told["ok"] is True:
            return content[LENGTH.size + length :]
        code, detail = ErrorCode(told["code"]), str(told["detail"])[:1000]
    except (KeyError, TypeError, ValueError, RecursionError, struct.error) as error:
        raise PoolError(ErrorCode.UNAVAILABLE, f"the referee's answer is malformed: {error!r}") from error
    raise PoolError(code, detail)

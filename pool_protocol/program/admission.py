"""Admission: a stranger's program is parsed, vetted and compiled in a process that is thrown away afterwards.

`python -m pool_protocol.program.admission` is that process. It shuts itself in (`pool_protocol.sandbox`)
before it imports JAX, reads one program from standard input, and answers with frames on standard output: a
stage ("vet", "compile", "probe") whenever one begins, and one verdict. A hostile program may crash it, hang
it or, at worst, take it over; the parent believes no more than it checks, and gets a typed error in every
case.

`vet_in_child` is the parent's side. It blocks, never imports JAX, and starts the child by exec, never by
fork. Nothing here signs anything: what the pool admits, the caller signs.
"""

import base64
import binascii
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from pool_protocol.clock import Clock
from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import PROGRAM_LIMITS, ProgramLimits
from pool_protocol.program.manifest import (
    ProgramCost,
    ProgramDraft,
    ProgramManifest,
    parse_draft,
    parse_manifest,
)
from pool_protocol.sandbox import SandboxPolicy, apply_sandbox, interpreter_paths
from pool_protocol.system import SystemClock

#: The child's command line. `-P` keeps the working directory off its import path.
CHILD_COMMAND: Final[tuple[str, ...]] = (sys.executable, "-P", "-m", "pool_protocol.program.admission")
_STAGE, _VERDICT = b"S", b"V"
_FRAME: Final = struct.Struct("<cQ")
_STDERR_BYTES_KEPT: Final = 2_000
_READ_BYTES: Final = 1 << 16
#: Signals by which a process dies of the program it holds, and not of the machine around it.
_OWN_FAULT: Final = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGXCPU,
        signal.SIGTRAP,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedProgram:
    """A program that passed. What the caller stores, signs and hands to cars."""

    artifact: bytes
    """In canonical form: what cars run, and what the manifest's SHA-256 names."""
    manifest: ProgramManifest
    is_rewritten: bool
    """True when the canonical form is not the bytes that came in."""
    sandbox_missing: Mapping[str, str]
    """What the child's sandbox could not enforce, and why. Empty when everything held."""
    chunking: str = ""
    """How the probe of two chunkings ended: PASSED, or why it was not made; empty for map programs."""


def vet_in_child(
    artifact: bytes,
    draft: ProgramDraft,
    *,
    limits: ProgramLimits = PROGRAM_LIMITS,
    command: Sequence[str] = CHILD_COMMAND,
    clock: Clock | None = None,
) -> AdmittedProgram:
    """Vet a program in a throw-away sandboxed process. Blocks for two seconds to `limits.compile_wall_s`.

    1. The cheap checks: size and digest.
    2. The child runs, within wall time, memory, and bytes of output.
    3. Its verdict is read strictly: an error is one of the catalogue's PROGRAM_ codes.
    4. The manifest is the draft with figures, nothing else changed, and names the artifact that came with it.

    Raises:
        PoolError: any PROGRAM_ code; PROGRAM_COMPILE_LIMIT also when it takes too long or too much memory;
            PROGRAM_UNPARSABLE also when it crashes the parser; ADMISSION_FAILED when the fault is ours.
    """
    if len(artifact) > limits.artifact_bytes_max:
        raise PoolError(
            ErrorCode.PROGRAM_TOO_LARGE, f"{len(artifact)} bytes, allowed are {limits.artifact_bytes_max}"
        )
    if sha256_hex(artifact) != draft.artifact_sha256:
        raise PoolError(ErrorCode.PROGRAM_DIGEST_MISMATCH, "the artifact is not the one that its draft names")
    request = _request(artifact, draft, limits)
    conversation = _Conversation(command, limits, clock or SystemClock())
    verdict = conversation.run(request)
    return _admitted(verdict, artifact, draft)


def _request(artifact: bytes, draft: ProgramDraft, limits: ProgramLimits) -> bytes:
    parts = (json.dumps(asdict(limits)).encode(), draft.to_json(), artifact)
    return b"".join(struct.pack("<Q", len(part)) + part for part in parts)


def _child_environment() -> dict[str, str]:
    """Nothing of the server's environment, which may hold secrets, but where its packages are."""
    return {
        "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry),
        "JAX_PLATFORMS": "cpu",
        "OPENBLAS_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class _Conversation:
    """One child from start to end: bytes in, frames out, a deadline, and no more output than allowed."""

    def __init__(self, command: Sequence[str], limits: ProgramLimits, clock: Clock) -> None:
        self._command = command
        self._limits = limits
        self._clock = clock
        self._output = bytearray()
        self._complaint = bytearray()

    def run(self, request: bytes) -> Mapping[str, Any]:
        """Return the verdict.

        Raises:
            PoolError: when there is none.
        """
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_child_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise PoolError(ErrorCode.ADMISSION_FAILED, f"the child does not start: {error}") from error
        try:
            with process:
                try:
                    self._exchange(process, request)
                finally:
                    process.kill()
                exit_status = process.wait()
        except _TooMuchOutputError as error:
            raise PoolError(ErrorCode.PROGRAM_COMPILE_LIMIT, "the child answers without end") from error
        except TimeoutError as error:
            raise PoolError(
                ErrorCode.PROGRAM_COMPILE_LIMIT,
                f"not done after {self._limits.compile_wall_s} s, in stage {self._stage() or 'start'}",
                context={"limit_s": str(self._limits.compile_wall_s)},
            ) from error
        verdict = self._verdict()
        if verdict is None:
            raise self._failure(exit_status)
        return verdict

    def _exchange(self, process: "subprocess.Popen[bytes]", request: bytes) -> None:
        """Feed the child and collect its output until it closes it."""
        stdin, stdout, stderr = _pipes(process)
        deadline_ns = self._clock.monotonic_ns() + self._limits.compile_wall_s * 1_000_000_000
        pending = memoryview(request)
        with selectors.DefaultSelector() as selector:
            os.set_blocking(stdin.fileno(), False)
            selector.register(stdin, selectors.EVENT_WRITE)
            selector.register(stdout, selectors.EVENT_READ, self._output)
            selector.register(stderr, selectors.EVENT_READ, self._complaint)
            readers = 2
            while readers:
                left_ns = deadline_ns - self._clock.monotonic_ns()
                ready = selector.select(max(0, left_ns) / 1e9)
                if not ready or left_ns <= 0:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fileobj is stdin:
                        pending = _write_some(stdin, pending)
                        if not pending:
                            selector.unregister(stdin)
                            stdin.close()
                    elif not self._read_some(key):
                        selector.unregister(key.fileobj)
                        readers -= 1

    def _read_some(self, key: selectors.SelectorKey) -> bool:
        chunk = os.read(key.fd, _READ_BYTES)
        key.data.extend(chunk)
        if key.data is self._complaint:
            del self._complaint[:-_STDERR_BYTES_KEPT]
        elif len(self._output) > self._limits.verdict_bytes_max:
            raise _TooMuchOutputError
        return bool(chunk)

    def _frames(self) -> list[tuple[bytes, bytes]]:
        frames: list[tuple[bytes, bytes]] = []
        position = 0
        while position + _FRAME.size <= len(self._output):
            kind, length = _FRAME.unpack_from(self._output, position)
            position += _FRAME.size
            if position + length > len(self._output):
                break
            frames.append((kind, bytes(self._output[position : position + length])))
            position += length
        return frames

    def _stage(self) -> str:
        stages = [body for kind, body in self._frames() if kind == _STAGE]
        return stages[-1].decode("ascii", "replace")[:20] if stages else ""

    def _verdict(self) -> Mapping[str, Any] | None:
        for kind, body in self._frames():
            if kind == _VERDICT:
                try:
                    verdict = json.loads(body)
                except (ValueError, RecursionError):
                    return None
                return verdict if isinstance(verdict, dict) else None
        return None

    def _failure(self, exit_status: int) -> PoolError:
        """Say what a child that ended without a verdict died of."""
        stage = self._stage()
        how = f"signal {-exit_status}" if exit_status < 0 else f"exit status {exit_status}"
        complaint = self._complaint.decode("utf-8", "replace")[-500:]
        detail = f"the child ended by {how} in stage {stage or 'start'}: {complaint}"
        was_program = bool(stage) and (
            (exit_status < 0 and -exit_status in _OWN_FAULT) or "MemoryError" in complaint
        )
        if not was_program:
            return PoolError(ErrorCode.ADMISSION_FAILED, detail)
        if stage == "vet" and "MemoryError" not in complaint:
            return PoolError(ErrorCode.PROGRAM_UNPARSABLE, detail)
        return PoolError(ErrorCode.PROGRAM_COMPILE_LIMIT, detail)


class _TooMuchOutputError(Exception):
    """The child wrote more than a verdict can have."""


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise PoolError(ErrorCode.INTERNAL, "the child has no pipes")
    return process.stdin, process.stdout, process.stderr


def _write_some(stdin: IO[bytes], pending: memoryview) -> memoryview:
    try:
        return pending[os.write(stdin.fileno(), pending[:_READ_BYTES]) :]
    except BrokenPipeError:
        return pending[:0]  # it ended early; its output says why


def _admitted(verdict: Mapping[str, Any], artifact: bytes, draft: ProgramDraft) -> AdmittedProgram:
    """Read a verdict as one reads a stranger's message."""
    try:
        if verdict["ok"] is not True:
            raise _refusal(verdict)
        canonical = base64.b64decode(verdict["artifact"], validate=True)
        manifest = parse_manifest(verdict["manifest"].encode("ascii"))
        chunking = str(verdict["chunking"])[:40]
        missing = {str(layer): str(reason) for layer, reason in verdict["sandbox_missing"].items()}
    except (AttributeError, KeyError, TypeError, UnicodeError, binascii.Error) as error:
        raise PoolError(ErrorCode.ADMISSION_FAILED, f"the verdict is malformed: {error!r}") from error
    if manifest.draft != replace(draft, artifact_sha256=sha256_hex(canonical)):
        raise PoolError(ErrorCode.ADMISSION_FAILED, "the verdict is about another program")
    return AdmittedProgram(
        artifact=canonical,
        manifest=manifest,
        is_rewritten=canonical != artifact,
        sandbox_missing=missing,
        chunking=chunking,
    )


def _refusal(verdict: Mapping[str, Any]) -> PoolError:
    code, detail = verdict["code"], str(verdict["detail"])[:1000]
    if code not in ErrorCode.__members__ or not str(code).startswith("PROGRAM_"):
        return PoolError(ErrorCode.ADMISSION_FAILED, f"the child failed: {code}: {detail}")
    context = {str(name)[:40]: str(value)[:200] for name, value in dict(verdict["context"]).items()}
    return PoolError(ErrorCode(code), detail, context=context)


# --- the child --------------------------------------------------------------------------------------


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise PoolError(ErrorCode.ADMISSION_FAILED, "the request is cut off")
    return content


def _send(stream: IO[bytes], kind: bytes, body: bytes) -> None:
    stream.write(_FRAME.pack(kind, len(body)) + body)
    stream.flush()


def _judge(stdin: IO[bytes], answers: IO[bytes]) -> dict[str, Any]:
    """Read one program, shut this process in, and judge it."""
    limits_text, draft_text, artifact = (
        _read_exactly(stdin, struct.unpack("<Q", _read_exactly(stdin, 8))[0]) for _ in range(3)
    )
    limits = ProgramLimits(**json.loads(limits_text))
    draft = parse_draft(draft_text)
    report = apply_sandbox(
        SandboxPolicy(
            read_paths=interpreter_paths(),
            address_space_bytes=limits.compile_address_space_bytes,
            cpu_s=4 * limits.compile_wall_s,
            file_bytes_max=0,
            parent_pid=os.getppid(),
        )
    )
    # Only now: these import JAX, whose threads inherit the sandbox.
    from pool_protocol.program.chunking import probe_chunkings
    from pool_protocol.program.cost import COST_MODEL
    from pool_protocol.program.load import LoadedProgram
    from pool_protocol.program.vetting import vet_program

    _send(answers, _STAGE, b"vet")
    vetted = vet_program(artifact, draft, limits)
    admitted_draft = replace(draft, artifact_sha256=sha256_hex(vetted.artifact))
    fixed_bytes = sum(item.tensor.nbytes for item in draft.arguments) + sum(
        item.tensor.nbytes for item in draft.outputs
    )
    if fixed_bytes > limits.argument_bytes_max:
        raise PoolError(ErrorCode.PROGRAM_TOO_LARGE, f"arguments and results take {fixed_bytes} bytes")
    _send(answers, _STAGE, b"compile")
    loaded = LoadedProgram(vetted.artifact, admitted_draft)
    temporary_bytes = loaded.temporary_bytes
    if fixed_bytes + temporary_bytes > limits.peak_memory_bytes_max:
        raise PoolError(
            ErrorCode.PROGRAM_COMPILE_LIMIT,
            f"a call takes {fixed_bytes + temporary_bytes} bytes, allowed are {limits.peak_memory_bytes_max}",
        )
    _send(answers, _STAGE, b"probe")
    chunking = probe_chunkings(
        loaded, step_uwu=vetted.cost.work_uwu, argument_bytes=fixed_bytes + temporary_bytes
    )
    cost = ProgramCost(
        operations=vetted.operations,
        flops=vetted.cost.flops,
        bytes_moved=vetted.cost.bytes_moved,
        work_uwu=vetted.cost.work_uwu,
        peak_bytes=fixed_bytes + temporary_bytes,
        temporary_bytes=temporary_bytes,
        cost_model=COST_MODEL,
    )
    return {
        "ok": True,
        "artifact": base64.b64encode(vetted.artifact).decode("ascii"),
        "manifest": ProgramManifest(draft=admitted_draft, cost=cost).to_json().decode("ascii"),
        "sandbox_missing": dict(report.missing),
        "chunking": chunking,
    }


def main() -> int:
    """Be the child: one program in, frames out. Returns 0 when there is a verdict, good or bad."""
    # What libraries print must not mix with the answer: the pipe gets a number of its own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        verdict = _judge(sys.stdin.buffer, answers)
    except PoolError as error:
        verdict = {"ok": False, "code": error.code.value, "detail": error.detail, "context": error.context}
    with suppress(BrokenPipeError):
        _send(answers, _VERDICT, json.dumps(verdict).encode("ascii"))
    # The compiler's threads may still hold the program; nothing of theirs is worth waiting for.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

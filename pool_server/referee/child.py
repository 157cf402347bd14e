"""The referee's child: runs one admitted program inside its sandbox, again and again.

    python -P -m pool_server.referee.child

The order is the point: take the pipes, give up every right, and only then import JAX and read the program. A
child belongs to one program for its whole life, so that a program which takes it over can lie about nothing
but itself. Deadlines are the parent's.
"""

import os
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import GIB
from pool_protocol.sandbox import SandboxPolicy, apply_sandbox, interpreter_paths
from pool_server.referee.frames import Frame, read_frame, write_frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pool_protocol.program.load import LoadedProgram

#: What JAX reserves on a CPU before any program's data: 1.65 GiB measured.
_RUNTIME_BYTES: Final = 2 * GIB
STATE_PREFIX: Final = "state/"
_DETAIL_CHARACTERS_MAX: Final = 500
_INPUT_CODES: Final = frozenset(
    {
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.TENSORS_MALFORMED,
        ErrorCode.TENSORS_PICKLE,
        ErrorCode.TENSORS_TOO_LARGE,
        ErrorCode.TENSORS_DTYPE_UNSUPPORTED,
    }
)


class _Runner:
    """The one program of this process. Made inside the sandbox: it imports JAX."""

    def __init__(self) -> None:
        import jax
        import jaxlib.version

        jax.devices()
        self.jaxlib_version = jaxlib.version.__version__
        self._program: LoadedProgram | None = None
        self._program_sha256 = ""
        self._constants: dict[str, Any] = {}

    def answer(self, frame: Frame) -> tuple[dict[str, Any], list[bytes]]:
        """Do what a frame says.

        Raises:
            PoolError: the program's fault, or its inputs'.
        """
        match frame.fields["do"]:
            case "load":
                return self._load(frame), []
            case "constants":
                return self._keep_constants(frame), []
            case "run":
                return self._run(frame)
            case "probe":
                from pool_protocol.program.probe import run_probe

                families = {family: digest.hex() for family, digest in run_probe().items()}
                return {"families": families, "jaxlib": self.jaxlib_version}, []
            case _:
                raise SystemExit("the referee does not say that")

    def _load(self, frame: Frame) -> dict[str, Any]:
        from pool_protocol.digests import verify_sha256_hex
        from pool_protocol.program.load import LoadedProgram
        from pool_protocol.program.manifest import parse_manifest

        [artifact] = frame.buffers
        self._program_sha256 = verify_sha256_hex(artifact, frame.fields["program_sha256"])
        self._program = LoadedProgram(
            artifact, parse_manifest(frame.fields["manifest"].encode("ascii")).draft
        )
        return {}

    def _keep_constants(self, frame: Frame) -> dict[str, Any]:
        from pool_protocol import tensors

        self._constants = {}  # the old ones go before the new ones come: both might not fit
        self._constants = self._loaded().place(tensors.decode(frame.buffers[0]))
        return {}

    def _loaded(self) -> "LoadedProgram":
        if self._program is None:
            raise SystemExit("the referee runs nothing that it has not loaded")
        return self._program

    def _run(self, frame: Frame) -> tuple[dict[str, Any], list[bytes]]:

        from pool_protocol import tensors
        from pool_protocol.program.manifest import ProgramKind

        program = self._loaded()
        # What is timed is the program: how its arrays came here is the referee's own affair.
        arrays = program.place(tensors.decode(frame.buffers[0]))
        for array in arrays.values():
            array.block_until_ready()
        constants = self._constants if frame.fields["with_constants"] else {}
        started_ns = time.perf_counter_ns()
        unit_digests: list[bytes] = []
        if program.draft.kind is ProgramKind.MAP:
            outputs: Mapping[str, Any] = program.run_map(arrays, constants)
        else:
            outputs = self._walk(program, arrays, constants, frame.fields, unit_digests)
        run_time_us = (time.perf_counter_ns() - started_ns) // 1_000
        fields = {"run_time_us": run_time_us, "unit_digests": [digest.hex() for digest in unit_digests]}
        return fields, [tensors.encode(outputs)]

    def _walk(
        self,
        program: "LoadedProgram",
        arrays: "Mapping[str, Any]",
        constants: "Mapping[str, Any]",
        fields: "Mapping[str, Any]",
        unit_digests: list[bytes],
    ) -> "Mapping[str, Any]":
        """Go unit by unit, as a vehicle does, with a vehicle's digests."""
        from pool_protocol.digests import state_digest

        steps, unit_steps, first_unit = fields["steps"], fields["unit_steps"], fields["first_unit"]
        state: Mapping[str, Any] = {
            name.removeprefix(STATE_PREFIX): array
            for name, array in arrays.items()
            if name.startswith(STATE_PREFIX)
        }
        inputs = {name: array for name, array in arrays.items() if not name.startswith(STATE_PREFIX)}
        for unit, done in enumerate(range(0, steps, unit_steps), first_unit):
            state = program.run_steps(min(unit_steps, steps - done), state, inputs, constants)
            unit_digests.append(
                state_digest(
                    state, job_id="", program_sha256=self._program_sha256, task_index=0, unit_index=unit
                )
            )
        return state


def _serve(source: BinaryIO, sink: BinaryIO, runner: _Runner) -> None:
    while (frame := read_frame(source)) is not None:
        try:
            fields, buffers = runner.answer(frame)
        except (PoolError, MemoryError) as error:
            reason, detail = _reason_of(error)
            write_frame(sink, {"failed": reason, "detail": detail[:_DETAIL_CHARACTERS_MAX]})
        else:
            write_frame(sink, fields, buffers)


def _reason_of(error: PoolError | MemoryError) -> tuple[str, str]:
    """Name a failure as `ports.referee.RefereeReason` does."""
    if isinstance(error, MemoryError):
        return "MEMORY", "out of memory"
    if "RESOURCE_EXHAUSTED" in error.detail:
        return "MEMORY", error.detail
    if error.code in _INPUT_CODES:
        return "INPUT", error.detail
    return "PROGRAM", f"{error.code.value}: {error.detail}"


def main() -> None:
    """Be the child until the parent closes the pipe."""
    source = os.fdopen(os.dup(0), "rb", buffering=1 << 20)
    sink = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    # What libraries print must not mix with answers, and nobody reads it while we live: a full pipe is no
    # reason to hang.
    os.dup2(2, 1)
    os.set_blocking(2, False)
    report = apply_sandbox(
        SandboxPolicy(
            read_paths=interpreter_paths("pool_server"),
            address_space_bytes=_RUNTIME_BYTES + int(os.environ["CHARGEPOOL_REFEREE_MEMORY_BYTES"]),
            file_bytes_max=0,
            parent_pid=int(os.environ["CHARGEPOOL_REFEREE_PARENT"]),
        )
    )
    runner = _Runner()
    write_frame(sink, {"sandbox_missing": dict(report.missing)})
    _serve(source, sink, runner)
    # The compiler's threads may still hold the program; nothing of theirs is worth waiting for.
    os._exit(0)


if __name__ == "__main__":
    main()
    sys.exit(0)

"""The worker process: runs admitted programs inside its sandbox, and nothing else.

    python -m car_agent.runner.worker

It speaks frames (`car_agent.runner.frames`) on the pipes it was born with. The order here is the point: take
the pipes, tie its life to its parent's, give up every right it does not need, and only then import JAX and
read the first program. What the kernel refused to enforce is told in `ready`, never skipped in silence.
Deadlines are the parent's: a loop inside a program hears nothing.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from car_agent.runner.confinement import confine_worker
from car_agent.runner.frames import Frame, FrameType, read_frame_blocking, write_frame_blocking

if TYPE_CHECKING:
    from car_agent.runner.executor import Executor

_DETAIL_CHARACTERS_MAX = 500


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes of the supervisor; what anything else prints goes to stderr from now on."""
    source = os.fdopen(os.dup(0), "rb", buffering=1 << 20)
    sink = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return source, sink


def serve(source: BinaryIO, sink: BinaryIO, executor: "Executor") -> None:
    """Answer frames until the supervisor says shutdown or goes away."""
    while True:
        frame = read_frame_blocking(source)
        if frame is None or frame.type is FrameType.SHUTDOWN:
            return
        _answer(frame, sink, executor)


def _answer(frame: Frame, sink: BinaryIO, executor: "Executor") -> None:
    match frame.type:
        case FrameType.LOAD:
            program = frame.text("program_sha256")
            compile_ms = executor.load(program, frame.text("manifest").encode("ascii"), frame.buffer)
            if compile_ms is not None:  # a program that does not load fails its attempts, one by one
                write_frame_blocking(
                    sink, FrameType.LOADED, {"program_sha256": program, "compile_ms": compile_ms}
                )
        case FrameType.CONSTANTS:
            executor.keep_constants(frame.text("key"), frame.buffer)
        case FrameType.RUN:
            _run(frame, sink, executor)
        case FrameType.PROBE:
            _probe(sink)
        case _:
            raise SystemExit(f"the supervisor does not send {frame.type}")


def _run(frame: Frame, sink: BinaryIO, executor: "Executor") -> None:
    from car_agent.runner.executor import ExecutionError

    attempt_id = frame.number("attempt_id")
    inputs, *start = frame.buffers

    def progress(units_done: int, units_total: int, new: Sequence[bytes]) -> None:
        fields = {
            "attempt_id": attempt_id,
            "units_done": units_done,
            "units_total": units_total,
            "unit_digests_hex": [digest.hex() for digest in new],
        }
        write_frame_blocking(sink, FrameType.PROGRESS, fields)

    try:
        result = executor.run(
            frame.text("program_sha256"),
            constants_key=frame.fields.get("constants_key"),
            inputs=inputs,
            start=b"".join(start),
            steps=frame.number("steps"),
            unit_steps=frame.number("unit_steps"),
            first_unit=frame.number("first_unit"),
            progress=progress,
        )
    except ExecutionError as error:
        fields = {
            "attempt_id": attempt_id,
            "kind": error.kind.value,
            "detail": error.detail[:_DETAIL_CHARACTERS_MAX],
        }
        write_frame_blocking(sink, FrameType.FAILED, fields)
        return
    write_frame_blocking(
        sink,
        FrameType.DONE,
        {
            "attempt_id": attempt_id,
            "run_time_us": result.run_time_us,
            "unit_digests_hex": [digest.hex() for digest in result.unit_digests],
        },
        [result.outputs],
    )


def _probe(sink: BinaryIO) -> None:
    """Run the numeric probe. A machine that cannot (out of memory, a broken library) has no class."""
    from pool_protocol.program.probe import run_probe

    try:
        found = run_probe()
    except Exception as error:  # noqa: BLE001 - whatever JAX raises, work goes on without a class
        sys.stderr.write(f"the numeric probe failed: {type(error).__name__}: {error}\n")
        found = {}
    families = [f"{family}:{digest.hex()}" for family, digest in found.items()]
    write_frame_blocking(sink, FrameType.PROBED, {"families": families})


def main() -> None:
    """Run the worker."""
    source, sink = _take_pipes()
    report = confine_worker(os.environ)
    # Only now, inside the sandbox, the large and less trusted part.
    from car_agent.runner.executor import Executor

    executor = Executor()
    versions = executor.versions()
    write_frame_blocking(
        sink,
        FrameType.READY,
        {**versions, "sandbox_applied": list(report.applied), "sandbox_missing": list(report.missing)},
    )
    serve(source, sink, executor)


if __name__ == "__main__":
    main()
    sys.exit(0)

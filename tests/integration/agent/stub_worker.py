"""A worker without JAX: it speaks frames and answers each attempt with its inputs. Told by its arguments, it
misbehaves.

    python stub_worker.py [mode] [seconds]
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from car_agent.runner.frames import FrameType, read_frame_blocking, write_frame_blocking
from pool_protocol.numeric import Family

READY = {
    "jax": "0",
    "jaxlib": "0",
    "platforms": ["cpu"],
    "sandbox_applied": [],
    "sandbox_missing": ["all: stub"],
}


def answer(sink: BinaryIO, attempt_id: int, outputs: bytes, units: int) -> None:
    fields = {"attempt_id": attempt_id, "run_time_us": 1_000, "unit_digests_hex": ["00" * 32] * units}
    write_frame_blocking(sink, FrameType.DONE, fields, [outputs])


def main() -> None:
    mode = sys.argv[1] if len(sys.argv) > 1 else "honest"
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    if mode == "dies at start" or (mode == "starts once" and Path("started").exists()):
        sys.exit(3)
    Path("started").touch()
    if mode == "ignores SIGTERM":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "has a child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path("child.pid").write_text(str(child.pid), encoding="ascii")
    write_frame_blocking(sink, FrameType.READY, READY)
    pause = threading.Event()
    while (frame := read_frame_blocking(source)) is not None:
        if frame.type is FrameType.LOAD:
            fields = {"program_sha256": frame.text("program_sha256"), "compile_ms": 0}
            write_frame_blocking(sink, FrameType.LOADED, fields)
        if frame.type is FrameType.PROBE:
            with Path("probed").open("a", encoding="ascii") as probed:
                probed.write("probe\n")
            families = [] if mode == "has no probe" else [f"{family.value}:{'ab' * 32}" for family in Family]
            write_frame_blocking(sink, FrameType.PROBED, {"families": families})
        if frame.type is not FrameType.RUN:
            continue
        with Path("ran").open("a", encoding="ascii") as ran:
            ran.write(f"{frame.number('attempt_id')}\n")
        attempt_id, steps, unit_steps = (
            frame.number("attempt_id"),
            frame.number("steps"),
            frame.number("unit_steps"),
        )
        units = -(-steps // unit_steps) if unit_steps else 0
        if seconds:
            pause.wait(seconds)
        if mode == "hangs":
            pause.wait(600)
        elif mode == "dies" or (mode == "dies once" and not Path("died").exists()):
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        elif mode == "speaks nonsense":
            sink.write(b"\xff" * 64)
            sink.flush()
        elif mode == "answers another":
            answer(sink, attempt_id + 1_000, frame.buffer, units)
        elif mode == "wrong outputs":
            answer(sink, attempt_id, b"not tensors", units)
        elif mode == "fails":
            fields = {"attempt_id": attempt_id, "kind": "program", "detail": "it cannot"}
            write_frame_blocking(sink, FrameType.FAILED, fields)
        else:
            answer(sink, attempt_id, frame.buffer, units)


if __name__ == "__main__":
    main()

"""A worker that lies, after a while: it runs the real worker and falsifies what comes out.

Stands between a car agent and its worker process and speaks the worker's frame protocol (a 4-byte
little-endian header length, a JSON header, the buffers that the header counts). Requests pass
through unread; in each finished attempt every floating-point output is shifted a little. The agent
signs what it gets in good faith, so that only the pool's verification can find the lie.
Used by the demo and by drills: `worker_command` in `agent.toml`. `--honest N --tally FILE` makes
it a sleeper: the first N attempts, counted in FILE over all its lives, come out as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np

from pool_protocol import tensors

LIE = 0.05
REAL_WORKER = [sys.executable, "-m", "car_agent.runner.worker"]


def read_exactly(stream: IO[bytes], size: int) -> bytes:
    """Reads `size` bytes.

    Raises:
        EOFError: the stream ended before.
    """
    parts: list[bytes] = []
    while size:
        part = stream.read(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """Reads one frame: its header and its buffers.

    Raises:
        EOFError: the stream ended.
    """
    (length,) = struct.unpack("<I", read_exactly(stream, 4))
    header: dict[str, Any] = json.loads(read_exactly(stream, length))
    return header, [read_exactly(stream, size) for size in header.get("buffers", [])]


def write_frame(stream: IO[bytes], header: dict[str, Any], buffers: list[bytes]) -> None:
    """Writes one frame and flushes it."""
    encoded = json.dumps({**header, "buffers": [len(b) for b in buffers]}).encode()
    stream.write(struct.pack("<I", len(encoded)) + encoded + b"".join(buffers))
    stream.flush()


def falsify(encoded: bytes) -> bytes:
    """Shifts every floating-point tensor; leaves shapes, names and dtypes as they were."""
    named = tensors.decode(encoded)
    lie = {
        name: (value + np.asarray(LIE, value.dtype)) if np.issubdtype(value.dtype, np.floating) else value
        for name, value in named.items()
    }
    return tensors.encode(lie)


class Sleep:
    """Counts attempts until it is time to lie."""

    def __init__(self, honest: int, tally: Path | None) -> None:
        """Goes on where the worker before left off."""
        self.honest, self.tally = honest, tally
        self.done = len(tally.read_bytes()) if tally is not None and tally.exists() else 0

    def over(self) -> bool:
        """Count one finished attempt; whether it is one to lie about."""
        self.done += 1
        if self.tally is not None:
            with self.tally.open("ab") as file:
                file.write(b".")
        return self.done > self.honest


def main() -> None:
    """Runs until the agent closes the pipe or the real worker ends."""
    parser = argparse.ArgumentParser(description="A worker that lies about its results.")
    parser.add_argument("--honest", type=int, default=0, help="attempts before it begins to lie")
    parser.add_argument("--tally", type=Path, help="file that counts attempts over all its lives")
    options = parser.parse_args()
    sleep = Sleep(options.honest, options.tally)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    environment = {**os.environ, "CHARGEPOOL_WORKER_PARENT": str(os.getpid())}
    worker = subprocess.Popen(REAL_WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    to_worker, from_worker = worker.stdin, worker.stdout
    if to_worker is None or from_worker is None:
        raise RuntimeError("the worker has no pipes")

    def forward() -> None:
        while chunk := os.read(source.fileno(), 1 << 16):
            to_worker.write(chunk)
            to_worker.flush()
        to_worker.close()

    threading.Thread(target=forward, daemon=True).start()
    try:
        while True:
            header, buffers = read_frame(from_worker)
            if header.get("type") == "done" and sleep.over():
                buffers = [falsify(buffer) for buffer in buffers]
            write_frame(sink, header, buffers)
    except EOFError:
        sys.exit(worker.wait())


if __name__ == "__main__":
    main()

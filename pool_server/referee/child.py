"""The referee's child: shuts itself in, then runs one call of one admitted program, or the numeric probe.

Standard input is one request (`pool_server.referee.process` writes it), standard output one answer. JAX is
imported only here, after the sandbox stands.
"""

import json
import os
import sys
from typing import IO, Any

from pool_protocol import tensors
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import BLOB_BYTES_MAX, GIB, MIB, PROGRAM_LIMITS
from pool_protocol.program.manifest import parse_manifest
from pool_protocol.sandbox import SandboxPolicy, apply_sandbox, interpreter_paths
from pool_server.referee.calls import LENGTH, PIECES

#: What JAX itself reserves of the address space.
_RUNTIME_BYTES = 2 * GIB


def main() -> int:
    """Answer one request. Returns 0 when there is an answer, good or bad."""
    # Whatever a native library prints must not stand in the answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = {name: _piece(sys.stdin.buffer) for name in PIECES}
    head = json.loads(request["head"])
    apply_sandbox(
        SandboxPolicy(
            read_paths=interpreter_paths(),
            address_space_bytes=_RUNTIME_BYTES + PROGRAM_LIMITS.peak_memory_bytes_max,
            cpu_s=int(head["cpu_s"]),
            file_bytes_max=BLOB_BYTES_MAX + MIB,
            parent_pid=int(head["parent_pid"]),
        )
    )
    try:
        told, body = _probe() if head["probe"] else _run(head, request)
    except PoolError as error:
        told, body = {"ok": False, "code": error.code.value, "detail": error.detail[:1000]}, b""
    except MemoryError:
        told, body = {"ok": False, "code": ErrorCode.PROGRAM_FAILED.value, "detail": "out of memory"}, b""
    encoded = json.dumps(told).encode("ascii")
    answers.write(LENGTH.pack(len(encoded)) + encoded + body)
    answers.flush()
    return 0


def _piece(stream: IO[bytes]) -> bytes:
    (length,) = LENGTH.unpack(stream.read(LENGTH.size))
    content = stream.read(length)
    if len(content) != length:
        raise EOFError("the request is cut off")
    return content


def _run(head: dict[str, Any], request: dict[str, bytes]) -> tuple[dict[str, Any], bytes]:
    from pool_protocol.program.load import LoadedProgram

    program = LoadedProgram(request["artifact"], parse_manifest(request["manifest"]).draft)
    state, inputs, constants = (
        tensors.decode(request[name]) if request[name] else {} for name in ("state", "inputs", "constants")
    )
    result = program.run_steps(int(head["steps"]), state, inputs, constants)
    return {"ok": True}, tensors.encode(result)


def _probe() -> tuple[dict[str, Any], bytes]:
    import jax
    import jaxlib.version

    from pool_protocol.numeric import PROBE_VERSION, PROFILE, Probe
    from pool_protocol.program.probe import run_probe

    probe = Probe(
        probe_version=PROBE_VERSION,
        jaxlib_version=jaxlib.version.__version__,
        platform=jax.default_backend(),
        profile=PROFILE,
        families=run_probe(),
    )
    return {"ok": True}, probe.to_json()


if __name__ == "__main__":
    sys.exit(main())

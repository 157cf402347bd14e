"""What the worker gives up before it reads a program: which paths, how much memory, and its place in line.

The mechanism is `pool_protocol.sandbox`; this module decides what a car's worker needs. It may read the
interpreter, its libraries and our own packages - not the directory they lie in, where a state directory with
keys might lie too - and write nothing but its scratch directory.
"""

import contextlib
import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import car_agent
import pool_protocol
from pool_protocol import limits
from pool_protocol.sandbox import SandboxPolicy, apply_sandbox, interpreter_paths

#: What JAX reserves on a CPU before any program's data: 1.65 GiB measured.
_RUNTIME_BYTES: Final = 2 * limits.GIB
_SCRATCH_FILE_BYTES_MAX: Final = 64 * limits.MIB
_OPEN_FILES_MAX: Final = 256
#: Behind everything that the car's own programs want from the processor.
_NICENESS: Final = 10
#: The kernel takes this process first when memory runs out.
_OOM_SCORE: Final = "900"


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is enforced here, and what could not be."""

    applied: tuple[str, ...]
    missing: tuple[str, ...]


def confine_worker(environment: Mapping[str, str]) -> Confinement:
    """Give up every right that running programs does not need; for good.

    Args:
        environment: What the supervisor said: scratch directory, memory, platforms, its process id.
    """
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    packages = _own_packages()
    on_cpu = environment.get("JAX_PLATFORMS", "cpu") == "cpu"
    memory_bytes = int(environment.get("CHARGEPOOL_WORKER_MEMORY_BYTES", "0"))
    parent = environment.get("CHARGEPOOL_WORKER_PARENT")
    report = apply_sandbox(
        SandboxPolicy(
            read_paths=(*interpreter_paths(), *packages),
            write_paths=(Path(environment["CHARGEPOOL_WORKER_SCRATCH"]),),
            device_paths=() if on_cpu else tuple(sorted(Path("/dev").glob("nvidia*"))),
            # An accelerator's driver maps far more than it uses: there the limit would forbid everything.
            address_space_bytes=_RUNTIME_BYTES + memory_bytes if on_cpu and memory_bytes else None,
            open_files_max=_OPEN_FILES_MAX,
            file_bytes_max=_SCRATCH_FILE_BYTES_MAX,
            parent_pid=int(parent) if parent else None,
        )
    )
    missing = tuple(f"{layer}: {reason}" for layer, reason in report.missing.items())
    return Confinement(applied=report.enforced, missing=missing)


def _own_packages() -> tuple[Path, ...]:
    """Return our packages' directories, after taking the directory that holds them off the import path.

    In a checkout that directory holds more than code. Installed packages lie among the libraries, which the
    worker reads anyway.
    """
    packages = tuple(
        Path(entry).resolve() for module in (car_agent, pool_protocol) for entry in module.__path__
    )
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    holders = {package.parent for package in packages} - libraries
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() not in holders]
    return packages

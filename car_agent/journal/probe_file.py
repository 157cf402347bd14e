"""What the numeric probe found here, kept between runs: valid only for the versions and the machine it names.

A processor that lost a feature, another library, a new driver: the key differs, and the worker probes again.
"""

import contextlib
import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from car_agent.journal.durable import write_durably
from pool_protocol.errors import PoolError
from pool_protocol.numeric import PROBE_VERSION, Probe, parse_probe

_FILE_BYTES_MAX: Final = 64 * 1024
#: Lines of /proc/cpuinfo that numerics may hang on; of the first processor, on x86 and on ARM.
_CPU_LINES: Final = frozenset(
    {"vendor_id", "model name", "flags", "microcode", "CPU implementer", "CPU part", "Features"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeKey:
    """What a probe depends on."""

    agent_version: str
    jaxlib_version: str
    profile: str
    platform: str
    machine: str
    """`machine_facts` of the machine."""
    probe_version: int = PROBE_VERSION


def machine_facts(
    *, cpuinfo: Path = Path("/proc/cpuinfo"), driver: Path = Path("/proc/driver/nvidia/version")
) -> str:
    """Return a hash over the processor's features and the accelerator's driver: tells when they change."""
    facts = [platform.system(), platform.machine()]
    with contextlib.suppress(OSError):
        first = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
        facts += [line for line in first.splitlines() if line.partition(":")[0].strip() in _CPU_LINES]
    with contextlib.suppress(OSError):
        facts.append(driver.read_text(encoding="utf-8", errors="replace"))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


class ProbeFile:
    """`numeric.json` in the state directory."""

    def __init__(self, path: Path) -> None:
        """Read and write this file."""
        self._path = path

    def read(self) -> tuple[ProbeKey, Probe] | None:
        """Return what was found, and for what; None when there is nothing that can be used."""
        try:
            with self._path.open("rb") as file:
                content = json.loads(file.read(_FILE_BYTES_MAX))
            return ProbeKey(**content["key"]), parse_probe(json.dumps(content["probe"]))
        except (OSError, PoolError, KeyError, RecursionError, TypeError, ValueError):
            return None

    def write(self, key: ProbeKey, probe: Probe) -> None:
        """Keep what was found. A disk that refuses only costs the next run a probe."""
        content = {"key": asdict(key), "probe": json.loads(probe.to_json())}
        with contextlib.suppress(OSError):
            write_durably(self._path, json.dumps(content, indent=1, sort_keys=True).encode("ascii"))

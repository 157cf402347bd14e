"""The processor's energy counters, as Linux shows them (Intel's RAPL, and AMD's under the same name).

Read are all packages, and the memory where it is counted apart (a `dram` zone is not part of its package).
A `psys` zone holds the packages too and is often wrong, so it is not read. Most systems let root alone read
the counters, since they can tell about other programs' secrets; `why_not` then says what to do.
"""

import contextlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from car_agent.core.energy import EnergySource, counter_step_uj

ROOT: Final = Path("/sys/class/powercap")
_PACKAGE: Final = re.compile(r"intel-rapl:\d+")
_PART: Final = re.compile(r"intel-rapl:\d+:\d+")
#: A counter is a decimal number and a line's end.
_BYTES_MAX: Final = 64


@dataclass(slots=True)
class _Zone:
    """One counter and its last reading."""

    descriptor: int
    range_uj: int
    last_uj: int | None = None
    last_ns: int = 0

    def step_uj(self, now_ns: int) -> int | None:
        """Return what it counted since the last reading; None when nobody can know."""
        before_uj, before_ns = self.last_uj, self.last_ns
        self.last_uj, self.last_ns = _read_number(self.descriptor), now_ns
        if before_uj is None or self.last_uj is None:
            return None
        return counter_step_uj(before_uj, self.last_uj, range_uj=self.range_uj, elapsed_ns=now_ns - before_ns)


@dataclass(slots=True)
class RaplCounter:
    """The counters of all packages."""

    source = EnergySource.RAPL
    zones: list[_Zone] = field(default_factory=list)

    def step_uj(self, now_ns: int) -> int | None:
        # Every zone is read, so that none is behind when one of them was unreadable once.
        steps = [zone.step_uj(now_ns) for zone in self.zones]
        known = [step for step in steps if step is not None]
        return sum(known) if len(known) == len(steps) else None

    def close(self) -> None:
        for zone in self.zones:
            with contextlib.suppress(OSError):
                os.close(zone.descriptor)
        self.zones.clear()


@dataclass(frozen=True, slots=True)
class RaplFinding:
    """The counters, or why there are none."""

    counter: RaplCounter | None
    why_not: str = ""


def open_rapl(root: Path = ROOT) -> RaplFinding:
    """Open the counters under `root`. All that are there must be readable: a part of the truth is none."""
    try:
        names = sorted(entry.name for entry in root.iterdir())
    except OSError:
        return RaplFinding(None, f"this machine has no energy counters ({root})")
    wanted = [root / name for name in names if _is_counted(root / name)]
    if not any(_PACKAGE.fullmatch(path.name) for path in wanted):
        return RaplFinding(None, f"this machine's processor has no energy counters ({root})")
    counter = RaplCounter()
    for path in wanted:
        try:
            counter.zones.append(_open_zone(path))
        except PermissionError:
            counter.close()
            return RaplFinding(
                None, f"{path / 'energy_uj'} is readable by root alone; docs/how-to/lend-a-car.md says how"
            )
        except (OSError, ValueError) as error:
            counter.close()
            return RaplFinding(None, f"{path} cannot be read: {error}")
    return RaplFinding(counter)


def _is_counted(path: Path) -> bool:
    try:
        name = (path / "name").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return False
    if _PACKAGE.fullmatch(path.name):
        return name.startswith("package")
    return _PART.fullmatch(path.name) is not None and name == "dram"


def _open_zone(path: Path) -> _Zone:
    """Open a zone.

    Raises:
        OSError: it cannot be opened.
        ValueError: it holds no number.
    """
    range_uj = int((path / "max_energy_range_uj").read_text(encoding="ascii"))
    descriptor = os.open(path / "energy_uj", os.O_RDONLY | os.O_CLOEXEC)
    if _read_number(descriptor) is None:
        os.close(descriptor)
        raise ValueError("energy_uj holds no number")
    return _Zone(descriptor, range_uj)


def _read_number(descriptor: int) -> int | None:
    """Return the number in an open file; None when it holds none, or holds it no more."""
    try:
        text = os.pread(descriptor, _BYTES_MAX, 0)
    except OSError:
        return None
    stripped = text.strip()
    return int(stripped) if stripped.isdigit() else None

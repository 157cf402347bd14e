"""The agent's settings (`agent.toml`) and the owner's policy (`policy.toml`) in the state directory.

Both are optional; a missing file means the defaults. A wrong one is refused with the key named: the daemon
does not start on settings that it misread, and a policy that is set at run time leaves the old one in place.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_type_hints

from car_agent.core.policy import Policy
from car_agent.journal.durable import write_durably
from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError

SOURCES: Final = ("simulated", "file", "sysfs")
ENERGY_SOURCES: Final = ("auto", "declared")
_WALL_FACTOR_MAX: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How this agent runs; everything that is not the owner's policy."""

    source: str = "sysfs"
    """Where signals come from: simulated, file or sysfs."""
    source_file: str = ""
    """The JSON file of the source `file`."""
    source_fresh_for_s: float = 10.0
    """How long a file's content is trusted after it was written."""
    sysfs_root: str = "/sys/class/power_supply"
    worker_command: tuple[str, ...] = ()
    """The worker's command line; empty means our own. Drills put a worker of theirs here."""
    worker_memory_bytes: int = 4 * limits.GIB
    """Address space for programs and their data, beyond what JAX itself reserves."""
    platforms: str = "cpu"
    """What the worker may use: "cpu" or "cuda"."""
    attempt_deadline_s: float = 3_600.0
    """A worker that takes longer for one attempt is killed."""
    idle_unload_s: float = 120.0
    """A worker without work is ended after this time."""
    lease_attempts_max: int = 256
    """At most this many attempts in one lease."""
    reserve_price_micros_per_wu: int = 0
    """The lowest price to work for, micro-units per work unit."""
    energy_source: str = "auto"
    """How energy is found: auto (the machine's counters, else the declared watts), or declared."""
    watts: float = 65.0
    """What the machine draws at the wall for computing: counts where nothing is measured."""
    wall_factor: float = 1.2
    """Energy at the wall per energy at a counter: what charger, converters and the other parts take."""
    count_idle: bool = False
    """Whether work carries what the machine would draw anyway; false where it is on without computing too."""
    rapl_root: str = "/sys/class/powercap"
    """Where the processor's energy counters are."""
    flush_after_s: float = 0.25
    """Results wait at most this long for others of their lease before they are signed and sent."""
    blob_cache_bytes: int = 1 * limits.GIB
    """Disk space for programs and constants."""
    log_level: str = "info"

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.source not in SOURCES:
            raise _refuse("source", f"{self.source!r} is not one of {', '.join(SOURCES)}")
        if self.log_level not in {"debug", "info", "warning", "error"}:
            raise _refuse("log_level", f"{self.log_level!r} is not debug, info, warning or error")
        if not 1 <= self.lease_attempts_max <= limits.LEASE_TASKS_MAX:
            raise _refuse("lease_attempts_max", f"it is 1 to {limits.LEASE_TASKS_MAX}")
        if self.energy_source not in ENERGY_SOURCES:
            raise _refuse(
                "energy_source", f"{self.energy_source!r} is not one of {', '.join(ENERGY_SOURCES)}"
            )
        if not 0 < self.watts <= limits.COMPUTE_WATTS_MAX:
            raise _refuse("watts", f"it is more than 0, and at most {limits.COMPUTE_WATTS_MAX}")
        if not 1 <= self.wall_factor <= _WALL_FACTOR_MAX:
            raise _refuse("wall_factor", f"it is 1 to {_WALL_FACTOR_MAX}")
        for name in ("source_fresh_for_s", "attempt_deadline_s", "idle_unload_s", "worker_memory_bytes"):
            if not getattr(self, name) > 0:
                raise _refuse(name, "it is more than 0")
        for name in ("flush_after_s", "reserve_price_micros_per_wu", "blob_cache_bytes"):
            if not getattr(self, name) >= 0:
                raise _refuse(name, "it is not negative")


def _refuse(key: str, detail: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"{key}: {detail}", context={"field": key})


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one TOML document into a frozen dataclass, strictly."""

    kind: type
    title: str

    def values(self, text: str) -> dict[str, Any]:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{self.title} is not TOML: {error}") from error
        hints = get_type_hints(self.kind)
        known = {item.name for item in fields(self.kind)}
        for key in document:
            if key not in known:
                raise _refuse(key, f"{self.title} has no such key; it has {', '.join(sorted(known))}")
        return {key: _typed(key, value, hints[key]) for key, value in document.items()}


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Return a TOML value as its key's type. Where None is allowed, false switches the limit off."""
    allowed = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if type(None) in allowed and value is False:
        return None
    if float in allowed and type(value) in {int, float}:
        return float(value)
    if bool in allowed and isinstance(value, bool):
        return value
    if int in allowed and type(value) is int:
        return value
    if str in allowed and isinstance(value, str):
        return value
    if tuple[str, ...] in allowed and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise _refuse(key, f"{str(value)[:40]!r} has the wrong type")


def parse_policy(text: str) -> Policy:
    """Read a policy's TOML text. Keys that are left out have their defaults; `false` switches a limit off.

    Raises:
        PoolError: INVALID_ARGUMENT naming the key.
    """
    return Policy(**_Reader(Policy, "the policy").values(text))


def policy_toml(policy: Policy) -> str:
    """Return a policy as TOML text, every key with its value."""
    lines = ["# The owner's limits. A limit that is `false` is switched off."]
    for item in fields(policy):
        value = getattr(policy, item.name)
        lines.append(f"{item.name} = {_toml_value(value)}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if value is None or value is False:
        return "false"
    return "true" if value is True else repr(float(value))


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """The policy on disk."""

    path: Path

    def read(self) -> Policy:
        """Return the policy; the defaults when there is no file.

        Raises:
            PoolError: INVALID_ARGUMENT when the file is there but not right.
        """
        text = _read_text(self.path)
        return Policy() if text is None else parse_policy(text)

    def write(self, policy: Policy) -> None:
        """Keep a policy.

        Raises:
            OSError: when the disk refuses; the old one then still stands.
        """
        write_durably(self.path, policy_toml(policy).encode())


def read_settings(path: Path, overrides: Mapping[str, Any]) -> AgentSettings:
    """Return the settings of a file, with `overrides` (from the command line) on top.

    Raises:
        PoolError: INVALID_ARGUMENT naming the key.
    """
    text = _read_text(path)
    settings = AgentSettings(**(_Reader(AgentSettings, path.name).values(text) if text is not None else {}))
    return replace(settings, **{key: value for key, value in overrides.items() if value is not None})


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"cannot read {path}: {error}") from error

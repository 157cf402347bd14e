"""A process shuts itself in before it touches a stranger's program.

Used by the admission child of the server and by the car's worker, in this order, before JAX is imported
(threads inherit; JAX starts some on import):

1. die with the parent;
2. resource limits;
3. no new privileges, and no capabilities;
4. Landlock: read the interpreter and its libraries, write the scratch folder, nothing else; no TCP; no
   signals to the outside;
5. seccomp: no sockets of any kind, no programs, no processes (`pool_protocol.seccomp`).

What the kernel does not offer is reported, never passed over in silence: the caller decides whether it is
enough. Nothing here needs root or another package. Memory and CPU shares of a whole car are the business of
cgroups, outside.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pool_protocol import seccomp

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_VERSION_FLAG, _LANDLOCK_RULE_PATH = 1, 1
_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITIES_MAX: Final = 64

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIRECTORY = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_ON_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_BASIC_RIGHTS: Final = (1 << 13) - 1

_SYSTEM_PATHS: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/sys/devices/system/cpu")
#: What JAX asks about the machine. The processes of others are none of its business.
_PROC_PATHS: Final = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems")
_DEVICE_PATHS: Final = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

#: The names under which a report lists what it enforced.
LAYERS: Final = ("parent_death", "rlimits", "no_new_privs", "capabilities", "landlock", "seccomp")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPolicy:
    """How tightly a process shuts itself in."""

    read_paths: tuple[Path, ...] = ()
    """Files and folders it may read. Missing ones are skipped."""
    write_paths: tuple[Path, ...] = ()
    """Folders it may write, its scratch space."""
    device_paths: tuple[Path, ...] = ()
    """Devices it may drive (an accelerator's)."""
    address_space_bytes: int | None = None
    """JAX on a CPU reserves 1.7 GiB; give 2 GiB and the data. None: no limit (accelerators map more)."""
    cpu_s: int | None = None
    """A backstop behind the parent's own deadline."""
    open_files_max: int = 256
    file_bytes_max: int | None = None
    """The largest file it may write; None for no limit. With 0, stdout must be a pipe, not a file."""
    parent_pid: int | None = None
    """Who must still be alive; the process ends when the parent is gone already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxReport:
    """What holds and what does not."""

    enforced: tuple[str, ...]
    """Of `LAYERS`, in order."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Layer -> why it could not be enforced."""
    landlock_abi: int = 0
    """The kernel's version of Landlock: 4 and later guard TCP, 6 and later signals. 0 without Landlock."""

    def __post_init__(self) -> None:
        """Keep the reasons as they are."""
        object.__setattr__(self, "missing", MappingProxyType(dict(self.missing)))

    @property
    def is_complete(self) -> bool:
        """True when every layer holds."""
        return not self.missing


def interpreter_paths(*more_packages: str) -> tuple[Path, ...]:
    """Return what Python and JAX read: interpreter, installed packages, system libraries, some of /proc.

    Folders that merely stand on the import path are left out: the working directory is one, and may hold
    keys. Of those only this package is readable, and the packages named.

    Args:
        more_packages: Imported packages whose modules the process still has to load, such as "car_agent".
    """
    prefixes = {Path(entry).resolve() for entry in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    installed = {
        Path(entry).resolve()
        for entry in sys.path
        if Path(entry).name in {"site-packages", "dist-packages", "lib-dynload"}
    }
    ours = {Path(__file__).parent}
    for name in more_packages:
        ours |= {Path(entry) for entry in getattr(sys.modules.get(name), "__path__", ())}
    system = tuple(Path(entry) for entry in (*_SYSTEM_PATHS, *_PROC_PATHS, *_DEVICE_PATHS))
    return (*system, *sorted(prefixes | installed | ours))


def apply_sandbox(policy: SandboxPolicy) -> SandboxReport:
    """Shut this process in, for good. Call it once, on the main thread, before other threads exist.

    Returns:
        What was enforced and what was not, and why.
    """
    if sys.platform != "linux":
        reasons = {layer: f"not on {sys.platform}" for layer in LAYERS if layer != "rlimits"}
        problem = _limit_resources(policy)
        if problem is not None:
            reasons["rlimits"] = problem
        return _report(reasons, landlock_abi=0)
    libc = ctypes.CDLL(None, use_errno=True)
    machine = platform.machine()
    outcomes = {
        "parent_death": _die_with_parent(libc, policy.parent_pid),
        "rlimits": _limit_resources(policy),
        "no_new_privs": _control(libc, _PR_SET_NO_NEW_PRIVS, 1),
    }
    outcomes["capabilities"] = _drop_capabilities(libc, machine)
    landlock_abi = max(0, libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION_FLAG))
    outcomes["landlock"] = _restrict_files(libc, policy, landlock_abi)
    if seccomp.is_supported(machine):
        outcomes["seccomp"] = seccomp.install(machine)
    else:
        outcomes["seccomp"] = f"no filter is known for {machine}"
    reasons = {layer: outcome for layer, outcome in outcomes.items() if outcome is not None}
    return _report(reasons, landlock_abi=landlock_abi)


def _report(reasons: Mapping[str, str], *, landlock_abi: int) -> SandboxReport:
    enforced = tuple(layer for layer in LAYERS if layer not in reasons)
    return SandboxReport(enforced=enforced, missing=reasons, landlock_abi=landlock_abi)


def _control(libc: ctypes.CDLL, option: int, value: int) -> str | None:
    """Call prctl; return None or the error's name."""
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) == 0:
        return None
    return _error_name()


def _error_name() -> str:
    return errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno()))


def _die_with_parent(libc: ctypes.CDLL, parent_pid: int | None) -> str | None:
    problem = _control(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid is not None and os.getppid() != parent_pid:
        # It died between starting us and this line; nobody will kill us now.
        os._exit(1)
    return problem


def _limit_resources(policy: SandboxPolicy) -> str | None:
    wanted: list[tuple[int, int]] = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, policy.open_files_max),
    ]
    if policy.address_space_bytes is not None:
        wanted.append((resource.RLIMIT_AS, policy.address_space_bytes))
    if policy.cpu_s is not None:
        wanted.append((resource.RLIMIT_CPU, policy.cpu_s))
    if policy.file_bytes_max is not None:
        wanted.append((resource.RLIMIT_FSIZE, policy.file_bytes_max))
    problems: list[str] = []
    for limit, value in wanted:
        _, hard = resource.getrlimit(limit)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(limit, (allowed, allowed))
        except (OSError, ValueError) as error:
            problems.append(f"limit {limit}: {error}")
    return "; ".join(problems) or None


def _drop_capabilities(libc: ctypes.CDLL, machine: str) -> str | None:
    """Give up what root may do. Without capabilities already, this is what it finds."""
    for capability in range(_CAPABILITIES_MAX):
        _control(libc, _PR_CAPBSET_DROP, capability)  # refused without privileges: not needed
    if machine not in _CAPSET:
        return f"not known for {machine}"
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    nothing = ctypes.create_string_buffer(24)
    return None if libc.syscall(_CAPSET[machine], header, nothing) == 0 else _error_name()


def _restrict_files(libc: ctypes.CDLL, policy: SandboxPolicy, abi: int) -> str | None:
    if abi < 1:
        return "the kernel has no Landlock, or it is switched off"
    rights = _BASIC_RIGHTS
    rights |= _REFER if abi >= 2 else 0
    rights |= _TRUNCATE if abi >= 3 else 0
    rights |= _IOCTL_DEVICE if abi >= 5 else 0
    attributes = struct.pack("=Q", rights)
    if abi >= 4:
        attributes += struct.pack("=Q", 0b11)  # bind and connect of TCP
    if abi >= 6:
        attributes += struct.pack("=Q", 0b11)  # abstract sockets and signals to the outside
    ruleset = libc.syscall(_LANDLOCK_CREATE, ctypes.create_string_buffer(attributes), len(attributes), 0)
    if ruleset < 0:
        return f"ruleset: {_error_name()}"
    try:
        read = _READ_FILE | _READ_DIRECTORY
        problem = (
            _allow(libc, ruleset, policy.read_paths, read & rights)
            or _allow(libc, ruleset, policy.write_paths, rights & ~_EXECUTE & ~_IOCTL_DEVICE)
            or _allow(libc, ruleset, policy.device_paths, (_READ_FILE | _WRITE_FILE | _IOCTL_DEVICE) & rights)
        )
        if problem is None and libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) != 0:
            problem = f"restrict: {_error_name()}"
        return problem
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, paths: Iterable[Path], rights: int) -> str | None:
    for path in paths:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # what is not there needs no permission
        try:
            granted = rights if path.is_dir() else rights & _ON_FILES
            rule = ctypes.create_string_buffer(struct.pack("=Qi", granted, descriptor))
            if libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH, rule, 0) != 0:
                return f"{path}: {_error_name()}"
        finally:
            os.close(descriptor)
    return None

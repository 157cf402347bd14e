"""A system-call filter, assembled by hand so that no library needs to be installed.

It is a deny list over what JAX needs: no sockets, no new programs or processes, no way to reach other
processes or to change the system, and none of the interfaces that run calls on one's behalf (io_uring).
Denied calls fail with EPERM; `clone3`, whose flags a filter cannot read, fails with ENOSYS, so that the C
library falls back to `clone`, of which only threads are let through.

This module only knows numbers and bytes; `pool_protocol.sandbox` decides when the filter applies.
"""

import ctypes
import errno
import struct
from typing import Final

_LOAD_WORD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_CLONE_THREAD: Final = 0x00010000
_X32_BIT: Final = 0x40000000

#: The audit number of an architecture, as the kernel shows it to the filter.
_AUDIT: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_CLONE3: Final = 435

#: Denied calls: (x86_64, aarch64); None where the architecture does not have the call.
DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    # network
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    # new programs and processes
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    # other processes
    "kill": (62, 129), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440), "process_mrelease": (448, 448),
    # calls made on one's behalf, and kernel attack surface
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    # namespaces and file systems
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsmount": (432, 432), "mount_setattr": (442, 442), "quotactl": (179, 60),
    # the system
    "reboot": (169, 142), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "swapon": (167, 224), "swapoff": (168, 225),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "acct": (163, 89), "syslog": (103, 116),
    "iopl": (172, None), "ioperm": (173, None), "personality": (135, 92),
    # who we are
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159), "capset": (126, 91),
    # System V and POSIX queues: a way to talk to other processes
    "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "mq_open": (240, 180),
}  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def is_supported(machine: str) -> bool:
    """Say whether the filter is known for `platform.machine()`."""
    return machine in _AUDIT


def assemble(machine: str) -> bytes:
    """Return the filter's instructions for an architecture."""
    column = 0 if machine == "x86_64" else 1
    code = [
        _instruction(_LOAD_WORD, _OFFSET_ARCHITECTURE),
        _instruction(_JUMP_EQUAL, _AUDIT[machine], if_true=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD_WORD, _OFFSET_NUMBER),
    ]
    if machine == "x86_64":
        # The x32 numbering reaches the same calls under other numbers.
        code += _when(_JUMP_GREATER_EQUAL, _X32_BIT, _ERRNO | errno.EPERM)
    for numbers in DENIED.values():
        number = numbers[column]
        if number is not None:
            code += _when(_JUMP_EQUAL, number, _ERRNO | errno.EPERM)
    code += _when(_JUMP_EQUAL, _CLONE3, _ERRNO | errno.ENOSYS)
    code += [
        _instruction(_JUMP_EQUAL, _CLONE[machine], if_true=1),
        _instruction(_RETURN, _ALLOW),
        _instruction(_LOAD_WORD, _OFFSET_FIRST_ARGUMENT),
        _instruction(_JUMP_SET, _CLONE_THREAD, if_true=1),
        _instruction(_RETURN, _ERRNO | errno.EPERM),
        _instruction(_RETURN, _ALLOW),
    ]
    return b"".join(code)


def install(machine: str) -> str | None:
    """Put the filter on all threads of this process, for good. Needs no_new_privs.

    Returns:
        None, or why it could not be done.
    """
    code = assemble(machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    set_mode_filter, all_threads = 1, 1
    result = libc.syscall(_SECCOMP[machine], set_mode_filter, all_threads, ctypes.byref(program))
    if result != 0:
        return f"seccomp: {errno.errorcode.get(ctypes.get_errno(), 'a thread refused')}"
    return None


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _when(jump: int, value: int, verdict: int) -> list[bytes]:
    return [_instruction(jump, value, if_false=1), _instruction(_RETURN, verdict)]

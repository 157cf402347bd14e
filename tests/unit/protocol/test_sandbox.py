"""The sandbox, for real: a child shuts itself in and then tries everything it must not do."""

import json
import os
import platform
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pool_protocol import seccomp
from pool_protocol.sandbox import LAYERS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made of Linux")

_ATTEMPTS = """
import ctypes, json, os, pathlib, resource, signal, socket, subprocess, sys, threading
from pool_protocol.sandbox import SandboxPolicy, apply_sandbox, interpreter_paths

scratch, secret = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
(scratch / "before").write_text("x")
report = apply_sandbox(SandboxPolicy(
    read_paths=interpreter_paths(), write_paths=(scratch,), address_space_bytes=3 << 30, cpu_s=60,
    open_files_max=64, file_bytes_max=1 << 20, parent_pid=os.getppid(),
))
outcomes = {}
def attempt(name, action):
    try:
        action()
        outcomes[name] = "succeeded"
    except (OSError, ValueError) as error:
        outcomes[name] = type(error).__name__

def raw_call(number, first):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(number, first, 0, 0, 0, 0)
    if number in (56, 220) and result == 0:
        os._exit(0)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")

attempt("tcp", lambda: socket.create_connection(("127.0.0.1", 9)))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt("unix socket", lambda: socket.socket(socket.AF_UNIX))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("subprocess", lambda: subprocess.run(["/bin/true"]))
attempt("fork", lambda: os._exit(0) if os.fork() == 0 else None)
attempt("raw clone", lambda: raw_call(56 if os.uname().machine == "x86_64" else 220, signal.SIGCHLD))
attempt("read secret", lambda: secret.read_text())
attempt("list secret", lambda: list(secret.parent.iterdir()))
attempt("read passwd", lambda: pathlib.Path("/etc/passwd").read_text())
attempt("parent's environment", lambda: pathlib.Path(f"/proc/{os.getppid()}/environ").read_bytes())
attempt("parent's memory", lambda: open(f"/proc/{os.getppid()}/mem", "rb").read(1))
attempt("other processes", lambda: pathlib.Path("/proc/1/cmdline").read_bytes())
attempt("working directory", lambda: [p.read_text() for p in pathlib.Path.cwd().iterdir() if p.is_file()])
attempt("write outside", lambda: (secret.parent / "out").write_text("x"))
(scratch / "link").symlink_to(secret)
attempt("write by a link", lambda: (scratch / "link").write_text("x"))
attempt("write /usr", lambda: pathlib.Path("/usr/evil").write_text("x"))
attempt("signal the parent", lambda: os.kill(os.getppid(), 0))
attempt("unshare", lambda: raw_call(272 if os.uname().machine == "x86_64" else 97, 0x10000000))
attempt("raise a limit", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)))
attempt("become another", lambda: os.setuid(12345))

attempt("write scratch", lambda: (scratch / "after").write_text("y"))
attempt("read scratch", lambda: (scratch / "after").read_text())
def work():
    outcomes["thread"] = "succeeded"
thread = threading.Thread(target=work); thread.start(); thread.join()
if "jax" in sys.argv[3:]:
    import jax, jax.numpy as jnp
    outcomes["jax"] = float(jax.jit(lambda x: jnp.linalg.svd(x, compute_uv=False).sum())(jnp.eye(40)))
print(json.dumps({"enforced": report.enforced, "missing": dict(report.missing), "outcomes": outcomes}))
"""

_MUST_WORK = {"write scratch", "read scratch", "thread"}


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    scratch, elsewhere = tmp_path_factory.mktemp("scratch"), tmp_path_factory.mktemp("elsewhere")
    secret = elsewhere / "secret"
    secret.write_text("the server's key")
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "JAX_PLATFORMS": "cpu",
        "SECRET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", _ATTEMPTS, str(scratch), str(secret), "jax"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert secret.read_text() == "the server's key"
    assert {path.name for path in elsewhere.iterdir()} == {"secret"}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_every_attempt_to_get_out_fails(confined: dict[str, Any]) -> None:
    if confined["missing"]:
        pytest.skip(f"this kernel cannot enforce everything: {confined['missing']}")
    outcomes = {
        name: outcome for name, outcome in confined["outcomes"].items() if name not in _MUST_WORK | {"jax"}
    }
    escaped = {name: outcome for name, outcome in outcomes.items() if outcome == "succeeded"}
    assert escaped == {}
    assert len(outcomes) == 22


def test_what_a_program_needs_still_works(confined: dict[str, Any]) -> None:
    assert {name: confined["outcomes"][name] for name in _MUST_WORK} == dict.fromkeys(_MUST_WORK, "succeeded")
    assert confined["outcomes"]["jax"] == 40.0


def test_the_report_accounts_for_every_layer(confined: dict[str, Any]) -> None:
    assert sorted([*confined["enforced"], *confined["missing"]]) == sorted(LAYERS)


def test_a_child_whose_parent_is_gone_ends_at_once() -> None:
    script = (
        "from pool_protocol.sandbox import SandboxPolicy, apply_sandbox;"
        "apply_sandbox(SandboxPolicy(parent_pid=999999999)); print('alive')"
    )
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_denies_what_it_names_on_each_architecture(machine: str) -> None:
    """Run the filter's instructions here, over every call number, as the kernel would."""
    code = seccomp.assemble(machine)
    column = 0 if machine == "x86_64" else 1
    denied = {numbers[column] for numbers in seccomp.DENIED.values()} - {None}
    clone = 56 if machine == "x86_64" else 220
    audit = 0xC000003E if machine == "x86_64" else 0xC00000B7
    for number in range(500):
        verdict = _run_filter(code, number=number, architecture=audit, argument=0x10000)
        expected = 0x50001 if number in denied else 0x50000 + 38 if number == 435 else 0x7FFF0000
        assert verdict == expected, number
    assert _run_filter(code, number=clone, architecture=audit, argument=17) == 0x50001
    assert _run_filter(code, number=0, architecture=audit ^ 1, argument=0) == 0x80000000
    if machine == "x86_64":
        assert _run_filter(code, number=0x40000000, architecture=audit, argument=0) == 0x50001
    assert seccomp.is_supported(machine)
    assert not seccomp.is_supported("riscv64")


def _run_filter(code: bytes, *, number: int, architecture: int, argument: int) -> int:
    words = {0: number, 4: architecture, 16: argument}
    accumulator, position = 0, 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("=HBBI", code, position * 8)
        position += 1
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            accumulator = words[value]
            continue
        holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[
            operation
        ]
        position += if_true if holds else if_false


def test_this_machine_is_covered_or_says_so() -> None:
    assert Path("/proc/self").exists()
    assert seccomp.is_supported(platform.machine()) == (platform.machine() in {"x86_64", "aarch64"})

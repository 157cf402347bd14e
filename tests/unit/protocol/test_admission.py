"""Admission: the child judges; the parent survives whatever the child does, and believes little of it."""

import base64
import dataclasses
import json
import os
import random
import struct
import subprocess
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import PROGRAM_LIMITS, ProgramLimits
from pool_protocol.program.admission import AdmittedProgram, vet_in_child
from pool_protocol.program.export import ExportedProgram, export_map
from pool_protocol.program.manifest import ProgramDraft, parse_manifest
from tests.support import hostile_programs as hostile

PROGRAM = export_map(lambda x: jnp.tanh(x) * 2, np.ones(4, np.float32))


def refusal(artifact: bytes, draft: ProgramDraft, **options: Any) -> PoolError:
    with pytest.raises(PoolError) as raised:
        vet_in_child(artifact, draft, **options)
    return raised.value


def test_an_honest_program_is_admitted_with_its_figures() -> None:
    admitted = vet_in_child(PROGRAM.artifact, PROGRAM.draft)
    assert admitted.artifact == PROGRAM.artifact
    assert not admitted.is_rewritten
    assert admitted.manifest.draft == PROGRAM.draft
    assert str(admitted.manifest.program_id) == str(sha256_hex(PROGRAM.artifact))
    cost = admitted.manifest.cost
    assert (cost.flops, cost.bytes_moved, cost.work_uwu) == (4 * 17, 32, 1)
    assert cost.peak_bytes == 32 + cost.temporary_bytes
    assert cost.operations["stablehlo.tanh"] == 1
    assert parse_manifest(admitted.manifest.to_json()) == admitted.manifest


def test_a_program_with_locations_is_admitted_in_canonical_form() -> None:
    artifact, draft = hostile.forge(
        hostile.main_of('%0 = stablehlo.sine %a : tensor<4xf32> loc("/home/me/secret.py":1:2)')
    )
    admitted = vet_in_child(artifact, draft)
    assert admitted.is_rewritten
    assert b"secret.py" in artifact
    assert b"secret.py" not in admitted.artifact
    assert admitted.manifest.draft.artifact_sha256 == sha256_hex(admitted.artifact)


def test_attack_a_forged_host_callback_is_refused_by_the_child() -> None:
    error = refusal(*hostile.forge(hostile.CALLBACK))
    assert (error.code, error.context["target"]) == (
        ErrorCode.PROGRAM_CALLBACK,
        "xla_ffi_python_cpu_callback",
    )


def test_the_cheap_checks_start_no_child() -> None:
    nobody = ("/nonexistent",)
    assert refusal(b"other", PROGRAM.draft, command=nobody).code is ErrorCode.PROGRAM_DIGEST_MISMATCH
    small = dataclasses.replace(PROGRAM_LIMITS, artifact_bytes_max=10)
    assert refusal(PROGRAM.artifact, PROGRAM.draft, limits=small).code is ErrorCode.PROGRAM_TOO_LARGE
    assert refusal(PROGRAM.artifact, PROGRAM.draft, command=nobody).code is ErrorCode.ADMISSION_FAILED


def _frame(kind: str, body: bytes) -> bytes:
    return struct.pack("<cQ", kind.encode(), len(body)) + body


def _child(*, writes: bytes = b"", then: str = "pass") -> tuple[str, ...]:
    """Return a command line for a child that reads nothing, writes these bytes and then does this."""
    script = (
        "import os, signal, sys; import base64;"
        f"sys.stdout.buffer.write(base64.b64decode({base64.b64encode(writes).decode()!r}));"
        f"sys.stdout.buffer.flush(); {then}"
    )
    return (sys.executable, "-c", script)


VET, COMPILE = _frame("S", b"vet"), _frame("S", b"compile")


@pytest.mark.parametrize(
    ("writes", "then", "code"),
    [
        (b"", "os.kill(os.getpid(), signal.SIGSEGV)", ErrorCode.ADMISSION_FAILED),
        (VET, "os.kill(os.getpid(), signal.SIGSEGV)", ErrorCode.PROGRAM_UNPARSABLE),
        (VET, "os.abort()", ErrorCode.PROGRAM_UNPARSABLE),
        (VET + COMPILE, "os.abort()", ErrorCode.PROGRAM_COMPILE_LIMIT),
        (VET + COMPILE, "raise MemoryError", ErrorCode.PROGRAM_COMPILE_LIMIT),
        (VET, "os.kill(os.getpid(), signal.SIGKILL)", ErrorCode.ADMISSION_FAILED),
        (VET, "raise SystemExit(3)", ErrorCode.ADMISSION_FAILED),
        (b"noise on the pipe", "pass", ErrorCode.ADMISSION_FAILED),
        (_frame("V", b"not json"), "pass", ErrorCode.ADMISSION_FAILED),
        (_frame("V", b"[]"), "pass", ErrorCode.ADMISSION_FAILED),
        (_frame("V", b"{}"), "pass", ErrorCode.ADMISSION_FAILED),
        (_frame("V", b'{"ok": true}'), "pass", ErrorCode.ADMISSION_FAILED),
        (
            _frame("V", b'{"ok": false, "code": "FOUR_EYES", "detail": "", "context": {}}'),
            "pass",
            ErrorCode.ADMISSION_FAILED,
        ),
        (
            _frame("V", b'{"ok": false, "code": ["x"], "detail": "", "context": {}}'),
            "pass",
            ErrorCode.ADMISSION_FAILED,
        ),
        (
            _frame("V", b'{"ok": false, "code": "PROGRAM_EFFECTS", "detail": "d", "context": {}}'),
            "pass",
            ErrorCode.PROGRAM_EFFECTS,
        ),
        (VET[:-1], "pass", ErrorCode.ADMISSION_FAILED),
    ],
)
def test_whatever_the_child_does_the_parent_has_a_typed_error(
    writes: bytes, then: str, code: ErrorCode
) -> None:
    error = refusal(PROGRAM.artifact, PROGRAM.draft, command=_child(writes=writes, then=then))
    assert error.code is code, error


def test_attack_a_child_that_was_taken_over_vouches_for_another_program() -> None:
    honest = vet_in_child(PROGRAM.artifact, PROGRAM.draft)

    def answer(artifact: bytes, manifest: bytes) -> ErrorCode:
        verdict = {
            "ok": True,
            "artifact": base64.b64encode(artifact).decode(),
            "manifest": manifest.decode(),
            "sandbox_missing": {},
        }
        command = _child(writes=_frame("V", json.dumps(verdict).encode()))
        return refusal(PROGRAM.artifact, PROGRAM.draft, command=command).code

    manifest = honest.manifest.to_json()
    assert answer(b"another artifact", manifest) is ErrorCode.ADMISSION_FAILED
    other = export_map(lambda x: x, np.ones(9, np.float32))
    assert answer(other.artifact, _manifest_like(honest, other)) is ErrorCode.ADMISSION_FAILED
    free = manifest.replace(b'"work_uwu":1', b'"work_uwu":0')
    assert answer(PROGRAM.artifact, free) is ErrorCode.PROGRAM_MANIFEST_INVALID


def _manifest_like(admitted: AdmittedProgram, other: ExportedProgram) -> bytes:
    return dataclasses.replace(admitted.manifest, draft=other.draft).to_json()


class _HurriedClock:
    """A clock on which the whole time allowed passes between two looks."""

    def __init__(self, limits: ProgramLimits) -> None:
        self._step_ns = (limits.compile_wall_s + 1) * 1_000_000_000
        self._now_ns = 0

    def now_us(self) -> int:
        return 0

    def monotonic_ns(self) -> int:
        self._now_ns += self._step_ns
        return self._now_ns


def test_a_child_that_hangs_is_killed_at_the_deadline() -> None:
    error = refusal(
        PROGRAM.artifact,
        PROGRAM.draft,
        command=_child(then="signal.pause()"),
        clock=_HurriedClock(PROGRAM_LIMITS),
    )
    assert error.code is ErrorCode.PROGRAM_COMPILE_LIMIT
    assert error.context["limit_s"] == str(PROGRAM_LIMITS.compile_wall_s)


def test_a_child_that_talks_without_end_is_cut_off() -> None:
    flood = "[sys.stdout.buffer.write(bytes(65536)) for _ in iter(int, 1)]"
    limits = dataclasses.replace(PROGRAM_LIMITS, verdict_bytes_max=1_000_000)
    error = refusal(PROGRAM.artifact, PROGRAM.draft, command=_child(then=flood), limits=limits)
    assert error.code is ErrorCode.PROGRAM_COMPILE_LIMIT


def test_a_chatty_library_does_not_garble_the_answer_nor_fill_memory() -> None:
    noise = "[sys.stderr.write('x' * 65536) for _ in range(64)]"
    error = refusal(PROGRAM.artifact, PROGRAM.draft, command=_child(writes=VET, then=noise + "; os.abort()"))
    assert error.code is ErrorCode.PROGRAM_UNPARSABLE
    assert len(error.detail) < 1000


def test_the_child_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARGEPOOL_TOKEN", "secret")
    tell = "sys.stderr.write(repr(dict(os.environ))); raise SystemExit(3)"
    error = refusal(PROGRAM.artifact, PROGRAM.draft, command=_child(writes=VET, then=tell))
    assert "PYTHONPATH" in error.detail
    assert "secret" not in error.detail


def test_the_parent_needs_no_jax() -> None:
    script = (
        "import sys, pool_protocol.program.admission, pool_protocol.program.manifest;"
        "print([m for m in ('jax', 'jaxlib', 'numpy', 'grpc') if m in sys.modules])"
    )
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


_FUZZ = """
import base64, dataclasses, json, os, sys
from pool_protocol.sandbox import SandboxPolicy, apply_sandbox, interpreter_paths
apply_sandbox(SandboxPolicy(read_paths=interpreter_paths(), address_space_bytes=6 << 30, cpu_s=100))
from pool_protocol.digests import sha256_hex
from pool_protocol.errors import PoolError
from pool_protocol.program.manifest import parse_draft
from pool_protocol.program.vetting import vet_program
for line in sys.stdin:
    index, draft, artifact = json.loads(line)
    artifact = base64.b64decode(artifact)
    named = dataclasses.replace(parse_draft(draft.encode()), artifact_sha256=sha256_hex(artifact))
    print(index, "begins", flush=True)
    try:
        vet_program(artifact, named)
        print(index, "accepted", flush=True)
    except PoolError as error:
        print(index, error.code.value, flush=True)
"""


def _mutants(count: int) -> list[bytes]:
    chance = random.Random(20)
    mutants: list[bytes] = []
    for _ in range(count):
        content = bytearray(PROGRAM.artifact)
        match chance.randrange(3):
            case 0:
                for _ in range(chance.randrange(1, 4)):
                    content[chance.randrange(len(content))] = chance.randrange(256)
            case 1:
                start = chance.randrange(len(content))
                del content[start : start + chance.randrange(1, 40)]
            case _:
                start = chance.randrange(len(content))
                content[start:start] = chance.randbytes(chance.randrange(1, 40))
        mutants.append(bytes(content))
    return mutants


def test_fuzz_damaged_artifacts_are_refused_by_code_or_kill_only_the_child() -> None:
    mutants = _mutants(60)
    draft = PROGRAM.draft.to_json().decode()
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JAX_PLATFORMS": "cpu"}
    verdicts: dict[int, str] = {}
    position, children = 0, 0
    while position < len(mutants):
        children += 1
        lines = [
            json.dumps([index, draft, base64.b64encode(mutants[index]).decode()])
            for index in range(position, len(mutants))
        ]
        done = subprocess.run(
            [sys.executable, "-c", _FUZZ],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            env=environment,
            timeout=100,
            check=False,
        )
        for said in done.stdout.splitlines():
            index, verdict = said.split()
            verdicts[int(index)] = verdict
        if done.returncode > 0:
            pytest.fail(f"mutant {max(verdicts, default=0)} raised something untyped: {done.stderr[-2000:]}")
        position = max(verdicts, default=position) + 1
        assert children < 10, "most mutants crash the parser"
    assert sorted(verdicts) == list(range(len(mutants)))
    refused = [verdict for verdict in verdicts.values() if verdict.startswith("PROGRAM_")]
    assert len(refused) >= len(mutants) // 3
    assert set(verdicts.values()) <= {code.value for code in ErrorCode} | {"accepted", "begins"}

"""Runs programs inside the worker: keeps them compiled, keeps constants placed, walks step programs by units.

It imports JAX, so only the worker may import it, after its sandbox stands. What a program returns is not
judged here; the supervisor does that (`car_agent.runner.judge`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax
import jaxlib.version

from car_agent.runner.frames import FailureKind
from car_agent.runner.warm_set import WarmSet
from pool_protocol import digests, tensors
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.load import LoadedProgram
from pool_protocol.program.manifest import ProgramKind, parse_manifest

#: In a step task's bundle these names are the initial state; the others are its inputs.
STATE_PREFIX: Final = "state/"
_PROGRESS_EVERY_NS: Final = 100_000_000
_INPUT_CODES: Final = frozenset(
    {
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.TENSORS_MALFORMED,
        ErrorCode.TENSORS_PICKLE,
        ErrorCode.TENSORS_TOO_LARGE,
        ErrorCode.TENSORS_DTYPE_UNSUPPORTED,
    }
)
_HERE_CODES: Final = frozenset(
    {
        ErrorCode.PROGRAM_PLATFORM_UNSUPPORTED,
        ErrorCode.PROGRAM_VERSION_UNSUPPORTED,
        ErrorCode.PROGRAM_COMPILE_LIMIT,
    }
)


class ExecutionError(Exception):
    """An attempt that has no outputs, and whose fault that is."""

    def __init__(self, kind: FailureKind, detail: str) -> None:
        """Say what happened."""
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """What an attempt returned."""

    outputs: bytes
    """safetensors."""
    run_time_us: int
    unit_digests: tuple[bytes, ...]
    """Digest of the state after each unit; empty for map programs."""


#: Takes the units done, the units in all, and the digests of those that it was not told of before.
Progress = Callable[[int, int, Sequence[bytes]], None]


class Executor:
    """Compiled programs and constants of one worker."""

    def __init__(self) -> None:
        """Bring up JAX's backend, so that the first program does not pay for it."""
        jax.devices()
        self._programs: dict[str, LoadedProgram | ExecutionError] = {}
        self._programs_warm = WarmSet.for_programs()
        self._constants: dict[str, dict[str, Any]] = {}
        self._placed: dict[tuple[str, bool], dict[str, Any]] = {}
        self._constants_warm = WarmSet.for_constants()

    def versions(self) -> dict[str, Any]:
        """Return what runs here, for the ready frame."""
        return {
            "jax": jax.__version__,
            "jaxlib": jaxlib.version.__version__,
            "platforms": [jax.default_backend()],
        }

    def load(self, program_sha256: str, manifest_json: bytes, artifact: bytes) -> int | None:
        """Compile a program; return the milliseconds it took, or None when it cannot be loaded.

        The failure is remembered and raised by each `run` of the program until it is loaded again.
        """
        for evicted in self._programs_warm.add(program_sha256):
            self._programs.pop(evicted, None)
        started_ns = time.perf_counter_ns()
        try:
            digests.verify_sha256_hex(artifact, program_sha256)
            draft = parse_manifest(manifest_json).draft
            self._programs[program_sha256] = LoadedProgram(artifact, draft)
        except (PoolError, MemoryError) as error:
            self._programs[program_sha256] = _as_execution_error(error)
            return None
        return (time.perf_counter_ns() - started_ns) // 1_000_000

    def keep_constants(self, key: str, encoded: bytes) -> None:
        """Keep a job's constants under a key."""
        for evicted in self._constants_warm.add(key, len(encoded)):
            self._forget_constants(evicted)
        self._forget_constants(key)
        try:
            self._constants[key] = tensors.decode(encoded)
        except PoolError:
            self._constants_warm.discard(key)  # each run that needs them says so

    def _forget_constants(self, key: str) -> None:
        self._constants.pop(key, None)
        for x64 in (False, True):
            self._placed.pop((key, x64), None)

    def run(
        self,
        program_sha256: str,
        *,
        constants_key: str | None,
        inputs: bytes,
        steps: int,
        unit_steps: int,
        progress: Progress,
        start: bytes = b"",
        first_unit: int = 0,
    ) -> ExecutionResult:
        """Make one attempt, or what is left of it after `first_unit` units that ended in the state `start`.

        Raises:
            ExecutionError: when there are no outputs.
        """
        program = self._program(program_sha256)
        try:
            constants = self._constants_for(program, constants_key)
            arrays = tensors.decode(inputs)
            started_ns = time.perf_counter_ns()
            unit_digests: tuple[bytes, ...] = ()
            if program.draft.kind is ProgramKind.MAP:
                outputs: dict[str, Any] = program.run_map(arrays, constants)
            else:
                walk = _StepWalk(program, program_sha256, constants, progress)
                state = tensors.decode(start) if start else _initial_state(arrays)
                outputs, unit_digests = walk.run(
                    arrays, state, steps=steps, unit_steps=unit_steps, first_unit=first_unit
                )
            run_time_us = (time.perf_counter_ns() - started_ns) // 1_000
            encoded = tensors.encode(outputs)
        except (PoolError, MemoryError) as error:
            raise _as_execution_error(error) from error
        return ExecutionResult(outputs=encoded, run_time_us=run_time_us, unit_digests=unit_digests)

    def _program(self, program_sha256: str) -> LoadedProgram:
        program = self._programs.get(program_sha256)
        if program is None:
            raise ExecutionError(FailureKind.WORKER, "the program was not loaded")
        self._programs_warm.touch(program_sha256)
        if isinstance(program, ExecutionError):
            raise ExecutionError(program.kind, program.detail)
        return program

    def _constants_for(self, program: LoadedProgram, key: str | None) -> dict[str, Any]:
        if key is None:
            return {}
        constants = self._constants.get(key)
        if constants is None:
            raise ExecutionError(FailureKind.INPUT, "the constants are missing or cannot be read")
        self._constants_warm.touch(key)
        place = (key, program.draft.x64)
        if place not in self._placed:
            self._placed[place] = program.place(constants)
        return self._placed[place]


class _StepWalk:
    """One attempt of a step program: unit by unit, with a digest after each."""

    def __init__(
        self, program: LoadedProgram, program_sha256: str, constants: dict[str, Any], progress: Progress
    ) -> None:
        self._program = program
        self._program_sha256 = program_sha256
        self._constants = constants
        self._progress = progress

    def run(
        self,
        arrays: dict[str, Any],
        state: dict[str, Any],
        *,
        steps: int,
        unit_steps: int,
        first_unit: int,
    ) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        """Return the final state and the digests of the units."""
        if steps < 1 or unit_steps < 1:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{steps} steps in units of {unit_steps}")
        inputs = {name: array for name, array in arrays.items() if not name.startswith(STATE_PREFIX)}
        units_total = -(-steps // unit_steps)
        unit_digests: list[bytes] = []
        told, told_ns = 0, time.perf_counter_ns()
        for unit in range(units_total):
            count = min(unit_steps, steps - unit * unit_steps)
            state = self._program.run_steps(count, state, inputs, self._constants)
            unit_digests.append(self._digest(state, first_unit + unit))
            now_ns = time.perf_counter_ns()
            if now_ns - told_ns >= _PROGRESS_EVERY_NS:
                self._progress(unit + 1, units_total, unit_digests[told:])
                told, told_ns = unit + 1, now_ns
        return state, tuple(unit_digests)

    def _digest(self, state: dict[str, Any], unit: int) -> bytes:
        """Return the digest of the state after a unit, counted from 0.

        A lease does not tell job or task, so that audits stay blind; the signed bundle binds the digests to
        the attempt, which the pool knows the task of. Two vehicles then agree on the digests of one task.
        """
        return digests.state_digest(
            state, job_id="", program_sha256=self._program_sha256, task_index=0, unit_index=unit
        )


def _initial_state(arrays: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(STATE_PREFIX): array
        for name, array in arrays.items()
        if name.startswith(STATE_PREFIX)
    }


def _as_execution_error(error: PoolError | MemoryError) -> ExecutionError:
    if isinstance(error, MemoryError):
        return ExecutionError(FailureKind.MEMORY, "out of memory")
    if "RESOURCE_EXHAUSTED" in error.detail:
        return ExecutionError(FailureKind.MEMORY, error.detail)
    if error.code in _INPUT_CODES:
        return ExecutionError(FailureKind.INPUT, error.detail)
    if error.code in _HERE_CODES:
        return ExecutionError(FailureKind.WORKER, f"{error.code.value}: {error.detail}")
    return ExecutionError(FailureKind.PROGRAM, f"{error.code.value}: {error.detail}")

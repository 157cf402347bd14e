"""An admitted artifact, compiled here and called with named arrays.

Loading runs a native parser and a compiler over the program, and calling runs it: do this only in a process
that is sandboxed, or with a program of one's own (`.local()`). This module imports JAX.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.artifact import array_type, open_artifact
from pool_protocol.program.manifest import (
    GROUP_ORDER,
    STEP_COUNT_NAME,
    Group,
    ProgramDraft,
    ProgramKind,
    check_tensors,
)

#: Arrays by name: NumPy arrays, or what `LoadedProgram.place` returned.
NamedArrays = Mapping[str, Any]
_NOTHING: NamedArrays = {}


class LoadedProgram:
    """A compiled program. Calls are thread-safe as far as JAX's are; results are NumPy arrays by name."""

    def __init__(self, artifact: bytes, draft: ProgramDraft) -> None:
        """Open and compile. Takes from tens of milliseconds to the compile limit.

        Raises:
            PoolError: what `open_artifact` raises; PROGRAM_PLATFORM_UNSUPPORTED when it is not made for the
                accelerator here; PROGRAM_COMPILE_LIMIT when the compiler gives up.
        """
        self.draft = draft
        exported = open_artifact(artifact, draft)
        platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
        if platform not in draft.platforms:
            raise PoolError(
                ErrorCode.PROGRAM_PLATFORM_UNSUPPORTED, f"made for {draft.platforms}, this is {platform}"
            )
        with jax.enable_x64(draft.x64):
            try:
                lowered = jax.jit(exported.call).lower(
                    *(array_type(aval.shape, aval.dtype) for aval in exported.in_avals)
                )
                self._compiled = lowered.compile()
            except (jax.errors.JaxRuntimeError, RuntimeError, ValueError) as error:
                raise PoolError(
                    ErrorCode.PROGRAM_COMPILE_LIMIT, f"it cannot be compiled here: {error}"[:500]
                ) from error

    @property
    def temporary_bytes(self) -> int:
        """Memory that one call takes besides arguments and results, as the compiler plans it."""
        planned: Any = self._compiled.memory_analysis()
        return int(planned.temp_size_in_bytes)

    def place(self, arrays: NamedArrays) -> dict[str, Any]:
        """Copy arrays to the device once, to be passed to many calls: a job's constants."""
        with jax.enable_x64(self.draft.x64):
            return {name: jax.device_put(array) for name, array in arrays.items()}

    def run_map(self, inputs: NamedArrays, constants: NamedArrays = _NOTHING) -> dict[str, NDArray[Any]]:
        """Run one task of a map program.

        Raises:
            PoolError: INVALID_ARGUMENT when names, types or shapes are not the draft's; PROGRAM_FAILED.
        """
        self._require(ProgramKind.MAP)
        return self._call({Group.INPUTS: inputs, Group.CONSTANTS: constants})

    def run_steps(
        self,
        step_count: int,
        state: NamedArrays,
        inputs: NamedArrays = _NOTHING,
        constants: NamedArrays = _NOTHING,
    ) -> dict[str, NDArray[Any]]:
        """Make `step_count` steps of a step program and return the new state.

        Raises:
            PoolError: as `run_map`.
        """
        self._require(ProgramKind.STEP)
        if not 0 <= step_count < 2**31:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{step_count} steps")
        count = {STEP_COUNT_NAME: np.asarray(step_count, np.int32)}
        return self._call(
            {Group.STEP_COUNT: count, Group.STATE: state, Group.INPUTS: inputs, Group.CONSTANTS: constants}
        )

    def _require(self, kind: ProgramKind) -> None:
        if self.draft.kind is not kind:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"this is a {self.draft.kind.value} program")

    def _call(self, groups: Mapping[Group, NamedArrays]) -> dict[str, NDArray[Any]]:
        flat: list[Any] = []
        for group in GROUP_ORDER[self.draft.kind]:
            expected = self.draft.tensor_types(group)
            flat += check_tensors(groups[group], expected, code=ErrorCode.INVALID_ARGUMENT).values()
        with _failures_translated(), jax.enable_x64(self.draft.x64):
            results = [np.asarray(result) for result in self._compiled(*flat)]
        return {tensor.name: result for tensor, result in zip(self.draft.output_types, results, strict=True)}


@contextmanager
def _failures_translated() -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise PoolError(ErrorCode.PROGRAM_FAILED, str(error)[:500]) from error

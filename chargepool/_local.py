"""Runs an admitted artifact on this machine: the same bytes that cars run. Loads JAX."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from chargepool._errors import from_pool_error
from chargepool._program import STATE_PREFIX
from pool_protocol.errors import PoolError
from pool_protocol.program.load import LoadedProgram
from pool_protocol.program.manifest import ProgramKind, ProgramManifest


class LocalProgram:
    """A compiled artifact. Only for programs of one's own: loading trusts them."""

    def __init__(self, artifact: bytes, manifest: ProgramManifest) -> None:
        """Compile the artifact for this machine.

        Raises:
            ProgramRefused: It cannot be loaded or compiled here.
        """
        self._is_step = manifest.draft.kind is ProgramKind.STEP
        try:
            self._loaded = LoadedProgram(artifact, manifest.draft)
        except PoolError as error:
            raise from_pool_error(error) from error

    def run(
        self, task: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]], *, steps: int
    ) -> dict[str, NDArray[Any]]:
        """Run one task's bundle and return the outputs by name.

        Raises:
            ProgramRefused: It failed while it ran.
        """
        try:
            if not self._is_step:
                return self._loaded.run_map(task, constants)
            state = {
                name.removeprefix(STATE_PREFIX): array
                for name, array in task.items()
                if name.startswith(STATE_PREFIX)
            }
            inputs = {name: array for name, array in task.items() if not name.startswith(STATE_PREFIX)}
            return self._loaded.run_steps(steps, state, inputs, constants)
        except PoolError as error:
            raise from_pool_error(error) from error

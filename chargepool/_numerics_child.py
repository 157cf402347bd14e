"""The child process of a numerics check: runs a buyer's own program under the settings it was started with.

    python -m chargepool._numerics_child FOLDER NAME [whole] [rounded]

reads from FOLDER what `_settings` put there, and writes the outputs of each sample below FOLDER/NAME. With
"whole" a step program makes its steps once more, in one unit; with "rounded" all that it is given is rounded
otherwise first. XLA
and BLAS read their settings once, when they start; therefore each setting has a process of its own. It is not
sandboxed: the program is the buyer's, as in `Program.local`.
"""

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from chargepool._program import STATE_PREFIX
from chargepool._settings import PROGRAM_FAILED_STATUS
from pool_protocol import tensors
from pool_protocol.errors import PoolError
from pool_protocol.limits import BLOB_TENSORS
from pool_protocol.program.chunking import synthetic
from pool_protocol.program.load import LoadedProgram
from pool_protocol.program.manifest import Group, ProgramKind, parse_draft
from pool_protocol.ulps import rounded_otherwise

Arrays = dict[str, NDArray[Any]]


def main(folder: Path, name: str, words: Collection[str]) -> int:
    """Run every sample; return the exit status."""
    order = json.loads((folder / "order.json").read_bytes())
    try:
        draft = parse_draft((folder / "draft.json").read_bytes())
        program = LoadedProgram((folder / "artifact").read_bytes(), draft)
        samples = [_read(folder / f"sample-{index}") for index in range(order["samples"])]
        constants = (
            _read(folder / "constants")
            if order["constants"]
            else synthetic(draft.tensor_types(Group.CONSTANTS))
        )
        samples = samples or [_made_up(program)]
        if "rounded" in words:
            samples, constants = [_rounded(sample) for sample in samples], _rounded(constants)
        for index, sample in enumerate(samples):
            target = folder / name / str(index)
            _run(program, sample, constants, steps=order["steps"], also_whole="whole" in words, target=target)
    except PoolError as error:
        json.dump({"code": error.code.value, "detail": error.detail}, sys.stdout)
        return PROGRAM_FAILED_STATUS
    return 0


def _run(
    program: LoadedProgram, sample: Arrays, constants: Arrays, *, steps: int, also_whole: bool, target: Path
) -> None:
    placed = program.place(constants)
    if program.draft.kind is ProgramKind.MAP:
        _write(target, program.run_map(sample, placed))
        return
    start = {
        name.removeprefix(STATE_PREFIX): array
        for name, array in sample.items()
        if name.startswith(STATE_PREFIX)
    }
    inputs = {name: array for name, array in sample.items() if not name.startswith(STATE_PREFIX)}
    # As cars make them: unit by unit, whatever is left at the end.
    state, unit = start, program.draft.unit_steps
    for done in range(0, steps, unit):
        state = program.run_steps(min(unit, steps - done), state, inputs, placed)
    _write(target, state)
    if also_whole:
        _write(target.with_name(f"{target.name}-whole"), program.run_steps(steps, start, inputs, placed))


def _rounded(arrays: Arrays) -> Arrays:
    return {name: rounded_otherwise(array) for name, array in arrays.items()}


def _made_up(program: LoadedProgram) -> Arrays:
    state = synthetic(program.draft.tensor_types(Group.STATE))
    named = {STATE_PREFIX + name: array for name, array in state.items()}
    return synthetic(program.draft.tensor_types(Group.INPUTS)) | named


def _read(path: Path) -> Arrays:
    return tensors.decode(path.read_bytes(), BLOB_TENSORS)


def _write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(tensors.encode(arrays))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))

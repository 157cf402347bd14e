"""The probe of two chunkings: whether a step program's states depend on how its steps are cut into units.

Checkpoints, migration and disputes cut a task where they like; that is sound only if run(s, a + b) and
run(run(s, a), b) are the same bits. Exported loops are by construction, a program made otherwise may read its
step count. So each step program is run on a state made up for it, whole and in two ways of cutting, and the
digests are compared; every NaN is one value, so that a state that means nothing to the program does no harm.
Programs that are too dear for it are not run; that is said, not hidden.

Only for the sandboxed child of admission: it runs a stranger's program.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pool_protocol.digests import state_digest
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.load import LoadedProgram
from pool_protocol.program.manifest import Group, ProgramKind
from pool_protocol.program.signature import TensorType
from pool_protocol.tensors import dtype_of

#: What the probe may compute in all: 2e10 operations, a second or two of one core.
PROBE_UWU_MAX: Final = 20_000
#: Arguments of a call: a few copies of the state are alive at once.
PROBE_BYTES_MAX: Final = 256 * 1024 * 1024
#: Steps of the longest run, when the program is cheap enough.
PROBE_STEPS_MAX: Final = 8
_STEPS_MIN: Final = 4
#: The same steps are made whole, in two halves, and as one and the rest.
_RUNS: Final = 3
_GOLDEN: Final = 0.618_033_988_749_894_9

PASSED: Final = "PASSED"
TOO_DEAR: Final = "TOO_DEAR"
TOO_LARGE: Final = "TOO_LARGE"
FAILED_TO_RUN: Final = "FAILED_TO_RUN"


def probe_chunkings(program: LoadedProgram, *, step_uwu: int, argument_bytes: int) -> str:
    """Run a program cut in different ways; return how the probe ended, an empty text for map programs.

    Args:
        program: Compiled here.
        step_uwu: Metered work of one step, micro-WU.
        argument_bytes: Of one call, arguments and results.

    Raises:
        PoolError: PROGRAM_UNITS_DIFFER when the cuts return different states.
    """
    if program.draft.kind is not ProgramKind.STEP:
        return ""
    steps = min(PROBE_STEPS_MAX, PROBE_UWU_MAX // (_RUNS * step_uwu))
    if steps < _STEPS_MIN:
        return TOO_DEAR
    if argument_bytes > PROBE_BYTES_MAX:
        return TOO_LARGE
    state, inputs, constants = (
        synthetic(program.draft.tensor_types(group)) for group in (Group.STATE, Group.INPUTS, Group.CONSTANTS)
    )
    digests = []
    try:
        for first in (steps, steps // 2, 1):
            reached: Mapping[str, Any] = state
            for count in (first, steps - first):
                reached = program.run_steps(count, reached, inputs, constants)
            digests.append(state_digest(reached, job_id="", program_sha256="", task_index=0, unit_index=0))
    except PoolError as error:
        if error.code is not ErrorCode.PROGRAM_FAILED:
            raise
        return FAILED_TO_RUN  # made-up values are not what its author promised to take
    if len(set(digests)) > 1:
        raise PoolError(
            ErrorCode.PROGRAM_UNITS_DIFFER,
            f"{steps} steps at once, in halves, and as one and {steps - 1} return different states",
        )
    return PASSED


def synthetic(types: tuple[TensorType, ...]) -> dict[str, NDArray[Any]]:
    """Make up arrays: the same on every machine, no two neighbours alike, floats between 0.1 and 0.9."""
    return {tensor.name: _array(tensor) for tensor in types}


def _array(tensor: TensorType) -> NDArray[Any]:
    dtype = dtype_of(tensor.dtype)
    count = np.arange(int(np.prod(tensor.shape, dtype=np.int64)), dtype=np.int64).reshape(tensor.shape)
    if dtype.kind in "biu":
        whole: NDArray[Any] = count % (2 if dtype.kind == "b" else 7)
        return whole.astype(dtype)
    fractions: NDArray[Any] = 0.1 + 0.8 * np.modf(count * _GOLDEN)[0]
    return fractions.astype(dtype)

"""Which programs may certify a job's results: checks of a signature, with sentences that say what to change.

A certificate is an admitted map program of its own. In its inputs it takes a task's arrays behind "inputs/",
the outputs behind "outputs/", and words of chance that no vehicle can know as "nonce"; in its constants the
job's; each only as far as it needs them. It returns one boolean, `ok`.
"""

from collections.abc import Sequence
from typing import Final

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.manifest import Group, ProgramKind, ProgramManifest, TensorType

INPUTS_PREFIX: Final = "inputs/"
OUTPUTS_PREFIX: Final = "outputs/"
NONCE: Final = "nonce"
NONCE_WORDS_MAX: Final = 64
OK: Final = "ok"
_STATE_PREFIX: Final = "state/"


def check_certificate(program: ProgramManifest, certificate: ProgramManifest) -> None:
    """Check that a program can certify another's results.

    1. It is a map program.
    2. It returns one boolean scalar named `ok`.
    3. It takes at least one of the program's outputs.
    4. All that it takes is the task's, the outputs', the nonce, and of the same type and shape.
    5. Its constants, if any, are the job's.

    Raises:
        PoolError: INVALID_ARGUMENT.
    """
    draft = certificate.draft
    if draft.kind is not ProgramKind.MAP:
        raise _unfit("it is a step program; make it a function that returns ok")
    if [(out.name, out.dtype, out.shape) for out in draft.output_types] != [(OK, "bool", ())]:
        found = ", ".join(_said(out) for out in draft.output_types[:3])
        raise _unfit(f"it returns {found}; return one boolean scalar named {OK!r}")
    inputs, outputs = _task_types(program), program.draft.output_types
    offered = {INPUTS_PREFIX + tensor.name: tensor for tensor in inputs}
    offered |= {OUTPUTS_PREFIX + tensor.name: tensor for tensor in outputs}
    taken = draft.tensor_types(Group.INPUTS)
    if not any(tensor.name.startswith(OUTPUTS_PREFIX) for tensor in taken):
        raise _unfit(f"it looks at no result; take one of {_names(OUTPUTS_PREFIX, outputs)}")
    for tensor in taken:
        if tensor.name == NONCE:
            if (
                tensor.dtype != "uint32"
                or len(tensor.shape) != 1
                or not 1 <= tensor.shape[0] <= NONCE_WORDS_MAX
            ):
                raise _unfit(
                    f"its nonce is {_said(tensor)}; take uint32[k] with k from 1 to {NONCE_WORDS_MAX}"
                )
        elif (known := offered.get(tensor.name)) is None:
            names = f"{_names(INPUTS_PREFIX, inputs)}, {_names(OUTPUTS_PREFIX, outputs)} or {NONCE!r}"
            raise _unfit(f"it takes {tensor.name[:80]!r}, which tasks do not have; take {names}")
        elif (known.dtype, known.shape) != (tensor.dtype, tensor.shape):
            raise _unfit(f"it takes {_said(tensor)}; make it {known.dtype}{list(known.shape)}")
    constants = {tensor.name: tensor for tensor in program.draft.tensor_types(Group.CONSTANTS)}
    own = {tensor.name: tensor for tensor in draft.tensor_types(Group.CONSTANTS)}
    if own and own != constants:
        raise _unfit("its constants are not the job's; take all of them, or none")


def nonce_words(certificate: ProgramManifest) -> int:
    """Return how many words of chance a certificate takes; 0 for none."""
    for tensor in certificate.draft.tensor_types(Group.INPUTS):
        if tensor.name == NONCE:
            return tensor.shape[0]
    return 0


def _task_types(program: ProgramManifest) -> tuple[TensorType, ...]:
    draft = program.draft
    state = tuple(
        TensorType(name=_STATE_PREFIX + tensor.name, dtype=tensor.dtype, shape=tensor.shape)
        for tensor in draft.tensor_types(Group.STATE)
    )
    return (*draft.tensor_types(Group.INPUTS), *state)


def _names(prefix: str, tensors: Sequence[TensorType]) -> str:
    return ", ".join(repr(prefix + tensor.name) for tensor in tensors[:8])


def _said(tensor: TensorType) -> str:
    return f"{tensor.name[:80]!r} {tensor.dtype}{list(tensor.shape)}"


def _unfit(why: str) -> PoolError:
    return PoolError(
        ErrorCode.INVALID_ARGUMENT,
        f"the certificate does not fit the program: {why}",
        context={"field": "certificate_sha256"},
    )

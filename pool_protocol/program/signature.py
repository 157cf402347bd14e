"""The parts of a program's signature: kinds, groups of arguments, array types and comparators. Pure.

`manifest` puts them together and re-exports them; import them from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from pool_protocol.errors import ErrorCode, PoolError

#: The argument that says how many steps a step program makes.
STEP_COUNT_NAME = "k"

DTYPE_BYTES: Mapping[str, int] = MappingProxyType({
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8,
    "uint64": 8, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "float8_e4m3fn":
    1, "float8_e5m2": 1,
})  # fmt: skip
"""Element types that programs take and return, with their bytes: those that `tensors` can carry."""
PLATFORMS = ("cpu", "cuda")


class ProgramKind(StrEnum):
    """How a program is called."""

    MAP = "map"
    """`outputs = f(constants, inputs)`, once per task."""
    STEP = "step"
    """`state = run(k, state, inputs, constants)`, in units of K steps."""


class Group(StrEnum):
    """Which bundle an argument comes from."""

    STEP_COUNT = "k"
    STATE = "state"
    INPUTS = "inputs"
    CONSTANTS = "constants"


#: The order in which the groups' arrays are passed to the exported function.
GROUP_ORDER: Mapping[ProgramKind, tuple[Group, ...]] = MappingProxyType(
    {
        ProgramKind.MAP: (Group.CONSTANTS, Group.INPUTS),
        ProgramKind.STEP: (Group.STEP_COUNT, Group.STATE, Group.INPUTS, Group.CONSTANTS),
    }
)


class CustomCalls(StrEnum):
    """Which native routines a program may call."""

    NONE = "none"
    LAPACK = "lapack"
    """The linear algebra that JAX itself ships for CPUs, with shape rules."""


class ComparatorKind(StrEnum):
    """How two results of one output are compared."""

    EXACT = "exact"
    CLOSE = "close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparator:
    """The rule for one output. `close` means |a - b| <= atol + rtol * |b|, after shapes and dtypes."""

    kind: ComparatorKind = ComparatorKind.EXACT
    rtol: float = 0.0
    atol: float = 0.0

    def __post_init__(self) -> None:
        """Refuse tolerances that are negative, not finite, or given for `exact`."""
        tolerances = (self.rtol, self.atol)
        if not all(0.0 <= tolerance < float("inf") for tolerance in tolerances):
            raise _invalid(f"tolerances must be finite and not negative: {tolerances}")
        if self.kind is ComparatorKind.EXACT and any(tolerances):
            raise _invalid("an exact comparator has no tolerances")


EXACT = Comparator()


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorType:
    """Name, element type and shape of one array."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be an array of a program."""
        if not self.name or len(self.name) > 256 or "\0" in self.name:
            raise _invalid(f"not an array's name: {self.name[:40]!r}")
        if self.dtype not in DTYPE_BYTES:
            raise _invalid(f"{self.name}: arrays of {self.dtype[:40]!r} cannot be passed to programs")
        if len(self.shape) > 16 or any(not 0 <= size < 2**40 for size in self.shape):
            raise _invalid(f"{self.name}: not a shape of fixed, sensible dimensions: {self.shape[:17]}")

    @property
    def nbytes(self) -> int:
        """Bytes of the array's elements."""
        count = DTYPE_BYTES[self.dtype]
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One array that the exported function takes."""

    group: Group
    tensor: TensorType


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One array that the exported function returns, and how two of them are compared."""

    tensor: TensorType
    comparator: Comparator = EXACT


def check_tensors(
    arrays: Mapping[str, Any], expected: Sequence[TensorType], *, code: ErrorCode = ErrorCode.OUTPUT_MALFORMED
) -> dict[str, Any]:
    """Return the arrays in the order of their types after checking names, element types and shapes.

    Args:
        arrays: NumPy or JAX arrays by name.
        expected: What a group or the outputs must be (`ProgramDraft.tensor_types`, `output_types`).
        code: What a mismatch is: OUTPUT_MALFORMED for results, INVALID_ARGUMENT for a buyer's inputs.

    Raises:
        PoolError: `code`.
    """
    names = [tensor.name for tensor in expected]
    if arrays.keys() != set(names):
        raise PoolError(code, f"expected arrays named {names[:20]}, got {sorted(arrays)[:20]}")
    for tensor in expected:
        array = arrays[tensor.name]
        actual = (array.dtype.name, tuple(array.shape))
        if actual != (tensor.dtype, tensor.shape):
            raise PoolError(
                code,
                f"{tensor.name} is {actual[0]}{list(actual[1])}, expected {tensor.dtype}{list(tensor.shape)}",
                context={"name": tensor.name},
            )
    return {name: arrays[name] for name in names}


def _invalid(reason: str) -> PoolError:
    return PoolError(ErrorCode.PROGRAM_MANIFEST_INVALID, f"not a valid manifest: {reason}")

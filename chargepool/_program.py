"""A program as a buyer holds it: admitted artifact, manifest, constants, and how values become arrays.

Everything that can be wrong with an input is found here, before anything is sent: structure, shapes and
element types against the manifest that the pool signed. JAX is not loaded by this module unless a program is
run locally.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargepool._comparators import Comparator
from chargepool._errors import ChargepoolError, InputRefused, from_pool_error
from pool_protocol import amounts
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program import trees
from pool_protocol.program.manifest import Group, ProgramDraft, ProgramKind, ProgramManifest, TensorType

if TYPE_CHECKING:
    from chargepool._local import LocalProgram
    from chargepool._numerics import NumericsReport
    from chargepool._records import Records

#: Names of a step program's initial state inside a task's bundle start with this.
STATE_PREFIX = "state/"

#: What JAX makes of 64-bit arrays when 64-bit types are off, which is its default.
_NARROWED = {"float64": "float32", "int64": "int32", "uint64": "uint32", "complex128": "complex64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An admitted program. Made by `Client.program` and `Client.step_program`."""

    program_id: str
    """Lower-case hexadecimal SHA-256 of the artifact that cars run."""
    name: str
    """The function's name, for people."""
    manifest: ProgramManifest = field(repr=False)
    """What the pool confirmed and measured, as it signed it."""
    comparator: Comparator
    constants: Mapping[str, NDArray[Any]] = field(repr=False)
    """Shared inputs of all tasks, by their names in the manifest."""
    artifact: bytes = field(repr=False)
    """The `jax.export` bytes."""
    _runner: "list[LocalProgram]" = field(default_factory=list, repr=False, compare=False)
    _records: "Records | None" = field(default=None, repr=False, compare=False)

    @property
    def is_step(self) -> bool:
        """True for a step program, whose tasks are `(state, inputs)` pairs."""
        return self.manifest.draft.kind is ProgramKind.STEP

    @property
    def work_uwu(self) -> int:
        """Metered work, micro work units: of one task, or of one step of a step program."""
        return self.manifest.cost.work_uwu

    def __str__(self) -> str:
        unit = "step" if self.is_step else "task"
        return f"{self.name} ({self.program_id[:12]}, {amounts.work(self.work_uwu)} WU per {unit})"

    def local(self, item: Any, *, steps: int | None = None) -> Any:
        """Run the same artifact here, on one task's input, and return what `Result.value` would be.

        Args:
            item: One task's input as `map` takes it; `(state, inputs)` for a step program.
            steps: Steps to make; for step programs only, and needed there.

        Raises:
            InputRefused: The input does not fit the program, or steps are missing.
        """
        if not self._runner:
            from chargepool._local import LocalProgram

            self._runner.append(LocalProgram(self.artifact, self.manifest))
        arrays = self.encode(item)
        return self.decode(self._runner[0].run(arrays, self.constants, steps=self.checked_steps(steps)))

    def check_numerics(
        self, samples: Iterable[Any] = (), *, steps: int | None = None, timeout_s: float | None = None
    ) -> "NumericsReport":
        """Run the artifact here under several numeric settings, and propose a comparator and a class rule.

        Takes some seconds: each setting is a process of its own. Sends nothing. What was found is remembered
        on this machine, and a job whose comparator will not hold says so with a `NumericsWarning`.

        Args:
            samples: Inputs of a few tasks, as `map` takes them; they should span what your tasks hold. None:
                one is made up from the declared types.
            steps: Steps of one task, for step programs; two units when left out.
            timeout_s: How long each process may take; five minutes when left out.

        Raises:
            InputRefused: A sample does not fit the program.
            ProgramRefused: It fails on a sample.
        """
        from chargepool._numerics import check, workload

        if steps is not None:
            self.checked_steps(steps)
        work = workload(
            name=self.name,
            artifact=self.artifact,
            draft=self.manifest.draft,
            operations=self.manifest.cost.operations,
            samples=samples,
            constants=self.constants,
            steps=steps,
            timeout_s=timeout_s,
        )
        report = check(work)
        if self._records is not None:
            self._records.remember_numerics(report)
        return report

    @property
    def numerics(self) -> "NumericsReport | None":
        """What `check_numerics` last found on this machine; None when nobody checked."""
        return None if self._records is None else self._records.numerics(self.program_id)

    def checked_steps(self, steps: int | None) -> int:
        """Return the steps per task; 0 for a map program.

        Raises:
            InputRefused: They are missing, not positive, or given for a map program.
        """
        if not self.is_step:
            if steps:
                raise InputRefused(
                    f"{self.name} is a map program and makes no steps.", next_step="Leave steps out."
                )
            return 0
        if steps is None or steps < 1:
            raise InputRefused(
                f"{self.name} is a step program: say how many steps each task makes.",
                next_step="Pass steps=N, at least 1.",
                context={"field": "steps"},
            )
        return steps

    def encode(self, item: Any, *, index: int | None = None) -> dict[str, NDArray[Any]]:
        """Return one task's input as named arrays.

        Args:
            item: The input; `(state, inputs)` for a step program.
            index: The task's index, for the error.

        Raises:
            InputRefused: It does not have the program's structure, shapes or element types.
        """
        where = "the input" if index is None else f"input {index}"
        return encode_task(item, self.manifest.draft, where=where)

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> Any:
        """Return what the function returned, out of named arrays.

        Raises:
            ChargepoolError: The names are not those of the program's outputs.
        """
        try:
            return trees.unflatten(arrays, self.manifest.draft.output_tree)
        except PoolError as error:
            raise ChargepoolError(
                f"The outputs are not those of {self.name}: {error.detail}", code=ErrorCode.OUTPUT_MALFORMED
            ) from error


def encode_task(item: Any, draft: ProgramDraft, *, where: str) -> dict[str, NDArray[Any]]:
    """Return one task's input as named arrays; a step program's is `(state, inputs)`.

    Raises:
        InputRefused: It does not have the program's structure, shapes or element types.
    """
    if draft.kind is not ProgramKind.STEP:
        return encode_group(item, draft, Group.INPUTS, where=where)
    if not isinstance(item, tuple) or len(item) != 2:
        raise InputRefused(
            f"{where} is not a pair (state, inputs).",
            next_step="A step program's task is (state, inputs); inputs may be None when there are none.",
        )
    state, inputs = item
    named = encode_group(inputs, draft, Group.INPUTS, where=where)
    for name, array in encode_group(state, draft, Group.STATE, where=f"the state of {where}").items():
        named[STATE_PREFIX + name] = array
    return named


def encode_group(value: Any, draft: ProgramDraft, group: Group, *, where: str) -> dict[str, NDArray[Any]]:
    """Return one group of arguments as named arrays of the types that the program takes.

    Raises:
        InputRefused: Structure, shape or element type differ.
    """
    try:
        leaves = trees.leaves_of(value, draft.argument_trees[group])
    except PoolError as error:
        raise InputRefused(
            f"{where} does not have the program's structure: {error.detail}.",
            next_step="Give every task the structure of the example that the program was made with.",
        ) from error
    types = draft.tensor_types(group)
    return {
        tensor.name: _array_of(leaf, tensor, where=where, x64=draft.x64)
        for leaf, tensor in zip(leaves, types, strict=True)
    }


def _array_of(leaf: Any, tensor: TensorType, *, where: str, x64: bool) -> NDArray[Any]:
    try:
        # Python's own numbers have no width; they take the program's.
        array = np.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise _not_an_array(where, tensor, type(leaf).__name__) from error
    if array.dtype.kind in "OSUVMm" and "float" not in array.dtype.name:
        raise _not_an_array(where, tensor, f"{type(leaf).__name__} of {array.dtype}")
    if array.shape != tensor.shape:
        raise _mismatch(where, tensor, f"has shape {list(array.shape)}")
    if array.dtype.name == tensor.dtype:
        return array
    is_python_number = isinstance(leaf, bool | int | float | complex)
    narrowed = None if x64 else _NARROWED.get(array.dtype.name)
    if narrowed != tensor.dtype and not is_python_number:
        raise _mismatch(where, tensor, f"has dtype {array.dtype.name}")
    with np.errstate(over="ignore"):
        cast = array.astype(_dtype(tensor.dtype))
    if array.dtype.kind in "iub" and not np.array_equal(cast, array):
        raise _mismatch(where, tensor, f"has values that {tensor.dtype} cannot hold")
    if is_python_number and array.dtype.kind in "fc" and cast.dtype.kind in "iub":
        raise _mismatch(where, tensor, f"is {leaf!r}")
    return cast


def _dtype(name: str) -> np.dtype[Any]:
    from pool_protocol.tensors import dtype_of

    try:
        return dtype_of(name)
    except PoolError as error:
        raise from_pool_error(error) from error


def _not_an_array(where: str, tensor: TensorType, what: str) -> InputRefused:
    return InputRefused(
        f"{where}, {tensor.name}: a {what} is not an array of numbers.",
        next_step="Pass NumPy or JAX arrays, or plain numbers.",
        context={"name": tensor.name},
    )


def _mismatch(where: str, tensor: TensorType, what: str) -> InputRefused:
    return InputRefused(
        f"{where}, {tensor.name} {what}; the program takes {tensor.dtype}{list(tensor.shape)}.",
        next_step="Give every task arrays of the example's shape and dtype, or make one program per shape.",
        context={"name": tensor.name, "dtype": tensor.dtype, "shape": str(list(tensor.shape))},
    )

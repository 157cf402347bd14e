"""From a buyer's function to what the pool is sent: artifact, draft and constants. Loads JAX; sends nothing.

A function is traced once per set of types. The result is remembered for as long as the function lives, so
that calling `map` in a loop does not trace in every round.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from chargepool._comparators import Comparator
from chargepool._errors import ProgramRefused, from_pool_error
from chargepool._program import STATE_PREFIX, encode_group
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program import trees
from pool_protocol.program.export import ExportedProgram, export_map, export_step
from pool_protocol.program.manifest import Comparator as ManifestComparator
from pool_protocol.program.manifest import ComparatorKind, CustomCalls, Group

#: Platforms that cars have. One artifact serves all of them.
PLATFORMS = ("cpu",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A program that is ready to be admitted."""

    program: ExportedProgram
    constants: Mapping[str, NDArray[Any]]
    name: str


class Exporter:
    """Exports functions, each once per set of types."""

    def __init__(self, platforms: Sequence[str] = PLATFORMS) -> None:
        """Export for these platforms."""
        self._platforms = tuple(platforms)
        self._known: weakref.WeakKeyDictionary[Callable[..., Any], dict[tuple[Any, ...], ExportedProgram]] = (
            weakref.WeakKeyDictionary()
        )

    def map_program(
        self, fn: Callable[..., Any], example: Any, constants: Any, comparator: Comparator, *, lapack: bool
    ) -> Exported:
        """Export `fn(inputs)`, or `fn(constants, inputs)` when there are constants.

        Raises:
            ProgramRefused: The function cannot become a program; the code says by which rule.
        """
        key = ("map", _types(example), _types(constants), comparator, lapack)
        program = self._remembered(
            fn,
            key,
            lambda: export_map(
                fn,
                example,
                constants,
                platforms=self._platforms,
                comparators=_to_manifest(comparator),
                custom_calls=CustomCalls.LAPACK if lapack else CustomCalls.NONE,
            ),
        )
        return _with_constants(program, constants, fn)

    def step_program(
        self,
        step: Callable[[Any, Any, Any], Any],
        state: Any,
        inputs: Any,
        constants: Any,
        comparator: Comparator,
        *,
        unit_steps: int,
        lapack: bool,
    ) -> Exported:
        """Export `step(state, inputs, constants)` as a loop.

        Raises:
            ProgramRefused: The function cannot become a program; the code says by which rule.
        """
        key = ("step", _types(state), _types(inputs), _types(constants), comparator, unit_steps, lapack)
        program = self._remembered(
            step,
            key,
            lambda: export_step(
                step,
                state,
                inputs,
                constants,
                unit_steps=unit_steps,
                platforms=self._platforms,
                comparators=_to_manifest(comparator),
                custom_calls=CustomCalls.LAPACK if lapack else CustomCalls.NONE,
            ),
        )
        if any(tensor.name.startswith(STATE_PREFIX) for tensor in program.draft.tensor_types(Group.INPUTS)):
            raise ProgramRefused(
                f"An input of {_name_of(step)} is called {STATE_PREFIX}..., which names the task's state.",
                code=ErrorCode.PROGRAM_SIGNATURE_MISMATCH,
                next_step="Rename that key of the inputs.",
            )
        return _with_constants(program, constants, step)

    def _remembered(
        self, fn: Callable[..., Any], key: tuple[Any, ...], export: Callable[[], ExportedProgram]
    ) -> ExportedProgram:
        try:
            known = self._known.setdefault(fn, {})
        except TypeError:  # a callable that cannot be referred to weakly, for example a builtin
            known = {}
        if key not in known:
            known[key] = _translated(fn, export)
        return known[key]


def _translated(fn: Callable[..., Any], export: Callable[[], ExportedProgram]) -> ExportedProgram:
    import jax

    try:
        return export()
    except PoolError as error:
        refused = from_pool_error(error)
        if isinstance(refused, ProgramRefused):
            raise refused from error
        raise ProgramRefused(error.detail, code=error.code, context=error.context) from error
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise ProgramRefused(
            f"{_name_of(fn)} needs the values of its arrays while it is traced: {_first_line(error)}",
            code=ErrorCode.PROGRAM_DYNAMIC_SHAPE,
            next_step="Use jnp.where or lax.cond for branches, lax.fori_loop for loops, and jnp for NumPy.",
        ) from error


def _with_constants(program: ExportedProgram, constants: Any, fn: Callable[..., Any]) -> Exported:
    named = encode_group(constants, program.draft, Group.CONSTANTS, where="the constants")
    return Exported(program=program, constants=named, name=_name_of(fn))


def _types(value: Any) -> Any:
    """Return what tracing depends on: structure, shapes and element types, hashable."""
    import jax

    try:
        tree = trees.tree_of(value)
    except PoolError as error:
        raise from_pool_error(error) from error
    return repr(tree), tuple(
        (jax.numpy.shape(leaf), str(jax.dtypes.canonicalize_dtype(jax.numpy.result_type(leaf))))
        for leaf in trees.leaves_of(value, tree)
    )


def _to_manifest(comparator: Comparator) -> ManifestComparator:
    # A manifest knows two rules. What compares is the comparator that goes with each job; the strict one
    # stands for what a manifest cannot say.
    if comparator.outputs or comparator.any_order or comparator.ulps or comparator.is_exact:
        return ManifestComparator()
    return ManifestComparator(
        kind=ComparatorKind.CLOSE, rtol=float(comparator.rtol), atol=float(comparator.atol)
    )


def _name_of(fn: Callable[..., Any]) -> str:
    return getattr(fn, "__name__", type(fn).__name__)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]

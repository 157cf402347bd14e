"""From a buyer's function to what the pool is sent: artifact, draft and constants. Loads JAX; sends nothing.

A function is traced once per set of types. The result is remembered for as long as the function lives, so
that calling `map` in a loop does not trace in every round.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargepool._comparators import Comparator
from chargepool._errors import InputRefused, ProgramRefused, from_pool_error
from chargepool._program import STATE_PREFIX, encode_group
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program import trees
from pool_protocol.program.artifact import array_type
from pool_protocol.program.export import ExportedProgram, export_map, export_step
from pool_protocol.program.manifest import Comparator as ManifestComparator
from pool_protocol.program.manifest import (
    ComparatorKind,
    CustomCalls,
    Group,
    ProgramDraft,
    ProgramKind,
    TensorType,
)
from pool_protocol.tensors import dtype_of

if TYPE_CHECKING:
    from chargepool.certificates import Certificate

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

    def certificate(
        self, draft: ProgramDraft, program_name: str, certificate: "Certificate | Callable[..., Any]"
    ) -> Exported:
        """Export a check of a program's results, under the names that the pool passes arrays by.

        Raises:
            InputRefused: The program is a step program, or this is no certificate.
            ProgramRefused: The function cannot become a program; the code says by which rule.
        """
        from chargepool.certificates import NONCE_WORDS, Certificate

        if draft.kind is not ProgramKind.MAP:
            raise InputRefused(
                "A certificate checks the results of map programs.",
                next_step="Leave it out: the results of step programs are settled unit by unit.",
            )
        if not isinstance(certificate, Certificate):
            if not callable(certificate):
                raise InputRefused(
                    f"{type(certificate).__name__} is no certificate.",
                    next_step="Pass one of chargepool.certificates, or verify(inputs, outputs, nonce).",
                )
            certificate = Certificate(verify=certificate, nonce_words=NONCE_WORDS)
        check = _Check(draft, certificate)
        program = _translated(
            certificate.verify,
            lambda: export_map(check, check.example, check.constants, platforms=self._platforms),
        )
        return Exported(program=program, constants={}, name=f"certificate of {program_name}")

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


class _Check:
    """A certificate as a map program: what it is called with, and how that reaches the author's function."""

    def __init__(self, draft: ProgramDraft, certificate: "Certificate") -> None:
        self._verify = certificate.verify
        self._inputs_tree, self._outputs_tree = draft.argument_trees[Group.INPUTS], draft.output_tree
        inputs = _example(draft.tensor_types(Group.INPUTS), self._inputs_tree)
        outputs = _example(draft.output_types, self._outputs_tree)
        nonce = array_type((certificate.nonce_words,), np.uint32)
        #: A bare array is called "value", in a program and here.
        self.example = {
            "inputs": _named(inputs, self._inputs_tree),
            "outputs": _named(outputs, self._outputs_tree),
            "nonce": nonce,
        }
        constants = draft.tensor_types(Group.CONSTANTS)
        self.constants = _example(constants, draft.argument_trees[Group.CONSTANTS]) if constants else None

    def __call__(self, *given: Any) -> Any:
        *constants, bundle = given
        inputs = _unnamed(bundle["inputs"], self._inputs_tree)
        outputs = _unnamed(bundle["outputs"], self._outputs_tree)
        import jax

        ok = self._verify(*constants, inputs, outputs, bundle["nonce"])
        return {"ok": jax.numpy.all(jax.numpy.asarray(ok, bool))}


def _example(types: Sequence[TensorType], tree: trees.Tree) -> Any:
    leaves = {tensor.name: array_type(tensor.shape, dtype_of(tensor.dtype)) for tensor in types}
    return trees.unflatten(leaves, tree)


def _named(value: Any, tree: trees.Tree) -> Any:
    return {trees.BARE_NAME: value} if tree == trees.LEAF else value


def _unnamed(value: Any, tree: trees.Tree) -> Any:
    return value[trees.BARE_NAME] if tree == trees.LEAF else value


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

"""A JAX function as an artifact and a draft: what a buyer's machine does before anything is sent.

The function is traced once, with plain arrays in and out: containers become names in the draft, so neither
Python code nor a pickle crosses the wire. A step function becomes `run(k, state, inputs, constants)`, a
loop with a count given at run time: the same artifact then serves running, checkpoints, migration, audit
and dispute.

This module imports JAX and calls the author's code. It finds early what admission would refuse, with typed
errors; the pool trusts none of that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ids import Sha256Hex
from pool_protocol.program import trees
from pool_protocol.program.artifact import array_type, open_module, seal_artifact
from pool_protocol.program.manifest import (
    EXACT,
    GROUP_ORDER,
    STEP_COUNT_NAME,
    Argument,
    Comparator,
    CustomCalls,
    Group,
    Output,
    ProgramDraft,
    ProgramKind,
    TensorType,
)
from pool_protocol.program.vetting import vet_program

#: One comparator for all outputs, or one per output by name.
Comparators = Comparator | Mapping[str, Comparator]
_CPU = ("cpu",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedProgram:
    """What to send to the pool: the artifact's bytes and the draft that describes them."""

    artifact: bytes
    draft: ProgramDraft


def export_map(
    function: Callable[..., Any],
    example_inputs: Any,
    constants: Any = None,
    *,
    platforms: Sequence[str] = _CPU,
    comparators: Comparators = EXACT,
    custom_calls: CustomCalls = CustomCalls.NONE,
) -> ExportedProgram:
    """Export `function(inputs)`, or `function(constants, inputs)` when constants are given.

    Args:
        function: A pure function of arrays in plain dicts, lists and tuples.
        example_inputs: One task's inputs: arrays, or `jax.ShapeDtypeStruct`s. Only types and shapes are read.
        constants: Arrays that all tasks share, or their types; None when there are none.
        platforms: Of "cpu" and "cuda".
        comparators: How results are compared: one for all outputs, or by output name.
        custom_calls: LAPACK to allow the linear algebra that needs it.

    Raises:
        PoolError: PROGRAM_CALLBACK, PROGRAM_CUSTOM_CALL, PROGRAM_CUSTOM_PYTREE, PROGRAM_EFFECTS,
            PROGRAM_DYNAMIC_SHAPE, PROGRAM_UNBOUNDED_LOOP, PROGRAM_OP_NOT_ALLOWED, PROGRAM_TOO_LARGE, or
            PROGRAM_MANIFEST_INVALID. What the function itself raises is not caught.
    """
    has_constants = constants is not None
    examples = {Group.CONSTANTS: constants, Group.INPUTS: example_inputs}

    def call(arguments: Mapping[Group, Any]) -> Any:
        inputs = arguments[Group.INPUTS]
        return function(arguments[Group.CONSTANTS], inputs) if has_constants else function(inputs)

    return _export(
        ProgramKind.MAP,
        call,
        examples,
        platforms=platforms,
        comparators=comparators,
        custom_calls=custom_calls,
        unit_steps=0,
    )


def export_step(
    step: Callable[[Any, Any, Any], Any],
    example_state: Any,
    example_inputs: Any = None,
    constants: Any = None,
    *,
    unit_steps: int,
    platforms: Sequence[str] = _CPU,
    comparators: Comparators = EXACT,
    custom_calls: CustomCalls = CustomCalls.NONE,
) -> ExportedProgram:
    """Export `state = step(state, inputs, constants)` as a loop of a count given at run time.

    Args:
        step: A pure function; what it returns has the structure, types and shapes of the state it takes.
        example_state: The first state of a task, or its types.
        example_inputs: What one task reads in every step, or its types; None for nothing.
        constants: What all tasks share, or its types; None for nothing.
        unit_steps: K, the steps of one unit: the interval of checkpoints, one to ten seconds of work.
        platforms: Of "cpu" and "cuda".
        comparators: How states are compared: one for all arrays, or by name.
        custom_calls: LAPACK to allow the linear algebra that needs it.

    Raises:
        PoolError: as `export_map`, and PROGRAM_SIGNATURE_MISMATCH when the state changes its type.
    """
    examples = {Group.STATE: example_state, Group.INPUTS: example_inputs, Group.CONSTANTS: constants}
    state_tree = trees.tree_of(example_state)

    def call(arguments: Mapping[Group, Any]) -> Any:
        def body(_: Any, leaves: list[Any]) -> list[Any]:
            state = _rebuild(state_tree, leaves)
            after = step(state, arguments[Group.INPUTS], arguments[Group.CONSTANTS])
            return _same_types(after, state_tree, leaves)

        leaves = trees.leaves_of(arguments[Group.STATE], state_tree)
        count = arguments[Group.STEP_COUNT]
        return _rebuild(state_tree, jax.lax.fori_loop(0, count, body, leaves))

    return _export(
        ProgramKind.STEP,
        call,
        examples,
        platforms=platforms,
        comparators=comparators,
        custom_calls=custom_calls,
        unit_steps=unit_steps,
    )


def _export(
    kind: ProgramKind,
    call: Callable[[Mapping[Group, Any]], Any],
    examples: Mapping[Group, Any],
    *,
    platforms: Sequence[str],
    comparators: Comparators,
    custom_calls: CustomCalls,
    unit_steps: int,
) -> ExportedProgram:
    groups = [group for group in GROUP_ORDER[kind] if group is not Group.STEP_COUNT]
    argument_trees: dict[Group, trees.Tree] = {group: trees.tree_of(examples[group]) for group in groups}
    slots, flat_types = _flat_arguments(kind, examples, argument_trees)
    output_trees: list[trees.Tree] = []

    def flat(*flat_arguments: Any) -> tuple[Any, ...]:
        arguments: dict[Group, Any] = {
            group: _rebuild(
                argument_trees[group],
                [a for (g, _), a in zip(slots, flat_arguments, strict=True) if g is group],
            )
            for group in groups
        }
        if kind is ProgramKind.STEP:
            arguments[Group.STEP_COUNT] = flat_arguments[0]
        result = call(arguments)
        output_tree = trees.tree_of(result)
        output_trees[:] = [output_tree]
        return tuple(jnp.asarray(leaf) for leaf in trees.leaves_of(result, output_tree))

    exported = _run_export(flat, flat_types, platforms)
    output_tree = output_trees[0]
    draft = ProgramDraft(
        kind=kind,
        artifact_sha256=Sha256Hex("0" * 64),
        jax_version=jax.__version__,
        calling_convention=exported.calling_convention_version,
        platforms=tuple(exported.platforms),
        x64=jnp.zeros(0, int).dtype.itemsize == 8,
        custom_calls=custom_calls,
        arguments=tuple(
            Argument(group=group, tensor=_tensor_type(name, aval))
            for (group, name), aval in zip(slots, exported.in_avals, strict=True)
        ),
        outputs=tuple(
            Output(tensor=_tensor_type(name, aval), comparator=_comparator(comparators, name))
            for name, aval in zip(trees.leaf_names(output_tree), exported.out_avals, strict=True)
        ),
        argument_trees=argument_trees,
        output_tree=output_tree,
        unit_steps=unit_steps,
    )
    with open_module(exported) as module:
        artifact = seal_artifact(exported, module, draft)
    draft = replace(draft, artifact_sha256=sha256_hex(artifact))
    vet_program(artifact, draft)
    return ExportedProgram(artifact=artifact, draft=draft)


def _flat_arguments(
    kind: ProgramKind, examples: Mapping[Group, Any], argument_trees: Mapping[Group, trees.Tree]
) -> tuple[list[tuple[Group, str]], list[Any]]:
    """Return which array of which group each argument is, and the types to trace with."""
    slots: list[tuple[Group, str]] = []
    flat_types: list[Any] = []
    for group in GROUP_ORDER[kind]:
        if group is Group.STEP_COUNT:
            slots.append((group, STEP_COUNT_NAME))
            flat_types.append(array_type((), jnp.int32))
            continue
        tree = argument_trees[group]
        slots += [(group, name) for name in trees.leaf_names(tree)]
        flat_types += [_abstract(leaf) for leaf in trees.leaves_of(examples[group], tree)]
    return slots, flat_types


def _run_export(
    flat: Callable[..., Any], flat_types: Sequence[Any], platforms: Sequence[str]
) -> jax_export.Exported:
    try:
        exported = jax_export.export(
            jax.jit(flat, keep_unused=True), platforms=tuple(sorted(set(platforms)))
        )(*flat_types)
        exported.serialize()  # some refusals (host callbacks) come only here
    except NotImplementedError as error:
        if "callback" in str(error):
            raise PoolError(ErrorCode.PROGRAM_CALLBACK, f"JAX cannot export it: {error}") from error
        raise PoolError(ErrorCode.PROGRAM_OP_NOT_ALLOWED, f"JAX cannot export it: {error}") from error
    except ValueError as error:
        if "custom call" in str(error).lower():
            raise PoolError(ErrorCode.PROGRAM_CUSTOM_CALL, f"JAX cannot export it: {error}"[:500]) from error
        raise
    if exported.ordered_effects or exported.unordered_effects:
        raise PoolError(ErrorCode.PROGRAM_EFFECTS, "the function has side effects")
    return exported


def _abstract(leaf: Any) -> Any:
    if not all(isinstance(size, int) for size in getattr(leaf, "shape", ())):
        raise PoolError(ErrorCode.PROGRAM_DYNAMIC_SHAPE, f"the shape {leaf.shape} is not fixed")
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    array = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return array_type(array.shape, jax.dtypes.canonicalize_dtype(array.dtype))


def _tensor_type(name: str, aval: Any) -> TensorType:
    if not all(isinstance(size, int) for size in aval.shape):
        raise PoolError(
            ErrorCode.PROGRAM_DYNAMIC_SHAPE, f"{name} has a shape that is not fixed: {aval.shape}"
        )
    return TensorType(name=name, dtype=aval.dtype.name, shape=tuple(aval.shape))


def _comparator(comparators: Comparators, name: str) -> Comparator:
    return comparators if isinstance(comparators, Comparator) else comparators.get(name, EXACT)


def _rebuild(tree: trees.Tree, leaves: Sequence[Any]) -> Any:
    return trees.unflatten(dict(zip(trees.leaf_names(tree), leaves, strict=True)), tree)


def _same_types(after: Any, state_tree: trees.Tree, before: Sequence[Any]) -> list[Any]:
    """Return the new state's arrays after checking that they are what the step takes."""
    if trees.tree_of(after) != state_tree:
        raise PoolError(ErrorCode.PROGRAM_SIGNATURE_MISMATCH, "the step returns a state of another structure")
    leaves = [jnp.asarray(leaf) for leaf in trees.leaves_of(after, state_tree)]
    for name, old, new in zip(trees.leaf_names(state_tree), before, leaves, strict=True):
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            raise PoolError(
                ErrorCode.PROGRAM_SIGNATURE_MISMATCH,
                f"{name} goes in as {old.dtype}{list(old.shape)}, comes out as {new.dtype}{list(new.shape)}",
            )
    return leaves

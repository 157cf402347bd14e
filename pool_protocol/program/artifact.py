"""A program's bytes: `jax.export`'s frame around StableHLO, opened with care, written canonically.

The canonical form has no source locations, names or paths of its author, no attributes that nothing reads,
and a function name that is the hash of the draft's interface; writing it again gives the same bytes. So equal
programs have equal ids, programs that only compute the same (other names of arrays, another `unit_steps`)
have different ones, and an admitted artifact says nothing about the machine that it was traced on.

Opening parses untrusted bytes in native code that can crash: only a sandboxed process opens what it did not
write. This module imports JAX. Which operations are allowed is decided in `vetting`.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax import export as jax_export
from jax._src.interpreters import mlir
from jax.extend.mlir import ir, passmanager
from jax.extend.mlir.dialects import stablehlo
from jaxlib import _jax

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import PROGRAM_LIMITS, ProgramLimits
from pool_protocol.program.manifest import ProgramDraft

#: What every module calls itself, and its frame with a hash; the author's name stays with the author.
FUNCTION_NAME = "program"
#: The one argument attribute with a meaning: a program for several platforms is told which one it runs on.
PLATFORM_INDEX_ATTRIBUTE = "jax.global_constant"
_KEPT_MODULE_ATTRIBUTES = frozenset(
    {"jax.uses_shape_polymorphism", "mhlo.num_partitions", "mhlo.num_replicas", "sym_name"}
)


def array_type(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return what JAX traces with in place of an array."""
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def open_artifact(
    artifact: bytes, draft: ProgramDraft, limits: ProgramLimits = PROGRAM_LIMITS
) -> jax_export.Exported:
    """Parse an artifact's frame and hold it against its draft. The StableHLO inside stays closed.

    1. It is not too large, and its SHA-256 is the draft's.
    2. The frame can be parsed.
    3. Its calling convention is one that this JAX knows, and the draft's.
    4. One device, no shardings, no effects, no safety check switched off.
    5. Platforms are the draft's.
    6. Arguments and results are flat, static, and exactly the draft's.

    Raises:
        PoolError: PROGRAM_TOO_LARGE, PROGRAM_DIGEST_MISMATCH, PROGRAM_UNPARSABLE,
        PROGRAM_VERSION_UNSUPPORTED,
            PROGRAM_EFFECTS, PROGRAM_PLATFORM_UNSUPPORTED, PROGRAM_DYNAMIC_SHAPE, PROGRAM_SIGNATURE_MISMATCH.
    """
    # 1
    if len(artifact) > limits.artifact_bytes_max:
        raise PoolError(
            ErrorCode.PROGRAM_TOO_LARGE, f"{len(artifact)} bytes, allowed are {limits.artifact_bytes_max}"
        )
    if sha256_hex(artifact) != draft.artifact_sha256:
        raise PoolError(ErrorCode.PROGRAM_DIGEST_MISMATCH, "the artifact is not the one that its draft names")
    # 2
    try:
        exported = jax_export.deserialize(bytearray(artifact))
    except Exception as error:
        raise PoolError(
            ErrorCode.PROGRAM_UNPARSABLE, f"the frame cannot be parsed: {type(error).__name__}: {error}"[:500]
        ) from error
    try:
        _check_frame(exported, draft)
    except (AttributeError, TypeError, ValueError) as error:
        raise PoolError(
            ErrorCode.PROGRAM_UNPARSABLE, f"the frame is not well-formed: {error}"[:500]
        ) from error
    return exported


def _check_frame(exported: jax_export.Exported, draft: ProgramDraft) -> None:
    # 3
    version = exported.calling_convention_version
    known = range(
        jax_export.minimum_supported_calling_convention_version,
        jax_export.maximum_supported_calling_convention_version + 1,
    )
    if version not in known or version != draft.calling_convention:
        raise PoolError(
            ErrorCode.PROGRAM_VERSION_UNSUPPORTED,
            f"calling convention {version}, the draft says {draft.calling_convention}, known are {known}",
            context={"jax_version": jax.__version__},
        )
    # 4
    if exported.nr_devices != 1 or any(exported.in_shardings_hlo) or any(exported.out_shardings_hlo):
        raise PoolError(ErrorCode.PROGRAM_OP_NOT_ALLOWED, "a program runs on one device, without shardings")
    if exported.ordered_effects or exported.unordered_effects:
        raise PoolError(ErrorCode.PROGRAM_EFFECTS, "the program declares side effects")
    if exported.disabled_safety_checks:
        raise PoolError(
            ErrorCode.PROGRAM_CUSTOM_CALL, "the program was exported with a safety check switched off"
        )
    # 5
    if tuple(exported.platforms) != draft.platforms:
        raise PoolError(
            ErrorCode.PROGRAM_PLATFORM_UNSUPPORTED,
            f"made for {exported.platforms}, the draft says {draft.platforms}",
        )
    # 6
    for what, avals, expected in (
        ("argument", exported.in_avals, [argument.tensor for argument in draft.arguments]),
        ("result", exported.out_avals, [output.tensor for output in draft.outputs]),
    ):
        if not all(isinstance(size, int) for aval in avals for size in aval.shape):
            raise PoolError(ErrorCode.PROGRAM_DYNAMIC_SHAPE, f"an {what} has a dimension that is not fixed")
        actual_types = [(aval.dtype.name, tuple(aval.shape)) for aval in avals]
        if actual_types != [(tensor.dtype, tensor.shape) for tensor in expected]:
            raise PoolError(ErrorCode.PROGRAM_SIGNATURE_MISMATCH, f"the {what}s are {actual_types}"[:500])
    flat_in: Any = jax.tree.structure((tuple([0] * len(draft.arguments)), {}))
    flat_out: Any = jax.tree.structure(tuple([0] * len(draft.outputs)))
    if exported.in_tree != flat_in or exported.out_tree != flat_out:
        raise PoolError(ErrorCode.PROGRAM_SIGNATURE_MISMATCH, "the artifact must take and return flat arrays")
    if tuple(exported.module_kept_var_idx) != tuple(range(len(draft.arguments))):
        raise PoolError(
            ErrorCode.PROGRAM_SIGNATURE_MISMATCH, "the artifact must keep arguments that it does not use"
        )


@contextmanager
def open_module(exported: jax_export.Exported) -> Iterator[ir.Module]:
    """Parse the StableHLO of an artifact, strip what says nothing about the computation, and hold it open.

    Raises:
        PoolError: PROGRAM_UNPARSABLE.
    """
    with mlir.make_ir_context() as context:
        context.allow_unregistered_dialects = False
        try:
            module = _jax.mlir.deserialize_portable_artifact(exported.mlir_module_serialized)
            if not module.operation.verify():
                raise ValueError("the module does not verify")
            _strip(module)
        except (ir.MLIRError, RuntimeError, ValueError) as error:
            raise PoolError(
                ErrorCode.PROGRAM_UNPARSABLE, f"the StableHLO cannot be parsed: {error}"[:500]
            ) from error
        yield module


def seal_artifact(exported: jax_export.Exported, module: ir.Module, draft: ProgramDraft) -> bytes:
    """Write a stripped module in its frame: the canonical artifact of a draft, whose own hash is not read.

    Raises:
        PoolError: PROGRAM_UNPARSABLE when JAX cannot write it.
    """
    target = stablehlo.get_version_from_compatibility_requirement(
        stablehlo.StablehloCompatibilityRequirement.WEEK_4
    )
    try:
        with module.context:
            module_bytes = _jax.mlir.serialize_portable_artifact(module, target, True)
        bare = dataclasses.replace(
            exported,
            fun_name=f"{FUNCTION_NAME}_{sha256_hex(draft.interface())}",
            mlir_module_serialized=module_bytes,
            disabled_safety_checks=(),
            _get_vjp=None,
        )
        return bytes(bare.serialize())
    except (RuntimeError, ValueError, TypeError) as error:
        raise PoolError(
            ErrorCode.PROGRAM_UNPARSABLE, f"the program cannot be written: {error}"[:500]
        ) from error


def _strip(module: ir.Module) -> None:
    passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
    attributes = module.operation.attributes
    attributes["sym_name"] = ir.StringAttr.get(FUNCTION_NAME)
    for name in [name for name in attributes if name not in _KEPT_MODULE_ATTRIBUTES]:
        del attributes[name]
    for function in module.body.operations:
        function_attributes = function.operation.attributes
        if "res_attrs" in function_attributes:
            del function_attributes["res_attrs"]
        if "arg_attrs" in function_attributes:
            kept = [_platform_index_only(entry) for entry in ir.ArrayAttr(function_attributes["arg_attrs"])]
            if any(len(entry) for entry in kept):
                function_attributes["arg_attrs"] = ir.ArrayAttr.get(kept)
            else:
                del function_attributes["arg_attrs"]


def _platform_index_only(entry: Any) -> ir.DictAttr:
    named = ir.DictAttr(entry)
    if PLATFORM_INDEX_ATTRIBUTE not in named:
        return ir.DictAttr.get({})
    return ir.DictAttr.get({PLATFORM_INDEX_ATTRIBUTE: named[PLATFORM_INDEX_ATTRIBUTE]})

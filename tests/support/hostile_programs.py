"""Programs that an attacker would send: frames that JAX accepts around StableHLO that it would not write.

Importing this module imports JAX. Nothing here is ever executed; some of it crashes a process that parses it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export
from jax._src.interpreters import mlir
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jaxlib import _jax

from pool_protocol.digests import sha256_hex
from pool_protocol.program import trees
from pool_protocol.program.artifact import array_type
from pool_protocol.program.manifest import (
    Argument,
    CustomCalls,
    Group,
    Output,
    ProgramDraft,
    ProgramKind,
    TensorType,
)

_Type = tuple[str, tuple[int, ...]]
VECTOR: _Type = ("float32", (4,))
SCALAR: _Type = ("float32", ())
HUGE: _Type = ("float32", (100_000_000_000,))


def forge(
    functions: str,
    *,
    arguments: Sequence[_Type] = (VECTOR,),
    results: Sequence[_Type] = (VECTOR,),
    custom_calls: CustomCalls = CustomCalls.NONE,
    **frame: Any,
) -> tuple[bytes, ProgramDraft]:
    """Put StableHLO text into an honest frame of this signature; `frame` overrides the frame's fields."""

    def honest(*_: Any) -> tuple[Any, ...]:
        return tuple(jnp.zeros(shape, dtype) for dtype, shape in results)

    honest_types = [array_type(shape, dtype) for dtype, shape in arguments]
    exported = jax_export.export(jax.jit(honest, keep_unused=True), platforms=("cpu",))(*honest_types)
    with mlir.make_ir_context():
        module = ir.Module.parse(f"module @program {{ {functions} }}")
        target = stablehlo.get_current_version()
        module_bytes = _jax.mlir.serialize_portable_artifact(module, target, True)
    forged = dataclasses.replace(exported, mlir_module_serialized=module_bytes, **frame)
    artifact = bytes(forged.serialize())
    return artifact, draft_for(artifact, arguments, results, custom_calls, forged.calling_convention_version)


def draft_for(
    artifact: bytes,
    arguments: Sequence[_Type],
    results: Sequence[_Type],
    custom_calls: CustomCalls = CustomCalls.NONE,
    calling_convention: int = jax_export.maximum_supported_calling_convention_version,
) -> ProgramDraft:
    """Return the draft of a map program whose inputs and outputs are tuples of plain arrays."""
    input_tree, output_tree = ({"tuple": ["*"] * len(types)} for types in (arguments, results))
    return ProgramDraft(
        kind=ProgramKind.MAP,
        artifact_sha256=sha256_hex(artifact),
        jax_version=jax.__version__,
        calling_convention=calling_convention,
        platforms=("cpu",),
        x64=False,
        custom_calls=custom_calls,
        arguments=tuple(
            Argument(group=Group.INPUTS, tensor=TensorType(name=name, dtype=dtype, shape=shape))
            for name, (dtype, shape) in zip(trees.leaf_names(input_tree), arguments, strict=True)
        ),
        outputs=tuple(
            Output(tensor=TensorType(name=name, dtype=dtype, shape=shape))
            for name, (dtype, shape) in zip(trees.leaf_names(output_tree), results, strict=True)
        ),
        argument_trees={Group.CONSTANTS: None, Group.INPUTS: input_tree},
        output_tree=output_tree,
        unit_steps=0,
    )


def main_of(body: str, *, result: str = "%0") -> str:
    """Return a main over one vector of four floats."""
    signature = "func.func public @main(%a: tensor<4xf32>) -> tensor<4xf32>"
    return f"{signature} {{ {body} return {result} : tensor<4xf32> }}"


def call_bomb(levels: int) -> str:
    """Return functions that each call the next twice: 2**levels operations in few bytes."""
    text = main_of("%0 = func.call @f0(%a) : (tensor<4xf32>) -> tensor<4xf32>")
    for level in range(levels):
        text += (
            f" func.func private @f{level}(%a: tensor<4xf32>) -> tensor<4xf32> {{"
            f" %0 = func.call @f{level + 1}(%a) : (tensor<4xf32>) -> tensor<4xf32>"
            f" %1 = func.call @f{level + 1}(%0) : (tensor<4xf32>) -> tensor<4xf32>"
            f" return %1 : tensor<4xf32> }}"
        )
    return text + (
        f" func.func private @f{levels}(%a: tensor<4xf32>) -> tensor<4xf32> {{"
        f" %0 = stablehlo.sine %a : tensor<4xf32> return %0 : tensor<4xf32> }}"
    )


def nested_conditionals(depth: int) -> str:
    """Return a main with `depth` conditionals inside each other."""
    body = "stablehlo.return %a : tensor<4xf32>"
    for _ in range(depth):
        body = (
            '%x = "stablehlo.if"(%p) ({ ' + body + " }, { stablehlo.return %a : tensor<4xf32> })"
            " : (tensor<i1>) -> tensor<4xf32> stablehlo.return %x : tensor<4xf32>"
        )
    inner = body.rpartition(" stablehlo.return")[0]
    return main_of(f"%p = stablehlo.constant dense<true> : tensor<i1> {inner}", result="%x")


_RECURSION_INDIRECT = """
func.func public @main(%a: tensor<4xf32>) -> tensor<4xf32> {
  %0 = func.call @f(%a) : (tensor<4xf32>) -> tensor<4xf32> return %0 : tensor<4xf32> }
func.func private @f(%a: tensor<4xf32>) -> tensor<4xf32> {
  %0 = func.call @g(%a) : (tensor<4xf32>) -> tensor<4xf32> return %0 : tensor<4xf32> }
func.func private @g(%a: tensor<4xf32>) -> tensor<4xf32> {
  %0 = func.call @f(%a) : (tensor<4xf32>) -> tensor<4xf32> return %0 : tensor<4xf32> }
"""
RECURSION = main_of("%0 = func.call @main(%a) : (tensor<4xf32>) -> tensor<4xf32>")
RECURSION_INDIRECT = _RECURSION_INDIRECT
CALLBACK = main_of(
    "%0 = stablehlo.custom_call @xla_ffi_python_cpu_callback(%a)"
    " {api_version = 4 : i32, mhlo.backend_config = {index = 0 : ui64}} : (tensor<4xf32>) -> tensor<4xf32>"
)
UNKNOWN_CUSTOM_CALL = main_of("%0 = stablehlo.custom_call @puts(%a) : (tensor<4xf32>) -> tensor<4xf32>")
INFEED = main_of(
    "%t = stablehlo.create_token : !stablehlo.token"
    ' %0:2 = "stablehlo.infeed"(%t) : (!stablehlo.token) -> (tensor<4xf32>, !stablehlo.token)',
    result="%0#0",
)
MACHINE_RANDOM = main_of(
    "%l = stablehlo.constant dense<0.0> : tensor<f32> %s = stablehlo.constant dense<4> : tensor<1xi64>"
    " %0 = stablehlo.rng %l, %l, %s, distribution = UNIFORM"
    " : (tensor<f32>, tensor<f32>, tensor<1xi64>) -> tensor<4xf32>"
)
DEFAULT_RANDOM_BITS = main_of(
    "%s = stablehlo.constant dense<[1, 2]> : tensor<2xui64>"
    " %r:2 = stablehlo.rng_bit_generator %s, algorithm = DEFAULT"
    " : (tensor<2xui64>) -> (tensor<2xui64>, tensor<4xui32>)"
    " %0 = stablehlo.convert %r#1 : (tensor<4xui32>) -> tensor<4xf32>"
)
ALL_REDUCE = main_of(
    '%0 = "stablehlo.all_reduce"(%a) ({ ^bb0(%x: tensor<f32>, %y: tensor<f32>):'
    " %z = stablehlo.add %x, %y : tensor<f32> stablehlo.return %z : tensor<f32> })"
    " {replica_groups = dense<0> : tensor<1x1xi64>} : (tensor<4xf32>) -> tensor<4xf32>"
)
FRONTEND_ATTRIBUTE = main_of('%0 = stablehlo.sine %a {mhlo.frontend_attributes = {x = "y"}} : tensor<4xf32>')
HUGE_TENSOR = main_of(
    "%i = stablehlo.iota dim = 0 : tensor<100000000000xf32>"
    " %0 = stablehlo.slice %i [0:4] : (tensor<100000000000xf32>) -> tensor<4xf32>"
)
OTHER_SIGNATURE = (
    "func.func public @main(%a: tensor<8xf32>) -> tensor<4xf32> {"
    " %0 = stablehlo.slice %a [0:4] : (tensor<8xf32>) -> tensor<4xf32> return %0 : tensor<4xf32> }"
)
NO_MAIN = "func.func public @other(%a: tensor<4xf32>) -> tensor<4xf32> { return %a : tensor<4xf32> }"
UNKNOWN_COMPOSITE = main_of(
    '%0 = stablehlo.composite "evil.kernel" %a {decomposition = @d} : (tensor<4xf32>) -> tensor<4xf32>'
) + (" func.func private @d(%a: tensor<4xf32>) -> tensor<4xf32> { return %a : tensor<4xf32> }")
DYNAMIC_SHAPE = main_of(
    "%s = stablehlo.constant dense<4> : tensor<1xi32>"
    " %d = stablehlo.dynamic_iota %s, dim = 0 : (tensor<1xi32>) -> tensor<?xf32>"
    " %0 = stablehlo.real_dynamic_slice %d, %s, %s, %s"
    " : (tensor<?xf32>, tensor<1xi32>, tensor<1xi32>, tensor<1xi32>) -> tensor<4xf32>"
)


def counted_loop(*, start: int, limit: int, step: int, direction: str = "LT", element: str = "i32") -> str:
    """Return a main that sines its argument in a loop with this counter."""
    counter = f"tensor<{element}>"
    kind = "UNSIGNED" if element.startswith("ui") else "SIGNED"
    return main_of(
        f"%c0 = stablehlo.constant dense<{start}> : {counter}"
        f" %c1 = stablehlo.constant dense<{limit}> : {counter}"
        f" %c2 = stablehlo.constant dense<{step}> : {counter}"
        f" %0:2 = stablehlo.while(%i = %c0, %x = %a) : {counter}, tensor<4xf32>"
        f" cond {{ %p = stablehlo.compare {direction}, %i, %c1, {kind} : ({counter}, {counter}) -> tensor<i1>"
        f" stablehlo.return %p : tensor<i1> }} do {{"
        f" %j = stablehlo.add %i, %c2 : {counter} %y = stablehlo.sine %x : tensor<4xf32>"
        f" stablehlo.return %j, %y : {counter}, tensor<4xf32> }}",
        result="%0#1",
    )


def bad_cholesky() -> tuple[bytes, ProgramDraft]:
    """Return a LAPACK call whose info output does not have the shape that the routine writes."""
    return forge(
        "func.func public @main(%a: tensor<4x4xf32>) -> tensor<4x4xf32> {"
        " %0:2 = stablehlo.custom_call @lapack_spotrf_ffi(%a) {api_version = 4 : i32,"
        " mhlo.backend_config = {uplo = 76 : ui8}} : (tensor<4x4xf32>) -> (tensor<4x4xf32>, tensor<9xi32>)"
        " return %0#0 : tensor<4x4xf32> }",
        arguments=[("float32", (4, 4))],
        results=[("float32", (4, 4))],
        custom_calls=CustomCalls.LAPACK,
    )


def doubling_limit(levels: int) -> str:
    """Return a loop whose limit is a sum of sums: 2**levels paths for whoever follows them all."""
    sums = "%s0 = stablehlo.constant dense<0> : tensor<i32>"
    for level in range(levels):
        sums += f" %s{level + 1} = stablehlo.add %s{level}, %s{level} : tensor<i32>"
    return main_of(
        f"{sums} %one = stablehlo.constant dense<1> : tensor<i32>"
        " %zero = stablehlo.constant dense<0> : tensor<i32>"
        " %0:2 = stablehlo.while(%i = %zero, %x = %a) : tensor<i32>, tensor<4xf32>"
        f" cond {{ %p = stablehlo.compare LT, %i, %s{levels}, SIGNED"
        " : (tensor<i32>, tensor<i32>) -> tensor<i1>"
        " stablehlo.return %p : tensor<i1> } do { %j = stablehlo.add %i, %one : tensor<i32>"
        " stablehlo.return %j, %x : tensor<i32>, tensor<4xf32> }",
        result="%0#1",
    )


def tripled_arguments(levels: int) -> str:
    """Return functions that pass one array three times on: 3**levels ways for it to come back changed."""
    three = "tensor<4xf32>, tensor<4xf32>, tensor<4xf32>"
    signature = "(%a: tensor<4xf32>, %b: tensor<4xf32>, %c: tensor<4xf32>) -> tensor<4xf32>"
    text = main_of(
        "%one = stablehlo.constant dense<1> : tensor<i32> %zero = stablehlo.constant dense<0> : tensor<i32>"
        " %two = stablehlo.constant dense<2> : tensor<i32>"
        " %0:2 = stablehlo.while(%i = %zero, %x = %a) : tensor<i32>, tensor<4xf32>"
        " cond { %p = stablehlo.compare LT, %i, %two, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>"
        " stablehlo.return %p : tensor<i1> } do { %j = stablehlo.add %i, %one : tensor<i32>"
        f" %y = func.call @g0(%x, %x, %x) : ({three}) -> tensor<4xf32>"
        " stablehlo.return %j, %y : tensor<i32>, tensor<4xf32> }",
        result="%0#1",
    )
    for level in range(levels):
        text += (
            f" func.func private @g{level}{signature}"
            f" {{ %0 = func.call @g{level + 1}(%a, %a, %a) : ({three}) -> tensor<4xf32>"
            " return %0 : tensor<4xf32> }"
        )
    return text + (
        f" func.func private @g{levels}{signature}"
        " { %0 = stablehlo.add %b, %c : tensor<4xf32> return %0 : tensor<4xf32> }"
    )

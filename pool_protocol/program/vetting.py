"""Which programs the pool runs: every operation, tensor, call and loop held against written rules.

Vetting never executes the program. It parses untrusted bytes in native code all the same, so the pool does
it in a throw-away sandboxed child (`admission`); a buyer's machine does it to its own programs, to hear the
answer early. This module imports JAX. What a program costs is counted by `cost`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jax.extend.mlir import ir

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import PROGRAM_LIMITS, ProgramLimits
from pool_protocol.program import lapack
from pool_protocol.program.artifact import open_artifact, open_module, seal_artifact
from pool_protocol.program.cost import Cost, CostModel
from pool_protocol.program.manifest import CustomCalls, ProgramDraft, ProgramKind
from pool_protocol.program.operations import (
    blocks_of,
    callee_of,
    element_bytes,
    operations_of,
    terminator_operands,
)

#: Operations of StableHLO that only compute: no tokens, no communication, no machine-dependent randomness.
ALLOWED_OPERATIONS: Final = frozenset({
    "abs", "add", "and", "atan2", "bitcast_convert", "broadcast_in_dim", "case", "cbrt", "ceil",
    "clamp", "compare", "complex", "composite", "concatenate", "constant", "convert", "convolution",
    "cosine", "count_leading_zeros", "divide", "dot_general", "dynamic_slice", "dynamic_update_slice",
    "exponential", "exponential_minus_one", "fft", "floor", "gather", "get_tuple_element", "if", "imag",
    "iota", "is_finite", "log", "log_plus_one", "logistic", "map", "maximum", "minimum", "multiply",
    "negate", "not", "or", "optimization_barrier", "pad", "popcnt", "power", "real", "reduce",
    "reduce_precision", "reduce_window", "remainder", "reshape", "return", "reverse",
    "rng_bit_generator", "round_nearest_afz", "round_nearest_even", "rsqrt", "scatter", "select",
    "select_and_scatter", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sine",
    "slice", "sort", "sqrt", "subtract", "tan", "tanh", "transpose", "triangular_solve", "cholesky",
    "tuple", "while", "xor",
})  # fmt: skip
_CONTROL: Final = frozenset({"func.call", "func.return"})
_CUSTOM_CALL: Final = "stablehlo.custom_call"
_CALLBACK_MARKS: Final = ("callback", "py_client", "python")
_FUNCTION_ATTRIBUTES: Final = frozenset({"sym_name", "sym_visibility", "function_type", "arg_attrs"})
_FIXED_RANDOM_ALGORITHMS: Final = ("THREE_FRY", "PHILOX")
_COMPOSITE_PREFIX: Final = "chlo."


@dataclass(frozen=True, slots=True, kw_only=True)
class VettedProgram:
    """A program that keeps all rules, in canonical form. Only `vet_program` makes one."""

    artifact: bytes
    """The canonical artifact: what cars run, if the pool admits it."""
    operations: Mapping[str, int]
    """How often each operation stands in it, calls inlined, loop bodies once."""
    cost: Cost
    """Of one task (map) or one step (step)."""


def vet_program(
    artifact: bytes, draft: ProgramDraft, limits: ProgramLimits = PROGRAM_LIMITS
) -> VettedProgram:
    """Hold a program against all rules and count its cost.

    1. The frame is well-formed and says what the draft says (`open_artifact`).
    2. The StableHLO parses, verifies, and holds functions only, each once, among them `main`.
    3. `main` takes and returns exactly the draft's arrays.
    4. Every operation, attribute, type and constant in it is allowed and within limits.
    5. No function calls itself, directly or through others; with all calls inlined it is small enough.
    6. Every loop has a known number of rounds; a step program has one loop over its step count besides.
    7. The work is within limits.

    Raises:
        PoolError: one of the codes that begin with PROGRAM_.
    """
    try:
        return _vet(artifact, draft, limits)
    except RecursionError as error:
        # Calls and regions are each within limits, and still too deep together.
        raise _too_large("calls and regions inside each other", limits.nesting_depth_max) from error


def _vet(artifact: bytes, draft: ProgramDraft, limits: ProgramLimits) -> VettedProgram:
    exported = open_artifact(artifact, draft, limits)
    with open_module(exported) as module:
        functions = _functions_of(module, limits)
        main = functions["main"].regions[0].blocks[0]
        _check_main(main, draft)
        census = _Census(functions, draft.custom_calls, limits)
        operations = census.inlined()
        is_step = draft.kind is ProgramKind.STEP
        count_index = 1 if len(draft.platforms) > 1 else 0
        model = CostModel(functions, step_count=main.arguments[count_index] if is_step else None)
        cost = model.main_cost()
        if is_step and model.step_loops != 1:
            raise PoolError(
                ErrorCode.PROGRAM_SIGNATURE_MISMATCH,
                f"a step program has one loop over k, not {model.step_loops}",
            )
        if cost.work_uwu > limits.work_uwu_max:
            raise _too_large(f"{cost.work_uwu} micro work units in one go", limits.work_uwu_max)
        canonical = seal_artifact(exported, module, draft)
    return VettedProgram(artifact=canonical, operations=operations, cost=cost)


def _functions_of(module: ir.Module, limits: ProgramLimits) -> dict[str, ir.Operation]:
    functions: dict[str, ir.Operation] = {}
    for view in module.body.operations:
        operation = view.operation
        if operation.name != "func.func":
            raise _not_allowed(operation.name, "only functions stand at the top of a program")
        strange = set(operation.attributes) - _FUNCTION_ATTRIBUTES
        if strange or len(operation.regions[0].blocks) != 1:
            raise _not_allowed("func.func", f"unknown attributes {sorted(strange)[:5]}, or not one block")
        functions[str(ir.StringAttr(operation.attributes["sym_name"]).value)] = operation
    if len(functions) > limits.functions_max:
        raise _too_large(f"{len(functions)} functions", limits.functions_max)
    if "main" not in functions:
        raise PoolError(ErrorCode.PROGRAM_SIGNATURE_MISMATCH, "there is no function main")
    return functions


_ELEMENT_OF_DTYPE: Final[dict[str, str]] = {
    "bool": "i1",
    **{f"int{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"ui{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"f{bits}" for bits in (16, 32, 64)},
    "bfloat16": "bf16",
    "complex64": "complex<f32>",
    "float8_e4m3fn": "f8E4M3FN",
    "float8_e5m2": "f8E5M2",
}


def _check_main(main: ir.Block, draft: ProgramDraft) -> None:
    """Compare main's own types with the draft: the frame may say one thing and the module another."""
    expected_arguments = [_mlir_type(tensor.tensor.dtype, tensor.tensor.shape) for tensor in draft.arguments]
    if len(draft.platforms) > 1:
        expected_arguments.insert(0, "tensor<i32>")  # which of the platforms it runs on
    expected_results = [_mlir_type(tensor.tensor.dtype, tensor.tensor.shape) for tensor in draft.outputs]
    arguments = [str(value.type) for value in main.arguments]
    results = [str(value.type) for value in terminator_operands(main)]
    if arguments != expected_arguments or results != expected_results:
        raise PoolError(
            ErrorCode.PROGRAM_SIGNATURE_MISMATCH,
            f"main is {arguments} -> {results}, the draft says {expected_arguments} -> {expected_results}"[
                :500
            ],
        )


def _mlir_type(dtype: str, shape: tuple[int, ...]) -> str:
    return f"tensor<{''.join(f'{size}x' for size in shape)}{_ELEMENT_OF_DTYPE[dtype]}>"


class _Census:
    """Visits every operation once, and adds up what main runs with all calls inlined."""

    def __init__(
        self, functions: dict[str, ir.Operation], custom_calls: CustomCalls, limits: ProgramLimits
    ) -> None:
        self._functions = functions
        self._custom_calls = custom_calls
        self._limits = limits
        self._constant_bytes = 0
        self._own: dict[str, Counter[str]] = {}
        self._calls: dict[str, Counter[str]] = {}
        for name, function in functions.items():
            self._own[name], self._calls[name] = Counter(), Counter()
            self._visit_block(name, function.regions[0].blocks[0], depth=0)

    def inlined(self) -> dict[str, int]:
        """Return main's operations with every call inlined.

        Raises:
            PoolError: PROGRAM_RECURSION, PROGRAM_TOO_LARGE.
        """
        totals: dict[str, Counter[str]] = {}
        for name in self._callees_first():
            total = Counter(self._own[name])
            for callee, count in self._calls[name].items():
                for operation, times in totals[callee].items():
                    total[operation] += times * count
            if total.total() > self._limits.inlined_operations_max:
                raise _too_large(f"{total.total()} operations in {name}", self._limits.inlined_operations_max)
            totals[name] = total
        return dict(sorted(totals["main"].items()))

    def _callees_first(self) -> list[str]:
        """Order the functions so that each stands behind those it calls."""
        order: list[str] = []
        state: dict[str, int] = {}  # 1 while its callees are visited, 2 when done

        def visit(name: str, depth: int) -> None:
            if state.get(name) == 2:
                return
            if state.get(name) == 1:
                raise PoolError(ErrorCode.PROGRAM_RECURSION, f"{name[:80]} calls itself")
            if depth > self._limits.call_depth_max:
                raise _too_large("calls inside calls", self._limits.call_depth_max)
            state[name] = 1
            for callee in sorted(self._calls[name]):
                visit(callee, depth + 1)
            state[name] = 2
            order.append(name)

        for name in sorted(self._functions):
            visit(name, 0)
        return order

    def _visit_block(self, function: str, block: ir.Block, *, depth: int) -> None:
        if depth > self._limits.nesting_depth_max:
            raise _too_large("regions inside regions", self._limits.nesting_depth_max)
        for argument in block.arguments:
            self._check_type(argument.type)
        for operation in operations_of(block):
            self._check_operation(operation)
            self._own[function][operation.name] += 1
            if self._own[function].total() > self._limits.inlined_operations_max:
                raise _too_large("operations in one function", self._limits.inlined_operations_max)
            callee = callee_of(operation)
            if callee is not None:
                if callee not in self._functions:
                    raise _not_allowed(operation.name, f"it calls {callee[:80]}, which is not there")
                self._calls[function][callee] += 1
            for inner in blocks_of(operation):
                self._visit_block(function, inner, depth=depth + 1)

    def _check_operation(self, operation: ir.Operation) -> None:
        name = operation.name
        if name == _CUSTOM_CALL:
            self._check_custom_call(operation)
        elif name not in _CONTROL and not _is_allowed(name):
            raise _not_allowed(name, "it is not on the list")
        else:
            strange = [attribute for attribute in operation.attributes if "." in attribute]
            if strange:
                raise _not_allowed(name, f"it carries {strange[:5]}")
        if name == "stablehlo.composite":
            called = str(ir.StringAttr(operation.attributes["name"]).value)
            if not called.startswith(_COMPOSITE_PREFIX):
                raise _not_allowed(name, f"a composite named {called[:80]}")
        if name == "stablehlo.rng_bit_generator":
            algorithm = str(operation.attributes["rng_algorithm"])
            if not any(fixed in algorithm for fixed in _FIXED_RANDOM_ALGORITHMS):
                raise _not_allowed(name, f"{algorithm[:80]} differs between machines")
        for value in operation.results:
            self._check_type(value.type)
        if name == "stablehlo.constant":
            self._add_constant(operation)

    def _check_custom_call(self, operation: ir.Operation) -> None:
        target = str(ir.StringAttr(operation.attributes["call_target_name"]).value)
        if any(mark in target.lower() for mark in _CALLBACK_MARKS):
            raise PoolError(
                ErrorCode.PROGRAM_CALLBACK, f"it calls {target[:80]}", context={"target": target[:80]}
            )
        if self._custom_calls is not CustomCalls.LAPACK or not lapack.is_lapack(target):
            raise PoolError(
                ErrorCode.PROGRAM_CUSTOM_CALL, f"it calls {target[:80]}", context={"target": target[:80]}
            )
        lapack.check_lapack(operation, target)

    def _check_type(self, value_type: ir.Type) -> None:
        if isinstance(value_type, ir.TupleType) or str(value_type).startswith("tuple<"):
            for index in range(ir.TupleType(value_type).num_types):
                self._check_type(ir.TupleType(value_type).get_type(index))
            return
        if str(value_type).startswith("!"):
            raise PoolError(ErrorCode.PROGRAM_EFFECTS, f"a value of type {str(value_type)[:80]}")
        if not isinstance(value_type, ir.RankedTensorType):
            raise PoolError(ErrorCode.PROGRAM_DYNAMIC_SHAPE, f"a value of type {str(value_type)[:80]}")
        if not value_type.has_static_shape:
            raise PoolError(ErrorCode.PROGRAM_DYNAMIC_SHAPE, f"a value of type {str(value_type)[:80]}")
        if value_type.encoding is not None:
            raise _not_allowed("tensor", f"an encoding: {str(value_type)[:80]}")
        shape = tuple(value_type.shape)
        nbytes = element_bytes(str(value_type.element_type))
        for size in shape:
            nbytes *= size
        if nbytes > self._limits.tensor_bytes_max or len(shape) > self._limits.tensor_rank_max:
            raise _too_large(f"a value of type {str(value_type)[:80]}", self._limits.tensor_bytes_max)

    def _add_constant(self, operation: ir.Operation) -> None:
        try:
            value = operation.attributes["value"]
        except TypeError:  # the bindings cannot show a constant of complex numbers: count it in full
            value = None
        if isinstance(value, ir.DenseElementsAttr) and value.is_splat:
            return
        result_type = ir.RankedTensorType(operation.results[0].type)
        nbytes = element_bytes(str(result_type.element_type))
        for size in result_type.shape:
            nbytes *= size
        self._constant_bytes += nbytes
        if self._constant_bytes > self._limits.constant_bytes_max:
            raise _too_large("bytes of constants in the program", self._limits.constant_bytes_max)


def _is_allowed(name: str) -> bool:
    dialect, _, operation = name.partition(".")
    return dialect == "stablehlo" and operation in ALLOWED_OPERATIONS


def _too_large(what: str, limit: int) -> PoolError:
    return PoolError(
        ErrorCode.PROGRAM_TOO_LARGE, f"{what}, allowed are {limit}"[:500], context={"limit": str(limit)}
    )


def _not_allowed(name: str, reason: str) -> PoolError:
    return PoolError(
        ErrorCode.PROGRAM_OP_NOT_ALLOWED, f"{name[:80]}: {reason}"[:500], context={"operation": name[:80]}
    )

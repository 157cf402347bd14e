"""The meter: how much work a program is, counted before it runs, the same for every car.

    work_uwu = max(1, ceil(max(flops, bytes_moved * MACHINE_BALANCE) / 1e6))

`flops` and `bytes_moved` follow the published rules below, over StableHLO with every call inlined and every
loop multiplied by its rounds, or by the most rounds that it can make; of the branches of a conditional the
dearest counts. The reference device
makes 5 TFLOP/s and moves 200 GB/s, so one byte weighs 25 operations.

FLOPs: a product of matrices 2 per multiply-add, likewise a convolution; other arithmetic 1 per element,
division and roots 4, transcendental functions 16, random bits 40; reductions their body per element;
sorting n * log2(n) times its comparator; a Fourier transform 5 n log2 n; complex numbers 4 times the real.
Moving data costs none.

Bytes: a map program's arguments and results once; operands and results of operations that cannot be fused
away (products, convolutions, reductions over more than they return, sorts, gathers, transforms, native
routines); slices and updates twice what they touch; what a loop carries and changes, read and written once
per round. Elementwise chains between them are free, as they are fused.

Cost model version 1: a change of any rule or constant is a new version, and never changes an admitted
program's price. This module imports JAX; it presumes a vetted module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jax.extend.mlir import ir

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import ceil_div
from pool_protocol.program import lapack
from pool_protocol.program.loops import counter_of, round_bound
from pool_protocol.program.operations import (
    KnownIntegers,
    Value,
    blocks_of,
    callee_of,
    defining_operation,
    element_count,
    element_type,
    integers_of,
    known_integer,
    operations_of,
    shape_of,
    terminator_operands,
    value_bytes,
)

COST_MODEL: Final = 1
MACHINE_BALANCE: Final = 25
FLOPS_PER_UWU: Final = 1_000_000

_DIVISION_FLOPS = 4
_TRANSCENDENTAL_FLOPS = 16
_RANDOM_FLOPS = 40
_COMPLEX_FACTOR = 4
#: Calls that are looked into for an update in place; scan makes one. Deeper, the whole array counts as moved.
_IN_PLACE_DEPTH_MAX = 3

_FREE = frozenset({
    "bitcast_convert", "broadcast_in_dim", "complex", "composite", "concatenate", "constant",
    "dynamic_slice", "dynamic_update_slice", "gather", "get_tuple_element", "imag", "iota",
    "optimization_barrier", "pad", "real", "reshape", "return", "reverse", "slice", "transpose", "tuple",
})  # fmt: skip
_DIVISION_LIKE = frozenset({
    "divide", "remainder", "rsqrt", "sqrt",
})  # fmt: skip
_TRANSCENDENTAL = frozenset({
    "atan2", "cbrt", "cosine", "exponential", "exponential_minus_one", "log", "log_plus_one",
    "logistic", "power", "sine", "tan", "tanh",
})  # fmt: skip
_MATERIAL = frozenset({
    "cholesky", "concatenate", "convolution", "custom_call", "dot_general", "fft", "reduce",
    "reduce_window", "rng_bit_generator", "select_and_scatter", "sort", "triangular_solve",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations and traffic of a piece of program."""

    flops: int = 0
    bytes_moved: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.bytes_moved + other.bytes_moved)

    def times(self, rounds: int) -> "Cost":
        """Return the cost of doing it `rounds` times."""
        return Cost(self.flops * rounds, self.bytes_moved * rounds)

    @property
    def weight(self) -> int:
        """The roofline: what the reference device is kept busy with, in FLOPs."""
        return max(self.flops, self.bytes_moved * MACHINE_BALANCE)

    @property
    def work_uwu(self) -> int:
        """The metered work, at least 1."""
        return max(1, ceil_div(self.weight, FLOPS_PER_UWU))


class CostModel:
    """Counts the functions of one module. A function is counted once per set of known integer arguments."""

    def __init__(self, functions: dict[str, ir.Operation], *, step_count: Value | None = None) -> None:
        """Take the module's functions by name and, for a step program, the value that counts its steps."""
        self._functions = functions
        self._step_count = step_count
        self._memo: dict[tuple[str, tuple[int | None, ...]], Cost] = {}
        self.step_loops = 0
        """How many loops over the step count were met."""

    def main_cost(self) -> Cost:
        """Return the cost of a task (map), or of one step with all that stands around the loop (step).

        Raises:
            PoolError: PROGRAM_UNBOUNDED_LOOP.
        """
        body = self._functions["main"].regions[0].blocks[0]
        cost = self._block(body, {})
        if self._step_count is None:
            traffic = sum(map(value_bytes, [*body.arguments, *terminator_operands(body)]))
            cost += Cost(0, traffic)
        return cost

    def _function(self, name: str, arguments: tuple[int | None, ...]) -> Cost:
        key = (name, arguments)
        if key not in self._memo:
            body = self._functions[name].regions[0].blocks[0]
            known = {
                value: number
                for value, number in zip(body.arguments, arguments, strict=True)
                if number is not None
            }
            self._memo[key] = self._block(body, known)
        return self._memo[key]

    def _block(self, block: ir.Block, known: KnownIntegers) -> Cost:
        total = Cost()
        for operation in operations_of(block):
            total += self._operation(operation, known)
        return total

    def _operation(self, operation: ir.Operation, known: KnownIntegers) -> Cost:
        callee = callee_of(operation)
        if callee is not None:
            return self._function(callee, tuple(known_integer(value, known) for value in operation.operands))
        name = operation.name.removeprefix("stablehlo.")
        if name == "while":
            return self._loop(operation, known)
        if name in {"case", "if"}:
            branches = [self._block(block, known) for block in blocks_of(operation)]
            return max(branches, key=lambda cost: cost.weight, default=Cost())
        region = sum((self._block(block, known).flops for block in blocks_of(operation)), 0)
        return Cost(_flops(operation, name, region), _traffic(operation, name))

    def _loop(self, operation: ir.Operation, known: KnownIntegers) -> Cost:
        condition, body = operation.regions[0].blocks[0], operation.regions[1].blocks[0]
        rounds = round_bound(operation, known)
        if rounds is None:
            rounds = self._step_rounds(operation, known)
        inside = dict(known)
        for index, value in enumerate(terminator_operands(body)):
            number = known_integer(operation.operands[index], known)
            if value == body.arguments[index] and number is not None:
                inside[body.arguments[index]] = number
                inside[condition.arguments[index]] = number
        per_round = (
            self._block(condition, inside) + self._block(body, inside) + Cost(0, self._carried_bytes(body))
        )
        return per_round.times(rounds)

    def _step_rounds(self, operation: ir.Operation, known: KnownIntegers) -> int:
        """Return 1 for the loop over the step count: a step program is metered per step."""
        counter = counter_of(operation, known)
        is_step_loop = (
            counter is not None
            and self._step_count is not None
            and counter.limit == self._step_count
            and (counter.start, counter.step, counter.direction) == (0, 1, "LT")
        )
        if not is_step_loop:
            raise PoolError(ErrorCode.PROGRAM_UNBOUNDED_LOOP, "the number of a loop's rounds is not known")
        self.step_loops += 1
        return 1

    def _carried_bytes(self, body: ir.Block) -> int:
        total = 0
        for argument, after in zip(body.arguments, terminator_operands(body), strict=True):
            if after != argument and not self._updated_in_place(after, argument):
                total += 2 * value_bytes(argument)
        return total

    def _updated_in_place(self, value: Value, argument: Value, *, depth: int = 0) -> bool:
        """Say whether a carried array is only written into, as scan collects its outputs."""
        operation = defining_operation(value)
        if operation is None or not isinstance(value, ir.OpResult) or depth > _IN_PLACE_DEPTH_MAX:
            return False
        if operation.name in {"stablehlo.dynamic_update_slice", "stablehlo.scatter"}:
            return bool(operation.operands[0] == argument)
        callee = callee_of(operation)
        if callee is None:
            return False
        inner = self._functions[callee].regions[0].blocks[0]
        inner_value = terminator_operands(inner)[value.result_number]
        return any(
            outside == argument and self._updated_in_place(inner_value, inside, depth=depth + 1)
            for outside, inside in zip(operation.operands, inner.arguments, strict=True)
        )


def _flops(operation: ir.Operation, name: str, region_flops: int) -> int:
    """Return the operations of one StableHLO operation; `region_flops` is one run of its body."""
    if name in _FREE or not operation.results:
        return 0
    if name == "custom_call":
        return lapack.check_lapack(
            operation, str(ir.StringAttr(operation.attributes["call_target_name"]).value)
        )
    count = max(map(element_count, operation.results))
    is_complex = any(
        "complex" in element_type(value.type) for value in [*operation.operands, *operation.results]
    )
    special = _SPECIAL.get(name)
    if special is not None:
        flops = special(operation, count, region_flops)
    elif name in _TRANSCENDENTAL:
        flops = _TRANSCENDENTAL_FLOPS * count
    elif name in _DIVISION_LIKE:
        flops = _DIVISION_FLOPS * count
    else:
        flops = count
    return flops * (_COMPLEX_FACTOR if is_complex else 1)


def _traffic(operation: ir.Operation, name: str) -> int:
    """Return the bytes that one StableHLO operation cannot avoid moving."""
    if name in _MATERIAL:
        return sum(map(value_bytes, [*operation.operands, *operation.results]))
    if name in {"dynamic_slice", "gather"}:
        return 2 * value_bytes(operation.results[0])
    if name == "dynamic_update_slice":
        return 2 * value_bytes(operation.operands[1])
    if name == "scatter":
        return 3 * value_bytes(operation.operands[-1])
    return 0


def _dot_flops(operation: ir.Operation, count: int, _: int) -> int:
    text = str(operation.attributes["dot_dimension_numbers"])
    listed = text.partition("lhs_contracting_dimensions = [")[2] or text.partition("contracting_dims = [")[2]
    contracted = 1
    for index in listed.partition("]")[0].split(","):
        if index.strip():
            contracted *= shape_of(operation.operands[0])[int(index)]
    return 2 * count * contracted


def _convolution_flops(operation: ir.Operation, count: int, _: int) -> int:
    text = str(operation.attributes["dimension_numbers"])
    kernel = text.partition("x[")[2].partition("]")[0].replace(" ", "").split(",")
    features = shape_of(operation.operands[1])[kernel.index("o")]
    return 2 * count * (element_count(operation.operands[1]) // max(1, features))


def _reduce_flops(operation: ir.Operation, _: int, region_flops: int) -> int:
    return element_count(operation.operands[0]) * max(1, region_flops)


def _window_flops(operation: ir.Operation, count: int, region_flops: int) -> int:
    window = 1
    for size in integers_of(operation, "window_dimensions"):
        window *= size
    if operation.name == "stablehlo.select_and_scatter":
        count = element_count(operation.operands[1])
    return count * window * max(1, region_flops)


def _scatter_flops(operation: ir.Operation, _: int, region_flops: int) -> int:
    return element_count(operation.operands[-1]) * max(1, region_flops)


def _map_flops(_: ir.Operation, count: int, region_flops: int) -> int:
    return count * max(1, region_flops)


def _sort_flops(operation: ir.Operation, count: int, region_flops: int) -> int:
    shape = shape_of(operation.operands[0])
    spelled = (
        str(operation.attributes["dimension"]).split()[0] if "dimension" in operation.attributes else "-1"
    )
    length = shape[int(spelled)] if shape else 1
    return count * max(1, (length - 1).bit_length()) * max(1, region_flops)


def _fft_flops(operation: ir.Operation, _: int, __: int) -> int:
    length = 1
    for size in integers_of(operation, "fft_length"):
        length *= size
    count = max(element_count(operation.operands[0]), element_count(operation.results[0]))
    # The factor for complex numbers is part of the classical 5 n log2 n.
    return ceil_div(5 * count * max(1, (length - 1).bit_length()), _COMPLEX_FACTOR)


def _cholesky_flops(operation: ir.Operation, count: int, _: int) -> int:
    return ceil_div(count * shape_of(operation.operands[0])[-1], 3)


def _triangular_solve_flops(operation: ir.Operation, count: int, _: int) -> int:
    return count * shape_of(operation.operands[0])[-1]


_SPECIAL: Final[dict[str, Callable[[ir.Operation, int, int], int]]] = {
    "dot_general": _dot_flops,
    "convolution": _convolution_flops,
    "reduce": _reduce_flops,
    "reduce_window": _window_flops,
    "select_and_scatter": _window_flops,
    "scatter": _scatter_flops,
    "map": _map_flops,
    "sort": _sort_flops,
    "fft": _fft_flops,
    "cholesky": _cholesky_flops,
    "triangular_solve": _triangular_solve_flops,
    "rng_bit_generator": lambda _, count, __: _RANDOM_FLOPS * count,
}

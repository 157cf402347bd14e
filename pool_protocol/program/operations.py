"""Reading StableHLO: element counts, attributes, called functions, integers known beforehand.

Small readers over MLIR's Python bindings, shared by the vetter and the cost model. Nothing here decides
whether a program is allowed. This module imports JAX.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jax.extend.mlir import ir

#: Integers known for some values: scalars that a caller passed as constants.
KnownIntegers = Mapping[Any, int]
#: What MLIR calls a value: a result of an operation or an argument of a block.
Value = ir.Value[Any]

_NUMBERS = re.compile(r"-?\d+")
_COMPLEX_BYTES = {"complex<f32>": 8, "complex<f64>": 16}
#: How far arithmetic is followed back. Sums of sums double the work with each step: an attacker would go on.
_RESOLVE_DEPTH_MAX = 8


def operations_of(block: ir.Block) -> Iterator[ir.Operation]:
    """Yield a block's operations."""
    for view in block.operations:
        yield view.operation


def blocks_of(operation: ir.Operation) -> Iterator[ir.Block]:
    """Yield the blocks of all regions of an operation."""
    for region in operation.regions:
        yield from region.blocks


def defining_operation(value: Value) -> ir.Operation | None:
    """Return the operation that a value is a result of; None for an argument of a block."""
    if not isinstance(value, ir.OpResult):
        return None
    owner: Any = value.owner
    operation: ir.Operation = getattr(owner, "operation", owner)
    return operation


def shape_of(value: Value) -> tuple[int, ...]:
    """Return the shape of a ranked tensor value."""
    return tuple(ir.RankedTensorType(value.type).shape)


def element_type(value_type: ir.Type) -> str:
    """Return the element type's spelling in StableHLO: f32, i1, complex<f32>."""
    return str(ir.RankedTensorType(value_type).element_type)


def element_bytes(element: str) -> int:
    """Return the bytes of one element; sub-byte types count as one."""
    if element in _COMPLEX_BYTES:
        return _COMPLEX_BYTES[element]
    bits = _NUMBERS.search(element)
    return max(1, int(bits.group()) // 8) if bits else 8


def element_count(value: Value) -> int:
    """Return how many elements a tensor has."""
    count = 1
    for size in shape_of(value):
        count *= size
    return count


def value_bytes(value: Value) -> int:
    """Return a tensor's bytes."""
    return element_count(value) * element_bytes(element_type(value.type))


def integers_of(operation: ir.Operation, attribute: str) -> list[int]:
    """Return the integers of an array attribute such as `array<i64: 2, 3>`; nothing when it is absent."""
    if attribute not in operation.attributes:
        return []
    text = str(operation.attributes[attribute])
    return [int(number) for number in _NUMBERS.findall(text.partition(":")[2])] if ":" in text else []


def callee_of(operation: ir.Operation) -> str | None:
    """Return the name of the function that a call or a composite runs; None for other operations."""
    attribute = {"func.call": "callee", "stablehlo.composite": "decomposition"}.get(operation.name)
    if attribute is None or attribute not in operation.attributes:
        return None
    return str(ir.FlatSymbolRefAttr(operation.attributes[attribute]).value)


def terminator_operands(block: ir.Block) -> list[Value]:
    """Return what a block yields or returns."""
    last = list(block.operations)[-1]
    return list(last.operation.operands)


def known_integer(value: Value, known: KnownIntegers, *, _depth: int = 0) -> int | None:
    """Return the integer that a scalar always is, as far as constants and arithmetic tell."""
    if value in known:
        return known[value]
    operation = defining_operation(value)
    if operation is None or not isinstance(value, ir.OpResult) or _depth > _RESOLVE_DEPTH_MAX:
        return None
    if operation.name == "stablehlo.constant":
        return _scalar_constant(operation)
    if operation.name in {"stablehlo.convert", "stablehlo.reshape", "stablehlo.optimization_barrier"}:
        return known_integer(operation.operands[value.result_number], known, _depth=_depth + 1)
    if operation.name == "stablehlo.while":
        return _loop_invariant(operation, value.result_number, known, _depth + 1)
    if operation.name in _ARITHMETIC and len(operation.operands) == 2:
        left, right = (known_integer(operand, known, _depth=_depth + 1) for operand in operation.operands)
        if left is not None and right is not None and shape_of(value) == ():
            return _fitting(_ARITHMETIC[operation.name](left, right), value.type)
    return None


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "stablehlo.add": lambda a, b: a + b,
    "stablehlo.subtract": lambda a, b: a - b,
    "stablehlo.multiply": lambda a, b: a * b,
    "stablehlo.minimum": min,
    "stablehlo.maximum": max,
}


def integer_bounds(value_type: ir.Type) -> tuple[int, int] | None:
    """Return the least and greatest value of an integer element type; None for other types."""
    spelled = re.fullmatch(r"(u?)i(\d+)", element_type(value_type))
    if spelled is None:
        return None
    bits = int(spelled.group(2))
    return (0, 2**bits - 1) if spelled.group(1) or bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _fitting(number: int, value_type: ir.Type) -> int | None:
    bounds = integer_bounds(value_type)
    return number if bounds is not None and bounds[0] <= number <= bounds[1] else None


def _scalar_constant(operation: ir.Operation) -> int | None:
    result = operation.results[0]
    if shape_of(result) != () or integer_bounds(result.type) is None:
        return None
    text = str(operation.attributes["value"])
    spelled = re.match(r"dense<(-?\d+|true|false)>", text)
    if spelled is None:
        return None
    word = spelled.group(1)
    return {"true": 1, "false": 0}[word] if word in {"true", "false"} else int(word)


def _loop_invariant(operation: ir.Operation, index: int, known: KnownIntegers, depth: int) -> int | None:
    body = operation.regions[1].blocks[0]
    if terminator_operands(body)[index] == body.arguments[index]:
        return known_integer(operation.operands[index], known, _depth=depth)
    return None

"""How often a loop runs, where that can be read off the program.

JAX writes `fori_loop` and `scan` as a while loop over a counter: start and limit known, one comparison, a
constant added per round. Exactly that is recognised, whichever way the comparison is turned; anything else
has no known number of rounds. A count that would only be reached by overflow is not a count. This module
imports JAX.
"""

from dataclasses import dataclass

from jax.extend.mlir import ir

from pool_protocol.program.operations import (
    KnownIntegers,
    Value,
    defining_operation,
    integer_bounds,
    known_integer,
    operations_of,
    terminator_operands,
)

_SWAPPED = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE", "NE": "NE"}


@dataclass(frozen=True, slots=True)
class Counter:
    """The canonical shape of a counted loop."""

    start: int
    limit: Value
    direction: str
    step: int
    value_type: ir.Type


def counter_of(operation: ir.Operation, known: KnownIntegers) -> Counter | None:
    """Return the counter of a while loop whose start and step are known, or None."""
    condition, body = operation.regions[0].blocks[0], operation.regions[1].blocks[0]
    steps = list(operations_of(condition))
    if [step.name for step in steps][-2:] != ["stablehlo.compare", "stablehlo.return"]:
        return None
    compare = steps[-2]
    if steps[-1].operands[0] != compare.results[0]:
        return None
    if any(
        step.name not in {"stablehlo.constant", "stablehlo.compare", "stablehlo.return"} for step in steps
    ):
        return None
    direction = str(compare.attributes["comparison_direction"]).split()[-1].rstrip(">")
    left, right = compare.operands
    index = _argument_index(condition, left)
    if index is None or _is_invariant(body, index):
        left, right, direction = right, left, _SWAPPED.get(direction, "")
        index = _argument_index(condition, left)
    if index is None or direction not in _SWAPPED or integer_bounds(left.type) is None:
        return None
    start = known_integer(operation.operands[index], known)
    step = _step_of(body, index, known)
    limit_index = _argument_index(condition, right)
    if limit_index is not None:
        if not _is_invariant(body, limit_index):
            return None
        right = operation.operands[limit_index]
    if start is None or not step:
        return None
    return Counter(start=start, limit=right, direction=direction, step=step, value_type=left.type)


def trip_count(operation: ir.Operation, known: KnownIntegers) -> int | None:
    """Return how many rounds a while loop makes, or None when that cannot be known before it runs."""
    counter = counter_of(operation, known)
    if counter is None:
        return None
    limit = known_integer(counter.limit, known)
    bounds = integer_bounds(counter.value_type)
    if limit is None or bounds is None:
        return None
    rounds = _rounds(counter, limit)
    # The counter's last value must exist, or it wraps round and the loop goes on.
    if rounds is None or not bounds[0] <= counter.start + rounds * counter.step <= bounds[1]:
        return None
    return rounds


def _rounds(counter: Counter, limit: int) -> int | None:
    distance = limit - counter.start
    upward = counter.step > 0
    match counter.direction:
        case "LT" if upward:
            return max(0, -(-distance // counter.step))
        case "LE" if upward:
            return max(0, distance // counter.step + 1)
        case "GT" if not upward:
            return max(0, -(distance // -counter.step)) if distance < 0 else 0
        case "GE" if not upward:
            return max(0, -distance // -counter.step + 1)
        case "NE" if distance % counter.step == 0 and distance // counter.step >= 0:
            return distance // counter.step
    return None


def _step_of(body: ir.Block, index: int, known: KnownIntegers) -> int | None:
    after = terminator_operands(body)[index]
    operation = defining_operation(after)
    if operation is None or operation.name not in {"stablehlo.add", "stablehlo.subtract"}:
        return None
    left, right = operation.operands
    if operation.name == "stablehlo.add" and right == body.arguments[index]:
        left, right = right, left
    if left != body.arguments[index]:
        return None
    amount = known_integer(right, known)
    if amount is None:
        return None
    return amount if operation.name == "stablehlo.add" else -amount


def _is_invariant(body: ir.Block, index: int) -> bool:
    return bool(terminator_operands(body)[index] == body.arguments[index])


def _argument_index(block: ir.Block, value: Value) -> int | None:
    for index, argument in enumerate(block.arguments):
        if argument == value:
            return index
    return None

"""How often a loop runs, where that can be read off the program.

JAX writes `fori_loop` and `scan` as a while loop over a counter: start and limit known, one comparison, a
constant added per round. Exactly that is recognised, whichever way the comparison is turned. A loop that
goes on while such a counter *and* something else say so may end earlier, and never later: it has a bound. A
count that would only be reached by overflow is not a count. Any other loop has no known number of rounds.
This module imports JAX.
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

#: Conditions joined by "and" that are looked through for a counter.
_CONJUNCTION_DEPTH_MAX = 8
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
    condition = operation.regions[0].blocks[0]
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
    return _counter_in(compare, operation, known)


def _counter_in(compare: ir.Operation, operation: ir.Operation, known: KnownIntegers) -> Counter | None:
    """Return the counter that one comparison in a loop's condition looks at, or None."""
    condition, body = operation.regions[0].blocks[0], operation.regions[1].blocks[0]
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
    return None if counter is None else _count(counter, known)


def round_bound(operation: ir.Operation, known: KnownIntegers) -> int | None:
    """Return how many rounds a while loop makes at most, or None when nothing in it says so.

    Exact for a counted loop; else the least count of the counters that its condition joins by "and".
    """
    rounds = trip_count(operation, known)
    if rounds is not None:
        return rounds
    condition = operation.regions[0].blocks[0]
    counts = [
        count
        for compare in _conjuncts(terminator_operands(condition)[0])
        if (counter := _counter_in(compare, operation, known)) is not None
        and (count := _count(counter, known)) is not None
    ]
    return min(counts, default=None)


def _conjuncts(value: Value, *, depth: int = 0) -> list[ir.Operation]:
    """Return the comparisons that must all hold for a condition to hold."""
    operation = defining_operation(value)
    if operation is None or depth > _CONJUNCTION_DEPTH_MAX:
        return []
    if operation.name == "stablehlo.compare":
        return [operation]
    if operation.name != "stablehlo.and":
        return []
    left, right = operation.operands
    return _conjuncts(left, depth=depth + 1) + _conjuncts(right, depth=depth + 1)


def _count(counter: Counter, known: KnownIntegers) -> int | None:
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

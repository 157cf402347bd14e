"""The linear algebra that JAX ships as native routines on CPUs: which targets, which shapes, what they cost.

A routine trusts the shapes that a program declares: a forged one makes it write beyond its buffers. So each
target has a rule that says what its operands and results must be, and a call that does not fit is refused.
Layout and aliasing attributes must be those that JAX writes. This module imports JAX.
"""

import re
from dataclasses import dataclass

from jax.extend.mlir import ir

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.operations import element_type, shape_of

_TARGET = re.compile(r"lapack_([sdcz])(potrf|geqrf|orgqr|ungqr|gesdd|getrf|trsm|syevd|heevd|geev)_ffi")
_ELEMENT = {"s": "f32", "d": "f64", "c": "complex<f32>", "z": "complex<f64>"}
_REAL = {"f32": "f32", "f64": "f64", "complex<f32>": "f32", "complex<f64>": "f64"}
_COMPLEX = {
    "f32": "complex<f32>",
    "f64": "complex<f64>",
    "complex<f32>": "complex<f32>",
    "complex<f64>": "complex<f64>",
}
#: Attributes that JAX writes on these calls. Others are refused.
_ATTRIBUTES = frozenset({
    "api_version", "call_target_name", "has_side_effect", "mhlo.backend_config", "mhlo.frontend_attributes",
    "operand_layouts", "output_operand_aliases", "result_layouts", "sdy.sharding_rule",
})  # fmt: skip

_Slot = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Call:
    """The parts of a call that its rule reads: batch dimensions, rows and columns of the first operand."""

    routine: str
    element: str
    batch: tuple[int, ...]
    m: int
    n: int
    operands: list[_Slot]
    results: list[_Slot]


def is_lapack(target: str) -> bool:
    """Say whether a custom call's target is one of the routines known here."""
    return _TARGET.fullmatch(target) is not None


def check_lapack(operation: ir.Operation, target: str) -> int:
    """Return the floating-point operations of a LAPACK call after checking its operands and results.

    Raises:
        PoolError: PROGRAM_CUSTOM_CALL when target, types, shapes or attributes are not as JAX writes them.
    """
    call = _read(operation, target)
    expected_operands, expected_results = _signature(call)
    if call.operands != expected_operands or call.results != expected_results:
        raise _refuse(target, f"operands {call.operands} and results {call.results} do not fit")
    _check_layouts(operation, target)
    batch = 1
    for size in call.batch:
        batch *= size
    return max(1, batch * _flops(call) * (4 if call.element.startswith("complex") else 1))


def _read(operation: ir.Operation, target: str) -> _Call:
    spelled = _TARGET.fullmatch(target)
    if spelled is None:
        raise _refuse(target, "it is not on the list")
    operands = [(element_type(value.type), shape_of(value)) for value in operation.operands]
    results = [(element_type(value.type), shape_of(value)) for value in operation.results]
    if not operands or len(operands[0][1]) < 2 or operands[0][0] != _ELEMENT[spelled.group(1)]:
        raise _refuse(target, "its first operand is not a matrix of its type")
    if "has_side_effect" in operation.attributes and "true" in str(operation.attributes["has_side_effect"]):
        raise _refuse(target, "it declares a side effect")
    shape = operands[0][1]
    return _Call(
        routine=spelled.group(2),
        element=operands[0][0],
        batch=shape[:-2],
        m=shape[-2],
        n=shape[-1],
        operands=operands,
        results=results,
    )


def _signature(call: _Call) -> tuple[list[_Slot], list[_Slot]]:
    """Return what operands and results of a routine must be, given its first operand."""
    element, batch, m, n = call.element, call.batch, call.m, call.n
    least = min(m, n)
    first = call.operands[0]
    info: _Slot = ("i32", batch)

    def vector(size: int, kind: str = element) -> _Slot:
        return (kind, (*batch, size))

    def matrix(rows: int, columns: int, kind: str = element) -> _Slot:
        return (kind, (*batch, rows, columns))

    square = m == n
    match call.routine:
        case "potrf" if square:
            return [first], [first, info]
        case "getrf":
            return [first], [first, vector(least, "i32"), info]
        case "geqrf":
            return [first], [first, vector(least)]
        case "orgqr" | "ungqr" if m >= n:
            count = call.operands[1][1][-1] if len(call.operands) == 2 and call.operands[1][1] else -1
            if 0 <= count <= n:
                return [first, vector(count)], [first]
        case "trsm" if square and len(call.operands) == 2 and len(call.operands[1][1]) == len(first[1]):
            rows, columns = call.operands[1][1][-2:]
            if m in (rows, columns):
                return [first, matrix(rows, columns)], [matrix(rows, columns)]
        case "syevd" | "heevd" if square:
            return [first], [first, vector(n, _REAL[element]), info]
        case "gesdd" if len(call.results) == 5:
            is_full = call.results[2][1][-1:] == (m,)
            u_columns, vt_rows = (m, n) if is_full else (least, least)
            return [first], [
                first,
                vector(least, _REAL[element]),
                matrix(m, u_columns),
                matrix(vt_rows, n),
                info,
            ]
        case "geev" if square:
            if element.startswith("complex"):
                return [first], [vector(n), matrix(n, n), matrix(n, n), info]
            eigenvectors = matrix(n, n, _COMPLEX[element])
            return [first], [vector(n), vector(n), eigenvectors, eigenvectors, info]
    raise _refuse(call.routine, f"no rule for a {m}x{n} matrix with {len(call.operands)} operands")


def _check_layouts(operation: ir.Operation, target: str) -> None:
    """Refuse attributes of the call that JAX does not write, or another calling convention."""
    strange = [name for name in operation.attributes if name not in _ATTRIBUTES]
    if strange:
        raise _refuse(target, f"unknown attributes {strange[:5]}")
    # Absent means the typed convention, this StableHLO's default; older ones pass raw pointers.
    if "api_version" in operation.attributes and not str(operation.attributes["api_version"]).startswith("4"):
        raise _refuse(target, "it does not use the typed calling convention")


def _flops(call: _Call) -> int:
    """Return the textbook count for one real matrix (LAPACK Working Note 41; Golub and Van Loan)."""
    m, n = call.m, call.n
    long, short = max(m, n), min(m, n)
    match call.routine:
        case "potrf":
            return n**3 // 3
        case "getrf":
            return 2 * long * short**2 // 3 + 1
        case "geqrf" | "orgqr" | "ungqr":
            return 2 * long * short**2
        case "trsm":
            other = call.operands[1][1]
            return m * other[-2] * other[-1]
        case "syevd" | "heevd":
            return 9 * n**3
        case "gesdd":
            return 4 * long * short**2 + 22 * short**3
        case _:
            return 25 * n**3


def _refuse(target: str, reason: str) -> PoolError:
    return PoolError(
        ErrorCode.PROGRAM_CUSTOM_CALL,
        f"native routine {target[:80]}: {reason}"[:500],
        context={"target": target[:80]},
    )

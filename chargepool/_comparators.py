"""How the results of two cars are compared: part of what a buyer declares with a program.

The pool does the comparing; here is only the declaration.
"""

import math
from dataclasses import dataclass

from chargepool._errors import ChargepoolError, ProgramRefused
from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import common_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparator:
    """A rule for agreement of two results; made by `exact()` and `close(...)`."""

    rtol: float = 0.0
    """Relative tolerance; 0 with atol 0 means equal bit by bit."""
    atol: float = 0.0
    """Absolute tolerance."""

    @property
    def is_exact(self) -> bool:
        """True when results must have the same digest (all NaN being one value)."""
        return self.rtol == 0.0 and self.atol == 0.0

    def to_wire(self) -> common_pb2.Comparator:
        """Return the message of the job."""
        if self.is_exact:
            return common_pb2.Comparator(kind=common_pb2.COMPARATOR_KIND_EXACT)
        return common_pb2.Comparator(kind=common_pb2.COMPARATOR_KIND_CLOSE, rtol=self.rtol, atol=self.atol)


def exact() -> Comparator:
    """Results agree when shapes, dtypes and bits are equal. Right for integers, and for one kind of car."""
    return Comparator()


def close(*, rtol: float, atol: float) -> Comparator:
    """Results agree when `|a - b| <= atol + rtol * |b|` in every element, after shapes and dtypes.

    Choose tolerances that honest hardware keeps and that a wrong answer breaks: too wide, and lies pass.

    Raises:
        ProgramRefused: A tolerance is negative or not finite, or both are zero (use `exact()`).
    """
    if not (math.isfinite(rtol) and math.isfinite(atol) and rtol >= 0 and atol >= 0):
        raise _refuse(f"Tolerances must be finite and not negative: rtol={rtol}, atol={atol}.")
    if rtol == 0 and atol == 0:
        raise _refuse("close(rtol=0, atol=0) compares bit by bit; write exact().")
    return Comparator(rtol=rtol, atol=atol)


def as_comparator(given: "Comparator | str") -> Comparator:
    """Return the comparator for what a caller passed.

    Raises:
        ProgramRefused: It is neither a Comparator nor "exact".
    """
    if isinstance(given, Comparator):
        return given
    if given == "exact":
        return exact()
    raise _refuse(f'A comparator is "exact" or chargepool.close(rtol=..., atol=...), not {given!r}.')


def _refuse(detail: str) -> ChargepoolError:
    return ProgramRefused(detail, code=ErrorCode.INVALID_ARGUMENT, next_step="Correct the comparator.")

"""How the results of two cars are compared: part of what a buyer declares with a program.

The pool does the comparing; here is only the declaration.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Union

from chargepool._errors import ChargepoolError, ProgramRefused
from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import common_pb2

#: As `pool_protocol.ulps.ULPS_MAX`, which would load NumPy.
ULPS_MAX = 2**20

#: What stands for a comparator: one, "exact", "measured", or one per output by name (exact for the others).
ComparatorLike = Union["Comparator", str, Mapping[str, "Comparator | str"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparator:
    """A rule for agreement of two results; made by `exact`, `close`, `ulp`, `unordered` and `per_output`."""

    rtol: float = 0.0
    """Relative tolerance; without any other bound, results must be equal bit by bit."""
    atol: float = 0.0
    """Absolute tolerance."""
    ulps: int = 0
    """Largest distance in representable values."""
    any_order: bool = False
    """True when rows may come in any order."""
    outputs: tuple[tuple[str, "Comparator"], ...] = ()
    """Comparators of outputs that have one of their own, by name."""
    is_measured: bool = False
    """True while it is still to be found, by a check of the program's numerics; of a `Program` never."""

    @property
    def kind(self) -> common_pb2.ComparatorKind.ValueType:
        """The rule for outputs that have none of their own, as the wire names it."""
        if self.any_order:
            return common_pb2.COMPARATOR_KIND_SET
        if self.ulps:
            return common_pb2.COMPARATOR_KIND_ULP
        if self.rtol or self.atol:
            return common_pb2.COMPARATOR_KIND_CLOSE
        return common_pb2.COMPARATOR_KIND_EXACT

    @property
    def is_exact(self) -> bool:
        """True when results must have the same digest (all NaN being one value)."""
        return self.kind == common_pb2.COMPARATOR_KIND_EXACT and all(
            comparator.is_exact for _name, comparator in self.outputs
        )

    def rule_of(self, name: str) -> "Comparator":
        """Return the rule that compares an output."""
        return dict(self.outputs).get(name) or replace(self, outputs=())

    def to_wire(self) -> common_pb2.Comparator:
        """Return the message of the job."""
        return common_pb2.Comparator(
            kind=self.kind,
            rtol=self.rtol,
            atol=self.atol,
            ulps=self.ulps,
            outputs=[
                common_pb2.OutputComparator(
                    name=name,
                    kind=comparator.kind,
                    rtol=comparator.rtol,
                    atol=comparator.atol,
                    ulps=comparator.ulps,
                )
                for name, comparator in self.outputs
            ],
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; `from_json` reads them."""
        return {
            "rtol": self.rtol,
            "atol": self.atol,
            "ulps": self.ulps,
            "any_order": self.any_order,
            "outputs": {name: comparator.to_json() for name, comparator in self.outputs},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Comparator":
        """Read what `to_json` wrote, by this version or one that knew tolerances only.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        return cls(
            rtol=float(content["rtol"]),
            atol=float(content["atol"]),
            ulps=int(content.get("ulps", 0)),
            any_order=bool(content.get("any_order", False)),
            outputs=tuple((name, cls.from_json(item)) for name, item in content.get("outputs", {}).items()),
        )

    def require_outputs(self, names: Collection[str]) -> None:
        """Check that the program has the outputs that have comparators of their own.

        Raises:
            ProgramRefused: It lacks one.
        """
        unknown = [name for name, _comparator in self.outputs if name not in names]
        if unknown:
            raise _refuse(f"The program has no output {unknown[0]!r}; its outputs are {sorted(names)[:20]}.")

    def __str__(self) -> str:
        if self.is_measured:
            return "measured"
        match self.kind:
            case common_pb2.COMPARATOR_KIND_CLOSE:
                rule = f"close(rtol={self.rtol:g}, atol={self.atol:g})"
            case common_pb2.COMPARATOR_KIND_ULP:
                rule = f"ulp({self.ulps})"
            case common_pb2.COMPARATOR_KIND_SET:
                rule = "unordered()"
            case _:
                rule = "exact()"
        if not self.outputs:
            return rule
        named = ", ".join(f"{name!r}: {comparator}" for name, comparator in self.outputs)
        return f"per_output({{{named}}}, otherwise={rule})"


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


def ulp(n: int) -> Comparator:
    """Results agree when floating-point elements are at most `n` representable values apart.

    Right for hardware that rounds the last bits otherwise, at any magnitude. -0.0 and 0.0 are 0 apart,
    complex numbers count by their parts. Integers must be equal, NaN agrees with NaN, an infinity with the
    same one.

    Raises:
        ProgramRefused: n is not an integer from 1 to 2**20.
    """
    if type(n) is not int or not 1 <= n <= ULPS_MAX:
        raise _refuse(f"ulp(n) takes an integer from 1 to {ULPS_MAX}, not {n!r}.")
    return Comparator(ulps=n)


def unordered() -> Comparator:
    """Results agree when they hold the same rows, bit by bit, in any order along the first axis.

    Right for hits of a search, or the elements of a set. How often a row occurs counts.
    """
    return Comparator(any_order=True)


def per_output(
    comparators: Mapping[str, Comparator | str], *, otherwise: Comparator | str = "exact"
) -> Comparator:
    """Results agree when each output does, by its own comparator or by `otherwise`.

    Args:
        comparators: By output name, as `chargepool program check` prints them; of a function that returns a
            dict these are its keys.
        otherwise: For all other outputs.

    Raises:
        ProgramRefused: One of them is no comparator, or is itself one per output.
    """
    rest = as_comparator(otherwise)
    named = tuple((name, as_comparator(comparators[name])) for name in sorted(comparators))
    every = (rest, *(comparator for _name, comparator in named))
    if any(comparator.outputs or comparator.is_measured for comparator in every):
        raise _refuse('An output has one comparator, not one per output; "measured" is for all of them.')
    return Comparator(rtol=rest.rtol, atol=rest.atol, ulps=rest.ulps, any_order=rest.any_order, outputs=named)


def as_comparator(given: ComparatorLike) -> Comparator:
    """Return the comparator for what a caller passed.

    Raises:
        ProgramRefused: It is neither a Comparator, nor "exact" or "measured", nor a mapping by output name.
    """
    if isinstance(given, Comparator):
        return given
    if isinstance(given, Mapping):
        return per_output(given)
    if given == "exact":
        return exact()
    if given == "measured":
        return Comparator(is_measured=True)
    raise _refuse(
        'A comparator is "exact", "measured", chargepool.close(rtol=..., atol=...), ulp(n), unordered(), '
        f"or a dict of these by output name; not {given!r}."
    )


def _refuse(detail: str) -> ChargepoolError:
    return ProgramRefused(detail, code=ErrorCode.INVALID_ARGUMENT, next_step="Correct the comparator.")

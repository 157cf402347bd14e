"""Which comparator and class rule fit a program, decided from how far its runs under several settings differ.

Pure: `propose` takes what was measured and returns what to declare, each with its reason in one sentence.
Measuring is `_differences`' part, running `_numerics`'.

What the pool makes of a comparator decides the class rule. An output that must have equal bits keeps the
job's checks within comparable numeric classes; with a tolerance for every output any car may check any other.
So the proposal is one of three:

    all bits equal                     exact; across classes only where no fraction is made on the way
    all differences within tolerances  a tolerance for every output, across classes
    anything else                      exact (or unordered, where only rows changed places), within a class
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from chargepool._comparators import ULPS_MAX, Comparator, close, exact, per_output, ulp, unordered
from chargepool._differences import Difference, OutputEvidence, worst

#: Bits of a fraction after its leading one, by element type.
_MANTISSA_BITS: Final = MappingProxyType({
    "float64": 52, "float32": 23, "complex64": 23, "float16": 10, "bfloat16": 7,
    "float8_e4m3fn": 3, "float8_e5m2": 2,
})  # fmt: skip
#: From here on a type holds several roundings' worth of room below what anybody reads off a result.
_FINE_MANTISSA_BITS: Final = 16
#: A tolerance is so many times what was seen: other processors and inputs may differ by more.
MARGIN: Final = 10
#: Results of a coarse type are mostly one rounding apart; ten would be a wrong answer.
COARSE_MARGIN: Final = 2
#: A tolerance that is wider, as a share of the largest value, would let wrong answers pass.
TOLERANCE_MAX: Final = 1e-2
_COARSE_TOLERANCE_MAX: Final = 0.1
_EQUAL: Final = "It had the same bits under all settings"
_ROUNDING: Final = "rounding each input otherwise"
_TOO_WIDE: Final = "a tolerance that wide would let wrong answers pass."
#: Beyond so many ulps numbers that cancel decide, and other inputs may cancel more: a tolerance by magnitude
#: bears that.
_ULPS_PREFERRED_MAX: Final = 2**6
_COARSE_ULPS_PREFERRED_MAX: Final = 2**3


@unique
class ClassRule(StrEnum):
    """Whose results may be compared with each other."""

    SAME_CLASS = "same-class"
    """Bit by bit, between cars of comparable numeric classes only."""
    ANY_CLASS = "any-class"
    """Between any two cars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why no comparator can be proposed for an output."""

    name: str
    reason: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputProposal:
    """What to declare for one output, and why."""

    name: str
    comparator: Comparator
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What to declare for a program, or why it should not be sent as it is."""

    comparator: Comparator | None
    """For `Client.program`; None when it is refused."""
    class_rule: ClassRule | None
    reason: str
    """Of the class rule, or of the refusal."""
    alternative: Comparator | None = None
    """What holds too, under the other class rule."""
    outputs: tuple[OutputProposal, ...] = ()
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judgement:
    """What one output wants, by itself, under either class rule."""

    output: OutputEvidence
    across: Comparator | None
    """The rule between any two cars. Exact: equal under any tolerance; None: there is no such rule."""
    why_across: str
    within: Comparator
    """The rule between cars of one class."""
    why_within: str


def propose(outputs: Sequence[OutputEvidence], *, only_whole_numbers: bool) -> Proposal:
    """Choose a comparator and a class rule.

    1. Other bits in a second run of one setting, or after another cut of the steps: a refusal.
    2. Each output is judged by itself: equal, within a tolerance, in another order, or by bits alone.
    3. One output that must be compared by its bits keeps all checks within a class, where all bits are equal:
       then nothing is given a tolerance that it does not need. Otherwise every output gets one.

    Args:
        outputs: What was measured of each output.
        only_whole_numbers: Whether the program makes no fraction on the way, so that all machines agree.
    """
    refusals = tuple(refusal for output in outputs for refusal in _refusals(output))
    if refusals:
        return Proposal(comparator=None, class_rule=None, reason=refusals[0].reason, refusals=refusals)
    judged = [_judge(output) for output in outputs]
    if all(output.elsewhere.is_equal for output in outputs):
        return _by_equal_bits(judged, only_whole_numbers=only_whole_numbers)
    bound = next((one for one in judged if one.across is None), None)
    return _by_tolerance(judged) if bound is None else _within_a_class(judged, bound)


# --- each output by itself ----------------------------------------------------------------------


def _refusals(output: OutputEvidence) -> list[Refusal]:
    found = []
    if not output.again.is_equal:
        what = (
            "Sort its rows before you return them."
            if output.again.same_rows
            else "Look for work whose order is left to chance, make each step depend on its inputs alone (a "
            "jax.random key among them), or prove results with a certificate."
        )
        found.append(
            Refusal(
                name=output.name,
                reason=f"Output {output.name!r} {output.told(output.again)} between two runs under one and "
                "the same setting: by comparing nobody could tell an honest car from a wrong one.",
                next_step=what,
            )
        )
    if output.cut is not None and not output.cut.is_equal:
        found.append(
            Refusal(
                name=output.name,
                reason=f"Output {output.name!r} {output.told(output.cut)} when the same steps are made in "
                "more units than one: checkpoints and disputes need states that do not depend on the cut.",
                next_step="Keep in the state all that a step reads, and nothing that counts calls.",
            )
        )
    return found


def _judge(output: OutputEvidence) -> _Judgement:
    if output.elsewhere.is_equal:
        return _judge_equal(output)
    across, why = _tolerance_of(output)
    is_reordered = output.elsewhere.same_rows
    return _Judgement(
        output=output,
        across=across,
        why_across=why,
        within=unordered() if is_reordered else exact(),
        why_within=why if across is None else "Within a class its bits are equal, and it needs no tolerance.",
    )


def _judge_equal(output: OutputEvidence) -> _Judgement:
    across: Comparator | None
    if not output.is_whole:
        across = _tolerance_with_room(output)
        why = f"{_EQUAL}; this is {_margin(output.dtype)} times what {_ROUNDING} changes, rounded up."
    else:
        across = exact() if output.rounded.is_equal else None
        why = f"{_EQUAL}, and a tolerance wants whole numbers equal."
    why_within = f"{_EQUAL}."
    if output.says_nothing:
        across, why_within = (
            None,
            "It held no finite number, so nothing was learned of it: give other inputs.",
        )
    elif across is None:
        why_within = f"{_EQUAL}, but {_changed_by_rounding(output)}"
    return _Judgement(output=output, across=across, why_across=why, within=exact(), why_within=why_within)


def _tolerance_of(output: OutputEvidence) -> tuple[Comparator | None, str]:
    """Return the tolerance of an output that differs, and why it has this one or none."""
    seen = output.elsewhere
    told = f"It {output.told(seen)} under {output.where}"
    if seen.same_rows:
        return None, f"Its rows are the same, in another order, under {output.where}."
    if output.is_whole:
        return None, f"{told}, and whole numbers have no tolerance."
    if not seen.specials_alike:
        return None, f"NaN or infinity stands in other places under {output.where}."
    tolerance = _tolerance(output.dtype, seen)
    if tolerance is None:
        return None, f"{told}: {_TOO_WIDE}"
    with_room = _tolerance_with_room(output)
    if with_room is None:
        return None, f"{told}, and {_changed_by_rounding(output)}"
    what = "as much" if with_room == tolerance else f"what {_ROUNDING} changes"
    return with_room, f"{told}; this is {_margin(output.dtype)} times {what}, rounded up."


def _changed_by_rounding(output: OutputEvidence) -> str:
    if output.is_whole:
        return f"{_ROUNDING} changes {output.rounded.differing} of its {output.rounded.numbers} numbers."
    if not output.rounded.specials_alike:
        return f"{_ROUNDING} puts NaN or infinity in other places."
    return f"{_ROUNDING} changes it by {output.rounded.relative:.2g} of its largest value: {_TOO_WIDE}"


def _tolerance_with_room(output: OutputEvidence) -> Comparator | None:
    """Return a tolerance for other settings and for one rounding of each input; None when it is too wide.

    A processor that was not tried may sum in another order; that changes about as much as such a rounding.
    """
    seen = worst((output.elsewhere, output.rounded))
    return _tolerance(output.dtype, seen) if seen.specials_alike else None


def _tolerance(dtype: str, seen: Difference) -> Comparator | None:
    """Return the narrowest tolerance with room for `MARGIN` times what was seen; None when it is too wide."""
    bits, margin = _MANTISSA_BITS.get(dtype, 0), _margin(dtype)
    if bits >= _FINE_MANTISSA_BITS:
        widest, ulps_max = TOLERANCE_MAX, _ULPS_PREFERRED_MAX
    else:
        widest = min(_COARSE_TOLERANCE_MAX, max(TOLERANCE_MAX, _COARSE_ULPS_PREFERRED_MAX * 2.0**-bits))
        ulps_max = min(_COARSE_ULPS_PREFERRED_MAX, int(widest * 2**bits))
    ulps = _power_of_two(margin * max(seen.ulps, 1))
    if ulps <= min(ulps_max, ULPS_MAX):
        return ulp(ulps)
    rtol = _round_up(margin * max(seen.relative, 2.0**-bits))
    atol = _round_up(margin * seen.absolute)
    # Under `close` small results are held against what large ones differ by.
    is_narrow = rtol <= widest and atol <= widest * seen.scale_min
    return close(rtol=rtol, atol=atol) if is_narrow else None


def _margin(dtype: str) -> int:
    return MARGIN if _MANTISSA_BITS.get(dtype, 0) >= _FINE_MANTISSA_BITS else COARSE_MARGIN


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _round_up(least: float) -> float:
    """Return the next of 1, 2, 5, 10, ... times a power of ten; a number that people can read."""
    if least == 0.0 or math.isinf(least):
        return least
    exponent = int(f"{least:e}".partition("e")[2])
    steps = (float(f"{digit}e{exponent + shift}") for shift in (0, 1) for digit in (1, 2, 5))
    return next(rounded for rounded in steps if rounded >= least)


# --- all outputs together -----------------------------------------------------------------------


def _by_equal_bits(judged: Sequence[_Judgement], *, only_whole_numbers: bool) -> Proposal:
    why: str | None = None
    alternative = None
    if only_whole_numbers:
        class_rule = ClassRule.ANY_CLASS
        why = "It makes no fraction on the way: every machine returns the same bits."
        job = "The program makes no fraction on the way, so any two cars must return the same bits."
    else:
        class_rule = ClassRule.SAME_CLASS
        job = (
            "All bits were equal under all settings, but on this one machine: other processors were not "
            "tried, so bits are compared within a numeric class."
        )
        if all(one.across is not None for one in judged) and not all(one.output.is_whole for one in judged):
            alternative = _by_tolerance(judged).comparator
    return Proposal(
        comparator=exact(),
        class_rule=class_rule,
        reason=job,
        alternative=alternative,
        outputs=tuple(
            OutputProposal(name=one.output.name, comparator=exact(), reason=why or one.why_within)
            for one in judged
        ),
    )


def _by_tolerance(judged: Sequence[_Judgement]) -> Proposal:
    given = {one.output.name: one.across for one in judged if one.across and not one.across.is_exact}
    usual = Counter(given.values()).most_common(1)[0][0]
    # Were it exact for some outputs, the pool would keep all checks within a class.
    rules = {one.output.name: given.get(one.output.name, usual) for one in judged}
    return Proposal(
        comparator=_joined(rules, usual),
        class_rule=ClassRule.ANY_CLASS,
        reason="Every output has a tolerance that other settings keep, so any two cars may be compared.",
        alternative=exact(),
        outputs=tuple(
            OutputProposal(name=one.output.name, comparator=rules[one.output.name], reason=one.why_across)
            for one in judged
        ),
    )


def _within_a_class(judged: Sequence[_Judgement], bound: _Judgement) -> Proposal:
    return Proposal(
        comparator=_joined({one.output.name: one.within for one in judged}, exact()),
        class_rule=ClassRule.SAME_CLASS,
        reason=(
            f"Output {bound.output.name!r} can only be compared bit by bit, and that holds within a numeric "
            "class."
        ),
        outputs=tuple(
            OutputProposal(name=one.output.name, comparator=one.within, reason=one.why_within)
            for one in judged
        ),
    )


def _joined(rules: Mapping[str, Comparator], usual: Comparator) -> Comparator:
    if len(set(rules.values())) == 1:
        return next(iter(rules.values()))
    return per_output({name: rule for name, rule in rules.items() if rule != usual}, otherwise=usual)

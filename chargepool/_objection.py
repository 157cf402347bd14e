"""Whether a declared comparator will hold, as far as a check of the program's numerics can tell. Pure."""

from collections.abc import Sequence

from chargepool._comparators import Comparator
from chargepool._differences import Difference, OutputEvidence
from chargepool._proposal import ClassRule, Proposal
from pool_protocol.v1 import common_pb2


def objection(outputs: Sequence[OutputEvidence], comparator: Comparator, *, proposal: Proposal) -> str | None:
    """Say why a declared comparator will not hold, or None when nothing that was seen speaks against it."""
    advice = "" if proposal.comparator is None else f" The check proposed {proposal.comparator}."
    for output in outputs:
        rule = comparator.rule_of(output.name)
        for seen in (output.again, output.cut):
            if seen is not None and not may_hold(rule, seen, is_whole=output.is_whole):
                return (
                    f"{rule} will not hold: output {output.name!r} {output.told(seen)} between two runs "
                    "under one and the same setting."
                )
        seen = output.elsewhere
        if may_hold(rule, seen, is_whole=output.is_whole):
            continue
        if not _compares_bits(rule):
            return (
                f"{rule} will not hold: output {output.name!r} {output.told(seen)} under {output.where}."
                + advice
            )
        if proposal.class_rule is ClassRule.ANY_CLASS:
            return (
                f"{rule} will not hold across numeric classes: output {output.name!r} {output.told(seen)} "
                f"under {output.where}. Checks then wait for cars of comparable classes.{advice}"
            )
    return None


def may_hold(rule: Comparator, seen: Difference, *, is_whole: bool) -> bool:
    """Say whether a rule for one output agrees with a difference that was seen.

    Certain but for `close`: that is held against the largest distance and the largest magnitude, wherever
    each of them stood, so True may be wrong; False is not, unless parts of a complex NaN differ.
    """
    if seen.is_equal:
        return True
    match rule.kind:
        case common_pb2.COMPARATOR_KIND_SET:
            return seen.same_rows
        case common_pb2.COMPARATOR_KIND_ULP:
            return not is_whole and seen.specials_alike and seen.ulps <= rule.ulps
        case common_pb2.COMPARATOR_KIND_CLOSE:
            allowed = rule.atol + rule.rtol * seen.scale
            return not is_whole and seen.specials_alike and seen.absolute <= allowed
        case _:
            return False


def _compares_bits(rule: Comparator) -> bool:
    return rule.kind in {common_pb2.COMPARATOR_KIND_EXACT, common_pb2.COMPARATOR_KIND_SET}

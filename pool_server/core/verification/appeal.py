"""An owner's appeal: the pool computes a rejected result again, and what that says of it. Pure.

Who may appeal, and until when; what the pool's own run means. Running is not here, nor what follows for
money and history (`app.appeals`).
"""

from pool_server.core.verification.findings import FindingKind, FindingOutcome

#: Why a vehicle left quarantine.
APPEAL_GRANTED = "its owner's appeal is granted"
#: What an owner may appeal against. A class fault blames nobody; what was upheld needs no appeal.
APPEALABLE = frozenset({FindingOutcome.WRONG, FindingOutcome.WITHHELD})


def appeal_until_us(
    kind: FindingKind, finding: FindingOutcome, *, found_at_us: int, window_us: int, appealed: bool
) -> int:
    """Return until when a finding may be appealed, once; 0 where it may not.

    Args:
        kind: Which check found it.
        finding: What it found.
        found_at_us: When.
        window_us: The pool's dispute window.
        appealed: Whether its attempt was appealed before.
    """
    # A stopped attempt has no result that the pool could compute again and compare.
    if appealed or kind in (FindingKind.APPEAL, FindingKind.PREFIX) or finding not in APPEALABLE:
        return 0
    return found_at_us + window_us


def rule_on_appeal(
    *, agrees: bool, needs_same_bits: bool, numeric_class: str, referee_class: str
) -> FindingOutcome:
    """Say what the pool's own run means for a result.

    Args:
        agrees: Whether both are the same by the job's comparator.
        needs_same_bits: Whether the comparator has no tolerance for rounding.
        numeric_class: Of the vehicle when it computed; empty where unknown.
        referee_class: Of the pool's machine; empty where unknown.

    Returns:
        UPHELD: the result is right. WRONG: it is not. OPEN: bits differ, and so do the classes, so that an
        honest result might look the same; nothing changes.
    """
    if agrees:
        return FindingOutcome.UPHELD
    comparable = not numeric_class or not referee_class or numeric_class == referee_class
    return FindingOutcome.WRONG if comparable or not needs_same_bits else FindingOutcome.OPEN

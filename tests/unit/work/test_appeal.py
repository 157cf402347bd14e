"""What the pool's own run means for a rejected result, and until when an owner may ask for it."""

import pytest

from pool_server.core.verification.appeal import appeal_until_us, rule_on_appeal
from pool_server.core.verification.findings import FindingKind, FindingOutcome

UPHELD, WRONG, OPEN = FindingOutcome.UPHELD, FindingOutcome.WRONG, FindingOutcome.OPEN


@pytest.mark.parametrize(
    ("agrees", "needs_same_bits", "numeric_class", "referee_class", "found"),
    [
        (True, True, "x", "y", UPHELD),
        (True, False, "", "", UPHELD),
        (False, True, "x", "x", WRONG),
        (False, True, "", "x", WRONG),
        (False, True, "x", "", WRONG),
        # Other machines may honestly return other bits,
        (False, True, "x", "y", OPEN),
        # but not values beyond a tolerance.
        (False, False, "x", "y", WRONG),
    ],
)
def test_bits_convict_within_a_class_and_tolerances_everywhere(
    *, agrees: bool, needs_same_bits: bool, numeric_class: str, referee_class: str, found: FindingOutcome
) -> None:
    assert (
        rule_on_appeal(
            agrees=agrees,
            needs_same_bits=needs_same_bits,
            numeric_class=numeric_class,
            referee_class=referee_class,
        )
        is found
    )


@pytest.mark.parametrize(
    ("kind", "finding", "appealed", "until_us"),
    [
        (FindingKind.AUDIT, FindingOutcome.WRONG, False, 107),
        (FindingKind.DISPUTE, FindingOutcome.WITHHELD, False, 107),
        (FindingKind.AUDIT, FindingOutcome.WRONG, True, 0),
        (FindingKind.APPEAL, FindingOutcome.WRONG, False, 0),
        (FindingKind.CLASS_FAULT, FindingOutcome.CLASS_FAULT, False, 0),
        (FindingKind.LOOK_BACK, FindingOutcome.UPHELD, False, 0),
        (FindingKind.LOOK_BACK, FindingOutcome.OPEN, False, 0),
    ],
)
def test_what_was_found_wrong_may_be_appealed_once_within_the_window(
    *, kind: FindingKind, finding: FindingOutcome, appealed: bool, until_us: int
) -> None:
    assert appeal_until_us(kind, finding, found_at_us=100, window_us=7, appealed=appealed) == until_us

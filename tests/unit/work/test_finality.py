"""The line up to which a history's results are final: behind the odometer by a lag, and never going back."""

import pytest

from pool_server.core.trust import TrustRecord
from pool_server.core.verification import HistoryAuditRule
from pool_server.core.verification.deterrence import lag_units
from pool_server.core.verification.finality import LAG_UNITS_MIN, final_through_uwu, lag_uwu

EPSILON, SHARE, UNIT = 1e-2, 0.2, 1_000


def lag(clean_uwu: int) -> int:
    return lag_uwu(epsilon=EPSILON, assumed_faulty_share=SHARE, work_uwu=UNIT, clean_uwu=clean_uwu)


@pytest.mark.parametrize(
    ("clean_units", "lag_units"),
    [(0, 200), (1_000, 200), (1_333, 200), (1_340, 201), (2_000, 300), (100_000, 15_000)],
)
def test_the_lag_is_three_gaps_between_audits_or_200_units(clean_units: int, lag_units: int) -> None:
    # At 1e-2 and a faulty share of 0.2, k is 20: audits come every n / 20 units.
    assert lag(clean_units * UNIT) == lag_units * UNIT


@pytest.mark.parametrize("clean_units", [0, 1_000, 1_340, 2_001, 100_000])
def test_the_deterrence_figures_reckon_with_the_same_lag(clean_units: int) -> None:
    rule = HistoryAuditRule(assumed_faulty_share=SHARE)
    assert lag_units(rule, epsilon=EPSILON, history_units=clean_units) == -(-lag(clean_units * UNIT) // UNIT)


def test_a_share_below_the_error_target_counts_as_one() -> None:
    assert lag_uwu(epsilon=0.5, assumed_faulty_share=0.2, work_uwu=1, clean_uwu=1_000) == 3_000


@pytest.mark.parametrize(
    ("odometer", "clean", "floor", "line"),
    [
        (100, 100, 0, 0),  # shorter than the lag: nothing is final
        (300, 300, 0, 100),
        (300, 199, 50, 50),  # a failed check before: only clean work behind it counts
        (300, 250, 150, 150),  # never below the floor
    ],
)
def test_the_line_trails_the_odometer(odometer: int, clean: int, floor: int, line: int) -> None:
    found = final_through_uwu(odometer_uwu=odometer, clean_uwu=clean, floor_uwu=floor, lag_uwu=200)
    assert found == line


def test_a_history_becomes_final_behind_its_work_and_stays_so_after_a_failed_check() -> None:
    record = TrustRecord()
    lines = []
    for _ in range(3_000):
        record = record.accepted(UNIT, lag_uwu=lag(record.clean_uwu))
        lines.append(record.final_uwu)
    # 1. It starts when the lag is full, never goes back, and never comes nearer than the lag.
    assert lines[LAG_UNITS_MIN - 1 : LAG_UNITS_MIN + 1] == [0, UNIT]
    assert lines == sorted(lines)
    assert record.final_uwu == 3_000 * UNIT - lag(2_999 * UNIT)
    # 2. A failed check moves neither odometer nor line; the next 199 units do not either.
    burned = record.rejected()
    assert (burned.odometer_uwu, burned.final_uwu, burned.clean_uwu) == (3_000 * UNIT, record.final_uwu, 0)
    for _ in range(LAG_UNITS_MIN - 1):
        burned = burned.accepted(UNIT, lag_uwu=lag(burned.clean_uwu))
    assert burned.final_uwu == record.final_uwu
    # 3. Then all before the failed check is final: what it was about was looked at meanwhile.
    assert burned.accepted(UNIT, lag_uwu=lag(burned.clean_uwu)).final_uwu == 3_000 * UNIT


def test_without_a_lag_nothing_becomes_final() -> None:
    assert TrustRecord().accepted(10**9).final_uwu == 0

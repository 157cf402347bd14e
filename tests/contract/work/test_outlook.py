"""What a quote says of verification: dear with newcomers, cheap with history, honest about too few owners."""

import pytest

from pool_server.app.outlook import Outlook, level_outlook
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.trust import TrustRecord, trust_class
from pool_server.core.verification import HistoryAuditRule, VerificationLevel
from tests.support.workshop import Workshop

WORK_UWU = 1_000_000


def outlook(pool: Workshop, level: VerificationLevel = VerificationLevel.STANDARD) -> Outlook:
    return pool.books.run(
        lambda uow: level_outlook(uow, kind="map", work_uwu=WORK_UWU, level=level, policy=pool.policy)
    )


def give_history(pool: Workshop, vehicle_id: str, clean_uwu: int) -> None:
    name = trust_class("map", VerificationLevel.STANDARD)
    pool.books.run(lambda uow: uow.fleet.put_trust(vehicle_id, name, TrustRecord(clean_uwu=clean_uwu)))


def cars(pool: Workshop, *owners: str) -> list[str]:
    vehicles = [pool.car(owner) for owner in owners]
    for vehicle in vehicles:
        pool.ask(vehicle, 1)  # a vehicle that never asked is not there
    return vehicles


def test_newcomers_cost_a_check_each_and_history_makes_them_rare(pool: Workshop) -> None:
    first, second = cars(pool, "a", "b")
    assert outlook(pool).audit_overhead_now == pytest.approx(1.0)
    give_history(pool, first, 200 * WORK_UWU)
    give_history(pool, second, 1_800 * WORK_UWU)
    now = outlook(pool)
    # k = 200 at 1e-3: half of the first one's results are checked, a tenth of the second one's.
    assert now.audit_overhead_now == pytest.approx((0.5 + 0.1) / 2)
    assert now.audit_overhead_newcomer == pytest.approx(1.0)
    assert now.epsilon == 1e-3
    assert "at most 1 in 1,000" in now.promise


def test_auditors_in_league_and_too_few_owners_are_named(pool: Workshop) -> None:
    pool.policy = WorkPolicy(audit_rule=HistoryAuditRule(colluding_auditor_share=0.2))
    assert "no owner has a car" in outlook(pool).promise
    cars(pool, "a")
    assert "only one owner" in outlook(pool).promise
    cars(pool, "b")
    assert "fewer auditors" in outlook(pool).promise


def test_levels_without_a_target_say_what_they_do(pool: Workshop) -> None:
    full = outlook(pool, VerificationLevel.FULL)
    assert (full.audit_overhead_now, full.epsilon) == (0.0, 0.0)
    assert full.promise.startswith("Two different owners must agree")
    assert outlook(pool, VerificationLevel.NONE).promise == "Nothing is checked."

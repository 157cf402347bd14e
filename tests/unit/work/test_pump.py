"""What a buyer earns that owns the auditors too: the figures of docs/explanation/verification.md."""

import pytest

from pool_server.core.verification import HistoryAuditRule
from pool_server.core.verification.overhead import next_audits
from pool_server.core.verification.pump import Pump, breakeven_share, closing_surcharge

PEERS = HistoryAuditRule(colluding_auditor_share=0.2)
TRUSTED = HistoryAuditRule()
FEE = 0.05


def everybody(*, surcharge: float = 0.0) -> Pump:
    return Pump(work_share=1.0, audit_share=1.0, fee_share=FEE, surcharge=surcharge)


@pytest.mark.parametrize(
    ("rule", "audits", "income", "share"),
    [(TRUSTED, 1, 0.90, 0.526), (PEERS, 7, 6.60, 0.132)],
    ids=["one auditor", "seven auditors"],
)
def test_a_newcomers_unit_pays_whoever_owns_enough_of_the_auditors(
    rule: HistoryAuditRule, audits: int, income: float, share: float
) -> None:
    assert next_audits(rule, epsilon=1e-2, work_uwu=1, clean_uwu=0) == audits
    assert everybody().unit_income(rule, epsilon=1e-2, history_units=0) == pytest.approx(income)
    found = breakeven_share(audits, fee_share=FEE)
    assert found == pytest.approx(share, abs=5e-4)
    for owned, pays in ((found * 1.01, True), (found * 0.99, False)):
        pump = Pump(work_share=owned, audit_share=owned, fee_share=FEE)
        assert (pump.unit_income(rule, epsilon=1e-2, history_units=0) > 0) is pays


@pytest.mark.parametrize(
    ("epsilon", "units", "worth"),
    [(1e-2, 361, 38), (1e-3, 3_601, 379), (1e-4, 36_001, 3_795), (1e-6, 3_600_001, 379_542)],
    ids=["spot", "standard", "careful", "strict"],
)
def test_what_one_identity_is_worth_with_one_auditor(epsilon: float, units: int, worth: int) -> None:
    until, income = everybody().life(TRUSTED, epsilon=epsilon)
    assert until == pytest.approx(units, rel=0.01)
    assert income == pytest.approx(worth, rel=0.02)
    after = everybody().unit_income(TRUSTED, epsilon=epsilon, history_units=until)
    assert after <= 0


def test_an_honest_buyer_of_the_same_pool_never_earns() -> None:
    stranger = Pump(work_share=0.0, audit_share=0.0, fee_share=FEE)
    assert stranger.unit_income(PEERS, epsilon=1e-6, history_units=0) == -1
    assert stranger.life(PEERS, epsilon=1e-6) == (0, 0.0)


@pytest.mark.parametrize("audits", [0.0, 0.01, 1.0, 7.0])
def test_a_surcharge_of_what_a_unit_costs_closes_the_pump(audits: float) -> None:
    surcharge = closing_surcharge(audits, fee_share=FEE)
    assert everybody(surcharge=surcharge).income(audits) <= 1e-12
    if surcharge:
        assert everybody(surcharge=surcharge * 0.99).income(audits) > 0
    else:
        assert breakeven_share(audits, fee_share=FEE) == float("inf")


def test_a_surcharge_of_the_fleets_mean_does_not_close_it() -> None:
    # A seasoned fleet has one audit in twenty results, an attacker's newcomers one in one.
    mean = closing_surcharge(0.05, fee_share=FEE)
    assert mean < 0.05
    assert everybody(surcharge=mean).unit_income(TRUSTED, epsilon=1e-2, history_units=0) > 0.85

"""The audit rule's promise as arithmetic: the martingale, the auditors, what it costs, what it deters."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.errors import PoolError
from pool_server.core.verification import AUDITORS_MAX, HistoryAuditRule
from pool_server.core.verification.deterrence import deterrence
from pool_server.core.verification.overhead import (
    audit_ranges,
    digamma,
    expected_audits,
    expected_overhead,
    fleet_overhead,
    next_audits,
    simple_overhead,
)

WEIGHTS = st.integers(1, 10**9)
HISTORIES = st.integers(0, 10**15)
EPSILONS = st.sampled_from([1e-2, 1e-3, 1e-4, 1e-6])
SHARES = st.sampled_from([0.0, 0.05, 0.2, 0.5])


@given(WEIGHTS, HISTORIES, EPSILONS)
def test_a_wrong_result_leaves_the_martingale_where_it_was(v: int, n: int, epsilon: float) -> None:
    rule = HistoryAuditRule()
    k = rule.scale(epsilon)
    p = rule.probability(epsilon=epsilon, work_uwu=v, clean_uwu=n)
    change = (1 - p) * (v + v / (k - 1)) - p * n / (k - 1)
    assert abs(change) <= 1e-9 * v


@given(WEIGHTS, HISTORIES, EPSILONS, SHARES)
def test_auditors_in_league_do_not_lower_the_chance_of_being_caught(
    v: int, n: int, epsilon: float, share: float
) -> None:
    rule = HistoryAuditRule(colluding_auditor_share=share)
    plan = rule.plan(epsilon=epsilon, work_uwu=v, clean_uwu=n)
    assert 1 <= plan.auditors <= AUDITORS_MAX
    assert 0 <= plan.draw_probability <= 1
    if not plan.needs_trusted:
        caught = plan.draw_probability * (1 - share**plan.auditors)
        assert caught == pytest.approx(plan.catch_probability, rel=1e-9)


def test_a_newcomer_is_always_audited_and_by_a_trusted_node_where_auditors_may_be_in_league() -> None:
    plan = HistoryAuditRule(colluding_auditor_share=0.2).plan(epsilon=1e-2, work_uwu=5, clean_uwu=0)
    assert (plan.draw_probability, plan.needs_trusted) == (1.0, True)
    alone = HistoryAuditRule().plan(epsilon=1e-2, work_uwu=5, clean_uwu=0)
    assert (alone.draw_probability, alone.auditors, alone.needs_trusted) == (1.0, 1, False)


@given(WEIGHTS, HISTORIES, HISTORIES, EPSILONS, SHARES)
def test_more_history_never_means_more_audits(
    v: int, n: int, more: int, epsilon: float, share: float
) -> None:
    rule = HistoryAuditRule(colluding_auditor_share=share)
    before = rule.plan(epsilon=epsilon, work_uwu=v, clean_uwu=n)
    after = rule.plan(epsilon=epsilon, work_uwu=v, clean_uwu=n + more)
    assert after.catch_probability <= before.catch_probability
    assert after.auditors <= before.auditors


@given(WEIGHTS, HISTORIES, HISTORIES, EPSILONS)
def test_credit_counts_as_history(v: int, n: int, credit: int, epsilon: float) -> None:
    rule = HistoryAuditRule()
    assert rule.probability(
        epsilon=epsilon, work_uwu=v, clean_uwu=n, prior_credit_uwu=credit
    ) == rule.probability(epsilon=epsilon, work_uwu=v, clean_uwu=n + credit)


@pytest.mark.parametrize("x", [1, 3, 10, 30, 90])
def test_the_simple_formula_is_the_sum_within_a_percent(x: int) -> None:
    rule, epsilon = HistoryAuditRule(), 1e-3
    units = x * round(rule.scale(epsilon))
    assert expected_overhead(rule, epsilon=epsilon, units=units) == pytest.approx(
        simple_overhead(x), rel=0.01
    )


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("prior", [0, 7, 300])
def test_the_closed_formula_is_the_plain_sum(share: float, prior: int) -> None:
    rule, epsilon, units = HistoryAuditRule(colluding_auditor_share=share), 1e-2, 700
    plans = [
        rule.plan(epsilon=epsilon, work_uwu=1, clean_uwu=history) for history in range(prior, prior + units)
    ]
    plain = math.fsum(plan.draw_probability * plan.auditors for plan in plans)
    closed = expected_audits(rule, epsilon=epsilon, units=units, prior_units=prior)
    assert closed == pytest.approx(plain, rel=1e-9)


def test_the_ranges_of_auditors_follow_one_another() -> None:
    rule = HistoryAuditRule(colluding_auditor_share=0.2)
    parts = list(audit_ranges(rule, epsilon=1e-4, units=10**7))
    assert [part.from_units for part in parts[1:]] == [part.until_units for part in parts[:-1]]
    assert (parts[0].from_units, parts[-1].until_units, parts[-1].auditors) == (0, 10**7, 1)


def test_peers_as_auditors_cost_what_was_measured() -> None:
    rule, epsilon = HistoryAuditRule(colluding_auditor_share=0.2), 1e-4
    k = round(rule.scale(epsilon))
    for x, measured in {1: 2.105, 3: 1.657, 10: 1.324, 30: 1.151, 90: 1.065}.items():
        assert expected_overhead(rule, epsilon=epsilon, units=x * k) == pytest.approx(measured, rel=0.005)


def test_an_overhead_is_of_something() -> None:
    with pytest.raises(PoolError, match="at least one unit"):
        expected_overhead(HistoryAuditRule(), epsilon=1e-2, units=0)
    assert simple_overhead(0) == 2.0


def test_a_fleet_costs_the_mean_of_its_vehicles_and_a_newcomer_where_there_is_none() -> None:
    rule = HistoryAuditRule()
    each = [next_audits(rule, epsilon=1e-2, work_uwu=3, clean_uwu=history) for history in (0, 60, 10**6)]
    assert fleet_overhead([0, 60, 10**6], 3, 1e-2, rule) == pytest.approx(sum(each) / 3)
    assert fleet_overhead([], 3, 1e-2, rule) == 1.0


@pytest.mark.parametrize(("x", "value"), [(1.0, -0.5772156649015329), (0.5, -1.9635100260214235)])
def test_digamma(x: float, value: float) -> None:
    assert digamma(x) == pytest.approx(value, abs=1e-13)
    assert digamma(x + 1) == pytest.approx(value + 1 / x, abs=1e-12)


@given(st.integers(0, 10**9), EPSILONS)
def test_what_is_held_deters_at_every_history(history: int, epsilon: float) -> None:
    figures = deterrence(HistoryAuditRule(), epsilon=epsilon, history_units=history, net_micros_per_unit=20)
    assert figures.deters
    assert figures.correct_units_per_wrong == pytest.approx(0.2 / epsilon - 1)
    assert figures.escrow_micros == min(history, figures.lag_units) * 20

"""The policy over signals: the hard rule, hysteresis, debounce, freshness, and the sentences people read."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_agent.core.evaluation import evaluate
from car_agent.core.policy import OwnerSwitches, Policy, PolicyState, Verdict, VerdictKind
from car_agent.core.reasons import ReasonCode
from car_agent.core.signals import ChargeState, PlugState, SourceClass, VehicleSignals
from pool_protocol.errors import PoolError

NOW_US = 1_800_000_000_000_000
NOW_NS = 1_000 * 1_000_000_000
SECOND_NS = 1_000_000_000
IN = OwnerSwitches(opted_in=True, opt_in_changed_us=1)
NO_DELAY = Policy(start_after_s=0)


def charging(**changes: Any) -> VehicleSignals:
    values: dict[str, Any] = {
        "source": "file",
        "source_class": SourceClass.A,
        "observed_mono_ns": NOW_NS,
        "observed_us": NOW_US,
        "fresh_for_ms": 5_000,
        "plug": PlugState.PLUGGED,
        "charge": ChargeState.CHARGING,
        "discharging": False,
        "moving": False,
        "soc_percent": 70.0,
    }
    return VehicleSignals(**(values | changes))


def verdict(
    signals: VehicleSignals | None,
    policy: Policy = NO_DELAY,
    switches: OwnerSwitches = IN,
    state: PolicyState | None = None,
    *,
    now_ns: int = NOW_NS,
) -> Verdict:
    return evaluate(
        signals, policy, switches, state or PolicyState(), now_us=NOW_US, now_mono_ns=now_ns
    ).verdict


def test_a_charging_car_whose_owner_opted_in_computes() -> None:
    assert verdict(charging()) == Verdict(kind=VerdictKind.RUN)


@pytest.mark.parametrize(
    ("changes", "kind", "headline"),
    [
        ({"plug": PlugState.UNPLUGGED, "charge": ChargeState.IDLE}, VerdictKind.STOP, ReasonCode.UNPLUGGED),
        ({"plug": PlugState.UNPLUGGED}, VerdictKind.STOP, ReasonCode.UNPLUGGED),
        ({"plug": PlugState.UNKNOWN}, VerdictKind.WAIT, ReasonCode.SIGNALS_UNKNOWN),
        ({"charge": ChargeState.UNKNOWN}, VerdictKind.WAIT, ReasonCode.SIGNALS_UNKNOWN),
        ({"charge": ChargeState.IDLE}, VerdictKind.WAIT, ReasonCode.PLUGGED_NOT_CHARGING),
        ({"charge": ChargeState.STARTING}, VerdictKind.WAIT, ReasonCode.PLUGGED_NOT_CHARGING),
        ({"charge": ChargeState.STOPPED}, VerdictKind.WAIT, ReasonCode.PLUGGED_NOT_CHARGING),
        ({"charge": ChargeState.NOPOWER}, VerdictKind.WAIT, ReasonCode.PLUGGED_NOT_CHARGING),
        ({"charge": ChargeState.FAULT}, VerdictKind.WAIT, ReasonCode.PLUGGED_NOT_CHARGING),
        ({"charge": ChargeState.COMPLETE}, VerdictKind.WAIT, ReasonCode.CHARGE_COMPLETE),
        ({"moving": True}, VerdictKind.STOP, ReasonCode.MOVING),
        ({"discharging": True}, VerdictKind.STOP, ReasonCode.DISCHARGING),
        ({"soc_percent": 49.9}, VerdictKind.WAIT, ReasonCode.SOC_BELOW_RESERVE),
        ({"soc_percent": None}, VerdictKind.WAIT, ReasonCode.SOC_BELOW_RESERVE),
        ({"battery_temp_c": 45.1}, VerdictKind.WAIT, ReasonCode.HOT_BATTERY),
        ({"cabin_temp_c": 36.0}, VerdictKind.WAIT, ReasonCode.HOT_CABIN),
        ({"compute_temp_c": 90.0}, VerdictKind.WAIT, ReasonCode.HOT_COMPUTE),
        ({"low_voltage_v": 11.9}, VerdictKind.WAIT, ReasonCode.LOW_12V),
        ({"battery_power_w": -1.0}, VerdictKind.WAIT, ReasonCode.POWER_CAP),
    ],
)
def test_each_reason_not_to_compute(changes: dict[str, Any], kind: VerdictKind, headline: ReasonCode) -> None:
    given_verdict = verdict(charging(**changes))
    assert (given_verdict.kind, given_verdict.headline) == (kind, headline)


def test_a_source_without_moving_and_discharging_may_start_but_true_stops() -> None:
    assert verdict(charging(moving=None, discharging=None)).runs
    assert not verdict(charging(moving=True)).runs


def test_silence_and_stale_reports_do_not_count() -> None:
    assert verdict(None).headline is ReasonCode.NO_SIGNALS
    assert verdict(charging(), now_ns=NOW_NS + 5 * SECOND_NS).runs
    stale = verdict(charging(), now_ns=NOW_NS + 5 * SECOND_NS + 1)
    assert stale.headline is ReasonCode.SOURCE_STALE
    assert len(stale.reasons) == 1, "stale values are not shown"
    assert verdict(charging(), now_ns=NOW_NS - 1).headline is ReasonCode.SOURCE_STALE, "from the future"


def test_no_consent_and_damaged_consent_are_the_headline_above_everything() -> None:
    unplugged = charging(plug=PlugState.UNPLUGGED)
    for switches in (OwnerSwitches(), OwnerSwitches(opted_in=True, consent_readable=False)):
        given_verdict = verdict(unplugged, switches=switches)
        assert given_verdict.kind is VerdictKind.STOP
        assert [reason.code for reason in given_verdict.reasons] == [
            ReasonCode.NOT_OPTED_IN,
            ReasonCode.UNPLUGGED,
        ]


def test_a_pause_ends_by_itself_or_when_resumed() -> None:
    for_a_time = replace(IN, paused=True, pause_until_us=NOW_US + 1)
    assert verdict(charging(), switches=for_a_time).headline is ReasonCode.PAUSED_BY_OWNER
    assert verdict(charging(), switches=replace(for_a_time, pause_until_us=NOW_US)).runs
    assert not verdict(charging(), switches=replace(IN, paused=True)).runs


def test_the_reserve_has_two_thresholds() -> None:
    state = PolicyState()
    story = [
        (60.0, True),
        (50.0, True),
        (49.0, False),
        (52.0, False),
        (54.9, False),
        (55.0, True),
        (51.0, True),
    ]
    for soc, runs in story:
        evaluation = evaluate(
            charging(soc_percent=soc), NO_DELAY, IN, state, now_us=NOW_US, now_mono_ns=NOW_NS
        )
        state = evaluation.state
        assert evaluation.verdict.runs is runs, soc


def test_a_limit_whose_signal_disappears_keeps_holding() -> None:
    hot = evaluate(charging(battery_temp_c=50.0), NO_DELAY, IN, PolicyState(), now_us=0, now_mono_ns=NOW_NS)
    gone = evaluate(charging(), NO_DELAY, IN, hot.state, now_us=0, now_mono_ns=NOW_NS)
    assert gone.verdict.headline is ReasonCode.HOT_BATTERY
    cool = evaluate(charging(battery_temp_c=40.0), NO_DELAY, IN, gone.state, now_us=0, now_mono_ns=NOW_NS)
    assert cool.verdict.runs


def test_start_is_debounced_and_stop_is_not() -> None:
    policy = Policy(start_after_s=5)
    state = PolicyState()

    def at(second: float, **changes: Any) -> Verdict:
        nonlocal state
        now_ns = NOW_NS + int(second * SECOND_NS)
        evaluation = evaluate(
            charging(observed_mono_ns=now_ns, **changes), policy, IN, state, now_us=NOW_US, now_mono_ns=now_ns
        )
        state = evaluation.state
        return evaluation.verdict

    assert at(0).headline is ReasonCode.SETTLING
    assert not at(4.99).runs
    assert at(5).runs
    assert not at(5.1, plug=PlugState.UNPLUGGED).runs
    assert at(5.2).headline is ReasonCode.SETTLING, "the delay begins anew"
    assert at(10.2).runs


def test_the_headline_names_both_numbers_and_a_remedy() -> None:
    reason = verdict(charging(soc_percent=41.0)).reasons[0]
    assert reason.message == "Waiting: battery 41 %, resumes at 55 %."
    assert "min_soc_percent" in reason.remedy


def test_place_departure_and_share_of_power() -> None:
    home = Policy(start_after_s=0, at_home_only=True)
    assert verdict(charging(at_home=None), home).headline is ReasonCode.NOT_AT_HOME
    assert verdict(charging(at_home=False), home).headline is ReasonCode.NOT_AT_HOME
    assert verdict(charging(at_home=True), home).runs
    leaving = Policy(start_after_s=0, stop_when_eta_under_min=10)
    assert verdict(charging(eta_full_s=599.0), leaving).headline is ReasonCode.DEPARTURE_SOON
    assert verdict(charging(eta_full_s=600.0), leaving).runs
    share = Policy(start_after_s=0, compute_power_w=200)
    assert verdict(charging(charge_power_w=1_900.0), share).headline is ReasonCode.POWER_CAP
    assert verdict(charging(charge_power_w=2_000.0), share).runs


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"min_soc_percent": 60.0, "resume_soc_percent": 50.0}, "min_soc_percent"),
        ({"min_soc_percent": 101.0, "resume_soc_percent": 101.0}, "min_soc_percent"),
        ({"min_soc_percent": float("nan")}, "min_soc_percent"),
        ({"max_battery_c": None}, "resume_battery_c"),
        ({"start_after_s": -1.0}, "start_after_s"),
        ({"at_home_only": 1}, "at_home_only"),
        ({"min_soc_percent": True}, "min_soc_percent"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_its_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(PoolError) as refused:
        Policy(**changes)
    assert refused.value.context["field"] == key


@pytest.mark.parametrize(
    "changes",
    [{"soc_percent": 101.0}, {"soc_percent": float("nan")}, {"battery_temp_c": -300.0}, {"fresh_for_ms": 0}],
)
def test_impossible_signals_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PoolError):
        charging(**changes)


optional_numbers = st.none() | st.floats(0, 100)
any_signals = st.builds(
    charging,
    plug=st.sampled_from(PlugState),
    charge=st.sampled_from(ChargeState),
    discharging=st.sampled_from([None, False, True]),
    moving=st.sampled_from([None, False, True]),
    soc_percent=optional_numbers,
    battery_temp_c=optional_numbers,
    observed_mono_ns=st.integers(NOW_NS - 10 * SECOND_NS, NOW_NS + SECOND_NS),
)
any_switches = st.builds(
    OwnerSwitches,
    opted_in=st.booleans(),
    paused=st.booleans(),
    pause_until_us=st.integers(0, 2 * NOW_US),
    consent_readable=st.booleans(),
)
any_state = st.builds(
    PolicyState,
    holding=st.frozensets(st.sampled_from(ReasonCode)),
    eligible_since_ns=st.none() | st.integers(0, NOW_NS + SECOND_NS),
)


@given(signals=st.none() | any_signals, switches=any_switches, state=any_state)
def test_running_always_means_charging_with_consent(
    signals: VehicleSignals | None, switches: OwnerSwitches, state: PolicyState
) -> None:
    given_verdict = verdict(signals, NO_DELAY, switches, state)
    assert given_verdict.runs == (not given_verdict.reasons)
    if given_verdict.runs:
        assert signals is not None
        assert signals.is_fresh(NOW_NS)
        assert signals.plug is PlugState.PLUGGED
        assert signals.charge is ChargeState.CHARGING
        assert not signals.moving
        assert not signals.discharging
        assert switches.opted_in
        assert switches.consent_readable
        assert not switches.is_paused(NOW_US)


@given(signals=any_signals, switches=any_switches, state=any_state)
def test_reasons_come_in_the_order_of_priority(
    signals: VehicleSignals, switches: OwnerSwitches, state: PolicyState
) -> None:
    order = list(ReasonCode)
    places = [order.index(reason.code) for reason in verdict(signals, NO_DELAY, switches, state).reasons]
    assert places == sorted(places)

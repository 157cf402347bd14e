"""The one function that says whether the car may compute.

`evaluate` is total and pure: the same signals, limits, switches, memory and time give the same verdict. The
hard rule has no key: the car computes only while its source says, freshly, that it is plugged in and
charging, and neither moving nor discharging. Every number has two thresholds, one to stop and one to start
again, so that a value that hovers does not make the worker flap. Starting is debounced; stopping never is.

What happens after a verdict (killing the worker, giving leases back) is `car_agent.core.lifecycle`'s.
"""

from typing import Final

from car_agent.core.numeric_limits import limit_reasons
from car_agent.core.policy import Evaluation, OwnerSwitches, Policy, PolicyState, Verdict, VerdictKind
from car_agent.core.reasons import Reason, ReasonCode, by_priority, duration_text
from car_agent.core.signals import NANOSECONDS_PER_SECOND, ChargeState, PlugState, VehicleSignals

MICROSECONDS_PER_SECOND = 1_000_000


def evaluate(
    signals: VehicleSignals | None,
    policy: Policy,
    switches: OwnerSwitches,
    state: PolicyState,
    *,
    now_us: int,
    now_mono_ns: int,
) -> Evaluation:
    """Decide whether the car may compute now.

    Args:
        signals: The last observation, or None when the source has said nothing yet.
        policy: The owner's limits.
        switches: Opt-in and pause.
        state: What the evaluation before returned.
        now_us: Wall time; used for the end of a pause only.
        now_mono_ns: Monotonic time; used for freshness and debounce.
    """
    stops = _owner_reasons(switches, now_us)
    waits: list[Reason] = []
    holding: frozenset[ReasonCode] = state.holding
    if signals is None:
        waits.append(_NO_SIGNALS)
    elif not signals.is_fresh(now_mono_ns):
        waits.append(_stale(signals, now_mono_ns))
    else:
        stops += _car_stops(signals)
        waits += _car_waits(signals)
        limited, holding = limit_reasons(signals, policy, state.holding)
        waits += limited
        waits += _place_and_time(signals, policy)
    if stops or waits:
        kind = VerdictKind.STOP if stops else VerdictKind.WAIT
        verdict = Verdict(kind=kind, reasons=by_priority(stops + waits))
        return Evaluation(verdict, PolicyState(holding=holding, eligible_since_ns=None))
    return _debounced(policy, state, holding, now_mono_ns)


def _debounced(
    policy: Policy, state: PolicyState, holding: frozenset[ReasonCode], now_mono_ns: int
) -> Evaluation:
    since = now_mono_ns if state.eligible_since_ns is None else state.eligible_since_ns
    since = min(since, now_mono_ns)
    remembered = PolicyState(holding=holding, eligible_since_ns=since)
    eligible_s = (now_mono_ns - since) / NANOSECONDS_PER_SECOND
    if eligible_s >= policy.start_after_s:
        return Evaluation(Verdict(kind=VerdictKind.RUN), remembered)
    settling = Reason(
        code=ReasonCode.SETTLING,
        message=f"Charging for {duration_text(eligible_s)}, needs {duration_text(policy.start_after_s)}.",
        remedy="Nothing to do: it starts by itself. The policy key start_after_s sets the delay.",
    )
    return Evaluation(Verdict(kind=VerdictKind.WAIT, reasons=(settling,)), remembered)


_NO_SIGNALS: Final = Reason(
    code=ReasonCode.NO_SIGNALS,
    message="The source has not reported anything about the car yet.",
    remedy="Wait a moment; if it lasts, `car-agent doctor` checks the source.",
)


def _stale(signals: VehicleSignals, now_mono_ns: int) -> Reason:
    age_s = signals.age_ms(now_mono_ns) / 1_000
    allowed_s = signals.fresh_for_ms / 1_000
    return Reason(
        code=ReasonCode.SOURCE_STALE,
        message=f"The last report of {signals.source} is {age_s:.1f} s old, trusted up to {allowed_s:.1f} s.",
        remedy="Check that the source is running; work goes on when it reports again.",
    )


def _owner_reasons(switches: OwnerSwitches, now_us: int) -> list[Reason]:
    reasons: list[Reason] = []
    if not switches.consent_readable:
        reasons.append(
            Reason(
                code=ReasonCode.NOT_OPTED_IN,
                message="The consent record cannot be read, so it counts as no consent.",
                remedy="Opt in again: `car-agent opt-in`, or the switch on the dashboard.",
            )
        )
    elif not switches.opted_in:
        reasons.append(
            Reason(
                code=ReasonCode.NOT_OPTED_IN,
                message="You have not opted in.",
                remedy="Opt in: `car-agent opt-in`, or the switch on the dashboard.",
            )
        )
    if switches.is_paused(now_us):
        left_s = (switches.pause_until_us - now_us) / MICROSECONDS_PER_SECOND
        message = (
            "Paused by you until you resume."
            if switches.pause_until_us == 0
            else f"Paused by you for another {duration_text(left_s)}."
        )
        reasons.append(
            Reason(
                code=ReasonCode.PAUSED_BY_OWNER,
                message=message,
                remedy="Resume: `car-agent resume`, or space on the dashboard.",
            )
        )
    return reasons


def _car_stops(signals: VehicleSignals) -> list[Reason]:
    """Reasons of the hard rule that the car's user causes."""
    reasons: list[Reason] = []
    if signals.plug is PlugState.UNPLUGGED:
        reasons.append(
            Reason(
                code=ReasonCode.UNPLUGGED,
                message="The car is not plugged in.",
                remedy="Plug it in; work starts once it charges.",
            )
        )
    if signals.moving:
        reasons.append(
            Reason(
                code=ReasonCode.MOVING,
                message="The car is moving.",
                remedy="Work starts at the next charge.",
            )
        )
    if signals.discharging:
        reasons.append(
            Reason(
                code=ReasonCode.DISCHARGING,
                message="The battery is giving energy away.",
                remedy="Work starts when the battery is charged again.",
            )
        )
    return reasons


_CHARGE_SENTENCES: Final[dict[ChargeState, str]] = {
    ChargeState.IDLE: "Plugged in, but not charging.",
    ChargeState.STARTING: "Charging is starting.",
    ChargeState.STOPPED: "Plugged in, but charging was stopped.",
    ChargeState.NOPOWER: "Plugged in, but the charger gives no power.",
    ChargeState.FAULT: "Plugged in, but the charger reports a fault.",
}


def _car_waits(signals: VehicleSignals) -> list[Reason]:
    """Reasons of the hard rule that may end by themselves."""
    if signals.plug is PlugState.UNPLUGGED:
        return []
    if signals.charge is ChargeState.COMPLETE:
        return [
            Reason(
                code=ReasonCode.CHARGE_COMPLETE,
                message=_complete_sentence(signals),
                remedy="Work starts at the next charge; a higher charge limit lengthens it.",
            )
        ]
    if signals.charge in _CHARGE_SENTENCES:
        return [
            Reason(
                code=ReasonCode.PLUGGED_NOT_CHARGING,
                message=_CHARGE_SENTENCES[signals.charge],
                remedy="Work starts when the car charges; check charger and charging schedule.",
            )
        ]
    if signals.plug is PlugState.UNKNOWN or signals.charge is ChargeState.UNKNOWN:
        missing = "is plugged in" if signals.plug is PlugState.UNKNOWN else "charges"
        return [
            Reason(
                code=ReasonCode.SIGNALS_UNKNOWN,
                message=f"{signals.source} does not say whether the car {missing}.",
                remedy="`car-agent doctor` shows what the source says; work needs both to be known.",
            )
        ]
    return []


def _complete_sentence(signals: VehicleSignals) -> str:
    if signals.soc_percent is None or signals.soc_limit_percent is None:
        return "Charging is complete."
    return (
        f"Charging is complete: battery {signals.soc_percent:.0f} %, limit {signals.soc_limit_percent:.0f} %."
    )


def _place_and_time(signals: VehicleSignals, policy: Policy) -> list[Reason]:
    reasons: list[Reason] = []
    if policy.at_home_only and signals.at_home is not True:
        where = (
            "is not at home" if signals.at_home is False else "may not be at home (the source does not say)"
        )
        reasons.append(
            Reason(
                code=ReasonCode.NOT_AT_HOME,
                message=f"The car {where}.",
                remedy="Work starts at home; at_home_only = false allows it anywhere.",
            )
        )
    limit_min = policy.stop_when_eta_under_min
    if limit_min is not None and signals.eta_full_s is not None and signals.eta_full_s < limit_min * 60:
        reasons.append(
            Reason(
                code=ReasonCode.DEPARTURE_SOON,
                message=(
                    f"Charging ends in {duration_text(signals.eta_full_s)}; "
                    f"work stops {duration_text(limit_min * 60)} before."
                ),
                remedy="Work starts at the next charge; stop_when_eta_under_min sets the margin.",
            )
        )
    share, draw = policy.max_share_of_charge_power, policy.compute_power_w
    if share is not None and draw > 0 and signals.charge_power_w is not None:
        allowed = share * signals.charge_power_w
        if draw > allowed:
            reasons.append(
                Reason(
                    code=ReasonCode.POWER_CAP,
                    message=f"Computing draws {draw:.0f} W; {share:.0%} of the charge is {allowed:.0f} W.",
                    remedy="A stronger charger, or a larger max_share_of_charge_power, leaves room for work.",
                )
            )
    return reasons

"""What the panels say, from facts alone: no terminal, no gRPC, no event loop."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pool_protocol.money import MICROS_PER_UNIT
from tests.tui import scenes
from tests.tui.peers import FakePool
from tui import convert
from tui.facts import (
    AccountFacts,
    AgentFacts,
    BankFacts,
    CarEnergyFacts,
    DayFacts,
    DeviceFacts,
    EarningsFacts,
    EnergyFacts,
    PoolLinkFacts,
    PriceFacts,
    ReasonFacts,
    SignalFacts,
    VehicleFacts,
)
from tui.view_models.bank import bank_input, refusal_words, threshold_text
from tui.view_models.car import car_panel
from tui.view_models.compute import compute_panel
from tui.view_models.earnings import money_panel
from tui.view_models.fleet import vehicles_table
from tui.view_models.header import header_line
from tui.view_models.help_text import KeyHelp, help_view, key_names
from tui.view_models.news import all_events, last_event_line
from tui.view_models.now import now_panel
from tui.view_models.opt_in import opt_in_box, stop_notice
from tui.view_models.pairing import device_lines, fingerprint_text, normal_code
from tui.view_models.panel import Line, Tone
from tui.view_models.state import Dashboard, Link, Moment, Trouble

AT = Moment(now_us=scenes.NOW_US, monotonic_ns=1_000_000_000, zone=UTC)
EMPTY_AGENT: Link[AgentFacts] = Link()
EMPTY_ACCOUNT: Link[AccountFacts] = Link()
TROUBLE = Trouble(code="UNAVAILABLE", public="No answer from pool:1.", next_step="Check the address.")


def words(line: Line) -> str:
    return "".join(span.text for span in line)


def agent(**changes: object) -> AgentFacts:
    return replace(convert.agent_facts(scenes.computing()), **changes)  # type: ignore[arg-type]


def idle(state: str, **changes: object) -> AgentFacts:
    return agent(state=state, computing=False, reasons=(), **changes)


def with_agent(facts: AgentFacts | None, *, live: bool = True, heard_ns: int = 1_000_000_000) -> Dashboard:
    link: Link[AgentFacts] = EMPTY_AGENT.connecting("/run/agent/control.sock")
    if facts is not None:
        link = link.heard(facts, monotonic_ns=heard_ns)
    if not live:
        link = link.lost(TROUBLE, refused=False)
    return Dashboard(agent=link)


def owner_account() -> AccountFacts:
    pool = FakePool()  # type: ignore[abstract] # only the scene's words
    scenes.fill(pool)
    return AccountFacts(
        earnings=convert.earnings_facts(pool.earnings),
        vehicles=tuple(map(convert.vehicle_facts, pool.vehicles)),
        events=tuple(map(convert.account_event_facts, pool.events)),
    )


def with_account(facts: AccountFacts | None, **rest: object) -> Dashboard:
    link: Link[AccountFacts] = EMPTY_ACCOUNT.connecting("pool:1")
    if facts is not None:
        link = link.heard(facts, monotonic_ns=1_000_000_000)
    return replace(Dashboard(account=link), **rest)  # type: ignore[arg-type]


# --- does it compute now ---


def test_computing_says_the_task_and_what_stops_it() -> None:
    view = now_panel(with_agent(agent()), AT)
    first, second, third = view.plain.splitlines()
    assert first == "● COMPUTING  task 31 of 64 in this lease, 42 % done"
    assert second == "→ Charging at 7.4 kW, battery 62 %. Unplugging stops it at once."
    assert third.startswith("  Lease ")
    assert third.endswith(" 30 of 64 done")
    assert view.tone is Tone.GOOD


@pytest.mark.parametrize(
    ("facts", "headline", "remedy"),
    [
        (
            idle("paused", paused=True),
            "‖ PAUSED  Paused by you, until you resume.",
            "→ Press space to resume.",
        ),
        (
            idle("paused", paused=True, pause_until_us=scenes.NOW_US + 3_600_000_000),
            "‖ PAUSED  Paused by you until 13 Nov 00:28.",
            "→ Press space to resume.",
        ),
        (idle("opted_out", opted_in=False), "○ OFF  You have not opted in.", "→ Press o to opt in."),
        (
            idle("unpaired", vehicle_id=""),
            "○ NOT PAIRED  This car is not paired with a pool yet.",
            "→ Run `car-agent pair`, then press p here and enter the code that it shows.",
        ),
        (
            idle("idle", pool=PoolLinkFacts(no_work_reason="no job fits this car's memory")),
            "○ IDLE  Ready: no job fits this car's memory.",
            "→ Nothing to do: it starts by itself when the pool has work.",
        ),
        (
            idle("idle", pool=PoolLinkFacts()),
            "○ IDLE  Ready: the pool has no work for this car now.",
            "→ Nothing to do: it starts by itself when the pool has work.",
        ),
        (
            idle("idle", pool=PoolLinkFacts(no_work_reason="PRICE_BELOW_RESERVE")),
            "○ IDLE  Ready: the pool pays less than your reserve price.",
            "→ It starts when the price rises; a lower reserve in the policy starts it sooner.",
        ),
        (
            idle("idle", pool=PoolLinkFacts(no_work_reason="DRAINING")),
            "○ IDLE  Ready: the pool is about to restart.",
            "→ Nothing to do: it gives work again after that.",
        ),
        (
            idle("connecting", pool=PoolLinkFacts(address="pool:7443")),
            "○ CONNECTING  Ready, but the pool does not answer.",
            "→ It keeps trying pool:7443.",
        ),
        (
            idle("running"),
            "◐ STARTING  Work has come; the worker starts.",
            "→ Charging at 7.4 kW, battery 62 %. Unplugging stops it at once.",
        ),
        (
            agent(
                state="yielding",
                computing=False,
                reasons=(
                    ReasonFacts(code="UNPLUGGED", message="The car is not plugged in", remedy="Plug it in"),
                ),
            ),
            "◑ STOPPING  The car is not plugged in.",
            "→ Plug it in.",
        ),
        (agent(state="brand_new", computing=False, reasons=()), "○ BRAND_NEW", None),
    ],
)
def test_not_computing_says_why_and_what_would_change_it(
    facts: AgentFacts, headline: str, remedy: str | None
) -> None:
    lines = now_panel(with_agent(facts), AT).plain.splitlines()
    assert lines[0] == headline
    if remedy is not None:
        assert lines[1] == remedy


def test_the_first_reason_is_the_headline_and_the_others_follow() -> None:
    reasons = (
        ReasonFacts(code="A", message="Battery 41 %, resumes at 55 %", remedy="Wait an hour"),
        ReasonFacts(code="B", message="Quiet hours until 00:00"),
        ReasonFacts(code="C", message="Too hot."),
    )
    view = now_panel(with_agent(agent(state="waiting", computing=False, reasons=reasons)), AT)
    assert view.plain.splitlines() == [
        "○ WAITING  Battery 41 %, resumes at 55 %.",
        "→ Wait an hour.",
        "Also (2): Quiet hours until 00:00. Too hot.",
    ]


def test_what_this_screen_answers_with_a_key_is_not_said_twice() -> None:
    reasons = (
        ReasonFacts(code="NOT_OPTED_IN", message="The consent record cannot be read"),
        ReasonFacts(code="PAUSED_BY_OWNER", message="Paused by you until you resume"),
        ReasonFacts(code="UNPLUGGED", message="The car is not plugged in"),
    )
    facts = agent(state="opted_out", computing=False, opted_in=False, reasons=reasons)
    off = now_panel(with_agent(facts), AT)
    assert off.plain.splitlines() == [
        "○ OFF  The consent record cannot be read.",
        "→ Press o to opt in.",
        "Also (2): Paused by you until you resume. The car is not plugged in.",
    ]
    assert off.note == "and 2 other reasons"
    facts = agent(state="paused", computing=False, paused=True, reasons=reasons[1:])
    paused = now_panel(with_agent(facts), AT)
    assert paused.plain.splitlines()[2] == "Also (1): The car is not plugged in."


def test_quarantine_is_said_whatever_else_is_true() -> None:
    facts = agent(pool=PoolLinkFacts(quarantine_reason="Results failed a check"))
    assert "In quarantine: Results failed a check." in now_panel(with_agent(facts), AT).plain


def test_a_lost_agent_is_unknown_with_the_age_of_what_was_last_heard() -> None:
    later = replace(AT, monotonic_ns=AT.monotonic_ns + 90_000_000_000)
    view = now_panel(with_agent(agent(), live=False), later)
    assert view.plain.splitlines() == [
        "? UNKNOWN  The agent does not answer; last heard 1 min ago.",
        "Then it was: computing. If the agent is dead, so is its worker.",
        "→ Check the address.",
    ]
    assert view.tone is Tone.BAD
    assert "COMPUTING" not in view.plain


def test_an_agent_never_met() -> None:
    assert "Looking for the agent at /run/agent/control.sock" in now_panel(with_agent(None), AT).plain
    view = now_panel(with_agent(None, live=False), AT)
    assert view.plain.splitlines()[0] == "○ NO AGENT  No agent answers on this computer."


def test_while_a_switch_is_thrown_the_panel_says_so() -> None:
    view = now_panel(replace(with_agent(agent()), busy="pausing"), AT)
    assert view.plain.startswith("◌ PAUSING")


@pytest.mark.parametrize(
    ("vehicles", "said"),
    [
        ((), "The pool knows no car of yours."),
        ((VehicleFacts(vehicle_id="v1", label="A", state="available"),), "○ NONE COMPUTING  of 1 car"),
        (
            (
                VehicleFacts(vehicle_id="v1", label="A", state="leased", running_attempts=3),
                VehicleFacts(vehicle_id="v2", label="B", state="lost"),
                VehicleFacts(vehicle_id="v3", label="C", state="retired"),
            ),
            "● 1 COMPUTING  of 2 cars",
        ),
    ],
)
def test_without_an_agent_the_pool_answers_for_all_cars(
    vehicles: tuple[VehicleFacts, ...], said: str
) -> None:
    account = AccountFacts(earnings=EarningsFacts(currency="EUR"), vehicles=vehicles)
    assert said in now_panel(with_account(account), AT).plain


# --- the box ---


def test_the_box_says_its_state_in_a_word_not_only_in_a_sign() -> None:
    on = opt_in_box(with_agent(agent()), AT)
    assert on.panel.plain == "[x] Compute while this car charges   ON since 1 Oct 18:03"
    off = opt_in_box(with_agent(agent(opted_in=False, opt_in_changed_us=0)), AT)
    assert off.panel.plain == "[ ] Compute while this car charges   OFF"
    assert (on.opted_in, off.opted_in) == (True, False)


def test_the_box_of_a_lost_agent_cannot_be_changed() -> None:
    view = opt_in_box(with_agent(agent(), live=False), AT)
    assert (view.opted_in, view.changeable, view.panel.note) == (True, False, "stale")
    unknown = opt_in_box(with_agent(None), AT)
    assert (unknown.opted_in, unknown.changeable) == (None, False)


def test_a_stop_is_said_as_it_was_measured() -> None:
    assert stop_notice("Paused", 84.2) == "Paused. The computing stopped in 84 ms (measured)."
    assert stop_notice("Opted out", 0) == "Opted out. Nothing was running."


# --- the car ---


def car_lines(**signals: object) -> list[str]:
    changed = replace(convert.agent_facts(scenes.computing()).signals, **signals)  # type: ignore[arg-type]
    return car_panel(with_agent(agent(signals=changed)), AT).plain.splitlines()


def test_the_car_that_charges() -> None:
    assert car_lines() == [
        "Plugged in, charging at 7.4 kW",
        "Battery   62 % to 80 % ██████░░░░",
        "Full      at 02:40, in 3 h 12 min",
        "Source    simulated, polled here",
        "Heard     1 s ago, class B",
    ]


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ({"plug": "unplugged", "charge": "idle"}, "Unplugged"),
        ({"charge": "complete"}, "Plugged in, charge complete"),
        ({"charge": "nopower"}, "Plugged in, no power at the plug"),
        ({"charge": "fault"}, "Plugged in, charging fault"),
        ({"charge": "unknown"}, "Plugged in, charging unknown"),
        ({"charge_power_w": None}, "Plugged in, charging"),
        ({"discharging": True}, "Plugged in, giving power back"),
        ({"moving": True}, "Moving · plugged in"),
        ({"plug": "unknown", "charge": "unknown"}, "Plug unknown, charging unknown"),
    ],
)
def test_plug_and_charge_in_words(signals: dict[str, object], said: str) -> None:
    assert car_lines(**signals)[0] == said


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    lines = car_lines(soc_percent=None, eta_full_s=None, source="", source_class="")
    assert lines[1:4] == ["Battery   unknown", "Full      unknown", "Source    none"]


@pytest.mark.parametrize(
    ("source_class", "said"),
    [("A", "from the car"), ("B", "polled here"), ("C", "up to 60 s late")],
)
def test_a_sources_class_is_explained(source_class: str, said: str) -> None:
    assert said in car_lines(source_class=source_class)[3]


def test_a_reading_past_its_deadline_is_marked() -> None:
    facts = agent(signals=SignalFacts(plug="plugged", fresh=False, age_ms=95_000))
    view = car_panel(with_agent(facts), AT)
    assert view.note == "stale"
    assert "1 min ago: too old, counts as unknown" in view.plain


def test_a_reading_ages_here_after_it_came() -> None:
    later = replace(AT, monotonic_ns=AT.monotonic_ns + 5_000_000_000)
    assert "6 s ago" in car_panel(with_agent(agent()), later).plain


# --- the computing ---


def test_the_computing() -> None:
    view = compute_panel(with_agent(agent()))
    assert view.plain.splitlines() == [
        "Power     112 W declared",
        "Task      3f2a91c… ███░░░░░ 42 %",
        "Lease     30 of 64 done, 2 unsent",
        "Today     2 h 14 min, 0.250 kWh",
        "Last stop 84 ms (promise 250 ms)",
    ]
    assert view.note == "1,204 tasks so far"


def compute_lines(**changes: object) -> list[str]:
    compute = replace(convert.agent_facts(scenes.computing()).compute, **changes)  # type: ignore[arg-type]
    return compute_panel(with_agent(agent(compute=compute))).plain.splitlines()


@pytest.mark.parametrize(
    ("changes", "line", "said"),
    [
        ({"watts": 0.0}, 0, "Power     none: nothing to compute"),
        ({"watts": 0.0, "worker_alive": False}, 0, "Power     none: no worker runs"),
        ({"program_sha256": ""}, 1, "Task      starting …"),
        ({"attempt_progress": -1.0}, 1, "Task      3f2a91c…"),
        ({"lease_attempts": 0, "unacknowledged": 0}, 2, "Lease     none, all sent"),
        ({"last_stop_ms": -1.0}, 4, "Last stop none yet"),
        ({"last_stop_ms": 0.0}, 4, "Last stop 0 ms (promise 250 ms)"),
        ({"last_stop_ms": 312.0}, 4, "Last stop 312 ms, promise was 250 ms"),
    ],
)
def test_the_computing_in_other_states(changes: dict[str, object], line: int, said: str) -> None:
    assert compute_lines(**changes)[line] == said


def test_an_agent_that_does_not_meter_says_nothing_of_energy() -> None:
    untold = CarEnergyFacts()
    assert compute_panel(with_agent(agent(energy=untold))).plain.splitlines()[0] == "Power     112 W"
    assert compute_panel(with_agent(agent(energy=untold))).plain.splitlines()[3].endswith("14 min computed")
    waiting = replace(agent().compute, watts=0.0)
    lines = compute_panel(with_agent(agent(energy=untold, compute=waiting))).plain.splitlines()
    assert lines[0] == "Power     not measured here"
    measured = compute_panel(with_agent(agent(energy=CarEnergyFacts(source="rapl", today_mj=1_000_000))))
    assert measured.plain.splitlines()[0] == "Power     112 W measured"
    assert measured.plain.splitlines()[3] == "Today     2 h 14 min, 0.28 Wh"


def test_missing_sandbox_parts_are_noted() -> None:
    compute = replace(agent().compute, sandbox_missing=("landlock", "user namespaces"))
    assert compute_panel(with_agent(agent(compute=compute))).note == "sandbox: 2 parts missing"


# --- the money ---


def money_lines(dashboard: Dashboard) -> list[str]:
    return money_panel(dashboard, AT).plain.splitlines()


def test_the_money_adds_up_as_it_is_shown() -> None:
    assert money_lines(with_account(owner_account(), bank=BankFacts(iban="DE89"))) == [
        "Net       27.42 EUR = gross 43.85 − fee 3.02 − electricity 13.41 (declared)",
        "Held      1.23 EUR, first freed 13 Nov 14:00 · 0.0244 EUR unverified",
        "Available 8.10 EUR  next payout 1 Dec 06:00, needs 10.00 (1.90 to go)",
        "Paid      31.50 EUR   14 days net ▄▅·▆▇▆▅·▆█▇▇█▅ last 0.2947 EUR",
    ]


def test_the_money_panel_says_what_an_hour_of_this_car_leaves() -> None:
    both = replace(with_account(owner_account()), agent=with_agent(agent()).agent)
    assert money_panel(both, AT).note == "an hour of this car leaves 0.121 EUR"
    assert money_panel(with_account(owner_account()), AT).note == ""


@pytest.mark.parametrize(
    ("gross", "fee", "energy", "said"),
    [
        (
            1_234,
            61,
            EnergyFacts(source="rapl", electricity_micros=512, attempts=1),
            "Net       0.000661 EUR after fee 0.000061, electricity 0.000512 (measured)",
        ),
        (
            2_000_000,
            0,
            EnergyFacts(source="mixed", electricity_micros=3_500_000, attempts=2, unpriced_attempts=1),
            "Net       -1.50 EUR after fee 0.00, electricity at least 3.50 (mixed)",
        ),
        (
            2_043_850_000,
            103_020_000,
            EnergyFacts(source="declared", electricity_micros=913_410_000, attempts=1),
            "Net       1,027.42 EUR after fee 103.02, electricity 913.41 (declared)",
        ),
        (
            2_000_000,
            0,
            EnergyFacts(source="declared", attempts=1, unpriced_attempts=1),
            "Net       2.00 EUR = gross 2.00 − pool fee 0.00, before electricity",
        ),
    ],
)
def test_what_is_left_after_electricity_is_shown_as_it_is(
    gross: int, fee: int, energy: EnergyFacts, said: str
) -> None:
    cost = energy.cost_micros
    earnings = EarningsFacts(
        currency="EUR",
        gross_micros=gross,
        fee_micros=fee,
        energy=energy,
        after_electricity_micros=None if cost is None else gross - fee - cost,
    )
    assert money_lines(with_account(AccountFacts(earnings=earnings)))[0] == said
    assert len(said) <= 76, "it fits a panel of 80 columns"


@given(st.integers(0, 10**8), st.integers(0, 10**6), st.integers(-(10**6), 10**8))
def test_gross_minus_fee_minus_electricity_is_net_on_the_screen(gross: int, fee: int, cost: int) -> None:
    fee = min(fee, gross)
    earnings = EarningsFacts(
        currency="EUR",
        gross_micros=gross,
        fee_micros=fee,
        energy=EnergyFacts(source="rapl", electricity_micros=cost, attempts=1),
        after_electricity_micros=gross - fee - cost,
    )
    line = money_lines(with_account(AccountFacts(earnings=earnings)))[0].replace(",", "").split()
    figures = [round(float(word) * MICROS_PER_UNIT) for word in line if word.lstrip("-")[:1].isdigit()]
    if len(figures) == 4:
        net, shown_gross, shown_fee, shown_cost = figures
        assert net == shown_gross - shown_fee - shown_cost
    elif max(gross, abs(cost)) < MICROS_PER_UNIT:
        assert figures == [gross - fee - cost, fee, cost]


def test_the_price_of_work_and_its_past_day_stand_below_the_money() -> None:
    account = owner_account()
    assert money_panel(with_account(account), AT).note == ""
    price = PriceFacts(price_micros_per_wu=1_200, currency="EUR", past_day=(600, 1_200, 900))
    told = with_account(replace(account, price=price))
    assert money_panel(told, AT).note == "price 0.0012 EUR/WU ▄█▆ 24 h"
    both = replace(told, agent=with_agent(agent()).agent)
    note = money_panel(both, AT).note
    assert note == "an hour of this car leaves 0.121 EUR · price 0.0012 EUR/WU ▄█▆ 24 h"
    first_day = with_account(replace(account, price=replace(price, past_day=(1_200,))))
    assert money_panel(first_day, AT).note == "price 0.0012 EUR/WU"


@pytest.mark.parametrize(("gross", "fee"), [(43_850_000, 3_029_999), (1_009_999, 9_999), (5_000_000, 0)])
def test_gross_minus_fee_is_net_on_the_screen(gross: int, fee: int) -> None:
    earnings = EarningsFacts(currency="EUR", gross_micros=gross, fee_micros=fee)
    line = money_lines(with_account(AccountFacts(earnings=earnings)))[0]
    figures = [word.rstrip(",") for word in line.split() if word[0].isdigit()]
    net, shown_gross, shown_fee = (round(float(figure) * MICROS_PER_UNIT) for figure in figures)
    assert net == shown_gross - shown_fee
    assert net <= gross - fee


def test_the_first_earnings_are_shown_to_the_micro_unit() -> None:
    earnings = EarningsFacts(
        currency="EUR",
        gross_micros=1_234,
        fee_micros=61,
        held_micros=1_173,
        payout_threshold_micros=10_000,
        days=(DayFacts(date="2026-11-12", net_micros=1_173, verified_attempts=1),),
    )
    assert money_lines(with_account(AccountFacts(earnings=earnings))) == [
        "Net       0.001173 EUR = gross 0.001234 − pool fee 0.000061, before electricity",
        "Held      0.001173 EUR",
        "Available 0.00 EUR  next payout: when the operator runs one, needs 0.01 (0.01 to go)",
        "Paid      0.00 EUR   1 day net █ last 0.001173 EUR",
    ]


def test_without_a_bank_account_the_panel_says_what_to_press() -> None:
    lines = money_lines(with_account(owner_account(), bank=BankFacts()))
    assert lines[2] == "Available 8.10 EUR  No bank account is set: press b"


def test_stale_money_says_so_with_its_age() -> None:
    dashboard = with_account(owner_account())
    dashboard = replace(dashboard, account=dashboard.account.lost(TROUBLE, refused=False))
    view = money_panel(dashboard, replace(AT, monotonic_ns=AT.monotonic_ns + 120_000_000_000))
    assert view.note == "stale, 2 min ago, No answer from pool:1."


def test_money_without_a_pool_is_what_the_car_heard() -> None:
    view = money_panel(with_agent(agent()), AT)
    assert view.note == "as the car heard it"
    assert view.plain.splitlines()[:2] == [
        "Net       22.10 EUR by this car, before electricity",
        "Held      1.23 EUR · available 8.1042 EUR  heard 2 s ago",
    ]
    assert "--token-file" in view.plain
    assert "Not signed in" in money_panel(Dashboard(), AT).plain


def test_a_pool_that_never_answered_says_why() -> None:
    dashboard = with_account(None)
    assert "Asking the pool at pool:1" in money_panel(dashboard, AT).plain
    lost = replace(dashboard, account=dashboard.account.lost(TROUBLE, refused=False))
    assert money_lines(lost) == ["No answer from pool:1.", "→ Check the address."]
    with_car = replace(lost, agent=with_agent(agent()).agent)
    assert money_lines(with_car)[2].startswith("Held      1.23 EUR")


# --- the rest ---


def test_events_of_car_and_pool_are_one_list_newest_first() -> None:
    dashboard = replace(with_account(owner_account()), agent=with_agent(agent()).agent)
    assert [event.origin for event in all_events(dashboard)] == ["pool", "car", "car", "pool", "pool"]
    said = words(last_event_line(dashboard, AT))
    assert said == "Last: 23:26  pool  30 tasks of Blue hatchback verified: +0.091 EUR."
    assert words(last_event_line(Dashboard(), AT)) == "Last: nothing yet"


def test_the_header_names_the_car_and_both_links() -> None:
    dashboard = replace(with_account(owner_account()), agent=with_agent(agent()).agent)
    assert words(header_line(dashboard, AT)) == "Chargepool  Blue hatchback   agent live · pool live"
    offline = replace(agent(), pool=PoolLinkFacts(connected=False))
    assert words(header_line(with_agent(offline), AT)).endswith("pool not set up · car offline")
    quiet = replace(offline, state="opted_out", computing=False)
    assert words(header_line(with_agent(quiet), AT)).endswith("pool not set up")
    unpaired = with_agent(agent(vehicle_id=""))
    assert "not paired" in words(header_line(unpaired, AT))


def test_the_vehicles_table_says_when_it_is_stale_or_empty() -> None:
    dashboard = with_account(owner_account())
    stale = replace(dashboard, account=dashboard.account.lost(TROUBLE, refused=False))
    later = replace(AT, monotonic_ns=AT.monotonic_ns + 60_000_000_000)
    assert words(vehicles_table(stale, later).caption) == "2 cars  stale, 1 min ago"
    nothing = with_account(AccountFacts(earnings=EarningsFacts(currency="EUR")))
    assert words(vehicles_table(nothing, AT).caption).startswith("No car yet.")
    assert words(vehicles_table(with_account(None), AT).caption) == "Waiting for the pool …"
    lost = with_account(None)
    lost = replace(lost, account=lost.account.lost(TROUBLE, refused=False))
    assert words(vehicles_table(lost, AT).caption) == "No answer from pool:1. Check the address."


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("KXRT-4927", "KXRT-4927"),
        (" kxrt4927 ", "KXRT-4927"),
        ("kxrt 4927", "KXRT-4927"),
        ("KXRT–4927", "KXRT-4927"),
        ("KXRT-492", None),
        ("", None),
        ("KXRT-4927-1", None),
    ],
)
def test_a_code_is_read_as_people_type_it(typed: str, code: str | None) -> None:
    assert normal_code(typed) == code


def test_before_approving_the_owner_sees_key_and_time_left() -> None:
    device = DeviceFacts(
        user_code="KXRT-4927",
        agent_version="0.1.0",
        key_fingerprint="0123456789abcdef",
        expires_at_us=AT.now_us + 90_000_000,
    )
    lines = [words(line) for line in device_lines(device, AT)]
    assert lines[0] == "Code      KXRT-4927, valid for another 1 min"
    assert lines[1] == "Key       0123 4567 89ab cdef"
    expired = device_lines(replace(device, expires_at_us=AT.now_us), AT)
    assert "no longer" in words(expired[0])
    assert fingerprint_text("abcdef") == "abcd ef"


@pytest.mark.parametrize(
    ("holder", "iban", "threshold", "problem"),
    [
        ("", "DE89370400440532013000", "10", "Who holds the account?"),
        ("Ada", "DE89370400440532013001", "10", "not an IBAN"),
        ("Ada", "XX", "10", "not an IBAN"),
        ("Ada", "DE89370400440532013000", "ten", "at most two decimals"),
        ("Ada", "DE89370400440532013000", "1.234", "at most two decimals"),
        ("Ada", "DE89370400440532013000", "0", "one cent"),
    ],
)
def test_bank_details_that_cannot_be_right_are_not_sent(
    holder: str, iban: str, threshold: str, problem: str
) -> None:
    checked = bank_input(holder, iban, threshold, "Koeln", "DE")
    assert checked.facts is None
    assert problem in checked.problem


def test_bank_details_are_read_as_people_type_them() -> None:
    checked = bank_input("  Ada   Example ", "de89 3704 0044 0532 0130 00", "7,5", " Bad  Ems", "de ")
    assert checked.facts == BankFacts(
        holder_name="Ada Example",
        iban="DE89370400440532013000",
        threshold_micros=7_500_000,
        town="Bad Ems",
        country="DE",
    )
    least = bank_input("Ada", "DE89370400440532013000", "", "Koeln", "DE").facts
    assert least is not None
    assert least.threshold_micros == 10_000
    for town, country in (("", "DE"), ("Koeln", ""), ("Koeln", "Germany")):
        assert "where you live" in bank_input("Ada", "DE89370400440532013000", "", town, country).problem
    assert threshold_text(7_500_000) == "7.50"
    assert threshold_text(0) == ""


def test_what_the_pool_would_write_to_a_bank_is_shown_to_be_confirmed() -> None:
    said = {"public": "Not valid.", "detail": "town: say: where", "proposal": ""}
    assert "'Lukasz'" in refusal_words(**(said | {"proposal": "Lukasz"}))
    assert refusal_words(**said) == "say: where"
    assert refusal_words(**(said | {"detail": ""})) == "Not valid."


def test_help_says_the_panel_in_full_and_the_keys_in_force() -> None:
    panel = now_panel(with_agent(agent()), AT)
    view = help_view(
        panel=panel, about="What it is.", keys=[KeyHelp(keys="question_mark,f1", explained="Help.")]
    )
    assert [title for title, _ in view.sections] == ["Is it computing now?", "It says now", "Keys"]
    assert words(view.sections[2][1][0]) == "?, f1       Help."
    assert key_names("escape") == "esc"
    assert [title for title, _ in help_view(panel=None, about="", keys=[]).sections] == ["Keys"]

"""The dashboard on real sockets: what it says, what its keys do, and what it does when a peer goes away."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import DataTable, Input

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import account_service_pb2 as account
from pool_protocol.v1 import agent_control_service_pb2 as control
from tests.tui import scenes
from tests.tui.peers import FakeAgent, FakePool
from tests.tui.stage import QUICK, Stage, stage
from tui.follow import Pace
from tui.messages import (
    AccountHeard,
    AccountLost,
    AgentHeard,
    AgentLost,
    BankHeard,
    ChangeDone,
    ChangeFailed,
    DeviceAnswered,
    DeviceFound,
    LoadFailed,
)
from tui.screens.dialogs import BankDialog, HelpScreen, OptInQuestion, PairDialog
from tui.screens.lists import EventsScreen, VehiclesScreen
from tui.screens.owner import OwnerScreen
from tui.view_models.state import Phase


async def both_live(stage: Stage) -> None:
    await stage.message(AgentHeard)
    await stage.message(BankHeard)


def notices(stage: Stage) -> list[str]:
    return [notification.message for notification in stage.app._notifications]


async def test_first_screen_answers_in_order(agent: FakeAgent, pool: FakePool) -> None:
    async with stage(socket=agent.socket, pool=pool) as opened:
        await both_live(opened)
        rows = opened.text.splitlines()
        assert len(rows) == 24
        order = [
            "COMPUTING  task 31 of 64",
            "[x] Compute while this car charges   ON since 1 Oct 18:03",
            "charging at 7.4 kW",
            "27.42 EUR",
            "Last: 23:26",
            "space Pause",
        ]
        found = [next(i for i, row in enumerate(rows) if words in row) for words in order]
        assert found == sorted(found)


async def test_waiting_gives_headline_remedy_and_the_other_blockers(agent: FakeAgent) -> None:
    agent.status = scenes.waiting()
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        text = opened.text
        assert "WAITING  Battery 41 %, resumes at 55 %." in text
        assert "→ Wait: at 7.4 kW it takes about 1 h 30 min." in text
        assert "Also (2): Quiet hours until 00:00. Battery 39 °C" in text


async def test_a_pushed_change_appears(agent: FakeAgent) -> None:
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        signals = control.VehicleSignals(plug="unplugged", charge="idle", fresh=True, source="simulated")
        await agent.tell(computing=False, state="waiting", signals=signals)
        await opened.message(AgentHeard, count=2)
        assert "Unplugged" in opened.text
        assert "COMPUTING" not in opened.text


async def test_space_pauses_and_says_how_long_the_stop_took(agent: FakeAgent) -> None:
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        await opened.press("space")
        done = await opened.message(ChangeDone)
        assert agent.calls.count("Pause 0") == 1
        assert done.agent.paused
        assert notices(opened) == ["Paused. The computing stopped in 84 ms (measured)."]
        assert "‖ PAUSED  Paused by you, until you resume." in opened.text
        assert "Press space to resume." in opened.text

        await opened.press("space")
        await opened.message(ChangeDone, count=2)
        assert agent.calls.count("Resume") == 1
        assert "● COMPUTING" in opened.text


async def test_space_pauses_while_the_pool_is_down(agent: FakeAgent, pool: FakePool) -> None:
    await pool.stop()
    async with stage(socket=agent.socket, pool=pool) as opened:
        await opened.message(AgentHeard)
        await opened.message(AccountLost)
        await opened.press("space")
        await opened.message(ChangeDone)
        assert "PAUSED" in opened.text


async def test_opting_out_asks_nothing(agent: FakeAgent) -> None:
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        await opened.press("o")
        await opened.message(ChangeDone)
        assert agent.calls.count("SetOptIn False") == 1
        assert "[ ] Compute while this car charges   OFF" in opened.text


async def test_opting_in_asks_once_with_the_terms(agent: FakeAgent) -> None:
    agent.status.opted_in = False
    agent.status.computing = False
    agent.status.state = "opted_out"
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        await opened.press("o")
        assert isinstance(opened.app.screen, OptInQuestion)
        assert "Only while this car charges" in opened.text
        await opened.press("n")
        assert not [call for call in agent.calls if call.startswith("SetOptIn")]

        await opened.press("o")
        await opened.press("y")
        await opened.message(ChangeDone)
        assert agent.calls.count("SetOptIn True") == 1
        assert "[x] Compute while this car charges   ON" in opened.text


async def test_the_box_is_ticked_by_enter_and_by_a_click(agent: FakeAgent) -> None:
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        await opened.press("tab")
        await opened.press("enter")
        await opened.message(ChangeDone)
        assert agent.calls.count("SetOptIn False") == 1
        await opened.pilot.click("#opt-in")
        await opened.pilot.pause()
        assert isinstance(opened.app.screen, OptInQuestion)


async def test_a_refused_switch_changes_nothing_and_says_why(agent: FakeAgent) -> None:
    agent.refusal = PoolError(ErrorCode.JOURNAL_CORRUPT)
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        await opened.press("space")
        await opened.message(ChangeFailed)
        (notification,) = opened.app._notifications
        assert notification.title == "Nothing was changed"
        assert "car-agent doctor" in notification.message
        assert "● COMPUTING" in opened.text


async def test_one_switch_at_a_time(agent: FakeAgent) -> None:
    agent.gate.clear()
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        await opened.press("space")
        assert "◌ PAUSING" in opened.text
        await opened.press("space")
        assert notices(opened) == ["Still pausing."]
        agent.gate.set()
        await opened.message(ChangeDone)
        assert agent.calls.count("Pause 0") == 1
        assert "Resume" not in agent.calls
        assert "PAUSED" in opened.text


async def test_a_switch_without_an_answer_is_not_said_to_have_changed_nothing(agent: FakeAgent) -> None:
    agent.refusal = PoolError(ErrorCode.UNAVAILABLE)
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        await opened.press("o")
        await opened.message(ChangeFailed)
        (notification,) = opened.app._notifications
        assert notification.title.startswith("No answer")


async def test_agent_that_vanishes_is_unknown_and_comes_back(agent: FakeAgent) -> None:
    async with stage(socket=agent.socket) as opened:
        # 1. It computes. 2. The agent dies: nobody knows any more, and the screen says how old that is.
        await opened.message(AgentHeard)
        await agent.stop()
        await opened.message(AgentLost)
        opened.clock.advance(seconds=14)
        opened.app.show_state()
        await opened.pilot.pause()
        assert "? UNKNOWN  The agent does not answer; last heard 14 s ago." in opened.text
        assert "Then it was: computing." in opened.text
        assert "agent lost, 14 s ago" in opened.text
        # 3. No switch can be thrown meanwhile.
        await opened.press("space")
        assert notices(opened)[-1].startswith("No agent answers")
        # 4. It returns by itself, with what is true now.
        agent.status = scenes.waiting()
        heard = len(opened.of(AgentHeard))
        await agent.start()
        await opened.message(AgentHeard, count=heard + 1)
        assert "WAITING  Battery 41 %" in opened.text
        assert opened.app.dashboard.agent.phase is Phase.LIVE


async def test_agent_that_is_not_there_yet(socket: Path) -> None:
    async with stage(socket=socket) as opened:
        await opened.message(AgentLost)
        assert "○ NO AGENT  No agent answers on this computer." in opened.text
        assert "car-agent run" in opened.text
        assert "Not signed in to the pool." in opened.text
        peer = FakeAgent(socket, scenes.computing())
        await peer.start()
        await opened.message(AgentHeard)
        assert "● COMPUTING" in opened.text
        await peer.stop()


async def test_a_silent_agent_is_asked_whether_it_lives(agent: FakeAgent) -> None:
    pace = Pace(tick_s=3600, silence_s=0.02, poll_s=3600, retry_first_s=0.01, retry_max_s=0.05)
    async with stage(socket=agent.socket, pace=pace) as opened:
        await opened.message(AgentHeard, count=3)
        assert "GetStatus" in agent.calls
        assert agent.calls.count("WatchStatus") == 1


async def test_only_the_pool(pool: FakePool) -> None:
    async with stage(pool=pool) as opened:
        await opened.message(BankHeard)
        text = opened.text
        assert "● 1 COMPUTING  of 2 cars, says the pool." in text
        assert "car-agent run" in text
        assert "[?] Compute while this car charges" in text
        assert "27.42 EUR" in text


async def test_only_the_agent_says_what_to_set_for_the_money(agent: FakeAgent) -> None:
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        text = opened.text
        assert "22.10 EUR by this car" in text
        assert "--token-file" in text


async def test_pool_that_goes_away_leaves_stale_figures_with_their_age(
    agent: FakeAgent, pool: FakePool
) -> None:
    async with stage(socket=agent.socket, pool=pool) as opened:
        await both_live(opened)
        await pool.stop()
        opened.clock.advance(seconds=120)
        await opened.press("r")
        await opened.message(AccountLost)
        assert "27.42 EUR" in opened.text
        assert "stale, 2 min ago" in opened.text
        pool.earnings.gross_micros += 1_000_000
        pool.earnings.after_electricity_micros += 1_000_000
        await pool.start()
        await opened.message(AccountHeard, count=2)
        assert "28.42 EUR" in opened.text
        assert "stale" not in opened.text


async def test_a_refused_token_says_what_to_do(agent: FakeAgent, pool: FakePool) -> None:
    pool.refusal = PoolError(ErrorCode.UNAUTHENTICATED)
    async with stage(socket=agent.socket, pool=pool) as opened:
        await opened.message(AgentHeard)
        await opened.message(AccountLost)
        assert opened.app.dashboard.account.phase is Phase.REFUSED
        assert "pool refused" in opened.text


async def test_text_from_the_network_cannot_style_or_move_anything(agent: FakeAgent, pool: FakePool) -> None:
    evil = "[red]tasks[/red] \x1b[2J\x07 \u202eevil [@click=app.quit]x[/]"
    agent.status.reasons.add(code="X", message=evil)
    agent.status.computing = False
    agent.status.state = "[bold]odd"
    pool.vehicles[0].label = evil
    pool.events[0].message = evil
    async with stage(socket=agent.socket, pool=pool) as opened:
        await both_live(opened)
        text = opened.text
        assert "[red]tasks[/red]" in text
        assert "[BOLD]ODD" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        await opened.press("v")
        assert "[red]tasks[/red]" in opened.text


async def test_vehicles_screen_lists_cars_and_explains_the_one_under_the_cursor(
    agent: FakeAgent, pool: FakePool
) -> None:
    async with stage(socket=agent.socket, pool=pool) as opened:
        await both_live(opened)
        await opened.press("v")
        assert isinstance(opened.app.screen, VehiclesScreen)
        assert "▸ Blue hatchback" in opened.text
        assert "quarantined" in opened.text
        await opened.press("down")
        assert "two results failed a check" in opened.text
        await opened.press("escape")
        assert isinstance(opened.app.screen, OwnerScreen)


async def test_a_refresh_keeps_the_cursor_and_changes_cells(agent: FakeAgent, pool: FakePool) -> None:
    async with stage(socket=agent.socket, pool=pool) as opened:
        await both_live(opened)
        await opened.press("v")
        await opened.press("down")
        pool.vehicles[1].state = "available"
        new = account.VehicleView(vehicle_id="vehicle_third", label="Third", state="enrolled")
        pool.vehicles.append(new)
        await opened.press("r")
        await opened.message(AccountHeard, count=2)
        table = opened.app.screen.query_one(DataTable)
        assert table.row_count == 3
        assert table.cursor_row == 1
        assert "available" in opened.text
        assert "quarantined" not in opened.text
        del pool.vehicles[0]
        await opened.press("r")
        await opened.message(AccountHeard, count=3)
        assert table.row_count == 2
        assert "Blue hatchback  " not in opened.text.replace("▸", "").split("2 cars")[1]


async def test_events_screen_has_both_origins(agent: FakeAgent, pool: FakePool) -> None:
    async with stage(socket=agent.socket, pool=pool) as opened:
        await both_live(opened)
        await opened.press("e")
        assert isinstance(opened.app.screen, EventsScreen)
        assert "car   Leased 64 tasks" in opened.text
        assert "pool  31.50 EUR went to your bank." in opened.text


async def test_pairing_shows_the_key_before_it_approves(pool: FakePool) -> None:
    pool.devices["KXRT-4927"] = account.GetDeviceCodeResponse(
        agent_version="0.1.0",
        key_fingerprint="0123456789abcdef",
        expires_at_us=scenes.NOW_US + 600_000_000,
    )
    async with stage(pool=pool) as opened:
        await opened.message(BankHeard)
        await opened.press("p")
        assert isinstance(opened.app.screen, PairDialog)
        opened.app.screen.query_one("#code", Input).value = "kxrt 4927"
        await opened.press("enter")
        await opened.message(DeviceFound)
        assert "0123 4567 89ab cdef" in opened.text
        assert "valid for another 10 min" in opened.text
        await opened.press("enter")
        assert "Give the car a name first." in opened.text
        await opened.press(*"Van2")
        await opened.press("enter")
        await opened.message(DeviceAnswered)
        assert "ApproveDevice approve KXRT-4927 Van2" in pool.calls
        assert notices(opened)[-1] == "Van2 is yours now."
        assert isinstance(opened.app.screen, OwnerScreen)


async def test_pairing_can_be_refused_and_an_unknown_code_says_what_to_do(pool: FakePool) -> None:
    async with stage(pool=pool) as opened:
        await opened.message(BankHeard)
        await opened.press("p")
        await opened.press(*"abc")
        await opened.press("enter")
        assert "eight letters and digits" in opened.text
        opened.app.screen.query_one("#code", Input).value = "AAAA-BBBB"
        await opened.press("enter")
        await opened.message(LoadFailed)
        assert "This pairing code is not known." in opened.text
        pool.devices["AAAA-BBBB"] = account.GetDeviceCodeResponse(
            key_fingerprint="ff", expires_at_us=scenes.NOW_US + 1_000_000
        )
        await opened.press("enter")
        await opened.message(DeviceFound)
        await opened.pilot.click("#refuse")
        await opened.message(DeviceAnswered)
        assert "ApproveDevice refuse AAAA-BBBB" in pool.calls


async def test_bank_dialog_checks_before_it_sends(pool: FakePool) -> None:
    pool.details.Clear()
    async with stage(pool=pool) as opened:
        await opened.message(BankHeard)
        assert "No bank account is set: press b" in opened.text
        await opened.press("b")
        screen = opened.app.screen
        assert isinstance(screen, BankDialog)
        screen.query_one("#holder", Input).value = "Ada Example"
        screen.query_one("#iban", Input).value = "DE89 3704 0044 0532 0130 01"
        screen.query_one("#threshold", Input).value = "7.50"
        screen.query_one("#town", Input).value = "Koeln"
        screen.query_one("#country", Input).value = "de"
        await opened.press("enter")
        assert "This is not an IBAN" in opened.text
        screen.query_one("#iban", Input).value = "DE89 3704 0044 0532 0130 00"
        await opened.press("enter")
        await opened.message(BankHeard, count=2)
        await opened.until(lambda: isinstance(opened.app.screen, OwnerScreen))
        assert pool.details.iban == "DE89370400440532013000"
        assert pool.details.threshold_micros == 7_500_000
        assert (pool.details.town, pool.details.country) == ("Koeln", "DE")
        assert "No bank account" not in opened.text


async def test_bank_dialog_shows_how_banks_would_read_the_name_and_asks_again(pool: FakePool) -> None:
    async with stage(pool=pool) as opened:
        await opened.message(BankHeard)
        await opened.press("b")
        screen = opened.app.screen
        values = {"holder": "Łukasz Żółć", "town": "Koeln", "country": "DE"}
        for name, value in values.items():
            screen.query_one(f"#{name}", Input).value = value
        await opened.press("enter")
        await opened.until(lambda: "Save again to confirm" in opened.text)
        assert screen.query_one("#holder", Input).value == "Lukasz Zolc"
        await opened.press("enter")
        await opened.message(BankHeard, count=2)
        assert pool.details.holder_name == "Lukasz Zolc"


async def test_help_explains_the_panel_under_the_cursor_and_lists_remapped_keys(agent: FakeAgent) -> None:
    async with stage(socket=agent.socket, keymap={"pause": "f8"}, size=(80, 40)) as opened:
        await opened.message(AgentHeard)
        await opened.press("tab", "tab", "f1")
        assert isinstance(opened.app.screen, HelpScreen)
        text = opened.text
        assert "What the car reports" in text
        assert "f8          Pause or resume" in text
        await opened.press("escape")
        await opened.press("space")
        assert not [call for call in agent.calls if call.startswith("Pause")]
        await opened.press("f8")
        await opened.message(ChangeDone)
        assert agent.calls.count("Pause 0") == 1


@pytest.mark.parametrize("key", ["q", "ctrl+q"])
async def test_quits(agent: FakeAgent, key: str) -> None:
    async with stage(socket=agent.socket) as opened:
        await opened.message(AgentHeard)
        await opened.press(key)
        assert opened.app._exit


@pytest.mark.parametrize("size", [(50, 20), (80, 24), (100, 35), (140, 45)])
async def test_every_size_shows_the_answer_and_the_box(
    agent: FakeAgent, pool: FakePool, size: tuple[int, int]
) -> None:
    async with stage(socket=agent.socket, pool=pool, size=size, pace=QUICK) as opened:
        await both_live(opened)
        assert "● COMPUTING" in opened.text
        assert "[x] Compute while this car charges" in opened.text


async def test_wide_and_tall_terminals_show_more_news(agent: FakeAgent, pool: FakePool) -> None:
    for size in ((140, 24), (80, 40)):
        async with stage(socket=agent.socket, pool=pool, size=size) as opened:
            await both_live(opened)
            assert "31.50 EUR went to your bank." in opened.text

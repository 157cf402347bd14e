"""The first screen to the cell, and the picture in the documentation, which is drawn from it."""

from __future__ import annotations

from pathlib import Path

from tests.tui.peers import FakeAgent, FakePool
from tests.tui.picture import PICTURE, draw
from tests.tui.stage import stage
from tui.messages import AgentHeard, BankHeard

SCREEN = Path(__file__).with_name("first_screen.txt")


async def test_the_first_screen_at_80x24(agent: FakeAgent, pool: FakePool) -> None:
    async with stage(socket=agent.socket, pool=pool) as opened:
        await opened.message(AgentHeard)
        await opened.message(BankHeard)
        rows = opened.text.splitlines()
        assert (len(rows), max(map(len, rows))) == (24, 80)
        assert opened.text == SCREEN.read_text(encoding="utf-8").rstrip("\n")


async def test_the_picture_in_the_documentation_is_the_screen_of_today() -> None:
    # After a change that is meant: python -m tests.tui.picture docs/images/dashboard.svg
    assert await draw() == PICTURE.read_text(encoding="utf-8")


def test_the_picture_fetches_nothing() -> None:
    svg = PICTURE.read_text(encoding="utf-8")
    assert "url(" not in svg.replace("url(#", "")
    assert svg.count("http") == svg.count("http://www.w3.org/2000/svg")

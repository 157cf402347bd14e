"""The first screen to the cell, and the picture in the documentation, which is drawn from it."""

from __future__ import annotations

from tests.tui.picture import PICTURE, SCREEN, draw


async def test_the_first_screen_and_its_picture_are_those_of_today() -> None:
    # After a change that is meant: python -m tests.tui.picture
    picture, screen = await draw()
    rows = screen.splitlines()
    assert (len(rows), max(map(len, rows))) == (24, 80)
    assert screen == SCREEN.read_text(encoding="utf-8")
    assert picture == PICTURE.read_text(encoding="utf-8")


def test_the_picture_fetches_nothing() -> None:
    svg = PICTURE.read_text(encoding="utf-8")
    assert "url(" not in svg.replace("url(#", "")
    assert svg.count("http") == svg.count("http://www.w3.org/2000/svg")

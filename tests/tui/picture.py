"""Draws the first screen of a realistic evening, as the documentation's picture and as text.

`python -m tests.tui.picture` writes both anew, after a change that is meant.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from tests.support.repository import ROOT
from tests.tui import scenes
from tests.tui.peers import FakeAgent, FakePool
from tests.tui.stage import stage
from tui.messages import AgentHeard, BankHeard

PICTURE = ROOT / "docs" / "images" / "dashboard.svg"
SCREEN = Path(__file__).with_name("first_screen.txt")
#: Rich names a font on a content network; a picture in our documentation loads nothing from anywhere.
_FONT_FACE = re.compile(r"@font-face \{.*?\}", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def self_contained(svg: str) -> str:
    """Return the picture without anything that a viewer would fetch."""
    bare = _COMMENT.sub("", _FONT_FACE.sub("", svg)).replace("Fira Code", "Menlo, Consolas, DejaVu Sans Mono")
    return "\n".join(line.rstrip() for line in bare.splitlines() if line.strip()) + "\n"


async def draw() -> tuple[str, str]:
    """Return the first screen at 80x24 as SVG and as text."""
    with tempfile.TemporaryDirectory(prefix="cp") as folder:
        agent = FakeAgent(Path(folder) / "control.sock", scenes.computing())
        pool = FakePool()  # type: ignore[abstract] # only what the dashboard calls
        scenes.fill(pool)
        await agent.start()
        await pool.start()
        try:
            async with stage(socket=agent.socket, pool=pool) as opened:
                await opened.message(AgentHeard)
                await opened.message(BankHeard)
                return self_contained(opened.app.export_screenshot(title="pool-tui")), f"{opened.text}\n"
        finally:
            await agent.stop()
            await pool.stop()


if __name__ == "__main__":
    picture, screen = asyncio.run(draw())
    PICTURE.write_text(picture, encoding="utf-8")
    SCREEN.write_text(screen, encoding="utf-8")

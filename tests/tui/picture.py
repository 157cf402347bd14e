"""Draws docs/images/dashboard.svg from a realistic evening: `python -m tests.tui.picture FILE.svg`."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from tests.support.repository import ROOT
from tests.tui import scenes
from tests.tui.peers import FakeAgent, FakePool
from tests.tui.stage import stage
from tui.messages import AgentHeard, BankHeard

PICTURE = ROOT / "docs" / "images" / "dashboard.svg"
#: Rich names a font on a content network; a picture in our documentation loads nothing from anywhere.
_FONT_FACE = re.compile(r"@font-face \{.*?\}", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def self_contained(svg: str) -> str:
    """Return the picture without anything that a viewer would fetch."""
    bare = _COMMENT.sub("", _FONT_FACE.sub("", svg)).replace("Fira Code", "Menlo, Consolas, DejaVu Sans Mono")
    return "\n".join(line.rstrip() for line in bare.splitlines() if line.strip()) + "\n"


async def draw() -> str:
    """Return the first screen at 80x24 as SVG."""
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
                return self_contained(opened.app.export_screenshot(title="pool-tui"))
        finally:
            await agent.stop()
            await pool.stop()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(asyncio.run(draw()), encoding="utf-8")

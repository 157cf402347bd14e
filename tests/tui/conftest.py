"""Peers on real sockets, and a dashboard that talks to them; all end with the test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.tui import scenes
from tests.tui.peers import FakeAgent, FakePool
from tests.tui.stage import Activity

# The person who runs the tests may like it plain or bright; the screen in the tests is always the same.
for _name in ("NO_COLOR", "TEXTUAL_THEME", "TEXTUAL_COLOR_SYSTEM", "TEXTUAL_DEBUG"):
    os.environ.pop(_name, None)


@pytest.fixture(autouse=True)
def rest_by_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pilot waits for messages to cease, not for the machine to be idle."""
    for module in ("textual.app", "textual.pilot"):
        monkeypatch.setattr(f"{module}.wait_for_idle", Activity.rest)


@pytest.fixture
def socket() -> Iterator[Path]:
    """A path for a unix socket: short, since the kernel allows no more than 107 characters."""
    with tempfile.TemporaryDirectory(prefix="cp") as folder:
        yield Path(folder) / "control.sock"


@pytest.fixture
async def agent(socket: Path) -> AsyncIterator[FakeAgent]:
    """An agent whose car charges and computes."""
    peer = FakeAgent(socket, scenes.computing())
    await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
async def pool() -> AsyncIterator[FakePool]:
    """A pool that knows an owner with two cars."""
    peer = FakePool()  # type: ignore[abstract] # only what the dashboard calls
    scenes.fill(peer)
    await peer.start()
    yield peer
    await peer.stop()

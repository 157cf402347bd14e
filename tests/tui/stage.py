"""Runs the real dashboard against real peers, headless, and waits for messages instead of for time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import TypeVar

import grpc
from textual.app import App
from textual.message import Message
from textual.pilot import Pilot

from tests.support.clock import ManualClock
from tests.tui import scenes
from tests.tui.peers import FakePool
from tui.app import OwnerApp
from tui.follow import Pace
from tui.gateway import Gateways
from tui.grpc_gateway import GrpcAccountGateway, GrpcAgentGateway

M = TypeVar("M", bound=Message)

#: Nothing here waits for the clock: silence and polls are far apart, reconnecting is quick.
QUICK = Pace(tick_s=3600, silence_s=3600, poll_s=3600, retry_first_s=0.01, retry_max_s=0.05)
PATIENCE_S = 20.0


class Activity:
    """Counts the messages that any app dispatches, to know when one has come to rest."""

    dispatched = 0
    #: Turns of the loop, two milliseconds apart, without a message: then it rests.
    QUIET_TURNS = 3
    TURNS_MAX = 500

    @classmethod
    async def rest(cls, min_sleep: float = 0, max_sleep: float = 1) -> None:
        """Wait until no message is dispatched any more.

        In place of Textual's own wait, which looks at the CPU time of the whole process and so waits out
        its full second whenever gRPC's threads or a neighbour are busy.
        """
        quiet = 0
        for _ in range(cls.TURNS_MAX):
            before = cls.dispatched
            await asyncio.sleep(0.002)
            quiet = quiet + 1 if cls.dispatched == before else 0
            if quiet == cls.QUIET_TURNS:
                return


class Watcher:
    """Every message that a running app dispatched, and how to wait for one."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._arrived = asyncio.Event()
        self.pilot: Pilot[None]

    def hook(self, message: Message) -> None:
        self.messages.append(message)
        Activity.dispatched += 1
        self._arrived.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; looked at after each message."""

        async def wait() -> None:
            while True:
                await self.pilot.pause(0)
                if holds():
                    return
                self._arrived.clear()
                await self._arrived.wait()

        await asyncio.wait_for(wait(), PATIENCE_S)

    async def message(self, kind: type[M], *, count: int = 1) -> M:
        """Wait for the count-th message of a kind, and until it was handled."""
        await self.until(lambda: len(self.of(kind)) >= count)
        await self.pilot.pause()
        return self.of(kind)[count - 1]

    def of(self, kind: type[M]) -> list[M]:
        """Return the messages of a kind, each once."""
        seen: dict[int, M] = {}
        for message in self.messages:
            if isinstance(message, kind):
                seen[id(message)] = message
        return list(seen.values())

    async def press(self, *keys: str) -> None:
        """Press keys and let the handlers run."""
        await self.pilot.press(*keys)
        await self.pilot.pause()


class Stage(Watcher):
    """The running dashboard of an owner."""

    def __init__(self, app: OwnerApp, clock: ManualClock) -> None:
        super().__init__()
        self.app = app
        self.clock = clock

    @property
    def text(self) -> str:
        """What stands on the screen, row by row."""
        return screen_text(self.app)


def screen_text(app: App[None]) -> str:
    """Return the screen as plain text, without trailing spaces."""
    compositor = app.screen._compositor
    strips = compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


@asynccontextmanager
async def stage(
    *,
    socket: Path | None = None,
    pool: FakePool | None = None,
    size: tuple[int, int] = (80, 24),
    pace: Pace = QUICK,
    keymap: Mapping[str, str] | None = None,
    folder: Path | None = None,
    light: bool = False,
) -> AsyncIterator[Stage]:
    """Open the dashboard on these peers, at the scene's moment."""
    clock = scenes.clock()

    def connect() -> Gateways:
        account = None
        if pool is not None:
            account = GrpcAccountGateway(
                channel=grpc.aio.insecure_channel(pool.address), address="pool.example.org:7443", clock=clock
            )
        return Gateways(agent=GrpcAgentGateway(str(socket)) if socket else None, account=account)

    app = OwnerApp(
        gateways=connect, clock=clock, zone=UTC, keymap=keymap, pace=pace, folder=folder, light=light
    )
    async with on_stage(app, clock, size=size) as opened:
        yield opened


@asynccontextmanager
async def on_stage(app: OwnerApp, clock: ManualClock, *, size: tuple[int, int]) -> AsyncIterator[Stage]:
    """Run an app headless, and end it as a person does."""
    opened = Stage(app, clock)
    async with app.run_test(size=size, message_hook=opened.hook, notifications=True) as pilot:
        opened.pilot = pilot
        yield opened
        # The followers first, so that nothing is painted on a screen that is being taken down.
        app.workers.cancel_all()
        await pilot.pause()

"""Follows the agent and the pool while the dashboard runs: reconnects with back-off, and notices silence.

Knows neither widgets nor the app: news goes out through callables. A stream that says nothing is asked
whether it lives: an agent whose car does not change has nothing to say, and a hung one says nothing either.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from tui.facts import AgentFacts
from tui.gateway import GatewayError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often things are asked, in seconds."""

    tick_s: float = 1.0
    """Ages on the screen grow this often."""
    silence_s: float = 3.0
    """A silent agent is asked after this."""
    poll_s: float = 5.0
    """The pool is asked this often."""
    retry_first_s: float = 0.25
    retry_max_s: float = 5.0
    """Back-off: the first delay doubles up to the largest."""


class Retry:
    """Waits between tries: doubling, bounded, and cut short by `wake`."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._delay_s = pace.retry_first_s
        self._woken = asyncio.Event()

    def succeeded(self) -> None:
        """Start again with the first delay."""
        self._delay_s = self._pace.retry_first_s

    def wake(self) -> None:
        """End the current or the next wait at once."""
        self._woken.set()

    async def wait(self) -> None:
        """Wait for the current delay, which then doubles."""
        delay_s, self._delay_s = self._delay_s, min(self._pace.retry_max_s, self._delay_s * 2)
        await self.pause(delay_s)

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until woken."""
        try:
            await asyncio.wait_for(self._woken.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self._woken.clear()


async def follow_stream(
    *,
    watch: Callable[[], AsyncGenerator[AgentFacts, None]],
    ask: Callable[[], Awaitable[AgentFacts]],
    heard: Callable[[AgentFacts], object],
    lost: Callable[[GatewayError], object],
    retry: Retry,
    pace: Pace,
) -> None:
    """Follow a stream of statuses for ever.

    Args:
        watch: Opens the stream.
        ask: Asks once, with a deadline; used when the stream is silent.
        heard: Gets every status.
        lost: Gets every failure.
        retry: Waits between tries.
        pace: How long silence may last.
    """
    while True:
        try:
            async with aclosing(_never_silent(watch(), ask, pace.silence_s)) as statuses:
                async for agent in statuses:
                    retry.succeeded()
                    heard(agent)
        except GatewayError as error:
            lost(error)
        await retry.wait()


async def _never_silent(
    stream: AsyncGenerator[AgentFacts, None], ask: Callable[[], Awaitable[AgentFacts]], silence_s: float
) -> AsyncGenerator[AgentFacts, None]:
    pending: asyncio.Task[AgentFacts | None] | None = None
    try:
        while True:
            if pending is None:
                pending = asyncio.create_task(_next(stream))
            done, _ = await asyncio.wait({pending}, timeout=silence_s)
            if not done:
                yield await ask()
                continue
            finished, pending = pending, None
            agent = finished.result()
            if agent is None:
                return
            yield agent
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        await stream.aclose()


async def _next(stream: AsyncGenerator[AgentFacts, None]) -> AgentFacts | None:
    return await anext(stream, None)


async def follow_poll(
    *,
    ask: Callable[[], Awaitable[None]],
    lost: Callable[[GatewayError], object],
    retry: Retry,
    pace: Pace,
) -> None:
    """Ask again and again for ever: `pace.poll_s` after an answer, with back-off after a failure.

    Args:
        ask: Asks once and passes the answer on.
        lost: Gets every failure.
        retry: Waits between tries; `wake` asks at once.
        pace: How often.
    """
    while True:
        try:
            await ask()
        except GatewayError as error:
            lost(error)
            await retry.wait()
        else:
            retry.succeeded()
            await retry.pause(pace.poll_s)

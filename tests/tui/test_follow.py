"""Following: back-off doubles up to a bound, is cut short by a wake, and silence is not taken for life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from tui.facts import AgentFacts
from tui.follow import Pace, Retry, follow_poll, follow_stream
from tui.gateway import GatewayError

PACE = Pace(silence_s=0.01, poll_s=0.001, retry_first_s=0.001, retry_max_s=0.004)


def failure() -> GatewayError:
    return GatewayError(code="UNAVAILABLE", public="No answer.", next_step="Wait.", unreachable=True)


class EnoughError(Exception):
    """Ends an endless follower from inside a test."""


class RecordedRetry(Retry):
    """Waits no time and records how long it would have."""

    def __init__(self) -> None:
        super().__init__(PACE)
        self.waits: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


async def test_back_off_doubles_up_to_its_bound_and_starts_again_after_success() -> None:
    retry = RecordedRetry()
    for _ in range(4):
        await retry.wait()
    retry.succeeded()
    await retry.wait()
    assert retry.waits == [0.001, 0.002, 0.004, 0.004, 0.001]


async def test_a_wake_ends_the_wait() -> None:
    retry = Retry(Pace(retry_first_s=3600, retry_max_s=3600))
    waiting = asyncio.create_task(retry.wait())
    await asyncio.sleep(0)
    retry.wake()
    await asyncio.wait_for(waiting, 5)


async def test_a_poll_goes_on_after_failures() -> None:
    answers: list[GatewayError | None] = [None, failure(), failure(), None]
    lost: list[GatewayError] = []
    retry = RecordedRetry()

    async def ask() -> None:
        if not answers:
            raise EnoughError
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    with pytest.raises(EnoughError):
        await follow_poll(ask=ask, lost=lost.append, retry=retry, pace=PACE)
    assert len(lost) == 2
    assert retry.waits == [PACE.poll_s, 0.001, 0.002, PACE.poll_s]


async def test_a_broken_stream_is_opened_again() -> None:
    opened = 0
    heard: list[str] = []
    lost: list[GatewayError] = []

    async def watch() -> AsyncGenerator[AgentFacts, None]:
        nonlocal opened
        opened += 1
        if opened > 2:
            raise EnoughError
        yield AgentFacts(state=f"stream {opened}")
        raise failure()

    async def ask() -> AgentFacts:
        raise AssertionError("the stream was not silent")

    with pytest.raises(EnoughError):
        await follow_stream(
            watch=watch,
            ask=ask,
            heard=lambda agent: heard.append(agent.state),
            lost=lost.append,
            retry=RecordedRetry(),
            pace=Pace(silence_s=3600),
        )
    assert heard == ["stream 1", "stream 2"]
    assert len(lost) == 2


async def test_a_silent_stream_whose_agent_does_not_answer_is_closed() -> None:
    closed: list[str] = []

    async def watch() -> AsyncGenerator[AgentFacts, None]:
        try:
            yield AgentFacts(state="running")
            await asyncio.Event().wait()
        finally:
            closed.append("stream")

    async def ask() -> AgentFacts:
        raise failure()

    def lost(error: GatewayError) -> None:
        raise EnoughError from error

    with pytest.raises(EnoughError):
        await follow_stream(
            watch=watch, ask=ask, heard=lambda _: None, lost=lost, retry=RecordedRetry(), pace=PACE
        )
    assert closed == ["stream"]


async def test_a_stream_that_ends_in_good_order_is_opened_again() -> None:
    opened = 0

    async def watch() -> AsyncGenerator[AgentFacts, None]:
        nonlocal opened
        opened += 1
        if opened > 3:
            raise EnoughError
        yield AgentFacts()

    async def ask() -> AgentFacts:
        return AgentFacts()

    with pytest.raises(EnoughError):
        await follow_stream(
            watch=watch,
            ask=ask,
            heard=lambda _: None,
            lost=lambda _: None,
            retry=RecordedRetry(),
            pace=Pace(silence_s=3600),
        )
    assert opened == 4

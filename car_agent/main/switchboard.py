"""What the owner may do, made durable before it is answered. Stopping comes first, writing second.

An opt-out or a pause kills the worker before anything is written: the owner's wish does not wait for a disk.
Consent, on the other hand, holds only once it is on disk.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from car_agent.core.policy import OwnerSwitches
from car_agent.core.status import AgentSnapshot
from car_agent.journal.consent import ConsentFile
from car_agent.journal.settings import PolicyFile, parse_policy, policy_toml
from car_agent.main.agent import Agent
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError

_NS_PER_MS = 1_000_000
_MICROSECONDS_PER_SECOND = 1_000_000


class Switchboard:
    """The owner's switches of a running agent."""

    def __init__(self, agent: Agent, *, consent: ConsentFile, policy_file: PolicyFile, clock: Clock) -> None:
        """Switch `agent`, and keep the switches in `consent` and `policy_file`."""
        self._agent = agent
        self._consent = consent
        self._policy_file = policy_file
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    def snapshot(self) -> AgentSnapshot:
        """Return how everything stands."""
        return self._agent.snapshot()

    async def changed(self, version: int) -> int:
        """Wait for a change after `version`; return the new version."""
        return await self._agent.changed(version)

    async def opt_in(self) -> None:
        """Opt in.

        Raises:
            PoolError: UNAVAILABLE when the consent cannot be written; it then does not hold.
        """
        async with self._one_at_a_time:
            with _disk_failures_translated():
                write = partial(self._consent.opt_in, now_us=self._clock.now_us())
                self._agent.set_switches(await asyncio.to_thread(write))
        self._agent.happened("OPTED_IN", "You opted in.")

    async def opt_out(self) -> float:
        """Opt out; return the milliseconds until no worker was alive, 0 when none lived.

        Raises:
            PoolError: UNAVAILABLE when it cannot be written. The worker is stopped nevertheless.
        """
        now_us = self._clock.now_us()
        stopped_ms = await self._stop(replace(self._agent.switches, opted_in=False, opt_in_changed_us=now_us))
        async with self._one_at_a_time:
            with _disk_failures_translated():
                write = partial(self._consent.opt_out, now_us=now_us)
                self._agent.set_switches(await asyncio.to_thread(write))
        self._agent.happened("OPTED_OUT", f"You opted out; work stopped within {stopped_ms:.0f} ms.")
        return stopped_ms

    async def pause(self, duration_s: int) -> float:
        """Pause for a time, or with 0 until resumed; return as `opt_out`.

        Raises:
            PoolError: UNAVAILABLE when it cannot be written. The worker is stopped nevertheless.
        """
        until_us = self._clock.now_us() + duration_s * _MICROSECONDS_PER_SECOND if duration_s else 0
        stopped_ms = await self._stop(replace(self._agent.switches, paused=True, pause_until_us=until_us))
        async with self._one_at_a_time:
            with _disk_failures_translated():
                write = partial(self._consent.pause, until_us=until_us)
                self._agent.set_switches(await asyncio.to_thread(write))
        self._agent.happened("PAUSED", f"You paused; work stopped within {stopped_ms:.0f} ms.")
        return stopped_ms

    async def resume(self) -> None:
        """End a pause.

        Raises:
            PoolError: UNAVAILABLE when it cannot be written; the pause then still holds.
        """
        async with self._one_at_a_time:
            with _disk_failures_translated():
                self._agent.set_switches(await asyncio.to_thread(self._consent.resume))
        self._agent.happened("RESUMED", "You ended the pause.")

    async def _stop(self, switches: OwnerSwitches) -> float:
        began_ns = self._clock.monotonic_ns()
        lived = self._agent.worker_lives
        self._agent.set_switches(switches)
        await self._agent.worker_gone()
        return (self._clock.monotonic_ns() - began_ns) / _NS_PER_MS if lived else 0.0

    def policy_toml(self) -> str:
        """Return the owner's limits as TOML."""
        return policy_toml(self._agent.policy)

    async def set_policy(self, text: str) -> str:
        """Set the owner's limits; return them as kept. On an error the old ones stay.

        Raises:
            PoolError: INVALID_ARGUMENT naming the key; UNAVAILABLE when they cannot be written.
        """
        policy = parse_policy(text)
        async with self._one_at_a_time:
            with _disk_failures_translated():
                await asyncio.to_thread(self._policy_file.write, policy)
            self._agent.set_policy(policy)
        self._agent.happened("POLICY_SET", "You changed the limits.")
        return policy_toml(policy)


@contextlib.contextmanager
def _disk_failures_translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PoolError(ErrorCode.UNAVAILABLE, f"cannot write: {error}") from error

"""The sweeps that run beside the calls: expired leases and jobs, silent vehicles, held and pending money.

Each sweep is a command like any other, on the writer thread. A sweep that fails because the database is busy
is tried again at the next turn; one that dies of anything else stops the process.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pool_protocol.errors import PoolError
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc.store_access import StoreAccess

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Something that time makes due."""

    name: str
    run: Callable[[UnitOfWork, int], int]
    """Takes the time in microseconds; returns how much was done, 0 when nothing more is due now."""
    every: int = 1
    """Runs at every so manieth turn."""


async def run_sweeps(sweeps: Sequence[Sweep], *, store: StoreAccess, interval_s: float) -> None:
    """Run the sweeps in turn, for ever."""
    turn = 0
    while True:
        for sweep in sweeps:
            if turn % sweep.every == 0:
                await sweep_until_done(sweep, store=store)
        turn += 1
        await asyncio.sleep(interval_s)


async def sweep_until_done(sweep: Sweep, *, store: StoreAccess) -> int:
    """Run one sweep until nothing more is due; return how much was done."""
    total = 0
    while True:
        now_us = store.now_us()
        try:
            done = await store.write(lambda uow: sweep.run(uow, now_us))  # noqa: B023 - awaited in this round
        except PoolError as error:
            if not error.retryable:
                raise
            _log.warning("sweep %s waits: %s", sweep.name, error, extra={"action": "sweep_waits"})
            return total
        total += done
        if done == 0:
            if total:
                _log.info("sweep %s: %d", sweep.name, total, extra={"action": "swept", "sweep": sweep.name})
            return total

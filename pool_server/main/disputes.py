"""Runs the referee beside the calls, outside of every transaction: disputed units first, then whole tasks."""

import asyncio
import contextlib
import logging
from typing import Protocol

from pool_protocol.errors import PoolError
from pool_server.app.compare_ahead import compare_pairs, pairs_of_run
from pool_server.app.refereeing import (
    disputes_to_referee,
    take_run,
    take_task_run,
    task_order,
    tasks_to_referee,
    unit_order,
)
from pool_server.app.unit_check_runs import check_order, checks_to_referee, measure, take_check
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.verification.audit import AuditDraw
from pool_server.ports.disputes import UnitReferee, UnitRun
from pool_server.ports.pool_runs import TaskReferee, TaskRun
from pool_server.ports.unit_checks import Measured
from pool_server.rpc.store_access import StoreAccess

#: What could not be run is tried again after so long, if nothing else calls.
RETRY_S = 5.0

_log = logging.getLogger(__name__)


class PoolReferee(UnitReferee, TaskReferee, Protocol):
    """Runs units and whole tasks."""


async def run_disputes(
    referee: PoolReferee,
    *,
    store: StoreAccess,
    policy: WorkPolicy,
    blobs: BlobReader,
    draws: AuditDraw,
    wanted: asyncio.Event,
) -> None:
    """Let the referee run what is disputed, for ever; `wanted` wakes it."""
    while True:
        wanted.clear()
        try:
            for dispute_id in await store.read(disputes_to_referee):
                await referee_one(referee, dispute_id, store=store, policy=policy, blobs=blobs, draws=draws)
            for check_id in await store.read(checks_to_referee):
                await referee_unit(referee, check_id, store=store, policy=policy, blobs=blobs)
            for task_id in await store.read(tasks_to_referee):
                await referee_task(referee, task_id, store=store, policy=policy, blobs=blobs)
        except PoolError as error:
            if not error.retryable:
                raise
            _log.warning("the referee waits: %s", error, extra={"action": "referee_waits"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                await wanted.wait()


async def referee_one(
    referee: UnitReferee,
    dispute_id: int,
    *,
    store: StoreAccess,
    policy: WorkPolicy,
    blobs: BlobReader,
    draws: AuditDraw,
) -> None:
    """Run one dispute's unit, and write what that means."""
    order = await store.read(lambda uow: unit_order(uow, dispute_id))
    if order is None:
        return
    run: UnitRun | PoolError
    try:
        run = await referee.run_unit(order)
    except PoolError as error:
        run = _not_run(f"unit {order.unit_index} of dispute {dispute_id}", error)
    now_us = store.now_us()
    await store.write(
        lambda uow: take_run(uow, dispute_id, run, draws=draws, policy=policy, blobs=blobs, now_us=now_us)
    )
    _log.info(
        "dispute %d: unit %d was run again",
        dispute_id,
        order.unit_index,
        extra={"action": "refereed", "dispute_id": dispute_id, "unit_index": order.unit_index},
    )


async def referee_unit(
    referee: UnitReferee, check_id: int, *, store: StoreAccess, policy: WorkPolicy, blobs: BlobReader
) -> None:
    """Run one unit of a claim from the claim's own state, and write what that means."""
    order = await store.read(lambda uow: check_order(uow, check_id))
    if order is None:
        return
    outcome: Measured | PoolError
    try:
        run = await referee.run_unit(order.unit)
        outcome = await asyncio.to_thread(measure, order, run, blobs)
    except PoolError as error:
        outcome = _not_run(f"unit {order.unit.unit_index} of unit check {check_id}", error)
    now_us = store.now_us()
    await store.write(
        lambda uow: take_check(uow, check_id, outcome, policy=policy, blobs=blobs, now_us=now_us)
    )
    _log.info(
        "unit check %d: unit %d was run",
        check_id,
        order.unit.unit_index,
        extra={"action": "refereed", "unit_index": order.unit.unit_index},
    )


async def referee_task(
    referee: TaskReferee, task_id: int, *, store: StoreAccess, policy: WorkPolicy, blobs: BlobReader
) -> None:
    """Compute one task, and write what that means."""
    order = await store.read(lambda uow: task_order(uow, task_id))
    if order is None:
        return
    run: TaskRun | PoolError
    try:
        run = order if isinstance(order, PoolError) else await referee.run_task(order)
    except PoolError as error:
        run = _not_run(f"task {task_id}", error)
    if isinstance(run, TaskRun):
        await _compare_ahead(task_id, run, store=store, blobs=blobs)
    now_us = store.now_us()
    await store.write(lambda uow: take_task_run(uow, task_id, run, policy=policy, blobs=blobs, now_us=now_us))
    _log.info("task %d was run", task_id, extra={"action": "refereed", "task_id": task_id})


async def _compare_ahead(task_id: int, run: TaskRun, *, store: StoreAccess, blobs: BlobReader) -> None:
    pairs = await store.read(lambda uow: pairs_of_run(uow, task_id, run))
    await asyncio.to_thread(compare_pairs, pairs, blobs=blobs)


def _not_run(what: str, error: PoolError) -> PoolError:
    """Say so, and return the failure: it is an outcome like others."""
    _log.warning(
        "%s was not run: %s", what, error, extra={"action": "referee_failed", "code": error.code.value}
    )
    return error

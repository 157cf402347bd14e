"""A buyer's watch over a job: every decision once, in order, from any cursor, as fast as the buyer reads."""

import asyncio
from collections.abc import AsyncGenerator

from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import market_service_pb2 as pb
from pool_server.app.jobs import decided_after
from pool_server.app.principals import require_token
from pool_server.app.receipts import Proven, receipts_of_attempts
from pool_server.app.work_commands import DecidedPage
from pool_server.core.jobs import ACTIVE_JOB_STATES
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc import convert_market
from pool_server.rpc.hub import Hub
from pool_server.rpc.store_access import StoreAccess

#: Decisions read at once; with outputs fewer, since each may carry a whole inline bundle.
DECISIONS_MAX = 1_000
DECISIONS_WITH_OUTPUTS_MAX = 256
#: A job that nothing is decided of is looked at again after this: cars that come and go change why it waits.
LOOK_AGAIN_S = 10.0
#: A message is sent when it holds this much, half of what a message may.
MESSAGE_BYTES_SOFT_MAX = limits.MESSAGE_BYTES_MAX // 2


class JobWatch:
    """Streams a job's decisions."""

    def __init__(self, *, store: StoreAccess, hub: Hub) -> None:
        self._store = store
        self._hub = hub

    async def watch(
        self, *, buyer_id: str, token_id: str, job_id: int, after_cursor: int, with_outputs: bool
    ) -> AsyncGenerator[pb.WatchJobResponse, None]:
        """Yield what was decided after the cursor, then what is decided from now on, until the job has ended.

        The first message comes at once, even when nothing was decided. The last one shows the ended job.

        Raises:
            PoolError: NOT_FOUND; UNAUTHENTICATED once the token was revoked or has expired; DRAINING when the
                server goes away: watch again from the last cursor.
        """
        cursor, tell, told_why = after_cursor, True, None
        with self._hub.watching(job_id) as woken:
            while True:
                # Cleared before reading: what is committed after the read wakes us again.
                woken.clear()
                page, receipts = await self._read(
                    buyer_id, token_id, job_id, cursor, with_outputs=with_outputs
                )
                tell = tell or page.job.waiting_reason != told_why
                told_why = page.job.waiting_reason
                for response in _responses(page, receipts, after=cursor, with_outputs=with_outputs):
                    if tell or response.decided or response.cursor != cursor:
                        yield response
                        tell = False
                    cursor = response.cursor
                if page.decided:
                    continue
                if page.job.state not in ACTIVE_JOB_STATES:
                    yield pb.WatchJobResponse(cursor=cursor, job=convert_market.job_view(page.job))
                    return
                if self._hub.draining:
                    raise PoolError(ErrorCode.DRAINING, "the server is shutting down", retry_after_ms=1_000)
                # The job's figures may be all that changed: they are told too.
                tell = await _woken_within(woken, LOOK_AGAIN_S)

    async def _read(
        self, buyer_id: str, token_id: str, job_id: int, cursor: int, *, with_outputs: bool
    ) -> tuple[DecidedPage, dict[int, Proven]]:
        limit = DECISIONS_WITH_OUTPUTS_MAX if with_outputs else DECISIONS_MAX
        now_us = self._store.now_us()

        def read(uow: UnitOfWork) -> tuple[DecidedPage, dict[int, Proven]]:
            require_token(uow, token_id, now_us=now_us)
            page = decided_after(
                uow, buyer_id=buyer_id, job_id=job_id, cursor=cursor, limit=limit, now_us=now_us
            )
            if not with_outputs:
                return page, {}
            paid = [attempt_id for task in page.decided for attempt_id in task.paid_attempt_ids]
            return page, receipts_of_attempts(uow, paid)

        return await self._store.read(read)


async def _woken_within(woken: asyncio.Event, timeout_s: float) -> bool:
    """Wait for an event, at most so long; say whether it came."""
    try:
        async with asyncio.timeout(timeout_s):
            await woken.wait()
    except TimeoutError:
        return False
    return True


def _responses(
    page: DecidedPage, receipts: dict[int, Proven], *, after: int, with_outputs: bool
) -> list[pb.WatchJobResponse]:
    """Cut a page into messages that fit."""
    job = convert_market.job_view(page.job)
    responses = [pb.WatchJobResponse(cursor=after, job=job)]
    size_bytes = 0
    for task in page.decided:
        message = convert_market.task_result(task, receipts, with_outputs=with_outputs)
        size_bytes += message.ByteSize()
        if size_bytes > MESSAGE_BYTES_SOFT_MAX and responses[-1].decided:
            responses.append(pb.WatchJobResponse(cursor=responses[-1].cursor, job=job))
            size_bytes = message.ByteSize()
        responses[-1].decided.append(message)
        responses[-1].cursor = task.cursor
    return responses

"""Hears appeals: has the referee run a rejected task outside of every transaction, and compares.

What the outcome means is decided in `app.appeals`. An appeal goes on when its caller goes away: asking again
joins it, or gets what it found. One that a stopped server had not ended is simply asked for again.
"""

import asyncio
import logging
from typing import Final

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.tensors import decode
from pool_server.app.appeals import AppealCase, AppealRun, close_appeal, open_appeal
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.comparison import tensors_agree
from pool_server.core.jobs import TensorRef
from pool_server.core.verification.appeal import rule_on_appeal
from pool_server.core.verification.findings import FindingOutcome
from pool_server.ports.referee import Referee, RefereeAnswer, RefereeError, RefereeReason
from pool_server.ports.verification import FindingRow
from pool_server.referee.orders import ProgramSource, RefereeOrders
from pool_server.rpc.store_access import StoreAccess

#: Appeals of one owner that may be under way.
APPEALS_OPEN_MAX: Final = 3
#: A task is made for minutes of a car; the pool's machine may be slower.
APPEAL_TIMEOUT_S: Final = 600.0
#: Failures that say nothing of the task: the owner may ask again.
_OURS: Final = frozenset({RefereeReason.BUSY, RefereeReason.CRASH})

_log = logging.getLogger(__name__)


class AppealDesk:
    """Hears appeals."""

    def __init__(
        self,
        *,
        store: StoreAccess,
        programs: ProgramSource,
        referee: Referee,
        policy: WorkPolicy,
        blob_reader: BlobReader,
    ) -> None:
        self._store = store
        self._referee = referee
        self._policy = policy
        self._orders = RefereeOrders(programs=programs, blobs=blob_reader)
        self._under_way: dict[int, tuple[str, asyncio.Task[FindingRow]]] = {}
        # One at a time: between two of them disputes have their turn at the referee.
        self._turn = asyncio.Lock()

    async def appeal(self, *, owner_id: str, attempt_id: int) -> FindingRow:
        """Return what the pool's own run found; what an earlier appeal found, if there was one.

        Raises:
            PoolError: NOT_FOUND; INVALID_STATE; RATE_LIMITED while too many appeals of this owner are under
                way; UNAVAILABLE when the referee cannot run it now.
        """
        now_us = self._store.now_us()
        opened = await self._store.read(
            lambda uow: open_appeal(uow, owner_id=owner_id, attempt_id=attempt_id, now_us=now_us)
        )
        if isinstance(opened, FindingRow):
            return opened
        known = self._under_way.get(attempt_id)
        if known is None:
            if sum(owner == owner_id for owner, _ in self._under_way.values()) >= APPEALS_OPEN_MAX:
                raise PoolError(
                    ErrorCode.RATE_LIMITED, f"{owner_id} has {APPEALS_OPEN_MAX} appeals under way"
                )
            task = asyncio.create_task(self._hear(opened))
            self._under_way[attempt_id] = known = (owner_id, task)
            task.add_done_callback(lambda ended: self._ended(attempt_id, ended))
        return await asyncio.shield(known[1])

    def _ended(self, attempt_id: int, task: "asyncio.Task[FindingRow]") -> None:
        del self._under_way[attempt_id]
        if not task.cancelled():
            task.exception()  # looked at, although its caller may have gone away

    async def _hear(self, case: AppealCase) -> FindingRow:
        attempt_id = case.attempt.attempt_id
        try:
            async with self._turn:
                answer = await self._run(case)
            run = await self._compare(case, answer)
        except RefereeError as error:
            _log.warning(
                "attempt %d was not run for its appeal: %s",
                attempt_id,
                error,
                extra={"action": "appeal_failed", "reason": error.reason.value},
            )
            if error.reason in _OURS:
                raise PoolError(ErrorCode.UNAVAILABLE, str(error)) from error
            run = AppealRun(FindingOutcome.OPEN, b"")
        now_us = self._store.now_us()
        finding = await self._store.write(
            lambda uow: close_appeal(uow, case, run, policy=self._policy, now_us=now_us)
        )
        _log.info(
            "the appeal over attempt %d: its result is %s",
            attempt_id,
            finding.finding.value,
            extra={"action": "appealed", "attempt_id": attempt_id, "finding": finding.finding.value},
        )
        return finding

    async def _run(self, case: AppealCase) -> RefereeAnswer:
        """Compute the task.

        Raises:
            RefereeError: it does not run.
        """
        job = case.job
        order = await self._orders.make_task(
            job.program_sha256,
            constants=case.constants,
            inputs=case.inputs,
            steps=job.steps_per_task,
            unit_steps=job.unit_steps,
        )
        return await self._referee.run(order._replace(timeout_s=APPEAL_TIMEOUT_S))

    async def _compare(self, case: AppealCase, answer: RefereeAnswer) -> AppealRun:
        referee_class = await self._referee.numeric_class()
        comparator = case.job.comparator

        def rule(digest: bytes, outputs: TensorRef | None, numeric_class: str) -> FindingOutcome:
            agrees = digest == answer.output_digest or (
                not comparator.is_exact
                and outputs is not None
                and tensors_agree(comparator, self._orders.arrays(outputs), decode(answer.outputs))
            )
            return rule_on_appeal(
                agrees=agrees,
                needs_same_bits=comparator.compares_bits,
                numeric_class=numeric_class,
                referee_class=referee_class,
            )

        def compare() -> AppealRun:
            attempt, accepted = case.attempt, case.accepted
            contradicts = accepted is not None and (
                rule(accepted.output_digest, case.accepted_outputs, accepted.numeric_class)
                is FindingOutcome.WRONG
            )
            finding = rule(attempt.output_digest, case.claimed, attempt.numeric_class)
            return AppealRun(finding, answer.output_digest, contradicts)

        return await asyncio.to_thread(compare)

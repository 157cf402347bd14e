"""The queue before the admission child: one program at a time, a few may wait, the rest come back later.

Vetting compiles, which takes seconds and a core; concurrency of one keeps that from the fleet's way. The
child, its sandbox and its rules are `pool_protocol.program.admission`.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.admission import AdmittedProgram
from pool_protocol.program.manifest import ProgramDraft

#: Advised delay when the queue is full: about one program's vetting.
RETRY_AFTER_MS = 5_000


Vet = Callable[[bytes, ProgramDraft], AdmittedProgram]
"""Blocking: artifact and draft in, verdict out; raises a PROGRAM_ code or ADMISSION_FAILED."""


class AdmissionQueue:
    """Vets one program at a time."""

    def __init__(self, vet: Vet, *, waiting_max: int) -> None:
        """Use `vet`, and let at most `waiting_max` programs wait or be vetted."""
        self._vet = vet
        self._waiting_max = waiting_max
        self._waiting = 0
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="admission")

    async def vet(self, artifact: bytes, draft: ProgramDraft) -> AdmittedProgram:
        """Vet a program.

        Raises:
            PoolError: RATE_LIMITED when too many wait; what the vetting raises.
        """
        if self._waiting >= self._waiting_max:
            raise PoolError(
                ErrorCode.RATE_LIMITED,
                f"{self._waiting} programs wait to be vetted",
                retry_after_ms=RETRY_AFTER_MS * self._waiting,
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, self._vet, artifact, draft)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Take nothing new; what runs is left to end by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)

"""From a task's outcome on the wire to a `Result`, checked.

1. An accepted task's outputs hash to the digest that the pool names.
2. Every receipt is signed by a receipt key of the pool, stands under its batch's root, and adds up.
3. Every receipt is of this job, this task and this program.
4. Where a task cost money, at least one receipt is of exactly these outputs, and the receipts' sum is not
   below what was charged.

What fails raises `ProofInvalid`: an answer that does not prove itself is not given out as a result.
"""

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from chargepool._errors import ChargepoolError, JobCancelled, ProofInvalid, TaskFailed
from chargepool._receipts import Receipt, unverified_receipt
from chargepool._session import Session
from chargepool._values import Result
from pool_protocol.digests import output_digest
from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import market_service_pb2

Decoder = Callable[[Mapping[str, NDArray[Any]]], Any]
"""Named output arrays -> what the function returned."""


class OutcomeReader:
    """Turns the task results of one job into values."""

    def __init__(
        self, session: Session, *, job_id: str, program_sha256: str, decode: Decoder, verifies: bool = True
    ) -> None:
        """Take the job that outcomes must belong to, and how its outputs are decoded.

        Args:
            session: Fetches large outputs and verifies receipts.
            job_id: The job.
            program_sha256: Its program.
            decode: Makes the value out of named arrays.
            verifies: False skips the signatures of receipts (`Receipt.verify` still checks them).
        """
        self._session = session
        self._job_id = job_id
        self._program_sha256 = program_sha256
        self._decode = decode
        self._verifies = verifies

    def read(self, task: market_service_pb2.TaskResult) -> Result:
        """Return the result of a decided task.

        Raises:
            ProofInvalid: The answer contradicts its own digests, receipts or signatures.
        """
        if task.state == market_service_pb2.TASK_STATE_ACCEPTED:
            return self._accepted(task)
        return Result(
            index=task.index,
            cost_micros=task.cost_micros,
            attempts=task.attempt_count,
            output_digest=b"",
            error=self._why_not(task),
        )

    def _accepted(self, task: market_service_pb2.TaskResult) -> Result:
        if not task.HasField("outputs"):
            (task,) = self._session.get_results(self._job_id, [task.index])
        arrays = self._session.arrays(task.outputs)
        digest = output_digest(arrays)
        if digest != task.output_digest:
            raise ProofInvalid(
                f"The outputs of task {task.index} do not have the digest that the pool names.",
                code=ErrorCode.BLOB_DIGEST_MISMATCH,
                context={"job_id": self._job_id, "index": str(task.index)},
            )
        receipts = tuple(map(self._receipt, task.receipts))
        self._check_receipts(task, receipts)
        return Result(
            index=task.index,
            cost_micros=task.cost_micros,
            attempts=task.attempt_count,
            output_digest=digest,
            receipts=receipts,
            is_final=task.final,
            evidence=task.evidence,
            replaced_count=task.replaced_count,
            _value=self._decode(arrays),
        )

    def _receipt(self, proven: Any) -> Receipt:
        trust = self._session.trust
        return trust.verify(proven) if self._verifies else unverified_receipt(proven, trust)

    def _check_receipts(self, task: market_service_pb2.TaskResult, receipts: tuple[Receipt, ...]) -> None:
        for receipt in receipts:
            told = (receipt.job_id, receipt.task_index, receipt.fields.program_sha256)
            if told != (self._job_id, task.index, self._program_sha256):
                raise self._not_proven(task, "a receipt is of another job, task or program")
        if task.cost_micros == 0:
            return
        if task.cost_micros > sum(receipt.gross_micros for receipt in receipts):
            raise self._not_proven(task, "it was charged more than its receipts say")
        if all(receipt.output_digest != task.output_digest for receipt in receipts):
            raise self._not_proven(task, "no receipt is of these outputs")

    def _not_proven(self, task: market_service_pb2.TaskResult, why: str) -> ProofInvalid:
        return ProofInvalid(
            f"Task {task.index} of {self._job_id} does not prove itself: {why}.",
            code=ErrorCode.RECEIPT_INVALID,
            context={"job_id": self._job_id, "index": str(task.index)},
        )

    def _why_not(self, task: market_service_pb2.TaskResult) -> ChargepoolError:
        if task.state == market_service_pb2.TASK_STATE_FAILED:
            return TaskFailed(
                index=task.index, reason=task.reason, detail=task.detail, attempts=task.attempt_count
            )
        return cancelled(self._job_id, task.index)


def cancelled(job_id: str, index: int) -> JobCancelled:
    """Return the error of a task that was not decided before its job ended."""
    return JobCancelled(
        f"{job_id} ended before task {index} was decided.",
        next_step="The task cost nothing; send it in a new job if you still want it.",
        context={"job_id": job_id, "index": str(index)},
    )

"""The conversation with one pool: each market call once, typed, repeated while that is harmless.

Here protobuf messages end: what is above works with values and named arrays. This module decides which
tensors travel inline and which as blobs, and how a stream is continued after the pool went away. It does not
decide what to buy.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import grpc
from numpy.typing import NDArray

from chargepool._errors import ChargepoolError, JobNotFound, PoolRefused, ProofInvalid, from_pool_error
from chargepool._prices import MarketPrice, PriceEpoch, epoch_of_wire, price_of_wire
from chargepool._receipts import RootTrust
from chargepool._retry import Retrying, failure_of
from chargepool._values import (
    Balance,
    JobStatus,
    Quote,
    SpendCap,
    level_to_wire,
    quote_of_wire,
    status_of_wire,
)
from pool_protocol import tensors
from pool_protocol.clock import Clock
from pool_protocol.digests import sha256_hex, verify_sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import (
    BLOB_BYTES_MAX,
    BLOB_CHUNK_BYTES,
    INLINE_TENSOR_BYTES_MAX,
)
from pool_protocol.v1 import (
    common_pb2,
    log_service_pb2_grpc,
    market_service_pb2,
    market_service_pb2_grpc,
    price_service_pb2,
    price_service_pb2_grpc,
)

#: Admission compiles the program in a sandbox: the pool allows itself a minute, the client two more.
_ADMIT_TIMEOUT_S = 180.0
#: Blobs that were uploaded through this session and need not be again. Digests only; a hundred bytes each.
_KNOWN_BLOBS_MAX = 100_000
_PAGE_SIZE = 100

_Q = TypeVar("_Q")
_A = TypeVar("_A")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTerms:
    """What a job is created with."""

    idempotency_key: str
    program_sha256: str
    constants: Mapping[str, NDArray[Any]]
    price_mode: common_pb2.PriceMode.ValueType
    quote_id: str
    price_cap_micros_per_wu: int
    budget_micros: int
    level: str
    comparator: common_pb2.Comparator
    deadline_us: int
    name: str
    steps: int
    attempts_max: int
    certificate_sha256: str = ""
    price_start_micros_per_wu: int = 0
    refuses_price_above_cap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One message of a job's stream."""

    decided: Sequence[market_service_pb2.TaskResult]
    cursor: int
    status: JobStatus


class Session:
    """One channel to one pool. Safe to share between threads."""

    def __init__(
        self, channel: grpc.Channel, *, retrying: Retrying, clock: Clock, trust: RootTrust | None = None
    ) -> None:
        """Take an open channel, which `close` closes, and whom an earlier session came to trust."""
        self._channel = channel
        self._stub = market_service_pb2_grpc.MarketServiceStub(channel)
        self._prices = price_service_pb2_grpc.PriceServiceStub(channel)
        self._log_stub = log_service_pb2_grpc.LogServiceStub(channel)
        self._retrying = retrying
        self._timeout_s = retrying.policy.call_timeout_s
        self._known_blobs: set[str] = set()
        self._lock = threading.Lock()
        self.clock = clock
        self.trust = RootTrust(self.pool_roots, clock=clock) if trust is None else trust

    def close(self) -> None:
        """Close the channel; calls under way end with an error."""
        self._channel.close()

    # --- programs -----------------------------------------------------------------------------

    def admit(self, artifact: bytes, manifest_draft: bytes) -> tuple[str, bytes]:
        """Have a program admitted; returns its id and the manifest that the pool signed (canonical JSON)."""
        request = market_service_pb2.AdmitProgramRequest(artifact=artifact, manifest_draft=manifest_draft)
        answer = self._retrying.call(
            "AdmitProgram", lambda: self._stub.AdmitProgram(request, timeout=_ADMIT_TIMEOUT_S)
        )
        return answer.program_sha256, self.trust.verify_admission(answer.admission, answer.program_sha256)

    # --- tensors ------------------------------------------------------------------------------

    def bundle(self, arrays: Mapping[str, NDArray[Any]]) -> common_pb2.TensorBundle:
        """Return named arrays ready to be sent: inline when small, else uploaded as a blob first.

        Raises:
            ChargepoolError: InputRefused when they are too large; what an upload can raise.
        """
        try:
            encoded = tensors.encode(arrays)
        except PoolError as error:
            raise from_pool_error(error) from error
        if len(encoded) <= INLINE_TENSOR_BYTES_MAX:
            return common_pb2.TensorBundle(inline=encoded, size_bytes=len(encoded))
        return common_pb2.TensorBundle(blob_sha256=self.put_blob(encoded), size_bytes=len(encoded))

    def arrays(self, bundle: common_pb2.TensorBundle) -> dict[str, NDArray[Any]]:
        """Return the arrays of a bundle, fetched and checked by digest where it is a blob."""
        encoded = bundle.inline if bundle.HasField("inline") else self.get_blob(bundle.blob_sha256)
        try:
            return tensors.decode(encoded)
        except PoolError as error:
            raise from_pool_error(error) from error

    def put_blob(self, content: bytes) -> str:
        """Upload bytes unless this session did before; returns their SHA-256 in hexadecimal."""
        if len(content) > BLOB_BYTES_MAX:
            raise from_pool_error(
                PoolError(
                    ErrorCode.BLOB_TOO_LARGE,
                    f"The arrays have {len(content)} bytes, a blob may have {BLOB_BYTES_MAX}.",
                    context={"limit": str(BLOB_BYTES_MAX)},
                )
            )
        digest = sha256_hex(content)
        with self._lock:
            if digest in self._known_blobs:
                return digest

        def pieces() -> Iterator[market_service_pb2.PutBlobRequest]:
            view = memoryview(content)
            for start in range(0, max(len(content), 1), BLOB_CHUNK_BYTES):
                yield market_service_pb2.PutBlobRequest(
                    blob_sha256=digest if start == 0 else "",
                    chunk=bytes(view[start : start + BLOB_CHUNK_BYTES]),
                )

        self._retrying.call("PutBlob", lambda: self._stub.PutBlob(pieces(), timeout=_ADMIT_TIMEOUT_S))
        with self._lock:
            if len(self._known_blobs) >= _KNOWN_BLOBS_MAX:
                self._known_blobs.clear()
            self._known_blobs.add(digest)
        return digest

    def get_blob(self, digest: str) -> bytes:
        """Download a blob, continuing where a broken stream stopped, and check its digest."""
        content = bytearray()
        outage = self._retrying.outage()
        while True:
            request = market_service_pb2.GetBlobRequest(blob_sha256=digest, offset=len(content))
            try:
                for piece in self._stub.GetBlob(request, timeout=_ADMIT_TIMEOUT_S):
                    content += piece.chunk
                    outage.over()
                    if len(content) > BLOB_BYTES_MAX:
                        raise ProofInvalid(
                            f"The pool sends more than {BLOB_BYTES_MAX} bytes for blob {digest}.",
                            code=ErrorCode.BLOB_TOO_LARGE,
                        )
                break
            except grpc.RpcError as error:
                self._retrying.pause_after(outage, failure_of(error))
        try:
            verify_sha256_hex(bytes(content), digest)
        except PoolError as error:
            raise from_pool_error(error) from error
        return bytes(content)

    # --- jobs ---------------------------------------------------------------------------------

    def quote(
        self, *, program_sha256: str, tasks: int, level: str, steps: int, certified: bool = False
    ) -> Quote:
        """Ask for a binding quote; spends nothing."""
        request = market_service_pb2.GetQuoteRequest(
            program_sha256=program_sha256,
            task_count=tasks,
            steps_per_task=steps,
            level=level_to_wire(level),
            certified=certified,
        )
        answer = self._unary("GetQuote", self._stub.GetQuote, request)
        quote = quote_of_wire(answer, program_sha256=program_sha256, tasks=tasks, level=level, steps=steps)
        return replace(quote, certified=certified)

    def create_job(self, terms: JobTerms) -> str:
        """Open a job and reserve its budget; the same key gives the same job."""

        def create() -> str:
            request = market_service_pb2.CreateJobRequest(
                idempotency_key=terms.idempotency_key,
                program_sha256=terms.program_sha256,
                constants=self.bundle(terms.constants) if terms.constants else None,
                price_mode=terms.price_mode,
                quote_id=terms.quote_id,
                price_cap_micros_per_wu=terms.price_cap_micros_per_wu,
                budget_micros=terms.budget_micros,
                level=level_to_wire(terms.level),
                comparator=terms.comparator,
                deadline_us=terms.deadline_us,
                name=terms.name,
                steps_per_task=terms.steps,
                attempts_max=terms.attempts_max,
                certificate_sha256=terms.certificate_sha256,
                price_start_micros_per_wu=terms.price_start_micros_per_wu,
                refuses_price_above_cap=terms.refuses_price_above_cap,
            )
            return self._unary("CreateJob", self._stub.CreateJob, request).job_id

        return self._with_blobs(create)

    def add_tasks(self, job_id: str, first_index: int, inputs: Sequence[Mapping[str, NDArray[Any]]]) -> int:
        """Add a batch of tasks; returns how many the job holds now."""

        def add() -> int:
            request = market_service_pb2.AddTasksRequest(
                job_id=job_id,
                first_index=first_index,
                tasks=[market_service_pb2.TaskInputs(inputs=self.bundle(arrays)) for arrays in inputs],
            )
            return self._about_job("AddTasks", self._stub.AddTasks, request).task_count

        return self._with_blobs(add)

    def close_job(self, job_id: str) -> JobStatus:
        """Say that no more tasks will come."""
        request = market_service_pb2.CloseJobRequest(job_id=job_id)
        return status_of_wire(self._about_job("CloseJob", self._stub.CloseJob, request).job)

    def cancel_job(self, job_id: str) -> JobStatus:
        """Stop a job; what is undecided is cancelled and costs nothing."""
        request = market_service_pb2.CancelJobRequest(job_id=job_id)
        return status_of_wire(self._about_job("CancelJob", self._stub.CancelJob, request).job)

    def get_job(self, job_id: str) -> JobStatus:
        """Return a job's state."""
        request = market_service_pb2.GetJobRequest(job_id=job_id)
        return status_of_wire(self._about_job("GetJob", self._stub.GetJob, request).job)

    def list_jobs(self) -> Iterator[JobStatus]:
        """Yield the caller's jobs, newest first."""
        token = ""
        while True:
            page = common_pb2.PageRequest(page_size=_PAGE_SIZE, page_token=token)
            request = market_service_pb2.ListJobsRequest(page=page)
            answer = self._unary("ListJobs", self._stub.ListJobs, request)
            yield from map(status_of_wire, answer.jobs)
            token = answer.next_page_token
            if not token:
                return

    def get_results(self, job_id: str, indexes: Sequence[int]) -> Sequence[market_service_pb2.TaskResult]:
        """Return the state and results of given tasks, in the order asked."""
        request = market_service_pb2.GetResultsRequest(job_id=job_id, indexes=indexes)
        results: Sequence[market_service_pb2.TaskResult] = self._about_job(
            "GetResults", self._stub.GetResults, request
        ).results
        return results

    def watch(self, job_id: str, *, after_cursor: int = 0, include_results: bool = True) -> Iterator[News]:
        """Yield what is decided after a cursor until the job is over, across restarts of the pool.

        A message may bring no decision, only the job's figures. Close the iterator to end the call.

        Raises:
            ChargepoolError: JobNotFound, PoolUnreachable when patience is over.
        """
        outage = self._retrying.outage()
        cursor = after_cursor
        while True:
            request = market_service_pb2.WatchJobRequest(
                job_id=job_id, after_cursor=cursor, include_results=include_results
            )
            call = self._stub.WatchJob(request)
            is_over = False
            try:
                for message in call:
                    outage.over()
                    cursor = max(cursor, message.cursor)
                    status = status_of_wire(message.job)
                    is_over = status.is_over
                    yield News(decided=tuple(message.decided), cursor=cursor, status=status)
                    if is_over and not message.decided:
                        return
                if is_over:
                    return
                # A server that drains ends its streams in good order; the job goes on elsewhere.
                self._retrying.pause_after(outage, PoolError(ErrorCode.DRAINING, "the stream ended"))
            except grpc.RpcError as error:
                pool_error = failure_of(error)
                if pool_error.code is ErrorCode.NOT_FOUND:
                    raise _no_such_job(job_id) from error
                self._retrying.pause_after(outage, pool_error)
            finally:
                call.cancel()

    # --- money and trust ----------------------------------------------------------------------

    def balance(self) -> Balance:
        """Return the caller's money."""
        answer = self._unary("GetBalance", self._stub.GetBalance, market_service_pb2.GetBalanceRequest())
        return Balance(
            buyer_id=answer.buyer_id,
            currency=answer.currency,
            available_micros=answer.available_micros,
            escrow_micros=answer.escrow_micros,
            spent_micros=answer.spent_micros,
            caps=tuple(
                SpendCap(
                    holder=cap.holder,
                    period=cap.period,
                    max_spend_micros=cap.max_spend_micros,
                    used_micros=cap.used_micros,
                    left_micros=cap.left_micros,
                )
                for cap in answer.caps
            ),
        )

    def price(self) -> MarketPrice:
        """Return what a work unit costs now."""
        request = price_service_pb2.GetPriceRequest()
        return price_of_wire(self._unary("GetPrice", self._prices.GetPrice, request))

    def price_epochs(self) -> Iterator[PriceEpoch]:
        """Yield the pool's auctions, newest first."""
        token = ""
        while True:
            page = common_pb2.PageRequest(page_size=_PAGE_SIZE, page_token=token)
            request = price_service_pb2.ListPriceEpochsRequest(page=page)
            answer = self._unary("ListPriceEpochs", self._prices.ListPriceEpochs, request)
            yield from map(epoch_of_wire, answer.epochs)
            token = answer.next_page_token
            if not token:
                return

    def pool_roots(self) -> Sequence[bytes]:
        """Return the pool's serialized roots, oldest first."""
        answer = self._unary("GetPoolRoot", self._stub.GetPoolRoot, market_service_pb2.GetPoolRootRequest())
        return [root.SerializeToString() for root in answer.roots]

    def log_call(self, method: str, request: Any) -> Any:
        """Make a call of LogService by name."""
        return self._unary(method, getattr(self._log_stub, method), request)

    # --- inside -------------------------------------------------------------------------------

    def _with_blobs(self, make: Callable[[], _A]) -> _A:
        """Make a call that names blobs; once more with fresh uploads when the pool no longer has one."""
        try:
            return make()
        except ChargepoolError as error:
            if error.code is not ErrorCode.BLOB_MISSING:
                raise
        with self._lock:
            self._known_blobs.clear()
        return make()

    def _unary(self, method: str, rpc: "grpc.UnaryUnaryMultiCallable[_Q, _A]", request: _Q) -> _A:
        return self._retrying.call(method, lambda: rpc(request, timeout=self._timeout_s))

    def _about_job(self, method: str, rpc: "grpc.UnaryUnaryMultiCallable[_Q, _A]", request: _Q) -> _A:
        try:
            return self._unary(method, rpc, request)
        except PoolRefused as error:
            if error.code is ErrorCode.NOT_FOUND:
                raise _no_such_job(getattr(request, "job_id", "")) from error
            raise


def _no_such_job(job_id: str) -> JobNotFound:
    return JobNotFound(
        f"The pool has no job {job_id!r} of yours.",
        next_step="`chargepool jobs` lists yours; check that the token is the buyer's who made it.",
        context={"job_id": job_id},
    )

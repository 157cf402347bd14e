"""A pool small enough to read: the market service over real TLS sockets, with one honest car: this process.

It really admits, runs artifacts, signs admissions and receipts, and keeps what it acknowledged in an object
that outlives its server: `kill` and `start` are a SIGKILL and a restart. It stands in for the pool where a
test needs a hand on what the pool does next; what the pool itself does is tested against the real one.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from numpy.typing import NDArray

from pool_protocol import tensors
from pool_protocol.digests import output_digest, sha256_hex
from pool_protocol.envelope import ANY_AUDIENCE, EnvelopeHeader, PayloadType, seal_envelope
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import to_grpc_status
from pool_protocol.ids import AttemptId, OwnerId, ProgramId, TaskIndex, TransferId, VehicleId, parse_job_id
from pool_protocol.keys import SigningKey
from pool_protocol.program.load import LoadedProgram
from pool_protocol.program.manifest import ProgramCost, ProgramKind, ProgramManifest, parse_draft
from pool_protocol.receipts import Receipt, receipt_bytes, seal_batch
from pool_protocol.roots import Role, RootDocument, build_root
from pool_protocol.system import SystemClock
from pool_protocol.v1 import common_pb2, market_service_pb2, market_service_pb2_grpc
from pool_server.identity.pki import Authority, make_authority
from tests.support.ids import SeededIds

POOL_ID = "pool_test"
TOKEN = "cp_buyer_aaaaaaaaaaaaaaaaaaaaaaaa"
WORK_UWU = 1_000_000
PRICE = 100
DECIDED_PER_MESSAGE = 50
_YEAR_US = 365 * 24 * 3_600 * 1_000_000

Arrays = dict[str, NDArray[Any]]


@dataclass
class FakeJob:
    request: market_service_pb2.CreateJobRequest
    constants: Arrays
    tasks: list[common_pb2.TensorBundle] = field(default_factory=list)
    decided: list[market_service_pb2.TaskResult] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    state: int = market_service_pb2.JOB_STATE_OPEN
    spent: int = 0


class FakePool(market_service_pb2_grpc.MarketServiceServicer):
    """The pool, its keys, its one car, and switches for what a test wants to go wrong."""

    def __init__(self) -> None:
        self.ids = SeededIds(7)
        self.clock = SystemClock()
        self.changed = threading.Condition()
        self.calls: Counter[str] = Counter()
        self.available = 10_000_000_000
        self.jobs: dict[str, FakeJob] = {}
        self.job_of_key: dict[str, str] = {}
        self.programs: dict[str, tuple[ProgramManifest, LoadedProgram]] = {}
        self.blobs: dict[str, bytes] = {}
        #: While true, tasks wait until `decide` is called.
        self.holds = False
        #: Task indexes that fail for good.
        self.failing: set[int] = set()
        #: The code that a method answers, so often.
        self.refusals: dict[str, list[ErrorCode]] = {}
        #: What is done to a result before it is sent.
        self.forge: Any = None
        #: As the pool does: the first admission of a program stands.
        self.keeps_first_admission = False
        #: The id of an admitted program that is answered whatever is handed in.
        self.admits_instead = ""
        self.keys = {role: SigningKey.generate(self.ids) for role in Role}
        self.roots = [self._root(1)]
        authority_pair = make_authority(pool_id=POOL_ID, now_us=self.clock.now_us())
        self.ca_pem = authority_pair.certificate_pem
        self._server_pair = Authority(authority_pair, pool_id=POOL_ID).issue_server(
            ["localhost", "127.0.0.1"], now_us=self.clock.now_us()
        )
        self._server: grpc.Server | None = None
        self.port = 0

    # --- its life -------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> FakePool:
        server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=16),
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 17 * 2**20)],
        )
        market_service_pb2_grpc.add_MarketServiceServicer_to_server(self, server)
        credentials = grpc.ssl_server_credentials(
            [(self._server_pair.private_key_pem, self._server_pair.certificate_pem)]
        )
        self.port = server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        server.start()
        self._server = server
        return self

    def kill(self) -> None:
        """End all calls at once, as SIGKILL does; what was acknowledged stays."""
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    def _root(self, version: int) -> bytes:
        now_us = self.clock.now_us()
        document = RootDocument(
            pool_id=POOL_ID,
            version=version,
            issued_at_us=now_us,
            expires_at_us=now_us + _YEAR_US,
            keys={role: (key.verifying_key,) for role, key in self.keys.items()},
            root_threshold=1,
        )
        return build_root(document, [self.keys[Role.ROOT]])

    def rotate_receipt_key(self) -> None:
        self.keys[Role.RECEIPT] = SigningKey.generate(self.ids)
        self.roots.append(self._root(len(self.roots) + 1))

    # --- its car --------------------------------------------------------------------------------

    def decide(self, count: int = 1_000_000, *, last_first: bool = False) -> None:
        """Compute so many of the tasks that wait, in any job."""
        with self.changed:
            for job_id, job in self.jobs.items():
                while job.waiting and count > 0:
                    job.decided.append(self._outcome(job_id, job, job.waiting.pop(-1 if last_first else 0)))
                    count -= 1
                self._end_if_done(job)
            self.changed.notify_all()

    def _outcome(self, job_id: str, job: FakeJob, index: int) -> market_service_pb2.TaskResult:
        if index in self.failing:
            return market_service_pb2.TaskResult(
                index=index,
                state=market_service_pb2.TASK_STATE_FAILED,
                reason="PROGRAM_FAILED",
                detail="it divided by zero",
                attempt_count=4,
            )
        manifest, program = self.programs[job.request.program_sha256]
        bundle = self._arrays(job.tasks[index])
        if manifest.draft.kind is ProgramKind.STEP:
            state = {
                name.removeprefix("state/"): array
                for name, array in bundle.items()
                if name.startswith("state/")
            }
            inputs = {name: array for name, array in bundle.items() if not name.startswith("state/")}
            outputs = program.run_steps(job.request.steps_per_task, state, inputs, job.constants)
        else:
            outputs = program.run_map(bundle, job.constants)
        encoded = tensors.encode(outputs)
        if len(encoded) > 65_536:
            self.blobs[sha256_hex(encoded)] = encoded
            content = common_pb2.TensorBundle(blob_sha256=sha256_hex(encoded), size_bytes=len(encoded))
        else:
            content = common_pb2.TensorBundle(inline=encoded, size_bytes=len(encoded))
        job.spent += PRICE
        result = market_service_pb2.TaskResult(
            index=index,
            state=market_service_pb2.TASK_STATE_ACCEPTED,
            outputs=content,
            output_digest=output_digest(outputs),
            cost_micros=PRICE,
            receipts=[self._receipt(job_id, job, index, output_digest(outputs))],
            attempt_count=1,
        )
        if self.forge is not None:
            self.forge(result)
        return result

    def _receipt(self, job_id: str, job: FakeJob, index: int, digest: bytes) -> common_pb2.ProvenReceipt:
        now_us = self.clock.now_us()
        number = parse_job_id(job_id) * 1_000 + index
        receipt = Receipt(
            pool_id=POOL_ID,
            attempt_id=AttemptId(number),
            owner_id=OwnerId(self.ids.new_owner_id()),
            vehicle_id=VehicleId(self.ids.new_vehicle_id()),
            job_id=parse_job_id(job_id),
            task_index=TaskIndex(index),
            program_sha256=ProgramId(job.request.program_sha256),
            output_digest=digest,
            work_uwu=WORK_UWU,
            price_micros_per_wu=PRICE,
            gross_micros=PRICE,
            fee_micros=10,
            net_micros=PRICE - 10,
            verified_at_us=now_us,
            transfer_id=TransferId(number),
        )
        return seal_batch(
            [receipt_bytes(receipt)],
            batch_id=number + 1,
            pool_id=POOL_ID,
            nonce=self.ids.nonce(),
            issued_at_us=now_us,
            key=self.keys[Role.RECEIPT],
        ).proven(0)

    def _arrays(self, bundle: common_pb2.TensorBundle) -> Arrays:
        if bundle.WhichOneof("content") is None:
            return {}
        return tensors.decode(bundle.inline if bundle.HasField("inline") else self.blobs[bundle.blob_sha256])

    def _end_if_done(self, job: FakeJob) -> None:
        is_closing = job.state == market_service_pb2.JOB_STATE_CLOSING
        if is_closing and len(job.decided) == len(job.tasks):
            job.state = market_service_pb2.JOB_STATE_DONE
            self.available += job.request.budget_micros - job.spent

    # --- its service ----------------------------------------------------------------------------

    def _enter(self, method: str, context: Any) -> None:
        self.calls[method] += 1
        if f"Bearer {TOKEN}" not in [
            value for name, value in context.invocation_metadata() if name == "authorization"
        ]:
            self._refuse(context, PoolError(ErrorCode.UNAUTHENTICATED))
        planned = self.refusals.get(method)
        if planned:
            self._refuse(context, PoolError(planned.pop(0), f"planned for {method}"))

    def _refuse(self, context: Any, error: PoolError) -> None:
        context.abort_with_status(to_grpc_status(error, public_detail=True))

    def _job(self, job_id: str, context: Any) -> FakeJob:
        if job_id not in self.jobs:
            self._refuse(context, PoolError(ErrorCode.NOT_FOUND))
        return self.jobs[job_id]

    def _view(self, job_id: str) -> market_service_pb2.JobView:
        job = self.jobs[job_id]
        accepted = sum(task.state == market_service_pb2.TASK_STATE_ACCEPTED for task in job.decided)
        return market_service_pb2.JobView(
            job_id=job_id,
            name=job.request.name,
            state=job.state,  # type: ignore[arg-type]
            program_sha256=job.request.program_sha256,
            task_count=len(job.tasks),
            accepted_count=accepted,
            failed_count=len(job.decided) - accepted,
            running_count=len(job.waiting),
            escrow_micros=job.request.budget_micros - job.spent,
            spent_micros=job.spent,
            level=job.request.level,
            steps_per_task=job.request.steps_per_task,
        )

    def AdmitProgram(self, request: Any, context: Any) -> Any:
        self._enter("AdmitProgram", context)
        draft = parse_draft(request.manifest_draft)
        cost = ProgramCost(
            operations={"add": 1},
            flops=1,
            bytes_moved=1,
            work_uwu=WORK_UWU,
            peak_bytes=1,
            temporary_bytes=0,
            cost_model=1,
        )
        manifest = ProgramManifest(draft=draft, cost=cost)
        known = self.admits_instead or (manifest.program_id if self.keeps_first_admission else "")
        manifest = self.programs[known][0] if known in self.programs else manifest
        if manifest.program_id not in self.programs:
            self.programs[manifest.program_id] = (manifest, LoadedProgram(request.artifact, draft))
        body = common_pb2.ProgramAdmissionBody(
            artifact_sha256=manifest.program_id, manifest=manifest.to_json()
        )
        header = EnvelopeHeader(
            issuer=POOL_ID,
            audience=ANY_AUDIENCE,
            nonce=self.ids.nonce(),
            sequence=1,
            issued_at_us=self.clock.now_us(),
            expires_at_us=0,
        )
        return market_service_pb2.AdmitProgramResponse(
            program_sha256=manifest.program_id,
            admission=seal_envelope(
                body.SerializeToString(),
                payload_type=PayloadType.PROGRAM_ADMISSION,
                header=header,
                key=self.keys[Role.PROGRAM],
            ),
        )

    def PutBlob(self, request_iterator: Any, context: Any) -> Any:
        self._enter("PutBlob", context)
        name, content = "", b""
        for request in request_iterator:
            name = name or request.blob_sha256
            content += request.chunk
        if sha256_hex(content) != name:
            self._refuse(context, PoolError(ErrorCode.BLOB_DIGEST_MISMATCH))
        self.blobs[name] = content
        return market_service_pb2.PutBlobResponse(size_bytes=len(content))

    def GetBlob(self, request: Any, context: Any) -> Iterator[Any]:
        self._enter("GetBlob", context)
        content = self.blobs[request.blob_sha256]
        for start in range(request.offset, len(content), 50_000):
            yield market_service_pb2.GetBlobResponse(
                chunk=content[start : start + 50_000], size_bytes=len(content)
            )

    def GetQuote(self, request: Any, context: Any) -> Any:
        self._enter("GetQuote", context)
        return market_service_pb2.GetQuoteResponse(
            quote_id=f"quote_{self.calls['GetQuote']}",
            price_micros_per_wu=PRICE,
            work_uwu_per_task=WORK_UWU,
            cost_micros_per_task=PRICE,
            attempts_per_task=1,
            total_micros=PRICE * request.task_count,
            expires_at_us=self.clock.now_us() + 900_000_000,
            currency="EUR",
            vehicles_now=6,
            available_micros=self.available,
            estimate=market_service_pb2.QuoteEstimate(
                price_p10_micros_per_wu=90,
                price_p50_micros_per_wu=100,
                price_p90_micros_per_wu=120,
                price_epochs=96,
                total_p10_micros=PRICE * request.task_count,
                total_p50_micros=PRICE * request.task_count,
                total_p90_micros=2 * PRICE * request.task_count,
                time_p10_ms=4_000,
                time_p50_ms=600_000,
                time_p90_ms=8_000_000,
                time_basis="From the speeds of 6 cars here now.",
                energy_mwh=1_500,
                co2_mg=360,
                energy_basis="60 J per WU (assumed).",
            ),
            levels=[
                market_service_pb2.LevelOffer(
                    level=common_pb2.VERIFICATION_LEVEL_SPOT,
                    attempts_per_task=1,
                    cost_micros_per_task=PRICE,
                    epsilon=0.01,
                )
            ],
        )

    def CreateJob(self, request: Any, context: Any) -> Any:
        self._enter("CreateJob", context)
        with self.changed:
            job_id = self.job_of_key.get(request.idempotency_key)
            if job_id is None:
                if request.constants.blob_sha256 and request.constants.blob_sha256 not in self.blobs:
                    self._refuse(context, PoolError(ErrorCode.BLOB_MISSING))
                if self.available < request.budget_micros:
                    self._refuse(context, PoolError(ErrorCode.INSUFFICIENT_FUNDS))
                self.available -= request.budget_micros
                job_id = f"job_{len(self.jobs) + 1}"
                self.jobs[job_id] = FakeJob(request=request, constants=self._arrays(request.constants))
                self.job_of_key[request.idempotency_key] = job_id
        return market_service_pb2.CreateJobResponse(job_id=job_id, reserved_micros=request.budget_micros)

    def AddTasks(self, request: Any, context: Any) -> Any:
        self._enter("AddTasks", context)
        job = self._job(request.job_id, context)
        with self.changed:
            for index, task in enumerate(request.tasks, request.first_index):
                if index < len(job.tasks):
                    if job.tasks[index] != task.inputs:
                        self._refuse(context, PoolError(ErrorCode.EXISTS_WITH_DIFFERENT))
                elif job.state != market_service_pb2.JOB_STATE_OPEN:
                    self._refuse(context, PoolError(ErrorCode.JOB_CLOSED))
                else:
                    job.tasks.append(task.inputs)
                    job.waiting.append(index)
            self.changed.notify_all()
        if not self.holds:
            self.decide()
        return market_service_pb2.AddTasksResponse(task_count=len(job.tasks))

    def CloseJob(self, request: Any, context: Any) -> Any:
        self._enter("CloseJob", context)
        job = self._job(request.job_id, context)
        with self.changed:
            if job.state == market_service_pb2.JOB_STATE_OPEN:
                job.state = market_service_pb2.JOB_STATE_CLOSING
            self._end_if_done(job)
            self.changed.notify_all()
        return market_service_pb2.CloseJobResponse(job=self._view(request.job_id))

    def CancelJob(self, request: Any, context: Any) -> Any:
        self._enter("CancelJob", context)
        job = self._job(request.job_id, context)
        with self.changed:
            if job.state in (market_service_pb2.JOB_STATE_OPEN, market_service_pb2.JOB_STATE_CLOSING):
                job.state = market_service_pb2.JOB_STATE_CANCELLED
                job.waiting.clear()
            self.changed.notify_all()
        return market_service_pb2.CancelJobResponse(job=self._view(request.job_id))

    def GetJob(self, request: Any, context: Any) -> Any:
        self._enter("GetJob", context)
        self._job(request.job_id, context)
        return market_service_pb2.GetJobResponse(job=self._view(request.job_id))

    def ListJobs(self, request: Any, context: Any) -> Any:
        self._enter("ListJobs", context)
        names = list(reversed(self.jobs))
        start = int(request.page.page_token or 0)
        size = min(request.page.page_size or 100, 2)
        token = str(start + size) if start + size < len(names) else ""
        return market_service_pb2.ListJobsResponse(
            jobs=[self._view(name) for name in names[start : start + size]], next_page_token=token
        )

    def WatchJob(self, request: Any, context: Any) -> Iterator[Any]:
        self._enter("WatchJob", context)
        job = self._job(request.job_id, context)
        context.add_callback(self._wake)
        cursor, is_first = request.after_cursor, True
        while context.is_active():
            with self.changed:
                news = job.decided[cursor : cursor + DECIDED_PER_MESSAGE]
                is_over = job.state in (
                    market_service_pb2.JOB_STATE_DONE,
                    market_service_pb2.JOB_STATE_CANCELLED,
                )
                if not (news or is_first or is_over):
                    self.changed.wait(timeout=0.2)
                    continue
                cursor += len(news)
                is_last = is_over and cursor >= len(job.decided)
                view = self._view(request.job_id)
            is_first = False
            yield market_service_pb2.WatchJobResponse(
                decided=news if request.include_results else [], cursor=cursor, job=view
            )
            if is_last:
                return

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def GetResults(self, request: Any, context: Any) -> Any:
        self._enter("GetResults", context)
        decided = {task.index: task for task in self._job(request.job_id, context).decided}
        nothing = market_service_pb2.TASK_STATE_OPEN
        return market_service_pb2.GetResultsResponse(
            results=[
                decided.get(index, market_service_pb2.TaskResult(index=index, state=nothing))
                for index in request.indexes
            ]
        )

    def GetBalance(self, request: Any, context: Any) -> Any:
        self._enter("GetBalance", context)
        return market_service_pb2.GetBalanceResponse(
            currency="EUR",
            available_micros=self.available,
            escrow_micros=0,
            spent_micros=sum(job.spent for job in self.jobs.values()),
            buyer_id="buyer_" + "a" * 26,
        )

    def GetPoolRoot(self, request: Any, context: Any) -> Any:
        self._enter("GetPoolRoot", context)
        return market_service_pb2.GetPoolRootResponse(
            roots=[common_pb2.SignedRoot.FromString(root) for root in self.roots], pool_id=POOL_ID
        )

"""MarketService: what buyers ask of the pool."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pool_protocol import ids, limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.system import IdSource
from pool_protocol.v1 import common_pb2, market_service_pb2_grpc
from pool_protocol.v1 import market_service_pb2 as pb
from pool_server.app.blobs import require_held
from pool_server.app.caps import caps_in_force
from pool_server.app.certificate_terms import check_certificate
from pool_server.app.earnings import buyer_balance
from pool_server.app.estimate import estimate_quote
from pool_server.app.jobs import (
    OWNERS_COUNTED_MAX,
    add_tasks,
    cancel_job,
    close_job,
    create_job,
    get_job,
    get_results,
    list_jobs,
)
from pool_server.app.keys import roots_after
from pool_server.app.market import (
    GetQuote,
    PriceWish,
    ResolvedPrice,
    make_quote,
    program_facts,
    require_level,
    resolve_price,
)
from pool_server.app.outlook import level_outlook
from pool_server.app.receipts import Proven, receipts_of_attempts
from pool_server.app.work_commands import (
    AddTasks,
    CreateJob,
    JobViewValue,
    NewTask,
    TaskResultValue,
)
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.jobs import PriceMode, TensorRef
from pool_server.identity.tokens import new_quote_id
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc import convert_market
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.blob_transfer import BlobTransfer
from pool_server.rpc.caps_servicer import cap_messages
from pool_server.rpc.convert_work import invalid, tensor_ref
from pool_server.rpc.job_watch import JobWatch
from pool_server.rpc.paging import page_size, row_token, row_token_text
from pool_server.rpc.program_desk import ProgramDesk
from pool_server.rpc.store_access import StoreAccess

_Context = Any
RESULTS_ASKED_MAX = 1_000
#: A quote says how many vehicles compute; beyond this the number helps nobody.
VEHICLES_COUNTED_MAX = 10_000


class MarketServicer(market_service_pb2_grpc.MarketServiceServicer):
    """Implements MarketService."""

    def __init__(
        self,
        *,
        store: StoreAccess,
        programs: ProgramDesk,
        blobs: BlobTransfer,
        watch: JobWatch,
        policy: WorkPolicy,
        id_source: IdSource,
        pool_id: str,
        currency: str,
    ) -> None:
        self._store = store
        self._programs = programs
        self._blobs = blobs
        self._watch = watch
        self._policy = policy
        self._ids = id_source
        self._pool_id = pool_id
        self._currency = currency

    async def AdmitProgram(
        self, request: pb.AdmitProgramRequest, context: _Context
    ) -> pb.AdmitProgramResponse:
        program = await self._programs.admit(request.artifact, request.manifest_draft)
        return pb.AdmitProgramResponse(
            program_sha256=program.program_sha256, admission=common_pb2.Envelope.FromString(program.admission)
        )

    async def PutBlob(
        self, request_iterator: AsyncIterator[pb.PutBlobRequest], context: _Context
    ) -> pb.PutBlobResponse:
        pieces = ((request.blob_sha256, request.chunk) async for request in request_iterator)
        size_bytes = await self._blobs.receive(pieces, holder=current_caller().principal_id)
        return pb.PutBlobResponse(size_bytes=size_bytes)

    async def GetBlob(
        self, request: pb.GetBlobRequest, context: _Context
    ) -> AsyncIterator[pb.GetBlobResponse]:
        pieces = self._blobs.send(
            request.blob_sha256, offset=request.offset, holder=current_caller().principal_id
        )
        async with contextlib.aclosing(pieces):
            async for chunk, size_bytes in pieces:
                yield pb.GetBlobResponse(chunk=chunk, size_bytes=size_bytes)

    async def GetQuote(self, request: pb.GetQuoteRequest, context: _Context) -> pb.GetQuoteResponse:
        buyer_id = current_caller().principal_id
        level = convert_market.level(request.level)
        manifest = await self._programs.manifest(ids.parse_program_id(request.program_sha256))
        command = GetQuote(
            quote_id=new_quote_id(self._ids),
            buyer_id=buyer_id,
            program=program_facts(manifest, steps_per_task=request.steps_per_task),
            task_count=request.task_count,
            steps_per_task=request.steps_per_task,
            level=level,
        )
        now_us = self._store.now_us()

        made = await self._store.write(
            lambda uow: make_quote(uow, command, policy=self._policy, now_us=now_us)
        )

        # What does not bind is read beside the writer, which has leases and results to serve.
        def told(uow: UnitOfWork) -> pb.GetQuoteResponse:
            outlook = level_outlook(
                uow,
                kind=command.program.kind,
                work_uwu=command.program.work_uwu_per_task,
                level=level,
                policy=self._policy,
                certified=request.certified,
            )
            return convert_market.quote_response(
                made,
                currency=self._currency,
                vehicles_now=uow.fleet.active_count(at_most=VEHICLES_COUNTED_MAX),
                owners_now=len(uow.fleet.active_owners(at_most=OWNERS_COUNTED_MAX)),
                available_micros=buyer_balance(uow, buyer_id=buyer_id).available_micros,
                outlook=outlook,
                estimate=estimate_quote(uow, made, outlook, policy=self._policy, now_us=now_us),
            )

        return await self._store.read(told)

    async def CreateJob(self, request: pb.CreateJobRequest, context: _Context) -> pb.CreateJobResponse:
        caller = current_caller()
        buyer_id = caller.principal_id
        level = convert_market.level(request.level)
        manifest = await self._programs.manifest(ids.parse_program_id(request.program_sha256))
        program = program_facts(manifest, steps_per_task=request.steps_per_task)
        constants = tensor_ref(request.constants, field="constants")
        wish = PriceWish(
            mode=convert_market.price_mode(request.price_mode),
            quote_id=request.quote_id,
            price_cap_micros_per_wu=request.price_cap_micros_per_wu,
        )
        comparator = convert_market.comparator(
            request.comparator, outputs=[spec.name for spec in program.outputs]
        )
        held = [constants.blob_sha256] if constants.blob_sha256 is not None else []
        await self._store.read(lambda uow: require_held(uow, held, holder=buyer_id))
        await self._programs.check_constants(manifest, constants)
        if request.certificate_sha256:
            certificate = await self._programs.manifest(ids.parse_program_id(request.certificate_sha256))
            check_certificate(manifest, certificate)
        now_us = self._store.now_us()

        def create(uow: UnitOfWork) -> JobViewValue:
            require_level(level, policy=self._policy)
            before = uow.jobs.by_key(buyer_id, request.idempotency_key)
            if before is not None and wish.mode is PriceMode.QUOTE:
                # A repeat whose first reply was lost: the quote may have ended since, the job stands.
                price = ResolvedPrice(before.terms.price_micros_per_wu, before.terms.tasks_max)
            else:
                price = resolve_price(
                    uow,
                    wish,
                    buyer_id=buyer_id,
                    program=program,
                    steps_per_task=request.steps_per_task,
                    level=level,
                    now_us=now_us,
                )
            command = CreateJob(
                buyer_id=buyer_id,
                idempotency_key=request.idempotency_key,
                name=request.name,
                program=program,
                constants=constants,
                price_mode=wish.mode,
                price_micros_per_wu=price.price_micros_per_wu,
                quoted_task_count=price.quoted_task_count,
                price_start_micros_per_wu=request.price_start_micros_per_wu,
                refuses_price_above_cap=request.refuses_price_above_cap,
                budget_micros=0 if wish.mode is PriceMode.DONATE else request.budget_micros,
                level=level,
                comparator=comparator,
                steps_per_task=request.steps_per_task,
                deadline_us=request.deadline_us,
                attempts_may_fail=request.attempts_max,
                certificate_sha256=request.certificate_sha256,
                token_id=caller.token_id,
            )
            return create_job(uow, command, policy=self._policy, now_us=now_us)

        job = await self._store.write(create)
        return pb.CreateJobResponse(
            job_id=ids.job_id_text(ids.JobId(job.job_id)), reserved_micros=job.budget_micros
        )

    async def AddTasks(self, request: pb.AddTasksRequest, context: _Context) -> pb.AddTasksResponse:
        buyer_id = current_caller().principal_id
        job_id = ids.parse_job_id(request.job_id)
        if not 1 <= len(request.tasks) <= limits.TASKS_PER_REQUEST_MAX:
            raise invalid("tasks", f"1 to {limits.TASKS_PER_REQUEST_MAX}, not {len(request.tasks)}")
        if request.first_index + len(request.tasks) > limits.TASKS_PER_JOB_MAX:
            raise invalid("first_index", f"a job has at most {limits.TASKS_PER_JOB_MAX} tasks")
        references = [
            tensor_ref(task.inputs, field=f"tasks {place}") for place, task in enumerate(request.tasks)
        ]
        now_us = self._store.now_us()
        job = await self._store.read(
            lambda uow: get_job(uow, buyer_id=buyer_id, job_id=job_id, now_us=now_us)
        )
        await self._check_blobs(references, buyer_id)
        manifest = await self._programs.manifest(job.program_sha256)
        await self._programs.check_inputs(manifest, references)
        command = AddTasks(
            buyer_id=buyer_id,
            job_id=job_id,
            first_index=request.first_index,
            tasks=[NewTask(inputs=reference) for reference in references],
        )
        now_us = self._store.now_us()
        task_count = await self._store.write(lambda uow: add_tasks(uow, command, now_us=now_us))
        return pb.AddTasksResponse(task_count=task_count)

    async def _check_blobs(self, references: Sequence[TensorRef], buyer_id: str) -> None:
        held = [reference.blob_sha256 for reference in references if reference.blob_sha256 is not None]
        if held:
            await self._store.read(lambda uow: require_held(uow, held, holder=buyer_id))

    async def CloseJob(self, request: pb.CloseJobRequest, context: _Context) -> pb.CloseJobResponse:
        buyer_id, job_id = current_caller().principal_id, ids.parse_job_id(request.job_id)
        now_us = self._store.now_us()
        job = await self._store.write(
            lambda uow: close_job(uow, buyer_id=buyer_id, job_id=job_id, now_us=now_us)
        )
        return pb.CloseJobResponse(job=convert_market.job_view(job))

    async def GetJob(self, request: pb.GetJobRequest, context: _Context) -> pb.GetJobResponse:
        buyer_id, job_id = current_caller().principal_id, ids.parse_job_id(request.job_id)
        now_us = self._store.now_us()
        job = await self._store.read(
            lambda uow: get_job(uow, buyer_id=buyer_id, job_id=job_id, now_us=now_us)
        )
        return pb.GetJobResponse(job=convert_market.job_view(job))

    async def ListJobs(self, request: pb.ListJobsRequest, context: _Context) -> pb.ListJobsResponse:
        buyer_id = current_caller().principal_id
        before_job_id, limit = row_token(request.page), page_size(request.page)
        now_us = self._store.now_us()
        page = await self._store.read(
            lambda uow: list_jobs(
                uow, buyer_id=buyer_id, before_job_id=before_job_id, limit=limit, now_us=now_us
            )
        )
        return pb.ListJobsResponse(
            jobs=[convert_market.job_view(job) for job in page.jobs],
            next_page_token=row_token_text(page.next_before_job_id),
        )

    async def WatchJob(
        self, request: pb.WatchJobRequest, context: _Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        pages = self._watch.watch(
            buyer_id=current_caller().principal_id,
            token_id=current_caller().token_id,
            job_id=ids.parse_job_id(request.job_id),
            after_cursor=min(request.after_cursor, ids.ROW_ID_MAX),
            with_outputs=request.include_results,
        )
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page

    async def GetResults(self, request: pb.GetResultsRequest, context: _Context) -> pb.GetResultsResponse:
        buyer_id, job_id = current_caller().principal_id, ids.parse_job_id(request.job_id)
        indexes = list(request.indexes)
        if not 1 <= len(indexes) <= RESULTS_ASKED_MAX or max(indexes) > ids.ROW_ID_MAX:
            raise invalid("indexes", f"1 to {RESULTS_ASKED_MAX} indexes")

        def read(uow: UnitOfWork) -> tuple[Sequence[TaskResultValue], dict[int, Proven]]:
            results = get_results(uow, buyer_id=buyer_id, job_id=job_id, indexes=indexes)
            paid = [attempt_id for result in results for attempt_id in result.paid_attempt_ids]
            return results, receipts_of_attempts(uow, paid)

        results, receipts = await self._store.read(read)
        response = pb.GetResultsResponse()
        size_bytes = 0
        for result in results:
            message = convert_market.task_result(result, receipts, with_outputs=True)
            size_bytes += message.ByteSize()
            if size_bytes > limits.MESSAGE_BYTES_MAX // 2:
                raise PoolError(
                    ErrorCode.MESSAGE_TOO_LARGE,
                    f"{len(indexes)} results do not fit one message",
                    context={"field": "indexes", "fit": str(len(response.results))},
                )
            response.results.append(message)
        return response

    async def CancelJob(self, request: pb.CancelJobRequest, context: _Context) -> pb.CancelJobResponse:
        buyer_id, job_id = current_caller().principal_id, ids.parse_job_id(request.job_id)
        now_us = self._store.now_us()
        job = await self._store.write(
            lambda uow: cancel_job(uow, buyer_id=buyer_id, job_id=job_id, now_us=now_us)
        )
        return pb.CancelJobResponse(job=convert_market.job_view(job))

    async def GetBalance(self, request: pb.GetBalanceRequest, context: _Context) -> pb.GetBalanceResponse:
        caller, now_us = current_caller(), self._store.now_us()
        buyer_id, token_id = caller.principal_id, caller.token_id

        def look(uow: UnitOfWork) -> pb.GetBalanceResponse:
            balance = buyer_balance(uow, buyer_id=buyer_id)
            caps = caps_in_force(uow, buyer_id=buyer_id, token_id=token_id, now_us=now_us)
            return pb.GetBalanceResponse(
                currency=self._currency,
                available_micros=balance.available_micros,
                escrow_micros=balance.escrow_micros,
                spent_micros=balance.spent_micros,
                buyer_id=buyer_id,
                caps=cap_messages(caps),
            )

        return await self._store.read(look)

    async def GetPoolRoot(self, request: pb.GetPoolRootRequest, context: _Context) -> pb.GetPoolRootResponse:
        roots = await self._store.read(lambda uow: roots_after(uow, 0))
        return pb.GetPoolRootResponse(
            roots=[common_pb2.SignedRoot.FromString(root) for root in roots], pool_id=self._pool_id
        )

"""The edge's small parts, without sockets: pushes, rates, queues, sweeps, logs."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import grpc.aio
import pytest

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.program.admission import AdmittedProgram
from pool_protocol.program.manifest import ProgramDraft
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_server.admission.queue import AdmissionQueue
from pool_server.app.ledger_check import LedgerReport
from pool_server.core.effects import AttemptsCancelled, JobProgressed, VehicleQuarantined, WorkAvailable
from pool_server.core.jobs import NO_TENSORS
from pool_server.main.logs import JsonFormatter, PlainFormatter, configure_logs
from pool_server.main.loops import Sweep, sweep_until_done
from pool_server.rpc import convert_work
from pool_server.rpc.admin_servicer import AdminServicer
from pool_server.rpc.enrolment_desk import RateLimit
from pool_server.rpc.exchange import ExchangeStreams
from pool_server.rpc.hub import OUTBOX_MAX, Hub
from pool_server.rpc.paging import page_size, row_token
from pool_server.rpc.store_access import StoreAccess
from tests.support.clock import ManualClock
from tests.support.fake_car import ARTIFACT, draft_of, vet_without_jax

T = TypeVar("T")


def code_of(call: Callable[[], object]) -> ErrorCode:
    with pytest.raises(PoolError) as refusal:
        call()
    return refusal.value.code


# --- hub ----------------------------------------------------------------------------------------


async def test_effects_reach_those_who_wait_and_nobody_else() -> None:
    hub = Hub(streams_max=10)
    hub.bind(asyncio.get_running_loop())
    with hub.stream("car one") as one, hub.stream("car two") as two, hub.watching(7) as woken:
        one.waits_for_work = True
        hub.dispatch_from_thread(
            [
                JobProgressed(job_id=7),
                JobProgressed(job_id=8),
                WorkAvailable(),
                AttemptsCancelled(vehicle_id="car two", attempt_ids=(3, 4), reason="TASK_DECIDED"),
                AttemptsCancelled(vehicle_id="car three", attempt_ids=(5,), reason="TASK_DECIDED"),
                VehicleQuarantined(vehicle_id="car two", owner_id="o", reason="WRONG_RESULT"),
            ]
        )
        await woken.wait()
        push = await one.next()
        assert push is not None
        assert push.no_work.reason == "WORK_AVAILABLE"
        assert not one.waits_for_work
        cancel = await two.next()
        assert cancel is not None
        assert list(cancel.cancel.attempt_ids) == [3, 4]


async def test_a_slow_reader_loses_pushes_but_no_answers() -> None:
    hub = Hub(streams_max=10)
    with hub.stream("car") as outbox:
        pushed = [outbox.push(pb.ExchangeResponse()) for _ in range(OUTBOX_MAX + 5)]
        assert pushed == [True] * OUTBOX_MAX + [False] * 5
        answering = asyncio.create_task(outbox.put(pb.ExchangeResponse(request_id=9)))
        for _ in range(OUTBOX_MAX):
            await outbox.next()
        await answering
        answer = await outbox.next()
        assert answer is not None
        assert answer.request_id == 9


async def test_streams_are_counted_replaced_and_refused_when_draining() -> None:
    hub = Hub(streams_max=1)
    with hub.stream("car") as older:
        assert code_of(lambda: hub.stream("other").__enter__()) is ErrorCode.UNAVAILABLE
        with hub.stream("car"):
            assert await older.next() is None
    await hub.streams_ended_within(0.0)
    hub.drain(retry_after_ms=5)
    assert code_of(lambda: hub.stream("car").__enter__()) is ErrorCode.DRAINING


# --- rates and queues ---------------------------------------------------------------------------


def test_a_minute_holds_so_many_events_for_each_key() -> None:
    clock = ManualClock()
    rate = RateLimit(per_minute_max=2, clock=clock)
    for _ in range(2):
        rate.require_room("a")
        rate.count("a")
        clock.advance(seconds=10)
    with pytest.raises(PoolError) as refusal:
        rate.require_room("a")
    assert refusal.value.retry_after_ms == 40_001
    rate.require_room("b")
    clock.advance(seconds=41)
    rate.require_room("a")


async def test_one_program_is_vetted_at_a_time_and_the_queue_is_bounded() -> None:
    running, most, release = 0, 0, threading.Event()

    def vet(artifact: bytes, draft: ProgramDraft) -> AdmittedProgram:
        nonlocal running, most
        running += 1
        most = max(most, running)
        release.wait(20)
        running -= 1
        return vet_without_jax(artifact, draft)

    admission = AdmissionQueue(vet, waiting_max=2)
    waiting = [asyncio.ensure_future(admission.vet(ARTIFACT, draft_of())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(PoolError) as refusal:
        await admission.vet(ARTIFACT, draft_of())
    assert refusal.value.code is ErrorCode.RATE_LIMITED
    assert refusal.value.retry_after_ms
    release.set()
    admitted = await asyncio.gather(*waiting)
    assert (len(admitted), most) == (2, 1)
    await admission.vet(ARTIFACT, draft_of())
    admission.close()


# --- sweeps -------------------------------------------------------------------------------------


class _Writer:
    """Runs commands at once, on nothing."""

    def submit(self, command: Callable[[Any], T]) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(command(None))
        except (PoolError, InvariantError) as error:
            future.set_exception(error)
        return future

    read = submit


async def test_a_sweep_runs_until_nothing_is_due_and_waits_when_the_store_is_busy() -> None:
    store = StoreAccess(_Writer(), ManualClock())
    left = [3, 2, 0]
    assert await sweep_until_done(Sweep(name="s", run=lambda _u, _n: left.pop(0)), store=store) == 5

    def busy(_uow: object, _now_us: int) -> int:
        raise PoolError(ErrorCode.UNAVAILABLE)

    assert await sweep_until_done(Sweep(name="s", run=busy), store=store) == 0

    def broken(_uow: object, _now_us: int) -> int:
        raise InvariantError("the books contradict themselves")

    with pytest.raises(InvariantError):
        await sweep_until_done(Sweep(name="s", run=broken), store=store)


# --- conversions --------------------------------------------------------------------------------


def test_a_bundle_must_be_as_long_as_it_says() -> None:
    assert convert_work.tensor_ref(common_pb2.TensorBundle(), field="x") is NO_TENSORS
    good = convert_work.tensor_ref(common_pb2.TensorBundle(inline=b"abc"), field="x")
    assert (good.inline, good.size_bytes) == (b"abc", 3)
    assert convert_work.tensor_ref(convert_work.tensor_bundle(good), field="x") == good
    for bundle, code in (
        (common_pb2.TensorBundle(inline=b"abc", size_bytes=4), ErrorCode.INVALID_ARGUMENT),
        (common_pb2.TensorBundle(inline=bytes(70_000)), ErrorCode.TENSORS_TOO_LARGE),
        (common_pb2.TensorBundle(blob_sha256="0" * 64), ErrorCode.BLOB_TOO_LARGE),
        (common_pb2.TensorBundle(blob_sha256="0" * 64, size_bytes=1 << 40), ErrorCode.BLOB_TOO_LARGE),
        (common_pb2.TensorBundle(blob_sha256="zz", size_bytes=1), ErrorCode.INVALID_ARGUMENT),
    ):
        assert code_of(partial(convert_work.tensor_ref, bundle, field="x")) is code


@pytest.mark.parametrize(
    "result",
    [
        pb.AttemptResult(attempt_id=1),
        pb.AttemptResult(attempt_id=0, outcome=pb.ATTEMPT_OUTCOME_COMPLETED),
        pb.AttemptResult(attempt_id=1 << 63, outcome=pb.ATTEMPT_OUTCOME_COMPLETED),
        pb.AttemptResult(attempt_id=1, outcome=pb.ATTEMPT_OUTCOME_COMPLETED, output_digest=b"short"),
        pb.AttemptResult(attempt_id=1, outcome=pb.ATTEMPT_OUTCOME_COMPLETED, run_time_us=-1),
        pb.AttemptResult(attempt_id=1, outcome=pb.ATTEMPT_OUTCOME_COMPLETED, unit_count=1 << 40),
    ],
)
def test_results_out_of_form_are_refused(result: pb.AttemptResult) -> None:
    body = pb.ResultBundleBody(lease_id="lease_1", results=[result]).SerializeToString()
    assert code_of(lambda: convert_work.submit_results(body, vehicle_id="v")) is ErrorCode.INVALID_ARGUMENT


def test_bytes_that_are_no_bundle_are_malformed() -> None:
    assert (
        code_of(lambda: convert_work.submit_results(b"\xff\xff", vehicle_id="v"))
        is ErrorCode.ENVELOPE_MALFORMED
    )
    assert code_of(lambda: convert_work.submit_results(b"", vehicle_id="v")) is ErrorCode.INVALID_ARGUMENT


def test_pages_are_cut_and_tokens_are_read_strictly() -> None:
    assert [page_size(common_pb2.PageRequest(page_size=size)) for size in (0, 7, 5_000)] == [100, 7, 1_000]
    assert row_token(common_pb2.PageRequest()) == 0
    assert row_token(common_pb2.PageRequest(page_token="12")) == 12
    for token in ("0", "-1", "x", "1e3", "٣", "9" * 19):
        page = common_pb2.PageRequest(page_token=token)
        assert code_of(partial(row_token, page)) is ErrorCode.INVALID_ARGUMENT


# --- logs ---------------------------------------------------------------------------------------


def test_log_lines_are_one_line_with_what_was_given() -> None:
    record = logging.LogRecord("pool", logging.WARNING, "f.py", 1, "two\nlines %d", (5,), None)
    record.action = "swept"
    line = JsonFormatter().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["message"], fields["action"], fields["level"]) == ("two\nlines 5", "swept", "warning")
    assert "\n" not in PlainFormatter().format(record)
    try:
        raise ValueError("why")
    except ValueError:
        failed = logging.LogRecord("pool", logging.ERROR, "f.py", 1, "failed", (), sys.exc_info())
    assert "ValueError: why" in json.loads(JsonFormatter().format(failed))["exception"]
    assert "ValueError: why" in PlainFormatter().format(failed)


async def test_a_call_that_ends_while_a_message_is_waited_for_ends_its_stream_quietly() -> None:
    async def requests() -> AsyncIterator[pb.ExchangeRequest]:
        for request in list[pb.ExchangeRequest]():
            yield request
        raise grpc.aio.UsageError("the server has stopped")

    async def no_questions(vehicle: object) -> tuple[()]:
        return ()

    never: Any = None
    hub = Hub(streams_max=1)
    vehicle: Any = SimpleNamespace(vehicle_id="car one", agent_version="")
    disputes: Any = SimpleNamespace(open_questions=no_questions)
    streams = ExchangeStreams(store=never, desk=never, disputes=disputes, hub=hub, edge=never)
    assert [response async for response in streams.serve(requests(), vehicle=vehicle)] == []
    with hub.stream("car two"):
        pass


def test_the_log_leaves_out_what_alembic_says_at_every_start() -> None:
    root, alembic = logging.getLogger(), logging.getLogger("alembic.runtime.plugins")
    before = root.handlers[:], root.level
    try:
        configure_logs(as_json=False, verbose=False)
        assert not alembic.isEnabledFor(logging.INFO)
        assert alembic.isEnabledFor(logging.WARNING)
        assert logging.getLogger("pool_server.main.serve").isEnabledFor(logging.INFO)
    finally:
        root.handlers[:], root.level = before
        for name in ("alembic", "pool_server.rpc.interceptor"):
            logging.getLogger(name).setLevel(logging.NOTSET)


async def test_long_reads_of_operators_take_turns() -> None:
    reading: list[asyncio.Future[None]] = []

    class SlowStore:
        def __init__(self) -> None:
            self.long_read = asyncio.Lock()

        def now_us(self) -> int:
            return 0

        async def read(self, query: Callable[[Any], Any]) -> Any:
            reading.append(asyncio.get_running_loop().create_future())
            await reading[-1]
            return LedgerReport(ok=True, checks=(), transfer_count=0, sum_micros=0)

    parts: Any = dict.fromkeys(
        ("keys", "policy", "blob_reader", "rails", "render_report", "id_source", "pool_id", "currency")
    )
    servicer = AdminServicer(store=cast(StoreAccess, SlowStore()), server_version="", **parts)
    request = admin_pb.CheckLedgerRequest()
    calls = [asyncio.create_task(servicer.CheckLedger(request, None)) for _ in range(2)]
    for turn in (1, 2):
        for _ in range(10):  # as many rounds of the loop as either call could need
            await asyncio.sleep(0)
        assert len(reading) == turn, "the second waits until the first is through"
        reading[-1].set_result(None)
    assert [answer.transfer_count for answer in await asyncio.gather(*calls)] == [0, 0]

"""What buyers ask: quotes, jobs, idempotency, blobs, watching, limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from pool_protocol import limits, tensors
from pool_protocol.digests import output_digest, sha256_hex
from pool_protocol.errors import ErrorCode
from pool_protocol.system import SystemClock
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb
from pool_protocol.v1 import market_service_pb2 as pb
from pool_server.rpc import job_watch
from tests.support.clock import ManualClock
from tests.support.fake_car import FakeBuyer, FakeCar, inputs_of, square, vet_without_jax
from tests.support.pool import PoolHandle, code_of, running_pool


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SystemClock().now_us())


@pytest.fixture
def pool(tmp_path: Path, clock: ManualClock) -> Iterator[PoolHandle]:
    with running_pool(tmp_path, vet=vet_without_jax, clock=clock) as running:
        yield running


@pytest.fixture
def buyer(pool: PoolHandle) -> FakeBuyer:
    return FakeBuyer.with_money(pool)


def refused(call: object, code: ErrorCode) -> None:
    assert callable(call)
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    assert code_of(refusal.value) == code.value


def job_request(program_sha256: str, **changes: object) -> pb.CreateJobRequest:
    request = pb.CreateJobRequest(
        idempotency_key="a job",
        program_sha256=program_sha256,
        price_mode=common_pb2.PRICE_MODE_SPOT,
        price_cap_micros_per_wu=10_000_000,
        budget_micros=10**8,
        level=common_pb2.VERIFICATION_LEVEL_STANDARD,
    )
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def test_a_repeated_create_is_the_same_job_and_other_terms_are_refused(buyer: FakeBuyer) -> None:
    program = buyer.admit()
    first = buyer.call("CreateJob", job_request(program))
    assert buyer.call("CreateJob", job_request(program)) == first
    assert buyer.call("GetBalance", pb.GetBalanceRequest()).escrow_micros == 10**8
    refused(
        lambda: buyer.call("CreateJob", job_request(program, budget_micros=10**7)),
        ErrorCode.EXISTS_WITH_DIFFERENT,
    )


def test_a_quote_binds_until_it_ends_and_a_repeat_outlives_it(buyer: FakeBuyer, clock: ManualClock) -> None:
    program = buyer.admit()
    ask = pb.GetQuoteRequest(
        program_sha256=program, task_count=1, level=common_pb2.VERIFICATION_LEVEL_STANDARD
    )
    quote, late = buyer.call("GetQuote", ask), buyer.call("GetQuote", ask)
    terms = {"price_mode": common_pb2.PRICE_MODE_QUOTE, "price_cap_micros_per_wu": 0}
    request = job_request(program, quote_id=quote.quote_id, **terms)
    created = buyer.call("CreateJob", request)
    clock.advance(us=limits.QUOTE_LIFETIME_US)
    assert buyer.call("CreateJob", request) == created
    refused(
        lambda: buyer.call(
            "CreateJob", job_request(program, quote_id=late.quote_id, idempotency_key="late", **terms)
        ),
        ErrorCode.QUOTE_EXPIRED,
    )


def test_a_quote_is_its_buyers_and_for_what_was_quoted(pool: PoolHandle, buyer: FakeBuyer) -> None:
    program = buyer.admit()
    quote = buyer.call(
        "GetQuote",
        pb.GetQuoteRequest(
            program_sha256=program, task_count=1, level=common_pb2.VERIFICATION_LEVEL_STANDARD
        ),
    )
    terms = {"price_mode": common_pb2.PRICE_MODE_QUOTE, "quote_id": quote.quote_id}
    thief = FakeBuyer.with_money(pool, name="Theo")
    refused(lambda: thief.call("CreateJob", job_request(program, **terms)), ErrorCode.NOT_FOUND)
    refused(
        lambda: buyer.call(
            "CreateJob", job_request(program, level=common_pb2.VERIFICATION_LEVEL_STRICT, **terms)
        ),
        ErrorCode.EXISTS_WITH_DIFFERENT,
    )


def test_terms_that_are_not_valid_are_refused_by_name(buyer: FakeBuyer) -> None:
    program = buyer.admit()
    for changes in (
        {"level": common_pb2.VERIFICATION_LEVEL_UNSPECIFIED},
        {"price_mode": common_pb2.PRICE_MODE_UNSPECIFIED},
        {"price_cap_micros_per_wu": 0},
        {"steps_per_task": 3},
        {"idempotency_key": ""},
        {"name": "x" * 101},
    ):
        refused(
            lambda c=changes: buyer.call("CreateJob", job_request(program, **c)), ErrorCode.INVALID_ARGUMENT
        )
    refused(lambda: buyer.call("CreateJob", job_request("XYZ")), ErrorCode.INVALID_ARGUMENT)
    refused(lambda: buyer.call("CreateJob", job_request("0" * 64)), ErrorCode.PROGRAM_NOT_ADMITTED)
    refused(
        lambda: buyer.call("CreateJob", job_request(program, budget_micros=2 * 10**12)),
        ErrorCode.INSUFFICIENT_FUNDS,
    )


def test_work_without_verification_is_offered_only_where_the_operator_allows_it(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax, allow_level_none=False) as pool:
        buyer = FakeBuyer.with_money(pool)
        program = buyer.admit()
        level = common_pb2.VERIFICATION_LEVEL_NONE
        refused(
            lambda: buyer.call(
                "GetQuote", pb.GetQuoteRequest(program_sha256=program, task_count=1, level=level)
            ),
            ErrorCode.INVALID_ARGUMENT,
        )
        refused(
            lambda: buyer.call("CreateJob", job_request(program, level=level)), ErrorCode.INVALID_ARGUMENT
        )


def test_tasks_are_added_once_and_held_to_the_program(buyer: FakeBuyer) -> None:
    job_id = buyer.call("CreateJob", job_request(buyer.admit())).job_id

    def add(first_index: int, *bundles: common_pb2.TensorBundle) -> int:
        tasks = [pb.TaskInputs(inputs=bundle) for bundle in bundles]
        request = pb.AddTasksRequest(job_id=job_id, first_index=first_index, tasks=tasks)
        return int(buyer.call("AddTasks", request).task_count)

    assert add(0, inputs_of(1), inputs_of(2)) == 2
    assert add(0, inputs_of(1), inputs_of(2)) == 2
    assert add(1, inputs_of(2), inputs_of(3)) == 3
    refused(lambda: add(0, inputs_of(9)), ErrorCode.EXISTS_WITH_DIFFERENT)
    refused(lambda: add(7, inputs_of(9)), ErrorCode.INVALID_ARGUMENT)
    refused(lambda: add(3, inputs_of(1, size=4)), ErrorCode.INVALID_ARGUMENT)
    refused(lambda: add(3), ErrorCode.INVALID_ARGUMENT)
    refused(
        lambda: add(3, common_pb2.TensorBundle(inline=bytes(limits.INLINE_TENSOR_BYTES_MAX + 1))),
        ErrorCode.TENSORS_TOO_LARGE,
    )
    buyer.call("CloseJob", pb.CloseJobRequest(job_id=job_id))
    refused(lambda: add(3, inputs_of(4)), ErrorCode.JOB_CLOSED)


def test_jobs_are_their_buyers(pool: PoolHandle, buyer: FakeBuyer) -> None:
    job_id = buyer.open_job([1], close=False)
    thief = FakeBuyer.with_money(pool, name="Theo")
    for method, request in (
        ("GetJob", pb.GetJobRequest(job_id=job_id)),
        ("CloseJob", pb.CloseJobRequest(job_id=job_id)),
        ("CancelJob", pb.CancelJobRequest(job_id=job_id)),
        ("GetResults", pb.GetResultsRequest(job_id=job_id, indexes=[0])),
        (
            "AddTasks",
            pb.AddTasksRequest(job_id=job_id, first_index=1, tasks=[pb.TaskInputs(inputs=inputs_of(1))]),
        ),
    ):
        refused(lambda m=method, r=request: thief.call(m, r), ErrorCode.NOT_FOUND)
    refused(lambda: list(thief.call("WatchJob", pb.WatchJobRequest(job_id=job_id))), ErrorCode.NOT_FOUND)
    assert list(thief.call("ListJobs", pb.ListJobsRequest()).jobs) == []
    assert [job.job_id for job in buyer.call("ListJobs", pb.ListJobsRequest()).jobs] == [job_id]


def test_a_cancelled_job_gives_its_reserve_back(buyer: FakeBuyer) -> None:
    job_id = buyer.open_job([1, 2])
    job = buyer.call("CancelJob", pb.CancelJobRequest(job_id=job_id)).job
    assert job.state == pb.JOB_STATE_CANCELLED
    balance = buyer.call("GetBalance", pb.GetBalanceRequest())
    assert (balance.available_micros, balance.escrow_micros) == (10**12, 0)
    assert {result.state for result in buyer.results(job_id, 2)} == {pb.TASK_STATE_CANCELLED}


def put(buyer: FakeBuyer, content: bytes, *, name: str = "") -> int:
    step = limits.BLOB_CHUNK_BYTES
    chunks = [content[at : at + step] for at in range(0, len(content), step)] or [b""]
    requests = [pb.PutBlobRequest(chunk=chunk) for chunk in chunks]
    requests[0].blob_sha256 = name or sha256_hex(content)
    return int(buyer.call("PutBlob", iter(requests)).size_bytes)


def get(buyer: FakeBuyer, name: str, offset: int = 0) -> bytes:
    request = pb.GetBlobRequest(blob_sha256=name, offset=offset)
    return b"".join(piece.chunk for piece in buyer.call("GetBlob", request))


def test_blobs_come_back_from_any_offset_and_only_to_who_may_read_them(
    pool: PoolHandle, buyer: FakeBuyer
) -> None:
    content = bytes(range(256)) * 10_000
    name = sha256_hex(content)
    assert put(buyer, content) == put(buyer, content) == len(content)
    assert get(buyer, name) == content
    assert get(buyer, name, offset=len(content) - 5) == content[-5:]
    assert get(buyer, name, offset=len(content)) == b""
    refused(lambda: get(buyer, name, offset=len(content) + 1), ErrorCode.INVALID_ARGUMENT)
    stranger = FakeBuyer.with_money(pool, name="Theo")
    refused(lambda: get(stranger, name), ErrorCode.BLOB_MISSING)
    refused(lambda: get(buyer, "0" * 64), ErrorCode.BLOB_MISSING)


def test_a_blob_that_is_not_what_its_name_says_is_not_kept(buyer: FakeBuyer) -> None:
    name = sha256_hex(b"something else")
    refused(lambda: put(buyer, b"content", name=name), ErrorCode.BLOB_DIGEST_MISMATCH)
    refused(lambda: get(buyer, name), ErrorCode.BLOB_MISSING)
    refused(lambda: put(buyer, b"content", name="../../etc/passwd"), ErrorCode.INVALID_ARGUMENT)


def test_a_buyer_keeps_no_more_than_its_share(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax, upload_bytes_per_holder_max=1 << 20) as pool:
        buyer, other = FakeBuyer.with_money(pool), FakeBuyer.with_money(pool, name="other")
        assert put(buyer, bytes(1 << 20)) == 1 << 20
        refused(lambda: put(buyer, b"one more"), ErrorCode.BLOB_TOO_LARGE)
        assert put(other, b"one more") == 8


def test_large_inputs_and_outputs_travel_as_blobs(pool: PoolHandle, buyer: FakeBuyer) -> None:
    content = tensors.encode({"value": np.full(3, 5, np.float32)})
    bundle = common_pb2.TensorBundle(blob_sha256=sha256_hex(content), size_bytes=len(content))
    job_id = buyer.call(
        "CreateJob", job_request(buyer.admit(), level=common_pb2.VERIFICATION_LEVEL_NONE)
    ).job_id
    add = pb.AddTasksRequest(job_id=job_id, first_index=0, tasks=[pb.TaskInputs(inputs=bundle)])
    refused(lambda: buyer.call("AddTasks", add), ErrorCode.BLOB_MISSING)
    put(buyer, content)
    buyer.call("AddTasks", add)

    car, other = FakeCar(pool), FakeCar(pool, name="other")
    lease = car.lease()
    assert lease is not None
    blob = fleet_pb.FleetServiceGetBlobRequest(blob_sha256=lease.attempts[0].inputs.blob_sha256)
    fetched = b"".join(piece.chunk for piece in car.stub.GetBlob(blob))
    assert fetched == content
    refused(lambda: list(other.stub.GetBlob(blob)), ErrorCode.BLOB_MISSING)

    outputs = square(tensors.decode(fetched))
    answer = tensors.encode(outputs)
    body = fleet_pb.ResultBundleBody(
        lease_id=lease.lease_id,
        results=[
            fleet_pb.AttemptResult(
                attempt_id=lease.attempts[0].attempt_id,
                outcome=fleet_pb.ATTEMPT_OUTCOME_COMPLETED,
                output_digest=output_digest(outputs),
                outputs=common_pb2.TensorBundle(blob_sha256=sha256_hex(answer), size_bytes=len(answer)),
            )
        ],
    )
    refused(lambda: car.submit(car.seal(body)), ErrorCode.BLOB_MISSING)
    car.stub.PutBlob(
        iter([fleet_pb.FleetServicePutBlobRequest(blob_sha256=sha256_hex(answer), chunk=answer)])
    )
    [ack] = car.submit(car.seal(body))
    assert ack.status == fleet_pb.ACK_STATUS_VERIFIED
    [result] = buyer.results(job_id, 1)
    assert get(buyer, result.outputs.blob_sha256) == answer


def test_a_watcher_without_results_gets_outcomes_only(pool: PoolHandle, buyer: FakeBuyer) -> None:
    job_id = buyer.open_job([1, 2])
    FakeCar(pool).work()
    news = list(buyer.call("WatchJob", pb.WatchJobRequest(job_id=job_id)))
    decided = [task for message in news for task in message.decided]
    assert len(decided) == 2
    assert not any(task.HasField("outputs") or task.receipts for task in decided)
    assert news[-1].job.state == pb.JOB_STATE_DONE


def test_a_watcher_is_told_that_results_wait_for_another_owner(
    pool: PoolHandle, buyer: FakeBuyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_watch, "LOOK_AGAIN_S", 0.01)
    job_id = buyer.open_job([1, 2], level=common_pb2.VERIFICATION_LEVEL_FULL)
    news = buyer.call("WatchJob", pb.WatchJobRequest(job_id=job_id))
    assert next(news).job.waiting_reason == "NO_VEHICLES"
    # Nothing is decided by these two results, and still the watcher hears of them.
    FakeCar(pool).work()
    waiting = next(message.job for message in news if message.job.waiting_count)
    assert (waiting.waiting_reason, waiting.waiting_count) == ("WAITING_FOR_ANOTHER_OWNER", 2)
    other = FakeCar(pool)
    while other.work():
        pass
    last = list(news)[-1].job
    assert (last.state, last.waiting_reason) == (pb.JOB_STATE_DONE, "")


def test_a_donated_job_costs_nothing_and_still_gives_receipts(pool: PoolHandle, buyer: FakeBuyer) -> None:
    request = job_request(
        buyer.admit(),
        price_mode=common_pb2.PRICE_MODE_DONATE,
        price_cap_micros_per_wu=0,
        budget_micros=0,
        level=common_pb2.VERIFICATION_LEVEL_NONE,
    )
    job_id = buyer.call("CreateJob", request).job_id
    tasks = [pb.TaskInputs(inputs=inputs_of(2))]
    buyer.call("AddTasks", pb.AddTasksRequest(job_id=job_id, first_index=0, tasks=tasks))
    [ack] = FakeCar(pool).work()
    assert ack.status == fleet_pb.ACK_STATUS_VERIFIED
    [result] = buyer.results(job_id, 1)
    assert (result.cost_micros, len(result.receipts)) == (0, 1)

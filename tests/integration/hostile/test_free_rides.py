"""Attacks on money, trust and counts by those who are let in: buyers and owners in league, big numbers."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode
from pool_protocol.program.admission import AdmittedProgram
from pool_protocol.program.manifest import ProgramDraft
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from tests.support.fake_car import FakeBuyer, FakeCar, inputs_of, vet_without_jax
from tests.support.pool import PoolHandle, code_of, running_pool
from tests.support.rows import rows_of

pytestmark = pytest.mark.slow
MIB = 1 << 20


def vet_with_work(work_uwu: int) -> Callable[[bytes, ProgramDraft], AdmittedProgram]:
    """Admit the tests' program with so much work per task."""

    def vet(artifact: bytes, draft: ProgramDraft) -> AdmittedProgram:
        admitted = vet_without_jax(artifact, draft)
        cost = dataclasses.replace(admitted.manifest.cost, work_uwu=work_uwu)
        return dataclasses.replace(admitted, manifest=dataclasses.replace(admitted.manifest, cost=cost))

    return vet


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[PoolHandle]:
    with running_pool(tmp_path, vet=vet_without_jax) as running:
        yield running


def donated_job(
    buyer: FakeBuyer, tasks: int, *, level: common_pb2.VerificationLevel.ValueType, key: str = "donated"
) -> str:
    created = buyer.call(
        "CreateJob",
        market_pb.CreateJobRequest(
            idempotency_key=key,
            program_sha256=buyer.admit(),
            price_mode=common_pb2.PRICE_MODE_DONATE,
            level=level,
            name="donated",
        ),
    )
    batch = [market_pb.TaskInputs(inputs=inputs_of(number)) for number in range(tasks)]
    buyer.call("AddTasks", market_pb.AddTasksRequest(job_id=created.job_id, first_index=0, tasks=batch))
    return str(created.job_id)


def test_work_that_nobody_pays_for_buys_no_trust(pool: PoolHandle) -> None:
    """A buyer and two owners in league verify donated work for each other: it must not count as history.

    History makes audits rare. If it were free, a car could buy itself out of all audits before it lies.
    """
    buyer = FakeBuyer.with_money(pool)
    donated_job(buyer, 3, level=common_pb2.VERIFICATION_LEVEL_STANDARD)
    first, second = FakeCar(pool, name="first"), FakeCar(pool, name="second")
    assert {ack.status for ack in first.work()} == {pb.ACK_STATUS_RECORDED}
    while first.work() or second.work():
        pass
    rows = rows_of(pool.data_dir / "pool.sqlite3")
    assert len(rows["receipts"]) == 6, "the donated work was verified"
    clean = pool.admin().ListFleet(admin_pb.ListFleetRequest(), metadata=pool.operator.metadata).vehicles
    assert [vehicle.clean_uwu for vehicle in clean] == [0, 0]
    # Paid work of the same kind is still checked as a newcomer's.
    buyer.open_job([7], level=common_pb2.VERIFICATION_LEVEL_STANDARD, key="paid")
    assert [ack.status for ack in first.work()] == [pb.ACK_STATUS_RECORDED]


def test_a_run_time_of_a_microsecond_breaks_no_count(tmp_path: Path) -> None:
    """The largest program and the shortest time: a speed beyond 64 bits."""
    with running_pool(tmp_path, vet=vet_with_work(10**13)) as pool:
        donated_job(FakeBuyer.with_money(pool), 2, level=common_pb2.VERIFICATION_LEVEL_NONE)
        car = FakeCar(pool)
        lease = car.lease()
        assert lease is not None
        body = car.results(lease)
        for result in body.results:
            result.run_time_us = 1
        assert [ack.status for ack in car.submit(car.seal(body))] == [pb.ACK_STATUS_VERIFIED] * 2


def test_a_task_that_no_lease_can_hold_is_refused_before_it_can_spoil_the_sums(tmp_path: Path) -> None:
    """Donated work has no price to bound it: a few tasks of 2**62 micro-WU would not fit any column."""
    with running_pool(tmp_path, vet=vet_with_work(2**62)) as pool:
        buyer = FakeBuyer.with_money(pool)
        with pytest.raises(grpc.RpcError) as refusal:
            donated_job(buyer, 1, level=common_pb2.VERIFICATION_LEVEL_FULL)
        assert code_of(refusal.value) == ErrorCode.INVALID_ARGUMENT.value


def test_the_same_result_submitted_by_many_threads_at_once_is_paid_once(pool: PoolHandle) -> None:
    FakeBuyer.with_money(pool).open_job([1, 2, 3])
    car = FakeCar(pool)
    lease = car.lease()
    assert lease is not None
    envelopes = [car.seal(car.results(lease)) for _ in range(8)]
    stub = car.stub
    gate = threading.Barrier(len(envelopes))
    answers: list[list[int]] = []

    def submit(envelope: common_pb2.Envelope) -> None:
        gate.wait()
        acks = stub.SubmitResults(pb.SubmitResultsRequest(results=envelope)).acks
        answers.append([ack.status for ack in acks])

    threads = [threading.Thread(target=submit, args=(envelope,)) for envelope in envelopes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted(
        [[pb.ACK_STATUS_VERIFIED] * 3, *[[pb.ACK_STATUS_DUPLICATE] * 3] * (len(envelopes) - 1)]
    )
    assert len(rows_of(pool.data_dir / "pool.sqlite3")["receipts"]) == 3
    report = pool.admin().CheckLedger(admin_pb.CheckLedgerRequest(), metadata=pool.operator.metadata)
    assert [check.name for check in report.checks if not check.ok] == []


def test_uploads_side_by_side_keep_within_one_share(tmp_path: Path) -> None:
    """Each upload alone would fit; all are open at once, and all are finished only then."""
    with running_pool(tmp_path, vet=vet_without_jax, upload_bytes_per_holder_max=MIB) as pool:
        buyer = pool.create_principal("buyer", "Bea")
        stub = pool.market()
        contents = [bytes([number]) * (MIB // 2) for number in range(6)]
        gate = threading.Barrier(len(contents))
        outcomes: list[str] = []

        def upload(content: bytes) -> None:
            name = sha256_hex(content)

            def pieces() -> Iterator[market_pb.PutBlobRequest]:
                yield market_pb.PutBlobRequest(blob_sha256=name, chunk=content[:-1])
                with suppress(threading.BrokenBarrierError):
                    gate.wait(timeout=5)  # one that was refused meanwhile does not come
                yield market_pb.PutBlobRequest(chunk=content[-1:])

            try:
                stub.PutBlob(pieces(), metadata=buyer.metadata)
                outcomes.append("kept")
            except grpc.RpcError as error:
                outcomes.append(code_of(error))

        threads = [threading.Thread(target=upload, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kept = rows_of(pool.data_dir / "pool.sqlite3")["blobs"]
        assert len(kept) <= 2, "two halves are a whole share"
        assert set(outcomes) <= {"kept", ErrorCode.BLOB_TOO_LARGE.value}
        files = [path for path in (pool.data_dir / "blobs").rglob("*") if path.is_file()]
        assert len(files) == len(kept), "what is refused leaves no bytes behind"

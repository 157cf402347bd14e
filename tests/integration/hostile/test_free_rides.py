"""Attacks on money, trust and counts by those who are let in: buyers and owners in league, big numbers."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode
from pool_protocol.limits import DEVICE_CODE_GUESSES_PER_MINUTE_MAX
from pool_protocol.program.admission import AdmittedProgram
from pool_protocol.program.manifest import ProgramDraft
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import account_service_pb2_grpc, common_pb2
from pool_protocol.v1 import admin_service_pb2 as admin_pb
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


def test_guesses_of_pairing_codes_side_by_side_share_one_allowance(pool: PoolHandle) -> None:
    """Sent one after the other they are counted one by one; sent together they must be, too."""
    owner = pool.create_principal("owner", "Olga")
    codes = [f"{letter * 4}-{digit * 4}" for letter in "BCDFGHJKMN" for digit in "234679"]

    async def guess_all() -> list[str]:
        credentials = grpc.ssl_channel_credentials(pool.ca_pem)
        async with grpc.aio.secure_channel(pool.api_address, credentials) as channel:
            stub: Any = account_service_pb2_grpc.AccountServiceStub(channel)

            async def guess(code: str) -> str:
                request = account_pb.ApproveDeviceRequest(user_code=code, label="mine now")
                try:
                    await stub.ApproveDevice(request, metadata=owner.metadata)
                except grpc.aio.AioRpcError as error:
                    return code_of(error)
                return "approved"

            return await asyncio.gather(*(guess(code) for code in codes))

    outcomes = Counter(asyncio.run(guess_all()))
    assert outcomes == {
        ErrorCode.DEVICE_CODE_UNKNOWN.value: DEVICE_CODE_GUESSES_PER_MINUTE_MAX,
        ErrorCode.RATE_LIMITED.value: len(codes) - DEVICE_CODE_GUESSES_PER_MINUTE_MAX,
    }


def test_no_stranger_writes_on_anothers_terminal(pool: PoolHandle) -> None:
    """Escape sequences in a job's name, an agent's version, and a car's account of a failure."""
    escape = "\x1b]0;owned\x07\u202e\x00"
    buyer = FakeBuyer.with_money(pool)
    with pytest.raises(grpc.RpcError) as refusal:
        buyer.call(
            "CreateJob",
            market_pb.CreateJobRequest(
                idempotency_key="k",
                program_sha256=buyer.admit(),
                price_mode=common_pb2.PRICE_MODE_DONATE,
                level=common_pb2.VERIFICATION_LEVEL_FULL,
                name=escape,
            ),
        )
    assert code_of(refusal.value) == ErrorCode.INVALID_ARGUMENT.value

    job_id = buyer.open_job([1])
    cars = [FakeCar(pool, name=name) for name in ("first", "second")]
    for car in cars:
        want = pb.WorkRequest(attempts_max=1, agent=pb.AgentInfo(agent_version="1.0" + escape))
        lease = car.open_lease(car.stub.LeaseWork(pb.LeaseWorkRequest(want=want)).lease)
        failed = pb.AttemptResult(
            attempt_id=lease.attempts[0].attempt_id,
            outcome=pb.ATTEMPT_OUTCOME_PROGRAM_FAILED,
            reason="PROGRAM_FAILED",
            detail="first line\nsecond" + escape,
        )
        car.submit(car.seal(pb.ResultBundleBody(lease_id=lease.lease_id, results=[failed])))
    [result] = buyer.results(job_id, 1)
    assert result.detail.startswith("first line\nsecond")
    listed = pool.admin().ListFleet(admin_pb.ListFleetRequest(), metadata=pool.operator.metadata).vehicles
    versions = [vehicle.agent_version for vehicle in listed]
    assert all(version.startswith("1.0") for version in versions)
    for shown in (result.detail.replace("\n", ""), *versions):
        assert shown.isprintable(), repr(shown)


def test_a_buyer_and_two_owners_in_league_cannot_be_told_apart_but_are_in_the_books(pool: PoolHandle) -> None:
    """What audits of newcomers cost is the pool's, to the micro, and stands on an account of its own."""
    buyer = FakeBuyer.with_money(pool)
    buyer.open_job(list(range(4)), level=common_pb2.VERIFICATION_LEVEL_STANDARD)
    cars = [FakeCar(pool, name=name) for name in ("first", "second")]
    while cars[0].work() or cars[1].work():
        pass
    books = pool.admin().GetOverview(admin_pb.GetOverviewRequest(), metadata=pool.operator.metadata)
    spent_micros = buyer.call("GetBalance", market_pb.GetBalanceRequest()).spent_micros
    earned_micros = sum(car.earnings().held_micros for car in cars)
    assert earned_micros + books.fees_micros == spent_micros + books.verification_cost_micros


def hand_in(
    car: FakeCar, envelope: common_pb2.Envelope, gate: threading.Barrier, acks: list[pb.AttemptAck]
) -> None:
    stub = car.stub
    gate.wait()
    acks.extend(stub.SubmitResults(pb.SubmitResultsRequest(results=envelope)).acks)


def test_cancelling_while_results_arrive_pays_for_each_result_or_gives_its_money_back(
    pool: PoolHandle,
) -> None:
    buyer = FakeBuyer.with_money(pool)
    cars = [FakeCar(pool, name=f"car {number}") for number in range(4)]
    for round_number in range(3):
        job_id = buyer.open_job(list(range(16)), key=f"job {round_number}", close=False)
        sealed = []
        for car in cars:
            lease = car.lease(4)
            assert lease is not None
            sealed.append((car, car.seal(car.results(lease))))
        gate = threading.Barrier(len(sealed) + 1)
        acks: list[pb.AttemptAck] = []

        threads = [threading.Thread(target=hand_in, args=(*pair, gate, acks)) for pair in sealed]
        for thread in threads:
            thread.start()
        gate.wait()
        buyer.call("CancelJob", market_pb.CancelJobRequest(job_id=job_id))
        for thread in threads:
            thread.join()
        assert {ack.status for ack in acks} <= {pb.ACK_STATUS_VERIFIED, pb.ACK_STATUS_LATE}
        verified = sum(ack.status == pb.ACK_STATUS_VERIFIED for ack in acks)
        job = buyer.job(job_id)
        assert (job.accepted_count, job.spent_micros) == (verified, verified * 1_000_000)
        assert job.escrow_micros == 0
    balance = buyer.call("GetBalance", market_pb.GetBalanceRequest())
    assert balance.escrow_micros == 0
    assert balance.available_micros + balance.spent_micros == 10**12
    report = pool.admin().CheckLedger(admin_pb.CheckLedgerRequest(), metadata=pool.operator.metadata)
    assert [check.name for check in report.checks if not check.ok] == []

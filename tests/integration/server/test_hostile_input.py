"""Hostile input over real sockets: each is a typed refusal, and nothing has changed afterwards."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - what an attacker would send; it is never unpickled here
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey
from pool_protocol.system import SystemIds
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from tests.support.clock import ManualClock
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, code_of, running_pool


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[PoolHandle]:
    with running_pool(tmp_path, vet=vet_without_jax) as running:
        yield running


def state_of(pool: PoolHandle) -> bytes:
    """All that matters: figures, accounts, fleet and jobs. Sightings of vehicles do not."""
    admin, metadata = pool.admin(), pool.operator.metadata
    overview = admin.GetOverview(admin_pb.GetOverviewRequest(), metadata=metadata)
    accounts = admin.ListAccounts(admin_pb.ListAccountsRequest(), metadata=metadata)
    jobs = admin.ListAllJobs(admin_pb.ListAllJobsRequest(), metadata=metadata)
    overview.vehicles_by_state.clear()
    parts = (overview, accounts, jobs)
    return b"".join(part.SerializeToString(deterministic=True) for part in parts)


class Unchanged:
    """`with Unchanged(pool):` what happens inside must change nothing."""

    def __init__(self, pool: PoolHandle) -> None:
        self._pool = pool

    def __enter__(self) -> None:
        self._before = state_of(self._pool)

    def __exit__(self, *_: object) -> None:
        assert state_of(self._pool) == self._before


def refused(call: object, code: ErrorCode) -> None:
    assert callable(call)
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    assert code_of(refusal.value) == code.value


@pytest.fixture
def leased(pool: PoolHandle) -> tuple[FakeCar, pb.LeaseBody]:
    FakeBuyer.with_money(pool).open_job([1, 2])
    car = FakeCar(pool)
    lease = car.lease()
    assert lease is not None
    return car, lease


def test_a_tampered_envelope_is_refused(pool: PoolHandle, leased: tuple[FakeCar, pb.LeaseBody]) -> None:
    car, lease = leased
    for part in ("body", "header", "signature"):
        envelope = car.seal(car.results(lease))
        content = bytearray(getattr(envelope, part))
        content[-1] ^= 1
        setattr(envelope, part, bytes(content))
        with Unchanged(pool):
            refused(lambda e=envelope: car.submit(e), ErrorCode.ENVELOPE_SIGNATURE_INVALID)


def test_results_signed_for_another_pool_or_by_another_key_are_refused(
    pool: PoolHandle, leased: tuple[FakeCar, pb.LeaseBody]
) -> None:
    car, lease = leased
    body = car.results(lease)
    other = FakeCar(pool, name="other")
    with Unchanged(pool):
        refused(
            lambda: car.submit(car.seal(body, audience="another-pool")), ErrorCode.ENVELOPE_WRONG_AUDIENCE
        )
        refused(
            lambda: car.submit(car.seal(body, issuer=other.vehicle.vehicle_id)),
            ErrorCode.ENVELOPE_WRONG_AUDIENCE,
        )
        stranger = SigningKey.generate(SystemIds())
        refused(lambda: car.submit(car.seal(body, key=stranger)), ErrorCode.KEY_UNKNOWN)


def test_results_of_another_cars_lease_are_refused(
    pool: PoolHandle, leased: tuple[FakeCar, pb.LeaseBody]
) -> None:
    _, lease = leased
    thief = FakeCar(pool, name="thief")
    with Unchanged(pool):
        refused(lambda: thief.submit(thief.seal(thief.results(lease))), ErrorCode.LEASE_NOT_YOURS)


def test_a_lease_signed_for_another_car_or_altered_does_not_open(
    pool: PoolHandle, leased: tuple[FakeCar, pb.LeaseBody]
) -> None:
    car, _ = leased
    thief = FakeCar(pool, name="thief")
    envelope = car.stub.LeaseWork(pb.LeaseWorkRequest(want=pb.WorkRequest(attempts_max=1))).lease
    with pytest.raises(PoolError) as stolen:
        thief.open_lease(envelope)
    assert stolen.value.code is ErrorCode.ENVELOPE_WRONG_AUDIENCE
    envelope.body += b"\0"
    with pytest.raises(PoolError) as altered:
        car.open_lease(envelope)
    assert altered.value.code is ErrorCode.ENVELOPE_SIGNATURE_INVALID


def test_a_result_for_another_cars_task_is_refused(
    pool: PoolHandle, leased: tuple[FakeCar, pb.LeaseBody]
) -> None:
    _, lease = leased
    thief = FakeCar(pool, name="thief")
    FakeBuyer.with_money(pool, name="second").open_job([7])
    own = thief.lease()
    assert own is not None
    body = thief.results(lease)
    body.lease_id = own.lease_id
    with Unchanged(pool):
        acks = thief.submit(thief.seal(body))
    assert {(ack.status, ack.reason) for ack in acks} == {(pb.ACK_STATUS_REFUSED, "ATTEMPT_NOT_YOURS")}


def test_submitting_twice_gives_the_same_answer_and_one_payment(
    pool: PoolHandle, leased: tuple[FakeCar, pb.LeaseBody]
) -> None:
    car, lease = leased
    envelope = car.seal(car.results(lease))
    first = car.submit(envelope)
    assert [ack.status for ack in first] == [pb.ACK_STATUS_VERIFIED] * 2
    paid = car.earnings().held_micros
    with Unchanged(pool):
        again = car.submit(envelope)  # the very bytes: a replay
        signed_anew = car.submit(car.seal(car.results(lease)))
    assert [ack.status for ack in again] == [pb.ACK_STATUS_DUPLICATE] * 2
    assert again == signed_anew
    assert car.earnings().held_micros == paid > 0


def test_expired_results_and_expired_leases(tmp_path: Path) -> None:
    from pool_protocol.system import SystemClock

    clock = ManualClock(SystemClock().now_us())
    with running_pool(tmp_path, vet=vet_without_jax, clock=clock, lease_timeout_s=60) as pool:
        buyer = FakeBuyer.with_money(pool)
        job_id = buyer.open_job([1])
        slow, quick = FakeCar(pool, name="slow"), FakeCar(pool, name="quick")
        lease = slow.lease()
        assert lease is not None
        old = slow.seal(slow.results(lease), issued_at_us=clock.now_us() - 2 * 3_600_000_000)
        with Unchanged(pool):
            refused(lambda: slow.submit(old), ErrorCode.ENVELOPE_EXPIRED)
        # The lease ends; another car does the task; the late result is not needed and not paid.
        clock.advance(seconds=120)
        acks: list[pb.AttemptAck] = []
        for _ in range(200):
            acks = quick.work()
            if acks:
                break
        assert [ack.status for ack in acks] == [pb.ACK_STATUS_VERIFIED]
        with Unchanged(pool):
            [late] = slow.submit(slow.seal(slow.results(lease)))
        assert (late.status, late.reason) == (pb.ACK_STATUS_LATE, "RESULT_LATE")
        assert slow.earnings().held_micros == 0
        assert buyer.job(job_id).accepted_count == 1


def test_a_pickle_in_place_of_safetensors_is_refused_on_both_sides(
    pool: PoolHandle, leased: tuple[FakeCar, pb.LeaseBody]
) -> None:
    car, lease = leased
    poison = pickle.dumps({"value": [1.0, 2.0, 3.0]})
    buffer = io.BytesIO(poison)
    acks = car.submit(car.seal(car.results(lease, spoil=buffer.getvalue())))
    assert {(ack.status, ack.reason) for ack in acks} == {(pb.ACK_STATUS_REFUSED, "OUTPUT_MALFORMED")}
    assert car.earnings().held_micros == 0

    buyer = FakeBuyer.with_money(pool, name="second")
    job_id = buyer.open_job([1], close=False, key="second")
    task = market_pb.TaskInputs(inputs=common_pb2.TensorBundle(inline=poison, size_bytes=len(poison)))
    with Unchanged(pool):
        refused(
            lambda: buyer.call(
                "AddTasks", market_pb.AddTasksRequest(job_id=job_id, first_index=1, tasks=[task])
            ),
            ErrorCode.TENSORS_PICKLE,
        )


@pytest.mark.slow
def test_a_message_of_one_gibibyte_is_refused_and_nothing_changes(pool: PoolHandle) -> None:
    buyer = FakeBuyer.with_money(pool)
    # Raw bytes: the transport refuses the message by its length, before anything parses it.
    call: Any = pool.api_channel().unary_unary("/pool_protocol.v1.MarketService/AdmitProgram")
    with Unchanged(pool), pytest.raises(grpc.RpcError) as refusal:
        call(bytes(1 << 30), metadata=buyer.principal.metadata)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert code_of(refusal.value) == ErrorCode.MESSAGE_TOO_LARGE.value
    assert buyer.call("GetBalance", market_pb.GetBalanceRequest()).available_micros == 10**12


def test_an_unlisted_method_is_refused(pool: PoolHandle) -> None:
    channel = pool.api_channel()
    call: Any = channel.unary_unary("/pool_protocol.v1.AdminService/MakeMeRich")
    with pytest.raises(grpc.RpcError) as refusal:
        call(b"")
    assert code_of(refusal.value) == ErrorCode.UNIMPLEMENTED.value

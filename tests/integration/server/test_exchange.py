"""The exchange stream: results in, acknowledgements, leases and pushes out; a refusal ends nothing."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc import status_pb2

from pool_protocol.grpc_status import from_status
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, running_pool

REPLY_TIMEOUT_S = 20.0


class Stream:
    """A car's exchange stream, driven from a test."""

    def __init__(self, car: FakeCar) -> None:
        self._requests: queue.Queue[pb.ExchangeRequest | None] = queue.Queue()
        self._responses: queue.Queue[pb.ExchangeResponse | grpc.RpcError | None] = queue.Queue()
        self._next_id = 0
        self._call = car.stub.Exchange(iter(self._requests.get, None))
        import threading

        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._responses.put(response)
            self._responses.put(None)
        except grpc.RpcError as error:
            self._responses.put(error)

    def send(self, request: pb.ExchangeRequest) -> int:
        self._next_id += 1
        request.request_id = self._next_id
        self._requests.put(request)
        return self._next_id

    def receive(self) -> pb.ExchangeResponse:
        response = self._responses.get(timeout=REPLY_TIMEOUT_S)
        if response is None:
            raise EOFError("the server ended the stream")
        if isinstance(response, grpc.RpcError):
            raise response
        return response

    def ask(self, request: pb.ExchangeRequest) -> pb.ExchangeResponse:
        """Send and return the answer; pushes before it are dropped."""
        request_id = self.send(request)
        while (response := self.receive()).request_id != request_id:
            pass
        return response

    def end(self) -> None:
        self._requests.put(None)
        self._reader.join(REPLY_TIMEOUT_S)


@contextmanager
def stream_of(car: FakeCar) -> Iterator[Stream]:
    stream = Stream(car)
    try:
        yield stream
    finally:
        stream.end()


def want(count: int = 10) -> pb.WorkRequest:
    return pb.WorkRequest(attempts_max=count)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[PoolHandle]:
    with running_pool(tmp_path, vet=vet_without_jax) as running:
        yield running


def test_one_message_hands_in_results_and_takes_the_next_lease(pool: PoolHandle) -> None:
    buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
    buyer.open_job([1, 2, 3])
    with stream_of(car) as stream:
        first = stream.ask(pb.ExchangeRequest(want=want(2)))
        lease = car.open_lease(first.lease)
        assert len(lease.attempts) == 2
        both = stream.ask(pb.ExchangeRequest(results=car.seal(car.results(lease)), want=want(2)))
        assert [ack.status for ack in both.submitted.acks] == [pb.ACK_STATUS_VERIFIED] * 2
        assert len(car.open_lease(both.lease).attempts) == 1


def test_a_refusal_is_typed_and_the_stream_goes_on(pool: PoolHandle) -> None:
    buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
    buyer.open_job([1])
    with stream_of(car) as stream:
        lease = car.open_lease(stream.ask(pb.ExchangeRequest(want=want())).lease)
        tampered = car.seal(car.results(lease))
        tampered.body += b"\0"
        refused = stream.ask(pb.ExchangeRequest(results=tampered))
        error = from_status(status_pb2.Status.FromString(refused.error.status))
        assert error.code == "ENVELOPE_SIGNATURE_INVALID"
        good = stream.ask(pb.ExchangeRequest(results=car.seal(car.results(lease))))
        assert [ack.status for ack in good.submitted.acks] == [pb.ACK_STATUS_VERIFIED]


def test_a_waiting_car_is_told_of_new_work(pool: PoolHandle) -> None:
    buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
    with stream_of(car) as stream:
        assert stream.ask(pb.ExchangeRequest(want=want())).no_work.reason == "NO_WORK"
        buyer.open_job([5])
        push = stream.receive()
        assert (push.request_id, push.no_work.reason) == (0, "WORK_AVAILABLE")
        assert stream.ask(pb.ExchangeRequest(want=want())).HasField("lease")


def test_a_car_that_waits_for_its_price_is_woken_when_the_price_moves(pool: PoolHandle) -> None:
    buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
    buyer.open_job([5])
    asked = pb.WorkRequest(attempts_max=1, reserve_price_micros_per_wu=2_000_000)
    with stream_of(car) as stream:
        answer = stream.ask(pb.ExchangeRequest(want=asked))
        assert answer.no_work.reason == "PRICE_BELOW_RESERVE"
        assert "works again when the price reaches 2000000" in answer.no_work.message
        pool.admin().SetPostedPrice(
            admin_pb.SetPostedPriceRequest(price_micros_per_wu=2_000_000), metadata=pool.operator.metadata
        )
        push = stream.receive()
        assert (push.request_id, push.no_work.reason) == (0, "WORK_AVAILABLE")
        lease = car.open_lease(stream.ask(pb.ExchangeRequest(want=asked)).lease)
        assert lease.price_micros_per_wu == 2_000_000


def test_a_cancelled_job_is_pushed_to_the_cars_that_compute_it(pool: PoolHandle) -> None:
    buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
    job_id = buyer.open_job([1, 2])
    with stream_of(car) as stream:
        lease = car.open_lease(stream.ask(pb.ExchangeRequest(want=want())).lease)
        buyer.call("CancelJob", market_pb.CancelJobRequest(job_id=job_id))
        push = stream.receive()
        assert push.request_id == 0
        assert sorted(push.cancel.attempt_ids) == sorted(attempt.attempt_id for attempt in lease.attempts)
        assert push.cancel.reason == "JOB_CANCELLED"


def test_a_lost_lease_is_sent_again_until_it_is_named_as_held(pool: PoolHandle) -> None:
    buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
    buyer.open_job([1, 2])
    with stream_of(car) as stream:
        first = car.open_lease(stream.ask(pb.ExchangeRequest(want=want(1))).lease)
        again = car.open_lease(stream.ask(pb.ExchangeRequest(want=want(1))).lease)
        assert again == first
        next_one = stream.ask(pb.ExchangeRequest(want=want(1), held_lease_ids=[first.lease_id]))
        assert car.open_lease(next_one.lease).lease_id != first.lease_id


def test_draining_tells_the_streams_before_the_server_goes(pool: PoolHandle) -> None:
    car = FakeCar(pool)
    stream = Stream(car)
    stream.ask(pb.ExchangeRequest(want=want()))
    running, pool._running = pool._running, None
    assert running is not None
    running.stop()
    push = stream.receive()
    assert push.HasField("drain")
    assert push.drain.retry_after_ms > 0


def test_a_newer_stream_of_the_same_car_ends_the_older_one(pool: PoolHandle) -> None:
    car = FakeCar(pool)
    with stream_of(car) as older:
        older.ask(pb.ExchangeRequest(want=want()))
        with stream_of(car) as newer:
            newer.ask(pb.ExchangeRequest(want=want()))
            with pytest.raises(EOFError):
                older.receive()


def test_a_retired_car_loses_its_stream_and_is_refused(pool: PoolHandle) -> None:
    from pool_protocol.v1 import account_service_pb2 as account_pb
    from tests.support.pool import code_of

    car = FakeCar(pool)
    with stream_of(car) as stream:
        stream.ask(pb.ExchangeRequest(want=want()))
        retired = pool.account().RetireVehicle(
            account_pb.RetireVehicleRequest(vehicle_id=car.vehicle.vehicle_id), metadata=car.owner.metadata
        )
        assert retired.vehicle.state == "retired"
        with pytest.raises(EOFError):
            stream.receive()
    with pytest.raises(grpc.RpcError) as refusal:
        car.lease()
    assert code_of(refusal.value) == "VEHICLE_RETIRED"


def test_quarantine_by_an_operator_cancels_what_the_car_holds(pool: PoolHandle) -> None:
    buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
    buyer.open_job([1], level=common_pb2.VERIFICATION_LEVEL_STANDARD)
    with stream_of(car) as stream:
        lease = car.open_lease(stream.ask(pb.ExchangeRequest(want=want())).lease)
        pool.admin().SetQuarantine(
            admin_pb.SetQuarantineRequest(
                vehicle_id=car.vehicle.vehicle_id, quarantined=True, reason="looks odd"
            ),
            metadata=pool.operator.metadata,
        )
        push = stream.receive()
        assert list(push.cancel.attempt_ids) == [attempt.attempt_id for attempt in lease.attempts]
        assert stream.ask(pb.ExchangeRequest(want=want())).no_work.reason == "QUARANTINED"

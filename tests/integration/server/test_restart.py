"""A restart in mid-job keeps everything: leases, results, money, enrolments, quotes, watchers' cursors."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import pytest

from pool_protocol.errors import InvariantError, PoolError
from pool_protocol.system import SystemClock, SystemIds
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from pool_server.config import config_from
from pool_server.main.loops import Sweep
from pool_server.main.serve import PoolServer
from tests.support.fake_car import FakeBuyer, FakeCar, inputs_of, vet_without_jax
from tests.support.pool import PoolHandle, code_of, running_pool


def books_balance(pool: PoolHandle) -> bool:
    answer = pool.admin().CheckLedger(admin_pb.CheckLedgerRequest(), metadata=pool.operator.metadata)
    return bool(answer.ok)


def test_a_job_goes_on_where_it_was(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax) as pool:
        buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
        job_id = buyer.open_job([1, 2, 3, 4])
        lease = car.lease(2)
        assert lease is not None
        half = car.results(lease)
        envelope = car.seal(half)

        pool.restart()
        # 1. The lease is known, its results are taken; the same bytes after another restart pay nothing.
        assert [ack.status for ack in car.submit(envelope)] == [pb.ACK_STATUS_VERIFIED] * 2
        before = car.earnings().held_micros
        pool.restart()
        assert [ack.status for ack in car.submit(envelope)] == [pb.ACK_STATUS_DUPLICATE] * 2
        assert car.earnings().held_micros == before > 0

        # 2. A watcher resumes from its cursor and sees every decision once.
        metadata = buyer.principal.metadata
        watch = pool.market().WatchJob(market_pb.WatchJobRequest(job_id=job_id), metadata=metadata)
        first = next(watch)
        # Which tasks a lease holds is the pool's secret.
        decided = [task.index for task in first.decided]
        assert len(set(decided)) == 2
        watch.cancel()
        pool.restart()
        assert len(car.work()) == 2
        request = market_pb.WatchJobRequest(job_id=job_id, after_cursor=first.cursor)
        rest = [
            task.index
            for message in pool.market().WatchJob(request, metadata=metadata)
            for task in message.decided
        ]
        assert sorted([*decided, *rest]) == [0, 1, 2, 3]
        assert books_balance(pool)


def test_a_lease_whose_reply_was_lost_is_sent_again_by_the_next_server(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax) as pool:
        buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
        buyer.open_job([1])
        lost = car.lease()
        pool.restart()
        again = car.lease()
        assert again == lost


def test_enrolments_quotes_and_keys_outlive_the_server(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax) as pool:
        buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
        rotated = pool.admin().RotateKey(
            admin_pb.RotateKeyRequest(role="lease"), metadata=pool.operator.metadata
        )
        quote = buyer.call(
            "GetQuote",
            market_pb.GetQuoteRequest(
                program_sha256=buyer.admit(), task_count=1, level=common_pb2.VERIFICATION_LEVEL_NONE
            ),
        )
        pool.admin().SetPostedPrice(
            admin_pb.SetPostedPriceRequest(price_micros_per_wu=5_000_000), metadata=pool.operator.metadata
        )
        pool.restart()
        created = buyer.call(
            "CreateJob",
            market_pb.CreateJobRequest(
                idempotency_key="quoted",
                program_sha256=buyer.admit(),
                price_mode=common_pb2.PRICE_MODE_QUOTE,
                quote_id=quote.quote_id,
                budget_micros=quote.total_micros,
                level=common_pb2.VERIFICATION_LEVEL_NONE,
            ),
        )
        tasks = [market_pb.TaskInputs(inputs=inputs_of(3))]
        buyer.call("AddTasks", market_pb.AddTasksRequest(job_id=created.job_id, first_index=0, tasks=tasks))
        answer = car.stub.LeaseWork(pb.LeaseWorkRequest(want=pb.WorkRequest(attempts_max=1)))
        assert answer.lease.key_id == rotated.key_id
        assert car.open_lease(answer.lease).price_micros_per_wu == quote.price_micros_per_wu == 1_000_000


def test_a_waiting_enrolment_is_approved_after_a_restart(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax) as pool:
        owner = pool.create_principal("owner", "Olga")
        car = FakeCar(pool, owner=owner)
        pool.restart()
        listed = pool.account().ListVehicles(account_pb.ListVehiclesRequest(), metadata=owner.metadata)
        assert [vehicle.vehicle_id for vehicle in listed.vehicles] == [car.vehicle.vehicle_id]


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax) as pool:
        with pytest.raises(PoolError, match="another server runs"):
            PoolServer(
                pool.data_dir,
                config=config_from({"api_port": 0, "fleet_port": 0}),
                clock=SystemClock(),
                id_source=SystemIds(),
                vet=vet_without_jax,
            )
        assert pool.enrolment().GetRoot(pb.GetRootRequest()).roots


def test_a_watcher_is_told_when_the_server_goes_away(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax) as pool:
        buyer = FakeBuyer.with_money(pool)
        job_id = buyer.open_job([1])
        watch = pool.market().WatchJob(
            market_pb.WatchJobRequest(job_id=job_id), metadata=buyer.principal.metadata
        )
        next(watch)
        codes: list[str] = []

        def read() -> None:
            try:
                list(watch)
            except grpc.RpcError as error:
                codes.append(code_of(error))

        reader = threading.Thread(target=read)
        reader.start()
        running, pool._running = pool._running, None
        assert running is not None
        running.stop()
        reader.join(20)
        assert codes == ["DRAINING"]


def test_a_sweep_that_finds_a_broken_invariant_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = threading.Event()

    def run(_uow: object, _now_us: int) -> int:
        if broken.is_set():
            raise InvariantError("the books contradict themselves")
        return 0

    monkeypatch.setattr(
        "pool_server.main.serve.sweeps", lambda _policy, _blobs: [Sweep(name="test", run=run)]
    )
    with running_pool(tmp_path, vet=vet_without_jax) as pool:
        running = pool._running
        assert running is not None
        broken.set()
        running._thread.join(20)
        assert not running._thread.is_alive()
        with pytest.raises(InvariantError):
            pool.stop()
        assert not (pool.data_dir / "run" / "addresses.json").exists()

"""Two at once: approvals, deposits, a lease and a quarantine, a stream and the revocation of its token."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, code_of, running_pool
from tests.support.rows import rows_of

pytestmark = pytest.mark.slow
IBAN = "DE89370400440532013000"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[PoolHandle]:
    with running_pool(tmp_path, vet=vet_without_jax, dispute_window_s=0) as running:
        yield running


def at_once(actions: Sequence[Callable[[], Any]]) -> Counter[str]:
    """Start all together; count what came of them: "done", or the code of the refusal."""
    gate = threading.Barrier(len(actions))
    outcomes: list[str] = []

    def run(action: Callable[[], Any]) -> None:
        gate.wait()
        try:
            action()
            outcomes.append("done")
        except grpc.RpcError as error:
            outcomes.append(code_of(error))

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(outcomes)


def books_balance(pool: PoolHandle) -> None:
    report = pool.admin().CheckLedger(admin_pb.CheckLedgerRequest(), metadata=pool.operator.metadata)
    assert [check.name for check in report.checks if not check.ok] == []


def test_plans_and_approvals_at_once_pay_an_owner_once(pool: PoolHandle) -> None:
    car = FakeCar(pool)
    FakeBuyer.with_money(pool).open_job([1, 2])
    car.work()
    pool.account().SetPayoutDetails(
        account_pb.SetPayoutDetailsRequest(
            details=account_pb.PayoutDetails(
                holder_name="Olga", iban=IBAN, threshold_micros=10_000, town="Koeln", country="DE"
            )
        ),
        metadata=car.owner.metadata,
    )
    while not car.earnings().available_micros:  # until the sweep has released it
        pass
    admin = pool.admin()
    operators = [pool.operator, *(pool.create_principal("operator", f"Otto {n}") for n in range(3))]
    planned = at_once(
        [
            partial(
                admin.PlanPayout,
                admin_pb.PlanPayoutRequest(idempotency_key=f"run {n}"),
                metadata=who.metadata,
            )
            for n, who in enumerate(operators)
        ]
    )
    assert planned == {"done": 1, ErrorCode.PAYOUT_STATE.value: 3}
    [run] = admin.ListPayouts(admin_pb.ListPayoutsRequest(), metadata=pool.operator.metadata).payouts
    request = admin_pb.ApprovePayoutRequest(payout_id=run.payout_id, expected_total_micros=run.total_micros)
    approved = at_once([partial(admin.ApprovePayout, request, metadata=who.metadata) for who in operators])
    # Who planned it may be told either: that four eyes are needed, or that it is approved already.
    assert approved["done"] == 1
    assert set(approved) <= {"done", ErrorCode.PAYOUT_STATE.value, ErrorCode.FOUR_EYES.value}
    assert car.earnings().paid_micros == run.total_micros == 1_800_000
    books_balance(pool)


def test_deposits_of_one_reference_at_once_are_booked_once(pool: PoolHandle) -> None:
    buyer, admin = pool.create_principal("buyer", "Bea"), pool.admin()

    def deposit(amount_micros: int) -> Any:
        return admin.RecordDeposit(
            admin_pb.RecordDepositRequest(
                buyer_id=buyer.principal_id, amount_micros=amount_micros, reference="bank statement 7, line 3"
            ),
            metadata=pool.operator.metadata,
        )

    outcomes = at_once([lambda: deposit(5), lambda: deposit(5), lambda: deposit(7), lambda: deposit(7)])
    assert outcomes == {"done": 2, ErrorCode.EXISTS_WITH_DIFFERENT.value: 2}
    balance = pool.market().GetBalance(market_pb.GetBalanceRequest(), metadata=buyer.metadata)
    assert balance.available_micros in {5, 7}
    books_balance(pool)


def test_a_lease_and_a_quarantine_at_once_leave_no_work_with_the_car(pool: PoolHandle) -> None:
    buyer = FakeBuyer.with_money(pool)
    for round_number in range(4):
        buyer.open_job([1, 2], key=f"job {round_number}")
        car = FakeCar(pool, name=f"car {round_number}")
        stub, admin = car.stub, pool.admin()
        quarantine = admin_pb.SetQuarantineRequest(
            vehicle_id=car.vehicle.vehicle_id, quarantined=True, reason="smells of smoke"
        )
        want = pb.LeaseWorkRequest(want=pb.WorkRequest(attempts_max=2))
        outcomes = at_once(
            [
                partial(stub.LeaseWork, want),
                partial(admin.SetQuarantine, quarantine, metadata=pool.operator.metadata),
            ]
        )
        assert outcomes == {"done": 2}
        assert car.stub.LeaseWork(want).no_work.reason == "QUARANTINED"
    rows = rows_of(pool.data_dir / "pool.sqlite3")
    assert not [row for row in rows["leases"] if "live" in row]
    assert not [row for row in rows["attempts"] if "leased" in row]
    books_balance(pool)


def test_a_stream_ends_when_its_token_is_revoked(pool: PoolHandle) -> None:
    """A token that was stolen and revoked must not go on showing results to whoever holds the stream."""
    buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
    job_id = buyer.open_job([1], close=False)
    watch = pool.market().WatchJob(
        market_pb.WatchJobRequest(job_id=job_id, include_results=True),
        metadata=buyer.principal.metadata,
        timeout=30,
    )
    assert next(watch).job.job_id == job_id
    revoke = admin_pb.RevokeTokenRequest(token_id=buyer.principal.token_id)
    pool.admin().RevokeToken(revoke, metadata=pool.operator.metadata)
    car.work()
    with pytest.raises(grpc.RpcError) as refusal:
        next(watch)
    assert code_of(refusal.value) == ErrorCode.UNAUTHENTICATED.value

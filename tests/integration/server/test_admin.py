"""What operators and owners ask: principals, deposits, payouts by four eyes, keys, books, news."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from pool_protocol.errors import ErrorCode
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.receipts import verify_receipt
from pool_protocol.roots import Role, open_first_root, open_root_chain
from pool_protocol.system import SystemClock
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import admin_service_pb2 as pb
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb
from pool_server.core.statement import date_of
from tests.support.clock import ManualClock
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, PrincipalHandle, code_of, running_pool

IBAN = "DE89370400440532013000"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SystemClock().now_us())


@pytest.fixture
def pool(tmp_path: Path, clock: ManualClock) -> Iterator[PoolHandle]:
    with running_pool(tmp_path, vet=vet_without_jax, clock=clock, dispute_window_s=60) as running:
        yield running


def refused(call: object, code: ErrorCode) -> None:
    assert callable(call)
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    assert code_of(refusal.value) == code.value


def wait_for_available(pool: PoolHandle, owner: PrincipalHandle, amount_micros: int) -> None:
    """The sweep releases held money once its window is over; the clock stands still meanwhile."""
    earnings = account_pb.GetEarningsResponse()
    for _ in range(1_000):
        earnings = pool.account().GetEarnings(account_pb.GetEarningsRequest(), metadata=owner.metadata)
        if earnings.available_micros == amount_micros:
            return
    pytest.fail(f"{earnings.available_micros} micros became available, not {amount_micros}")


def test_money_goes_from_a_deposit_to_a_bank_file(pool: PoolHandle, clock: ManualClock) -> None:
    # 1. A car earns; its owner says where to pay.
    car = FakeCar(pool)
    FakeBuyer.with_money(pool).open_job([1, 2])
    car.work()
    owner, admin = car.owner, pool.admin()
    details = account_pb.PayoutDetails(
        holder_name="Olga Owner", iban=IBAN, threshold_micros=10_000, town="Koeln", country="DE"
    )
    pool.account().SetPayoutDetails(
        account_pb.SetPayoutDetailsRequest(details=details), metadata=owner.metadata
    )
    bad = account_pb.PayoutDetails(holder_name="Olga", iban="DE00", threshold_micros=10_000)
    refused(
        lambda: pool.account().SetPayoutDetails(
            account_pb.SetPayoutDetailsRequest(details=bad), metadata=owner.metadata
        ),
        ErrorCode.INVALID_ARGUMENT,
    )

    # 2. The dispute window passes; the sweep makes the money payable.
    clock.advance(seconds=61)
    wait_for_available(pool, owner, 2 * 900_000)

    # 3. One operator plans, another approves the total that was shown, the file is the same each time.
    planner, approver = pool.operator, pool.create_principal("operator", "Otto")
    plan_request = pb.PlanPayoutRequest(idempotency_key="november")
    planned = admin.PlanPayout(plan_request, metadata=planner.metadata).payout
    assert admin.PlanPayout(plan_request, metadata=planner.metadata).payout == planned
    assert (planned.state, planned.total_micros, len(planned.rows)) == ("planned", 1_800_000, 1)

    def approve(who: PrincipalHandle, total_micros: int) -> pb.PayoutView:
        request = pb.ApprovePayoutRequest(payout_id=planned.payout_id, expected_total_micros=total_micros)
        view: pb.PayoutView = admin.ApprovePayout(request, metadata=who.metadata).payout
        return view

    refused(lambda: approve(planner, 1_800_000), ErrorCode.FOUR_EYES)
    with pytest.raises(grpc.RpcError) as wrong:
        approve(approver, 1)
    assert from_rpc_error(wrong.value).code is ErrorCode.CONFLICT
    assert "is 1800000 micros, not 1" in str(wrong.value.details())
    assert approve(approver, 1_800_000).state == "approved"
    export_request = pb.ExportPayoutRequest(payout_id=planned.payout_id)
    first = admin.ExportPayout(export_request, metadata=planner.metadata)
    again = admin.ExportPayout(export_request, metadata=approver.metadata)
    assert first.file == again.file
    assert hashlib.sha256(first.file).hexdigest() == first.sha256 == again.payout.file_sha256
    assert IBAN.encode() in first.file
    assert b"1.80" in first.file

    # 4. The owner sees it; the books balance.
    earnings = pool.account().GetEarnings(account_pb.GetEarningsRequest(), metadata=owner.metadata)
    assert (earnings.paid_micros, earnings.available_micros) == (1_800_000, 0)
    news = pool.account().ListEvents(account_pb.ListEventsRequest(), metadata=owner.metadata)
    assert [event.code for event in news.events][-1] == "ENROLLED"
    assert {"VERIFIED", "PAYOUT_EXPORTED"} <= {event.code for event in news.events}
    month = date_of(clock.now_us())[:7]
    statement = pool.account().GetStatement(
        account_pb.GetStatementRequest(month=month), metadata=owner.metadata
    )
    assert statement.closing_micros == 0
    assert statement.csv.count(b"\n") > len(statement.lines)
    assert admin.CheckLedger(pb.CheckLedgerRequest(), metadata=planner.metadata).ok

    # 5. The operator's report of the month says the same; another month has its own figures.
    report = admin.GetReport(pb.GetReportRequest(month=month), metadata=planner.metadata)
    [line] = report.owners
    assert (line.owner_id, line.verified_attempts) == (owner.principal_id, 2)
    assert (line.gross_micros, line.fee_micros, line.net_micros) == (2_000_000, 200_000, 1_800_000)
    assert (line.held_micros, line.available_micros, line.paid_micros) == (0, 0, 1_800_000)
    assert (report.total.gross_micros, report.buyers_spent_micros) == (2_000_000, 2_000_000)
    assert (report.verification_cost_micros, report.vehicles_quarantined) == (0, 0)
    assert report.file_name == f"report_{month}.csv"
    assert f"{month},total,,2,".encode() in report.csv
    for_ever = admin.GetReport(pb.GetReportRequest(), metadata=planner.metadata)
    assert (for_ever.month, for_ever.owners, for_ever.total) == ("", report.owners, report.total)
    assert not admin.GetReport(pb.GetReportRequest(month="1999-12"), metadata=planner.metadata).owners
    refused(
        lambda: admin.GetReport(pb.GetReportRequest(month="november"), metadata=planner.metadata),
        ErrorCode.INVALID_ARGUMENT,
    )


def payable_run(pool: PoolHandle, clock: ManualClock) -> pb.PayoutView:
    """A planned run that pays one owner."""
    car = FakeCar(pool)
    FakeBuyer.with_money(pool).open_job([1])
    car.work()
    details = account_pb.PayoutDetails(
        holder_name="Olga Owner", iban=IBAN, threshold_micros=10_000, town="Koeln", country="DE"
    )
    pool.account().SetPayoutDetails(
        account_pb.SetPayoutDetailsRequest(details=details), metadata=car.owner.metadata
    )
    clock.advance(seconds=61)
    wait_for_available(pool, car.owner, 900_000)
    request = pb.PlanPayoutRequest(idempotency_key="x")
    view: pb.PayoutView = pool.admin().PlanPayout(request, metadata=pool.operator.metadata).payout
    return view


def test_a_planned_run_can_be_dropped(pool: PoolHandle, clock: ManualClock) -> None:
    admin, metadata = pool.admin(), pool.operator.metadata
    planned = payable_run(pool, clock)
    refused(
        lambda: admin.ExportPayout(pb.ExportPayoutRequest(payout_id=planned.payout_id), metadata=metadata),
        ErrorCode.PAYOUT_STATE,
    )
    cancelled = admin.CancelPayout(pb.CancelPayoutRequest(payout_id=planned.payout_id), metadata=metadata)
    assert cancelled.payout.state == "cancelled"
    [listed] = admin.ListPayouts(pb.ListPayoutsRequest(), metadata=metadata).payouts
    assert listed.state == "cancelled"
    refused(
        lambda: admin.GetPayout(pb.GetPayoutRequest(payout_id="payout_99"), metadata=metadata),
        ErrorCode.NOT_FOUND,
    )


def test_a_deposit_is_booked_once_per_reference(pool: PoolHandle) -> None:
    buyer = pool.create_principal("buyer", "Bea")
    admin, metadata = pool.admin(), pool.operator.metadata

    def deposit(
        amount_micros: int, reference: str, buyer_id: str = buyer.principal_id
    ) -> pb.RecordDepositResponse:
        request = pb.RecordDepositRequest(buyer_id=buyer_id, amount_micros=amount_micros, reference=reference)
        answer: pb.RecordDepositResponse = admin.RecordDeposit(request, metadata=metadata)
        return answer

    first = deposit(5_000_000, "bank 1")
    assert deposit(5_000_000, "bank 1") == first
    with pytest.raises(grpc.RpcError, match=r"booked before with another amount: 5000000 micros") as refusal:
        deposit(6_000_000, "bank 1")
    assert from_rpc_error(refusal.value).code is ErrorCode.EXISTS_WITH_DIFFERENT
    other = pool.create_principal("buyer", "Ben").principal_id
    with pytest.raises(grpc.RpcError, match="booked before for another buyer"):
        deposit(5_000_000, "bank 1", other)
    refused(lambda: deposit(0, "bank 2"), ErrorCode.INVALID_ARGUMENT)
    refused(lambda: deposit(1, "bank 3", "buyer_" + "a" * 26), ErrorCode.NOT_FOUND)
    refused(lambda: deposit(1, "bank 3", "nobody"), ErrorCode.INVALID_ARGUMENT)
    assert deposit(1, "bank 4").available_micros == 5_000_001


def test_rotated_keys_are_trusted_by_the_old_root_and_old_receipts_stay_good(pool: PoolHandle) -> None:
    admin, metadata = pool.admin(), pool.operator.metadata
    buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
    buyer.open_job([1], key="before")
    car.work()
    for role in ("receipt", "lease"):
        rotated = admin.RotateKey(pb.RotateKeyRequest(role=role), metadata=metadata)
        in_force = {
            key.role: key.key_id for key in admin.GetKeys(pb.GetKeysRequest(), metadata=metadata).keys
        }
        assert in_force[role] == rotated.key_id
    buyer.open_job([2], key="after")
    car.work()
    roots = [
        root.SerializeToString()
        for root in pool.enrolment().GetRoot(fleet_pb.GetRootRequest(after_version=0)).roots
    ]
    now_us = pool.clock.now_us()
    trusted = open_root_chain(roots[1:], open_first_root(roots[0], now_us=now_us), now_us=now_us)
    assert trusted.document.version == 3
    receipts = (
        pool.account().ListReceipts(account_pb.ListReceiptsRequest(), metadata=car.owner.metadata).receipts
    )
    keys = {
        verify_receipt(receipt, keys=trusted.keys_for(Role.RECEIPT), now_us=now_us).key_id
        for receipt in receipts
    }
    assert len(receipts) == len(keys) == 2
    refused(
        lambda: admin.RotateKey(pb.RotateKeyRequest(role="program"), metadata=metadata),
        ErrorCode.INVALID_ARGUMENT,
    )


def test_keys_cannot_be_rotated_while_the_root_key_is_offline(pool: PoolHandle) -> None:
    pool.made.root_key_file.rename(pool.data_dir.parent / "root.pem")
    refused(
        lambda: pool.admin().RotateKey(pb.RotateKeyRequest(role="lease"), metadata=pool.operator.metadata),
        ErrorCode.KEY_INVALID,
    )
    keys = pool.admin().GetKeys(pb.GetKeysRequest(), metadata=pool.operator.metadata)
    assert len(keys.roots) == 1


def test_owners_see_their_own_vehicles_and_operators_all(pool: PoolHandle) -> None:
    mine, other = FakeCar(pool, name="mine"), FakeCar(pool, name="other")
    listed = pool.account().ListVehicles(account_pb.ListVehiclesRequest(), metadata=mine.owner.metadata)
    assert [(view.label, view.state) for view in listed.vehicles] == [("mine", "enrolled")]
    refused(
        lambda: pool.account().RetireVehicle(
            account_pb.RetireVehicleRequest(vehicle_id=other.vehicle.vehicle_id), metadata=mine.owner.metadata
        ),
        ErrorCode.NOT_FOUND,
    )
    fleet = pool.admin().ListFleet(pb.ListFleetRequest(), metadata=pool.operator.metadata)
    assert {view.label for view in fleet.vehicles} == {"mine", "other"}
    none = pool.admin().ListFleet(pb.ListFleetRequest(state="retired"), metadata=pool.operator.metadata)
    assert not none.vehicles
    refused(
        lambda: pool.admin().ListFleet(pb.ListFleetRequest(state="asleep"), metadata=pool.operator.metadata),
        ErrorCode.INVALID_ARGUMENT,
    )


def test_an_operator_quarantines_and_frees_with_a_reason(pool: PoolHandle) -> None:
    car = FakeCar(pool)
    admin, metadata = pool.admin(), pool.operator.metadata

    def change(*, quarantined: bool, reason: str = "") -> str:
        request = pb.SetQuarantineRequest(
            vehicle_id=car.vehicle.vehicle_id, quarantined=quarantined, reason=reason
        )
        return str(admin.SetQuarantine(request, metadata=metadata).vehicle.state)

    refused(lambda: change(quarantined=True), ErrorCode.INVALID_ARGUMENT)
    assert change(quarantined=True, reason="odd figures") == "quarantined"
    assert car.earnings().quarantine_reason == "odd figures"
    assert change(quarantined=False) == "available"
    news = pool.account().ListEvents(account_pb.ListEventsRequest(), metadata=car.owner.metadata)
    assert [event.code for event in news.events] == ["RELEASED", "QUARANTINED", "ENROLLED"]
    assert "odd figures" in news.events[1].message


def test_an_operator_who_makes_a_second_pair_of_eyes_for_himself_is_refused(pool: PoolHandle) -> None:
    """One operator plans and approves alone, as a new operator or with a token of a colleague's."""
    second = pool.create_principal("operator", "Otto")
    for principal_id in ("", second.principal_id, pool.operator.principal_id):
        refused(
            lambda principal_id=principal_id: pool.admin().CreatePrincipal(
                pb.CreatePrincipalRequest(role="operator", name="Sock puppet", principal_id=principal_id),
                metadata=pool.operator.metadata,
            ),
            ErrorCode.FOUR_EYES,
        )
    found = pool.admin().GetOverview(pb.GetOverviewRequest(), metadata=second.metadata)
    assert found.pool_id == pool.pool_id

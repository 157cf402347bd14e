"""The demo's last part: everybody's figures are fetched, checked against each other and paid out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import grpc

from chargepool.demo import bank
from chargepool.demo.cast import Part
from chargepool.demo.journals import export_journals
from chargepool.demo.processes import DemoFailed
from chargepool.demo.world import CALL_TIMEOUT_S, PairedCar, World, new_key
from pool_protocol import receipts
from pool_protocol.keys import TrustedKeys
from pool_protocol.system import SystemClock
from pool_protocol.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    admin_service_pb2,
    admin_service_pb2_grpc,
    common_pb2,
)

RELEASE_TIMEOUT_S = 90.0


@dataclass(frozen=True, kw_only=True)
class CarAccount:
    """What one car did and what its owner got."""

    name: str
    owner_name: str
    part: Part
    state: str
    verified: int
    rejected: int
    abandoned: int
    receipts_verified: int
    net_micros: int
    paid_micros: int
    quarantine_reason: str
    watts: float
    energy_mj: int
    """As its agent told it with each attempt, paid or not."""
    electricity_micros: int | None
    """By its owner's tariff; None when no tariff was set."""

    @property
    def left_micros(self) -> int | None:
        """Net minus electricity; None when its cost is not known."""
        return None if self.electricity_micros is None else self.net_micros - self.electricity_micros


@dataclass(kw_only=True)
class Books:
    """The figures of the whole demo, and what does not hold."""

    cars: list[CarAccount]
    receipts_verified: int
    ledger_ok: bool
    ledger_sum_micros: int
    ledger_checks: int
    payout_total_micros: int
    payout_rows: int
    payout_file: bytes
    payout_id: str
    liar_story: list[str] = field(default_factory=list)
    """What `pool-server vehicles evidence` tells of the liar."""
    liar_looked_back: int = 0
    """Its earlier results that were looked at again."""
    problems: list[str] = field(default_factory=list)


def settle_and_check(world: World, keys: TrustedKeys, pool_id: str, *, say: Callable[[str], None]) -> Books:
    """Waits until held money is released, verifies every receipt, pays out, checks the books."""
    evidence = wait_for_look_back(world, world.only(Part.LIAR))
    wait_for_release(world)
    problems: list[str] = []
    cars = [account_of(world, paired, keys, pool_id, problems) for paired in world.cars]
    verified = sum(car.receipts_verified for car in cars)
    say(f"{verified} receipts verified against the pool's signed keys, offline")
    payout, file = pay_out(world, say=say)
    order = bank.read_order(file)
    in_file = sum(order.amounts_micros)
    bank.settle(world, order, say=say)
    with world.channel(world.operator_token) as channel:
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        checked = admin.CheckLedger(admin_service_pb2.CheckLedgerRequest(), timeout=CALL_TIMEOUT_S)
        clearing = admin.ListAccounts(
            admin_service_pb2.ListAccountsRequest(prefix="payout:clearing"), timeout=CALL_TIMEOUT_S
        )
    booked = sum(a.credits_posted_micros for a in clearing.accounts)
    if not in_file == booked == payout.total_micros:
        problems.append(
            f"payout file {in_file}, ledger {booked} and run {payout.total_micros} micro-units differ"
        )
    problems += [f"ledger check {c.name}: {c.detail}" for c in checked.checks if not c.ok]
    problems += export_journals(world, say=say)
    with_payout = [after_payout(world, paired, car) for paired, car in zip(world.cars, cars, strict=True)]
    return Books(
        cars=with_payout,
        receipts_verified=verified,
        ledger_ok=checked.ok,
        ledger_sum_micros=checked.sum_micros,
        ledger_checks=len(checked.checks),
        payout_total_micros=payout.total_micros,
        payout_rows=len(order.amounts_micros),
        payout_file=file,
        payout_id=payout.payout_id,
        liar_story=list(evidence.story),
        liar_looked_back=sum(item.kind == "LOOK_BACK" for item in evidence.items),
        problems=problems,
    )


def wait_for_look_back(world: World, liar: PairedCar) -> account_service_pb2.VehicleEvidence:
    """Waits until the liar's earlier results are checked; returns what the pool holds against it.

    Raises:
        DemoFailed: they were not checked in time.
    """
    deadline = time.monotonic() + RELEASE_TIMEOUT_S
    while time.monotonic() < deadline:
        with world.channel(world.operator_token) as channel:
            evidence = (
                admin_service_pb2_grpc.AdminServiceStub(channel)
                .GetEvidence(
                    admin_service_pb2.GetEvidenceRequest(vehicle_id=liar.vehicle_id), timeout=CALL_TIMEOUT_S
                )
                .evidence
            )
        if not evidence.rechecking_count:
            return evidence
        time.sleep(0.2)
    raise DemoFailed(f"{liar.car.name}'s earlier results are still being checked")


def wait_for_release(world: World) -> None:
    """Waits until no owner has money pending or held.

    Raises:
        DemoFailed: the pool did not release it in time.
    """
    deadline = time.monotonic() + RELEASE_TIMEOUT_S
    waiting: list[str] = []
    while time.monotonic() < deadline:
        waiting = [
            paired.car.name
            for paired in world.cars
            if (earnings := earnings_of(world, paired)).held_micros or earnings.pending_micros
        ]
        if not waiting:
            return
        time.sleep(0.2)
    raise DemoFailed(f"money of {', '.join(waiting)} is still held after {RELEASE_TIMEOUT_S:.0f} s")


def earnings_of(world: World, paired: PairedCar) -> account_service_pb2.GetEarningsResponse:
    """The owner's money now."""
    with world.channel(paired.owner_token) as channel:
        account = account_service_pb2_grpc.AccountServiceStub(channel)
        earnings: account_service_pb2.GetEarningsResponse = account.GetEarnings(
            account_service_pb2.GetEarningsRequest(), timeout=CALL_TIMEOUT_S
        )
        return earnings


def account_of(
    world: World, paired: PairedCar, keys: TrustedKeys, pool_id: str, problems: list[str]
) -> CarAccount:
    """One owner's figures: every receipt is verified, their sum is held against the ledger's."""
    net = count = 0
    token = ""
    with world.channel(paired.owner_token) as channel:
        account = account_service_pb2_grpc.AccountServiceStub(channel)
        vehicle = account.ListVehicles(
            account_service_pb2.ListVehiclesRequest(), timeout=CALL_TIMEOUT_S
        ).vehicles[0]
        while True:
            page = account.ListReceipts(
                account_service_pb2.ListReceiptsRequest(
                    page=common_pb2.PageRequest(page_size=500, page_token=token)
                ),
                timeout=CALL_TIMEOUT_S,
            )
            for proven in page.receipts:
                receipt = receipts.verify_receipt(
                    proven, keys=keys, now_us=SystemClock().now_us(), pool_id=pool_id
                ).receipt
                count += 1
                net += receipt.net_micros
                if receipt.owner_id != paired.owner_id or receipt.vehicle_id != paired.vehicle_id:
                    problems.append(f"{paired.car.name} was shown a receipt of another")
            token = page.next_page_token
            if not token:
                break
    earnings = earnings_of(world, paired)
    total = earnings.held_micros + earnings.available_micros + earnings.paid_micros
    if net != total:
        problems.append(f"{paired.car.name}: receipts say {net}, the ledger says {total} micro-units")
    # A task that was given up may be paid up to its last good unit.
    prefixes = count - vehicle.verified_attempts
    if not 0 <= prefixes <= vehicle.abandoned_attempts:
        problems.append(
            f"{paired.car.name}: {count} receipts for {vehicle.verified_attempts} verified attempts and "
            f"{vehicle.abandoned_attempts} given up"
        )
    energy = earnings.energy
    if vehicle.verified_attempts and energy.source != "declared":
        problems.append(f"{paired.car.name}: its energy is labelled {energy.source!r}, not declared")
    priced = energy.attempts > energy.unpriced_attempts
    if priced != bool(paired.car.tariff) and energy.attempts:
        problems.append(f"{paired.car.name}: {energy.unpriced_attempts} attempts have no cost of electricity")
    return CarAccount(
        name=paired.car.name,
        owner_name=paired.car.owner_name,
        part=paired.car.part,
        state=vehicle.state,
        verified=vehicle.verified_attempts,
        rejected=vehicle.rejected_attempts,
        abandoned=vehicle.abandoned_attempts,
        receipts_verified=count,
        net_micros=net,
        paid_micros=0,
        quarantine_reason=vehicle.quarantine_reason,
        watts=paired.car.watts,
        energy_mj=energy.energy_mj,
        electricity_micros=energy.electricity_micros if priced else None,
    )


def after_payout(world: World, paired: PairedCar, car: CarAccount) -> CarAccount:
    """The same figures with what was paid."""
    return replace(car, paid_micros=earnings_of(world, paired).paid_micros)


def pay_out(world: World, *, say: Callable[[str], None]) -> tuple[admin_service_pb2.PayoutView, bytes]:
    """Plans, approves as another operator, exports twice and compares.

    Raises:
        DemoFailed: one operator could approve alone, or the file changed between two exports.
    """
    with world.channel(world.operator_token) as first, world.channel(world.second_operator_token) as second:
        planner = admin_service_pb2_grpc.AdminServiceStub(first)
        approver = admin_service_pb2_grpc.AdminServiceStub(second)
        plan = planner.PlanPayout(
            admin_service_pb2.PlanPayoutRequest(idempotency_key=new_key()), timeout=CALL_TIMEOUT_S
        ).payout
        approval = admin_service_pb2.ApprovePayoutRequest(
            payout_id=plan.payout_id, expected_total_micros=plan.total_micros
        )
        try:
            planner.ApprovePayout(approval, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError:
            say(f"{plan.payout_id}: planned; its planner may not approve it, a second operator does")
        else:
            raise DemoFailed("the operator who planned the payout could approve it alone")
        approver.ApprovePayout(approval, timeout=CALL_TIMEOUT_S)
        request = admin_service_pb2.ExportPayoutRequest(payout_id=plan.payout_id)
        exported = approver.ExportPayout(request, timeout=CALL_TIMEOUT_S)
        again = planner.ExportPayout(request, timeout=CALL_TIMEOUT_S)
    if exported.file != again.file:
        raise DemoFailed("two exports of one payout run differ")
    return exported.payout, exported.file

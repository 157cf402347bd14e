"""The whole road to the bank and back, as owners and operators walk it: over the wire, by the commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.system import SystemClock
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_server.cli.payout_bank import EXIT_ATTENTION
from pool_server.cli.root import cli
from tests.support.bank import read_order, status_report
from tests.support.clock import ManualClock
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, PrincipalHandle, running_pool
from tui import cli as tui_cli

IBAN = "DE89370400440532013000"
#: What two tasks pay: two WU at the tests' price, less the fee.
EARNED_MICROS = 1_800_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SystemClock().now_us())


@pytest.fixture
def pool(tmp_path: Path, clock: ManualClock) -> Iterator[PoolHandle]:
    with running_pool(
        tmp_path,
        vet=vet_without_jax,
        clock=clock,
        dispute_window_s=60,
        payout_debtor_name="Chargepool Testing GmbH",
        payout_debtor_iban="DE89 3704 0044 0532 0130 00",
        payout_debtor_town="Koeln",
        payout_debtor_country="DE",
    ) as running:
        yield running


class Operator:
    """Someone at a shell with a token of their own."""

    def __init__(self, pool: PoolHandle, folder: Path, *, name: str = "") -> None:
        principal = pool.create_principal("operator", name) if name else pool.operator
        token_file = folder / f"{principal.principal_id}.token"
        token_file.write_text(principal.token)
        self._where = [
            "--address",
            pool.api_address,
            "--ca",
            str(pool.ca_file),
            "--token-file",
            str(token_file),
        ]

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(cli, [*self._where, *words])

    def says(self, *words: str, code: int = 0) -> str:
        result = self.run(*words)
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.says(*words, "--json", code=code))

    def refused(self, *words: str) -> ErrorCode:
        error = self.run(*words).exception
        assert isinstance(error, PoolError), error
        return error.code


def enrol(pool: PoolHandle, owner: PrincipalHandle, name: str) -> account_pb.SetPayoutDetailsResponse:
    details = account_pb.PayoutDetails(
        holder_name=name, iban=IBAN, threshold_micros=10_000, town="Koeln", country="DE"
    )
    answer: account_pb.SetPayoutDetailsResponse = pool.account().SetPayoutDetails(
        account_pb.SetPayoutDetailsRequest(details=details), metadata=owner.metadata
    )
    return answer


def wait_for_available(pool: PoolHandle, owner: PrincipalHandle) -> None:
    """The sweep releases held money once its window is over; the clock stands still meanwhile."""
    earnings = account_pb.GetEarningsResponse()
    for _ in range(1_000):
        earnings = pool.account().GetEarnings(account_pb.GetEarningsRequest(), metadata=owner.metadata)
        if earnings.available_micros == EARNED_MICROS:
            return
    pytest.fail(f"the money did not become available: {earnings}")


def test_the_road_to_the_bank_and_back(pool: PoolHandle, clock: ManualClock, tmp_path: Path) -> None:
    # 1. Two cars earn. One owner's name is shown as banks would read it, and confirmed; the other is silent.
    buyer = FakeBuyer.with_money(pool)
    lukasz, silent = FakeCar(pool, name="lukasz"), FakeCar(pool, name="silent")
    for car in (lukasz, silent):
        buyer.open_job([1, 2], key=f"job of {car.owner.principal_id}")
        while car.work():
            pass
    with pytest.raises(grpc.RpcError, match="Lukasz Zolc") as refusal:
        enrol(pool, lukasz.owner, "Łukasz Żółć")
    assert from_rpc_error(refusal.value).context["proposal"] == "Lukasz Zolc"
    kept = enrol(pool, lukasz.owner, "Lukasz Zolc")
    assert (kept.bank_name, kept.details.bic) == ("Commerzbank", "COBADEFFXXX")
    clock.advance(seconds=61)
    for car in (lukasz, silent):
        wait_for_available(pool, car.owner)

    # 2. One operator plans, both read the review, the other approves.
    planner, approver = Operator(pool, tmp_path), Operator(pool, tmp_path, name="Otto")
    planned = planner.says("payouts", "plan", "--key", "november")
    assert "NO_DETAILS" in planned
    assert "payouts review payout_1" in planned
    review = approver.says("payouts", "review", "payout_1")
    assert "1.80 EUR in 1 payment" in review
    assert "the owner has not said where to pay" in review
    assert approver.json("payouts", "review", "payout_1")["warnings"] == []
    total = ("--total-micros", str(EARNED_MICROS))
    assert planner.refused("payouts", "approve", "payout_1", *total) is ErrorCode.FOUR_EYES
    assert "payouts export payout_1" in approver.says("payouts", "approve", "payout_1", *total)

    # 3. The file goes to the bank; the same bytes each time.
    first, again = tmp_path / "first.xml", tmp_path / "again.xml"
    planner.says("payouts", "export", "payout_1", "--out", str(first))
    approver.says("payouts", "export", "payout_1", "--out", str(again))
    assert first.read_bytes() == again.read_bytes()
    order = read_order(first.read_bytes())
    [payment] = order.payments
    assert (payment.name, payment.town, payment.cents, order.control_cents) == (
        "Lukasz Zolc",
        "Koeln",
        180,
        180,
    )

    # 4. The bank rejects it: checked first, then booked, then the same file again.
    report = tmp_path / "status.xml"
    report.write_bytes(status_report(order, {payment.reference: ("RJCT", "AC04")}, group="PART"))
    checked = planner.json("payouts", "import-status", str(report), "--check")
    assert checked["report"]["report_id"] == 0
    assert planner.json("payouts", "show", "payout_1")["rows"][0]["state"] == "sent"
    said = planner.says("payouts", "import-status", str(report))
    assert "the account is closed (AC04)" in said
    booked = planner.json("payouts", "import-status", str(report))
    assert (booked["was_known"], booked["results"]) == (True, checked["results"])
    assert "imported before" in approver.says("payouts", "import-status", str(report))

    # 5. Another file says the opposite: refused, shown, and the command says so to scripts too.
    report.write_bytes(status_report(order, {}, group="ACSC") + b"\n")
    assert planner.json("payouts", "import-status", str(report))["results"] == []
    report.write_bytes(status_report(order, {payment.reference: ("ACSC", "")}))
    contradiction = planner.says("payouts", "import-status", str(report), code=EXIT_ATTENTION)
    assert "it is rejected; the bank now says settled" in contradiction
    report.write_text("not a report")
    assert planner.refused("payouts", "import-status", str(report)) is ErrorCode.INVALID_ARGUMENT
    assert len(planner.json("payouts", "reports")["reports"]) == 3
    assert "pain.002.001.10" in planner.says("payouts", "reports", "--limit", "1")

    # 6. Everybody sees it: the run, its payment, the owner's news and money, the books.
    shown = planner.json("payouts", "show", "payout_1")
    assert (shown["state"], shown["rail"]) == ("settled", "pain001")
    assert shown["progress"] == [{"state": "rejected", "count": 1, "micros": EARNED_MICROS}]
    assert "rejected" in planner.says("payouts", "show", "payout_1")
    assert planner.json("payouts", "list")["payouts"][0]["state"] == "settled"
    news = pool.account().ListEvents(account_pb.ListEventsRequest(), metadata=lukasz.owner.metadata)
    assert "PAYOUT_RETURNED" in {event.code for event in news.events}
    wait_for_available(pool, lukasz.owner)

    # 7. The owner leaves: only without vehicles, and then below the threshold too.
    owner_id = lukasz.owner.principal_id
    refusal_of_commands = planner.run("payouts", "close-out", owner_id).exception
    assert isinstance(refusal_of_commands, PoolError)
    assert refusal_of_commands.code is ErrorCode.INVALID_STATE
    assert lukasz.vehicle.vehicle_id in refusal_of_commands.detail
    token_file = tmp_path / "owner.token"
    token_file.write_text(lukasz.owner.token)
    where = ["--address", pool.api_address, "--ca-file", str(pool.ca_file), "--token-file", str(token_file)]
    unsure = CliRunner().invoke(tui_cli.main, [*where, "close-account"], input="n\n")
    assert "Retire lukasz, for good, and close the account?" in unsure.output
    assert unsure.exit_code != 0
    left = CliRunner().invoke(tui_cli.main, [*where, "close-account", "--yes"])
    assert "The next payout run pays 1.80 EUR." in left.output, left.output
    again = json.loads(CliRunner().invoke(tui_cli.main, [*where, "close-account", "--json"]).output)
    assert (again["owner_id"], again["asked_by"], again["closed_at_us"]) == (owner_id, owner_id, 0)
    assert "not yet" in planner.says("payouts", "close-out", owner_id)
    assert planner.json("payouts", "close-out")["close_outs"][0]["available_micros"] == EARNED_MICROS
    assert owner_id in planner.says("payouts", "close-out")
    assert planner.json("ledger", "check")["ok"] is True


def test_a_pool_without_its_own_account_pays_by_table(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax) as plain:
        operator = Operator(plain, tmp_path)

        nobody = operator.says("payouts", "plan")
        assert "Nobody can be paid now" in nobody
        assert operator.json("payouts", "list")["payouts"][0]["rail"] == "csv"
        assert operator.refused("payouts", "plan", "--rail", "pain001") is ErrorCode.INVALID_ARGUMENT
        assert operator.refused("payouts", "cancel", "payout_9") is ErrorCode.NOT_FOUND

"""What becomes of payments: exported, settled, rejected, returned, withheld; each once, and sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from benchmarks.payout_bar import Bar
from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app import payouts
from pool_server.app.bank_status import check_status, list_reports
from pool_server.app.pool_report import pool_report
from pool_server.app.statements import owner_statement
from pool_server.core.payouts.bank_report import Outcome
from pool_server.core.payouts.model import PayoutState, RailName
from pool_server.core.payouts.row_state import RowState
from pool_server.core.statement import LineKind, date_of
from pool_server.rails.bank_reports import BankReports
from pool_server.rails.pain001 import Pain001Rail
from tests.support.bank import booking, notification, read_order, status_report
from tests.support.books import TERMS
from tests.support.payout_road import (
    DEBTOR,
    OTHER_IBAN,
    A,
    B,
    C,
    Road,
    net,
    road_with_owners,
    whole_cents,
)


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return road_with_owners(tmp_path / "pool.sqlite3")


@pytest.mark.usefixtures("on_both_databases")
def test_what_the_bank_settles_leaves_and_what_it_rejects_comes_back_once_with_the_reason(road: Road) -> None:
    # 1. Three owners are sent their money.
    road.earn_and_enrol({A: 5_000_000, B: 6_000_000, C: 7_000_000})
    order = road.send()
    refs = {payment.name: payment.reference for payment in order.payments}
    assert len(refs) == 1  # all are called Ada: only references tell them apart
    one, two, three = (payment.reference for payment in order.payments)
    assert set(road.states().values()) == {RowState.SENT}

    # 2. The bank rejects one, settles one and says nothing of the third: a partial report.
    first = status_report(order, {one: ("RJCT", "AC04"), two: ("ACSC", "")}, group="PART")
    before = road.balances()
    answer = road.take(first)
    assert [result.outcome for result in answer.results] == [Outcome.APPLIED, Outcome.APPLIED]
    assert road.states() == {A: RowState.REJECTED, B: RowState.SETTLED, C: RowState.SENT}
    amounts = {row.owner_id: row.amount_micros for row in road.view().rows}
    after = road.balances()
    assert after[f"owner:{A}:available"] - before.get(f"owner:{A}:available", 0) == amounts[A]
    assert after["bank:main"] - before["bank:main"] == amounts[B]
    assert after["payout:clearing"] == amounts[C]
    assert road.view().word() == "exported"
    road.assert_sound()

    # 3. The same bytes again, and the same news under another name: nothing moves.
    again = road.take(first, name="again.xml")
    assert (again.was_known, again.results, again.report) == (True, answer.results, answer.report)
    repeated = road.take(status_report(order, {one: ("RJCT", "AC04"), two: ("ACSC", "")}))
    assert {result.outcome for result in repeated.results} == {Outcome.REPEATED}
    assert road.balances() == after

    # 4. The opposite is refused and shown; what else stands in the same file is booked.
    mixed = road.take(status_report(order, {one: ("ACSC", ""), two: ("RJCT", "AC01"), three: ("ACSC", "")}))
    assert [result.outcome for result in mixed.results] == [
        Outcome.CONTRADICTS,
        Outcome.CONTRADICTS,
        Outcome.APPLIED,
    ]
    assert road.states() == {A: RowState.REJECTED, B: RowState.SETTLED, C: RowState.SETTLED}
    assert road.view().word() == "settled"
    assert road.run(payouts.listed_payouts)[0].word == "settled"
    assert "payout:clearing" not in road.balances()

    # 5. A settled payment comes back days later: from the bank, to its owner.
    payment_of_c = next(payment for payment in order.payments if payment.reference == three)
    back = road.take(notification([booking([payment_of_c], direction="CRDT", code="MD07")]))
    assert [result.outcome for result in back.results] == [Outcome.APPLIED]
    assert road.states()[C] is RowState.RETURNED
    assert road.balances()["bank:main"] == before["bank:main"] + amounts[B]
    assert road.balances()[f"owner:{C}:available"] == net(7_000_000)

    # 6. Owners are told why; what they are shown as paid is what they were paid.
    assert road.news(A)["PAYOUT_RETURNED"].startswith(
        "4.75 EUR came back from the bank: the account is closed"
    )
    assert "has died (MD07)" in road.news(C)["PAYOUT_RETURNED"]
    assert road.news(B)["PAYOUT_SETTLED"] == "The bank has paid 5.70 EUR."
    for owner, paid in ((A, 0), (B, amounts[B]), (C, 0)):
        assert road.paid(owner) == paid
    report = road.run(lambda uow: pool_report(uow, month="", now_us=road.now_us))
    assert {line.owner_id: line.paid_micros for line in report.owners} == {A: 0, B: amounts[B], C: 0}
    month = date_of(road.now_us)[:7]
    statement = road.run(lambda uow: owner_statement(uow, owner_id=A, month=month))
    assert [line.kind for line in statement.lines][-2:] == [LineKind.PAYOUT, LineKind.PAYOUT_RETURNED]
    assert statement.closing_micros == net(5_000_000)

    # 7. The next run pays them again; the books are sound throughout.
    assert {row.owner_id for row in road.plan("two").rows} == {A, C}
    assert len(road.run(lambda uow: list_reports(uow, limit=10))) == 4
    road.assert_sound()


def test_checking_a_report_says_the_same_and_changes_nothing(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000})
    order = road.send()
    content = status_report(order, {}, group="RJCT")
    before = road.balances()

    report = BankReports().read(content)
    checked = road.run(lambda uow: check_status(uow, report=report, content=content, file_name="x"))

    assert road.balances() == before
    assert road.take(content).results == checked.results
    assert road.states() == {A: RowState.REJECTED}


def test_a_report_of_another_pool_or_amount_moves_nothing(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000})
    order = road.send()
    [payment] = order.payments
    before = road.balances()

    for content in (
        status_report(order, {payment.reference: ("RJCT", "AC04")}, message="CP-00000000-1"),
        status_report(order, {"CP-00000000-1-1": ("RJCT", "AC04")}),
        notification([booking([replace(payment, amount="4.76")])]),
        notification([booking([replace(payment, block="CP-00000000-1-B1-1")], with_details=False)]),
    ):
        answer = road.take(content)
        assert {r.outcome for r in answer.results} <= {Outcome.UNKNOWN, Outcome.AMOUNT_DIFFERS}

    assert road.balances() == before
    road.assert_sound()


def test_a_report_on_a_run_that_was_never_sent_is_unknown(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000})
    [row] = road.approve(road.plan()).rows
    content = f"reference,status,amount,currency,reason\n{row.reference},settled,4.75,EUR,\n".encode()

    [result] = road.take(content).results

    assert result.outcome is Outcome.UNKNOWN
    assert road.states() == {A: RowState.APPROVED}


def test_a_file_that_never_went_to_the_bank_is_taken_back_in_one_line(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000, B: 6_000_000})
    order = road.send()
    before = road.balances()

    def table(amount: str) -> bytes:
        header = "reference,status,amount,currency,reason"
        return f"{header}\n{order.message},rejected,{amount},EUR,the file was not uploaded\n".encode()

    assert {result.outcome for result in road.take(table("10.44")).results} == {Outcome.AMOUNT_DIFFERS}
    assert road.balances() == before
    answer = road.take(table("10.45"))

    assert [result.outcome for result in answer.results] == [Outcome.APPLIED, Outcome.APPLIED]
    assert "payout:clearing" not in road.balances()
    assert "the file was not uploaded" in road.news(A)["PAYOUT_RETURNED"]
    road.plan("two")
    [again] = [warning for warning in road.review(2).review.warnings if "came back" in warning]
    assert again == f"2 owners whose last payments came back are paid to the same account again: {A}, {B}."
    road.assert_sound()


def test_a_block_is_settled_by_one_booking(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000, B: 6_000_000})
    order = road.send()

    answer = road.take(notification([booking(order.payments, with_details=False)]))

    assert [result.outcome for result in answer.results] == [Outcome.APPLIED, Outcome.APPLIED]
    assert road.view().word() == "settled"
    road.assert_sound()


def test_whoever_changes_the_account_after_planning_is_withheld_and_stops_nobody(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000, B: 6_000_000})
    planned = road.plan()
    road.enrol(A, iban=OTHER_IBAN)

    approved = road.approve(planned)

    assert {row.owner_id: approved.state_of(row) for row in approved.rows} == {
        A: RowState.WITHHELD,
        B: RowState.APPROVED,
    }
    assert road.balances()["payout:clearing"] == whole_cents(net(6_000_000))
    assert "changed after the run was planned" in road.news(A)["PAYOUT_WITHHELD"]
    file, exported = road.run(
        lambda uow: payouts.export_payout(
            uow,
            payout_id=1,
            operator_id="operator_a",
            rail=Pain001Rail(pool_id=TERMS.pool_id, debtor=DEBTOR),
            now_us=road.now_us,
        )
    )
    order = read_order(file.content)
    assert order.control_cents * 10_000 == road.balances()["payout:clearing"]
    assert len(order.payments) == 1
    # The bank cannot settle what it was not sent, and the run is done without it.
    assert exported.state_of(exported.rows[0]) is RowState.WITHHELD
    road.take(status_report(order, {}, group="ACSC"))
    assert road.view().word() == "settled"
    assert {row.iban for row in road.plan("two").rows} == {OTHER_IBAN}
    road.assert_sound()


def test_a_run_whose_owners_all_changed_is_planned_again(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000})
    planned = road.plan()
    road.enrol(A, town="Bonn")

    with pytest.raises(PoolError) as refused:
        road.approve(planned)

    assert refused.value.code is ErrorCode.CONFLICT
    assert "payout:clearing" not in road.balances()


def test_a_run_that_pays_nobody_is_closed_at_once_and_blocks_nothing(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000})
    road.sql(f"UPDATE payout_details SET town = '' WHERE owner_id = '{A}'")

    first = road.plan()

    assert (first.run.state, first.rows) == (PayoutState.CANCELLED, ())
    assert [row.reason for row in first.quarantined] == ["ADDRESS_MISSING"]
    assert road.plan() == first
    assert "town and country are missing" in road.news(A)["PAYOUT_LEFT_OUT"]
    road.enrol(A)
    assert road.plan("two").run.state is PayoutState.PLANNED
    road.assert_sound()


def test_the_rail_of_a_run_is_fixed_when_it_is_planned(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000})
    road.plan()

    with pytest.raises(PoolError) as refused:
        road.run(
            lambda uow: payouts.plan_payout(
                uow, operator_id="operator_a", idempotency_key="one", now_us=road.now_us, rail=RailName.CSV
            )
        )
    assert refused.value.code is ErrorCode.EXISTS_WITH_DIFFERENT
    with pytest.raises(IntegrityError, match="figures are immutable"):
        road.sql("UPDATE payout_runs SET rail = 'csv'")


@pytest.mark.parametrize("table", ["payout_steps", "bank_reports", "bank_report_results"])
def test_what_the_bank_said_stays_as_it_was_written(road: Road, table: str) -> None:
    road.earn_and_enrol({A: 5_000_000})
    road.take(status_report(road.send(), {}, group="RJCT"))

    for act in (f"DELETE FROM {table}", f"UPDATE {table} SET report_id = report_id"):
        with pytest.raises(IntegrityError, match="rows are immutable"):
            road.sql(act)


@pytest.mark.usefixtures("on_both_databases")
def test_the_database_itself_lets_money_come_back_once(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000})
    road.take(status_report(road.send(), {}, group="RJCT"))

    for state in ("rejected", "returned", "settled", "withheld"):
        with pytest.raises(IntegrityError, match=r"(?i)unique"):
            road.sql(
                "INSERT INTO payout_steps SELECT 99, payout_id, owner_id, "
                f"'{state}', from_state, amount_micros, reason_code, reason_text, report_id, at_us "
                "FROM payout_steps"
            )


def test_steps_that_the_books_do_not_know_are_found(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000, B: 6_000_000})
    road.send()
    road.sql(
        f"INSERT INTO payout_steps VALUES (99, 1, '{A}', 'settled', 'sent', 4750000, '', '', 0, 1)",
    )

    failed = {check.name for check in road.check().checks if not check.ok}

    assert failed == {"payout_steps_match_ledger"}


def test_hostile_names_and_bad_rows_on_a_small_scale(tmp_path: Path) -> None:
    """`python -m benchmarks.payout_bar` is the same with ten thousand owners."""
    bar = Bar(tmp_path, owners=120, bad=24, rejected=7)

    bar.run()

    assert len(bar.lines) == 10

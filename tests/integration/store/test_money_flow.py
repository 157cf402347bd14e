"""Money from the bank to the bank: deposit, job, leases, verified work, dispute window, payout, file."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from pool_protocol.digests import verify_inclusion
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import DAY_US
from pool_server.app import payouts
from pool_server.app.earnings import (
    buyer_balance,
    list_accounts,
    owner_earnings,
    pool_totals,
    release_held,
    vehicle_earnings,
)
from pool_server.app.ledger_check import check_ledger
from pool_server.app.money import job_free_micros, job_money, release_job, void_attempts
from pool_server.app.pool_report import pool_report
from pool_server.app.pricing import posted_price, set_posted_price
from pool_server.app.receipts import ReceiptPage, list_receipts, receipts_of_attempts
from pool_server.app.statements import owner_statement
from pool_server.core.payouts.model import LeftOut, PayoutDetails, PayoutState
from pool_server.core.settlement import Payer
from pool_server.core.statement import LineKind, date_of
from pool_server.rails.csv_file import CsvRail, total_micros
from tests.support.books import TERMS, Books, settlement
from tests.support.payees import DETAILS

pytestmark = pytest.mark.usefixtures("on_both_databases")


@pytest.fixture
def books(tmp_path: Path) -> Books:
    books = Books(tmp_path / "pool.sqlite3")
    books.deposit(100_000_000)
    books.reserve(1, 50_000_000)
    return books


def release(books: Books) -> int:
    return books.run(lambda uow: release_held(uow, now_us=books.now_us))


def pay_details(books: Books, owner_id: str, details: PayoutDetails = DETAILS) -> None:
    books.run(
        lambda uow: payouts.set_payout_details(uow, owner_id=owner_id, details=details, now_us=books.now_us)
    )


def plan(books: Books, *, key: str = "run-1", operator_id: str = "operator_a") -> payouts.PayoutView:
    return books.run(
        lambda uow: payouts.plan_payout(
            uow, operator_id=operator_id, idempotency_key=key, now_us=books.now_us
        )
    )


def approve(books: Books, view: payouts.PayoutView, *, operator_id: str = "operator_b") -> payouts.PayoutView:
    return books.run(
        lambda uow: payouts.approve_payout(
            uow,
            payout_id=view.run.payout_id,
            operator_id=operator_id,
            expected_total_micros=view.run.total_micros,
            now_us=books.now_us,
        )
    )


def export(books: Books, view: payouts.PayoutView) -> tuple[bytes, payouts.PayoutView]:
    file, exported = books.run(
        lambda uow: payouts.export_payout(
            uow,
            payout_id=view.run.payout_id,
            operator_id="operator_a",
            rail=CsvRail(),
            now_us=books.now_us,
        )
    )
    return file.content, exported


def cancel(books: Books, view: payouts.PayoutView) -> payouts.PayoutView:
    return books.run(
        lambda uow: payouts.cancel_payout(
            uow, payout_id=view.run.payout_id, operator_id="operator_a", now_us=books.now_us
        )
    )


def test_money_from_the_bank_to_the_bank(books: Books) -> None:
    # 1. Two owners work; one attempt is rejected, one is the pool's own audit.
    books.earn("owner_a", [1_000_000, 2_345_678], first_attempt=1)
    books.earn("owner_b", [7_000_001], first_attempt=3)
    [rejected] = books.fund([4], owner_id="owner_b", amount_micros=500_000)
    books.run(lambda uow: void_attempts(uow, [rejected], now_us=books.now_us))
    [audit] = books.fund([5], owner_id="owner_a", amount_micros=1_000_000, payer=Payer.VERIFICATION)
    books.settle([settlement(5, audit, gross_micros=1_000_000)])
    gross = 1_000_000 + 2_345_678 + 7_000_001 + 1_000_000
    fees = 50_000 + 117_283 + 350_000 + 50_000

    totals = books.run(pool_totals)
    assert totals.held_micros == gross - fees
    assert (totals.fees_micros, totals.verification_cost_micros) == (fees, 1_000_000)
    assert totals.bank_micros == 100_000_000
    assert totals.escrow_micros == 50_000_000 - (gross - 1_000_000)

    # 2. Inside the dispute window nothing moves; behind it everything does, once.
    assert release(books) == 0
    books.now_us += TERMS.dispute_window_us
    assert release(books) == gross - fees
    assert release(books) == 0
    books.assert_sound()

    # 3. One owner can be paid.
    pay_details(books, "owner_a")
    planned = plan(books)
    available_a = 1_000_000 + 2_345_678 + 1_000_000 - 50_000 - 117_283 - 50_000
    assert [(row.owner_id, row.amount_micros) for row in planned.rows] == [
        ("owner_a", available_a // 10_000 * 10_000)
    ]
    assert [(row.owner_id, row.reason) for row in planned.quarantined] == [("owner_b", LeftOut.NO_DETAILS)]
    books.assert_sound()

    # 4. Approved by another operator, exported, and exported again.
    approved = approve(books, planned)
    assert books.balances()["payout:clearing"] == planned.run.total_micros
    content, exported = export(books, approved)
    books.now_us += 5
    assert export(books, approved)[0] == content
    assert exported.run.state is PayoutState.EXPORTED
    assert exported.run.file_sha256 == hashlib.sha256(content).hexdigest()
    assert total_micros(content) == planned.run.total_micros == books.balances()["payout:clearing"]
    books.assert_sound()

    # 5. The job ends; the buyer has the rest; the owner sees it all.
    books.run(lambda uow: release_job(uow, buyer_id="buyer_b", job_id=1, now_us=books.now_us))
    balance = books.run(lambda uow: buyer_balance(uow, buyer_id="buyer_b"))
    assert (balance.escrow_micros, balance.spent_micros) == (0, gross - 1_000_000)
    assert balance.available_micros == 100_000_000 - balance.spent_micros
    earnings = books.run(lambda uow: owner_earnings(uow, owner_id="owner_a", now_us=books.now_us))
    assert earnings.paid_micros == planned.run.total_micros
    assert earnings.available_micros == available_a % 10_000
    [(run, row)] = books.run(lambda uow: uow.payouts.paid_rows("owner_a", limit=10))
    assert (run.payout_id, row) == (planned.run.payout_id, planned.rows[0])
    assert books.run(lambda uow: uow.payouts.paid_rows("owner_b", limit=10)) == []
    books.assert_sound()

    # 6. The operator's report of the month and of all time says who paid what; an earlier month is empty.
    month = date_of(books.now_us)[:7]
    for period in (month, ""):
        report = books.run(lambda uow: pool_report(uow, month=period, now_us=books.now_us))  # noqa: B023 - at once
        assert (report.buyers_spent_micros, report.verification_cost_micros) == (gross - 1_000_000, 1_000_000)
        assert (report.total.gross_micros, report.total.fee_micros) == (gross, fees)
        assert [line.owner_id for line in report.owners] == ["owner_a", "owner_b"]
        assert report.owners[0].paid_micros == report.total.paid_micros == planned.run.total_micros
        assert report.total.available_micros == available_a % 10_000 + 7_000_001 - 350_000
    before = books.run(lambda uow: pool_report(uow, month="1999-12", now_us=books.now_us))
    assert (before.total.gross_micros, before.buyers_spent_micros, before.total.paid_micros) == (0, 0, 0)


def test_held_money_is_released_in_the_order_of_verification(books: Books) -> None:
    books.earn("owner_a", [1_000], first_attempt=1)
    books.now_us += 600_000
    books.earn("owner_a", [2_000], first_attempt=2)
    books.earn("owner_b", [4_000], first_attempt=3)

    books.now_us += 400_000
    assert release(books) == 950
    earnings = books.run(lambda uow: owner_earnings(uow, owner_id="owner_a", now_us=books.now_us))
    assert (earnings.held_micros, earnings.available_micros) == (1_900, 950)
    assert earnings.next_release_us == books.now_us + 600_000
    books.assert_sound()
    books.now_us += 600_000
    assert release(books) == 1_900 + 3_800
    books.assert_sound()


def test_a_clock_that_is_set_back_strands_no_money(tmp_path: Path) -> None:
    books = Books(tmp_path / "pool.sqlite3", terms=replace(TERMS, dispute_window_us=0))
    books.deposit(1_000_000)
    books.reserve(1, 500_000)
    books.earn("owner_a", [1_000], first_attempt=1)
    assert release(books) == 950

    books.now_us -= 10 * DAY_US
    books.earn("owner_a", [1_000], first_attempt=2)
    books.assert_sound()
    books.now_us += 20 * DAY_US

    assert release(books) == 950
    books.assert_sound()


def test_planning_again_with_the_same_key_is_the_same_run(books: Books) -> None:
    first = payable(books)

    assert plan(books) == first
    with pytest.raises(PoolError) as refusal:
        plan(books, operator_id="operator_b")
    assert refusal.value.code is ErrorCode.EXISTS_WITH_DIFFERENT
    with pytest.raises(PoolError) as refusal:
        plan(books, key="run-2")
    assert refusal.value.code is ErrorCode.PAYOUT_STATE
    cancel(books, first)
    assert plan(books, key="run-2").run.payout_id == 2


def payable(books: Books) -> payouts.PayoutView:
    books.earn("owner_a", [5_000_000], first_attempt=1)
    books.now_us += TERMS.dispute_window_us
    release(books)
    pay_details(books, "owner_a")
    return plan(books)


def test_the_planner_cannot_approve_and_nothing_is_booked(books: Books) -> None:
    view = payable(books)

    with pytest.raises(PoolError) as refusal:
        approve(books, view, operator_id="operator_a")

    assert refusal.value.code is ErrorCode.FOUR_EYES
    assert "payout:clearing" not in books.balances()


def test_a_total_that_nobody_saw_is_not_approved(books: Books) -> None:
    view = payable(books)
    seen = replace(view, run=replace(view.run, total_micros=view.run.total_micros + 10_000))

    with pytest.raises(PoolError) as refusal:
        approve(books, seen)

    assert refusal.value.code is ErrorCode.CONFLICT


def test_details_that_changed_since_the_review_are_not_paid(books: Books) -> None:
    view = payable(books)
    pay_details(books, "owner_a", replace(DETAILS, iban="GB29NWBK60161331926819"))

    with pytest.raises(PoolError) as refusal:
        approve(books, view)

    assert refusal.value.code is ErrorCode.CONFLICT
    assert refusal.value.context["owner_id"] == "owner_a"
    assert "payout:clearing" not in books.balances()


def test_approving_twice_books_once(books: Books) -> None:
    view = payable(books)
    approved = approve(books, view)

    assert approve(books, view) == approved
    with pytest.raises(PoolError) as refusal:
        approve(books, view, operator_id="operator_c")
    assert refusal.value.code is ErrorCode.PAYOUT_STATE
    assert books.balances()["payout:clearing"] == view.run.total_micros
    books.assert_sound()


def test_an_approved_run_is_not_cancelled_and_a_cancelled_one_not_approved(books: Books) -> None:
    view = payable(books)
    assert cancel(books, view).run.state is PayoutState.CANCELLED
    assert cancel(books, view).run.state is PayoutState.CANCELLED
    for act in (lambda: approve(books, view), lambda: export(books, view)):
        with pytest.raises(PoolError) as refusal:
            act()
        assert refusal.value.code is ErrorCode.PAYOUT_STATE

    again = approve(books, plan(books, key="run-2"))
    with pytest.raises(PoolError) as refusal:
        cancel(books, again)

    assert refusal.value.code is ErrorCode.PAYOUT_STATE
    books.assert_sound()


def test_a_planned_run_has_no_file_and_an_unknown_one_is_not_found(books: Books) -> None:
    view = payable(books)
    with pytest.raises(PoolError) as refusal:
        export(books, view)
    assert refusal.value.code is ErrorCode.PAYOUT_STATE

    with pytest.raises(PoolError) as refusal:
        books.run(lambda uow: payouts.get_payout(uow, payout_id=99))
    assert refusal.value.code is ErrorCode.NOT_FOUND
    assert books.run(payouts.list_payouts)[0] == view.run


@pytest.mark.parametrize(
    "text", ["", "payout_", "payout_0", "payout_01", "payout_x", "3", "payout_-1", "payout_٣"]
)
def test_what_is_not_a_payout_id_is_refused(text: str) -> None:
    with pytest.raises(PoolError) as refusal:
        payouts.parse_payout_id(text)

    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    assert payouts.parse_payout_id("payout_12") == 12


def receipt_page(books: Books, token: str) -> ReceiptPage:
    return books.run(lambda uow: list_receipts(uow, owner_id="owner_a", page_size=2, page_token=token))


def test_receipts_come_newest_first_in_pages_and_prove_their_place(books: Books) -> None:
    pending_ids = books.fund([1, 2, 3])
    books.settle([settlement(n, pending_ids[n - 1]) for n in (1, 2, 3)])
    [other] = books.fund([4])
    books.settle([settlement(4, other, vehicle_id="vehicle_w")])

    pages = [receipt_page(books, "")]
    while pages[-1].next_page_token:
        pages.append(receipt_page(books, pages[-1].next_page_token))

    proven = [receipt for page in pages for receipt in page.receipts]
    assert [receipt.attempt_id for receipt in proven] == [4, 3, 2, 1]
    for receipt in proven:
        verify_inclusion(
            receipt.receipt,
            leaf_index=receipt.leaf_index,
            leaf_count=1 if receipt.attempt_id == 4 else 3,
            inclusion_path=receipt.inclusion_path,
            root=receipt.signed_batch[-32:],
        )
    of_w = books.run(lambda uow: list_receipts(uow, owner_id="owner_a", vehicle_id="vehicle_w"))
    assert [receipt.attempt_id for receipt in of_w.receipts] == [4]
    assert books.run(lambda uow: list_receipts(uow, owner_id="owner_b")).receipts == ()
    by_attempt = books.run(lambda uow: receipts_of_attempts(uow, [2, 99]))
    assert list(by_attempt) == [2]
    assert by_attempt[2] == proven[2]
    with pytest.raises(PoolError) as refusal:
        books.run(lambda uow: list_receipts(uow, owner_id="owner_a", page_token="x' OR 1"))
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_statement_follows_the_ledger_over_months(books: Books) -> None:
    view = payable(books)  # 2026-01-01
    approve(books, view)
    january = books.run(lambda uow: owner_statement(uow, owner_id="owner_a", month="2026-01"))
    assert [line.kind for line in january.lines] == [LineKind.WORK, LineKind.RELEASE, LineKind.PAYOUT]
    assert january.opening_micros == 0
    assert january.closing_micros == books.balances().get("owner:owner_a:available", 0)

    books.now_us += 31 * DAY_US
    books.earn("owner_a", [40_001], first_attempt=2)
    books.now_us += TERMS.dispute_window_us
    release(books)
    february = books.run(lambda uow: owner_statement(uow, owner_id="owner_a", month="2026-02"))

    assert february.opening_micros == january.closing_micros
    assert [line.net_micros for line in february.lines] == [38_001, 38_001]
    assert february.lines[0].reference == "attempt_2"
    assert february.closing_micros == books.balances()["owner:owner_a:available"]
    nobody = books.run(lambda uow: owner_statement(uow, owner_id="owner_z", month="2026-02"))
    assert (nobody.lines, nobody.closing_micros) == ((), 0)


def test_daily_earnings_end_today_and_show_empty_days(books: Books) -> None:
    books.earn("owner_a", [1_000, 1_000], first_attempt=1)
    books.now_us += 2 * DAY_US
    books.earn("owner_a", [3_000], first_attempt=3)
    [pending_id] = books.fund([4], amount_micros=70)

    earnings = books.run(lambda uow: owner_earnings(uow, owner_id="owner_a", days=3, now_us=books.now_us))

    assert [(day.date, day.net_micros, day.verified_attempts) for day in earnings.days] == [
        ("2026-01-01", 1_900, 2),
        ("2026-01-02", 0, 0),
        ("2026-01-03", 2_850, 1),
    ]
    assert pending_id
    assert earnings.pending_micros == 70
    assert (earnings.gross_micros, earnings.fee_micros) == (5_000, 250)
    vehicle = books.run(lambda uow: vehicle_earnings(uow, owner_id="owner_a", vehicle_id="vehicle_v"))
    assert (vehicle.verified_attempts, vehicle.net_micros) == (3, 4_750)
    with pytest.raises(PoolError) as refusal:
        books.run(lambda uow: owner_earnings(uow, owner_id="owner_a", days=91, now_us=books.now_us))
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_schedule_names_the_next_payout(tmp_path: Path) -> None:
    books = Books(tmp_path / "pool.sqlite3", terms=replace(TERMS, payout_schedule_us=7 * DAY_US))

    earnings = books.run(lambda uow: owner_earnings(uow, owner_id="owner_a", now_us=books.now_us))

    assert earnings.next_payout_us > books.now_us
    assert earnings.next_payout_us % (7 * DAY_US) == 0
    assert earnings.next_payout_us - books.now_us <= 7 * DAY_US


def test_a_jobs_money_is_free_promised_or_spent(books: Books) -> None:
    books.earn("owner_a", [1_000], first_attempt=1)
    books.fund([2], amount_micros=300)

    money = books.run(lambda uow: job_money(uow, [1, 2]))

    assert (money[1].free_micros, money[1].pending_micros, money[1].spent_micros) == (49_998_700, 300, 1_000)
    assert money[1].escrow_micros == 49_999_000
    assert (money[2].free_micros, money[2].spent_micros) == (0, 0)
    assert books.run(lambda uow: job_free_micros(uow, 1)) == 49_998_700
    books.run(lambda uow: release_job(uow, buyer_id="buyer_b", job_id=1, now_us=books.now_us))
    assert books.run(lambda uow: job_free_micros(uow, 1)) == 0
    assert books.run(lambda uow: job_money(uow, [1]))[1].spent_micros == 1_000


def test_the_posted_price_is_the_configured_one_until_an_operator_sets_another(books: Books) -> None:
    assert books.run(posted_price) == TERMS.posted_price_micros_per_wu
    for value in (7, 0, 9):
        set_price(books, value)
        assert books.run(posted_price) == value
    with pytest.raises(PoolError) as refusal:
        set_price(books, -1)
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def set_price(books: Books, value: int) -> None:
    books.run(
        lambda uow: set_posted_price(
            uow, price_micros_per_wu=value, operator_id="operator_a", now_us=books.now_us
        )
    )


def test_accounts_are_listed_by_prefix_taken_literally(books: Books) -> None:
    names = [account.name for account in books.run(lambda uow: list_accounts(uow, prefix="job:"))]

    assert names == ["job:1:escrow"]
    assert books.run(lambda uow: list_accounts(uow, prefix="job_")) == []
    assert books.run(lambda uow: list_accounts(uow, prefix="%")) == []


def test_empty_books_are_sound(tmp_path: Path) -> None:
    report = Books(tmp_path / "pool.sqlite3").run(check_ledger)

    assert report.ok
    assert (report.transfer_count, report.sum_micros) == (0, 0)


def test_a_month_with_too_many_lines_is_summed_by_day_and_vehicle(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.earn("owner_a", [1_000, 3_000], first_attempt=1)
    books.now_us += DAY_US
    books.earn("owner_a", [5_000], first_attempt=3)
    monkeypatch.setattr("pool_server.app.statements.WORK_LINES_MAX", 2)

    statement = books.run(lambda uow: owner_statement(uow, owner_id="owner_a", month="2026-01"))

    assert [(line.reference, line.gross_micros, line.net_micros) for line in statement.lines] == [
        ("2026-01-01 vehicle_v", 4_000, 3_800),
        ("2026-01-02 vehicle_v", 5_000, 4_750),
    ]


@pytest.mark.parametrize("reference", ["", "x" * 81, "line\nbreak"])
def test_a_deposits_reference_is_a_short_line(books: Books, reference: str) -> None:
    with pytest.raises(PoolError) as refusal:
        books.deposit(5, reference=reference)

    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("amount_micros", [0, -1, 2**63])
def test_a_deposit_has_an_amount(books: Books, amount_micros: int) -> None:
    with pytest.raises(PoolError) as refusal:
        books.deposit(amount_micros, reference="r")

    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_free_job_reserves_nothing_and_ends_like_any_other(books: Books) -> None:
    books.reserve(5, 0)

    assert books.run(lambda uow: release_job(uow, buyer_id="buyer_b", job_id=5, now_us=books.now_us)) == 0
    assert books.run(lambda uow: release_job(uow, buyer_id="buyer_b", job_id=6, now_us=books.now_us)) == 0
    books.assert_sound()


def test_attempts_are_voided_as_rejected_or_expired_only(books: Books) -> None:
    [pending_id] = books.fund([1])

    with pytest.raises(PoolError) as refusal:
        books.run(lambda uow: void_attempts(uow, [pending_id], code=310, now_us=books.now_us))

    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    books.run(lambda uow: void_attempts(uow, [0, pending_id], now_us=books.now_us))
    books.assert_sound()

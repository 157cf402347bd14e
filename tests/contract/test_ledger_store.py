"""What the schema itself promises about the books, whatever the code above it does."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.app.books import transfer
from pool_server.app.money import (
    expire_pending,
    fund_attempts,
    release_job,
    reserve_job,
    settle_attempts,
    void_attempts,
)
from pool_server.core.ledger.model import TransferCode, TransferRequest, TransferRow
from pool_server.core.settlement import AttemptFunding, Payer
from pool_server.ports.money import DayRow, ReceiptBatch, ReceiptRow
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support.books import NEVER_US, Books, settlement
from tests.support.databases import intrude

pytestmark = pytest.mark.usefixtures("on_both_databases")


@pytest.fixture
def books(tmp_path: Path) -> Books:
    books = Books(tmp_path / "pool.sqlite3")
    books.deposit(1_000_000)
    books.reserve(1, 500_000)
    return books


@pytest.fixture
def settled(books: Books) -> Books:
    [pending_id] = books.fund([1])
    books.settle([settlement(1, pending_id)])
    return books


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transfers SET amount_micros = amount_micros + 1",
        "UPDATE transfers SET chain_hash = zeroblob(32) WHERE transfer_id = 1",
        "DELETE FROM transfers WHERE transfer_id = (SELECT MAX(transfer_id) FROM transfers)",
        (
            "INSERT INTO transfers SELECT * FROM transfers WHERE transfer_id = 1 "
            "ON CONFLICT (transfer_id) DO UPDATE SET amount_micros = 7"
        ),
        "UPDATE receipts SET net_micros = net_micros + 1, gross_micros = gross_micros + 1",
        "DELETE FROM receipts",
        "UPDATE receipt_batches SET merkle_root = zeroblob(32)",
        "DELETE FROM receipt_batches",
        (
            "INSERT INTO receipts SELECT * FROM receipts WHERE receipt_id = 1 "
            "ON CONFLICT (receipt_id) DO UPDATE SET net_micros = 7"
        ),
        "UPDATE idempotency_keys SET transfer_id = 2",
        "DELETE FROM idempotency_keys",
        "DELETE FROM accounts",
        "UPDATE accounts SET debits_must_not_exceed_credits = 0",
        "UPDATE accounts SET name = 'owner:thief:available' WHERE code = 4",
        "UPDATE accounts SET debits_posted = debits_posted + 2000000 WHERE name = 'buyer:buyer_b:available'",
        "UPDATE accounts SET debits_pending = 2000000 WHERE name = 'job:1:escrow'",
        "UPDATE accounts SET credits_pending = -1",
        "UPDATE accounts SET state = 2 WHERE name = 'job:1:escrow'",
    ],
)
def test_the_schema_refuses_what_would_rewrite_the_books(settled: Books, statement: str) -> None:
    before = settled.balances()

    with pytest.raises(IntegrityError):
        settled.sql(statement)

    assert settled.balances() == before
    settled.assert_sound()


#: What each database has that would pass by the triggers of rows.
_WAYS_AROUND = {
    "sqlite": (
        "INSERT OR REPLACE INTO transfers SELECT * FROM transfers WHERE transfer_id = 1",
        "INSERT OR REPLACE INTO receipts SELECT * FROM receipts",
    ),
    "postgresql": ("TRUNCATE transfers CASCADE", "TRUNCATE receipts"),
}


def test_a_database_has_no_way_around_its_triggers(settled: Books, on_both_databases: str) -> None:
    before = settled.balances()

    for statement in _WAYS_AROUND[on_both_databases]:
        with pytest.raises(IntegrityError, match="rows are immutable"):
            settled.sql(statement)

    assert settled.balances() == before
    settled.assert_sound()


def test_an_account_never_opens_again(books: Books) -> None:
    books.run(lambda uow: release_job(uow, buyer_id="buyer_b", job_id=1, now_us=books.now_us))

    with pytest.raises(IntegrityError, match="only goes forward"):
        books.sql("UPDATE accounts SET state = 0 WHERE name = 'job:1:escrow'")


def forged(books: Books, **changes: Any) -> TransferRow:
    last = books.run(lambda uow: list(uow.ledger.all_transfers())[-1])
    row = TransferRow(last.transfer_id + 1, 0, 100, 1, 2, 5, None, 0, 0, None, 9, b"", bytes(32))
    return row._replace(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"transfer_id": 1},
        {"kind": 4},
        {"amount_micros": 0},
        {"amount_micros": -1},
        {"credit_account_id": 1},
        {"credit_account_id": 999},
        {"pending_id": 3},
        {"kind": 2},
        {"kind": 2, "pending_id": 999},
        {"kind": 2, "pending_id": 3, "code": 320},
        {"expires_at_us": 5},
        {"kind": 1, "reference_id": 1},
        {"code": 310, "reference_id": 1},
        {"kind": -1},
    ],
    ids=str,
)
def test_the_schema_refuses_a_transfer_that_cannot_be(settled: Books, changes: dict[str, object]) -> None:
    row = forged(settled, **changes)

    with pytest.raises(IntegrityError):
        settled.sql(
            "INSERT INTO transfers VALUES ("
            + ",".join(
                f"x'{value.hex()}'" if isinstance(value, bytes) else "NULL" if value is None else str(value)
                for value in row
            )
            + ")"
        )

    settled.assert_sound()


def test_the_forged_row_would_be_taken_without_its_flaw(settled: Books) -> None:
    """Otherwise the test above could not fail; what the schema cannot see, the check of the books does."""
    row = forged(settled)
    settled.sql(
        f"INSERT INTO transfers VALUES ({row.transfer_id}, 0, 100, 1, 2, 5, NULL, 0, 0, NULL, 9, x'', "
        "zeroblob(32))"
    )

    failed = {check.name for check in settled.check().checks if not check.ok}
    assert {"hash_chain_holds", "counters_match_log", "time_never_goes_back"} <= failed


def test_an_attempt_is_paid_once(books: Books) -> None:
    [pending_id] = books.fund([7])
    books.settle([settlement(7, pending_id)])

    for act in (
        lambda: books.settle([settlement(7, pending_id)]),
        lambda: books.run(lambda uow: void_attempts(uow, [pending_id], now_us=books.now_us)),
        lambda: books.fund([7]),
    ):
        with pytest.raises(PoolError) as refusal:
            act()
        assert refusal.value.code is ErrorCode.TRANSFER_STATE

    assert books.balances()["owner:owner_a:held"] == 950
    books.assert_sound()


def test_an_attempt_that_was_given_back_is_funded_again_and_paid_once(books: Books) -> None:
    [first] = books.fund([7])
    books.run(lambda uow: void_attempts(uow, [first], code=TransferCode.EXPIRED, now_us=books.now_us))

    [second] = books.fund([7])
    books.settle([settlement(7, second)])

    assert second != first
    assert books.balances()["owner:owner_a:held"] == 950
    books.assert_sound()


def test_two_fundings_of_one_attempt_in_one_command_stop_the_store(books: Books) -> None:
    with pytest.raises(InvariantError, match=r"UNIQUE|transfer_funds_attempt_once"):
        books.fund([7, 7])

    books.assert_sound()


def test_a_payment_for_another_attempt_stops_the_store(books: Books) -> None:
    first, _ = books.fund([7, 8])

    with pytest.raises(InvariantError, match="funds attempt 7"):
        books.settle([settlement(8, first)])

    books.assert_sound()


def test_a_deposit_is_booked_once_per_reference(books: Books) -> None:
    assert books.deposit(5, reference="r") == 500_005
    assert books.deposit(5, reference="r") == 500_005

    with pytest.raises(PoolError) as refusal:
        books.deposit(6, reference="r")

    assert refusal.value.code is ErrorCode.EXISTS_WITH_DIFFERENT
    with pytest.raises(PoolError) as refusal:
        books.deposit(5, buyer_id="buyer_c", reference="r")
    assert refusal.value.code is ErrorCode.EXISTS_WITH_DIFFERENT
    assert books.balances()["bank:main"] == -1_000_005
    books.assert_sound()


def test_a_key_that_failed_stays_failed_after_a_top_up(books: Books) -> None:
    def reserve(uow: SqlUnitOfWork) -> None:
        reserve_job(
            uow, buyer_id="buyer_b", job_id=2, amount_micros=900_000, now_us=books.now_us, key="order-9"
        )

    with pytest.raises(PoolError) as refusal:
        books.run(reserve)
    assert refusal.value.code is ErrorCode.INSUFFICIENT_FUNDS

    books.deposit(10_000_000, reference="top-up")
    with pytest.raises(PoolError) as refusal:
        books.run(reserve)

    assert refusal.value.code is ErrorCode.ID_ALREADY_FAILED
    assert "job:2:escrow" not in books.balances()
    books.assert_sound()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_expiry_is_by_time_then_order_whoever_sweeps_and_however_often(books: Books, steps: int) -> None:
    books.fund([1, 2], expires_at_us=books.now_us + 20)
    books.fund([3, 4], expires_at_us=books.now_us + 10)
    books.fund([5], expires_at_us=books.now_us + 30)
    books.now_us += 25

    counts = [books.run(lambda uow: expire_pending(uow, now_us=books.now_us, limit=steps)) for _ in range(6)]

    assert sum(counts) == 4
    assert counts[-1] == 0
    log = books.run(lambda uow: list(uow.ledger.all_transfers()))
    assert [row.reference_id for row in log if row.code == TransferCode.EXPIRED] == [3, 4, 1, 2]
    assert books.run(lambda uow: uow.ledger.accounts_by_name(["job:1:escrow"]))[
        "job:1:escrow"
    ].debits_pending_micros == (1_000)
    books.assert_sound()


def test_a_timed_out_attempt_is_not_paid_even_before_the_sweep(books: Books) -> None:
    [pending_id] = books.fund([1], expires_at_us=books.now_us + 10)
    books.now_us += 10

    with pytest.raises(PoolError) as refusal:
        books.settle([settlement(1, pending_id)])

    assert refusal.value.code is ErrorCode.TRANSFER_STATE
    assert refusal.value.context["reference"] == "1"


def test_an_ended_jobs_escrow_drains_as_its_attempts_are_resolved(books: Books) -> None:
    first, second = books.fund([1, 2], amount_micros=100_000)

    returned = books.run(lambda uow: release_job(uow, buyer_id="buyer_b", job_id=1, now_us=books.now_us))

    assert returned == 300_000
    books.assert_sound()
    with pytest.raises(PoolError) as refusal:
        books.fund([3])
    assert refusal.value.code is ErrorCode.JOB_CLOSED
    with pytest.raises(PoolError) as refusal:
        books.reserve(1, 5)
    assert refusal.value.code is ErrorCode.JOB_CLOSED

    books.settle([settlement(1, first, gross_micros=40_000)])
    books.assert_sound()
    assert books.balances()["buyer:buyer_b:available"] == 860_000
    books.run(lambda uow: void_attempts(uow, [second], now_us=books.now_us))

    assert books.balances()["buyer:buyer_b:available"] == 960_000
    assert "job:1:escrow" not in books.balances()
    assert books.scalar("SELECT state FROM accounts WHERE name = 'job:1:escrow'") == 2
    assert books.run(lambda uow: release_job(uow, buyer_id="buyer_b", job_id=1, now_us=books.now_us)) == 0
    books.assert_sound()


def test_audits_are_the_pools_cost(books: Books) -> None:
    [pending_id] = books.fund([1], payer=Payer.VERIFICATION, job_id=1)
    books.settle([settlement(1, pending_id)])

    assert books.balances()["x:verification"] == -1_000
    assert books.balances()["job:1:escrow"] == 500_000
    books.assert_sound()


def test_donated_work_has_a_receipt_and_no_transfer(books: Books) -> None:
    items = [AttemptFunding(attempt_id=1, owner_id="owner_a", job_id=1, amount_micros=0)]
    ids = books.run(lambda uow: fund_attempts(uow, items, expires_at_us=NEVER_US, now_us=books.now_us))
    before = books.scalar("SELECT COUNT(*) FROM transfers")

    books.settle([settlement(1, ids[0], gross_micros=0)])

    assert ids == [0]
    assert books.scalar("SELECT COUNT(*) FROM transfers") == before
    assert books.scalar("SELECT COUNT(*) FROM receipts WHERE transfer_id IS NULL") == 1
    books.assert_sound()


def test_work_that_was_never_funded_is_not_settled(books: Books) -> None:
    with pytest.raises(PoolError) as refusal:
        books.run(lambda uow: settle_attempts(uow, [settlement(1, 0)], now_us=books.now_us))

    assert refusal.value.code is ErrorCode.TRANSFER_STATE


def test_a_batch_with_one_bad_item_changes_nothing(books: Books) -> None:
    good, gone = books.fund([1, 2])
    books.run(lambda uow: void_attempts(uow, [gone], now_us=books.now_us))
    before = books.balances()

    with pytest.raises(PoolError) as refusal:
        books.settle([settlement(1, good), settlement(2, gone)])

    assert refusal.value.context["reference"] == "2"
    assert books.balances() == before
    books.assert_sound()


def test_a_job_cannot_promise_more_than_its_escrow(books: Books) -> None:
    books.fund(list(range(1, 501)))

    with pytest.raises(PoolError) as refusal:
        books.fund([501])

    assert refusal.value.code is ErrorCode.INSUFFICIENT_FUNDS
    books.assert_sound()


def test_another_buyers_job_is_refused(books: Books) -> None:
    books.deposit(100, buyer_id="buyer_c", reference="c")

    for act in (
        lambda: books.reserve(1, 50, buyer_id="buyer_c"),
        lambda: books.run(lambda uow: release_job(uow, buyer_id="buyer_c", job_id=1, now_us=books.now_us)),
    ):
        with pytest.raises(PoolError) as refusal:
            act()
        assert refusal.value.code is ErrorCode.PERMISSION_DENIED


FORGED_RUN = (
    "INSERT INTO payout_runs (payout_id, state, currency, total_micros, row_count, idempotency_key, "
    "planned_by, planned_at_us, approved_by, approved_at_us, ended_by, ended_at_us, file_sha256, rail) "
    "VALUES (9,'approved','EUR',10000,1,'k','a',1,'b',1,'',0,'','csv')"
)


@pytest.mark.parametrize(
    ("statement", "found_by"),
    [
        ("UPDATE transfers SET amount_micros = 1 WHERE transfer_id = 1", "hash_chain_holds"),
        ("UPDATE transfers SET canonical = x'00' WHERE transfer_id = 2", "hash_chain_holds"),
        ("UPDATE transfers SET reference_id = 55 WHERE code = 311", "hash_chain_holds"),
        ("UPDATE transfers SET recorded_at_us = 1 WHERE transfer_id = 3", "time_never_goes_back"),
        ("DELETE FROM transfers WHERE code = 311", "counters_match_log"),
        ("UPDATE accounts SET debits_posted = debits_posted + 1 WHERE code = 1", "debits_equal_credits"),
        ("UPDATE accounts SET debits_posted = debits_posted + 1 WHERE code = 1", "sum_is_zero"),
        ("UPDATE accounts SET name = 'owner:thief:held' WHERE code = 4", "account_chain_holds"),
        ("UPDATE accounts SET name = 'owner:thief:held' WHERE code = 4", "held_is_unreleased_receipts"),
        ("UPDATE accounts SET state = 1 WHERE code = 3", "ended_escrows_are_empty"),
        ("UPDATE transfers SET code = 600 WHERE transfer_id = 1", "transfers_follow_the_chart"),
        ("UPDATE accounts SET code = 5 WHERE code = 2", "transfers_follow_the_chart"),
        ("UPDATE receipts SET attempt_id = 77", "receipts_match_postings"),
        ("DELETE FROM receipts", "receipts_match_postings"),
        ("UPDATE receipts SET work_uwu = work_uwu + 1", "receipts_are_the_price_of_work"),
        ("UPDATE receipts SET price_micros_per_wu = -1", "receipts_are_the_price_of_work"),
        ("UPDATE receipts SET receipt = x'00'", "receipt_batches_match_roots"),
        ("UPDATE receipts SET fee_micros = 0, net_micros = gross_micros", "fees_match_receipts"),
        ("UPDATE owner_days SET net_micros = net_micros + 1", "daily_sums_match_receipts"),
        ("INSERT INTO marks VALUES ('released_through_receipt_id', 1)", "released_is_released_receipts"),
        (f"INSERT INTO marks VALUES ('expired_through_us', {NEVER_US})", "no_pending_open_past_expiry"),
        (FORGED_RUN, "payouts_match_ledger"),
    ],
)
def test_the_check_finds_what_someone_with_the_file_changed(
    settled: Books, statement: str, found_by: str
) -> None:
    settled.fund([50])
    settled.assert_sound()
    intrude(settled.engine, statement)

    report = settled.check()

    assert found_by in {check.name for check in report.checks if not check.ok}
    assert not report.ok


def test_the_check_reports_figures(settled: Books) -> None:
    report = settled.assert_sound()

    assert report.transfer_count == settled.scalar("SELECT COUNT(*) FROM transfers")
    assert len({check.name for check in report.checks}) == len(report.checks)
    assert all(check.detail for check in report.checks)


def test_a_repository_turns_a_broken_constraint_into_an_invariant_error(settled: Books) -> None:
    batch = ReceiptBatch(
        batch_id=2, first_receipt_id=2, leaf_count=1, merkle_root=bytes(32), signed=b"", signed_at_us=1
    )
    row = ReceiptRow(2, 2, 1, None, "owner_a", "vehicle_v", 1, 0, 0, 0, 0, 0, 1, b"")

    with pytest.raises(InvariantError, match=r"receipts\.attempt_id|receipt_attempt"):
        settled.run(lambda uow: uow.receipts.append(batch, [row], [DayRow("o", 1, "v", 1, 0, 0, 0, 0)]))


def test_a_request_that_only_a_bug_can_make_stops_the_store(books: Books) -> None:
    accounts = books.run(lambda uow: uow.ledger.accounts([1, 2]))

    with pytest.raises(InvariantError, match="request_malformed"):
        books.run(
            lambda uow: transfer(
                uow, [TransferRequest(9, 100, 1, 2, 5)], accounts.values(), now_us=books.now_us
            )
        )

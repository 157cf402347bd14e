"""Many at once, and the plug pulled: no cap is exceeded, nothing acknowledged is lost, nothing paid twice."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.deposits import record_deposit
from pool_server.app.entries import ProposeEntry, approve_entry, propose_entry
from pool_server.app.money import fund_attempts, reserve_job, settle_attempts
from pool_server.core.settlement import AttemptFunding
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support import databases
from tests.support.books import NEVER_US, Books, settlement
from tests.support.repository import ROOT

THREADS = 64
KILLS = 3
ACKNOWLEDGED_BEFORE_KILL = 60


@pytest.fixture
def books(tmp_path: Path) -> Books:
    books = Books(tmp_path / "pool.sqlite3")
    books.deposit(1_000_000)
    return books


@pytest.fixture
def writer(books: Books) -> Iterator[GroupCommitWriter[SqlUnitOfWork]]:
    writer: GroupCommitWriter[SqlUnitOfWork] = GroupCommitWriter(
        books.engine, books.make_uow, lambda effects: None
    )
    writer.start()
    yield writer
    writer.stop()


def all_at_once(act: Callable[[int], bool]) -> list[bool]:
    """Call `act` from 64 threads that start together."""
    barrier = threading.Barrier(THREADS)

    def wait_and_act(number: int) -> bool:
        barrier.wait()
        return act(number)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(wait_and_act, range(THREADS)))


@pytest.mark.usefixtures("on_both_databases")
def test_sixty_four_threads_never_reserve_more_than_there_is(
    books: Books, writer: GroupCommitWriter[SqlUnitOfWork]
) -> None:
    def reserve(number: int) -> bool:
        future = writer.submit(
            lambda uow: reserve_job(
                uow, buyer_id="buyer_b", job_id=number + 1, amount_micros=30_000, now_us=books.now_us
            )
        )
        error = future.exception()
        if error is None:
            return True
        assert isinstance(error, PoolError)
        assert error.code is ErrorCode.INSUFFICIENT_FUNDS
        return False

    results = all_at_once(reserve)

    assert sum(results) == 1_000_000 // 30_000
    assert books.balances()["buyer:buyer_b:available"] == 1_000_000 % 30_000
    books.assert_sound()


def test_a_deposit_that_is_sent_sixty_four_times_is_booked_once(
    books: Books, writer: GroupCommitWriter[SqlUnitOfWork]
) -> None:
    def deposit(_: int) -> bool:
        booked = writer.submit(
            lambda uow: record_deposit(
                uow, buyer_id="buyer_b", amount_micros=500, reference="again", now_us=books.now_us
            )
        ).result()
        return booked.available_micros == 1_000_500

    assert all(all_at_once(deposit))
    assert books.balances()["bank:main"] == -1_000_500
    books.assert_sound()


def test_a_result_that_is_settled_sixty_four_times_is_paid_once(
    books: Books, writer: GroupCommitWriter[SqlUnitOfWork]
) -> None:
    books.reserve(1, 10_000)
    [pending_id] = books.fund([1])

    def settle(_: int) -> bool:
        future = writer.submit(
            lambda uow: settle_attempts(uow, [settlement(1, pending_id)], now_us=books.now_us)
        )
        error = future.exception()
        assert error is None or (isinstance(error, PoolError) and error.code is ErrorCode.TRANSFER_STATE)
        return error is None

    assert sum(all_at_once(settle)) == 1
    assert books.balances()["owner:owner_a:held"] == 950
    books.assert_sound()


@pytest.mark.usefixtures("on_both_databases")
def test_an_attempt_that_is_funded_sixty_four_times_is_reserved_once(
    books: Books, writer: GroupCommitWriter[SqlUnitOfWork]
) -> None:
    books.reserve(1, 10_000)
    item = AttemptFunding(attempt_id=1, owner_id="owner_a", job_id=1, amount_micros=1_000)

    def fund(_: int) -> bool:
        future = writer.submit(
            lambda uow: fund_attempts(uow, [item], expires_at_us=NEVER_US, now_us=books.now_us)
        )
        error = future.exception()
        assert error is None or (isinstance(error, PoolError) and error.code is ErrorCode.TRANSFER_STATE)
        return error is None

    assert sum(all_at_once(fund)) == 1
    books.assert_sound()


def test_an_entry_that_is_approved_sixty_four_times_is_booked_once(
    books: Books, writer: GroupCommitWriter[SqlUnitOfWork]
) -> None:
    wish = ProposeEntry(
        code="refund",
        debit_account="buyer:buyer_b:available",
        credit_account="bank:main",
        amount_micros=700_000,
        reason="asked for it",
        idempotency_key="refund",
    )

    def propose(number: int) -> bool:
        entry = writer.submit(
            lambda uow: propose_entry(uow, wish, operator_id="op_a", now_us=books.now_us + number)
        ).result()
        return entry.entry_id == 1

    def approve(number: int) -> bool:
        future = writer.submit(
            lambda uow: approve_entry(
                uow,
                entry_id=1,
                operator_id=f"op_{number % 4}",
                expected_amount_micros=700_000,
                now_us=books.now_us,
            )
        )
        error = future.exception()
        assert error is None or (isinstance(error, PoolError) and error.code is ErrorCode.INVALID_STATE)
        return error is None

    assert all(all_at_once(propose))
    # One of four operators was first; that one's other calls are told so again, all others are refused.
    assert sum(all_at_once(approve)) == THREADS // 4
    assert books.balances()["bank:main"] == -300_000
    books.assert_sound()


@pytest.mark.slow
def test_a_killed_pool_has_lost_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    database = tmp_path / "pool.sqlite3"
    environment = {**os.environ, databases.URL: databases.url_at(database)}
    acknowledged: set[int] = set()
    for kill in range(KILLS):
        command = [
            sys.executable,
            "-m",
            "tests.support.books_under_load",
            str(database),
            str(1 + kill * 10**8),
        ]
        heard = 0
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                acknowledged.add(int(line.removeprefix("paid ")))
                heard += 1
                if heard == ACKNOWLEDGED_BEFORE_KILL:
                    process.kill()
        assert heard >= ACKNOWLEDGED_BEFORE_KILL

        books = Books(database)
        books.assert_sound()
        paid = books.run(lambda uow: [receipt.attempt_id for receipt in uow.receipts.all_receipts()])
        assert acknowledged <= set(paid)
        assert len(paid) == len(set(paid))
        if databases.chosen() == "sqlite":
            assert books.scalar("PRAGMA integrity_check") == "ok"
        books.engine.dispose()

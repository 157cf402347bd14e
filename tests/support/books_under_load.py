"""A process that earns money as fast as it can and says what was acknowledged, to be killed at any moment.

Usage: python -m tests.support.books_under_load DATABASE FIRST_ATTEMPT. Prints `paid <attempt>` after its
command's future was resolved, never before. Several threads submit, so that groups of commands share commits.
"""

import sys
import threading
from pathlib import Path

from pool_server.app.deposits import record_deposit
from pool_server.app.earnings import release_held
from pool_server.app.money import fund_attempts, reserve_job, settle_attempts
from pool_server.core.settlement import AttemptFunding
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support.books import NEVER_US, Books, settlement
from tests.support.clock import START_US

THREADS = 4
ATTEMPTS_PER_COMMAND = 5
_print_lock = threading.Lock()


def _earn(writer: GroupCommitWriter[SqlUnitOfWork], thread: int, first_attempt: int) -> None:
    owner_id = f"owner_{thread}"
    attempt_id = first_attempt + thread * 1_000_000
    while True:
        attempts = range(attempt_id, attempt_id + ATTEMPTS_PER_COMMAND)
        attempt_id += ATTEMPTS_PER_COMMAND

        def fund(uow: SqlUnitOfWork, attempts: range = attempts) -> list[int]:
            items = [
                AttemptFunding(attempt_id=attempt, owner_id=owner_id, job_id=1, amount_micros=1_000)
                for attempt in attempts
            ]
            return fund_attempts(uow, items, expires_at_us=NEVER_US, now_us=START_US)

        pending_ids = writer.submit(fund).result()

        def settle(
            uow: SqlUnitOfWork, attempts: range = attempts, pending_ids: list[int] = pending_ids
        ) -> None:
            items = [
                settlement(attempt, pending_id, owner_id=owner_id)
                for attempt, pending_id in zip(attempts, pending_ids, strict=True)
            ]
            settle_attempts(uow, items, now_us=START_US)

        writer.submit(settle).result()
        writer.submit(lambda uow: release_held(uow, now_us=START_US + 10**7)).result()
        with _print_lock:
            for attempt in attempts:
                sys.stdout.write(f"paid {attempt}\n")
            sys.stdout.flush()


def _main(database: str, first_attempt: int) -> None:
    books = Books(Path(database), durable=True)
    writer: GroupCommitWriter[SqlUnitOfWork] = GroupCommitWriter(
        books.engine, books.make_uow, lambda effects: None
    )
    writer.start()

    def start(uow: SqlUnitOfWork) -> None:
        record_deposit(uow, buyer_id="buyer_b", amount_micros=10**12, reference="bank-1", now_us=START_US)
        reserve_job(uow, buyer_id="buyer_b", job_id=1, amount_micros=10**10, now_us=START_US)

    writer.submit(start).result()
    threads = [
        threading.Thread(target=_earn, args=(writer, thread, first_attempt)) for thread in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))

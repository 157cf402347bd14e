"""A process that reserves for a capped buyer from many threads at once and says how many succeeded.

Usage: python -m tests.support.cap_submitters FIRST_JOB COUNT AMOUNT BUYER TOKEN, the database's URL in
`databases.URL`. Waits for a line on its input, so that several begin together; prints one number.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.money import reserve_job
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support.books import Books
from tests.support.clock import START_US


def _main(first_job: int, count: int, amount_micros: int, buyer_id: str, token_id: str) -> None:
    books = Books(Path("of the parent"))
    writer: GroupCommitWriter[SqlUnitOfWork] = GroupCommitWriter(
        books.engine, books.make_uow, lambda effects: None
    )
    writer.start()
    barrier = threading.Barrier(count)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()

    def reserve(job_id: int) -> bool:
        barrier.wait()
        error = writer.submit(
            lambda uow: reserve_job(
                uow,
                buyer_id=buyer_id,
                job_id=job_id,
                amount_micros=amount_micros,
                now_us=START_US,
                token_id=token_id,
            )
        ).exception()
        if error is not None and not (
            isinstance(error, PoolError) and error.code is ErrorCode.SPEND_LIMIT_REACHED
        ):
            raise error
        return error is None

    with ThreadPoolExecutor(count) as threads:
        succeeded = sum(threads.map(reserve, range(first_job, first_job + count)))
    writer.stop()
    books.engine.dispose()
    sys.stdout.write(f"{succeeded}\n")


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])

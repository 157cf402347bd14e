"""What the log of receipts costs: hashing in the sweep, and proofs from a log of a million receipts.

    python -m benchmarks.receipt_log [--receipts 1000000]

Prints the time per receipt to write it (for comparison), to hash and keep it, and the median time of proofs.
One core, SQLite without waiting for the disk.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from pool_protocol.system import SystemClock
from pool_server.app.receipt_log import keep_log, prove_consistency, prove_inclusion
from tests.integration.store.test_receipt_log import PlainSigner
from tests.support.books import Books, settlement

BATCH = 100
PROOFS = 200
NS_PER_US = 1_000


def timed(call: Callable[[], object]) -> int:
    """Nanoseconds that a call takes."""
    clock = SystemClock()
    began = clock.monotonic_ns()
    call()
    return clock.monotonic_ns() - began


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receipts", type=int, default=1_000_000)
    count = parser.parse_args().receipts // BATCH * BATCH
    with tempfile.TemporaryDirectory() as folder:
        measure(Books(Path(folder) / "pool.sqlite3"), count)


def measure(books: Books, count: int) -> None:
    """Write, hash and prove."""

    def write() -> None:
        for first in range(1, count + 1, BATCH):
            books.settle([settlement(one, 0, gross_micros=0) for one in range(first, first + BATCH)])

    commands: list[int] = []

    def keep() -> None:
        def once() -> int:
            return books.run(
                lambda uow: keep_log(uow, signer=PlainSigner(), head_interval_us=0, now_us=books.now_us)
            )

        done = 1
        while done:
            began = SystemClock().monotonic_ns()
            done = once()
            commands.append(SystemClock().monotonic_ns() - began)

    print(f"write         {timed(write) / count / NS_PER_US:8.2f} us per receipt, in batches of {BATCH}")
    print(f"hash and keep {timed(keep) / count / NS_PER_US:8.2f} us per receipt")
    print(f"              {max(commands) / 1e6:8.2f} ms the longest of {len(commands)} commands")
    chance = random.Random(1)  # noqa: S311 - which proofs are timed
    inclusion, consistency = [], []
    for _ in range(PROOFS):
        place = (chance.randrange(count // BATCH) + 1, chance.randrange(BATCH))
        first = chance.randrange(1, count)
        inclusion.append(
            timed(lambda: books.run(lambda uow: prove_inclusion(uow, tree_size=count, places=[place])))  # noqa: B023
        )
        consistency.append(
            timed(lambda: books.run(lambda uow: prove_consistency(uow, first_size=first, second_size=count)))  # noqa: B023
        )
    print(f"inclusion     {sorted(inclusion)[PROOFS // 2] / 1e6:8.2f} ms per proof, median of {PROOFS}")
    print(f"consistency   {sorted(consistency)[PROOFS // 2] / 1e6:8.2f} ms per proof, median of {PROOFS}")


if __name__ == "__main__":
    main()

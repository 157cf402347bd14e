"""How many attempts per second the books carry, funded and settled, beside a raw-sqlite floor.

    python -m benchmarks.ledger_throughput [--commands 100] [--attempts 100] [--waiting 4] [--rounds 3]

*Books*: per attempt a pending transfer, its posting and a receipt under a signed batch; counters, fees, hash
chain, group commit, SQLite with synchronous=FULL. *Floor*: the same three rows per attempt in plain tables
with the same indexes, one executemany each, one commit per group; no decision, no chain, no receipt to make.
Prints one line of JSON last. The best round counts; all rounds are printed.
"""

import hashlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import click
from sqlalchemy import Connection

from pool_protocol.keys import SigningKey
from pool_protocol.system import SystemClock, SystemIds
from pool_server.app.deposits import record_deposit
from pool_server.app.ledger_check import check_ledger
from pool_server.app.money import fund_attempts, reserve_job, settle_attempts
from pool_server.core.settlement import AttemptFunding, AttemptSettlement, MoneyTerms
from pool_server.identity.signing import PoolKeys, PoolSigner
from pool_server.store.engine import open_engine
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.migrations import upgrade
from pool_server.store.unit_of_work import SqlUnitOfWork

NOW_US = 1_800_000_000_000_000
FAR_US = NOW_US + 10**15
PRICE = 1_000_000
WORK_UWU = 1_000
TERMS = MoneyTerms(
    pool_id="pool_benchmark",
    currency="EUR",
    fee_ppm=50_000,
    dispute_window_us=0,
    posted_price_micros_per_wu=PRICE,
)


def real_signer() -> PoolSigner:
    """Return what serializes and signs receipts in a running pool."""
    ids = SystemIds()
    program, lease, receipt = (SigningKey.generate(ids) for _ in range(3))
    keys = PoolKeys(program=program, lease=lease, receipt=receipt)
    return PoolSigner(pool_id=TERMS.pool_id, keys=keys, id_source=ids, clock=SystemClock())


def books(path: Path, commands: int, attempts: int, waiting: int) -> float:
    """Return attempts per second through the real use cases and the writer."""
    engine = open_engine(f"sqlite:///{path}")
    upgrade(engine)
    issuer = real_signer()

    def make_uow(connection: Connection) -> SqlUnitOfWork:
        return SqlUnitOfWork(connection, receipt_issuer=issuer, terms=TERMS)

    ids = SystemIds()
    owners = [ids.new_owner_id() for _ in range(8)]
    vehicles = [ids.new_vehicle_id() for _ in range(8)]
    buyer_id = ids.new_buyer_id()
    program = hashlib.sha256(b"program").hexdigest()
    digest = hashlib.sha256(b"outputs").digest()
    writer: GroupCommitWriter[SqlUnitOfWork] = GroupCommitWriter(engine, make_uow, lambda _: None)
    writer.start()

    def start(uow: SqlUnitOfWork) -> None:
        record_deposit(uow, buyer_id=buyer_id, amount_micros=10**15, reference="bank", now_us=NOW_US)
        reserve_job(uow, buyer_id=buyer_id, job_id=1, amount_micros=10**14, now_us=NOW_US)

    def fund(number: int) -> Callable[[SqlUnitOfWork], list[int]]:
        first = 1 + number * attempts
        owner_id = owners[number % 8]
        items = [AttemptFunding(first + i, owner_id, 1, WORK_UWU) for i in range(attempts)]
        return lambda uow: fund_attempts(uow, items, expires_at_us=FAR_US, now_us=NOW_US)

    def settle(number: int, pending_ids: list[int]) -> Callable[[SqlUnitOfWork], None]:
        first = 1 + number * attempts
        items = [
            AttemptSettlement(
                first + i,
                pending_id,
                owners[number % 8],
                vehicles[number % 8],
                1,
                first + i,
                program,
                digest,
                WORK_UWU,
                PRICE,
                WORK_UWU,
            )
            for i, pending_id in enumerate(pending_ids)
        ]
        return lambda uow: settle_attempts(uow, items, now_us=NOW_US)

    writer.submit(start).result()
    begin = time.perf_counter()
    settled: list[Future[None]] = []
    # `waiting` commands are in flight at any time, as with that many cars submitting at once.
    for first in range(0, commands, waiting):
        numbers = range(first, min(first + waiting, commands))
        funded = [writer.submit(fund(number)) for number in numbers]
        settled.extend(
            writer.submit(settle(number, future.result()))
            for number, future in zip(numbers, funded, strict=True)
        )
    for future in settled:
        future.result()
    seconds = time.perf_counter() - begin
    report = writer.read(check_ledger).result()
    if not report.ok:
        raise SystemExit(f"the books do not check: {[check for check in report.checks if not check.ok]}")
    writer.stop()
    engine.dispose()
    return commands * attempts / seconds


def floor(path: Path, commands: int, attempts: int, waiting: int) -> float:
    """Return attempts per second of the same rows and indexes through the driver alone."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, b INT, c INT, d INT, e INT, p INT, r INT, x BLOB, h)",
        "CREATE UNIQUE INDEX t_p ON t (p) WHERE p IS NOT NULL",
        "CREATE UNIQUE INDEX t_r ON t (r) WHERE a = 1",
        "CREATE UNIQUE INDEX t_v ON t (r) WHERE a = 2",
        "CREATE INDEX t_e ON t (e, id) WHERE e IS NOT NULL",
        "CREATE TABLE q (id INTEGER PRIMARY KEY, a INT, t INT, o TEXT, v TEXT, w INT, g INT, f INT, n, x)",
        "CREATE UNIQUE INDEX q_a ON q (a)",
        "CREATE UNIQUE INDEX q_t ON q (t)",
        "CREATE INDEX q_o ON q (o, id)",
        "CREATE TABLE b (id INTEGER PRIMARY KEY, p INT, c INT)",
        "INSERT INTO b VALUES (1, 0, 0)",
    ):
        connection.execute(statement)
    canonical, chain, leaf, owner = bytes(75), bytes(32), bytes(330), "owner_" + "a" * 26
    sequence = 0
    begin = time.perf_counter()
    for first in range(0, commands, waiting):
        for is_settle in (False, True):
            connection.execute("BEGIN IMMEDIATE")
            for number in range(first, min(first + waiting, commands)):
                refs = range(number * attempts, (number + 1) * attempts)
                kind = 2 if is_settle else 1
                rows = [
                    (
                        sequence + 1 + i,
                        kind,
                        1,
                        2,
                        3,
                        None if is_settle else FAR_US,
                        ref + 1 if is_settle else None,
                        ref,
                        canonical,
                        chain,
                    )
                    for i, ref in enumerate(refs)
                ]
                sequence += attempts
                connection.executemany("INSERT INTO t VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
                connection.execute("UPDATE b SET p = p + 1, c = c + 1 WHERE id = 1")
                if is_settle:
                    receipts = [(ref, ref, ref, owner, owner, 1, 1, 1, 1, leaf) for ref in refs]
                    connection.executemany("INSERT INTO q VALUES (?,?,?,?,?,?,?,?,?,?)", receipts)
            connection.execute("COMMIT")
    seconds = time.perf_counter() - begin
    connection.close()
    return commands * attempts / seconds


@click.command()
@click.option("--commands", default=100, help="Leases funded and settled.")
@click.option("--attempts", default=100, help="Attempts per lease.")
@click.option("--waiting", default=4, help="Leases in flight.")
@click.option("--rounds", default=3)
def main(commands: int, attempts: int, waiting: int, rounds: int) -> None:
    """Print attempts per second through the books and through the floor."""
    through_books, through_floor = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            through_floor.append(floor(Path(folder) / f"floor{number}", commands, attempts, waiting))
            through_books.append(books(Path(folder) / f"books{number}", commands, attempts, waiting))
            print(f"round {number + 1}: books {through_books[-1]:,.0f}/s, floor {through_floor[-1]:,.0f}/s")
    result = {
        "attempts_per_s": round(max(through_books)),
        "floor_attempts_per_s": round(max(through_floor)),
        "of_floor": round(max(through_books) / max(through_floor), 3),
        "transfers_per_s": round(max(through_books) * 2),
        "attempts_per_command": attempts,
        "commands_in_flight": waiting,
        "synchronous": "FULL",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

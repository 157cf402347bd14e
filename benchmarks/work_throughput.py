"""Tasks per second through the work's use cases on SQLite FULL with group commit, beside a floor.

One writer; a few threads play cars that lease 100 attempts and submit 100 results, quorum one, real books,
real Merkle batches of receipts. Nothing is computed and nothing crosses a socket: this is what the pool
itself costs.
The floor is the same number of commands and commits with an empty transaction of one row each.

Run: python benchmarks/work_throughput.py [--tasks 40000] [--batch 100] [--cars 4]
"""

import argparse
import hashlib
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np

from pool_protocol import tensors
from pool_protocol.digests import output_digest
from pool_server.app import fleet, jobs
from pool_server.app.deposits import record_deposit
from pool_server.app.leasing import lease_work
from pool_server.app.outputs import check_outputs
from pool_server.app.submission import submit_results
from pool_server.app.work_commands import (
    AckStatus,
    AddTasks,
    AttemptReport,
    CreateJob,
    LeaseGranted,
    LeaseWork,
    NewTask,
    SubmitResults,
)
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.comparison import Comparator
from pool_server.core.jobs import (
    NO_TENSORS,
    AttemptOutcome,
    OutputSpec,
    PriceMode,
    ProgramFacts,
    TensorRef,
)
from pool_server.core.settlement import MoneyTerms
from pool_server.core.verification import VerificationLevel
from pool_server.identity.signing import SecretDraws
from pool_server.ports.money import ReceiptFields
from pool_server.store.engine import open_engine
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.schema import create_all
from pool_server.store.unit_of_work import SqlUnitOfWork

NOW_US = 1_767_225_600_000_000
POLICY = WorkPolicy(allow_level_none=True)
TERMS = MoneyTerms(
    pool_id="pool_bench", currency="EUR", fee_ppm=50_000, dispute_window_us=0, posted_price_micros_per_wu=100
)
OUTPUT = {"y": np.zeros(4, dtype=np.float32)}
OUTPUT_BYTES = tensors.encode(OUTPUT)
OUTPUT_DIGEST = output_digest(OUTPUT)
PROGRAM = ProgramFacts(
    program_sha256=hashlib.sha256(b"no-op").hexdigest(),
    kind="map",
    work_uwu_per_task=1_000_000,
    unit_steps=0,
    outputs=(OutputSpec(name="y", dtype="float32", shape=(4,)),),
)


class Issuer:
    """Serializes without protobuf and signs nothing: those costs belong to the end-to-end benchmark."""

    def encode(self, fields: ReceiptFields) -> bytes:
        return f"{fields.attempt_id}|{fields.net_micros}|{fields.transfer_id}".encode().ljust(300, b".")

    def sign_batch(self, *, batch_id: int, root: bytes, count: int, now_us: int) -> bytes:
        return root


ORDER = SecretDraws(b"leases")


class Draws:
    def uniform(self, *, output_digest: bytes, attempt_id: int) -> float:
        return 1.0


Writer = GroupCommitWriter[SqlUnitOfWork]


def open_writer(path: Path) -> Writer:
    engine = open_engine(f"sqlite:///{path}")
    create_all(engine)
    writer: Writer = GroupCommitWriter(
        engine,
        lambda connection: SqlUnitOfWork(connection, receipt_issuer=Issuer(), terms=TERMS),
        lambda _effects: None,
    )
    writer.start()
    return writer


def prepare(writer: Writer, *, task_count: int, cars: int, level: VerificationLevel) -> int:
    """A job with all of its tasks, and the cars."""

    def open_job(uow: SqlUnitOfWork) -> int:
        record_deposit(uow, buyer_id="buyer_b", amount_micros=10**12, reference="bench", now_us=NOW_US)
        for car in range(cars):
            fleet.register_vehicle(
                uow, vehicle_id=vehicle(car), owner_id=f"owner_{car:026d}", label="car", now_us=NOW_US
            )
        command = CreateJob(
            buyer_id="buyer_b",
            idempotency_key="bench",
            name="bench",
            program=PROGRAM,
            constants=NO_TENSORS,
            price_mode=PriceMode.SPOT,
            price_micros_per_wu=100,
            budget_micros=10**11,
            level=level,
            comparator=Comparator(),
        )
        return jobs.create_job(uow, command, policy=POLICY, now_us=NOW_US).job_id

    job_id = writer.submit(open_job).result()
    for first in range(0, task_count, 1000):
        batch = [
            NewTask(
                inputs=TensorRef(
                    inline=(content := tensors.encode({"x": np.array([index], dtype=np.float32)})),
                    size_bytes=len(content),
                )
            )
            for index in range(first, min(task_count, first + 1000))
        ]
        command = AddTasks(buyer_id="buyer_b", job_id=job_id, first_index=first, tasks=batch)
        writer.submit(partial(jobs.add_tasks, command=command, now_us=NOW_US)).result()
    return job_id


def vehicle(car: int) -> str:
    return f"vehicle_{car:026d}"


def drive(writer: Writer, car: int, batch: int, done: list[int]) -> None:
    """Lease and submit until there is no work left: results in and next lease out are queued together."""
    wish = LeaseWork(vehicle_id=vehicle(car), attempts_max=batch, held_lease_ids=())
    pending: Future[object] = writer.submit(
        lambda uow: lease_work(uow, wish, order=ORDER, policy=POLICY, now_us=NOW_US)
    )
    while isinstance(lease := pending.result(), LeaseGranted):
        reports = [
            AttemptReport(
                attempt_id=grant.attempt_id,
                outcome=AttemptOutcome.COMPLETED,
                output_digest=OUTPUT_DIGEST,
                outputs=TensorRef(inline=OUTPUT_BYTES, size_bytes=len(OUTPUT_BYTES)),
                run_time_us=100,
            )
            for grant in lease.attempts
        ]
        command = SubmitResults(vehicle_id=lease.vehicle_id, lease_id=lease.lease_id, reports=reports)
        findings = check_outputs(reports, PROGRAM.outputs, blobs=None)
        acks = writer.submit(
            partial(
                submit_results,
                command=command,
                draws=Draws(),
                policy=POLICY,
                now_us=NOW_US,
                findings=findings,
            )
        )
        pending = writer.submit(lambda uow: lease_work(uow, wish, order=ORDER, policy=POLICY, now_us=NOW_US))
        done[car] += sum(ack.status is AckStatus.VERIFIED for ack in acks.result())


def measure(directory: Path, *, task_count: int, batch: int, cars: int, level: VerificationLevel) -> float:
    writer = open_writer(directory / "pool.sqlite3")
    prepare(writer, task_count=task_count, cars=cars, level=level)
    done = [0] * cars
    threads = [
        threading.Thread(target=drive, args=(writer, car, batch, done), name=f"car-{car}")
        for car in range(cars)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed_s = time.perf_counter() - start
    writer.stop()
    if sum(done) != task_count:
        print(f"only {sum(done)} of {task_count} tasks were verified", file=sys.stderr)
        raise SystemExit(1)
    return task_count / elapsed_s


def floor(directory: Path, *, task_count: int, batch: int) -> float:
    """The same number of commands, each committing one row durably, and nothing else."""
    writer = open_writer(directory / "floor.sqlite3")
    commands = 2 * task_count // batch
    start = time.perf_counter()
    for _ in range(commands // 2):
        pair = [writer.submit(lambda uow: uow.ids.next_block("floor", batch)) for _ in range(2)]
        for future in pair:
            future.result()
    elapsed_s = time.perf_counter() - start
    writer.stop()
    return task_count / elapsed_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--cars", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tasks_per_s = measure(
            directory,
            task_count=arguments.tasks,
            batch=arguments.batch,
            cars=arguments.cars,
            level=VerificationLevel.NONE,
        )
        floor_per_s = floor(directory, task_count=arguments.tasks, batch=arguments.batch)
    print(
        f"work: {tasks_per_s:,.0f} tasks/s ({1e6 / tasks_per_s:.0f} us/task), batches of {arguments.batch}, "
        f"{arguments.cars} cars, quorum 1, SQLite FULL; floor {floor_per_s:,.0f} tasks/s; "
        f"ratio {tasks_per_s / floor_per_s:.3f}"
    )


if __name__ == "__main__":
    main()

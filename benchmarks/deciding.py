"""What deciding adds to a submitted batch of 100 results: the audit plan, the draw, the verdict, the history.

Two jobs in one pool on SQLite FULL, one at level `none`, where nothing is decided (the floor), one at
`standard`, where every result has its audit planned and drawn, and its vehicle's history read and written.
Cars submit to both in turn; what is measured is the writer thread's CPU time inside `submit_results`, without
the commit. The draw never falls: what a drawn task costs is a second execution, not this.

Run: python -m benchmarks.deciding [--batches 150]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.work_throughput import (
    NOW_US,
    ORDER,
    OUTPUT_BYTES,
    OUTPUT_DIGEST,
    POLICY,
    PROGRAM,
    Draws,
    Writer,
    open_writer,
    prepare,
    vehicle,
)
from pool_server.app.leasing import lease_work
from pool_server.app.outputs import check_outputs
from pool_server.app.submission import submit_results
from pool_server.app.work_commands import AckStatus, AttemptReport, LeaseGranted, LeaseWork, SubmitResults
from pool_server.core.jobs import AttemptOutcome, TensorRef
from pool_server.core.verification import VerificationLevel
from pool_server.store.unit_of_work import SqlUnitOfWork

BATCH = 100
TARGET_US = 20.0
_WARM_UP = 10


def submit_one_batch(writer: Writer) -> float:
    """Lease and submit a batch; return the writer thread's CPU time per task inside the use case, us."""
    wish = LeaseWork(vehicle_id=vehicle(0), attempts_max=BATCH, held_lease_ids=())
    lease = writer.submit(
        lambda uow: lease_work(uow, wish, order=ORDER, policy=POLICY, now_us=NOW_US)
    ).result()
    if not isinstance(lease, LeaseGranted):
        raise SystemExit(f"no lease: {lease}")
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

    def timed(uow: SqlUnitOfWork) -> tuple[int, int]:
        began_ns = time.thread_time_ns()
        acks = submit_results(uow, command, draws=Draws(), policy=POLICY, now_us=NOW_US, findings=findings)
        spent_ns = time.thread_time_ns() - began_ns
        return spent_ns, sum(ack.status is AckStatus.VERIFIED for ack in acks)

    spent_ns, verified = writer.submit(timed).result()
    if verified != len(reports):
        raise SystemExit(f"only {verified} of {len(reports)} results were verified")
    return spent_ns / 1_000 / len(reports)


def run(*, batches: int) -> dict[str, Any]:
    """Measure both levels in turn and return medians, us per task."""
    with tempfile.TemporaryDirectory() as name:
        writers = {
            level: _pool(Path(name) / f"{level.value}.sqlite3", level, batches)
            for level in (VerificationLevel.NONE, VerificationLevel.STANDARD)
        }
        spent: dict[VerificationLevel, list[float]] = {level: [] for level in writers}
        for _ in range(_WARM_UP + batches):
            for level, writer in writers.items():
                spent[level].append(submit_one_batch(writer))
        for writer in writers.values():
            writer.stop()
    floor_us, decided_us = (statistics.median(values[_WARM_UP:]) for values in spent.values())
    return {
        "batch": BATCH,
        "batches": batches,
        "floor_us_per_task": round(floor_us, 1),
        "decided_us_per_task": round(decided_us, 1),
        "added_us_per_task": round(decided_us - floor_us, 1),
        "ratio": round(decided_us / floor_us, 3),
        "target_us_per_task": TARGET_US,
    }


def _pool(path: Path, level: VerificationLevel, batches: int) -> Writer:
    writer = open_writer(path)
    prepare(writer, task_count=(_WARM_UP + batches) * BATCH, cars=1, level=level)
    return writer


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.deciding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--batches", type=int, default=150, help="batches of 100 results per level")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    options = parser.parse_args()
    figures = run(batches=max(1, options.batches))
    if options.json:
        print(json.dumps(figures))
        return
    print(
        f"deciding a batch of {BATCH}: {figures['decided_us_per_task']} us per task at `standard`, "
        f"{figures['floor_us_per_task']} us at `none`: adds {figures['added_us_per_task']} us "
        f"(target {TARGET_US:.0f}), ratio {figures['ratio']}; CPU time of the writer thread, medians of "
        f"{figures['batches']} batches"
    )


if __name__ == "__main__":
    main()

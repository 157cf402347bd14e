"""`make bench`: tasks per second end to end beside a floor, and the agent's efficiency."""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any

from benchmarks import end_to_end, worker_efficiency

TARGET_TASKS_PER_S = 4_000


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks per round (default 20000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are printed (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "end_to_end": end_to_end.run(tasks=options.tasks, rounds=options.rounds),
        "worker": worker_efficiency.run(rounds=options.rounds),
    }
    if options.json:
        print(json.dumps(figures))
        return
    flow = figures["end_to_end"]
    low, high = flow["tasks_per_s_min_max"]
    print(
        f"end to end: lease -> signed result -> verified -> ledger; SQLite FULL, mutual TLS, "
        f"batches of {flow['batch']}, quorum 1, no-op worker, {os.cpu_count()} cores"
    )
    print(f"  pool    {flow['tasks_per_s']:>8,} tasks/s   ({low:,} to {high:,}, {flow['rounds']} rounds)")
    print(f"  floor   {flow['floor_tasks_per_s']:>8,} tasks/s   (same messages, echo server without a store)")
    print(f"  ratio   {flow['ratio_to_floor']:>8}           target: {TARGET_TASKS_PER_S:,} tasks/s")
    car_us = flow["client_us_per_task"]
    print(f"  CPU     {flow['server_us_per_task']:>8} us of server and {car_us} us of car per task")
    print("agent's efficiency: time per task in the pool's worker / jitted in process, same numeric profile")
    for row in figures["worker"]:
        times = f"{row['in_worker_ms']:>9} ms / {row['in_process_ms']:>9} ms"
        print(f"  {row['program']:<18} {times} = {row['ratio']}")
    print("BENCH " + json.dumps(figures))


if __name__ == "__main__":
    main()

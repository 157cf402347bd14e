"""Compares large results before the transaction that needs to know whether they agree.

Under a comparator with a tolerance, or of rows in any order, two results of 64 MiB take seconds to compare.
Done inside of a command that stops the whole pool. So what a bundle, or the pool's own run, will be set
against is looked up and compared first; `core.comparison` remembers it. What comes in between is compared in
the transaction after all.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from pool_protocol.errors import PoolError
from pool_server.app.board_rows import read_tensors
from pool_server.app.outputs import OutputFinding
from pool_server.app.work_commands import SubmitResults
from pool_server.app.work_policy import BlobReader
from pool_server.core.comparison import Comparator, Tensors, compare_ahead
from pool_server.core.jobs import AttemptState, TensorRef
from pool_server.core.verification.pool_run import PoolRunState
from pool_server.ports.pool_runs import TaskRun
from pool_server.ports.unit_of_work import UnitOfWork


class _Result(NamedTuple):
    digest: bytes
    """Known to be that of the arrays."""
    outputs: TensorRef


class Pair(NamedTuple):
    """Two results of one task."""

    comparator: Comparator
    one: _Result
    other: _Result


def pairs_of_bundle(
    uow: UnitOfWork, command: SubmitResults, findings: Mapping[int, OutputFinding]
) -> list[Pair]:
    """Return what the sound, large results of a bundle will be set against."""
    lease = uow.leases.get(command.lease_id)
    job = None if lease is None or lease.vehicle_id != command.vehicle_id else uow.jobs.get(lease.job_id)
    if job is None or job.comparator.is_exact:
        return []
    large = {
        report.attempt_id: _Result(report.output_digest, report.outputs)
        for report in command.reports
        if report.outputs.blob_sha256 is not None and _is_sound(findings.get(report.attempt_id))
    }
    rows = uow.attempts.get(list(large))
    mine = {row.task_id: large[row.attempt_id] for row in rows.values() if row.lease_id == command.lease_id}
    others = _returned(uow, list(mine), but=large.keys())
    return [Pair(job.comparator, mine[task_id], other) for task_id, other in others]


def pairs_of_run(uow: UnitOfWork, task_id: int, run: TaskRun) -> list[Pair]:
    """Return what a large result of the pool's own will be set against."""
    task = uow.tasks.get([task_id]).get(task_id)
    job = None if task is None else uow.jobs.get(task.job_id)
    if job is None or job.comparator.is_exact or run.outputs.blob_sha256 is None:
        return []
    mine = _Result(run.output_digest, run.outputs)
    return [Pair(job.comparator, mine, other) for _, other in _returned(uow, [task_id], but=())]


def compare_pairs(pairs: Sequence[Pair], *, blobs: BlobReader) -> None:
    """Compare; what cannot be read is left to the transaction, which says so."""
    for pair in pairs:
        try:
            compare_ahead(
                pair.comparator,
                (pair.one.digest, lambda: _read(pair.one, blobs)),  # noqa: B023 - called at once
                (pair.other.digest, lambda: _read(pair.other, blobs)),  # noqa: B023
            )
        except PoolError:
            continue


def _is_sound(finding: OutputFinding | None) -> bool:
    return finding is not None and not finding.fault


def _read(result: _Result, blobs: BlobReader) -> Tensors:
    return read_tensors(result.outputs, blobs)


def _returned(uow: UnitOfWork, task_ids: list[int], *, but: Collection[int]) -> list[tuple[int, _Result]]:
    """Return the results of tasks that wait for a verdict, the pool's own among them, by task."""
    found = []
    for row in uow.attempts.of_tasks(task_ids):
        outputs = uow.attempts.outputs(row.attempt_id) if row.state is AttemptState.RETURNED else None
        if outputs is not None and row.attempt_id not in but:
            found.append((row.task_id, _Result(row.output_digest, outputs)))
    for task_id, run in uow.pool_runs.of_tasks(task_ids).items():
        if run.state is PoolRunState.DONE:
            found.append((task_id, _Result(run.output_digest, run.outputs)))
    return found

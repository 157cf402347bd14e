"""Large results are compared before the transaction that needs it, and never on a false digest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_protocol import tensors
from pool_protocol.digests import output_digest, sha256_hex
from pool_server.app.compare_ahead import compare_pairs, pairs_of_bundle, pairs_of_run
from pool_server.app.outputs import check_outputs
from pool_server.app.work_commands import AckStatus, AttemptReport, LeaseGranted, SubmitResults
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.comparison import Comparator, ComparatorKind
from pool_server.core.jobs import AttemptOutcome, TaskState, TensorRef
from pool_server.core.verification import VerificationLevel
from pool_server.ports.pool_runs import TaskRun
from tests.support.workshop import PROGRAM, Arrays, Workshop, answer


class CountingBlobs:
    """Blobs in memory, and how often they are read."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.reads = 0

    def put(self, arrays: Arrays) -> TensorRef:
        content = tensors.encode(arrays)
        self.blobs[sha256_hex(content)] = content
        return TensorRef(blob_sha256=sha256_hex(content), size_bytes=len(content))

    def get(self, blob_sha256: str) -> bytes:
        self.reads += 1
        return self.blobs[blob_sha256]


@pytest.fixture
def blobs() -> CountingBlobs:
    return CountingBlobs()


@pytest.fixture
def pool(tmp_path: Path, blobs: CountingBlobs) -> Iterator[Workshop]:
    workshop = Workshop(
        tmp_path / "pool.sqlite3", policy=WorkPolicy(pool_run_uwu_max=PROGRAM.work_uwu_per_task)
    )
    workshop.blobs = blobs
    yield workshop
    workshop.books.assert_sound()
    workshop.books.engine.dispose()


def close_job(pool: Workshop, *, atol: float) -> int:
    """A tolerance of each test's own: what is compared is remembered for the process."""
    comparator = Comparator(kind=ComparatorKind.CLOSE, atol=atol)
    return pool.job(1, level=VerificationLevel.FULL, comparator=comparator)


def bundle(lease: LeaseGranted, outputs: TensorRef, digest: bytes) -> SubmitResults:
    [grant] = lease.attempts
    report = AttemptReport(
        attempt_id=grant.attempt_id,
        outcome=AttemptOutcome.COMPLETED,
        output_digest=digest,
        outputs=outputs,
        run_time_us=1_000,
    )
    return SubmitResults(vehicle_id=lease.vehicle_id, lease_id=lease.lease_id, reports=[report])


def ahead(pool: Workshop, blobs: CountingBlobs, command: SubmitResults) -> int:
    """What the desk does before the transaction. Returns how many pairs it compared."""
    findings = check_outputs(command.reports, PROGRAM.outputs, blobs=blobs)
    pairs = pool.books.run(lambda uow: pairs_of_bundle(uow, command, findings))
    compare_pairs(pairs, blobs=blobs)
    return len(pairs)


def test_the_transaction_reads_no_blob_to_compare_results(pool: Workshop, blobs: CountingBlobs) -> None:
    job_id = close_job(pool, atol=0.125)
    leases = [pool.lease(pool.car(name)) for name in ("one", "two")]
    for lease, value in zip(leases, (1.0, 1.1), strict=True):
        arrays = answer(value)
        command = bundle(lease, blobs.put(arrays), output_digest(arrays))
        assert ahead(pool, blobs, command) == (lease is leases[1])
        checked = blobs.reads
        pool.submit(lease.vehicle_id, lease.lease_id, command.reports)
        # Once, for this very report, which this test does not hand the findings of.
        assert blobs.reads == checked + 1
    assert pool.result(job_id).state == TaskState.ACCEPTED


def test_the_pools_own_run_is_compared_ahead_as_well(pool: Workshop, blobs: CountingBlobs) -> None:
    job_id = close_job(pool, atol=0.0625)
    leases = [pool.lease(pool.car(name)) for name in ("one", "liar")]
    for lease, value in zip(leases, (1.0, 8.0), strict=True):
        arrays = answer(value)
        command = bundle(lease, blobs.put(arrays), output_digest(arrays))
        ahead(pool, blobs, command)
        pool.submit(lease.vehicle_id, lease.lease_id, command.reports)
    own = answer(1.03)
    run = TaskRun(output_digest(own), blobs.put(own), "")
    pairs = pool.books.run(lambda uow: pairs_of_run(uow, 1, run))
    compare_pairs(pairs, blobs=blobs)
    before = blobs.reads
    pool._take_task_run(1, run)
    assert blobs.reads == before
    assert pool.result(job_id).state == TaskState.ACCEPTED


def test_a_false_digest_is_never_compared(pool: Workshop, blobs: CountingBlobs) -> None:
    # Otherwise a car could have its own arrays stand for another's digest.
    close_job(pool, atol=0.03125)
    one, liar = pool.lease(pool.car("one")), pool.lease(pool.car("liar"))
    arrays = answer(1.0)
    pool.submit(one.vehicle_id, one.lease_id, bundle(one, blobs.put(arrays), output_digest(arrays)).reports)
    forged = bundle(liar, blobs.put(answer(1.01)), output_digest(answer(8.0)))
    assert ahead(pool, blobs, forged) == 0
    [ack] = pool.submit(liar.vehicle_id, liar.lease_id, forged.reports)
    assert ack.status is AckStatus.REFUSED

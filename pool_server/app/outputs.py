"""Checks what a vehicle says it computed against what the program returns, before anything believes it.

Pure but for a blob's bytes: it may run outside of the transaction (decoding and hashing are the dear part of
a submit), and its findings are then handed to `submit_results`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pool_protocol.digests import DIGEST_BYTES, output_digest
from pool_protocol.errors import PoolError
from pool_protocol.limits import INLINE_TENSORS, UNITS_PER_TASK_MAX
from pool_protocol.tensors import decode
from pool_server.app.work_commands import AttemptReport
from pool_server.app.work_policy import BlobReader
from pool_server.core.comparison import spec_mismatch
from pool_server.core.jobs import AttemptOutcome, OutputSpec


@dataclass(frozen=True, slots=True)
class OutputFinding:
    """What the check of one report found."""

    attempt_id: int
    output_digest: bytes
    """The claim that was checked."""
    fault: str
    """What is wrong, in one sentence; empty when the outputs are what they claim to be."""


def check_outputs(
    reports: Sequence[AttemptReport], specs: Sequence[OutputSpec], *, blobs: BlobReader | None
) -> dict[int, OutputFinding]:
    """Check the outputs of all completed attempts of a bundle; by attempt id."""
    return {
        report.attempt_id: OutputFinding(
            report.attempt_id, report.output_digest, output_fault(report, specs, blobs=blobs)
        )
        for report in reports
        if report.outcome is AttemptOutcome.COMPLETED
    }


def output_fault(report: AttemptReport, specs: Sequence[OutputSpec], *, blobs: BlobReader | None) -> str:
    """Say what is wrong with a completed attempt's outputs, in this order; empty when nothing is.

    1. The digest has 32 bytes, the unit root 32 or none, the unit count is within bounds.
    2. The outputs are there, as long as they say, and decode within the limits.
    3. Names, element types and shapes are the program's.
    4. The digest is that of the values.
    """
    if len(report.output_digest) != DIGEST_BYTES:
        return f"the output digest has {len(report.output_digest)} bytes"
    if len(report.unit_root) not in {0, DIGEST_BYTES} or not 0 <= report.unit_count <= UNITS_PER_TASK_MAX:
        return "the unit commitment is malformed"
    ref = report.outputs
    try:
        if ref.inline is not None:
            if len(ref.inline) != ref.size_bytes:
                return f"the outputs have {len(ref.inline)} bytes and claim {ref.size_bytes}"
            tensors = decode(ref.inline, INLINE_TENSORS)
        elif ref.blob_sha256 is not None and blobs is not None:
            tensors = decode(blobs.get(ref.blob_sha256))
        else:
            return "there are no outputs"
    except PoolError as error:
        return f"{error.code}: {error.detail}"
    mismatch = spec_mismatch(tensors, specs)
    if mismatch is not None:
        return mismatch
    if output_digest(tensors) != report.output_digest:
        return "the digest is not that of the outputs"
    return ""

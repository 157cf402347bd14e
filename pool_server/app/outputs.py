"""Checks what a vehicle says it computed against what the program returns, before anything believes it.

Pure but for a blob's bytes: it may run outside of the transaction (decoding and hashing are the dear part of
a submit), and its findings are then handed to `submit_results`.

Results of one job share their safetensors header to the byte. The first with a header is decoded strictly; in
others with the same header and length only values can differ, so that hashing them is all that is left to do.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pool_protocol.digests import DIGEST_BYTES, OutputDigester, output_digest
from pool_protocol.errors import PoolError
from pool_protocol.limits import INLINE_TENSORS, UNITS_PER_TASK_MAX
from pool_protocol.tensors import decode
from pool_server.app.work_commands import AttemptReport
from pool_server.app.work_policy import BlobReader
from pool_server.core.comparison import Tensors, spec_mismatch
from pool_server.core.jobs import AttemptOutcome, OutputSpec

_LENGTH_BYTES = 8
#: Element types of which every bit pattern is a value: booleans are 0 or 1, complex parts are hashed apart.
_PLAIN_KINDS = frozenset("fiu")
#: Headers remembered per bundle: results of one job have one, a forger gets no memory out of us.
_HEADERS_MAX = 4


class OutputFinding(NamedTuple):
    """What the check of one report found."""

    attempt_id: int
    output_digest: bytes
    """The claim that was checked."""
    fault: str
    """What is wrong, in one sentence; empty when the outputs are what they claim to be."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the arrays are in safetensors bytes with one known header."""

    length: int
    spans: tuple[tuple[int, int], ...]
    """Start and end of each array, in the digester's order."""
    digester: OutputDigester


def check_outputs(
    reports: Sequence[AttemptReport], specs: Sequence[OutputSpec], *, blobs: BlobReader | None
) -> dict[int, OutputFinding]:
    """Check the outputs of all completed attempts of a bundle; by attempt id."""
    checker = OutputChecker(specs, blobs=blobs)
    return {
        report.attempt_id: OutputFinding(report.attempt_id, report.output_digest, checker.fault(report))
        for report in reports
        if report.outcome is AttemptOutcome.COMPLETED
    }


class OutputChecker:
    """Checks outputs of one program."""

    def __init__(self, specs: Sequence[OutputSpec], *, blobs: BlobReader | None) -> None:
        """Take what the program returns, and where blobs are read."""
        self._specs = specs
        self._blobs = blobs
        self._layouts: dict[bytes, _Layout] = {}

    def fault(self, report: AttemptReport) -> str:
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
        encoded = report.outputs.inline
        if encoded is not None and len(encoded) != report.outputs.size_bytes:
            return f"the outputs have {len(encoded)} bytes and claim {report.outputs.size_bytes}"
        try:
            actual = None if encoded is None else self._known_digest(encoded)
            if actual is None:
                tensors = self._decode(report)
                mismatch = spec_mismatch(tensors, self._specs)
                if mismatch is not None:
                    return mismatch
                actual = output_digest(tensors)
                if encoded is not None:
                    self._remember(encoded, tensors)
        except PoolError as error:
            return f"{error.code}: {error.detail}"
        return "" if actual == report.output_digest else "the digest is not that of the outputs"

    def _decode(self, report: AttemptReport) -> Tensors:
        ref = report.outputs
        if ref.inline is not None:
            return decode(ref.inline, INLINE_TENSORS)
        if ref.blob_sha256 is None or self._blobs is None:
            return {}
        return decode(self._blobs.get(ref.blob_sha256))

    def _known_digest(self, encoded: bytes) -> bytes | None:
        """Return the digest of outputs with a header that was decoded before; None for an unknown one."""
        layout = self._layouts.get(_header_of(encoded))
        if layout is None or layout.length != len(encoded):
            return None
        return layout.digester.digest([encoded[start:end] for start, end in layout.spans])

    def _remember(self, encoded: bytes, tensors: Tensors) -> None:
        plain = all(array.dtype.kind in _PLAIN_KINDS for array in tensors.values())
        if not plain or not tensors or len(self._layouts) >= _HEADERS_MAX:
            return
        header = _header_of(encoded)
        digester = OutputDigester({name: (array.dtype, array.shape) for name, array in tensors.items()})
        entries = json.loads(header[_LENGTH_BYTES:])
        offsets = [entries[name]["data_offsets"] for name in digester.names]
        start = len(header)
        self._layouts[header] = _Layout(
            len(encoded), tuple((start + first, start + last) for first, last in offsets), digester
        )


def _header_of(encoded: bytes) -> bytes:
    return encoded[: _LENGTH_BYTES + int.from_bytes(encoded[:_LENGTH_BYTES], "little")]

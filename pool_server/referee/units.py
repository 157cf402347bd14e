"""Disputed units: the referee in the shape that disputes ask for. Implements `ports.disputes.UnitReferee`."""

import asyncio
from typing import Final, Protocol

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.manifest import ProgramManifest
from pool_protocol.tensors import decode, encode
from pool_server.core.jobs import TensorRef
from pool_server.ports.disputes import UnitOrder, UnitRun
from pool_server.ports.referee import RefereeError, RefereeOrder, RefereeReason
from pool_server.ports.shell import BlobStore
from pool_server.referee.bench import RefereeBench

STATE_PREFIX: Final = "state/"
#: A unit is meant to take seconds; a vehicle that is much faster than this machine still gets its verdict.
UNIT_TIMEOUT_S: Final = 600.0
#: Failures that another try would not mend.
_OF_THE_PROGRAM: Final = frozenset({RefereeReason.PROGRAM, RefereeReason.INPUT, RefereeReason.MEMORY})


class ProgramSource(Protocol):
    """Where admitted programs are found."""

    async def artifact(self, program_sha256: str) -> bytes:
        """Return an admitted program's artifact."""
        ...

    async def manifest(self, program_sha256: str) -> ProgramManifest:
        """Return an admitted program's manifest."""
        ...


class RefereeUnits:
    """Runs one unit of a step program again."""

    def __init__(self, bench: RefereeBench, *, programs: ProgramSource, blobs: BlobStore) -> None:
        """Take who runs it, and where programs and arrays lie."""
        self._bench = bench
        self._programs = programs
        self._blobs = blobs

    async def run_unit(self, order: UnitOrder) -> UnitRun:
        """Run the unit.

        Raises:
            PoolError: PROGRAM_FAILED when the program fails on these inputs; UNAVAILABLE when the referee
                cannot run it now; what the blob store raises.
        """
        artifact = await self._programs.artifact(order.program_sha256)
        manifest = await self._programs.manifest(order.program_sha256)
        inputs, constants = await asyncio.to_thread(self._bundles, order)
        run = RefereeOrder(
            program_sha256=order.program_sha256,
            artifact=artifact,
            manifest_json=manifest.to_json(),
            constants=constants,
            inputs=inputs,
            steps=order.steps,
            unit_steps=order.steps,
            first_unit=order.unit_index,
            timeout_s=UNIT_TIMEOUT_S,
        )
        try:
            answer = await self._bench.run(run)
        except RefereeError as failure:
            of_program = failure.reason in _OF_THE_PROGRAM
            code = ErrorCode.PROGRAM_FAILED if of_program else ErrorCode.UNAVAILABLE
            raise PoolError(code, str(failure)) from failure
        return UnitRun(answer.unit_digests[0], await self._bench.numeric_class())

    def _bundles(self, order: UnitOrder) -> tuple[bytes, bytes | None]:
        """Return the unit's inputs, its state among them, and the constants."""
        inputs = self._read(order.inputs) or b""
        if order.start is not None:
            arrays = {
                name: array for name, array in decode(inputs).items() if not name.startswith(STATE_PREFIX)
            }
            start = decode(self._read(order.start) or b"")
            arrays |= {STATE_PREFIX + name: array for name, array in start.items()}
            inputs = encode(arrays)
        return inputs, self._read(order.constants)

    def _read(self, ref: TensorRef) -> bytes | None:
        if ref.inline is not None:
            return ref.inline
        return None if ref.blob_sha256 is None else self._blobs.get(ref.blob_sha256)

"""Disputed units and tasks: the referee in the shape that verdicts ask for.

Implements `ports.disputes.UnitReferee` and `ports.pool_runs.TaskReferee`.
"""

import asyncio
from typing import Final, Protocol

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import INLINE_TENSOR_BYTES_MAX
from pool_protocol.program.manifest import Group, ProgramManifest
from pool_protocol.tensors import decode, encode
from pool_server.core.jobs import TensorRef
from pool_server.ports.disputes import UnitOrder, UnitRun
from pool_server.ports.pool_runs import TaskOrder, TaskRun
from pool_server.ports.referee import RefereeAnswer, RefereeError, RefereeOrder, RefereeReason
from pool_server.ports.shell import BlobStore
from pool_server.referee.bench import RefereeBench

STATE_PREFIX: Final = "state/"
#: A unit is meant to take seconds; a vehicle that is much faster than this machine still gets its verdict.
UNIT_TIMEOUT_S: Final = 600.0
#: A whole task waits as long; only tasks up to the operator's limit come here.
TASK_TIMEOUT_S: Final = 600.0
#: Failures that another try would not mend, or that would take as long again.
_LASTING: Final[frozenset[RefereeReason]] = frozenset(
    {RefereeReason.PROGRAM, RefereeReason.INPUT, RefereeReason.MEMORY, RefereeReason.TIMEOUT}
)


class ProgramSource(Protocol):
    """Where admitted programs are found."""

    async def artifact(self, program_sha256: str) -> bytes:
        """Return an admitted program's artifact."""
        ...

    async def manifest(self, program_sha256: str) -> ProgramManifest:
        """Return an admitted program's manifest."""
        ...


class RefereeUnits:
    """Runs one unit of a step program again, or a whole task."""

    def __init__(self, bench: RefereeBench, *, programs: ProgramSource, blobs: BlobStore) -> None:
        """Take who runs it, and where programs and arrays lie."""
        self._bench = bench
        self._programs = programs
        self._blobs = blobs

    async def run_unit(self, order: UnitOrder) -> UnitRun:
        """Run the unit.

        Raises:
            PoolError: PROGRAM_FAILED when the program fails on these inputs or takes too long; UNAVAILABLE
                when the referee cannot run it now; what the blob store raises.
        """
        artifact, manifest = await self._program(order.program_sha256)
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
        answer = await self._run(run)
        return UnitRun(answer.unit_digests[0], await self._bench.numeric_class(), answer.outputs)

    async def run_task(self, order: TaskOrder) -> TaskRun:
        """Compute a whole task; large outputs are put into the blob store.

        Raises:
            PoolError: PROGRAM_FAILED when the program fails on these inputs or takes too long; UNAVAILABLE
                when the referee cannot run it now; what the blob store raises.
        """
        artifact, manifest = await self._program(order.program_sha256)
        takes_constants = bool(manifest.draft.tensor_types(Group.CONSTANTS))
        inputs = await asyncio.to_thread(self._read, order.inputs)
        constants = await asyncio.to_thread(self._read, order.constants) if takes_constants else None
        run = RefereeOrder(
            program_sha256=order.program_sha256,
            artifact=artifact,
            manifest_json=manifest.to_json(),
            constants=constants,
            inputs=inputs or b"",
            steps=order.steps,
            unit_steps=order.unit_steps,
            timeout_s=TASK_TIMEOUT_S,
        )
        answer = await self._run(run)
        outputs = await asyncio.to_thread(self._keep, answer.outputs)
        return TaskRun(answer.output_digest, outputs, await self._bench.numeric_class())

    async def _program(self, program_sha256: str) -> tuple[bytes, ProgramManifest]:
        artifact = await self._programs.artifact(program_sha256)
        return artifact, await self._programs.manifest(program_sha256)

    async def _run(self, run: RefereeOrder) -> RefereeAnswer:
        try:
            return await self._bench.run_in_turn(run)
        except RefereeError as failure:
            code = ErrorCode.PROGRAM_FAILED if failure.reason in _LASTING else ErrorCode.UNAVAILABLE
            raise PoolError(code, str(failure)) from failure

    def _keep(self, outputs: bytes) -> TensorRef:
        if len(outputs) <= INLINE_TENSOR_BYTES_MAX:
            return TensorRef(inline=outputs, size_bytes=len(outputs))
        blob_sha256 = sha256_hex(outputs)
        return TensorRef(
            blob_sha256=blob_sha256, size_bytes=self._blobs.put(outputs, blob_sha256=blob_sha256)
        )

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

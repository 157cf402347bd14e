"""Disputed units and tasks: the referee in the shape that verdicts ask for.

Implements `ports.disputes.UnitReferee` and `ports.pool_runs.TaskReferee`.
"""

import asyncio
from typing import Final

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import INLINE_TENSOR_BYTES_MAX
from pool_protocol.tensors import encode
from pool_server.core.jobs import TensorRef
from pool_server.ports.disputes import UnitOrder, UnitRun
from pool_server.ports.pool_runs import TaskOrder, TaskRun
from pool_server.ports.referee import RefereeAnswer, RefereeError, RefereeOrder, RefereeReason
from pool_server.ports.shell import BlobStore
from pool_server.referee.bench import RefereeBench
from pool_server.referee.orders import ProgramSource, RefereeOrders

STATE_PREFIX: Final = "state/"
#: A unit is meant to take seconds; a vehicle that is much faster than this machine still gets its verdict.
UNIT_TIMEOUT_S: Final = 600.0
#: A whole task waits as long; only tasks up to the operator's limit come here.
TASK_TIMEOUT_S: Final = 600.0
#: Failures that another try would not mend, or that would take as long again.
_LASTING: Final[frozenset[RefereeReason]] = frozenset(
    {RefereeReason.PROGRAM, RefereeReason.INPUT, RefereeReason.MEMORY, RefereeReason.TIMEOUT}
)


class RefereeUnits:
    """Runs one unit of a step program again, or a whole task."""

    def __init__(self, bench: RefereeBench, *, programs: ProgramSource, blobs: BlobStore) -> None:
        """Take who runs it, and where programs and arrays lie."""
        self._bench = bench
        self._blobs = blobs
        self._orders = RefereeOrders(programs=programs, blobs=blobs)

    async def run_unit(self, order: UnitOrder) -> UnitRun:
        """Run the unit.

        Raises:
            PoolError: PROGRAM_FAILED when the program fails on these inputs or takes too long; UNAVAILABLE
                when the referee cannot run it now; what the blob store raises.
        """
        inputs = await asyncio.to_thread(self._unit_inputs, order)
        run = await self._orders.make(order.program_sha256, constants=order.constants, inputs=inputs)
        run = run._replace(
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
        run = await self._orders.make_task(
            order.program_sha256,
            constants=order.constants,
            inputs=order.inputs,
            steps=order.steps,
            unit_steps=order.unit_steps,
        )
        answer = await self._run(run._replace(timeout_s=TASK_TIMEOUT_S))
        outputs = await asyncio.to_thread(self._keep, answer.outputs)
        return TaskRun(answer.output_digest, outputs, await self._bench.numeric_class())

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

    def _unit_inputs(self, order: UnitOrder) -> bytes:
        """Return the unit's inputs, its state among them."""
        if order.start is None:
            return self._orders.read(order.inputs) or b""
        arrays = {
            name: array
            for name, array in self._orders.arrays(order.inputs).items()
            if not name.startswith(STATE_PREFIX)
        }
        start = self._orders.arrays(order.start)
        return encode(arrays | {STATE_PREFIX + name: array for name, array in start.items()})

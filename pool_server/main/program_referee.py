"""From a disputed unit to a run of its program: gathers program and arrays, hashes what came out.

Runs nothing itself: a stranger's program runs only in the sandboxed child behind `RunProgram`.
"""

from pool_protocol.program.manifest import parse_manifest
from pool_server.app.dispute_gate import unit_digest
from pool_server.app.programs import require_program
from pool_server.app.task_board import read_tensors
from pool_server.app.work_policy import BlobReader
from pool_server.ports.disputes import UnitOrder, UnitRun
from pool_server.referee.calls import ProgramCall, RunProgram
from pool_server.rpc.store_access import StoreAccess

_STATE_PREFIX = "state/"


class ProgramReferee:
    """Implements `ports.disputes.UnitReferee`."""

    def __init__(self, run: RunProgram, *, store: StoreAccess, blobs: BlobReader) -> None:
        """Run programs by `run`; blobs hold artifacts and large arrays."""
        self._run = run
        self._store = store
        self._blobs = blobs

    async def run_unit(self, order: UnitOrder) -> UnitRun:
        """Run the unit.

        Raises:
            PoolError: as `RunProgram`; what the blob store raises.
        """
        record = await self._store.read(lambda uow: require_program(uow, order.program_sha256))
        arrays = read_tensors(order.inputs, self._blobs)
        initial = {
            name.removeprefix(_STATE_PREFIX): array
            for name, array in arrays.items()
            if name.startswith(_STATE_PREFIX)
        }
        answer = await self._run(
            ProgramCall(
                artifact=self._blobs.get(order.program_sha256),
                manifest=parse_manifest(record.manifest),
                steps=order.steps,
                state=initial if order.start is None else read_tensors(order.start, self._blobs),
                inputs={name: array for name, array in arrays.items() if not name.startswith(_STATE_PREFIX)},
                constants=read_tensors(order.constants, self._blobs),
            )
        )
        digest = unit_digest(answer.state, program_sha256=order.program_sha256, unit_index=order.unit_index)
        return UnitRun(digest, answer.numeric_class)

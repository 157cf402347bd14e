"""Disputed units: the referee in the shape that disputes ask for, over a real child."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pool_protocol import tensors
from pool_protocol.digests import sha256_hex, state_digest
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.export import ExportedProgram, export_step
from pool_protocol.program.manifest import ProgramManifest
from pool_server.blobs.local import LocalBlobStore
from pool_server.core.jobs import NO_TENSORS, TensorRef
from pool_server.ports.disputes import UnitOrder
from pool_server.referee.bench import RefereeBench
from pool_server.referee.units import RefereeUnits
from tests.integration.referee.test_referee import manifest_of

START = np.arange(4, dtype=np.float32)
PROGRAM = export_step(
    lambda state, inputs, constants: {"x": state["x"] * constants + inputs},
    {"x": START},
    np.float32(1),
    np.float32(2),
    unit_steps=2,
)
SHA256 = str(PROGRAM.draft.artifact_sha256)


class OneProgram:
    """Where the program is found."""

    def __init__(self, program: ExportedProgram) -> None:
        self._program = program

    async def artifact(self, program_sha256: str) -> bytes:
        """Its bytes."""
        return self._program.artifact

    async def manifest(self, program_sha256: str) -> ProgramManifest:
        """What admission found."""
        return manifest_of(self._program)


def inline(arrays: dict[str, Any]) -> TensorRef:
    encoded = tensors.encode(arrays)
    return TensorRef(inline=encoded, blob_sha256=None, size_bytes=len(encoded))


def digest(x: Any, unit: int) -> bytes:
    return state_digest({"x": x}, job_id="", program_sha256=SHA256, task_index=0, unit_index=unit)


async def test_a_unit_is_run_from_its_start_with_inputs_and_constants(tmp_path: Path) -> None:
    bench, blobs = RefereeBench(), LocalBlobStore(tmp_path)
    units = RefereeUnits(bench, programs=OneProgram(PROGRAM), blobs=blobs)
    constants = tensors.encode({"value": np.asarray(3, np.float32)})
    blobs.put(constants, blob_sha256=sha256_hex(constants))
    order = UnitOrder(
        program_sha256=SHA256,
        constants=TensorRef(inline=None, blob_sha256=sha256_hex(constants), size_bytes=len(constants)),
        inputs=inline({"state/x": START, "value": np.float32(1)}),
        start=None,
        unit_index=0,
        steps=2,
    )
    first = await units.run_unit(order)
    after = (START * 3 + 1) * 3 + 1
    assert first.state_digest == digest(after, 0)
    assert len(first.numeric_class) == 16
    last = await units.run_unit(order._replace(start=inline({"x": after}), unit_index=1, steps=1))
    assert last.state_digest == digest(after * 3 + 1, 1)
    with pytest.raises(PoolError) as unfit:
        await units.run_unit(order._replace(inputs=NO_TENSORS))
    assert unfit.value.code is ErrorCode.PROGRAM_FAILED
    await asyncio.to_thread(bench.close)
    with pytest.raises(PoolError) as closed:
        await units.run_unit(order)
    assert closed.value.code is ErrorCode.UNAVAILABLE

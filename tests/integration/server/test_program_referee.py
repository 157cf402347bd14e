"""A disputed unit as a call of its program: arrays from messages and blobs, the digest of what came out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import pytest

from pool_protocol import tensors
from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.export import export_step
from pool_protocol.program.load import LoadedProgram
from pool_protocol.program.manifest import ProgramCost, ProgramManifest
from pool_server.core.jobs import TensorRef
from pool_server.main.program_referee import ProgramReferee
from pool_server.ports.disputes import UnitOrder
from pool_server.referee.calls import ProgramAnswer, ProgramCall
from pool_server.rpc.store_access import StoreAccess
from tests.support.step_cars import State, unit_digest

STEP = export_step(lambda s, i, c: jnp.sin(s) * i + c, jnp.zeros(4), jnp.zeros(4), jnp.zeros(4), unit_steps=3)
COST = ProgramCost(
    operations={"sine": 1},
    flops=1,
    bytes_moved=1,
    work_uwu=1,
    peak_bytes=1,
    temporary_bytes=0,
    cost_model=1,
)
SHA256 = STEP.draft.artifact_sha256
LOADED = LoadedProgram(STEP.artifact, STEP.draft)
START: State = {"value": np.linspace(0, 1, 4, dtype=np.float32)}
INPUTS: State = {"value": np.full(4, 2, np.float32)}
CONSTANTS: State = {"value": np.full(4, 3, np.float32)}


class OneProgram:
    """The pool's store and blobs, as far as the referee looks."""

    def __init__(self, **blobs: bytes) -> None:
        self.blobs = {SHA256: STEP.artifact, **blobs}
        manifest = ProgramManifest(draft=STEP.draft, cost=COST).to_json()
        record = SimpleNamespace(manifest=manifest)
        self._uow = SimpleNamespace(programs=SimpleNamespace(get=lambda _: record))

    async def read(self, query: Callable[[Any], Any]) -> Any:
        return query(self._uow)

    def get(self, blob_sha256: str) -> bytes:
        return self.blobs[blob_sha256]


async def here(call: ProgramCall) -> ProgramAnswer:
    """Runs it in this process: it is a program of our own."""
    assert call.manifest.draft == STEP.draft
    state = LOADED.run_steps(call.steps, call.state, call.inputs, call.constants)
    return ProgramAnswer(state=state, numeric_class="here")


def ref(arrays: State) -> TensorRef:
    content = tensors.encode(arrays)
    return TensorRef(inline=content, size_bytes=len(content))


def order(*, start: TensorRef | None, unit_index: int, steps: int) -> UnitOrder:
    return UnitOrder(
        program_sha256=SHA256,
        constants=ref(CONSTANTS),
        inputs=ref({"value": INPUTS["value"], "state/value": START["value"]}),
        start=start,
        unit_index=unit_index,
        steps=steps,
    )


def test_the_first_unit_begins_in_the_tasks_state_and_a_later_one_in_the_agreed_one() -> None:
    first = LOADED.run_steps(3, START, INPUTS, CONSTANTS)
    second = LOADED.run_steps(2, first, INPUTS, CONSTANTS)
    content = tensors.encode(first)
    pool = OneProgram(**{sha256_hex(content): content})
    referee = ProgramReferee(here, store=cast("StoreAccess", pool), blobs=pool)
    found = asyncio.run(referee.run_unit(order(start=None, unit_index=0, steps=3)))
    assert found.state_digest == unit_digest(first, 0, SHA256)
    assert found.numeric_class == "here"
    large = TensorRef(blob_sha256=sha256_hex(content), size_bytes=len(content))
    for start in (ref(first), large):
        found = asyncio.run(referee.run_unit(order(start=start, unit_index=1, steps=2)))
        assert found.state_digest == unit_digest(second, 1, SHA256)


def test_a_program_that_fails_says_so() -> None:
    async def fails(_: ProgramCall) -> ProgramAnswer:
        raise PoolError(ErrorCode.PROGRAM_FAILED, "it cannot")

    pool = OneProgram()
    referee = ProgramReferee(fails, store=cast("StoreAccess", pool), blobs=pool)
    with pytest.raises(PoolError) as failed:
        asyncio.run(referee.run_unit(order(start=None, unit_index=0, steps=3)))
    assert failed.value.code is ErrorCode.PROGRAM_FAILED

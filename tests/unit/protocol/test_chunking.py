"""The probe of two chunkings: what is cut without harm passes, what reads its step count is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pool_protocol.digests import state_digest
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.admission import vet_in_child
from pool_protocol.program.chunking import (
    PASSED,
    PROBE_BYTES_MAX,
    PROBE_UWU_MAX,
    TOO_DEAR,
    TOO_LARGE,
    probe_chunkings,
    synthetic,
)
from pool_protocol.program.export import ExportedProgram, _export, export_map, export_step
from pool_protocol.program.load import LoadedProgram
from pool_protocol.program.manifest import EXACT, CustomCalls, Group, ProgramKind
from pool_protocol.program.signature import TensorType


def counting_its_steps() -> ExportedProgram:
    """A step program made by hand: what it returns depends on how many steps one call makes."""

    def call(arguments: Mapping[Group, Any]) -> Any:
        count = arguments[Group.STEP_COUNT]
        state = jax.lax.fori_loop(0, count, lambda _, s: s + 1.0, arguments[Group.STATE])
        return state * count.astype(jnp.float32)

    return _export(
        ProgramKind.STEP,
        call,
        {Group.STATE: jnp.zeros(3), Group.INPUTS: None, Group.CONSTANTS: None},
        platforms=("cpu",),
        comparators=EXACT,
        custom_calls=CustomCalls.NONE,
        unit_steps=4,
    )


def probed(program: ExportedProgram, *, step_uwu: int = 1, argument_bytes: int = 100) -> str:
    loaded = LoadedProgram(program.artifact, program.draft)
    return probe_chunkings(loaded, step_uwu=step_uwu, argument_bytes=argument_bytes)


HONEST = export_step(
    lambda s, i, c: jnp.tanh(s * i + c), jnp.zeros(5), jnp.zeros(5), jnp.zeros(5), unit_steps=2
)


def test_an_honest_step_program_passes_in_the_child() -> None:
    assert vet_in_child(HONEST.artifact, HONEST.draft).chunking == PASSED


def test_attack_a_program_that_reads_its_step_count_is_refused_in_the_child() -> None:
    forged = counting_its_steps()
    with pytest.raises(PoolError) as refused:
        vet_in_child(forged.artifact, forged.draft)
    assert refused.value.code is ErrorCode.PROGRAM_UNITS_DIFFER
    assert "different states" in refused.value.detail


def test_a_map_program_is_not_probed() -> None:
    assert probed(export_map(lambda x: x + 1, np.zeros(3, np.float32))) == ""


def test_states_that_mean_nothing_to_the_program_do_no_harm() -> None:
    nowhere = export_step(lambda s, i, c: jnp.log(-jnp.abs(s) - 1), jnp.zeros(5), unit_steps=2)
    assert probed(nowhere) == PASSED


def test_what_is_too_dear_or_too_large_is_not_run() -> None:
    assert probed(HONEST, step_uwu=PROBE_UWU_MAX // 12) == PASSED
    assert probed(HONEST, step_uwu=PROBE_UWU_MAX // 12 + 1) == TOO_DEAR
    assert probed(HONEST, argument_bytes=PROBE_BYTES_MAX + 1) == TOO_LARGE


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "float16", "float32", "bfloat16", "complex64"])
def test_made_up_arrays_are_the_same_every_time_and_not_constant(dtype: str) -> None:
    types = (TensorType(name="a", dtype=dtype, shape=(3, 4)), TensorType(name="b", dtype=dtype, shape=()))
    one, two = synthetic(types), synthetic(types)
    assert one["a"].dtype.name == dtype
    assert (one["a"].shape, one["b"].shape) == ((3, 4), ())
    assert len({str(value) for value in one["a"].ravel()}) > 1
    place: dict[str, Any] = {"job_id": "", "program_sha256": "", "task_index": 0, "unit_index": 0}
    assert state_digest(one, **place) == state_digest(two, **place)

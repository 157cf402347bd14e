"""The referee's real child: the right bits, an end for what hangs, a typed failure when it dies."""

from __future__ import annotations

import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.export import export_step
from pool_protocol.program.manifest import ProgramCost, ProgramManifest
from pool_server.referee import process as referee_process
from pool_server.referee.calls import ProgramCall
from pool_server.referee.process import RefereeProcess

COST = ProgramCost(
    operations={"sine": 1},
    flops=1,
    bytes_moved=1,
    work_uwu=1,
    peak_bytes=1,
    temporary_bytes=0,
    cost_model=1,
)


def call_of(step: Any, *, steps: int) -> ProgramCall:
    exported = export_step(step, jnp.zeros(4), jnp.zeros(4), jnp.zeros(4), unit_steps=3)
    return ProgramCall(
        artifact=exported.artifact,
        manifest=ProgramManifest(draft=exported.draft, cost=COST),
        steps=steps,
        state={"value": np.linspace(0, 1, 4, dtype=np.float32)},
        inputs={"value": np.full(4, 2, np.float32)},
        constants={"value": np.full(4, 3, np.float32)},
    )


def doubles(state: Any, inputs: Any, constants: Any) -> Any:
    return state * inputs + constants


def never_ends(state: Any, inputs: Any, constants: Any) -> Any:
    return lax.fori_loop(0, 2_000_000_000, lambda _, s: jnp.sin(s) + inputs, state) + constants


async def test_the_child_runs_the_steps_and_names_its_numeric_class() -> None:
    referee = RefereeProcess()
    answer = await referee(call_of(doubles, steps=2))
    start = np.linspace(0, 1, 4, dtype=np.float32)
    np.testing.assert_array_equal(answer.state["value"], (start * 2 + 3) * 2 + 3)
    assert len(answer.numeric_class) == 16
    again = await referee(call_of(doubles, steps=0))
    np.testing.assert_array_equal(again.state["value"], start)
    assert again.numeric_class == answer.numeric_class


async def test_a_program_that_never_ends_is_killed_and_the_next_call_is_answered() -> None:
    referee = RefereeProcess(timeout_s=60.0)
    await referee(call_of(doubles, steps=1))
    referee._timeout_s = 6.0
    with pytest.raises(PoolError) as caught:
        await referee(call_of(never_ends, steps=1))
    assert caught.value.code is ErrorCode.PROGRAM_COMPILE_LIMIT
    referee._timeout_s = 60.0
    assert (await referee(call_of(doubles, steps=1))).state["value"].shape == (4,)


async def test_arrays_that_do_not_fit_the_program_are_a_typed_failure() -> None:
    call = call_of(doubles, steps=1)
    wrong = ProgramCall(
        artifact=call.artifact,
        manifest=call.manifest,
        steps=1,
        state={"value": np.zeros(5, np.float32)},
        inputs=call.inputs,
        constants=call.constants,
    )
    with pytest.raises(PoolError) as caught:
        await RefereeProcess()(wrong)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "script",
    [
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "raise SystemExit(3)",
        "print('no frame')",
        "import sys; sys.stdout.buffer.write((5).to_bytes(8, 'little') + b'{}...')",
        "",
    ],
)
async def test_a_child_that_dies_or_babbles_fails_this_call_alone(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(referee_process, "_COMMAND", (sys.executable, "-c", script))
    with pytest.raises(PoolError) as caught:
        await RefereeProcess()(call_of(doubles, steps=1))
    assert caught.value.code is ErrorCode.UNAVAILABLE


async def test_a_child_that_cannot_be_started_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(referee_process, "_COMMAND", ("/nowhere/python",))
    with pytest.raises(PoolError, match="does not start"):
        await RefereeProcess()(call_of(doubles, steps=1))

"""The referee with real children: honest answers, and what hostile programs cost."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from chargepool._local import LocalProgram
from pool_protocol import tensors
from pool_protocol.digests import output_digest, state_digest
from pool_protocol.program.export import ExportedProgram, export_map, export_step
from pool_protocol.program.manifest import ProgramCost, ProgramManifest
from pool_server.ports.referee import RefereeError, RefereeOrder, RefereeReason
from pool_server.referee.bench import RefereeBench
from pool_server.referee.lanes import QUICK_S, RefereeLanes
from pool_server.referee.process import ChildSettings
from tests.support import hostile_programs as hostile

X = np.linspace(-2, 2, 64, dtype=np.float32)
DOUBLE = export_map(lambda x: {"y": jnp.tanh(x) * 2}, X)
#: A loop without end: admission refuses it, the referee is to survive it all the same.
ENDLESS = hostile.forge(
    hostile.main_of(
        "%one = stablehlo.constant dense<1.0> : tensor<4xf32> %0 = stablehlo.while(%i = %a) : tensor<4xf32> "
        "cond { %first = stablehlo.slice %i [0:1] : (tensor<4xf32>) -> tensor<1xf32> "
        "%value = stablehlo.reshape %first : (tensor<1xf32>) -> tensor<f32> "
        "%zero = stablehlo.constant dense<0.0> : tensor<f32> "
        "%more = stablehlo.compare GT, %value, %zero : (tensor<f32>, tensor<f32>) -> tensor<i1> "
        "stablehlo.return %more : tensor<i1> } "
        "do { %next = stablehlo.add %i, %one : tensor<4xf32> stablehlo.return %next : tensor<4xf32> }"
    )
)


def manifest_of(program: ExportedProgram) -> ProgramManifest:
    cost = ProgramCost(
        operations={}, flops=0, bytes_moved=0, work_uwu=1, peak_bytes=0, temporary_bytes=0, cost_model=1
    )
    return ProgramManifest(draft=program.draft, cost=cost)


def order_of(program: ExportedProgram, inputs: dict[str, Any], **fields: Any) -> RefereeOrder:
    return RefereeOrder(
        program_sha256=str(program.draft.artifact_sha256),
        artifact=program.artifact,
        manifest_json=manifest_of(program).to_json(),
        constants=None,
        inputs=tensors.encode(inputs),
    )._replace(**fields)


def forged_order(artifact_and_draft: tuple[bytes, Any], **fields: Any) -> RefereeOrder:
    artifact, draft = artifact_and_draft
    program = ExportedProgram(artifact=artifact, draft=draft)
    names = {
        tensor.tensor.name: np.ones(tensor.tensor.shape, tensor.tensor.dtype) for tensor in draft.arguments
    }
    return order_of(program, names, **fields)


@pytest.fixture
def bench() -> Iterator[RefereeBench]:
    made = RefereeBench()
    yield made
    made.close()


def failure(bench: RefereeBench, order: RefereeOrder) -> RefereeError:
    with pytest.raises(RefereeError) as raised:
        bench.run_now(order)
    return raised.value


def children(bench: RefereeBench) -> list[int]:
    return [child.pid for child in bench._children.values()]


def test_a_map_program_returns_what_it_returns_here(bench: RefereeBench) -> None:
    answer = bench.run_now(order_of(DOUBLE, {"value": X}))
    here = LocalProgram(DOUBLE.artifact, manifest_of(DOUBLE)).run({"value": X}, {}, steps=0)
    assert answer.output_digest == output_digest(here)
    assert tensors.decode(answer.outputs)["y"].tobytes() == here["y"].tobytes()
    assert answer.unit_digests == ()
    assert answer.run_time_us > 0


def test_constants_are_kept_by_their_bytes_and_changed_when_they_change(bench: RefereeBench) -> None:
    program = export_map(lambda constants, x: {"y": x * constants}, X, np.float32(1))
    for factor in (2.0, 2.0, 3.0):
        constants = tensors.encode({"value": np.asarray(factor, np.float32)})
        answer = bench.run_now(order_of(program, {"value": X}, constants=constants))
        assert np.array_equal(tensors.decode(answer.outputs)["y"], X * np.float32(factor))
    assert len(children(bench)) == 1


def test_a_step_program_has_a_vehicles_digests_and_may_start_at_any_unit(bench: RefereeBench) -> None:
    program = export_step(lambda state, *_: {"x": state["x"] * 1.5 + 1}, {"x": X}, unit_steps=3)
    sha256 = str(program.draft.artifact_sha256)

    def digest(state: dict[str, Any], unit: int) -> bytes:
        return state_digest(state, job_id="", program_sha256=sha256, task_index=0, unit_index=unit)

    whole = bench.run_now(order_of(program, {"state/x": X}, steps=7, unit_steps=3))
    local = LocalProgram(program.artifact, manifest_of(program))
    states = [local.run({"state/x": X}, {}, steps=steps) for steps in (3, 6, 7)]
    assert whole.unit_digests == tuple(digest(state, unit) for unit, state in enumerate(states))
    assert whole.output_digest == output_digest(states[-1])
    one = order_of(program, {"state/x": states[0]["x"]}, steps=3, unit_steps=3, first_unit=1)
    assert bench.run_now(one).unit_digests == (digest(states[1], 1),)


def test_inputs_that_do_not_fit_are_the_inputs_fault_and_cost_no_child(bench: RefereeBench) -> None:
    assert failure(bench, order_of(DOUBLE, {"other": X})).reason is RefereeReason.INPUT
    before = children(bench)
    assert failure(bench, order_of(DOUBLE, {})._replace(inputs=b"no tensors")).reason is RefereeReason.INPUT
    bench.run_now(order_of(DOUBLE, {"value": X}))
    assert children(bench) == before


def test_a_program_that_is_not_its_name_is_the_programs_fault(bench: RefereeBench) -> None:
    assert failure(bench, order_of(DOUBLE, {"value": X}, artifact=b"other")).reason is RefereeReason.PROGRAM
    assert children(bench) == []


def test_attack_an_endless_program_is_killed_and_costs_its_order_alone(bench: RefereeBench) -> None:
    endless = forged_order(ENDLESS, timeout_s=0.5)
    bench.run_now(order_of(DOUBLE, {"value": X}))
    honest = children(bench)
    assert failure(bench, endless).reason is RefereeReason.TIMEOUT
    assert bench.run_now(order_of(DOUBLE, {"value": X})).run_time_us >= 0
    assert children(bench)[-1:] == honest
    assert failure(bench, endless).reason is RefereeReason.TIMEOUT


def test_a_child_that_died_between_orders_is_replaced(bench: RefereeBench) -> None:
    order = order_of(DOUBLE, {"value": X})
    bench.run_now(order)
    [pid] = children(bench)
    os.killpg(pid, signal.SIGKILL)
    bench._children[order.program_sha256]._process.wait()
    assert bench.run_now(order).run_time_us >= 0
    assert children(bench) != [pid]


def test_a_program_that_wants_too_much_memory_says_so() -> None:
    wide = export_map(lambda x: {"y": jnp.cumsum(jnp.outer(x, jnp.arange(3_000_000.0)), axis=1)[:, -1]}, X)
    bench = RefereeBench(ChildSettings(memory_bytes=200 << 20))
    try:
        reason = failure(bench, order_of(wide, {"value": X})).reason
        assert reason in {RefereeReason.MEMORY, RefereeReason.CRASH}
        assert bench.run_now(order_of(DOUBLE, {"value": X})).run_time_us >= 0
    finally:
        bench.close()


@pytest.mark.parametrize(
    "script",
    [
        "import sys; sys.exit(3)",
        "import os; os.write(1, b'\\xff' * 64)",
        "import os; os.write(1, b'\\x10\\0\\0\\0' + b'{')",
        "import os; b = b'{\"buffers\":[999999999999]}'; os.write(1, len(b).to_bytes(4, 'little') + b)",
    ],
)
def test_attack_a_child_that_speaks_nonsense_is_a_crash(script: str) -> None:
    bench = RefereeBench(ChildSettings(command=(sys.executable, "-c", script)))
    assert failure(bench, order_of(DOUBLE, {"value": X})).reason is RefereeReason.CRASH
    bench.close()


LIAR = """
import os, sys
from pool_protocol import tensors
from pool_server.referee.frames import read_frame, write_frame
import numpy as np
source, sink = sys.stdin.buffer, sys.stdout.buffer
write_frame(sink, {})
read_frame(source)
write_frame(sink, {})
read_frame(source)
write_frame(sink, %s, [tensors.encode(%s)])
read_frame(source)
"""


@pytest.mark.parametrize(
    ("fields", "outputs"),
    [
        ("{'run_time_us': 1, 'unit_digests': []}", "{'z': np.zeros(64, np.float32)}"),
        ("{'run_time_us': 1, 'unit_digests': []}", "{'y': np.zeros(63, np.float32)}"),
        ("{'run_time_us': -1, 'unit_digests': []}", "{'y': np.zeros(64, np.float32)}"),
        ("{'run_time_us': 1, 'unit_digests': ['00']}", "{'y': np.zeros(64, np.float32)}"),
        ("{'run_time_us': 1}", "{'y': np.zeros(64, np.float32)}"),
    ],
)
def test_attack_outputs_that_the_program_cannot_return_are_a_crash(fields: str, outputs: str) -> None:
    bench = RefereeBench(ChildSettings(command=(sys.executable, "-c", LIAR % (fields, outputs))))
    assert failure(bench, order_of(DOUBLE, {"value": X})).reason is RefereeReason.CRASH
    assert children(bench) == [] or not bench._children[str(DOUBLE.draft.artifact_sha256)].alive
    bench.close()


def test_each_program_has_a_process_of_its_own_and_the_oldest_goes() -> None:
    bench = RefereeBench(children_max=2)
    programs = [export_map(lambda x, n=n: {"y": x + n}, X) for n in (1.0, 2.0, 3.0)]
    for program in programs:
        bench.run_now(order_of(program, {"value": X}))
    assert list(bench._children) == [str(program.draft.artifact_sha256) for program in programs[1:]]
    assert len(set(children(bench))) == 2
    bench.close()


async def test_orders_beyond_the_queue_are_refused_at_once() -> None:
    bench = RefereeBench(waiting_max=1)
    order = order_of(DOUBLE, {"value": X})
    first, second = await asyncio.gather(bench.run(order), bench.run(order), return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert isinstance(second, RefereeError)
    assert second.reason is RefereeReason.BUSY
    await asyncio.to_thread(bench.close)


async def test_who_asks_in_turn_waits_however_many_do() -> None:
    bench = RefereeBench(waiting_max=1)
    order = order_of(DOUBLE, {"value": X})
    answers = await asyncio.gather(bench.run(order), bench.run_in_turn(order))
    assert answers[0].output_digest == answers[1].output_digest
    await asyncio.to_thread(bench.close)


async def test_what_must_be_quick_does_not_wait_behind_what_is_slow() -> None:
    slow, quick = RefereeBench(), RefereeBench()
    lanes = RefereeLanes(quick=quick, slow=slow)
    endless = asyncio.ensure_future(lanes.run(forged_order(ENDLESS)._replace(timeout_s=QUICK_S + 1)))
    answer = await lanes.run(order_of(DOUBLE, {"value": X}, timeout_s=QUICK_S))
    assert answer.outputs
    assert not endless.done()
    await asyncio.to_thread(slow.close)
    await asyncio.to_thread(quick.close)
    with pytest.raises(RefereeError):
        await endless


async def test_closing_ends_what_runs() -> None:
    bench = RefereeBench()
    await bench.run(order_of(DOUBLE, {"value": X}))
    running = asyncio.ensure_future(bench.run(forged_order(ENDLESS)))
    while len(bench._children) < 2:  # noqa: ASYNC110 - its process starts on another thread
        await asyncio.sleep(0)
    await asyncio.to_thread(bench.close)
    with pytest.raises(RefereeError) as raised:
        await running
    assert raised.value.reason is not RefereeReason.TIMEOUT


def test_it_runs_under_the_pinned_profile_with_nothing_of_the_servers_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pool_protocol.numeric import PROFILE_ENVIRONMENT
    from pool_server.referee.process import child_environment

    monkeypatch.setenv("SECRET", "key")
    environment = child_environment(ChildSettings())
    assert environment.items() >= PROFILE_ENVIRONMENT.items()
    assert "SECRET" not in environment


async def test_it_knows_its_numeric_class(bench: RefereeBench) -> None:
    found = await bench.numeric_class()
    assert len(found) == 16
    assert await bench.numeric_class() == found

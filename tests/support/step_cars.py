"""Cars that walk a step program in NumPy, honestly or not, answer for their units, and a referee that counts.

A liar goes on from its own lie, so that every later state is wrong too, unless it heals.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from pool_protocol import tensors
from pool_protocol.digests import (
    inclusion_proof,
    merkle_root,
    output_digest,
    sha256_hex,
    state_digest,
)
from pool_protocol.errors import PoolError
from pool_protocol.program.manifest import (
    Argument,
    CustomCalls,
    Group,
    Output,
    ProgramDraft,
    ProgramKind,
    TensorType,
)
from pool_protocol.program.trees import tree_of
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from pool_server.core.jobs import TensorRef
from pool_server.ports.disputes import UnitOrder, UnitRun
from pool_server.ports.pool_runs import TaskOrder, TaskRun
from tests.support.fake_car import FakeBuyer, FakeCar
from tests.support.pool import PoolHandle

State = dict[str, NDArray[Any]]
STEP_ARTIFACT = b"a step program of the tests, which no JAX has made"
PROGRAM_SHA256 = sha256_hex(STEP_ARTIFACT)
UNIT_STEPS = 3
SIZE = 4
REPLY_TIMEOUT_S = 20.0


def step_draft(dtype: str = "uint32") -> ProgramDraft:
    """The draft of a step program over four numbers."""
    count = TensorType(name="k", dtype="int32", shape=())
    state = TensorType(name="value", dtype=dtype, shape=(SIZE,))
    tree = tree_of(np.zeros(SIZE, dtype))
    return ProgramDraft(
        kind=ProgramKind.STEP,
        artifact_sha256=PROGRAM_SHA256,
        jax_version="0.10.2",
        calling_convention=10,
        platforms=("cpu",),
        x64=False,
        custom_calls=CustomCalls.NONE,
        arguments=(
            Argument(group=Group.STEP_COUNT, tensor=count),
            Argument(group=Group.STATE, tensor=state),
        ),
        outputs=(Output(tensor=state),),
        argument_trees={
            Group.STATE: tree,
            Group.INPUTS: tree_of(None),
            Group.CONSTANTS: tree_of(None),
        },
        output_tree=tree,
        unit_steps=UNIT_STEPS,
    )


def run(state: State, steps: int) -> State:
    """What the program does: a linear congruential walk, exact in uint32."""
    value = state["value"].copy()
    for _ in range(steps):
        value = value * np.uint32(1_664_525) + np.uint32(1_013_904_223)
    return {"value": value}


def initial_state(seed: int) -> State:
    """A task's initial state."""
    return {"value": np.arange(seed, seed + SIZE, dtype=np.uint32)}


def unit_digest(state: State, unit: int, program_sha256: str = PROGRAM_SHA256) -> bytes:
    """What is committed to for a state: leases are blind."""
    return state_digest(state, job_id="", program_sha256=program_sha256, task_index=0, unit_index=unit)


def start_of(inputs: bytes) -> State:
    """The initial state in a task's inputs."""
    arrays = tensors.decode(inputs)
    return {name.removeprefix("state/"): array for name, array in arrays.items()}


def open_step_job(
    buyer: FakeBuyer,
    *,
    steps: int,
    tasks: int = 1,
    level: common_pb2.VerificationLevel.ValueType = common_pb2.VERIFICATION_LEVEL_SPOT,
    start: Callable[[int], State] = initial_state,
    comparator: common_pb2.Comparator | None = None,
) -> str:
    """Admit the program and open a job of it."""
    draft = step_draft(start(0)["value"].dtype.name)
    admitted = buyer.call(
        "AdmitProgram",
        market_pb.AdmitProgramRequest(artifact=STEP_ARTIFACT, manifest_draft=draft.to_json()),
    )
    job_id = str(
        buyer.call(
            "CreateJob",
            market_pb.CreateJobRequest(
                idempotency_key="steps",
                program_sha256=admitted.program_sha256,
                price_mode=common_pb2.PRICE_MODE_SPOT,
                price_cap_micros_per_wu=10_000_000,
                budget_micros=10**12,
                level=level,
                comparator=comparator,
                steps_per_task=steps,
                name="walks",
            ),
        ).job_id
    )
    inputs = []
    for seed in range(tasks):
        content = tensors.encode({"state/value": start(seed)["value"]})
        bundle = common_pb2.TensorBundle(inline=content, size_bytes=len(content))
        inputs.append(market_pb.TaskInputs(inputs=bundle))
    buyer.call("AddTasks", market_pb.AddTasksRequest(job_id=job_id, first_index=0, tasks=inputs))
    buyer.call("CloseJob", market_pb.CloseJobRequest(job_id=job_id))
    return job_id


@dataclass
class Walk:
    """States and commitments of one attempt."""

    states: list[State]
    digests: list[bytes]

    @property
    def root(self) -> bytes:
        """What is signed."""
        return merkle_root(self.digests)


Spoil = Callable[[int, State], State]


def honest(_unit: int, state: State) -> State:
    """Change nothing."""
    return state


def lie_at(lying_unit: int) -> Spoil:
    """Change the state after one unit; what follows follows from it."""

    def spoil(unit: int, state: State) -> State:
        return {"value": state["value"] + np.uint32(1)} if unit == lying_unit else state

    return spoil


class StepCar(FakeCar):
    """A car that walks, signs its units, and answers for them on a stream."""

    def __init__(
        self,
        pool: PoolHandle,
        *,
        spoil: Spoil = honest,
        name: str = "car",
        step: Callable[[State, int], State] = run,
        program_sha256: str = PROGRAM_SHA256,
    ) -> None:
        super().__init__(pool, name=name)
        self.spoil = spoil
        self.step = step
        self.program_sha256 = program_sha256
        self.walks: dict[int, Walk] = {}
        self.asked: list[pb.UnitQuery] = []
        self.answer_with: Callable[[pb.UnitQuery], pb.UnitAnswer | None] = self.truthful_answer

    def walk(self, attempt: pb.AttemptSpec) -> Walk:
        """Compute an attempt."""
        state = start_of(attempt.inputs.inline)
        states: list[State] = []
        done = 0
        while done < attempt.steps:
            count = min(attempt.unit_steps, attempt.steps - done)
            state = self.spoil(len(states), self.step(state, count))
            states.append(state)
            done += count
        digests = [unit_digest(state, unit, self.program_sha256) for unit, state in enumerate(states)]
        return Walk(states, digests)

    def work_steps(self) -> list[pb.AttemptAck]:
        """Take a lease, walk, hand in."""
        lease = self.lease()
        if lease is None:
            return []
        results = []
        for attempt in lease.attempts:
            walk = self.walks[attempt.attempt_id] = self.walk(attempt)
            content = tensors.encode(walk.states[-1])
            results.append(
                pb.AttemptResult(
                    attempt_id=attempt.attempt_id,
                    outcome=pb.ATTEMPT_OUTCOME_COMPLETED,
                    output_digest=output_digest(walk.states[-1]),
                    outputs=common_pb2.TensorBundle(inline=content, size_bytes=len(content)),
                    unit_root=walk.root,
                    unit_count=len(walk.digests),
                    run_time_us=1_000,
                )
            )
        return self.submit(self.seal(pb.ResultBundleBody(lease_id=lease.lease_id, results=results)))

    def truthful_answer(self, query: pb.UnitQuery) -> pb.UnitAnswer:
        """Answer as committed."""
        walk = self.walks[query.attempt_id]
        answer = pb.UnitAnswer(
            query_id=query.query_id,
            digest=walk.digests[query.unit_index],
            inclusion_path=inclusion_proof(walk.digests, query.unit_index),
        )
        if query.want_state:
            content = tensors.encode(walk.states[query.unit_index])
            answer.state.CopyFrom(common_pb2.TensorBundle(inline=content, size_bytes=len(content)))
        return answer

    def digest_queries(self) -> list[int]:
        """Units whose digest alone this car was asked for, in order."""
        return [query.unit_index for query in self.asked if not query.want_state]

    def state_queries(self) -> list[int]:
        """Units whose state this car was asked for."""
        return [query.unit_index for query in self.asked if query.want_state]


class AnsweringStream:
    """A car's stream on which it answers questions as they come."""

    def __init__(self, car: StepCar) -> None:
        self._car = car
        self._requests: queue.Queue[pb.ExchangeRequest | None] = queue.Queue()
        self._next_id = 0
        self._seen: set[int] = set()
        self.asked = threading.Event()
        self._call = car.stub.Exchange(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._answer(response)
        except grpc.RpcError:
            return  # the pool went away

    def _answer(self, response: pb.ExchangeResponse) -> None:
        answers = []
        for query in response.unit_queries:
            if query.query_id in self._seen:
                continue
            self._seen.add(query.query_id)
            if all(query.query_id != asked.query_id for asked in self._car.asked):
                self._car.asked.append(query)
            answer = self._car.answer_with(query)
            if answer is not None:
                answers.append(answer)
        if answers:
            self._next_id += 1
            self._requests.put(pb.ExchangeRequest(request_id=self._next_id, unit_answers=answers))
        if response.unit_queries:
            self.asked.set()

    def end(self) -> None:
        """Close the stream."""
        self._requests.put(None)
        self._reader.join(REPLY_TIMEOUT_S)


@dataclass
class CountingReferee:
    """Runs the units it is given, in this process, and remembers which."""

    step: Callable[[State, int], State] = run
    numeric_class: str = ""
    fails_with: PoolError | None = None
    orders: list[UnitOrder] = field(default_factory=list)

    async def run_unit(self, order: UnitOrder) -> UnitRun:
        """Run one unit."""
        self.orders.append(order)
        if self.fails_with is not None:
            raise self.fails_with
        if order.start is None:
            state = start_of(order.inputs.inline or b"")
        else:
            state = dict(tensors.decode(order.start.inline or b""))
        after = self.step(state, order.steps)
        digest = unit_digest(after, order.unit_index, order.program_sha256)
        return UnitRun(digest, self.numeric_class, tensors.encode(after))

    async def run_task(self, order: TaskOrder) -> TaskRun:
        """Run a whole task."""
        if self.fails_with is not None:
            raise self.fails_with
        after = self.step(start_of(order.inputs.inline or b""), order.steps)
        content = tensors.encode(after)
        outputs = TensorRef(inline=content, size_bytes=len(content))
        return TaskRun(output_digest(after), outputs, self.numeric_class)

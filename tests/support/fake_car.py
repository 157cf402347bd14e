"""A car that really signs and verifies, and computes with a plain function in place of a worker; and the
program that goes with it, admitted without JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pool_protocol import tensors
from pool_protocol.digests import merkle_root, output_digest, sha256_hex, state_digest
from pool_protocol.envelope import EnvelopeHeader, PayloadType, open_envelope, seal_envelope
from pool_protocol.keys import SigningKey, TrustedKeys
from pool_protocol.program.admission import AdmittedProgram
from pool_protocol.program.manifest import (
    Argument,
    CustomCalls,
    Group,
    Output,
    ProgramCost,
    ProgramDraft,
    ProgramKind,
    ProgramManifest,
    TensorType,
)
from pool_protocol.program.trees import tree_of
from pool_protocol.roots import Role, open_first_root, open_root_chain
from pool_protocol.system import SystemIds
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from tests.support.pool import PoolHandle, PrincipalHandle, VehicleHandle

Arrays = Mapping[str, NDArray[Any]]
Compute = Callable[[Arrays], dict[str, NDArray[Any]]]
#: One task of the test's program: 1 WU, hence the posted price.
WORK_UWU = 1_000_000
ARTIFACT = b"a program of the tests, which no JAX has made"
RESULT_LIFETIME_US = 3_600_000_000


def square(inputs: Arrays) -> dict[str, NDArray[Any]]:
    """What the test's program does."""
    return {"value": np.asarray(inputs["value"] ** 2, np.float32)}


def lie(inputs: Arrays) -> dict[str, NDArray[Any]]:
    """What a liar returns instead."""
    return {"value": np.asarray(inputs["value"] + 1, np.float32)}


def draft_of(artifact: bytes = ARTIFACT, *, size: int = 3) -> ProgramDraft:
    """The draft of a map program from float32[size] to float32[size]."""
    tensor = TensorType(name="value", dtype="float32", shape=(size,))
    tree = tree_of(np.zeros(size, np.float32))
    return ProgramDraft(
        kind=ProgramKind.MAP,
        artifact_sha256=sha256_hex(artifact),
        jax_version="0.10.2",
        calling_convention=10,
        platforms=("cpu",),
        x64=False,
        custom_calls=CustomCalls.NONE,
        arguments=(Argument(group=Group.INPUTS, tensor=tensor),),
        outputs=(Output(tensor=tensor),),
        argument_trees={Group.CONSTANTS: tree_of(None), Group.INPUTS: tree},
        output_tree=tree,
        unit_steps=0,
    )


def vet_without_jax(artifact: bytes, draft: ProgramDraft) -> AdmittedProgram:
    """Admits anything, for tests that are not about admission."""
    cost = ProgramCost(
        operations={"multiply": 1},
        flops=10**12,
        bytes_moved=24,
        work_uwu=WORK_UWU,
        peak_bytes=1_000,
        temporary_bytes=0,
        cost_model=1,
    )
    return AdmittedProgram(
        artifact=artifact,
        manifest=ProgramManifest(draft=draft, cost=cost),
        is_rewritten=False,
        sandbox_missing={},
    )


def inputs_of(number: float, *, size: int = 3) -> common_pb2.TensorBundle:
    """One task's inputs."""
    content = tensors.encode({"value": np.full(size, number, np.float32)})
    return common_pb2.TensorBundle(inline=content, size_bytes=len(content))


@dataclass
class FakeBuyer:
    """A buyer with money and the test's program."""

    pool: PoolHandle
    principal: PrincipalHandle

    @classmethod
    def with_money(cls, pool: PoolHandle, *, amount_micros: int = 10**12, name: str = "Bea") -> FakeBuyer:
        """Make a buyer and pay in."""
        principal = pool.create_principal("buyer", name)
        pool.deposit(principal, amount_micros)
        return cls(pool=pool, principal=principal)

    def call(self, method: str, request: Any) -> Any:
        """Make a call of MarketService."""
        return getattr(self.pool.market(), method)(request, metadata=self.principal.metadata)

    def admit(self, artifact: bytes = ARTIFACT) -> str:
        """Admit the test's program."""
        answer = self.call(
            "AdmitProgram",
            market_pb.AdmitProgramRequest(artifact=artifact, manifest_draft=draft_of(artifact).to_json()),
        )
        return str(answer.program_sha256)

    def open_job(
        self,
        numbers: list[float],
        *,
        level: common_pb2.VerificationLevel.ValueType = common_pb2.VERIFICATION_LEVEL_NONE,
        close: bool = True,
        key: str = "job",
    ) -> str:
        """Admit the program, open a job with one task per number, and close it to more."""
        created = self.call(
            "CreateJob",
            market_pb.CreateJobRequest(
                idempotency_key=key,
                program_sha256=self.admit(),
                price_mode=common_pb2.PRICE_MODE_SPOT,
                price_cap_micros_per_wu=10_000_000,
                budget_micros=10**9,
                level=level,
                name="squares",
            ),
        )
        job_id = str(created.job_id)
        tasks = [market_pb.TaskInputs(inputs=inputs_of(number)) for number in numbers]
        self.call("AddTasks", market_pb.AddTasksRequest(job_id=job_id, first_index=0, tasks=tasks))
        if close:
            self.call("CloseJob", market_pb.CloseJobRequest(job_id=job_id))
        return job_id

    def results(self, job_id: str, count: int) -> list[market_pb.TaskResult]:
        """The canonical results of the first tasks."""
        answer = self.call("GetResults", market_pb.GetResultsRequest(job_id=job_id, indexes=range(count)))
        return list(answer.results)

    def job(self, job_id: str) -> market_pb.JobView:
        """The job now."""
        view: market_pb.JobView = self.call("GetJob", market_pb.GetJobRequest(job_id=job_id)).job
        return view


class FakeCar:
    """An enrolled car of an owner of its own."""

    def __init__(self, pool: PoolHandle, *, owner: PrincipalHandle | None = None, name: str = "car") -> None:
        self.pool = pool
        self.owner = owner if owner is not None else pool.create_principal("owner", f"owner of {name}")
        self.vehicle: VehicleHandle = pool.enrol_vehicle(self.owner, label=name)
        self._sequence = 0

    @property
    def stub(self) -> Any:
        """FleetService as this car."""
        return self.pool.fleet(self.vehicle)

    def lease_keys(self) -> TrustedKeys:
        """The lease keys of the pool's newest root, every version verified."""
        answer = self.stub.GetRoot(fleet_pb.GetRootRequest())
        roots = [root.SerializeToString() for root in answer.roots]
        now_us = self.pool.clock.now_us()
        trusted = open_first_root(roots[0], now_us=now_us)
        if len(roots) > 1:
            trusted = open_root_chain(roots[1:], trusted, now_us=now_us)
        return trusted.keys_for(Role.LEASE)

    def open_lease(self, envelope: common_pb2.Envelope) -> fleet_pb.LeaseBody:
        """Verify a lease as an agent does."""
        verified = open_envelope(
            envelope,
            payload_type=PayloadType.LEASE,
            audience=self.vehicle.vehicle_id,
            keys=self.lease_keys(),
            now_us=self.pool.clock.now_us(),
            issuer=self.pool.pool_id,
        )
        return fleet_pb.LeaseBody.FromString(verified.body)

    def lease(self, attempts_max: int = 100, *, held: list[str] | None = None) -> fleet_pb.LeaseBody | None:
        """Ask for work; None when there is none."""
        answer = self.stub.LeaseWork(
            fleet_pb.LeaseWorkRequest(
                want=fleet_pb.WorkRequest(attempts_max=attempts_max), held_lease_ids=held or []
            )
        )
        return self.open_lease(answer.lease) if answer.HasField("lease") else None

    def results(
        self, lease: fleet_pb.LeaseBody, compute: Compute = square, *, spoil: bytes | None = None
    ) -> fleet_pb.ResultBundleBody:
        """Compute a lease; `spoil` replaces the outputs' bytes."""
        return fleet_pb.ResultBundleBody(
            lease_id=lease.lease_id,
            results=[
                self._result(attempt, compute, spoil, lease.program_sha256) for attempt in lease.attempts
            ],
        )

    def _result(
        self, attempt: fleet_pb.AttemptSpec, compute: Compute, spoil: bytes | None, program_sha256: str
    ) -> fleet_pb.AttemptResult:
        outputs = compute(tensors.decode(attempt.inputs.inline))
        content = tensors.encode(outputs) if spoil is None else spoil
        # It knows the final state alone, and commits to it for every unit: enough for tasks of one.
        units = -(-attempt.steps // attempt.unit_steps) if attempt.steps else 0
        states = [
            state_digest(outputs, job_id="", program_sha256=program_sha256, task_index=0, unit_index=unit)
            for unit in range(units)
        ]
        return fleet_pb.AttemptResult(
            attempt_id=attempt.attempt_id,
            outcome=fleet_pb.ATTEMPT_OUTCOME_COMPLETED,
            output_digest=output_digest(outputs),
            outputs=common_pb2.TensorBundle(inline=content, size_bytes=len(content)),
            run_time_us=1_000,
            unit_root=merkle_root(states) if states else b"",
            unit_count=units,
        )

    def seal(
        self,
        body: fleet_pb.ResultBundleBody,
        *,
        audience: str = "",
        issuer: str = "",
        key: SigningKey | None = None,
        issued_at_us: int | None = None,
    ) -> common_pb2.Envelope:
        """Sign results as this car, or wrongly."""
        self._sequence += 1
        now_us = self.pool.clock.now_us() if issued_at_us is None else issued_at_us
        header = EnvelopeHeader(
            issuer=issuer or self.vehicle.vehicle_id,
            audience=audience or self.pool.pool_id,
            nonce=SystemIds().nonce(),
            sequence=self._sequence,
            issued_at_us=now_us,
            expires_at_us=now_us + RESULT_LIFETIME_US,
        )
        return seal_envelope(
            body.SerializeToString(),
            payload_type=PayloadType.RESULTS,
            header=header,
            key=key if key is not None else self.vehicle.envelope_key,
        )

    def submit(self, envelope: common_pb2.Envelope) -> list[fleet_pb.AttemptAck]:
        """Hand in results."""
        answer = self.stub.SubmitResults(fleet_pb.SubmitResultsRequest(results=envelope))
        return list(answer.acks)

    def work(self, compute: Compute = square, *, attempts_max: int = 100) -> list[fleet_pb.AttemptAck]:
        """Take one lease, compute it, hand it in; nothing when there is no work."""
        lease = self.lease(attempts_max)
        return [] if lease is None else self.submit(self.seal(self.results(lease, compute)))

    def earnings(self) -> fleet_pb.GetVehicleEarningsResponse:
        """The money of this car's owner."""
        answer: fleet_pb.GetVehicleEarningsResponse = self.stub.GetVehicleEarnings(
            fleet_pb.GetVehicleEarningsRequest()
        )
        return answer

"""A pool's work for tests: real use cases, real books, cars that compute `x + 1`, chance that a test sets."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pool_protocol import tensors
from pool_protocol.digests import output_digest, sha256_hex
from pool_protocol.errors import PoolError
from pool_server.app import expiry, fleet, jobs, look_back, refereeing
from pool_server.app.certificates import CertificateFinding
from pool_server.app.earnings import release_held
from pool_server.app.leasing import lease_work
from pool_server.app.price_epochs import hold_due_epoch
from pool_server.app.pricing import posted_price, set_posted_price
from pool_server.app.submission import submit_results
from pool_server.app.work_commands import (
    AckStatus,
    AddTasks,
    AttemptAckValue,
    AttemptGrant,
    AttemptReport,
    CreateJob,
    DecidedPage,
    JobViewValue,
    LeaseGranted,
    LeaseWork,
    NewTask,
    NoWorkNow,
    SubmitResults,
    TaskResultValue,
    VehicleViewValue,
)
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.comparison import Comparator
from pool_server.core.effects import Effect
from pool_server.core.hand_out import HandOutOrder
from pool_server.core.jobs import (
    NO_TENSORS,
    AttemptOutcome,
    OutputSpec,
    PriceMode,
    ProgramFacts,
    TensorRef,
)
from pool_server.core.verification import VerificationLevel
from pool_server.ports.pool_runs import TaskRun
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support.books import Books

T = TypeVar("T")
Arrays = dict[str, NDArray[Any]]

PROGRAM = ProgramFacts(
    program_sha256=sha256_hex(b"program"),
    kind="map",
    work_uwu_per_task=1_000_000,
    unit_steps=0,
    outputs=(OutputSpec(name="y", dtype="float32", shape=(2,)),),
)
#: The posted price of `Books` is 100 micros per WU, and a task is one WU.
TASK_MICROS = 100
BUYER = "buyer_b"


def inputs_of(value: float) -> TensorRef:
    """The inputs of the task that asks for `value + 1`."""
    return inline(tensors.encode({"x": np.array([value, value], dtype=np.float32)}))


def inline(content: bytes) -> TensorRef:
    return TensorRef(inline=content, size_bytes=len(content))


def answer(value: float) -> Arrays:
    return {"y": np.array([value, value], dtype=np.float32)}


def report(
    attempt_id: int,
    arrays: Arrays | None = None,
    *,
    outcome: AttemptOutcome = AttemptOutcome.COMPLETED,
    run_time_us: int = 1_000,
    detail: str = "",
) -> AttemptReport:
    """A report: of a result when arrays are given."""
    if arrays is None:
        return AttemptReport(attempt_id=attempt_id, outcome=outcome, outputs=NO_TENSORS, detail=detail)
    return AttemptReport(
        attempt_id=attempt_id,
        outcome=outcome,
        output_digest=output_digest(arrays),
        outputs=inline(tensors.encode(arrays)),
        run_time_us=run_time_us,
    )


def computed(grant: AttemptGrant, *, error: float = 0.0) -> AttemptReport:
    """What an honest car reports, or one that is off by `error`."""
    if grant.inputs.inline is None:
        raise ValueError("a test's inputs are inline")
    [x] = tensors.decode(grant.inputs.inline).values()
    return report(grant.attempt_id, answer(float(x[0]) + 1.0 + error))


class SetDraws:
    """Audit draws that a test sets: a number for all."""

    def __init__(self, drawn: float = 0.999_999) -> None:
        self.drawn = drawn

    def uniform(self, *, output_digest: bytes, attempt_id: int) -> float:
        return self.drawn


class InOrder:
    """Leases that a test foresees: what waits first, then the oldest."""

    def numbers(self, *, lease_seed: int, job_id: int, count: int) -> Sequence[float]:
        return [0.0] * count


class Workshop:
    """One pool; every method is one command."""

    def __init__(
        self,
        path: Path,
        *,
        policy: WorkPolicy | None = None,
        draws: SetDraws | None = None,
        order: HandOutOrder | None = None,
    ) -> None:
        self.books = Books(path)
        self.policy = policy or WorkPolicy(allow_level_none=True)
        self.draws = draws or SetDraws()
        self.order = order or InOrder()
        self.effects: list[Effect] = []
        self.blobs: BlobReader | None = None
        self._keys = 0

    @property
    def now_us(self) -> int:
        return self.books.now_us

    def wait(self, *, seconds: float) -> None:
        self.books.now_us += int(seconds * 1_000_000)

    def car(self, name: str, *, owner: str | None = None) -> str:
        """A vehicle of the owner that is named alike."""
        vehicle_id = f"vehicle_{name}"
        self.books.run(
            lambda uow: fleet.register_vehicle(
                uow,
                vehicle_id=vehicle_id,
                owner_id=owner or f"owner_{name}",
                label=name,
                now_us=self.now_us,
            )
        )
        return vehicle_id

    def job(
        self,
        task_count: int = 1,
        *,
        level: VerificationLevel = VerificationLevel.NONE,
        comparator: Comparator | None = None,
        close: bool = False,
        buyer: str = BUYER,
        price_mode: PriceMode = PriceMode.SPOT,
        price_micros_per_wu: int = 100,
        budget_micros: int | None = None,
        deadline_us: int = 0,
        attempts_may_fail: int = 0,
        program: ProgramFacts = PROGRAM,
        steps_per_task: int = 0,
        certificate_sha256: str = "",
        price_start_micros_per_wu: int = 0,
        quoted_task_count: int = 0,
        refuses_price_above_cap: bool = False,
    ) -> int:
        """A job whose task i asks for i + 1, with just the budget that it needs, paid in for it."""
        self._keys += 1
        quorum = 2 if level is VerificationLevel.FULL else 1
        needed = task_count * quorum * -(-program.work_uwu_per_task * price_micros_per_wu // 1_000_000)
        budget = needed if budget_micros is None else budget_micros
        if budget:
            self.books.deposit(budget, buyer_id=buyer, reference=f"for job {self._keys}")
        command = CreateJob(
            buyer_id=buyer,
            idempotency_key=f"key-{self._keys}",
            name=f"job {self._keys}",
            program=program,
            constants=NO_TENSORS,
            price_mode=price_mode,
            price_micros_per_wu=price_micros_per_wu,
            budget_micros=budget,
            level=level,
            comparator=comparator or Comparator(),
            deadline_us=deadline_us,
            attempts_may_fail=attempts_may_fail,
            steps_per_task=steps_per_task,
            certificate_sha256=certificate_sha256,
            price_start_micros_per_wu=price_start_micros_per_wu,
            quoted_task_count=quoted_task_count,
            refuses_price_above_cap=refuses_price_above_cap,
        )
        job_id = self.books.run(
            lambda uow: jobs.create_job(uow, command, policy=self.policy, now_us=self.now_us)
        ).job_id
        if task_count:
            self.add(job_id, range(task_count), buyer=buyer)
        if close:
            self.close(job_id, buyer=buyer)
        return job_id

    def add(
        self, job_id: int, values: Sequence[float], *, first_index: int | None = None, buyer: str = BUYER
    ) -> int:
        start = int(values[0]) if first_index is None else first_index
        command = AddTasks(
            buyer_id=buyer,
            job_id=job_id,
            first_index=start,
            tasks=[NewTask(inputs=inputs_of(value)) for value in values],
        )
        return self._run(lambda uow: jobs.add_tasks(uow, command, now_us=self.now_us))

    def close(self, job_id: int, *, buyer: str = BUYER) -> JobViewValue:
        return self._run(lambda uow: jobs.close_job(uow, buyer_id=buyer, job_id=job_id, now_us=self.now_us))

    def cancel(self, job_id: int, *, buyer: str = BUYER) -> JobViewValue:
        return self._run(lambda uow: jobs.cancel_job(uow, buyer_id=buyer, job_id=job_id, now_us=self.now_us))

    def ask(
        self,
        vehicle_id: str,
        attempts_max: int = 256,
        *,
        held: Sequence[int] = (),
        warm: Sequence[str] = (),
        reserve: int = 0,
        available_ms: int = 0,
        network: str = "",
    ) -> LeaseGranted | NoWorkNow:
        command = LeaseWork(
            vehicle_id=vehicle_id,
            attempts_max=attempts_max,
            held_lease_ids=held,
            warm_programs=warm,
            reserve_price_micros_per_wu=reserve,
            available_ms=available_ms,
            network=network,
        )
        return self._run(
            lambda uow: lease_work(uow, command, order=self.order, policy=self.policy, now_us=self.now_us)
        )

    def lease(self, vehicle_id: str, attempts_max: int = 256, *, held: Sequence[int] = ()) -> LeaseGranted:
        granted = self.ask(vehicle_id, attempts_max, held=held)
        assert isinstance(granted, LeaseGranted), granted
        return granted

    def submit(
        self,
        vehicle_id: str,
        lease_id: int,
        reports: Sequence[AttemptReport],
        *,
        certified: Mapping[int, CertificateFinding] | None = None,
    ) -> list[AttemptAckValue]:
        command = SubmitResults(vehicle_id=vehicle_id, lease_id=lease_id, reports=reports)
        return self._run(
            lambda uow: submit_results(
                uow,
                command,
                draws=self.draws,
                policy=self.policy,
                now_us=self.now_us,
                blobs=self.blobs,
                certified=certified,
            )
        )

    def hand_in(self, lease: LeaseGranted, *, error: float = 0.0) -> list[AckStatus]:
        """Compute and submit a whole lease."""
        reports = [computed(grant, error=error) for grant in lease.attempts]
        return [ack.status for ack in self.submit(lease.vehicle_id, lease.lease_id, reports)]

    def work(self, vehicle_id: str, *, error: float = 0.0) -> list[AckStatus]:
        """Lease, compute, submit."""
        return self.hand_in(self.lease(vehicle_id), error=error)

    def exhaust(self, *vehicle_ids: str) -> None:
        """Let honest cars lease, compute and submit in turn until none of them gets work."""
        busy = True
        while busy:
            busy = False
            for vehicle_id in vehicle_ids:
                granted = self.ask(vehicle_id)
                if isinstance(granted, LeaseGranted):
                    self.hand_in(granted)
                    busy = True

    def expire(self) -> int:
        return self._run(lambda uow: expiry.expire_leases(uow, policy=self.policy, now_us=self.now_us))

    def expire_jobs(self) -> int:
        return self._run(lambda uow: expiry.expire_jobs(uow, now_us=self.now_us))

    def quarantine(self, vehicle_id: str, *, reason: str = "looks odd") -> None:
        self._run(
            lambda uow: fleet.set_quarantine(
                uow,
                vehicle_id=vehicle_id,
                quarantined=True,
                reason=reason,
                policy=self.policy,
                now_us=self.now_us,
            )
        )

    def release(self, vehicle_id: str) -> None:
        self._run(
            lambda uow: fleet.set_quarantine(
                uow,
                vehicle_id=vehicle_id,
                quarantined=False,
                reason="",
                policy=self.policy,
                now_us=self.now_us,
            )
        )

    def trust(self, vehicle_id: str, *, trusted: bool = True) -> None:
        self._run(
            lambda uow: fleet.set_trusted(uow, vehicle_id=vehicle_id, trusted=trusted, now_us=self.now_us)
        )

    def look_back(self) -> int:
        """Run the sweeps of look-backs until they have nothing to do. Returns how many turns it took."""
        turns = 0
        while self.open_look_backs() + self.close_look_backs():
            turns += 1
        return turns

    def open_look_backs(self) -> int:
        return self._run(lambda uow: look_back.open_look_backs(uow, policy=self.policy, now_us=self.now_us))

    def close_look_backs(self) -> int:
        return self._run(
            lambda uow: look_back.close_look_backs(
                uow, policy=self.policy, now_us=self.now_us, blobs=self.blobs
            )
        )

    def accept_unverified(self) -> int:
        return self._run(
            lambda uow: expiry.accept_unverified(
                uow, policy=self.policy, now_us=self.now_us, blobs=self.blobs
            )
        )

    def referee(
        self, *, error: float = 0.0, numeric_class: str = "", fails_with: PoolError | None = None
    ) -> int:
        """Let the pool compute what waits for it. Returns how many tasks that were."""
        task_ids = self.books.run(refereeing.tasks_to_referee)
        for task_id in task_ids:
            run = fails_with or self._task_run(task_id, error=error, numeric_class=numeric_class)
            self._take_task_run(task_id, run)
        return len(task_ids)

    def _task_run(self, task_id: int, *, error: float, numeric_class: str) -> TaskRun | PoolError:
        order = self.books.run(lambda uow: refereeing.task_order(uow, task_id))
        assert order is not None
        if isinstance(order, PoolError):
            return order
        assert order.inputs.inline is not None
        [x] = tensors.decode(order.inputs.inline).values()
        arrays = answer(float(x[0]) + 1.0 + error)
        return TaskRun(output_digest(arrays), inline(tensors.encode(arrays)), numeric_class)

    def _take_task_run(self, task_id: int, run: TaskRun | PoolError) -> None:
        self._run(
            lambda uow: refereeing.take_task_run(
                uow, task_id, run, policy=self.policy, blobs=self.blobs, now_us=self.now_us
            )
        )

    def set_price(self, price_micros_per_wu: int) -> None:
        """What `pool-server price set` does."""
        self._run(
            lambda uow: set_posted_price(
                uow, price_micros_per_wu=price_micros_per_wu, operator_id="op_a", now_us=self.now_us
            )
        )

    def hold_epoch(self) -> int:
        """Hold the price epoch if one is due. Returns whether one was."""
        return self._run(lambda uow: hold_due_epoch(uow, policy=self.policy, now_us=self.now_us))

    def price(self) -> int:
        return self.books.run(posted_price)

    def release_money(self) -> int:
        return self._run(lambda uow: release_held(uow, now_us=self.now_us))

    def retire(self, vehicle_id: str) -> None:
        self._run(
            lambda uow: fleet.retire_vehicle(
                uow, vehicle_id=vehicle_id, policy=self.policy, now_us=self.now_us
            )
        )

    # --- looking --------------------------------------------------------------------------------

    def view(self, job_id: int) -> JobViewValue:
        return self.books.run(lambda uow: jobs.get_job(uow, buyer_id=None, job_id=job_id, now_us=self.now_us))

    def result(self, job_id: int, index: int = 0) -> TaskResultValue:
        return self.books.run(
            lambda uow: jobs.get_results(uow, buyer_id=None, job_id=job_id, indexes=[index])
        )[0]

    def decided(self, job_id: int, *, cursor: int = 0, limit: int = 1_000) -> DecidedPage:
        return self.books.run(
            lambda uow: jobs.decided_after(
                uow, buyer_id=None, job_id=job_id, cursor=cursor, limit=limit, now_us=self.now_us
            )
        )

    def value(self, job_id: int, index: int = 0) -> float:
        """The canonical answer."""
        outputs = self.result(job_id, index).outputs
        assert outputs is not None
        assert outputs.inline is not None
        return float(tensors.decode(outputs.inline)["y"][0])

    def vehicle(self, vehicle_id: str) -> VehicleViewValue:
        return self.books.run(lambda uow: fleet.get_vehicle(uow, vehicle_id=vehicle_id))

    def balance(self, account: str) -> int:
        return self.books.balances().get(account, 0)

    def held(self, name: str) -> int:
        return self.balance(f"owner:owner_{name}:held")

    def _run(self, use_case: Callable[[SqlUnitOfWork], T]) -> T:
        with self.books.command() as uow:
            value = use_case(uow)
            self.effects.extend(uow.effects)
        return value

"""A deterministic pool: production use cases and store over a clock and chance that follow from one seed.

A step pops the next event off a heap ordered by (time, sequence), sets the clock, calls a use case, lets the
auditor check, and pushes what follows. Nothing here waits and nothing runs beside it, so that the same seed
gives the same trace, whose hash is the proof. Faults are drawn per step:

* a reply is lost: the command is done, its answer dropped, and the sender comes again;
* a crash between: the command is rolled back before its commit, and the sender comes again;
* a message comes twice, or late, behind the end of its lease;
* a car is unplugged, tells so or vanishes, and has forgotten its leases when it comes back;
* a car lies, hands in malformed outputs, or its worker dies.
"""

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from pool_protocol.limits import SECOND_US
from pool_server.app import expiry
from pool_server.app.leasing import lease_work
from pool_server.app.pricing import set_posted_price
from pool_server.app.submission import submit_results
from pool_server.app.work_commands import (
    AttemptAckValue,
    AttemptGrant,
    AttemptReport,
    LeaseGranted,
    LeaseWork,
    NoWorkNow,
    SubmitResults,
)
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.jobs import AttemptOutcome
from pool_server.core.verification import VerificationLevel
from pool_server.identity.signing import SecretDraws
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.simulation.auditor import Auditor, question_of
from tests.support.workshop import BUYER, SetDraws, Workshop, answer, report

ORDER = SecretDraws(b"order")
POLICY = WorkPolicy(
    allow_level_none=True,
    lease_timeout_us=60 * SECOND_US,
    lease_grace_us=5 * SECOND_US,
    retry_same_owner_us=20 * SECOND_US,
)
SWEEP_EVERY_US = 10 * SECOND_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What a car is like: probabilities per step or per attempt."""

    lies: float = 0.0
    malformed: float = 0.0
    worker_fails: float = 0.0
    unplugs: float = 0.0
    late: float = 0.0


HONEST = Habits()
KINDS: dict[str, Habits] = {
    "honest": HONEST,
    "liar": Habits(lies=0.5),
    "sleeper": Habits(lies=0.1),
    "clumsy": Habits(malformed=0.1, worker_fails=0.1),
    "commuter": Habits(unplugs=0.3),
    "laggard": Habits(late=0.4),
}


@dataclass(slots=True)
class Car:
    """A car and what it has in hand."""

    vehicle_id: str
    habits: Habits
    error: float
    """What this car adds when it lies: every liar lies in its own way."""
    held: dict[int, LeaseGranted] = field(default_factory=dict)
    outbox: dict[int, list[AttemptReport]] = field(default_factory=dict)
    """Reports by lease that are not acknowledged yet."""


T = TypeVar("T")


class CrashedBetweenError(Exception):
    """The process died after the work and before the commit."""


class Draws(SetDraws):
    """Audit draws that follow from the seed and what was committed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def uniform(self, *, output_digest: bytes, attempt_id: int) -> float:
        content = b"%d|%d|" % (self._seed, attempt_id) + output_digest
        return int.from_bytes(hashlib.sha256(content).digest()[:7], "big") / 2**56


class Simulation:
    """One run."""

    def __init__(self, path: Path, seed: int, *, cars: int = 10, tasks_per_job: int = 12) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.pool = Workshop(path, policy=POLICY, draws=Draws(seed))
        self.auditor = Auditor(self.pool)
        self.trace = hashlib.sha256()
        self.steps = 0
        self.faults: dict[str, int] = {}
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self.cars = [self._make_car(number) for number in range(cars)]
        self.jobs: dict[int, VerificationLevel] = {}
        self._tasks_per_job = tasks_per_job
        self._after(0, self._open_jobs)
        self._after(SWEEP_EVERY_US, self._sweep)
        for car in self.cars:
            self._after(self.chance.randrange(5 * SECOND_US), self._step_of(car))

    def run(self, *, steps_max: int) -> str:
        """Play until all jobs have ended; return the hash of the trace.

        Raises:
            AuditError: the pool contradicted the auditor.
            RuntimeError: the jobs have not ended after `steps_max` steps.
        """
        while not self.ended():
            if self.steps >= steps_max:
                raise RuntimeError(f"seed {self.seed}: not done after {steps_max} steps")
            at_us, _sequence, act = heapq.heappop(self._events)
            self.pool.books.now_us = max(self.pool.books.now_us, at_us)
            act()
            self.steps += 1
            self.auditor.check()
        return self.trace.hexdigest()

    def ended(self) -> bool:
        """Whether every job has ended."""
        return bool(self.jobs) and all(
            self.pool.view(job_id).state in {"done", "cancelled"} for job_id in self.jobs
        )

    # --- actors ---------------------------------------------------------------------------------

    def _make_car(self, number: int) -> Car:
        kinds = list(KINDS)
        # The first four are honest, so that every quorum can be found; then one of each kind, then by chance.
        kind = "honest" if number < 4 else kinds[(number - 4) % len(kinds)]
        vehicle_id = self.pool.car(f"{kind}{number}")
        self.auditor.owners[vehicle_id] = f"owner_{kind}{number}"
        return Car(vehicle_id, KINDS[kind], error=float(number + 1))

    def _open_jobs(self) -> None:
        levels = (
            VerificationLevel.FULL,
            VerificationLevel.STANDARD,
            VerificationLevel.SPOT,
            VerificationLevel.NONE,
        )
        for level in levels:
            job_id = self.pool.job(0, level=level, budget_micros=100 * self._tasks_per_job * 2)
            self.jobs[job_id] = level
            # Tasks come in two batches, the second after a repeat of the first.
            half = self._tasks_per_job // 2
            self.pool.add(job_id, range(half))
            self.pool.add(job_id, range(half))
            self.pool.add(job_id, range(half, self._tasks_per_job))
            self.pool.close(job_id)
        doomed = self.pool.job(0, level=VerificationLevel.FULL, budget_micros=5_000)
        self.pool.add(doomed, range(10))
        self.jobs[doomed] = VerificationLevel.FULL
        self._after(30 * SECOND_US, lambda: self._cancel(doomed))
        dated = self.pool.job(
            0,
            level=VerificationLevel.STANDARD,
            budget_micros=2_000,
            deadline_us=self.pool.now_us + 45 * SECOND_US,
        )
        self.pool.add(dated, range(10))
        self.jobs[dated] = VerificationLevel.STANDARD
        self._after(20 * SECOND_US, self._change_price)

    def _cancel(self, job_id: int) -> None:
        if self.pool.view(job_id).state == "open":
            self._tell(f"cancel {job_id} {self.pool.cancel(job_id, buyer=BUYER)!r}")

    def _change_price(self) -> None:
        price = self.chance.randrange(60, 101)
        self.pool.books.run(
            lambda uow: set_posted_price(
                uow, price_micros_per_wu=price, operator_id="operator_o", now_us=self.pool.now_us
            )
        )
        self._tell(f"price {price}")
        self._after(20 * SECOND_US, self._change_price)

    def _sweep(self) -> None:
        pool = self.pool
        counts = (
            pool.expire(),
            pool.expire_jobs(),
            pool.books.run(
                lambda uow: expiry.lose_silent_vehicles(uow, policy=pool.policy, now_us=pool.now_us)
            ),
        )
        self._tell(f"sweep {counts}")
        self._after(SWEEP_EVERY_US, self._sweep)

    def _step_of(self, car: Car) -> Callable[[], None]:
        return lambda: self._step(car)

    def _step(self, car: Car) -> None:
        """What a car does next: hand in, or ask for work and compute it."""
        pause_us = self.chance.randrange(SECOND_US, 6 * SECOND_US)
        if self._drawn(car.habits.unplugs, "unplugged"):
            self._unplug(car)
            pause_us += self.chance.randrange(80 * SECOND_US)
        elif car.outbox:
            if self._drawn(car.habits.late, "late"):
                pause_us += POLICY.lease_timeout_us + POLICY.lease_grace_us
            else:
                self._hand_in(car)
        else:
            self._ask(car)
        self._after(pause_us, self._step_of(car))

    def _unplug(self, car: Car) -> None:
        """Tell that work was abandoned, or vanish and forget."""
        if self.chance.random() < 0.5:
            for lease_id, reports in car.outbox.items():
                car.outbox[lease_id] = [
                    report(one.attempt_id, outcome=AttemptOutcome.ABANDONED) for one in reports
                ]
            self._hand_in(car)
        car.held.clear()
        car.outbox.clear()

    def _ask(self, car: Car) -> None:
        command = LeaseWork(
            vehicle_id=car.vehicle_id,
            attempts_max=self.chance.randrange(1, 9),
            held_lease_ids=tuple(car.held),
        )
        granted = self._command(
            lambda uow: lease_work(uow, command, order=ORDER, policy=POLICY, now_us=self.pool.now_us)
        )
        if granted is None:
            return
        self.auditor.saw_lease(car.vehicle_id, granted, now_us=self.pool.now_us)
        self._tell(f"lease {car.vehicle_id} {_told(granted)}")
        if isinstance(granted, NoWorkNow) or self._drawn(0.1, "lost reply"):
            return
        car.held[granted.lease_id] = granted
        car.outbox[granted.lease_id] = [self._computed(car, grant) for grant in granted.attempts]

    def _computed(self, car: Car, grant: AttemptGrant) -> AttemptReport:
        truth = question_of(grant.inputs.inline or b"") + 1.0
        if self._drawn(car.habits.worker_fails, "worker failed"):
            return report(grant.attempt_id, outcome=AttemptOutcome.WORKER_FAILED, detail="killed")
        if self._drawn(car.habits.lies, "lie"):
            return report(grant.attempt_id, answer(truth + car.error))
        honest = report(grant.attempt_id, answer(truth))
        if self._drawn(car.habits.malformed, "malformed"):
            return honest._replace(output_digest=bytes(32))
        return honest

    def _hand_in(self, car: Car) -> None:
        for lease_id in list(car.outbox):
            reports = car.outbox[lease_id]
            if len(reports) > 1 and self._drawn(0.3, "half a bundle"):
                reports = reports[: len(reports) // 2]
            acks = self._submit(car, lease_id, reports)
            if acks is None or self._drawn(0.1, "lost reply"):
                continue
            if self._drawn(0.1, "message twice"):
                self._submit(car, lease_id, reports)
            acknowledged = {ack.attempt_id for ack in acks}
            rest = [one for one in car.outbox[lease_id] if one.attempt_id not in acknowledged]
            if rest:
                car.outbox[lease_id] = rest
            else:
                del car.outbox[lease_id]
                car.held.pop(lease_id, None)

    def _submit(self, car: Car, lease_id: int, reports: list[AttemptReport]) -> list[AttemptAckValue] | None:
        command = SubmitResults(vehicle_id=car.vehicle_id, lease_id=lease_id, reports=reports)
        acks = self._command(
            lambda uow: submit_results(
                uow, command, draws=self.pool.draws, policy=POLICY, now_us=self.pool.now_us
            )
        )
        if acks is not None:
            sent = {one.attempt_id: f"{one.outcome} {one.output_digest.hex()}" for one in reports}
            self.auditor.saw_acks(sent, acks)
            self._tell(f"submit {car.vehicle_id} {[(a.attempt_id, a.status, a.reason) for a in acks]}")
        return acks

    # --- machinery ------------------------------------------------------------------------------

    def _command(self, use_case: Callable[[SqlUnitOfWork], T]) -> T | None:
        """Run a command; None when the process crashed between its work and its commit."""
        crashes = self._drawn(0.03, "crash between")
        try:
            with self.pool.books.engine.begin() as connection:
                value = use_case(self.pool.books.make_uow(connection))
                if crashes:
                    raise CrashedBetweenError
        except CrashedBetweenError:
            self._tell("crash")
            return None
        return value

    def _drawn(self, probability: float, fault: str) -> bool:
        if probability <= 0 or self.chance.random() >= probability:
            return False
        self.faults[fault] = self.faults.get(fault, 0) + 1
        return True

    def _after(self, delay_us: int, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.pool.now_us + delay_us, self._sequence, act))

    def _tell(self, line: str) -> None:
        self.trace.update(f"{self.pool.now_us} {line}\n".encode())


def _told(granted: LeaseGranted | NoWorkNow) -> str:
    if isinstance(granted, NoWorkNow):
        return granted.reason
    ids = [grant.attempt_id for grant in granted.attempts]
    return f"{granted.lease_id} of {granted.job_id}: {ids} resent={granted.resent}"

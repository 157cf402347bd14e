"""What agents see of leases: a fleet works on a few jobs, and every attempt leaves what its car could know.

The use cases are the pool's own, the clock is the simulation's, chance is a seed's. Cars differ in speed and
in how much they take at once; they pause, fail, give work back and lose leases on the way. All have the same
long history, so that audits are drawn at one rate throughout: how often audits are drawn follows from a rule
that anybody may read, and which attempt is one must not be seen.

An attempt is labelled an audit when its task had a result before. What a car sees of it is in `COLUMNS`.
"""

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from pool_protocol.digests import sha256_hex
from pool_protocol.limits import SECOND_US
from pool_server.app.work_commands import AckStatus, AttemptReport, LeaseGranted
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.jobs import AttemptOutcome
from pool_server.core.trust import TrustRecord, trust_class
from pool_server.core.verification import VerificationLevel
from tests.support.workshop import PROGRAM, SetDraws, Workshop, computed, report

LEVEL = VerificationLevel.CAREFUL
#: Work of a task times k = 2,000 at this level, six times: one result in seven is drawn.
HISTORY_UWU = 6 * 2_000 * PROGRAM.work_uwu_per_task
#: What a car knows of an attempt, beside the attempt itself.
COLUMNS = (
    "attempts in the lease",
    "place in the lease",
    "place from the end",
    "seconds since its last lease",
    "seconds since it last asked",
    "seconds since it last handed in",
    "second of the minute",
    "leases before",
    "leases since the last of this job",
    "whether the job is that of the lease before",
    "whether the program was warm",
    "ids since its last attempt",
    "ids since its last lease",
    "last digit of the id",
    "price",
    "life of the lease",
    "inputs: beyond the newest seen of the job",
    "inputs: beyond the oldest of the lease",
    "inputs: short of the newest of the lease",
    "inputs: from those before in the lease",
    "inputs: from those behind in the lease",
    "inputs: from the middle of the lease",
    "inputs: their rank in the lease",
    "inputs: their rank among those seen of the job",
    "inputs: low bits",
    "whether the lease before was sent again",
    "share of the last hand-in that was verified",
    "share of all hand-ins that was verified",
)


@dataclass(slots=True)
class Sights:
    """What was seen in one run: a row per attempt."""

    rows: list[list[float]] = field(default_factory=list)
    audits: list[bool] = field(default_factory=list)
    steady: list[bool] = field(default_factory=list)
    """Whether its job was under way: results of it had come, and tasks without an attempt were left."""

    def arrays(self, *, steady: bool = True) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return rows and labels, of the steady part alone or of all."""
        rows, audits = np.array(self.rows, dtype=np.float64), np.array(self.audits, dtype=np.bool_)
        chosen = np.array(self.steady, dtype=np.bool_) if steady else np.ones(len(audits), dtype=np.bool_)
        return rows[chosen], audits[chosen]


@dataclass(slots=True)
class _Car:
    vehicle_id: str
    wish: int
    seconds_per_task: float
    lease: LeaseGranted | None = None
    lease_count: int = 0
    last_lease_us: int = 0
    last_ask_us: int = 0
    last_hand_in_us: int = 0
    last_lease_id: int = 0
    last_attempt_id: int = 0
    last_job_id: int = 0
    resent: bool = False
    verified: list[bool] = field(default_factory=list)
    verified_last: float = 0.0
    inputs: dict[int, list[int]] = field(default_factory=dict)
    lease_of_job: dict[int, int] = field(default_factory=dict)


class SeededDraws(SetDraws):
    """Chance that follows from a seed and what was committed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def uniform(self, *, output_digest: bytes, attempt_id: int) -> float:
        content = b"%d|%d|" % (self._seed, attempt_id) + output_digest
        return int.from_bytes(hashlib.sha256(content).digest()[:7], "big") / 2**56


class Fleet:
    """One run."""

    def __init__(
        self,
        path: Path,
        seed: int,
        *,
        draws: SetDraws | None = None,
        cars: int = 12,
        jobs: int = 3,
        tasks_per_job: int = 800,
    ) -> None:
        self.chance = Random(seed)
        self.pool = Workshop(path, policy=WorkPolicy(), draws=draws or SeededDraws(seed))
        self.sights = Sights()
        self.warm_up = tasks_per_job // 4
        self._programs = {
            self.pool.job(
                tasks_per_job,
                level=LEVEL,
                buyer=f"buyer_{number % 2}",
                close=True,
                program=replace(PROGRAM, program_sha256=sha256_hex(b"%d" % number)),
            ): sha256_hex(b"%d" % number)
            for number in range(jobs)
        }
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        for number in range(cars):
            # The last two cars are those of one owner, as are the two before.
            owner = f"owner_{number if number < cars - 4 else cars - 4 + number % 2}"
            vehicle_id = self.pool.car(f"c{number}", owner=owner)
            self._give_history(vehicle_id)
            wish = self.chance.choice([4, 8, 16, 24, 32])
            car = _Car(vehicle_id, wish, seconds_per_task=self.chance.uniform(0.3, 1.5))
            self._after(self.chance.uniform(0, 20), self._asking(car))

    def run(self, *, to_the_end: bool = False) -> Sights:
        """Play while any job is steady, or to the end of all."""
        while self._events and not self._through(to_the_end=to_the_end):
            at_us, _sequence, act = heapq.heappop(self._events)
            self.pool.books.now_us = max(self.pool.now_us, at_us)
            act()
        return self.sights

    def _through(self, *, to_the_end: bool) -> bool:
        sign = "undecided_sign" if to_the_end else "fresh_sign"
        return not getattr(self, f"_{sign}")()

    def _undecided_sign(self) -> bool:
        return any(self.pool.view(job_id).state != "done" for job_id in self._programs)

    def _fresh_sign(self) -> bool:
        return any(self._fresh_count(job_id) for job_id in self._programs)

    def _give_history(self, vehicle_id: str) -> None:
        name = trust_class("map", LEVEL)
        record = TrustRecord(clean_uwu=HISTORY_UWU, accepted_attempts=HISTORY_UWU // 1_000_000)
        self.pool.books.run(lambda uow: uow.fleet.put_trust(vehicle_id, name, record))

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.pool.now_us + int(seconds * SECOND_US), self._sequence, act))

    # --- cars -----------------------------------------------------------------------------------

    def _asking(self, car: _Car) -> Callable[[], None]:
        return lambda: self._ask(car)

    def _ask(self, car: _Car) -> None:
        self.pool.expire()
        warm = [self._programs[car.last_job_id]] if car.last_job_id else []
        granted = self.pool.ask(car.vehicle_id, car.wish, warm=warm)
        asked_us, car.last_ask_us = car.last_ask_us, self.pool.now_us
        if not isinstance(granted, LeaseGranted):
            self._after(2.0, self._asking(car))
            return
        if self.chance.random() < 0.02 and not granted.resent:
            # The answer is lost on the way: it asks again.
            car.resent = True
            self._after(self.chance.uniform(1, 4), self._asking(car))
            return
        self._see(car, granted, asked_us=asked_us)
        car.resent = granted.resent
        if self.chance.random() < 0.02:
            # Driven away with the lease; it comes back after the lease has expired.
            self._after(self.chance.uniform(330, 400), self._asking(car))
            return
        done = lambda: self._hand_in(car, granted)  # noqa: E731
        self._after(car.seconds_per_task * len(granted.attempts) * self.chance.uniform(0.8, 1.2), done)

    def _hand_in(self, car: _Car, lease: LeaseGranted) -> None:
        unplugged = self.chance.random() < 0.05
        cut = self.chance.randrange(len(lease.attempts)) if unplugged else len(lease.attempts)
        reports: list[AttemptReport] = []
        for number, grant in enumerate(lease.attempts):
            if number >= cut:
                reports.append(report(grant.attempt_id, outcome=AttemptOutcome.ABANDONED))
            elif self.chance.random() < 0.01:
                reports.append(report(grant.attempt_id, outcome=AttemptOutcome.WORKER_FAILED))
            else:
                reports.append(computed(grant))
        acks = self.pool.submit(car.vehicle_id, lease.lease_id, reports)
        verified = [ack.status is AckStatus.VERIFIED for ack in acks]
        car.verified += verified
        car.verified_last = sum(verified) / len(verified)
        car.last_hand_in_us = self.pool.now_us
        # Most ask in the same breath, some pause.
        pause = 0.0 if self.chance.random() < 0.6 else self.chance.expovariate(1 / 15)
        self._after(pause + (60.0 if unplugged else 0.0), self._asking(car))

    # --- what is seen ---------------------------------------------------------------------------

    def _see(self, car: _Car, lease: LeaseGranted, *, asked_us: int) -> None:
        now_us, job_id = self.pool.now_us, lease.job_id
        facts = self._facts(lease)
        indexes = [index for index, _is_audit in facts]
        seen = car.inputs.setdefault(job_id, [])
        newest = max(seen, default=0)
        middle, low, high = float(np.median(indexes)), min(indexes), max(indexes)
        attempt_count = self.pool.view(job_id).attempt_count
        steady = attempt_count > self.warm_up and self._fresh_count(job_id) > 0
        for place, (grant, (index, is_audit)) in enumerate(zip(lease.attempts, facts, strict=True)):
            before, behind = indexes[:place], indexes[place + 1 :]
            row = [
                len(facts),
                place,
                len(behind),
                (now_us - car.last_lease_us) / SECOND_US,
                (now_us - asked_us) / SECOND_US,
                (now_us - car.last_hand_in_us) / SECOND_US,
                now_us / SECOND_US % 60,
                car.lease_count,
                car.lease_count - car.lease_of_job.get(job_id, -1),
                job_id == car.last_job_id,
                job_id == car.last_job_id,
                grant.attempt_id - car.last_attempt_id,
                lease.lease_id - car.last_lease_id,
                grant.attempt_id % 10,
                lease.price_micros_per_wu,
                (lease.expires_at_us - now_us) / SECOND_US,
                index - newest,
                index - low,
                high - index,
                index - float(np.mean(before)) if before else 0.0,
                index - float(np.mean(behind)) if behind else 0.0,
                index - middle,
                sum(other < index for other in indexes) / len(indexes),
                sum(other < index for other in seen) / max(1, len(seen)),
                index % 8,
                car.resent,
                car.verified_last,
                sum(car.verified) / max(1, len(car.verified)),
            ]
            self.sights.rows.append([float(value) for value in row])
            self.sights.audits.append(is_audit)
            self.sights.steady.append(steady)
        seen += indexes
        car.lease_of_job[job_id] = car.lease_count
        car.lease_count += 1
        car.last_lease_us, car.last_job_id = now_us, job_id
        car.last_lease_id, car.last_attempt_id = lease.lease_id, lease.attempts[-1].attempt_id

    def _facts(self, lease: LeaseGranted) -> list[tuple[int, bool]]:
        """Per attempt: its task's number, which inputs often tell; whether its task had a result before."""
        first = lease.attempts[0].attempt_id
        with self.pool.books.engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT a.task_index, EXISTS (SELECT 1 FROM attempts AS b WHERE b.task_id = a.task_id AND "
                "b.attempt_id < a.attempt_id AND b.state IN ('returned', 'accepted')) FROM attempts AS a "
                "WHERE a.attempt_id BETWEEN ? AND ? ORDER BY a.attempt_id",
                (first, lease.attempts[-1].attempt_id),
            ).all()
        return [(int(index), bool(is_audit)) for index, is_audit in rows]

    def _fresh_count(self, job_id: int) -> int:
        with self.pool.books.engine.connect() as connection:
            return int(
                connection.exec_driver_sql(
                    "SELECT count(*) FROM tasks WHERE job_id = ? AND state = 'ready' AND attempt_count = 0",
                    (job_id,),
                ).scalar_one()
            )

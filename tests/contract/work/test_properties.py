"""Any sequence of commands keeps the promises: Hypothesis plays, the auditor checks after each step.

An owner is never twice on a task, the job pays at most its quorum, pending money is that of attempts under
way, a decided task never changes, a vehicle in quarantine gets no lease, and the books balance.
"""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pool_server.app.work_commands import LeaseGranted
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.comparison import Comparator, ComparatorKind
from pool_server.core.jobs import AttemptOutcome
from pool_server.core.verification import VerificationLevel
from tests.simulation.auditor import Auditor, question_of
from tests.support.workshop import BUYER, Workshop, answer, report

CARS = ("a", "b", "c", "d", "twin")
POLICY = WorkPolicy(allow_level_none=True, retry_same_owner_us=1_000_000)


class Promises(RuleBasedStateMachine):
    """A small pool in which anything may happen in any order."""

    leases = Bundle("leases")
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.pool = Workshop(Path(self.directory.name) / "pool.sqlite3", policy=POLICY)
        self.auditor = Auditor(self.pool)
        for name in CARS:
            owner = "owner_a" if name == "twin" else f"owner_{name}"
            self.auditor.owners[self.pool.car(name, owner=owner)] = owner

    @rule(
        target=jobs,
        level=st.sampled_from(list(VerificationLevel)),
        close=st.booleans(),
        tasks=st.integers(1, 3),
        comparator=st.sampled_from([Comparator(), Comparator(kind=ComparatorKind.CLOSE, atol=0.5)]),
    )
    def open_job(
        self,
        *,
        level: VerificationLevel,
        close: bool,
        tasks: int,
        comparator: Comparator,
    ) -> int:
        return self.pool.job(tasks, level=level, close=close, comparator=comparator)

    @rule(target=leases, car=st.sampled_from(CARS), size=st.integers(1, 3), forgets=st.booleans())
    def lease(self, *, car: str, size: int, forgets: bool) -> object:
        vehicle_id = f"vehicle_{car}"
        live = self.pool.books.run(lambda uow: [one.lease_id for one in uow.leases.live(vehicle_id)])
        granted = self.pool.ask(vehicle_id, size, held=[] if forgets else live)
        self.auditor.saw_lease(vehicle_id, granted, now_us=self.pool.now_us)
        return granted if isinstance(granted, LeaseGranted) else multiple()

    @rule(
        lease=leases,
        how=st.sampled_from(["right", "right", "near", "wrong", "malformed", *AttemptOutcome]),
        drawn=st.sampled_from([0.0, 0.999]),
    )
    def hand_in(self, lease: LeaseGranted, how: str, drawn: float) -> None:
        """The same lease may be handed in again, in another way: the bundle keeps it."""
        self.pool.draws.drawn = drawn
        reports = []
        for grant in lease.attempts:
            truth = question_of(grant.inputs.inline or b"") + 1.0
            if how in {"right", "near", "wrong", "malformed", AttemptOutcome.COMPLETED}:
                error = {"near": 0.25, "wrong": 7.0}.get(how, 0.0)
                arrays = answer(truth + error)
                if how == "malformed":
                    arrays["surplus"] = arrays["y"]
                reports.append(report(grant.attempt_id, arrays))
            else:
                reports.append(report(grant.attempt_id, outcome=AttemptOutcome(how)))
        acks = self.pool.submit(lease.vehicle_id, lease.lease_id, reports)
        self.auditor.saw_acks(
            {one.attempt_id: f"{one.outcome} {one.output_digest.hex()}" for one in reports}, acks
        )

    @rule(seconds=st.sampled_from([2, 400]))
    def time_passes(self, seconds: int) -> None:
        self.pool.wait(seconds=seconds)
        self.pool.expire()

    @rule(job_id=consumes(jobs))
    def cancel(self, job_id: int) -> None:
        if self.pool.view(job_id).state in {"open", "closing"}:
            self.pool.cancel(job_id, buyer=BUYER)

    @rule(car=st.sampled_from(CARS), free=st.booleans())
    def quarantine(self, *, car: str, free: bool) -> None:
        if free:
            self.pool.release(f"vehicle_{car}")
        else:
            self.pool.quarantine(f"vehicle_{car}")

    @invariant()
    def promises_hold(self) -> None:
        self.auditor.check()

    def teardown(self) -> None:
        self.pool.books.assert_sound()
        self.pool.books.engine.dispose()
        self.directory.cleanup()


@pytest.mark.slow
def test_promises_hold_after_any_sequence_of_commands() -> None:
    run_state_machine_as_test(
        Promises, settings=settings(max_examples=25, stateful_step_count=25, deadline=None)
    )

"""What waits for the pool's own machine: only what still matters, and no buyer before all others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.refereeing import TASK_FAILURES_MAX, tasks_to_referee
from pool_server.app.work_commands import AckStatus, LeaseGranted, NoWorkNow
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import TaskState
from pool_server.core.verification import HistoryAuditRule, VerificationLevel
from tests.support.workshop import PROGRAM, SetDraws, Workshop

FULL, STANDARD = VerificationLevel.FULL, VerificationLevel.STANDARD
WORK_UWU = PROGRAM.work_uwu_per_task
VERIFIED = AckStatus.VERIFIED
FAILS = PoolError(ErrorCode.PROGRAM_FAILED, "not done in time")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Workshop]:
    """A pool with a referee, in which every result is audited; its books must be sound at the end."""
    policy = WorkPolicy(
        pool_run_uwu_max=WORK_UWU,
        pool_audit_uwu_max=WORK_UWU,
        audit_rule=HistoryAuditRule(colluding_auditor_share=0.2),
    )
    workshop = Workshop(tmp_path / "pool.sqlite3", policy=policy, draws=SetDraws(0.0))
    yield workshop
    workshop.books.assert_sound()
    workshop.books.engine.dispose()


def waiting(pool: Workshop) -> list[int]:
    return pool.books.run(tasks_to_referee)


def contradict(pool: Workshop, name: str, *, tasks: int, buyer: str = "buyer_b") -> int:
    """A job on whose every task two owners contradict each other. Returns the job."""
    cars = [pool.car(f"{name}{number}") for number in range(2)]
    job_id = pool.job(tasks, level=FULL, buyer=buyer)
    for _ in range(tasks):
        leases = [pool.ask(vehicle_id) for vehicle_id in cars]
        for lease, error in zip(leases, (0.0, 7.0), strict=True):
            if isinstance(lease, LeaseGranted):
                pool.hand_in(lease, error=error)
    return job_id


def test_a_job_that_ends_leaves_the_queue_and_makes_room_for_others(pool: Workshop) -> None:
    one = pool.car("one")
    job_id = pool.job(8, level=STANDARD)
    pool.work(one)
    assert len(waiting(pool)) == 8
    pool.cancel(job_id)
    assert waiting(pool) == []
    # The pool's machine is free: the next newcomer is checked by it at once.
    next_one = pool.job(1, level=STANDARD)
    pool.work(pool.car("two"))
    assert pool.referee() == 1
    assert pool.result(next_one).state == TaskState.ACCEPTED


def test_one_buyers_many_tasks_do_not_stand_before_anothers(pool: Workshop) -> None:
    contradict(pool, "flood", tasks=40, buyer="buyer_flood")
    job_id = contradict(pool, "few", tasks=1, buyer="buyer_few")
    assert len(waiting(pool)) == 16
    pool.referee()
    assert pool.result(job_id).state == TaskState.ACCEPTED


def test_nobody_waits_for_a_run_of_what_nobody_contradicts_any_more(pool: Workshop) -> None:
    job_id = contradict(pool, "c", tasks=1)
    other = pool.car("other")
    assert isinstance(pool.ask(other), NoWorkNow)
    pool.quarantine("vehicle_c1")
    assert isinstance(pool.ask(other), LeaseGranted), (
        "a second owner is asked instead of the one that is gone"
    )
    # Another contradiction waits for the same run.
    pool.hand_in(pool.lease(other), error=8.0)
    assert pool.result(job_id).state == TaskState.RUNNING
    assert pool.referee() == 1
    assert pool.value(job_id) == 1.0
    assert pool.vehicle(other).state is VehicleState.QUARANTINED


def test_a_trusted_node_decides_without_the_pools_own_run(pool: Workshop) -> None:
    job_id = pool.job(1, level=FULL)
    node, one, liar = [pool.car(name) for name in ("node", "one", "liar")]
    pool.trust(node)
    leases = [pool.lease(vehicle_id) for vehicle_id in (one, liar)]
    pool.hand_in(leases[0])
    pool.wait(seconds=pool.policy.lease_timeout_us / 1_000_000 + 60)
    pool.expire()
    late = pool.lease(node)
    # The liar's result comes late, but before the node's.
    pool.hand_in(leases[1], error=7.0)
    assert len(waiting(pool)) == 1
    assert pool.hand_in(late) == [VERIFIED]
    assert pool.value(job_id) == 1.0
    assert pool.vehicle(liar).state is VehicleState.QUARANTINED


def test_a_job_whose_tasks_fail_there_is_not_tried_for_ever(pool: Workshop) -> None:
    count = TASK_FAILURES_MAX + 2
    job_id = contradict(pool, "slow", tasks=count)
    for task_id in waiting(pool)[:TASK_FAILURES_MAX]:
        pool._take_task_run(task_id, FAILS)
    # The referee is not asked for the others: they fail as those did, and owners decide.
    assert pool.referee() == 2
    assert waiting(pool) == []
    pool.exhaust(pool.car("third"))
    assert {pool.result(job_id, index).state for index in range(count)} == {TaskState.ACCEPTED}

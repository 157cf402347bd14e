"""A result that nobody else could check in time, and nobody contradicts, is accepted at the pool's risk."""

from dataclasses import replace

import pytest

from pool_server.app.expiry import UNJUDGED_AFTER_US, expire_unjudged
from pool_server.core.jobs import JobState, TaskState
from pool_server.core.verification import VerificationLevel
from pool_server.core.verification.findings import Evidence
from tests.simulation.auditor import Auditor
from tests.support.workshop import TASK_MICROS, Workshop

NET = TASK_MICROS * 95 // 100
DAY_S = 86_400


def check(pool: Workshop) -> None:
    pool.books.assert_sound()
    Auditor(pool).check()


@pytest.mark.parametrize("level", [VerificationLevel.SPOT, VerificationLevel.FULL])
def test_what_waits_a_day_for_another_owner_is_accepted_paid_and_builds_no_trust(
    pool: Workshop, level: VerificationLevel
) -> None:
    pool.draws.drawn = 0.0
    job_id = pool.job(1, level=level, close=True)
    car = pool.car("a")
    pool.work(car)
    # 1. Not before its time.
    pool.wait(seconds=DAY_S - 1)
    assert pool.accept_unverified() == 0
    assert pool.result(job_id).state is TaskState.READY
    pool.wait(seconds=2)
    assert pool.accept_unverified() == 1
    # 2. The buyer has the result, and is told why it is believed; the owner is paid by the job, once.
    found = pool.result(job_id)
    assert (found.state, found.evidence, found.cost_micros) == (
        TaskState.ACCEPTED,
        Evidence.RISK,
        TASK_MICROS,
    )
    assert pool.view(job_id).state is JobState.DONE
    assert pool.held("a") == NET
    # 3. It counts for no history.
    assert pool.vehicle(car).clean_uwu == 0
    assert pool.accept_unverified() == 0
    check(pool)


def test_what_is_contradicted_or_under_way_is_not(pool: Workshop) -> None:
    pool.draws.drawn = 0.0
    contradicted = pool.job(1, level=VerificationLevel.SPOT)
    pool.work(pool.car("a"))
    pool.work(pool.car("b"), error=1.0)
    under_way = pool.job(1, level=VerificationLevel.SPOT)
    pool.work("vehicle_a")
    pool.wait(seconds=DAY_S + 1)
    lease = pool.lease("vehicle_b")
    assert pool.accept_unverified() == 0
    for job_id in (contradicted, under_way):
        assert pool.result(job_id).state is not TaskState.ACCEPTED
    # The one that came late still decides.
    pool.hand_in(lease)
    assert pool.result(under_way).evidence == Evidence.AUDITED
    check(pool)


def test_questioned_results_have_a_time_of_their_own(pool: Workshop) -> None:
    pool.draws.drawn = 0.0
    for name in ("liar", "b", "c"):
        pool.car(name)
    pool.job(2, level=VerificationLevel.SPOT, close=True)
    pool.exhaust("vehicle_liar", "vehicle_b")
    pool.draws.drawn = 0.999
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    pool.work("vehicle_liar", error=1.0)
    pool.books.terms = replace(pool.books.terms, dispute_window_us=10 * UNJUDGED_AFTER_US)
    pool.wait(seconds=UNJUDGED_AFTER_US / 1_000_000 + 1)
    pool.draws.drawn = 0.0
    pool.job(1, level=VerificationLevel.SPOT, close=True)
    pool.work("vehicle_liar", error=1.0)
    pool.work("vehicle_b")
    pool.work("vehicle_c")
    pool.look_back()
    assert pool.view(job_id).rechecking_count == 1
    # Its report is older than any bound on waiting, the question is new.
    assert pool.accept_unverified() == 0
    assert pool.books.run(lambda uow: expire_unjudged(uow, policy=pool.policy, now_us=pool.now_us)) == 0
    pool.exhaust("vehicle_b", "vehicle_c")
    assert pool.value(job_id) == 1.0
    check(pool)


def test_a_result_at_the_pools_risk_is_looked_at_again_once_its_vehicle_is_caught(pool: Workshop) -> None:
    pool.draws.drawn = 0.0
    liar = pool.car("liar")
    job_id = pool.job(1, level=VerificationLevel.SPOT, close=True)
    pool.work(liar, error=1.0)
    pool.wait(seconds=DAY_S + 1)
    pool.accept_unverified()
    assert pool.value(job_id) == 2.0
    pool.job(1, level=VerificationLevel.SPOT, close=True)
    for name, error in (("liar", 1.0), ("b", 0.0), ("c", 0.0)):
        pool.work(pool.car(name), error=error)
    pool.look_back()
    pool.work("vehicle_b")
    pool.work("vehicle_c")
    assert pool.value(job_id) == 1.0
    assert pool.held("liar") == 0
    check(pool)

"""Stories of step tasks that were stopped after some units: what is claimed, asked, proved and paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pool_protocol.digests import merkle_root
from pool_protocol.limits import DAY_US
from pool_server.app import expiry
from pool_server.app.board_findings import open_look_back
from pool_server.app.evidence import vehicle_evidence
from pool_server.app.money import expire_pending
from pool_server.app.prefix_claims import LOOK_AGAIN_US, settle_prefixes
from pool_server.app.unit_answers import UnitAnswerReport, expire_questions
from pool_server.app.work_commands import AckStatus, AttemptReport, LeaseGranted
from pool_server.core.jobs import DECIDED_TASK_STATES, AttemptOutcome, PriceMode, TaskState
from pool_server.core.trust import TrustRecord
from pool_server.core.verification import VerificationLevel
from pool_server.core.verification.prefix_claim import PrefixState
from pool_server.ports.money import ReceiptRow
from pool_server.ports.prefixes import PrefixClaimRow
from tests.contract.work.test_disputes import (
    UNITS,
    Driver,
    ask_for,
    findings,
    quarantined,
    refuses,
    states,
    step_job,
)
from tests.support.step_cars import UNIT_STEPS, State, Walk, honest, initial_state, lie_at, run
from tests.support.workshop import TASK_MICROS, Workshop

DONE = 4
#: Four of eight units of a task of 100 micros, less the fee of 5 %.
GROSS, NET = 50, 48
OTHER_CLASS = "ab" * 32


class Stopped(Driver):
    """A car that is unplugged in mid-task."""

    def stopped_report(self, units: int = DONE) -> AttemptReport:
        """Lease the task, make some units of it, and say so."""
        done = self.report()
        self.walk.digests, self.walk.states = self.walk.digests[:units], self.walk.states[:units]
        return AttemptReport(
            attempt_id=done.attempt_id,
            outcome=AttemptOutcome.ABANDONED,
            unit_root=merkle_root(self.walk.digests) if units else b"",
            unit_count=units,
            run_time_us=500,
            reason="UNPLUGGED",
        )

    def stop(self, units: int = DONE) -> AckStatus:
        """Be unplugged after so many units."""
        return self.submit(self.stopped_report(units))


def earn(pool: Workshop, car: Driver, *, results: int = 4) -> None:
    """Make clean work, so that there is room for prefixes."""
    pool.job(results, level=VerificationLevel.SPOT, close=True)
    pool.trust(car.vehicle_id)  # asked nobody else
    pool.exhaust(car.vehicle_id)
    pool.trust(car.vehicle_id, trusted=False)


def sweep(pool: Workshop) -> int:
    return pool._run(lambda uow: settle_prefixes(uow, policy=pool.policy, now_us=pool.now_us))


def look_later(pool: Workshop) -> None:
    pool.books.now_us += LOOK_AGAIN_US
    sweep(pool)


def claims(pool: Workshop, task_id: int) -> list[PrefixClaimRow]:
    return pool.books.run(lambda uow: uow.prefixes.of_task(task_id))


def claim_of(pool: Workshop, car: Driver) -> PrefixClaimRow:
    [task_id] = {
        row.task_id for row in pool.books.run(lambda uow: uow.attempts.get([car.attempt_id])).values()
    }
    [claim] = [claim for claim in claims(pool, task_id) if claim.attempt_id == car.attempt_id]
    return claim


def standing(pool: Workshop, car: Driver) -> tuple[str, str]:
    claim = claim_of(pool, car)
    return claim.state.value, claim.reason


def receipts(pool: Workshop, car: Driver) -> list[ReceiptRow]:
    return pool.books.run(lambda uow: uow.receipts.by_attempts([car.attempt_id]))


def reserved(pool: Workshop) -> int:
    """Money that is promised and not paid, of every payer."""
    accounts = pool.books.run(lambda uow: uow.ledger.accounts_by_prefix("owner:"))
    return sum(account.credits_pending_micros for account in accounts)


def answer(*cars: Driver) -> list[int]:
    """Answer what is open truthfully; what was asked."""
    for car in cars:
        car.answer_all()
    return [question.unit_index for car in cars for question in car.asked]


def clean_uwu(pool: Workshop, car: Driver) -> int:
    return pool.books.run(lambda uow: uow.fleet.trust(car.vehicle_id, "step/spot")).clean_uwu


def finish(pool: Workshop, *cars: Driver) -> None:
    """Others compute the task."""
    pool.wait(seconds=60)
    for car in cars:
        car.work()


def trust_in(pool: Workshop, car: Driver) -> None:
    """Give a car so long a history that nothing of it is audited."""
    record = TrustRecord(clean_uwu=10**15, accepted_attempts=10, odometer_uwu=10**15, final_uwu=0)
    pool.books.run(lambda uow: uow.fleet.put_trust(car.vehicle_id, "step/spot", record))


def test_a_stopped_car_is_paid_to_its_last_good_unit_by_the_pool(pool: Workshop) -> None:
    stopped = Stopped(pool, "stopped")
    earn(pool, stopped)
    before = pool.held("stopped")
    job_id = step_job(pool)
    assert stopped.stop() is AckStatus.RECORDED
    assert standing(pool, stopped) == ("waiting", "")
    assert (reserved(pool), sweep(pool)) == (GROSS, 0), "the task is not decided yet"
    first, second = Driver(pool, "first"), Driver(pool, "second")
    finish(pool, first, second)
    assert pool.result(job_id).state is TaskState.ACCEPTED
    assert pool.held("stopped") == before
    assert sweep(pool) == 1
    assert standing(pool, stopped) == ("asking", "")
    assert answer(stopped, first, second) == [DONE - 1] * 3, "one question to each"
    assert standing(pool, stopped) == ("paid", "")
    assert pool.held("stopped") == before + NET
    [receipt] = receipts(pool, stopped)
    assert (receipt.work_uwu, receipt.gross_micros) == (500_000, GROSS)
    # The job pays for its task once; the audit and the prefix are the pool's cost.
    assert pool.view(job_id).spent_micros == TASK_MICROS
    assert pool.balance("x:verification") == -(TASK_MICROS + GROSS)
    assert (clean_uwu(pool, stopped), clean_uwu(pool, first)) == (0, 1_000_000), "it is no history"
    assert states(pool, stopped, first, second) == ["failed", "accepted", "accepted"]
    assert reserved(pool) == 0
    assert (sweep(pool), findings(pool, stopped)) == (0, [])


def test_the_owner_reads_what_became_of_it(pool: Workshop) -> None:
    stopped = Stopped(pool, "stopped")
    step_job(pool)
    stopped.stop()

    def story() -> Sequence[str]:
        return pool.books.run(
            lambda uow: vehicle_evidence(
                uow, vehicle_id=stopped.vehicle_id, policy=pool.policy, for_operator=False, now_us=pool.now_us
            )
        ).story

    assert (
        "In 1 task it was stopped after some units: 0 paid up to the last good unit (0.000000 EUR), "
        "1 not settled yet (0.000050 EUR are reserved)."
    ) in story()
    first, second = Driver(pool, "first"), Driver(pool, "second")
    finish(pool, first, second)
    sweep(pool)
    answer(stopped, first, second)
    earn(pool, stopped)
    look_later(pool)
    assert (
        "In 1 task it was stopped after some units: 1 paid up to the last good unit (0.000050 EUR)."
        in story()
    )


def test_a_newcomers_prefix_waits_until_its_results_have_made_room(pool: Workshop) -> None:
    stopped, first, second = Stopped(pool, "stopped"), Driver(pool, "first"), Driver(pool, "second")
    step_job(pool)
    stopped.stop()
    finish(pool, first, second)
    sweep(pool)
    answer(stopped, first, second)
    assert standing(pool, stopped) == ("standing", "NO_ROOM")
    earn(pool, stopped, results=1)
    look_later(pool)
    assert standing(pool, stopped) == ("standing", "NO_ROOM"), "a quarter of 100 is not 50"
    earn(pool, stopped, results=1)
    held = pool.held("stopped")
    look_later(pool)
    assert standing(pool, stopped) == ("paid", "")
    assert pool.held("stopped") == held + NET
    assert sweep(pool) == 0


def test_a_car_that_never_returns_a_result_is_never_paid_for_prefixes(pool: Workshop) -> None:
    idler, first, second = Stopped(pool, "idler"), Driver(pool, "first"), Driver(pool, "second")
    step_job(pool)
    idler.stop()
    finish(pool, first, second)
    sweep(pool)
    answer(idler, first, second)
    pool.books.now_us += 29 * DAY_US
    assert sweep(pool) == 1
    assert standing(pool, idler) == ("unpaid", "EXPIRED")
    assert (pool.held("idler"), reserved(pool)) == (0, 0)
    assert pool.books.run(lambda uow: expire_pending(uow, now_us=pool.now_us + 5 * DAY_US)) == 0
    assert (findings(pool, idler), quarantined(pool, idler)) == ([], False)


def test_after_a_long_stop_of_the_server_its_money_goes_back(pool: Workshop) -> None:
    idler = Stopped(pool, "idler")
    step_job(pool)
    idler.stop()
    pool.books.now_us += 40 * DAY_US
    assert sweep(pool) == 1
    assert standing(pool, idler) == ("unpaid", "EXPIRED")
    assert reserved(pool) == 0
    assert pool._run(lambda uow: expire_pending(uow, now_us=pool.now_us)) == 0, "it went back already"


def test_a_wrong_prefix_is_a_wrong_result(pool: Workshop) -> None:
    liar, first, second = Stopped(pool, "liar", lie_at(2)), Driver(pool, "first"), Driver(pool, "second")
    earn(pool, liar)
    held = pool.held("liar")
    pool.books.run(
        lambda uow: uow.fleet.put_trust(liar.vehicle_id, "step/spot", TrustRecord(clean_uwu=7_000_000))
    )
    job_id = step_job(pool)
    liar.stop()
    finish(pool, first, second)
    sweep(pool)
    answer(liar, first, second)
    assert standing(pool, liar) == ("wrong", "WRONG_PREFIX")
    assert states(pool, liar, first, second) == ["rejected", "accepted", "accepted"]
    assert findings(pool, liar) == [("PREFIX", "WRONG", DONE - 1)]
    assert (clean_uwu(pool, liar), quarantined(pool, liar)) == (0, True)
    assert (pool.held("liar"), reserved(pool)) == (held, 0)
    assert pool.books.run(lambda uow: uow.verification.running_look_back(liar.vehicle_id)) is not None
    assert pool.view(job_id).rejected_count == 1
    evidence = pool.books.run(
        lambda uow: vehicle_evidence(
            uow, vehicle_id=liar.vehicle_id, policy=pool.policy, for_operator=False, now_us=pool.now_us
        )
    )
    assert any("stopped in task 0 of job_2 and claimed 4 units of it" in line for line in evidence.story)
    assert evidence.appeals_until_us == {}, "there is no result to be computed again"


def test_what_was_never_signed_convicts_the_claimant(pool: Workshop) -> None:
    liar, first, second = Stopped(pool, "liar"), Driver(pool, "first"), Driver(pool, "second")
    step_job(pool)
    report = liar.stopped_report()
    liar.submit(report._replace(unit_root=merkle_root([b"\1" * 32] * DONE)))
    finish(pool, first, second)
    sweep(pool)
    answer(liar)
    assert standing(pool, liar) == ("wrong", "WRONG_PREFIX")
    assert findings(pool, liar) == [("PREFIX", "WRONG", DONE - 1)]
    assert reserved(pool) == 0
    # Nobody waits for the others any more.
    answer(first, second)
    assert standing(pool, liar) == ("wrong", "WRONG_PREFIX")


def heals(unit: int, state: State) -> State:
    """Commit to a wrong state in the middle, and return the right result."""
    true = run(initial_state(0), UNIT_STEPS * (unit + 1))
    return {"value": true["value"] + np.uint32(9)} if unit == DONE - 1 else true


def test_one_word_convicts_nobody(pool: Workshop) -> None:
    """An accepted result is right at its end; what it says of its middle may be made up to harm others."""
    stopped, framer, second = Stopped(pool, "stopped"), Driver(pool, "framer", heals), Driver(pool, "second")
    earn(pool, stopped)
    step_job(pool)
    stopped.stop()
    finish(pool, framer, second)
    sweep(pool)
    answer(stopped, framer, second)
    assert standing(pool, stopped) == ("unpaid", "CONTRADICTED")
    assert (findings(pool, stopped), quarantined(pool, stopped), reserved(pool)) == ([], False, 0)


def test_an_unchecked_result_convicts_nobody(pool: Workshop) -> None:
    liar, alone = Stopped(pool, "liar", lie_at(1)), Driver(pool, "alone")
    trust_in(pool, alone)
    job_id = step_job(pool)
    liar.stop()
    finish(pool, alone)
    assert pool.result(job_id).state is TaskState.ACCEPTED
    sweep(pool)
    answer(liar, alone)
    assert standing(pool, liar) == ("unpaid", "CONTRADICTED")
    assert (findings(pool, liar), reserved(pool)) == ([], 0)


def test_what_agrees_with_an_unchecked_result_is_paid_when_that_is_final(pool: Workshop) -> None:
    stopped, alone = Stopped(pool, "stopped"), Driver(pool, "alone")
    earn(pool, stopped)
    trust_in(pool, alone)
    step_job(pool)
    stopped.stop()
    finish(pool, alone)
    sweep(pool)
    answer(stopped, alone)
    assert standing(pool, stopped) == ("standing", "NOT_FINAL")
    look_later(pool)
    assert standing(pool, stopped) == ("standing", "NOT_FINAL")
    pool.wait(seconds=60)
    pool.release_money()
    look_later(pool)
    assert standing(pool, stopped) == ("paid", "")


def test_a_trusted_nodes_word_is_enough(pool: Workshop) -> None:
    liar, node = Stopped(pool, "liar", lie_at(0)), Driver(pool, "node")
    pool.trust(node.vehicle_id)
    step_job(pool)
    liar.stop()
    finish(pool, node)
    sweep(pool)
    answer(liar, node)
    assert standing(pool, liar) == ("wrong", "WRONG_PREFIX")


def test_vehicles_of_another_numeric_class_convict_nobody(pool: Workshop) -> None:
    other, first, second = Stopped(pool, "other", lie_at(2)), Driver(pool, "first"), Driver(pool, "second")
    step_job(pool)
    other.stop()
    ask_for(
        pool, f"UPDATE attempts SET numeric_class = '{OTHER_CLASS}' WHERE attempt_id = {other.attempt_id}"
    )
    finish(pool, first, second)
    sweep(pool)
    answer(other, first, second)
    assert standing(pool, other) == ("unpaid", "OTHER_CLASS")
    assert findings(pool, other) == []


def test_a_claimant_that_stays_away_only_loses_its_pay(pool: Workshop) -> None:
    gone, first, second = Stopped(pool, "gone"), Driver(pool, "first"), Driver(pool, "second")
    earn(pool, gone)
    step_job(pool)
    gone.stop()
    finish(pool, first, second)
    sweep(pool)
    answer(first, second)
    assert standing(pool, gone) == ("asking", "")
    pool.books.now_us += pool.policy.unit_answer_us
    pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us))
    assert standing(pool, gone) == ("unpaid", "UNANSWERED")
    assert (findings(pool, gone), quarantined(pool, gone), reserved(pool)) == ([], False, 0)


@pytest.mark.parametrize("manner", ["forgets", "is silent"])
def test_a_witness_without_an_answer_loses_nothing_and_the_other_is_enough(
    pool: Workshop, manner: str
) -> None:
    stopped, first, second = Stopped(pool, "stopped"), Driver(pool, "first"), Driver(pool, "second")
    earn(pool, stopped)
    step_job(pool)
    stopped.stop()
    finish(pool, first, second)
    sweep(pool)
    answer(stopped, first)
    assert standing(pool, stopped) == ("asking", "")
    if manner == "forgets":
        [question] = second.open()
        second.say(refuses("STATE_FORGOTTEN", question))
    else:
        pool.books.now_us += pool.policy.unit_answer_us
        pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us))
    assert standing(pool, stopped) == ("paid", "")
    assert (findings(pool, second), states(pool, second)) == ([], ["accepted"])


def test_a_witness_that_shows_what_it_did_not_sign_is_no_witness(pool: Workshop) -> None:
    stopped, forger, second = Stopped(pool, "stopped"), Driver(pool, "forger"), Driver(pool, "second")
    earn(pool, stopped)
    step_job(pool)
    stopped.stop()
    finish(pool, forger, second)
    sweep(pool)
    [question] = forger.open()
    forged: UnitAnswerReport = replace(forger.truth(question), digest=b"\7" * 32)
    forger.say(forged)
    answer(stopped, second)
    assert standing(pool, stopped) == ("paid", "")
    assert states(pool, forger) == ["accepted"]


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("cancelled", "JOB_CANCELLED"),
        ("failed", "TASK_ATTEMPTS_EXHAUSTED"),
        ("deadline", "DEADLINE_EXCEEDED"),
    ],
)
def test_money_is_given_back_when_the_task_is_not_accepted(pool: Workshop, ending: str, reason: str) -> None:
    stopped = Stopped(pool, "stopped")
    deadline_us = pool.now_us + 1_000_000 if ending == "deadline" else 0
    job_id = step_job(pool, deadline_us=deadline_us, attempts_may_fail=1)
    stopped.stop()
    assert reserved(pool) == GROSS
    if ending == "cancelled":
        pool.cancel(job_id)
    elif ending == "deadline":
        pool.wait(seconds=2)
        pool._run(lambda uow: expiry.expire_jobs(uow, now_us=pool.now_us))
    else:
        pool.wait(seconds=60)
        broken = Driver(pool, "broken")
        lease = pool.lease(broken.vehicle_id)
        failed = AttemptReport(attempt_id=lease.attempts[0].attempt_id, outcome=AttemptOutcome.WORKER_FAILED)
        pool.submit(broken.vehicle_id, lease.lease_id, [failed])
    assert pool.result(job_id).state in {TaskState.CANCELLED, TaskState.FAILED}
    assert sweep(pool) == 1
    assert standing(pool, stopped) == ("unpaid", reason)
    assert (reserved(pool), sweep(pool)) == (0, 0)


def test_an_owner_who_finishes_the_task_itself_is_paid_for_the_whole_alone(pool: Workshop) -> None:
    stopped, second = Stopped(pool, "stopped"), Driver(pool, "second")
    earn(pool, stopped)
    step_job(pool)
    stopped.stop()
    first_try = stopped.attempt_id
    pool.wait(seconds=60)
    assert (stopped.work(), second.work()) == (AckStatus.RECORDED, AckStatus.VERIFIED)
    assert sweep(pool) == 1
    [claim] = claims(pool, 5)
    assert (claim.attempt_id, claim.state, claim.reason) == (first_try, PrefixState.UNPAID, "OWN_RESULT")
    assert reserved(pool) == 0


def test_a_task_has_two_claims_at_most_and_an_owner_one(pool: Workshop) -> None:
    cars = [Stopped(pool, name) for name in ("a", "b", "c")]
    step_job(pool)
    cars[0].stop()
    pool.wait(seconds=60)
    cars[0].stop()
    assert len(claims(pool, 1)) == 1
    for car in cars[1:]:
        pool.wait(seconds=60)
        assert car.stop() is AckStatus.RECORDED
    assert [claim.owner_id for claim in claims(pool, 1)] == ["owner_a", "owner_b"]
    assert reserved(pool) == 2 * GROSS
    assert states(pool, *cars) == ["failed"] * 3


@pytest.mark.parametrize(
    "changes",
    [{"unit_count": 0}, {"unit_count": UNITS}, {"unit_count": UNITS + 1}, {"unit_root": b""}],
    ids=["no unit", "all units", "more than all", "no root"],
)
def test_what_cannot_be_a_part_of_the_task_is_no_claim(pool: Workshop, changes: dict[str, Any]) -> None:
    stopped = Stopped(pool, "stopped")
    step_job(pool)
    assert stopped.submit(stopped.stopped_report()._replace(**changes)) is AckStatus.RECORDED
    assert (claims(pool, 1), reserved(pool), states(pool, stopped)) == ([], 0, ["failed"])


def test_the_same_report_again_claims_nothing_more(pool: Workshop) -> None:
    stopped = Stopped(pool, "stopped")
    step_job(pool)
    report = stopped.stopped_report()
    assert stopped.submit(report) is AckStatus.RECORDED
    assert stopped.submit(report) is AckStatus.DUPLICATE
    assert (len(claims(pool, 1)), reserved(pool)) == (1, GROSS)


def test_donated_work_claims_nothing(pool: Workshop) -> None:
    stopped = Stopped(pool, "stopped")
    step_job(pool, price_mode=PriceMode.DONATE, price_micros_per_wu=0, budget_micros=0)
    assert stopped.stop() is AckStatus.RECORDED
    assert claims(pool, 1) == []


def test_a_vehicle_in_quarantine_is_paid_when_it_is_freed(pool: Workshop) -> None:
    stopped, first, second = Stopped(pool, "stopped"), Driver(pool, "first"), Driver(pool, "second")
    earn(pool, stopped)
    step_job(pool)
    stopped.stop()
    finish(pool, first, second)
    sweep(pool)
    pool.quarantine(stopped.vehicle_id)
    answer(stopped, first, second)
    assert standing(pool, stopped) == ("standing", "QUARANTINED")
    pool.release(stopped.vehicle_id)
    look_later(pool)
    assert standing(pool, stopped) == ("paid", "")


def test_a_look_back_that_opens_the_task_again_holds_the_pay_until_it_is_decided(pool: Workshop) -> None:
    stopped, caught = Stopped(pool, "stopped"), Driver(pool, "caught", lie_at(0))
    earn(pool, stopped)
    trust_in(pool, caught)
    step_job(pool)
    stopped.stop()
    finish(pool, caught)
    sweep(pool)
    pool.quarantine(caught.vehicle_id)
    answer(stopped)
    # Before the vehicle shows its digest its result is questioned: others compute the task.
    pool.books.run(
        lambda uow: open_look_back(
            uow,
            vehicle_id=caught.vehicle_id,
            owner_id="owner_caught",
            cause_attempt_id=caught.attempt_id,
            now_us=pool.now_us,
        )
    )
    assert pool.look_back()
    answer(caught)
    assert standing(pool, stopped) == ("asking", "")
    first, second = Driver(pool, "first"), Driver(pool, "second")
    finish(pool, first, second)
    assert states(pool, first, second) == ["accepted", "accepted"]
    look_later(pool)
    assert answer(first, second) == [DONE - 1] * 2
    assert standing(pool, stopped) == ("paid", "")


def test_what_was_not_answered_in_an_earlier_dispute_is_asked_again(pool: Workshop) -> None:
    stopped, liar = Stopped(pool, "stopped"), Driver(pool, "liar", lie_at(6))
    first, second = Driver(pool, "first"), Driver(pool, "second")
    earn(pool, stopped)
    step_job(pool)
    stopped.stop()
    finish(pool, liar, first)
    answer(liar, first)
    # The dispute has come to the very unit of the claim when it ends for another reason.
    assert [question.unit_index for question in first.open()] == [DONE - 1]
    pool.quarantine(liar.vehicle_id)
    pool.books.now_us += pool.policy.unit_answer_us
    assert pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us)) == 2
    second.work()
    assert states(pool, first, second) == ["accepted", "accepted"]
    sweep(pool)
    answer(stopped, first)
    [question] = second.open()
    second.say(refuses("STATE_FORGOTTEN", question))
    assert standing(pool, stopped) == ("paid", "")


def test_only_work_that_may_have_been_checked_makes_room(pool: Workshop) -> None:
    stopped, other = Stopped(pool, "stopped"), Driver(pool, "other")
    pool.job(10, level=VerificationLevel.NONE, close=True)
    pool.exhaust(stopped.vehicle_id)
    step_job(pool, level=VerificationLevel.NONE)
    stopped.stop()
    finish(pool, other)
    sweep(pool)
    answer(stopped, other)
    assert standing(pool, stopped) == ("standing", "NO_ROOM")


def test_level_none_pays_what_the_only_other_result_shows(pool: Workshop) -> None:
    stopped, other = Stopped(pool, "stopped"), Driver(pool, "other")
    earn(pool, stopped)
    step_job(pool, level=VerificationLevel.NONE)
    stopped.stop()
    finish(pool, other)
    sweep(pool)
    answer(stopped, other)
    assert standing(pool, stopped) == ("paid", "")


class Life:
    """Anything may happen to claims, in any order: a seed decides."""

    def __init__(self, pool: Workshop, seed: int) -> None:
        self.pool = pool
        self.random = Random(seed)
        spoils = [honest, honest, honest, honest, lie_at(0), heals]
        self.cars = [Stopped(pool, f"car{n}", spoil) for n, spoil in enumerate(spoils)]
        self.walks: dict[int, Walk] = {}
        self.jobs: list[int] = []
        earn(pool, self.cars[0], results=6)
        earn(pool, self.cars[1], results=6)

    def step(self) -> None:
        """One thing happens."""
        self.random.choices(
            [self._work, self._answer, self._sweeps, self._time, self._operator, self._cancel],
            weights=[8, 5, 4, 4, 1, 0.5],
        )[0]()

    def _work(self) -> None:
        if not self.jobs or self.pool.result(self.jobs[-1]).state in DECIDED_TASK_STATES:
            level = self.random.choice(
                [VerificationLevel.SPOT, VerificationLevel.NONE, VerificationLevel.FULL]
            )
            self.jobs.append(step_job(self.pool, level=level))
        car = self.random.choice(self.cars)
        # What was leased and is not held is leased again: the car's own call gets the same.
        if isinstance(self.pool.ask(car.vehicle_id), LeaseGranted):
            stops = self.random.random() < 0.4
            report = car.stopped_report(self.random.randint(1, UNITS - 1)) if stops else car.report()
            self.walks[car.attempt_id] = car.walk
            car.submit(report)

    def _answer(self) -> None:
        car = self.random.choice(self.cars)
        for question in car.open():
            car.walk = self.walks[question.attempt_id]
            if question.want_state or self.random.random() < 0.1:
                car.say(refuses("STATE_FORGOTTEN", question))
            else:
                car.say(car.truth(question))

    def _sweeps(self) -> None:
        pool = self.pool
        pool.expire()
        pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us))
        pool.look_back()
        pool.release_money()
        sweep(pool)

    def _time(self) -> None:
        self.pool.books.now_us += self.random.choice([60_000_000, LOOK_AGAIN_US, DAY_US])

    def _operator(self) -> None:
        car = self.random.choice(self.cars)
        if quarantined(self.pool, car):
            self.pool.release(car.vehicle_id)
        else:
            self.pool.quarantine(car.vehicle_id)

    def _cancel(self) -> None:
        if self.jobs and self.pool.view(self.jobs[-1]).state in {"open", "closing"}:
            self.pool.cancel(self.jobs[-1])

    def check(self) -> None:
        """What is reserved is promised, and the bounds hold."""
        pool = self.pool
        open_claims = pool.books.run(lambda uow: uow.prefixes.all_open())
        promised = sum(claim.gross_micros for claim in open_claims)
        under_way = pool.books.scalar(
            "SELECT coalesce(sum(amount_micros), 0) FROM attempts WHERE pending_transfer_id > 0 "
            "AND state IN ('leased', 'returned') AND attempt_id NOT IN "
            "(SELECT attempt_id FROM questioned_attempts WHERE state = 'open')"
        )
        assert reserved(pool) == promised + int(str(under_way))
        for car in self.cars:
            sums = pool.books.run(lambda uow, v=car.vehicle_id: uow.prefixes.sums(v))  # type: ignore[misc]
            histories = pool.books.run(lambda uow, v=car.vehicle_id: uow.fleet.histories(v))  # type: ignore[misc]
            assert 4 * sums.paid_uwu <= sum(record.odometer_uwu for _, record in histories)
        crowded = (
            "SELECT count(*) FROM (SELECT 1 FROM prefix_claims WHERE state = 'paid' GROUP BY task_id {})"
        )
        assert pool.books.scalar(crowded.format("HAVING count(*) > 2")) == 0
        assert pool.books.scalar(crowded.format(", owner_id HAVING count(*) > 1")) == 0

    def end(self) -> None:
        """A month later."""
        pool = self.pool
        for _ in range(70):
            self._sweeps()
            pool.accept_unverified()
            pool._run(lambda uow: expiry.expire_unjudged(uow, policy=pool.policy, now_us=pool.now_us))
            pool.books.now_us += DAY_US // 2
        assert pool._run(lambda uow: expire_pending(uow, now_us=pool.now_us)) == 0, "nothing was forgotten"


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_nothing_is_left_reserved(pool: Workshop, seed: int) -> None:
    life = Life(pool, seed)
    for _ in range(60):
        life.step()
        life.check()
    life.end()
    life.check()
    assert pool.books.run(lambda uow: uow.prefixes.all_open()) == []
    assert reserved(pool) == 0


def test_the_lives_above_see_every_end_of_a_claim(tmp_path: Path) -> None:
    """Otherwise they would prove little."""
    seen: set[str] = set()
    for seed in range(12):
        pool = Workshop(tmp_path / f"{seed}.sqlite3")
        life = Life(pool, seed)
        for _ in range(60):
            life.step()
        life.end()
        with pool.books.engine.begin() as connection:
            seen |= {row[0] for row in connection.exec_driver_sql("SELECT DISTINCT state FROM prefix_claims")}
        pool.books.engine.dispose()
    assert seen == {"paid", "wrong", "unpaid"}

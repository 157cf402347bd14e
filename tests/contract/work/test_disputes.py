"""Stories of disputes over real books: who is asked, what an answer proves, who pays, who is blamed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pool_protocol import tensors
from pool_protocol.digests import inclusion_proof, output_digest, sha256
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import DAY_US
from pool_server.app import jobs
from pool_server.app.refereeing import disputes_to_referee, take_run, unit_order
from pool_server.app.unit_answers import (
    UnitAnswerReport,
    check_answers,
    expire_questions,
    open_questions,
    take_answers,
)
from pool_server.app.work_commands import AckStatus, AddTasks, AttemptReport, NewTask, NoWorkNow
from pool_server.core.effects import RefereeWanted, UnitQuestion, UnitsAsked
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import NO_TENSORS, AttemptOutcome, OutputSpec, ProgramFacts, TaskState
from pool_server.core.verification import VerificationLevel
from pool_server.core.verification.dispute import LATE_ANSWER_SHARE, DisputeState
from pool_server.ports.disputes import DisputeRow, UnitOrder, UnitRun
from pool_server.ports.unit_of_work import UnitOfWork
from tests.support.step_cars import (
    PROGRAM_SHA256,
    SIZE,
    UNIT_STEPS,
    Spoil,
    State,
    Walk,
    honest,
    initial_state,
    lie_at,
    run,
    unit_digest,
)
from tests.support.workshop import BUYER, Workshop, inline

UNITS = 8
PROGRAM = ProgramFacts(
    program_sha256=PROGRAM_SHA256,
    kind="step",
    work_uwu_per_task=1_000_000,
    unit_steps=UNIT_STEPS,
    outputs=(OutputSpec(name="value", dtype="uint32", shape=(SIZE,)),),
)
RECORDED, VERIFIED, REFUSED = AckStatus.RECORDED, AckStatus.VERIFIED, AckStatus.REFUSED
Answer = Callable[["Driver", UnitQuestion], UnitAnswerReport | None]


class Driver:
    """A step car as the use cases see it."""

    def __init__(self, pool: Workshop, name: str, spoil: Spoil = honest) -> None:
        self.pool = pool
        self.vehicle_id = pool.car(name)
        self.name = name
        self.spoil = spoil
        self.walk = Walk([], [])
        self.lease_id = self.attempt_id = 0
        self.asked: list[UnitQuestion] = []

    def report(self) -> AttemptReport:
        """Lease the task, walk, and say what came out."""
        lease = self.pool.lease(self.vehicle_id)
        [grant] = lease.attempts
        self.lease_id, self.attempt_id = lease.lease_id, grant.attempt_id
        state: State = {"value": tensors.decode(grant.inputs.inline or b"")["state/value"]}
        states = []
        for unit in range(UNITS):
            state = self.spoil(unit, run(state, UNIT_STEPS))
            states.append(state)
        self.walk = Walk(states, [unit_digest(state, unit) for unit, state in enumerate(states)])
        return AttemptReport(
            attempt_id=self.attempt_id,
            outcome=AttemptOutcome.COMPLETED,
            output_digest=output_digest(states[-1]),
            outputs=inline(tensors.encode(states[-1])),
            unit_root=self.walk.root,
            unit_count=UNITS,
            run_time_us=1_000,
        )

    def submit(self, report: AttemptReport) -> AckStatus:
        """Hand a result in."""
        [ack] = self.pool.submit(self.vehicle_id, self.lease_id, [report])
        return ack.status

    def work(self) -> AckStatus:
        """Lease, walk, hand in."""
        return self.submit(self.report())

    def open(self) -> tuple[UnitQuestion, ...]:
        """What this car is asked now."""
        return self.pool.books.run(
            lambda uow: open_questions(uow, vehicle_id=self.vehicle_id, now_us=self.pool.now_us)
        )

    def truth(self, question: UnitQuestion) -> UnitAnswerReport:
        """Answer as committed."""
        unit = question.unit_index
        held = inline(tensors.encode(self.walk.states[unit])) if question.want_state else NO_TENSORS
        return UnitAnswerReport(
            query_id=question.query_id,
            digest=self.walk.digests[unit],
            inclusion_path=inclusion_proof(self.walk.digests, unit),
            state=held,
            reason="",
        )

    def say(self, *answers: UnitAnswerReport) -> None:
        """Send answers."""
        pool = self.pool

        def say_it(uow: UnitOfWork) -> None:
            checked = check_answers(
                uow, answers, vehicle_id=self.vehicle_id, blobs=pool.blobs, now_us=pool.now_us
            )
            take_answers(uow, checked, policy=pool.policy, blobs=pool.blobs, now_us=pool.now_us)

        pool._run(say_it)

    def answer_all(self) -> int:
        """Answer everything truthfully; how much that was."""
        questions = self.open()
        self.asked += questions
        for question in questions:
            self.say(self.truth(question))
        return len(questions)


def refuses(reason: str, question: UnitQuestion) -> UnitAnswerReport:
    return UnitAnswerReport(
        query_id=question.query_id, digest=b"", inclusion_path=(), state=NO_TENSORS, reason=reason
    )


def step_job(
    pool: Workshop,
    *,
    level: VerificationLevel = VerificationLevel.SPOT,
    budget_micros: int = 1_000,
    **terms: Any,
) -> int:
    """A job of one step task; every result of a newcomer is audited."""
    job_id = pool.job(
        0,
        level=level,
        program=PROGRAM,
        steps_per_task=UNITS * UNIT_STEPS,
        budget_micros=budget_micros,
        **terms,
    )
    content = tensors.encode({"state/value": initial_state(0)["value"]})
    command = AddTasks(buyer_id=BUYER, job_id=job_id, first_index=0, tasks=[NewTask(inputs=inline(content))])
    pool._run(lambda uow: jobs.add_tasks(uow, command, now_us=pool.now_us))
    pool.close(job_id)
    return job_id


def disputes(pool: Workshop, task_id: int = 1) -> list[DisputeRow]:
    return pool.books.run(lambda uow: uow.disputes.of_task(task_id))


def referee(pool: Workshop, *, numeric_class: str = "", wrong: bool = False) -> list[UnitOrder]:
    """Run what waits for the referee."""
    orders = []
    for dispute_id in pool.books.run(disputes_to_referee):
        order = order_of(pool, dispute_id)
        orders.append(order)
        if order.start is None:
            state: State = {"value": tensors.decode(order.inputs.inline or b"")["state/value"]}
        else:
            state = dict(tensors.decode(order.start.inline or b""))
        after = run(state, order.steps + int(wrong))
        judge(pool, dispute_id, UnitRun(unit_digest(after, order.unit_index), numeric_class))
    return orders


def order_of(pool: Workshop, dispute_id: int) -> UnitOrder:
    order = pool.books.run(lambda uow: unit_order(uow, dispute_id))
    assert order is not None
    return order


def judge(pool: Workshop, dispute_id: int, outcome: UnitRun | PoolError) -> None:
    pool._run(
        lambda uow: take_run(
            uow,
            dispute_id,
            outcome,
            draws=pool.draws,
            policy=pool.policy,
            blobs=pool.blobs,
            now_us=pool.now_us,
        )
    )


def settle(pool: Workshop, *cars: Driver) -> list[UnitOrder]:
    """Answer and referee until nothing moves; what the referee ran."""
    orders: list[UnitOrder] = []
    moving = True
    while moving:
        moving = sum(car.answer_all() for car in cars) > 0
        ran = referee(pool)
        orders += ran
        moving = moving or bool(ran)
    return orders


def ask_for(pool: Workshop, statement: str) -> None:
    """Set what other parts of the pool would have set."""
    with pool.books.engine.begin() as connection:
        connection.exec_driver_sql(statement)


def states(pool: Workshop, *cars: Driver) -> list[str]:
    rows = pool.books.run(lambda uow: uow.attempts.get([car.attempt_id for car in cars]))
    return [rows[car.attempt_id].state.value for car in cars]


def findings(pool: Workshop, car: Driver) -> list[tuple[str, str, int]]:
    """What the pool holds against a car: kind, finding, unit."""
    rows = pool.books.run(lambda uow: uow.verification.findings_of_vehicle(car.vehicle_id, limit=10))
    return [(row.kind.value, row.finding.value, row.unit_index) for row in rows]


def quarantined(pool: Workshop, car: Driver) -> bool:
    return pool.vehicle(car.vehicle_id).state is VehicleState.QUARANTINED


def test_the_loser_is_rejected_and_the_winner_paid_without_a_third_opinion(pool: Workshop) -> None:
    job_id = step_job(pool)
    liar, truthful = Driver(pool, "liar", lie_at(5)), Driver(pool, "truthful")
    assert (liar.work(), truthful.work()) == (RECORDED, RECORDED)
    # The task waits for the dispute: nobody else is asked to compute it meanwhile.
    assert isinstance(pool.ask(pool.car("third")), NoWorkNow)
    assert pool.result(job_id).state is TaskState.RUNNING
    [order] = settle(pool, liar, truthful)
    assert (order.unit_index, order.steps) == (5, UNIT_STEPS)
    assert states(pool, liar, truthful) == ["rejected", "accepted"]
    assert (pool.held("liar"), pool.held("truthful")) == (0, 95)
    assert quarantined(pool, liar)
    [dispute] = disputes(pool)
    assert (dispute.state, dispute.unit_index, dispute.winner_attempt_id) == (
        DisputeState.DECIDED,
        5,
        truthful.attempt_id,
    )
    assert dispute.rounds == 4
    assert findings(pool, liar) == [("DISPUTE", "WRONG", 5)]
    assert findings(pool, truthful) == []
    assert RefereeWanted(dispute_id=dispute.dispute_id) in pool.effects
    assert pool.view(job_id).rejected_count == 1


def test_a_lie_that_heals_and_comes_again_convicts(pool: Workshop) -> None:
    def twice(unit: int, state: State) -> State:
        true = run(initial_state(0), UNIT_STEPS * (unit + 1))
        return {"value": true["value"] + np.uint32(9)} if unit in {1, 6, 7} else true

    step_job(pool)
    liar, truthful = Driver(pool, "liar", twice), Driver(pool, "truthful")
    liar.work(), truthful.work()
    [order] = settle(pool, liar, truthful)
    assert order.unit_index in {1, 6}
    assert states(pool, liar, truthful) == ["rejected", "accepted"]


def test_an_honest_walk_with_other_outputs_is_wrong_after_one_round(pool: Workshop) -> None:
    step_job(pool)
    liar, truthful = Driver(pool, "liar"), Driver(pool, "truthful")
    made_up = {"value": np.full(SIZE, 7, np.uint32)}
    report = liar.report()
    forged = report._replace(output_digest=output_digest(made_up), outputs=inline(tensors.encode(made_up)))
    assert liar.submit(forged) is RECORDED
    truthful.work()
    assert settle(pool, liar, truthful) == []
    assert states(pool, liar, truthful) == ["rejected", "accepted"]
    assert [question.unit_index for question in liar.asked] == [UNITS - 1]


def test_a_digest_that_was_not_signed_convicts_at_once(pool: Workshop) -> None:
    step_job(pool)
    liar, truthful = Driver(pool, "liar", lie_at(2)), Driver(pool, "truthful")
    liar.work(), truthful.work()
    [question] = liar.open()
    forged = truthful.truth(question)
    liar.say(replace(forged, inclusion_path=inclusion_proof(liar.walk.digests, question.unit_index)))
    assert states(pool, liar, truthful) == ["rejected", "accepted"]
    assert quarantined(pool, liar)


def test_a_state_that_is_not_the_one_committed_to_convicts(pool: Workshop) -> None:
    step_job(pool)
    liar, truthful = Driver(pool, "liar", lie_at(7)), Driver(pool, "truthful")
    liar.work(), truthful.work()
    while not any(question.want_state for question in liar.open()):
        assert liar.answer_all() + truthful.answer_all()
    [question] = liar.open()
    other = inline(tensors.encode({"value": np.zeros(SIZE, np.uint32)}))
    liar.say(replace(liar.truth(question), state=other))
    assert states(pool, liar, truthful) == ["rejected", "accepted"]


def test_silence_convicts_nobody_once_the_other_side_is_gone(pool: Workshop) -> None:
    step_job(pool)
    liar, truthful = Driver(pool, "liar", lie_at(5)), Driver(pool, "truthful")
    liar.work(), truthful.work()
    assert truthful.open()
    pool.quarantine(liar.vehicle_id)
    pool.books.now_us += pool.policy.unit_answer_us
    pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us))
    assert states(pool, liar, truthful) == ["discarded", "returned"]
    assert (findings(pool, truthful), quarantined(pool, truthful)) == ([], False)
    # It is asked again when somebody else contradicts it.
    another = Driver(pool, "another", lie_at(2))
    another.work()
    settle(pool, truthful, another)
    assert states(pool, truthful, another) == ["accepted", "rejected"]


def test_silence_convicts_after_its_time_and_proves_nothing_for_the_other(pool: Workshop) -> None:
    job_id = step_job(pool)
    silent, other = Driver(pool, "silent", lie_at(2)), Driver(pool, "other")
    silent.work(), other.work()
    assert other.answer_all() == 1
    pool.wait(seconds=3 * DAY_US / 1e6 - 1)
    assert pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us)) == 0
    assert states(pool, silent, other) == ["returned", "returned"]
    pool.wait(seconds=1)
    assert pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us)) == 1
    assert states(pool, silent, other) == ["rejected", "returned"]
    [dispute] = disputes(pool)
    assert (dispute.reason, dispute.winner_attempt_id) == ("WITHHELD", 0)
    assert findings(pool, silent) == [("DISPUTE", "WITHHELD", UNITS - 1)]
    # The ordinary majority goes on without the silent one.
    third = Driver(pool, "third")
    assert third.work() is VERIFIED
    assert states(pool, other, third) == ["accepted", "accepted"]
    assert pool.result(job_id).state is TaskState.ACCEPTED


def test_a_question_that_was_closed_unanswered_is_asked_again_in_the_next_dispute(pool: Workshop) -> None:
    # Both are away too long; the first is convicted, which ends the dispute and the other's question.
    job_id = step_job(pool)
    first, second = Driver(pool, "first", lie_at(2)), Driver(pool, "second", lie_at(3))
    first.work(), second.work()
    pool.wait(seconds=3 * DAY_US / 1e6)
    assert pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us)) == 2
    assert states(pool, first, second) == ["rejected", "returned"]
    honest_one = Driver(pool, "honest")
    honest_one.work()
    assert settle(pool, second, honest_one), "the referee is reached"
    assert states(pool, second, honest_one) == ["rejected", "accepted"]
    assert pool.result(job_id).state is TaskState.ACCEPTED


def test_who_always_answers_in_the_last_minute_has_less_time_in_the_end(pool: Workshop) -> None:
    # Otherwise a liar with many units outlasts the pool's patience, and no dispute ever finds it.
    step_job(pool)
    late, prompt = Driver(pool, "late", lie_at(1)), Driver(pool, "prompt")
    late.work(), prompt.work()
    full_us = pool.policy.unit_answer_us
    times_us = []
    while late.open():
        prompt.answer_all()
        assert all(question.expires_at_us == pool.now_us + full_us for question in prompt.asked[-1:])
        [question] = late.open()
        times_us.append(question.expires_at_us - pool.now_us)
        pool.wait(seconds=times_us[-1] / 1e6 - 1)
        late.answer_all()
    assert len(times_us) == 5
    assert (times_us[0], times_us[-1]) == (full_us, full_us // LATE_ANSWER_SHARE)
    referee(pool)
    assert states(pool, late, prompt) == ["rejected", "accepted"]


def test_who_may_not_compute_now_is_not_blamed_for_a_state_that_the_other_has(pool: Workshop) -> None:
    step_job(pool)
    parked, liar = Driver(pool, "parked"), Driver(pool, "liar", lie_at(3))
    parked.work(), liar.work()
    while not any(question.want_state for question in parked.open()):
        assert parked.answer_all() + liar.answer_all()
    [question] = parked.open()
    parked.say(refuses("NOT_CHARGING", question))
    assert parked.open() == (question,)
    assert [order.unit_index for order in (liar.answer_all(), referee(pool))[1]] == [3]
    assert states(pool, parked, liar) == ["accepted", "rejected"]
    # What was left open is closed without a word when its time is over.
    pool.wait(seconds=3 * DAY_US / 1e6)
    pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us))
    assert states(pool, parked, liar) == ["accepted", "rejected"]
    assert not quarantined(pool, parked)


def test_a_state_that_both_forgot_leaves_the_majority_to_decide(pool: Workshop) -> None:
    step_job(pool)
    liar, truthful, third = Driver(pool, "liar", lie_at(3)), Driver(pool, "truthful"), Driver(pool, "third")
    liar.work(), truthful.work()
    while not any(question.want_state for question in liar.open()):
        assert liar.answer_all() + truthful.answer_all()
    for car in (liar, truthful):
        [question] = car.open()
        car.say(refuses("STATE_FORGOTTEN", question))
    [dispute] = disputes(pool)
    assert (dispute.state, dispute.reason) == (DisputeState.NO_BLAME, "STATE_FORGOTTEN")
    assert states(pool, liar, truthful) == ["returned", "returned"]
    assert third.work() is VERIFIED
    assert states(pool, liar, truthful, third) == ["rejected", "accepted", "accepted"]


def test_two_liars_lose_both_and_the_next_result_is_checked_afresh(pool: Workshop) -> None:
    job_id = step_job(pool)
    one, two = Driver(pool, "one", lie_at(3)), Driver(pool, "two", shifted(3))
    one.work(), two.work()
    [order] = settle(pool, one, two)
    assert order.unit_index == 3
    assert states(pool, one, two) == ["rejected", "rejected"]
    [dispute] = disputes(pool)
    assert dispute.winner_attempt_id == 0
    third, fourth = Driver(pool, "third"), Driver(pool, "fourth")
    assert third.work() is RECORDED
    assert pool.result(job_id).state is TaskState.READY
    assert fourth.work() is VERIFIED


def shifted(lying_unit: int) -> Spoil:
    def spoil(unit: int, state: State) -> State:
        return {"value": state["value"] + np.uint32(77)} if unit == lying_unit else state

    return spoil


def test_a_referee_of_another_class_blames_nobody(pool: Workshop) -> None:
    job_id = step_job(pool)
    one, two = Driver(pool, "one"), Driver(pool, "two", lie_at(3))
    one.work(), two.work()
    ask_for(pool, "UPDATE attempts SET numeric_class = 'sse'")
    while one.answer_all() + two.answer_all():
        pass
    assert [order.unit_index for order in referee(pool, numeric_class="avx")] == [3]
    [dispute] = disputes(pool)
    assert (dispute.state, dispute.reason, dispute.referee_class) == (
        DisputeState.NO_BLAME,
        "CLASS_PROBLEM",
        "avx",
    )
    assert states(pool, one, two) == ["returned", "returned"]
    assert pool.result(job_id).state is TaskState.READY
    third = Driver(pool, "third")
    assert third.work() is VERIFIED
    assert states(pool, one, two, third) == ["accepted", "rejected", "accepted"]


def test_a_referee_that_is_not_well_is_tried_again_then_given_up(pool: Workshop) -> None:
    step_job(pool)
    one, two = Driver(pool, "one"), Driver(pool, "two", lie_at(0))
    one.work(), two.work()
    while one.answer_all() + two.answer_all():
        pass
    [dispute_id] = pool.books.run(disputes_to_referee)
    for _ in range(2):
        judge(pool, dispute_id, PoolError(ErrorCode.UNAVAILABLE, "no memory"))
        assert pool.books.run(disputes_to_referee) == [dispute_id]
    judge(pool, dispute_id, PoolError(ErrorCode.UNAVAILABLE, "no memory"))
    [dispute] = disputes(pool)
    assert (dispute.state, dispute.reason) == (DisputeState.NO_BLAME, "UNAVAILABLE")


def test_a_program_that_fails_from_the_agreed_state_refutes_nobody(pool: Workshop) -> None:
    step_job(pool)
    one, two = Driver(pool, "one"), Driver(pool, "two", lie_at(0))
    one.work(), two.work()
    while one.answer_all() + two.answer_all():
        pass
    [dispute_id] = pool.books.run(disputes_to_referee)
    judge(pool, dispute_id, PoolError(ErrorCode.PROGRAM_FAILED, "it fails"))
    assert disputes(pool)[0].state is DisputeState.NO_BLAME


def test_of_three_claims_the_liars_fall_one_after_the_other(pool: Workshop) -> None:
    # Three agreeing owners are asked for; a single honest one among them is enough.
    job_id = step_job(pool)
    cars = [Driver(pool, "one", lie_at(2)), Driver(pool, "two", lie_at(4)), Driver(pool, "three")]
    ask_for(pool, "UPDATE tasks SET wanted = 3, agreement_needed = 3")
    reports = [car.report() for car in cars]
    for car, report in zip(cars, reports, strict=True):
        assert car.submit(report) is RECORDED
    orders = settle(pool, *cars)
    assert states(pool, *cars) == ["rejected", "rejected", "accepted"]
    assert len(orders) == 2
    assert pool.result(job_id).state is TaskState.ACCEPTED


def test_with_three_opinions_asked_for_one_conviction_is_not_enough(pool: Workshop) -> None:
    step_job(pool)
    liar, truthful, third = Driver(pool, "liar", lie_at(2)), Driver(pool, "truthful"), Driver(pool, "third")
    ask_for(pool, "UPDATE tasks SET wanted = 2, agreement_needed = 3")
    reports = [liar.report(), truthful.report()]
    liar.submit(reports[0]), truthful.submit(reports[1])
    settle(pool, liar, truthful)
    assert states(pool, liar, truthful) == ["rejected", "returned"]
    assert third.work() is VERIFIED
    assert states(pool, truthful, third) == ["accepted", "accepted"]


def test_a_side_that_is_taken_out_ends_the_dispute(pool: Workshop) -> None:
    job_id = step_job(pool)
    one, two = Driver(pool, "one"), Driver(pool, "two", lie_at(3))
    one.work(), two.work()
    pool.quarantine(two.vehicle_id)
    assert two.open() == ()
    assert pool.result(job_id).state is TaskState.READY
    # An answer that comes all the same changes nothing.
    assert one.answer_all() <= 1
    three = Driver(pool, "three", lie_at(1))
    three.work()
    settle(pool, one, three)
    assert states(pool, one, three) == ["accepted", "rejected"]
    assert [dispute.state for dispute in disputes(pool)] == [DisputeState.ENDED, DisputeState.DECIDED]


def test_answers_of_others_late_ones_and_repetitions_change_nothing(pool: Workshop) -> None:
    step_job(pool)
    liar, truthful, stranger = Driver(pool, "liar", lie_at(5)), Driver(pool, "truthful"), Driver(pool, "x")
    liar.work(), truthful.work()
    [question] = liar.open()
    stranger.say(refuses("STATE_FORGOTTEN", question), replace(liar.truth(question), digest=sha256(b"")))
    assert liar.open() == (question,)
    liar.say(liar.truth(question), liar.truth(question))
    liar.say(replace(liar.truth(question), digest=sha256(b"now another")))
    assert states(pool, liar, truthful) == ["returned", "returned"]
    [question] = truthful.open()
    pool.wait(seconds=3 * DAY_US / 1e6)
    truthful.say(truthful.truth(question))
    assert states(pool, liar, truthful) == ["returned", "returned"]
    assert truthful.open() == ()


def test_results_that_agree_are_not_disputed(pool: Workshop) -> None:
    step_job(pool)
    one, two = Driver(pool, "one"), Driver(pool, "two")
    assert (one.work(), two.work()) == (RECORDED, VERIFIED)
    assert disputes(pool) == []


@pytest.mark.parametrize(
    "change",
    [{"unit_root": b""}, {"unit_count": UNITS - 1}, {"unit_count": UNITS + 1}, {"unit_count": 0}],
    ids=["no root", "a unit too few", "a unit too many", "none"],
)
def test_a_commitment_that_is_not_the_tasks_is_malformed(pool: Workshop, change: dict[str, Any]) -> None:
    step_job(pool)
    car = Driver(pool, "car")
    report = car.report()
    assert car.submit(report._replace(**change)) is REFUSED
    assert states(pool, car) == ["failed"]


def test_questions_go_to_the_two_sides_and_nobody_else(pool: Workshop) -> None:
    step_job(pool)
    one, two = Driver(pool, "one"), Driver(pool, "two", lie_at(3))
    one.work(), two.work()
    asked = [effect for effect in pool.effects if isinstance(effect, UnitsAsked)]
    assert [effect.vehicle_id for effect in asked] == [one.vehicle_id, two.vehicle_id]
    assert {question.unit_index for effect in asked for question in effect.questions} == {UNITS - 1}
    assert all(not question.want_state for effect in asked for question in effect.questions)

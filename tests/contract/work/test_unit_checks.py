"""Stories of claims that are checked one by one: a chaotic step program on vehicles of two classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pool_protocol import tensors
from pool_protocol.digests import output_digest
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import DAY_US
from pool_server.app import jobs
from pool_server.app.classes import list_classes, note_probe, settle_class_asks
from pool_server.app.refereeing import take_task_run, tasks_to_referee
from pool_server.app.unit_answers import UnitAnswerReport, expire_questions
from pool_server.app.unit_check_runs import check_order, checks_to_referee, measure, take_check
from pool_server.app.work_commands import AckStatus, AddTasks, AttemptReport, NewTask, NoWorkNow
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.comparison import Comparator, ComparatorKind
from pool_server.core.effects import UnitQuestion
from pool_server.core.jobs import AttemptOutcome, TaskState
from pool_server.core.verification import HistoryAuditRule, VerificationLevel
from pool_server.core.verification.dispute import DisputeState
from pool_server.core.verification.unit_check import UnitCheckRule
from pool_server.ports.disputes import UnitRun
from pool_server.ports.pool_runs import TaskRun
from pool_server.ports.unit_checks import UnitCheckRow
from tests.contract.work.test_disputes import (
    Driver,
    disputes,
    findings,
    judge,
    order_of,
    quarantined,
    refuses,
    states,
)
from tests.support.chaotic_cars import PROGRAM, STEPS, start
from tests.support.classes import probe
from tests.support.step_cars import UNIT_STEPS, Spoil, State, Walk, honest, unit_digest
from tests.support.workshop import BUYER, SetDraws, Workshop, inline

UNITS = 16
CLOSE = Comparator(kind=ComparatorKind.CLOSE, rtol=1e-4)
RECORDED, VERIFIED = AckStatus.RECORDED, AckStatus.VERIFIED
#: Draws of 0 take the first units: so many of a class that vouches for itself.
DRAWN = UnitCheckRule().units(UNITS)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path / "pool.sqlite3", draws=SetDraws(0.0))
    yield workshop
    workshop.books.assert_sound()
    workshop.books.engine.dispose()


class Car(Driver):
    """A vehicle of a class, that computes as its class does."""

    def __init__(self, pool: Workshop, name: str, kind: str, spoil: Spoil = honest) -> None:
        super().__init__(pool, name, spoil)
        self.kind = kind
        found = probe(kind)
        pool.books.run(
            lambda uow: note_probe(uow, vehicle_id=self.vehicle_id, probe=found, now_us=pool.now_us)
        )
        assert isinstance(pool.ask(self.vehicle_id), NoWorkNow), "it is there before the job is"

    def report(self) -> AttemptReport:
        """Lease the task, walk, and say what came out."""
        lease = self.pool.lease(self.vehicle_id)
        [grant] = lease.attempts
        self.lease_id, self.attempt_id = lease.lease_id, grant.attempt_id
        state: State = {"value": tensors.decode(grant.inputs.inline or b"")["state/value"]}
        walked = []
        for unit in range(UNITS):
            state = self.spoil(unit, STEPS[self.kind](state, UNIT_STEPS))
            walked.append(state)
        self.walk = Walk(walked, [unit_digest(state, unit) for unit, state in enumerate(walked)])
        return AttemptReport(
            attempt_id=self.attempt_id,
            outcome=AttemptOutcome.COMPLETED,
            output_digest=output_digest(walked[-1]),
            outputs=inline(tensors.encode(walked[-1])),
            unit_root=self.walk.root,
            unit_count=UNITS,
            run_time_us=1_000,
        )

    @property
    def end(self) -> np.ndarray:
        return self.walk.states[-1]["value"]


def chaotic_job(pool: Workshop, *, comparator: Comparator = CLOSE, **terms: Any) -> int:
    """A job of one step task."""
    job_id = pool.job(
        0,
        level=terms.pop("level", VerificationLevel.SPOT),
        program=PROGRAM,
        steps_per_task=UNITS * UNIT_STEPS,
        budget_micros=1_000,
        comparator=comparator,
        **terms,
    )
    content = tensors.encode({"state/value": start()["value"]})
    command = AddTasks(buyer_id=BUYER, job_id=job_id, first_index=0, tasks=[NewTask(inputs=inline(content))])
    pool._run(lambda uow: jobs.add_tasks(uow, command, now_us=pool.now_us))
    pool.close(job_id)
    return job_id


def lie_at(lying_unit: int) -> Spoil:
    """Change the state after one unit, and go on from there."""

    def spoil(unit: int, state: State) -> State:
        return {"value": state["value"] * np.float32(0.99)} if unit == lying_unit else state

    return spoil


# --- the referee --------------------------------------------------------------------------------


def _ran(start_ref: bytes | None, inputs: bytes, steps: int, kind: str) -> State:
    state: State = (
        {"value": tensors.decode(inputs)["state/value"]}
        if start_ref is None
        else dict(tensors.decode(start_ref))
    )
    return STEPS[kind](state, steps)


def referee(pool: Workshop, *, kind: str = "r", fails_with: PoolError | None = None) -> int:
    """Run what waits for the referee, units of disputes and of claims; how many that were."""
    numeric_class = probe(kind).class_id
    done = 0
    for dispute_id in pool.books.run(lambda uow: uow.disputes.refereeing(limit=10)):
        order = order_of(pool, dispute_id)
        start_ref = None if order.start is None else order.start.inline
        after = _ran(start_ref, order.inputs.inline or b"", order.steps, kind)
        judge(pool, dispute_id, UnitRun(unit_digest(after, order.unit_index), numeric_class))
        done += 1
    for check_id in pool.books.run(checks_to_referee):
        check(pool, check_id, kind=kind, fails_with=fails_with)
        done += 1
    return done


def check(pool: Workshop, check_id: int, *, kind: str = "r", fails_with: PoolError | None = None) -> None:
    """Run one unit of a claim."""
    order = pool.books.run(lambda uow: check_order(uow, check_id))
    if order is None:
        return
    unit = order.unit
    start_ref = None if unit.start is None else unit.start.inline
    after = _ran(start_ref, unit.inputs.inline or b"", unit.steps, kind)
    run = UnitRun(unit_digest(after, unit.unit_index), probe(kind).class_id, tensors.encode(after))
    outcome = fails_with or measure(order, run, pool.blobs)
    pool._run(
        lambda uow: take_check(
            uow, check_id, outcome, policy=pool.policy, blobs=pool.blobs, now_us=pool.now_us
        )
    )


def settle(pool: Workshop, *cars: Car, kind: str = "r", fails_with: PoolError | None = None) -> None:
    """Answer and referee until nothing moves."""
    while sum(car.answer_all() for car in cars) + referee(pool, kind=kind, fails_with=fails_with):
        pass


def checks(pool: Workshop, car: Car) -> list[UnitCheckRow]:
    return pool.books.run(lambda uow: uow.unit_checks.of_attempts([car.attempt_id]))


def found(pool: Workshop, car: Car) -> dict[int, str]:
    return {row.unit_index: row.state.value for row in checks(pool, car)}


def clean_uwu(pool: Workshop, car: Car) -> int:
    return pool.vehicle(car.vehicle_id).clean_uwu


# --- honest vehicles ----------------------------------------------------------------------------


def test_a_chaotic_pair_of_two_classes_is_right_both_and_paid_both(pool: Workshop) -> None:
    one, two = Car(pool, "one", "a"), Car(pool, "two", "b")
    job_id = chaotic_job(pool)
    assert (one.work(), two.work()) == (RECORDED, RECORDED)
    # The ends have no likeness, and the walks part in the first unit.
    assert np.max(np.abs(one.end - two.end)) > 0.1
    assert one.walk.digests[0] != two.walk.digests[0]
    settle(pool, one, two)
    assert states(pool, one, two) == ["accepted", "accepted"]
    assert (pool.held("one"), pool.held("two")) == (95, 95)
    assert clean_uwu(pool, one) == clean_uwu(pool, two) == PROGRAM.work_uwu_per_task
    assert findings(pool, one) == findings(pool, two) == []
    [dispute] = disputes(pool)
    assert (dispute.state, dispute.reason, dispute.unit_index) == (DisputeState.NO_BLAME, "BOTH_STAND", 0)
    # Who came first is believed, and it was checked: all units, since nobody else is of its class.
    result = pool.result(job_id)
    assert (result.state, result.evidence) == (TaskState.ACCEPTED, "AUDITED")
    assert result.outputs is not None
    assert np.array_equal(tensors.decode(result.outputs.inline or b"")["value"], one.end)
    assert found(pool, one) == found(pool, two) == dict.fromkeys(range(UNITS), "within")
    # Each class is confirmed by the other on this program.
    figures = {item.numeric_class: item.agreed_across for item in pool.books.run(list_classes).classes}
    assert (figures[probe("a").class_id], figures[probe("b").class_id]) == (1, 1)


def test_of_classes_that_vouch_for_themselves_nine_units_are_drawn(pool: Workshop) -> None:
    one, two, *_ = [Car(pool, name, name[0]) for name in ("a1", "b1", "a2", "b2")]
    chaotic_job(pool)
    one.work(), two.work()
    settle(pool, one, two)
    assert states(pool, one, two) == ["accepted", "accepted"]
    assert found(pool, one) == found(pool, two) == dict.fromkeys(range(DRAWN), "within")


def test_a_referee_of_one_sides_class_asks_that_side_for_its_very_bits(pool: Workshop) -> None:
    one, two = Car(pool, "one", "a"), Car(pool, "two", "b")
    chaotic_job(pool)
    one.work(), two.work()
    settle(pool, one, two, kind="a")
    assert states(pool, one, two) == ["accepted", "accepted"]


def test_a_lie_within_the_tolerance_is_one_in_the_referees_own_class(pool: Workshop) -> None:
    def hair(unit: int, state: State) -> State:
        return {"value": np.nextafter(state["value"], np.float32(1))} if unit == 4 else state

    liar, two = Car(pool, "liar", "a", hair), Car(pool, "two", "b")
    chaotic_job(pool)
    liar.work(), two.work()
    settle(pool, liar, two, kind="a")
    assert states(pool, liar, two) == ["rejected", "accepted"]
    assert findings(pool, liar) == [("DISPUTE", "WRONG", 4)]


def test_a_third_opinion_of_either_class_joins_by_its_bits(pool: Workshop) -> None:
    cars = [Car(pool, "one", "a"), Car(pool, "two", "b"), Car(pool, "three", "b")]
    job_id = chaotic_job(pool)
    with pool.books.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE tasks SET wanted = 3, agreement_needed = 3")
    reports = [car.report() for car in cars]
    for car, report in zip(cars, reports, strict=True):
        car.submit(report)
    settle(pool, *cars)
    assert states(pool, *cars) == ["accepted"] * 3
    assert pool.result(job_id).state is TaskState.ACCEPTED
    assert [dispute.reason for dispute in disputes(pool)] == ["BOTH_STAND"]


def test_the_pools_own_run_of_a_chaotic_task_convicts_nobody_of_another_class(tmp_path: Path) -> None:
    policy = WorkPolicy(
        audit_rule=HistoryAuditRule(colluding_auditor_share=0.2),
        pool_run_uwu_max=PROGRAM.work_uwu_per_task,
        pool_audit_uwu_max=PROGRAM.work_uwu_per_task,
    )
    pool = Workshop(tmp_path / "pool.sqlite3", policy=policy, draws=SetDraws(0.99))
    one, two, newcomer = Car(pool, "one", "a"), Car(pool, "two", "b"), Car(pool, "newcomer", "b")
    chaotic_job(pool)
    one.work(), two.work()
    settle(pool, one, two)
    # The classes know each other now. A newcomer is audited by the pool itself, which comes to another end.
    job_id = chaotic_job(pool)
    assert newcomer.work() is RECORDED
    run_whole(pool)
    assert states(pool, newcomer) == ["returned"]
    one.work()
    settle(pool, one, two, newcomer)
    assert states(pool, one, newcomer) == ["accepted", "accepted"]
    assert pool.result(job_id).evidence == "AUDITED"
    pool.books.assert_sound()
    pool.books.engine.dispose()


def run_whole(pool: Workshop, *, kind: str = "r") -> None:
    """Let the pool compute the tasks that wait for it."""
    after = STEPS[kind](start(), UNITS * UNIT_STEPS)
    run = TaskRun(output_digest(after), inline(tensors.encode(after)), probe(kind).class_id)
    [task_id] = pool.books.run(tasks_to_referee)
    pool._run(
        lambda uow: take_task_run(uow, task_id, run, policy=pool.policy, blobs=pool.blobs, now_us=pool.now_us)
    )


# --- liars --------------------------------------------------------------------------------------


@pytest.mark.parametrize("comes", ["first", "second"])
@pytest.mark.parametrize("unit", [0, 5, UNITS - 1])
def test_a_liar_of_another_class_is_convicted_by_a_drawn_unit(pool: Workshop, comes: str, unit: int) -> None:
    liar, truthful = Car(pool, "liar", "b", lie_at(unit)), Car(pool, "truthful", "a")
    job_id = chaotic_job(pool)
    for car in (liar, truthful) if comes == "first" else (truthful, liar):
        assert car.work() is RECORDED
    settle(pool, liar, truthful)
    assert states(pool, liar, truthful) == ["rejected", "accepted"]
    assert findings(pool, liar) == [("DISPUTE", "WRONG", unit)]
    assert findings(pool, truthful) == []
    assert quarantined(pool, liar)
    assert (pool.held("liar"), pool.held("truthful")) == (0, 95)
    [dispute] = disputes(pool)
    assert (dispute.state, dispute.reason, dispute.winner_attempt_id) == (
        DisputeState.DECIDED,
        "WRONG_UNIT",
        truthful.attempt_id,
    )
    assert pool.result(job_id).state is TaskState.ACCEPTED


@pytest.mark.parametrize("unit", range(DRAWN, UNITS))
def test_without_chaos_the_unit_of_parting_is_found_though_it_was_not_drawn(
    pool: Workshop, unit: int
) -> None:
    liar, truthful = Car(pool, "liar", "tame b", lie_at(unit)), Car(pool, "truthful", "tame a")
    fellows = [Car(pool, f"fellow {kind}", kind) for kind in ("tame b", "tame a")]
    chaotic_job(pool)
    liar.work(), truthful.work()
    assert liar.walk.digests[0] != truthful.walk.digests[0]
    settle(pool, liar, truthful, kind="tame a")
    assert found(pool, liar)[unit] == "outside"
    fellows[0].work()
    settle(pool, liar, truthful, fellows[0], kind="tame a")
    assert states(pool, liar, truthful, fellows[0]) == ["rejected", "accepted", "accepted"]
    assert findings(pool, liar) == [("DISPUTE", "WRONG", unit)]
    # No more than a bisection's worth of units besides those drawn.
    assert len(found(pool, truthful)) <= DRAWN + 4


def test_a_single_lie_that_was_not_drawn_hides_in_chaos(pool: Workshop) -> None:
    # What the documents say that is not found: each other unit follows from the one before it.
    liar, truthful = Car(pool, "liar", "b", lie_at(UNITS - 2)), Car(pool, "truthful", "a")
    assert [Car(pool, f"fellow_{kind}", kind) for kind in "ab"]
    chaotic_job(pool)
    liar.work(), truthful.work()
    settle(pool, liar, truthful)
    assert states(pool, liar, truthful) == ["accepted", "accepted"]


def test_two_liars_lose_both(pool: Workshop) -> None:
    one, two = Car(pool, "one", "a", lie_at(3)), Car(pool, "two", "b", lie_at(6))
    job_id = chaotic_job(pool)
    one.work(), two.work()
    settle(pool, one, two)
    assert states(pool, one, two) == ["rejected", "rejected"]
    assert (findings(pool, one)[0][2], findings(pool, two)[0][2]) == (3, 6)
    assert pool.result(job_id).state is TaskState.READY


def test_a_state_that_is_not_the_one_committed_to_convicts(pool: Workshop) -> None:
    one, two = Car(pool, "one", "a"), Car(pool, "two", "b")
    chaotic_job(pool)
    one.work(), two.work()
    question = first_state_question(pool, one, two)
    other = inline(tensors.encode(start()))
    forged = one.truth(question)
    one.say(
        UnitAnswerReport(
            query_id=forged.query_id,
            digest=forged.digest,
            inclusion_path=forged.inclusion_path,
            state=other,
            reason="",
        )
    )
    assert states(pool, one, two) == ["rejected", "returned"]
    [dispute] = disputes(pool)
    # The other was not checked to the end: it has won nothing.
    assert (dispute.state, dispute.winner_attempt_id) == (DisputeState.DECIDED, 0)


def first_state_question(pool: Workshop, asked: Car, other: Car) -> UnitQuestion:
    """Go on until a car is asked for a state; the first such question."""
    while not any(question.want_state for question in asked.open()):
        assert asked.answer_all() + other.answer_all() + referee(pool)
    return next(question for question in asked.open() if question.want_state)


# --- states that are not shown, a referee that fails --------------------------------------------


def test_who_does_not_show_its_states_in_time_is_convicted_and_loses_to_who_did(pool: Workshop) -> None:
    silent, truthful = Car(pool, "silent", "b"), Car(pool, "truthful", "a")
    job_id = chaotic_job(pool)
    silent.work(), truthful.work()
    first_state_question(pool, silent, truthful)
    settle(pool, truthful)
    assert states(pool, silent, truthful) == ["returned", "returned"]
    pool.wait(seconds=3 * DAY_US / 1e6)
    pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us))
    assert states(pool, silent, truthful) == ["rejected", "accepted"]
    assert findings(pool, silent)[0][:2] == ("DISPUTE", "WITHHELD")
    [dispute] = disputes(pool)
    assert (dispute.reason, dispute.winner_attempt_id) == ("WITHHELD", truthful.attempt_id)
    assert pool.result(job_id).state is TaskState.ACCEPTED


@pytest.mark.parametrize("answer", ["STATE_FORGOTTEN", "NOT_CHARGING"])
def test_who_cannot_show_a_state_is_not_blamed_and_loses_to_who_can(pool: Workshop, answer: str) -> None:
    parked, truthful = Car(pool, "parked", "b"), Car(pool, "truthful", "a")
    chaotic_job(pool)
    parked.work(), truthful.work()
    first_state_question(pool, parked, truthful)
    for question in parked.open():
        parked.say(refuses(answer, question))
    settle(pool, truthful)
    pool.wait(seconds=3 * DAY_US / 1e6)
    pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us))
    assert states(pool, parked, truthful) == ["discarded", "accepted"]
    assert pool.held("parked") == 0
    assert findings(pool, parked) == []
    assert not quarantined(pool, parked)
    assert disputes(pool)[0].reason == "UNCHECKED"


def test_what_neither_can_show_blames_nobody(pool: Workshop) -> None:
    cars = [Car(pool, "one", "a"), Car(pool, "two", "b"), Car(pool, "three", "a")]
    one, two, three = cars
    job_id = chaotic_job(pool)
    one.work(), two.work()
    first_state_question(pool, one, two)
    for car in (one, two):
        for question in car.open():
            car.say(refuses("STATE_FORGOTTEN", question))
    settle(pool, one, two)
    [dispute] = disputes(pool)
    assert (dispute.state, dispute.reason) == (DisputeState.NO_BLAME, "STATE_FORGOTTEN")
    assert states(pool, one, two) == ["returned", "returned"]
    assert pool.result(job_id).state is TaskState.READY
    # The third is of one's class and has its bits; two is of another, and its end says nothing against it.
    assert three.work() is VERIFIED
    assert states(pool, *cars) == ["accepted", "discarded", "accepted"]
    assert findings(pool, two) == []
    assert not quarantined(pool, two)


def test_a_referee_that_fails_three_times_blames_nobody(pool: Workshop) -> None:
    cars = [Car(pool, "one", "a"), Car(pool, "two", "b"), Car(pool, "three", "a")]
    one, two, three = cars
    job_id = chaotic_job(pool)
    one.work(), two.work()
    settle(pool, one, two, fails_with=PoolError(ErrorCode.UNAVAILABLE, "no memory"))
    assert {(row.state.value, row.tries, row.reason) for row in checks(pool, one)} == {
        ("unsettled", 3, "UNAVAILABLE")
    }
    [dispute] = disputes(pool)
    assert (dispute.state, dispute.reason) == (DisputeState.NO_BLAME, "UNAVAILABLE")
    assert pool.result(job_id).state is TaskState.READY
    # The third is of one's class and has its bits: two owners against one, who is unpaid and without blame.
    assert three.work() is VERIFIED
    assert states(pool, *cars) == ["accepted", "discarded", "accepted"]
    assert findings(pool, two) == []
    assert not quarantined(pool, two)


def test_a_program_that_fails_from_a_claimed_state_is_tried_once(pool: Workshop) -> None:
    one, two = Car(pool, "one", "a"), Car(pool, "two", "b")
    chaotic_job(pool)
    one.work(), two.work()
    settle(pool, one, two, fails_with=PoolError(ErrorCode.PROGRAM_FAILED, "it fails"))
    assert {(row.state.value, row.tries) for row in checks(pool, one)} == {("unsettled", 1)}
    assert disputes(pool)[0].reason == "PROGRAM_FAILED"


# --- whole classes ------------------------------------------------------------------------------


def sweep(pool: Workshop) -> int:
    return pool.books.run(lambda uow: settle_class_asks(uow, policy=pool.policy, now_us=pool.now_us))


def test_a_class_that_is_wrong_as_a_whole_is_a_fault_and_no_fraud(pool: Workshop) -> None:
    odd, witness = Car(pool, "odd", "off"), Car(pool, "witness", "off")
    truthful = Car(pool, "truthful", "a")
    job_id = chaotic_job(pool)
    odd.work(), truthful.work()
    settle(pool, odd, truthful)
    # Its unit is wrong, but another of its class is at work: that one is heard before anybody is blamed.
    assert set(found(pool, odd).values()) == {"outside"}
    assert states(pool, odd, truthful) == ["returned", "returned"]
    assert pool.result(job_id).state is TaskState.READY
    assert witness.work() is RECORDED
    assert states(pool, odd, truthful, witness) == ["discarded", "accepted", "discarded"]
    [fault] = pool.books.run(list_classes).faults
    assert fault.numeric_class == probe("off").class_id
    assert pool.view(job_id).rejected_count == 0
    assert not any(quarantined(pool, car) for car in (odd, witness))
    assert (pool.held("odd"), pool.held("witness"), pool.held("truthful")) == (0, 0, 95)


def test_a_liar_in_a_sound_class_is_found_out_by_its_fellow(pool: Workshop) -> None:
    liar, fellow = Car(pool, "liar", "b", lie_at(5)), Car(pool, "fellow", "b")
    truthful = Car(pool, "truthful", "a")
    job_id = chaotic_job(pool)
    liar.work(), truthful.work()
    settle(pool, liar, truthful)
    assert states(pool, liar, truthful) == ["returned", "returned"]
    assert fellow.work() is RECORDED
    settle(pool, liar, truthful, fellow)
    assert states(pool, liar, truthful, fellow) == ["rejected", "accepted", "accepted"]
    assert findings(pool, liar) == [("DISPUTE", "WRONG", 5)]
    assert quarantined(pool, liar)
    assert pool.result(job_id).state is TaskState.ACCEPTED
    assert pool.books.run(list_classes).faults == ()


def test_without_a_witness_in_time_a_refuted_result_is_unpaid_and_nobody_is_blamed(pool: Workshop) -> None:
    odd, absent = Car(pool, "odd", "off"), Car(pool, "absent", "off")
    truthful = Car(pool, "truthful", "a")
    job_id = chaotic_job(pool)
    odd.work(), truthful.work()
    settle(pool, odd, truthful)
    pool.wait(seconds=31)
    sweep(pool)
    assert states(pool, odd, truthful) == ["discarded", "accepted"]
    assert pool.held("odd") == 0
    assert not quarantined(pool, odd)
    assert absent.attempt_id == 0
    assert pool.result(job_id).state is TaskState.ACCEPTED


# --- what stays as it is ------------------------------------------------------------------------


def test_within_one_class_bits_decide_and_nobody_is_checked_further(pool: Workshop) -> None:
    liar, truthful = Car(pool, "liar", "a", lie_at(12)), Car(pool, "truthful", "a")
    chaotic_job(pool)
    liar.work(), truthful.work()
    settle(pool, liar, truthful, kind="a")
    assert states(pool, liar, truthful) == ["rejected", "accepted"]
    assert findings(pool, liar) == [("DISPUTE", "WRONG", 12)]
    assert checks(pool, liar) == checks(pool, truthful) == []


def test_within_a_class_that_is_not_the_referees_the_unit_of_parting_convicts(pool: Workshop) -> None:
    # Not among the drawn ones, but two of one class part in no other.
    liar, truthful = Car(pool, "liar", "a", lie_at(12)), Car(pool, "truthful", "a")
    chaotic_job(pool)
    liar.work(), truthful.work()
    settle(pool, liar, truthful)
    assert found(pool, liar)[12] == "outside"
    assert found(pool, truthful)[12] == "within"
    assert sorted(found(pool, liar)) == [*range(DRAWN), 12]


def test_a_job_without_tolerance_is_not_checked_this_way(pool: Workshop) -> None:
    one, two = Car(pool, "one", "a"), Car(pool, "two", "a", lie_at(3))
    chaotic_job(pool, comparator=Comparator())
    one.work(), two.work()
    settle(pool, one, two)
    [dispute] = disputes(pool)
    assert (dispute.state, dispute.reason) == (DisputeState.NO_BLAME, "CLASS_PROBLEM")
    assert checks(pool, one) == []


def test_a_side_that_is_taken_out_ends_it_and_what_was_found_of_the_other_holds(pool: Workshop) -> None:
    liar, two = Car(pool, "liar", "b", lie_at(2)), Car(pool, "two", "a")
    third = Car(pool, "third", "a")
    job_id = chaotic_job(pool)
    liar.work(), two.work()
    first_state_question(pool, two, liar)
    settle(pool, liar)
    assert found(pool, liar)[2] == "outside"
    pool.quarantine(two.vehicle_id)
    assert states(pool, liar, two) == ["returned", "discarded"]
    third.work()
    settle(pool, liar, third)
    assert states(pool, liar)[0] == "rejected"
    assert [dispute.state for dispute in disputes(pool)] == [DisputeState.ENDED]
    assert pool.result(job_id).state is TaskState.READY


def test_units_of_a_claim_are_drawn_once(pool: Workshop) -> None:
    cars = [Car(pool, "one", "a"), Car(pool, "two", "b"), Car(pool, "three", "r")]
    assert [Car(pool, f"fellow_{kind}", kind) for kind in "abr"]
    chaotic_job(pool)
    with pool.books.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE tasks SET wanted = 3, agreement_needed = 3")
    reports = [car.report() for car in cars]
    for car, report in zip(cars[:2], reports[:2], strict=True):
        car.submit(report)
    settle(pool, *cars[:2], kind="a")
    before = checks(pool, cars[0])
    pool.draws.drawn = 0.999
    cars[2].submit(reports[2])
    settle(pool, *cars, kind="a")
    assert checks(pool, cars[0]) == before
    assert sorted(found(pool, cars[2])) == [*range(DRAWN - 1), UNITS - 1]
    assert states(pool, *cars) == ["accepted"] * 3


def test_a_question_that_was_closed_unheard_is_asked_again(pool: Workshop) -> None:
    one, two, three = Car(pool, "one", "a"), Car(pool, "two", "b"), Car(pool, "three", "b")
    chaotic_job(pool)
    one.work(), two.work()
    first_state_question(pool, one, two)
    # Its opponent is gone, and one's questions run out while nobody needs the answers.
    pool.quarantine(two.vehicle_id)
    three_report = three.report()
    pool.wait(seconds=3 * DAY_US / 1e6)
    with pool.books.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE disputes SET state = 'ended', closed_at_us = 1")
    pool._run(lambda uow: expire_questions(uow, policy=pool.policy, now_us=pool.now_us))
    assert states(pool, one) == ["returned"]
    three.submit(three_report)
    settle(pool, one, three)
    assert states(pool, one, three) == ["accepted", "accepted"]

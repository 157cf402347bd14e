"""Numeric classes over real books: who checks whom, whose fault a difference is, and what it costs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_protocol import tensors
from pool_server.app.classes import list_classes, note_probe, settle_class_asks
from pool_server.app.work_commands import (
    AckStatus,
    AttemptGrant,
    AttemptReport,
    LeaseGranted,
    NoWorkNow,
    WaitingReason,
)
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.comparison import Comparator, ComparatorKind
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import TaskState
from pool_server.core.trust import TrustRecord, trust_class
from pool_server.core.verification import HistoryAuditRule, VerificationLevel
from tests.support.classes import probe
from tests.support.workshop import PROGRAM, TASK_MICROS, SetDraws, Workshop, answer, computed, report

CLOSE = Comparator(kind=ComparatorKind.CLOSE, rtol=1e-5)


def join(pool: Workshop, name: str, kind: str) -> str:
    """A vehicle of an owner of its own, of the class that `kind` names."""
    vehicle_id = pool.car(name)
    pool.books.run(lambda uow: note_probe(uow, vehicle_id=vehicle_id, probe=probe(kind), now_us=pool.now_us))
    assert isinstance(pool.ask(vehicle_id), NoWorkNow), "it is there before the job is"
    return vehicle_id


def sweep(pool: Workshop) -> int:
    return pool.books.run(lambda uow: settle_class_asks(uow, policy=pool.policy, now_us=pool.now_us))


def product(grant: AttemptGrant, kind: str) -> AttemptReport:
    """What a vehicle computes: the class "f" is off in the fourth digit, always by the same bits."""
    honest = computed(grant)
    if kind != "f":
        return honest
    [y] = tensors.decode(honest.outputs.inline or b"").values()
    return report(grant.attempt_id, answer(float(y[0]) * (1 + 1e-3)))


def quarantined(pool: Workshop) -> int:
    return pool.books.run(lambda uow: uow.fleet.counts_by_state()).get(VehicleState.QUARANTINED, 0)


# --- a class that is wrong as a whole -----------------------------------------------------------


class Fleet:
    """Vehicles that work in turn, by the class that they are of."""

    def __init__(self, pool: Workshop, kinds: list[str]) -> None:
        self.pool = pool
        self.kinds = {join(pool, f"{kind}{number}", kind): kind for number, kind in enumerate(kinds)}

    def turn(self, *, attempts_max: int = 2) -> int:
        """Every vehicle leases and submits once; returns how many had work."""
        leases: list[tuple[LeaseGranted, str]] = []
        for vehicle_id, kind in self.kinds.items():
            granted = self.pool.ask(vehicle_id, attempts_max)
            if isinstance(granted, LeaseGranted):
                leases.append((granted, kind))
        for lease, kind in leases:
            reports = [product(grant, kind) for grant in lease.attempts]
            self.pool.submit(lease.vehicle_id, lease.lease_id, reports)
        return len(leases)

    def run(self, job_id: int, *, turns_max: int = 200) -> None:
        """Work until a job is done."""
        for _ in range(turns_max):
            self.turn()
            self.pool.wait(seconds=5)
            sweep(self.pool)
            if self.pool.view(job_id).state == "done":
                return
        raise AssertionError("the job is never done")


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(["f" if number % 20 == 0 else "a" for number in range(200)], id="one sound class"),
        pytest.param(
            ["f" if number % 20 == 0 else "ab"[number % 2] for number in range(200)], id="two sound classes"
        ),
        pytest.param(["f"] * 10 + ["a"] * 190, id="the faulty ones come first"),
    ],
)
def test_a_class_whose_matmul_is_off_is_a_fault_and_no_fraud(tmp_path: Path, kinds: list[str]) -> None:
    # 1. 5 % of 200 vehicles return the same wrong bits, off by 1e-3; the job compares with 1e-5 at careful.
    pool = Workshop(tmp_path / "pool.sqlite3")
    fleet = Fleet(pool, kinds)
    job_id = pool.job(600, level=VerificationLevel.CAREFUL, comparator=CLOSE, close=True)
    fleet.run(job_id)
    # 2. No wrong result was accepted, and the job came to its end.
    page = pool.decided(job_id)
    assert [result.state for result in page.decided] == [TaskState.ACCEPTED] * 600
    assert all(pool.value(job_id, index) == index + 1 for index in range(600))
    # 3. The fault is reported, in words that an operator understands.
    found = pool.books.run(list_classes)
    [fault] = found.faults
    assert (fault.numeric_class, fault.program_sha256) == (probe("f").class_id, PROGRAM.program_sha256)
    assert 2 <= fault.vehicle_count <= 10
    assert "not fraud" in fault.summary
    # 4. Nobody is called a fraud, and nobody was paid for what was wrong.
    assert quarantined(pool) == 0
    assert pool.view(job_id).rejected_count == 0
    for vehicle_id, kind in fleet.kinds.items():
        view = pool.vehicle(vehicle_id)
        assert view.rejected_attempts == 0
        if kind == "f":
            assert (view.verified_attempts, pool.held(vehicle_id.removeprefix("vehicle_"))) == (0, 0)
            assert view.clean_uwu == 0
    # 5. The class gets no more of this program; the others do.
    pool.job(5, level=VerificationLevel.CAREFUL, comparator=CLOSE)
    by_kind = {kind: vehicle_id for vehicle_id, kind in fleet.kinds.items()}
    assert isinstance(pool.ask(by_kind["f"]), NoWorkNow)
    assert isinstance(pool.ask(by_kind["a"]), LeaseGranted)
    pool.books.assert_sound()
    pool.books.engine.dispose()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Workshop]:
    """A pool in which every result is audited."""
    workshop = Workshop(
        tmp_path / "pool.sqlite3", policy=WorkPolicy(audit_rule=HistoryAuditRule(assumed_faulty_share=1.0))
    )
    yield workshop
    workshop.books.assert_sound()
    workshop.books.engine.dispose()


def test_a_liar_in_a_sound_class_is_a_fraud_as_ever(small: Workshop) -> None:
    # A liar of class b; another of b does not repeat its answer.
    liar, fellow = join(small, "liar", "b"), join(small, "fellow", "b")
    honest = [join(small, f"a{number}", "a") for number in range(3)]
    job_id = small.job(1, level=VerificationLevel.CAREFUL, comparator=CLOSE, close=True)
    assert small.work(liar, error=1.0) == [AckStatus.RECORDED]
    assert isinstance(small.ask(fellow), NoWorkNow), "its own class does not confirm it first"
    assert small.work(honest[0]) == [AckStatus.RECORDED]
    assert small.work(honest[1]) == [AckStatus.RECORDED], "a witness of the liar's class is heard first"
    assert isinstance(small.ask(honest[2]), NoWorkNow)
    assert small.work(fellow) == [AckStatus.VERIFIED]
    assert small.value(job_id) == 1.0
    assert small.vehicle(liar).state is VehicleState.QUARANTINED
    assert small.books.run(list_classes).faults == ()


def test_without_a_witness_in_time_nobody_is_blamed_and_the_task_goes_on(small: Workshop) -> None:
    odd, absent = join(small, "odd", "b"), join(small, "absent", "b")
    honest = [join(small, f"a{number}", "a") for number in range(3)]
    job_id = small.job(1, level=VerificationLevel.CAREFUL, comparator=CLOSE, close=True)
    small.work(odd, error=1.0)
    small.work(honest[0])
    small.work(honest[1])
    assert small.result(job_id).state is TaskState.READY
    small.wait(seconds=31)
    assert sweep(small) == 1
    assert small.value(job_id) == 1.0
    assert small.vehicle(odd).state is not VehicleState.QUARANTINED
    assert small.held("odd") == 0
    assert small.vehicle(absent).rejected_attempts == 0
    assert sweep(small) == 0


def test_a_class_of_its_own_is_no_excuse(small: Workshop) -> None:
    liar = join(small, "liar", "invented")
    honest = [join(small, f"a{number}", "a") for number in range(2)]
    job_id = small.job(1, level=VerificationLevel.CAREFUL, comparator=CLOSE, close=True)
    small.work(liar, error=1.0)
    small.work(honest[0])
    assert small.work(honest[1]) == [AckStatus.VERIFIED]
    assert small.value(job_id) == 1.0
    assert small.vehicle(liar).state is VehicleState.QUARANTINED


def test_accomplices_in_an_invented_class_get_nothing_accepted(small: Workshop) -> None:
    one, two = join(small, "one", "invented"), join(small, "two", "invented")
    honest = [join(small, f"a{number}", "a") for number in range(3)]
    job_id = small.job(1, level=VerificationLevel.CAREFUL, comparator=CLOSE, close=True)
    first, second = small.lease(one), small.ask(two)
    small.hand_in(first, error=1.0)
    assert isinstance(second, NoWorkNow) or small.hand_in(second, error=1.0)
    for car in honest:
        small.ask(car)
    small.exhaust(*honest)
    small.wait(seconds=31)
    sweep(small)
    assert small.value(job_id) == 1.0
    assert small.held("one") == small.held("two") == 0


# --- exact results ------------------------------------------------------------------------------


def test_an_exact_result_is_checked_within_its_class(small: Workshop) -> None:
    ones = [join(small, f"a{number}", "a") for number in range(2)]
    others = [join(small, f"b{number}", "b") for number in range(2)]
    job_id = small.job(1, level=VerificationLevel.CAREFUL, close=True)
    small.work(ones[0])
    assert isinstance(small.ask(others[0]), NoWorkNow), "its bits may rightly be others"
    assert small.work(ones[1]) == [AckStatus.VERIFIED]
    assert small.result(job_id).state is TaskState.ACCEPTED


def test_a_false_mismatch_between_classes_burns_nobody(small: Workshop) -> None:
    # 1. No vehicle of its class comes: after a while others may, and their bits differ.
    rounding = 1e-7
    lone, absent = join(small, "lone", "b"), join(small, "absent", "b")
    others = [join(small, f"a{number}", "a") for number in range(3)]
    job_id = small.job(1, level=VerificationLevel.CAREFUL, close=True)
    small.work(lone, error=rounding * 10)
    assert isinstance(small.ask(others[0]), NoWorkNow)
    small.wait(seconds=31)
    assert small.work(others[0]) == [AckStatus.RECORDED]
    # 2. The class with more owners decides; the other is unpaid, and nothing is held against it.
    assert small.work(others[1]) == [AckStatus.VERIFIED]
    assert small.value(job_id) == 1.0
    for car in (lone, absent, *others):
        view = small.vehicle(car)
        assert (view.rejected_attempts, view.state is VehicleState.QUARANTINED) == (0, False)
    assert small.held("lone") == 0
    assert small.held("a0") == TASK_MICROS * 95 // 100


def test_a_liar_within_its_class_is_rejected_under_exact(small: Workshop) -> None:
    liar, *honest = [join(small, f"a{number}", "a") for number in range(3)]
    small.job(1, level=VerificationLevel.CAREFUL, close=True)
    small.work(liar, error=1.0)
    small.work(honest[0])
    small.work(honest[1])
    assert small.vehicle(liar).state is VehicleState.QUARANTINED


def test_a_league_with_a_class_of_its_own_does_not_check_itself(tmp_path: Path) -> None:
    """What a vehicle says of its class is a claim: three of sixteen may not choose their own auditors."""
    policy = WorkPolicy(audit_rule=HistoryAuditRule(assumed_faulty_share=1.0))
    pool = Workshop(tmp_path / "pool.sqlite3", policy=policy)
    league = [join(pool, f"x{number}", "invented") for number in range(3)]
    honest = [join(pool, f"a{number}", "a") for number in range(13)]
    job_id = pool.job(20, level=VerificationLevel.CAREFUL, close=True)
    for _ in range(40):
        for car in (*league, *honest):
            granted = pool.ask(car, 2)
            if isinstance(granted, LeaseGranted):
                pool.hand_in(granted, error=1.0 if car in league else 0.0)
        pool.wait(seconds=5)
        sweep(pool)
    assert pool.view(job_id).accepted_count == 20
    assert all(pool.value(job_id, index) == index + 1 for index in range(20))
    assert [pool.held(f"x{number}") for number in range(3)] == [0, 0, 0]
    # They are not called frauds: their bits might rightly differ. But they compute in vain no more.
    assert pool.view(job_id).rejected_count == 0
    pool.job(1, level=VerificationLevel.CAREFUL)
    assert isinstance(pool.ask(league[0]), NoWorkNow)
    assert isinstance(pool.ask(honest[0]), LeaseGranted)
    pool.books.assert_sound()
    pool.books.engine.dispose()


def test_vehicles_without_a_probe_are_compared_with_everybody(small: Workshop) -> None:
    first, old = join(small, "a0", "a"), small.car("old")
    small.job(1, level=VerificationLevel.CAREFUL, close=True)
    small.work(first)
    assert small.work(old) == [AckStatus.VERIFIED]


# --- confirmation across classes ----------------------------------------------------------------


def test_a_class_confirms_another_and_its_history_makes_that_rare(tmp_path: Path) -> None:
    draws = SetDraws(0.5)
    pool = Workshop(tmp_path / "pool.sqlite3", draws=draws)
    ones = [join(pool, f"a{number}", "a") for number in range(3)]
    other = join(pool, "b0", "b")
    first = pool.job(1, level=VerificationLevel.SPOT, comparator=CLOSE, close=True)
    pool.work(ones[0])
    assert isinstance(pool.ask(ones[1]), NoWorkNow), "the class was never confirmed on this program"
    assert pool.work(other) == [AckStatus.VERIFIED]
    assert pool.result(first).state is TaskState.ACCEPTED
    # One unit of history on both sides: k = 1 for a class at spot, so the chance is a half now.
    pool.job(1, level=VerificationLevel.SPOT, comparator=CLOSE, close=True)
    pool.work(ones[1])
    assert pool.work(ones[2]) == [AckStatus.VERIFIED], "checked because its vehicle is new, by anybody"
    pool.books.assert_sound()
    pool.books.engine.dispose()


def test_where_nobody_of_another_class_is_there_nothing_waits(small: Workshop) -> None:
    ones = [join(small, f"a{number}", "a") for number in range(2)]
    small.job(1, level=VerificationLevel.CAREFUL, comparator=CLOSE, close=True)
    small.work(ones[0])
    assert small.work(ones[1]) == [AckStatus.VERIFIED]


def test_the_largest_class_goes_on_alone_when_no_other_comes(small: Workshop) -> None:
    ones = [join(small, f"a{number}", "a") for number in range(3)]
    join(small, "b0", "b")
    job_id = small.job(1, level=VerificationLevel.CAREFUL, comparator=CLOSE, close=True)
    small.work(ones[0])
    assert isinstance(small.ask(ones[1]), NoWorkNow)
    small.wait(seconds=31)
    assert small.work(ones[1]) == [AckStatus.VERIFIED]
    assert small.result(job_id).state is TaskState.ACCEPTED


def test_a_job_says_that_it_waits_for_another_class(small: Workshop) -> None:
    lone = join(small, "a0", "a")
    other = join(small, "b0", "b")
    job_id = small.job(1, level=VerificationLevel.CAREFUL, comparator=CLOSE, close=True)
    small.work(lone)
    assert small.view(job_id).waiting_reason is not WaitingReason.WAITING_FOR_ANOTHER_CLASS
    small.retire(other)
    assert small.view(job_id).waiting_reason is WaitingReason.WAITING_FOR_ANOTHER_CLASS
    assert small.view(job_id).waiting_count == 1


# --- classes of vehicles ------------------------------------------------------------------------


def test_a_vehicle_that_computes_differently_keeps_half_of_its_history(small: Workshop) -> None:
    car = join(small, "a0", "a")
    kept = trust_class("map", VerificationLevel.SPOT)
    record = TrustRecord(clean_uwu=101, accepted_attempts=7, rejected_attempts=1)
    small.books.run(lambda uow: uow.fleet.put_trust(car, kept, record))

    def note(kind: str, *, jaxlib: str = "0.10.2") -> int:
        found = probe(kind, jaxlib=jaxlib)
        small.books.run(lambda uow: note_probe(uow, vehicle_id=car, probe=found, now_us=small.now_us))
        return small.books.run(lambda uow: uow.fleet.trust(car, kept)).clean_uwu

    assert note("a") == 101, "the same again changes nothing"
    assert note("a", jaxlib="0.11.0") == 50
    assert note("b") == 25
    told = [event.cause for event in small.books.run(lambda uow: uow.events.of("vehicle", car))]
    assert sum("half of its history" in cause for cause in told) == 2


def test_the_first_probe_halves_nothing(small: Workshop) -> None:
    car = small.car("old")
    kept = trust_class("map", VerificationLevel.SPOT)
    small.books.run(lambda uow: uow.fleet.put_trust(car, kept, TrustRecord(clean_uwu=101)))
    small.books.run(lambda uow: note_probe(uow, vehicle_id=car, probe=probe("a"), now_us=small.now_us))
    assert small.books.run(lambda uow: uow.fleet.trust(car, kept)).clean_uwu == 101


def test_the_list_counts_what_classes_found_of_each_other(small: Workshop) -> None:
    ones = [join(small, f"a{number}", "a") for number in range(2)]
    other = join(small, "b0", "b")
    small.car("old")
    small.job(1, level=VerificationLevel.CAREFUL, comparator=CLOSE, close=True)
    small.work(ones[0])
    small.work(other)
    small.job(1, level=VerificationLevel.CAREFUL, close=True)
    small.work(ones[1])
    small.work(ones[0])
    figures = {item.numeric_class: item for item in small.books.run(list_classes).classes}
    assert figures[probe("a").class_id][1:] == (2, 2, 1, 0)
    assert figures[probe("b").class_id][1:] == (1, 0, 1, 0)
    assert figures[""].vehicle_count == 1


def test_comparable_classes_check_each_others_exact_results(small: Workshop) -> None:
    # Nothing is known of the workshop's program, so it may use every family: here they differ in none.
    one = join(small, "a0", "a")
    join(small, "a1", "a")
    newer = small.car("newer")
    found = probe("a", jaxlib="0.11.0")
    small.books.run(lambda uow: note_probe(uow, vehicle_id=newer, probe=found, now_us=small.now_us))
    small.job(1, level=VerificationLevel.CAREFUL, close=True)
    small.work(one)
    assert isinstance(small.ask(newer), NoWorkNow), "another version of the library is another class"

"""Look-backs, questions and findings as they are stored, in a real database."""

from pathlib import Path

import pytest

from pool_protocol.errors import InvariantError
from pool_server.core.verification.findings import FindingKind, FindingOutcome
from pool_server.ports.verification import (
    FindingRow,
    LookBackRow,
    LookBackState,
    QuestionedRow,
    QuestionedState,
    QuestionedSums,
)
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support.workshop import Workshop

pytestmark = pytest.mark.usefixtures("on_both_databases")

FIRST = LookBackRow(1, "vehicle_a", "owner_a", 7, LookBackState.OPENING, 0, 0, 0, 10, 0)


@pytest.fixture
def pool(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "pool.sqlite3")


def finding(finding_id: int, *, attempt_id: int = 1, vehicle_id: str = "vehicle_a") -> FindingRow:
    return FindingRow(
        finding_id,
        vehicle_id,
        "owner_a",
        attempt_id,
        2,
        3,
        4,
        FindingKind.LOOK_BACK,
        FindingOutcome.WRONG,
        b"c" * 32,
        b"a" * 32,
        2,
        True,
        -1,
        95,
        "f" * 16,
        "p" * 64,
        100 + finding_id,
    )


def question(attempt_id: int, *, net_micros: int = 95, opened_at_us: int = 20) -> QuestionedRow:
    return QuestionedRow(
        attempt_id,
        1,
        attempt_id,
        "vehicle_a",
        "owner_a",
        attempt_id,
        net_micros,
        QuestionedState.OPEN,
        opened_at_us,
        0,
    )


def paid_attempts(pool: Workshop, count: int) -> list[int]:
    """Attempts of a vehicle that were accepted and paid."""
    pool.job(count)
    lease = pool.lease(pool.car("a"))
    pool.hand_in(lease)
    return [grant.attempt_id for grant in lease.attempts]


def test_findings_come_back_as_they_were_written(pool: Workshop) -> None:
    def story(uow: SqlUnitOfWork) -> None:
        rows = [finding(1), finding(2, attempt_id=9), finding(3, vehicle_id="vehicle_b")]
        uow.verification.add_findings(rows)
        assert uow.verification.findings_of_vehicle("vehicle_a", limit=5) == [rows[1], rows[0]]
        assert uow.verification.findings_of_vehicle("vehicle_a", limit=5, before_finding_id=2) == [rows[0]]
        assert uow.verification.findings_of_attempt(1) == [rows[0], rows[2]]
        assert uow.verification.findings_of_task(2) == rows

    pool.books.run(story)


def test_a_look_back_goes_from_opening_to_checking_to_done(pool: Workshop) -> None:
    [attempt_id] = paid_attempts(pool, 1)

    def story(uow: SqlUnitOfWork) -> None:
        verification = uow.verification
        verification.insert_look_back(FIRST)
        assert verification.first_opening() == verification.running_look_back("vehicle_a") == FIRST
        verification.question([question(attempt_id)])
        checking = FIRST._replace(state=LookBackState.CHECKING, cursor_receipt_id=1, questioned_count=1)
        verification.put_look_back(checking)
        # 1. Nothing is opening any more, and the question keeps it from being done.
        assert verification.first_opening() is None
        assert verification.finish_checked(now_us=30) == 0
        # 2. The answer ends it, and is counted in it.
        assert verification.answer([attempt_id], state=QuestionedState.WRONG, now_us=30) == 1
        assert verification.finish_checked(now_us=40) == 1
        assert verification.running_look_back("vehicle_a") is None
        done = checking._replace(state=LookBackState.DONE, wrong_count=1, closed_at_us=40)
        assert verification.look_backs_of_vehicle("vehicle_a") == [done]

    pool.books.run(story)


def test_questions_are_found_by_task_by_time_and_in_sums(pool: Workshop) -> None:
    first, second = paid_attempts(pool, 2)

    def story(uow: SqlUnitOfWork) -> None:
        verification = uow.verification
        verification.insert_look_back(FIRST)
        rows = uow.attempts.get([first, second])
        verification.question([question(first), question(second, opened_at_us=25, net_micros=5)])
        assert set(verification.open_of_tasks([rows[first].task_id])) == {first}
        assert [row.attempt_id for row in verification.opened_before(25, limit=9)] == [first]
        verification.answer([first], state=QuestionedState.UPHELD, now_us=30)
        assert verification.questioned([first])[first].state is QuestionedState.UPHELD
        assert verification.sums_of_vehicle("vehicle_a") == QuestionedSums(1, 5, 0, 0)
        assert [row.attempt_id for row in verification.money_elsewhere()] == [second]

    pool.books.run(story)


def test_an_upheld_attempt_may_be_questioned_again_and_a_wrong_one_may_not(pool: Workshop) -> None:
    [attempt_id] = paid_attempts(pool, 1)

    def ask(uow: SqlUnitOfWork) -> None:
        uow.verification.question([question(attempt_id)])

    def answer(state: QuestionedState) -> None:
        pool.books.run(lambda uow: uow.verification.answer([attempt_id], state=state, now_us=30))

    pool.books.run(lambda uow: uow.verification.insert_look_back(FIRST))
    pool.books.run(ask)
    answer(QuestionedState.UPHELD)
    pool.books.run(ask)
    answer(QuestionedState.WRONG)
    with pytest.raises(InvariantError, match="questioned already"):
        pool.books.run(ask)


def test_candidates_are_accepted_attempts_newest_first_in_a_range(pool: Workshop) -> None:
    attempt_ids = paid_attempts(pool, 4)

    def found(after: int, before: int, limit: int = 9) -> list[int]:
        rows = pool.books.run(
            lambda uow: uow.verification.candidates(
                owner_id="owner_a",
                vehicle_id="vehicle_a",
                after_receipt_id=after,
                before_receipt_id=before,
                limit=limit,
            )
        )
        return [row.attempt_id for row in rows]

    assert found(0, 0) == attempt_ids[::-1]
    assert found(1, 4) == attempt_ids[2:0:-1]
    assert found(0, 0, limit=1) == attempt_ids[-1:]

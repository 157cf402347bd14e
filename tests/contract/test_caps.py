"""Caps hold in the database: of accounts and tokens, in all and by month, whoever reserves, however many."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import DAY_US
from pool_server.app.caps import SetCap, caps_in_force, caps_of_buyer, set_cap
from pool_server.app.money import release_job, reserve_job, void_attempts
from pool_server.core.caps import EVER, CapHolder, CapPeriod, SpendCounter, counters_of, month_of
from pool_server.ports.shell import Principal, Role, TokenRecord
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support import databases
from tests.support.books import Books, settlement
from tests.support.repository import ROOT

pytestmark = pytest.mark.usefixtures("on_both_databases")

BUYER, TOKEN, OTHER_TOKEN = "buyer_b", "token_t", "token_u"
SUBMITTERS = 64


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """A buyer with 1,000,000 micros and two tokens."""
    books = Books(tmp_path / "pool.sqlite3")
    books.deposit(1_000_000)
    books.run(
        lambda uow: uow.identity.add_principal(
            Principal(principal_id=BUYER, role=Role.BUYER, name="Bea", created_at_us=1)
        )
    )
    for number, token_id in enumerate((TOKEN, OTHER_TOKEN)):
        token = TokenRecord(
            token_id=token_id,
            principal_id=BUYER,
            scope=Role.BUYER,
            token_sha256=bytes([number]) * 32,
            created_at_us=1,
            expires_at_us=0,
            revoked_at_us=0,
        )
        books.run(lambda uow, token=token: uow.identity.add_token(token))  # type: ignore[misc]
    return books


def cap(
    books: Books,
    limit_micros: int | None,
    *,
    token_id: str = "",
    period: CapPeriod = CapPeriod.EVER,
) -> list[SpendCounter]:
    command = SetCap(
        holder=CapHolder.TOKEN if token_id else CapHolder.ACCOUNT,
        subject_id=token_id or BUYER,
        period=period,
        limit_micros=limit_micros,
    )
    return books.run(lambda uow: set_cap(uow, command, operator_id="operator_o", now_us=books.now_us))


def reserve(books: Books, job_id: int, amount_micros: int, *, token_id: str = TOKEN) -> None:
    books.run(
        lambda uow: reserve_job(
            uow,
            buyer_id=BUYER,
            job_id=job_id,
            amount_micros=amount_micros,
            now_us=books.now_us,
            token_id=token_id,
        )
    )


def end(books: Books, job_id: int) -> int:
    return books.run(lambda uow: release_job(uow, buyer_id=BUYER, job_id=job_id, now_us=books.now_us))


def used(books: Books) -> dict[tuple[str, str], int]:
    """What is used, by whose and when; months without their years."""
    counters = books.run(lambda uow: caps_of_buyer(uow, buyer_id=BUYER, now_us=books.now_us))
    return {(counter.key.subject_id, counter.key.period): counter.used_micros for counter in counters}


def refused(act: Callable[[], object]) -> dict[str, str]:
    with pytest.raises(PoolError) as refusal:
        act()
    assert refusal.value.code is ErrorCode.SPEND_LIMIT_REACHED
    return dict(refusal.value.context)


def assert_caps_are_the_books(books: Books) -> None:
    """What counts is what the ledger says was reserved and did not come back."""
    [[reserved]] = books.rows("SELECT COALESCE(SUM(amount_micros), 0) FROM transfers WHERE code = 200")
    [[returned]] = books.rows("SELECT COALESCE(SUM(amount_micros), 0) FROM transfers WHERE code = 210")
    assert used(books)[BUYER, EVER] == int(reserved) - int(returned)
    [[by_job]] = books.rows("SELECT COALESCE(SUM(amount_micros), 0) FROM job_reservations")
    assert by_job == reserved - returned
    books.assert_sound()


def test_a_cap_says_what_is_left(books: Books) -> None:
    cap(books, 1_000)
    reserve(books, 1, 600)

    context = refused(lambda: reserve(books, 2, 401))

    assert context == {
        "holder": "account",
        "subject_id": BUYER,
        "period": EVER,
        "limit_micros": "1000",
        "used_micros": "600",
        "left_micros": "400",
        "wanted_micros": "401",
    }
    assert books.balances()["buyer:buyer_b:available"] == 1_000_000 - 600
    assert "job:2:escrow" not in books.balances()
    reserve(books, 2, 400)
    assert refused(lambda: reserve(books, 3, 1))["left_micros"] == "0"
    assert_caps_are_the_books(books)


def test_a_refused_reserve_leaves_nothing_in_any_counter(books: Books) -> None:
    cap(books, 100, token_id=TOKEN)

    assert refused(lambda: reserve(books, 1, 101))["holder"] == "token"

    assert set(used(books).values()) == {0}
    assert_caps_are_the_books(books)


def test_money_that_comes_back_gives_room_back_and_money_that_was_spent_does_not(books: Books) -> None:
    cap(books, 10_000)
    reserve(books, 1, 10_000)
    paid, rejected = books.fund([1, 2], amount_micros=1_000)
    # 1. The job ends: what is not promised to an attempt comes back at once.
    assert end(books, 1) == 8_000
    assert used(books)[BUYER, EVER] == 2_000
    # 2. An attempt is paid: its money is spent. Another is rejected: its money comes back then.
    books.settle([settlement(1, paid, gross_micros=700)])
    books.run(lambda uow: void_attempts(uow, [rejected], now_us=books.now_us))
    assert used(books)[BUYER, EVER] == 700
    # 3. So much and no more may be reserved again.
    assert refused(lambda: reserve(books, 2, 9_301))["left_micros"] == "9300"
    reserve(books, 2, 9_300)
    assert_caps_are_the_books(books)


def test_a_token_has_a_cap_of_its_own_and_all_tokens_share_that_of_the_account(books: Books) -> None:
    cap(books, 500, token_id=TOKEN)
    cap(books, 800)
    reserve(books, 1, 500, token_id=TOKEN)

    assert refused(lambda: reserve(books, 2, 1, token_id=TOKEN))["subject_id"] == TOKEN
    assert refused(lambda: reserve(books, 2, 301, token_id=OTHER_TOKEN))["subject_id"] == BUYER
    reserve(books, 2, 300, token_id=OTHER_TOKEN)

    end(books, 1)
    reserve(books, 3, 500, token_id=TOKEN)
    assert_caps_are_the_books(books)


def test_a_month_begins_anew_and_what_comes_back_belongs_to_its_own(books: Books) -> None:
    cap(books, 1_000, period=CapPeriod.MONTH)
    first = month_of(books.now_us)
    reserve(books, 1, 1_000)
    assert refused(lambda: reserve(books, 2, 1))["period"] == first

    books.now_us += 31 * DAY_US
    second = month_of(books.now_us)
    assert second != first
    reserve(books, 2, 900)
    # What was reserved in the month before gives no room in this one.
    end(books, 1)
    assert refused(lambda: reserve(books, 3, 101))["left_micros"] == "100"

    assert used(books)[BUYER, second] == 900
    assert (
        books.scalar(
            f"SELECT used_micros FROM spend_counters WHERE period = '{first}' AND holder = 'account'"
        )
        == 0
    )
    assert_caps_are_the_books(books)


def test_a_job_that_is_added_to_in_another_month_and_by_another_token_gives_back_the_last_first(
    books: Books,
) -> None:
    reserve(books, 1, 300, token_id=TOKEN)
    books.now_us += 31 * DAY_US
    reserve(books, 1, 200, token_id=OTHER_TOKEN)
    month = month_of(books.now_us)
    [pending] = books.fund([1], amount_micros=400)
    end(books, 1)

    assert used(books) == {
        (BUYER, EVER): 400,
        (BUYER, month): 100,
        (TOKEN, EVER): 300,
        (OTHER_TOKEN, EVER): 100,
        (OTHER_TOKEN, month): 100,
    }
    books.run(lambda uow: void_attempts(uow, [pending], now_us=books.now_us))
    assert set(used(books).values()) == {0}
    assert_caps_are_the_books(books)


def test_a_cap_counts_what_was_used_before_it_was_set(books: Books) -> None:
    reserve(books, 1, 600)

    cap(books, 1_000)
    cap(books, 700, token_id=TOKEN, period=CapPeriod.MONTH)

    assert refused(lambda: reserve(books, 2, 401))["holder"] == "account"
    assert refused(lambda: reserve(books, 2, 101))["holder"] == "token"


def test_a_cap_below_what_is_used_stops_new_jobs_and_stays_as_jobs_end(books: Books) -> None:
    reserve(books, 1, 600)
    reserve(books, 2, 300)

    [ever, _] = cap(books, 100)

    assert (ever.used_micros, ever.limit_micros, ever.left_micros) == (900, 100, 0)
    assert refused(lambda: reserve(books, 3, 1))["left_micros"] == "0"
    end(books, 1)
    assert refused(lambda: reserve(books, 3, 1))["used_micros"] == "300"
    end(books, 2)
    assert refused(lambda: reserve(books, 3, 101))["left_micros"] == "100"
    reserve(books, 3, 100)
    assert_caps_are_the_books(books)


def test_a_cap_is_raised_and_lifted(books: Books) -> None:
    cap(books, 100)
    reserve(books, 1, 100)
    cap(books, 150)
    reserve(books, 2, 50)
    assert refused(lambda: reserve(books, 3, 1))["limit_micros"] == "150"

    [ever, month] = cap(books, None)

    assert (ever.limit_micros, ever.left_micros, month.limit_micros) == (None, None, None)
    reserve(books, 3, 10_000)
    assert_caps_are_the_books(books)


def test_a_cap_of_the_month_holds_in_every_month_to_come(books: Books) -> None:
    cap(books, 100, period=CapPeriod.MONTH)
    books.now_us += 62 * DAY_US

    in_force = books.run(lambda uow: caps_in_force(uow, buyer_id=BUYER, token_id=TOKEN, now_us=books.now_us))

    assert [(each.key.period, each.left_micros) for each in in_force] == [(month_of(books.now_us), 100)]
    assert refused(lambda: reserve(books, 1, 101))["left_micros"] == "100"


def test_a_key_that_is_repeated_counts_once(books: Books) -> None:
    for _ in range(3):
        books.run(
            lambda uow: reserve_job(
                uow, buyer_id=BUYER, job_id=1, amount_micros=70, now_us=books.now_us, key="k", token_id=TOKEN
            )
        )

    assert used(books)[TOKEN, EVER] == 70
    assert_caps_are_the_books(books)


def test_nothing_counts_of_donated_work(books: Books) -> None:
    cap(books, 0)

    reserve(books, 1, 0)

    assert refused(lambda: reserve(books, 2, 1))["limit_micros"] == "0"


@pytest.mark.parametrize(
    ("holder", "subject_id", "limit_micros", "code"),
    [
        (CapHolder.ACCOUNT, "buyer_nobody", 1, ErrorCode.NOT_FOUND),
        (CapHolder.ACCOUNT, "", 1, ErrorCode.NOT_FOUND),
        (CapHolder.TOKEN, BUYER, 1, ErrorCode.NOT_FOUND),
        (CapHolder.TOKEN, "token_nobody", 1, ErrorCode.NOT_FOUND),
        (CapHolder.ACCOUNT, BUYER, -1, ErrorCode.INVALID_ARGUMENT),
        (CapHolder.ACCOUNT, BUYER, 2**63, ErrorCode.INVALID_ARGUMENT),
    ],
)
def test_a_cap_that_cannot_be_is_refused(
    books: Books, holder: CapHolder, subject_id: str, limit_micros: int, code: ErrorCode
) -> None:
    command = SetCap(holder=holder, subject_id=subject_id, period=CapPeriod.EVER, limit_micros=limit_micros)
    with pytest.raises(PoolError) as refusal:
        books.run(lambda uow: set_cap(uow, command, operator_id="operator_o", now_us=books.now_us))

    assert refusal.value.code is code
    assert books.rows("SELECT * FROM spend_limits") == []


def test_the_database_itself_lets_no_counter_go_beyond_its_cap(books: Books) -> None:
    cap(books, 1_000)
    reserve(books, 1, 600)
    before = books.rows("SELECT * FROM spend_counters ORDER BY 1, 2, 3")

    for statement in (
        "UPDATE spend_counters SET used_micros = 1001 WHERE holder = 'account' AND period = 'ever'",
        "UPDATE spend_counters SET used_micros = -1",
        "UPDATE spend_counters SET cap_micros = 599 WHERE holder = 'account' AND period = 'ever'",
        "UPDATE spend_counters SET cap_micros = NULL WHERE holder = 'account' AND period = 'ever'",
        "INSERT INTO spend_limits VALUES ('account', 'x', 'week', 1, 'o', 1)",
        "INSERT INTO spend_limits VALUES ('account', 'x', 'ever', -1, 'o', 1)",
        "INSERT INTO job_reservations VALUES (9, '2026-11', '', 'x', -1)",
    ):
        with pytest.raises(IntegrityError):
            books.sql(statement)

    assert books.rows("SELECT * FROM spend_counters ORDER BY 1, 2, 3") == before


# --- many at once -------------------------------------------------------------------------------


def at_once(acts: list[Callable[[], bool]]) -> int:
    """Do all of these from threads that start together; how many succeeded."""
    barrier = threading.Barrier(len(acts))

    def wait_and_act(act: Callable[[], bool]) -> bool:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as threads:
        return sum(threads.map(wait_and_act, acts))


def submitter(
    writer: GroupCommitWriter[SqlUnitOfWork], books: Books, job_id: int, amount_micros: int
) -> Callable[[], bool]:
    def act() -> bool:
        future = writer.submit(
            lambda uow: reserve_job(
                uow,
                buyer_id=BUYER,
                job_id=job_id,
                amount_micros=amount_micros,
                now_us=books.now_us,
                token_id=TOKEN,
            )
        )
        error = future.exception()
        assert error is None or (
            isinstance(error, PoolError) and error.code is ErrorCode.SPEND_LIMIT_REACHED
        ), error
        return error is None

    return act


@pytest.mark.parametrize("writers", [1, 4])
@pytest.mark.parametrize("capped", ["account", "token"])
def test_sixty_four_submitters_never_reserve_more_than_the_cap_and_as_many_succeed_as_fit(
    books: Books, tmp_path: Path, writers: int, capped: str
) -> None:
    """Writers are as processes are to each other: each has connections of its own."""
    cap(books, 10_000, token_id=TOKEN if capped == "token" else "")
    doors = []
    for _ in range(writers):
        engine = databases.open_at(tmp_path / "pool.sqlite3")
        door: GroupCommitWriter[SqlUnitOfWork] = GroupCommitWriter(
            engine, books.make_uow, lambda effects: None
        )
        door.start()
        doors.append((door, engine))
    try:
        succeeded = at_once([submitter(doors[n % writers][0], books, 1 + n, 300) for n in range(SUBMITTERS)])
    finally:
        for door, engine in doors:
            door.stop()
            engine.dispose()

    assert succeeded == 10_000 // 300
    assert used(books)[TOKEN if capped == "token" else BUYER, EVER] == 33 * 300
    assert -books.balances()["bank:main"] - books.balances()["buyer:buyer_b:available"] == 33 * 300
    assert_caps_are_the_books(books)


# To SQLite they are what writers of one process are, above, and each costs a second to start.
@pytest.mark.parametrize("on_both_databases", ["postgresql"], indirect=True)
def test_two_processes_with_thirty_two_submitters_each_never_reserve_more_than_the_cap(
    books: Books, tmp_path: Path
) -> None:
    cap(books, 10_000)
    environment = {**os.environ, databases.URL: databases.url_at(tmp_path / "pool.sqlite3")}
    command = [sys.executable, "-m", "tests.support.cap_submitters"]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, str(first), str(SUBMITTERS // 2), "300", BUYER, TOKEN],
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for first in (1, 101)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        answers = [process.communicate("go\n", timeout=60)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert sum(int(answer) for answer in answers) == 10_000 // 300
    assert used(books)[BUYER, EVER] == 33 * 300
    assert_caps_are_the_books(books)


def test_what_ends_while_others_begin_leaves_the_cap_whole(books: Books) -> None:
    cap(books, 3_000)
    for job_id in range(1, 11):
        reserve(books, job_id, 300)
    writer: GroupCommitWriter[SqlUnitOfWork] = GroupCommitWriter(
        books.engine, books.make_uow, lambda effects: None
    )
    writer.start()

    def ender(job_id: int) -> Callable[[], bool]:
        def act() -> bool:
            writer.submit(
                lambda uow: release_job(uow, buyer_id=BUYER, job_id=job_id, now_us=books.now_us)
            ).result()
            return False

        return act

    acts = [ender(job_id) for job_id in range(1, 11)]
    acts += [submitter(writer, books, 100 + n, 300) for n in range(SUBMITTERS - 10)]
    succeeded = at_once(acts)
    writer.stop()

    assert succeeded <= 10
    assert used(books)[BUYER, EVER] == succeeded * 300
    assert_caps_are_the_books(books)


# --- the pure part ------------------------------------------------------------------------------


@given(at_us=st.integers(0, 4_102_444_800_000_000))
def test_months_are_in_order_and_change_at_midnight_utc(at_us: int) -> None:
    month = month_of(at_us)
    assert len(month) == 7
    assert month <= month_of(at_us + DAY_US)
    assert counters_of(buyer_id="b", token_id="", month=month) == (
        (CapHolder.ACCOUNT, "b", EVER),
        (CapHolder.ACCOUNT, "b", month),
    )

"""The writer: what is acknowledged is on disk, one bad command harms no other, and nobody waits for ever."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.app.money import reserve_job
from pool_server.core.effects import Effect, JobProgressed, WorkAvailable
from pool_server.ports.market import PostedPrice
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support.books import Books

pytestmark = pytest.mark.usefixtures("on_both_databases")

Writer = GroupCommitWriter[SqlUnitOfWork]


class Bench:
    """A writer on a database, with what it told its listeners."""

    def __init__(self, books: Books, **limits: int) -> None:
        self.books = books
        self.effects: list[Effect] = []
        self.fatal: list[InvariantError] = []
        self.fatal_told = threading.Event()
        self.writer: Writer = GroupCommitWriter(
            books.engine, self._make_uow, self._on_committed, on_fatal=self._on_fatal, **limits
        )

    def _make_uow(self, connection: Connection) -> SqlUnitOfWork:
        return self.books.make_uow(connection)

    def _on_committed(self, effects: Sequence[Effect]) -> None:
        self.effects.extend(effects)
        if WorkAvailable() in effects:
            raise RuntimeError("a listener's bug")

    def _on_fatal(self, error: InvariantError) -> None:
        self.fatal.append(error)
        self.fatal_told.set()

    def hold(self) -> Callable[[], None]:
        """Keep the writer busy with one command until the returned function is called."""
        started, release = threading.Event(), threading.Event()

        def wait(uow: SqlUnitOfWork) -> None:
            started.set()
            release.wait()

        self.writer.submit(wait)
        started.wait()
        return release.set


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(Books(tmp_path / "pool.sqlite3"))
    bench.writer.start()
    yield bench
    bench.writer.stop()


def price(value: int) -> Callable[[SqlUnitOfWork], int]:
    def command(uow: SqlUnitOfWork) -> int:
        uow.prices.append(PostedPrice(price_micros_per_wu=value, set_by="operator_a", set_at_us=value))
        uow.effects.append(JobProgressed(job_id=value))
        return value

    return command


def refuse(uow: SqlUnitOfWork) -> None:
    price(1_000_000)(uow)
    raise PoolError(ErrorCode.CONFLICT, "no")


def code_of(future: "Future[Any]") -> ErrorCode:
    error = future.exception()
    assert isinstance(error, PoolError)
    return error.code


def prices(bench: Bench) -> list[int]:
    return bench.writer.read(
        lambda uow: [
            row[0]
            for row in uow.prices._driver.run(
                "SELECT price_micros_per_wu FROM posted_prices ORDER BY price_id"
            )
        ]
    ).result()


def test_commands_that_wait_together_share_one_commit(bench: Bench) -> None:
    release = bench.hold()
    futures = [bench.writer.submit(price(value)) for value in range(20)]
    release()

    assert [future.result() for future in futures] == list(range(20))
    assert bench.writer.read(lambda uow: uow.prices.current()).result() is not None
    metrics = bench.writer.metrics()
    assert (metrics.groups, metrics.commands, metrics.largest_group) == (2, 21, 20)
    assert prices(bench) == list(range(20))


def test_a_refused_command_leaves_nothing_and_its_neighbours_stay(bench: Bench) -> None:
    release = bench.hold()
    before, refused, after = (bench.writer.submit(command) for command in (price(1), refuse, price(2)))
    release()

    assert (before.result(), after.result()) == (1, 2)
    assert code_of(refused) is ErrorCode.CONFLICT
    assert prices(bench) == [1, 2]
    bench.writer.stop()
    assert bench.effects == [JobProgressed(job_id=1), JobProgressed(job_id=2)]
    assert bench.writer.metrics().refused == 1


def test_what_a_refused_command_must_leave_behind_is_kept(bench: Bench) -> None:
    def reserve(uow: SqlUnitOfWork) -> None:
        reserve_job(uow, buyer_id="buyer_b", job_id=1, amount_micros=5, now_us=1, key="k")

    first, second = bench.writer.submit(reserve), bench.writer.submit(reserve)

    assert code_of(first) is ErrorCode.INSUFFICIENT_FUNDS
    assert code_of(second) is ErrorCode.ID_ALREADY_FAILED


def test_a_bug_in_one_command_is_internal_and_the_others_go_on(bench: Bench) -> None:
    release = bench.hold()
    broken = bench.writer.submit(lambda uow: 1 // 0)
    fine = bench.writer.submit(price(7))
    release()

    assert code_of(broken) is ErrorCode.INTERNAL
    assert isinstance(getattr(broken.exception(), "__cause__", None), ZeroDivisionError)
    assert fine.result() == 7


def test_a_disk_that_fails_fails_the_whole_group_and_the_next_one_is_tried(bench: Bench) -> None:
    def disk_fails(uow: SqlUnitOfWork) -> None:
        raise OperationalError("INSERT", {}, Exception("disk I/O error"))

    release = bench.hold()
    first, failing = bench.writer.submit(price(1)), bench.writer.submit(disk_fails)
    release()

    assert code_of(first) is ErrorCode.UNAVAILABLE
    assert code_of(failing) is ErrorCode.UNAVAILABLE
    assert bench.writer.submit(price(2)).result() == 2
    assert prices(bench) == [2]
    assert bench.writer.metrics().failed_groups == 1


def test_a_commit_that_fails_acknowledges_nothing(tmp_path: Path) -> None:
    bench = Bench(Books(tmp_path / "pool.sqlite3"))

    def commit_fails(uow: SqlUnitOfWork) -> int:
        # What is deferred is checked by COMMIT itself.
        driver = uow.prices._driver
        if driver.dialect == "sqlite":
            driver.run("PRAGMA defer_foreign_keys = ON")
            driver.run("INSERT INTO payout_files VALUES (99, 'a file of no run', x'00', '')")
        else:
            driver.run("CREATE TEMPORARY TABLE once (id BIGINT UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            driver.run("INSERT INTO once VALUES (1), (1)")
        return price(1)(uow)

    bench.writer.start()
    try:
        assert code_of(bench.writer.submit(commit_fails)) is ErrorCode.UNAVAILABLE
        assert bench.writer.submit(price(2)).result() == 2
        assert prices(bench) == [2]
        assert bench.effects == [JobProgressed(job_id=2)]
    finally:
        bench.writer.stop()


def test_a_broken_invariant_stops_the_store_and_keeps_nothing_of_its_group(bench: Bench) -> None:
    def broken(uow: SqlUnitOfWork) -> None:
        raise InvariantError("the books contradict themselves")

    assert bench.writer.submit(price(1)).result() == 1
    release = bench.hold()
    futures = [bench.writer.submit(command) for command in (price(2), broken, price(3))]
    release()

    assert [code_of(future) for future in futures] == [ErrorCode.UNAVAILABLE] * 3
    assert bench.fatal_told.wait(10)
    assert [str(error) for error in bench.fatal] == ["the books contradict themselves"]
    assert code_of(bench.writer.submit(price(4))) is ErrorCode.UNAVAILABLE
    assert prices(bench) == [1]


def test_a_full_queue_turns_callers_away_at_once(tmp_path: Path) -> None:
    bench = Bench(Books(tmp_path / "pool.sqlite3"), queue_max=3)
    bench.writer.start()
    release = bench.hold()
    futures = [bench.writer.submit(price(value)) for value in range(4)]

    turned_away = futures[3].exception(timeout=0)
    release()

    assert isinstance(turned_away, PoolError)
    assert turned_away.code is ErrorCode.UNAVAILABLE
    assert turned_away.retry_after_ms
    assert [future.result() for future in futures[:3]] == [0, 1, 2]
    assert bench.writer.metrics().turned_away == 1
    bench.writer.stop()


def test_a_group_is_bounded(tmp_path: Path) -> None:
    bench = Bench(Books(tmp_path / "pool.sqlite3"), group_max=4)
    bench.writer.start()
    release = bench.hold()
    futures = [bench.writer.submit(price(value)) for value in range(10)]
    release()

    assert [future.result() for future in futures] == list(range(10))
    bench.writer.stop()
    assert bench.writer.metrics().largest_group == 4


def test_stopping_finishes_what_waits_and_takes_nothing_new(tmp_path: Path) -> None:
    bench = Bench(Books(tmp_path / "pool.sqlite3"))
    bench.writer.start()
    release = bench.hold()
    futures = [bench.writer.submit(price(value)) for value in range(5)]
    stopping = threading.Thread(target=bench.writer.stop)
    stopping.start()
    release()
    stopping.join()

    assert [future.result() for future in futures] == list(range(5))
    assert code_of(bench.writer.submit(price(9))) is ErrorCode.DRAINING
    assert code_of(bench.writer.read(lambda uow: uow.prices.current())) is ErrorCode.DRAINING


def test_a_cancelled_command_never_runs(bench: Bench) -> None:
    release = bench.hold()
    cancelled, kept = bench.writer.submit(price(1)), bench.writer.submit(price(2))
    assert cancelled.cancel()
    release()

    assert kept.result() == 2
    assert prices(bench) == [2]


def test_a_listeners_bug_does_not_stop_the_books(bench: Bench) -> None:
    def wake(uow: SqlUnitOfWork) -> None:
        uow.effects.append(WorkAvailable())

    bench.writer.submit(wake).result()

    assert bench.writer.submit(price(3)).result() == 3


def test_a_reader_sees_all_that_is_acknowledged_and_nothing_else(bench: Bench) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(uow: SqlUnitOfWork) -> None:
        price(5)(uow)
        inside.set()
        go_on.wait()

    assert bench.writer.submit(price(4)).result() == 4
    pending = bench.writer.submit(slow)
    inside.wait()
    during = prices(bench)
    go_on.set()
    pending.result()

    assert during == [4]
    assert prices(bench) == [4, 5]


def test_a_reader_cannot_write(bench: Bench) -> None:
    assert code_of(bench.writer.read(price(1))) is ErrorCode.UNAVAILABLE
    assert prices(bench) == []


def test_a_readers_connection_never_comes_back_to_a_writer(bench: Bench) -> None:
    assert prices(bench) == []
    bench.writer.stop()

    bench.books.deposit(5)

    bench.books.assert_sound()

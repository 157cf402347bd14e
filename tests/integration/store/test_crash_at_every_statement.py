"""Every money command, broken off at each of its statements: nothing of it is kept, and again is once."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support import databases
from tests.support.books import Books
from tests.support.faults import Fault, disk_error, faulty
from tests.support.money_commands import COMMANDS, REFUSED_AGAIN, content, prepare
from tests.support.repository import ROOT

#: More statements than any command has.
STATEMENTS_MAX = 400
ON_POSTGRESQL_TOO = ("deposit", "settle", "release_job")
CASES = [
    *((name, databases.chosen()) for name in COMMANDS),
    *((name, "postgresql") for name in ON_POSTGRESQL_TOO),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "pool.sqlite3"
    prepare(path)
    return path


@contextmanager
def running(books: Books) -> Iterator[GroupCommitWriter[SqlUnitOfWork]]:
    writer: GroupCommitWriter[SqlUnitOfWork] = GroupCommitWriter(
        books.engine, books.make_uow, lambda effects: None
    )
    writer.start()
    yield writer
    writer.stop()


@pytest.mark.parametrize(
    ("name", "database"),
    [
        *((name, databases.chosen()) for name in COMMANDS),
        *((name, "postgresql") for name in ON_POSTGRESQL_TOO),
    ],
)
def test_nothing_is_kept_and_the_retry_succeeds_once(
    name: str, database: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(databases.CHOICE, database)
    path = tmp_path / "pool.sqlite3"
    if database == "sqlite":
        shutil.copy(prepared, path)
    else:
        prepare(path)
    books, command = Books(path), COMMANDS[name]
    before = content(books.engine)
    struck = 0
    with running(books) as writer:
        for at in range(1, STATEMENTS_MAX):
            with faulty(books.engine, Fault(at=at, strike=disk_error)) as fault:
                error = writer.submit(command).exception()
            if fault.seen < at:
                break
            struck += 1
            assert isinstance(error, PoolError)
            assert error.code is ErrorCode.UNAVAILABLE, f"statement {at}: {error}"
            assert content(books.engine) == before, f"statement {at}"
        else:
            pytest.fail("the command never came to its end")
        # The last try met no fault: it succeeded, as if none had gone before it.
        assert error is None
        assert struck > 3
        after = content(books.engine)
        assert after != before
        books.assert_sound()
        # Whoever has not heard the answer asks again: nothing is done twice.
        again = writer.submit(command).exception()
        assert (again is not None) == (name in REFUSED_AGAIN)
        assert again is None or (isinstance(again, PoolError) and again.code is ErrorCode.TRANSFER_STATE)
        assert content(books.engine) == after
    books.engine.dispose()


@pytest.mark.slow
def test_a_killed_process_leaves_all_or_nothing(tmp_path: Path) -> None:
    """Real processes over a real file; see `tests.support.killed_commands`."""
    command = [sys.executable, "-m", "tests.support.killed_commands", str(tmp_path), "--kills", "8"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["nothing"] > 1
    assert counts["all"] > 0
    assert counts["nothing"] + counts["all"] == 8

"""Money commands in processes that are killed at a random statement, over one file that waits for the disk.

    python -m tests.support.killed_commands FOLDER [--kills 60] [--seed 1]

Each kill: a copy of prepared books, a child that runs one command and is killed before its n-th statement, n
up to one behind the commit. Then the file must hold all of the command or nothing of it, the books check, and
the command is repeated: in the end it is done once. Prints how often all or nothing was there, as JSON.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pool_protocol.errors import PoolError
from tests.support import databases
from tests.support.books import Books
from tests.support.faults import Fault, faulty, sigkill
from tests.support.money_commands import COMMANDS, REFUSED_AGAIN, content, prepare


def run_and_die(path: Path, name: str, at: int) -> None:
    """Run a command in a child that is killed at a statement; return when it is dead."""
    # Nothing that a fork breaks is loaded, and a hundred interpreters would take minutes to start.
    if {"grpc", "jax"} & sys.modules.keys():
        raise AssertionError("gRPC or jax is loaded: a forked process would be broken")
    child = os.fork()  # noqa: TID251 - see above
    if child == 0:
        books = Books(path, durable=True)
        with faulty(books.engine, Fault(at=at, strike=sigkill)):
            books.run(COMMANDS[name])
        # The commit is done, and nobody has heard of it.
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        raise AssertionError(f"{name} at {at}: the child ended with {status}")


def statements_of(path: Path, name: str) -> tuple[int, dict[str, list[Any]]]:
    """Return how many statements a command has, and what it leaves behind."""
    books = Books(path)
    with faulty(books.engine, Fault(at=0, strike=sigkill)) as fault:
        books.run(COMMANDS[name])
    after = content(books.engine)
    books.engine.dispose()
    return fault.seen, after


def main(folder: Path, kills: int, seed: int) -> Counter[str]:
    """Kill that often; return how often all or nothing was kept."""
    chance = random.Random(seed)
    prepared = folder / "prepared.sqlite3"
    prepare(prepared)
    first = Books(prepared)
    before = content(first.engine)
    first.engine.dispose()
    known = {}
    for name in COMMANDS:
        path = folder / f"{name}.sqlite3"
        shutil.copy(prepared, path)
        known[name] = statements_of(path, name)
    counts: Counter[str] = Counter()
    for number in range(kills):
        name = chance.choice(list(COMMANDS))
        count, after = known[name]
        at = chance.choice([chance.randint(1, count), chance.randint(1, count), count, count + 1])
        path = folder / f"kill-{number}.sqlite3"
        shutil.copy(prepared, path)
        run_and_die(path, name, at)
        books = Books(path, durable=True)
        found = content(books.engine)
        kept = "all" if at > count else "nothing"
        if found != (after if kept == "all" else before):
            raise AssertionError(f"{name} killed at {at} of {count} did not leave {kept}")
        books.assert_sound()
        try:
            books.run(COMMANDS[name])
            refused = False
        except PoolError:
            refused = True
        if refused != (kept == "all" and name in REFUSED_AGAIN) or content(books.engine) != after:
            raise AssertionError(f"{name} killed at {at} of {count} and repeated is not done once")
        if books.scalar("PRAGMA integrity_check") != "ok":
            raise AssertionError(f"{name} killed at {at} of {count} damaged the file")
        books.assert_sound()
        books.engine.dispose()
        counts[kept] += 1
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    # The file is what is copied, and found damaged or not.
    os.environ[databases.CHOICE] = "sqlite"
    sys.stdout.write(json.dumps(main(asked.folder, asked.kills, asked.seed)) + "\n")

"""The demo's books as an accountant gets them: two journals beside the data, checked where the programs are.

The programs are run as processes and belong to nobody here; a machine without them loses nothing but the
second opinion.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from chargepool.demo.processes import DemoFailed
from chargepool.demo.world import World
from pool_protocol.v1 import books_service_pb2 as pb
from pool_protocol.v1 import books_service_pb2_grpc

EXPORT_TIMEOUT_S = 60.0
CHECK_TIMEOUT_S = 60.0
#: The file, its format, and the program that checks it.
JOURNALS = (
    ("books.beancount", pb.JOURNAL_FORMAT_BEANCOUNT, ("bean-check",)),
    ("books.hledger", pb.JOURNAL_FORMAT_HLEDGER, ("hledger", "check", "--strict", "-f")),
)


def export_journals(world: World, *, say: Callable[[str], None]) -> list[str]:
    """Writes both journals into the demo's directory and has them checked; returns what is wrong.

    Raises:
        DemoFailed: an export broke off.
    """
    problems = []
    for name, journal_format, command in JOURNALS:
        path = world.directory / name
        path.write_bytes(export(world, journal_format))
        said = check(command, path)
        if said is None:
            say(f"{name} is written; {command[0]} is not installed here to check it")
        elif said:
            problems.append(f"{command[0]} refuses {name}: {said[-300:]}")
        else:
            say(f"{name} is written, and {command[0]} accepts it")
    return problems


def export(world: World, journal_format: pb.JournalFormat.ValueType) -> bytes:
    """The whole books in one format.

    Raises:
        DemoFailed: it broke off.
    """
    content, sha256 = bytearray(), ""
    with world.channel(world.operator_token) as channel:
        books = books_service_pb2_grpc.BooksServiceStub(channel)
        for piece in books.ExportBooks(
            pb.ExportBooksRequest(format=journal_format), timeout=EXPORT_TIMEOUT_S
        ):
            content += piece.chunk
            sha256 = piece.sha256
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DemoFailed("an export of the books broke off")
    return bytes(content)


def check(command: tuple[str, ...], journal: Path) -> str | None:
    """What a program says against a journal, empty for nothing; None when it is not installed."""
    beside = Path(sys.executable).parent / command[0]
    program = str(beside) if beside.exists() else shutil.which(command[0])
    if program is None:
        return None
    done = subprocess.run(
        [program, *command[1:], str(journal)],
        capture_output=True,
        text=True,
        timeout=CHECK_TIMEOUT_S,
        check=False,
    )
    if done.returncode == 0:
        return ""
    return (done.stdout + done.stderr).strip() or f"exit status {done.returncode}"

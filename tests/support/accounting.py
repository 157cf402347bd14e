"""The accounting programs that check exported books, run as processes; neither is ever imported."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pool_server.app.books_export import JournalFormat, export_books
from pool_server.reports.journals import make_journal
from pool_server.store.unit_of_work import SqlUnitOfWork

HLEDGER_MISSING = "hledger is not installed; on Debian: apt-get install hledger"
TIMEOUT_S = 600


def bean_check() -> str | None:
    """Return the path of bean-check, of this interpreter's environment first."""
    beside = Path(sys.executable).parent / "bean-check"
    return str(beside) if beside.exists() else shutil.which("bean-check")


def complaint(journal_format: JournalFormat, path: Path) -> str:
    """Check a journal with the program that it is for; return what that says against it, empty for nothing.

    Skips the test where hledger is missing: it is a part of the system, not of Python's environment.
    """
    if journal_format is JournalFormat.BEANCOUNT:
        program = bean_check()
        assert program is not None, "bean-check is missing: install the development requirements"
        command = [program, str(path)]
    else:
        program = shutil.which("hledger")
        if program is None:
            pytest.skip(HLEDGER_MISSING)
        command = [program, "check", "--strict", "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    said = (done.stdout + done.stderr).strip()
    return "" if done.returncode == 0 and not said else said or f"exit status {done.returncode}"


def write_journal(uow: SqlUnitOfWork, journal_format: JournalFormat, path: Path) -> Path:
    """Write the whole books to a file."""
    with path.open("w", encoding="ascii", newline="") as file:
        file.writelines(export_books(uow, make_journal, journal_format))
    return path

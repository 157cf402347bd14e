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


def complaint_of(journal_format: JournalFormat, path: Path) -> str | None:
    """Check a journal with the program that it is for.

    Returns what that says against it, empty for nothing; None when the program is not installed.
    """
    program = bean_check() if journal_format is JournalFormat.BEANCOUNT else shutil.which("hledger")
    if program is None:
        return None
    arguments = [] if journal_format is JournalFormat.BEANCOUNT else ["check", "--strict", "-f"]
    done = subprocess.run(
        [program, *arguments, str(path)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    said = (done.stdout + done.stderr).strip()
    return "" if done.returncode == 0 and not said else said or f"exit status {done.returncode}"


def complaint(journal_format: JournalFormat, path: Path) -> str:
    """Do the same in a test; it is skipped without hledger, which is a part of the system, not of ours."""
    said = complaint_of(journal_format, path)
    if said is None and journal_format is JournalFormat.HLEDGER:
        pytest.skip(HLEDGER_MISSING)
    assert said is not None, "bean-check is missing: install the development requirements"
    return said


def write_journal(uow: SqlUnitOfWork, journal_format: JournalFormat, path: Path) -> Path:
    """Write the whole books to a file."""
    with path.open("w", encoding="ascii", newline="") as file:
        file.writelines(export_books(uow, make_journal, journal_format))
    return path

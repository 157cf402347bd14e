"""The accounting programs that check exported books, run as processes; neither is ever imported."""

import re
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
_TRANSACTION = re.compile(
    r"^\d{4}-\d\d-\d\d \* .*\n(?:  (?:;|[a-z-]+:).*\n)+"
    r"  \S+  (?P<debit>\d+\.\d{6}) \w+\n  \S+  (?P<credit>-\d+\.\d{6}) \w+\n",
    re.MULTILINE,
)
_ASSERTION = {
    JournalFormat.BEANCOUNT: re.compile(r"^\S+ balance \S+ (-?\d+\.\d{6}) ~ 0", re.MULTILINE),
    JournalFormat.HLEDGER: re.compile(r" == (-?\d+\.\d{6}) ", re.MULTILINE),
}


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


def planted(journal_format: JournalFormat, text: str) -> dict[str, str]:
    """Return a journal with an error of one micro-unit in it, once for each place where one may hide."""
    pairs = list(_TRANSACTION.finditer(text))
    pair = pairs[len(pairs) // 2]
    debit, credit = pair["debit"], pair["credit"]
    before, after = text[: pair.start()], text[pair.end() :]
    one_leg = pair.group().replace(f"  {debit}", f"  {_one_more(debit)}", 1)
    both_legs = one_leg.replace(f"  {credit}", f"  {_one_more(credit)}", 1)
    assertions = list(_ASSERTION[journal_format].finditer(text))
    asserted = assertions[len(assertions) // 2]
    return {
        "one leg": before + one_leg + after,
        "both legs": before + both_legs + after,
        "a balance": text[: asserted.start(1)] + _one_more(asserted[1]) + text[asserted.end(1) :],
        "a transfer that is missing": before + after,
    }


def _one_more(digits: str) -> str:
    """Add a micro-unit to an amount, away from zero."""
    sign, number = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    whole, fraction = number.split(".")
    micros = str(int(whole + fraction) + 1).rjust(7, "0")
    return f"{sign}{micros[:-6]}.{micros[-6:]}"


def write_journal(uow: SqlUnitOfWork, journal_format: JournalFormat, path: Path) -> Path:
    """Write the whole books to a file."""
    with path.open("w", encoding="ascii", newline="") as file:
        file.writelines(export_books(uow, make_journal, journal_format))
    return path

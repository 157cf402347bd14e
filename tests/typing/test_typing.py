"""Runs mypy over what must and what must not type-check against the public API."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import ROOT

HERE = ROOT / "tests" / "typing"
REPORTED = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$")
EXPECTED = re.compile(r"# expect: (?P<code>[a-z-]+)$")

Errors = dict[str, dict[int, set[str]]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Errors:
    """File -> line -> codes, from one run of mypy over both files."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    files = [str(HERE / name) for name in ("accept.py", "reject.py")]
    answer = subprocess.run(
        [*command, "--no-pretty", "--cache-dir", str(tmp_path_factory.mktemp("mypy")), *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1, answer.stdout + answer.stderr
    found: Errors = {"accept.py": {}, "reject.py": {}}
    for line in answer.stdout.splitlines():
        match = REPORTED.match(line)
        if match is not None and (name := Path(match["file"]).name) in found:
            found[name].setdefault(int(match["line"]), set()).add(match["code"])
    return found


def test_what_a_buyer_may_write_is_accepted(errors: Errors) -> None:
    assert errors["accept.py"] == {}


def test_what_a_buyer_must_not_write_is_rejected_line_by_line(errors: Errors) -> None:
    lines = (HERE / "reject.py").read_text(encoding="utf-8").splitlines()
    expected = {
        number: {match["code"]} for number, line in enumerate(lines, 1) if (match := EXPECTED.search(line))
    }
    assert len(expected) >= 15
    assert errors["reject.py"] == expected

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


def errors_in(name: str, cache: Path) -> dict[int, set[str]]:
    """Line -> codes that mypy reports there."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    answer = subprocess.run(
        [*command, "--no-pretty", "--cache-dir", str(cache), str(HERE / name)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[int, set[str]] = {}
    for line in answer.stdout.splitlines():
        match = REPORTED.match(line)
        if match is not None and Path(match["file"]).name == name:
            found.setdefault(int(match["line"]), set()).add(match["code"])
    assert answer.returncode in (0, 1), answer.stderr
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy has read already; the second run needs a tenth of the time."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.slow
def test_what_a_buyer_may_write_is_accepted(cache: Path) -> None:
    assert errors_in("accept.py", cache) == {}


@pytest.mark.slow
def test_what_a_buyer_must_not_write_is_rejected_line_by_line(cache: Path) -> None:
    lines = (HERE / "reject.py").read_text(encoding="utf-8").splitlines()
    expected = {
        number: {match["code"]} for number, line in enumerate(lines, 1) if (match := EXPECTED.search(line))
    }
    assert len(expected) >= 15
    assert errors_in("reject.py", cache) == expected

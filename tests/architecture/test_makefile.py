"""`make help` is the whole list, and the documents name only targets that exist."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.repository import ROOT, relative, repository_files

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = tuple(re.findall(r"^\.PHONY: ([a-z-]+)$", MAKEFILE, re.MULTILINE))


def help_lines() -> dict[str, str]:
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", printed, re.MULTILINE))


def test_help_lists_every_target_with_a_line() -> None:
    assert set(help_lines()) == set(TARGETS)


def test_help_is_what_plain_make_prints() -> None:
    plain = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "show this list" in plain


@pytest.mark.parametrize("target", ["demo", "test", "check", "soak", "bench", "protocol", "lock", "clean"])
def test_the_promised_targets_exist(target: str) -> None:
    assert target in TARGETS


def test_documents_name_targets_that_exist() -> None:
    unknown = [
        f"{relative(path)}: make {target}"
        for path in repository_files()
        if path.suffix in {".md", ".yaml"} or path.parent.name == ".ci"
        for target in re.findall(
            r"(?:`|\$ |^)make ([a-z][a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        if target not in TARGETS
    ]
    assert not unknown


def test_ci_runs_the_same_two_targets_as_people() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^make .*\bcheck\b", script, re.MULTILINE)
    assert re.search(r"^make .*\btest\b", script, re.MULTILINE)

"""The import contracts bite: what is planted in a copy of the tree is reported by the contracts' names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import PACKAGES, ROOT

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages and their contracts."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def report_on(tree: Path) -> str:
    """What import-linter prints about `tree`."""
    command = [str(LINT_IMPORTS), "--no-cache", "--no-logo"]
    report = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=60)
    assert "Contracts:" in report.stdout, report.stdout + report.stderr
    return report.stdout


def broken_contracts(report: str) -> set[str]:
    """The names of the contracts that a report calls broken."""
    return {line.removesuffix(" BROKEN") for line in report.splitlines() if line.endswith(" BROKEN")}


@pytest.mark.slow
def test_planted_violations_are_caught(copy: Path) -> None:
    # 1. The tree as it is keeps every contract.
    assert broken_contracts(report_on(copy)) == set()

    # 2. Six violations, one per kind of wall: a clock in the core, I/O in the core by a detour, a use case
    #    that reaches for the store, SQL outside the store, jax in the supervisor, one program in another.
    planted = {
        "pool_server.core": "import time",
        "car_agent.core": "import pool_protocol.system",
        "pool_server.app": "import pool_server.store",
        "pool_server.rpc": "import sqlalchemy",
        "car_agent.vehicle": "import jax",
        "tui.view_models": "import pool_server.core",
    }
    for package, line in planted.items():
        (copy / package.replace(".", "/") / "planted.py").write_text(f"{line}\n", encoding="utf-8")

    # 3. Each is reported, by the contract that it breaks and by its own name.
    report = report_on(copy)
    assert broken_contracts(report) == {
        "The core does no I/O and reads no clock",
        "pool_server layers",
        "SQL stays in the store",
        "The supervisor never imports jax",
        "Programs sit on the SDK's channel, the SDK on the protocol",
    }
    assert [package for package in planted if f"{package}.planted ->" not in report] == []

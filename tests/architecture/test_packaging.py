"""What an install brings: no database on a car, no tests in a demo, and locks with hashes only."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.repository import PACKAGES, ROOT, importable_names, pyproject

LOCK_OF_EXTRA = {
    "demo": "requirements.txt",
    "dev": "requirements-dev.txt",
    "server": "requirements-server.txt",
    "agent": "requirements-agent.txt",
    "tui": "requirements-tui.txt",
    "buyer": "requirements-buyer.txt",
    "postgresql": "requirements-postgresql.txt",
    "plots": "requirements-plots.txt",
}

# What must not come along, directly or through another package.
NOT_IN = {
    "agent": {"sqlmodel", "sqlalchemy", "alembic", "textual", "rich", "pydantic", "uvloop", "scikit-learn"},
    "buyer": {"sqlmodel", "sqlalchemy", "alembic", "textual", "pydantic", "scikit-learn"},
    "tui": {"jax", "jaxlib", "sqlmodel", "sqlalchemy", "alembic", "pydantic", "scikit-learn"},
    "server": {"textual", "scikit-learn"},
    "demo": {"pytest", "mypy", "ruff", "grpcio-tools"},
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: str) -> dict[str, set[str]]:
    """Package -> the versions that the lock pins (one per range of Python versions)."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", (ROOT / lock).read_text(), re.MULTILINE
    ):
        pins.setdefault(canonical(name), set()).add(version)
    return pins


def required(extra: str) -> list[Requirement]:
    """The requirements of the base and of `extra`, with extras of our own followed."""
    optional = pyproject()["project"]["optional-dependencies"]
    queue = [*pyproject()["project"]["dependencies"], *optional[extra]]
    found: list[Requirement] = []
    while queue:
        requirement = Requirement(queue.pop())
        if requirement.name == "chargepool":
            queue.extend(line for ours in requirement.extras for line in optional[ours])
        else:
            found.append(requirement)
    return found


def test_every_extra_has_its_lock() -> None:
    assert set(LOCK_OF_EXTRA) == set(pyproject()["project"]["optional-dependencies"])
    assert {path.name for path in ROOT.glob("requirements*.txt")} == set(LOCK_OF_EXTRA.values())


@pytest.mark.parametrize("extra", sorted(LOCK_OF_EXTRA))
def test_the_lock_pins_what_the_extra_asks_for(extra: str) -> None:
    pins = locked(LOCK_OF_EXTRA[extra])
    for requirement in required(extra):
        versions = pins.get(canonical(requirement.name), set())
        assert versions, f"{requirement} is not in {LOCK_OF_EXTRA[extra]}: run `make lock`"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize("lock", sorted(LOCK_OF_EXTRA.values()))
def test_every_pin_has_hashes_and_no_lock_names_a_source(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "-index" not in text
    entries = re.split(r"^(?=[A-Za-z0-9])", text.replace("\\\n", " "), flags=re.MULTILINE)
    unhashed = [entry.split()[0] for entry in entries if entry.strip() and "--hash=sha256:" not in entry]
    assert not unhashed


@pytest.mark.parametrize("lock", sorted(LOCK_OF_EXTRA.values()))
def test_the_locks_agree_with_the_developers_lock(lock: str) -> None:
    everything = locked("requirements-dev.txt")
    assert all(everything.get(name) == versions for name, versions in locked(lock).items())


@pytest.mark.parametrize("extra", sorted(NOT_IN))
def test_an_install_brings_only_what_its_program_needs(extra: str) -> None:
    assert not NOT_IN[extra] & set(locked(LOCK_OF_EXTRA[extra]))


def test_the_wheel_holds_our_packages_and_nothing_else() -> None:
    assert set(pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(PACKAGES)
    assert all((ROOT / package / "__init__.py").is_file() for package in PACKAGES)


@pytest.mark.parametrize("command", sorted(pyproject()["project"]["scripts"]))
def test_every_console_script_can_be_called(command: str) -> None:
    module, _, function = pyproject()["project"]["scripts"][command].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_typed_packages_say_so() -> None:
    assert not [package for package in PACKAGES if not Path(ROOT / package / "py.typed").is_file()]


# Makes a fresh interpreter behave as if only the distributions of one lock were installed, then imports all.
IMPORT_WITH_ONLY = """
import importlib, importlib.metadata, json, re, sys
names, locked = json.loads(sys.argv[1])
owners = importlib.metadata.packages_distributions()

class OnlyLocked:
    def find_spec(self, name, path=None, target=None):
        owned_by = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(name.split(".")[0], [])}
        if owned_by - {"chargepool"} and not owned_by & set(locked):
            raise ModuleNotFoundError(f"{name} belongs to {sorted(owned_by)}, which is not locked", name=name)
        return None

sys.meta_path.insert(0, OnlyLocked())
for name in names:
    importlib.import_module(name)
"""


@pytest.mark.parametrize(
    ("extra", "packages", "but"),
    [
        # A car writes no amounts in locales: it has no babel.
        ("agent", ("pool_protocol", "car_agent"), ("pool_protocol.amounts",)),
        # Pictures are an extra of their own; the command that draws them asks for it first.
        ("server", ("pool_protocol", "pool_server"), ("pool_server.simulate.market.plots",)),
        ("buyer", ("pool_protocol", "chargepool"), ("chargepool.demo",)),
        ("tui", ("tui",), ()),
        ("demo", PACKAGES, ("pool_server.simulate.market.plots",)),
    ],
)
def test_a_program_runs_on_what_its_extra_locks(
    extra: str, packages: tuple[str, ...], but: tuple[str, ...]
) -> None:
    names = [
        name
        for name in importable_names()
        if name.split(".")[0] in packages
        and not name.startswith(but or "-")
        and not name.endswith("__main__")
    ]
    assert names
    answer = subprocess.run(
        [sys.executable, "-c", IMPORT_WITH_ONLY, json.dumps([names, sorted(locked(LOCK_OF_EXTRA[extra]))])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert answer.returncode == 0, answer.stderr

"""The repository as the architecture tests see it: its root, its committed files, its shipped modules."""

from __future__ import annotations

import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pool_protocol", "pool_server", "car_agent", "tui", "chargepool")
GENERATED = ROOT / "pool_protocol" / "v1"
# Scripts that Alembic runs, one per change of the schema and never edited again; nothing imports them.
MIGRATIONS = ROOT / "pool_server" / "store" / "migrations"


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file that is committed, or would be by `git add`: tracked and not ignored."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    paths = (ROOT / name.decode() for name in listed.split(b"\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


@cache
def shipped_modules() -> tuple[Path, ...]:
    """Every hand-written Python module of the packages in the wheel, migrations aside."""
    return tuple(
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if not {GENERATED, MIGRATIONS} & set(path.parents)
    )


@cache
def pyproject() -> dict[str, Any]:
    """pyproject.toml, parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def relative(path: Path) -> str:
    """The path below the root, with forward slashes: what a failing test prints."""
    return path.relative_to(ROOT).as_posix()


def importable_names() -> tuple[str, ...]:
    """The dotted names of the shipped modules, without those that are programs (`python -m`)."""
    return tuple(module_name(path) for path in shipped_modules() if path.stem != "__main__")


def module_name(path: Path) -> str:
    """The dotted name that imports `path`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

"""What really gets loaded, asked of a fresh interpreter.

The import contracts read the source; they do not see what a parent package's `__init__` brings along, nor
what a deferred import does at run time. Here every module of a group is imported in one new process, and
`sys.modules` answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.support.repository import ROOT, importable_names

IMPORT_ALL = """
import importlib, json, sys
names, unwanted = json.loads(sys.argv[1])
for name in names:
    importlib.import_module(name)
loaded = {name for name in sys.modules}
print(json.dumps(sorted(u for u in unwanted if any(n == u or n.startswith(u + ".") for n in loaded))))
"""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Modules that go into one process, and what that process must never have loaded."""

    name: str
    holds: Callable[[str], bool]
    never: tuple[str, ...]


def below(*packages: str, but: tuple[str, ...] = ()) -> Callable[[str], bool]:
    """Modules that are one of `packages` or inside one, and neither of nor inside one of `but`."""

    def inside(name: str, roots: tuple[str, ...]) -> bool:
        return any(name == root or name.startswith(root + ".") for root in roots)

    return lambda name: inside(name, packages) and not inside(name, but)


# The only modules that may load jax: children started by exec, which exist to run or to judge programs.
WORKER_PROCESS = ("car_agent.runner",)
ADMISSION_CHILD = ("pool_server.admission",)
WIRE = ("grpc", "google.protobuf", "pool_protocol.v1")
SQL = ("sqlmodel", "sqlalchemy", "alembic")

GROUPS = (
    Group(
        name="the server's decisions",
        holds=below("pool_server.core", "pool_server.ports"),
        never=(*WIRE, *SQL, "jax", "textual", "asyncio"),
    ),
    Group(
        name="the agent's decisions",
        holds=below("car_agent.core"),
        never=(*WIRE, *SQL, "jax", "textual", "asyncio"),
    ),
    Group(
        name="the server's use cases",
        holds=below("pool_server.app"),
        never=(*WIRE, *SQL, "jax", "textual", "pool_server.store"),
    ),
    Group(
        name="the server process",
        holds=below("pool_server", but=ADMISSION_CHILD),
        never=("jax", "textual", "car_agent", "chargepool", "tui"),
    ),
    Group(
        name="the agent's supervisor",
        holds=below("car_agent", but=WORKER_PROCESS),
        never=("jax", "textual", "rich", *SQL, "pool_server", "tui"),
    ),
    Group(
        name="the SDK's face and its channel",
        holds=lambda name: name in {"chargepool", "chargepool._channel"},
        never=("jax", "textual", *SQL, "pool_server", "car_agent", "tui"),
    ),
    Group(
        name="the dashboard's words",
        holds=below("tui.view_models", "tui.gateway"),
        never=("textual", *WIRE, *SQL, "jax"),
    ),
    Group(
        name="the dashboard",
        holds=below("tui"),
        never=("jax", *SQL, "pool_server", "car_agent"),
    ),
    Group(
        name="the pure part of the protocol",
        holds=lambda name: (
            name
            in {
                "pool_protocol",
                *(f"pool_protocol.{pure}" for pure in ("clock", "errors", "ids", "limits", "money")),
            }
        ),
        never=(*WIRE, "numpy", "cryptography", "jax"),
    ),
    Group(
        name="the protocol without programs",
        holds=below("pool_protocol", but=("pool_protocol.program",)),
        never=("jax", *SQL, "textual"),
    ),
)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_never_loads_what_it_must_not(group: Group) -> None:
    names = [name for name in importable_names() if group.holds(name)]
    assert names, f"no module is left in the group {group.name!r}: the tree moved and this test did not"
    answer = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps([names, group.never])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == []

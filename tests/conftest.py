"""What holds for every test: loopback only, jax on the CPU, and Hypothesis without chance or deadlines."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.support import databases

os.environ["JAX_PLATFORMS"] = "cpu"

# Started with `&` from a script, tests inherit an ignored SIGINT and hand it on to the programs that they
# interrupt: those would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run: a property that fails in CI fails at the desk.
# HYPOTHESIS_PROFILE=search looks further.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60, database=None)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a unix socket's path
    host = address[0]
    if host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses connections beyond this machine (Python's own sockets; gRPC's are given loopback addresses)."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if not _is_local(address):
            message = f"a test tried to reach {address!r}; tests use loopback only"
            raise PermissionError(message)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def pytest_sessionfinish() -> None:
    databases.stop_server()


@pytest.fixture(autouse=True)
def _databases_go_with_their_test() -> Iterator[None]:
    before = databases.mark()
    yield
    databases.forget(before)


@pytest.fixture(params=databases.DATABASES)
def on_both_databases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test twice: its databases are SQLite, then PostgreSQL. Gives the name."""
    name: str = request.param
    monkeypatch.setenv(databases.CHOICE, name)
    return name

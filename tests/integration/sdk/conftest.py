"""A fake pool and a client of it, for tests of the SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import chargepool
from tests.integration.sdk.fake_pool import TOKEN, FakePool


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakePool]:
    for variable in ("ADDRESS", "CA_FILE", "TOKEN", "TOKEN_FILE", "CONFIG"):
        monkeypatch.delenv(f"CHARGEPOOL_{variable}", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    running = FakePool().start()
    yield running
    running.kill()


@pytest.fixture
def client(pool: FakePool) -> Iterator[chargepool.Client]:
    with chargepool.connect(pool.address, token=TOKEN, ca=pool.ca_pem, patience_s=20) as connected:
        yield connected

"""The examples for buyers run as they stand, and print what they promise."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.integration.sdk.fake_pool import TOKEN, FakePool
from tests.support.repository import ROOT


@pytest.fixture(autouse=True)
def configured(pool: FakePool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(pool.ca_pem)
    monkeypatch.setenv("CHARGEPOOL_ADDRESS", pool.address)
    monkeypatch.setenv("CHARGEPOOL_CA_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("CHARGEPOOL_TOKEN", TOKEN)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_estimate_pi(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("estimate_pi").main(tasks=3) == pytest.approx(np.pi, abs=0.02)
    assert "3 tasks at" in capsys.readouterr().out


def test_train_in_rounds(pool: FakePool) -> None:
    weights = example("train_in_rounds").main()
    np.testing.assert_allclose(weights, [1.0, -2.0, 0.5], atol=0.01)
    assert pool.calls["AdmitProgram"] == 1, "one program, new constants each round"


def test_executor() -> None:
    source = np.random.default_rng(3)
    matrices = [source.normal(size=(16, 16)).astype(np.float32) for _ in range(2)]
    expected = [np.linalg.norm(matrix, 2) ** 2 for matrix in matrices]
    np.testing.assert_allclose(example("executor").main(count=2), expected, rtol=0.05)


def test_prove_products(pool: FakePool) -> None:
    pairs, products = example("prove_products").main(count=2, size=16)
    np.testing.assert_allclose(products[1], pairs[1]["a"] @ pairs[1]["b"], atol=1e-4)
    assert pool.calls["AdmitProgram"] == 3, "the program and two certificates"


def test_every_example_is_run_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} <= tested

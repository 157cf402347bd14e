"""The page that explains the meter to owners names the constants of the code."""

from pool_protocol.program import cost
from tests.support.repository import ROOT

PAGE = (ROOT / "docs/explanation/metering.md").read_text(encoding="utf-8")


def row(begins: str) -> str:
    return next(line for line in PAGE.splitlines() if line.startswith(f"| {begins}"))


def test_the_page_and_the_meter_have_the_same_constants() -> None:
    assert f"max(operations, bytes moved x {cost.MACHINE_BALANCE})" in PAGE
    assert f"| {cost._DIVISION_FLOPS} |" in row("division")
    assert f"| {cost._TRANSCENDENTAL_FLOPS} |" in row("exponentials")
    assert f"| {cost._RANDOM_FLOPS} per number |" in row("random bits")
    assert f"{cost._COMPLEX_FACTOR} times the real ones" in row("complex")
    assert f"version {cost.COST_MODEL} of\nthe cost model" in PAGE
    assert cost.FLOPS_PER_UWU * 1_000_000 == 10**12

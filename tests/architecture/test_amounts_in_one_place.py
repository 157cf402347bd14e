"""Amounts become text in `pool_protocol.amounts`, and nowhere else in server, dashboard and SDK."""

from __future__ import annotations

import re

import pytest

from tests.support.repository import relative, shipped_modules

#: The core is pure and has no babel; its one file format takes the machine's form from where it is defined.
#: Heights in a picture are no text.
PURE = {"pool_server/core/statement.py", "pool_server/simulate/market/plots.py"}

SIGNS_OF_FORMATTING = {
    "takes digits from pool_protocol.money": re.compile(r"\bformat_(?:micros|wu)\b"),
    "divides by a million": re.compile(
        r"(?:micros|uwu)[\w.\[\]()]*\s*//?\s*(?:1e6|1_000_000(?:\.0)?|10\s*\*\*\s*6|MICROS_PER_UNIT)\b(?!\s*\*)"
    ),
    "divides into cents": re.compile(r"micros[\w.\[\]()]*\s*//?\s*(?:10_000|MICROS_PER_CENT)\b(?!\s*\*)"),
    "splits units from the rest": re.compile(r"divmod\([^\n]*(?:micros|uwu)[^\n]*(?:000|_PER_)"),
    "formats micros in an f-string": re.compile(r"\{[^{}\n]*micros[^{}\n]*(?<!:):(?!:)[^{}\n]*[fgdn,]\}"),
    "makes a decimal of micros": re.compile(r"Decimal\([^)\n]*micros"),
}


@pytest.mark.parametrize("sign", sorted(SIGNS_OF_FORMATTING))
def test_no_other_module_writes_amounts(sign: str) -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for path in shipped_modules()
        if (name := relative(path)).split("/")[0] in {"pool_server", "tui", "chargepool"} and name not in PURE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if SIGNS_OF_FORMATTING[sign].search(line)
    ]
    assert not found, (
        "write amounts for people with pool_protocol.amounts.amount, for machines with amounts.decimal"
    )


@pytest.mark.parametrize(
    ("sign", "line"),
    [
        ("takes digits from pool_protocol.money", 'f"{format_micros(spent_micros)}"'),
        ("divides by a million", "text = str(row.total_micros / 1e6)"),
        ("divides by a million", "shown = line.work_uwu / 1_000_000"),
        ("divides into cents", "cents = amount_micros // MICROS_PER_CENT"),
        ("splits units from the rest", "whole, rest = divmod(abs(micros), 1_000_000)"),
        ("formats micros in an f-string", 'f"{total_micros:,}"'),
        ("makes a decimal of micros", "Decimal(amount_micros).scaleb(-6)"),
    ],
)
def test_the_signs_are_seen(sign: str, line: str) -> None:
    assert SIGNS_OF_FORMATTING[sign].search(line)


def test_cutting_to_whole_cents_is_no_formatting() -> None:
    line = "payable = available_micros // MICROS_PER_CENT * MICROS_PER_CENT"
    assert not any(sign.search(line) for sign in SIGNS_OF_FORMATTING.values())

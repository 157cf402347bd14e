"""docs/reference/ledger.md says what the code does: every code, outcome, account and check, no others."""

import re
from pathlib import Path

from pool_server.app.books import ERROR_OF
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import Outcome, TransferCode
from tests.support.books import Books
from tests.support.repository import ROOT


def section(title: str) -> str:
    page = (ROOT / "docs" / "reference" / "ledger.md").read_text(encoding="utf-8")
    return page.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_code_is_listed() -> None:
    listed = {int(row[0]): row[1] for row in rows("Codes")}

    assert listed == {code.value: code.name.lower() for code in TransferCode}


def test_every_account_is_listed_with_its_limit() -> None:
    listed = {row[0].strip("`"): row[2] == "yes" for row in rows("Accounts")}
    specs = [
        chart.BANK,
        chart.POOL_FEE,
        chart.VERIFICATION,
        chart.PAYOUT_CLEARING,
        chart.ROUNDING,
        chart.GOODWILL,
        chart.BANK_FEES,
        chart.SLA_RESERVE,
        chart.VAT,
        chart.TAX_WITHHELD,
        chart.OPENING,
        chart.buyer_available("<id>"),
        chart.job_escrow(0, buyer_account_id=1),
        chart.owner_held("<id>"),
        chart.owner_questioned("<id>"),
        chart.owner_available("<id>"),
    ]

    assert listed == {
        spec.name.replace("job:0", "job:<n>"): spec.debits_must_not_exceed_credits for spec in specs
    }


def test_every_outcome_is_listed_with_what_the_caller_is_told() -> None:
    listed = {Outcome(name): row[1] for row in rows("Outcomes") for name in re.findall(r"`(\w+)`", row[0])}

    assert set(listed) == set(Outcome)
    for outcome, code in ERROR_OF.items():
        assert listed[outcome].split(":")[0] == code.value


def test_every_check_is_listed_in_order(tmp_path: Path) -> None:
    checks = Books(tmp_path / "pool.sqlite3").check().checks
    listed = [row[0].strip("`") for row in rows("What `pool-server ledger check` checks")]

    assert listed == [check.name for check in checks]

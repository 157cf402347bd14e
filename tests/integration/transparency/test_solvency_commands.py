"""The operator states what the bank holds; a buyer and an owner check that what they are owed is counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from chargepool.cli import cli as chargepool_cli
from pool_protocol.errors import ErrorCode
from pool_server.cli.root import cli as server_cli
from tests.integration.transparency.dishonest import copied, rewriting, served
from tests.integration.transparency.play import Story
from tests.support.pool import PoolHandle
from tui.cli import main as tui_cli

#: Who sees what as whom.
Run = Callable[..., Any]


@pytest.fixture
def pool(story: Story, tmp_path: Path) -> Iterator[PoolHandle]:
    with served(copied(story.data, tmp_path / "pool"), story.pool) as running:
        yield running


@pytest.fixture
def run(pool: PoolHandle, story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    tokens = {
        "operator": pool.operator.token,
        "buyer": story.buyer.principal.token,
        "owner": story.car.owner.token,
    }
    for who, token in tokens.items():
        (tmp_path / who).write_text(token)
        (tmp_path / who).chmod(0o600)
    ca, address = str(pool.ca_file), pool.api_address

    def invoke(who: str, *arguments: str) -> Any:
        token = str(tmp_path / who)
        command: click.Command = {"operator": server_cli, "buyer": chargepool_cli, "owner": tui_cli}[who]
        before = {
            "operator": ["--address", address, "--ca", ca, "--token-file", token],
            "owner": ["--address", address, "--ca-file", ca, "--token-file", token],
            "buyer": [],
        }[who]
        after = ["--address", address, "--ca", ca, "--token-file", token] if who == "buyer" else []
        return CliRunner().invoke(command, [*before, *arguments, *after])

    return invoke


def test_a_solvent_pool_is_stated_and_everyone_finds_themselves_counted(run: Run, story: Story) -> None:
    entered = run("operator", "solvency", "enter", "--balance", "5000000.25", "--json")
    assert entered.exit_code == 0, entered.output
    facts = json.loads(entered.stdout)
    assert (facts["bank_micros"], facts["solvent"]) == (5_000_000_250_000, True)
    assert facts["books_micros"] >= facts["liabilities_micros"]

    shown = run("buyer", "solvency", "--verify", "--json")
    statement = json.loads(shown.stdout)
    assert statement["liabilities_micros"] == facts["liabilities_micros"]
    name = f"buyer:{story.buyer.principal.principal_id}:available"
    assert list(statement["own_counted"]) == [name]
    assert statement["own_counted"][name] == 10**12 - 3 * 10**6

    owners = run("owner", "solvency", "verify", "--json")
    report = json.loads(owners.stdout)
    assert report["own_missing_micros"] == 0
    assert report["own_counted"] == {f"owner:{story.car.owner.principal_id}:held": 4 * 900_000}
    assert "Counted: held 3.600000 EUR" in run("owner", "solvency", "verify").stdout
    assert run("owner", "solvency", "show").stdout.startswith("Solvent: ")


def test_a_pool_that_lacks_money_says_so_plainly_and_goes_on(run: Run) -> None:
    assert "no statement was made yet" in run("operator", "solvency", "show").output
    entered = run("operator", "solvency", "enter", "--balance", "-0.5")
    assert entered.stdout.startswith("INSOLVENT by ")
    assert "INSOLVENT by" in run("buyer", "solvency").output
    assert "INSOLVENT by" in run("owner", "solvency", "show").output
    run("operator", "solvency", "enter", "--balance", "4000000", "--as-of", "2026-01-31")
    history = json.loads(run("operator", "solvency", "history", "--json").stdout)
    assert [(one["statement_id"], one["solvent"]) for one in history] == [(2, True), (1, False)]
    assert "INSOLVENT" in run("operator", "solvency", "history").stdout
    assert json.loads(run("operator", "solvency", "show", "--json").stdout)["bank_as_of"] == "2026-01-31"
    never = run("operator", "solvency", "show", "--date", "2001-01-01")
    assert (never.exit_code, "no statement was made on 2001-01-01" in never.output) == (1, True)


def test_who_reviews_a_payout_is_told_what_the_bank_said(run: Run) -> None:
    def warnings() -> list[str]:
        review = json.loads(run("operator", "payouts", "review", payout, "--json").stdout)
        return [one for one in review["warnings"] if one.startswith("By the bank's own figure: ")]

    planned = json.loads(run("operator", "payouts", "plan", "--json").stdout)
    payout = planned["payout_id"]
    assert warnings() == []  # nobody has entered anything
    run("operator", "solvency", "enter", "--balance", "5000000")
    assert warnings() == []
    run("operator", "solvency", "enter", "--balance", "5000000", "--as-of", "2026-01-31")
    assert ["days old: enter it again" in one for one in warnings()] == [True]
    run("operator", "solvency", "enter", "--balance", "3")
    assert ["INSOLVENT by " in one for one in warnings()] == [True]


def test_an_amount_that_is_none_is_refused_before_anything_is_sent(run: Run) -> None:
    for amount in ("1,000", "12.3456789", "many", "", "1e9", "--5"):
        assert run("operator", "solvency", "enter", "--balance", amount).exit_code == 2
    assert run("operator", "solvency", "show").exit_code == 1


def test_a_pool_that_leaves_an_owner_out_is_caught_by_that_owner(
    run: Run, pool: PoolHandle, story: Story
) -> None:
    """The statement is made while the owner's balance is hidden; then it is put back."""
    held = f"owner:{story.car.owner.principal_id}:held"
    with rewriting(pool.data_dir) as database:
        [credits_] = database.execute(
            "SELECT credits_posted FROM accounts WHERE name = ?", (held,)
        ).fetchone()
        hidden = "UPDATE accounts SET credits_posted = ? WHERE name = ?"
        database.execute(hidden.replace("= ?", "= debits_posted", 1), (held,))
    run("operator", "solvency", "enter", "--balance", "1")
    with rewriting(pool.data_dir) as database:
        database.execute(hidden, (credits_, held))
    caught = run("owner", "solvency", "verify", "--json")
    assert caught.exit_code == 1
    report = json.loads(caught.stdout)
    assert report["liabilities"]["owners_held"] == 2 * 900_000, "the other owner's alone"
    assert (report["own_counted"], report["own_missing_micros"]) == ({}, 4 * 900_000)
    assert "MISSING: by your receipts 3.600000 EUR more" in run("owner", "solvency", "verify").stdout


def test_a_statement_whose_tree_was_forged_is_refused(run: Run, pool: PoolHandle) -> None:
    run("operator", "solvency", "enter", "--balance", "1")
    with rewriting(pool.data_dir) as database:
        database.execute("UPDATE solvency_statements SET secret = zeroblob(32)")
    for who, arguments in (("buyer", ("solvency", "--verify")), ("owner", ("solvency", "verify"))):
        refused = run(who, *arguments)
        assert refused.exit_code == 1
        code = getattr(refused.exception, "code", None)
        assert code is ErrorCode.PROOF_INVALID or "PROOF_INVALID" in refused.output


def test_heads_are_listed_for_the_operator_and_receipts_checked_for_the_owner(run: Run, story: Story) -> None:
    heads = json.loads(run("operator", "log", "heads", "--json").stdout)
    assert heads[0]["tree_size"] == 6
    assert "6" in run("operator", "log", "heads", "--last", "1").stdout
    report = json.loads(run("owner", "receipts", "verify", "--json").stdout)
    assert (report["ok"], report["receipts"], report["logged"], report["tree_size"]) == (True, 4, 4, 6)
    assert "4 receipts: 4 signed, 4 in the log" in run("owner", "receipts", "verify").stdout

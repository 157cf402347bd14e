"""Numbers that no call can carry are refused where they are typed: wrong usage, and no traceback."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from pool_server.cli.root import cli

TOO_LARGE = str(2**63)


@pytest.mark.parametrize(
    "arguments",
    [
        ("ledger", "balance", "bank:main", "--at"),
        ("ledger", "history", "bank:main", "--before"),
        ("price", "set"),
        ("price", "history", "--last"),
        ("price", "book"),
        ("payouts", "approve", "payout_1", "--total-micros"),
        ("principals", "create", "--role", "buyer", "--name", "A", "--expires-at-us"),
        ("deposit", "--buyer", "buyer_a", "--reference", "r", "--amount-micros"),
    ],
)
@pytest.mark.parametrize("number", [TOO_LARGE, "9" * 30, "-1", "1e400", "nan", "1,000"])
def test_a_number_that_does_not_fit_is_wrong_usage(arguments: tuple[str, ...], number: str) -> None:
    answer = CliRunner().invoke(cli, ["--address", "127.0.0.1:1", *arguments, number])
    assert answer.exit_code == 2, answer.output
    assert "Usage:" in answer.output

"""BooksService over the wire, and the commands that speak to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import books_service_pb2 as pb
from pool_server.app import account_reading, books_export, ledger_check
from pool_server.app.books_export import JournalFormat
from pool_server.cli.root import cli
from tests.support.accounting import complaint
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, PrincipalHandle, code_of, running_pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolHandle]:
    with running_pool(tmp_path_factory.mktemp("books"), vet=vet_without_jax) as running:
        car = FakeCar(running)
        FakeBuyer.with_money(running).open_job([1, 2, 3])
        car.work()
        yield running


@pytest.fixture(scope="module")
def second(pool: PoolHandle) -> PrincipalHandle:
    return pool.create_principal("operator", "Second")


@pytest.fixture(scope="module")
def buyer(pool: PoolHandle) -> str:
    accounts = pool.admin().ListAccounts(
        admin_pb.ListAccountsRequest(prefix="buyer:"), metadata=pool.operator.metadata
    )
    return accounts.accounts[0].name.split(":")[1]


def options(pool: PoolHandle, tmp_path: Path, operator: PrincipalHandle | None = None) -> list[str]:
    token = tmp_path / "token"
    token.write_text((operator or pool.operator).token, encoding="ascii")
    data = pool.made.operator_token_file.parent
    return ["--address", pool.api_address, "--ca", str(data / "ca.pem"), "--token-file", str(token)]


def invoke(
    pool: PoolHandle, tmp_path: Path, *arguments: str, operator: PrincipalHandle | None = None
) -> Result:
    return CliRunner().invoke(cli, [*options(pool, tmp_path, operator), "ledger", *arguments])


def invoke_json(pool: PoolHandle, tmp_path: Path, *arguments: str) -> Any:
    done = invoke(pool, tmp_path, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def all_accounts(pool: PoolHandle) -> dict[str, admin_pb.AccountView]:
    answer = pool.admin().ListAccounts(admin_pb.ListAccountsRequest(), metadata=pool.operator.metadata)
    return {account.name: account for account in answer.accounts}


def test_every_account_comes_to_what_the_ledger_keeps(pool: PoolHandle, tmp_path: Path) -> None:
    for name, account in all_accounts(pool).items():
        found = invoke_json(pool, tmp_path, "balance", name)

        assert found["agrees_with_ledger"] is True
        assert found["counters"]["debits_posted_micros"] == account.debits_posted_micros
        assert found["counters"]["credits_pending_micros"] == account.credits_pending_micros


def test_a_check_tells_how_far_it_is_and_ends_when_nobody_listens(
    pool: PoolHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_check, "PROGRESS_TRANSFERS", 1)
    everything = list(pool.books().CheckBooks(pb.CheckBooksRequest(), metadata=pool.operator.metadata))

    read = [answer.progress.read for answer in everything[:-1]]
    assert read == list(range(1, everything[-1].report.transfer_count + 1))
    assert everything[-1].report.ok
    assert not any(answer.HasField("report") for answer in everything[:-1])
    # Whoever goes away in the midst of one leaves the pool free for the next.
    for _ in range(3):
        leaving = pool.books().CheckBooks(pb.CheckBooksRequest(), metadata=pool.operator.metadata)
        next(leaving)
        leaving.cancel()
    again = pool.admin().CheckLedger(admin_pb.CheckLedgerRequest(), metadata=pool.operator.metadata)
    assert again.ok


def test_accounts_are_listed_in_pieces_and_balance(
    pool: PoolHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool_server.rpc.books_servicer._LINES_PER_MESSAGE", 2)

    listed = invoke_json(pool, tmp_path, "accounts")["accounts"]

    assert [account["name"] for account in listed] == sorted(all_accounts(pool))
    signs = {"asset": -1, "expense": -1, "liability": 1, "income": 1, "equity": 1}
    assert sum(signs[account["nature"]] * account["balance_micros"] for account in listed) == 0
    banks = invoke(pool, tmp_path, "accounts", "--prefix", "bank:").stdout
    assert "bank:main" in banks
    assert "fee:pool" not in banks
    assert invoke(pool, tmp_path, "accounts", "--prefix", "none:").stdout == "(none)\n"


def test_a_balance_before_the_first_transfer_is_nothing_and_has_no_time(
    pool: PoolHandle, tmp_path: Path
) -> None:
    found = invoke_json(pool, tmp_path, "balance", "bank:main", "--at", "0")
    assert (found["balance_micros"], found["recorded_at_us"], found["at"]) == (0, 0, 0)

    shown = invoke(pool, tmp_path, "balance", "bank:main", "--at", "1").stdout
    assert "bank:main (asset)" in shown
    assert "1 of " in shown


def test_a_balance_as_of_the_end_of_a_day(pool: PoolHandle, tmp_path: Path) -> None:
    last = invoke_json(pool, tmp_path, "balance", "bank:main")
    first = invoke_json(pool, tmp_path, "balance", "bank:main", "--at", "1")
    day = datetime.fromtimestamp(first["recorded_at_us"] / 10**6, tz=UTC).date()

    before = invoke_json(pool, tmp_path, "balance", "bank:main", "--on", str(day - timedelta(days=1)))
    after = invoke_json(pool, tmp_path, "balance", "bank:main", "--on", str(day + timedelta(days=1)))

    assert (before["at"], before["balance_micros"]) == (0, 0)
    assert (after["at"], after["balance_micros"]) == (last["at"], last["balance_micros"])
    both = invoke(pool, tmp_path, "balance", "bank:main", "--on", str(day), "--at", "1")
    assert both.exit_code == 2
    assert invoke(pool, tmp_path, "balance", "bank:main", "--on", "yesterday").exit_code == 2


def test_long_readings_tell_how_far_they_are(pool: PoolHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_reading, "STEP_TRANSFERS", 1)

    answers = list(
        pool.books().GetAccountAt(pb.GetAccountAtRequest(account="fee:pool"), metadata=pool.operator.metadata)
    )

    head = answers[-1].balance.head
    assert [answer.progress.read for answer in answers] == [*range(1, head + 1), head]
    assert not any(answer.HasField("balance") for answer in answers[:-1])


def test_a_history_says_what_each_transfer_was_about(pool: PoolHandle, tmp_path: Path, buyer: str) -> None:
    story = invoke_json(pool, tmp_path, "history", f"buyer:{buyer}:available")
    deposit, reserve = story["transfers"][-1], story["transfers"][-2]
    assert (deposit["code_name"], deposit["counter_account"]) == ("deposit", "bank:main")
    assert deposit["key"].startswith("deposit:")
    assert (reserve["code_name"], reserve["about"]) == ("reserve", "job_1")
    assert reserve["balance_micros"] == deposit["balance_micros"] + reserve["change_micros"]

    shown = invoke(pool, tmp_path, "history", "fee:pool", "--limit", "1").stdout
    assert "receipt batch" in shown
    older = invoke_json(pool, tmp_path, "history", "job:1:escrow", "--before", "3")["transfers"]
    assert [line["transfer_id"] for line in older] == [2]


def test_a_mistyped_account_is_told_what_may_have_been_meant(pool: PoolHandle, tmp_path: Path) -> None:
    for command in ("balance", "history"):
        done = invoke(pool, tmp_path, command, "bank:mian")

        assert done.exit_code == 1
        assert isinstance(done.exception, PoolError)
        assert done.exception.code is ErrorCode.NOT_FOUND
        assert done.exception.next_step == "Did you mean bank:main?"
    nothing = invoke(pool, tmp_path, "balance", "zzz").exception
    assert isinstance(nothing, PoolError)
    assert "ledger accounts" in nothing.next_step
    behind = invoke(pool, tmp_path, "balance", "bank:main", "--at", "99999").exception
    assert isinstance(behind, PoolError)
    assert "the log holds transfers 1 to" in behind.detail


@pytest.mark.parametrize("piece", [2_000, 1])
@pytest.mark.parametrize("journal_format", list(JournalFormat))
def test_an_export_is_written_whole_and_accepted(
    pool: PoolHandle,
    tmp_path: Path,
    journal_format: JournalFormat,
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(books_export, "PIECE_TRANSFERS", piece)
    monkeypatch.setattr("pool_server.rpc.books_servicer.PIECE_TRANSFERS", piece)
    out = tmp_path / "books.out"

    said = invoke_json(pool, tmp_path, "export", "--format", journal_format.value, "--out", str(out))

    assert said["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert {path.name for path in tmp_path.iterdir()} == {"books.out", "token"}
    printed = invoke(pool, tmp_path, "export", "--format", journal_format.value)
    assert printed.stdout_bytes == out.read_bytes()
    if journal_format is not JournalFormat.CSV:
        assert complaint(journal_format, out) == ""


def test_an_export_that_cannot_be_written_says_so(pool: PoolHandle, tmp_path: Path) -> None:
    done = invoke(pool, tmp_path, "export", "--format", "csv", "--out", str(tmp_path / "none" / "b"))
    assert done.exit_code == 1
    assert "cannot write" in done.stderr
    assert invoke(pool, tmp_path, "export", "--format", "csv", "--json").exit_code == 2
    with pytest.raises(grpc.RpcError) as refusal:
        list(pool.books().ExportBooks(pb.ExportBooksRequest(), metadata=pool.operator.metadata))
    assert code_of(refusal.value) == ErrorCode.INVALID_ARGUMENT.value


def test_a_correction_takes_two_operators(
    pool: PoolHandle, second: PrincipalHandle, tmp_path: Path, buyer: str
) -> None:
    entry = invoke_json(
        pool,
        tmp_path,
        "correct",
        *("--debit", "x:goodwill", "--credit", f"buyer:{buyer}:available", "--code", "goodwill"),
        *("--amount-micros", "250", "--reason", "a car was slow", "--key", "g1"),
    )
    assert entry["state"] == "proposed"

    alone = invoke(pool, tmp_path, "approve", entry["entry_id"], "--amount-micros", "250").exception
    assert isinstance(alone, PoolError)
    assert alone.code is ErrorCode.FOUR_EYES
    done = invoke(pool, tmp_path, "approve", entry["entry_id"], "--amount-micros", "250", operator=second)

    assert "booked" in done.stdout
    story = invoke_json(pool, tmp_path, "history", "x:goodwill")["transfers"]
    [line] = [line for line in story if line["about"] == entry["entry_id"]]
    assert (line["reason"], line["change_micros"]) == ("a car was slow", 250)
    listed = invoke_json(pool, tmp_path, "entries")["entries"]
    assert entry["entry_id"] in [one["entry_id"] for one in listed if one["state"] == "booked"]
    assert invoke_json(pool, tmp_path, "check")["ok"] is True


def test_someone_whom_the_pool_knows_has_an_account_as_soon_as_it_is_needed(
    pool: PoolHandle, second: PrincipalHandle, tmp_path: Path
) -> None:
    owner = pool.create_principal("owner", "Newcomer")
    name = f"owner:{owner.principal_id}:available"
    gift = ("--debit", "x:goodwill", "--code", "goodwill", "--amount-micros", "9", "--reason", "welcome")

    entry = invoke_json(pool, tmp_path, "correct", *gift, "--credit", name)
    assert name not in all_accounts(pool)
    invoke(pool, tmp_path, "approve", entry["entry_id"], "--amount-micros", "9", operator=second)
    as_buyer = invoke(
        pool, tmp_path, "correct", *gift, "--credit", f"buyer:{owner.principal_id}:available"
    ).exception

    assert all_accounts(pool)[name].credits_posted_micros == 9
    assert isinstance(as_buyer, PoolError)
    assert as_buyer.code is ErrorCode.NOT_FOUND


def test_a_refund_proposes_what_is_free(
    pool: PoolHandle, second: PrincipalHandle, tmp_path: Path, buyer: str
) -> None:
    free = invoke_json(pool, tmp_path, "balance", f"buyer:{buyer}:available")["balance_micros"]

    proposed = invoke(pool, tmp_path, "refund", "--buyer", buyer, "--reason", "asked for it", "--key", "r1")
    assert "Nothing is booked yet" in proposed.stdout
    entry = next(one for one in invoke_json(pool, tmp_path, "entries")["entries"] if one["is_at_most"])
    assert (entry["amount_micros"], entry["is_at_most"], entry["code_name"]) == (free, True, "refund")
    withdrawn = invoke(pool, tmp_path, "withdraw", entry["entry_id"])

    assert withdrawn.stdout == f"{entry['entry_id']} is withdrawn.\n"
    unknown = invoke(pool, tmp_path, "refund", "--buyer", "buyer_x", "--reason", "asked for it").exception
    assert isinstance(unknown, PoolError)
    assert unknown.code is ErrorCode.NOT_FOUND

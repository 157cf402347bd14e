"""Receipts are checked on this machine; statements go by month and can be kept as CSV."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import DataTable, TabbedContent

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import account_service_pb2 as account
from pool_protocol.v1 import common_pb2
from tests.tui import scenes
from tests.tui.peers import FakePool
from tests.tui.receipts import Signer, tampered
from tests.tui.stage import Stage, stage
from tui.messages import BankHeard, LoadFailed, ReceiptsLoaded, StatementLoaded
from tui.screens.statement import StatementScreen
from tui.widgets.keyed_table import KeyedTable


async def open_books(opened: Stage) -> None:
    await opened.message(BankHeard)
    await opened.press("s")
    await opened.message(ReceiptsLoaded)
    await opened.message(StatementLoaded)


async def show_statement(opened: Stage) -> None:
    opened.app.screen.query_one(TabbedContent).active = "statement-tab"
    await opened.pilot.pause()


async def test_each_receipt_is_verified_here_under_the_pools_root(pool: FakePool) -> None:
    signer = Signer()
    pool.roots = [signer.root]
    pool.pages[""] = account.ListReceiptsResponse(receipts=signer.proven(3))
    async with stage(pool=pool) as opened:
        await open_books(opened)
        assert isinstance(opened.app.screen, StatementScreen)
        assert "3 receipts  ✓ 3 verified" in opened.text
        assert "job_12/2" in opened.text
        assert "root version 3, fingerprint" in opened.text
        assert "2.00 WU at 0.0015 EUR/WU = 0.003 EUR, fee 0.00015 EUR" in opened.text


async def test_a_receipt_with_other_figures_than_were_signed_is_shown_as_failed(pool: FakePool) -> None:
    signer = Signer()
    receipts = signer.proven(3)
    receipts[1] = tampered(receipts[1])
    receipts[2].receipt = b"\xff\xff"
    pool.roots = [signer.root]
    pool.pages[""] = account.ListReceiptsResponse(receipts=receipts)
    async with stage(pool=pool) as opened:
        await open_books(opened)
        assert "✓ 1 verified ✗ 2 FAILED" in opened.text
        assert "unreadable" in opened.text


async def test_receipts_of_another_pools_key_fail(pool: FakePool) -> None:
    pool.roots = [Signer(seed=8).root]
    pool.pages[""] = account.ListReceiptsResponse(receipts=Signer(seed=7).proven(2))
    async with stage(pool=pool) as opened:
        await open_books(opened)
        assert "✗ 2 FAILED" in opened.text


async def test_without_a_root_nothing_is_called_verified(pool: FakePool) -> None:
    pool.pages[""] = account.ListReceiptsResponse(receipts=Signer().proven(2))
    async with stage(pool=pool) as opened:
        await open_books(opened)
        assert "? 2 not checked: the pool published no root document" in opened.text
        assert "✓" not in opened.text


async def test_a_forged_root_is_no_root(pool: FakePool) -> None:
    signer = Signer()
    forged = common_pb2.SignedRoot()
    forged.CopyFrom(signer.root)
    forged.signatures[0].signature = bytes(64)
    pool.roots = [forged]
    pool.pages[""] = account.ListReceiptsResponse(receipts=signer.proven(1))
    async with stage(pool=pool) as opened:
        await open_books(opened)
        assert "? 1 not checked: no root document:" in opened.text


async def test_older_receipts_are_added_below(pool: FakePool) -> None:
    signer = Signer()
    pool.roots = [signer.root]
    pool.pages[""] = account.ListReceiptsResponse(
        receipts=signer.proven(2, first_attempt=10), next_page_token="more"
    )
    pool.pages["more"] = account.ListReceiptsResponse(receipts=signer.proven(2))
    async with stage(pool=pool) as opened:
        await open_books(opened)
        assert "2 receipts shown, n loads older" in opened.text
        await opened.press("n")
        await opened.message(ReceiptsLoaded, count=2)
        assert "4 receipts  ✓ 4 verified" in opened.text
        table = opened.app.screen.query_one("#receipts", KeyedTable).query_one(DataTable)
        assert table.row_count == 4
        await opened.press("n")
        assert "These are all your receipts." in [n.message for n in opened.app._notifications]


def november() -> account.GetStatementResponse:
    return account.GetStatementResponse(
        month="2026-11",
        currency="EUR",
        opening_micros=2_000_000,
        closing_micros=8_104_200,
        lines=[
            account.StatementLine(
                at_us=scenes.at("2026-11-02T10:00:00"),
                kind="work",
                reference="attempt_77",
                work_uwu=2_000_000,
                price_micros_per_wu=1500,
                gross_micros=3000,
                fee_micros=150,
                net_micros=2850,
                energy_mj=36_000_000,
                energy_source="declared",
                electricity_micros=3000,
                after_electricity_micros=-150,
            ),
            account.StatementLine(
                at_us=scenes.at("2026-11-05T10:00:00"),
                kind="payout",
                reference="payout_3",
                net_micros=-31_500_000,
            ),
            account.StatementLine(
                at_us=scenes.at("2026-11-12T10:00:00"),
                kind="unpaid",
                reference="2 attempts",
                energy_mj=3_600_000,
                energy_source="rapl",
            ),
        ],
        totals=account.StatementTotals(
            work_uwu=2_000_000,
            gross_micros=3000,
            fee_micros=150,
            net_micros=2850,
            energy=account.EnergySums(
                energy_mj=39_600_000,
                measured_mj=3_600_000,
                source="mixed",
                electricity_micros=3000,
                attempts=3,
                unpriced_attempts=2,
            ),
            after_electricity_micros=-150,
        ),
        csv=b"at,kind\n",
    )


async def test_statement_has_opening_lines_and_closing_and_months_can_be_turned(pool: FakePool) -> None:
    pool.statements["2026-11"] = november()
    async with stage(pool=pool) as opened:
        await open_books(opened)
        await show_statement(opened)
        text = opened.text
        assert "2026-11  opening 2.00 EUR  closing 8.1042 EUR" in text
        assert "verified work" in text
        assert "-31.50" in text
        await opened.press("n")
        await opened.message(StatementLoaded, count=2)
        assert "2026-10" in opened.text
        await opened.press("N")
        await opened.message(StatementLoaded, count=3)
        assert "2026-11" in opened.text
        await opened.press("N")
        assert "GetStatement 2026-12" not in pool.calls


async def test_a_statement_says_what_is_left_after_electricity_and_how_its_energy_was_found(
    pool: FakePool,
) -> None:
    pool.statements["2026-11"] = november()
    async with stage(pool=pool) as opened:
        await open_books(opened)
        await show_statement(opened)
        table = opened.app.screen.query_one("#statement", KeyedTable).table
        rows = [[str(cell).strip() for cell in table.get_row_at(index)] for index in range(table.row_count)]
        assert [str(column.label) for column in table.columns.values()][3:6] == [
            "Change",
            "Electricity",
            "Net",
        ]
        assert rows[0][3:6] == ["+0.00285", "0.003", "-0.00015"]
        assert rows[1][3:6] == ["-31.50", "", ""]
        assert rows[2][1:6] == ["not paid", "2 attempts", "", "", ""]
        assert rows[3] == ["", "total of work", "", "+0.00285", "≥ 0.003", "-0.00015", "0.003", "0.00015"]
        assert "0.010 kWh, declared, cost 0.003 EUR by your tariff" in opened.text
        table.move_cursor(row=2)
        await opened.pilot.pause()
        assert "ended without pay" in opened.text
        assert "0.001 kWh, measured; its cost was not told" in opened.text


async def test_csv_is_saved_once_and_never_over_an_existing_file(pool: FakePool, tmp_path: Path) -> None:
    pool.statements["2026-11"] = november()
    async with stage(pool=pool, folder=tmp_path) as opened:
        await open_books(opened)
        await opened.press("w")
        await show_statement(opened)
        await opened.press("w")
        path = tmp_path / "chargepool-statement-2026-11.csv"
        assert path.read_bytes() == b"at,kind\n"
        path.write_bytes(b"mine")
        await opened.press("w")
        assert path.read_bytes() == b"mine"
        said = [notification.message for notification in opened.app._notifications]
        assert said[0].startswith("Open the tab Statement")
        assert said[1].startswith("Written: ")
        assert "left as it is" in said[2]


async def test_a_refusal_is_said_and_r_asks_again(pool: FakePool) -> None:
    signer = Signer()
    pool.roots = [signer.root]
    pool.pages[""] = account.ListReceiptsResponse(receipts=signer.proven(1))
    async with stage(pool=pool) as opened:
        await opened.message(BankHeard)
        pool.refusal = PoolError(ErrorCode.PERMISSION_DENIED)
        await opened.press("s")
        await opened.message(LoadFailed, count=2)
        assert "r asks again." in opened.text
        pool.refusal = None
        await opened.press("r")
        await opened.message(ReceiptsLoaded)
        assert "✓ 1 verified" in opened.text


async def test_without_a_pool_the_books_say_what_to_set(socket: Path) -> None:
    async with stage(socket=socket) as opened:
        await opened.press("s")
        await opened.until(lambda: "--token-file" in opened.text)

"""`car-agent receipts`: what is kept is checked without pool or daemon, and what was caught is shown."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from car_agent.cli.commands import main
from car_agent.journal.identity import save_identity
from car_agent.journal.receipt_book import Evidence, ReceiptBook
from car_agent.journal.state_directory import StateDirectory
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import common_pb2
from tests.integration.transparency.play import Story


@pytest.fixture
def car(story: Story, tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "car")
    directory.create()
    save_identity(directory, story.identity)
    shutil.copy(story.book, directory.receipt_book)
    return directory


def run(car: StateDirectory, *arguments: str) -> Any:
    return CliRunner().invoke(main, ["--state-dir", str(car.path), "receipts", *arguments])


def verified(car: StateDirectory) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(run(car, "verify", "--json").stdout)
    return content


def test_what_is_kept_is_verified_offline(car: StateDirectory, story: Story) -> None:
    result = run(car, "verify")
    assert result.exit_code == 0, result.output
    assert f"4 receipts of pool {story.pool_id}: 4 signed, 4 in the log." in result.stdout
    assert "Everything holds." in result.stdout
    report = verified(car)
    assert (report["ok"], report["logged"], report["net_micros"]) == (True, 4, 4 * 900_000)
    assert report["newest_head"]["tree_size"] == 6
    assert report["root_fingerprint"] == story.identity.root.fingerprint


def change_receipt(content: bytes) -> bytes:
    proven = common_pb2.ProvenReceipt.FromString(content)
    proven.receipt = proven.receipt[:-1] + bytes([proven.receipt[-1] ^ 1])
    return proven.SerializeToString()


def change_signature(content: bytes) -> bytes:
    proven = common_pb2.ProvenReceipt.FromString(content)
    proven.batch.signature = proven.batch.signature[:-1] + bytes([proven.batch.signature[-1] ^ 1])
    return proven.SerializeToString()


def change_head(content: bytes) -> bytes:
    envelope = common_pb2.Envelope.FromString(content)
    envelope.body = envelope.body[:-1] + bytes([envelope.body[-1] ^ 1])
    return envelope.SerializeToString()


@pytest.mark.parametrize(
    ("table", "column", "change", "code"),
    [
        ("receipts", "proven", change_receipt, ErrorCode.PROOF_INVALID),
        ("receipts", "proven", change_signature, ErrorCode.ENVELOPE_SIGNATURE_INVALID),
        ("receipts", "proven", lambda _old: b"\xff", ErrorCode.RECEIPT_INVALID),
        ("receipts", "proof", lambda old: old[:-1] + bytes([old[-1] ^ 1]), ErrorCode.PROOF_INVALID),
        ("receipts", "proof", lambda _old: b"\xff", ErrorCode.PROOF_INVALID),
        ("tree_heads", "envelope", change_head, ErrorCode.ENVELOPE_SIGNATURE_INVALID),
        ("tree_heads", "envelope", lambda _old: b"\xff", ErrorCode.ENVELOPE_MALFORMED),
        ("tree_heads", "path", lambda old: old[:-32], ErrorCode.LOG_FORKED),
    ],
)
def test_every_fault_is_named_and_the_rest_is_still_checked(
    car: StateDirectory,
    table: str,
    column: str,
    change: Callable[[bytes], bytes],
    code: ErrorCode,
) -> None:
    with closing(sqlite3.connect(car.receipt_book)) as database, database:
        where = "ORDER BY rowid DESC LIMIT 1"
        [(rowid, content)] = database.execute(f"SELECT rowid, {column} FROM {table} {where}")
        database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (change(content), rowid))
    report = verified(car)
    assert not report["ok"]
    assert code.value in [fault["code"] for fault in report["faults"]]
    assert report["logged"] == 3
    shown = run(car, "verify")
    assert shown.exit_code == 1
    assert f"WRONG {code.value}" in shown.stdout
    assert "next: " in shown.stdout


def test_evidence_is_shown_with_both_heads(car: StateDirectory, story: Story) -> None:
    assert "Nothing is held against" in run(car, "evidence").stdout
    book = ReceiptBook(car.receipt_book)
    evidence = Evidence(at_us=1, code="LOG_FORKED", sentence="It forked.", trusted=b"one", offered=b"two")
    assert book.accuse(story.pool_id, evidence)
    assert not book.accuse(story.pool_id, evidence), "told once"
    book.close()
    assert "LOG_FORKED: It forked." in run(car, "evidence").stdout
    [shown] = json.loads(run(car, "evidence", "--json").stdout)["evidence"]
    assert base64.b64decode(shown["trusted_head"]) == b"one"
    assert base64.b64decode(shown["offered_head"]) == b"two"
    assert verified(car)["evidence"] == 1


def test_without_a_pool_or_a_receipt_it_says_what_to_do(tmp_path: Path, car: StateDirectory) -> None:
    nowhere = run(StateDirectory(tmp_path / "nowhere"), "verify")
    assert nowhere.exit_code == 1
    assert "next: Pair it" in nowhere.stderr
    car.receipt_book.unlink()
    assert "no receipts are kept" in run(car, "verify").stderr
    car.receipt_book.write_bytes(b"not a database, whatever it says" * 200)
    damaged = run(car, "verify")
    assert damaged.exit_code == 1
    assert ErrorCode.JOURNAL_CORRUPT.value in damaged.stderr


def test_daemon_and_command_may_both_be_the_first_to_open_the_book(tmp_path: Path) -> None:
    count = 8
    gate = threading.Barrier(count)

    def open_at_once(_number: int) -> int:
        gate.wait()
        book = ReceiptBook(tmp_path / "new.sqlite3")
        try:
            return book.position("pool").next_log_index
        finally:
            book.close()

    with ThreadPoolExecutor(count) as threads:
        assert list(threads.map(open_at_once, range(count))) == [0] * count


def test_a_book_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "later.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(PoolError) as raised:
        ReceiptBook(path)
    assert raised.value.code is ErrorCode.JOURNAL_CORRUPT


def test_the_oldest_receipts_go_when_there_are_too_many(story: Story, tmp_path: Path) -> None:
    path = Path(shutil.copy(story.book, tmp_path / "full.sqlite3"))
    book = ReceiptBook(path, receipts_max=2)
    newest = book.receipts(story.pool_id)[-1]
    book.add(story.pool_id, [(99, newest)])
    assert [one.proven for one in book.receipts(story.pool_id)][-1] == newest.proven
    assert len(book.receipts(story.pool_id)) == 2
    assert book.position(story.pool_id).next_log_index == 100
    book.close()

"""`chargepool receipts` and `log` against a real pool, against a rewritten one, and against none."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chargepool.cli import run_command
from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import common_pb2
from tests.integration.transparency.dishonest import copied, forget_log, rewriting, served, until
from tests.integration.transparency.play import Story, newest_head
from tests.support.pool import PoolHandle


@dataclass
class Answer:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def code(self) -> str:
        return str(json.loads(self.err.strip().splitlines()[-1])["error"]["code"])


Command = Callable[..., Answer]


@pytest.fixture(scope="module")
def honest(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolHandle]:
    data = copied(story.data, tmp_path_factory.mktemp("buyer") / "pool")
    with served(data, story.pool) as pool:
        yield pool


@pytest.fixture
def chargepool(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    token = tmp_path / "token"
    token.write_text(story.buyer.principal.token)
    token.chmod(0o600)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CHARGEPOOL_CA_FILE", str(story.pool.ca_file))
    monkeypatch.setenv("CHARGEPOOL_TOKEN_FILE", str(token))
    monkeypatch.delenv("CHARGEPOOL_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, at: PoolHandle | None = None) -> Answer:
        place = () if at is None else ("--address", at.api_address)
        status = run_command([*arguments, *place])
        said = capsys.readouterr()
        return Answer(status, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first to save leaves its file, and what its machine remembers, for the others."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def saved(chargepool: Command, honest: PoolHandle, story: Story, tmp_path: Path, shelf: Path) -> Path:
    if not (shelf / "r.jsonl").exists():
        answer = chargepool("receipts", "save", "r.jsonl", "--job", story.job_id, at=honest)
        assert answer.err.strip() == "3 receipts in r.jsonl, 3 of them with their place in the pool's log."
        shutil.copytree(tmp_path / "state", shelf / "state")
        shutil.copy(tmp_path / "r.jsonl", shelf / "r.jsonl")
    shutil.copytree(shelf / "state", tmp_path / "state", dirs_exist_ok=True)
    return Path(shutil.copy(shelf / "r.jsonl", tmp_path / "r.jsonl"))


def test_a_saved_file_is_verified_without_any_pool(chargepool: Command, saved: Path, story: Story) -> None:
    answer = chargepool("receipts", "verify", str(saved))
    assert answer.status == 0
    assert "3 receipts verified, 3 in the log, 3.000000 in all" in answer.out
    assert "the root that this machine knows" in answer.out
    report = chargepool("receipts", "verify", str(saved), "--json").json
    assert (report["verified"], report["logged"], report["tree_size"]) == (3, 3, 6)
    assert report["jobs"] == [story.job_id]


def test_a_machine_that_never_met_the_pool_is_told_whose_word_it_takes(
    chargepool: Command, saved: Path, tmp_path: Path, story: Story
) -> None:
    shutil.rmtree(tmp_path / "state")
    fingerprint = story.identity.root.fingerprint
    answer = chargepool("receipts", "verify", str(saved))
    assert answer.status == 0
    assert "the root in the file itself" in answer.out
    assert fingerprint[:16] in answer.out
    assert chargepool("receipts", "verify", str(saved), "--fingerprint", fingerprint[:16]).status == 0
    assert chargepool("receipts", "verify", str(saved), "--fingerprint", fingerprint).status == 0
    for wrong in ("f" * 64, fingerprint[:8], "nonsense"):
        refused = chargepool("receipts", "verify", str(saved), "--json", "--fingerprint", wrong)
        assert (refused.status, refused.code) == (1, ErrorCode.ROOT_INVALID.value)


def edited(saved: Path, change: Callable[[list[Any]], object]) -> Path:
    lines = [json.loads(line) for line in saved.read_text().splitlines()]
    change(lines)
    saved.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return saved


def flip(text: str) -> str:
    content = base64.b64decode(text)
    return base64.b64encode(content[:-1] + bytes([content[-1] ^ 1])).decode()


def overpaid(text: str) -> str:
    proven = common_pb2.ProvenReceipt.FromString(base64.b64decode(text))
    receipt = common_pb2.Receipt.FromString(proven.receipt)
    receipt.net_micros, receipt.fee_micros = receipt.net_micros + 1, receipt.fee_micros - 1
    proven.receipt = receipt.SerializeToString()
    return base64.b64encode(proven.SerializeToString()).decode()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda lines: lines[1].update(proven_receipt=overpaid(lines[1]["proven_receipt"])), "PROOF_INVALID"),
        (lambda lines: lines[2].update(log_proof=flip(lines[2]["log_proof"])), "PROOF_INVALID"),
        (lambda lines: lines[2].update(log_proof=lines[1]["log_proof"]), "LOG_RECEIPT_ALTERED"),
        (lambda lines: lines[2].update(tree_size=5), "PROOF_INVALID"),
        (lambda lines: lines[0].update(tree_head=flip(lines[0]["tree_head"])), "ENVELOPE_SIGNATURE_INVALID"),
        (lambda lines: lines[0].update(roots=[flip(lines[0]["roots"][0])]), "ROOT_THRESHOLD_NOT_MET"),
        (lambda lines: lines[0].update(format="chargepool-receipts/9"), "RECEIPT_INVALID"),
        (lambda lines: lines[0].pop("roots"), "RECEIPT_INVALID"),
        (lambda lines: lines.append("nonsense"), "RECEIPT_INVALID"),
        (lambda lines: lines.append({"proven_receipt": "!"}), "RECEIPT_INVALID"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    chargepool: Command, saved: Path, tmp_path: Path, change: Callable[[list[Any]], object], code: str
) -> None:
    edited(saved, change)
    shutil.rmtree(tmp_path / "state")  # a root that is known here would win over the file's
    answer = chargepool("receipts", "verify", str(saved), "--json")
    assert (answer.status, answer.code) == (1, code)


def test_online_the_pool_is_asked_and_a_rewritten_one_is_caught(
    chargepool: Command, saved: Path, honest: PoolHandle, story: Story, tmp_path: Path
) -> None:
    answer = chargepool("receipts", "verify", str(saved), "--online", "--json", at=honest)
    assert (answer.status, answer.json["logged"]) == (0, 3)
    with rewriting(copied(story.data, tmp_path / "pool")) as database:
        database.execute("UPDATE receipts SET receipt = CAST(receipt || x'00' AS BLOB) WHERE receipt_id = 2")
        forget_log(database)
    with served(tmp_path / "pool", story.pool) as cheat:
        until(lambda: newest_head(cheat) == 6)
        # This machine has trusted a head of the honest log.
        forked = chargepool("receipts", "verify", str(saved), "--online", "--json", at=cheat)
        assert (forked.status, forked.code) == (1, ErrorCode.LOG_FORKED.value)
        [evidence] = (tmp_path / "state" / "chargepool" / "logs").rglob("conflict-*.json")
        assert {"root", "trusted_head", "offered_head"} <= set(json.loads(evidence.read_text()))
        # One that remembers nothing still finds its own receipt altered.
        shutil.rmtree(tmp_path / "state")
        altered = chargepool("receipts", "verify", str(saved), "--online", "--json", at=cheat)
        assert (altered.status, altered.code) == (1, ErrorCode.LOG_RECEIPT_ALTERED.value)


def test_two_buyers_compare_heads(
    chargepool: Command, honest: PoolHandle, story: Story, tmp_path: Path
) -> None:
    head = chargepool("log", "head", at=honest)
    assert head.json["tree_size"] == 6
    Path("alice.json").write_text(head.out)
    same = chargepool("log", "compare", "alice.json", at=honest)
    assert same.out.strip() == "The pool shows both the same log, of 6 receipts."
    with rewriting(copied(story.data, tmp_path / "pool")) as database:
        database.execute("UPDATE receipts SET receipt = CAST(receipt || x'00' AS BLOB) WHERE receipt_id = 1")
        forget_log(database)
    shutil.rmtree(tmp_path / "state")  # Bob's machine
    with served(tmp_path / "pool", story.pool) as cheat:
        until(lambda: newest_head(cheat) == 6)
        caught = chargepool("log", "compare", "alice.json", "--json", at=cheat)
        assert (caught.status, caught.code) == (1, ErrorCode.LOG_FORKED.value)
    for content in ("", "{}", '{"signed": "AAAA"}', '{"signed": 7}'):
        Path("bad.json").write_text(content)
        refused = chargepool("log", "compare", "bad.json", "--json", at=honest)
        assert refused.status == 1
        assert refused.code in {ErrorCode.PROOF_INVALID.value, ErrorCode.ENVELOPE_MALFORMED.value}

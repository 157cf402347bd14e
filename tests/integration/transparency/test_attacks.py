"""Each way in which a pool could cheat with its log of receipts, tried by a real server over rewritten data,
and what the car's own keeper of the log says of it.

The honest part is played once; every attack begins with a copy of that pool and of the car's receipt book.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from car_agent.journal.receipt_book import Evidence
from pool_protocol import log_follow, receipts
from pool_protocol.digests import inclusion_proof, merkle_root
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.ids import AttemptId
from pool_protocol.keys import SigningKey
from pool_protocol.limits import DAY_US
from pool_protocol.roots import Role
from pool_protocol.system import SystemIds
from pool_protocol.transparency import in_order, seal_tree_head
from pool_protocol.v1 import common_pb2, log_service_pb2_grpc
from tests.integration.transparency.dishonest import (
    copied,
    forget_log,
    receipt_key,
    rewriting,
    served,
    until,
)
from tests.integration.transparency.play import CLOCK, Story, Watcher, newest_head, serve_and_look, work
from tests.support.pool import PoolHandle


def one_more(story: Story) -> Callable[[PoolHandle], object]:
    """More work, so that the rewritten log is as long as the one before, or longer."""
    return lambda pool: work(pool, story.car, [6, 7, 8], key="later")


def again(pool: PoolHandle) -> None:
    """Wait until the rewritten pool has signed again."""
    until(lambda: newest_head(pool) > 0, what="a head over the rewritten receipts")


def assert_caught(watcher: Watcher, code: ErrorCode, story: Story) -> Evidence:
    """Told once, in a sentence, with the proof kept, and the trusted head still trusted."""
    assert watcher.codes == [code.value]
    assert "The proof is kept" in watcher.heard[0][1]
    [evidence] = watcher.evidence()
    assert evidence.code == code.value
    assert watcher.head().tree_size == 6
    return evidence


def test_an_honest_pool_is_followed_and_everything_holds_offline(
    story: Story, data: Path, watcher: Watcher
) -> None:
    report = watcher.audit()
    assert (report.ok, report.receipts, report.signed, report.logged, report.waiting) == (True, 4, 4, 4, 0)
    assert report.net_micros == 4 * 900_000
    serve_and_look(story, data, watcher, after=one_more(story))
    assert watcher.heard == []
    report = watcher.audit()
    assert (report.ok, report.logged, report.head and report.head.tree_size) == (True, 7, 9)


def test_a_pool_that_drops_a_receipt_and_puts_another_in_its_place_is_caught(
    story: Story, data: Path, watcher: Watcher
) -> None:
    with rewriting(data) as database:
        # The last batch, ours of one receipt, vanishes: receipt, batch, and everything signed since.
        database.execute("DELETE FROM receipts WHERE receipt_id = 6")
        database.execute("DELETE FROM receipt_batches WHERE batch_id = 5")
        forget_log(database)
    # What the car computes now takes the place of the receipt that is gone.
    serve_and_look(story, data, watcher, after=lambda pool: work(pool, story.car, [6, 7], key="later"))
    evidence = assert_caught(watcher, ErrorCode.LOG_RECEIPT_ALTERED, story)
    assert evidence.trusted
    assert evidence.offered


def test_a_pool_that_drops_a_receipt_is_caught(story: Story, data: Path, watcher: Watcher) -> None:
    with rewriting(data) as database:
        # One of a batch's two goes, and what is behind moves up.
        database.execute("DELETE FROM receipts WHERE receipt_id = 3")
        database.execute("UPDATE receipts SET receipt_id = receipt_id - 1 WHERE receipt_id > 3")
        database.execute("UPDATE receipt_batches SET leaf_count = 1 WHERE batch_id = 2")
        database.execute(
            "UPDATE receipt_batches SET first_receipt_id = first_receipt_id - 1 WHERE batch_id > 2"
        )
        forget_log(database)
    serve_and_look(story, data, watcher, after=one_more(story))
    assert_caught(watcher, ErrorCode.LOG_RECEIPT_DROPPED, story)


def test_a_pool_that_alters_a_receipt_is_caught(story: Story, data: Path, watcher: Watcher) -> None:
    with rewriting(data) as database:
        [content] = database.execute("SELECT receipt FROM receipts WHERE receipt_id = 3").fetchone()
        cheaper = common_pb2.Receipt.FromString(content)
        cheaper.net_micros -= 500_000
        cheaper.fee_micros += 500_000
        database.execute(
            "UPDATE receipts SET receipt = ? WHERE receipt_id = 3", (cheaper.SerializeToString(),)
        )
        forget_log(database)
    serve_and_look(story, data, watcher, after=again)
    assert_caught(watcher, ErrorCode.LOG_RECEIPT_ALTERED, story)


@pytest.mark.parametrize("whole_batches", [False, True])
def test_a_pool_that_re_orders_receipts_is_caught(
    story: Story, data: Path, watcher: Watcher, *, whole_batches: bool
) -> None:
    with rewriting(data) as database:
        if whole_batches:  # the third batch, ours, and the fourth, the other car's
            _exchange(database, 4, 5)
            database.execute(
                "UPDATE receipt_batches SET first_receipt_id = -first_receipt_id WHERE batch_id IN (3, 4)"
            )
            database.execute("UPDATE receipt_batches SET first_receipt_id = 5 WHERE batch_id = 3")
            database.execute("UPDATE receipt_batches SET first_receipt_id = 4 WHERE batch_id = 4")
        else:
            _exchange(database, 2, 3)
        forget_log(database)
    serve_and_look(story, data, watcher, after=again)
    assert_caught(watcher, ErrorCode.LOG_REORDERED, story)


def _exchange(database: sqlite3.Connection, one: int, other: int) -> None:
    for source, target in ((one, -one), (other, one), (-one, other)):
        database.execute("UPDATE receipts SET receipt_id = ? WHERE receipt_id = ?", (target, source))


def test_a_pool_that_rewrites_other_owners_receipts_only_is_caught_too(
    story: Story, data: Path, watcher: Watcher
) -> None:
    with rewriting(data) as database:
        database.execute("UPDATE receipts SET receipt = CAST(receipt || x'00' AS BLOB) WHERE receipt_id = 1")
        forget_log(database)
    serve_and_look(story, data, watcher, after=again)
    evidence = assert_caught(watcher, ErrorCode.LOG_FORKED, story)
    one, other = watcher.story_head(evidence.trusted), watcher.story_head(evidence.offered)
    assert (one.tree_size, one.root_hash) != (other.tree_size, other.root_hash)
    assert one.tree_size == other.tree_size == 6


def test_a_pool_that_forks_its_log_is_caught_when_two_clients_compare_heads(
    story: Story, data: Path, watcher: Watcher, tmp_path: Path
) -> None:
    fork = copied(story.data, tmp_path / "fork")
    with rewriting(fork) as database:
        # The other client is shown a log without our last receipt, signed by the same key.
        database.execute("UPDATE receipts SET receipt = CAST(receipt || x'00' AS BLOB) WHERE receipt_id = 6")
        forget_log(database)
    stranger = Watcher(story, tmp_path / "stranger.sqlite3")
    serve_and_look(story, fork, stranger, after=again)
    assert stranger.head().tree_size == watcher.head().tree_size

    first, second = in_order(watcher.head(), stranger.head())
    with pytest.raises(log_follow.LogConflictError) as same_size:
        log_follow.run(log_follow.continue_from(first, second), _never_asked)
    assert same_size.value.code is ErrorCode.LOG_FORKED
    assert {same_size.value.trusted, same_size.value.offered} == {first.envelope, second.envelope}

    # Of different sizes too: neither pool can prove that one continues the other.
    with served(data, story.pool) as pool:
        one_more(story)(pool)
        watcher.look(pool)
        first, second = in_order(watcher.head(), stranger.head())
        assert first.tree_size < second.tree_size
        with pytest.raises(log_follow.LogConflictError) as other_size:
            log_follow.run(log_follow.continue_from(first, second), asking(pool))
    assert other_size.value.code is ErrorCode.LOG_FORKED


def _never_asked(_method: str, _request: Message) -> Any:
    raise AssertionError("heads of one size need no proof")


def asking(pool: PoolHandle) -> Callable[[str, Message], Any]:
    """Calls of LogService as an operator."""
    stub = log_service_pb2_grpc.LogServiceStub(pool.api_channel())

    def call(method: str, request: Message) -> Any:
        try:
            return getattr(stub, method)(request, metadata=pool.operator.metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    return call


def test_a_pool_that_rolls_its_log_back_is_caught(
    story: Story, data: Path, watcher: Watcher, tmp_path: Path
) -> None:
    later = copied(data, tmp_path / "later")
    with served(later, story.pool) as pool:
        one_more(story)(pool)
        watcher.look(pool)
    assert watcher.head().tree_size == 9
    # Yesterday's backup is put back.
    with served(data, story.pool) as pool:
        watcher.look(pool)
    assert watcher.codes == [ErrorCode.LOG_ROLLED_BACK.value]
    assert watcher.head().tree_size == 9
    [evidence] = watcher.evidence()
    assert watcher.story_head(evidence.trusted).tree_size == 9
    assert watcher.story_head(evidence.offered).tree_size == 6


def test_a_pool_that_has_no_heads_any_more_is_caught(story: Story, data: Path, watcher: Watcher) -> None:
    with rewriting(data) as database:
        forget_log(database)
        database.execute("DELETE FROM receipts")
        database.execute("DELETE FROM receipt_batches")
    with served(data, story.pool) as pool:
        watcher.look(pool)
    assert_caught(watcher, ErrorCode.LOG_ROLLED_BACK, story)


def test_a_pool_that_back_dates_a_tree_head_is_caught(story: Story, data: Path, watcher: Watcher) -> None:
    with served(data, story.pool) as pool:
        one_more(story)(pool)
    with rewriting(data) as database:
        [root] = database.execute("SELECT root_hash FROM log_heads WHERE tree_size = 9").fetchone()
        yesterday = seal_tree_head(
            pool_id=story.pool_id,
            tree_size=9,
            root_hash=root,
            timestamp_us=CLOCK.now_us() - DAY_US,
            nonce=SystemIds().nonce(),
            key=receipt_key(data),
        )
        database.execute(
            "UPDATE log_heads SET signed = ? WHERE tree_size = 9", (yesterday.SerializeToString(),)
        )
    with served(data, story.pool) as pool:
        watcher.look(pool)
    assert_caught(watcher, ErrorCode.LOG_BACK_DATED, story)


def test_a_pool_that_back_dates_a_receipt_is_caught(story: Story, data: Path, watcher: Watcher) -> None:
    """A receipt of last week appears today: signed with the real key, at the end of the real log."""
    with rewriting(data) as database:
        [content] = database.execute("SELECT receipt FROM receipts WHERE receipt_id = 6").fetchone()
        _append_forged(database, story, data, content, signed_at_us=CLOCK.now_us() - 7 * DAY_US)
    serve_and_look(story, data, watcher, after=_signed_again)
    assert watcher.codes == [ErrorCode.LOG_BACK_DATED.value]
    assert not watcher.audit().ok


def _signed_again(pool: PoolHandle) -> None:
    until(lambda: newest_head(pool) == 7, what="a head over the forged receipt")


def _append_forged(
    database: sqlite3.Connection, story: Story, data: Path, content: bytes, *, signed_at_us: int
) -> None:
    forged = receipts.parse_receipt(content)._replace(
        attempt_id=AttemptId(receipts.parse_receipt(content).attempt_id + 1_000), verified_at_us=signed_at_us
    )
    leaf = receipts.receipt_bytes(forged)
    sealed = receipts.seal_batch(
        [leaf],
        batch_id=6,
        pool_id=story.pool_id,
        nonce=SystemIds().nonce(),
        issued_at_us=signed_at_us,
        key=receipt_key(data),
    )
    database.execute(
        "INSERT INTO receipt_batches SELECT 6, 7, 1, ?, ?, ?",
        (sealed.merkle_root, sealed.envelope.SerializeToString(), signed_at_us),
    )
    columns = "owner_id, vehicle_id, job_id, work_uwu, price_micros_per_wu"
    database.execute(
        f"INSERT INTO receipts (receipt_id, batch_id, attempt_id, transfer_id, {columns}, gross_micros, "
        "fee_micros, net_micros, verified_at_us, receipt) SELECT 7, 6, attempt_id + 1000, NULL, "
        f"{columns}, 0, 0, 0, ?, ? FROM receipts WHERE receipt_id = 6",
        (signed_at_us, leaf),
    )


def test_a_tree_head_signed_with_a_key_not_in_the_root_is_refused(
    story: Story, data: Path, watcher: Watcher
) -> None:
    def forge(method: str, answer: Any) -> Any:
        if method == "GetTreeHead":
            answer.head.CopyFrom(
                seal_tree_head(
                    pool_id=story.pool_id,
                    tree_size=7,
                    root_hash=bytes(32),
                    timestamp_us=CLOCK.now_us(),
                    nonce=SystemIds().nonce(),
                    key=SigningKey.generate(SystemIds()),
                )
            )
        return answer

    with served(data, story.pool) as pool, pytest.raises(PoolError) as refused:
        watcher.look(pool, lie=forge)
    # It may be a new key: the caretaker asks for newer roots and looks again before it says so.
    assert refused.value.code is ErrorCode.KEY_UNKNOWN
    asyncio.run(watcher._keeper.refused(refused.value, story.identity))
    assert watcher.codes == [ErrorCode.KEY_UNKNOWN.value]
    assert watcher.head().tree_size == 6


def test_a_proof_for_another_leaf_proves_nothing(story: Story, data: Path, tmp_path: Path) -> None:
    attempts: list[tuple[Callable[[Any, Any], Any], ErrorCode]] = [
        (lambda one, other: one.proof.CopyFrom(other.proof), ErrorCode.LOG_RECEIPT_ALTERED),
        (lambda one, other: one.proof.path.__setitem__(0, other.proof.path[0]), ErrorCode.PROOF_INVALID),
        (lambda one, other: setattr(one.proof, "log_index", other.proof.log_index), ErrorCode.PROOF_INVALID),
        (lambda one, _other: one.proof.path.pop(), ErrorCode.PROOF_INVALID),
        (lambda one, _other: one.proof.path.append(bytes(32)), ErrorCode.PROOF_INVALID),
    ]
    with served(data, story.pool) as pool:
        for number, (swap, code) in enumerate(attempts):

            def lie(method: str, answer: Any) -> Any:
                if method == "ListLoggedReceipts":
                    swap(answer.receipts[0], answer.receipts[-1])  # noqa: B023 - called at once
                return answer

            fresh = Watcher(story, tmp_path / f"fresh{number}.sqlite3")
            fresh.look(pool, lie=lie)
            assert fresh.codes == [code.value]
            assert fresh.kept() == []


def test_receipts_that_are_handed_out_in_another_order_are_refused(
    story: Story, data: Path, tmp_path: Path
) -> None:
    def lie(method: str, answer: Any) -> Any:
        if method == "ListLoggedReceipts":
            turned = list(answer.receipts)[::-1]
            del answer.receipts[:]
            answer.receipts.extend(turned)
        return answer

    fresh = Watcher(story, tmp_path / "fresh.sqlite3")
    with served(data, story.pool) as pool:
        fresh.look(pool, lie=lie)
    assert fresh.codes == [ErrorCode.LOG_REORDERED.value]


def test_a_forged_receipt_is_told_and_kept_as_it_came(story: Story, data: Path, tmp_path: Path) -> None:
    """The log holds it, but no batch of the pool's does."""
    with rewriting(data) as database:
        [content] = database.execute("SELECT receipt FROM receipts WHERE receipt_id = 6").fetchone()
        _append_forged(database, story, data, content, signed_at_us=CLOCK.now_us())
        [signed] = database.execute("SELECT signed FROM receipt_batches WHERE batch_id = 1").fetchone()
        database.execute("UPDATE receipt_batches SET signed = ? WHERE batch_id = 6", (signed,))
    fresh = Watcher(story, tmp_path / "fresh.sqlite3")
    serve_and_look(story, data, fresh, after=_signed_again)
    assert fresh.codes == [ErrorCode.PROOF_INVALID.value]
    assert len(fresh.kept()) == 5
    report = fresh.audit()
    assert (report.receipts, report.signed) == (5, 4)


def test_the_helpers_forge_what_an_honest_pool_would_sign(story: Story) -> None:
    """Else the attacks above would be caught for another reason than the one that they are about."""
    leaf = b"leaf"
    assert merkle_root([leaf, leaf]) != merkle_root([leaf])
    assert inclusion_proof([leaf], 0) == ()
    assert receipt_key(story.data).key_id in {
        key.key_id for key in story.identity.root.document.keys[Role.RECEIPT]
    }

"""The log over a real database: tiles, heads and proofs are those of the naive tree, whatever the cuts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pool_protocol import merkle_log
from pool_protocol.digests import leaf_hash, merkle_root
from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.app import receipt_log
from pool_server.app.receipt_log import (
    grow_log,
    keep_log,
    list_heads,
    prove_consistency,
    prove_inclusion,
    require_head,
)
from pool_server.core import receipt_log as hashes_kept
from tests.support.books import Books, settlement
from tests.support.databases import intrude

TILE = hashes_kept.TILE_LEAVES


class PlainSigner:
    """Signs nothing real."""

    def sign_tree_head(self, *, tree_size: int, root_hash: bytes, now_us: int) -> bytes:
        return f"{tree_size} at {now_us}: ".encode() + root_hash

    def sign_solvency(self, facts: object, *, currency: str) -> bytes:
        return f"{facts} {currency}".encode()


def write(books: Books, first: int, count: int) -> None:
    """One batch of receipts for donated work, written as the hot path writes them."""
    books.settle([settlement(attempt, 0, gross_micros=0) for attempt in range(first, first + count)])


def keep(books: Books, *, interval_us: int = 0) -> int:
    done = 0
    while step := books.run(
        lambda uow: keep_log(uow, signer=PlainSigner(), head_interval_us=interval_us, now_us=books.now_us)
    ):
        done += step
    return done


def leaves_of(books: Books) -> list[bytes]:
    return books.run(lambda uow: uow.receipt_log.leaves(0, 10**6))


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "pool.sqlite3")


@pytest.mark.usefixtures("on_both_databases")
def test_proofs_are_those_of_the_naive_tree_over_tiles_and_their_ragged_end(books: Books) -> None:
    sizes: list[int] = []
    written = 0
    # Batches that end before, at and behind the edges of tiles, and two commands' worth of tiles at once.
    for count in (1, 2, TILE - 4, 1, 1, TILE, 3 * TILE - 7, 9):
        write(books, written + 1, count)
        written += count
        books.now_us += 1
        keep(books)
        sizes.append(written)
    leaves = leaves_of(books)
    assert len(leaves) == written
    heads, _ = books.run(lambda uow: list_heads(uow, before_size=0, limit=100))
    assert [head.tree_size for head in heads] == sizes[::-1]
    for head in heads:
        assert head.root_hash == merkle_root(leaves[: head.tree_size])
    for size in (sizes[2], sizes[-1]):
        root = merkle_root(leaves[:size])
        places = [(batch + 1, 0) for batch in range(8) if batch == 0 or sizes[batch - 1] < size]
        for logged, (batch_id, _) in zip(
            books.run(lambda uow: prove_inclusion(uow, tree_size=size, places=places)),  # noqa: B023
            places,
            strict=True,
        ):
            assert logged.log_index == (0 if batch_id == 1 else sizes[batch_id - 2])
            assert logged.leaf_hash == leaf_hash(leaves[logged.log_index])
            merkle_log.verify_inclusion(
                logged.leaf_hash,
                leaf_index=logged.log_index,
                tree_size=size,
                path=logged.path,
                root=root,
            )
    for first, second in ((1, sizes[-1]), (TILE, sizes[-1]), (sizes[3], sizes[5]), (700, 701), (5, 5)):
        path = books.run(lambda uow: prove_consistency(uow, first_size=first, second_size=second))  # noqa: B023
        merkle_log.verify_consistency(
            first_size=first,
            first_root=merkle_root(leaves[:first]),
            second_size=second,
            second_root=merkle_root(leaves[:second]),
            path=path,
        )
    books.assert_sound()


def test_the_receipts_of_a_pool_that_had_no_log_are_taken_up(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_log, "TILES_PER_COMMAND", 2)
    write(books, 1, 5 * TILE + 3)

    assert [books.run(grow_log) for _ in range(4)] == [2, 2, 1, 0]
    assert keep(books) == 1

    head = books.run(lambda uow: require_head(uow, 0))
    assert head is not None
    assert head.root_hash == merkle_root(leaves_of(books))


def test_a_head_is_signed_once_per_size_and_no_more_often_than_the_interval(books: Books) -> None:
    assert keep(books) == 0
    write(books, 1, 3)
    assert keep(books, interval_us=1_000) == 1
    assert keep(books, interval_us=1_000) == 0  # nothing new
    write(books, 4, 1)
    assert keep(books, interval_us=1_000) == 0  # too soon
    books.now_us += 1_000
    assert keep(books, interval_us=1_000) == 1
    heads, after = books.run(lambda uow: list_heads(uow, before_size=0, limit=1))
    assert ([head.tree_size for head in heads], after) == ([4], 4)
    heads, after = books.run(lambda uow: list_heads(uow, before_size=after, limit=1))
    assert ([head.tree_size for head in heads], after) == ([3], 0)


def test_a_head_is_never_older_than_what_it_covers(books: Books) -> None:
    write(books, 1, 1)
    keep(books)
    first = books.run(lambda uow: require_head(uow, 0))
    books.now_us -= 10_000_000  # someone set the clock back
    write(books, 2, 1)
    keep(books)
    second = books.run(lambda uow: require_head(uow, 0))
    assert first is not None
    assert second is not None
    assert (second.tree_size, second.signed_at_us) == (2, first.signed_at_us)


def test_what_was_not_signed_is_not_proved(books: Books) -> None:
    def refused(places: Sequence[tuple[int, int]], size: int) -> ErrorCode:
        with pytest.raises(PoolError) as raised:
            books.run(lambda uow: prove_inclusion(uow, tree_size=size, places=places))
        return raised.value.code

    write(books, 1, 3)
    assert refused([(1, 0)], 3) is ErrorCode.INVALID_ARGUMENT  # no head yet
    keep(books)
    write(books, 4, 2)
    assert refused([(1, 0)], 4) is ErrorCode.INVALID_ARGUMENT
    assert refused([(1, 0)], 0) is ErrorCode.INVALID_ARGUMENT
    assert refused([(1, 3)], 3) is ErrorCode.NOT_FOUND
    assert refused([(9, 0)], 3) is ErrorCode.NOT_FOUND
    assert refused([(2, 0)], 3) is ErrorCode.NOT_FOUND  # came later
    assert refused([(1, 0)] * 1_001, 3) is ErrorCode.INVALID_ARGUMENT
    for first, second in ((0, 3), (3, 2), (1, 4)):
        with pytest.raises(PoolError) as raised:
            books.run(lambda uow: prove_consistency(uow, first_size=first, second_size=second))  # noqa: B023
        assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(PoolError) as raised:
        books.run(lambda uow: require_head(uow, 2))
    assert raised.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("forgery", [
    "DELETE FROM receipts WHERE receipt_id = 2",
    "UPDATE receipts SET receipt = x'00' WHERE receipt_id = 2",
    "UPDATE log_nodes SET node_hash = zeroblob(32)",
])  # fmt: skip
def test_a_log_that_was_rewritten_is_not_signed(books: Books, forgery: str) -> None:
    write(books, 1, 10 if "receipts" in forgery else TILE + 10)
    keep(books)
    write(books, 1_000, 2)
    intrude(books.engine, forgery)
    with pytest.raises(InvariantError):
        keep(books)


@pytest.mark.usefixtures("on_both_databases")
@pytest.mark.parametrize("table", ["log_tiles", "log_nodes", "log_heads"])
def test_what_the_log_holds_stays(books: Books, table: str) -> None:
    write(books, 1, TILE)
    keep(books)
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {_key(table)} = 99"):
        with pytest.raises(Exception, match="rows are immutable"):
            books.sql(statement)


def _key(table: str) -> str:
    return {"log_tiles": "tile_index", "log_nodes": "node_id", "log_heads": "tree_size"}[table]


@pytest.mark.usefixtures("on_both_databases")
def test_two_heads_of_one_size_cannot_be_written(books: Books) -> None:
    write(books, 1, 1)
    keep(books)
    head = books.run(lambda uow: require_head(uow, 0))
    assert head is not None
    with pytest.raises(InvariantError):
        books.run(lambda uow: uow.receipt_log.add_head(head))


@pytest.mark.parametrize(
    ("forgery", "what"),
    [
        ("UPDATE log_tiles SET leaf_hashes = zeroblob(8192)", "does not hold the hashes of its receipts"),
        ("UPDATE receipts SET receipt = x'00' WHERE receipt_id = 2", "another root"),
        ("DELETE FROM receipts WHERE receipt_id = 260", "there are 259 receipts"),
        ("INSERT INTO log_heads VALUES (999, zeroblob(32), 1, x'00')", "a head of size 999 was signed"),
        ("UPDATE log_heads SET root_hash = zeroblob(32)", "another root"),
        ("UPDATE log_heads SET signed_at_us = 1", "older than what it covers"),
        ("INSERT INTO log_tiles VALUES (7, zeroblob(8192))", "tiles are kept"),
    ],
)
def test_the_check_of_the_books_looks_at_every_head(books: Books, forgery: str, what: str) -> None:
    write(books, 1, TILE + 4)
    keep(books)
    books.assert_sound()
    intrude(books.engine, forgery)
    [check] = [check for check in books.check().checks if check.name == "log_heads_match_receipts"]
    assert not check.ok
    assert what in check.detail

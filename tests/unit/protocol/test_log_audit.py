"""What was kept of a pool is checked as a whole: each fault by its code, and nothing stops at the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from pool_protocol import ids
from pool_protocol.digests import inclusion_proof, leaf_hash, merkle_root
from pool_protocol.errors import ErrorCode
from pool_protocol.keys import SigningKey, TrustedKeys
from pool_protocol.limits import LOG_DELAY_US_MAX
from pool_protocol.log_audit import AuditReport, KeptHead, KeptReceipt, audit
from pool_protocol.merkle_log import Node, consistency_spans, hash_spans, node_hash
from pool_protocol.receipts import SealedBatch, receipt_bytes, seal_batch
from pool_protocol.transparency import seal_tree_head
from pool_protocol.v1 import log_service_pb2 as pb
from tests.support.clock import START_US
from tests.unit.protocol.test_receipts import RECEIPT

KEY = SigningKey.from_seed(b"r" * 32)
KEYS = TrustedKeys([KEY.verifying_key])
LATER_US = START_US + 2 * LOG_DELAY_US_MAX


@dataclass(frozen=True)
class Log:
    """A pool of one owner: batches in the order in which they were signed, and all their leaves."""

    batches: tuple[SealedBatch, ...]

    @property
    def leaves(self) -> list[bytes]:
        return [receipt for batch in self.batches for receipt in batch.receipts]

    def kept(self, batch: int, leaf: int, *, at: int | None = None, size: int | None = None) -> KeptReceipt:
        """A receipt with its place; `at` claims another index, honestly proved for what stands there."""
        place = sum(len(one.receipts) for one in self.batches[:batch]) + leaf if at is None else at
        tree = self.leaves[:size]
        proof = pb.LogProof(
            log_index=place, leaf_hash=leaf_hash(tree[place]), path=inclusion_proof(tree, place)
        )
        return KeptReceipt(
            proven=self.batches[batch].proven(leaf).SerializeToString(),
            proof=proof.SerializeToString(),
            tree_size=len(tree),
        )

    def head(self, size: int | None = None, *, at_us: int = START_US, after: int = 0) -> KeptHead:
        tree = self.leaves[:size]
        envelope = seal_tree_head(
            pool_id="pool_a",
            tree_size=len(tree),
            root_hash=merkle_root(tree),
            timestamp_us=at_us,
            nonce=bytes(16),
            key=KEY,
        )
        path = hash_spans(consistency_spans(after, len(tree)), self._nodes) if after else ()
        return KeptHead(envelope=envelope.SerializeToString(), path=path)

    def _nodes(self, nodes: Sequence[Node]) -> dict[Node, bytes]:
        def hashed(node: Node) -> bytes:
            if node.level == 0:
                return leaf_hash(self.leaves[node.position])
            left, right = (Node(node.level - 1, 2 * node.position + side) for side in (0, 1))
            return node_hash(hashed(left), hashed(right))

        return {node: hashed(node) for node in nodes}


def log_of(*sizes: int, signed_at_us: int = START_US) -> Log:
    batches = []
    attempt = 0
    for number, size in enumerate(sizes, 1):
        leaves = [
            receipt_bytes(
                RECEIPT._replace(attempt_id=ids.AttemptId(attempt + leaf), verified_at_us=signed_at_us)
            )
            for leaf in range(size)
        ]
        attempt += size
        batches.append(
            seal_batch(
                leaves,
                batch_id=number,
                pool_id="pool_a",
                nonce=bytes(16),
                issued_at_us=signed_at_us,
                key=KEY,
            )
        )
    return Log(tuple(batches))


def checked(receipts: Sequence[KeptReceipt], heads: Sequence[KeptHead]) -> AuditReport:
    return audit(receipts, heads, keys=KEYS, pool_id="pool_a", now_us=LATER_US)


def codes(report: AuditReport) -> list[str]:
    return [fault.code for fault in report.faults]


def test_everything_of_an_honest_pool_holds() -> None:
    log = log_of(1, 3, 2)
    receipts = [log.kept(0, 0, size=4), log.kept(1, 2, size=4), log.kept(1, 0), log.kept(2, 1)]
    report = checked(receipts, [log.head(4), log.head(after=4, at_us=START_US + 1)])
    assert report.ok
    assert (report.receipts, report.signed, report.logged, report.waiting, report.heads) == (4, 4, 4, 0, 2)
    assert report.gross_micros == 4 * RECEIPT.gross_micros
    assert report.net_micros == 4 * RECEIPT.net_micros
    assert report.head is not None
    assert report.head.tree_size == 6


def test_a_receipt_without_a_place_waits_and_is_missed_after_the_delay() -> None:
    log = log_of(2)
    unplaced = replace(log.kept(0, 0), proof=b"", tree_size=0)
    assert checked([unplaced], []).waiting == 1
    in_time = checked([unplaced], [log.head(at_us=START_US + LOG_DELAY_US_MAX)])
    assert (in_time.ok, in_time.waiting) == (True, 1)
    missed = checked([unplaced], [log.head(at_us=START_US + LOG_DELAY_US_MAX + 1)])
    assert (codes(missed), missed.waiting) == ([ErrorCode.LOG_RECEIPT_DROPPED.value], 0)


def test_receipts_out_of_order_are_named_even_where_each_is_proved() -> None:
    log = log_of(1, 2, 1)
    moved = Log((log.batches[1], log.batches[0], log.batches[2]))  # the second batch now stands first
    report = checked([moved.kept(1, 0), moved.kept(0, 0), moved.kept(2, 0)], [moved.head()])
    assert report.logged == 3
    assert set(codes(report)) == {ErrorCode.LOG_REORDERED.value}

    # A gap where the next batch should begin, and a batch torn apart.
    padded = Log((log.batches[0], log_of(5).batches[0], log.batches[1]))
    assert codes(checked([padded.kept(0, 0), padded.kept(2, 0)], [padded.head()])) == ["LOG_REORDERED"]


def test_a_receipt_older_than_a_head_that_lacks_it_was_slipped_in() -> None:
    log = log_of(1, 1)
    heads = [log.head(1, at_us=START_US + LOG_DELAY_US_MAX + 1), log.head(at_us=LATER_US, after=1)]
    assert codes(checked([log.kept(1, 0)], heads)) == [ErrorCode.LOG_BACK_DATED.value]
    in_time = [log.head(1, at_us=START_US + LOG_DELAY_US_MAX), log.head(at_us=LATER_US, after=1)]
    assert checked([log.kept(1, 0)], in_time).ok


def test_a_head_older_than_a_receipt_that_it_holds_was_back_dated() -> None:
    log = log_of(1, signed_at_us=START_US + 10)
    assert codes(checked([log.kept(0, 0)], [log.head(at_us=START_US)])) == [ErrorCode.LOG_BACK_DATED.value]


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (lambda log: log.head(1, at_us=START_US + 1), ErrorCode.LOG_ROLLED_BACK),
        (lambda log: log.head(3, at_us=START_US - 1, after=2), ErrorCode.LOG_BACK_DATED),
        (lambda log: log.head(3, at_us=START_US + 1), ErrorCode.LOG_FORKED),
        (lambda _log: log_of(2, 1, signed_at_us=START_US - 5).head(2), ErrorCode.LOG_FORKED),
    ],
)
def test_a_head_that_does_not_continue_is_named_and_not_used(second: object, code: ErrorCode) -> None:
    log = log_of(2, 1)
    assert callable(second)
    report = checked([log.kept(0, 0, size=2), log.kept(1, 0)], [log.head(2), second(log)])
    # What is proved under the head that does not hold is not proved.
    assert codes(report) == [code.value, ErrorCode.PROOF_INVALID.value]
    assert (report.heads, report.logged) == (1, 1)


def test_a_place_that_holds_another_receipt_says_that_ours_was_altered() -> None:
    log = log_of(3)
    report = checked([log.kept(0, 0, at=1), log.kept(0, 2)], [log.head()])
    assert codes(report) == [ErrorCode.LOG_RECEIPT_ALTERED.value]
    assert (report.faults[0].attempt_id, report.logged) == (0, 1)

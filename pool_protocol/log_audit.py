"""Checks kept receipts and tree heads offline, with nothing but these bytes, the pool's keys and a clock.

For each receipt: the pool's signature, its place in the signed batch, its sums, its place in the log under a
kept tree head. Over all of them: that heads continue each other, that receipts stand in the log in the order
in which they were signed, that none was slipped in later under an old date, and that none that should be in
the log is missing. Every fault is named by a code and the receipt or head that it is about; nothing stops at
the first.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import TrustedKeys
from pool_protocol.limits import LOG_DELAY_US_MAX
from pool_protocol.receipts import ReceiptVerifier, VerifiedReceipt
from pool_protocol.transparency import TreeHead, check_successor, open_tree_head, verify_logged
from pool_protocol.v1 import common_pb2, log_service_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHead:
    """A tree head as it was kept."""

    envelope: bytes
    """The serialized envelope."""
    path: tuple[bytes, ...]
    """The consistency proof from the head that was kept before it; empty for the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReceipt:
    """A receipt as it was kept."""

    proven: bytes
    """The serialized ProvenReceipt."""
    proof: bytes
    """The serialized LogProof; empty while none was given."""
    tree_size: int
    """Of the head that the proof leads to; 0 without a proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong."""

    what: str
    """What it is about: "receipt of attempt 7", "tree head of size 12"."""
    code: str
    """An error code."""
    sentence: str
    """What is wrong, in words for anyone, and the particulars."""
    attempt_id: int = 0
    """The attempt of the receipt; 0 for a tree head, and for a receipt that cannot be read."""

    def to_json(self) -> dict[str, str | int]:
        """Return it as every program prints it for scripts."""
        return {
            "code": self.code,
            "what": self.what,
            "attempt_id": self.attempt_id,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What came out."""

    receipts: int
    signed: int
    """Receipts that the pool signed, in their batch, and that add up."""
    logged: int
    """Of those: proved to stand in the log."""
    waiting: int
    """Of those: too young to have to be in the log, or no tree head is known yet."""
    heads: int
    head: TreeHead | None
    """The newest tree head that holds."""
    gross_micros: int
    """Of the receipts that are signed."""
    net_micros: int
    jobs: tuple[int, ...]
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.faults


@dataclass(slots=True)
class _Findings:
    faults: list[Fault] = field(default_factory=list)

    def add(self, what: str, error: PoolError, *, attempt_id: int = 0) -> None:
        sentence = error.public if error.detail == error.public else f"{error.public} ({error.detail})"
        self.faults.append(Fault(what=what, code=error.code.value, sentence=sentence, attempt_id=attempt_id))


@dataclass(frozen=True, slots=True)
class _Placed:
    receipt: VerifiedReceipt
    batch: log_service_pb2.ReceiptPlace
    leaf_count: int
    log_index: int


def audit(
    receipts: Iterable[KeptReceipt],
    heads: Sequence[KeptHead],
    *,
    keys: TrustedKeys,
    pool_id: str,
    now_us: int,
) -> AuditReport:
    """Check everything that was kept of one pool.

    Args:
        receipts: In any order.
        heads: In the order in which they were accepted.
        keys: The pool's receipt keys.
        pool_id: The pool.
        now_us: Microseconds since the epoch; what claims to be of the future is refused.
    """
    findings = _Findings()
    known = _open_heads(heads, findings, keys=keys, pool_id=pool_id, now_us=now_us)
    newest = max(known.values(), key=lambda head: head.tree_size, default=None)
    verifier = ReceiptVerifier(keys, pool_id=pool_id)
    placed: list[_Placed] = []
    signed: list[VerifiedReceipt] = []
    count = waiting = 0
    for kept in receipts:
        count += 1
        verified = _verify(kept, verifier, findings, number=count, now_us=now_us)
        if verified is None:
            continue
        signed.append(verified)
        attempt_id = verified.receipt.attempt_id
        if not kept.proof:
            if newest is None or newest.timestamp_us <= verified.signed_at_us + LOG_DELAY_US_MAX:
                waiting += 1
                continue
            late_s = (newest.timestamp_us - verified.signed_at_us) // 1_000_000
            missing = PoolError(
                ErrorCode.LOG_RECEIPT_DROPPED, f"no proof of it, {late_s} s before the newest tree head"
            )
            findings.add(_name(attempt_id), missing, attempt_id=attempt_id)
            continue
        try:
            placed.append(_place(kept, verified, known))
        except PoolError as error:
            findings.add(_name(attempt_id), error, attempt_id=attempt_id)
    for paid, fault in [*_order_faults(placed), *_date_faults(placed, known.values())]:
        findings.add(_name(paid), fault, attempt_id=paid)
    return AuditReport(
        receipts=count,
        signed=len(signed),
        logged=len(placed),
        waiting=waiting,
        heads=len(known),
        head=newest,
        gross_micros=sum(one.receipt.gross_micros for one in signed),
        net_micros=sum(one.receipt.net_micros for one in signed),
        jobs=tuple(sorted({one.receipt.job_id for one in signed})),
        faults=tuple(findings.faults),
    )


def _open_heads(
    heads: Sequence[KeptHead], findings: _Findings, *, keys: TrustedKeys, pool_id: str, now_us: int
) -> dict[int, TreeHead]:
    """Return by size the heads that are signed and continue the one before that is."""
    known: dict[int, TreeHead] = {}
    last: TreeHead | None = None
    for number, kept in enumerate(heads, 1):
        what = f"tree head {number}"
        try:
            envelope = common_pb2.Envelope.FromString(kept.envelope)
            head = open_tree_head(envelope, keys=keys, now_us=now_us, pool_id=pool_id)
            what = f"tree head of size {head.tree_size}"
            if last is not None:
                check_successor(last, head, kept.path)
        except DecodeError:
            findings.add(what, PoolError(ErrorCode.ENVELOPE_MALFORMED, "it cannot be parsed"))
            continue
        except PoolError as error:
            findings.add(what, error)
            continue
        known[head.tree_size] = last = head
    return known


def _verify(
    kept: KeptReceipt, verifier: ReceiptVerifier, findings: _Findings, *, number: int, now_us: int
) -> VerifiedReceipt | None:
    try:
        return verifier.verify(common_pb2.ProvenReceipt.FromString(kept.proven), now_us=now_us)
    except DecodeError:
        findings.add(f"receipt {number}", PoolError(ErrorCode.RECEIPT_INVALID, "it cannot be parsed"))
    except PoolError as error:
        findings.add(f"receipt {number}", error)
    return None


def _place(kept: KeptReceipt, verified: VerifiedReceipt, heads: dict[int, TreeHead]) -> _Placed:
    head = heads.get(kept.tree_size)
    if head is None:
        raise PoolError(ErrorCode.PROOF_INVALID, f"no tree head of size {kept.tree_size} holds")
    try:
        proof = log_service_pb2.LogProof.FromString(kept.proof)
    except DecodeError as error:
        raise PoolError(ErrorCode.PROOF_INVALID, "its place in the log cannot be parsed") from error
    log_index = verify_logged(verified.receipt_bytes, proof, head)
    proven = common_pb2.ProvenReceipt.FromString(kept.proven)
    body = common_pb2.ReceiptBatchBody.FromString(proven.batch.body)
    return _Placed(
        receipt=verified,
        batch=log_service_pb2.ReceiptPlace(batch_id=verified.batch_id, leaf_index=proven.leaf_index),
        leaf_count=body.leaf_count,
        log_index=log_index,
    )


def _order_faults(placed: Sequence[_Placed]) -> list[tuple[int, PoolError]]:
    return _order_of(
        (
            (one.batch.batch_id, one.batch.leaf_index, one.leaf_count, one.log_index),
            one.receipt.receipt.attempt_id,
        )
        for one in placed
    )


def _order_of(
    places: Iterable[tuple[tuple[int, int, int, int], int]],
) -> list[tuple[int, PoolError]]:
    """A batch's receipts are neighbours, and batches stand one behind the other without a gap."""
    faults: list[tuple[int, PoolError]] = []
    before: tuple[int, int, int] | None = None  # batch, where it begins, where it ends
    for (batch_id, leaf_index, leaf_count, log_index), attempt_id in sorted(places):
        begins = log_index - leaf_index
        if before is not None:
            last_batch, last_begins, last_ends = before
            gap = batch_id - last_batch - 1  # batches in between that are not ours hold a receipt at least
            is_in_place = (
                begins == last_begins
                if batch_id == last_batch
                else begins == last_ends
                if gap == 0
                else begins >= last_ends + gap
            )
        else:
            is_in_place = begins >= batch_id - 1
        if not is_in_place:
            faults.append(
                (
                    attempt_id,
                    PoolError(
                        ErrorCode.LOG_REORDERED,
                        f"receipt {leaf_index} of batch {batch_id} stands at {log_index} of the log",
                    ),
                )
            )
            continue
        before = (batch_id, begins, begins + leaf_count)
    return faults


def _date_faults(placed: Sequence[_Placed], heads: Iterable[TreeHead]) -> list[tuple[int, PoolError]]:
    """What was signed long before a head stands in its tree, else it was slipped in; and never after it."""
    faults: list[tuple[int, PoolError]] = []
    in_order = sorted(heads, key=lambda head: head.tree_size)
    sizes = [head.tree_size for head in in_order]
    for one in placed:
        after = bisect_right(sizes, one.log_index)  # the first head whose tree holds it
        signed_at_us = one.receipt.signed_at_us
        reason = ""
        if after > 0 and in_order[after - 1].timestamp_us > signed_at_us + LOG_DELAY_US_MAX:
            early_s = (in_order[after - 1].timestamp_us - signed_at_us) // 1_000_000
            reason = (
                f"it claims to be {early_s} s older than the tree head of size {sizes[after - 1]}, which "
                f"does not hold it: it stands at {one.log_index}"
            )
        elif after < len(in_order) and in_order[after].timestamp_us < signed_at_us:
            reason = f"the tree head of size {sizes[after]}, which holds it, claims to be older than it"
        if reason:
            faults.append((one.receipt.receipt.attempt_id, PoolError(ErrorCode.LOG_BACK_DATED, reason)))
    return faults


def _name(attempt_id: int) -> str:
    return f"receipt of attempt {attempt_id}"

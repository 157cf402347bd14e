"""Checks receipts on this machine, under the pool's root document.

The root comes from the pool over its own TLS. Its fingerprint is shown, so that an owner can compare it with
the one that the car pinned when it was paired. What a valid receipt is, `pool_protocol.receipts` decides.
"""

from collections.abc import Sequence

from pool_protocol.clock import Clock
from pool_protocol.errors import PoolError
from pool_protocol.receipts import Receipt, parse_receipt, verify_receipt
from pool_protocol.roots import Role, TrustedRoot, open_first_root
from pool_protocol.v1 import common_pb2
from tui.facts import ReceiptCheck, ReceiptFacts


def open_roots(chain: Sequence[common_pb2.SignedRoot], *, now_us: int) -> TrustedRoot | None:
    """Return the newest root of a chain, or None for an empty chain.

    Older versions may have expired, and the channel's CA already vouches for who sent them: the newest one is
    opened on its own.

    Raises:
        PoolError: the root is not valid, or has expired.
    """
    if not chain:
        return None
    return open_first_root(chain[-1].SerializeToString(deterministic=True), now_us=now_us)


class ReceiptChecker:
    """Turns a receipt from the wire into facts that say whether it holds."""

    def __init__(self, *, clock: Clock, root: TrustedRoot | None, why_not: str = "") -> None:
        self._clock = clock
        self._root = root
        self._why_not = why_not

    def check(self, proven: common_pb2.ProvenReceipt) -> ReceiptFacts:
        """Verify one receipt; a receipt that cannot even be read is FAILED, never hidden."""
        if self._root is None:
            try:
                return _facts(parse_receipt(proven.receipt), 0, ReceiptCheck.UNCHECKED, self._why_not)
            except PoolError as error:
                return _unreadable(error)
        try:
            verified = verify_receipt(
                proven,
                keys=self._root.keys_for(Role.RECEIPT),
                now_us=self._clock.now_us(),
                pool_id=self._root.document.pool_id,
            )
        except PoolError as error:
            try:
                return _facts(parse_receipt(proven.receipt), 0, ReceiptCheck.FAILED, error.public)
            except PoolError as unreadable:
                return _unreadable(unreadable)
        fingerprint = self._root.fingerprint[:16]
        detail = f"root version {self._root.document.version}, fingerprint {fingerprint}"
        return _facts(verified.receipt, verified.batch_id, ReceiptCheck.VERIFIED, detail)


def _facts(receipt: Receipt, batch_id: int, check: ReceiptCheck, detail: str) -> ReceiptFacts:
    return ReceiptFacts(
        attempt_id=receipt.attempt_id,
        vehicle_id=receipt.vehicle_id,
        job_id=f"job_{receipt.job_id}",
        task_index=receipt.task_index,
        program_sha256=receipt.program_sha256,
        work_uwu=receipt.work_uwu,
        price_micros_per_wu=receipt.price_micros_per_wu,
        gross_micros=receipt.gross_micros,
        fee_micros=receipt.fee_micros,
        net_micros=receipt.net_micros,
        verified_at_us=receipt.verified_at_us,
        batch_id=batch_id,
        check=check,
        check_detail=detail,
    )


def _unreadable(error: PoolError) -> ReceiptFacts:
    return ReceiptFacts(
        attempt_id=0,
        vehicle_id="",
        job_id="",
        task_index=0,
        program_sha256="",
        work_uwu=0,
        price_micros_per_wu=0,
        gross_micros=0,
        fee_micros=0,
        net_micros=0,
        verified_at_us=0,
        batch_id=0,
        check=ReceiptCheck.FAILED,
        check_detail=error.public,
    )

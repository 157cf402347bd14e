"""Receipts that a pool really signed, and ones that were tampered with."""

from __future__ import annotations

from pool_protocol import ids
from pool_protocol.keys import SigningKey
from pool_protocol.money import work_price_micros
from pool_protocol.receipts import Receipt, receipt_bytes, seal_batch
from pool_protocol.roots import Role, RootDocument, build_root
from pool_protocol.v1 import common_pb2
from tests.support.ids import SeededIds
from tests.tui import scenes

POOL_ID = "pool.example.org"
DAY_US = 86_400_000_000
PRICE = 1_500


class Signer:
    """A pool's keys, its root document, and receipts under them."""

    def __init__(self, seed: int = 7) -> None:
        self._ids = SeededIds(seed)
        self._keys = {role: SigningKey.generate(self._ids) for role in Role}
        document = RootDocument(
            pool_id=POOL_ID,
            version=3,
            issued_at_us=scenes.NOW_US - DAY_US,
            expires_at_us=scenes.NOW_US + DAY_US,
            keys={role: (key.verifying_key,) for role, key in self._keys.items()},
            root_threshold=1,
        )
        self.root = common_pb2.SignedRoot.FromString(build_root(document, [self._keys[Role.ROOT]]))
        self._owner = self._ids.new_owner_id()

    def proven(self, count: int, *, first_attempt: int = 1) -> list[common_pb2.ProvenReceipt]:
        """Return a signed batch of receipts, newest first."""
        receipts = [
            receipt_bytes(
                Receipt(
                    pool_id=POOL_ID,
                    attempt_id=ids.AttemptId(first_attempt + index),
                    owner_id=self._owner,
                    vehicle_id=ids.VehicleId(scenes.VEHICLE_ID),
                    job_id=ids.JobId(12),
                    task_index=ids.TaskIndex(index),
                    program_sha256=ids.ProgramId("3f2a91c47bd05e6a" * 4),
                    output_digest=bytes(32),
                    work_uwu=2_000_000,
                    price_micros_per_wu=PRICE,
                    gross_micros=work_price_micros(2_000_000, PRICE),
                    fee_micros=150,
                    net_micros=2_850,
                    verified_at_us=scenes.NOW_US - 60_000_000,
                    transfer_id=ids.TransferId(900 + index),
                )
            )
            for index in range(count)
        ]
        sealed = seal_batch(
            receipts,
            batch_id=5,
            pool_id=POOL_ID,
            nonce=self._ids.nonce(),
            issued_at_us=scenes.NOW_US,
            key=self._keys[Role.RECEIPT],
        )
        return [sealed.proven(index) for index in reversed(range(count))]


def tampered(proven: common_pb2.ProvenReceipt) -> common_pb2.ProvenReceipt:
    """Return the receipt with another amount of work and pay, which still adds up."""
    receipt = common_pb2.Receipt.FromString(proven.receipt)
    receipt.work_uwu *= 2
    receipt.gross_micros *= 2
    receipt.net_micros = receipt.gross_micros - receipt.fee_micros
    forged = common_pb2.ProvenReceipt()
    forged.CopyFrom(proven)
    forged.receipt = receipt.SerializeToString()
    return forged

"""Verifying many receipts remembers batches, and never believes anything because of it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.envelope import EnvelopeHeader, PayloadType, seal_envelope
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import TrustedKeys
from pool_protocol.receipts import ReceiptVerifier, verify_receipt
from pool_protocol.v1 import common_pb2
from tests.support.clock import START_US
from tests.unit.protocol.test_receipts import KEY, TRUSTED, batch


class CountingKeys(TrustedKeys):
    """Counts the signatures that are checked."""

    def __init__(self) -> None:
        super().__init__([KEY.verifying_key])
        self.checked = 0

    def verify(self, *args: Any, **kwargs: Any) -> Any:
        self.checked += 1
        return super().verify(*args, **kwargs)


def test_a_batch_s_signature_is_checked_once() -> None:
    keys = CountingKeys()
    verifier, sealed = ReceiptVerifier(keys, pool_id="pool_a"), batch(9)
    for index in range(9):
        proven = sealed.proven(index)
        expected = verify_receipt(proven, keys=TRUSTED, now_us=START_US, pool_id="pool_a")
        assert verifier.verify(proven, now_us=START_US) == expected
    assert keys.checked == 1


def change_signature(proven: common_pb2.ProvenReceipt) -> None:
    proven.batch.signature = bytes(64)


def change_root(proven: common_pb2.ProvenReceipt) -> None:
    proven.batch.body = proven.batch.body[:-1] + b"\x01"


def change_key(proven: common_pb2.ProvenReceipt) -> None:
    proven.batch.key_id = "0" * 16


def change_place(proven: common_pb2.ProvenReceipt) -> None:
    proven.leaf_index += 1


def change_receipt(proven: common_pb2.ProvenReceipt) -> None:
    proven.receipt += b"\x00"


CHANGES = (change_signature, change_root, change_key, change_place, change_receipt)


@given(change=st.sampled_from(CHANGES), index=st.integers(0, 7))
def test_attack_a_forgery_that_leans_on_a_batch_that_was_believed(
    change: Callable[[common_pb2.ProvenReceipt], None], index: int
) -> None:
    verifier, sealed = ReceiptVerifier(TRUSTED, pool_id="pool_a"), batch(9)
    verifier.verify(sealed.proven(index), now_us=START_US)
    forged = sealed.proven(index)
    change(forged)
    with pytest.raises(PoolError):
        verifier.verify(forged, now_us=START_US)


def test_a_statement_that_expires_is_asked_for_the_time_again() -> None:
    sealed = batch(1)
    header = EnvelopeHeader(
        issuer="pool_a",
        audience="any",
        nonce=b"n" * 16,
        sequence=3,
        issued_at_us=START_US,
        expires_at_us=START_US + 1_000,
    )
    proven = sealed.proven(0)
    proven.batch.CopyFrom(
        seal_envelope(proven.batch.body, payload_type=PayloadType.RECEIPT_BATCH, header=header, key=KEY)
    )
    verifier = ReceiptVerifier(TRUSTED, pool_id="pool_a")
    verifier.verify(proven, now_us=START_US + 999)
    with pytest.raises(PoolError) as caught:
        verifier.verify(proven, now_us=START_US + 1_000)
    assert caught.value.code is ErrorCode.ENVELOPE_EXPIRED


def test_it_remembers_no_more_batches_than_it_may() -> None:
    keys = CountingKeys()
    verifier = ReceiptVerifier(keys, pool_id="pool_a", batches_max=2)
    sealed = [batch(count) for count in (1, 2, 3)]
    for one in (*sealed, sealed[2], sealed[1], sealed[0]):
        verifier.verify(one.proven(0), now_us=START_US)
    assert keys.checked == 4, "the oldest was forgotten and is checked again"

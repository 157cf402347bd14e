"""Receipts: an owner can check each one alone, offline; nobody can change or invent one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol import ids, receipts
from pool_protocol.envelope import EnvelopeHeader, PayloadType, seal_envelope
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey, TrustedKeys
from pool_protocol.receipts import (
    Receipt,
    SealedBatch,
    VerifiedReceipt,
    receipt_bytes,
    seal_batch,
    verify_receipt,
)
from pool_protocol.v1 import common_pb2
from tests.support.clock import START_US

KEY = SigningKey.from_seed(b"r" * 32)
TRUSTED = TrustedKeys([KEY.verifying_key])
RECEIPT = Receipt(
    pool_id="pool_a",
    attempt_id=ids.AttemptId(5),
    owner_id=ids.owner_id(bytes(16)),
    vehicle_id=ids.vehicle_id(bytes(16)),
    job_id=ids.JobId(12),
    task_index=ids.TaskIndex(0),
    program_sha256=ids.ProgramId("ab" * 32),
    output_digest=bytes(32),
    work_uwu=1_500_001,
    price_micros_per_wu=300,
    gross_micros=451,
    fee_micros=22,
    net_micros=429,
    verified_at_us=START_US,
    transfer_id=ids.TransferId(99),
)


def batch(count: int, *, key: SigningKey = KEY, pool_id: str = "pool_a") -> SealedBatch:
    leaves = [receipt_bytes(RECEIPT._replace(attempt_id=ids.AttemptId(n + 1))) for n in range(count)]
    return seal_batch(leaves, batch_id=3, pool_id=pool_id, nonce=b"n" * 16, issued_at_us=START_US, key=key)


def verified(proven: common_pb2.ProvenReceipt, *, keys: TrustedKeys = TRUSTED) -> VerifiedReceipt:
    return verify_receipt(proven, keys=keys, now_us=START_US * 2, pool_id="pool_a")


def refusal(proven: common_pb2.ProvenReceipt) -> ErrorCode:
    with pytest.raises(PoolError) as raised:
        verified(proven)
    return raised.value.code


@given(st.integers(1, 20), st.data())
def test_each_receipt_of_a_batch_verifies_alone_and_years_later(count: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, count - 1))
    sent = batch(count).proven(index).SerializeToString()
    result = verified(common_pb2.ProvenReceipt.FromString(sent))
    assert result.receipt == RECEIPT._replace(attempt_id=ids.AttemptId(index + 1))
    assert (result.batch_id, result.signed_at_us, result.key_id) == (3, START_US, KEY.key_id)
    assert receipts.parse_receipt(result.receipt_bytes) == result.receipt


def test_attack_amounts_changed_after_signing() -> None:
    proven = batch(5).proven(2)
    generous = common_pb2.Receipt.FromString(proven.receipt)
    generous.net_micros += 1_000_000
    generous.gross_micros += 1_000_000
    proven.receipt = generous.SerializeToString()
    assert refusal(proven) is ErrorCode.PROOF_INVALID


def test_attack_a_receipt_moved_to_another_place_or_batch() -> None:
    five = batch(5)
    proven = five.proven(2)
    proven.leaf_index = 3
    assert refusal(proven) is ErrorCode.PROOF_INVALID
    proven = five.proven(2)
    proven.batch.CopyFrom(batch(4).envelope)
    assert refusal(proven) is ErrorCode.PROOF_INVALID


def test_attack_signed_by_a_key_that_is_not_the_receipt_key() -> None:
    assert refusal(batch(1, key=SigningKey.from_seed(b"x" * 32)).proven(0)) is ErrorCode.KEY_UNKNOWN


def test_attack_a_receipt_of_another_pool() -> None:
    assert refusal(batch(1, pool_id="pool_b").proven(0)) is ErrorCode.ENVELOPE_WRONG_AUDIENCE
    proven = batch(1, pool_id="pool_b").proven(0)
    with pytest.raises(PoolError) as raised:
        verify_receipt(proven, keys=TRUSTED, now_us=START_US)
    assert raised.value.code is ErrorCode.RECEIPT_INVALID


def test_attack_a_signed_receipt_that_does_not_add_up() -> None:
    message = common_pb2.Receipt.FromString(receipt_bytes(RECEIPT))
    wrong = []
    for field, value in (
        ("gross_micros", 452),
        ("net_micros", 430),
        ("fee_micros", -1),
        ("work_uwu", 1_500_002 + 10_000),
        ("version", 2),
        ("output_digest", b"short"),
        ("owner_id", "owner_x"),
        ("job_id", "12"),
        ("program_sha256", "AB" * 32),
        ("verified_at_us", START_US + 1),
    ):
        changed = common_pb2.Receipt()
        changed.CopyFrom(message)
        setattr(changed, field, value)
        wrong.append(changed.SerializeToString())
    sealed = seal_batch(
        [*wrong, b"\xff"], batch_id=1, pool_id="pool_a", nonce=b"n" * 16, issued_at_us=START_US, key=KEY
    )
    for index in range(len(wrong) + 1):
        assert refusal(sealed.proven(index)) is ErrorCode.RECEIPT_INVALID, index


def test_attack_a_batch_that_is_not_well_formed() -> None:
    header = EnvelopeHeader(
        issuer="pool_a", audience="any", nonce=b"n" * 16, sequence=1, issued_at_us=START_US, expires_at_us=0
    )
    for body in (
        b"\xff",
        b"",
        common_pb2.ReceiptBatchBody(merkle_root=b"short", leaf_count=1).SerializeToString(),
    ):
        envelope = seal_envelope(body, payload_type=PayloadType.RECEIPT_BATCH, header=header, key=KEY)
        proven = common_pb2.ProvenReceipt(receipt=receipt_bytes(RECEIPT), batch=envelope)
        assert refusal(proven) is ErrorCode.RECEIPT_INVALID


def test_the_pool_itself_cannot_write_a_receipt_that_does_not_add_up() -> None:
    with pytest.raises(PoolError):
        receipt_bytes(RECEIPT._replace(net_micros=430))
    with pytest.raises(PoolError):
        seal_batch([], batch_id=1, pool_id="p", nonce=b"n" * 16, issued_at_us=START_US, key=KEY)

"""A pool that lies about results, receipts, keys or programs is caught, loudly, before its answer is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chargepool
from pool_protocol.errors import ErrorCode
from pool_protocol.ids import OwnerId
from pool_protocol.keys import SigningKey
from pool_protocol.roots import Role
from pool_protocol.v1 import common_pb2
from tests.integration.sdk.fake_pool import PRICE, TOKEN, FakePool
from tests.support.ids import SeededIds

Result = Any


def negate(x: Any) -> Any:
    return -x


def change_output(result: Result) -> None:
    content = bytearray(result.outputs.inline)
    content[-1] ^= 1
    result.outputs.inline = bytes(content)


def overcharge(result: Result) -> None:
    result.cost_micros += 1


def drop_receipts(result: Result) -> None:
    del result.receipts[:]


def damage_receipt(result: Result) -> None:
    content = bytearray(result.receipts[0].receipt)
    content[-1] ^= 1
    result.receipts[0].receipt = bytes(content)


def damage_signature(result: Result) -> None:
    signature = bytearray(result.receipts[0].batch.signature)
    signature[0] ^= 1
    result.receipts[0].batch.signature = bytes(signature)


def another_task_s_receipt(result: Result) -> None:
    result.index += 1


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (change_output, ErrorCode.BLOB_DIGEST_MISMATCH),
        (overcharge, ErrorCode.RECEIPT_INVALID),
        (drop_receipts, ErrorCode.RECEIPT_INVALID),
        (damage_receipt, ErrorCode.PROOF_INVALID),
        (damage_signature, ErrorCode.ENVELOPE_SIGNATURE_INVALID),
        (another_task_s_receipt, ErrorCode.RECEIPT_INVALID),
    ],
)
def test_a_result_that_does_not_prove_itself_is_not_given_out(
    client: chargepool.Client, pool: FakePool, forge: Callable[[Result], None], code: ErrorCode
) -> None:
    pool.forge = forge
    with pytest.raises(chargepool.ProofInvalid) as caught:
        list(client.map(negate, [np.float32(1)], ordered=False))
    assert caught.value.code is code


def test_a_receipt_signed_by_another_role_s_key_is_refused(client: chargepool.Client, pool: FakePool) -> None:
    pool.keys[Role.RECEIPT] = pool.keys[Role.LEASE]
    with pytest.raises(chargepool.ProofInvalid) as caught:
        list(client.map(negate, [np.float32(1)]))
    assert caught.value.code is ErrorCode.KEY_UNKNOWN


def test_an_admission_signed_by_another_key_is_refused_before_any_spend(
    client: chargepool.Client, pool: FakePool
) -> None:
    pool.keys[Role.PROGRAM] = pool.keys[Role.LEASE]
    with pytest.raises(chargepool.ProofInvalid):
        client.map(negate, [np.float32(1)])
    assert not pool.jobs


def test_another_comparator_is_another_job_of_the_same_program(
    client: chargepool.Client, pool: FakePool
) -> None:
    pool.keeps_first_admission = True
    exact = client.program(negate, np.float32(1))
    for comparator in (chargepool.close(rtol=1e-3, atol=0.0), chargepool.ulp(4)):
        program = client.program(negate, np.float32(1), comparator=comparator)
        assert program.program_id == exact.program_id
        assert program.comparator == comparator


def test_a_pool_that_answers_with_another_program_is_refused(
    client: chargepool.Client, pool: FakePool
) -> None:
    pool.admits_instead = client.program(lambda x: -x - 1, np.float32(1)).program_id
    with pytest.raises(chargepool.ProofInvalid) as caught:
        client.program(negate, np.float32(1))
    assert caught.value.code is ErrorCode.PROGRAM_SIGNATURE_MISMATCH


def test_a_rotated_key_is_followed_through_the_signed_root(client: chargepool.Client, pool: FakePool) -> None:
    list(client.map(negate, [np.float32(1)]))
    pool.rotate_receipt_key()
    (result,) = client.map(negate, [np.float32(2)])
    assert result.receipt.is_verified
    assert pool.calls["GetPoolRoot"] == 2


def test_a_root_that_does_not_continue_the_trusted_one_is_refused(
    client: chargepool.Client, pool: FakePool
) -> None:
    list(client.map(negate, [np.float32(1)]))
    pool.keys = {role: SigningKey.generate(SeededIds(number)) for number, role in enumerate(Role, 100)}
    pool.roots = [pool._root(2)]
    program_key_is_new_too = pytest.raises(chargepool.ProofInvalid)
    with program_key_is_new_too as caught:
        list(client.map(negate, [np.float32(2)]))
    assert caught.value.code is ErrorCode.ROOT_THRESHOLD_NOT_MET


def test_receipts_kept_as_bytes_are_verified_later(client: chargepool.Client) -> None:
    (result,) = client.map(negate, [np.float32(1)])
    again = client.verify_receipt(result.receipt.proven_bytes)
    assert again == result.receipt
    assert (again.job_id, again.task_index, again.gross_micros) == ("job_1", 0, PRICE)
    proven = common_pb2.ProvenReceipt.FromString(result.receipt.proven_bytes)
    proven.receipt = proven.receipt.replace(result.receipt.vehicle_id.encode(), b"vehicle_" + b"a" * 26)
    with pytest.raises(chargepool.ProofInvalid):
        client.verify_receipt(proven.SerializeToString())
    with pytest.raises(chargepool.ProofInvalid, match="no receipt"):
        client.verify_receipt(b"\xff" * 20)


def test_checking_can_be_left_for_later(pool: FakePool) -> None:
    pool.forge = damage_signature
    with chargepool.connect(pool.address, token=TOKEN, ca=pool.ca_pem, verify_receipts=False) as client:
        (result,) = client.map(negate, [np.float32(1)])
        assert not result.receipt.is_verified
        assert OwnerId(result.receipt.fields.owner_id)
        with pytest.raises(chargepool.ProofInvalid):
            result.receipt.verify()

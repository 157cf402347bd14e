"""Receipts: what the pool says it verified and pays, so that an owner can check it offline, years later.

A receipt is a serialized `Receipt`; those bytes are a leaf, kept and passed on as they were hashed. The
pool signs one envelope per batch over the Merkle root of its leaves. An owner holds, per receipt, the
bytes, the path to the root and that envelope: a `ProvenReceipt`.

This module checks that a receipt is the pool's and adds up. Whether the ledger agrees is checked where the
ledger is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.message import DecodeError

from pool_protocol import digests, ids, money
from pool_protocol.envelope import (
    ANY_AUDIENCE,
    EnvelopeHeader,
    PayloadType,
    VerifiedEnvelope,
    open_envelope,
    seal_envelope,
)
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey, TrustedKeys
from pool_protocol.limits import MERKLE_LEAVES_MAX
from pool_protocol.v1 import common_pb2

_VERSION = 1


class Receipt(NamedTuple):
    """One verified attempt and what it pays. Fields and units are those of the message of the same name."""

    pool_id: str
    attempt_id: ids.AttemptId
    owner_id: ids.OwnerId
    vehicle_id: ids.VehicleId
    job_id: ids.JobId
    task_index: ids.TaskIndex
    program_sha256: ids.ProgramId
    output_digest: bytes
    work_uwu: int
    price_micros_per_wu: int
    gross_micros: int
    fee_micros: int
    net_micros: int
    verified_at_us: int
    transfer_id: ids.TransferId


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedReceipt:
    """A receipt that the pool signed. Only `verify_receipt` makes one."""

    receipt: Receipt
    receipt_bytes: bytes
    batch_id: int
    signed_at_us: int
    key_id: ids.KeyId


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBatch:
    """What to store of a batch: the one signed envelope and, per receipt, its place and path."""

    envelope: common_pb2.Envelope
    receipts: tuple[bytes, ...]
    merkle_root: bytes
    inclusion_paths: tuple[tuple[bytes, ...], ...]

    def proven(self, leaf_index: int) -> common_pb2.ProvenReceipt:
        """Return one receipt with all that is needed to verify it."""
        return common_pb2.ProvenReceipt(
            receipt=self.receipts[leaf_index],
            leaf_index=leaf_index,
            inclusion_path=self.inclusion_paths[leaf_index],
            batch=self.envelope,
        )


def receipt_bytes(receipt: Receipt) -> bytes:
    """Serialize a receipt once, to be hashed, stored and sent as it is.

    Raises:
        PoolError: RECEIPT_INVALID when it does not add up (see `verify_receipt`, step 4).
    """
    _check_sums(receipt)
    return common_pb2.Receipt(
        version=_VERSION,
        pool_id=receipt.pool_id,
        attempt_id=receipt.attempt_id,
        owner_id=receipt.owner_id,
        vehicle_id=receipt.vehicle_id,
        job_id=ids.job_id_text(receipt.job_id),
        task_index=receipt.task_index,
        program_sha256=receipt.program_sha256,
        output_digest=receipt.output_digest,
        work_uwu=receipt.work_uwu,
        price_micros_per_wu=receipt.price_micros_per_wu,
        gross_micros=receipt.gross_micros,
        fee_micros=receipt.fee_micros,
        net_micros=receipt.net_micros,
        verified_at_us=receipt.verified_at_us,
        transfer_id=receipt.transfer_id,
    ).SerializeToString(deterministic=True)


def seal_batch(
    receipts: Sequence[bytes],
    *,
    batch_id: int,
    pool_id: str,
    nonce: bytes,
    issued_at_us: int,
    key: SigningKey,
) -> SealedBatch:
    """Sign a batch of serialized receipts with the pool's receipt key.

    Raises:
        PoolError: INVALID_ARGUMENT for an empty batch.
    """
    if not receipts:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "a batch of receipts must not be empty")
    root, paths = digests.merkle_root_and_proofs(receipts)
    body = common_pb2.ReceiptBatchBody(batch_id=batch_id, merkle_root=root, leaf_count=len(receipts))
    header = EnvelopeHeader(
        issuer=pool_id,
        audience=ANY_AUDIENCE,
        nonce=nonce,
        sequence=batch_id,
        issued_at_us=issued_at_us,
        expires_at_us=0,
    )
    return SealedBatch(
        envelope=seal_envelope(
            body.SerializeToString(), payload_type=PayloadType.RECEIPT_BATCH, header=header, key=key
        ),
        receipts=tuple(receipts),
        merkle_root=root,
        inclusion_paths=tuple(paths),
    )


def verify_receipt(
    proven: common_pb2.ProvenReceipt, *, keys: TrustedKeys, now_us: int, pool_id: str | None = None
) -> VerifiedReceipt:
    """Return what a receipt says after checking all that can be checked without the pool.

    1. The batch's envelope is signed by one of the receipt keys (`TrustedRoot.keys_for(Role.RECEIPT)`),
       by this pool.
    2. The receipt's bytes stand at their index under the signed Merkle root.
    3. Only now they are parsed; the version is known and every id is well-formed.
    4. It adds up: gross is the price of the work, gross is net plus fee, nothing is negative.
    5. It names the pool that signed it, and was not verified after it was signed.

    Raises:
        PoolError: what `open_envelope` raises; PROOF_INVALID; RECEIPT_INVALID.
    """
    return _verify_in_batch(proven, *_open_batch(proven.batch, keys=keys, now_us=now_us, pool_id=pool_id))


class ReceiptVerifier:
    """Verifies many receipts by the same keys; a batch's signature is checked once for all its receipts.

    Not safe to share between threads.
    """

    def __init__(self, keys: TrustedKeys, *, pool_id: str | None = None, batches_max: int = 256) -> None:
        """Remember at most `batches_max` batches, the newest; arguments else as in `verify_receipt`."""
        self._keys = keys
        self._pool_id = pool_id
        self._batches_max = batches_max
        self._known: dict[bytes, tuple[VerifiedEnvelope, common_pb2.ReceiptBatchBody]] = {}

    def verify(self, proven: common_pb2.ProvenReceipt, *, now_us: int) -> VerifiedReceipt:
        """Return what a receipt says; steps and errors as in `verify_receipt`."""
        # Every byte of the envelope is in the name: one that differs anywhere is verified on its own.
        name = proven.batch.SerializeToString(deterministic=True)
        known = self._known.get(name)
        if known is None:
            known = _open_batch(proven.batch, keys=self._keys, now_us=now_us, pool_id=self._pool_id)
            if (
                known[0].header.expires_at_us == 0
            ):  # what was valid once stays so; else time must be asked again
                if len(self._known) >= self._batches_max:
                    del self._known[next(iter(self._known))]
                self._known[name] = known
        return _verify_in_batch(proven, *known)


def _open_batch(
    envelope: common_pb2.Envelope, *, keys: TrustedKeys, now_us: int, pool_id: str | None
) -> tuple[VerifiedEnvelope, common_pb2.ReceiptBatchBody]:
    batch = open_envelope(
        envelope,
        payload_type=PayloadType.RECEIPT_BATCH,
        audience=ANY_AUDIENCE,
        keys=keys,
        now_us=now_us,
        issuer=pool_id,
        may_be_eternal=True,
    )
    return batch, _batch_body(batch)


def _verify_in_batch(
    proven: common_pb2.ProvenReceipt, batch: VerifiedEnvelope, body: common_pb2.ReceiptBatchBody
) -> VerifiedReceipt:
    leaf = digests.verify_inclusion(
        proven.receipt,
        leaf_index=proven.leaf_index,
        leaf_count=body.leaf_count,
        inclusion_path=proven.inclusion_path,
        root=body.merkle_root,
    )
    receipt = parse_receipt(leaf)
    if receipt.pool_id != batch.header.issuer or receipt.verified_at_us > batch.header.issued_at_us:
        raise _invalid("it does not belong to the batch that holds it")
    return VerifiedReceipt(
        receipt=receipt,
        receipt_bytes=leaf,
        batch_id=body.batch_id,
        signed_at_us=batch.header.issued_at_us,
        key_id=batch.key_id,
    )


def parse_receipt(content: bytes) -> Receipt:
    """Read a receipt's bytes and check that they add up. This proves nothing about who wrote them.

    Raises:
        PoolError: RECEIPT_INVALID.
    """
    try:
        message = common_pb2.Receipt.FromString(content)
    except DecodeError as error:
        raise _invalid("it cannot be parsed") from error
    if message.version != _VERSION:
        raise _invalid(f"version {message.version} is not known")
    if len(message.output_digest) != digests.DIGEST_BYTES:
        raise _invalid("the output digest does not have 32 bytes")
    try:
        receipt = Receipt(
            pool_id=message.pool_id,
            attempt_id=ids.AttemptId(message.attempt_id),
            owner_id=ids.parse_owner_id(message.owner_id),
            vehicle_id=ids.parse_vehicle_id(message.vehicle_id),
            job_id=ids.parse_job_id(message.job_id),
            task_index=ids.TaskIndex(message.task_index),
            program_sha256=ids.parse_program_id(message.program_sha256),
            output_digest=message.output_digest,
            work_uwu=message.work_uwu,
            price_micros_per_wu=message.price_micros_per_wu,
            gross_micros=message.gross_micros,
            fee_micros=message.fee_micros,
            net_micros=message.net_micros,
            verified_at_us=message.verified_at_us,
            transfer_id=ids.TransferId(message.transfer_id),
        )
    except PoolError as error:
        raise _invalid(error.detail) from error
    _check_sums(receipt)
    return receipt


def _batch_body(batch: VerifiedEnvelope) -> common_pb2.ReceiptBatchBody:
    try:
        body = common_pb2.ReceiptBatchBody.FromString(batch.body)
    except DecodeError as error:
        raise _invalid("its batch cannot be parsed") from error
    if not 1 <= body.leaf_count <= MERKLE_LEAVES_MAX or len(body.merkle_root) != digests.DIGEST_BYTES:
        raise _invalid("its batch is not well-formed")
    return body


def _check_sums(receipt: Receipt) -> None:
    amounts = (receipt.work_uwu, receipt.price_micros_per_wu, receipt.fee_micros, receipt.net_micros)
    if min(amounts) < 0:
        raise _invalid("an amount is negative")
    if receipt.gross_micros != receipt.fee_micros + receipt.net_micros:
        raise _invalid("gross is not net plus fee")
    try:
        price = money.work_price_micros(receipt.work_uwu, receipt.price_micros_per_wu)
    except PoolError as error:
        raise _invalid(error.detail) from error
    if receipt.gross_micros != price:
        raise _invalid(f"gross is {receipt.gross_micros} micros, the work costs {price}")


def _invalid(reason: str) -> PoolError:
    return PoolError(ErrorCode.RECEIPT_INVALID, f"not a valid receipt: {reason}")

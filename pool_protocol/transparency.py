"""The pool's log of receipts as its clients see it: signed tree heads, and what follows which.

Every receipt is a leaf of one append-only log (RFC 9162). A tree head is the pool's signature, by a receipt
key, under "the first n leaves hash to this". Whoever keeps the last head that it checked finds out when the
log is rewritten, since no proof leads from the kept head to one of another history; two clients who compare
their heads find out when they were shown different logs.

    offered head, after its signature             what it is called
    smaller than the trusted one                  LOG_ROLLED_BACK
    of one size, with another root                LOG_FORKED
    larger, and no proof leads to it              LOG_FORKED
    larger, and signed earlier                    LOG_BACK_DATED

Tree heads are public statements; a receipt's own content is not in them. How trees are hashed is decided in
`merkle_log`; checks of many kept receipts are in `log_audit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from pool_protocol import merkle_log
from pool_protocol.digests import DIGEST_BYTES, leaf_hash, sha256
from pool_protocol.envelope import (
    ANY_AUDIENCE,
    EnvelopeHeader,
    PayloadType,
    VerifiedEnvelope,
    open_envelope,
    seal_envelope,
)
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ids import KeyId
from pool_protocol.keys import SigningKey, TrustedKeys
from pool_protocol.limits import MERKLE_LEAVES_MAX
from pool_protocol.v1 import common_pb2, log_service_pb2

_VERSION = 1
_LOG_DOMAIN = b"chargepool/v1/log\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """What a pool says its log is. Made by `open_tree_head`, which checks the signature."""

    log_id: bytes
    tree_size: int
    root_hash: bytes
    timestamp_us: int
    """When it was signed, microseconds since the epoch, UTC."""
    key_id: KeyId
    envelope: bytes
    """The serialized envelope as it came: together with another one it is evidence."""


def log_id_of(pool_id: str) -> bytes:
    """Return the 32 bytes that name a pool's log; they outlive the keys that sign it."""
    return sha256(_LOG_DOMAIN + pool_id.encode())


def tree_head_body(*, pool_id: str, tree_size: int, root_hash: bytes, timestamp_us: int) -> bytes:
    """Serialize what a tree head says, to be signed as it is."""
    return log_service_pb2.TreeHeadBody(
        version=_VERSION,
        log_id=log_id_of(pool_id),
        tree_size=tree_size,
        root_hash=root_hash,
        timestamp_us=timestamp_us,
    ).SerializeToString(deterministic=True)


def seal_tree_head(
    *, pool_id: str, tree_size: int, root_hash: bytes, timestamp_us: int, nonce: bytes, key: SigningKey
) -> common_pb2.Envelope:
    """Sign a tree head with the pool's receipt key."""
    header = EnvelopeHeader(
        issuer=pool_id,
        audience=ANY_AUDIENCE,
        nonce=nonce,
        sequence=tree_size,
        issued_at_us=timestamp_us,
        expires_at_us=0,
    )
    body = tree_head_body(
        pool_id=pool_id, tree_size=tree_size, root_hash=root_hash, timestamp_us=timestamp_us
    )
    return seal_envelope(body, payload_type=PayloadType.TREE_HEAD, header=header, key=key)


def open_tree_head(
    envelope: common_pb2.Envelope, *, keys: TrustedKeys, now_us: int, pool_id: str
) -> TreeHead:
    """Return a tree head after checking all that can be checked of it alone.

    1. It is signed by one of the receipt keys (`TrustedRoot.keys_for(Role.RECEIPT)`), by this pool, and not
       in the future.
    2. Only now it is parsed; its version is known, the size within bounds, the root 32 bytes.
    3. It is of this pool's log.
    4. Inside and outside name one time.

    Raises:
        PoolError: what `open_envelope` raises; PROOF_INVALID for steps 2 to 4.
    """
    opened = open_envelope(
        envelope,
        payload_type=PayloadType.TREE_HEAD,
        audience=ANY_AUDIENCE,
        keys=keys,
        now_us=now_us,
        issuer=pool_id,
        may_be_eternal=True,
    )
    body = _head_body(opened)
    if body.log_id != log_id_of(pool_id):
        raise _refused("the tree head is of another log")
    if body.timestamp_us != opened.header.issued_at_us:
        raise _refused("the tree head names two times")
    return TreeHead(
        log_id=body.log_id,
        tree_size=body.tree_size,
        root_hash=body.root_hash,
        timestamp_us=body.timestamp_us,
        key_id=opened.key_id,
        envelope=envelope.SerializeToString(),
    )


def _head_body(opened: VerifiedEnvelope) -> log_service_pb2.TreeHeadBody:
    try:
        body = log_service_pb2.TreeHeadBody.FromString(opened.body)
    except DecodeError as error:
        raise _refused("the tree head cannot be parsed") from error
    if body.version != _VERSION:
        raise _refused(f"tree heads of version {body.version} are not known")
    if not 1 <= body.tree_size <= MERKLE_LEAVES_MAX or len(body.root_hash) != DIGEST_BYTES:
        raise _refused("the tree head is not well-formed")
    return body


def check_successor(trusted: TreeHead, offered: TreeHead, path: Sequence[bytes]) -> TreeHead:
    """Return the offered head after checking that its log continues the trusted one's.

    Args:
        trusted: The last head that was checked.
        offered: A head of the same pool whose signature was checked.
        path: The consistency proof between them; empty for heads of one size.

    Raises:
        PoolError: LOG_ROLLED_BACK, LOG_FORKED, LOG_BACK_DATED: see the table above. The two heads are the
            evidence; keep both.
    """
    if offered.log_id != trusted.log_id:
        raise _refused("the tree heads are of two logs")
    sizes = f"size {offered.tree_size}, after size {trusted.tree_size}"
    if offered.tree_size < trusted.tree_size:
        raise PoolError(ErrorCode.LOG_ROLLED_BACK, f"the pool offers a tree head of {sizes}")
    if offered.tree_size == trusted.tree_size:
        if offered.root_hash != trusted.root_hash:
            raise PoolError(
                ErrorCode.LOG_FORKED,
                f"two tree heads of size {offered.tree_size} have the roots {trusted.root_hash.hex()} and "
                f"{offered.root_hash.hex()}",
            )
        return offered
    if offered.timestamp_us < trusted.timestamp_us:
        early_us = trusted.timestamp_us - offered.timestamp_us
        raise PoolError(
            ErrorCode.LOG_BACK_DATED, f"the tree head of {sizes}, was signed {early_us} us before it"
        )
    try:
        merkle_log.verify_consistency(
            first_size=trusted.tree_size,
            first_root=trusted.root_hash,
            second_size=offered.tree_size,
            second_root=offered.root_hash,
            path=path,
        )
    except PoolError as error:
        raise PoolError(
            ErrorCode.LOG_FORKED,
            f"the tree head of {sizes}, does not continue it: {error.detail}; a receipt in it was altered, "
            "dropped or moved",
        ) from error
    return offered


def in_order(one: TreeHead, other: TreeHead) -> tuple[TreeHead, TreeHead]:
    """Return two heads, the smaller first: how two clients compare what they were shown.

    Between heads of two sizes any of the two asks its pool for a proof; `check_successor` says the rest.
    """
    return (one, other) if one.tree_size <= other.tree_size else (other, one)


def verify_logged(receipt: bytes, proof: log_service_pb2.LogProof, head: TreeHead) -> int:
    """Return a receipt's index in the log after checking that it stands there under a tree head.

    1. The receipt's own bytes hash to a leaf that stands at the index of the proof.
    2. If not: when another leaf provably stands there, the receipt was replaced; else nothing is proved.

    Raises:
        PoolError: LOG_RECEIPT_ALTERED or PROOF_INVALID.
    """
    own = leaf_hash(receipt)
    try:
        _verify_at(own, proof, head)
    except PoolError:
        if proof.leaf_hash == own:
            raise
        _verify_at(proof.leaf_hash, proof, head)
        raise PoolError(
            ErrorCode.LOG_RECEIPT_ALTERED,
            f"at {proof.log_index} the log holds {proof.leaf_hash.hex()}, the receipt is {own.hex()}",
            context={"leaf_hash": proof.leaf_hash.hex()},
        ) from None
    return proof.log_index


def _verify_at(leaf: bytes, proof: log_service_pb2.LogProof, head: TreeHead) -> None:
    merkle_log.verify_inclusion(
        leaf, leaf_index=proof.log_index, tree_size=head.tree_size, path=proof.path, root=head.root_hash
    )


def _refused(reason: str) -> PoolError:
    return PoolError(ErrorCode.PROOF_INVALID, reason)

"""Which keys may sign what: the pool's root document, its versions and its rotation.

A root document is canonical JSON, signed by a threshold of root keys that can stay offline. It names the
online keys by role: `program` (which programs cars may run), `lease` (which work they may do now),
`receipt` (what the pool says it paid: receipts, heads of their log, statements of solvency; these are read
for years, so a receipt key stays in the root when another takes its place). A car runs a task only if a
program key and a lease key agree, so a stolen lease key alone makes no car run new code. A new root is
accepted only if a threshold of the keys of the *old* root signed it (they hand over) and a threshold of its
*own* root keys did (they exist).

    {"expires_at_us": ..., "format": 1, "issued_at_us": ..., "keys": {key id: public key in hex},
     "pool_id": "...", "roles": {"lease": [key ids], "program": [...], "receipt": [...], "root": [...]},
     "root_threshold": n, "version": n}
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError

from pool_protocol import limits
from pool_protocol.digests import sha256_hex
from pool_protocol.envelope import PayloadType
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ids import KeyId, Sha256Hex
from pool_protocol.keys import SigningKey, TrustedKeys, VerifyingKey
from pool_protocol.v1 import common_pb2

_FORMAT = 1
_FIELDS = frozenset(
    {"expires_at_us", "format", "issued_at_us", "keys", "pool_id", "roles", "root_threshold", "version"}
)


class Role(StrEnum):
    """What a key may sign."""

    ROOT = "root"
    PROGRAM = "program"
    LEASE = "lease"
    RECEIPT = "receipt"


@dataclass(frozen=True, slots=True, kw_only=True)
class RootDocument:
    """What a root says. Valid once built.

    Raises:
        PoolError: ROOT_INVALID when a role has no key, too many keys are named, the threshold cannot be
        met, the
            version is not positive, or the span of time is empty or too long.
    """

    pool_id: str
    version: int
    """1 for the first root, then one more for each."""
    issued_at_us: int
    expires_at_us: int
    keys: Mapping[Role, tuple[VerifyingKey, ...]]
    root_threshold: int
    """How many root keys must sign the next root."""

    def __post_init__(self) -> None:
        """Check what the class promises."""
        if set(self.keys) != set(Role) or not all(self.keys.values()):
            raise _invalid("every role needs a key")
        if sum(map(len, self.keys.values())) > limits.ROOT_KEYS_MAX:
            raise _invalid(f"more than {limits.ROOT_KEYS_MAX} keys")
        if any(len(set(keys)) != len(keys) for keys in self.keys.values()):
            raise _invalid("a key stands twice in one role")
        root_keys = set(self.keys[Role.ROOT])
        if any(root_keys & set(self.keys[role]) for role in Role if role is not Role.ROOT):
            raise _invalid("a root key must not be used online")
        if not 1 <= self.root_threshold <= len(root_keys):
            raise _invalid(f"a threshold of {self.root_threshold} with {len(root_keys)} root keys")
        if self.version < 1 or not self.pool_id:
            raise _invalid("version and pool id must be given")
        if not 0 < self.expires_at_us - self.issued_at_us <= limits.ROOT_LIFETIME_US_MAX:
            raise _invalid("a root must expire, within 400 days")
        # In the order of their ids, so that a document read back equals the one written.
        in_order = {role: tuple(sorted(self.keys[role], key=lambda key: key.key_id)) for role in Role}
        object.__setattr__(self, "keys", MappingProxyType(in_order))

    def canonical_bytes(self) -> bytes:
        """Return the document as the JSON bytes that are signed."""
        every_key = {key.key_id: key.public_bytes.hex() for keys in self.keys.values() for key in keys}
        content = {
            "expires_at_us": self.expires_at_us,
            "format": _FORMAT,
            "issued_at_us": self.issued_at_us,
            "keys": every_key,
            "pool_id": self.pool_id,
            "roles": {role.value: [key.key_id for key in self.keys[role]] for role in Role},
            "root_threshold": self.root_threshold,
            "version": self.version,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedRoot:
    """A root whose signatures were found good. Only the three functions `open_...` below make one."""

    document: RootDocument
    root_bytes: bytes
    """The serialized SignedRoot, to be kept as it came."""

    @property
    def fingerprint(self) -> Sha256Hex:
        """The SHA-256 of the signed document: what a person compares when pairing."""
        return sha256_hex(common_pb2.SignedRoot.FromString(self.root_bytes).document)

    def keys_for(self, role: Role) -> TrustedKeys:
        """Return the keys that may sign for a role, and no others."""
        return TrustedKeys(self.document.keys[role])


def build_root(document: RootDocument, signers: Sequence[SigningKey]) -> bytes:
    """Return the serialized SignedRoot of a document with the signatures of `signers`.

    For a rotation, sign with enough keys of the old root and enough of the new one.
    """
    document_bytes = document.canonical_bytes()
    return common_pb2.SignedRoot(
        document=document_bytes,
        signatures=[
            common_pb2.RootSignature(
                key_id=signer.key_id, signature=signer.sign(PayloadType.ROOT, b"", document_bytes)
            )
            for signer in signers
        ],
    ).SerializeToString()


def open_first_root(root_bytes: bytes, *, now_us: int, fingerprint: str | None = None) -> TrustedRoot:
    """Accept a first root, at pairing or when a pool is set up.

    1. A threshold of its own root keys signed it.
    2. It has not expired.
    3. It is the one with this fingerprint, when the caller has one from elsewhere; without one this is
       trust on first use.

    Raises:
        PoolError: ROOT_INVALID, ROOT_THRESHOLD_NOT_MET, ROOT_EXPIRED.
    """
    signed, document = _parse(root_bytes)
    _require_threshold(signed, document)
    _require_not_expired(document, now_us)
    trusted = TrustedRoot(document=document, root_bytes=root_bytes)
    if fingerprint is not None and trusted.fingerprint != fingerprint:
        raise _invalid(f"its fingerprint is {trusted.fingerprint}, expected {fingerprint[:64]}")
    return trusted


def open_root(root_bytes: bytes, trusted: TrustedRoot, *, now_us: int) -> TrustedRoot:
    """Accept a newer root in place of the trusted one. The same root again is returned as trusted.

    1. It belongs to the same pool.
    2. A threshold of the root keys of the trusted root signed it.
    3. A threshold of its own root keys signed it.
    4. Its version is greater, or it is the same document.
    5. It has not expired.

    Raises:
        PoolError: ROOT_INVALID, ROOT_THRESHOLD_NOT_MET, ROOT_ROLLBACK, ROOT_EXPIRED.
    """
    successor = _successor(root_bytes, trusted)
    _require_not_expired(successor.document, now_us)
    return successor


def open_root_chain(chain: Sequence[bytes], trusted: TrustedRoot, *, now_us: int) -> TrustedRoot:
    """Walk from the trusted root over every root since, in order. Only the last one must not have expired.

    Raises:
        PoolError: as `open_root`.
    """
    for root_bytes in chain:
        trusted = _successor(root_bytes, trusted)
    _require_not_expired(trusted.document, now_us)
    return trusted


def _successor(root_bytes: bytes, trusted: TrustedRoot) -> TrustedRoot:
    signed, document = _parse(root_bytes)
    if document.pool_id != trusted.document.pool_id:
        raise _invalid(f"it belongs to pool {document.pool_id!r}, not {trusted.document.pool_id!r}")
    _require_threshold(signed, trusted.document)
    _require_threshold(signed, document)
    if document.canonical_bytes() == trusted.document.canonical_bytes():
        return trusted
    if document.version <= trusted.document.version:
        raise PoolError(
            ErrorCode.ROOT_ROLLBACK,
            f"version {document.version} offered, {trusted.document.version} is trusted",
        )
    return TrustedRoot(document=document, root_bytes=root_bytes)


def _require_threshold(signed: common_pb2.SignedRoot, document: RootDocument) -> None:
    """Count each root key of `document` once, however often its signature is repeated."""
    trusted_keys = TrustedKeys(document.keys[Role.ROOT])
    good: set[KeyId] = set()
    for entry in signed.signatures:
        try:
            good.add(
                trusted_keys.verify(
                    entry.key_id,
                    entry.signature,
                    payload_type=PayloadType.ROOT,
                    header=b"",
                    body=signed.document,
                )
            )
        except PoolError:
            continue  # a signature of another root's key, or a bad one, counts for nothing
    if len(good) < document.root_threshold:
        raise PoolError(
            ErrorCode.ROOT_THRESHOLD_NOT_MET,
            f"{len(good)} valid signatures by the root keys of version {document.version},"
            f" {document.root_threshold} needed",
        )


def _require_not_expired(document: RootDocument, now_us: int) -> None:
    if now_us >= document.expires_at_us:
        raise PoolError(
            ErrorCode.ROOT_EXPIRED, f"version {document.version} expired at {document.expires_at_us} us"
        )


def _parse(root_bytes: bytes) -> tuple[common_pb2.SignedRoot, RootDocument]:
    if len(root_bytes) > limits.ROOT_BYTES_MAX:
        raise _invalid(f"{len(root_bytes)} bytes are too many")
    try:
        signed = common_pb2.SignedRoot.FromString(root_bytes)
        content = json.loads(signed.document)
    except (DecodeError, ValueError, RecursionError) as error:
        raise _invalid(f"it cannot be parsed: {type(error).__name__}") from error
    if len(signed.signatures) > limits.ROOT_KEYS_MAX:
        raise _invalid(f"{len(signed.signatures)} signatures are too many")
    document = _document_of(content)
    if document.canonical_bytes() != signed.document:
        raise _invalid("it is not in canonical form")
    return signed, document


def _document_of(content: Any) -> RootDocument:
    if not isinstance(content, dict) or content.keys() != _FIELDS or content["format"] != _FORMAT:
        raise _invalid("it does not have the fields of format 1")
    try:
        public = {key_id: VerifyingKey.from_hex(text) for key_id, text in content["keys"].items()}
        keys = {role: tuple(public[key_id] for key_id in content["roles"][role.value]) for role in Role}
    except (AttributeError, KeyError, TypeError) as error:
        raise _invalid("keys and roles do not fit together") from error
    numbers = ("expires_at_us", "issued_at_us", "root_threshold", "version")
    if any(type(content[name]) is not int for name in numbers) or not isinstance(content["pool_id"], str):
        raise _invalid("a field has the wrong type")
    return RootDocument(keys=keys, pool_id=content["pool_id"], **{name: content[name] for name in numbers})


def _invalid(reason: str) -> PoolError:
    return PoolError(ErrorCode.ROOT_INVALID, f"not a valid root: {reason}")

"""Ed25519 keys: what they are called, how they are kept, and who is trusted.

A key's id is the first 16 hex digits of the SHA-256 of its 32 raw public bytes: a name to look it up by,
never a proof. Signatures are only ever made and checked over the pre-authentication encoding of a payload
type, a header and a body, so that a signature for one purpose is none for another.

Which keys a pool's members should trust, and since when, is decided by `pool_protocol.roots`; what signed
messages look like by `pool_protocol.envelope`.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pool_protocol.digests import sha256_hex
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ids import KeyId
from pool_protocol.system import IdSource

DOMAIN = b"chargepool/v1"
SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_KEY_ID_DIGITS = 16
_PRIVATE_MODE = 0o600
_PEM_BYTES_MAX = 4096


def signing_input(payload_type: str, header: bytes, body: bytes) -> bytes:
    """Return the exact bytes that are signed: DSSE's encoding, in our domain, with a header beside the body.

    Every part stands behind its length, so no two different triples give the same bytes.
    """
    parts = [DOMAIN]
    for part in (payload_type.encode("utf-8"), header, body):
        parts += [str(len(part)).encode("ascii"), part]
    return b" ".join(parts)


def key_id_of(public_bytes: bytes) -> KeyId:
    """Return the id of the key with these 32 raw public bytes."""
    return KeyId(sha256_hex(public_bytes)[:_KEY_ID_DIGITS])


class VerifyingKey:
    """The public half of a key."""

    __slots__ = ("_key", "key_id", "public_bytes")

    def __init__(self, public_bytes: bytes) -> None:
        """Take 32 raw public bytes.

        Raises:
            PoolError: KEY_INVALID when they are not an Ed25519 public key.
        """
        try:
            self._key = Ed25519PublicKey.from_public_bytes(public_bytes)
        except ValueError as error:
            raise PoolError(ErrorCode.KEY_INVALID, f"not an Ed25519 public key: {error}") from error
        self.public_bytes = public_bytes
        self.key_id = key_id_of(public_bytes)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Read 64 hex digits.

        Raises:
            PoolError: KEY_INVALID when they are not an Ed25519 public key.
        """
        try:
            return cls(bytes.fromhex(text))
        except ValueError as error:
            raise PoolError(ErrorCode.KEY_INVALID, "a public key is 64 hex digits") from error

    def verify(self, signature: bytes, message: bytes) -> bytes:
        """Return the message after checking its signature.

        Raises:
            PoolError: ENVELOPE_SIGNATURE_INVALID otherwise.
        """
        try:
            self._key.verify(signature, message)
        except InvalidSignature as error:
            raise PoolError(
                ErrorCode.ENVELOPE_SIGNATURE_INVALID, f"the signature of key {self.key_id} does not fit"
            ) from error
        return message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyingKey) and other.public_bytes == self.public_bytes

    def __hash__(self) -> int:
        return hash(self.public_bytes)

    def __repr__(self) -> str:
        return f"VerifyingKey({self.key_id})"


class SigningKey:
    """A key pair. Its `repr` tells the id only."""

    __slots__ = ("_key", "verifying_key")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Wrap a private key; `generate`, `from_seed` and `load` are the usual ways."""
        self._key = key
        self.verifying_key = VerifyingKey(
            key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        )

    @classmethod
    def generate(cls, source: IdSource) -> Self:
        """Make a new key from 32 unpredictable bytes of `source`."""
        return cls.from_seed(source.random_bytes(SEED_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Make the key that belongs to a 32-byte seed. Whoever knows the seed has the key.

        Raises:
            PoolError: KEY_INVALID for another length.
        """
        if len(seed) != SEED_BYTES:
            raise PoolError(ErrorCode.KEY_INVALID, f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a PEM file that only its owner may read.

        Raises:
            PoolError: KEY_INVALID when the file is missing, readable by others, or not an Ed25519 private
            key.
        """
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                pem = file.read(_PEM_BYTES_MAX)
        except OSError as error:
            raise PoolError(ErrorCode.KEY_INVALID, f"cannot read {path}: {error.strerror}") from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PoolError(
                ErrorCode.KEY_INVALID, f"{path} is open to others (mode {mode:04o}); it should be 0600"
            )
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise PoolError(ErrorCode.KEY_INVALID, f"{path} is not a private key in PEM: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise PoolError(ErrorCode.KEY_INVALID, f"{path} holds a key that is not Ed25519")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the private key as PEM, mode 0600, on disk before this returns; never over an existing file.

        Raises:
            PoolError: ALREADY_EXISTS when there is a file.
        """
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_MODE)
        except FileExistsError as error:
            raise PoolError(ErrorCode.ALREADY_EXISTS, f"{path} exists; a key is never overwritten") from error
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _PRIVATE_MODE)  # the umask may have taken bits, never added any
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())

    @property
    def key_id(self) -> KeyId:
        """The id of the public half."""
        return self.verifying_key.key_id

    @property
    def public_bytes(self) -> bytes:
        """The 32 raw public bytes."""
        return self.verifying_key.public_bytes

    def sign(self, payload_type: str, header: bytes, body: bytes) -> bytes:
        """Return the 64-byte signature over `signing_input` of the three."""
        return self._key.sign(signing_input(payload_type, header, body))

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"


class TrustedKeys:
    """The keys that may sign for one purpose."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[VerifyingKey]) -> None:
        """Trust exactly these keys."""
        self._keys = {key.key_id: key for key in keys}

    @property
    def key_ids(self) -> frozenset[KeyId]:
        """The ids of the trusted keys."""
        return frozenset(self._keys)

    def verify(
        self, key_id: str, signature: bytes, *, payload_type: str, header: bytes, body: bytes
    ) -> KeyId:
        """Return the id of the trusted key that signed the three parts.

        Raises:
            PoolError: KEY_UNKNOWN when the key is not trusted for this; ENVELOPE_SIGNATURE_INVALID when the
                signature does not fit.
        """
        key = self._keys.get(KeyId(key_id))
        if key is None:
            raise PoolError(
                ErrorCode.KEY_UNKNOWN,
                f"key {key_id[:32]!r} may not sign {payload_type}",
                context={"key_id": key_id[:32]},
            )
        key.verify(signature, signing_input(payload_type, header, body))
        return key.key_id

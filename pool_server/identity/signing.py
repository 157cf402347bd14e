"""What the pool signs while it runs: leases, admissions, batches of receipts. And the draw of audits.

The keys in use can be replaced while the server runs (`PoolKeys.replace`); which keys others trust is in the
root document.
"""

import hashlib
import hmac
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pool_protocol import limits, receipts
from pool_protocol.clock import Clock
from pool_protocol.envelope import ANY_AUDIENCE, EnvelopeHeader, PayloadType, seal_envelope
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey
from pool_protocol.roots import Role, RootDocument, TrustedRoot, build_root
from pool_protocol.system import IdSource
from pool_protocol.v1 import common_pb2
from pool_server.ports.money import ReceiptFields

#: A root must be replaced within this; the overview warns long before.
ROOT_LIFETIME_US = limits.ROOT_LIFETIME_US_MAX
#: As many bits as a float holds exactly.
_UNIFORM_BITS = 53
#: Tells the secret's use for leases from its use for audits.
_LEASE_ORDER = b"chargepool lease order\0"
_U64 = struct.Struct(">Q")
_NONCE_DOMAIN = b"chargepool/v1/certificate-nonce\0"


class Sequence64:
    """Numbers that grow for ever, also across restarts: the wall clock in microseconds, never repeated."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        """Return the next number."""
        with self._lock:
            self._last = max(self._last + 1, self._clock.now_us())
            return self._last


class PoolKeys:
    """The keys that the running server signs with, by role."""

    def __init__(self, *, program: SigningKey, lease: SigningKey, receipt: SigningKey) -> None:
        self._keys = {Role.PROGRAM: program, Role.LEASE: lease, Role.RECEIPT: receipt}

    def key(self, role: Role) -> SigningKey:
        """Return the key that signs for a role now."""
        return self._keys[role]

    def replace(self, role: Role, key: SigningKey) -> None:
        """Sign with another key from now on."""
        self._keys[role] = key


class PoolSigner:
    """Seals what the pool says. Thread-safe."""

    def __init__(self, *, pool_id: str, keys: PoolKeys, id_source: IdSource, clock: Clock) -> None:
        self.pool_id = pool_id
        self._keys = keys
        self._ids = id_source
        self._sequence = Sequence64(clock)

    def lease(self, body: bytes, *, vehicle_id: str, now_us: int, expires_at_us: int) -> common_pb2.Envelope:
        """Sign a serialized LeaseBody for one vehicle."""
        return self._seal(
            body,
            payload_type=PayloadType.LEASE,
            role=Role.LEASE,
            audience=vehicle_id,
            now_us=now_us,
            expires_at_us=expires_at_us,
        )

    def admission(self, body: bytes, *, now_us: int) -> bytes:
        """Sign a serialized ProgramAdmissionBody; return the serialized envelope."""
        return self._seal(
            body,
            payload_type=PayloadType.PROGRAM_ADMISSION,
            role=Role.PROGRAM,
            audience=ANY_AUDIENCE,
            now_us=now_us,
            expires_at_us=0,
        ).SerializeToString()

    def encode(self, fields: ReceiptFields) -> bytes:
        """Serialize one receipt. Implements `ports.money.ReceiptIssuer`."""
        # The same fields in the same order, behind the pool's id: a test holds the two together.
        return receipts.receipt_bytes(receipts.Receipt._make((self.pool_id, *fields)))

    def sign_batch(self, *, batch_id: int, root: bytes, count: int, now_us: int) -> bytes:
        """Sign a batch's Merkle root. Implements `ports.money.ReceiptIssuer`."""
        body = common_pb2.ReceiptBatchBody(batch_id=batch_id, merkle_root=root, leaf_count=count)
        header = EnvelopeHeader(
            issuer=self.pool_id,
            audience=ANY_AUDIENCE,
            nonce=self._ids.nonce(),
            sequence=batch_id,
            issued_at_us=now_us,
            expires_at_us=0,
        )
        return seal_envelope(
            body.SerializeToString(),
            payload_type=PayloadType.RECEIPT_BATCH,
            header=header,
            key=self._keys.key(Role.RECEIPT),
        ).SerializeToString()

    def _seal(
        self,
        body: bytes,
        *,
        payload_type: PayloadType,
        role: Role,
        audience: str,
        now_us: int,
        expires_at_us: int,
    ) -> common_pb2.Envelope:
        header = EnvelopeHeader(
            issuer=self.pool_id,
            audience=audience,
            nonce=self._ids.nonce(),
            sequence=self._sequence.next(),
            issued_at_us=now_us,
            expires_at_us=expires_at_us,
        )
        return seal_envelope(body, payload_type=payload_type, header=header, key=self._keys.key(role))


class SecretDraws:
    """The chance of audits and leases: uniform numbers from a secret and from what was committed before.

    Nobody without the secret can tell beforehand, and the pool cannot draw again until it likes the number.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def uniform(self, *, attempt_id: int, output_digest: bytes) -> float:
        """Return a number in [0, 1) for a recorded result."""
        message = output_digest + struct.pack("<Q", attempt_id)
        digest = hmac.new(self._secret, message, hashlib.sha256).digest()
        return float((int.from_bytes(digest[:8], "big") >> (64 - _UNIFORM_BITS)) / (1 << _UNIFORM_BITS))

    def numbers(self, *, lease_seed: int, job_id: int, count: int) -> list[float]:
        """Return numbers in [0, 1) for what goes into a lease; they follow from the secret and the names."""
        message = _LEASE_ORDER + struct.pack("<QQ", lease_seed, job_id)
        key = hmac.new(self._secret, message, hashlib.sha256).digest()
        stream = hashlib.shake_256(key).digest(8 * count)
        return [
            (value >> (64 - _UNIFORM_BITS)) / (1 << _UNIFORM_BITS) for (value,) in _U64.iter_unpack(stream)
        ]

    def nonce(self, *, attempt_id: int, output_digest: bytes, size_bytes: int) -> bytes:
        """Return the bytes that a certificate checks a committed result with.

        Sending another result under the same attempt draws others; the same result again draws the same.
        """
        message = _NONCE_DOMAIN + output_digest + struct.pack("<Q", attempt_id)
        blocks = -(-size_bytes // hashlib.sha256().digest_size)
        stream = b"".join(
            hmac.new(self._secret, message + struct.pack("<Q", block), hashlib.sha256).digest()
            for block in range(blocks)
        )
        return stream[:size_bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRoot:
    """A root document ready to be published."""

    version: int
    signed_root: bytes


def first_root(
    *,
    pool_id: str,
    root_keys: Sequence[SigningKey],
    keys: PoolKeys,
    now_us: int,
) -> NextRoot:
    """Make version 1, signed by all root keys, with a threshold of one."""
    document = RootDocument(
        pool_id=pool_id,
        version=1,
        issued_at_us=now_us,
        expires_at_us=now_us + ROOT_LIFETIME_US,
        keys={
            Role.ROOT: tuple(key.verifying_key for key in root_keys),
            **{role: (keys.key(role).verifying_key,) for role in (Role.PROGRAM, Role.LEASE, Role.RECEIPT)},
        },
        root_threshold=1,
    )
    return NextRoot(version=1, signed_root=build_root(document, root_keys))


def rotated_root(
    trusted: TrustedRoot, *, role: Role, new_key: SigningKey, root_keys: Sequence[SigningKey], now_us: int
) -> NextRoot:
    """Make the next version with a new key for a role.

    A new lease key replaces the old one, which must sign nothing any more. A new receipt key stands beside
    the old ones: receipts are read for years.

    Raises:
        PoolError: INVALID_ARGUMENT for a role that is not rotated here.
    """
    if role not in {Role.LEASE, Role.RECEIPT}:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"only lease and receipt keys are rotated online, not {role.value}",
            context={"field": "role"},
        )
    before = trusted.document
    kept = before.keys[Role.RECEIPT] if role is Role.RECEIPT else ()
    document = RootDocument(
        pool_id=before.pool_id,
        version=before.version + 1,
        issued_at_us=now_us,
        expires_at_us=now_us + ROOT_LIFETIME_US,
        keys={**before.keys, role: (*kept, new_key.verifying_key)},
        root_threshold=before.root_threshold,
    )
    return NextRoot(version=document.version, signed_root=build_root(document, root_keys))

"""Signed messages: one Ed25519 signature over the exact bytes of a header and a body.

The header binds a body to who may act on it, to a nonce, to a place in a sequence and to a span of time;
the payload type binds it to what it is. Bytes are checked as they were sent and only then parsed; nothing
is ever serialized again to be checked, since protobuf has no canonical form.

Which keys are trusted is the caller's decision (`pool_protocol.roots`), and so is what the body says.
"""

import heapq
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from google.protobuf.message import DecodeError

from pool_protocol import limits
from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.ids import KeyId
from pool_protocol.keys import SIGNATURE_BYTES, SigningKey, TrustedKeys
from pool_protocol.v1 import common_pb2

#: The audience of public statements that anyone may check: admissions, batches of receipts, tree heads.
ANY_AUDIENCE = "any"
#: Sequence numbers are kept in databases whose integers have a sign.
SEQUENCE_MAX = 2**63 - 1


class PayloadType(StrEnum):
    """What a signed body is. One name, one message, for ever; a changed message gets a new name."""

    LEASE = "chargepool/lease/v1"
    RESULTS = "chargepool/results/v1"
    PROGRAM_ADMISSION = "chargepool/program-admission/v1"
    RECEIPT_BATCH = "chargepool/receipt-batch/v1"
    ROOT = "chargepool/root/v1"
    TREE_HEAD = "chargepool/tree-head/v1"
    SOLVENCY = "chargepool/solvency/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeHeader:
    """What an envelope binds besides its body."""

    issuer: str
    """Who signed: a pool's id or a vehicle's."""
    audience: str
    """Who may act on it, or `ANY_AUDIENCE`."""
    nonce: bytes
    """16 random bytes, never repeated by one key."""
    sequence: int
    """Grows with each envelope of this issuer to this audience; whoever needs order compares it."""
    issued_at_us: int
    """Microseconds since the epoch, UTC."""
    expires_at_us: int
    """Microseconds since the epoch, UTC; 0 for a statement that does not expire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedEnvelope:
    """A header and body that passed every step of `open_envelope`, which alone makes one."""

    payload_type: str
    header: EnvelopeHeader
    body: bytes
    key_id: KeyId


class ReplayGuard(Protocol):
    """Remembers which nonces were seen while they could still be used."""

    def remember(self, key_id: KeyId, nonce: bytes, *, expires_at_us: int, now_us: int) -> None:
        """Take note of a nonce.

        Raises:
            PoolError: ENVELOPE_REPLAYED when it was seen; RATE_LIMITED when no more can be remembered.
        """
        ...


class InMemoryReplayGuard:
    """Nonces of one process, kept until their envelopes expire. When full it refuses; it forgets none."""

    def __init__(self, *, nonces_max: int = limits.REPLAY_NONCES_MAX) -> None:
        """Remember at most `nonces_max` nonces at a time."""
        self._nonces_max = nonces_max
        self._seen: set[tuple[KeyId, bytes]] = set()
        self._by_expiry: list[tuple[int, tuple[KeyId, bytes]]] = []

    def remember(self, key_id: KeyId, nonce: bytes, *, expires_at_us: int, now_us: int) -> None:
        """Take note of a nonce; see `ReplayGuard`."""
        while self._by_expiry and self._by_expiry[0][0] <= now_us:
            self._seen.discard(heapq.heappop(self._by_expiry)[1])
        if (key_id, nonce) in self._seen:
            raise PoolError(
                ErrorCode.ENVELOPE_REPLAYED, f"nonce {nonce.hex()} of key {key_id} was seen before"
            )
        if len(self._seen) >= self._nonces_max:
            wait_ms = max(1, (self._by_expiry[0][0] - now_us) // 1_000)
            raise PoolError(ErrorCode.RATE_LIMITED, "the replay guard is full", retry_after_ms=wait_ms)
        self._seen.add((key_id, nonce))
        heapq.heappush(self._by_expiry, (expires_at_us, (key_id, nonce)))


def seal_envelope(
    body: bytes, *, payload_type: PayloadType, header: EnvelopeHeader, key: SigningKey
) -> common_pb2.Envelope:
    """Sign serialized bytes. The envelope holds them as they were given.

    Raises:
        PoolError: INVALID_ARGUMENT when header or body break a limit that `open_envelope` would refuse.
    """
    if not limits.ENVELOPE_NONCE_BYTES_MIN <= len(header.nonce) <= limits.ENVELOPE_NONCE_BYTES_MAX:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"a nonce of {len(header.nonce)} bytes")
    if header.expires_at_us != 0 and not header.issued_at_us < header.expires_at_us:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "an envelope must not expire before it is issued")
    if header.expires_at_us - header.issued_at_us > limits.ENVELOPE_LIFETIME_US_MAX:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "an envelope may live seven days at most")
    if not 0 <= header.sequence <= SEQUENCE_MAX:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"sequence {header.sequence} is out of bounds")
    header_bytes = common_pb2.EnvelopeHeader(
        issuer=header.issuer,
        audience=header.audience,
        nonce=header.nonce,
        sequence=header.sequence,
        issued_at_us=header.issued_at_us,
        expires_at_us=header.expires_at_us,
    ).SerializeToString()
    if len(header_bytes) > limits.ENVELOPE_HEADER_BYTES_MAX or len(body) > limits.ENVELOPE_BYTES_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"header or body too long: {len(header_bytes)}, {len(body)}"
        )
    return common_pb2.Envelope(
        payload_type=payload_type,
        header=header_bytes,
        body=body,
        key_id=key.key_id,
        signature=key.sign(payload_type, header_bytes, body),
    )


def open_envelope(
    envelope: common_pb2.Envelope,
    *,
    payload_type: PayloadType,
    audience: str,
    keys: TrustedKeys,
    now_us: int,
    issuer: str | None = None,
    replay: ReplayGuard | None = None,
    may_be_eternal: bool = False,
) -> VerifiedEnvelope:
    """Check a signed message and return what it says.

    1. Sizes are within limits.
    2. The payload type is the one expected.
    3. The key is among those trusted for this.
    4. The signature fits payload type, header and body, byte by byte.
    5. Only now the header is parsed; what was unsigned is not used.
    6. Audience (and issuer, when the caller names one) are exactly those expected.
    7. It is valid now: issued not later than now plus the allowed skew, not expired, not longer-lived
       than allowed.
    8. Its nonce was not seen before. Last, so that a message refused for another reason burns no nonce.

    Args:
        envelope: The message as received.
        payload_type: What the body must be.
        audience: Our own id, or `ANY_AUDIENCE` for public statements.
        keys: The keys that may sign this, for this purpose.
        now_us: Wall time in microseconds since the epoch, UTC.
        issuer: Who must have signed, when one knows.
        replay: Where nonces are remembered; None when the body is idempotent or opened once.
        may_be_eternal: Accept `expires_at_us == 0`, and then no replay guard: receipts are read for years.

    Raises:
        PoolError: ENVELOPE_MALFORMED, ENVELOPE_WRONG_TYPE, KEY_UNKNOWN, ENVELOPE_SIGNATURE_INVALID,
            ENVELOPE_WRONG_AUDIENCE, ENVELOPE_NOT_YET_VALID, ENVELOPE_EXPIRED, ENVELOPE_REPLAYED, in the
            order of the steps; RATE_LIMITED when the replay guard is full.
    """
    if may_be_eternal and replay is not None:
        raise InvariantError("a statement that does not expire cannot be guarded against replay")
    # 1
    if (
        len(envelope.header) > limits.ENVELOPE_HEADER_BYTES_MAX
        or len(envelope.body) > limits.ENVELOPE_BYTES_MAX
        or len(envelope.payload_type) > limits.ENVELOPE_PAYLOAD_TYPE_BYTES_MAX
        or len(envelope.signature) != SIGNATURE_BYTES
    ):
        raise PoolError(ErrorCode.ENVELOPE_MALFORMED, "a part of the envelope has a length out of bounds")
    # 2
    if envelope.payload_type != payload_type:
        raise PoolError(
            ErrorCode.ENVELOPE_WRONG_TYPE, f"expected {payload_type.value}, got {envelope.payload_type!r}"
        )
    # 3, 4
    key_id = keys.verify(
        envelope.key_id,
        envelope.signature,
        payload_type=payload_type,
        header=envelope.header,
        body=envelope.body,
    )
    # 5
    header = _parse_header(envelope.header)
    # 6
    if header.audience != audience:
        raise PoolError(
            ErrorCode.ENVELOPE_WRONG_AUDIENCE, f"meant for {header.audience!r}, we are {audience!r}"
        )
    if issuer is not None and header.issuer != issuer:
        raise PoolError(
            ErrorCode.ENVELOPE_WRONG_AUDIENCE, f"issued by {header.issuer!r}, expected {issuer!r}"
        )
    # 7
    _check_time(header, now_us=now_us, may_be_eternal=may_be_eternal)
    # 8
    if replay is not None:
        replay.remember(key_id, header.nonce, expires_at_us=header.expires_at_us, now_us=now_us)
    return VerifiedEnvelope(payload_type=payload_type, header=header, body=envelope.body, key_id=key_id)


def _parse_header(header_bytes: bytes) -> EnvelopeHeader:
    try:
        message = common_pb2.EnvelopeHeader.FromString(header_bytes)
    except DecodeError as error:
        raise PoolError(ErrorCode.ENVELOPE_MALFORMED, "the header cannot be parsed") from error
    if not limits.ENVELOPE_NONCE_BYTES_MIN <= len(message.nonce) <= limits.ENVELOPE_NONCE_BYTES_MAX:
        raise PoolError(ErrorCode.ENVELOPE_MALFORMED, f"a nonce of {len(message.nonce)} bytes")
    if message.sequence > SEQUENCE_MAX:
        raise PoolError(ErrorCode.ENVELOPE_MALFORMED, f"sequence {message.sequence} is out of bounds")
    return EnvelopeHeader(
        issuer=message.issuer,
        audience=message.audience,
        nonce=message.nonce,
        sequence=message.sequence,
        issued_at_us=message.issued_at_us,
        expires_at_us=message.expires_at_us,
    )


def _check_time(header: EnvelopeHeader, *, now_us: int, may_be_eternal: bool) -> None:
    if header.issued_at_us > now_us + limits.CLOCK_SKEW_US_MAX:
        ahead_us = header.issued_at_us - now_us
        raise PoolError(
            ErrorCode.ENVELOPE_NOT_YET_VALID,
            f"issued {ahead_us} us in the future",
            context={"ahead_us": str(ahead_us)},
        )
    if header.expires_at_us == 0 and may_be_eternal:
        return
    if header.expires_at_us <= now_us:
        raise PoolError(ErrorCode.ENVELOPE_EXPIRED, f"expired {now_us - header.expires_at_us} us ago")
    if header.expires_at_us - header.issued_at_us > limits.ENVELOPE_LIFETIME_US_MAX:
        raise PoolError(ErrorCode.ENVELOPE_MALFORMED, "it claims a longer life than envelopes may have")

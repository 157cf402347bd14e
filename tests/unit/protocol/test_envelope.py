"""Envelopes: an honest one opens; each attack has its name and its refusal."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol import limits
from pool_protocol.envelope import (
    ANY_AUDIENCE,
    EnvelopeHeader,
    InMemoryReplayGuard,
    PayloadType,
    VerifiedEnvelope,
    open_envelope,
    seal_envelope,
)
from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.keys import SigningKey, TrustedKeys, signing_input
from pool_protocol.v1 import common_pb2
from tests.support.clock import START_US

KEY = SigningKey.from_seed(bytes(range(32)))
OTHER_KEY = SigningKey.from_seed(bytes(32))
TRUSTED = TrustedKeys([KEY.verifying_key])
ME = "vehicle_me"
HEADER = EnvelopeHeader(
    issuer="pool",
    audience=ME,
    nonce=b"n" * 16,
    sequence=3,
    issued_at_us=START_US,
    expires_at_us=START_US + 60_000_000,
)


def sealed(
    body: bytes = b"body", header: EnvelopeHeader = HEADER, key: SigningKey = KEY
) -> common_pb2.Envelope:
    return seal_envelope(body, payload_type=PayloadType.LEASE, header=header, key=key)


def opened(
    envelope: common_pb2.Envelope,
    *,
    now_us: int = START_US,
    audience: str = ME,
    replay: InMemoryReplayGuard | None = None,
    issuer: str | None = None,
    may_be_eternal: bool = False,
) -> VerifiedEnvelope:
    return open_envelope(
        envelope,
        payload_type=PayloadType.LEASE,
        audience=audience,
        keys=TRUSTED,
        now_us=now_us,
        replay=replay,
        issuer=issuer,
        may_be_eternal=may_be_eternal,
    )


def refusal(
    envelope: common_pb2.Envelope,
    *,
    now_us: int = START_US,
    audience: str = ME,
    replay: InMemoryReplayGuard | None = None,
    issuer: str | None = None,
) -> ErrorCode:
    with pytest.raises(PoolError) as raised:
        opened(envelope, now_us=now_us, audience=audience, replay=replay, issuer=issuer)
    return raised.value.code


def test_an_honest_envelope_opens_and_says_what_was_sealed() -> None:
    verified = opened(sealed(), issuer="pool")
    assert verified == VerifiedEnvelope(
        payload_type=PayloadType.LEASE, header=HEADER, body=b"body", key_id=KEY.key_id
    )


def test_it_survives_the_wire() -> None:
    again = common_pb2.Envelope.FromString(sealed().SerializeToString())
    assert opened(again).body == b"body"


@given(st.integers(min_value=0), st.integers(0, 7))
def test_attack_tampered_any_bit_of_header_body_or_signature(position: int, bit: int) -> None:
    honest = sealed(b"pay 5")
    whole = honest.header + honest.body + honest.signature
    place = position % len(whole)
    flipped = bytearray(whole)
    flipped[place] ^= 1 << bit
    header_end, body_end = len(honest.header), len(honest.header) + len(honest.body)
    forged = common_pb2.Envelope(
        payload_type=honest.payload_type,
        header=bytes(flipped[:header_end]),
        body=bytes(flipped[header_end:body_end]),
        key_id=honest.key_id,
        signature=bytes(flipped[body_end:]),
    )
    assert refusal(forged) is ErrorCode.ENVELOPE_SIGNATURE_INVALID


def test_attack_bytes_moved_between_header_and_body() -> None:
    honest = sealed()
    forged = common_pb2.Envelope()
    forged.CopyFrom(honest)
    forged.header, forged.body = honest.header + honest.body[:1], honest.body[1:]
    assert refusal(forged) is ErrorCode.ENVELOPE_SIGNATURE_INVALID


def test_attack_replayed() -> None:
    guard = InMemoryReplayGuard()
    envelope = sealed()
    opened(envelope, replay=guard)
    assert refusal(envelope, replay=guard) is ErrorCode.ENVELOPE_REPLAYED
    other = replace(HEADER, nonce=b"m" * 16)
    assert opened(sealed(header=other), replay=guard).header.nonce == b"m" * 16


def test_a_refused_envelope_burns_no_nonce() -> None:
    guard = InMemoryReplayGuard()
    assert refusal(sealed(), audience="vehicle_other", replay=guard) is ErrorCode.ENVELOPE_WRONG_AUDIENCE
    assert opened(sealed(), replay=guard).header == HEADER


def test_a_full_replay_guard_refuses_until_nonces_expire() -> None:
    guard = InMemoryReplayGuard(nonces_max=1)
    opened(sealed(), replay=guard)
    second = sealed(header=replace(HEADER, nonce=b"m" * 16, expires_at_us=START_US + 120_000_000))
    with pytest.raises(PoolError) as raised:
        opened(second, replay=guard)
    assert raised.value.code is ErrorCode.RATE_LIMITED
    assert raised.value.retry_after_ms == 60_000
    assert opened(second, replay=guard, now_us=START_US + 60_000_000).body == b"body"


def test_attack_expired() -> None:
    assert opened(sealed(), now_us=HEADER.expires_at_us - 1).header == HEADER
    assert refusal(sealed(), now_us=HEADER.expires_at_us) is ErrorCode.ENVELOPE_EXPIRED


def test_attack_from_the_future() -> None:
    assert opened(sealed(), now_us=START_US - limits.CLOCK_SKEW_US_MAX).header == HEADER
    assert (
        refusal(sealed(), now_us=START_US - limits.CLOCK_SKEW_US_MAX - 1) is ErrorCode.ENVELOPE_NOT_YET_VALID
    )


def test_attack_for_another_vehicle() -> None:
    assert refusal(sealed(), audience="vehicle_other") is ErrorCode.ENVELOPE_WRONG_AUDIENCE
    public = sealed(header=replace(HEADER, audience=ANY_AUDIENCE))
    assert refusal(public) is ErrorCode.ENVELOPE_WRONG_AUDIENCE


def test_attack_from_another_pool() -> None:
    assert refusal(sealed(), issuer="other pool") is ErrorCode.ENVELOPE_WRONG_AUDIENCE


def test_attack_another_kind_of_message() -> None:
    results = seal_envelope(b"body", payload_type=PayloadType.RESULTS, header=HEADER, key=KEY)
    assert refusal(results) is ErrorCode.ENVELOPE_WRONG_TYPE
    results.payload_type = PayloadType.LEASE  # relabelled, the signature no longer fits
    assert refusal(results) is ErrorCode.ENVELOPE_SIGNATURE_INVALID


def test_attack_a_key_that_is_not_in_the_role() -> None:
    assert refusal(sealed(key=OTHER_KEY)) is ErrorCode.KEY_UNKNOWN
    forged = sealed(key=OTHER_KEY)
    forged.key_id = KEY.key_id
    assert refusal(forged) is ErrorCode.ENVELOPE_SIGNATURE_INVALID


def test_attack_a_statement_without_expiry_where_none_is_expected() -> None:
    eternal = sealed(header=replace(HEADER, expires_at_us=0))
    assert refusal(eternal) is ErrorCode.ENVELOPE_EXPIRED
    assert opened(eternal, may_be_eternal=True, now_us=START_US * 2).header.expires_at_us == 0
    with pytest.raises(InvariantError):
        opened(eternal, may_be_eternal=True, replay=InMemoryReplayGuard())


def _signed_raw(header: bytes) -> common_pb2.Envelope:
    return common_pb2.Envelope(
        payload_type=PayloadType.LEASE,
        header=header,
        body=b"body",
        key_id=KEY.key_id,
        signature=KEY.sign(PayloadType.LEASE, header, b"body"),
    )


def test_a_trusted_signer_is_still_held_to_the_format() -> None:
    short_nonce = common_pb2.EnvelopeHeader(
        audience=ME, nonce=b"short", issued_at_us=START_US, expires_at_us=START_US + 1
    )
    too_long = common_pb2.EnvelopeHeader(
        audience=ME,
        nonce=b"n" * 16,
        issued_at_us=START_US,
        expires_at_us=START_US + limits.ENVELOPE_LIFETIME_US_MAX + 1,
    )
    for header in (b"\xff", short_nonce.SerializeToString(), too_long.SerializeToString(), b"x" * 2000):
        assert refusal(_signed_raw(header)) is ErrorCode.ENVELOPE_MALFORMED
    cut = sealed()
    cut.signature = cut.signature[:-1]
    assert refusal(cut) is ErrorCode.ENVELOPE_MALFORMED


@pytest.mark.parametrize(
    "header",
    [
        replace(HEADER, nonce=b"short"),
        replace(HEADER, expires_at_us=HEADER.issued_at_us),
        replace(HEADER, expires_at_us=HEADER.issued_at_us + limits.ENVELOPE_LIFETIME_US_MAX + 1),
        replace(HEADER, issuer="x" * 2000),
    ],
)
def test_sealing_refuses_what_opening_would(header: EnvelopeHeader) -> None:
    with pytest.raises(PoolError) as raised:
        sealed(header=header)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


_TRIPLE = st.tuples(st.text(max_size=6), st.binary(max_size=12), st.binary(max_size=12))


@given(_TRIPLE, _TRIPLE)
def test_two_different_messages_never_have_the_same_signed_bytes(
    a: tuple[str, bytes, bytes], b: tuple[str, bytes, bytes]
) -> None:
    assert (signing_input(*a) == signing_input(*b)) is (a == b)

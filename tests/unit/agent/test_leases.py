"""Hostile leases and programs: each is refused with its code before anything of it is used."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from car_agent.session.leases import VerifiedLease, check_fits, verify_lease, verify_program
from pool_protocol import digests, limits
from pool_protocol.envelope import ANY_AUDIENCE, EnvelopeHeader, PayloadType, seal_envelope
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey
from pool_protocol.program.manifest import (
    Argument,
    CustomCalls,
    Group,
    Output,
    ProgramCost,
    ProgramDraft,
    ProgramKind,
    ProgramManifest,
    TensorType,
)
from pool_protocol.roots import Role, RootDocument, TrustedRoot, build_root, open_first_root
from pool_protocol.v1 import common_pb2, fleet_service_pb2
from tests.support.ids import SeededIds

IDS = SeededIds(11)
POOL = "pool-1"
US, OTHER = IDS.new_vehicle_id(), IDS.new_vehicle_id()
NOW_US = 1_800_000_000_000_000
EXPIRES_US = NOW_US + 60_000_000
ROOT_KEY, PROGRAM_KEY, LEASE_KEY, RECEIPT_KEY = (SigningKey.generate(IDS) for _ in range(4))
STRANGER = SigningKey.generate(IDS)
ARTIFACT = b"stablehlo bytes"
PROGRAM = digests.sha256_hex(ARTIFACT)


def trusted_root(**changes: Any) -> TrustedRoot:
    values: dict[str, Any] = {
        "pool_id": POOL,
        "version": 1,
        "issued_at_us": NOW_US - 1_000_000,
        "expires_at_us": NOW_US + 86_400_000_000,
        "keys": {
            Role.ROOT: (ROOT_KEY.verifying_key,),
            Role.PROGRAM: (PROGRAM_KEY.verifying_key,),
            Role.LEASE: (LEASE_KEY.verifying_key,),
            Role.RECEIPT: (RECEIPT_KEY.verifying_key,),
        },
        "root_threshold": 1,
    }
    document = RootDocument(**(values | changes))
    return open_first_root(build_root(document, [ROOT_KEY]), now_us=document.issued_at_us)


def inline(content: bytes = b"tensors") -> common_pb2.TensorBundle:
    return common_pb2.TensorBundle(inline=content, size_bytes=len(content))


def body(**changes: Any) -> fleet_service_pb2.LeaseBody:
    values: dict[str, Any] = {
        "lease_id": "lease_7",
        "vehicle_id": US,
        "program_sha256": PROGRAM,
        "price_micros_per_wu": 100,
        "attempts": [fleet_service_pb2.AttemptSpec(attempt_id=n, inputs=inline()) for n in (1, 2)],
        "expires_at_us": EXPIRES_US,
    }
    return fleet_service_pb2.LeaseBody(**(values | changes))


@dataclass(frozen=True)
class Signed:
    """How a lease is signed."""

    payload_type: PayloadType = PayloadType.LEASE
    key: SigningKey = LEASE_KEY
    issuer: str = POOL
    audience: str = US
    issued_at_us: int = NOW_US
    expires_at_us: int = EXPIRES_US

    def envelope(self, content: bytes) -> common_pb2.Envelope:
        header = EnvelopeHeader(
            issuer=self.issuer,
            audience=self.audience,
            nonce=b"n" * 16,
            sequence=9,
            issued_at_us=self.issued_at_us,
            expires_at_us=self.expires_at_us,
        )
        return seal_envelope(content, payload_type=self.payload_type, header=header, key=self.key)


def verified(
    envelope: common_pb2.Envelope, root: TrustedRoot | None = None, *, reserve: int = 0
) -> VerifiedLease:
    return verify_lease(
        envelope,
        root=root or trusted_root(),
        vehicle_id=US,
        reserve_price_micros_per_wu=reserve,
        now_us=NOW_US,
    )


def test_a_good_lease_is_believed() -> None:
    lease = verified(Signed().envelope(body().SerializeToString()), reserve=100)
    assert (lease.lease_id, lease.program_sha256, lease.sequence) == ("lease_7", PROGRAM, 9)
    assert [attempt.attempt_id for attempt in lease.attempts] == [1, 2]
    assert lease.constants is None


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        (Signed(key=STRANGER), ErrorCode.KEY_UNKNOWN),
        (Signed(key=PROGRAM_KEY), ErrorCode.KEY_UNKNOWN),
        (Signed(audience=OTHER), ErrorCode.ENVELOPE_WRONG_AUDIENCE),
        (Signed(audience=ANY_AUDIENCE), ErrorCode.ENVELOPE_WRONG_AUDIENCE),
        (Signed(issuer="pool-2"), ErrorCode.ENVELOPE_WRONG_AUDIENCE),
        (Signed(payload_type=PayloadType.RESULTS), ErrorCode.ENVELOPE_WRONG_TYPE),
        (Signed(issued_at_us=NOW_US - 9, expires_at_us=NOW_US), ErrorCode.ENVELOPE_EXPIRED),
        (
            Signed(issued_at_us=NOW_US + limits.CLOCK_SKEW_US_MAX + 1, expires_at_us=EXPIRES_US + 1),
            ErrorCode.ENVELOPE_NOT_YET_VALID,
        ),
    ],
)
def test_a_lease_signed_in_the_wrong_way_is_refused(signed: Signed, code: ErrorCode) -> None:
    with pytest.raises(PoolError) as refused:
        verified(signed.envelope(body().SerializeToString()))
    assert refused.value.code is code


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("part", ["header", "body", "signature"])
def test_a_tampered_lease_is_refused(part: str) -> None:
    envelope = Signed().envelope(body().SerializeToString())
    setattr(envelope, part, flip(getattr(envelope, part)))
    with pytest.raises(PoolError) as refused:
        verified(envelope)
    assert refused.value.code is ErrorCode.ENVELOPE_SIGNATURE_INVALID


def test_an_expired_root_signs_nothing_any_more() -> None:
    old = trusted_root(issued_at_us=NOW_US - 2_000_000, expires_at_us=NOW_US)
    with pytest.raises(PoolError) as refused:
        verified(Signed().envelope(body().SerializeToString()), old)
    assert refused.value.code is ErrorCode.ROOT_EXPIRED


def attempt(**changes: Any) -> list[fleet_service_pb2.AttemptSpec]:
    values: dict[str, Any] = {"attempt_id": 1, "inputs": inline()}
    return [fleet_service_pb2.AttemptSpec(**(values | changes))]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"vehicle_id": OTHER}, ErrorCode.LEASE_NOT_YOURS),
        ({"expires_at_us": EXPIRES_US + 1}, ErrorCode.INVALID_ARGUMENT),
        ({"lease_id": "7"}, ErrorCode.INVALID_ARGUMENT),
        ({"program_sha256": "../../etc/passwd"}, ErrorCode.INVALID_ARGUMENT),
        ({"attempts": []}, ErrorCode.INVALID_ARGUMENT),
        ({"attempts": attempt() * 2}, ErrorCode.INVALID_ARGUMENT),
        ({"attempts": attempt(attempt_id=0)}, ErrorCode.INVALID_ARGUMENT),
        ({"attempts": attempt(attempt_id=2**63)}, ErrorCode.INVALID_ARGUMENT),
        ({"attempts": attempt(steps=5)}, ErrorCode.INVALID_ARGUMENT),
        ({"attempts": attempt(steps=0, unit_steps=5)}, ErrorCode.INVALID_ARGUMENT),
        ({"attempts": attempt(steps=2**40, unit_steps=1)}, ErrorCode.INVALID_ARGUMENT),
        ({"attempts": attempt(inputs=inline(b"x" * 70_000))}, ErrorCode.INVALID_ARGUMENT),
        (
            {"constants": common_pb2.TensorBundle(blob_sha256="../key", size_bytes=1)},
            ErrorCode.INVALID_ARGUMENT,
        ),
        (
            {"constants": common_pb2.TensorBundle(blob_sha256="a" * 64, size_bytes=2**40)},
            ErrorCode.INVALID_ARGUMENT,
        ),
        ({"price_micros_per_wu": 99}, ErrorCode.INVALID_ARGUMENT),
    ],
)
def test_a_signed_lease_that_makes_no_sense_is_refused(changes: dict[str, Any], code: ErrorCode) -> None:
    with pytest.raises(PoolError) as refused:
        verified(Signed().envelope(body(**changes).SerializeToString()), reserve=100)
    assert refused.value.code is code


def test_a_body_that_is_no_message_is_refused() -> None:
    with pytest.raises(PoolError) as refused:
        verified(Signed().envelope(b"\xff\xff\xff"))
    assert refused.value.code is ErrorCode.ENVELOPE_MALFORMED


# --- programs -----------------------------------------------------------------------------------


def manifest(
    artifact: bytes = ARTIFACT, kind: ProgramKind = ProgramKind.MAP, shape: tuple[int, ...] = (4,)
) -> ProgramManifest:
    vector = TensorType(name="value", dtype="float32", shape=shape)
    count = Argument(group=Group.STEP_COUNT, tensor=TensorType(name="k", dtype="int32", shape=()))
    arguments: dict[ProgramKind, tuple[Argument, ...]] = {
        ProgramKind.MAP: (Argument(group=Group.INPUTS, tensor=vector),),
        ProgramKind.STEP: (count, Argument(group=Group.STATE, tensor=vector)),
    }
    trees: dict[ProgramKind, dict[Group, Any]] = {
        ProgramKind.MAP: {Group.CONSTANTS: None, Group.INPUTS: "*"},
        ProgramKind.STEP: {Group.STATE: "*", Group.INPUTS: None, Group.CONSTANTS: None},
    }
    draft = ProgramDraft(
        kind=kind,
        artifact_sha256=digests.sha256_hex(artifact),
        jax_version="0.10.2",
        calling_convention=10,
        platforms=("cpu",),
        x64=False,
        custom_calls=CustomCalls.NONE,
        arguments=arguments[kind],
        outputs=(Output(tensor=vector),),
        argument_trees=trees[kind],
        output_tree="*",
        unit_steps=10 if kind is ProgramKind.STEP else 0,
    )
    cost = ProgramCost(
        operations={"add": 1},
        flops=4,
        bytes_moved=32,
        work_uwu=1,
        peak_bytes=48,
        temporary_bytes=0,
        cost_model=1,
    )
    return ProgramManifest(draft=draft, cost=cost)


def admission(
    *,
    key: SigningKey = PROGRAM_KEY,
    named: str = PROGRAM,
    content: bytes | None = None,
    audience: str = ANY_AUDIENCE,
) -> common_pb2.Envelope:
    text = manifest().to_json() if content is None else content
    statement = common_pb2.ProgramAdmissionBody(artifact_sha256=named, manifest=text)
    signed = Signed(payload_type=PayloadType.PROGRAM_ADMISSION, key=key, audience=audience, expires_at_us=0)
    return signed.envelope(statement.SerializeToString())


def verified_program(envelope: common_pb2.Envelope, artifact: bytes = ARTIFACT) -> ProgramManifest:
    return verify_program(
        artifact, envelope, program_sha256=PROGRAM, root=trusted_root(), now_us=NOW_US + 999_000_000
    )


def test_an_admitted_program_is_believed_for_years() -> None:
    assert verified_program(admission()) == manifest()


Refusal = tuple[Callable[[], ProgramManifest], ErrorCode]


@pytest.mark.parametrize(
    "refusal",
    [
        # A stolen lease key cannot admit programs.
        (lambda: verified_program(admission(key=LEASE_KEY)), ErrorCode.KEY_UNKNOWN),
        (lambda: verified_program(admission(key=STRANGER)), ErrorCode.KEY_UNKNOWN),
        (lambda: verified_program(admission(), b"other bytes"), ErrorCode.PROGRAM_DIGEST_MISMATCH),
        (lambda: verified_program(admission(named="0" * 64)), ErrorCode.PROGRAM_NOT_ADMITTED),
        (
            lambda: verified_program(admission(content=manifest(b"other").to_json())),
            ErrorCode.PROGRAM_NOT_ADMITTED,
        ),
        (lambda: verified_program(admission(content=b"{}")), ErrorCode.PROGRAM_MANIFEST_INVALID),
        (lambda: verified_program(admission(audience=US)), ErrorCode.ENVELOPE_WRONG_AUDIENCE),
        (lambda: verified_program(common_pb2.Envelope()), ErrorCode.ENVELOPE_MALFORMED),
    ],
)
def test_a_program_that_was_not_admitted_is_refused(refusal: Refusal) -> None:
    attempt_it, code = refusal
    with pytest.raises(PoolError) as refused:
        attempt_it()
    assert refused.value.code is code


def test_attempts_must_fit_the_kind_of_program() -> None:
    lease = verified(Signed().envelope(body().SerializeToString()))
    check_fits(lease, manifest())
    with pytest.raises(PoolError):
        check_fits(lease, manifest(kind=ProgramKind.STEP))
    stepping = replace(lease, attempts=tuple(replace(a, steps=20, unit_steps=10) for a in lease.attempts))
    check_fits(stepping, manifest(kind=ProgramKind.STEP))
    with pytest.raises(PoolError):
        check_fits(stepping, manifest())

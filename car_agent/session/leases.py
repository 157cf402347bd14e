"""Which leases and programs the car believes. Two keys must agree: the lease key and the program key.

Nothing here does I/O. A lease is checked in this order, and the first failure is the answer:

1. The envelope: type, a lease key of the trusted root, signature, the pool as issuer, this vehicle as
   audience, issued and not expired.
2. The root itself has not expired.
3. The body: it parses, names this vehicle and the header's expiry, and has a lease id, a program id and
   between one attempt and the limit, each once, within the limits of steps and units.
4. The price is not below the owner's reserve.
5. (In the journal) its sequence number is higher than any seen before.

A program is checked when it is fetched and each time it is read from the cache: the program key's signature
over its admission, then the artifact's digest, then the manifest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from pool_protocol import digests, ids, limits
from pool_protocol.envelope import ANY_AUDIENCE, PayloadType, open_envelope
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.manifest import ProgramKind, ProgramManifest, parse_manifest
from pool_protocol.roots import Role, TrustedRoot
from pool_protocol.v1 import common_pb2, fleet_service_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRef:
    """Where tensors are: inline bytes, or a blob's digest."""

    inline: bytes
    blob_sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedAttempt:
    """One attempt of a verified lease."""

    attempt_id: int
    inputs: BundleRef
    steps: int
    unit_steps: int
    work_uwu: int
    """Metered work, as the lease says it; never negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLease:
    """A lease that passed every check of `verify_lease`, now or before it was journalled."""

    lease_id: str
    program_sha256: str
    constants: BundleRef | None
    attempts: Sequence[LeasedAttempt]
    expires_at_us: int
    sequence: int
    envelope_bytes: bytes
    price_micros_per_wu: int = 0


def verify_lease(
    envelope: common_pb2.Envelope,
    *,
    root: TrustedRoot,
    vehicle_id: str,
    reserve_price_micros_per_wu: int,
    now_us: int,
) -> VerifiedLease:
    """Return what a lease says after checking it; see the plan at the top of this module.

    Raises:
        PoolError: the ENVELOPE_ codes, KEY_UNKNOWN, ROOT_EXPIRED, LEASE_NOT_YOURS, INVALID_ARGUMENT.
    """
    # 1
    opened = open_envelope(
        envelope,
        payload_type=PayloadType.LEASE,
        audience=vehicle_id,
        issuer=root.document.pool_id,
        keys=root.keys_for(Role.LEASE),
        now_us=now_us,
    )
    # 2
    require_root_valid(root, now_us)
    # 3
    try:
        body = fleet_service_pb2.LeaseBody.FromString(opened.body)
    except DecodeError as error:
        raise PoolError(ErrorCode.ENVELOPE_MALFORMED, "the lease's body cannot be parsed") from error
    if body.vehicle_id != vehicle_id:
        raise PoolError(ErrorCode.LEASE_NOT_YOURS, f"the lease names {body.vehicle_id[:64]!r}")
    if body.expires_at_us != opened.header.expires_at_us:
        raise _invalid("the body's expiry is not the header's")
    ids.parse_lease_id(body.lease_id)
    ids.parse_program_id(body.program_sha256)
    if not 1 <= len(body.attempts) <= limits.LEASE_TASKS_MAX:
        raise _invalid(f"{len(body.attempts)} attempts")
    attempts = tuple(_attempt_of(spec) for spec in body.attempts)
    if len({attempt.attempt_id for attempt in attempts}) != len(attempts):
        raise _invalid("an attempt stands twice")
    constants = _bundle_of(body.constants) if body.HasField("constants") else None
    # 4
    if body.price_micros_per_wu < reserve_price_micros_per_wu:
        raise _invalid(
            f"the price of {body.price_micros_per_wu} is below the reserve of {reserve_price_micros_per_wu}"
        )
    return VerifiedLease(
        lease_id=body.lease_id,
        program_sha256=body.program_sha256,
        constants=constants if constants is not None and constants.size_bytes else None,
        attempts=attempts,
        expires_at_us=body.expires_at_us,
        sequence=opened.header.sequence,
        envelope_bytes=envelope.SerializeToString(),
        price_micros_per_wu=body.price_micros_per_wu,
    )


def kept_lease(envelope_bytes: bytes) -> VerifiedLease:
    """Return a lease of our own journal: it was verified before it was written, and has ended since.

    Raises:
        PoolError: JOURNAL_CORRUPT when it cannot be read.
    """
    try:
        envelope = common_pb2.Envelope.FromString(envelope_bytes)
        body = fleet_service_pb2.LeaseBody.FromString(envelope.body)
        attempts = tuple(_attempt_of(spec) for spec in body.attempts)
        constants = _bundle_of(body.constants) if body.HasField("constants") else None
    except (DecodeError, PoolError) as error:
        raise PoolError(ErrorCode.JOURNAL_CORRUPT, "a kept lease cannot be read") from error
    return VerifiedLease(
        lease_id=body.lease_id,
        program_sha256=body.program_sha256,
        constants=constants if constants is not None and constants.size_bytes else None,
        attempts=attempts,
        expires_at_us=body.expires_at_us,
        sequence=0,
        envelope_bytes=envelope_bytes,
    )


def require_root_valid(root: TrustedRoot, now_us: int) -> None:
    """Refuse to act on an expired root: whoever holds back the new one must not keep the old one alive.

    Raises:
        PoolError: ROOT_EXPIRED.
    """
    if now_us >= root.document.expires_at_us:
        raise PoolError(ErrorCode.ROOT_EXPIRED, f"root version {root.document.version} has expired")


def _attempt_of(spec: fleet_service_pb2.AttemptSpec) -> LeasedAttempt:
    if not 1 <= spec.attempt_id <= ids.ROW_ID_MAX:
        raise _invalid(f"attempt id {spec.attempt_id}")
    if spec.unit_steps == 0:
        if spec.steps != 0:
            raise _invalid("steps without units")
    elif not 1 <= -(-spec.steps // spec.unit_steps) <= limits.UNITS_PER_TASK_MAX:
        raise _invalid(f"{spec.steps} steps in units of {spec.unit_steps}")
    return LeasedAttempt(
        attempt_id=spec.attempt_id,
        inputs=_bundle_of(spec.inputs),
        steps=spec.steps,
        unit_steps=spec.unit_steps,
        work_uwu=max(0, spec.work_uwu),
    )


def _bundle_of(bundle: common_pb2.TensorBundle) -> BundleRef:
    if bundle.WhichOneof("content") == "blob_sha256":
        ids.parse_blob_id(bundle.blob_sha256)
        if not 0 < bundle.size_bytes <= limits.BLOB_BYTES_MAX:
            raise _invalid(f"a blob of {bundle.size_bytes} bytes")
        return BundleRef(inline=b"", blob_sha256=bundle.blob_sha256, size_bytes=bundle.size_bytes)
    if len(bundle.inline) > limits.INLINE_TENSOR_BYTES_MAX:
        raise _invalid(f"{len(bundle.inline)} inline bytes of tensors")
    return BundleRef(inline=bundle.inline, blob_sha256="", size_bytes=len(bundle.inline))


def verify_program(
    artifact: bytes, admission: common_pb2.Envelope, *, program_sha256: str, root: TrustedRoot, now_us: int
) -> ProgramManifest:
    """Return the manifest of a program after checking that a program key admitted exactly these bytes.

    Raises:
        PoolError: the ENVELOPE_ codes, KEY_UNKNOWN, ROOT_EXPIRED, PROGRAM_NOT_ADMITTED,
            PROGRAM_DIGEST_MISMATCH, PROGRAM_MANIFEST_INVALID.
    """
    opened = open_envelope(
        admission,
        payload_type=PayloadType.PROGRAM_ADMISSION,
        audience=ANY_AUDIENCE,
        issuer=root.document.pool_id,
        keys=root.keys_for(Role.PROGRAM),
        now_us=now_us,
        may_be_eternal=True,
    )
    require_root_valid(root, now_us)
    try:
        body = common_pb2.ProgramAdmissionBody.FromString(opened.body)
    except DecodeError as error:
        raise PoolError(ErrorCode.ENVELOPE_MALFORMED, "the admission's body cannot be parsed") from error
    if body.artifact_sha256 != program_sha256:
        raise PoolError(ErrorCode.PROGRAM_NOT_ADMITTED, "the admission is another program's")
    if digests.sha256_hex(artifact) != program_sha256:
        raise PoolError(ErrorCode.PROGRAM_DIGEST_MISMATCH, "the artifact is not the one admitted")
    manifest = parse_manifest(body.manifest)
    if manifest.draft.artifact_sha256 != program_sha256:
        raise PoolError(ErrorCode.PROGRAM_NOT_ADMITTED, "the manifest is another program's")
    return manifest


def check_fits(lease: VerifiedLease, manifest: ProgramManifest) -> None:
    """Refuse a lease whose attempts are not of the program's kind.

    Raises:
        PoolError: INVALID_ARGUMENT.
    """
    is_step = manifest.draft.kind is ProgramKind.STEP
    for attempt in lease.attempts:
        if is_step != (attempt.unit_steps > 0):
            raise _invalid(f"attempt {attempt.attempt_id} does not fit a {manifest.draft.kind} program")


def _invalid(detail: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"not a valid lease: {detail}", context={"field": "lease"})

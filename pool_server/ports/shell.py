"""What is stored of principals, tokens, enrolments, vehicles' identities, programs, blobs, quotes, settings.

Frozen records and the Protocols of their repositories. A repository returns None for "not there" and a bool
from a guarded transition (True when this call made it); the use case decides what that means. Nothing here
decides anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol


@unique
class Role(StrEnum):
    """Who a token speaks for; also the token's only scope."""

    OWNER = "owner"
    BUYER = "buyer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Someone with an account: an owner, a buyer or an operator."""

    principal_id: str
    role: Role
    name: str
    created_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """What the pool keeps of a token: never the token itself."""

    token_id: str
    principal_id: str
    scope: Role
    token_sha256: bytes
    created_at_us: int
    expires_at_us: int
    """0 means that it does not expire."""
    revoked_at_us: int
    """0 while it is good."""


@unique
class EnrolmentState(StrEnum):
    """Where an enrolment is: pending -> approved -> used, pending -> denied, or superseded by a newer one."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    USED = "used"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A device that asks to be enrolled."""

    device_code_sha256: bytes
    user_code: str
    csr_pem: bytes
    envelope_public_key: bytes
    agent_version: str
    state: EnrolmentState
    created_at_us: int
    expires_at_us: int
    vehicle_id: str
    """Empty until approved."""
    owner_id: str
    """Empty until approved."""
    certificate_pem: bytes
    """Empty until approved, and again once the vehicle has used it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleIdentity:
    """Who a vehicle is: its owner and its keys. What it does is the fleet's matter (ports of the work)."""

    vehicle_id: str
    owner_id: str
    label: str
    envelope_public_key: bytes
    """Raw Ed25519, 32 bytes."""
    enrolled_at_us: int
    first_used_at_us: int
    """First call with its certificate; 0 before."""
    retired_at_us: int
    """0 while it belongs to the pool."""
    agent_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleCertificate:
    """A certificate that the pool's CA made for a vehicle."""

    serial_hex: str
    vehicle_id: str
    issued_at_us: int
    expires_at_us: int
    revoked_at_us: int
    """0 while it is good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRecord:
    """An admitted program. Its artifact lies in the blob store under `program_sha256`."""

    program_sha256: str
    kind: str
    """ "map" or "step"."""
    work_uwu: int
    """Metered work of one task (map) or of one step (step), micro-WU."""
    manifest: bytes
    """Canonical JSON, exactly as signed."""
    admission: bytes
    """Serialized Envelope of the signed ProgramAdmissionBody, exactly as made."""
    admitted_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRecord:
    """A binding offer to one buyer."""

    quote_id: str
    buyer_id: str
    program_sha256: str
    task_count: int
    steps_per_task: int
    level: str
    """Lower-case name of the verification level: spot, standard, careful, strict, full, none."""
    price_micros_per_wu: int
    work_uwu_per_task: int
    attempts_per_task: int
    cost_micros_per_task: int
    total_micros: int
    created_at_us: int
    expires_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RootRecord:
    """One version of the pool's signed root document."""

    version: int
    signed_root: bytes
    """Serialized SignedRoot, exactly as made."""
    created_at_us: int


class IdentityRepository(Protocol):
    """Principals, tokens, enrolments and vehicles' identities: `uow.identity`."""

    def add_principal(self, principal: Principal) -> None:
        """Insert a principal."""
        ...

    def principal(self, principal_id: str) -> Principal | None:
        """Read a principal."""
        ...

    def principals(self, role: Role) -> list[Principal]:
        """All principals of a role, oldest first."""
        ...

    def add_token(self, token: TokenRecord) -> None:
        """Insert a token."""
        ...

    def token_by_sha256(self, token_sha256: bytes) -> TokenRecord | None:
        """Find a token by the hash of its text."""
        ...

    def revoke_token(self, token_id: str, *, now_us: int) -> bool:
        """Revoke a good token."""
        ...

    def token(self, token_id: str) -> TokenRecord | None:
        """Read a token by its id."""
        ...

    def add_enrolment(self, enrolment: Enrolment) -> None:
        """Insert an enrolment; supersedes pending ones of the same envelope key."""
        ...

    def enrolment_by_device_code(self, device_code_sha256: bytes) -> Enrolment | None:
        """Find an enrolment by the hash of the device's secret."""
        ...

    def latest_enrolment(self, user_code: str) -> Enrolment | None:
        """Find the newest enrolment that shows, or showed, this code."""
        ...

    def count_pending_enrolments(self, *, now_us: int) -> int:
        """Count enrolments that wait for an answer and have not ended."""
        ...

    def forget_enrolments(self, *, ended_before_us: int, limit: int) -> int:
        """Delete enrolments that nobody approved and that ended before a time; return how many."""
        ...

    def approve_enrolment(
        self,
        device_code_sha256: bytes,
        *,
        vehicle_id: str,
        owner_id: str,
        certificate_pem: bytes,
        expires_at_us: int,
    ) -> bool:
        """Answer a pending enrolment: pending -> approved."""
        ...

    def deny_enrolment(self, device_code_sha256: bytes, *, owner_id: str) -> bool:
        """Answer a pending enrolment: pending -> denied."""
        ...

    def add_vehicle(self, vehicle: VehicleIdentity) -> None:
        """Insert a vehicle's identity."""
        ...

    def vehicle(self, vehicle_id: str) -> VehicleIdentity | None:
        """Read a vehicle's identity."""
        ...

    def vehicle_by_envelope_key(self, envelope_public_key: bytes) -> VehicleIdentity | None:
        """Find the vehicle that signs with this key."""
        ...

    def vehicles_of(self, owner_id: str) -> list[VehicleIdentity]:
        """An owner's vehicles, oldest first."""
        ...

    def mark_vehicle_used(self, vehicle_id: str, *, now_us: int) -> bool:
        """Note a vehicle's first call; ends the re-asking of its enrolment (approved -> used)."""
        ...

    def set_agent_version(self, vehicle_id: str, agent_version: str) -> None:
        """Note which agent called last."""
        ...

    def retire_vehicle(self, vehicle_id: str, *, now_us: int) -> bool:
        """Note that a vehicle left and revoke all of its certificates."""
        ...

    def add_certificate(self, certificate: VehicleCertificate) -> None:
        """Insert a certificate."""
        ...

    def certificate(self, serial_hex: str) -> VehicleCertificate | None:
        """Read a certificate."""
        ...


class ProgramRepository(Protocol):
    """Admitted programs: `uow.programs`."""

    def add(self, program: ProgramRecord) -> None:
        """Insert a program; the same again changes nothing."""
        ...

    def get(self, program_sha256: str) -> ProgramRecord | None:
        """Read a program."""
        ...

    def remember_submission(self, submission_sha256: str, program_sha256: str) -> None:
        """Note that this artifact and draft were vetted before and became this program."""
        ...

    def by_submission(self, submission_sha256: str) -> ProgramRecord | None:
        """Find the program that this artifact and draft became."""
        ...


class BlobCatalogue(Protocol):
    """Which blobs the pool holds, and who may read them: `uow.blobs`.

    A holder is a principal's or a vehicle's id.
    """

    def add(self, blob_sha256: str, *, size_bytes: int, uploader: str, now_us: int) -> None:
        """Note a durable blob and let its uploader read it; again changes nothing."""
        ...

    def size(self, blob_sha256: str) -> int | None:
        """Length of a blob in bytes; None when the pool does not hold it."""
        ...

    def grant(self, blob_sha256s: Sequence[str], *, holder: str) -> None:
        """Let a holder read these blobs; those it may read already stay so."""
        ...

    def may_read(self, blob_sha256: str, *, holder: str) -> bool:
        """Say whether the holder was granted the blob."""
        ...

    def uploaded_bytes(self, uploader: str) -> int:
        """Sum of the lengths of the blobs that this holder uploaded."""
        ...


class QuoteRepository(Protocol):
    """Quotes: `uow.quotes`."""

    def add(self, quote: QuoteRecord) -> None:
        """Insert a quote."""
        ...

    def get(self, quote_id: str) -> QuoteRecord | None:
        """Read a quote."""
        ...

    def forget(self, *, ended_before_us: int, limit: int) -> int:
        """Delete quotes that ended before a time; return how many."""
        ...


class SettingsRepository(Protocol):
    """Small facts of the pool that change at run time, as text: `uow.settings`."""

    def get(self, key: str) -> str | None:
        """Read a setting."""
        ...

    def put(self, key: str, value: str) -> None:
        """Write a setting."""
        ...

    def add_root(self, root: RootRecord) -> None:
        """Insert the next version of the root document."""
        ...

    def roots_after(self, version: int) -> list[RootRecord]:
        """Root documents newer than `version`, oldest first."""
        ...


#: Keys of `SettingsRepository`.
SETTING_POOL_ID = "pool_id"
SETTING_CURRENCY = "currency"
#: Followed by a role: the id of the key that signs for it now.
SETTING_SIGNING_KEY = "signing_key."


class BlobUpload(Protocol):
    """One upload in pieces: `write`, then `finish`; `close` in any case."""

    def write(self, chunk: bytes) -> None:
        """Take the next piece.

        Raises:
            PoolError: BLOB_TOO_LARGE.
        """
        ...

    def finish(self) -> int:
        """Make the blob durable under its name and return its length.

        Raises:
            PoolError: BLOB_DIGEST_MISMATCH; nothing is kept.
        """
        ...

    def close(self) -> None:
        """Let go of what was not finished."""
        ...


class BlobStore(Protocol):
    """Content-addressed bytes outside the database. Blocking; thread-safe. Names are hex SHA-256."""

    def put(self, content: bytes, *, blob_sha256: str) -> int:
        """Keep `content` durably and return its length; again changes nothing.

        Raises:
            PoolError: BLOB_DIGEST_MISMATCH, BLOB_TOO_LARGE.
        """
        ...

    def begin(self, blob_sha256: str) -> BlobUpload:
        """Start an upload in pieces.

        Raises:
            PoolError: INVALID_ARGUMENT when the name is not a SHA-256.
        """
        ...

    def get(self, blob_sha256: str) -> bytes:
        """Return a whole blob, checked against its digest.

        Raises:
            PoolError: BLOB_MISSING, BLOB_DIGEST_MISMATCH when what lies there was damaged.
        """
        ...

    def size(self, blob_sha256: str) -> int | None:
        """Length in bytes; None when it is not there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """What a `CertificateIssuer` made."""

    certificate_pem: bytes
    serial_hex: str
    expires_at_us: int


class CertificateIssuer(Protocol):
    """The pool's certificate authority."""

    def check_request(self, csr_pem: bytes) -> None:
        """Refuse a signing request that `issue_vehicle` would refuse.

        Raises:
            PoolError: INVALID_ARGUMENT.
        """
        ...

    def issue_vehicle(self, csr_pem: bytes, *, vehicle_id: str, now_us: int) -> IssuedCertificate:
        """Certify the key of a signing request for a vehicle; the request's subject is ignored.

        Raises:
            PoolError: INVALID_ARGUMENT when it is not a valid request for an ECDSA P-256 key.
        """
        ...

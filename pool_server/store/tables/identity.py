"""Who and what the pool knows by name: principals, tokens, enrolments, vehicles, programs, blobs, quotes.

Times are microseconds since the epoch, UTC; 0 stands for "never" or "not yet". Tokens and device codes are
kept as SHA-256 only. Nothing here names a VIN, a place, a host or an address of a vehicle.
"""

from collections.abc import Mapping

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
)
from sqlmodel import Field, SQLModel

from pool_server.store.columns import partial_index


def _id(name: str, target: str | None = None, *, primary: bool = False) -> Column[str]:
    if target is None:
        return Column(name, String, primary_key=primary, nullable=False)
    return Column(name, String, ForeignKey(target), primary_key=primary, nullable=False)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


def _big(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


class PrincipalRow(SQLModel, table=True):
    """Someone with an account."""

    __tablename__ = "principals"
    __table_args__ = (CheckConstraint("role IN ('owner', 'buyer', 'operator')", name="principal_role_known"),)

    principal_id: str = Field(sa_column=_id("principal_id", primary=True))
    role: str = Field(sa_column=_id("role"))
    name: str = Field(sa_column=_id("name"))
    created_at_us: int = Field(sa_column=_big("created_at_us"))


class TokenRow(SQLModel, table=True):
    """A token's hash, its scope and its life."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint("scope IN ('owner', 'buyer', 'operator')", name="token_scope_known"),
        CheckConstraint("length(token_sha256) = 32", name="token_hash_length"),
        Index("tokens_by_hash", "token_sha256", unique=True),
    )

    token_id: str = Field(sa_column=_id("token_id", primary=True))
    principal_id: str = Field(sa_column=_id("principal_id", "principals.principal_id"))
    scope: str = Field(sa_column=_id("scope"))
    token_sha256: bytes = Field(sa_column=_bytes("token_sha256"))
    created_at_us: int = Field(sa_column=_big("created_at_us"))
    expires_at_us: int = Field(sa_column=_big("expires_at_us"))
    revoked_at_us: int = Field(sa_column=_big("revoked_at_us"))


class EnrolmentRow(SQLModel, table=True):
    """A device that asks, or has asked, to be enrolled."""

    __tablename__ = "enrolments"
    __table_args__ = (
        CheckConstraint(
            "state IN ('pending', 'approved', 'denied', 'used', 'superseded')", name="enrolment_state_known"
        ),
        CheckConstraint("length(envelope_public_key) = 32", name="enrolment_key_length"),
        CheckConstraint(
            "state <> 'approved' OR (vehicle_id <> '' AND length(certificate_pem) > 0)",
            name="enrolment_approved_is_whole",
        ),
        # Two devices never show the same code at the same time.
        partial_index("enrolments_pending_code", "user_code", unique=True, where="state = 'pending'"),
        Index("enrolments_by_code", "user_code"),
        Index("enrolments_by_vehicle", "vehicle_id"),
    )

    device_code_sha256: bytes = Field(
        sa_column=Column("device_code_sha256", LargeBinary, primary_key=True, nullable=False)
    )
    user_code: str = Field(sa_column=_id("user_code"))
    csr_pem: bytes = Field(sa_column=_bytes("csr_pem"))
    envelope_public_key: bytes = Field(sa_column=_bytes("envelope_public_key"))
    agent_version: str = Field(sa_column=_id("agent_version"))
    state: str = Field(sa_column=_id("state"))
    created_at_us: int = Field(sa_column=_big("created_at_us"))
    expires_at_us: int = Field(sa_column=_big("expires_at_us"))
    vehicle_id: str = Field(sa_column=_id("vehicle_id"))
    owner_id: str = Field(sa_column=_id("owner_id"))
    certificate_pem: bytes = Field(sa_column=_bytes("certificate_pem"))


class VehicleIdentityRow(SQLModel, table=True):
    """A vehicle's owner and envelope key."""

    __tablename__ = "vehicle_identities"
    __table_args__ = (
        CheckConstraint("length(envelope_public_key) = 32", name="vehicle_key_length"),
        Index("vehicle_identities_by_owner", "owner_id"),
        # One key, one vehicle: a signature names its maker.
        Index("vehicle_identities_by_key", "envelope_public_key", unique=True),
    )

    vehicle_id: str = Field(sa_column=_id("vehicle_id", primary=True))
    owner_id: str = Field(sa_column=_id("owner_id", "principals.principal_id"))
    label: str = Field(sa_column=_id("label"))
    envelope_public_key: bytes = Field(sa_column=_bytes("envelope_public_key"))
    enrolled_at_us: int = Field(sa_column=_big("enrolled_at_us"))
    first_used_at_us: int = Field(sa_column=_big("first_used_at_us"))
    retired_at_us: int = Field(sa_column=_big("retired_at_us"))
    agent_version: str = Field(sa_column=_id("agent_version"))


class VehicleCertificateRow(SQLModel, table=True):
    """A certificate that the CA made; one that is not here is not ours."""

    __tablename__ = "vehicle_certificates"
    __table_args__ = (Index("vehicle_certificates_by_vehicle", "vehicle_id"),)

    serial_hex: str = Field(sa_column=_id("serial_hex", primary=True))
    vehicle_id: str = Field(sa_column=_id("vehicle_id", "vehicle_identities.vehicle_id"))
    issued_at_us: int = Field(sa_column=_big("issued_at_us"))
    expires_at_us: int = Field(sa_column=_big("expires_at_us"))
    revoked_at_us: int = Field(sa_column=_big("revoked_at_us"))


class ProgramRow(SQLModel, table=True):
    """An admitted program; its artifact is a blob of the same name."""

    __tablename__ = "programs"
    __table_args__ = (
        CheckConstraint("kind IN ('map', 'step')", name="program_kind_known"),
        CheckConstraint("work_uwu > 0", name="program_work_positive"),
    )

    program_sha256: str = Field(sa_column=_id("program_sha256", primary=True))
    kind: str = Field(sa_column=_id("kind"))
    work_uwu: int = Field(sa_column=_big("work_uwu"))
    manifest: bytes = Field(sa_column=_bytes("manifest"))
    admission: bytes = Field(sa_column=_bytes("admission"))
    admitted_at_us: int = Field(sa_column=_big("admitted_at_us"))


class ProgramSubmissionRow(SQLModel, table=True):
    """What was handed in (artifact and draft, hashed) and which program it became."""

    __tablename__ = "program_submissions"

    submission_sha256: str = Field(sa_column=_id("submission_sha256", primary=True))
    program_sha256: str = Field(sa_column=_id("program_sha256", "programs.program_sha256"))


class BlobRow(SQLModel, table=True):
    """A blob that is durable in the blob store."""

    __tablename__ = "blobs"
    __table_args__ = (CheckConstraint("size_bytes >= 0", name="blob_size_not_negative"),)

    blob_sha256: str = Field(sa_column=_id("blob_sha256", primary=True))
    size_bytes: int = Field(sa_column=_big("size_bytes"))
    created_at_us: int = Field(sa_column=_big("created_at_us"))


class BlobGrantRow(SQLModel, table=True):
    """Who may read a blob, and whether the holder brought it."""

    __tablename__ = "blob_grants"
    __table_args__ = (Index("blob_grants_by_holder", "holder"),)

    blob_sha256: str = Field(sa_column=_id("blob_sha256", primary=True))
    holder: str = Field(sa_column=_id("holder", primary=True))
    uploaded: int = Field(sa_column=_big("uploaded"))


class QuoteRow(SQLModel, table=True):
    """A binding offer."""

    __tablename__ = "quotes"
    __table_args__ = (
        CheckConstraint("price_micros_per_wu >= 0 AND total_micros >= 0", name="quote_not_negative"),
    )

    quote_id: str = Field(sa_column=_id("quote_id", primary=True))
    buyer_id: str = Field(sa_column=_id("buyer_id", "principals.principal_id"))
    program_sha256: str = Field(sa_column=_id("program_sha256", "programs.program_sha256"))
    task_count: int = Field(sa_column=_big("task_count"))
    steps_per_task: int = Field(sa_column=_big("steps_per_task"))
    level: str = Field(sa_column=_id("level"))
    price_micros_per_wu: int = Field(sa_column=_big("price_micros_per_wu"))
    work_uwu_per_task: int = Field(sa_column=_big("work_uwu_per_task"))
    attempts_per_task: int = Field(sa_column=_big("attempts_per_task"))
    cost_micros_per_task: int = Field(sa_column=_big("cost_micros_per_task"))
    total_micros: int = Field(sa_column=_big("total_micros"))
    created_at_us: int = Field(sa_column=_big("created_at_us"))
    expires_at_us: int = Field(sa_column=_big("expires_at_us"))


class SettingRow(SQLModel, table=True):
    """A small fact that changes at run time."""

    __tablename__ = "settings"

    key: str = Field(sa_column=_id("key", primary=True))
    value: str = Field(sa_column=_id("value"))


class RootRow(SQLModel, table=True):
    """A version of the signed root document."""

    __tablename__ = "roots"

    version: int = Field(
        sa_column=Column("version", BigInteger, primary_key=True, autoincrement=False, nullable=False)
    )
    signed_root: bytes = Field(sa_column=_bytes("signed_root"))
    created_at_us: int = Field(sa_column=_big("created_at_us"))


#: The tables by name, for statements in Core's words.
TABLES: Mapping[str, Table] = SQLModel.metadata.tables

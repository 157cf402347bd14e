"""Names of things: types, visible prefixes and strict parsing.

Two families. *Entities* (owner, vehicle, buyer, operator) carry 16 random bytes as 26 characters of
lower-case base32, so that an id tells nothing about its bearer and cannot be guessed. *Rows of the hot
path* (job, lease, task, attempt, transfer) are sequential integers; the wire shows jobs and leases with
their prefix (`job_12`, `lease_7`). Content (programs, blobs) is named by the lower-case hex of its SHA-256.

This module makes no randomness: `pool_protocol.system.SystemIds` does, and hands the bytes in here.
"""

import base64
import binascii
import re
from typing import NewType

from pool_protocol.errors import ErrorCode, PoolError

OwnerId = NewType("OwnerId", str)
VehicleId = NewType("VehicleId", str)
BuyerId = NewType("BuyerId", str)
OperatorId = NewType("OperatorId", str)

JobId = NewType("JobId", int)
LeaseId = NewType("LeaseId", int)
AttemptId = NewType("AttemptId", int)
TaskIndex = NewType("TaskIndex", int)
TransferId = NewType("TransferId", int)

Sha256Hex = NewType("Sha256Hex", str)
ProgramId = NewType("ProgramId", str)
BlobId = NewType("BlobId", str)
KeyId = NewType("KeyId", str)

OWNER_PREFIX = "owner_"
VEHICLE_PREFIX = "vehicle_"
BUYER_PREFIX = "buyer_"
OPERATOR_PREFIX = "operator_"
JOB_PREFIX = "job_"
LEASE_PREFIX = "lease_"

#: Random bytes in an entity id. 128 bits: not guessable, and no collision in any fleet.
ENTITY_ID_BYTES = 16
_ENTITY_ID_CHARACTERS = 26
#: The largest row id: PostgreSQL's BIGINT and SQLite's INTEGER.
ROW_ID_MAX = 2**63 - 1

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")
_ROW_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_SHOWN_CHARACTERS = 80


def _refuse(kind: str, text: str) -> PoolError:
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    return PoolError(ErrorCode.INVALID_ARGUMENT, f"not {kind}: {shown!r}", context={"field": kind})


def _entity_text(prefix: str, random_bytes: bytes) -> str:
    if len(random_bytes) != ENTITY_ID_BYTES:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"an id needs {ENTITY_ID_BYTES} bytes, not {len(random_bytes)}"
        )
    return prefix + base64.b32encode(random_bytes).decode("ascii").rstrip("=").lower()


def _parse_entity(kind: str, prefix: str, text: str) -> str:
    body = text.removeprefix(prefix)
    if not text.startswith(prefix) or len(body) != _ENTITY_ID_CHARACTERS or body != body.lower():
        raise _refuse(kind, text)
    try:
        random_bytes = base64.b32decode(body.upper() + "======")
    except (binascii.Error, ValueError) as error:
        raise _refuse(kind, text) from error
    # Base32 of 16 bytes leaves two spare bits: only the spelling that we would write is accepted, so one id
    # has one text.
    if _entity_text(prefix, random_bytes) != text:
        raise _refuse(kind, text)
    return text


def owner_id(random_bytes: bytes) -> OwnerId:
    """Make an owner's id from 16 random bytes."""
    return OwnerId(_entity_text(OWNER_PREFIX, random_bytes))


def vehicle_id(random_bytes: bytes) -> VehicleId:
    """Make a vehicle's id from 16 random bytes."""
    return VehicleId(_entity_text(VEHICLE_PREFIX, random_bytes))


def buyer_id(random_bytes: bytes) -> BuyerId:
    """Make a buyer's id from 16 random bytes."""
    return BuyerId(_entity_text(BUYER_PREFIX, random_bytes))


def operator_id(random_bytes: bytes) -> OperatorId:
    """Make an operator's id from 16 random bytes."""
    return OperatorId(_entity_text(OPERATOR_PREFIX, random_bytes))


def parse_owner_id(text: str) -> OwnerId:
    """Check an owner's id.

    Raises:
        PoolError: INVALID_ARGUMENT when the text is not `owner_` and 26 characters of canonical base32.
    """
    return OwnerId(_parse_entity("an owner id", OWNER_PREFIX, text))


def parse_vehicle_id(text: str) -> VehicleId:
    """Check a vehicle's id.

    Raises:
        PoolError: INVALID_ARGUMENT when the text is not `vehicle_` and 26 characters of canonical base32.
    """
    return VehicleId(_parse_entity("a vehicle id", VEHICLE_PREFIX, text))


def parse_buyer_id(text: str) -> BuyerId:
    """Check a buyer's id.

    Raises:
        PoolError: INVALID_ARGUMENT when the text is not `buyer_` and 26 characters of canonical base32.
    """
    return BuyerId(_parse_entity("a buyer id", BUYER_PREFIX, text))


def parse_operator_id(text: str) -> OperatorId:
    """Check an operator's id.

    Raises:
        PoolError: INVALID_ARGUMENT when the text is not `operator_` and 26 characters of canonical base32.
    """
    return OperatorId(_parse_entity("an operator id", OPERATOR_PREFIX, text))


def _row_text(prefix: str, number: int) -> str:
    if not 1 <= number <= ROW_ID_MAX:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"a {prefix}id is 1 to 2**63 - 1, not {number}")
    return f"{prefix}{number}"


def _parse_row(kind: str, prefix: str, text: str) -> int:
    body = text.removeprefix(prefix)
    if not text.startswith(prefix) or _ROW_NUMBER.fullmatch(body) is None or int(body) > ROW_ID_MAX:
        raise _refuse(kind, text)
    return int(body)


def job_id_text(job_id: JobId) -> str:
    """Return how the wire and people write a job's id: `job_12`."""
    return _row_text(JOB_PREFIX, job_id)


def parse_job_id(text: str) -> JobId:
    """Read `job_12` as 12.

    Raises:
        PoolError: INVALID_ARGUMENT for another prefix, a sign, leading zeros, or more than 63 bits.
    """
    return JobId(_parse_row("a job id", JOB_PREFIX, text))


def lease_id_text(lease_id: LeaseId) -> str:
    """Return how the wire and people write a lease's id: `lease_7`."""
    return _row_text(LEASE_PREFIX, lease_id)


def parse_lease_id(text: str) -> LeaseId:
    """Read `lease_7` as 7.

    Raises:
        PoolError: INVALID_ARGUMENT for another prefix, a sign, leading zeros, or more than 63 bits.
    """
    return LeaseId(_parse_row("a lease id", LEASE_PREFIX, text))


def parse_sha256_hex(text: str) -> Sha256Hex:
    """Check a SHA-256 in 64 lower-case hexadecimal digits.

    Raises:
        PoolError: INVALID_ARGUMENT otherwise.
    """
    if _SHA256_HEX.fullmatch(text) is None:
        raise _refuse("a SHA-256 in lower-case hex", text)
    return Sha256Hex(text)


def parse_program_id(text: str) -> ProgramId:
    """Check a program's id, the hex SHA-256 of the admitted artifact.

    Raises:
        PoolError: INVALID_ARGUMENT otherwise.
    """
    return ProgramId(parse_sha256_hex(text))


def parse_blob_id(text: str) -> BlobId:
    """Check a blob's id, the hex SHA-256 of its bytes.

    Raises:
        PoolError: INVALID_ARGUMENT otherwise.
    """
    return BlobId(parse_sha256_hex(text))


def parse_key_id(text: str) -> KeyId:
    """Check a key's id, the first 16 hex digits of the SHA-256 of the raw public key.

    Raises:
        PoolError: INVALID_ARGUMENT otherwise.
    """
    if _KEY_ID.fullmatch(text) is None:
        raise _refuse("a key id", text)
    return KeyId(text)

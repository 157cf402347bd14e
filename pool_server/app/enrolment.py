"""How a device becomes a vehicle: it shows a code, an owner approves it, it fetches its certificate.

Replies may be lost at every step, so each step can be repeated: a device that begins again gets a new code
and its old one ends; an owner who approves again gets the same vehicle; a device may fetch its certificate
again until it has used it. Guessing codes is slowed down where calls come in, not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.fleet import register_vehicle
from pool_server.ports.shell import (
    CertificateIssuer,
    Enrolment,
    EnrolmentState,
    IssuedCertificate,
    VehicleCertificate,
    VehicleIdentity,
)
from pool_server.ports.unit_of_work import UnitOfWork

#: Enrolments that may wait for an answer at once, in the whole pool: bounds what strangers can make us store.
PENDING_ENROLMENTS_MAX = 1_000
#: After approval the device has this long to fetch its certificate: it may have lost its network meanwhile.
APPROVED_LIFETIME_US = limits.DAY_US
_LABEL_CHARACTERS_MAX = 60
_AGENT_VERSION_CHARACTERS_MAX = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginEnrolment:
    """A device asks."""

    device_code_sha256: bytes
    user_codes: Sequence[str]
    """Fresh codes to choose from: one may be on another device's screen."""
    csr_pem: bytes
    envelope_public_key: bytes
    """Raw Ed25519, 32 bytes, checked to be a key."""
    agent_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentBegun:
    """What the device shows."""

    user_code: str
    expires_at_us: int


def begin_enrolment(
    uow: UnitOfWork, command: BeginEnrolment, *, issuer: CertificateIssuer, now_us: int
) -> EnrolmentBegun:
    """Note that a device asks to be enrolled.

    Raises:
        PoolError: INVALID_ARGUMENT for a bad signing request; ALREADY_EXISTS when its envelope key belongs to
            a vehicle; RATE_LIMITED when too many devices wait.
    """
    issuer.check_request(command.csr_pem)
    if uow.identity.vehicle_by_envelope_key(command.envelope_public_key) is not None:
        raise PoolError(
            ErrorCode.ALREADY_EXISTS,
            "this envelope key belongs to a vehicle already",
            context={"field": "envelope_public_key"},
        )
    if uow.identity.count_pending_enrolments(now_us=now_us) >= PENDING_ENROLMENTS_MAX:
        raise PoolError(ErrorCode.RATE_LIMITED, "too many devices wait for approval", retry_after_ms=60_000)
    user_code = next((code for code in command.user_codes if _is_free(uow, code, now_us)), None)
    if user_code is None:
        raise PoolError(ErrorCode.CONFLICT, "every code drawn is on another screen", retry_after_ms=100)
    expires_at_us = now_us + limits.DEVICE_CODE_LIFETIME_US
    uow.identity.add_enrolment(
        Enrolment(
            device_code_sha256=command.device_code_sha256,
            user_code=user_code,
            csr_pem=command.csr_pem,
            envelope_public_key=command.envelope_public_key,
            agent_version=command.agent_version[:_AGENT_VERSION_CHARACTERS_MAX],
            state=EnrolmentState.PENDING,
            created_at_us=now_us,
            expires_at_us=expires_at_us,
            vehicle_id="",
            owner_id="",
            certificate_pem=b"",
        )
    )
    return EnrolmentBegun(user_code=user_code, expires_at_us=expires_at_us)


def _is_free(uow: UnitOfWork, user_code: str, now_us: int) -> bool:
    shown = uow.identity.latest_enrolment(user_code)
    return shown is None or shown.expires_at_us <= now_us


def look_at_device(uow: UnitOfWork, user_code: str, *, now_us: int) -> Enrolment:
    """Return the device that shows this code and waits.

    Raises:
        PoolError: DEVICE_CODE_UNKNOWN, DEVICE_CODE_EXPIRED.
    """
    enrolment = uow.identity.latest_enrolment(user_code)
    if enrolment is None or enrolment.state is not EnrolmentState.PENDING:
        raise PoolError(ErrorCode.DEVICE_CODE_UNKNOWN, "no device waits with this code")
    if enrolment.expires_at_us <= now_us:
        raise PoolError(ErrorCode.DEVICE_CODE_EXPIRED, "the code has ended")
    return enrolment


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveDevice:
    """An owner answers."""

    owner_id: str
    user_code: str
    label: str
    refuse: bool
    new_vehicle_id: str
    """A fresh id, used when the vehicle is new."""


def approve_device(uow: UnitOfWork, command: ApproveDevice, *, issuer: CertificateIssuer, now_us: int) -> str:
    """Make the device a vehicle of the owner, or refuse it. Return the vehicle's id, empty when refused.

    Raises:
        PoolError: INVALID_ARGUMENT for the label; DEVICE_CODE_UNKNOWN; DEVICE_CODE_EXPIRED.
    """
    label = command.label.strip()
    if len(label) > _LABEL_CHARACTERS_MAX or not label.isprintable():
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"a label is at most {_LABEL_CHARACTERS_MAX} printable characters",
            context={"field": "label"},
        )
    before = uow.identity.latest_enrolment(command.user_code)
    if before is not None and before.owner_id == command.owner_id:
        # The owner answered before and the reply was lost: the same answer again.
        if before.state is EnrolmentState.DENIED and command.refuse:
            return ""
        if before.state in {EnrolmentState.APPROVED, EnrolmentState.USED} and not command.refuse:
            return before.vehicle_id
    enrolment = look_at_device(uow, command.user_code, now_us=now_us)
    if command.refuse:
        _require(uow.identity.deny_enrolment(enrolment.device_code_sha256, owner_id=command.owner_id))
        return ""
    vehicle_id = command.new_vehicle_id
    issued = issuer.issue_vehicle(enrolment.csr_pem, vehicle_id=vehicle_id, now_us=now_us)
    # From here on nothing is refused.
    _require(
        uow.identity.approve_enrolment(
            enrolment.device_code_sha256,
            vehicle_id=vehicle_id,
            owner_id=command.owner_id,
            certificate_pem=issued.certificate_pem,
            expires_at_us=now_us + APPROVED_LIFETIME_US,
        )
    )
    uow.identity.add_vehicle(
        VehicleIdentity(
            vehicle_id=vehicle_id,
            owner_id=command.owner_id,
            label=label or "car",
            envelope_public_key=enrolment.envelope_public_key,
            enrolled_at_us=now_us,
            first_used_at_us=0,
            retired_at_us=0,
            agent_version=enrolment.agent_version,
        )
    )
    uow.identity.add_certificate(_certificate(issued, vehicle_id=vehicle_id, now_us=now_us))
    register_vehicle(
        uow, vehicle_id=vehicle_id, owner_id=command.owner_id, label=label or "car", now_us=now_us
    )
    return vehicle_id


def _certificate(issued: IssuedCertificate, *, vehicle_id: str, now_us: int) -> VehicleCertificate:
    return VehicleCertificate(
        serial_hex=issued.serial_hex,
        vehicle_id=vehicle_id,
        issued_at_us=now_us,
        expires_at_us=issued.expires_at_us,
        revoked_at_us=0,
    )


def _require(changed: bool) -> None:  # noqa: FBT001 - the outcome of a guarded update
    if not changed:
        raise PoolError(ErrorCode.CONFLICT, "the enrolment changed meanwhile", retry_after_ms=100)


def complete_enrolment(uow: UnitOfWork, device_code_sha256: bytes, *, now_us: int) -> Enrolment:
    """Return the approved enrolment with its certificate; again and again until the vehicle has used it.

    Raises:
        PoolError: DEVICE_CODE_UNKNOWN (also once used or replaced by a newer code), DEVICE_CODE_DENIED,
            DEVICE_CODE_EXPIRED, DEVICE_CODE_PENDING.
    """
    enrolment = uow.identity.enrolment_by_device_code(device_code_sha256)
    if enrolment is None or enrolment.state in {EnrolmentState.USED, EnrolmentState.SUPERSEDED}:
        raise PoolError(ErrorCode.DEVICE_CODE_UNKNOWN, "no enrolment waits with this device code")
    if enrolment.state is EnrolmentState.DENIED:
        raise PoolError(ErrorCode.DEVICE_CODE_DENIED, "the owner refused")
    if enrolment.expires_at_us <= now_us:
        raise PoolError(ErrorCode.DEVICE_CODE_EXPIRED, "the code has ended")
    if enrolment.state is EnrolmentState.PENDING:
        raise PoolError(
            ErrorCode.DEVICE_CODE_PENDING,
            "the owner has not answered",
            retry_after_ms=limits.DEVICE_CODE_POLL_S * 1_000,
        )
    return enrolment


def renew_certificate(
    uow: UnitOfWork, *, vehicle_id: str, csr_pem: bytes, issuer: CertificateIssuer, now_us: int
) -> IssuedCertificate:
    """Make a new certificate for a vehicle. The old one stays good until it ends: the reply may be lost.

    Raises:
        PoolError: INVALID_ARGUMENT for a bad signing request.
    """
    issued = issuer.issue_vehicle(csr_pem, vehicle_id=vehicle_id, now_us=now_us)
    uow.identity.add_certificate(_certificate(issued, vehicle_id=vehicle_id, now_us=now_us))
    return issued

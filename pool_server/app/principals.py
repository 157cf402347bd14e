"""Owners, buyers, operators and their tokens; and who a token or a certificate speaks for."""

from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.caps import SetCap, set_cap
from pool_server.core.caps import CapHolder, CapPeriod
from pool_server.ports.shell import Principal, Role, TokenRecord, VehicleIdentity
from pool_server.ports.unit_of_work import UnitOfWork

_NAME_CHARACTERS_MAX = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePrincipal:
    """Make a principal and a token, or one more token for a principal."""

    role: Role
    name: str
    principal_id: str
    """An existing principal's id, or empty."""
    new_principal_id: str
    """A fresh id of the role, used when the principal is new."""
    token_id: str
    token_sha256: bytes
    token_expires_at_us: int
    """0 for never."""
    caps: tuple[tuple[CapHolder, CapPeriod, int], ...] = ()
    """Caps, micros, on what a buyer's account or this token may reserve and spend."""
    made_by: str = ""
    """The operator; empty when the pool is made, and on its own machine."""


def create_principal(uow: UnitOfWork, command: CreatePrincipal, *, now_us: int) -> Principal:
    """Make the principal if it is new, and its token.

    Raises:
        PoolError: INVALID_ARGUMENT for the name or an expiry in the past; NOT_FOUND for an unknown principal
            or one of another role; INVALID_ARGUMENT for caps of one who is no buyer, or of the account of
            one who was there before; FOUR_EYES when an operator would make an operator, or a token of one.
    """
    if command.role is Role.OPERATOR and command.made_by:
        # Whoever could do this alone would plan a payout as one operator and approve it as another.
        raise PoolError(
            ErrorCode.FOUR_EYES,
            "Operators and their tokens are made on the pool's own machine (pool-server --data DIR "
            f"principals create --role operator), not by {command.made_by}.",
        )
    if command.token_expires_at_us != 0 and command.token_expires_at_us <= now_us:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, "the token would have expired", context={"field": "expires_at_us"}
        )
    if command.principal_id:
        principal = uow.identity.principal(command.principal_id)
        if principal is None or principal.role is not command.role:
            raise PoolError(
                ErrorCode.NOT_FOUND,
                f"no {command.role.value} {command.principal_id[:60]}",
                context={"field": "principal_id"},
            )
    else:
        name = command.name.strip()
        if not 1 <= len(name) <= _NAME_CHARACTERS_MAX or not name.isprintable():
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                f"a name is 1 to {_NAME_CHARACTERS_MAX} printable characters",
                context={"field": "name"},
            )
        principal = Principal(
            principal_id=command.new_principal_id, role=command.role, name=name, created_at_us=now_us
        )
        uow.identity.add_principal(principal)
    uow.identity.add_token(
        TokenRecord(
            token_id=command.token_id,
            principal_id=principal.principal_id,
            scope=principal.role,
            token_sha256=command.token_sha256,
            created_at_us=now_us,
            expires_at_us=command.token_expires_at_us,
            revoked_at_us=0,
        )
    )
    for holder, period, limit_micros in command.caps:
        cap = SetCap(
            holder=holder,
            subject_id=command.token_id if holder is CapHolder.TOKEN else principal.principal_id,
            period=period,
            limit_micros=limit_micros,
        )
        _check_first_cap(command, holder)
        set_cap(uow, cap, operator_id=command.made_by, now_us=now_us)
    return principal


def _check_first_cap(command: CreatePrincipal, holder: CapHolder) -> None:
    if command.role is not Role.BUYER:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "only buyers spend", context={"field": "role"})
    if holder is CapHolder.ACCOUNT and command.principal_id:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            "a buyer that is there already has its cap set by itself, not with one more token",
            context={"field": "max_spend_micros"},
            advice="Set it with: pool-server caps set",
        )


def revoke_token(uow: UnitOfWork, token_id: str, *, now_us: int) -> None:
    """Revoke a token; revoking it again changes nothing.

    Raises:
        PoolError: NOT_FOUND.
    """
    if uow.identity.token(token_id) is None:
        raise PoolError(ErrorCode.NOT_FOUND, f"no token {token_id[:60]}", context={"field": "token_id"})
    uow.identity.revoke_token(token_id, now_us=now_us)


def require_principal(uow: UnitOfWork, principal_id: str, role: Role) -> Principal:
    """Return a principal of a role.

    Raises:
        PoolError: NOT_FOUND.
    """
    principal = uow.identity.principal(principal_id)
    if principal is None or principal.role is not role:
        raise PoolError(ErrorCode.NOT_FOUND, f"no {role.value} {principal_id[:60]}")
    return principal


def authenticate_token(uow: UnitOfWork, token_sha256: bytes, *, now_us: int) -> TokenRecord:
    """Return the good token with this hash.

    Raises:
        PoolError: UNAUTHENTICATED when it is unknown, revoked or expired.
    """
    return _good(uow.identity.token_by_sha256(token_sha256), now_us=now_us)


def require_token(uow: UnitOfWork, token_id: str, *, now_us: int) -> None:
    """Refuse to go on with a call whose token has gone bad since it began: streams outlive revocations.

    Raises:
        PoolError: UNAUTHENTICATED.
    """
    _good(uow.identity.token(token_id), now_us=now_us)


def _good(token: TokenRecord | None, *, now_us: int) -> TokenRecord:
    if token is None:
        raise PoolError(ErrorCode.UNAUTHENTICATED, "unknown token")
    if token.revoked_at_us != 0:
        raise PoolError(ErrorCode.UNAUTHENTICATED, f"{token.token_id} was revoked")
    if token.expires_at_us != 0 and token.expires_at_us <= now_us:
        raise PoolError(ErrorCode.UNAUTHENTICATED, f"{token.token_id} expired")
    return token


def authenticate_vehicle(
    uow: UnitOfWork, *, vehicle_id: str, serial_hex: str, now_us: int
) -> VehicleIdentity:
    """Return the vehicle that a certificate names. TLS has checked its chain before.

    Raises:
        PoolError: CERTIFICATE_INVALID when the pool did not make the certificate, made it for another, or it
            expired; VEHICLE_RETIRED; CERTIFICATE_INVALID when it was revoked.
    """
    certificate = uow.identity.certificate(serial_hex)
    vehicle = uow.identity.vehicle(vehicle_id)
    if certificate is None or vehicle is None or certificate.vehicle_id != vehicle_id:
        raise PoolError(ErrorCode.CERTIFICATE_INVALID, f"certificate {serial_hex} is not known here")
    if vehicle.retired_at_us != 0:
        raise PoolError(ErrorCode.VEHICLE_RETIRED, f"{vehicle_id} was retired")
    if certificate.revoked_at_us != 0 or certificate.expires_at_us <= now_us:
        raise PoolError(ErrorCode.CERTIFICATE_INVALID, f"certificate {serial_hex} was revoked or expired")
    return vehicle

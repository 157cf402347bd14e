"""Principals, tokens, enrolments and vehicles' identities in SQL. Every transition is one guarded UPDATE."""

from typing import Any

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, update

from pool_server.ports.shell import (
    Enrolment,
    EnrolmentState,
    Principal,
    Role,
    TokenRecord,
    VehicleCertificate,
    VehicleIdentity,
)
from pool_server.store.tables.identity import TABLES

_PRINCIPALS: Table = TABLES["principals"]
_TOKENS: Table = TABLES["tokens"]
_ENROLMENTS: Table = TABLES["enrolments"]
_NOT_APPROVED = (
    EnrolmentState.PENDING.value,
    EnrolmentState.DENIED.value,
    EnrolmentState.SUPERSEDED.value,
)
_VEHICLES: Table = TABLES["vehicle_identities"]
_CERTIFICATES: Table = TABLES["vehicle_certificates"]


class SqlIdentityRepository:
    """Implements `ports.shell.IdentityRepository` on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_principal(self, principal: Principal) -> None:
        self._connection.execute(
            insert(_PRINCIPALS).values(
                principal_id=principal.principal_id,
                role=principal.role.value,
                name=principal.name,
                created_at_us=principal.created_at_us,
            )
        )

    def principal(self, principal_id: str) -> Principal | None:
        row = self._connection.execute(
            select(_PRINCIPALS).where(_PRINCIPALS.c.principal_id == principal_id)
        ).first()
        return None if row is None else _principal(row)

    def principals(self, role: Role) -> list[Principal]:
        rows = self._connection.execute(
            select(_PRINCIPALS)
            .where(_PRINCIPALS.c.role == role.value)
            .order_by(_PRINCIPALS.c.created_at_us, _PRINCIPALS.c.principal_id)
        )
        return [_principal(row) for row in rows]

    def add_token(self, token: TokenRecord) -> None:
        self._connection.execute(
            insert(_TOKENS).values(
                token_id=token.token_id,
                principal_id=token.principal_id,
                scope=token.scope.value,
                token_sha256=token.token_sha256,
                created_at_us=token.created_at_us,
                expires_at_us=token.expires_at_us,
                revoked_at_us=token.revoked_at_us,
            )
        )

    def token_by_sha256(self, token_sha256: bytes) -> TokenRecord | None:
        row = self._connection.execute(select(_TOKENS).where(_TOKENS.c.token_sha256 == token_sha256)).first()
        return None if row is None else _token(row)

    def token(self, token_id: str) -> TokenRecord | None:
        row = self._connection.execute(select(_TOKENS).where(_TOKENS.c.token_id == token_id)).first()
        return None if row is None else _token(row)

    def revoke_token(self, token_id: str, *, now_us: int) -> bool:
        changed = self._connection.execute(
            update(_TOKENS)
            .where(_TOKENS.c.token_id == token_id, _TOKENS.c.revoked_at_us == 0)
            .values(revoked_at_us=now_us)
        )
        return changed.rowcount == 1

    def add_enrolment(self, enrolment: Enrolment) -> None:
        self._connection.execute(
            update(_ENROLMENTS)
            .where(
                _ENROLMENTS.c.envelope_public_key == enrolment.envelope_public_key,
                _ENROLMENTS.c.state == EnrolmentState.PENDING.value,
            )
            .values(state=EnrolmentState.SUPERSEDED.value)
        )
        # An ended code must not block the same code for another device.
        self._connection.execute(
            update(_ENROLMENTS)
            .where(
                _ENROLMENTS.c.state == EnrolmentState.PENDING.value,
                _ENROLMENTS.c.expires_at_us <= enrolment.created_at_us,
            )
            .values(state=EnrolmentState.SUPERSEDED.value)
        )
        self._connection.execute(
            insert(_ENROLMENTS).values(
                device_code_sha256=enrolment.device_code_sha256,
                user_code=enrolment.user_code,
                csr_pem=enrolment.csr_pem,
                envelope_public_key=enrolment.envelope_public_key,
                agent_version=enrolment.agent_version,
                state=enrolment.state.value,
                created_at_us=enrolment.created_at_us,
                expires_at_us=enrolment.expires_at_us,
                vehicle_id=enrolment.vehicle_id,
                owner_id=enrolment.owner_id,
                certificate_pem=enrolment.certificate_pem,
            )
        )

    def enrolment_by_device_code(self, device_code_sha256: bytes) -> Enrolment | None:
        row = self._connection.execute(
            select(_ENROLMENTS).where(_ENROLMENTS.c.device_code_sha256 == device_code_sha256)
        ).first()
        return None if row is None else _enrolment(row)

    def latest_enrolment(self, user_code: str) -> Enrolment | None:
        row = self._connection.execute(
            select(_ENROLMENTS)
            .where(_ENROLMENTS.c.user_code == user_code)
            .order_by(_ENROLMENTS.c.created_at_us.desc())
            .limit(1)
        ).first()
        return None if row is None else _enrolment(row)

    def count_pending_enrolments(self, *, now_us: int) -> int:
        counted = self._connection.execute(
            select(func.count())
            .select_from(_ENROLMENTS)
            .where(_ENROLMENTS.c.state == EnrolmentState.PENDING.value, _ENROLMENTS.c.expires_at_us > now_us)
        ).scalar_one()
        return int(counted)

    def forget_enrolments(self, *, ended_before_us: int, limit: int) -> int:
        ended = (
            select(_ENROLMENTS.c.device_code_sha256)
            .where(
                _ENROLMENTS.c.state.in_(_NOT_APPROVED),
                _ENROLMENTS.c.expires_at_us < ended_before_us,
            )
            .limit(limit)
        )
        return self._connection.execute(
            delete(_ENROLMENTS).where(_ENROLMENTS.c.device_code_sha256.in_(ended))
        ).rowcount

    def approve_enrolment(
        self,
        device_code_sha256: bytes,
        *,
        vehicle_id: str,
        owner_id: str,
        certificate_pem: bytes,
        expires_at_us: int,
    ) -> bool:
        changed = self._connection.execute(
            update(_ENROLMENTS)
            .where(
                _ENROLMENTS.c.device_code_sha256 == device_code_sha256,
                _ENROLMENTS.c.state == EnrolmentState.PENDING.value,
            )
            .values(
                state=EnrolmentState.APPROVED.value,
                vehicle_id=vehicle_id,
                owner_id=owner_id,
                certificate_pem=certificate_pem,
                expires_at_us=expires_at_us,
            )
        )
        return changed.rowcount == 1

    def deny_enrolment(self, device_code_sha256: bytes, *, owner_id: str) -> bool:
        changed = self._connection.execute(
            update(_ENROLMENTS)
            .where(
                _ENROLMENTS.c.device_code_sha256 == device_code_sha256,
                _ENROLMENTS.c.state == EnrolmentState.PENDING.value,
            )
            .values(state=EnrolmentState.DENIED.value, owner_id=owner_id)
        )
        return changed.rowcount == 1

    def add_vehicle(self, vehicle: VehicleIdentity) -> None:
        self._connection.execute(
            insert(_VEHICLES).values(
                vehicle_id=vehicle.vehicle_id,
                owner_id=vehicle.owner_id,
                label=vehicle.label,
                envelope_public_key=vehicle.envelope_public_key,
                enrolled_at_us=vehicle.enrolled_at_us,
                first_used_at_us=vehicle.first_used_at_us,
                retired_at_us=vehicle.retired_at_us,
                agent_version=vehicle.agent_version,
            )
        )

    def vehicle(self, vehicle_id: str) -> VehicleIdentity | None:
        row = self._connection.execute(select(_VEHICLES).where(_VEHICLES.c.vehicle_id == vehicle_id)).first()
        return None if row is None else _vehicle(row)

    def vehicle_by_envelope_key(self, envelope_public_key: bytes) -> VehicleIdentity | None:
        row = self._connection.execute(
            select(_VEHICLES).where(_VEHICLES.c.envelope_public_key == envelope_public_key)
        ).first()
        return None if row is None else _vehicle(row)

    def vehicles_of(self, owner_id: str) -> list[VehicleIdentity]:
        rows = self._connection.execute(
            select(_VEHICLES)
            .where(_VEHICLES.c.owner_id == owner_id)
            .order_by(_VEHICLES.c.enrolled_at_us, _VEHICLES.c.vehicle_id)
        )
        return [_vehicle(row) for row in rows]

    def mark_vehicle_used(self, vehicle_id: str, *, now_us: int) -> bool:
        changed = self._connection.execute(
            update(_VEHICLES)
            .where(_VEHICLES.c.vehicle_id == vehicle_id, _VEHICLES.c.first_used_at_us == 0)
            .values(first_used_at_us=now_us)
        )
        if changed.rowcount != 1:
            return False
        self._connection.execute(
            update(_ENROLMENTS)
            .where(
                _ENROLMENTS.c.vehicle_id == vehicle_id, _ENROLMENTS.c.state == EnrolmentState.APPROVED.value
            )
            .values(state=EnrolmentState.USED.value, certificate_pem=b"")
        )
        return True

    def set_agent_version(self, vehicle_id: str, agent_version: str) -> None:
        self._connection.execute(
            update(_VEHICLES).where(_VEHICLES.c.vehicle_id == vehicle_id).values(agent_version=agent_version)
        )

    def retire_vehicle(self, vehicle_id: str, *, now_us: int) -> bool:
        changed = self._connection.execute(
            update(_VEHICLES)
            .where(_VEHICLES.c.vehicle_id == vehicle_id, _VEHICLES.c.retired_at_us == 0)
            .values(retired_at_us=now_us)
        )
        if changed.rowcount != 1:
            return False
        self._connection.execute(
            update(_CERTIFICATES)
            .where(_CERTIFICATES.c.vehicle_id == vehicle_id, _CERTIFICATES.c.revoked_at_us == 0)
            .values(revoked_at_us=now_us)
        )
        return True

    def add_certificate(self, certificate: VehicleCertificate) -> None:
        self._connection.execute(
            insert(_CERTIFICATES).values(
                serial_hex=certificate.serial_hex,
                vehicle_id=certificate.vehicle_id,
                issued_at_us=certificate.issued_at_us,
                expires_at_us=certificate.expires_at_us,
                revoked_at_us=certificate.revoked_at_us,
            )
        )

    def certificate(self, serial_hex: str) -> VehicleCertificate | None:
        row = self._connection.execute(
            select(_CERTIFICATES).where(_CERTIFICATES.c.serial_hex == serial_hex)
        ).first()
        if row is None:
            return None
        return VehicleCertificate(
            serial_hex=row.serial_hex,
            vehicle_id=row.vehicle_id,
            issued_at_us=row.issued_at_us,
            expires_at_us=row.expires_at_us,
            revoked_at_us=row.revoked_at_us,
        )


def _principal(row: Row[Any]) -> Principal:
    return Principal(
        principal_id=row.principal_id, role=Role(row.role), name=row.name, created_at_us=row.created_at_us
    )


def _token(row: Row[Any]) -> TokenRecord:
    return TokenRecord(
        token_id=row.token_id,
        principal_id=row.principal_id,
        scope=Role(row.scope),
        token_sha256=row.token_sha256,
        created_at_us=row.created_at_us,
        expires_at_us=row.expires_at_us,
        revoked_at_us=row.revoked_at_us,
    )


def _enrolment(row: Row[Any]) -> Enrolment:
    return Enrolment(
        device_code_sha256=row.device_code_sha256,
        user_code=row.user_code,
        csr_pem=row.csr_pem,
        envelope_public_key=row.envelope_public_key,
        agent_version=row.agent_version,
        state=EnrolmentState(row.state),
        created_at_us=row.created_at_us,
        expires_at_us=row.expires_at_us,
        vehicle_id=row.vehicle_id,
        owner_id=row.owner_id,
        certificate_pem=row.certificate_pem,
    )


def _vehicle(row: Row[Any]) -> VehicleIdentity:
    return VehicleIdentity(
        vehicle_id=row.vehicle_id,
        owner_id=row.owner_id,
        label=row.label,
        envelope_public_key=row.envelope_public_key,
        enrolled_at_us=row.enrolled_at_us,
        first_used_at_us=row.first_used_at_us,
        retired_at_us=row.retired_at_us,
        agent_version=row.agent_version,
    )

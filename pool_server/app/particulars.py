"""Particulars of accounts: who holds them, and how their holders read amounts."""

from dataclasses import replace
from datetime import UTC, datetime

from pool_protocol import amounts
from pool_protocol.clock import MICROSECONDS_PER_SECOND
from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.particulars import Particulars, check_particulars
from pool_server.ports.shell import Role
from pool_server.ports.unit_of_work import UnitOfWork


def set_particulars(
    uow: UnitOfWork, *, principal_id: str, particulars: Particulars, set_by: str, now_us: int
) -> Particulars:
    """Set an owner's or a buyer's particulars as a whole; return them as kept.

    Raises:
        PoolError: NOT_FOUND for an account that there is not; INVALID_ARGUMENT, its context's `field` saying
            which.
    """
    _require_account(uow, principal_id)
    today = datetime.fromtimestamp(now_us // MICROSECONDS_PER_SECOND, tz=UTC).date()
    known = replace(
        particulars,
        locale=amounts.parse_locale(particulars.locale) if particulars.locale else "",
        country=amounts.parse_country(particulars.country) if particulars.country else "",
    )
    kept = check_particulars(known, today=today)
    uow.particulars.put(principal_id, kept, set_by=set_by, now_us=now_us)
    return kept


def get_particulars(uow: UnitOfWork, *, principal_id: str) -> Particulars:
    """Return an owner's or a buyer's particulars; empty ones when none were set.

    Raises:
        PoolError: NOT_FOUND for an account that there is not.
    """
    _require_account(uow, principal_id)
    return uow.particulars.get(principal_id)


def locale_of(uow: UnitOfWork, principal_id: str) -> str:
    """Return the locale in which an account's holder reads amounts."""
    return amounts.locale_or_fallback(uow.particulars.get(principal_id).locale)


def _require_account(uow: UnitOfWork, principal_id: str) -> None:
    principal = uow.identity.principal(principal_id)
    if principal is None or principal.role not in (Role.OWNER, Role.BUYER):
        raise PoolError(
            ErrorCode.NOT_FOUND,
            f"{principal_id[:80]!r} is no owner and no buyer",
            context={"field": "principal_id"},
        )

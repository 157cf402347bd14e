"""Caps on what buyers and their tokens may reserve and spend: set by operators, counted with every reserve.

Counting happens in the transaction of the reservation and of what gives it back, so a cap holds however many
reserve at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import require_amount
from pool_server.core.caps import (
    CapHolder,
    CapPeriod,
    SpendCounter,
    counters_of,
    month_of,
    reached,
)
from pool_server.ports.caps import JobReservation
from pool_server.ports.shell import Role
from pool_server.ports.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCap:
    """Set a cap, or lift it."""

    holder: CapHolder
    subject_id: str
    """A buyer's or a token's id."""
    period: CapPeriod
    limit_micros: int | None
    """None lifts the cap; 0 lets nothing be reserved."""


def set_cap(uow: UnitOfWork, command: SetCap, *, operator_id: str, now_us: int) -> list[SpendCounter]:
    """Set or lift a cap; return all counters of whose it is. What is reserved already stays.

    Raises:
        PoolError: NOT_FOUND when there is no such buyer, or no such token of a buyer; INVALID_ARGUMENT for
            an amount that is none.
    """
    if command.limit_micros is not None:
        require_amount(command.limit_micros)
    _require(uow, command.holder, command.subject_id)
    uow.caps.set_limit(
        command.holder,
        command.subject_id,
        command.period,
        limit_micros=command.limit_micros,
        set_by=operator_id,
        now_us=now_us,
    )
    return uow.caps.counters_of(command.holder, command.subject_id, month=month_of(now_us))


def caps_of_buyer(uow: UnitOfWork, *, buyer_id: str, now_us: int) -> list[SpendCounter]:
    """Return the counters of a buyer's account and of those of its tokens that have any.

    Raises:
        PoolError: NOT_FOUND.
    """
    _require(uow, CapHolder.ACCOUNT, buyer_id)
    month = month_of(now_us)
    own = uow.caps.counters_of(CapHolder.ACCOUNT, buyer_id, month=month)
    tokens = [
        counter
        for counter in uow.caps.counters(buyer_id=buyer_id, month=month)
        if counter.key.holder is CapHolder.TOKEN
    ]
    return [*own, *tokens]


def caps_in_force(uow: UnitOfWork, *, buyer_id: str, token_id: str, now_us: int) -> list[SpendCounter]:
    """Return the counters that have a cap, for a buyer who calls with a token."""
    month = month_of(now_us)
    counters = uow.caps.counters_of(CapHolder.ACCOUNT, buyer_id, month=month)
    if token_id:
        counters += uow.caps.counters_of(CapHolder.TOKEN, token_id, month=month)
    return [counter for counter in counters if counter.limit_micros is not None]


def count_reserved(
    uow: UnitOfWork, *, buyer_id: str, token_id: str, job_id: int, amount_micros: int, now_us: int
) -> None:
    """Count what was reserved for a job.

    Raises:
        PoolError: SPEND_LIMIT_REACHED, with what is left; the command is then to be rolled back.
    """
    month = month_of(now_us)
    full = uow.caps.use(counters_of(buyer_id=buyer_id, token_id=token_id, month=month), amount_micros)
    if full is not None:
        raise reached(full, wanted_micros=amount_micros)
    uow.caps.add_reservation(JobReservation(job_id, month, token_id, buyer_id, amount_micros))


def count_returned(uow: UnitOfWork, returned_micros: Mapping[int, int]) -> None:
    """Give room back for what came back of jobs, by job: to the caps and months that they were counted in.

    Money that came into an escrow by another way than a reserve was never counted, and gives no room.
    """
    for job_id, amount_micros in returned_micros.items():
        left = amount_micros
        for reservation in uow.caps.reservations(job_id):
            taken = min(left, reservation.amount_micros)
            if not taken:
                break
            uow.caps.take_reservation(reservation, taken)
            keys = counters_of(
                buyer_id=reservation.buyer_id, token_id=reservation.token_id, month=reservation.month
            )
            uow.caps.give_back(keys, taken)
            left -= taken


def _require(uow: UnitOfWork, holder: CapHolder, subject_id: str) -> None:
    if holder is CapHolder.TOKEN:
        token = uow.identity.token(subject_id)
        if token is None or token.scope is not Role.BUYER:
            raise PoolError(
                ErrorCode.NOT_FOUND, f"no token of a buyer {subject_id[:60]}", context={"field": "token_id"}
            )
        return
    principal = uow.identity.principal(subject_id)
    if principal is None or principal.role is not Role.BUYER:
        raise PoolError(ErrorCode.NOT_FOUND, f"no buyer {subject_id[:60]}", context={"field": "buyer_id"})

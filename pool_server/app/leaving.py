"""Owners who leave: paid below their threshold, to the cent; the last fraction of a cent goes to rounding.

An owner leaves when all its vehicles are retired and the account is closed, by itself or an operator. From
then on every run pays whatever whole cents there are. Once nothing is held, questioned or under way, what is
less than a cent is booked to the pool's rounding account (code 530), where the books show it for ever. Money
that comes later (a payment that came back, an appeal) is paid the same way. Who has a vehicle again is an
owner like any other.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.money import MICROS_PER_CENT
from pool_server.app.books import open_accounts, transfer
from pool_server.app.principals import require_principal
from pool_server.core.fleet import VehicleState
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import Account, TransferCode, TransferKind, TransferRequest
from pool_server.core.payouts.details import left_out_reason
from pool_server.core.payouts.model import LEFT_OUT_WORDS
from pool_server.ports.banks import Leaving
from pool_server.ports.shell import Role
from pool_server.ports.unit_of_work import UnitOfWork

#: Vehicles of one owner that are looked at, retired ones included.
_VEHICLES_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavingView:
    """An owner who leaves, and what is still to be paid."""

    leaving: Leaving
    available_micros: int
    held_micros: int
    """Held and questioned money: it becomes available when its dispute window is over."""
    under_way: int
    """Payments that the bank has not decided."""
    obstacle: str
    """Why the next run cannot pay it, in words; empty when it can."""


def close_out(uow: UnitOfWork, *, owner_id: str, asked_by: str, now_us: int) -> LeavingView:
    """Close an owner's account, as the owner or an operator asks; again looks whether it is done.

    Raises:
        PoolError: NOT_FOUND; INVALID_STATE while the owner has vehicles that are not retired.
    """
    require_principal(uow, owner_id, Role.OWNER)
    active = _active_vehicles(uow, owner_id)
    if active:
        raise PoolError(
            ErrorCode.INVALID_STATE,
            f"{owner_id} still has {active[0]}" + (f" and {len(active) - 1} more" if active[1:] else ""),
            context={"vehicle_id": active[0]},
        )
    if uow.banks.leaving(owner_id) is None:
        uow.banks.add_leaving(Leaving(owner_id=owner_id, asked_by=asked_by, asked_at_us=now_us))
    finish_leaving(uow, [owner_id], now_us=now_us)
    found = uow.banks.leaving(owner_id)
    if found is None:
        raise InvariantError(f"{owner_id} was noted as leaving and is not")
    return _view(uow, found)


def leaving_owners(uow: UnitOfWork) -> set[str]:
    """Return the owners who leave or have left, without those who came back: they have vehicles again."""
    return {
        leaving.owner_id for leaving in uow.banks.all_leaving() if not _active_vehicles(uow, leaving.owner_id)
    }


def list_leaving(uow: UnitOfWork) -> list[LeavingView]:
    """Return every owner who leaves or has left, newest first."""
    return [_view(uow, leaving) for leaving in uow.banks.all_leaving()]


def finish_leaving(uow: UnitOfWork, owner_ids: Iterable[str], *, now_us: int) -> None:
    """Close the accounts of those who leave, have less than a cent left and nothing more to come."""
    for owner_id in owner_ids:
        leaving = uow.banks.leaving(owner_id)
        if leaving is None or _active_vehicles(uow, owner_id):
            continue
        accounts = _accounts(uow, owner_id)
        available = accounts.get(chart.owner_available_name(owner_id))
        rest_micros = available.balance_micros if available else 0
        if rest_micros >= MICROS_PER_CENT or _held(accounts) or uow.banks.open_payments(owner_id):
            continue
        if leaving.closed_at_us and not rest_micros:
            continue
        if available is not None and rest_micros:
            _book_rest(uow, available, rest_micros, now_us=now_us)
        if not uow.banks.close(replace(leaving, closed_at_us=now_us), more_micros=rest_micros):
            raise InvariantError(f"{owner_id} was closed twice inside one transaction")


def _active_vehicles(uow: UnitOfWork, owner_id: str) -> list[str]:
    vehicles = uow.fleet.page(owner_id=owner_id, state=None, after_vehicle_id="", limit=_VEHICLES_MAX)
    return [vehicle.vehicle_id for vehicle in vehicles if vehicle.state is not VehicleState.RETIRED]


def _accounts(uow: UnitOfWork, owner_id: str) -> dict[str, Account]:
    return {account.name: account for account in uow.ledger.accounts_by_prefix(f"owner:{owner_id}:")}


def _held(accounts: dict[str, Account]) -> int:
    """Return what is not available yet, leases under way included."""
    return sum(
        account.balance_micros + account.credits_pending_micros
        for name, account in accounts.items()
        if not name.endswith(":available")
    )


def _book_rest(uow: UnitOfWork, available: Account, rest_micros: int, *, now_us: int) -> None:
    rounding = open_accounts(uow, [chart.ROUNDING], now_us=now_us)[chart.ROUNDING.name]
    request = TransferRequest(
        kind=TransferKind.SINGLE.value,
        code=TransferCode.PAYOUT_ROUNDING.value,
        debit_account_id=available.account_id,
        credit_account_id=rounding.account_id,
        amount_micros=rest_micros,
    )
    transfer(uow, [request], [available, rounding], now_us=now_us)


def _view(uow: UnitOfWork, leaving: Leaving) -> LeavingView:
    accounts = _accounts(uow, leaving.owner_id)
    available = accounts.get(chart.owner_available_name(leaving.owner_id))
    available_micros = available.balance_micros if available else 0
    reason = left_out_reason(uow.payouts.details(leaving.owner_id), sepa=uow.terms.currency == "EUR")
    return LeavingView(
        leaving=leaving,
        available_micros=available_micros,
        held_micros=_held(accounts),
        under_way=uow.banks.open_payments(leaving.owner_id),
        obstacle=LEFT_OUT_WORDS[reason.value] if reason and available_micros >= MICROS_PER_CENT else "",
    )

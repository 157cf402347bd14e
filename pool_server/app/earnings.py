"""Owners' and buyers' money as they see it, the pool's totals, and the end of the dispute window."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import DAY_US
from pool_server.app.books import account, open_accounts, transfer
from pool_server.core.energy import NO_ENERGY, EnergySums
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import Account, AccountCode, TransferCode, TransferKind, TransferRequest
from pool_server.core.payouts.details import DEFAULT_THRESHOLD_MICROS
from pool_server.ports.unit_of_work import UnitOfWork

#: Daily sums that one request may ask for.
EARNINGS_DAYS_MAX = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class DayEarnings:
    """What one day brought."""

    date: str
    """ISO date, UTC."""
    net_micros: int
    verified_attempts: int
    energy: EnergySums = NO_ENERGY
    """Of the work reported on this day, paid or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earnings:
    """An owner's money."""

    currency: str
    held_micros: int
    """Verified, inside the dispute window, or questioned by a look-back."""
    available_micros: int
    """Payable."""
    paid_micros: int
    """Approved for payment and sent."""
    gross_micros: int
    fee_micros: int
    pending_micros: int
    """Leased and not yet verified."""
    next_release_us: int
    """When the oldest held money becomes available; 0 when nothing is held."""
    next_payout_us: int
    """0 when the pool has no schedule."""
    payout_threshold_micros: int
    days: tuple[DayEarnings, ...]
    """Newest last."""
    energy: EnergySums = NO_ENERGY
    """Of all work that the owner's vehicles reported, paid or not."""

    @property
    def after_electricity_micros(self) -> int | None:
        """Gross minus fee minus electricity; None when no cost was told."""
        return self.energy.after(self.gross_micros - self.fee_micros)


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleEarnings:
    """What one vehicle's work brought its owner."""

    verified_attempts: int
    work_uwu: int
    gross_micros: int
    fee_micros: int
    net_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyerBalance:
    """A buyer's money."""

    currency: str
    available_micros: int
    escrow_micros: int
    """Reserved for jobs."""
    spent_micros: int
    """Paid for verified work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTotals:
    """The pool's money by purpose."""

    bank_micros: int
    buyers_available_micros: int
    escrow_micros: int
    held_micros: int
    available_micros: int
    clearing_micros: int
    fees_micros: int
    verification_cost_micros: int


def release_held(uow: UnitOfWork, *, now_us: int) -> int:
    """Move what is out of its dispute window from held to available; return the micros moved.

    Deterministic and idempotent: it releases receipts in their order up to the last one that is old enough,
    and remembers how far it came. Questioned money is not held and stays where it is; while a look-back still
    questions results nothing is released, so that it finds all that is held.
    """
    if uow.verification.first_opening() is not None:
        return 0
    through = uow.receipts.released_through()
    last = uow.receipts.last_verified_until(now_us - uow.terms.dispute_window_us, after_receipt_id=through)
    if last == through:
        return 0
    sums = [
        held
        for held in uow.receipts.held_by_owner(after_receipt_id=through, through_receipt_id=last)
        if held.net_micros
    ]
    specs = [
        spec
        for held in sums
        for spec in (chart.owner_held(held.owner_id), chart.owner_available(held.owner_id))
    ]
    accounts = open_accounts(uow, specs, now_us=now_us)
    requests = [
        TransferRequest(
            kind=TransferKind.SINGLE.value,
            code=TransferCode.AVAILABLE.value,
            debit_account_id=accounts[chart.owner_held_name(held.owner_id)].account_id,
            credit_account_id=accounts[chart.owner_available_name(held.owner_id)].account_id,
            amount_micros=held.net_micros,
            reference_id=last,
        )
        for held in sums
    ]
    transfer(uow, requests, accounts.values(), now_us=now_us)
    uow.receipts.advance_released(from_receipt_id=through, to_receipt_id=last)
    return sum(held.net_micros for held in sums)


def owner_earnings(uow: UnitOfWork, *, owner_id: str, days: int = 0, now_us: int) -> Earnings:
    """Return an owner's money and its last `days` days, today included.

    Raises:
        PoolError: INVALID_ARGUMENT for more than 90 days.
    """
    if not 0 <= days <= EARNINGS_DAYS_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"days must be 0 to {EARNINGS_DAYS_MAX}", context={"field": "days"}
        )
    terms = uow.terms
    held = account(uow, chart.owner_held_name(owner_id))
    questioned = account(uow, chart.owner_questioned_name(owner_id))
    available = account(uow, chart.owner_available_name(owner_id))
    sums = uow.receipts.owner_sums(owner_id)
    oldest_us = uow.receipts.oldest_held_us(owner_id)
    details = uow.payouts.details(owner_id)
    schedule_us = terms.payout_schedule_us
    return Earnings(
        currency=terms.currency,
        held_micros=sum(one.balance_micros for one in (held, questioned) if one),
        available_micros=available.balance_micros if available else 0,
        paid_micros=uow.payouts.paid_micros(owner_id),
        gross_micros=sums.gross_micros,
        fee_micros=sums.fee_micros,
        pending_micros=held.credits_pending_micros if held else 0,
        next_release_us=oldest_us + terms.dispute_window_us if oldest_us else 0,
        next_payout_us=(now_us // schedule_us + 1) * schedule_us if schedule_us else 0,
        payout_threshold_micros=details.threshold_micros if details else DEFAULT_THRESHOLD_MICROS,
        days=_days(uow, owner_id, days, now_us=now_us),
        energy=uow.energy.owner_sums(owner_id),
    )


def vehicle_earnings(uow: UnitOfWork, *, owner_id: str, vehicle_id: str) -> VehicleEarnings:
    """Return what a vehicle earned for its owner so far."""
    sums = uow.receipts.owner_sums(owner_id, vehicle_id=vehicle_id)
    return VehicleEarnings(
        verified_attempts=sums.attempts,
        work_uwu=sums.work_uwu,
        gross_micros=sums.gross_micros,
        fee_micros=sums.fee_micros,
        net_micros=sums.net_micros,
    )


def buyer_balance(uow: UnitOfWork, *, buyer_id: str) -> BuyerBalance:
    """Return a buyer's money; all zero before the first deposit."""
    buyer = account(uow, chart.buyer_available_name(buyer_id))
    escrows = uow.ledger.accounts_swept_to(buyer.account_id) if buyer else []
    returned = (
        uow.ledger.sum_by_code(buyer.account_id, TransferCode.RELEASE.value, debit=False) if buyer else 0
    )
    return BuyerBalance(
        currency=uow.terms.currency,
        available_micros=buyer.free_micros if buyer else 0,
        escrow_micros=sum(escrow.balance_micros for escrow in escrows),
        spent_micros=sum(escrow.debits_posted_micros for escrow in escrows) - returned,
    )


def pool_totals(uow: UnitOfWork) -> PoolTotals:
    """Return the pool's money by purpose."""
    totals = uow.ledger.totals_by_code()

    def credit_balance(code: AccountCode) -> int:
        _, debits_posted, _, credits_posted = totals.get(code.value, (0, 0, 0, 0))
        return credits_posted - debits_posted

    return PoolTotals(
        bank_micros=-credit_balance(AccountCode.BANK),
        buyers_available_micros=credit_balance(AccountCode.BUYER_AVAILABLE),
        escrow_micros=credit_balance(AccountCode.JOB_ESCROW),
        held_micros=credit_balance(AccountCode.OWNER_HELD) + credit_balance(AccountCode.OWNER_QUESTIONED),
        available_micros=credit_balance(AccountCode.OWNER_AVAILABLE),
        clearing_micros=credit_balance(AccountCode.PAYOUT_CLEARING),
        fees_micros=credit_balance(AccountCode.POOL_FEE),
        verification_cost_micros=-credit_balance(AccountCode.VERIFICATION),
    )


def list_accounts(uow: UnitOfWork, *, prefix: str = "") -> list[Account]:
    """Return all accounts whose name begins with `prefix`, by name."""
    return uow.ledger.accounts_by_prefix(prefix)


def _days(uow: UnitOfWork, owner_id: str, count: int, *, now_us: int) -> tuple[DayEarnings, ...]:
    today = now_us // DAY_US
    sums: dict[int, list[int]] = {day: [0, 0] for day in range(today - count + 1, today + 1)}
    for row in uow.receipts.days(owner_id, from_day=today - count + 1, until_day=today + 1):
        sums[row.day][0] += row.net_micros
        sums[row.day][1] += row.attempts
    told = uow.energy.days(owner_id, from_day=today - count + 1, until_day=today + 1) if count else {}
    epoch = datetime(1970, 1, 1, tzinfo=UTC).date()
    return tuple(
        DayEarnings(
            date=(epoch + timedelta(days=day)).isoformat(),
            net_micros=net_micros,
            verified_attempts=attempts,
            energy=told.get(day, NO_ENERGY),
        )
        for day, (net_micros, attempts) in sums.items()
    )

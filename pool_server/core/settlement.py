"""What accepted work pays: gross, fee and net of each attempt, as integers that add up exactly.

Decides amounts only. Who is paid and when is decided by verification; how money moves by the ledger.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import DAY_US
from pool_protocol.money import PPM, fee_floor, work_price_micros

#: How long a leased attempt's money stays reserved after its lease has ended, if nobody resolves it first.
#: The pool voids unreturned attempts itself when the lease ends; this covers results that wait for a second
#: opinion.
UNRESOLVED_AFTER_LEASE_US = 30 * DAY_US


@unique
class Payer(StrEnum):
    """Whose money funds an attempt."""

    JOB = "job"
    """The job's escrow."""
    VERIFICATION = "verification"
    """The pool's own expense: an audit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyTerms:
    """The pool's terms, fixed by its configuration."""

    pool_id: str
    currency: str
    """ISO 4217 code."""
    fee_ppm: int
    """The pool's share of gross, parts per million."""
    dispute_window_us: int
    """How long verified money stays held; 0 releases it at the next sweep."""
    posted_price_micros_per_wu: int
    """The price until an operator sets another."""
    payout_schedule_us: int = 0
    """Payout runs are planned at multiples of this since the epoch; 0 means no schedule."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            PoolError: INVALID_ARGUMENT.
        """
        if not 0 <= self.fee_ppm < PPM:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"fee_ppm must be 0 to {PPM - 1}, not {self.fee_ppm}")
        if min(self.dispute_window_us, self.posted_price_micros_per_wu, self.payout_schedule_us) < 0:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, "a money term is negative")
        if len(self.currency) != 3 or not (self.currency.isascii() and self.currency.isupper()):
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"not an ISO 4217 code: {self.currency!r}")


class AttemptFunding(NamedTuple):
    """An attempt about to be leased, and the most it can pay. A named tuple: made once per attempt."""

    attempt_id: int
    owner_id: str
    job_id: int
    amount_micros: int
    """0 for donated work: nothing is reserved."""
    payer: Payer = Payer.JOB


class AttemptSettlement(NamedTuple):
    """An attempt accepted by verification."""

    attempt_id: int
    pending_transfer_id: int
    """From `fund_attempts`; 0 for donated work."""
    owner_id: str
    vehicle_id: str
    job_id: int
    task_index: int
    program_sha256: str
    output_digest: bytes
    work_uwu: int
    price_micros_per_wu: int
    gross_micros: int
    """The price of the work; at most what was reserved, the rest goes back to the payer."""


class Pay(NamedTuple):
    """How one attempt's gross splits."""

    gross_micros: int
    fee_micros: int
    net_micros: int


def pay_of(settlement: AttemptSettlement, *, fee_ppm: int) -> Pay:
    """Split an attempt's gross into fee, rounded down in the owner's favour, and net.

    Raises:
        PoolError: INVALID_ARGUMENT when the gross is not the price of the work.
    """
    price = work_price_micros(settlement.work_uwu, settlement.price_micros_per_wu)
    if settlement.gross_micros != price:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"attempt {settlement.attempt_id}: gross {settlement.gross_micros} is not the price {price}",
        )
    fee_micros = fee_floor(price, fee_ppm)
    return Pay(price, fee_micros, price - fee_micros)


def fees_by_owner(pays: Iterable[tuple[str, Pay]]) -> dict[str, int]:
    """Sum the fees per owner, in order of first appearance; owners without a fee are left out."""
    fees: dict[str, int] = {}
    for owner_id, pay in pays:
        if pay.fee_micros:
            fees[owner_id] = fees.get(owner_id, 0) + pay.fee_micros
    return fees


def unresolved_expiry_us(lease_expires_at_us: int) -> int:
    """Return the timeout for an attempt's pending transfer, far behind the end of its lease."""
    return lease_expires_at_us + UNRESOLVED_AFTER_LEASE_US

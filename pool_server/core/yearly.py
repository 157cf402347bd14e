"""A year of one owner for tax authorities: consideration per quarter, payments of the year. Pure.

*Consideration* of a quarter is what the ledger moved from others to the owner's accounts and back, payouts
left out: verified work minus fees, minus what was clawed back, plus granted appeals, gifts and corrections.
It counts when it is credited, paid out or not (Directive 2021/514: "paid or credited"). *Payments* of a year
are payouts minus those that came back, when the ledger booked them. The classification of the activity, and
the thresholds of the forms, are the operator's settings; nothing here judges them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import MICROS_PER_UNIT
from pool_server.core.particulars import Particulars

QUARTERS = 4
YEAR_MIN, YEAR_MAX = 2000, 9998
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarter:
    """A quarter of an owner."""

    consideration_micros: int = 0
    """Net of fees."""
    activities: int = 0
    """Verified and paid attempts."""
    fees_micros: int = 0
    """What the pool kept of the gross."""
    taxes_micros: int = 0
    """What was withheld for a tax office."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerYear:
    """A year of an owner."""

    owner_id: str
    particulars: Particulars
    account: str
    """Where payouts go: an IBAN; empty when none was set."""
    account_holder: str
    quarters: tuple[Quarter, ...]
    payments_micros: int
    """Payouts of the year minus those that came back."""
    payment_count: int
    """Payouts of the year minus those that came back."""

    @property
    def consideration_micros(self) -> int:
        """Of the year."""
        return sum(quarter.consideration_micros for quarter in self.quarters)

    @property
    def activities(self) -> int:
        """Of the year."""
        return sum(quarter.activities for quarter in self.quarters)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to report."""
        return not (
            self.payments_micros
            or self.payment_count
            or any(quarter != Quarter() for quarter in self.quarters)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FormRule:
    """When a form 1099 is due, as the operator set it."""

    form: str
    """1099-MISC, 1099-NEC, 1099-K or none."""
    threshold_units: int
    """Whole units of the currency."""
    payments_over: int
    """1099-K: more payments than this, too; 0 for the other forms."""

    def is_reached(self, year: OwnerYear) -> bool:
        """Say whether an owner's payments reach the threshold; those of a 1099-K must exceed it."""
        threshold_micros = self.threshold_units * MICROS_PER_UNIT
        if self.form == "none":
            return False
        if self.form == "1099-K":
            return year.payments_micros > threshold_micros and year.payment_count > self.payments_over
        return year.payments_micros >= threshold_micros


def quarter_bounds_us(year: int) -> tuple[tuple[int, int], ...]:
    """Return the first microsecond of each quarter of a year and of the next quarter, UTC.

    Raises:
        PoolError: INVALID_ARGUMENT for a year that is none.
    """
    if not YEAR_MIN <= year <= YEAR_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"a year is {YEAR_MIN} to {YEAR_MAX}", context={"field": "year"}
        )
    starts = [_start_us(year, month) for month in (1, 4, 7, 10)] + [_start_us(year + 1, 1)]
    return tuple(pairwise(starts))


def with_something(years: Sequence[OwnerYear]) -> tuple[OwnerYear, ...]:
    """Return the years that have something to report, by owner."""
    return tuple(sorted((one for one in years if not one.is_empty), key=lambda one: one.owner_id))


def _start_us(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * _MICROSECONDS

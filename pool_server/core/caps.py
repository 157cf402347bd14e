"""Caps: how much may be reserved or spent in a buyer's name, in all or in a calendar month.

Two have caps: a buyer's account, and each of its tokens, so that a program that runs amok with one token
spends no more than that token may. A job has its own, its budget: the escrow that was reserved for it.

What counts is what was reserved and did not come back: a job's budget counts from the moment it is reserved,
in the month (UTC) in which it was; what a job did not spend gives room back to the same cap and month. Here
is what a cap is; that none is exceeded is a constraint of the database.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum, unique
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError

_MICROSECONDS = 1_000_000
#: The period of a counter that never begins anew.
EVER = "ever"


@unique
class CapHolder(StrEnum):
    """Whose spending is capped."""

    ACCOUNT = "account"
    TOKEN = "token"  # noqa: S105 - a word, not a secret


@unique
class CapPeriod(StrEnum):
    """Over what time."""

    EVER = "ever"
    MONTH = "month"


class CounterKey(NamedTuple):
    """Names a counter."""

    holder: CapHolder
    subject_id: str
    """A buyer's or a token's id."""
    period: str
    """`ever`, or a month in UTC: `2026-11`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendCounter:
    """What one cap allows and what is used of it."""

    key: CounterKey
    used_micros: int
    """Reserved now, and spent."""
    limit_micros: int | None
    """The cap that was set; None for none. One that was set below what was used already lets nothing more be
    reserved until enough came back."""

    @property
    def left_micros(self) -> int | None:
        """What may still be reserved; None without a cap."""
        return None if self.limit_micros is None else max(0, self.limit_micros - self.used_micros)


def month_of(at_us: int) -> str:
    """Return the calendar month of a time, in UTC: `2026-11`."""
    return datetime.fromtimestamp(at_us // _MICROSECONDS, tz=UTC).strftime("%Y-%m")


def counters_of(*, buyer_id: str, token_id: str, month: str) -> tuple[CounterKey, ...]:
    """Return all counters that a reservation counts in; without a token's when none was used."""
    holders = [(CapHolder.ACCOUNT, buyer_id)]
    if token_id:
        holders.append((CapHolder.TOKEN, token_id))
    return tuple(
        CounterKey(holder, subject_id, period) for holder, subject_id in holders for period in (EVER, month)
    )


def period_of(key: CounterKey) -> CapPeriod:
    """Return over what time a counter counts."""
    return CapPeriod.EVER if key.period == EVER else CapPeriod.MONTH


def reached(counter: SpendCounter, *, wanted_micros: int) -> PoolError:
    """Return the refusal of a reservation that does not fit: SPEND_LIMIT_REACHED, with what is left."""
    key = counter.key
    left_micros = counter.left_micros or 0
    whose = "this account" if key.holder is CapHolder.ACCOUNT else "this token"
    when = "in all" if key.period == EVER else f"in {key.period} (UTC)"
    return PoolError(
        ErrorCode.SPEND_LIMIT_REACHED,
        f"{whose} may reserve and spend {counter.limit_micros} micros {when}; {counter.used_micros} are "
        f"used, {left_micros} are left, {wanted_micros} were asked for",
        context={
            "holder": key.holder.value,
            "subject_id": key.subject_id,
            "period": key.period,
            "limit_micros": str(counter.limit_micros),
            "used_micros": str(counter.used_micros),
            "left_micros": str(left_micros),
            "wanted_micros": str(wanted_micros),
        },
    )

"""What an approver must see of a planned run before agreeing to it. Pure.

Compares a plan with the last run that was approved, and with what the pool has at its bank by the books. It
decides nothing: every warning is for a person to weigh.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pool_server.core.payouts.model import PayoutRow

#: Movers that are shown: the largest changes either way.
MOVERS_MAX = 10
#: An owner's amount counts as unusual from this many times the last one.
_UNUSUAL_TIMES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """An owner whose amount changed against the last run."""

    owner_id: str
    amount_micros: int
    """0 for one who was in the last run and is not in this one."""
    previous_micros: int
    """0 for one who was not in the last run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the books, and an operator who looked, say that the pool has; and what it owes."""

    bank_micros: int
    """At the pool's banks."""
    owed_micros: int
    """To buyers, owners and tax offices, payouts under way included."""
    under_way_micros: int
    """Approved earlier and not settled."""
    entered_micros: int = 0
    """What an operator last entered as the bank's own figure."""
    entered_as_of: str = ""
    """The day of that figure; empty when none was entered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a plan is compared with."""

    rows: Sequence[PayoutRow]
    """The paid rows of the last run that was approved; none before the first."""
    ibans: Mapping[str, str]
    """The account that each owner was paid to last, where one was; what the bank rejected was not paid."""
    came_back: Collection[str]
    """Owners whose payment of the last run was rejected or returned."""
    paid_after_all: Collection[str] = ()
    """Owners of whom the bank says that it paid what the books had given back, and nothing arrived since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A planned run beside the last one."""

    previous_total_micros: int
    """0 before the first."""
    previous_row_count: int
    movers: tuple[Mover, ...]
    """Largest changes first."""
    new_accounts: tuple[str, ...]
    """Owners who are paid to an account for the first time, by id."""
    below_threshold_count: int
    """Owners with at least a cent who wait for their threshold."""
    below_threshold_micros: int
    warnings: tuple[str, ...]
    """Plain sentences."""


def review(
    rows: Sequence[PayoutRow],
    past: Past,
    *,
    waiting_micros: Iterable[int],
    coverage: Coverage,
    money: Callable[[int], str],
) -> Review:
    """Review a plan.

    Args:
        rows: The plan's paid rows.
        past: What it is compared with.
        waiting_micros: What the owners below their thresholds have, each.
        coverage: The books' figures.
        money: Writes an amount in micro-units of the pool's currency, for people.
    """
    before = {row.owner_id: row.amount_micros for row in past.rows}
    now = {row.owner_id: row.amount_micros for row in rows}
    movers = [
        Mover(owner_id=owner_id, amount_micros=now.get(owner_id, 0), previous_micros=before.get(owner_id, 0))
        for owner_id in now.keys() | before.keys()
        if now.get(owner_id, 0) != before.get(owner_id, 0)
    ]
    movers.sort(key=lambda mover: (-abs(mover.amount_micros - mover.previous_micros), mover.owner_id))
    new_accounts = [row.owner_id for row in rows if past.ibans.get(row.owner_id) != row.iban]
    waiting = [amount for amount in waiting_micros if amount]
    return Review(
        previous_total_micros=sum(before.values()),
        previous_row_count=len(before),
        movers=tuple(movers[:MOVERS_MAX]),
        new_accounts=tuple(new_accounts),
        below_threshold_count=len(waiting),
        below_threshold_micros=sum(waiting),
        warnings=tuple(_warnings(rows, past, coverage, money)),
    )


def _warnings(
    rows: Sequence[PayoutRow], past: Past, coverage: Coverage, money: Callable[[int], str]
) -> Iterable[str]:
    total = sum(row.amount_micros for row in rows)
    needed = total + coverage.under_way_micros
    held, source = coverage.bank_micros, "by the books"
    if coverage.entered_as_of:
        held, source = coverage.entered_micros, f"as entered for {coverage.entered_as_of}"
    if held < needed:
        yield (
            f"The bank account cannot cover it: {source} it holds {money(held)}, and {money(needed)} are "
            f"to be paid ({money(coverage.under_way_micros)} of it approved earlier)."
        )
    # Where the bank's own figure is known, statements of solvency say more of it than a payout's review can.
    if held < coverage.owed_micros and not coverage.entered_as_of:
        yield (
            f"The pool owes more than it has: {money(coverage.owed_micros)} to buyers, owners and tax "
            f"offices, {money(held)} at its banks by the books."
        )
    yield from _account_warnings(rows, past)
    before = {row.owner_id: row.amount_micros for row in past.rows}
    unusual = [
        row.owner_id
        for row in rows
        if row.amount_micros >= _UNUSUAL_TIMES * before.get(row.owner_id, row.amount_micros)
    ]
    if unusual:
        who = _count(unusual, "owner gets", "owners get")
        yield f"{who} at least {_UNUSUAL_TIMES} times the last amount: {_some(unusual)}."


def _account_warnings(rows: Sequence[PayoutRow], past: Past) -> Iterable[str]:
    changed = [row.owner_id for row in rows if past.ibans.get(row.owner_id, row.iban) != row.iban]
    if changed:
        who = _count(changed, "owner is", "owners are")
        yield f"{who} paid to another account than last time: {_some(changed)}."
    shared = _shared_ibans(rows)
    if shared:
        what = _count(shared, "account is", "accounts are")
        yield f"{what} named by several owners: {_some(shared)}."
    twice = [row.owner_id for row in rows if row.owner_id in past.paid_after_all]
    if twice:
        who = _count(twice, "owner is", "owners are")
        yield (
            f"{who} perhaps paid twice: the bank says that it paid what the books, told otherwise, "
            f"gave back: {_some(twice)}."
        )
    tried = {row.owner_id: row.iban for row in past.rows if row.owner_id in past.came_back}
    again = [row.owner_id for row in rows if tried.get(row.owner_id) == row.iban]
    if again:
        who = _count(
            again, "owner whose last payment came back is", "owners whose last payments came back are"
        )
        yield f"{who} paid to the same account again: {_some(again)}."


def _shared_ibans(rows: Sequence[PayoutRow]) -> list[str]:
    owners: dict[str, int] = {}
    for row in rows:
        owners[row.iban] = owners.get(row.iban, 0) + 1
    return sorted(iban for iban, count in owners.items() if count > 1)


def _count(things: Sequence[str], one: str, many: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else many}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"

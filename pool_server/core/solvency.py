"""What the pool owes, which accounts that is, and whether a bank balance covers it. Pure."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique

from pool_server.core.ledger.chart import NATURE, Nature
from pool_server.core.ledger.model import Account, AccountCode

#: What a statement calls the accounts of a code; of others that are liabilities it says "other".
KINDS: dict[AccountCode, str] = {
    AccountCode.BUYER_AVAILABLE: "buyers_available",
    AccountCode.JOB_ESCROW: "jobs_escrow",
    AccountCode.OWNER_HELD: "owners_held",
    AccountCode.OWNER_QUESTIONED: "owners_questioned",
    AccountCode.OWNER_AVAILABLE: "owners_available",
    AccountCode.PAYOUT_CLEARING: "payouts_clearing",
    AccountCode.TAX: "taxes",
    AccountCode.SLA_RESERVE: "credits_reserved",
}
OTHER = "other"
#: A bank's figure that is older is called so: banks tell balances daily, and not on three days in a row.
FRESH_DAYS_MAX = 4
_LEAF = struct.Struct(">qq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """What is owed at one moment of the ledger."""

    by_kind: tuple[tuple[str, int], ...]
    """Kinds with an amount, in the order of `KINDS`."""
    total_micros: int
    accounts: tuple[tuple[int, str, int], ...]
    """Account id, name and balance of each that is owed something."""
    books_micros: int
    """What the books say that the bank holds."""


def owed(accounts: Iterable[Account]) -> Owed:
    """Add up what is owed to others."""
    sums: dict[str, int] = {}
    counted: list[tuple[int, str, int]] = []
    books_micros = 0
    for account in accounts:
        if account.code == AccountCode.BANK:
            books_micros -= account.balance_micros
        code = AccountCode(account.code)
        if NATURE[code] is not Nature.LIABILITY or account.balance_micros <= 0:
            continue
        kind = KINDS.get(code, OTHER)
        sums[kind] = sums.get(kind, 0) + account.balance_micros
        counted.append((account.account_id, account.name, account.balance_micros))
    return Owed(
        by_kind=tuple((kind, sums[kind]) for kind in (*KINDS.values(), OTHER) if kind in sums),
        total_micros=sum(sums.values()),
        accounts=tuple(counted),
        books_micros=books_micros,
    )


def owed_in_all(totals: Mapping[int, tuple[int, int, int, int]]) -> int:
    """Return what is owed to others by sums per account code: debits and credits, pending and posted each."""
    return sum(
        credits_posted - debits_posted
        for code, (_, debits_posted, _, credits_posted) in totals.items()
        if NATURE[AccountCode(code)] is Nature.LIABILITY
    )


def pack_leaves(accounts: Sequence[tuple[int, str, int]]) -> bytes:
    """Return account ids and balances as they are kept with a statement."""
    return b"".join(_LEAF.pack(account_id, balance) for account_id, _, balance in accounts)


def unpack_leaves(content: bytes) -> list[tuple[int, int]]:
    """Return what `pack_leaves` kept: account id and balance."""
    return list(_LEAF.iter_unpack(content))


@unique
class CoverageState(StrEnum):
    """Whether the bank covers what is owed."""

    COVERED = "covered"
    INSOLVENT = "insolvent"
    """The bank holds less than is owed."""
    UNKNOWN = "unknown"
    """Nobody has entered what the bank holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a bank balance means."""

    state: CoverageState
    bank_micros: int
    """What the bank held; 0 when that is not known."""
    bank_age_days: int
    liabilities_micros: int
    about_to_pay_micros: int

    @property
    def surplus_micros(self) -> int:
        """What the bank holds above what is owed, negative when it is missing; 0 when it is not known."""
        return 0 if self.state is CoverageState.UNKNOWN else self.bank_micros - self.liabilities_micros

    @property
    def is_old(self) -> bool:
        """Whether the bank's figure is too old to rely on."""
        return self.bank_age_days > FRESH_DAYS_MAX

    @property
    def pays(self) -> bool:
        """Whether the bank's figure covers what is about to be paid."""
        return self.state is not CoverageState.UNKNOWN and self.bank_micros >= self.about_to_pay_micros

    @property
    def is_warning(self) -> bool:
        """Whether someone who is about to pay should be told."""
        return self.state is not CoverageState.COVERED or self.is_old or not self.pays


def coverage(
    *, bank_micros: int | None, bank_age_days: int, liabilities_micros: int, about_to_pay_micros: int = 0
) -> Coverage:
    """Say whether a bank balance covers what is owed.

    Args:
        bank_micros: What the bank said that it holds; None when nobody has entered it.
        bank_age_days: How many days ago that was.
        liabilities_micros: What is owed now, payouts that are on their way included.
        about_to_pay_micros: What is to be paid next; it is part of what is owed.
    """
    if bank_micros is None:
        return Coverage(
            state=CoverageState.UNKNOWN,
            bank_micros=0,
            bank_age_days=0,
            liabilities_micros=liabilities_micros,
            about_to_pay_micros=about_to_pay_micros,
        )
    enough = bank_micros >= liabilities_micros
    return Coverage(
        state=CoverageState.COVERED if enough else CoverageState.INSOLVENT,
        bank_micros=bank_micros,
        bank_age_days=bank_age_days,
        liabilities_micros=liabilities_micros,
        about_to_pay_micros=about_to_pay_micros,
    )

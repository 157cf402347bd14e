"""The chart of accounts: what each account is in a balance sheet, and which code moves money between which.

`ledger check` holds every transfer against `FLOWS`. A void moves nothing, so its code stands for itself
whatever the pending transfer was for.
"""

from collections.abc import Mapping
from enum import StrEnum, unique
from types import MappingProxyType

from pool_server.core.ledger.model import AccountCode, TransferCode


@unique
class Nature(StrEnum):
    """What an account is in a balance sheet."""

    ASSET = "asset"
    """What the pool has: debits add."""
    LIABILITY = "liability"
    """What the pool holds for others: credits add."""
    INCOME = "income"
    EXPENSE = "expense"
    EQUITY = "equity"


NATURE: Mapping[AccountCode, Nature] = MappingProxyType(
    {
        AccountCode.BANK: Nature.ASSET,
        AccountCode.BUYER_AVAILABLE: Nature.LIABILITY,
        AccountCode.JOB_ESCROW: Nature.LIABILITY,
        AccountCode.OWNER_HELD: Nature.LIABILITY,
        AccountCode.OWNER_AVAILABLE: Nature.LIABILITY,
        AccountCode.PAYOUT_CLEARING: Nature.LIABILITY,
        AccountCode.POOL_FEE: Nature.INCOME,
        AccountCode.VERIFICATION: Nature.EXPENSE,
        AccountCode.OWNER_QUESTIONED: Nature.LIABILITY,
        AccountCode.ROUNDING: Nature.INCOME,
        AccountCode.GOODWILL: Nature.EXPENSE,
        AccountCode.BANK_FEES: Nature.EXPENSE,
        AccountCode.TAX: Nature.LIABILITY,
        AccountCode.SLA_RESERVE: Nature.LIABILITY,
        AccountCode.OPENING: Nature.EQUITY,
    }
)

#: Accounts of the pool itself, and those of a party that an operator may write to by hand. What is missing
#: (escrows, held and questioned money, clearing) follows from jobs, receipts and runs, and only from them.
POOL_ACCOUNTS = frozenset(
    {
        AccountCode.BANK,
        AccountCode.POOL_FEE,
        AccountCode.VERIFICATION,
        AccountCode.ROUNDING,
        AccountCode.GOODWILL,
        AccountCode.BANK_FEES,
        AccountCode.TAX,
        AccountCode.SLA_RESERVE,
        AccountCode.OPENING,
    }
)
PARTY_ACCOUNTS = frozenset({AccountCode.BUYER_AVAILABLE, AccountCode.OWNER_AVAILABLE})

_BUYER, _ESCROW = AccountCode.BUYER_AVAILABLE, AccountCode.JOB_ESCROW
_HELD, _QUESTIONED, _AVAILABLE = (
    AccountCode.OWNER_HELD,
    AccountCode.OWNER_QUESTIONED,
    AccountCode.OWNER_AVAILABLE,
)
_BANK, _CLEARING, _FEE = AccountCode.BANK, AccountCode.PAYOUT_CLEARING, AccountCode.POOL_FEE
_AUDITS, _RESERVE, _TAX = AccountCode.VERIFICATION, AccountCode.SLA_RESERVE, AccountCode.TAX
_LEASES = frozenset({(_ESCROW, _HELD), (_AUDITS, _HELD)})
_BY_HAND = frozenset(
    (debit, credit)
    for debit in POOL_ACCOUNTS | PARTY_ACCOUNTS
    for credit in POOL_ACCOUNTS | PARTY_ACCOUNTS
    if debit in POOL_ACCOUNTS or credit in POOL_ACCOUNTS
)

#: By code, the pairs of accounts (debit, credit) between which it moves money.
FLOWS: Mapping[TransferCode, frozenset[tuple[AccountCode, AccountCode]]] = MappingProxyType(
    {
        TransferCode.DEPOSIT: frozenset({(_BANK, _BUYER)}),
        TransferCode.DEPOSIT_FEE: frozenset({(AccountCode.BANK_FEES, _BANK), (_BUYER, _BANK)}),
        TransferCode.RESERVE: frozenset({(_BUYER, _ESCROW)}),
        TransferCode.RELEASE: frozenset({(_ESCROW, _BUYER)}),
        TransferCode.LEASE: frozenset({(_ESCROW, _HELD)}),
        TransferCode.VERIFIED: _LEASES,
        TransferCode.FEE: frozenset({(_HELD, _FEE)}),
        TransferCode.REJECTED: _LEASES,
        TransferCode.EXPIRED: _LEASES,
        TransferCode.AUDIT: frozenset({(_AUDITS, _HELD)}),
        TransferCode.AVAILABLE: frozenset({(_HELD, _AVAILABLE)}),
        TransferCode.QUESTIONED: frozenset({(_HELD, _QUESTIONED)}),
        TransferCode.UPHELD: frozenset({(_QUESTIONED, _HELD), (_QUESTIONED, _AVAILABLE)}),
        TransferCode.CLAWED_BACK: frozenset({(_QUESTIONED, _AUDITS)}),
        TransferCode.APPEALED: frozenset({(_AUDITS, _AVAILABLE)}),
        TransferCode.PAYOUT: frozenset({(_AVAILABLE, _CLEARING)}),
        TransferCode.PAYOUT_SETTLED: frozenset({(_CLEARING, _BANK)}),
        TransferCode.PAYOUT_RETURNED: frozenset({(_CLEARING, _AVAILABLE), (_BANK, _AVAILABLE)}),
        TransferCode.PAYOUT_FEE: frozenset({(AccountCode.BANK_FEES, _BANK)}),
        TransferCode.PAYOUT_ROUNDING: frozenset({(_AVAILABLE, AccountCode.ROUNDING)}),
        TransferCode.REFUND: frozenset({(_BUYER, _BANK)}),
        TransferCode.SLA_CREDIT: frozenset({(_FEE, _RESERVE), (_RESERVE, _BUYER), (_RESERVE, _FEE)}),
        TransferCode.GOODWILL: frozenset(
            {(AccountCode.GOODWILL, _BUYER), (AccountCode.GOODWILL, _AVAILABLE)}
        ),
        TransferCode.CORRECTION: _BY_HAND,
        TransferCode.VAT: frozenset({(_FEE, _TAX), (_BUYER, _TAX), (_AVAILABLE, _TAX), (_TAX, _BANK)}),
        TransferCode.OPENING: frozenset(
            {
                *((AccountCode.OPENING, other) for other in POOL_ACCOUNTS | PARTY_ACCOUNTS),
                *((other, AccountCode.OPENING) for other in POOL_ACCOUNTS | PARTY_ACCOUNTS),
            }
            - {(AccountCode.OPENING, AccountCode.OPENING)}
        ),
    }
)

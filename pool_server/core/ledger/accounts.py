"""The names of accounts: how each is called, with its code and its limit.

Money that belongs to others (buyers, jobs, owners, payouts in clearing, tax offices) is limited: debits,
reserved ones included, never exceed credits. Banks and the pool's expenses are not; they carry the other
side. What an account is for in a balance sheet, and which code moves money between which: see `chart`.
"""

import re

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.ledger.model import AccountCode, AccountSpec

_BANK_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def bank(bank_id: str) -> AccountSpec:
    """Describe what the pool has at one of its banks: `main` for the first.

    Raises:
        PoolError: INVALID_ARGUMENT when the id is not 1 to 32 small letters, digits and hyphens.
    """
    if not _BANK_ID.fullmatch(bank_id):
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"a bank's id has 1 to 32 small letters, digits and hyphens: {bank_id!r}",
            context={"field": "bank_id"},
        )
    return AccountSpec(name=f"bank:{bank_id}", code=AccountCode.BANK, debits_must_not_exceed_credits=False)


BANK = bank("main")
POOL_FEE = AccountSpec(name="fee:pool", code=AccountCode.POOL_FEE)
VERIFICATION = AccountSpec(
    name="x:verification", code=AccountCode.VERIFICATION, debits_must_not_exceed_credits=False
)
GOODWILL = AccountSpec(name="x:goodwill", code=AccountCode.GOODWILL, debits_must_not_exceed_credits=False)
BANK_FEES = AccountSpec(name="x:psp-fees", code=AccountCode.BANK_FEES, debits_must_not_exceed_credits=False)
PAYOUT_CLEARING = AccountSpec(name="payout:clearing", code=AccountCode.PAYOUT_CLEARING)
ROUNDING = AccountSpec(name="rounding", code=AccountCode.ROUNDING)
VAT = AccountSpec(name="tax:vat", code=AccountCode.TAX)
TAX_WITHHELD = AccountSpec(name="tax:withheld", code=AccountCode.TAX)
SLA_RESERVE = AccountSpec(name="sla:reserve", code=AccountCode.SLA_RESERVE)
OPENING = AccountSpec(name="opening", code=AccountCode.OPENING, debits_must_not_exceed_credits=False)


def buyer_available_name(buyer_id: str) -> str:
    """Name the account of a buyer's free money."""
    return f"buyer:{buyer_id}:available"


def job_escrow_name(job_id: int) -> str:
    """Name the account of money reserved for a job."""
    return f"job:{job_id}:escrow"


def owner_held_name(owner_id: str) -> str:
    """Name the account of an owner's money inside the dispute window."""
    return f"owner:{owner_id}:held"


def owner_available_name(owner_id: str) -> str:
    """Name the account of an owner's payable money."""
    return f"owner:{owner_id}:available"


def owner_questioned_name(owner_id: str) -> str:
    """Name the account of an owner's money whose results are checked again."""
    return f"owner:{owner_id}:questioned"


def buyer_available(buyer_id: str) -> AccountSpec:
    """Describe a buyer's account."""
    return AccountSpec(name=buyer_available_name(buyer_id), code=AccountCode.BUYER_AVAILABLE)


def job_escrow(job_id: int, *, buyer_account_id: int) -> AccountSpec:
    """Describe a job's escrow; when the job ends its rest goes back to the buyer's account."""
    return AccountSpec(
        name=job_escrow_name(job_id), code=AccountCode.JOB_ESCROW, sweep_to_account_id=buyer_account_id
    )


def owner_held(owner_id: str) -> AccountSpec:
    """Describe an owner's held account."""
    return AccountSpec(name=owner_held_name(owner_id), code=AccountCode.OWNER_HELD)


def owner_available(owner_id: str) -> AccountSpec:
    """Describe an owner's payable account."""
    return AccountSpec(name=owner_available_name(owner_id), code=AccountCode.OWNER_AVAILABLE)


def owner_questioned(owner_id: str) -> AccountSpec:
    """Describe an owner's account of questioned money."""
    return AccountSpec(name=owner_questioned_name(owner_id), code=AccountCode.OWNER_QUESTIONED)


def owner_of(account_name: str) -> str:
    """Return the owner in the name of an owner's account: `owner:<id>:held` -> `<id>`."""
    return account_name.split(":")[1]

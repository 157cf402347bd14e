"""The chart of accounts: each account's name, code and limits.

Money that belongs to others (buyers, jobs, owners, payouts in clearing) is limited: debits, reserved ones
included, never exceed credits. The bank and the pool's expenses are not; they carry the other side.
"""

from pool_server.core.ledger.model import AccountCode, AccountSpec

BANK = AccountSpec(name="bank:main", code=AccountCode.BANK, debits_must_not_exceed_credits=False)
POOL_FEE = AccountSpec(name="fee:pool", code=AccountCode.POOL_FEE)
VERIFICATION = AccountSpec(
    name="x:verification", code=AccountCode.VERIFICATION, debits_must_not_exceed_credits=False
)
PAYOUT_CLEARING = AccountSpec(name="payout:clearing", code=AccountCode.PAYOUT_CLEARING)


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

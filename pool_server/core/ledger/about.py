"""What a transfer is about, in words: the thing that its reference number names. Pure."""

from pool_server.core.ledger.entries import ENTRY_CODES, ENTRY_PREFIX
from pool_server.core.ledger.model import TransferCode

_ATTEMPTS = frozenset(
    {
        TransferCode.LEASE,
        TransferCode.VERIFIED,
        TransferCode.REJECTED,
        TransferCode.EXPIRED,
        TransferCode.AUDIT,
        TransferCode.QUESTIONED,
        TransferCode.UPHELD,
        TransferCode.CLAWED_BACK,
        TransferCode.APPEALED,
    }
)
_JOBS = frozenset({TransferCode.RESERVE, TransferCode.RELEASE})
_PAYOUTS = frozenset(
    {
        TransferCode.PAYOUT,
        TransferCode.PAYOUT_SETTLED,
        TransferCode.PAYOUT_RETURNED,
        TransferCode.PAYOUT_FEE,
        TransferCode.PAYOUT_ROUNDING,
    }
)


def about(code: int, reference_id: int) -> str:
    """Return what a transfer is about, for example `job_3` or `attempt_17`; empty when it names nothing."""
    if not reference_id:
        return ""
    if code in _ATTEMPTS:
        return f"attempt_{reference_id}"
    if code in _JOBS:
        return f"job_{reference_id}"
    if code in _PAYOUTS:
        return f"payout_{reference_id}"
    if code in ENTRY_CODES:
        return f"{ENTRY_PREFIX}{reference_id}"
    if code == TransferCode.FEE:
        return f"receipt batch {reference_id}"
    if code == TransferCode.AVAILABLE:
        return f"receipts up to {reference_id}"
    return str(reference_id)


def code_name(code: int) -> str:
    """Return a code's name, for example `payout_returned`; its number when this version does not know it."""
    try:
        return TransferCode(code).name.lower()
    except ValueError:
        return str(code)

"""A payout run and its rows as values, and the one table of its states."""

from dataclasses import dataclass
from enum import StrEnum, unique

from pool_protocol.errors import ErrorCode, PoolError


@unique
class PayoutState(StrEnum):
    """planned -> approved -> exported, or planned -> cancelled."""

    PLANNED = "planned"
    """Rows are fixed; nothing is booked."""
    APPROVED = "approved"
    """A second operator agreed: the money is in clearing."""
    EXPORTED = "exported"
    """The bank's file exists; it never changes."""
    CANCELLED = "cancelled"
    """Dropped before anything was booked."""


TRANSITIONS: frozenset[tuple[PayoutState, PayoutState]] = frozenset(
    {
        (PayoutState.PLANNED, PayoutState.APPROVED),
        (PayoutState.PLANNED, PayoutState.CANCELLED),
        (PayoutState.APPROVED, PayoutState.EXPORTED),
    }
)


@unique
class LeftOut(StrEnum):
    """Why an owner's row is quarantined. The money stays available."""

    NO_DETAILS = "NO_DETAILS"
    HOLDER_NAME_INVALID = "HOLDER_NAME_INVALID"
    IBAN_INVALID = "IBAN_INVALID"
    THRESHOLD_INVALID = "THRESHOLD_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutDetails:
    """How an owner is paid."""

    holder_name: str
    iban: str
    """Without spaces, upper case."""
    threshold_micros: int
    """Paid when available reaches this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutRow:
    """One owner's row of a run."""

    owner_id: str
    holder_name: str
    iban: str
    amount_micros: int
    """Whole cents, in micro-units."""
    reason: str
    """Why it is quarantined (a `LeftOut`); empty for a row that is paid."""
    reference: str
    """End-to-end reference on the bank's side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutRun:
    """A run without its rows."""

    payout_id: int
    state: PayoutState
    currency: str
    total_micros: int
    """Sum of the rows that are paid."""
    row_count: int
    """Rows that are paid."""
    idempotency_key: str
    planned_by: str
    planned_at_us: int
    approved_by: str = ""
    approved_at_us: int = 0
    ended_by: str = ""
    """Who exported or cancelled it."""
    ended_at_us: int = 0
    file_sha256: str = ""

    @property
    def text_id(self) -> str:
        """The id as people write it: `payout_3`."""
        return f"payout_{self.payout_id}"


def check_transition(payout_id: int, from_state: PayoutState, to_state: PayoutState) -> None:
    """Check a step against the table.

    Raises:
        PoolError: PAYOUT_STATE.
    """
    if (from_state, to_state) not in TRANSITIONS:
        raise PoolError(
            ErrorCode.PAYOUT_STATE,
            f"payout_{payout_id} is {from_state}; it cannot become {to_state}",
            context={"payout_id": f"payout_{payout_id}", "state": from_state.value},
        )

"""A payout run and its rows as values, and the one table of its states."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType

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
    """Dropped before anything was booked, or planned when nobody could be paid."""


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
    HOLDER_NAME_NOT_SEPA = "HOLDER_NAME_NOT_SEPA"
    IBAN_NOT_SEPA = "IBAN_NOT_SEPA"
    ADDRESS_MISSING = "ADDRESS_MISSING"
    ADDRESS_INVALID = "ADDRESS_INVALID"
    BIC_INVALID = "BIC_INVALID"
    AMOUNT_TOO_LARGE = "AMOUNT_TOO_LARGE"


#: The same in words, for owners and operators.
LEFT_OUT_WORDS: Mapping[str, str] = MappingProxyType(
    {
        LeftOut.NO_DETAILS.value: "the owner has not said where to pay",
        LeftOut.HOLDER_NAME_INVALID.value: "the account holder's name cannot be sent to a bank",
        LeftOut.IBAN_INVALID.value: "the IBAN is not valid",
        LeftOut.THRESHOLD_INVALID.value: "the threshold is not valid",
        LeftOut.HOLDER_NAME_NOT_SEPA.value: "the account holder's name has letters that not every bank takes",
        LeftOut.IBAN_NOT_SEPA.value: "the account's country cannot be reached by SEPA transfer",
        LeftOut.ADDRESS_MISSING.value: "the owner's town and country are missing",
        LeftOut.ADDRESS_INVALID.value: "the owner's town or country cannot be sent to a bank",
        LeftOut.BIC_INVALID.value: "the BIC does not fit the IBAN",
        LeftOut.AMOUNT_TOO_LARGE.value: "the amount is more than one SEPA transfer can carry",
    }
)


@unique
class RailName(StrEnum):
    """How a run reaches the bank."""

    PAIN001 = "pain001"
    """A SEPA credit transfer file, ISO 20022 pain.001.001.09."""
    CSV = "csv"
    """A table, for banks or people who type payments in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutDetails:
    """How an owner is paid."""

    holder_name: str
    iban: str
    """Without spaces, upper case."""
    threshold_micros: int
    """Paid when available reaches this."""
    town: str = ""
    """Empty only in details that were set before it was asked for, and outside SEPA."""
    country: str = ""
    """Where the owner lives, ISO 3166; empty as `town` is."""
    bic: str = ""
    """The bank's BIC; empty where it is not known."""


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
    """End-to-end reference on the bank's side; empty for a quarantined row."""
    town: str = ""
    country: str = ""
    bic: str = ""


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
    rail: str = RailName.CSV.value
    """A `RailName`, chosen when it is planned: what a bank takes decides who can be paid."""

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

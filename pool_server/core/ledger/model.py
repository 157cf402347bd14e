"""The ledger's words as values: accounts with four counters, requests, outcomes, immutable transfers.

Amounts are integer micro-units. Counters only ever grow except the two pending ones; a balance is a
difference of counters and is never stored. This module holds no rule: `decision` has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum, unique
from typing import NamedTuple


@unique
class AccountCode(IntEnum):
    """What an account is for. Stored; never renumbered."""

    BANK = 1
    """What the pool has at its bank: debited by deposits."""
    BUYER_AVAILABLE = 2
    """A buyer's free money."""
    JOB_ESCROW = 3
    """Money reserved for one job."""
    OWNER_HELD = 4
    """An owner's verified earnings inside the dispute window."""
    OWNER_AVAILABLE = 5
    """An owner's payable earnings."""
    PAYOUT_CLEARING = 6
    """Approved payouts on their way to the bank."""
    POOL_FEE = 7
    """The pool's income."""
    VERIFICATION = 8
    """The pool's expense: audits."""
    OWNER_QUESTIONED = 9
    """An owner's held earnings for results that a look-back checks again."""
    ROUNDING = 10
    """The pool's income: fractions of a cent that cannot be paid when an owner leaves."""
    GOODWILL = 11
    """The pool's expense: what it gives without owing it."""
    BANK_FEES = 12
    """The pool's expense: what banks and payment providers take."""
    TAX = 13
    """Collected or withheld for a tax office: not the pool's money."""
    SLA_RESERVE = 14
    """Set aside for credits to buyers whose work came late."""
    OPENING = 15
    """The other side of balances that were there before these books."""


@unique
class AccountState(IntEnum):
    """open -> draining -> closed."""

    OPEN = 0
    DRAINING = 1
    """Takes nothing new; what its open pendings free goes back to `sweep_to_account_id`."""
    CLOSED = 2
    """Empty for ever."""


@unique
class TransferKind(IntEnum):
    """How a transfer moves the counters."""

    SINGLE = 0
    """Posts at once."""
    PENDING = 1
    """Reserves; a later POST or VOID resolves it, once."""
    POST = 2
    """Posts a pending transfer, in full or in part; the rest is released."""
    VOID = 3
    """Releases a pending transfer."""


@unique
class TransferCode(IntEnum):
    """Why money moves. Stored; never renumbered. Between which accounts: see `chart.FLOWS`."""

    DEPOSIT = 100
    DEPOSIT_FEE = 110
    """What the bank took of a deposit."""
    RESERVE = 200
    RELEASE = 210
    LEASE = 300
    VERIFIED = 310
    FEE = 311
    REJECTED = 320
    EXPIRED = 330
    AUDIT = 340
    """A lease whose payer is the pool."""
    AVAILABLE = 400
    """The dispute window is over: held -> available."""
    QUESTIONED = 410
    """A look-back checks a result again: held -> questioned."""
    UPHELD = 420
    """The result was right, or nobody could tell: back to held, or to available where the window is over."""
    CLAWED_BACK = 430
    """The result was wrong: questioned -> the pool, which pays for the right one."""
    APPEALED = 440
    """An appeal was granted: the pool pays for a result that had been rejected."""
    PAYOUT = 500
    """Approved: owner available -> clearing."""
    PAYOUT_SETTLED = 505
    """The bank says that it has paid: clearing -> bank."""
    PAYOUT_RETURNED = 510
    """The bank did not pay, or the money came back: clearing (bank, once settled) -> owner available."""
    PAYOUT_FEE = 520
    """What the bank took for paying: the pool's cost, never the owner's."""
    PAYOUT_ROUNDING = 530
    """An owner leaves: the fraction of a cent that no bank can pay."""
    REFUND = 600
    """A buyer's free money goes back to where it came from."""
    SLA_CREDIT = 610
    """A buyer's credit for work that came late, and what is set aside for it."""
    GOODWILL = 620
    """A gift of the pool to a buyer or an owner."""
    CORRECTION = 700
    """Puts right what was booked wrongly, by a further transfer."""
    VAT = 800
    """A tax: taken out of the fee or a buyer's money, and handed to the tax office."""
    OPENING = 900
    """A balance from before these books."""


@unique
class Outcome(StrEnum):
    """What became of a request. In the order in which `decide` checks."""

    CREATED = "created"
    LINKED_CHAIN_OPEN = "linked_chain_open"
    LINKED_EVENT_FAILED = "linked_event_failed"
    ID_ALREADY_FAILED = "id_already_failed"
    EXISTS_WITH_DIFFERENT = "exists_with_different"
    EXISTS = "exists"
    REQUEST_MALFORMED = "request_malformed"
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    ACCOUNTS_NOT_DIFFERENT = "accounts_not_different"
    TIMEOUT_IN_THE_PAST = "timeout_in_the_past"
    PENDING_NOT_FOUND = "pending_not_found"
    PENDING_ALREADY_POSTED = "pending_already_posted"
    PENDING_ALREADY_VOIDED = "pending_already_voided"
    PENDING_EXPIRED = "pending_expired"
    EXCEEDS_PENDING_AMOUNT = "exceeds_pending_amount"
    DEBIT_ACCOUNT_NOT_FOUND = "debit_account_not_found"
    CREDIT_ACCOUNT_NOT_FOUND = "credit_account_not_found"
    DEBIT_ACCOUNT_CLOSED = "debit_account_closed"
    CREDIT_ACCOUNT_CLOSED = "credit_account_closed"
    OVERFLOW = "overflow"
    EXCEEDS_CREDITS = "exceeds_credits"
    """The debit account's debits, pending included, would exceed its credits."""
    EXCEEDS_DEBITS = "exceeds_debits"
    """The credit account's credits, pending included, would exceed its debits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account as it stands."""

    account_id: int
    name: str
    code: int
    """An `AccountCode`."""
    state: int
    """An `AccountState`."""
    debits_must_not_exceed_credits: bool
    credits_must_not_exceed_debits: bool
    sweep_to_account_id: int
    """Where a draining account's rest goes; 0 for none."""
    debits_pending_micros: int = 0
    debits_posted_micros: int = 0
    credits_pending_micros: int = 0
    credits_posted_micros: int = 0

    @property
    def balance_micros(self) -> int:
        """Posted credits minus posted debits."""
        return self.credits_posted_micros - self.debits_posted_micros

    @property
    def free_micros(self) -> int:
        """Posted credits minus posted and reserved debits: what can still be debited."""
        return self.balance_micros - self.debits_pending_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSpec:
    """An account to be opened unless it exists."""

    name: str
    code: AccountCode
    debits_must_not_exceed_credits: bool = True
    credits_must_not_exceed_debits: bool = False
    sweep_to_account_id: int = 0


class TransferRequest(NamedTuple):
    """A wish for one transfer. A named tuple: hundreds are made per command on the hot path."""

    kind: int
    """A `TransferKind`."""
    code: int
    """A `TransferCode`."""
    debit_account_id: int = 0
    """0 for POST and VOID, which take the accounts of the pending transfer."""
    credit_account_id: int = 0
    amount_micros: int = 0
    """For POST at most the pending amount; for VOID 0: all of it is released."""
    pending_id: int = 0
    """The pending transfer that POST and VOID resolve."""
    reference_id: int = 0
    """What it is about: an attempt (300 to 340 but 311, 410 to 440), a job (200, 210), a payout run (500), a
    receipt batch (311), the last receipt released (400); 0 for none."""
    reference_round: int = 0
    """Which funding of the same attempt, from 0."""
    expires_at_us: int = 0
    """For PENDING; 0 means no timeout."""
    key: str = ""
    """The client's idempotency key; empty for transfers that are unique by structure."""
    linked: bool = False
    """Succeeds or fails together with the next request."""
    balancing_debit: bool = False
    """SINGLE and PENDING move what the debit account has free, `amount_micros` at most."""


class TransferRow(NamedTuple):
    """A transfer as it is stored, for ever, in the order of the table's columns."""

    transfer_id: int
    """The sequence number: 1, 2, 3, ... without gaps."""
    kind: int
    code: int
    debit_account_id: int
    credit_account_id: int
    amount_micros: int
    """For VOID the amount released."""
    pending_id: int | None
    reference_id: int
    reference_round: int
    expires_at_us: int | None
    recorded_at_us: int
    canonical: bytes
    """The bytes that the chain hashes: see `chain.canonical_bytes`."""
    chain_hash: bytes
    """SHA-256 of the previous chain hash and `canonical`."""


class PendingTransfer(NamedTuple):
    """A pending transfer and what became of it."""

    transfer_id: int
    debit_account_id: int
    credit_account_id: int
    amount_micros: int
    reference_id: int
    reference_round: int
    expires_at_us: int
    """0 means no timeout."""
    resolved_kind: int
    """POST or VOID once resolved, else 0."""
    resolved_code: int
    """The code of the resolution, else 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What the ledger remembers of an idempotency key."""

    key: str
    input_hash: bytes
    failed: bool
    """True when the command failed for a reason of state: it stays failed."""
    transfer_id: int
    """The transfer it made; 0 when it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerHead:
    """Where the log ends."""

    transfer_id: int
    """The last sequence number; 0 for an empty log."""
    chain_hash: bytes
    recorded_at_us: int


class CounterDelta(NamedTuple):
    """What one decision adds to one account's counters."""

    debits_pending_micros: int
    debits_posted_micros: int
    credits_pending_micros: int
    credits_posted_micros: int
    account_id: int


class Answer(NamedTuple):
    """The outcome of one request."""

    outcome: Outcome
    transfer_id: int
    """The transfer made now (CREATED) or before (EXISTS); else 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All that a batch of requests comes to; nothing is written yet."""

    answers: tuple[Answer, ...]
    rows: tuple[TransferRow, ...]
    deltas: tuple[CounterDelta, ...]
    keys: tuple[KeyRecord, ...]
    """Keys to remember: those that succeeded and those that failed for a reason of state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """What `decide` needs to know, loaded beforehand."""

    head: LedgerHead
    accounts: Mapping[int, Account]
    pendings: Mapping[int, PendingTransfer]
    keys: Mapping[str, KeyRecord]

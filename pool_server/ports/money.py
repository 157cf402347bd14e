"""What the money use cases need of a store and of a signer. Nothing here decides anything.

Repositories are bound to one transaction. Writes that break a constraint of the schema raise
`InvariantError`: the core had allowed what the database refuses, so one of them is wrong and the process must
stop.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pool_server.core.ledger.model import (
    Account,
    AccountSpec,
    CounterDelta,
    Decision,
    KeyRecord,
    LedgerHead,
    PendingTransfer,
    TransferRow,
)
from pool_server.core.settlement import MoneyTerms
from pool_server.ports.payouts import PayoutFile, PayoutRail, PayoutRepository


class LedgerRepository(Protocol):
    """Accounts and transfers."""

    def head(self) -> LedgerHead:
        """Return where the log ends."""
        ...

    def open_accounts(self, specs: Sequence[AccountSpec], *, now_us: int) -> None:
        """Open the accounts that do not exist yet; those that do stay as they are."""
        ...

    def accounts_by_name(self, names: Iterable[str]) -> dict[str, Account]:
        """Return the accounts that exist, by name."""
        ...

    def accounts(self, account_ids: Iterable[int]) -> dict[int, Account]:
        """Return the accounts that exist, by id."""
        ...

    def accounts_by_prefix(self, prefix: str) -> list[Account]:
        """Return all accounts whose name begins with `prefix`, by name."""
        ...

    def accounts_swept_to(self, account_id: int) -> list[Account]:
        """Return the escrow accounts of the buyer whose available account this is, by id."""
        ...

    def totals_by_code(self) -> dict[int, tuple[int, int, int, int]]:
        """Return by account code the sums of debits pending, posted, credits pending, posted."""
        ...

    def set_account_state(self, account_id: int, *, from_state: int, to_state: int) -> bool:
        """Move an account's state if it is in `from_state`; True when this call did it."""
        ...

    def pendings(self, transfer_ids: Sequence[int]) -> dict[int, PendingTransfer]:
        """Return the pending transfers with these ids, and how they were resolved."""
        ...

    def pendings_of_references(self, reference_ids: Sequence[int]) -> list[PendingTransfer]:
        """Return all pending transfers of these attempts, by id."""
        ...

    def expired_pendings(self, *, now_us: int, limit: int) -> list[PendingTransfer]:
        """Return open pendings whose timeout has passed, by (timeout, id)."""
        ...

    def expired_through(self) -> int:
        """Return the time up to which `advance_expired` came; 0 before the first."""
        ...

    def advance_expired(self, through_us: int) -> None:
        """Note that no open pending has a timeout at or before this time."""
        ...

    def keys(self, keys: Sequence[str]) -> dict[str, KeyRecord]:
        """Return what is remembered of these idempotency keys."""
        ...

    def append(self, decision: Decision) -> None:
        """Write a decision: rows, counters and keys.

        Raises:
            InvariantError: a constraint of the schema refused it.
        """
        ...

    def remember_failed(self, records: Sequence[KeyRecord], *, now_us: int) -> None:
        """Remember keys whose command failed for ever."""
        ...

    def sum_by_code(self, account_id: int, code: int, *, debit: bool) -> int:
        """Return the sum of an account's transfers of one code below 300 or from 400 up, on one side."""
        ...

    def account_transfers(self, account_id: int, *, from_us: int, until_us: int) -> list[TransferRow]:
        """Return an account's transfers with codes below 300 or from 400 up in a time range, in order."""
        ...

    def account_balance_before(self, account_id: int, *, before_us: int) -> int:
        """Return credits minus debits of those same transfers before a time."""
        ...

    def all_transfers(self) -> Iterator[TransferRow]:
        """Stream the whole log in order."""
        ...

    def all_accounts(self) -> Iterator[tuple[Account, int, bytes]]:
        """Stream all accounts by id, each with when it was opened and its chain hash."""
        ...


class ReceiptRow(NamedTuple):
    """A receipt as it is stored, in the order of the table's columns."""

    receipt_id: int
    """Sequential from 1 without gaps; a batch's receipts are neighbours."""
    batch_id: int
    attempt_id: int
    transfer_id: int | None
    """The posting transfer; None for donated work."""
    owner_id: str
    vehicle_id: str
    job_id: int
    work_uwu: int
    price_micros_per_wu: int
    gross_micros: int
    fee_micros: int
    net_micros: int
    verified_at_us: int
    receipt: bytes
    """Serialized, exactly as hashed and signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptBatch:
    """The receipts of one command, signed together."""

    batch_id: int
    first_receipt_id: int
    leaf_count: int
    merkle_root: bytes
    signed: bytes
    """The serialized envelope, exactly as made."""
    signed_at_us: int


class ReceiptFields(NamedTuple):
    """What a receipt says; the issuer adds the pool's id."""

    attempt_id: int
    owner_id: str
    vehicle_id: str
    job_id: int
    task_index: int
    program_sha256: str
    output_digest: bytes
    work_uwu: int
    price_micros_per_wu: int
    gross_micros: int
    fee_micros: int
    net_micros: int
    verified_at_us: int
    transfer_id: int
    """0 for donated work."""


class ReceiptIssuer(Protocol):
    """Serializes and signs receipts. Implemented with the protocol's receipts by the shell."""

    def encode(self, fields: ReceiptFields) -> bytes:
        """Serialize one receipt: a leaf."""
        ...

    def sign_batch(self, *, batch_id: int, root: bytes, count: int, now_us: int) -> bytes:
        """Sign a batch's Merkle root with the receipt key; return the serialized envelope."""
        ...


class ReceiptHead(NamedTuple):
    """The last batch and receipt; all zero before the first."""

    batch_id: int
    receipt_id: int
    signed_at_us: int


class DayRow(NamedTuple):
    """What a vehicle earned on one day: a sum over receipts, kept so that screens need not scan them."""

    owner_id: str
    day: int
    """Days since 1970-01-01, UTC."""
    vehicle_id: str
    attempts: int
    work_uwu: int
    gross_micros: int
    fee_micros: int
    net_micros: int


class HeldSum(NamedTuple):
    """What a release moves for one owner."""

    owner_id: str
    receipts: int
    net_micros: int


class ReceiptRepository(Protocol):
    """Receipts, their batches, and the daily sums over them."""

    @property
    def issuer(self) -> ReceiptIssuer:
        """Who serializes and signs."""
        ...

    def head(self) -> ReceiptHead:
        """Return where the receipts end."""
        ...

    def append(self, batch: ReceiptBatch, rows: Sequence[ReceiptRow], days: Sequence[DayRow]) -> None:
        """Write a batch, its receipts, and add to the daily sums.

        Raises:
            InvariantError: a constraint of the schema refused it.
        """
        ...

    def released_through(self) -> int:
        """Return the last receipt whose dispute window is over; 0 for none."""
        ...

    def last_verified_until(self, until_us: int, *, after_receipt_id: int) -> int:
        """Return the last receipt verified at or before a time, or `after_receipt_id`."""
        ...

    def held_by_owner(self, *, after_receipt_id: int, through_receipt_id: int) -> list[HeldSum]:
        """Return the sums of a range of receipts per owner, by owner.

        Money that is questioned, or was taken back, is left out.
        """
        ...

    def advance_released(self, *, from_receipt_id: int, to_receipt_id: int) -> None:
        """Move the mark forward.

        Raises:
            InvariantError: it is not at `from_receipt_id`.
        """
        ...

    def oldest_held_us(self, owner_id: str) -> int:
        """Return when the oldest unreleased receipt of an owner was verified; 0 when there is none."""
        ...

    def by_owner(
        self, owner_id: str, *, before_receipt_id: int, vehicle_id: str, limit: int
    ) -> list[ReceiptRow]:
        """Return an owner's receipts, newest first, older than a receipt (0: from the newest)."""
        ...

    def by_attempts(self, attempt_ids: Sequence[int]) -> list[ReceiptRow]:
        """Return the receipts of these attempts, by id."""
        ...

    def in_range(self, owner_id: str, *, from_us: int, until_us: int, limit: int) -> list[ReceiptRow]:
        """Return an owner's receipts verified in a time range, in order, at most `limit`."""
        ...

    def batches(self, batch_ids: Iterable[int]) -> dict[int, ReceiptBatch]:
        """Return batches by id."""
        ...

    def leaves(self, batch: ReceiptBatch) -> list[bytes]:
        """Return a batch's serialized receipts in order."""
        ...

    def days(self, owner_id: str, *, from_day: int, until_day: int) -> list[DayRow]:
        """Return an owner's daily sums per vehicle with from_day <= day < until_day, in order."""
        ...

    def owner_sums(self, owner_id: str, *, vehicle_id: str = "") -> DayRow:
        """Return an owner's sums over all days, of one vehicle when given (day is 0)."""
        ...

    def sums_by_owner(self, *, from_day: int, until_day: int) -> list[DayRow]:
        """Return each owner's sums over from_day <= day < until_day, by owner (day 0, no vehicle)."""
        ...

    def paid_by(self, account_id: int, *, from_us: int, until_us: int) -> int:
        """Return what an account paid for attempts verified in a time range. Reads the whole log."""
        ...

    def all_receipts(self) -> Iterator[ReceiptRow]:
        """Stream all receipts in order."""
        ...

    def all_batches(self) -> Iterator[ReceiptBatch]:
        """Stream all batches in order."""
        ...

    def all_days(self) -> Iterator[DayRow]:
        """Stream all daily sums."""
        ...


class IdBlocks(Protocol):
    """Sequential ids of the hot path, allocated inside the transaction."""

    def next_block(self, name: str, count: int) -> range:
        """Return `count` fresh ids in order, the first ever being 1."""
        ...


__all__ = [
    "Account",
    "AccountSpec",
    "CounterDelta",
    "DayRow",
    "HeldSum",
    "IdBlocks",
    "KeyRecord",
    "LedgerRepository",
    "MoneyTerms",
    "PayoutFile",
    "PayoutRail",
    "PayoutRepository",
    "ReceiptBatch",
    "ReceiptFields",
    "ReceiptHead",
    "ReceiptIssuer",
    "ReceiptRepository",
    "ReceiptRow",
]

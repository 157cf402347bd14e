"""Entries that operators make by hand: what may be entered, and how an entry ends. Pure.

An entry is proposed by one operator and booked when another one approves it, since it moves money that no
job, receipt or payout run vouches for. Its reason is kept for ever. It never changes what was booked: it
books one further transfer. Escrows, held and questioned money and payouts in clearing cannot be written to:
they follow from jobs, receipts and runs, and the check of the books holds them to that. Neither can one
party's money be given to another: take it back to the pool's side first, so that each step has its reason.
"""

from dataclasses import dataclass
from enum import StrEnum, unique

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import NAME_CHARACTERS_MAX
from pool_server.core.ledger import accounts as named
from pool_server.core.ledger.chart import FLOWS, PARTY_ACCOUNTS, POOL_ACCOUNTS
from pool_server.core.ledger.model import AccountCode, AccountSpec, TransferCode

REASON_CHARACTERS_MIN = 3
#: A paragraph: long enough for what an accountant must know in a year.
REASON_CHARACTERS_MAX = 500
ENTRY_PREFIX = "entry_"

#: What may be entered by hand.
ENTRY_CODES = frozenset(
    {
        TransferCode.DEPOSIT_FEE,
        TransferCode.REFUND,
        TransferCode.SLA_CREDIT,
        TransferCode.GOODWILL,
        TransferCode.CORRECTION,
        TransferCode.VAT,
        TransferCode.OPENING,
    }
)
_POOL_SPECS = {
    spec.name: spec
    for spec in (
        named.POOL_FEE,
        named.VERIFICATION,
        named.GOODWILL,
        named.BANK_FEES,
        named.ROUNDING,
        named.VAT,
        named.TAX_WITHHELD,
        named.SLA_RESERVE,
        named.OPENING,
    )
}


@unique
class EntryState(StrEnum):
    """proposed -> booked or withdrawn."""

    PROPOSED = "proposed"
    BOOKED = "booked"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An operator's entry."""

    entry_id: int
    code: int
    """A `TransferCode` of `ENTRY_CODES`."""
    debit_account: str
    credit_account: str
    amount_micros: int
    is_at_most: bool
    """Book what the debit account has free, `amount_micros` at most."""
    reason: str
    idempotency_key: str
    proposed_by: str
    proposed_at_us: int
    state: EntryState = EntryState.PROPOSED
    decided_by: str = ""
    decided_at_us: int = 0
    transfer_id: int = 0
    """The transfer that it was booked as; 0 until then."""

    @property
    def text_id(self) -> str:
        """The id as people see it."""
        return f"{ENTRY_PREFIX}{self.entry_id}"

    @property
    def wish(self) -> tuple[object, ...]:
        """What must be the same when an idempotency key comes again."""
        return (
            self.code,
            self.debit_account,
            self.credit_account,
            self.amount_micros,
            self.is_at_most,
            self.reason,
            self.proposed_by,
        )


def parse_entry_id(text: str) -> int:
    """Read `entry_3` as 3.

    Raises:
        PoolError: INVALID_ARGUMENT.
    """
    digits = text.removeprefix(ENTRY_PREFIX)
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= 18 and not digits.startswith("0")
    if not text.startswith(ENTRY_PREFIX) or not is_number:
        raise _refused("entry_id", f"an entry's id is written like entry_3, not {text[:60]!r}")
    return int(digits)


def parse_entry_code(name: str) -> TransferCode:
    """Read a code's name, for example `correction`.

    Raises:
        PoolError: INVALID_ARGUMENT for a code that is not entered by hand.
    """
    by_name = {code.name.lower(): code for code in sorted(ENTRY_CODES)}
    if name not in by_name:
        raise _refused("code", f"by hand you can enter {', '.join(by_name)}, not {name[:60]!r}")
    return by_name[name]


def pool_account(name: str) -> AccountSpec | None:
    """Describe an account of the pool itself by its name; None when no such account belongs to the chart."""
    if name.startswith("bank:"):
        return named.bank(name.removeprefix("bank:"))
    return _POOL_SPECS.get(name)


def party_account(name: str) -> AccountSpec | None:
    """Describe a buyer's or an owner's available account by its name; None for every other name."""
    parts = name.split(":")
    if len(parts) != 3 or not parts[1] or parts[2] != "available":
        return None
    if parts[0] == "buyer":
        return named.buyer_available(parts[1])
    return named.owner_available(parts[1]) if parts[0] == "owner" else None


def check_entry(entry: Entry, *, debit: AccountCode, credit: AccountCode) -> None:
    """Check all of an entry that does not depend on the state of the books.

    Raises:
        PoolError: INVALID_ARGUMENT; the context's `field` says which.
    """
    key, reason = entry.idempotency_key, entry.reason
    if not key or len(key) > NAME_CHARACTERS_MAX or not key.isprintable():
        raise _refused("idempotency_key", f"a key has 1 to {NAME_CHARACTERS_MAX} printable characters")
    if not REASON_CHARACTERS_MIN <= len(reason) <= REASON_CHARACTERS_MAX or not reason.isprintable():
        raise _refused(
            "reason",
            f"a reason has {REASON_CHARACTERS_MIN} to {REASON_CHARACTERS_MAX} printable characters; "
            "it stays in the books",
        )
    if entry.amount_micros <= 0:
        raise _refused(
            "amount_micros", "an entry moves at least 1 micro-unit; to take it back, swap its accounts"
        )
    if entry.debit_account == entry.credit_account:
        raise _refused("credit_account", "an entry moves money between two different accounts")
    code = TransferCode(entry.code)
    if (debit, credit) in FLOWS[code]:
        return
    for side, kind, name in (
        ("debit_account", debit, entry.debit_account),
        ("credit_account", credit, entry.credit_account),
    ):
        if kind not in POOL_ACCOUNTS | PARTY_ACCOUNTS:
            raise _refused(
                side,
                f"{name} follows from jobs, receipts and payout runs; nobody writes to it by hand. Available "
                "accounts of buyers and owners and the pool's own can be written to",
            )
    if debit in PARTY_ACCOUNTS and credit in PARTY_ACCOUNTS:
        raise _refused(
            "credit_account",
            "money does not go from one party to another by hand: take it back to an account of the pool in "
            "one entry, and give it in a second one",
        )
    allowed = sorted(f"{one.name.lower()} -> {other.name.lower()}" for one, other in FLOWS[code])
    shown = ", ".join(allowed[:12]) + (", ..." if len(allowed) > 12 else "")
    raise _refused(
        "debit_account", f"{code.name.lower()} moves money between these kinds of accounts: {shown}"
    )


def _refused(field: str, why: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, why, context={"field": field})

"""The time machine: an account's counters as of any transfer, and its history, both from the log alone.

Reading goes in steps, each a short query of its own: the log is append-only, so what lies behind the end that
was looked at first can no longer change. Accounts that the hot path never touches are found through an index
in one step; the others (escrows, held money, the fee, verification) are read through the whole log, step by
step, so that whoever asks can be told how far it is.
"""

import difflib
from dataclasses import dataclass, field

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.ledger.chart import FLOWS, NATURE, Nature
from pool_server.core.ledger.model import Account, AccountCode, TransferKind, TransferRow
from pool_server.ports.books import Counters
from pool_server.ports.unit_of_work import UnitOfWork

#: Transfers of the log that one step reads; some 0.1 s.
STEP_TRANSFERS = 200_000
HISTORY_DEFAULT = 50
HISTORY_MAX = 10_000
#: Names that are looked through for one that is meant.
_NAMES_COMPARED_MAX = 5_000
_NEAR_SHOWN = 3
_HOT_CODES = range(300, 400)
#: Accounts that codes of the hot path move money of: no index finds all of their transfers.
_ON_HOT_PATH = frozenset(
    side for code, pairs in FLOWS.items() if code in _HOT_CODES for pair in pairs for side in pair
)
_NOTHING = Counters(0, 0, 0, 0)


def require_account(uow: UnitOfWork, name: str) -> Account:
    """Return an account by its name.

    Raises:
        PoolError: NOT_FOUND; the context's `near` lists names that may have been meant.
    """
    found = uow.ledger.accounts_by_name([name]).get(name)
    if found is None:
        near = ", ".join(near_names(uow, name))
        raise PoolError(
            ErrorCode.NOT_FOUND,
            f"there is no account {name[:120]!r}" + (f"; did you mean {near}?" if near else ""),
            context={"account": name[:120], **({"near": near} if near else {})},
        )
    return found


def near_names(uow: UnitOfWork, name: str) -> list[str]:
    """Return names of accounts that someone who wrote `name` may have meant, the likeliest first."""
    wanted = name.strip()[:120]
    if not wanted:
        return []
    holding = uow.ledger_log.names_like(wanted, limit=_NEAR_SHOWN)
    if holding:
        return holding
    kind = wanted.split(":", maxsplit=1)[0]
    names = uow.ledger_log.names_like(f"{kind}:", limit=_NAMES_COMPARED_MAX)
    names = names or uow.ledger_log.names_like("", limit=_NAMES_COMPARED_MAX)
    return difflib.get_close_matches(wanted, names, n=_NEAR_SHOWN, cutoff=0.6)


@dataclass(slots=True, kw_only=True)
class Reading:
    """How far the reading of an account's log has come."""

    account: Account
    through: int
    """The last transfer that is looked at."""
    head: int
    """The last transfer of the log when the reading began."""
    is_indexed: bool
    """True when an index finds all transfers of the account, in one step."""
    counters: Counters = _NOTHING
    read: int = 0
    """Transfers looked through so far."""

    @property
    def done(self) -> bool:
        """Whether the counters are those of `through`."""
        return self.read >= self.through

    @property
    def agrees(self) -> bool:
        """Whether a reading up to the head came to the counters that the ledger keeps."""
        return self.through != self.head or self.counters == counters_of(self.account)


def counters_of(account: Account) -> Counters:
    """Return the counters that the ledger keeps."""
    return Counters(
        account.debits_pending_micros,
        account.debits_posted_micros,
        account.credits_pending_micros,
        account.credits_posted_micros,
    )


def balance_micros(account: Account, counters: Counters) -> int:
    """Return a posted balance in the account's own direction: what a bank has, what a buyer is owed."""
    credits_less_debits = counters.credits_posted_micros - counters.debits_posted_micros
    is_debit = NATURE[AccountCode(account.code)] in {Nature.ASSET, Nature.EXPENSE}
    return -credits_less_debits if is_debit else credits_less_debits


def last_transfer_before(uow: UnitOfWork, at_us: int) -> int:
    """Return the last transfer that was recorded before a time; 0 when there is none.

    Time never goes back in the log, so it is found by halving.
    """
    low, high = 0, uow.ledger.head().transfer_id
    while low < high:
        middle = (low + high + 1) // 2
        [row] = uow.ledger_log.rows(after=middle - 1, through=middle)
        low, high = (middle, high) if row.recorded_at_us < at_us else (low, middle - 1)
    return low


def begin_reading(uow: UnitOfWork, *, name: str, at_transfer_id: int | None = None) -> Reading:
    """Begin to read an account's counters as of a transfer; by default as of now.

    Raises:
        PoolError: NOT_FOUND for the account; INVALID_ARGUMENT for a transfer behind the end of the log.
    """
    account = require_account(uow, name)
    head = uow.ledger.head().transfer_id
    through = head if at_transfer_id is None else at_transfer_id
    if not 0 <= through <= head:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"the log holds transfers 1 to {head}; 0 is before the first",
            context={"field": "at"},
        )
    return Reading(
        account=account, through=through, head=head, is_indexed=_is_indexed(uow, account, head=head)
    )


def read_on(uow: UnitOfWork, reading: Reading) -> Reading:
    """Read one step further."""
    until = reading.through if reading.is_indexed else min(reading.read + STEP_TRANSFERS, reading.through)
    added = uow.ledger_log.fold(
        reading.account.account_id, after=reading.read, through=until, outside_hot_path=reading.is_indexed
    )
    reading.counters = Counters(
        *(before + more for before, more in zip(reading.counters, added, strict=True))
    )
    reading.read = until
    return reading


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLine:
    """One transfer, as the account sees it."""

    row: TransferRow
    counter_account: str
    """The account on the other side."""
    is_debit: bool
    change_micros: int
    """What it adds to the balance, in the account's own direction; 0 for what only reserves or releases."""
    balance_micros: int
    """The posted balance after it, in the account's own direction."""
    key: str
    """The key of the command that made it; a deposit's holds the bank's reference."""
    reason: str
    """Why an operator entered it."""


@dataclass(slots=True, kw_only=True)
class HistoryReading:
    """How far the reading of a history has come, from its end backwards."""

    account: Account
    limit: int
    is_indexed: bool
    balance_micros: int
    """Before what comes next, in the account's own direction."""
    read_down_to: int
    """All transfers behind this one were looked through."""
    began_at: int
    lines: list[HistoryLine] = field(default_factory=list)
    """The last step's lines, newest first."""
    found: int = 0

    @property
    def done(self) -> bool:
        """Whether there are enough lines, or no more."""
        return self.read_down_to == 0 or self.found >= self.limit


def begin_history(reading: Reading, *, limit: int) -> HistoryReading:
    """Begin to read a history backwards from where a reading of the counters ends.

    At the end of the log the counters that the ledger keeps are taken; before it the reading must be done.

    Raises:
        PoolError: INVALID_ARGUMENT for a limit that is not 1 to `HISTORY_MAX`.
    """
    if not 1 <= limit <= HISTORY_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"a limit is 1 to {HISTORY_MAX}", context={"field": "limit"}
        )
    counters = counters_of(reading.account) if reading.through == reading.head else reading.counters
    return HistoryReading(
        account=reading.account,
        limit=limit,
        is_indexed=reading.is_indexed,
        balance_micros=balance_micros(reading.account, counters),
        read_down_to=reading.through,
        began_at=reading.through,
    )


def history_back(uow: UnitOfWork, history: HistoryReading) -> HistoryReading:
    """Read one step further back; the lines found are in `lines`."""
    log, account_id = uow.ledger_log, history.account.account_id
    after = 0 if history.is_indexed else max(0, history.read_down_to - STEP_TRANSFERS)
    wanted = history.limit - history.found
    rows = log.newest(
        account_id,
        after=after,
        through=history.read_down_to,
        limit=wanted,
        outside_hot_path=history.is_indexed,
    )
    transfer_ids = [row.transfer_id for row in rows]
    keys, reasons = log.keys_of(transfer_ids), uow.entries.reasons_of(transfer_ids)
    others = uow.ledger.accounts({_other_side(row, account_id) for row in rows})
    is_debit_account = NATURE[AccountCode(history.account.code)] in {Nature.ASSET, Nature.EXPENSE}
    history.lines = []
    for row in rows:
        is_debit = row.debit_account_id == account_id
        moves = row.kind in (TransferKind.SINGLE, TransferKind.POST)
        change = (row.amount_micros if is_debit == is_debit_account else -row.amount_micros) if moves else 0
        history.lines.append(
            HistoryLine(
                row=row,
                counter_account=others[_other_side(row, account_id)].name,
                is_debit=is_debit,
                change_micros=change,
                balance_micros=history.balance_micros,
                key=keys.get(row.transfer_id, ""),
                reason=reasons.get(row.transfer_id, ""),
            )
        )
        history.balance_micros -= change
    history.found += len(rows)
    history.read_down_to = rows[-1].transfer_id - 1 if len(rows) == wanted else after
    return history


def _is_indexed(uow: UnitOfWork, account: Account, *, head: int) -> bool:
    """Say whether the index alone tells the truth: by the chart, and by what it comes to at the head."""
    if AccountCode(account.code) in _ON_HOT_PATH:
        return False
    indexed = uow.ledger_log.fold(account.account_id, after=0, through=head, outside_hot_path=True)
    return indexed == counters_of(account)


def _other_side(row: TransferRow, account_id: int) -> int:
    return row.credit_account_id if row.debit_account_id == account_id else row.debit_account_id

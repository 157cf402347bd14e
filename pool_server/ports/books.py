"""What readers of the books need of a store: pieces of the log by sequence number, folded or as they are.

The log is append-only, so a reader takes one snapshot of its end and then reads piece by piece, each in a
short transaction of its own: nothing that it has yet to read can change any more.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from pool_server.core.ledger.entries import Entry
from pool_server.core.ledger.model import Account, TransferRow


class Counters(NamedTuple):
    """The four counters of an account, or what a piece of the log adds to them; micro-units."""

    debits_pending_micros: int
    debits_posted_micros: int
    credits_pending_micros: int
    credits_posted_micros: int


class OpenedAccount(NamedTuple):
    """An account and when it was opened."""

    account: Account
    opened_at_us: int


class LedgerLog(Protocol):
    """The log by sequence number. Ranges are `after < transfer_id <= through`."""

    def rows(self, *, after: int, through: int) -> list[TransferRow]:
        """Return all transfers of a range, in order."""
        ...

    def fold(self, account_id: int, *, after: int, through: int, outside_hot_path: bool) -> Counters:
        """Add up what a range of the log does to one account.

        With `outside_hot_path` only transfers with codes below 300 or from 400 up are looked at, which an
        index finds; all others are read row by row.
        """
        ...

    def newest(
        self, account_id: int, *, after: int, through: int, limit: int, outside_hot_path: bool
    ) -> list[TransferRow]:
        """Return an account's transfers of a range, newest first, at most `limit`; see `fold`."""
        ...

    def keys_of(self, transfer_ids: Sequence[int]) -> dict[int, str]:
        """Return the idempotency keys under which these transfers were made, where they had one."""
        ...

    def opened_accounts(self) -> Iterator[OpenedAccount]:
        """Stream all accounts by id."""
        ...

    def names_like(self, text: str, *, limit: int) -> list[str]:
        """Return names of accounts that hold `text`, letters' case aside, by name."""
        ...

    def account_codes(self) -> dict[int, int]:
        """Return each account's code, by id."""
        ...


class EntryRepository(Protocol):
    """What operators enter by hand."""

    def add(self, entry: Entry) -> None:
        """Store a proposed entry.

        Raises:
            InvariantError: its id or key is there already.
        """
        ...

    def end(self, entry: Entry) -> None:
        """Store how an entry ended.

        Raises:
            InvariantError: it has ended before, or its proposer approved it.
        """
        ...

    def entry(self, entry_id: int) -> Entry | None:
        """Return an entry."""
        ...

    def entry_by_key(self, key: str) -> Entry | None:
        """Return the entry that was proposed with this key."""
        ...

    def entries(self, *, before_entry_id: int, limit: int) -> list[Entry]:
        """Return entries, newest first, older than an entry (0: from the newest)."""
        ...

    def reasons_of(self, transfer_ids: Sequence[int]) -> dict[int, str]:
        """Return why these transfers were entered, where an operator entered them."""
        ...

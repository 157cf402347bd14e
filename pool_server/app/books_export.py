"""Hands the books out whole: a snapshot of their end, then the log piece by piece, written by a journal.

How a journal writes is none of this module's business: see `reports.journals`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol

from pool_server.core.ledger.model import LedgerHead, TransferRow
from pool_server.ports.books import OpenedAccount
from pool_server.ports.unit_of_work import UnitOfWork

#: Transfers read, and written, at a time.
PIECE_TRANSFERS = 2_000


@unique
class JournalFormat(StrEnum):
    """What the books can be written as."""

    BEANCOUNT = "beancount"
    HLEDGER = "hledger"
    CSV = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class BooksSnapshot:
    """The books as they end, read in one transaction: what an export promises to arrive at."""

    pool_id: str
    currency: str
    head: LedgerHead
    first_at_us: int
    """When the first transfer was recorded; without one, when the first account was opened; else 0."""
    accounts: tuple[OpenedAccount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalPiece:
    """Some transfers, and what is known beside them."""

    rows: Sequence[TransferRow]
    keys: Mapping[int, str]
    """By transfer, the key of the command that made it: a deposit's holds the bank's reference."""
    reasons: Mapping[int, str]
    """By transfer, why an operator entered it."""


class Journal(Protocol):
    """Writes the books in some format. Called once each in this order, `piece` as often as needed."""

    def opening(self) -> Iterator[str]:
        """Write what comes before the first transfer."""
        ...

    def piece(self, piece: JournalPiece) -> str:
        """Write the next transfers."""
        ...

    def closing(self) -> Iterator[str]:
        """Write what comes after the last transfer: what every balance must be."""
        ...


MakeJournal = Callable[[JournalFormat, BooksSnapshot], Journal]


def books_snapshot(uow: UnitOfWork) -> BooksSnapshot:
    """Return where the books end now."""
    accounts = tuple(uow.ledger_log.opened_accounts())
    head = uow.ledger.head()
    first = uow.ledger_log.rows(after=0, through=1)
    opened = min((opened.opened_at_us for opened in accounts), default=0)
    return BooksSnapshot(
        pool_id=uow.terms.pool_id,
        currency=uow.terms.currency,
        head=head,
        first_at_us=first[0].recorded_at_us if first else opened,
        accounts=accounts,
    )


def journal_piece(uow: UnitOfWork, *, after: int, through: int) -> JournalPiece:
    """Return the next transfers behind `after`, at most `PIECE_TRANSFERS`, none behind `through`."""
    rows = uow.ledger_log.rows(after=after, through=min(through, after + PIECE_TRANSFERS))
    transfer_ids = [row.transfer_id for row in rows]
    return JournalPiece(
        rows=rows,
        keys=uow.ledger_log.keys_of(transfer_ids),
        reasons=uow.entries.reasons_of(transfer_ids),
    )


def export_books(uow: UnitOfWork, make_journal: MakeJournal, journal_format: JournalFormat) -> Iterator[str]:
    """Write the whole books inside one transaction: for whoever holds the database and is in no hurry."""
    snapshot = books_snapshot(uow)
    journal = make_journal(journal_format, snapshot)
    yield from journal.opening()
    after = 0
    while after < snapshot.head.transfer_id:
        piece = journal_piece(uow, after=after, through=snapshot.head.transfer_id)
        yield journal.piece(piece)
        after = min(after + PIECE_TRANSFERS, snapshot.head.transfer_id)
    yield from journal.closing()

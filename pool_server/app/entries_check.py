"""Checks what operators entered by hand against the log: each entry is one transfer, as its proposal says."""

from pool_server.core.ledger.audit import Check, Finding
from pool_server.core.ledger.entries import Entry
from pool_server.core.ledger.model import TransferCode, TransferKind, TransferRow
from pool_server.ports.unit_of_work import UnitOfWork

_PAGE = 1_000


class EntriesAudit:
    """Walks the log and takes each entry's transfer off the list of those that must be there."""

    def __init__(self, uow: UnitOfWork) -> None:
        """Start; reads all entries."""
        self._booked: dict[int, Entry] = {}
        self._count = 0
        before = 0
        while page := uow.entries.entries(before_entry_id=before, limit=_PAGE):
            self._count += len(page)
            self._booked.update({entry.transfer_id: entry for entry in page if entry.transfer_id})
            before = page[-1].entry_id
        names = {
            name for entry in self._booked.values() for name in (entry.debit_account, entry.credit_account)
        }
        accounts = uow.ledger.accounts_by_name(names) if names else {}
        self._numbers = {name: account.account_id for name, account in accounts.items()}
        self._finding = Finding("entries_match_ledger")

    def take(self, row: TransferRow) -> None:
        """Take the next row of the log."""
        entry = self._booked.pop(row.transfer_id, None)
        if entry is None:
            if row.code == TransferCode.CORRECTION:
                self._finding.add(f"correction {row.transfer_id} was never entered")
            return
        sides = (self._numbers.get(entry.debit_account), self._numbers.get(entry.credit_account))
        expected = (TransferKind.SINGLE, entry.code, *sides, entry.entry_id)
        found = (row.kind, row.code, row.debit_account_id, row.credit_account_id, row.reference_id)
        is_less = row.amount_micros < entry.amount_micros and entry.is_at_most
        if found != expected or not (is_less or row.amount_micros == entry.amount_micros):
            self._finding.add(f"transfer {row.transfer_id} is not what {entry.text_id} says")

    def check(self) -> Check:
        """Return the verdict."""
        for entry in self._booked.values():
            self._finding.add(f"{entry.text_id} is booked as transfer {entry.transfer_id}, which is missing")
        return self._finding.check(f"{self._count} entries by hand")

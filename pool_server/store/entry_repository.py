"""Operators' entries in SQL."""

from collections.abc import Sequence
from typing import Any

from pool_server.core.ledger.entries import Entry, EntryState
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, write_many

_WISH = (
    "entry_id, code, debit_account, credit_account, amount_micros, is_at_most, reason, idempotency_key, "
    "proposed_by, proposed_at_us"
)
_ENTRY = (
    "SELECT e."
    + _WISH.replace(", ", ", e.")
    + ", COALESCE(d.state, 'proposed'), COALESCE(d.decided_by, ''), "
    "COALESCE(d.decided_at_us, 0), COALESCE(d.transfer_id, 0) "
    "FROM operator_entries e LEFT JOIN operator_entry_ends d ON d.entry_id = e.entry_id "
)


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(
        entry_id=row[0],
        code=row[1],
        debit_account=row[2],
        credit_account=row[3],
        amount_micros=row[4],
        is_at_most=bool(row[5]),
        reason=row[6],
        idempotency_key=row[7],
        proposed_by=row[8],
        proposed_at_us=row[9],
        state=EntryState(row[10]),
        decided_by=row[11],
        decided_at_us=row[12],
        transfer_id=row[13],
    )


class SqlEntryRepository:
    """Implements `ports.books.EntryRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def add(self, entry: Entry) -> None:
        row = (
            entry.entry_id,
            entry.code,
            entry.debit_account,
            entry.credit_account,
            entry.amount_micros,
            int(entry.is_at_most),
            entry.reason,
            entry.idempotency_key,
            entry.proposed_by,
            entry.proposed_at_us,
        )
        marks = ",".join("?" * len(row))
        write_many(self._driver, f"INSERT INTO operator_entries ({_WISH}) VALUES ({marks})", [row])

    def end(self, entry: Entry) -> None:
        write_many(
            self._driver,
            "INSERT INTO operator_entry_ends "
            "(entry_id, state, proposed_by, decided_by, decided_at_us, transfer_id) VALUES (?,?,?,?,?,?)",
            [
                (
                    entry.entry_id,
                    entry.state.value,
                    entry.proposed_by,
                    entry.decided_by,
                    entry.decided_at_us,
                    entry.transfer_id or None,
                )
            ],
        )

    def entry(self, entry_id: int) -> Entry | None:
        row = self._driver.run(_ENTRY + "WHERE e.entry_id = ?", (entry_id,)).one_or_none()
        return None if row is None else _entry(row)

    def entry_by_key(self, key: str) -> Entry | None:
        row = self._driver.run(_ENTRY + "WHERE e.idempotency_key = ?", (key,)).one_or_none()
        return None if row is None else _entry(row)

    def entries(self, *, before_entry_id: int, limit: int) -> list[Entry]:
        where = "WHERE e.entry_id < ? " if before_entry_id else ""
        parameters = (before_entry_id, limit) if before_entry_id else (limit,)
        rows = self._driver.run(_ENTRY + where + "ORDER BY e.entry_id DESC LIMIT ?", parameters)
        return [_entry(row) for row in rows]

    def reasons_of(self, transfer_ids: Sequence[int]) -> dict[int, str]:
        statement = (
            "SELECT d.transfer_id, e.reason FROM operator_entry_ends d "
            "JOIN operator_entries e ON e.entry_id = d.entry_id WHERE d.transfer_id IN ({marks})"
        )
        return {row[0]: row[1] for row in fetch_in(self._driver, statement, transfer_ids)}

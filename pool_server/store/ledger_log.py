"""The log by sequence number, in SQL: what the time machine, histories and exports read."""

from collections.abc import Iterator, Sequence

from pool_server.core.ledger.model import TransferRow
from pool_server.ports.books import Counters, OpenedAccount
from pool_server.store.driver import Driver
from pool_server.store.ledger_repository import ACCOUNT_COLUMNS, TRANSFER_COLUMNS, account_of
from pool_server.store.statements import fetch_in, stream
from pool_server.store.tables.ledger import OUTSIDE_HOT_PATH

_RANGE = "t.transfer_id > ? AND t.transfer_id <= ?"
# What a side gains: a resolution takes away what its pending transfer had reserved, and posts its own.
_RESERVED = "CASE t.kind WHEN 0 THEN 0 WHEN 1 THEN t.amount_micros ELSE -p.amount_micros END"
_POSTED = "CASE WHEN t.kind IN (0, 2) THEN t.amount_micros ELSE 0 END"
_FROM = " FROM transfers t LEFT JOIN transfers p ON p.transfer_id = t.pending_id "
_SUMS = ", ".join(
    f"COALESCE(SUM(CASE WHEN t.{side} = ? THEN {gain} ELSE 0 END), 0)"
    for side in ("debit_account_id", "credit_account_id")
    for gain in (_RESERVED, _POSTED)
)
_COLUMNS = ", ".join(f"t.{column}" for column in TRANSFER_COLUMNS.split(", "))
_SIDES = ("debit_account_id", "credit_account_id")


def _outside(alias: str) -> str:
    return OUTSIDE_HOT_PATH.replace("code", f"{alias}.code")


class SqlLedgerLog:
    """Implements `ports.books.LedgerLog`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def rows(self, *, after: int, through: int) -> list[TransferRow]:
        rows = self._driver.run(
            f"SELECT {_COLUMNS} FROM transfers t WHERE {_RANGE} ORDER BY t.transfer_id", (after, through)
        )
        return [TransferRow(*row) for row in rows]

    def fold(self, account_id: int, *, after: int, through: int, outside_hot_path: bool) -> Counters:
        either = "(t.debit_account_id = ? OR t.credit_account_id = ?)"
        conditions = [f"{_RANGE} AND {either}"]
        parameters = [[*(account_id,) * 4, after, through, account_id, account_id]]
        if outside_hot_path:
            # The index knows one side at a time.
            conditions = [f"t.{side} = ? AND {_RANGE} AND {_outside('t')}" for side in _SIDES]
            parameters = [[*(account_id,) * 5, after, through]] * 2
        sums = [
            self._driver.run(f"SELECT {_SUMS}{_FROM} WHERE {condition}", values).one()
            for condition, values in zip(conditions, parameters, strict=True)
        ]
        # PostgreSQL adds BIGINTs up to a NUMERIC.
        return Counters(*(int(sum(column)) for column in zip(*sums, strict=True)))

    def newest(
        self, account_id: int, *, after: int, through: int, limit: int, outside_hot_path: bool
    ) -> list[TransferRow]:
        where = f" AND {_outside('t')}" if outside_hot_path else ""
        found = [
            TransferRow(*row)
            for side in _SIDES
            for row in self._driver.run(
                f"SELECT {_COLUMNS} FROM transfers t WHERE t.{side} = ? AND {_RANGE}{where} "
                "ORDER BY t.transfer_id DESC LIMIT ?",
                (account_id, after, through, limit),
            )
        ]
        return sorted(found, key=lambda row: row.transfer_id, reverse=True)[:limit]

    def keys_of(self, transfer_ids: Sequence[int]) -> dict[int, str]:
        statement = "SELECT transfer_id, key FROM idempotency_keys WHERE transfer_id IN ({marks})"
        return {row[0]: row[1] for row in fetch_in(self._driver, statement, transfer_ids)}

    def opened_accounts(self) -> Iterator[OpenedAccount]:
        statement = f"SELECT {ACCOUNT_COLUMNS}, opened_at_us FROM accounts ORDER BY account_id"
        return (OpenedAccount(account_of(row), row[11]) for row in stream(self._driver, statement))

    def names_like(self, text: str, *, limit: int) -> list[str]:
        escaped = text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        rows = self._driver.run(
            "SELECT name FROM accounts WHERE LOWER(name) LIKE ? ESCAPE '\\' ORDER BY name LIMIT ?",
            (f"%{escaped}%", limit),
        )
        return [row[0] for row in rows]

    def account_codes(self) -> dict[int, int]:
        return {row[0]: row[1] for row in self._driver.run("SELECT account_id, code FROM accounts")}

"""Payouts in SQL: details, runs, rows, files."""

from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any

from pool_server.core.payouts.model import PayoutDetails, PayoutRow, PayoutRun, PayoutState
from pool_server.ports.money import PayoutFile
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many, write_many

_RUN_COLUMNS = ", ".join(field.name for field in fields(PayoutRun))
_ROW_COLUMNS = ", ".join(field.name for field in fields(PayoutRow))
_DETAILS_COLUMNS = ", ".join(field.name for field in fields(PayoutDetails))
#: Rows on which the owner was, or may still be, paid.
_PAID = (
    "r.reason = '' AND p.state IN ('approved', 'exported') AND NOT EXISTS (SELECT 1 FROM payout_steps s "
    "WHERE s.payout_id = r.payout_id AND s.owner_id = r.owner_id "
    "AND s.state IN ('withheld', 'rejected', 'returned'))"
)


def _run(row: Any) -> PayoutRun:
    values = dict(zip((field.name for field in fields(PayoutRun)), row, strict=True))
    return PayoutRun(**{**values, "state": PayoutState(values["state"])})


def _row(row: Any) -> PayoutRow:
    return PayoutRow(**dict(zip((field.name for field in fields(PayoutRow)), row, strict=True)))


class SqlPayoutRepository:
    """Implements `ports.money.PayoutRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def details(self, owner_id: str) -> PayoutDetails | None:
        return self.details_of([owner_id]).get(owner_id)

    def details_of(self, owner_ids: Sequence[str]) -> dict[str, PayoutDetails]:
        statement = f"SELECT owner_id, {_DETAILS_COLUMNS} FROM payout_details WHERE owner_id IN ({{marks}})"
        names = [field.name for field in fields(PayoutDetails)]
        return {
            row[0]: PayoutDetails(**dict(zip(names, row[1:], strict=True)))
            for row in fetch_in(self._driver, statement, owner_ids)
        }

    def set_details(self, owner_id: str, details: PayoutDetails, *, now_us: int) -> None:
        write_many(
            self._driver,
            f"INSERT INTO payout_details (owner_id, {_DETAILS_COLUMNS}, updated_at_us) "
            "VALUES (?,?,?,?,?,?,?,?) "
            "ON CONFLICT (owner_id) DO UPDATE SET holder_name = excluded.holder_name, iban = excluded.iban, "
            "threshold_micros = excluded.threshold_micros, town = excluded.town, country = excluded.country, "
            "bic = excluded.bic, updated_at_us = excluded.updated_at_us",
            [(owner_id, *astuple(details), now_us)],
        )

    def add_run(self, run: PayoutRun, rows: Sequence[PayoutRow]) -> None:
        write_many(
            self._driver,
            f"INSERT INTO payout_runs ({_RUN_COLUMNS}) VALUES ({','.join('?' * len(fields(PayoutRun)))})",
            [(*astuple(run)[:1], run.state.value, *astuple(run)[2:])],
        )
        insert_many(
            self._driver,
            "payout_rows",
            f"payout_id, {_ROW_COLUMNS}",
            [(run.payout_id, *astuple(row)) for row in rows],
        )

    def run(self, payout_id: int) -> PayoutRun | None:
        row = self._driver.run(
            f"SELECT {_RUN_COLUMNS} FROM payout_runs WHERE payout_id = ?", (payout_id,)
        ).one_or_none()
        return None if row is None else _run(row)

    def run_by_key(self, idempotency_key: str) -> PayoutRun | None:
        row = self._driver.run(
            f"SELECT {_RUN_COLUMNS} FROM payout_runs WHERE idempotency_key = ?", (idempotency_key,)
        ).one_or_none()
        return None if row is None else _run(row)

    def runs(self, *, state: PayoutState | None = None) -> list[PayoutRun]:
        wanted = "" if state is None else state.value
        rows = self._driver.run(
            f"SELECT {_RUN_COLUMNS} FROM payout_runs WHERE ? = '' OR state = ? ORDER BY payout_id DESC",
            (wanted, wanted),
        )
        return [_run(row) for row in rows]

    def rows(self, payout_id: int) -> list[PayoutRow]:
        rows = self._driver.run(
            f"SELECT {_ROW_COLUMNS} FROM payout_rows WHERE payout_id = ? ORDER BY owner_id", (payout_id,)
        )
        return [_row(row) for row in rows]

    def move(self, run: PayoutRun, *, from_state: PayoutState) -> bool:
        result = self._driver.run(
            "UPDATE payout_runs SET state = ?, approved_by = ?, approved_at_us = ?, ended_by = ?, "
            "ended_at_us = ?, file_sha256 = ? WHERE payout_id = ? AND state = ?",
            (
                run.state.value,
                run.approved_by,
                run.approved_at_us,
                run.ended_by,
                run.ended_at_us,
                run.file_sha256,
                run.payout_id,
                from_state.value,
            ),
        )
        return result.rowcount == 1

    def store_file(self, payout_id: int, file: PayoutFile) -> None:
        write_many(
            self._driver,
            "INSERT INTO payout_files (payout_id, name, content, sha256_hex) VALUES (?,?,?,?)",
            [(payout_id, file.name, file.content, file.sha256_hex)],
        )

    def file(self, payout_id: int) -> PayoutFile | None:
        row = self._driver.run(
            "SELECT name, content, sha256_hex FROM payout_files WHERE payout_id = ?", (payout_id,)
        ).one_or_none()
        return None if row is None else PayoutFile(name=row[0], content=row[1], sha256_hex=row[2])

    def paid_rows(self, owner_id: str, *, limit: int) -> list[tuple[PayoutRun, PayoutRow]]:
        return self._rows_of(owner_id, _PAID, limit)

    def left_out_rows(self, owner_id: str, *, limit: int) -> list[tuple[PayoutRun, PayoutRow]]:
        return self._rows_of(owner_id, "r.reason <> ''", limit)

    def _rows_of(self, owner_id: str, which: str, limit: int) -> list[tuple[PayoutRun, PayoutRow]]:
        columns = ", ".join(
            [f"p.{field.name}" for field in fields(PayoutRun)]
            + [f"r.{field.name}" for field in fields(PayoutRow)]
        )
        rows = self._driver.run(
            f"SELECT {columns} FROM payout_rows r JOIN payout_runs p ON p.payout_id = r.payout_id "
            f"WHERE r.owner_id = ? AND {which} ORDER BY r.payout_id DESC LIMIT ?",
            (owner_id, limit),
        )
        width = len(fields(PayoutRun))
        return [(_run(row[:width]), _row(row[width:])) for row in rows]

    def last_ibans(self, *, before_payout_id: int) -> dict[str, str]:
        rows = self._driver.run(
            "SELECT r.owner_id, r.iban FROM payout_rows r JOIN (SELECT q.owner_id AS owner_id, "
            "MAX(q.payout_id) AS payout_id FROM payout_rows q "
            "JOIN payout_runs p ON p.payout_id = q.payout_id "
            "WHERE q.reason = '' AND p.state IN ('approved', 'exported') AND q.payout_id < ? "
            # An account that was planned and withheld is as new as before.
            "AND NOT EXISTS (SELECT 1 FROM payout_steps s WHERE s.payout_id = q.payout_id "
            "AND s.owner_id = q.owner_id AND s.state = 'withheld') "
            "GROUP BY q.owner_id) last ON last.owner_id = r.owner_id AND last.payout_id = r.payout_id",
            (before_payout_id,),
        )
        return {row[0]: row[1] for row in rows}

    def paid_micros(self, owner_id: str) -> int:
        value = self._driver.run(
            "SELECT COALESCE(SUM(r.amount_micros), 0) "
            "FROM payout_rows r JOIN payout_runs p ON p.payout_id = r.payout_id "
            f"WHERE r.owner_id = ? AND {_PAID}",
            (owner_id,),
        ).scalar_one()
        return int(value)

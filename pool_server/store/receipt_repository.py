"""Receipts in SQL: rows, signed batches, daily sums, and the mark up to which dispute windows are over."""

from collections.abc import Iterable, Iterator, Sequence

from pool_protocol.errors import InvariantError
from pool_server.ports.money import DayRow, HeldSum, ReceiptBatch, ReceiptHead, ReceiptIssuer, ReceiptRow
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many, stream, write_many

_RECEIPT_COLUMNS = ", ".join(ReceiptRow._fields)
_BATCH_COLUMNS = "batch_id, first_receipt_id, leaf_count, merkle_root, signed, signed_at_us"
_DAY_COLUMNS = ", ".join(DayRow._fields)
_ADD_DAY = (
    f"INSERT INTO owner_days ({_DAY_COLUMNS}) VALUES (?,?,?,?,?,?,?,?) "
    "ON CONFLICT (owner_id, day, vehicle_id) DO UPDATE SET "
    + ", ".join(
        f"{name} = owner_days.{name} + excluded.{name}"
        for name in ("attempts", "work_uwu", "gross_micros", "fee_micros", "net_micros")
    )
)
_RELEASED_THROUGH = "released_through_receipt_id"


def _batch(row: Sequence[object]) -> ReceiptBatch:
    batch_id, first_receipt_id, leaf_count, merkle_root, signed, signed_at_us = row
    if not (
        isinstance(batch_id, int)
        and isinstance(first_receipt_id, int)
        and isinstance(leaf_count, int)
        and isinstance(merkle_root, bytes)
        and isinstance(signed, bytes)
        and isinstance(signed_at_us, int)
    ):
        raise InvariantError(f"receipt batch {batch_id!r} has a column of the wrong type")
    return ReceiptBatch(
        batch_id=batch_id,
        first_receipt_id=first_receipt_id,
        leaf_count=leaf_count,
        merkle_root=merkle_root,
        signed=signed,
        signed_at_us=signed_at_us,
    )


class SqlReceiptRepository:
    """Implements `ports.money.ReceiptRepository`."""

    def __init__(self, driver: Driver, *, issuer: ReceiptIssuer) -> None:
        """Bind to a transaction; `issuer` serializes and signs."""
        self._driver = driver
        self.issuer = issuer

    def head(self) -> ReceiptHead:
        row = self._driver.run(
            "SELECT batch_id, first_receipt_id + leaf_count - 1, signed_at_us FROM receipt_batches "
            "ORDER BY batch_id DESC LIMIT 1"
        ).one_or_none()
        return ReceiptHead(0, 0, 0) if row is None else ReceiptHead(*row)

    def append(self, batch: ReceiptBatch, rows: Sequence[ReceiptRow], days: Sequence[DayRow]) -> None:
        insert_many(
            self._driver,
            "receipt_batches",
            _BATCH_COLUMNS,
            [
                (
                    batch.batch_id,
                    batch.first_receipt_id,
                    batch.leaf_count,
                    batch.merkle_root,
                    batch.signed,
                    batch.signed_at_us,
                )
            ],
        )
        insert_many(self._driver, "receipts", _RECEIPT_COLUMNS, rows)
        write_many(self._driver, _ADD_DAY, days)

    def released_through(self) -> int:
        value = self._driver.run(
            "SELECT value FROM marks WHERE name = ?", (_RELEASED_THROUGH,)
        ).scalar_one_or_none()
        return int(value or 0)

    def last_verified_until(self, until_us: int, *, after_receipt_id: int) -> int:
        # Batches are in the order of their times, so the last one in time ends the range.
        value = self._driver.run(
            "SELECT first_receipt_id + leaf_count - 1 FROM receipt_batches "
            "WHERE signed_at_us <= ? ORDER BY signed_at_us DESC, batch_id DESC LIMIT 1",
            (until_us,),
        ).scalar_one_or_none()
        return max(after_receipt_id, int(value or 0))

    def held_by_owner(self, *, after_receipt_id: int, through_receipt_id: int) -> list[HeldSum]:
        rows = self._driver.run(
            "SELECT owner_id, COUNT(*), SUM(net_micros) FROM receipts "
            "WHERE receipt_id > ? AND receipt_id <= ? AND NOT EXISTS (SELECT 1 FROM questioned_attempts AS q "
            "WHERE q.receipt_id = receipts.receipt_id AND q.state <> 'upheld' AND q.net_micros > 0) "
            "GROUP BY owner_id ORDER BY owner_id",
            (after_receipt_id, through_receipt_id),
        )
        return [HeldSum(*row) for row in rows]

    def advance_released(self, *, from_receipt_id: int, to_receipt_id: int) -> None:
        self._driver.run(
            "INSERT INTO marks (name, value) VALUES (?, 0) ON CONFLICT (name) DO NOTHING",
            (_RELEASED_THROUGH,),
        )
        moved = self._driver.run(
            "UPDATE marks SET value = ? WHERE name = ? AND value = ?",
            (to_receipt_id, _RELEASED_THROUGH, from_receipt_id),
        )
        if moved.rowcount != 1:
            raise InvariantError(f"receipts were not released through {from_receipt_id}")

    def oldest_held_us(self, owner_id: str) -> int:
        value = self._driver.run(
            "SELECT verified_at_us FROM receipts WHERE owner_id = ? AND receipt_id > ? AND net_micros > 0 "
            "ORDER BY receipt_id LIMIT 1",
            (owner_id, self.released_through()),
        ).scalar_one_or_none()
        return int(value or 0)

    def by_owner(
        self, owner_id: str, *, before_receipt_id: int, vehicle_id: str, limit: int
    ) -> list[ReceiptRow]:
        rows = self._driver.run(
            f"SELECT {_RECEIPT_COLUMNS} FROM receipts WHERE owner_id = ? AND (? = 0 OR receipt_id < ?) "
            "AND (? = '' OR vehicle_id = ?) ORDER BY receipt_id DESC LIMIT ?",
            (owner_id, before_receipt_id, before_receipt_id, vehicle_id, vehicle_id, limit),
        )
        return [ReceiptRow(*row) for row in rows]

    def by_attempts(self, attempt_ids: Sequence[int]) -> list[ReceiptRow]:
        statement = f"SELECT {_RECEIPT_COLUMNS} FROM receipts WHERE attempt_id IN ({{marks}})"
        return sorted(ReceiptRow(*row) for row in fetch_in(self._driver, statement, attempt_ids))

    def in_range(self, owner_id: str, *, from_us: int, until_us: int, limit: int) -> list[ReceiptRow]:
        rows = self._driver.run(
            f"SELECT {_RECEIPT_COLUMNS} FROM receipts WHERE owner_id = ? AND verified_at_us >= ? "
            "AND verified_at_us < ? ORDER BY receipt_id LIMIT ?",
            (owner_id, from_us, until_us, limit),
        )
        return [ReceiptRow(*row) for row in rows]

    def batches(self, batch_ids: Iterable[int]) -> dict[int, ReceiptBatch]:
        statement = f"SELECT {_BATCH_COLUMNS} FROM receipt_batches WHERE batch_id IN ({{marks}})"
        return {row[0]: _batch(row) for row in fetch_in(self._driver, statement, sorted(set(batch_ids)))}

    def leaves(self, batch: ReceiptBatch) -> list[bytes]:
        rows = self._driver.run(
            "SELECT receipt FROM receipts WHERE receipt_id >= ? AND receipt_id < ? ORDER BY receipt_id",
            (batch.first_receipt_id, batch.first_receipt_id + batch.leaf_count),
        )
        return [row[0] for row in rows]

    def days(self, owner_id: str, *, from_day: int, until_day: int) -> list[DayRow]:
        rows = self._driver.run(
            f"SELECT {_DAY_COLUMNS} FROM owner_days WHERE owner_id = ? AND day >= ? AND day < ? "
            "ORDER BY day, vehicle_id",
            (owner_id, from_day, until_day),
        )
        return [DayRow(*row) for row in rows]

    def owner_sums(self, owner_id: str, *, vehicle_id: str = "") -> DayRow:
        row = self._driver.run(
            "SELECT COALESCE(SUM(attempts), 0), COALESCE(SUM(work_uwu), 0), COALESCE(SUM(gross_micros), 0), "
            "COALESCE(SUM(fee_micros), 0), COALESCE(SUM(net_micros), 0) FROM owner_days "
            "WHERE owner_id = ? AND (? = '' OR vehicle_id = ?)",
            (owner_id, vehicle_id, vehicle_id),
        ).one()
        return DayRow(owner_id, 0, vehicle_id, *row)

    def sums_by_owner(self, *, from_day: int, until_day: int) -> list[DayRow]:
        rows = self._driver.run(
            "SELECT owner_id, 0, '', SUM(attempts), SUM(work_uwu), SUM(gross_micros), SUM(fee_micros), "
            "SUM(net_micros) FROM owner_days WHERE day >= ? AND day < ? GROUP BY owner_id ORDER BY owner_id",
            (from_day, until_day),
        )
        return [DayRow(*row) for row in rows]

    def paid_by(self, account_id: int, *, from_us: int, until_us: int) -> int:
        total = self._driver.run(
            "SELECT COALESCE(SUM(r.gross_micros), 0) FROM transfers t JOIN receipts r "
            "ON r.transfer_id = t.transfer_id WHERE t.debit_account_id = ? AND t.code = 310 "
            "AND r.verified_at_us >= ? AND r.verified_at_us < ?",
            (account_id, from_us, until_us),
        ).scalar_one()
        return int(total)

    def all_receipts(self) -> Iterator[ReceiptRow]:
        statement = f"SELECT {_RECEIPT_COLUMNS} FROM receipts ORDER BY receipt_id"
        return (ReceiptRow(*row) for row in stream(self._driver, statement))

    def all_batches(self) -> Iterator[ReceiptBatch]:
        statement = f"SELECT {_BATCH_COLUMNS} FROM receipt_batches ORDER BY batch_id"
        return (_batch(row) for row in stream(self._driver, statement))

    def all_days(self) -> Iterator[DayRow]:
        statement = f"SELECT {_DAY_COLUMNS} FROM owner_days ORDER BY owner_id, day, vehicle_id"
        return (DayRow(*row) for row in stream(self._driver, statement))

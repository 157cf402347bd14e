"""The books in SQL: accounts and transfers, read and appended in bulk inside the caller's transaction."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pool_server.core.ledger.chain import EMPTY_HEAD, GENESIS_HASH, account_bytes, next_hash
from pool_server.core.ledger.model import (
    Account,
    AccountSpec,
    Decision,
    KeyRecord,
    LedgerHead,
    PendingTransfer,
    TransferRow,
)
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many, stream, write_many
from pool_server.store.tables.ledger import OUTSIDE_HOT_PATH

ACCOUNT_COLUMNS = (
    "account_id, name, code, state, debits_must_not_exceed_credits, credits_must_not_exceed_debits, "
    "sweep_to_account_id, debits_pending, debits_posted, credits_pending, credits_posted"
)
TRANSFER_COLUMNS = ", ".join(TransferRow._fields)
_INSERT_ACCOUNT = (
    f"INSERT INTO accounts ({ACCOUNT_COLUMNS}, opened_at_us, chain_hash) VALUES ({','.join('?' * 13)})"
)
_ADD_COUNTERS = (
    "UPDATE accounts SET debits_pending = debits_pending + ?, debits_posted = debits_posted + ?, "
    "credits_pending = credits_pending + ?, credits_posted = credits_posted + ? WHERE account_id = ?"
)
_PENDINGS = (
    "SELECT p.transfer_id, p.debit_account_id, p.credit_account_id, p.amount_micros, p.reference_id, "
    "p.reference_round, COALESCE(p.expires_at_us, 0), COALESCE(r.kind, 0), COALESCE(r.code, 0) "
    "FROM transfers p LEFT JOIN transfers r ON r.pending_id = p.transfer_id "
)
_EXPIRED_THROUGH = "expired_through_us"


def account_of(row: Sequence[Any]) -> Account:
    """Make an account of a row that begins with `ACCOUNT_COLUMNS`."""
    return Account(
        account_id=row[0],
        name=row[1],
        code=row[2],
        state=row[3],
        debits_must_not_exceed_credits=bool(row[4]),
        credits_must_not_exceed_debits=bool(row[5]),
        sweep_to_account_id=row[6],
        debits_pending_micros=row[7],
        debits_posted_micros=row[8],
        credits_pending_micros=row[9],
        credits_posted_micros=row[10],
    )


class SqlLedgerRepository:
    """Implements `ports.money.LedgerRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def head(self) -> LedgerHead:
        row = self._driver.run(
            "SELECT transfer_id, chain_hash, recorded_at_us FROM transfers ORDER BY transfer_id DESC LIMIT 1"
        ).one_or_none()
        if row is None:
            return EMPTY_HEAD
        return LedgerHead(transfer_id=row[0], chain_hash=row[1], recorded_at_us=row[2])

    def open_accounts(self, specs: Sequence[AccountSpec], *, now_us: int) -> None:
        existing = self.accounts_by_name([spec.name for spec in specs])
        last = self._driver.run(
            "SELECT account_id, chain_hash FROM accounts ORDER BY account_id DESC LIMIT 1"
        ).one_or_none()
        account_id, chain_hash = (0, GENESIS_HASH) if last is None else (last[0], last[1])
        rows: list[tuple[Any, ...]] = []
        for spec in specs:
            if spec.name in existing:
                continue
            account_id += 1
            chain_hash = next_hash(chain_hash, account_bytes(account_id, spec, opened_at_us=now_us))
            flags = (int(spec.debits_must_not_exceed_credits), int(spec.credits_must_not_exceed_debits))
            rows.append(
                (
                    account_id,
                    spec.name,
                    int(spec.code),
                    0,
                    *flags,
                    spec.sweep_to_account_id,
                    0,
                    0,
                    0,
                    0,
                    now_us,
                    chain_hash,
                )
            )
        write_many(self._driver, _INSERT_ACCOUNT, rows)

    def accounts_by_name(self, names: Iterable[str]) -> dict[str, Account]:
        statement = f"SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE name IN ({{marks}})"
        return {row[1]: account_of(row) for row in fetch_in(self._driver, statement, list(names))}

    def accounts(self, account_ids: Iterable[int]) -> dict[int, Account]:
        statement = f"SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE account_id IN ({{marks}})"
        return {row[0]: account_of(row) for row in fetch_in(self._driver, statement, list(account_ids))}

    def accounts_by_prefix(self, prefix: str) -> list[Account]:
        # Not LIKE: a prefix may hold its wildcards, and the index on names serves a range.
        rows = self._driver.run(
            f"SELECT {ACCOUNT_COLUMNS} FROM accounts "
            "WHERE name >= ? AND substr(name, 1, CAST(? AS INTEGER)) = ? ORDER BY name",
            (prefix, len(prefix), prefix),
        )
        return [account_of(row) for row in rows]

    def accounts_swept_to(self, account_id: int) -> list[Account]:
        rows = self._driver.run(
            f"SELECT {ACCOUNT_COLUMNS} FROM accounts "
            "WHERE sweep_to_account_id = ? AND sweep_to_account_id > 0 ORDER BY account_id",
            (account_id,),
        )
        return [account_of(row) for row in rows]

    def totals_by_code(self) -> dict[int, tuple[int, int, int, int]]:
        rows = self._driver.run(
            "SELECT code, SUM(debits_pending), SUM(debits_posted), SUM(credits_pending), SUM(credits_posted) "
            "FROM accounts GROUP BY code"
        )
        return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}

    def set_account_state(self, account_id: int, *, from_state: int, to_state: int) -> bool:
        result = self._driver.run(
            "UPDATE accounts SET state = ? WHERE account_id = ? AND state = ?",
            (to_state, account_id, from_state),
        )
        return result.rowcount == 1

    def pendings(self, transfer_ids: Sequence[int]) -> dict[int, PendingTransfer]:
        statement = _PENDINGS + "WHERE p.kind = 1 AND p.transfer_id IN ({marks})"
        return {row[0]: PendingTransfer(*row) for row in fetch_in(self._driver, statement, transfer_ids)}

    def pendings_of_references(self, reference_ids: Sequence[int]) -> list[PendingTransfer]:
        statement = _PENDINGS + "WHERE p.kind = 1 AND p.reference_id IN ({marks})"
        rows = fetch_in(self._driver, statement, reference_ids)
        return sorted(PendingTransfer(*row) for row in rows)

    def expired_pendings(self, *, now_us: int, limit: int) -> list[PendingTransfer]:
        through = self.expired_through()
        # Every pending at or before the mark is resolved for ever, so the search starts there.
        rows = self._driver.run(
            _PENDINGS + "WHERE p.expires_at_us > ? AND p.expires_at_us <= ? AND r.transfer_id IS NULL "
            "ORDER BY p.expires_at_us, p.transfer_id LIMIT ?",
            (through, now_us, limit),
        ).fetchall()
        return [PendingTransfer(*row) for row in rows]

    def advance_expired(self, through_us: int) -> None:
        self._driver.run(
            "INSERT INTO marks (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE excluded.value > marks.value",
            (_EXPIRED_THROUGH, through_us),
        )

    def keys(self, keys: Sequence[str]) -> dict[str, KeyRecord]:
        done = fetch_in(
            self._driver,
            "SELECT key, input_hash, transfer_id FROM idempotency_keys WHERE key IN ({marks})",
            keys,
        )
        failed = fetch_in(self._driver, "SELECT key, input_hash FROM failed_ids WHERE key IN ({marks})", keys)
        known = {
            row[0]: KeyRecord(key=row[0], input_hash=row[1], failed=False, transfer_id=row[2]) for row in done
        }
        known.update(
            {row[0]: KeyRecord(key=row[0], input_hash=row[1], failed=True, transfer_id=0) for row in failed}
        )
        return known

    def append(self, decision: Decision) -> None:
        insert_many(self._driver, "transfers", TRANSFER_COLUMNS, decision.rows)
        write_many(self._driver, _ADD_COUNTERS, decision.deltas)
        if decision.keys:
            at_us = decision.rows[-1].recorded_at_us if decision.rows else 0
            write_many(
                self._driver,
                "INSERT INTO idempotency_keys (key, input_hash, transfer_id, recorded_at_us) "
                "VALUES (?,?,?,?)",
                [
                    (record.key, record.input_hash, record.transfer_id, at_us)
                    for record in decision.keys
                    if not record.failed
                ],
            )
            self.remember_failed([record for record in decision.keys if record.failed], now_us=at_us)

    def remember_failed(self, records: Sequence[KeyRecord], *, now_us: int) -> None:
        write_many(
            self._driver,
            "INSERT INTO failed_ids (key, input_hash, failed_at_us) VALUES (?,?,?)",
            [(record.key, record.input_hash, now_us) for record in records],
        )

    def sum_by_code(self, account_id: int, code: int, *, debit: bool) -> int:
        side = "debit_account_id" if debit else "credit_account_id"
        total = self._driver.run(
            f"SELECT COALESCE(SUM(amount_micros), 0) FROM transfers "
            f"WHERE {side} = ? AND code = ? AND {OUTSIDE_HOT_PATH}",
            (account_id, code),
        ).scalar_one()
        return int(total)

    def account_transfers(self, account_id: int, *, from_us: int, until_us: int) -> list[TransferRow]:
        rows = self._driver.run(
            " UNION ALL ".join(
                f"SELECT {TRANSFER_COLUMNS} FROM transfers WHERE {side} = ? AND {OUTSIDE_HOT_PATH} "
                "AND recorded_at_us >= ? AND recorded_at_us < ?"
                for side in ("debit_account_id", "credit_account_id")
            ),
            (account_id, from_us, until_us) * 2,
        ).fetchall()
        return sorted(TransferRow(*row) for row in rows)

    def account_balance_before(self, account_id: int, *, before_us: int) -> int:
        total = self._driver.run(
            "SELECT COALESCE((SELECT SUM(amount_micros) FROM transfers WHERE credit_account_id = ? "
            f"AND {OUTSIDE_HOT_PATH} AND recorded_at_us < ?), 0) "
            "- COALESCE((SELECT SUM(amount_micros) FROM transfers "
            f"WHERE debit_account_id = ? AND {OUTSIDE_HOT_PATH} AND recorded_at_us < ?), 0)",
            (account_id, before_us, account_id, before_us),
        ).scalar_one()
        return int(total)

    def all_transfers(self) -> Iterator[TransferRow]:
        statement = f"SELECT {TRANSFER_COLUMNS} FROM transfers ORDER BY transfer_id"
        return (TransferRow(*row) for row in stream(self._driver, statement))

    def all_accounts(self) -> Iterator[tuple[Account, int, bytes]]:
        statement = f"SELECT {ACCOUNT_COLUMNS}, opened_at_us, chain_hash FROM accounts ORDER BY account_id"
        return ((account_of(row), row[11], row[12]) for row in stream(self._driver, statement))

    def expired_through(self) -> int:
        value = self._driver.run(
            "SELECT value FROM marks WHERE name = ?", (_EXPIRED_THROUGH,)
        ).scalar_one_or_none()
        return int(value or 0)

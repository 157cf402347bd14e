"""The transparency log in SQL: tiles, nodes, tree heads, and receipts as leaves; statements of solvency."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pool_server.ports.money import ReceiptRow
from pool_server.ports.receipt_log import NodeRow, SignedHead, SolvencyFacts, SolvencyRow, TileRow
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, insert_many

_RECEIPT_COLUMNS = ", ".join(ReceiptRow._fields)
_HEAD_COLUMNS = "tree_size, root_hash, signed_at_us, signed"
_SOLVENCY_COLUMNS = (
    "statement_id, made_at_us, ledger_sequence, ledger_hash, liabilities, liabilities_micros, "
    "liability_count, liability_root, bank_micros, bank_as_of, books_micros, tree_size, tree_root, "
    "entered_by, signed, secret, leaves"
)


def _head(row: Sequence[Any]) -> SignedHead:
    tree_size, root_hash, signed_at_us, signed = row
    return SignedHead(
        tree_size=tree_size, root_hash=bytes(root_hash), signed_at_us=signed_at_us, signed=bytes(signed)
    )


class SqlReceiptLogRepository:
    """Implements `ports.receipt_log.ReceiptLogRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def tile_count(self) -> int:
        # Tiles are written in order and without gaps, so the last one's index says how many there are.
        last = self._driver.run(
            "SELECT tile_index FROM log_tiles ORDER BY tile_index DESC LIMIT 1"
        ).scalar_one_or_none()
        return 0 if last is None else int(last) + 1

    def append_tiles(self, tiles: Sequence[TileRow], nodes: Sequence[NodeRow]) -> None:
        insert_many(self._driver, "log_tiles", "tile_index, leaf_hashes", tiles)
        insert_many(self._driver, "log_nodes", "node_id, node_hash", nodes)

    def tiles(self, indexes: Iterable[int]) -> dict[int, bytes]:
        statement = "SELECT tile_index, leaf_hashes FROM log_tiles WHERE tile_index IN ({marks})"
        return {row[0]: bytes(row[1]) for row in fetch_in(self._driver, statement, sorted(set(indexes)))}

    def nodes(self, node_ids: Iterable[int]) -> dict[int, bytes]:
        statement = "SELECT node_id, node_hash FROM log_nodes WHERE node_id IN ({marks})"
        return {row[0]: bytes(row[1]) for row in fetch_in(self._driver, statement, sorted(set(node_ids)))}

    def leaves(self, first_index: int, count: int) -> list[bytes]:
        rows = self._driver.run(
            "SELECT receipt FROM receipts WHERE receipt_id > ? ORDER BY receipt_id LIMIT ?",
            (first_index, count),
        )
        return [bytes(row[0]) for row in rows]

    def logged(
        self, *, owner_id: str, vehicle_id: str, from_log_index: int, tree_size: int, limit: int
    ) -> list[ReceiptRow]:
        rows = self._driver.run(
            f"SELECT {_RECEIPT_COLUMNS} FROM receipts WHERE owner_id = ? AND receipt_id > ? "
            "AND receipt_id <= ? AND vehicle_id = ? ORDER BY receipt_id LIMIT ?",
            (owner_id, from_log_index, tree_size, vehicle_id, limit),
        )
        return [ReceiptRow(*row) for row in rows]

    def head(self, tree_size: int = 0) -> SignedHead | None:
        row = self._driver.run(
            f"SELECT {_HEAD_COLUMNS} FROM log_heads WHERE ? = 0 OR tree_size = ? "
            "ORDER BY tree_size DESC LIMIT 1",
            (tree_size, tree_size),
        ).one_or_none()
        return None if row is None else _head(row)

    def heads(self, *, before_size: int, limit: int) -> list[SignedHead]:
        rows = self._driver.run(
            f"SELECT {_HEAD_COLUMNS} FROM log_heads WHERE ? = 0 OR tree_size < ? "
            "ORDER BY tree_size DESC LIMIT ?",
            (before_size, before_size, limit),
        )
        return [_head(row) for row in rows]

    def all_heads(self) -> list[SignedHead]:
        rows = self._driver.run(f"SELECT {_HEAD_COLUMNS} FROM log_heads ORDER BY tree_size")
        return [_head(row) for row in rows]

    def add_head(self, head: SignedHead) -> None:
        row = (head.tree_size, head.root_hash, head.signed_at_us, head.signed)
        insert_many(self._driver, "log_heads", _HEAD_COLUMNS, [row])


def _statement(row: Sequence[Any]) -> SolvencyRow:
    facts = SolvencyFacts(
        statement_id=row[0],
        made_at_us=row[1],
        ledger_sequence=row[2],
        ledger_hash=bytes(row[3]),
        liabilities=tuple((str(kind), int(amount)) for kind, amount in json.loads(row[4])),
        liabilities_micros=row[5],
        liability_count=row[6],
        liability_root=bytes(row[7]),
        bank_micros=row[8],
        bank_as_of=row[9],
        books_micros=row[10],
        tree_size=row[11],
        tree_root=bytes(row[12]),
    )
    return SolvencyRow(
        facts=facts,
        entered_by=row[13],
        signed=bytes(row[14]),
        secret=bytes(row[15]),
        leaves=bytes(row[16]),
    )


class SqlSolvencyRepository:
    """Implements `ports.receipt_log.SolvencyRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def last(self) -> SolvencyRow | None:
        return self._first("1 = 1 ORDER BY statement_id DESC LIMIT 1", ())

    def statement(self, statement_id: int) -> SolvencyRow | None:
        return self._first("statement_id = ?", (statement_id,))

    def last_before(self, before_us: int) -> SolvencyRow | None:
        condition = "made_at_us < ? ORDER BY made_at_us DESC, statement_id DESC LIMIT 1"
        return self._first(condition, (before_us,))

    def statements(self, *, before_id: int, limit: int) -> list[SolvencyRow]:
        condition = "? = 0 OR statement_id < ? ORDER BY statement_id DESC LIMIT ?"
        return self._rows(condition, (before_id, before_id, limit))

    def append(self, row: SolvencyRow) -> None:
        facts = row.facts
        values = (
            facts.statement_id,
            facts.made_at_us,
            facts.ledger_sequence,
            facts.ledger_hash,
            json.dumps(facts.liabilities),
            facts.liabilities_micros,
            facts.liability_count,
            facts.liability_root,
            facts.bank_micros,
            facts.bank_as_of,
            facts.books_micros,
            facts.tree_size,
            facts.tree_root,
            row.entered_by,
            row.signed,
            row.secret,
            row.leaves,
        )
        insert_many(self._driver, "solvency_statements", _SOLVENCY_COLUMNS, [values])

    def _first(self, condition: str, parameters: tuple[Any, ...]) -> SolvencyRow | None:
        return next(iter(self._rows(condition, parameters)), None)

    def _rows(self, condition: str, parameters: tuple[Any, ...]) -> list[SolvencyRow]:
        rows = self._driver.run(
            f"SELECT {_SOLVENCY_COLUMNS} FROM solvency_statements WHERE {condition}", parameters
        )
        return [_statement(row) for row in rows]

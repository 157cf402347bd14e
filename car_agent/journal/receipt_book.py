"""The receipt book: this vehicle's receipts and the pool's tree heads, kept so that they prove themselves.

A file of its own beside the journal. The journal is about work on its way and may be set aside when it is
damaged; this is what an owner shows years later, and what shows that a pool rewrote its log. Everything is
kept as it came, byte by byte; nothing in here is believed without its signatures.

SQLite in WAL mode with synchronous=FULL. Methods may be called from any thread, one at a time.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from car_agent.journal.sqlite import connect, transaction
from pool_protocol.digests import DIGEST_BYTES
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.log_audit import KeptHead, KeptReceipt

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE tree_heads (
    pool_id TEXT NOT NULL, tree_size INTEGER NOT NULL, envelope BLOB NOT NULL, path BLOB NOT NULL,
    PRIMARY KEY (pool_id, tree_size)
) STRICT;
CREATE TABLE receipts (
    pool_id TEXT NOT NULL, log_index INTEGER NOT NULL, proven BLOB NOT NULL, proof BLOB NOT NULL,
    tree_size INTEGER NOT NULL, PRIMARY KEY (pool_id, log_index)
) STRICT;
CREATE INDEX receipts_by_tree ON receipts (pool_id, tree_size);
CREATE TABLE evidence (
    evidence_id INTEGER PRIMARY KEY, pool_id TEXT NOT NULL, at_us INTEGER NOT NULL, code TEXT NOT NULL,
    sentence TEXT NOT NULL, trusted BLOB NOT NULL, offered BLOB NOT NULL,
    UNIQUE (pool_id, code, sentence)
) STRICT;
"""
#: Receipts kept; at about 1.2 kB each some 60 MB. The oldest go, and the dashboard can fetch them again.
RECEIPTS_MAX: Final = 50_000
#: Pieces of evidence kept of one kind: a pool that goes on lying is convicted by the first.
_EVIDENCE_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a pool did to its log, and the proof: two signed heads, or a receipt and a head."""

    at_us: int
    code: str
    sentence: str
    trusted: bytes
    """The serialized envelope that was trusted; empty when it is not about two heads."""
    offered: bytes
    """The serialized envelope that contradicts it; empty when the pool had none to offer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookPosition:
    """Where a pool's part of the book ends."""

    last_head: bytes
    """The serialized envelope of the newest trusted head; empty before the first."""
    last_used_head: bytes
    """The same of the newest head that receipts are proved under, itself included; empty for none."""
    next_log_index: int
    """Receipts up to here, without it, were asked for."""


class ReceiptBook:
    """The receipt book of one state directory."""

    def __init__(self, path: Path, *, receipts_max: int = RECEIPTS_MAX) -> None:
        """Open or make the book.

        Raises:
            PoolError: JOURNAL_CORRUPT when the file is damaged or of a later version; UNAVAILABLE when it
                cannot be opened.
        """
        self.path = path
        self._receipts_max = receipts_max
        self._lock = threading.Lock()
        try:
            self._connection = _open(path)
        except sqlite3.OperationalError as error:
            raise PoolError(ErrorCode.UNAVAILABLE, f"cannot open {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise PoolError(
                ErrorCode.JOURNAL_CORRUPT,
                f"{path} cannot be read: {error}",
                advice=f"Move {path} away; the pool's receipts can be fetched again. Keep it if it may hold "
                "evidence.",
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._connection) as connection:
            yield connection

    def position(self, pool_id: str) -> BookPosition:
        """Return where a pool's part of the book ends."""
        with self._lock:
            last = self._connection.execute(
                "SELECT envelope FROM tree_heads WHERE pool_id = ? ORDER BY tree_size DESC LIMIT 1",
                (pool_id,),
            ).fetchone()
            used = self._connection.execute(
                "SELECT envelope FROM tree_heads AS h WHERE pool_id = ? AND EXISTS"
                " (SELECT 1 FROM receipts AS r WHERE r.pool_id = h.pool_id AND r.tree_size = h.tree_size)"
                " ORDER BY tree_size DESC LIMIT 1",
                (pool_id,),
            ).fetchone()
            index = self._connection.execute(
                "SELECT coalesce(max(log_index) + 1, 0) FROM receipts WHERE pool_id = ?", (pool_id,)
            ).fetchone()
        return BookPosition(
            last_head=b"" if last is None else last[0],
            last_used_head=b"" if used is None else used[0],
            next_log_index=int(index[0]),
        )

    def trust(self, pool_id: str, *, tree_size: int, envelope: bytes, path: Sequence[bytes]) -> None:
        """Keep a head in place of the last one, unless receipts are proved under that one.

        Args:
            pool_id: The pool.
            tree_size: The head's.
            envelope: The head, checked to continue the last one.
            path: The consistency proof from the newest head that stays.
        """
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM tree_heads WHERE pool_id = ? AND tree_size NOT IN"
                " (SELECT tree_size FROM receipts WHERE pool_id = ?)",
                (pool_id, pool_id),
            )
            connection.execute(
                "INSERT INTO tree_heads (pool_id, tree_size, envelope, path) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (pool_id, tree_size) DO NOTHING",
                (pool_id, tree_size, envelope, b"".join(path)),
            )

    def add(self, pool_id: str, receipts: Sequence[tuple[int, KeptReceipt]]) -> None:
        """Keep receipts by their index in the log; the oldest go when there are too many."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO receipts (pool_id, log_index, proven, proof, tree_size) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (pool_id, log_index) DO NOTHING",
                [(pool_id, index, one.proven, one.proof, one.tree_size) for index, one in receipts],
            )
            connection.execute(
                "DELETE FROM receipts WHERE pool_id = ? AND log_index <= (SELECT log_index FROM receipts"
                " WHERE pool_id = ? ORDER BY log_index DESC LIMIT 1 OFFSET ?)",
                (pool_id, pool_id, self._receipts_max),
            )

    def receipts(self, pool_id: str, *, last: int = 0) -> list[KeptReceipt]:
        """Return the kept receipts in the order of the log; with `last` only so many of the newest."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT proven, proof, tree_size FROM receipts WHERE pool_id = ?"
                " ORDER BY log_index DESC LIMIT ?",
                (pool_id, last or -1),
            ).fetchall()
        return [KeptReceipt(proven=row[0], proof=row[1], tree_size=row[2]) for row in reversed(rows)]

    def heads(self, pool_id: str) -> list[KeptHead]:
        """Return the kept heads, the smallest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT envelope, path FROM tree_heads WHERE pool_id = ? ORDER BY tree_size", (pool_id,)
            ).fetchall()
        return [
            KeptHead(
                envelope=envelope,
                path=tuple(path[at : at + DIGEST_BYTES] for at in range(0, len(path), DIGEST_BYTES)),
            )
            for envelope, path in rows
        ]

    def accuse(self, pool_id: str, evidence: Evidence) -> bool:
        """Keep evidence; return False when the same was kept before, or enough of its kind."""
        with self._transaction() as connection:
            [count] = connection.execute(
                "SELECT count(*) FROM evidence WHERE pool_id = ? AND code = ?", (pool_id, evidence.code)
            ).fetchone()
            if count >= _EVIDENCE_MAX:
                return False
            cursor = connection.execute(
                "INSERT INTO evidence (pool_id, at_us, code, sentence, trusted, offered)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    pool_id,
                    evidence.at_us,
                    evidence.code,
                    evidence.sentence,
                    evidence.trusted,
                    evidence.offered,
                ),
            )
            return cursor.rowcount == 1

    def evidence(self, pool_id: str) -> list[Evidence]:
        """Return what was kept against a pool, the oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT at_us, code, sentence, trusted, offered FROM evidence WHERE pool_id = ?"
                " ORDER BY evidence_id",
                (pool_id,),
            ).fetchall()
        return [
            Evidence(at_us=row[0], code=row[1], sentence=row[2], trusted=row[3], offered=row[4])
            for row in rows
        ]


def _open(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        # The daemon and a command may both be the first: whoever has the lock makes the tables.
        connection.execute("BEGIN IMMEDIATE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if not 0 <= version <= _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"a receipt book of version {version}")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    path.chmod(0o600)
    return connection

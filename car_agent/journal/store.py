"""The crash-safe journal: leases, results that the pool has not acknowledged, counters, events.

SQLite in WAL mode with synchronous=FULL: what a method has returned from is on disk. Whole signed bundles
are kept and sent again, byte by byte, until each is acknowledged; kill -9 at any point loses nothing that
was in here. A journal that SQLite cannot read is set aside under another name and a new one begun: consent
is not in here, so it is not touched.

All methods are synchronous and may be called from one thread at a time.
"""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from car_agent.journal import commitments, energy_days
from car_agent.journal.commitments import KeptCommitment
from car_agent.journal.durable import sync_directory
from car_agent.journal.energy_days import EnergyUsed
from car_agent.journal.sqlite import connect, transaction
from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError

_EVENTS_MAX: Final = 500
_SCHEMA_VERSION: Final = 3
_SCHEMA_1: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE compute_days (day INTEGER PRIMARY KEY, compute_us INTEGER NOT NULL) STRICT;
CREATE TABLE leases (
    lease_id TEXT PRIMARY KEY, envelope BLOB NOT NULL, attempts_total INTEGER NOT NULL,
    expires_at_us INTEGER NOT NULL, taken_at_us INTEGER NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0 CHECK (finished IN (0, 1))
) STRICT;
CREATE TABLE reported (
    lease_id TEXT NOT NULL REFERENCES leases ON DELETE CASCADE, attempt_id INTEGER NOT NULL,
    PRIMARY KEY (lease_id, attempt_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE bundles (
    bundle_id INTEGER PRIMARY KEY, lease_id TEXT NOT NULL, envelope BLOB NOT NULL,
    sealed_at_us INTEGER NOT NULL, attempts INTEGER NOT NULL
) STRICT;
CREATE TABLE uploads (
    bundle_id INTEGER NOT NULL REFERENCES bundles ON DELETE CASCADE, sha256 TEXT NOT NULL,
    content BLOB NOT NULL, PRIMARY KEY (bundle_id, sha256)
) STRICT;
CREATE TABLE events (
    event_id INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL
) STRICT;
"""
#: What leads from each version to the next.
_UPGRADES: Final = {0: _SCHEMA_1, 1: commitments.COMMITMENTS_SCHEMA, 2: energy_days.ENERGY_SCHEMA}
_MICROSECONDS_PER_DAY: Final = limits.DAY_US
RESULTS_SEQUENCE: Final = "results_sequence"
_LEASE_SEQUENCE: Final = "lease_sequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalledLease:
    """A lease as it was taken."""

    lease_id: str
    envelope: bytes
    attempts_total: int
    expires_at_us: int
    reported: frozenset[int]
    """Attempts whose results are in the journal, or were acknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalledBundle:
    """A signed result bundle that the pool has not acknowledged."""

    bundle_id: int
    lease_id: str
    envelope: bytes
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalledEvent:
    """One thing that happened."""

    at_us: int
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFacts:
    """What a bundle reports, for the books of the journal."""

    lease_id: str
    attempt_ids: Sequence[int]
    lease_done: bool
    """No attempt of the lease is left without a result."""
    completed: int
    abandoned: int
    uploads: Mapping[str, bytes]
    """Outputs too large for the message, by SHA-256: uploaded before the bundle is sent."""
    commitments: Mapping[int, bytes] = field(default_factory=dict)
    """Digests of the units of step attempts, joined, by attempt."""
    energy: EnergyUsed = field(default_factory=EnergyUsed)
    """What the attempts took."""


class Journal:
    """The journal of one state directory."""

    def __init__(self, path: Path, *, now_us: int) -> None:
        """Open or create the journal; one that is damaged is set aside first.

        Raises:
            PoolError: UNAVAILABLE when the file cannot be opened or written; JOURNAL_CORRUPT when a damaged
                one could not be replaced.
        """
        self.path = path
        self.quarantined: Path | None = None
        try:
            self._connection = _open(path)
        except sqlite3.OperationalError as error:
            # Locked, full or forbidden is not damaged: nothing is set aside for that.
            raise PoolError(ErrorCode.UNAVAILABLE, f"cannot open {path}: {error}") from error
        except sqlite3.DatabaseError as damage:
            self.quarantined = _set_aside(path, now_us)
            try:
                self._connection = _open(path)
            except sqlite3.Error as error:
                raise PoolError(ErrorCode.JOURNAL_CORRUPT, f"cannot open {path}: {error}") from damage
            self.add_event(
                "JOURNAL_CORRUPT",
                f"The journal was damaged; it is kept as {self.quarantined.name} and a new one was begun.",
                now_us=now_us,
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._connection)

    def _rows(self, query: str, *parameters: Any) -> list[Any]:
        return self._connection.execute(query, parameters).fetchall()

    # --- leases --------------------------------------------------------------------------------

    def take_lease(
        self,
        *,
        lease_id: str,
        envelope: bytes,
        sequence: int,
        attempts_total: int,
        expires_at_us: int,
        now_us: int,
    ) -> bool:
        """Keep a verified lease; return False when it is in the journal already.

        Raises:
            PoolError: ENVELOPE_REPLAYED when a lease of this or a later sequence number was taken before.
        """
        with self._transaction() as connection:
            highest = self._counter(_LEASE_SEQUENCE)
            if sequence <= highest:
                raise PoolError(
                    ErrorCode.ENVELOPE_REPLAYED, f"lease sequence {sequence}, {highest} was seen before"
                )
            self._set_counter(_LEASE_SEQUENCE, sequence)
            cursor = connection.execute(
                "INSERT OR IGNORE INTO leases"
                " (lease_id, envelope, attempts_total, expires_at_us, taken_at_us) VALUES (?, ?, ?, ?, ?)",
                (lease_id, envelope, attempts_total, expires_at_us, now_us),
            )
            return cursor.rowcount == 1

    def open_leases(self) -> list[JournalledLease]:
        """Return the leases that have attempts without a result, oldest first."""
        return [
            JournalledLease(
                lease_id=lease_id,
                envelope=envelope,
                attempts_total=total,
                expires_at_us=expires_at_us,
                reported=frozenset(
                    row[0]
                    for row in self._rows("SELECT attempt_id FROM reported WHERE lease_id = ?", lease_id)
                ),
            )
            for lease_id, envelope, total, expires_at_us in self._rows(
                "SELECT lease_id, envelope, attempts_total, expires_at_us FROM leases WHERE finished = 0"
                " ORDER BY taken_at_us, lease_id"
            )
        ]

    def _reported(self, lease_id: str) -> frozenset[int]:
        rows = self._rows("SELECT attempt_id FROM reported WHERE lease_id = ?", lease_id)
        return frozenset(row[0] for row in rows)

    def held_lease_ids(self) -> list[str]:
        """Return the leases that are open or have results on their way."""
        return [row[0] for row in self._rows("SELECT lease_id FROM leases ORDER BY taken_at_us, lease_id")]

    def drop_lease(self, lease_id: str) -> None:
        """Forget what is open of a lease whose rest is no longer wanted; its sealed results still go out."""
        with self._transaction() as connection:
            connection.execute("UPDATE leases SET finished = 1 WHERE lease_id = ?", (lease_id,))
            self._forget_settled(lease_id)

    # --- results -------------------------------------------------------------------------------

    def add_bundle(
        self, facts: BundleFacts, seal: Callable[[int], bytes], *, run_time_us: int, now_us: int
    ) -> JournalledBundle:
        """Number, seal and keep a bundle of results in one transaction.

        Args:
            facts: What the bundle reports.
            seal: Returns the serialized signed envelope for a sequence number.
            run_time_us: Time that the worker computed for it.
            now_us: Wall time. Also the floor of the sequence, so that it grows even after a lost journal.
        """
        with self._transaction() as connection:
            sequence = max(self._counter(RESULTS_SEQUENCE) + 1, now_us)
            self._set_counter(RESULTS_SEQUENCE, sequence)
            envelope = seal(sequence)
            cursor = connection.execute(
                "INSERT INTO bundles (lease_id, envelope, sealed_at_us, attempts) VALUES (?, ?, ?, ?)",
                (facts.lease_id, envelope, now_us, len(facts.attempt_ids)),
            )
            bundle_id = cursor.lastrowid or 0
            connection.executemany(
                "INSERT INTO uploads (bundle_id, sha256, content) VALUES (?, ?, ?)",
                [(bundle_id, sha256, content) for sha256, content in facts.uploads.items()],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO reported (lease_id, attempt_id) VALUES (?, ?)",
                [(facts.lease_id, attempt_id) for attempt_id in facts.attempt_ids],
            )
            commitments.keep(
                connection, lease_id=facts.lease_id, unit_digests=facts.commitments, now_us=now_us
            )
            if facts.lease_done:
                connection.execute("UPDATE leases SET finished = 1 WHERE lease_id = ?", (facts.lease_id,))
            self._bump("completed_total", facts.completed)
            self._bump("abandoned_total", facts.abandoned)
            self._add_compute_time(run_time_us, now_us)
            energy_days.add(connection, facts.energy, now_us=now_us)
        return JournalledBundle(
            bundle_id=bundle_id, lease_id=facts.lease_id, envelope=envelope, attempts=len(facts.attempt_ids)
        )

    def bundles(self) -> list[JournalledBundle]:
        """Return the bundles that wait for their acknowledgement, oldest first."""
        return [
            JournalledBundle(bundle_id=bundle_id, lease_id=lease_id, envelope=envelope, attempts=attempts)
            for bundle_id, lease_id, envelope, attempts in self._rows(
                "SELECT bundle_id, lease_id, envelope, attempts FROM bundles ORDER BY bundle_id"
            )
        ]

    def uploads(self, bundle_id: int) -> dict[str, bytes]:
        """Return the outputs that must be uploaded before a bundle is sent."""
        return dict(self._rows("SELECT sha256, content FROM uploads WHERE bundle_id = ?", bundle_id))

    def uploaded(self, bundle_id: int, sha256: str) -> None:
        """Take note that the pool holds an output durably."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM uploads WHERE bundle_id = ? AND sha256 = ?", (bundle_id, sha256))

    def settle_bundle(self, bundle_id: int) -> None:
        """Forget a bundle: the pool has acknowledged it, or will never take it."""
        with self._transaction() as connection:
            row = connection.execute(
                "DELETE FROM bundles WHERE bundle_id = ? RETURNING lease_id", (bundle_id,)
            ).fetchone()
            if row is not None:
                self._forget_settled(row[0])

    def commitment(self, attempt_id: int) -> KeptCommitment | None:
        """Return what an attempt has committed to; None when that is not kept."""
        return commitments.read(self._connection, attempt_id)

    def _forget_settled(self, lease_id: str) -> None:
        self._connection.execute(
            "DELETE FROM leases WHERE lease_id = ? AND finished = 1"
            " AND NOT EXISTS (SELECT 1 FROM bundles WHERE bundles.lease_id = leases.lease_id)",
            (lease_id,),
        )

    # --- counters, events, meta ----------------------------------------------------------------

    def _add_compute_time(self, run_time_us: int, now_us: int) -> None:
        """Add time computed to its day (UTC) and to the total."""
        if run_time_us <= 0:
            return
        self._connection.execute(
            "INSERT INTO compute_days (day, compute_us) VALUES (?, ?)"
            " ON CONFLICT (day) DO UPDATE SET compute_us = compute_us + excluded.compute_us",
            (now_us // _MICROSECONDS_PER_DAY, run_time_us),
        )
        self._bump("compute_total_us", run_time_us)

    def compute_today_us(self, *, now_us: int) -> int:
        """Return the time computed on this day (UTC)."""
        rows = self._rows(
            "SELECT compute_us FROM compute_days WHERE day = ?", now_us // _MICROSECONDS_PER_DAY
        )
        return int(rows[0][0]) if rows else 0

    def add_energy(self, used: EnergyUsed, *, now_us: int) -> None:
        """Add energy that no attempt is reported with: starting a worker, answering questions."""
        with self._transaction() as connection:
            energy_days.add(connection, used, now_us=now_us)

    def energy_today(self, *, now_us: int) -> EnergyUsed:
        """Return what computing took on this day (UTC)."""
        return energy_days.of_day(self._connection, now_us=now_us)

    def counter(self, name: str) -> int:
        """Return a counter; 0 when it never counted."""
        return self._counter(name)

    def _counter(self, name: str) -> int:
        rows = self._rows("SELECT value FROM counters WHERE name = ?", name)
        return int(rows[0][0]) if rows else 0

    def _set_counter(self, name: str, value: int) -> None:
        self._connection.execute(
            "INSERT INTO counters (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def _bump(self, name: str, by: int) -> None:
        if by:
            self._set_counter(name, self._counter(name) + by)

    def add_event(self, code: str, message: str, *, now_us: int) -> JournalledEvent:
        """Keep an event; the oldest go when there are more than five hundred."""
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO events (at_us, code, message) VALUES (?, ?, ?)", (now_us, code, message)
            )
            connection.execute(
                "DELETE FROM events WHERE event_id <= ?", ((cursor.lastrowid or 0) - _EVENTS_MAX,)
            )
        return JournalledEvent(at_us=now_us, code=code, message=message)

    def events(self, limit: int) -> list[JournalledEvent]:
        """Return the last events, newest first."""
        return [
            JournalledEvent(at_us=at_us, code=code, message=message)
            for at_us, code, message in self._rows(
                "SELECT at_us, code, message FROM events ORDER BY event_id DESC LIMIT ?", limit
            )
        ]

    def put_meta(self, key: str, value: Any) -> None:
        """Keep a small JSON value under a key."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?)"
                " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, json.dumps(value)),
            )

    def meta(self, key: str) -> Any:
        """Return a kept value, or None."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return json.loads(rows[0][0]) if rows else None


def _open(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if not 0 <= version <= _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"a journal of version {version}")
        for older in range(version, _SCHEMA_VERSION):
            connection.executescript(f"BEGIN; {_UPGRADES[older]} PRAGMA user_version = {older + 1}; COMMIT;")
        check = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if check != "ok":
            raise sqlite3.DatabaseError(str(check))
    except BaseException:
        connection.close()
        raise
    path.chmod(0o600)
    return connection


def _set_aside(path: Path, now_us: int) -> Path:
    """Rename a damaged journal with its side files, so that someone can look at it."""
    aside = path.with_name(f"{path.stem}.damaged-{now_us}{path.suffix}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    sync_directory(path.parent)
    return aside

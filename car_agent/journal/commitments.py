"""What this vehicle has signed of step tasks' states, kept for as long as the pool may ask for them.

Digests of all units, and the lease that says from what they were computed: enough to show any digest with its
place under the signed root, and to compute a state again. Bounded in time and in bytes; the oldest go first.
The functions run inside the journal's own transactions.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pool_protocol import limits
from pool_protocol.digests import DIGEST_BYTES

COMMITMENTS_SCHEMA: Final = """
CREATE TABLE commitments (
    attempt_id INTEGER PRIMARY KEY, lease_id TEXT NOT NULL, digests BLOB NOT NULL, kept_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE kept_leases (lease_id TEXT PRIMARY KEY, envelope BLOB NOT NULL) STRICT;
"""
#: A result waits no longer for a second opinion, and is then not asked about any more.
_KEPT_US: Final = 35 * limits.DAY_US
#: All digests and leases together: two million units.
KEPT_BYTES_MAX: Final = 64 * limits.MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCommitment:
    """What one attempt has committed to."""

    attempt_id: int
    unit_digests: tuple[bytes, ...]
    lease_envelope: bytes
    """The lease as it was taken; empty when it is not kept any more."""


def keep(
    connection: sqlite3.Connection,
    *,
    lease_id: str,
    unit_digests: Mapping[int, bytes],
    now_us: int,
    bytes_max: int = KEPT_BYTES_MAX,
) -> None:
    """Keep the joined digests of attempts of a lease that is in the journal, and forget the oldest."""
    if not unit_digests:
        return
    connection.executemany(
        "INSERT OR REPLACE INTO commitments (attempt_id, lease_id, digests, kept_at_us) VALUES (?, ?, ?, ?)",
        [(attempt_id, lease_id, joined, now_us) for attempt_id, joined in unit_digests.items()],
    )
    connection.execute(
        "INSERT OR IGNORE INTO kept_leases (lease_id, envelope)"
        " SELECT lease_id, envelope FROM leases WHERE lease_id = ?",
        (lease_id,),
    )
    connection.execute("DELETE FROM commitments WHERE kept_at_us < ?", (now_us - _KEPT_US,))
    _forget_leases(connection)
    while _size(connection) > bytes_max:
        # Whole leases go, oldest first: their envelope is what takes the room.
        connection.execute(
            "DELETE FROM commitments WHERE lease_id ="
            " (SELECT lease_id FROM commitments ORDER BY kept_at_us, attempt_id LIMIT 1)"
        )
        _forget_leases(connection)


def _forget_leases(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM kept_leases WHERE lease_id NOT IN (SELECT lease_id FROM commitments)")


def _size(connection: sqlite3.Connection) -> int:
    [size] = connection.execute(
        "SELECT (SELECT coalesce(sum(length(digests)), 0) FROM commitments)"
        " + (SELECT coalesce(sum(length(envelope)), 0) FROM kept_leases)"
    ).fetchone()
    return int(size)


def read(connection: sqlite3.Connection, attempt_id: int) -> KeptCommitment | None:
    """Return what an attempt has committed to; None when that is not kept."""
    row = connection.execute(
        "SELECT c.digests, coalesce(l.envelope, x'') FROM commitments AS c"
        " LEFT JOIN kept_leases AS l ON l.lease_id = c.lease_id WHERE c.attempt_id = ?",
        (attempt_id,),
    ).fetchone()
    if row is None:
        return None
    joined = row[0]
    return KeptCommitment(
        attempt_id=attempt_id,
        unit_digests=tuple(
            joined[start : start + DIGEST_BYTES] for start in range(0, len(joined), DIGEST_BYTES)
        ),
        lease_envelope=row[1],
    )

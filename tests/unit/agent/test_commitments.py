"""What was signed of units is kept over restarts, within bounds, and an older journal learns to keep it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from car_agent.journal import commitments
from car_agent.journal.store import BundleFacts, Journal
from pool_protocol.digests import sha256
from pool_protocol.limits import DAY_US

NOW_US = 1_800_000_000_000_000
DIGESTS = tuple(sha256(b"unit %d" % unit) for unit in range(5))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite3", now_us=NOW_US)
    yield opened
    opened.close()


def report(journal: Journal, number: int, *, now_us: int = NOW_US, done: bool = True) -> None:
    """Take a lease of one attempt of the same number, and seal its result."""
    lease_id = f"lease_{number}"
    journal.take_lease(
        lease_id=lease_id,
        envelope=b"lease %d" % number,
        sequence=number,
        attempts_total=1,
        expires_at_us=now_us,
        now_us=now_us,
    )
    facts = BundleFacts(
        lease_id=lease_id,
        attempt_ids=[number],
        lease_done=done,
        completed=1,
        abandoned=0,
        uploads={},
        commitments={number: b"".join(DIGESTS)},
    )
    bundle = journal.add_bundle(facts, lambda _: b"sealed", run_time_us=0, now_us=now_us)
    journal.settle_bundle(bundle.bundle_id)


def test_digests_and_lease_outlive_the_acknowledgement_and_a_restart(journal: Journal) -> None:
    report(journal, 1)
    assert journal.held_lease_ids() == []
    journal.close()
    again = Journal(journal.path, now_us=NOW_US)
    kept = again.commitment(1)
    assert kept is not None
    assert (kept.unit_digests, kept.lease_envelope) == (DIGESTS, b"lease 1")
    assert again.commitment(2) is None
    again.close()


def test_what_is_old_is_forgotten_with_its_lease(journal: Journal) -> None:
    report(journal, 1)
    report(journal, 2, now_us=NOW_US + 36 * DAY_US)
    assert journal.commitment(1) is None
    assert journal.commitment(2) is not None
    assert journal._rows("SELECT lease_id FROM kept_leases") == [("lease_2",)]


def test_the_oldest_leases_make_room(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 32 * len(DIGESTS) + len(b"lease 1")
    defaults = commitments.keep.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "bytes_max", 2 * size)
    for number in (1, 2, 3):
        report(journal, number, now_us=NOW_US + number)
    assert [journal.commitment(number) is not None for number in (1, 2, 3)] == [False, True, True]


def test_a_journal_of_the_first_version_learns_to_keep_them(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    first = Journal(path, now_us=NOW_US)
    first.put_meta("owner", "Olga")
    first.close()
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "DROP TABLE commitments; DROP TABLE kept_leases; DROP TABLE energy_days; PRAGMA user_version = 1;"
        )
    connection.close()
    second = Journal(path, now_us=NOW_US)
    assert second.quarantined is None
    assert second.meta("owner") == "Olga"
    report(second, 1)
    assert second.commitment(1) is not None
    second.close()

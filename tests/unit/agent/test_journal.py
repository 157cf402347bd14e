"""The journal: what it returned from is there after a crash, and a damaged one takes nothing down with it."""

import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from car_agent.journal.consent import ConsentFile
from car_agent.journal.durable import remove_durably, write_durably
from car_agent.journal.store import BundleFacts, Journal
from pool_protocol.errors import ErrorCode, PoolError

NOW_US = 1_800_000_000_000_000


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite3", now_us=NOW_US)
    yield opened
    opened.close()


def take(journal: Journal, lease_id: str, *, sequence: int, attempts: int = 2) -> bool:
    return journal.take_lease(
        lease_id=lease_id,
        envelope=b"lease " + lease_id.encode(),
        sequence=sequence,
        attempts_total=attempts,
        expires_at_us=NOW_US + 1,
        now_us=NOW_US,
    )


def facts(
    lease_id: str, *attempt_ids: int, done: bool, uploads: dict[str, bytes] | None = None
) -> BundleFacts:
    return BundleFacts(
        lease_id=lease_id,
        attempt_ids=attempt_ids,
        lease_done=done,
        completed=len(attempt_ids),
        abandoned=0,
        uploads=uploads or {},
    )


def seal(sequence: int) -> bytes:
    return b"sealed %d" % sequence


def reopened(journal: Journal) -> Journal:
    journal.close()
    return Journal(journal.path, now_us=NOW_US)


def test_a_lease_is_open_until_its_last_result_and_held_until_the_acknowledgement(journal: Journal) -> None:
    assert take(journal, "lease_1", sequence=1)
    first = journal.add_bundle(facts("lease_1", 11, done=False), seal, run_time_us=10, now_us=NOW_US)
    (lease,) = journal.open_leases()
    assert (lease.lease_id, lease.envelope, lease.reported) == ("lease_1", b"lease lease_1", frozenset({11}))
    second = journal.add_bundle(facts("lease_1", 12, done=True), seal, run_time_us=5, now_us=NOW_US)
    assert journal.open_leases() == []
    journal.settle_bundle(first.bundle_id)
    assert journal.held_lease_ids() == ["lease_1"]
    journal.settle_bundle(second.bundle_id)
    assert journal.held_lease_ids() == []
    assert (journal.counter("completed_total"), journal.counter("compute_total_us")) == (2, 15)


def test_bundles_come_back_byte_by_byte_in_order(journal: Journal) -> None:
    take(journal, "lease_1", sequence=1)
    made = [
        journal.add_bundle(facts("lease_1", n, done=False), seal, run_time_us=0, now_us=NOW_US)
        for n in range(3)
    ]
    journal = reopened(journal)
    assert journal.bundles() == made
    journal.settle_bundle(made[1].bundle_id)
    assert [bundle.bundle_id for bundle in reopened(journal).bundles()] == [
        made[0].bundle_id,
        made[2].bundle_id,
    ]


def test_sequence_numbers_grow_even_when_the_clock_goes_back(journal: Journal) -> None:
    take(journal, "lease_1", sequence=1)
    envelopes = [
        journal.add_bundle(facts("lease_1", n, done=False), seal, run_time_us=0, now_us=now_us).envelope
        for n, now_us in enumerate([NOW_US, NOW_US - 50, NOW_US + 50])
    ]
    assert envelopes == [seal(NOW_US), seal(NOW_US + 1), seal(NOW_US + 50)]


def test_a_bundle_that_cannot_be_sealed_leaves_no_trace(journal: Journal) -> None:
    take(journal, "lease_1", sequence=1)

    def broken(sequence: int) -> bytes:
        raise PoolError(ErrorCode.INTERNAL, "no")

    with pytest.raises(PoolError):
        journal.add_bundle(facts("lease_1", 11, done=True), broken, run_time_us=1, now_us=NOW_US)
    assert journal.bundles() == []
    assert journal.open_leases()[0].reported == frozenset()
    assert journal.counter("completed_total") == 0


def test_replay_of_a_lease_is_refused_also_after_a_restart(journal: Journal) -> None:
    assert take(journal, "lease_1", sequence=10)
    journal = reopened(journal)
    for sequence in (10, 9):
        with pytest.raises(PoolError) as refused:
            take(journal, "lease_2", sequence=sequence)
        assert refused.value.code is ErrorCode.ENVELOPE_REPLAYED
    assert [lease.lease_id for lease in journal.open_leases()] == ["lease_1"]
    assert not take(journal, "lease_1", sequence=11), "the same lease, sent again, is known"
    assert take(journal, "lease_2", sequence=12)


def test_a_dropped_lease_goes_once_its_results_are_acknowledged(journal: Journal) -> None:
    take(journal, "lease_1", sequence=1)
    bundle = journal.add_bundle(facts("lease_1", 11, done=False), seal, run_time_us=0, now_us=NOW_US)
    journal.drop_lease("lease_1")
    assert journal.open_leases() == []
    assert journal.held_lease_ids() == ["lease_1"]
    journal.settle_bundle(bundle.bundle_id)
    assert journal.held_lease_ids() == []
    take(journal, "lease_2", sequence=2)
    journal.drop_lease("lease_2")
    assert journal.held_lease_ids() == []


def test_uploads_wait_with_their_bundle(journal: Journal) -> None:
    take(journal, "lease_1", sequence=1)
    uploads = {"a" * 64: b"large", "b" * 64: b"larger"}
    bundle = journal.add_bundle(
        facts("lease_1", 11, done=True, uploads=uploads), seal, run_time_us=0, now_us=NOW_US
    )
    journal.uploaded(bundle.bundle_id, "a" * 64)
    journal = reopened(journal)
    assert journal.uploads(bundle.bundle_id) == {"b" * 64: b"larger"}
    journal.settle_bundle(bundle.bundle_id)
    assert journal.uploads(bundle.bundle_id) == {}


def test_events_are_bounded_and_newest_first(journal: Journal) -> None:
    for n in range(520):
        journal.add_event("CODE", f"event {n}", now_us=NOW_US + n)
    events = journal.events(1_000)
    assert len(events) == 500
    assert events[0].message == "event 519"


def test_time_computed_counts_by_day(journal: Journal) -> None:
    take(journal, "lease_1", sequence=1)
    day_us = 86_400_000_000
    for n, now_us in enumerate([NOW_US, NOW_US, NOW_US + day_us]):
        journal.add_bundle(facts("lease_1", n, done=False), seal, run_time_us=7, now_us=now_us)
    assert journal.compute_today_us(now_us=NOW_US) == 14
    assert journal.compute_today_us(now_us=NOW_US + day_us) == 7
    assert journal.compute_today_us(now_us=NOW_US + 2 * day_us) == 0


def test_meta_survives(journal: Journal) -> None:
    journal.put_meta("figures", {"held_micros": 5})
    journal.put_meta("figures", {"held_micros": 6})
    assert reopened(journal).meta("figures") == {"held_micros": 6}
    assert journal.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["garbage", "truncated", "middle", "future"])
def test_a_damaged_journal_is_set_aside_and_said(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal.sqlite3"
    journal = Journal(path, now_us=NOW_US)
    take(journal, "lease_1", sequence=1)
    for n in range(200):
        journal.add_bundle(
            facts("lease_1", n, done=False), lambda _: b"x" * 500, run_time_us=0, now_us=NOW_US
        )
    journal.close()
    content = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"not a database at all" * 100)
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "middle":
        path.write_bytes(content[:4_096] + b"\xff" * 8_192 + content[12_288:])
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    fresh = Journal(path, now_us=NOW_US + 5)
    assert fresh.quarantined is not None
    assert fresh.quarantined.exists()
    assert fresh.open_leases() == []
    assert fresh.events(1)[0].code == "JOURNAL_CORRUPT"
    fresh.close()


def test_a_locked_journal_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite3").mkdir()
    with pytest.raises(PoolError) as refused:
        Journal(tmp_path / "journal.sqlite3", now_us=NOW_US)
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert (tmp_path / "journal.sqlite3").is_dir()


WRITER = """
import sys
from pathlib import Path
from car_agent.journal.consent import ConsentFile
from car_agent.journal.store import BundleFacts, Journal
journal = Journal(Path(sys.argv[1]), now_us=1)
consent = ConsentFile(Path(sys.argv[2]))
n = journal.counter("completed_total")
while True:
    n += 1
    lease_id = f"lease_{n}"
    sequence = journal.counter("lease_sequence") + 1
    times = {"expires_at_us": 1, "now_us": 1}
    journal.take_lease(lease_id=lease_id, envelope=b"e", sequence=sequence, attempts_total=1, **times)
    counts = {"completed": 1, "abandoned": 0}
    facts = BundleFacts(lease_id=lease_id, attempt_ids=[n], lease_done=True, uploads={}, **counts)
    bundle = journal.add_bundle(facts, lambda s: b"bundle %d" % n, run_time_us=1, now_us=1)
    (consent.opt_in if n % 2 else consent.opt_out)(now_us=n)
    print(bundle.bundle_id, n, flush=True)
"""


@pytest.mark.slow
def test_kill_9_at_any_point_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """1. A child journals and says what it did. 2. It is killed at a random line. 3. All of it is there."""
    path, consent = tmp_path / "journal.sqlite3", tmp_path / "consent.json"
    chance = random.Random(5)
    said: dict[int, int] = {}
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(consent)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(chance.randint(1, 40)):
            bundle_id, number = map(int, child.stdout.readline().split())
            said[bundle_id] = number
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate(timeout=20)
        for line in rest.splitlines():
            parts = line.split()
            if len(parts) == 2:
                said[int(parts[0])] = int(parts[1])
        journal = Journal(path, now_us=NOW_US)
        assert journal.quarantined is None
        kept = {bundle.bundle_id: bundle.envelope for bundle in journal.bundles()}
        assert {
            bundle_id: b"bundle %d" % number for bundle_id, number in said.items()
        }.items() <= kept.items()
        assert len(kept) - len(said) <= 6, "at most the one in flight at each kill was not said"
        journal.close()
        last = max(said.values())
        switches = ConsentFile(consent).read()
        assert switches.consent_readable
        assert switches.opt_in_changed_us >= last


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"one")
    write_durably(path, b"two", mode=0o644)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(FileNotFoundError):
        write_durably(tmp_path / "missing" / "file", b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "in the way").touch()
    with pytest.raises(OSError, match="folder"):
        write_durably(tmp_path / "folder", b"x")
    assert not list(tmp_path.glob(".*.new"))
    remove_durably(path)
    remove_durably(path)
    assert not path.exists()

"""The desk: which outcome belongs to which lease, what goes into a bundle, and when a lease is done."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from car_agent.journal.store import Journal, JournalledBundle
from car_agent.journal.thread import JournalThread
from car_agent.runner.work import AttemptOutcome, Outcome
from car_agent.session.results import ResultDesk
from pool_protocol import digests, limits
from pool_protocol.envelope import PayloadType, open_envelope
from pool_protocol.keys import SigningKey, TrustedKeys
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from tests.support.clock import ManualClock
from tests.support.ids import SeededIds


class DeskBench:
    """A desk with a journal, and what it told."""

    def __init__(self, path: Path) -> None:
        self.clock, ids = ManualClock(), SeededIds(3)
        self.key = SigningKey.generate(ids)
        self.journal = Journal(path, now_us=self.clock.now_us())
        self.thread = JournalThread(self.journal)
        self.done: list[str] = []
        self.bundles: list[JournalledBundle] = []
        self.desk = ResultDesk(
            journal=self.thread,
            clock=self.clock,
            source=ids,
            vehicle_id="vehicle_a",
            pool_id="pool",
            key=self.key,
            on_lease_done=self.done.append,
            on_bundle=self._bundle_made,
        )
        self.on_bundle: Callable[[], object] = lambda: None

    def _bundle_made(self, bundle: JournalledBundle) -> None:
        self.bundles.append(bundle)
        self.on_bundle()

    def lease(self, lease_id: str, *attempt_ids: int) -> None:
        self.journal.take_lease(
            lease_id=lease_id,
            envelope=b"",
            sequence=self.journal.counter("lease_sequence") + 1,
            attempts_total=len(attempt_ids),
            expires_at_us=1,
            now_us=1,
        )
        self.desk.open(lease_id, attempt_ids, attempts_total=len(attempt_ids))

    def completed(self, lease_id: str, attempt_id: int, outputs: bytes = b"outputs") -> bool:
        return self.desk.take(
            AttemptOutcome(
                lease_id=lease_id,
                attempt_id=attempt_id,
                outcome=Outcome.COMPLETED,
                outputs=outputs,
                output_digest=b"d" * 32,
            )
        )

    def opened(self) -> list[pb.ResultBundleBody]:
        """The bodies of all bundles, after their signatures were checked."""
        return [
            pb.ResultBundleBody.FromString(
                open_envelope(
                    common_pb2.Envelope.FromString(bundle.envelope),
                    payload_type=PayloadType.RESULTS,
                    audience="pool",
                    keys=TrustedKeys([self.key.verifying_key]),
                    now_us=self.clock.now_us(),
                    issuer="vehicle_a",
                ).body
            )
            for bundle in self.bundles
        ]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DeskBench]:
    made = DeskBench(tmp_path / "journal.sqlite3")
    yield made
    made.thread.close()


async def test_one_signature_covers_a_batch_and_the_lease_ends_with_its_last_result(bench: DeskBench) -> None:
    bench.lease("lease_1", 1, 2, 3)
    assert bench.completed("lease_1", 1)
    assert bench.completed("lease_1", 2)
    await bench.desk.flush()
    assert bench.done == []
    assert bench.desk.figures() == (3, 2)
    assert bench.completed("lease_1", 3)
    await bench.desk.flush()
    assert bench.done == ["lease_1"]
    assert [[result.attempt_id for result in body.results] for body in bench.opened()] == [[1, 2], [3]]
    assert bench.journal.open_leases() == []


async def test_an_outcome_that_nobody_waits_for_is_not_signed(bench: DeskBench) -> None:
    bench.lease("lease_1", 1)
    assert not bench.completed("lease_9", 1)
    assert bench.completed("lease_1", 1)
    assert not bench.completed("lease_1", 1), "only once"
    await bench.desk.flush()
    assert not bench.completed("lease_1", 1)
    await bench.desk.flush()
    assert len(bench.bundles) == 1


async def test_abandoning_reports_what_is_left_and_keeps_what_is_done(bench: DeskBench) -> None:
    bench.lease("lease_1", 1, 2)
    bench.completed("lease_1", 2)
    assert bench.desk.abandon(["lease_1", "lease_9"], outcome=Outcome.ABANDONED, reason="UNPLUGGED") == 1
    await bench.desk.flush()
    (body,) = bench.opened()
    assert [(result.attempt_id, result.outcome, result.reason) for result in body.results] == [
        (2, pb.ATTEMPT_OUTCOME_COMPLETED, ""),
        (1, pb.ATTEMPT_OUTCOME_ABANDONED, "UNPLUGGED"),
    ]
    assert (bench.journal.counter("completed_total"), bench.journal.counter("abandoned_total")) == (1, 1)


async def test_what_was_stopped_commits_to_its_units_and_can_show_them_later(bench: DeskBench) -> None:
    bench.lease("lease_1", 1, 2)
    units = (b"a" * 32, b"b" * 32, b"c" * 32)
    stopped = AttemptOutcome(
        lease_id="lease_1",
        attempt_id=1,
        outcome=Outcome.ABANDONED,
        unit_count=3,
        unit_digests=units,
        run_time_us=70,
    )
    assert bench.desk.abandon(["lease_1"], reason="UNPLUGGED", stopped=stopped) == 2
    assert bench.desk.abandon(["lease_1"], reason="UNPLUGGED", stopped=stopped) == 0, "only once"
    await bench.desk.flush()
    (body,) = bench.opened()
    first, second = body.results
    assert (first.attempt_id, first.outcome, first.reason) == (1, pb.ATTEMPT_OUTCOME_ABANDONED, "UNPLUGGED")
    assert (first.unit_root, first.unit_count, first.run_time_us) == (digests.merkle_root(units), 3, 70)
    assert not first.HasField("outputs")
    assert (second.attempt_id, second.unit_root, second.unit_count) == (2, b"", 0)
    kept = bench.journal.commitment(1)
    assert kept is not None
    assert kept.unit_digests == units
    assert bench.journal.commitment(2) is None


async def test_a_lease_whose_rest_was_cancelled_ends_without_a_message(bench: DeskBench) -> None:
    bench.lease("lease_1", 1, 2)
    bench.desk.cancel(frozenset({1, 2, 99}))
    await bench.desk.flush()
    assert bench.done == ["lease_1"]
    assert bench.bundles == []
    assert bench.journal.held_lease_ids() == []


async def test_large_outputs_become_uploads(bench: DeskBench) -> None:
    small, large = b"s" * limits.INLINE_TENSOR_BYTES_MAX, b"l" * (limits.INLINE_TENSOR_BYTES_MAX + 1)
    bench.lease("lease_1", 1, 2)
    bench.completed("lease_1", 1, small)
    bench.completed("lease_1", 2, large)
    await bench.desk.flush()
    first, second = bench.opened()[0].results
    assert first.outputs.inline == small
    assert second.outputs.blob_sha256 == digests.sha256_hex(large)
    assert second.outputs.size_bytes == len(large)
    assert bench.journal.uploads(bench.bundles[0].bundle_id) == {digests.sha256_hex(large): large}


async def test_bundles_are_split_to_fit_a_message_and_only_the_last_ends_the_lease(bench: DeskBench) -> None:
    outputs = b"o" * limits.INLINE_TENSOR_BYTES_MAX
    count = 200
    bench.lease("lease_1", *range(count))
    for attempt_id in range(count):
        bench.completed("lease_1", attempt_id, outputs)
    await bench.desk.flush()
    assert len(bench.bundles) > 1
    assert sum(len(body.results) for body in bench.opened()) == count
    assert all(len(bundle.envelope) < limits.MESSAGE_BYTES_MAX for bundle in bench.bundles)
    assert bench.done == ["lease_1"]
    assert bench.journal.open_leases() == []


async def test_sequence_numbers_and_nonces_never_repeat(bench: DeskBench) -> None:
    bench.lease("lease_1", 1, 2)
    for attempt_id in (1, 2):
        bench.completed("lease_1", attempt_id)
        await bench.desk.flush()
    headers = [
        common_pb2.EnvelopeHeader.FromString(common_pb2.Envelope.FromString(bundle.envelope).header)
        for bundle in bench.bundles
    ]
    assert headers[0].sequence < headers[1].sequence
    assert headers[0].nonce != headers[1].nonce


async def test_a_lease_whose_rest_is_cancelled_while_a_bundle_is_written_is_not_held_for_ever(
    bench: DeskBench,
) -> None:
    bench.lease("lease_1", 1, 2)
    bench.on_bundle = lambda: bench.desk.cancel(frozenset({2}))
    bench.completed("lease_1", 1)
    await bench.desk.flush()
    assert bench.done == ["lease_1"]
    assert bench.journal.open_leases() == []
    bench.journal.settle_bundle(bench.bundles[0].bundle_id)
    assert bench.journal.held_lease_ids() == []

"""The agent against a pool that a test controls: the usual road, broken lines, hostile leases, unplugging."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from car_agent.core.lifecycle import Phase
from pool_protocol import digests, limits, tensors
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey
from pool_protocol.roots import Role, build_root
from pool_protocol.system import SystemClock, SystemIds
from pool_protocol.v1 import fleet_service_pb2 as pb
from tests.integration.agent.rig import FakeFleet, Rig, blob, inputs, until
from tests.unit.agent.test_leases import manifest as simple_manifest

pytestmark = pytest.mark.slow


@pytest.fixture
async def fleet() -> AsyncIterator[FakeFleet]:
    served = FakeFleet()
    await served.start()
    yield served
    await served.stop()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "car")
    yield made
    if made._tasks:
        await made.crash()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_leases_come_in_and_signed_results_go_out(fleet: FakeFleet, rig: Rig) -> None:
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, 12, 13), fleet.lease(2, 21)]
    await rig.start(identity)
    assert rig.agent.state.phase is Phase.WAITING, "nothing is computed before the source has spoken"
    rig.charge()
    await until(lambda: len(fleet.results()) == 4 and not rig.link.outbox)
    for attempt_id, result in fleet.results().items():
        assert result.outcome == pb.ATTEMPT_OUTCOME_COMPLETED
        assert result.outputs.inline == inputs(attempt_id)
        assert result.output_digest == digests.output_digest(tensors.decode(inputs(attempt_id)))
    await until(lambda: rig.agent.snapshot().compute.completed_total == 4)
    assert await rig.journal(lambda journal: journal.held_lease_ids()) == []
    await until(lambda: rig.agent.snapshot().pool.held_micros > 0, what="the owner's figures")
    assert rig.agent.snapshot().compute.sandbox_missing == ("all: stub",)


async def test_constants_and_inputs_come_as_blobs_and_large_outputs_go_as_such(
    fleet: FakeFleet, rig: Rig
) -> None:
    identity = fleet.identity()
    constants, large = tensors.encode({}), inputs(5.0)
    fleet.blobs = {digests.sha256_hex(item): item for item in (constants, large)}
    spec = pb.AttemptSpec(attempt_id=31, inputs=blob(large))
    fleet.offers = [fleet.lease(3, attempts=[spec], constants=blob(constants))]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 31 in fleet.results())
    assert fleet.results()[31].outputs.inline == large
    assert (rig.directory.cache / digests.sha256_hex(large)).read_bytes() == large


async def test_an_output_too_large_for_a_message_is_uploaded_first(fleet: FakeFleet, rig: Rig) -> None:
    identity = fleet.identity()
    shape = (limits.INLINE_TENSOR_BYTES_MAX // 2,)
    program = fleet.admit(b"large", simple_manifest(b"large", shape=shape))
    content = tensors.encode({"value": np.ones(shape, np.float32)})
    fleet.blobs = {digests.sha256_hex(content): content}
    spec = pb.AttemptSpec(attempt_id=31, inputs=blob(content))
    fleet.offers = [fleet.lease(3, attempts=[spec], program_sha256=program)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 31 in fleet.results() and not rig.link.outbox)
    assert fleet.results()[31].outputs.blob_sha256 == digests.sha256_hex(content)
    assert fleet.uploads == {digests.sha256_hex(content): content}


async def test_a_blob_that_is_not_what_the_lease_names_is_refused(fleet: FakeFleet, rig: Rig) -> None:
    identity = fleet.identity()
    fleet.blobs = {digests.sha256_hex(inputs(5.0)): inputs(6.0)}
    spec = pb.AttemptSpec(attempt_id=31, inputs=blob(inputs(5.0)))
    fleet.offers = [fleet.lease(3, attempts=[spec])]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 31 in fleet.results())
    assert fleet.results()[31].outcome != pb.ATTEMPT_OUTCOME_COMPLETED
    assert fleet.results()[31].reason == "BLOB_DIGEST_MISMATCH"


def phase_of(rig: Rig) -> str:
    return rig.agent.state.phase.value


HOSTILE = ["tampered", "another's", "stranger's key", "expired", "program key"]


@pytest.mark.parametrize("attack", HOSTILE)
async def test_a_hostile_lease_is_an_event_and_nothing_runs(fleet: FakeFleet, rig: Rig, attack: str) -> None:
    identity = fleet.identity()
    if attack == "tampered":
        lease = fleet.lease(1, 11)
        lease.body = lease.body[:-1] + bytes([lease.body[-1] ^ 1])
    elif attack == "another's":
        lease = fleet.lease(1, 11, audience=SystemIds().new_vehicle_id())
    elif attack == "stranger's key":
        lease = fleet.lease(1, 11, key=SigningKey.generate(SystemIds()))
    elif attack == "expired":
        lease = fleet.lease(1, 11, lives_us=-500_000)
    else:
        lease = fleet.lease(1, 11, key=fleet.program_key)
    fleet.offers = [lease]
    await rig.start(identity)
    rig.charge()
    await until(lambda: "LEASE_REFUSED" in rig.event_codes())
    assert rig.agent.state.phase is Phase.IDLE
    assert rig.agent.snapshot().computing is False
    assert await rig.journal(lambda journal: journal.held_lease_ids()) == []
    assert not fleet.bundles
    assert not (rig.directory.scratch / "ran").exists()


async def test_a_replayed_lease_runs_once(fleet: FakeFleet, rig: Rig) -> None:
    identity = fleet.identity()
    lease = fleet.lease(1, 11)
    fleet.offers = [lease]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 11 in fleet.results() and not rig.link.outbox)
    fleet.offers = [lease]
    await until(lambda: "LEASE_REFUSED" in rig.event_codes())
    assert len(fleet.bundles) == 1


@pytest.mark.parametrize("key", ["lease key", "unknown program"])
async def test_a_program_that_was_not_admitted_is_refused_to_the_pool(
    fleet: FakeFleet, rig: Rig, key: str
) -> None:
    """A stolen lease key alone cannot make a car run new code."""
    identity = fleet.identity()
    sha256 = "0" * 64
    if key == "lease key":
        sha256 = fleet.admit(b"evil", simple_manifest(b"evil"), key=fleet.lease_key)
    fleet.offers = [fleet.lease(1, 11, program_sha256=sha256)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 11 in fleet.results())
    result = fleet.results()[11]
    assert result.outcome == pb.ATTEMPT_OUTCOME_REFUSED
    assert result.reason == ("KEY_UNKNOWN" if key == "lease key" else "PROGRAM_NOT_ADMITTED")
    assert not list(rig.directory.cache.glob("*"))


async def test_unplugging_kills_the_worker_and_gives_the_rest_back(fleet: FakeFleet, tmp_path: Path) -> None:
    """1. Two attempts are done, one runs, one waits. 2. Unplug. 3. No process; the pool hears of the rest."""
    rig = Rig(tmp_path / "car", "honest", "0.15")
    fleet.offers = []
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, 12, 13, 14)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: rig.agent.snapshot().compute.lease_done == 2)
    pid = rig.agent.worker_pid
    assert pid is not None
    rig.unplug()
    assert rig.agent.state.phase is Phase.YIELDING, "killed before the report returned"
    await rig.agent.worker_gone()
    assert not alive(pid)
    assert 0 <= rig.agent.snapshot().compute.last_stop_ms < 250
    await until(lambda: len(fleet.results()) == 4)
    outcomes = {attempt_id: result.outcome for attempt_id, result in fleet.results().items()}
    assert outcomes == {
        11: pb.ATTEMPT_OUTCOME_COMPLETED,
        12: pb.ATTEMPT_OUTCOME_COMPLETED,
        13: pb.ATTEMPT_OUTCOME_ABANDONED,
        14: pb.ATTEMPT_OUTCOME_ABANDONED,
    }
    assert fleet.results()[13].reason == "UNPLUGGED"
    await until(lambda: not rig.agent.state.connected, what="an idle car holds no stream")
    await rig.crash()


async def test_results_are_sent_again_byte_by_byte_until_acknowledged(fleet: FakeFleet, rig: Rig) -> None:
    """1. The pool takes results and goes silent. 2. The agent crashes. 3. Its successor sends the same."""
    identity = fleet.identity()
    fleet.answers_results = False
    fleet.offers = [fleet.lease(1, 11, 12)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: len(fleet.results()) == 2)
    await rig.crash()
    first = list(fleet.bundle_bytes)
    fleet.answers_results = True
    again = Rig(rig.directory.path)
    await again.start()
    await until(lambda: not again.link.outbox, what="sent although the car is not even charging")
    assert fleet.bundle_bytes == first * 2
    assert await again.journal(lambda journal: journal.bundles()) == []
    await again.crash()


async def test_a_lease_goes_on_after_a_crash_where_it_was(fleet: FakeFleet, tmp_path: Path) -> None:
    """1. One of three attempts is journalled. 2. Crash. 3. The successor makes only the other two."""
    rig = Rig(tmp_path / "car", "honest", "0.1", flush_after_s=0.0)
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, 12, 13)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 11 in fleet.results())
    await rig.crash()
    done_before = set(fleet.results())
    again = Rig(tmp_path / "car", "honest")
    await again.start()
    again.charge()
    await until(lambda: len(fleet.results()) == 3)
    assert all(result.outcome == pb.ATTEMPT_OUTCOME_COMPLETED for result in fleet.results().values())
    ran = (tmp_path / "car" / "scratch" / "ran").read_text().split()
    assert all(ran.count(str(attempt_id)) == 1 for attempt_id in done_before), "not made again"
    assert fleet.requests[-1].held_lease_ids in (["lease_1"], [])
    await again.crash()


async def test_a_lease_of_the_last_run_is_given_back_when_the_car_does_not_charge(
    fleet: FakeFleet, tmp_path: Path
) -> None:
    rig = Rig(tmp_path / "car", "hangs")
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: rig.agent.snapshot().computing)
    await rig.crash()
    again = Rig(tmp_path / "car")
    await again.start()
    again.unplug()
    await until(lambda: 11 in fleet.results())
    assert fleet.results()[11].outcome == pb.ATTEMPT_OUTCOME_ABANDONED
    assert not again.agent.worker_lives
    await again.crash()


async def test_a_broken_line_costs_nothing(fleet: FakeFleet, rig: Rig) -> None:
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 11 in fleet.results())
    await fleet.restart()
    fleet.offers = [fleet.lease(2, 21)]
    await until(lambda: 21 in fleet.results())
    assert fleet.streams == 2
    assert "POOL_LOST" in rig.event_codes()


async def test_held_leases_are_named_while_they_are_worked_on(fleet: FakeFleet, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "car", "honest", "0.3", flush_after_s=0.0)
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, 12)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 12 in fleet.results())
    held = [list(request.held_lease_ids) for request in fleet.requests]
    assert held[0] == []
    assert ["lease_1"] in held
    await rig.crash()


async def test_refused_results_are_dropped_or_kept_by_their_code(fleet: FakeFleet, rig: Rig) -> None:
    identity = fleet.identity()
    fleet.refuse_results = PoolError(ErrorCode.LEASE_EXPIRED)
    fleet.offers = [fleet.lease(1, 11)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: "RESULT_REFUSED" in rig.event_codes())
    assert not rig.link.outbox
    fleet.refuse_results = PoolError(ErrorCode.UNAVAILABLE, retry_after_ms=1)
    fleet.offers = [fleet.lease(2, 21)]
    await until(lambda: len(rig.link.outbox) == 1)
    sent = len(fleet.requests)
    await until(lambda: len(fleet.requests) > sent)
    assert len(rig.link.outbox) == 1, "a pool in trouble does not cost the owner a result"


async def test_the_pool_cancels_what_waits_and_what_runs(fleet: FakeFleet, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "car", "honest", "0.2")
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, 12, 13)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: rig.agent.snapshot().computing)
    fleet.pushes.put_nowait(
        pb.ExchangeResponse(cancel=pb.Cancel(attempt_ids=[12, 13], reason="TASK_DECIDED"))
    )
    await until(lambda: 11 in fleet.results() and not rig.agent.state.lease_ids)
    assert set(fleet.results()) == {11}
    assert "WORK_CANCELLED" in rig.event_codes()
    assert await rig.journal(lambda journal: journal.open_leases()) == []
    await rig.crash()


async def test_a_drain_hands_in_and_comes_back_later(fleet: FakeFleet, rig: Rig) -> None:
    identity = fleet.identity()
    fleet.no_work_retry_ms = 10_000
    await rig.start(identity)
    rig.charge()
    await until(lambda: fleet.requests)
    fleet.pushes.put_nowait(pb.ExchangeResponse(drain=pb.Drain(retry_after_ms=100)))
    await until(lambda: not rig.agent.state.connected)
    fleet.offers = [fleet.lease(1, 11)]
    await until(lambda: 11 in fleet.results())
    assert fleet.streams == 2


async def test_a_new_root_is_taken_over_when_the_old_one_signed_it(fleet: FakeFleet, rig: Rig) -> None:
    identity = fleet.identity()
    new_key = SigningKey.generate(SystemIds())
    keys = dict(fleet.root_document().keys) | {Role.LEASE: (new_key.verifying_key,)}
    successor = fleet.root_document(version=2, keys=keys)
    stranger = SigningKey.generate(SystemIds())
    fake_keys = keys | {Role.ROOT: (stranger.verifying_key,)}
    fleet.newer_roots = [build_root(fleet.root_document(version=2, keys=fake_keys), [stranger])]
    await rig.start(identity)
    rig.charge()
    await until(lambda: "ROOT_THRESHOLD_NOT_MET" in rig.event_codes())
    fleet.newer_roots = [build_root(successor, [fleet.root_key])]
    fleet.offers = [fleet.lease(1, 11, key=new_key)]
    await until(lambda: 11 in fleet.results())
    assert rig.link.session.identity.root.document.version == 2
    assert rig.directory.root.read_bytes() == fleet.newer_roots[0]


async def test_the_certificate_is_renewed_after_two_thirds_of_its_life(fleet: FakeFleet, rig: Rig) -> None:
    await rig.start(fleet.identity(days=(-70, 20)))
    rig.charge()
    # What is offered before the line is new would go down with the old one.
    await until(lambda: fleet.streams == 2 and "CERTIFICATE_RENEWED" in rig.event_codes())
    renewed = rig.directory.certificate.read_bytes()
    fleet.offers = [fleet.lease(1, 11)]
    await until(lambda: 11 in fleet.results(), what="the stream came back with the new certificate")
    assert rig.link.session.identity.certificate_pem == renewed
    assert fleet.renewals == 1


class LaterClock(SystemClock):
    """The system's clock, so much later."""

    later_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.later_us


async def test_what_is_left_of_a_lease_that_ended_is_given_back_at_once(
    fleet: FakeFleet, tmp_path: Path
) -> None:
    rig = Rig(tmp_path / "car", "hangs")
    fleet.clock = rig.clock = clock = LaterClock()
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, 12, 13, lives_us=60_000_000)]
    await rig.start(identity)
    rig.charge()
    await until((rig.directory.scratch / "ran").exists, what="the worker has begun")
    clock.later_us = 60_000_000 + limits.CLOCK_SKEW_US_MAX
    await until(lambda: len(fleet.results()) == 3)
    assert {
        attempt_id: (result.outcome, result.reason) for attempt_id, result in fleet.results().items()
    } == {
        11: (pb.ATTEMPT_OUTCOME_WORKER_FAILED, "WORKER_LOST"),
        12: (pb.ATTEMPT_OUTCOME_ABANDONED, "LEASE_EXPIRED"),
        13: (pb.ATTEMPT_OUTCOME_ABANDONED, "LEASE_EXPIRED"),
    }
    await until(lambda: rig.agent.state.phase is Phase.IDLE)
    await rig.crash()


async def test_a_vehicle_that_the_pool_retired_stops(fleet: FakeFleet, rig: Rig) -> None:
    fleet.gone = PoolError(ErrorCode.VEHICLE_RETIRED)
    await rig.start(fleet.identity())
    rig.charge()
    await until(lambda: rig.agent.state.phase is Phase.UNPAIRED)
    assert "VEHICLE_RETIRED" in rig.event_codes()


async def test_a_worker_that_dies_costs_one_attempt(fleet: FakeFleet, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "car", "dies once")
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, 12, 13)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: len(fleet.results()) == 3)
    outcomes = {attempt_id: result.outcome for attempt_id, result in fleet.results().items()}
    assert outcomes == {
        11: pb.ATTEMPT_OUTCOME_WORKER_FAILED,
        12: pb.ATTEMPT_OUTCOME_COMPLETED,
        13: pb.ATTEMPT_OUTCOME_COMPLETED,
    }
    assert fleet.results()[11].reason == "WORKER_LOST"
    await rig.crash()


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ("speaks nonsense", pb.ATTEMPT_OUTCOME_WORKER_FAILED),
        ("answers another", pb.ATTEMPT_OUTCOME_WORKER_FAILED),
        ("wrong outputs", pb.ATTEMPT_OUTCOME_WORKER_FAILED),
        ("fails", pb.ATTEMPT_OUTCOME_PROGRAM_FAILED),
    ],
)
async def test_a_hostile_worker_is_not_believed(
    fleet: FakeFleet, tmp_path: Path, mode: str, outcome: int
) -> None:
    rig = Rig(tmp_path / "car", mode)
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 11 in fleet.results())
    assert fleet.results()[11].outcome == outcome
    assert not fleet.results()[11].outputs.inline
    await rig.crash()


async def test_a_worker_that_cannot_start_any_more_gives_the_lease_back(
    fleet: FakeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("car_agent.main.pace.Backoff.S_MIN", 0.01)
    rig = Rig(tmp_path / "car", "starts once")
    identity = fleet.identity()
    await rig.start(identity)
    rig.charge()
    await until(lambda: rig.agent.state.may_ask)
    rig.unplug()
    await until(lambda: not rig.agent.worker_lives)
    fleet.offers = [fleet.lease(1, 11, 12)]
    rig.charge()
    await until(lambda: len(fleet.results()) == 2)
    assert {result.outcome for result in fleet.results().values()} == {pb.ATTEMPT_OUTCOME_WORKER_FAILED}
    await rig.crash()


async def test_a_worker_that_never_starts_asks_for_no_work(
    fleet: FakeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("car_agent.main.pace.Backoff.S_MIN", 0.01)
    rig = Rig(tmp_path / "car", "dies at start")
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, 12)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: rig.event_codes().count("WORKER_LOST") >= 4, what="the owner is told")
    assert len(fleet.offers) == 1
    assert not any(request.HasField("want") for request in fleet.requests)
    await rig.crash()


async def test_the_owner_stops_it_at_once_and_for_good(fleet: FakeFleet, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "car", "hangs")
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: rig.agent.snapshot().computing)
    pid = rig.agent.worker_pid
    assert pid is not None
    stop_ms = await rig.switchboard.opt_out()
    assert not alive(pid)
    assert 0 < stop_ms < 250
    assert not (await rig.switches()).opted_in
    assert phase_of(rig) == "opted_out"
    assert await rig.switchboard.pause(0) == 0.0, "no worker lived"
    await rig.switchboard.opt_in()
    assert phase_of(rig) == "paused"
    await rig.switchboard.resume()
    await until(lambda: rig.agent.state.phase is Phase.IDLE)
    assert (await rig.switches()).opted_in
    await rig.crash()


async def test_an_idle_worker_is_unloaded(fleet: FakeFleet, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "car", "honest", idle_unload_s=0.1)
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 11 in fleet.results())
    await until(lambda: not rig.agent.worker_lives)
    fleet.offers = [fleet.lease(2, 21)]
    await until(lambda: 21 in fleet.results())
    await rig.crash()


async def test_a_worker_without_end_meets_the_deadline(fleet: FakeFleet, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "car", "hangs", attempt_deadline_s=0.3)
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 11 in fleet.results())
    assert fleet.results()[11].outcome == pb.ATTEMPT_OUTCOME_WORKER_FAILED
    assert "took more than" in fleet.results()[11].detail
    await rig.crash()


async def test_what_the_worker_started_dies_with_it(fleet: FakeFleet, tmp_path: Path) -> None:
    """A worker without a sandbox that made a child and ignores SIGTERM: the group is killed."""
    rig = Rig(tmp_path / "car", "has a child", "30")
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: rig.agent.snapshot().computing)
    child = int((rig.directory.scratch / "child.pid").read_text())
    assert alive(child)
    rig.unplug()
    await rig.agent.worker_gone()
    await until(lambda: not alive(child) or _is_zombie(child))
    await rig.crash()


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


async def test_quick_changes_end_in_the_last_one(fleet: FakeFleet, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "car", "honest", "0.05")
    identity = fleet.identity()
    fleet.offers = [fleet.lease(number, 10 * number + 1) for number in range(1, 4)]
    await rig.start(identity)
    for _ in range(20):
        rig.charge()
        await asyncio.sleep(0.01)
        rig.unplug()
        assert rig.agent.state.phase in {Phase.YIELDING, Phase.WAITING}
    await rig.agent.worker_gone()
    assert not rig.agent.worker_lives
    rig.charge()
    fleet.offers.append(fleet.lease(9, 91))
    await until(lambda: 91 in fleet.results() and fleet.results()[91].outcome == pb.ATTEMPT_OUTCOME_COMPLETED)
    await rig.crash()

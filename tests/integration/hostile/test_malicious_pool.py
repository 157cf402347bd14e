"""A pool that lies to a car, and holds the lease key: it can neither stop the car nor replace its root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pool_protocol import limits
from pool_protocol.envelope import PayloadType
from pool_protocol.keys import SigningKey
from pool_protocol.roots import Role, build_root
from pool_protocol.system import SystemIds
from pool_protocol.v1 import common_pb2
from tests.integration.agent.rig import FakeFleet, Rig, until

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


def resigned(fleet: FakeFleet, lease: common_pb2.Envelope, *, sequence: int) -> common_pb2.Envelope:
    """A lease with a sequence number that no honest signer writes, under a good signature."""
    header = common_pb2.EnvelopeHeader.FromString(lease.header)
    header.sequence = sequence
    lease.header = header.SerializeToString()
    lease.signature = fleet.lease_key.sign(PayloadType.LEASE, lease.header, lease.body)
    return lease


@pytest.mark.parametrize("sequence", [2**63, 2**64 - 1])
async def test_a_sequence_beyond_the_journals_integers_is_refused_and_the_car_goes_on(
    fleet: FakeFleet, rig: Rig, sequence: int
) -> None:
    identity = fleet.identity()
    fleet.offers = [resigned(fleet, fleet.lease(1, 11), sequence=sequence), fleet.lease(2, 12)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 12 in fleet.results() or any(task.done() for task in rig._tasks))
    assert not any(task.done() for task in rig._tasks), "a part of the agent ended"
    assert list(fleet.results()) == [12]
    assert "LEASE_REFUSED" in rig.event_codes()


async def test_a_lease_of_more_attempts_than_allowed_is_refused(fleet: FakeFleet, rig: Rig) -> None:
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, *range(1, limits.LEASE_TASKS_MAX + 2))]
    await rig.start(identity)
    rig.charge()
    await until(lambda: "LEASE_REFUSED" in rig.event_codes())
    assert not rig.has_a_program()
    assert not fleet.bundles


async def test_a_root_that_the_old_root_did_not_sign_gives_no_key(fleet: FakeFleet, rig: Rig) -> None:
    """The pool offers a root with a new lease key, signed by itself alone, and a lease under that key."""
    identity = fleet.identity()
    stranger, its_lease_key = (SigningKey.generate(SystemIds()) for _ in range(2))
    keys = fleet.root_document().keys
    forged = fleet.root_document(
        version=2,
        keys={
            **keys,
            Role.ROOT: (stranger.verifying_key,),
            Role.LEASE: (its_lease_key.verifying_key,),
        },
    )
    fleet.newer_roots = [build_root(forged, [stranger])]
    fleet.offers = [fleet.lease(1, 11, key=its_lease_key)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: "LEASE_REFUSED" in rig.event_codes())
    assert {"ROOT_THRESHOLD_NOT_MET", "LEASE_REFUSED"} <= set(rig.event_codes())
    assert rig.directory.root.read_bytes() == identity.root.root_bytes
    assert not rig.has_a_program()
    assert not fleet.bundles

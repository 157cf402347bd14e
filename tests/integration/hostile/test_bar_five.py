"""Hostile input, item by item: each is refused with its own code, over real sockets, and nothing has changed.

"Nothing" is every row of the database (`nothing_changes`), not only balances; on the car, the journal, the
worker and what was sent. Each attack is the weakest that works if its one defence is taken away: it would be
carried out, and the test would fail.
"""

from __future__ import annotations

import pickle  # noqa: TID251 - what an attacker would send; it is never unpickled here
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pool_protocol import digests
from pool_protocol.errors import ErrorCode
from pool_protocol.system import SystemClock, SystemIds
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from pool_server.rpc.policy import POLICY, Listener, Who
from tests.integration.agent.rig import FakeFleet, Rig, bundle, inputs, until
from tests.integration.server.test_policy import METHODS, call, refusal_of
from tests.support import hostile_programs
from tests.support.clock import ManualClock
from tests.support.fake_car import FakeBuyer, FakeCar, square, vet_without_jax
from tests.support.pool import PoolHandle, code_of, running_pool
from tests.support.rows import nothing_changes, rows_of

pytestmark = pytest.mark.slow
GIBIBYTE = 1 << 30


# --- leases, as the car sees them -----------------------------------------------------------------


@pytest.fixture
async def fleet() -> AsyncIterator[FakeFleet]:
    """The vehicle's side of a pool: keys, root and TLS as they are, leases as the test wants them."""
    served = FakeFleet()
    await served.start()
    yield served
    await served.stop()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A whole agent, with a stub for the worker."""
    made = Rig(tmp_path / "car")
    yield made
    if made._tasks:
        await made.crash()


async def refused_by_the_car(rig: Rig, code: ErrorCode) -> None:
    """Wait until the car has refused a lease, and check why."""
    await until(lambda: "LEASE_REFUSED" in rig.event_codes(), what="the lease is refused")
    [reason] = [event.message for event in rig.agent.snapshot().events if event.code == "LEASE_REFUSED"]
    assert f"({code.value})" in reason


def nothing_was_taken(fleet: FakeFleet, rig: Rig) -> None:
    """No lease journalled, no sequence number used up, nothing fetched, no program, nothing sent."""
    journal = rows_of(rig.directory.journal)
    for table in ("leases", "reported", "bundles", "uploads", "compute_days", "counters"):
        assert journal[table] == [], table
    assert not rig.has_a_program()
    assert not fleet.bundles


async def test_a_tampered_lease_is_refused_and_nothing_runs(fleet: FakeFleet, rig: Rig) -> None:
    """A good lease with one attempt put in its place: well-formed, for this car, in time."""
    identity = fleet.identity()
    lease = fleet.lease(1, 11)
    body = pb.LeaseBody.FromString(lease.body)
    body.attempts[0].attempt_id = 12
    lease.body = body.SerializeToString()
    fleet.offers = [lease]
    await rig.start(identity)
    rig.charge()
    await refused_by_the_car(rig, ErrorCode.ENVELOPE_SIGNATURE_INVALID)
    nothing_was_taken(fleet, rig)


async def test_a_lease_for_another_vehicle_is_refused_and_nothing_runs(fleet: FakeFleet, rig: Rig) -> None:
    """Signed by the pool for another car; its body names ours, so that only the audience gives it away."""
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, audience=SystemIds().new_vehicle_id(), vehicle_id=identity.vehicle_id)]
    await rig.start(identity)
    rig.charge()
    await refused_by_the_car(rig, ErrorCode.ENVELOPE_WRONG_AUDIENCE)
    nothing_was_taken(fleet, rig)


async def test_a_replayed_lease_is_refused_and_runs_once(fleet: FakeFleet, rig: Rig) -> None:
    """The very bytes of a lease that was good, ran and was acknowledged; the journal has let go of it."""
    identity = fleet.identity()
    lease = fleet.lease(1, 11)
    fleet.offers = [lease]
    await rig.start(identity)
    rig.charge()
    await until(lambda: 11 in fleet.results() and not rig.link.outbox, what="the lease is done")
    await until(lambda: rig.agent.snapshot().compute.completed_total == 1, what="it is counted")
    before = rows_of(rig.directory.journal)
    assert before["leases"] == [], "what is replayed is forgotten, or its id alone would stop it"
    fleet.offers = [lease]
    await refused_by_the_car(rig, ErrorCode.ENVELOPE_REPLAYED)
    after = rows_of(rig.directory.journal)
    for table in ("leases", "reported", "bundles", "uploads", "counters"):
        assert after[table] == before[table], table
    assert len(fleet.bundles) == 1
    assert rig.agent.snapshot().compute.completed_total == 1


async def test_an_expired_lease_is_refused_and_nothing_runs(fleet: FakeFleet, rig: Rig) -> None:
    identity = fleet.identity()
    fleet.offers = [fleet.lease(1, 11, lives_us=-500_000)]
    await rig.start(identity)
    rig.charge()
    await refused_by_the_car(rig, ErrorCode.ENVELOPE_EXPIRED)
    nothing_was_taken(fleet, rig)


# --- results, as the pool sees them ---------------------------------------------------------------


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[PoolHandle]:
    """A real pool; programs are admitted without JAX where they are not what the test is about."""
    with running_pool(tmp_path, vet=vet_without_jax) as running:
        yield running


def database(pool: PoolHandle) -> Path:
    """All that the pool knows."""
    return pool.data_dir / "pool.sqlite3"


def refused(action: Any, code: ErrorCode) -> None:
    """The call fails with exactly this code."""
    with pytest.raises(grpc.RpcError) as refusal:
        action()
    assert code_of(refusal.value) == code.value


def leased(car: FakeCar) -> pb.LeaseBody:
    """A lease of this car."""
    lease = car.lease()
    assert lease is not None
    return lease


def test_a_result_under_an_expired_lease_is_late_and_unpaid(tmp_path: Path) -> None:
    clock = ManualClock(SystemClock().now_us())
    with running_pool(tmp_path, vet=vet_without_jax, clock=clock, lease_timeout_s=60) as pool:
        job_id = FakeBuyer.with_money(pool).open_job([3])
        slow, quick = FakeCar(pool, name="slow"), FakeCar(pool, name="quick")
        lease = leased(slow)
        clock.advance(seconds=120)
        acks: list[pb.AttemptAck] = []
        while not acks:  # until the sweep has ended the lease
            acks = quick.work()
        assert [ack.status for ack in acks] == [pb.ACK_STATUS_VERIFIED]
        with nothing_changes(database(pool)):
            [late] = slow.submit(slow.seal(slow.results(lease)))
        assert (late.status, late.reason) == (pb.ACK_STATUS_LATE, "RESULT_LATE")
        assert slow.earnings().held_micros == 0
        assert job_id


def test_a_result_for_anothers_task_is_refused(pool: PoolHandle) -> None:
    """Another car's lease, and another car's attempt under a lease of one's own; both with right answers."""
    FakeBuyer.with_money(pool).open_job([1, 2])
    car, thief = FakeCar(pool), FakeCar(pool, name="thief")
    lease = leased(car)
    FakeBuyer.with_money(pool, name="second").open_job([7])
    own = leased(thief)
    with nothing_changes(database(pool)):
        refused(lambda: thief.submit(thief.seal(thief.results(lease))), ErrorCode.LEASE_NOT_YOURS)
        body = thief.results(lease)
        body.lease_id = own.lease_id
        acks = thief.submit(thief.seal(body))
        assert {(ack.status, ack.reason) for ack in acks} == {(pb.ACK_STATUS_REFUSED, "ATTEMPT_NOT_YOURS")}
    assert [ack.status for ack in car.submit(car.seal(car.results(lease)))] == [pb.ACK_STATUS_VERIFIED] * 2
    assert thief.earnings().held_micros == 0


def test_a_result_sent_twice_has_one_answer_and_one_payment(pool: PoolHandle) -> None:
    """The same bytes, the same results signed anew, and other results for the same attempts."""
    buyer = FakeBuyer.with_money(pool)
    buyer.open_job([1, 2])
    car = FakeCar(pool)
    lease = leased(car)
    envelope = car.seal(car.results(lease))
    assert [ack.status for ack in car.submit(envelope)] == [pb.ACK_STATUS_VERIFIED] * 2
    paid_micros = car.earnings().held_micros
    spent_micros = buyer.call("GetBalance", market_pb.GetBalanceRequest()).spent_micros
    assert paid_micros > 0
    assert len(rows_of(database(pool))["receipts"]) == 2
    with nothing_changes(database(pool)):
        again = car.submit(envelope)
        assert [(ack.status, ack.reason) for ack in again] == [(pb.ACK_STATUS_DUPLICATE, "")] * 2
        assert car.submit(car.seal(car.results(lease))) == again
        other = car.submit(car.seal(car.results(lease, lambda taken: square({"value": taken["value"] + 1}))))
        assert {(ack.status, ack.reason) for ack in other} == {(pb.ACK_STATUS_REFUSED, "RESULT_CONFLICT")}
    assert car.earnings().held_micros == paid_micros
    assert buyer.call("GetBalance", market_pb.GetBalanceRequest()).spent_micros == spent_micros


# --- programs -------------------------------------------------------------------------------------


@pytest.fixture
def strict_pool(tmp_path: Path) -> Iterator[PoolHandle]:
    """A pool that vets in its sandboxed child, as an operator's does."""
    with running_pool(tmp_path) as running:
        yield running


def program_is_refused(pool: PoolHandle, module: str, code: ErrorCode) -> None:
    """Refused at the door, not kept, and no quote can name it."""
    buyer = FakeBuyer.with_money(pool)
    artifact, draft = hostile_programs.forge(module)
    request = market_pb.AdmitProgramRequest(artifact=artifact, manifest_draft=draft.to_json())
    kept = sorted((pool.data_dir / "blobs").rglob("*"))
    quote = market_pb.GetQuoteRequest(
        program_sha256=draft.artifact_sha256, task_count=1, level=common_pb2.VERIFICATION_LEVEL_STANDARD
    )
    with nothing_changes(database(pool)):
        refused(lambda: buyer.call("AdmitProgram", request), code)
        refused(lambda: buyer.call("GetQuote", quote), ErrorCode.PROGRAM_NOT_ADMITTED)
    assert sorted((pool.data_dir / "blobs").rglob("*")) == kept


def test_a_program_with_a_host_callback_is_refused(strict_pool: PoolHandle) -> None:
    program_is_refused(strict_pool, hostile_programs.CALLBACK, ErrorCode.PROGRAM_CALLBACK)


def test_a_program_with_an_unlisted_custom_call_is_refused(strict_pool: PoolHandle) -> None:
    program_is_refused(strict_pool, hostile_programs.UNKNOWN_CUSTOM_CALL, ErrorCode.PROGRAM_CUSTOM_CALL)


# --- bytes ----------------------------------------------------------------------------------------


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._witness,))


def test_a_pickle_in_place_of_safetensors_is_refused(pool: PoolHandle, tmp_path: Path) -> None:
    """From a buyer inline and as a blob, and from a car as a result; nobody opens it."""
    witness = tmp_path / "unpickled"
    poison = pickle.dumps({"value": Trap(witness)})
    buyer = FakeBuyer.with_money(pool)
    job_id = buyer.open_job([1], close=False)
    name = digests.sha256_hex(poison)
    upload = market_pb.PutBlobRequest(blob_sha256=name, chunk=poison)
    pool.market().PutBlob(iter([upload]), metadata=buyer.principal.metadata)

    def add(content: common_pb2.TensorBundle) -> Any:
        task = market_pb.TaskInputs(inputs=content)
        return buyer.call("AddTasks", market_pb.AddTasksRequest(job_id=job_id, first_index=1, tasks=[task]))

    with nothing_changes(database(pool)):
        refused(lambda: add(bundle(poison)), ErrorCode.TENSORS_PICKLE)
        as_blob = common_pb2.TensorBundle(blob_sha256=name, size_bytes=len(poison))
        refused(lambda: add(as_blob), ErrorCode.TENSORS_PICKLE)

    car = FakeCar(pool)
    lease = leased(car)
    acks = car.submit(car.seal(car.results(lease, spoil=poison)))
    assert [(ack.status, ack.reason) for ack in acks] == [(pb.ACK_STATUS_REFUSED, "OUTPUT_MALFORMED")]
    # The attempt is over, as the car's mistake; the task goes on, nobody is paid, and nothing is kept of it.
    rows = rows_of(database(pool))
    assert (rows["receipts"], rows["attempt_outputs"]) == ([], [])
    assert car.earnings().held_micros == 0
    assert buyer.job(job_id).accepted_count == 0
    assert [ack.status for ack in FakeCar(pool, name="honest").work()] == [pb.ACK_STATUS_VERIFIED]
    assert not witness.exists()


async def test_a_pickle_that_the_pool_lets_through_is_refused_by_the_car(fleet: FakeFleet, rig: Rig) -> None:
    """Should a pool ever hand one out, the supervisor does not open it and sends nothing of it on."""
    identity = fleet.identity()
    witness = rig.directory.scratch / "unpickled"
    spec = pb.AttemptSpec(attempt_id=11, inputs=bundle(pickle.dumps({"value": Trap(witness)})))
    fleet.offers = [fleet.lease(1, attempts=[spec]), fleet.lease(2, 12)]
    await rig.start(identity)
    rig.charge()
    await until(lambda: {11, 12} <= set(fleet.results()), what="both are answered")
    assert fleet.results()[11].outcome != pb.ATTEMPT_OUTCOME_COMPLETED
    assert fleet.results()[12].outputs.inline == inputs(12)
    assert not witness.exists()


@pytest.mark.parametrize("service", ["a buyer's", "a car's"])
def test_a_message_of_one_gibibyte_is_refused(pool: PoolHandle, service: str) -> None:
    """Raw bytes: the transport refuses the message by its length, before anything parses it."""
    buyer, car = FakeBuyer.with_money(pool), FakeCar(pool)
    car.lease()
    if service == "a buyer's":
        channel, path = pool.api_channel(), "/pool_protocol.v1.MarketService/AdmitProgram"
    else:
        channel, path = pool.fleet_channel(car.vehicle), "/pool_protocol.v1.FleetService/SubmitResults"
    send: Any = channel.unary_unary(path)
    with nothing_changes(database(pool)):
        refused(lambda: send(bytes(GIBIBYTE), metadata=buyer.principal.metadata), ErrorCode.MESSAGE_TOO_LARGE)
    # The server still answers.
    assert buyer.call("GetBalance", market_pb.GetBalanceRequest()).available_micros == 10**12


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_of_the_wrong_scope_is_refused_on_every_rpc(pool: PoolHandle) -> None:
    """Every method of every service, as its descriptors name them, with every token that is not its own.

    A vehicle's methods take no token: on the listener for tokens they do not exist, whoever asks.
    """
    tokens = {
        "owner": pool.create_principal("owner", "Olga"),
        "buyer": pool.create_principal("buyer", "Bea"),
        "operator": pool.operator,
    }
    channel = pool.api_channel()
    refusals = 0
    with nothing_changes(database(pool)):
        for path in sorted(METHODS):
            rule = POLICY[path]
            if rule.who is Who.ANYONE:
                continue
            for role, principal in tokens.items():
                if rule.who is Who.MEMBER or role == rule.who.value:
                    continue  # any account's token is one of a member's
                expected = (
                    ErrorCode.PERMISSION_DENIED if Listener.API in rule.listeners else ErrorCode.UNIMPLEMENTED
                )
                assert refusal_of(channel, path, principal.metadata) == expected.value, (path, role)
                refusals += 1
            assert refusal_of(channel, path) != "", path
    by_token = sum(rule.who.role is not None for rule in POLICY.values())
    by_certificate = sum(rule.who is Who.VEHICLE for rule in POLICY.values())
    assert refusals == 2 * by_token + 3 * by_certificate > 100
    # The right token is let in: what was refused was the scope.
    call(channel, "/pool_protocol.v1.AdminService/GetOverview", tokens["operator"].metadata)
    call(channel, "/pool_protocol.v1.MarketService/GetBalance", tokens["buyer"].metadata)
    call(channel, "/pool_protocol.v1.AccountService/ListVehicles", tokens["owner"].metadata)

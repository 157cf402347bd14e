"""Appeals over real sockets through the real referee; and how the desk bears one that is not well."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from pool_protocol import tensors
from pool_protocol.digests import output_digest
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.export import export_map
from pool_protocol.program.manifest import ProgramManifest
from pool_protocol.system import SystemClock
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import market_service_pb2 as market_pb
from pool_server.core.comparison import Comparator, ComparatorKind
from pool_server.core.verification import VerificationLevel
from pool_server.core.verification.findings import FindingOutcome
from pool_server.ports.referee import RefereeAnswer, RefereeError, RefereeOrder, RefereeReason
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc.appeal_desk import APPEALS_OPEN_MAX, AppealDesk
from pool_server.rpc.store_access import StoreAccess
from tests.support.clock import ManualClock
from tests.support.fake_car import FakeBuyer, FakeCar, draft_of, inputs_of, lie, vet_without_jax
from tests.support.pool import PoolHandle, code_of, running_pool
from tests.support.workshop import Workshop, answer
from tui import cli

T = TypeVar("T")

# --- through the real server --------------------------------------------------------------------


def open_squares(buyer: FakeBuyer, numbers: list[float]) -> str:
    """A job of a program that JAX has made, so that the referee can run it."""
    exported = export_map(lambda x: x * x, np.zeros(3, np.float32))
    program = buyer.call(
        "AdmitProgram",
        market_pb.AdmitProgramRequest(artifact=exported.artifact, manifest_draft=exported.draft.to_json()),
    ).program_sha256
    created = buyer.call(
        "CreateJob",
        market_pb.CreateJobRequest(
            idempotency_key="squares",
            program_sha256=program,
            price_mode=common_pb2.PRICE_MODE_SPOT,
            price_cap_micros_per_wu=10_000_000,
            budget_micros=10**9,
            level=common_pb2.VERIFICATION_LEVEL_FULL,
            name="squares",
        ),
    )
    tasks = [market_pb.TaskInputs(inputs=inputs_of(number)) for number in numbers]
    buyer.call("AddTasks", market_pb.AddTasksRequest(job_id=created.job_id, first_index=0, tasks=tasks))
    buyer.call("CloseJob", market_pb.CloseJobRequest(job_id=created.job_id))
    return str(created.job_id)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what a sweep does; fail after a while."""
    clock, pause = SystemClock(), threading.Event()
    end_ns = clock.monotonic_ns() + 20_000_000_000
    while not condition():
        assert clock.monotonic_ns() < end_ns, "it never came true"
        pause.wait(0.02)


def evidence_of(pool: PoolHandle, car: FakeCar) -> account_pb.VehicleEvidence:
    """A car's record, as its owner reads it."""
    request = account_pb.GetVehicleEvidenceRequest(vehicle_id=car.vehicle.vehicle_id)
    return pool.account().GetVehicleEvidence(request, metadata=car.owner.metadata).evidence


def owners_command(pool: PoolHandle, car: FakeCar, folder: Path, *arguments: str) -> str:
    """What `pool-tui` prints for a car's owner."""
    token, ca = folder / "owner.token", folder / "ca.pem"
    token.write_text(car.owner.token)
    token.chmod(0o600)
    ca.write_bytes(car.vehicle.ca_pem)
    options = ("--address", pool.api_address, "--ca-file", str(ca), "--token-file", str(token))
    ran = CliRunner().invoke(cli.main, [*options, *arguments])
    assert ran.exit_code == 0, ran.output
    return ran.output


@pytest.mark.slow
def test_an_outvoted_honest_owner_appeals_is_paid_and_the_two_liars_are_found_out(tmp_path: Path) -> None:
    with running_pool(tmp_path / "pool", vet=vet_without_jax) as pool:
        buyer = FakeBuyer.with_money(pool)
        names = ("honest", "liar", "friend", "b", "c", "d")
        honest, liar, friend, *others = [FakeCar(pool, name=name) for name in names]
        job_id = open_squares(buyer, [2])
        honest.work()
        liar.work(lie)
        friend.work(lie)
        assert honest.earnings().quarantine_reason == "WRONG_RESULT"

        # 1. The owner reads why, and that it can be appealed.
        before = evidence_of(pool, honest)
        [item] = before.items
        assert item.appeal_until_us > item.found_at_us
        assert "Its owner may appeal until" in before.story[-1]
        assert f"pool-tui appeal {item.attempt_id}" in owners_command(
            pool, honest, tmp_path, "evidence", honest.vehicle.vehicle_id
        )

        # 2. The pool computes the task itself; the answer stays the same however often it is asked for.
        told = json.loads(owners_command(pool, honest, tmp_path, "appeal", str(item.attempt_id), "--json"))
        assert (told["kind"], told["finding"], told["granted_micros"]) == ("APPEAL", "UPHELD", 900_000)
        right = {"value": np.full(3, 4, np.float32)}
        assert told["accepted_digest"] == told["claimed_digest"] == output_digest(right).hex()
        said = owners_command(pool, honest, tmp_path, "appeal", str(item.attempt_id))
        assert "the rejection is overturned" in said

        # 3. It works again; what was accepted instead is computed by others, and replaced.
        assert honest.earnings().quarantine_reason == ""
        wait_until(lambda: buyer.job(job_id).rechecking_count == 1)
        for car in others:
            car.work()
        [result] = buyer.results(job_id, 1)
        np.testing.assert_array_equal(tensors.decode(result.outputs.inline)["value"], right["value"])
        assert result.replaced_count == 1
        assert liar.earnings().quarantine_reason == friend.earnings().quarantine_reason == "WRONG_RESULT"

        # 4. The liar appeals as well, in vain; nobody appeals for somebody else.
        lied = evidence_of(pool, liar).items[0].attempt_id
        request = account_pb.AppealRequest(attempt_id=lied)
        found = pool.account().Appeal(request, metadata=liar.owner.metadata).item
        assert (found.finding, found.granted_micros) == ("WRONG", 0)
        with pytest.raises(grpc.RpcError) as refused:
            pool.account().Appeal(request, metadata=honest.owner.metadata)
        assert code_of(refused.value) == ErrorCode.NOT_FOUND
        books = pool.admin().CheckLedger(admin_pb.CheckLedgerRequest(), metadata=pool.operator.metadata)
        assert (books.ok, books.sum_micros) == (True, 0), books


@pytest.mark.slow
def test_with_a_referee_the_honest_owner_is_not_outvoted_in_the_first_place(tmp_path: Path) -> None:
    with running_pool(tmp_path / "pool", vet=vet_without_jax, pool_run_wu_max=20.0) as pool:
        buyer = FakeBuyer.with_money(pool)
        honest, liar, friend = [FakeCar(pool, name=name) for name in ("honest", "liar", "friend")]
        job_id = open_squares(buyer, [2])
        liar.work(lie)
        honest.work()
        # 1. Nobody else is asked: the pool computes the task, in its sandboxed child.
        wait_until(lambda: buyer.job(job_id).accepted_count == 1)
        [result] = buyer.results(job_id, 1)
        np.testing.assert_array_equal(
            tensors.decode(result.outputs.inline)["value"], np.full(3, 4, np.float32)
        )
        assert friend.lease() is None
        # 2. The liar reads why.
        assert honest.earnings().quarantine_reason == ""
        assert liar.earnings().quarantine_reason == "WRONG_RESULT"
        [item] = evidence_of(pool, liar).items
        assert item.trusted_node
        assert "the pool's own node found" in item.summary


# --- the desk -----------------------------------------------------------------------------------


class Writer:
    """A store that does everything at once."""

    def __init__(self, pool: Workshop) -> None:
        self._pool = pool

    def submit(self, command: Callable[[UnitOfWork], T]) -> Future[T]:
        """Run a command."""
        done: Future[T] = Future()
        try:
            done.set_result(self._pool.books.run(command))
        except PoolError as error:
            done.set_exception(error)
        return done

    read = submit


class Programs:
    """Where the program is found."""

    async def artifact(self, program_sha256: str) -> bytes:
        """Its bytes."""
        return b"a program"

    async def manifest(self, program_sha256: str) -> ProgramManifest:
        """What admission found."""
        return vet_without_jax(b"", draft_of()).manifest


class Blobs:
    """None."""

    def get(self, blob_sha256: str) -> bytes:
        """Say so."""
        raise PoolError(ErrorCode.BLOB_MISSING, blob_sha256)


class ScriptedReferee:
    """Answers with what a test sets, once the test lets it."""

    def __init__(self, outcome: RefereeAnswer | RefereeError) -> None:
        self.outcome = outcome
        self.orders: list[RefereeOrder] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Semaphore(0)

    async def run(self, order: RefereeOrder) -> RefereeAnswer:
        """Run one order."""
        self.orders.append(order)
        self.asked.release()
        await self.may_answer.wait()
        if isinstance(self.outcome, RefereeError):
            raise self.outcome
        return self.outcome

    async def numeric_class(self) -> str:
        """One that no car has."""
        return "referee"


def found(value: float) -> RefereeAnswer:
    arrays = answer(value)
    return RefereeAnswer(tensors.encode(arrays), output_digest(arrays), (), 1_000)


class Court:
    """A pool in which honest cars of one owner were outvoted, and the desk that hears appeals."""

    def __init__(
        self,
        tmp_path: Path,
        referee: ScriptedReferee,
        *,
        rejections: int = 1,
        comparator: Comparator | None = None,
    ) -> None:
        self.pool = Workshop(tmp_path / "pool.sqlite3")
        self.referee = referee
        for name in ("liar", "friend"):
            self.pool.car(name)
        for number in range(rejections):
            car = self.pool.car(f"a{number}", owner="owner_a")
            self.pool.job(1, level=VerificationLevel.FULL, comparator=comparator, close=True)
            for vehicle_id, error in ((car, 0.0), ("vehicle_liar", 1.0), ("vehicle_friend", 1.0)):
                self.pool.work(vehicle_id, error=error)
        rows = self.pool.books.run(lambda uow: uow.attempts.counts_by_state())
        assert rows["rejected"] == rejections
        clock = ManualClock(self.pool.now_us)
        self.desk = AppealDesk(
            store=StoreAccess(Writer(self.pool), clock),
            programs=Programs(),
            referee=referee,
            policy=self.pool.policy,
            blob_reader=Blobs(),
        )

    def rejected(self, number: int = 0) -> int:
        [row] = self.pool.books.run(
            lambda uow: uow.verification.findings_of_vehicle(f"vehicle_a{number}", limit=10)
        )
        return row.attempt_id

    async def appeal(self, number: int = 0) -> FindingOutcome:
        attempt_id = self.rejected(number)
        return (await self.desk.appeal(owner_id="owner_a", attempt_id=attempt_id)).finding

    def appeals(self) -> object:
        return self.pool.books.scalar("SELECT count(*) FROM findings WHERE kind = 'APPEAL'")


@pytest.mark.parametrize(("value", "finding"), [(1.0, FindingOutcome.UPHELD), (2.0, FindingOutcome.WRONG)])
async def test_the_pools_own_run_decides(tmp_path: Path, value: float, finding: FindingOutcome) -> None:
    court = Court(tmp_path, ScriptedReferee(found(value)))
    assert await court.appeal() is finding
    [order] = court.referee.orders
    assert tensors.decode(order.inputs)["x"].tolist() == [0.0, 0.0]
    # Two liars that the run contradicts are looked back at; those that it bears out are not.
    look_backs = court.pool.books.scalar(
        "SELECT count(*) FROM look_backs WHERE vehicle_id IN ('vehicle_liar', 'vehicle_friend')"
    )
    assert look_backs == (2 if finding is FindingOutcome.UPHELD else 0)


async def test_other_bits_of_another_class_convict_nobody(tmp_path: Path) -> None:
    court = Court(tmp_path, ScriptedReferee(found(5.0)))
    court.pool.books.sql("UPDATE attempts SET numeric_class = 'car'")
    assert await court.appeal() is FindingOutcome.OPEN


@pytest.mark.parametrize(("value", "finding"), [(1.01, FindingOutcome.UPHELD), (1.2, FindingOutcome.WRONG)])
async def test_a_tolerance_is_the_jobs_and_holds_across_classes(
    tmp_path: Path, value: float, finding: FindingOutcome
) -> None:
    close = Comparator(kind=ComparatorKind.CLOSE, rtol=0.05)
    court = Court(tmp_path, ScriptedReferee(found(value)), comparator=close)
    court.pool.books.sql("UPDATE attempts SET numeric_class = 'car'")
    assert await court.appeal() is finding


async def test_a_task_that_the_pool_cannot_run_leaves_the_rejection(tmp_path: Path) -> None:
    court = Court(tmp_path, ScriptedReferee(RefereeError(RefereeReason.TIMEOUT, "too slow")))
    assert await court.appeal() is FindingOutcome.OPEN
    assert court.pool.vehicle("vehicle_a0").state == "quarantined"


async def test_a_referee_that_is_not_well_decides_nothing_and_may_be_asked_again(tmp_path: Path) -> None:
    referee = ScriptedReferee(RefereeError(RefereeReason.BUSY, "32 orders wait"))
    court = Court(tmp_path, referee)
    with pytest.raises(PoolError) as refused:
        await court.appeal()
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert court.appeals() == 0
    referee.outcome = found(1.0)
    assert await court.appeal() is FindingOutcome.UPHELD


async def test_who_asks_again_joins_the_run_and_who_goes_away_does_not_stop_it(tmp_path: Path) -> None:
    referee = ScriptedReferee(found(1.0))
    court = Court(tmp_path, referee)
    referee.may_answer.clear()
    gone, stayed = asyncio.create_task(court.appeal()), asyncio.create_task(court.appeal())
    await referee.asked.acquire()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    referee.may_answer.set()
    assert await stayed is FindingOutcome.UPHELD
    assert (len(referee.orders), court.appeals()) == (1, 1)


async def test_an_owner_has_only_so_many_appeals_under_way(tmp_path: Path) -> None:
    referee = ScriptedReferee(found(1.0))
    court = Court(tmp_path, referee, rejections=APPEALS_OPEN_MAX + 1)
    referee.may_answer.clear()
    under_way = [asyncio.create_task(court.appeal(number)) for number in range(APPEALS_OPEN_MAX)]
    await referee.asked.acquire()
    while len(court.desk._under_way) < APPEALS_OPEN_MAX:  # noqa: ASYNC110 - they are read on other threads
        await asyncio.sleep(0)
    assert len(referee.orders) == 1, "one at a time, so that disputes have their turn"
    with pytest.raises(PoolError) as refused:
        await court.appeal(APPEALS_OPEN_MAX)
    assert refused.value.code is ErrorCode.RATE_LIMITED
    referee.may_answer.set()
    await asyncio.gather(*under_way)
    assert await court.appeal(APPEALS_OPEN_MAX) is FindingOutcome.UPHELD

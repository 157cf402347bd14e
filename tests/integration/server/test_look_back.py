"""Cheats in a real fleet: a sleeper, a sybil and a colluding pair, caught, looked back at, unpaid.

Real TLS, signatures, leases, draws of the real secret chance. What is asserted holds whatever is drawn: the
sleeper and the pair lie until they are caught, which fails to happen with a probability below 1e-12.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pool_protocol import tensors
from pool_protocol.digests import output_digest
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import market_service_pb2 as market_pb
from tests.support.fake_car import Arrays, FakeBuyer, FakeCar, square, vet_without_jax
from tests.support.pool import PoolHandle, running_pool

SPOT = common_pb2.VERIFICATION_LEVEL_SPOT
HONEST_OWNERS = 6
#: Results that the sleeper earns its history with.
HONEST_BEFORE = 40
TASKS_PER_JOB = 100
SYBIL_LIVES = 3
TURNS_MAX = 400


def number_of(inputs: Arrays) -> int:
    return int(inputs["value"][0])


def wrong(inputs: Arrays, *, by: int) -> dict[str, Any]:
    return {"value": np.asarray(inputs["value"] ** 2 + by, np.float32)}


@dataclass
class Sleeper:
    """Honest until it has a history, then lies on everything."""

    done: int = 0

    def __call__(self, inputs: Arrays) -> dict[str, Any]:
        self.done += 1
        return square(inputs) if self.done <= HONEST_BEFORE else wrong(inputs, by=1)


def in_league(inputs: Arrays) -> dict[str, Any]:
    """The pair gives the same wrong answers to the same tasks, so that one confirms the other."""
    return wrong(inputs, by=2) if number_of(inputs) % 3 == 0 else square(inputs)


def always_wrong(inputs: Arrays) -> dict[str, Any]:
    return wrong(inputs, by=3)


@dataclass
class Fleet:
    """The cars of the story, and what they do."""

    pool: PoolHandle
    honest: list[FakeCar] = field(default_factory=list)
    cheats: dict[str, tuple[FakeCar, Callable[[Arrays], dict[str, Any]]]] = field(default_factory=dict)
    sybils: int = 0

    def join_again(self) -> None:
        """The sybil has a new name and a new owner each time."""
        self.sybils += 1
        self.cheats[f"sybil {self.sybils}"] = (
            FakeCar(self.pool, name=f"sybil {self.sybils}"),
            always_wrong,
        )

    def turn(self) -> None:
        """Everybody takes a lease and hands it in; the sybil comes again when it was caught."""
        for car in self.honest:
            car.work(attempts_max=8)
        for name, (car, compute) in list(self.cheats.items()):
            if name not in self.caught():
                car.work(compute, attempts_max=8)
        if self.sybils < SYBIL_LIVES and f"sybil {self.sybils}" in self.caught():
            self.join_again()

    def caught(self) -> set[str]:
        quarantined = {
            row[0]
            for row in rows(self.pool, "SELECT vehicle_id FROM fleet_vehicles WHERE state = 'quarantined'")
        }
        return {name for name, (car, _) in self.cheats.items() if car.vehicle.vehicle_id in quarantined}


def rows(pool: PoolHandle, query: str) -> list[tuple[Any, ...]]:
    """Read beside the server."""
    [database] = Path(pool.data_dir).glob("*.sqlite3")
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def busy(pool: PoolHandle) -> bool:
    """Whether a job or a look-back is still open."""
    return bool(
        rows(pool, "SELECT 1 FROM jobs WHERE state <> 'done'")
        or rows(pool, "SELECT 1 FROM look_backs WHERE state <> 'done'")
    )


def turns() -> Iterator[int]:
    yield from range(TURNS_MAX)
    raise AssertionError(f"the story did not end within {TURNS_MAX} turns")


def test_cheats_are_caught_looked_back_at_and_unpaid(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax) as pool:
        fleet = Fleet(pool)
        buyer = FakeBuyer.with_money(pool)
        fleet.cheats["sleeper"] = (FakeCar(pool, name="sleeper"), Sleeper())
        fleet.cheats["left"] = (FakeCar(pool, name="left"), in_league)
        fleet.cheats["right"] = (FakeCar(pool, name="right"), in_league)
        fleet.join_again()
        fleet.honest += [FakeCar(pool, name=f"honest {number}") for number in range(HONEST_OWNERS)]

        # 1. Jobs, until every cheat was caught and every look-back is through; a restart in the middle.
        jobs: list[str] = []
        restarted = False
        for turn in turns():
            everybody = fleet.sybils == SYBIL_LIVES and len(fleet.caught()) == len(fleet.cheats)
            if not busy(pool):
                if everybody and jobs:
                    break
                numbers = [float(number) for number in range(TASKS_PER_JOB)]
                jobs.append(buyer.open_job(numbers, level=SPOT, key=f"job {turn}"))
            if not restarted and rows(pool, "SELECT 1 FROM look_backs WHERE state <> 'done'"):
                pool.restart()
                restarted = True
            fleet.turn()

        # 2. Not one wrong result is left in what the buyer gets.
        for job_id in jobs:
            view = buyer.job(job_id)
            assert view.state == market_pb.JOB_STATE_DONE
            assert (view.accepted_count, view.rechecking_count) == (TASKS_PER_JOB, 0)
            results = buyer.results(job_id, TASKS_PER_JOB)
            found = [float(tensors.decode(result.outputs.inline)["value"][0]) for result in results]
            assert found == [float(number) ** 2 for number in range(TASKS_PER_JOB)]
            assert all(result.evidence for result in results)
            assert view.replaced_count == sum(result.replaced_count for result in results)

        # 3. No honest car was called a cheat; every cheat has a finding against it.
        quarantined = rows(pool, "SELECT vehicle_id FROM fleet_vehicles WHERE state = 'quarantined'")
        cheats = {car.vehicle.vehicle_id for car, _ in fleet.cheats.values()}
        assert {row[0] for row in quarantined} == cheats
        assert {
            row[0] for row in rows(pool, "SELECT vehicle_id FROM findings WHERE finding = 'WRONG'")
        } == cheats

        # 4. Nothing is paid for a result proved wrong: what was paid was taken back, and what anybody holds
        #    was earned with right results, each paid once.
        unpaid = rows(
            pool,
            "SELECT a.attempt_id FROM attempts AS a JOIN receipts AS r ON r.attempt_id = a.attempt_id "
            "LEFT JOIN questioned_attempts AS q ON q.attempt_id = a.attempt_id "
            "WHERE a.state = 'rejected' AND (q.state IS NULL OR q.state <> 'wrong' "
            "OR q.net_micros <> r.net_micros)",
        )
        assert unpaid == []
        right = {
            output_digest(square({"value": np.full(3, number, np.float32)}))
            for number in range(TASKS_PER_JOB)
        }
        accepted = rows(pool, "SELECT output_digest FROM attempts WHERE state = 'accepted'")
        assert {row[0] for row in accepted} <= right
        earned = dict(
            rows(
                pool,
                "SELECT 'owner:' || r.owner_id || ':held', sum(r.net_micros) FROM receipts AS r "
                "JOIN attempts AS a ON a.attempt_id = r.attempt_id WHERE a.state = 'accepted' "
                "GROUP BY r.owner_id",
            )
        )
        held = dict(
            rows(
                pool,
                "SELECT name, credits_posted - debits_posted FROM accounts "
                "WHERE name LIKE 'owner:%' AND credits_posted > debits_posted",
            )
        )
        assert held == earned

        # 5. The books balance in every respect.
        report = pool.admin().CheckLedger(admin_pb.CheckLedgerRequest(), metadata=pool.operator.metadata)
        assert [check for check in report.checks if not check.ok] == []
        assert report.ok


def test_an_operator_makes_a_car_a_trusted_node(tmp_path: Path) -> None:
    with running_pool(tmp_path, vet=vet_without_jax) as pool:
        buyer, node, car = FakeBuyer.with_money(pool), FakeCar(pool), FakeCar(pool)

        def trust(vehicle_id: str, *, trusted: bool) -> Any:
            request = admin_pb.SetTrustedRequest(vehicle_id=vehicle_id, trusted=trusted)
            return pool.admin().SetTrusted(request, metadata=pool.operator.metadata).vehicle

        assert trust(node.vehicle.vehicle_id, trusted=True).trusted
        job_id = buyer.open_job([1, 2], level=SPOT)
        # A newcomer's result waits for another owner; the trusted node's decides, and is final.
        car.work(always_wrong)
        for _ in turns():
            if buyer.job(job_id).state == market_pb.JOB_STATE_DONE:
                break
            node.work()
        for result in buyer.results(job_id, 2):
            assert (result.evidence, result.final) == ("TRUSTED_NODE", True)
        assert not trust(node.vehicle.vehicle_id, trusted=False).trusted

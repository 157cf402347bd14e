"""What a vehicle gains by what it says of its numeric class: nothing that a failed check does not take."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pool_protocol.digests import sha256_hex
from pool_server.app.classes import note_probe, settle_class_asks
from pool_server.app.work_commands import LeaseGranted, NoWorkNow
from pool_server.core.comparison import Comparator, ComparatorKind
from pool_server.core.fleet import VehicleState
from pool_server.core.verification import VerificationLevel
from tests.support.classes import probe
from tests.support.workshop import PROGRAM, SetDraws, Workshop

CLOSE = Comparator(kind=ComparatorKind.CLOSE, rtol=1e-5)
FULL, STANDARD = VerificationLevel.FULL, VerificationLevel.STANDARD
OTHER_PROGRAM = replace(PROGRAM, program_sha256=sha256_hex(b"another program"))


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Workshop]:
    """A pool in which every result is audited; its books must be sound at the end."""
    workshop = Workshop(tmp_path / "pool.sqlite3", draws=SetDraws(0.0))
    yield workshop
    workshop.books.assert_sound()
    workshop.books.engine.dispose()


def claim(pool: Workshop, vehicle_id: str, kind: str) -> None:
    pool.books.run(lambda uow: note_probe(uow, vehicle_id=vehicle_id, probe=probe(kind), now_us=pool.now_us))


def join(pool: Workshop, name: str, kind: str) -> str:
    vehicle_id = pool.car(name)
    claim(pool, vehicle_id, kind)
    assert isinstance(pool.ask(vehicle_id), NoWorkNow), "it is there before the job is"
    return vehicle_id


def turns(pool: Workshop, vehicle_ids: list[str], *, count: int, pause_s: float = 0.0) -> None:
    """Let honest cars work in turn, task by task, while time passes."""
    for _ in range(count):
        for vehicle_id in vehicle_ids:
            granted = pool.ask(vehicle_id, 1)
            if isinstance(granted, LeaseGranted):
                pool.hand_in(granted)
        pool.wait(seconds=pause_s)
        pool.books.run(lambda uow: settle_class_asks(uow, policy=pool.policy, now_us=pool.now_us))


def claims_its_own(pool: Workshop, honest: list[str]) -> str:
    """Makes a history among its own kind, then claims a class that nobody has."""
    liar = join(pool, "liar", "a")
    pool.job(20, level=STANDARD)
    turns(pool, [liar, honest[0]], count=40)
    claim(pool, liar, "z")
    pool.job(1, level=STANDARD, program=OTHER_PROGRAM)
    return liar


def claims_one_with_a_silent_fellow(pool: Workshop, honest: list[str]) -> str:
    """Makes a history in a class of two owners, of whom one never comes as a witness."""
    liar, _ = join(pool, "liar", "z"), join(pool, "fellow", "z")
    pool.job(20, level=STANDARD, comparator=CLOSE)
    turns(pool, [liar, honest[0]], count=40)
    pool.job(1, level=STANDARD, comparator=CLOSE)
    return liar


@pytest.mark.parametrize("make_liar", [claims_its_own, claims_one_with_a_silent_fellow])
def test_a_lie_that_nobody_may_blame_still_ends_its_history(
    pool: Workshop, make_liar: Callable[[Workshop, list[str]], str]
) -> None:
    # Otherwise it would be checked as seldom as before, and lie on for ever.
    honest = [join(pool, f"honest{number}", "a") for number in range(4)]
    liar = make_liar(pool, honest)
    assert pool.vehicle(liar).clean_uwu > 0
    paid = pool.held("liar")
    pool.work(liar, error=7.0)
    turns(pool, honest, count=6, pause_s=40)
    view = pool.vehicle(liar)
    assert (pool.held("liar"), view.state, view.rejected_attempts) == (paid, VehicleState.AVAILABLE, 0)
    assert view.clean_uwu == 0
    assert all(pool.vehicle(vehicle_id).clean_uwu for vehicle_id in honest[:1])


def test_a_result_between_the_tolerances_of_another_class_is_turned_down_once(pool: Workshop) -> None:
    # It agrees with a member of the group that is accepted, but not with its anchor.
    first, between, second = join(pool, "a1", "a"), join(pool, "b1", "b"), join(pool, "a2", "a")
    job_id = pool.job(1, level=FULL, comparator=Comparator(kind=ComparatorKind.CLOSE, rtol=0.0, atol=1e-2))
    leases = [pool.lease(vehicle_id) for vehicle_id in (first, between)]
    pool.hand_in(leases[0])
    pool.hand_in(leases[1], error=0.018)
    pool.hand_in(pool.lease(second), error=0.009)
    assert pool.value(job_id) == 1.0
    assert pool.held("b1") == 0
    assert pool.vehicle(between).rejected_attempts == 0

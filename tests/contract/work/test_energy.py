"""Energy: told once per attempt, kept as it was told, shown in statements, never a reason to refuse work."""

from datetime import UTC, datetime

import pytest

from pool_protocol.errors import InvariantError
from pool_protocol.limits import COMPUTE_WATTS_MAX, DAY_US, SECOND_US
from pool_server.app.earnings import Earnings, owner_earnings
from pool_server.app.statements import owner_statement
from pool_server.app.work_commands import AckStatus, AttemptAckValue, AttemptReport, LeaseGranted
from pool_server.core.energy import EnergyFigures, EnergySource, EnergySums
from pool_server.core.jobs import AttemptOutcome
from pool_server.core.statement import LineKind, Statement
from pool_server.core.verification import VerificationLevel
from pool_server.ports.energy import AttemptEnergyRow
from tests.support.workshop import TASK_MICROS, Workshop, computed, report

NET_MICROS = TASK_MICROS * 95 // 100


def told(
    work: AttemptReport,
    energy_mj: int = 36_000,
    source: EnergySource | None = EnergySource.RAPL,
    electricity_micros: int | None = 3,
) -> AttemptReport:
    return work._replace(energy_mj=energy_mj, energy_source=source, electricity_micros=electricity_micros)


def statement_of(pool: Workshop, owner: str) -> Statement:
    month = datetime.fromtimestamp(pool.now_us / SECOND_US, UTC).strftime("%Y-%m")
    return pool.books.run(lambda uow: owner_statement(uow, owner_id=owner, month=month))


def earnings_of(pool: Workshop, owner: str) -> Earnings:
    return pool.books.run(lambda uow: owner_earnings(uow, owner_id=owner, days=2, now_us=pool.now_us))


def owner_of(pool: Workshop, car: str) -> str:
    return pool.vehicle(car).owner_id


def hand_in(pool: Workshop, lease: LeaseGranted, *reports: AttemptReport) -> list[AttemptAckValue]:
    return pool.submit(lease.vehicle_id, lease.lease_id, reports)


def test_a_statement_says_energy_cost_and_what_is_left(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(2, close=True)
    lease = pool.lease(car)
    first, second = (computed(grant) for grant in lease.attempts)

    acks = hand_in(
        pool,
        lease,
        told(first),
        told(second, 72_000, EnergySource.DECLARED, electricity_micros=NET_MICROS + 5),
    )

    assert [(ack.status, ack.energy_refused) for ack in acks] == [(AckStatus.VERIFIED, "")] * 2
    statement = statement_of(pool, owner_of(pool, car))
    work = [line for line in statement.lines if line.kind is LineKind.WORK]
    assert [(line.energy.energy_mj, line.energy.source) for line in work] == [
        (36_000, "rapl"),
        (72_000, "declared"),
    ]
    assert [line.after_electricity_micros for line in work] == [NET_MICROS - 3, -5]
    assert statement.totals.energy == EnergySums(108_000, 36_000, NET_MICROS + 8, 2, 0, "mixed")
    assert statement.totals.after_electricity_micros == NET_MICROS - 8


def test_earnings_hold_the_electricity_of_paid_and_unpaid_work(pool: Workshop) -> None:
    car = pool.car("a")
    owner = owner_of(pool, car)
    pool.job(2)
    lease = pool.lease(car)
    done, given_back = lease.attempts
    hand_in(
        pool,
        lease,
        told(computed(done)),
        told(report(given_back.attempt_id, outcome=AttemptOutcome.ABANDONED), 18_000, electricity_micros=2),
    )

    earnings = earnings_of(pool, owner)
    assert earnings.energy == EnergySums(54_000, 54_000, 5, 2, 0, "rapl")
    assert earnings.after_electricity_micros == NET_MICROS - 5
    assert earnings.days[-1].energy == earnings.energy
    assert earnings.days[0].energy.attempts == 0
    statement = statement_of(pool, owner)
    [unpaid] = [line for line in statement.lines if line.kind is LineKind.UNPAID]
    assert (unpaid.reference, unpaid.net_micros) == ("1 attempt", 0)
    assert unpaid.energy == EnergySums(18_000, 18_000, 2, 1, 0, "rapl")
    assert statement.totals.energy == earnings.energy


def test_energy_of_a_result_that_waits_is_in_no_statement_line_yet(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1, level=VerificationLevel.FULL)
    lease = pool.lease(car)
    [grant] = lease.attempts

    [ack] = hand_in(pool, lease, told(computed(grant)))

    assert ack.status is AckStatus.RECORDED
    assert statement_of(pool, owner_of(pool, car)).lines == ()
    assert earnings_of(pool, owner_of(pool, car)).energy.energy_mj == 36_000


@pytest.mark.parametrize(
    ("energy", "refusal", "kept"),
    [
        # millijoules, source, cost
        ((-5, EnergySource.RAPL, None), "ENERGY_OUT_OF_BOUNDS", None),
        ((2**63 - 1, EnergySource.RAPL, 2**63 - 1), "ENERGY_OUT_OF_BOUNDS", None),
        ((COMPUTE_WATTS_MAX * 1_000 + 1, EnergySource.DECLARED, None), "ENERGY_OUT_OF_BOUNDS", None),
        ((36_000, None, 3), "ENERGY_NOT_LABELLED", None),
        ((36_000, EnergySource.NVML, -(2**63)), "ELECTRICITY_OUT_OF_BOUNDS", (36_000, None)),
    ],
)
def test_a_figure_that_cannot_be_true_is_left_out_and_the_work_counts(
    pool: Workshop,
    energy: tuple[int, EnergySource | None, int | None],
    refusal: str,
    kept: tuple[int, int | None] | None,
) -> None:
    car = pool.car("a")
    pool.job(1, close=True)
    lease = pool.lease(car)
    [grant] = lease.attempts

    [ack] = hand_in(pool, lease, told(computed(grant), *energy))

    assert (ack.status, ack.energy_refused) == (AckStatus.VERIFIED, refusal)
    assert pool.held("a") == NET_MICROS
    [line] = statement_of(pool, owner_of(pool, car)).lines
    shown = (line.energy.energy_mj, line.energy.electricity_micros if line.energy.priced else None)
    assert shown == ((0, None) if kept is None else kept)
    assert pool.books.scalar("SELECT energy_mj FROM attempts") == (0 if kept is None else kept[0])


def test_the_same_report_again_is_no_energy_again(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1, close=True)
    lease = pool.lease(car)
    [grant] = lease.attempts
    hand_in(pool, lease, told(computed(grant)))

    [ack] = hand_in(pool, lease, told(computed(grant)))

    assert ack.status is AckStatus.DUPLICATE
    assert earnings_of(pool, owner_of(pool, car)).energy == EnergySums(36_000, 36_000, 3, 1, 0, "rapl")


def test_work_that_came_too_late_used_energy_once(pool: Workshop) -> None:
    car, other = pool.car("a"), pool.car("b")
    pool.job(1, close=True)
    lease = pool.lease(car)
    [grant] = lease.attempts
    pool.wait(seconds=7_200)
    pool.expire()
    pool.work(other)

    for _ in range(2):
        [ack] = hand_in(pool, lease, told(computed(grant)))
        assert ack.status is AckStatus.LATE
    assert earnings_of(pool, owner_of(pool, car)).energy.attempts == 1


def test_a_cars_figures_about_another_cars_attempt_are_not_taken(pool: Workshop) -> None:
    car, thief = pool.car("a"), pool.car("b")
    pool.job(2)
    lease, stolen = pool.lease(car, 1), pool.lease(thief, 1)

    [ack] = hand_in(pool, stolen, told(report(lease.attempts[0].attempt_id), 1_000_000))

    assert ack.status is AckStatus.REFUSED
    assert pool.books.scalar("SELECT COUNT(*) FROM attempt_energy") == 0


def test_a_month_that_is_summed_by_day_has_the_same_energy(
    pool: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    car = pool.car("a")
    pool.job(3, close=True)
    lease = pool.lease(car)
    hand_in(pool, lease, *(told(computed(grant)) for grant in lease.attempts))
    line_by_line = statement_of(pool, owner_of(pool, car))

    monkeypatch.setattr("pool_server.app.statements.WORK_LINES_MAX", 2)
    by_day = statement_of(pool, owner_of(pool, car))

    assert (len(line_by_line.lines), len(by_day.lines)) == (3, 1)
    assert by_day.totals == line_by_line.totals


def test_what_was_told_stays_as_it_was_told(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1, close=True)
    lease = pool.lease(car)
    hand_in(pool, lease, told(computed(lease.attempts[0])))
    figures = EnergyFigures(1, EnergySource.RAPL, None)
    again = AttemptEnergyRow(lease.attempts[0].attempt_id, "owner_a", car, figures, pool.now_us)

    with pytest.raises(InvariantError):
        pool.books.run(lambda uow: uow.energy.append([again]))
    with pytest.raises(Exception, match="immutable"):
        pool.books.sql("UPDATE attempt_energy SET energy_mj = 1")


def test_days_are_the_days_on_which_it_was_told(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(2)
    for _ in range(2):
        lease = pool.lease(car, 1)
        hand_in(pool, lease, told(computed(lease.attempts[0])))
        pool.wait(seconds=DAY_US // SECOND_US)

    days = earnings_of(pool, owner_of(pool, car)).days
    assert [day.energy.energy_mj for day in days] == [36_000, 0]

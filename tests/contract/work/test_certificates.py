"""What a certificate's findings mean over real books, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import text

from pool_protocol.digests import sha256_hex
from pool_server.app.certificates import (
    CERTIFICATE_FAILURES_MAX,
    CertificateFinding,
    CertificateVerdict,
    certificate_case,
)
from pool_server.app.work_commands import AckStatus, AttemptReport, LeaseGranted, SubmitResults, WaitingReason
from pool_server.core.jobs import TaskState
from pool_server.core.verification import VerificationLevel
from tests.support.workshop import TASK_MICROS, Workshop, computed

RECORDED, VERIFIED = AckStatus.RECORDED, AckStatus.VERIFIED
CERTIFICATE = sha256_hex(b"certificate")
V = CertificateVerdict
LEVELS = [VerificationLevel.STANDARD, VerificationLevel.STRICT, VerificationLevel.FULL]


def certified_job(
    pool: Workshop, task_count: int = 1, *, level: VerificationLevel = VerificationLevel.STANDARD
) -> int:
    return pool.job(task_count, level=level, close=True, certificate_sha256=CERTIFICATE)


def hand_in(
    pool: Workshop, car: str, verdict: CertificateVerdict, *, error: float = 0.0, referee_class: str = ""
) -> list[AckStatus]:
    lease = pool.lease(car)
    reports = [computed(grant, error=error) for grant in lease.attempts]
    return submit(pool, lease, reports, verdict, referee_class=referee_class)


def submit(
    pool: Workshop,
    lease: LeaseGranted,
    reports: Sequence[AttemptReport],
    verdict: CertificateVerdict,
    *,
    referee_class: str = "",
) -> list[AckStatus]:
    found = {
        report.attempt_id: CertificateFinding(
            report.attempt_id, report.output_digest, verdict, "why", referee_class
        )
        for report in reports
    }
    acks = pool.submit(lease.vehicle_id, lease.lease_id, reports, certified=found)
    return [ack.status for ack in acks]


def rejected(pool: Workshop, car: str) -> int:
    return pool.vehicle(car).rejected_attempts


@pytest.mark.parametrize("level", LEVELS)
def test_a_proved_result_is_accepted_alone_at_every_level(pool: Workshop, level: VerificationLevel) -> None:
    pool.draws.drawn = 0.0  # an audit would fall on each
    job_id = certified_job(pool, 2, level=level)
    assert hand_in(pool, pool.car("a"), V.PROVED) == [VERIFIED, VERIFIED]
    view = pool.view(job_id)
    assert (view.state, view.attempt_count) == ("done", 2)
    assert view.certificate_sha256 == CERTIFICATE
    assert view.spent_micros == 2 * TASK_MICROS
    assert pool.result(job_id).evidence == "CERTIFICATE"


def test_a_refuted_result_burns_its_car_and_the_task_goes_on(pool: Workshop) -> None:
    job_id = certified_job(pool)
    liar, other = pool.car("liar"), pool.car("other")
    hand_in(pool, liar, V.REFUTED, error=1.0)
    assert rejected(pool, liar) == 1
    assert pool.vehicle(liar).quarantine_reason
    assert hand_in(pool, other, V.PROVED) == [VERIFIED]
    assert pool.value(job_id) == 1.0
    assert (pool.held("liar"), pool.view(job_id).rejected_count) == (0, 1)


def test_a_car_of_another_class_is_not_burned_by_a_check_of_bits(pool: Workshop) -> None:
    job_id = certified_job(pool)
    foreign, other = pool.car("foreign"), pool.car("other")
    with pool.books.engine.begin() as connection:
        connection.execute(
            text("UPDATE fleet_vehicles SET numeric_class = 'arm' WHERE vehicle_id = 'vehicle_foreign'")
        )
    hand_in(pool, foreign, V.REFUTED, error=1.0, referee_class="x86")
    assert rejected(pool, foreign) == 0
    assert pool.result(job_id).state is TaskState.READY, "nor is it believed"
    hand_in(pool, other, V.PROVED)
    assert pool.value(job_id) == 1.0
    assert rejected(pool, foreign) == 0


def test_a_doubted_result_waits_for_an_audit_whatever_the_draw(pool: Workshop) -> None:
    pool.draws.drawn = 0.999_999
    job_id = certified_job(pool)
    assert hand_in(pool, pool.car("a"), V.DOUBTED) == [RECORDED]
    assert hand_in(pool, pool.car("b"), V.DOUBTED) == [VERIFIED]
    assert pool.result(job_id).evidence == "AUDITED"


def test_attack_a_buyers_own_check_makes_no_history_against_other_buyers(pool: Workshop) -> None:
    # A buyer and an owner in league: a check that always says yes, results that nobody computed.
    certified_job(pool, 10)
    car = pool.car("a")
    lease = pool.lease(car)
    submit(pool, lease, [computed(grant, error=9.0) for grant in lease.attempts], V.PROVED)
    assert pool.vehicle(car).verified_attempts == 10
    assert pool.vehicle(car).clean_uwu == 0


def test_where_a_certificate_fails_the_level_judges(pool: Workshop) -> None:
    job_id = certified_job(pool, level=VerificationLevel.FULL)
    assert hand_in(pool, pool.car("a"), V.FAILED) == [RECORDED], "two owners, as the level asks"
    assert hand_in(pool, pool.car("b"), V.FAILED) == [VERIFIED]
    assert pool.result(job_id).evidence == "AGREEMENT"


def test_a_certificate_that_fails_is_given_up_and_the_job_says_so(pool: Workshop) -> None:
    pool.draws.drawn = 0.0
    job_id = certified_job(pool, CERTIFICATE_FAILURES_MAX)
    car = pool.car("a")
    pool.car("b")
    lease = pool.lease(car)
    bundle = SubmitResults(
        vehicle_id=car, lease_id=lease.lease_id, reports=[computed(grant) for grant in lease.attempts]
    )
    case = pool.books.run(lambda uow: certificate_case(uow, bundle))
    assert case is not None
    assert set(case.inputs) == {grant.attempt_id for grant in lease.attempts}
    submit(pool, lease, bundle.reports, V.FAILED)
    assert pool.view(job_id).waiting_reason is WaitingReason.CERTIFICATE_FAILS
    again = pool.lease("vehicle_b")
    asked = SubmitResults(
        vehicle_id="vehicle_b", lease_id=again.lease_id, reports=[computed(grant) for grant in again.attempts]
    )
    assert pool.books.run(lambda uow: certificate_case(uow, asked)) is None


def test_nobody_elses_lease_is_checked_and_nothing_twice(pool: Workshop) -> None:
    certified_job(pool)
    car = pool.car("a")
    lease = pool.lease(car)
    reports = [computed(grant) for grant in lease.attempts]
    stranger = SubmitResults(vehicle_id=pool.car("b"), lease_id=lease.lease_id, reports=reports)
    assert pool.books.run(lambda uow: certificate_case(uow, stranger)) is None
    submit(pool, lease, reports, V.PROVED)
    again = SubmitResults(vehicle_id=car, lease_id=lease.lease_id, reports=reports)
    case = pool.books.run(lambda uow: certificate_case(uow, again))
    assert case is not None
    assert case.inputs == {}


def test_attack_a_finding_of_another_result_counts_for_nothing(pool: Workshop) -> None:
    pool.draws.drawn = 0.0
    job_id = certified_job(pool)
    lease = pool.lease(pool.car("a"))
    [grant] = lease.attempts
    right, wrong = computed(grant), computed(grant, error=1.0)
    proved = CertificateFinding(grant.attempt_id, right.output_digest, V.PROVED)
    pool.submit(lease.vehicle_id, lease.lease_id, [wrong], certified={grant.attempt_id: proved})
    assert pool.result(job_id).state is TaskState.READY


def test_a_later_proof_takes_the_place_of_what_waits_for_an_audit(pool: Workshop) -> None:
    job_id = certified_job(pool)
    hand_in(pool, pool.car("a"), V.DOUBTED, error=1.0)
    assert hand_in(pool, pool.car("b"), V.PROVED) == [VERIFIED]
    found = pool.result(job_id)
    assert (found.evidence, pool.value(job_id)) == ("CERTIFICATE", 1.0)
    assert (pool.held("a"), rejected(pool, "vehicle_a")) == (0, 0)

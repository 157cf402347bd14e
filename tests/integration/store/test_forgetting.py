"""What ended long ago and led to nothing is forgotten; what was approved, or may still be used, is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pool_protocol.limits import DAY_US
from pool_server.app.forgetting import FORGOTTEN_PER_SWEEP, REMEMBERED_US, forget_ended
from pool_server.ports.shell import Enrolment, EnrolmentState, Principal, ProgramRecord, QuoteRecord, Role
from tests.support.books import Books

pytestmark = pytest.mark.usefixtures("on_both_databases")


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path / "pool.sqlite3")
    yield made
    made.engine.dispose()


def enrolment(number: int, *, ended_at_us: int) -> Enrolment:
    return Enrolment(
        device_code_sha256=number.to_bytes(32, "big"),
        user_code=f"CODE-{number}",
        csr_pem=b"request",
        envelope_public_key=number.to_bytes(32, "little"),
        agent_version="",
        state=EnrolmentState.PENDING,
        created_at_us=ended_at_us - DAY_US,
        expires_at_us=ended_at_us,
        vehicle_id="",
        owner_id="",
        certificate_pem=b"",
    )


def quote(number: int, *, ended_at_us: int) -> QuoteRecord:
    return QuoteRecord(
        quote_id=f"quote_{number}",
        buyer_id="buyer_b",
        program_sha256="0" * 64,
        task_count=1,
        steps_per_task=0,
        level="standard",
        price_micros_per_wu=1,
        work_uwu_per_task=1,
        attempts_per_task=1,
        cost_micros_per_task=1,
        total_micros=1,
        created_at_us=ended_at_us - DAY_US,
        expires_at_us=ended_at_us,
    )


def test_quotes_and_enrolments_go_a_day_after_their_end(books: Books) -> None:
    # 1. Of each kind one that ended longer ago than is remembered, and one that ended just then.
    old_us, kept_us = books.now_us - REMEMBERED_US - 1, books.now_us - REMEMBERED_US
    buyer = Principal(principal_id="buyer_b", role=Role.BUYER, name="Bea", created_at_us=old_us)
    books.run(lambda uow: uow.identity.add_principal(buyer))
    program = ProgramRecord(
        program_sha256="0" * 64, kind="map", work_uwu=1, manifest=b"", admission=b"", admitted_at_us=old_us
    )
    books.run(lambda uow: uow.programs.add(program))
    for number, ended_at_us in enumerate((old_us, kept_us)):
        books.run(lambda uow: uow.quotes.add(quote(number, ended_at_us=ended_at_us)))  # noqa: B023 - run at once
    waiting, refused, approved, kept = (
        enrolment(number, ended_at_us=ended_at_us)
        for number, ended_at_us in enumerate((old_us, old_us, old_us, kept_us))
    )
    for each in (waiting, refused, approved, kept):
        # As if made long ago: a fresh one would end those that are over.
        books.run(lambda uow: uow.identity.add_enrolment(replace(each, created_at_us=0)))  # noqa: B023 - at once
    books.run(lambda uow: uow.identity.deny_enrolment(refused.device_code_sha256, owner_id="owner_o"))
    books.run(
        lambda uow: uow.identity.approve_enrolment(
            approved.device_code_sha256,
            vehicle_id="vehicle_v",
            owner_id="owner_o",
            certificate_pem=b"certificate",
            expires_at_us=old_us,
        )
    )
    # 2. The sweep takes what is old and was not approved, once.
    assert books.run(lambda uow: forget_ended(uow, now_us=books.now_us)) == 3
    assert books.run(lambda uow: forget_ended(uow, now_us=books.now_us)) == 0
    assert books.rows("SELECT quote_id FROM quotes") == [("quote_1",)]
    left = books.rows("SELECT user_code FROM enrolments ORDER BY user_code")
    assert left == [("CODE-2",), ("CODE-3",)]


def test_one_sweep_takes_a_bounded_number(books: Books) -> None:
    def many(count: int) -> None:
        for number in range(count):
            ended = enrolment(number, ended_at_us=1)
            books.run(lambda uow: uow.identity.add_enrolment(replace(ended, created_at_us=0)))  # noqa: B023 - at once

    many(3)
    limit = 2
    taken = [
        books.run(lambda uow: uow.identity.forget_enrolments(ended_before_us=2, limit=limit))
        for _ in range(3)
    ]
    assert taken == [2, 1, 0]
    assert limit < FORGOTTEN_PER_SWEEP

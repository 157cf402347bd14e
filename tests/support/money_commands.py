"""Every command that moves money, each ready to run on the same books: for crashes at its statements."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from pool_server.app.bank_status import import_status
from pool_server.app.deposits import record_deposit
from pool_server.app.earnings import release_held
from pool_server.app.entries import ProposeEntry, approve_entry, propose_entry
from pool_server.app.money import expire_pending, fund_attempts, release_job, reserve_job, settle_attempts
from pool_server.app.money import void_attempts as void
from pool_server.app.payouts import (
    approve_payout,
    export_payout,
    get_payout,
    plan_payout,
    set_payout_details,
)
from pool_server.core.payouts.bank_report import BankReport, ReportLine, Verdict
from pool_server.core.settlement import AttemptFunding
from pool_server.ports.banks import Leaving
from pool_server.rails.csv_file import CsvRail
from pool_server.store.tables import METADATA
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support.books import NEVER_US, Books, settlement
from tests.support.clock import START_US
from tests.support.payees import DETAILS

#: When the commands run: one reservation has timed out, and one job's results are out of their window.
LATER_US = START_US + 5_000_000
Command = Callable[[SqlUnitOfWork], Any]


def prepare(path: Path) -> Books:
    """Make books on which each of the commands below has something to do."""
    books = Books(path)
    books.deposit(1_000_000)
    books.reserve(1, 500_000)
    books.reserve(2, 50_000)
    _send_payout(books)
    books.earn("owner_a", [40_000, 30_000], first_attempt=1)
    books.run(lambda uow: release_held(uow, now_us=START_US + 2_000_000))
    books.now_us = START_US + 3_000_000
    books.earn("owner_b", [20_000], first_attempt=10)
    pendings = [*books.fund([100, 101, 102]), *books.fund([103, 104], expires_at_us=START_US + 4_000_000)]
    assert pendings == PENDINGS, pendings

    def plan(uow: SqlUnitOfWork) -> None:
        set_payout_details(uow, owner_id="owner_a", details=DETAILS, now_us=books.now_us)
        plan_payout(uow, operator_id="op_a", idempotency_key="run", now_us=books.now_us)
        propose_entry(uow, ENTRY, operator_id="op_a", now_us=books.now_us)

    books.run(plan)
    books.assert_sound()
    books.engine.dispose()
    return books


def _send_payout(books: Books) -> None:
    """Two owners are paid, one of whom leaves; the bank has not reported yet."""
    books.earn("owner_c", [40_000], first_attempt=30)
    books.earn("owner_d", [50_000], first_attempt=40)

    def send(uow: SqlUnitOfWork) -> None:
        now_us = START_US + 1_000_000
        release_held(uow, now_us=now_us)
        for owner_id in ("owner_c", "owner_d"):
            set_payout_details(uow, owner_id=owner_id, details=DETAILS, now_us=now_us)
        uow.banks.add_leaving(Leaving(owner_id="owner_c", asked_by="op_a", asked_at_us=now_us))
        run = plan_payout(uow, operator_id="op_a", idempotency_key="sent", now_us=now_us).run
        approve_payout(
            uow, payout_id=1, operator_id="op_b", expected_total_micros=run.total_micros, now_us=now_us
        )
        export_payout(uow, payout_id=1, operator_id="op_a", rail=CsvRail(), now_us=now_us)

    books.run(send)


#: The reservations of attempts 100 to 104.
PENDINGS = [24, 25, 26, 27, 28]
ENTRY = ProposeEntry(
    code="correction",
    debit_account="buyer:buyer_b:available",
    credit_account="bank:main",
    amount_micros=7,
    reason="booked twice",
    idempotency_key="entry",
)


def _deposit(uow: SqlUnitOfWork) -> Any:
    return record_deposit(uow, buyer_id="buyer_c", amount_micros=77, reference="bank-9", now_us=LATER_US)


def _reserve(uow: SqlUnitOfWork) -> Any:
    return reserve_job(uow, buyer_id="buyer_b", job_id=3, amount_micros=900, now_us=LATER_US, key="job-3")


def _fund(uow: SqlUnitOfWork) -> Any:
    items = [
        AttemptFunding(attempt_id=attempt, owner_id="owner_new", job_id=1, amount_micros=1_000)
        for attempt in (200, 201, 202)
    ]
    return fund_attempts(uow, items, expires_at_us=NEVER_US, now_us=LATER_US)


def _settle(uow: SqlUnitOfWork) -> Any:
    items = [settlement(100, PENDINGS[0]), settlement(101, PENDINGS[1], gross_micros=600)]
    return settle_attempts(uow, items, now_us=LATER_US)


def _void(uow: SqlUnitOfWork) -> Any:
    return void(uow, [PENDINGS[2]], now_us=LATER_US)


def _expire(uow: SqlUnitOfWork) -> Any:
    return expire_pending(uow, now_us=LATER_US)


def _release_job(uow: SqlUnitOfWork) -> Any:
    return release_job(uow, buyer_id="buyer_b", job_id=2, now_us=LATER_US)


def _release_held(uow: SqlUnitOfWork) -> Any:
    return release_held(uow, now_us=LATER_US)


def _approve_payout(uow: SqlUnitOfWork) -> Any:
    run = uow.payouts.runs()[0]
    return approve_payout(
        uow,
        payout_id=run.payout_id,
        operator_id="op_b",
        expected_total_micros=run.total_micros,
        now_us=LATER_US,
    )


def _hear_from_bank(uow: SqlUnitOfWork) -> Any:
    """One payment is settled, and its owner has left; the other is rejected."""
    paid, rejected = get_payout(uow, payout_id=1).rows
    lines = (
        ReportLine(verdict=Verdict.SETTLED, status="ACSC", reference=paid.reference),
        ReportLine(verdict=Verdict.REJECTED, status="RJCT", reference=rejected.reference, reason_code="AC04"),
    )
    return import_status(
        uow,
        report=BankReport(format="test", message_id="", lines=lines),
        content=b"what the bank says",
        file_name="report",
        operator_id="op_a",
        now_us=LATER_US,
    )


def _approve_entry(uow: SqlUnitOfWork) -> Any:
    return approve_entry(uow, entry_id=1, operator_id="op_b", expected_amount_micros=7, now_us=LATER_US)


COMMANDS: dict[str, Command] = {
    "deposit": _deposit,
    "reserve": _reserve,
    "fund": _fund,
    "settle": _settle,
    "void": _void,
    "expire": _expire,
    "release_job": _release_job,
    "release_held": _release_held,
    "approve_payout": _approve_payout,
    "hear_from_bank": _hear_from_bank,
    "approve_entry": _approve_entry,
}
#: Commands that are refused when they are repeated: what they did once cannot be done again.
REFUSED_AGAIN = {"fund", "settle", "void"}


def content(engine: Engine) -> dict[str, list[Any]]:
    """Return every row of every table that has any."""
    with engine.connect() as connection:
        rows = {
            table.name: sorted(
                (tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table.name}")), key=repr
            )
            for table in METADATA.sorted_tables
        }
    return {name: found for name, found in rows.items() if found}

"""The pool's books for tests: a real database, real use cases, and an issuer that signs nothing real."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from pool_protocol.errors import PoolError
from pool_server.app.deposits import record_deposit
from pool_server.app.ledger_check import LedgerReport, check_ledger
from pool_server.app.money import fund_attempts, reserve_job, settle_attempts
from pool_server.core.settlement import AttemptFunding, AttemptSettlement, MoneyTerms, Payer
from pool_server.ports.money import ReceiptFields
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support import databases
from tests.support.clock import START_US

T = TypeVar("T")

TERMS = MoneyTerms(
    pool_id="pool_test",
    currency="EUR",
    fee_ppm=50_000,
    dispute_window_us=1_000_000,
    posted_price_micros_per_wu=100,
)
#: Far behind every test's clock.
NEVER_US = 2**62


class PlainIssuer:
    """A `ReceiptIssuer` whose bytes a person can read."""

    def encode(self, fields: ReceiptFields) -> bytes:
        return repr(tuple(fields)).encode()

    def sign_batch(self, *, batch_id: int, root: bytes, count: int, now_us: int) -> bytes:
        return f"batch {batch_id} of {count} at {now_us}: ".encode() + root


class Books:
    """One database, one command at a time, and a clock that only the test moves."""

    def __init__(self, path: Path, *, terms: MoneyTerms = TERMS, durable: bool = False) -> None:
        """Open books at `path`; durable ones wait for the disk as the pool does, others do not."""
        self.engine: Engine = databases.open_at(path, durable=durable)
        self.terms = terms
        self.now_us = START_US

    def make_uow(self, connection: Connection) -> SqlUnitOfWork:
        return SqlUnitOfWork(connection, receipt_issuer=PlainIssuer(), terms=self.terms)

    @contextmanager
    def command(self) -> Iterator[SqlUnitOfWork]:
        """One transaction; rolled back when it raises, its refusals kept as the writer would."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql("SAVEPOINT command")
            uow = self.make_uow(connection)
            try:
                yield uow
            except PoolError as error:
                connection.exec_driver_sql("ROLLBACK TO command")
                uow.write_refusals()
                refused: PoolError | None = error
            else:
                refused = None
            connection.exec_driver_sql("RELEASE command")
        if refused is not None:
            raise refused

    def run(self, use_case: Callable[[SqlUnitOfWork], T]) -> T:
        with self.command() as uow:
            return use_case(uow)

    def sql(self, statement: str) -> None:
        """Run one statement as an intruder would."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(databases.spelled(statement))

    def scalar(self, statement: str) -> object:
        with self.engine.begin() as connection:
            return connection.exec_driver_sql(statement).scalar()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    def balances(self) -> dict[str, int]:
        """Credits minus debits of every account that is not empty, by name."""
        accounts = self.run(lambda uow: uow.ledger.accounts_by_prefix(""))
        return {account.name: account.balance_micros for account in accounts if account.balance_micros}

    def check(self) -> LedgerReport:
        return self.run(check_ledger)

    def assert_sound(self) -> LedgerReport:
        """Every invariant holds."""
        report = self.check()
        assert [check for check in report.checks if not check.ok] == []
        assert report.ok
        assert report.sum_micros == 0
        return report

    # --- steps that most stories begin with -----------------------------------------------------

    def deposit(self, amount_micros: int, *, buyer_id: str = "buyer_b", reference: str = "bank-1") -> int:
        return self.run(
            lambda uow: (
                record_deposit(
                    uow,
                    buyer_id=buyer_id,
                    amount_micros=amount_micros,
                    reference=reference,
                    now_us=self.now_us,
                ).available_micros
            )
        )

    def reserve(self, job_id: int, amount_micros: int, *, buyer_id: str = "buyer_b") -> None:
        self.run(
            lambda uow: reserve_job(
                uow, buyer_id=buyer_id, job_id=job_id, amount_micros=amount_micros, now_us=self.now_us
            )
        )

    def fund(
        self,
        attempt_ids: Sequence[int],
        *,
        owner_id: str = "owner_a",
        job_id: int = 1,
        amount_micros: int = 1_000,
        payer: Payer = Payer.JOB,
        expires_at_us: int = NEVER_US,
    ) -> list[int]:
        items = [
            AttemptFunding(
                attempt_id=attempt_id,
                owner_id=owner_id,
                job_id=job_id,
                amount_micros=amount_micros,
                payer=payer,
            )
            for attempt_id in attempt_ids
        ]
        return self.run(
            lambda uow: fund_attempts(uow, items, expires_at_us=expires_at_us, now_us=self.now_us)
        )

    def settle(self, settlements: Sequence[AttemptSettlement]) -> None:
        self.run(lambda uow: settle_attempts(uow, settlements, now_us=self.now_us))

    def earn(
        self, owner_id: str, amounts_micros: Sequence[int], *, first_attempt: int, job_id: int = 1
    ) -> None:
        """Fund and settle attempts with these gross amounts, in one command each."""
        attempts = range(first_attempt, first_attempt + len(amounts_micros))
        for attempt_id, gross_micros in zip(attempts, amounts_micros, strict=True):
            [pending_id] = self.fund(
                [attempt_id], owner_id=owner_id, job_id=job_id, amount_micros=gross_micros
            )
            self.settle([settlement(attempt_id, pending_id, owner_id=owner_id, gross_micros=gross_micros)])


def settlement(
    attempt_id: int,
    pending_transfer_id: int,
    *,
    owner_id: str = "owner_a",
    vehicle_id: str = "vehicle_v",
    job_id: int = 1,
    gross_micros: int = 1_000,
) -> AttemptSettlement:
    """An accepted attempt whose work costs `gross_micros` at 1 micro-unit per micro-WU."""
    return AttemptSettlement(
        attempt_id=attempt_id,
        pending_transfer_id=pending_transfer_id,
        owner_id=owner_id,
        vehicle_id=vehicle_id,
        job_id=job_id,
        task_index=attempt_id,
        program_sha256=hashlib.sha256(b"program").hexdigest(),
        output_digest=hashlib.sha256(str(attempt_id).encode()).digest(),
        work_uwu=gross_micros,
        price_micros_per_wu=1_000_000,
        gross_micros=gross_micros,
    )

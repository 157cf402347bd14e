"""Random commands from a printed seed, through the real use cases: the books stay sound and money adds up.

The auditor here knows three sums only: what came in, what each owner must have got, what the buyer still has.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app import payouts
from pool_server.app.bank_status import import_status
from pool_server.app.earnings import buyer_balance, owner_earnings, release_held
from pool_server.app.money import expire_pending, release_job, void_attempts
from pool_server.app.pool_report import pool_report
from pool_server.core.ledger.model import TransferCode
from pool_server.core.payouts.bank_report import BankReport, ReportLine, Verdict
from pool_server.core.payouts.model import PayoutDetails, PayoutState
from pool_server.core.settlement import Payer
from pool_server.rails.csv_file import CsvRail
from tests.support.books import TERMS, Books, settlement

OWNERS = ("owner_a", "owner_b", "owner_c")
STEPS = 240
CHECK_EVERY = 40


def happens(act: Callable[[], object], *expected: ErrorCode) -> bool:
    """Do it; False when it was refused for one of the expected reasons."""
    try:
        act()
    except PoolError as error:
        if error.code not in expected:
            raise
        return False
    return True


@dataclass
class Story:
    """One seed's course of events and what the auditor expects of it."""

    books: Books
    chance: random.Random
    deposited: int = 0
    jobs: int = 0
    attempts: int = 0
    open_attempts: dict[int, tuple[int, str, int]] = field(default_factory=dict)
    """Attempt -> pending transfer, owner, amount."""
    net: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OWNERS, 0))
    spent: int = 0

    def deposit(self) -> None:
        amount = self.chance.choice([1, 999, 1_000_000, 50_000_000])
        reference = f"bank-{self.chance.randint(1, 40)}"
        happens(lambda: self.books.deposit(amount, reference=reference), ErrorCode.EXISTS_WITH_DIFFERENT)
        bank = self.books.run(lambda uow: uow.ledger.accounts_by_name(["bank:main"]))["bank:main"]
        code = TransferCode.DEPOSIT.value
        booked = self.books.run(lambda uow: uow.ledger.sum_by_code(bank.account_id, code, debit=True))
        assert booked - self.deposited in (0, amount)
        self.deposited = booked

    def reserve(self) -> None:
        self.jobs += 1
        amount = self.chance.choice([10, 40_000, 3_000_000, 9_000_000])
        if not happens(lambda: self.books.reserve(self.jobs, amount), ErrorCode.INSUFFICIENT_FUNDS):
            self.jobs -= 1

    def fund(self) -> None:
        if not self.jobs:
            return
        owner_id = self.chance.choice(OWNERS)
        amount = self.chance.choice([1, 19, 777, 123_456, 1_000_000])
        self.attempts += 3
        attempts = [self.attempts - 2, self.attempts - 1, self.attempts]
        job_id = self.chance.randint(1, self.jobs)
        payer = self.chance.choice([Payer.JOB, Payer.JOB, Payer.VERIFICATION])
        expires_at_us = self.books.now_us + self.chance.choice([400_000, 9_000_000])
        pending_ids: list[int] = []
        happens(
            lambda: pending_ids.extend(
                self.books.fund(
                    attempts,
                    owner_id=owner_id,
                    job_id=job_id,
                    amount_micros=amount,
                    payer=payer,
                    expires_at_us=expires_at_us,
                )
            ),
            ErrorCode.INSUFFICIENT_FUNDS,
            ErrorCode.JOB_CLOSED,
        )
        for attempt_id, pending_id in zip(attempts, pending_ids, strict=bool(pending_ids)):
            self.open_attempts[attempt_id] = (pending_id, owner_id, amount)

    def settle(self) -> None:
        if not self.open_attempts:
            return
        count = min(len(self.open_attempts), self.chance.randint(1, 4))
        chosen = self.chance.sample(sorted(self.open_attempts), count)
        items = []
        for attempt_id in chosen:
            pending_id, owner_id, amount = self.open_attempts[attempt_id]
            gross = self.chance.randint(1, amount)
            items.append(settlement(attempt_id, pending_id, owner_id=owner_id, gross_micros=gross))
        if not happens(lambda: self.books.settle(items), ErrorCode.TRANSFER_STATE):
            return
        for item in items:
            del self.open_attempts[item.attempt_id]
            self.net[item.owner_id] += item.gross_micros - item.gross_micros * TERMS.fee_ppm // 1_000_000

    def reject(self) -> None:
        if not self.open_attempts:
            return
        attempt_id = self.chance.choice(sorted(self.open_attempts))
        pending_id = self.open_attempts[attempt_id][0]
        if happens(
            lambda: self.books.run(lambda uow: void_attempts(uow, [pending_id], now_us=self.books.now_us)),
            ErrorCode.TRANSFER_STATE,
        ):
            del self.open_attempts[attempt_id]

    def pass_time(self) -> None:
        self.books.now_us += self.chance.choice([-50_000, 100_000, 1_500_000])

    def sweep(self) -> None:
        now_us = self.books.now_us
        self.books.run(lambda uow: expire_pending(uow, now_us=now_us, limit=5))
        self.books.run(lambda uow: release_held(uow, now_us=now_us))

    def end_job(self) -> None:
        if not self.jobs:
            return
        job_id = self.chance.randint(1, self.jobs)
        self.books.run(
            lambda uow: release_job(uow, buyer_id="buyer_b", job_id=job_id, now_us=self.books.now_us)
        )

    def pay_out(self) -> None:
        planned = self.books.run(payouts.list_payouts)
        if planned and planned[0].state is PayoutState.PLANNED:
            run = planned[0]
            self.books.run(
                lambda uow: payouts.approve_payout(
                    uow,
                    payout_id=run.payout_id,
                    operator_id="operator_b",
                    expected_total_micros=run.total_micros,
                    now_us=self.books.now_us,
                )
            )
            self.books.run(
                lambda uow: payouts.export_payout(
                    uow,
                    payout_id=run.payout_id,
                    operator_id="operator_b",
                    rail=CsvRail(),
                    now_us=self.books.now_us,
                )
            )
            return
        key = f"run-{len(planned)}"
        self.books.run(
            lambda uow: payouts.plan_payout(
                uow, operator_id="operator_a", idempotency_key=key, now_us=self.books.now_us
            )
        )

    def hear_from_the_bank(self) -> None:
        """A report on some payments of a run: paid, rejected, come back; old news and contradictions too."""
        exported = [run for run in self.books.run(payouts.list_payouts) if run.state is PayoutState.EXPORTED]
        if not exported:
            return
        run = self.chance.choice(exported)
        rows = self.books.run(lambda uow: payouts.get_payout(uow, payout_id=run.payout_id)).rows
        lines = tuple(
            ReportLine(
                verdict=self.chance.choice(list(Verdict)),
                status="RANDOM",
                reference=row.reference,
                amount_micros=row.amount_micros + self.chance.choice([0, 0, 0, 10_000]),
                currency=run.currency,
                reason_code=self.chance.choice(["", "AC04"]),
            )
            for row in self.chance.sample(rows, self.chance.randint(1, len(rows)))
        )
        content = str(self.chance.random()).encode()
        for _ in range(2):  # the same file again changes nothing
            answer = self.books.run(
                lambda uow: import_status(
                    uow,
                    report=BankReport(format="test", message_id="", lines=lines),
                    content=content,
                    file_name="report",
                    operator_id="operator_a",
                    now_us=self.books.now_us,
                )
            )
            assert len(answer.results) == len(lines)

    def check(self) -> None:
        self.books.assert_sound()
        for owner_id, net in self.net.items():
            earned = self._earned(owner_id)
            assert earned == net, owner_id
        balance = self.books.run(lambda uow: buyer_balance(uow, buyer_id="buyer_b"))
        held = balance.available_micros + balance.escrow_micros + balance.spent_micros
        assert held == self.deposited
        report = self.books.run(lambda uow: pool_report(uow, month="", now_us=self.books.now_us))
        assert report.buyers_spent_micros == balance.spent_micros
        assert {line.owner_id: line.net_micros for line in report.owners} == {
            owner_id: net for owner_id, net in self.net.items() if net
        }

    def _earned(self, owner_id: str) -> int:
        money = self.books.run(lambda uow: owner_earnings(uow, owner_id=owner_id, now_us=self.books.now_us))
        assert (
            money.gross_micros - money.fee_micros
            == money.held_micros + money.available_micros + money.paid_micros
        )
        return money.held_micros + money.available_micros + money.paid_micros


@pytest.mark.parametrize(
    ("on_both_databases", "seed"),
    [*(("sqlite", seed) for seed in range(1, 5)), ("postgresql", 5)],
    indirect=["on_both_databases"],
)
def test_random_commands_leave_the_books_sound(on_both_databases: str, tmp_path: Path, seed: int) -> None:
    books = Books(tmp_path / "pool.sqlite3")
    story = Story(books, random.Random(seed))
    details = PayoutDetails(
        holder_name="Ada Lovelace",
        iban="DE89370400440532013000",
        threshold_micros=10_000,
        town="Koeln",
        country="DE",
    )
    for owner_id in OWNERS[:2]:
        books.run(
            lambda uow, owner_id=owner_id: payouts.set_payout_details(  # type: ignore[misc]
                uow, owner_id=owner_id, details=details, now_us=books.now_us
            )
        )
    acts = [
        story.deposit,
        story.reserve,
        story.fund,
        story.fund,
        story.settle,
        story.settle,
        story.reject,
        story.pass_time,
        story.pass_time,
        story.sweep,
        story.sweep,
        story.end_job,
        story.pay_out,
        story.pay_out,
        story.hear_from_the_bank,
        story.hear_from_the_bank,
    ]
    for step in range(1, STEPS + 1):
        story.chance.choice(acts)()
        if step % CHECK_EVERY == 0:
            story.check()
    assert story.attempts > 0
    assert sum(story.net.values()) > 0
    assert books.run(lambda uow: uow.banks.step_sums())

"""A pool's few months for tests of papers: buyers, owners, audits, payouts that come back, corrections.

And an independent accountant: it reads nothing but accounts' names and the transfers, one by one.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from pool_protocol import amounts
from pool_protocol.money import work_price_micros
from pool_server.app.bank_status import import_status
from pool_server.app.books import open_accounts, transfer
from pool_server.app.earnings import release_held
from pool_server.app.entries import ProposeEntry, approve_entry, propose_entry
from pool_server.app.money import release_job
from pool_server.app.payouts import approve_payout, export_payout, plan_payout, set_payout_details
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import (
    AccountSpec,
    TransferCode,
    TransferKind,
    TransferRequest,
)
from pool_server.core.payouts.model import PayoutDetails, PayoutRow
from pool_server.core.settlement import AttemptSettlement, Payer
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rails import status_csv
from pool_server.rails.csv_file import CsvRail
from tests.support.books import Books

OWNERS = ("owner_ada", "owner_bea", "owner_cem")
BUYERS = ("buyer_xu", "buyer_yan")
DAY_US = 86_400_000_000
_IBAN = "DE89370400440532013000"


def at_us(text: str) -> int:
    """The microsecond of a moment in UTC, written like 2026-03-31T23:59:59."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@dataclass
class Story:
    """Plays a seed's events into books, one day after another."""

    books: Books
    seed: int = 7
    days: int = 100
    _attempt: int = 0
    _serial: int = 0
    _jobs: dict[int, str] = field(default_factory=dict)

    def play(self) -> None:
        """The whole story; the books begin on 2026-01-01."""
        chance = random.Random(self.seed)
        for owner_id in OWNERS[:2]:
            details = PayoutDetails(
                holder_name=f"Holder {owner_id[-3:]}",
                iban=_IBAN,
                threshold_micros=10_000,
                town="Berlin",
                country="DE",
            )
            self.books.run(
                partial(set_payout_details, owner_id=owner_id, details=details, now_us=self.books.now_us)
            )
        for number, buyer_id in enumerate(BUYERS, 1):
            self.books.deposit(50_000_000, buyer_id=buyer_id, reference=f"first-{buyer_id}")
            self._jobs[number] = buyer_id
            self.books.reserve(number, 20_000_000, buyer_id=buyer_id)
        for day in range(self.days):
            self.books.now_us += DAY_US
            self._day(chance, day)

    def _day(self, chance: random.Random, day: int) -> None:
        job_id = chance.choice([1, 2])
        for _ in range(chance.randint(0, 3)):
            payer = Payer.VERIFICATION if chance.random() < 0.2 else Payer.JOB
            self.work(
                chance.choice(OWNERS),
                job_id,
                work_uwu=chance.randint(1, 2_000_000),
                price=chance.choice([7, 20_001, 333_333]),
                payer=payer,
            )
        self.books.run(lambda uow: release_held(uow, now_us=self.books.now_us))
        if day % 20 == 13:
            self.books.deposit(5_000_000, buyer_id=self._jobs[job_id], reference=f"later-{day}")
        if day % 25 == 17:
            self.pay_out(f"run-{day}", comes_back=day % 50 == 42)
        if day % 40 == 31:
            self.move(TransferCode.REFUND, self._jobs[job_id], "bank:main", 1_234_567)
        if day % 30 == 29:
            self.move(TransferCode.GOODWILL, "x:goodwill", chance.choice(OWNERS), 42)
            self.correct("fee:pool", self._jobs[job_id], 3)

    def work(self, owner_id: str, job_id: int, *, work_uwu: int, price: int, payer: Payer = Payer.JOB) -> int:
        """One verified attempt; returns its gross."""
        self._attempt += 1
        gross = int(work_price_micros(work_uwu, price))
        [pending] = self.books.fund(
            [self._attempt], owner_id=owner_id, job_id=job_id, amount_micros=gross, payer=payer
        )
        self.books.settle(
            [
                AttemptSettlement(
                    attempt_id=self._attempt,
                    pending_transfer_id=pending,
                    owner_id=owner_id,
                    vehicle_id=f"vehicle_{owner_id[-3:]}",
                    job_id=job_id,
                    task_index=self._attempt,
                    program_sha256=hashlib.sha256(b"program").hexdigest(),
                    output_digest=hashlib.sha256(str(self._attempt).encode()).digest(),
                    work_uwu=work_uwu,
                    price_micros_per_wu=price,
                    gross_micros=gross,
                )
            ]
        )
        return gross

    def pay_out(self, key: str, *, comes_back: bool = False) -> None:
        """A run over all owners, approved at once; its first row may come back from the bank."""
        now_us = self.books.now_us
        view = self.books.run(
            lambda uow: plan_payout(uow, operator_id="operator_1", idempotency_key=key, now_us=now_us)
        )
        self.books.run(
            lambda uow: approve_payout(
                uow,
                payout_id=view.run.payout_id,
                operator_id="operator_2",
                expected_total_micros=view.run.total_micros,
                now_us=now_us,
            )
        )
        self.books.run(
            lambda uow: export_payout(
                uow,
                payout_id=view.run.payout_id,
                operator_id="operator_1",
                rail=CsvRail(),
                now_us=now_us,
            )
        )
        if view.rows and comes_back:
            self._hear_of(view.rows[0])

    def _hear_of(self, row: PayoutRow) -> None:
        """The bank says that a payment was not made."""
        amount = amounts.decimal(row.amount_micros, decimals=2)
        content = f"reference,status,amount,currency,reason\r\n{row.reference},rejected,{amount},EUR,AC04\r\n"
        self.books.run(
            lambda uow: import_status(
                uow,
                report=status_csv.read(content.encode()),
                content=content.encode(),
                file_name="bank.csv",
                operator_id="operator_1",
                now_us=self.books.now_us,
            )
        )

    def end_job(self, job_id: int) -> None:
        """Send a job's rest back to its buyer."""
        buyer_id = self._jobs[job_id]
        self.books.run(
            lambda uow: release_job(uow, buyer_id=buyer_id, job_id=job_id, now_us=self.books.now_us)
        )

    def correct(self, debit: str, credit: str, amount_micros: int) -> None:
        """An entry by hand, proposed by one operator and approved by another."""
        self._serial += 1
        wish = ProposeEntry(
            code="correction",
            debit_account=_spec(debit).name,
            credit_account=_spec(credit).name,
            amount_micros=amount_micros,
            reason="booked wrongly",
            idempotency_key=f"entry-{self._serial}",
        )
        now_us = self.books.now_us
        entry = self.books.run(lambda uow: propose_entry(uow, wish, operator_id="operator_1", now_us=now_us))
        self.books.run(
            lambda uow: approve_entry(
                uow,
                entry_id=entry.entry_id,
                operator_id="operator_2",
                expected_amount_micros=amount_micros,
                now_us=now_us,
            )
        )

    def move(self, code: TransferCode, debit: str, credit: str, amount_micros: int) -> None:
        """A transfer by hand between two of: a buyer, an owner, a pool's account."""
        specs = [_spec(debit), _spec(credit)]

        def book(uow: UnitOfWork) -> None:
            by_name = open_accounts(uow, specs, now_us=self.books.now_us)
            request = TransferRequest(
                kind=TransferKind.SINGLE.value,
                code=code.value,
                debit_account_id=by_name[specs[0].name].account_id,
                credit_account_id=by_name[specs[1].name].account_id,
                amount_micros=amount_micros,
            )
            transfer(uow, [request], by_name.values(), now_us=self.books.now_us)

        self.books.run(book)


def _spec(name: str) -> AccountSpec:
    if name.startswith("owner_"):
        return chart.owner_available(name)
    if name.startswith("buyer_"):
        return chart.buyer_available(name)
    pool = (chart.BANK, chart.POOL_FEE, chart.PAYOUT_CLEARING, chart.GOODWILL)
    known = {spec.name: spec for spec in pool}
    return known[name]


@dataclass(frozen=True)
class Posting:
    """What one transfer moved, by the names of the accounts."""

    at_us: int
    code: int
    debit: str
    credit: str
    amount_micros: int


class Accountant:
    """Sums up postings; knows nothing of receipts, reports or queries."""

    def __init__(self, books: Books) -> None:
        """Read the whole log once."""
        names, postings = books.run(
            lambda uow: (
                {account.account_id: account.name for account, _, _ in uow.ledger.all_accounts()},
                list(uow.ledger.all_transfers()),
            )
        )
        swept = books.run(
            lambda uow: {
                account.name: account.sweep_to_account_id
                for account, _, _ in uow.ledger.all_accounts()
                if account.sweep_to_account_id
            }
        )
        self._buyer_of_escrow = {
            escrow: names[buyer].removeprefix("buyer:").split(":")[0] for escrow, buyer in swept.items()
        }
        self.postings = [
            Posting(
                row.recorded_at_us,
                row.code,
                names[row.debit_account_id],
                names[row.credit_account_id],
                row.amount_micros,
            )
            for row in postings
            if row.kind in (TransferKind.SINGLE, TransferKind.POST)
        ]

    def party(self, name: str) -> str:
        """Whose money is in an account: an owner's or a buyer's id, else the account's name."""
        if name.startswith(("owner:", "buyer:")):
            return name.split(":")[1]
        return self._buyer_of_escrow.get(name, name)

    def between(self, from_us: int, until_us: int) -> Iterator[Posting]:
        """The postings of a time range."""
        return (one for one in self.postings if from_us <= one.at_us < until_us)

    def crossing(self, party: str, from_us: int, until_us: int) -> dict[int, int]:
        """By code, what came to a party from others, minus what went to them."""
        sums: dict[int, int] = defaultdict(int)
        for one in self.between(from_us, until_us):
            debit, credit = self.party(one.debit), self.party(one.credit)
            if debit != credit and party in (debit, credit):
                sums[one.code] += one.amount_micros if credit == party else -one.amount_micros
        return dict(sums)

    def balance(self, party: str, before_us: int) -> int:
        """All that a party had before a time."""
        return sum(self.crossing(party, 0, before_us).values())

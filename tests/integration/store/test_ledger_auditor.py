"""The ledger in a real database against its independent auditor; `make ledger-audit` does it at full size."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Engine

from pool_server.app.books_export import JournalFormat
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger import decision as core
from pool_server.core.ledger.model import Decision, LedgerState, Outcome, TransferRequest
from pool_server.store.engine import open_engine
from pool_server.store.schema import create_all
from tests.support import databases, ledger_audit
from tests.support.accounting import complaint, write_journal
from tests.support.ledger_audit import LedgerAudit
from tests.support.ledger_paper import MOST, PENDING, POST, SINGLE, VOID
from tests.support.ledger_workload import Workload

OPERATIONS = 3_000
OPERATIONS_ON_POSTGRESQL = 400


def empty_books(url: str) -> LedgerAudit:
    engine = open_engine(url)
    create_all(engine)
    return LedgerAudit(engine, commands_per_commit=50)


@cache
def schema_in_memory() -> Engine:
    engine = open_engine("sqlite://")
    create_all(engine)
    return engine


def empty_books_in_memory() -> LedgerAudit:
    """Copy a schema, which is quicker by far than to make it."""
    engine = open_engine("sqlite://")
    with schema_in_memory().connect() as made, engine.connect() as empty:
        source: Any = made.connection.dbapi_connection
        source.backup(empty.connection.dbapi_connection)
    return LedgerAudit(engine, commands_per_commit=50)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> LedgerAudit:
    """Books that have seen a few thousand random operations, each of them predicted."""
    audit = empty_books(f"sqlite:///{tmp_path_factory.mktemp('audit') / 'ledger.sqlite3'}")
    workload = Workload.of_seed(audit, 1)
    workload.begin()
    workload.run(OPERATIONS, check_every=500)
    return audit


def test_every_answer_is_predicted_and_every_outcome_occurs(
    audited: LedgerAudit,
) -> None:
    assert {outcome.value for outcome in Outcome} <= {word for _, word in audited.counts}
    assert sum(audited.counts.values()) >= OPERATIONS


def test_the_books_check_afterwards(audited: LedgerAudit) -> None:
    report = audited.check()

    assert [check for check in report.checks if not check.ok] == []
    assert report.transfer_count == audited.paper.transfers > 0


@pytest.mark.parametrize("program", [JournalFormat.BEANCOUNT, JournalFormat.HLEDGER])
def test_the_journals_are_accepted_afterwards(
    audited: LedgerAudit, program: JournalFormat, tmp_path: Path
) -> None:
    with audited.reading() as uow:
        path = write_journal(uow, program, tmp_path / "books")

    assert complaint(program, path) == ""


def test_every_answer_is_predicted_on_postgresql_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(databases.CHOICE, "postgresql")
    audit = LedgerAudit(databases.open_at(tmp_path / "ledger"), commands_per_commit=50)
    workload = Workload.of_seed(audit, 2)
    workload.begin()

    workload.run(OPERATIONS_ON_POSTGRESQL, check_every=300)

    assert audit.check().ok
    assert audit.paper.transfers > 50


Decide = Callable[..., Decision]


def forgets_what_is_reserved(state: LedgerState, requests: Any, *, now_us: int) -> Decision:
    accounts = {
        number: replace(account, debits_pending_micros=0) for number, account in state.accounts.items()
    }
    return core.decide(replace(state, accounts=accounts), requests, now_us=now_us)


def forgets_ids(state: LedgerState, requests: Any, *, now_us: int) -> Decision:
    decision = core.decide(replace(state, keys={}), requests, now_us=now_us)
    known = [record for record in decision.keys if record.key not in state.keys]
    return replace(decision, keys=tuple(known))


def forgets_what_failed(state: LedgerState, requests: Any, *, now_us: int) -> Decision:
    decision = core.decide(state, requests, now_us=now_us)
    return replace(decision, keys=tuple(record for record in decision.keys if not record.failed))


def pays_after_the_time(state: LedgerState, requests: Any, *, now_us: int) -> Decision:
    pendings = {number: pending._replace(expires_at_us=0) for number, pending in state.pendings.items()}
    return core.decide(replace(state, pendings=pendings), requests, now_us=now_us)


def unlinks_chains(state: LedgerState, requests: Any, *, now_us: int) -> Decision:
    return core.decide(state, [request._replace(linked=False) for request in requests], now_us=now_us)


@pytest.mark.parametrize(
    "mutant",
    [forgets_what_is_reserved, forgets_ids, forgets_what_failed, pays_after_the_time, unlinks_chains],
)
def test_the_auditor_notices_a_ledger_that(mutant: Decide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_audit, "decide", mutant)
    workload = Workload.of_seed(empty_books_in_memory(), 3)
    workload.begin()

    # By the paper, or by the schema, which has the limits too.
    with pytest.raises(Exception, match=r"the paper|the schema refused"):
        workload.run(OPERATIONS)


AMOUNTS = st.sampled_from([0, 1, 2, 7, 60, MOST // 2, MOST])
KEYS = st.sampled_from(["", "", "", "a", "b", "c"])
LASTS_US = st.sampled_from([0, 0, -5, 50, 500])


class LedgerMachine(RuleBasedStateMachine):
    """Commands in any order, over a real schema in memory; Hypothesis shows the shortest way to a fault."""

    @initialize()
    def start(self) -> None:
        self.audit = empty_books_in_memory()
        capped = replace(chart.bank("capped"), credits_must_not_exceed_debits=True)
        self.bank, self.buyer, self.owner, self.capped = (
            self.audit.open_account(spec)
            for spec in (chart.BANK, chart.buyer_available("b"), chart.owner_available("o"), capped)
        )
        self.escrow = self.audit.open_account(chart.job_escrow(1, buyer_account_id=self.buyer))
        self.numbers = [self.bank, self.buyer, self.owner, self.capped, self.escrow, 99]
        self.reference = 0

    def move(self, draw: Callable[[Any], Any], kind: int) -> TransferRequest:
        debit, credit = draw(st.sampled_from(self.numbers)), draw(st.sampled_from(self.numbers))
        lasts_us, expires_at_us = draw(LASTS_US), 0
        if kind == PENDING:
            self.reference += 1
            # Nothing is ever promised to an escrow: it could not close.
            credit = self.buyer if credit == self.escrow else credit
            if lasts_us:
                expires_at_us = max(self.audit.now_us, self.audit.paper.time_us) + lasts_us
        return TransferRequest(
            kind,
            100,
            debit,
            credit,
            draw(AMOUNTS),
            0,
            self.reference if kind == PENDING else 0,
            expires_at_us=expires_at_us,
            key=draw(KEYS),
            balancing_debit=draw(st.integers(0, 5)) == 5,
        )

    def resolution(self, draw: Callable[[Any], Any]) -> TransferRequest:
        pending_id = draw(st.sampled_from([*self.audit.paper.promises, 99]))
        if draw(st.booleans()):
            return TransferRequest(POST, 100, 0, 0, draw(AMOUNTS), pending_id, key=draw(KEYS))
        return TransferRequest(VOID, draw(st.sampled_from([320, 330])), 0, 0, 0, pending_id, key=draw(KEYS))

    @rule(us=st.integers(-50, 200))
    def clock_moves(self, us: int) -> None:
        self.audit.move_clock(us)

    @rule(amount=st.integers(1, 60))
    def deposit(self, amount: int) -> None:
        self.audit.submit([TransferRequest(SINGLE, 100, self.bank, self.buyer, amount)])

    @rule(amount=st.integers(1, 60))
    def reserve_for_a_job(self, amount: int) -> None:
        self.audit.submit([TransferRequest(SINGLE, 200, self.buyer, self.escrow, amount)])

    @rule(data=st.data(), length=st.integers(1, 4), chained=st.booleans(), is_open=st.booleans())
    def batch(self, *, data: st.DataObject, length: int, chained: bool, is_open: bool) -> None:
        requests = []
        for _ in range(length):
            kind = data.draw(st.sampled_from([SINGLE, PENDING, POST]))
            request = self.resolution(data.draw) if kind == POST else self.move(data.draw, kind)
            requests.append(request._replace(linked=chained))
        if not is_open:
            requests[-1] = requests[-1]._replace(linked=False)
        self.audit.submit(requests)

    @rule(limit=st.sampled_from([1, 100]))
    def sweep(self, limit: int) -> None:
        self.audit.sweep(limit)

    @rule()
    def end_the_job(self) -> None:
        self.audit.end_escrow(self.escrow)

    @invariant()
    def the_books_are_as_on_paper(self) -> None:
        self.audit.compare_all()

    def teardown(self) -> None:
        # What an escrow got back by a void outside the pool's commands follows when it is ended again.
        self.audit.end_escrow(self.escrow)
        wrong = {check.name for check in self.audit.check().checks if not check.ok}
        assert not wrong - CHECKS_OF_THE_CHART, wrong


#: These requests move money between any two accounts.
CHECKS_OF_THE_CHART = {"transfers_follow_the_chart"}
LedgerMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
TestLedgerInTheDatabase = LedgerMachine.TestCase

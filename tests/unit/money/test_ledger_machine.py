"""The ledger's core against an auditor: a second, tiny model that keeps balances and nothing else.

Hypothesis drives both with the same random commands, batches and times. Every answer is predicted, and after
every step the counters of both agree and re-derive from the log.
"""

from dataclasses import dataclass, field, replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pool_server.core.ledger.audit import AccountsAudit, LogAudit, all_ok, check_open_pendings
from pool_server.core.ledger.chain import EMPTY_HEAD, GENESIS_HASH, account_bytes, next_hash
from pool_server.core.ledger.decision import decide
from pool_server.core.ledger.model import (
    Account,
    AccountCode,
    AccountSpec,
    AccountState,
    Decision,
    KeyRecord,
    LedgerHead,
    LedgerState,
    Outcome,
    PendingTransfer,
    TransferCode,
    TransferKind,
    TransferRequest,
    TransferRow,
)

BANK, BUYER, ESCROW, OWNER, CAPPED = range(1, 6)
LIMITED = {BUYER, ESCROW, OWNER}
SPECS = {
    BANK: AccountSpec(name="bank", code=AccountCode.BANK, debits_must_not_exceed_credits=False),
    BUYER: AccountSpec(name="buyer", code=AccountCode.BUYER_AVAILABLE),
    ESCROW: AccountSpec(name="escrow", code=AccountCode.JOB_ESCROW),
    OWNER: AccountSpec(name="owner", code=AccountCode.OWNER_HELD),
    CAPPED: AccountSpec(
        name="capped",
        code=AccountCode.VERIFICATION,
        debits_must_not_exceed_credits=False,
        credits_must_not_exceed_debits=True,
    ),
}
AMOUNTS = st.integers(1, 60)
ACCOUNTS = st.sampled_from(sorted(SPECS))


@dataclass
class Hold:
    """What the auditor knows of a pending transfer."""

    debit: int
    credit: int
    amount: int
    expires_at_us: int
    is_open: bool = True


@dataclass
class Auditor:
    """Money as a person would keep it on paper: what each account has, and what is promised away."""

    has: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SPECS, 0))
    promised: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SPECS, 0))
    expected: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SPECS, 0))
    holds: dict[int, Hold] = field(default_factory=dict)
    transfers: int = 0

    def may_move(self, debit: int, credit: int, amount: int) -> bool:
        if debit == credit:
            return False
        if debit in LIMITED and self.has[debit] - self.promised[debit] < amount:
            return False
        return credit != CAPPED or self.has[credit] + self.expected[credit] + amount <= 0

    def move(self, debit: int, credit: int, amount: int) -> bool:
        if not self.may_move(debit, credit, amount):
            return False
        self.has[debit] -= amount
        self.has[credit] += amount
        self.transfers += 1
        return True

    def hold(self, debit: int, credit: int, amount: int, expires_at_us: int) -> bool:
        if not self.may_move(debit, credit, amount):
            return False
        self.promised[debit] += amount
        self.expected[credit] += amount
        self.transfers += 1
        self.holds[self.transfers] = Hold(debit, credit, amount, expires_at_us)
        return True

    def resolve(self, hold_id: int, amount: int) -> None:
        hold = self.holds[hold_id]
        hold.is_open = False
        self.promised[hold.debit] -= hold.amount
        self.expected[hold.credit] -= hold.amount
        self.has[hold.debit] -= amount
        self.has[hold.credit] += amount
        self.transfers += 1


class LedgerMachine(RuleBasedStateMachine):
    """Commands in any order."""

    @initialize()
    def start(self) -> None:
        self.now_us = 1_000
        self.auditor = Auditor()
        self.head: LedgerHead = EMPTY_HEAD
        self.accounts = {
            account_id: Account(
                account_id=account_id,
                name=spec.name,
                code=spec.code,
                state=AccountState.OPEN,
                debits_must_not_exceed_credits=spec.debits_must_not_exceed_credits,
                credits_must_not_exceed_debits=spec.credits_must_not_exceed_debits,
                sweep_to_account_id=0,
            )
            for account_id, spec in SPECS.items()
        }
        self.pendings: dict[int, PendingTransfer] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.log: list[TransferRow] = []

    def run(self, *requests: TransferRequest) -> list[Outcome]:
        state = LedgerState(head=self.head, accounts=self.accounts, pendings=self.pendings, keys=self.keys)
        decision = decide(state, requests, now_us=self.now_us)
        self._store(decision)
        return [answer.outcome for answer in decision.answers]

    def _store(self, decision: Decision) -> None:
        for row in decision.rows:
            self.log.append(row)
            if row.kind == TransferKind.PENDING:
                self.pendings[row.transfer_id] = PendingTransfer(
                    row.transfer_id,
                    row.debit_account_id,
                    row.credit_account_id,
                    row.amount_micros,
                    row.reference_id,
                    0,
                    row.expires_at_us or 0,
                    0,
                    0,
                )
            elif row.pending_id:
                resolved = self.pendings[row.pending_id]
                self.pendings[row.pending_id] = resolved._replace(
                    resolved_kind=row.kind, resolved_code=row.code
                )
        if decision.rows:
            last = decision.rows[-1]
            self.head = LedgerHead(
                transfer_id=last.transfer_id, chain_hash=last.chain_hash, recorded_at_us=last.recorded_at_us
            )
        for delta in decision.deltas:
            before = self.accounts[delta.account_id]
            self.accounts[delta.account_id] = replace(
                before,
                debits_pending_micros=before.debits_pending_micros + delta.debits_pending_micros,
                debits_posted_micros=before.debits_posted_micros + delta.debits_posted_micros,
                credits_pending_micros=before.credits_pending_micros + delta.credits_pending_micros,
                credits_posted_micros=before.credits_posted_micros + delta.credits_posted_micros,
            )
        self.keys.update({record.key: record for record in decision.keys})

    @rule(us=st.integers(-50, 200))
    def clock_moves(self, us: int) -> None:
        self.now_us = max(1, self.now_us + us)

    @rule(amount=AMOUNTS)
    def deposit(self, amount: int) -> None:
        assert self.auditor.move(BANK, BUYER, amount)
        assert self.run(TransferRequest(0, 100, BANK, BUYER, amount)) == [Outcome.CREATED]

    @rule(debit=ACCOUNTS, credit=ACCOUNTS, amount=AMOUNTS)
    def transfer(self, debit: int, credit: int, amount: int) -> None:
        [outcome] = self.run(TransferRequest(0, 700, debit, credit, amount))
        assert (outcome is Outcome.CREATED) == self.auditor.move(debit, credit, amount)

    @rule(debit=ACCOUNTS, credit=ACCOUNTS, amount=AMOUNTS, lasts_us=st.sampled_from([0, 50, 500]))
    def reserve(self, debit: int, credit: int, amount: int, lasts_us: int) -> None:
        ledger_now = max(self.now_us, self.head.recorded_at_us)
        expires = ledger_now + lasts_us if lasts_us else 0
        [outcome] = self.run(TransferRequest(1, 300, debit, credit, amount, expires_at_us=expires))
        assert (outcome is Outcome.CREATED) == self.auditor.hold(debit, credit, amount, expires)

    @rule(data=st.data(), is_post=st.booleans(), amount=AMOUNTS, expired_code=st.booleans())
    def resolve(self, *, data: st.DataObject, is_post: bool, amount: int, expired_code: bool) -> None:
        if not self.auditor.holds:
            return
        hold_id = data.draw(st.sampled_from(sorted(self.auditor.holds)))
        hold = self.auditor.holds[hold_id]
        code = TransferCode.EXPIRED if expired_code else TransferCode.REJECTED
        request = (
            TransferRequest(2, 310, amount_micros=amount, pending_id=hold_id)
            if is_post
            else TransferRequest(3, code, pending_id=hold_id)
        )
        ledger_now = max(self.now_us, self.head.recorded_at_us)
        timed_out = 0 < hold.expires_at_us <= ledger_now
        may = hold.is_open and not (timed_out and (is_post or not expired_code))
        may = may and not (is_post and amount > hold.amount)

        [outcome] = self.run(request)

        assert (outcome is Outcome.CREATED) == may
        if may:
            self.auditor.resolve(hold_id, amount if is_post else 0)

    @rule(first=AMOUNTS, second=AMOUNTS)
    def linked(self, first: int, second: int) -> None:
        """Buyer -> escrow and escrow -> owner, both or neither."""
        can_first = self.auditor.may_move(BUYER, ESCROW, first)
        escrow_free = self.auditor.has[ESCROW] - self.auditor.promised[ESCROW]
        may = can_first and escrow_free + first >= second
        answers = self.run(
            TransferRequest(0, 200, BUYER, ESCROW, first, linked=True),
            TransferRequest(0, 700, ESCROW, OWNER, second),
        )
        assert (answers == [Outcome.CREATED, Outcome.CREATED]) == may
        if may:
            assert self.auditor.move(BUYER, ESCROW, first)
            assert self.auditor.move(ESCROW, OWNER, second)

    @rule(key=st.sampled_from("abc"), amount=st.integers(1, 3))
    def keyed(self, key: str, amount: int) -> None:
        before = self.keys.get(key)
        was = len(self.log)
        [outcome] = self.run(TransferRequest(0, 200, BUYER, ESCROW, amount, key=key))
        if before is None:
            assert (outcome is Outcome.CREATED) == self.auditor.move(BUYER, ESCROW, amount)
        else:
            assert outcome in (Outcome.EXISTS, Outcome.EXISTS_WITH_DIFFERENT, Outcome.ID_ALREADY_FAILED)
            assert before.failed == (outcome is Outcome.ID_ALREADY_FAILED)
            assert len(self.log) == was

    @invariant()
    def agrees_with_the_auditor(self) -> None:
        for account_id, account in self.accounts.items():
            assert account.balance_micros == self.auditor.has[account_id]
            assert account.debits_pending_micros == self.auditor.promised[account_id]
            assert account.credits_pending_micros == self.auditor.expected[account_id]
        assert len(self.log) == self.auditor.transfers

    @invariant()
    def the_books_check(self) -> None:
        log = LogAudit()
        for row in self.log:
            log.take(row)
        accounts = AccountsAudit(log)
        chain_hash = GENESIS_HASH
        for account_id, account in self.accounts.items():
            chain_hash = next_hash(chain_hash, account_bytes(account_id, SPECS[account_id], opened_at_us=1))
            accounts.take(account, 1, chain_hash)
        checks = [*log.checks(), *accounts.checks(), check_open_pendings(log, expired_through_us=0)]
        assert all_ok(checks), [check for check in checks if not check.ok]
        assert accounts.sum_micros == 0


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLedger = LedgerMachine.TestCase

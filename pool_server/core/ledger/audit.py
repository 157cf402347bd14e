"""Re-derives the books from their log and says what does not fit. Pure; trusts no stored counter or hash.

It shares no arithmetic with `decision`: what one of them gets wrong, the other one shows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pool_server.core.ledger.chain import (
    EMPTY_HEAD,
    GENESIS_HASH,
    account_bytes,
    canonical_bytes,
    next_hash,
)
from pool_server.core.ledger.chart import FLOWS
from pool_server.core.ledger.model import (
    Account,
    AccountCode,
    AccountSpec,
    AccountState,
    TransferCode,
    TransferKind,
    TransferRow,
)

_BANK_SIDE = (TransferCode.PAYOUT_SETTLED, TransferCode.PAYOUT_RETURNED, TransferCode.PAYOUT_ROUNDING)
#: Problems listed per check; the count is always complete.
PROBLEMS_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One invariant and whether it holds."""

    name: str
    ok: bool
    detail: str
    """Figures, or the first few things that are wrong."""


@dataclass(slots=True)
class Finding:
    """Collects what is wrong with one invariant."""

    name: str
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0

    def add(self, problem: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_SHOWN:
            self.problems.append(problem)

    def check(self, figures: str) -> Check:
        """Return the verdict; `figures` says what was looked at."""
        if self.problem_count == 0:
            return Check(name=self.name, ok=True, detail=figures)
        return Check(
            name=self.name,
            ok=False,
            detail=f"{self.problem_count} problems in {figures}: {'; '.join(self.problems)}",
        )


@dataclass(slots=True)
class _Open:
    debit_account_id: int
    credit_account_id: int
    amount_micros: int
    expires_at_us: int


class LogAudit:
    """Folds the log, row by row, into what the counters must be."""

    def __init__(self) -> None:
        """Start with empty books."""
        self.transfer_count = 0
        self.recorded_at_us = 0
        self.open_pendings: dict[int, _Open] = {}
        self.counters: dict[int, list[int]] = {}
        self.payouts: Counter[int] = Counter()
        """Code-500 micros by payout run."""
        self.bank_side: Counter[tuple[int, int]] = Counter()
        """Code-505, code-510 and code-530 micros by code and payout run."""
        self.fees: Counter[int] = Counter()
        """Code-311 micros by receipt batch."""
        self.released: Counter[int] = Counter()
        """Code-400 and code-420 micros by credit account."""
        self.clawed_back: Counter[int] = Counter()
        """Code-430 micros by attempt."""
        self.appealed: Counter[int] = Counter()
        """Code-440 micros by attempt."""
        self._chain_hash = EMPTY_HEAD.chain_hash
        self._sequence = Finding("sequence_has_no_gap")
        self._chain = Finding("hash_chain_holds")
        self._time = Finding("time_never_goes_back")
        self._pending = Finding("pending_resolved_once")

    def take(self, row: TransferRow) -> None:
        """Take the next row of the log."""
        self.transfer_count += 1
        if row.transfer_id != self.transfer_count:
            self._sequence.add(f"transfer {row.transfer_id} stands at place {self.transfer_count}")
        if row.canonical != canonical_bytes(row):
            self._chain.add(f"transfer {row.transfer_id} is not what its canonical bytes say")
        if row.chain_hash != next_hash(self._chain_hash, row.canonical):
            self._chain.add(f"transfer {row.transfer_id} does not follow from the one before")
        self._chain_hash = row.chain_hash
        if row.recorded_at_us < self.recorded_at_us:
            self._time.add(f"transfer {row.transfer_id} is older than the one before")
        self.recorded_at_us = max(self.recorded_at_us, row.recorded_at_us)
        self._move(row)
        if row.code == TransferCode.PAYOUT:
            self.payouts[row.reference_id] += row.amount_micros
        elif row.code in _BANK_SIDE:
            self.bank_side[row.code, row.reference_id] += row.amount_micros
        elif row.code == TransferCode.FEE:
            self.fees[row.reference_id] += row.amount_micros
        elif row.code in (TransferCode.AVAILABLE, TransferCode.UPHELD):
            self.released[row.credit_account_id] += row.amount_micros
        elif row.code == TransferCode.CLAWED_BACK:
            self.clawed_back[row.reference_id] += row.amount_micros
        elif row.code == TransferCode.APPEALED:
            self.appealed[row.reference_id] += row.amount_micros

    def checks(self) -> list[Check]:
        """Return what the log alone shows."""
        figures = f"{self.transfer_count} transfers"
        return [
            self._sequence.check(figures),
            self._chain.check(figures),
            self._time.check(figures),
            self._pending.check(f"{figures}, {len(self.open_pendings)} pending open"),
        ]

    def _move(self, row: TransferRow) -> None:
        debit = self.counters.setdefault(row.debit_account_id, [0, 0, 0, 0])
        credit = self.counters.setdefault(row.credit_account_id, [0, 0, 0, 0])
        if row.kind == TransferKind.SINGLE:
            debit[1] += row.amount_micros
            credit[3] += row.amount_micros
            return
        if row.kind == TransferKind.PENDING:
            debit[0] += row.amount_micros
            credit[2] += row.amount_micros
            self.open_pendings[row.transfer_id] = _Open(
                row.debit_account_id, row.credit_account_id, row.amount_micros, row.expires_at_us or 0
            )
            return
        pending = self.open_pendings.pop(row.pending_id or 0, None)
        if pending is None:
            self._pending.add(f"transfer {row.transfer_id} resolves {row.pending_id}, which is not open")
            return
        sides = (row.debit_account_id, row.credit_account_id)
        if sides != (pending.debit_account_id, pending.credit_account_id):
            self._pending.add(f"transfer {row.transfer_id} has other accounts than {row.pending_id}")
        if row.amount_micros > pending.amount_micros:
            self._pending.add(f"transfer {row.transfer_id} is more than {row.pending_id} reserved")
        debit[0] -= pending.amount_micros
        credit[2] -= pending.amount_micros
        if row.kind == TransferKind.POST:
            debit[1] += row.amount_micros
            credit[3] += row.amount_micros


def _counters(account: Account) -> list[int]:
    return [
        account.debits_pending_micros,
        account.debits_posted_micros,
        account.credits_pending_micros,
        account.credits_posted_micros,
    ]


class AccountsAudit:
    """Holds the accounts against the folded log and against their own rules."""

    def __init__(self, log: LogAudit) -> None:
        """Start; `log` has taken the whole log."""
        self.account_count = 0
        self.by_code: Counter[int] = Counter()
        """Balance micros (credits minus debits) by account code."""
        self.sum_micros = 0
        """Sum of all debits minus all credits."""
        self._log = log
        self._chain_hash = GENESIS_HASH
        self._sums = [0, 0, 0, 0]
        self._unseen = set(log.counters)
        self._chain = Finding("account_chain_holds")
        self._match = Finding("counters_match_log")
        self._limits = Finding("limits_hold")
        self._ended = Finding("ended_escrows_are_empty")

    def take(self, account: Account, opened_at_us: int, chain_hash: bytes) -> None:
        """Take the next account."""
        self.account_count += 1
        self._unseen.discard(account.account_id)
        spec = AccountSpec(
            name=account.name,
            code=AccountCode(account.code),
            debits_must_not_exceed_credits=account.debits_must_not_exceed_credits,
            credits_must_not_exceed_debits=account.credits_must_not_exceed_debits,
            sweep_to_account_id=account.sweep_to_account_id,
        )
        expected = next_hash(
            self._chain_hash, account_bytes(account.account_id, spec, opened_at_us=opened_at_us)
        )
        if chain_hash != expected:
            self._chain.add(f"{account.name} does not follow from the one before")
        self._chain_hash = chain_hash
        counters = _counters(account)
        derived = self._log.counters.get(account.account_id, [0, 0, 0, 0])
        if counters != derived:
            self._match.add(f"{account.name} has {counters}, the log says {derived}")
        for position, value in enumerate(counters):
            self._sums[position] += value
        self.by_code[account.code] += account.balance_micros
        self.sum_micros -= account.balance_micros
        self._check_limits(account)
        self._check_ended(account)

    def checks(self) -> list[Check]:
        """Return what the accounts show."""
        for account_id in sorted(self._unseen):
            self._match.add(f"the log names account {account_id}, which does not exist")
        figures = f"{self.account_count} accounts"
        pending_out, posted_out, pending_in, posted_in = self._sums
        balance = Finding("debits_equal_credits")
        if (pending_out, posted_out) != (pending_in, posted_in):
            balance.add(f"pending {pending_out} != {pending_in} or posted {posted_out} != {posted_in}")
        total = Finding("sum_is_zero")
        if self.sum_micros:
            total.add(f"the balances add up to {-self.sum_micros}")
        return [
            balance.check(f"posted {posted_out}, pending {pending_out} micros on each side"),
            total.check(f"sum {self.sum_micros} micros over {figures}"),
            self._match.check(figures),
            self._chain.check(figures),
            self._limits.check(figures),
            self._ended.check(figures),
        ]

    def _check_limits(self, account: Account) -> None:
        debits = account.debits_pending_micros + account.debits_posted_micros
        credits_ = account.credits_pending_micros + account.credits_posted_micros
        if min(_counters(account)) < 0:
            self._limits.add(f"{account.name} has a negative counter")
        if account.debits_must_not_exceed_credits and debits > account.credits_posted_micros:
            self._limits.add(f"{account.name} is overdrawn by {debits - account.credits_posted_micros}")
        if account.credits_must_not_exceed_debits and credits_ > account.debits_posted_micros:
            self._limits.add(f"{account.name} is overpaid by {credits_ - account.debits_posted_micros}")

    def _check_ended(self, account: Account) -> None:
        if account.state == AccountState.DRAINING and account.free_micros:
            self._ended.add(f"{account.name} has ended and still holds {account.free_micros}")
        if account.state == AccountState.CLOSED and (
            account.balance_micros or account.debits_pending_micros or account.credits_pending_micros
        ):
            self._ended.add(f"{account.name} is closed and not empty")


class ChartAudit:
    """Holds every transfer that moves or reserves money against the chart of accounts."""

    def __init__(self, codes: Mapping[int, int]) -> None:
        """Start; `codes` has the code of every account."""
        self._codes = codes
        self._flows = {
            (code.value, debit.value, credit.value)
            for code, pairs in FLOWS.items()
            for debit, credit in pairs
        }
        self._count = 0
        self._finding = Finding("transfers_follow_the_chart")

    def take(self, row: TransferRow) -> None:
        """Take the next row of the log; a void moves nothing."""
        if row.kind == TransferKind.VOID:
            return
        self._count += 1
        debit, credit = (
            self._codes.get(row.debit_account_id, 0),
            self._codes.get(row.credit_account_id, 0),
        )
        if (row.code, debit, credit) not in self._flows:
            self._finding.add(f"transfer {row.transfer_id} of code {row.code} goes from {debit} to {credit}")

    def check(self) -> Check:
        """Return the verdict."""
        return self._finding.check(f"{self._count} transfers that move or reserve money")


def check_open_pendings(log: LogAudit, *, expired_through_us: int) -> Check:
    """Check that no pending is open past the time up to which the sweeper has been."""
    finding = Finding("no_pending_open_past_expiry")
    for transfer_id, pending in log.open_pendings.items():
        if 0 < pending.expires_at_us <= expired_through_us:
            finding.add(f"transfer {transfer_id} timed out at {pending.expires_at_us}")
    return finding.check(f"{len(log.open_pendings)} open, swept through {expired_through_us}")


def open_amounts(log: LogAudit, pending_ids: Iterable[int]) -> dict[int, int]:
    """Return what these pending transfers reserve; 0 for those that are not open."""
    return {
        transfer_id: log.open_pendings[transfer_id].amount_micros if transfer_id in log.open_pendings else 0
        for transfer_id in pending_ids
    }


def check_equal(name: str, left: dict[str, int], right: dict[str, int], *, what: str) -> Check:
    """Check that two derivations of the same amounts agree, key by key; missing keys count as 0."""
    finding = Finding(name)
    for key in sorted(left.keys() | right.keys()):
        if left.get(key, 0) != right.get(key, 0):
            finding.add(f"{key}: {left.get(key, 0)} != {right.get(key, 0)}")
    return finding.check(what)


def all_ok(checks: Iterable[Check]) -> bool:
    """Say whether every invariant holds."""
    return all(check.ok for check in checks)

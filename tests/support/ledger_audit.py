"""A real ledger in a real database, and the paper beside it: every answer and every counter is compared.

Commands go through the pool's own doors: `decide` and the repository, `app.books.transfer` (all or nothing),
and the use cases that sweep. Several commands share a commit, each in a savepoint, as under group commit.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine

from pool_protocol.errors import PoolError
from pool_server.app.books import transfer
from pool_server.app.ledger_check import LedgerReport, check_ledger
from pool_server.app.money import expire_pending, release_job
from pool_server.core.ledger.decision import decide
from pool_server.core.ledger.model import (
    Account,
    AccountSpec,
    AccountState,
    Answer,
    LedgerState,
    PendingTransfer,
    TransferRequest,
)
from pool_server.store.unit_of_work import SqlUnitOfWork
from tests.support.books import TERMS, PlainIssuer
from tests.support.clock import START_US
from tests.support.ledger_paper import Paper, Reply, Sheet

T = TypeVar("T")
KINDS = ("single", "pending", "post", "void")
STATES = {AccountState.OPEN: "open", AccountState.DRAINING: "draining", AccountState.CLOSED: "closed"}


class LedgerAudit:
    """Drives both."""

    def __init__(self, engine: Engine, *, commands_per_commit: int = 1) -> None:
        """Begin with empty books, whose schema is there."""
        self.paper = Paper()
        self.now_us = START_US
        self.counts: Counter[tuple[str, str]] = Counter()
        """By operation and outcome."""
        self.commits = 0
        self.names: dict[int, str] = {}
        self._engine = engine
        self._commands_per_commit = commands_per_commit
        self._connection: Connection | None = None
        self._waiting = 0

    # --- operations ------------------------------------------------------------------------------

    def open_account(self, spec: AccountSpec) -> int:
        """Open an account in both and return its number."""

        def opening(uow: SqlUnitOfWork) -> int:
            uow.ledger.open_accounts([spec], now_us=self.now_us)
            return uow.ledger.accounts_by_name([spec.name])[spec.name].account_id

        number = self._run(opening)
        self.names[number] = spec.name
        self.paper.sheets[number] = Sheet(
            may_owe=not spec.debits_must_not_exceed_credits,
            may_be_overpaid=not spec.credits_must_not_exceed_debits,
            rest_goes_to=spec.sweep_to_account_id,
        )
        self.counts["open account", "created"] += 1
        return number

    def move_clock(self, us: int) -> None:
        """Move the clock, backwards too."""
        self.now_us = max(1, self.now_us + us)
        self.counts["clock jump", "back" if us < 0 else "forward"] += 1

    def submit(self, requests: Sequence[TransferRequest], *, all_or_nothing: bool = False) -> list[Reply]:
        """Ask both for a batch; return the answer that both gave."""
        if all_or_nothing:
            expected = self.paper.answer_all_or_nothing(requests, self.now_us)
            replies = self._run(lambda uow: self._all_or_nothing(uow, requests, expected))
        else:
            expected = self.paper.answer(requests, self.now_us)
            replies = self._run(lambda uow: self._as_decided(uow, requests))
        assert replies == expected, f"{list(requests)}: the ledger says {replies}, the paper {expected}"
        for request, (word, _) in zip(requests, expected, strict=True):
            self.counts[_operation(request), word] += 1
        self._compare_touched(requests)
        return replies

    def sweep(self, limit: int) -> int:
        """Let reservations time out."""
        ended = self.paper.expire(self.now_us, limit)
        count = self._run(lambda uow: expire_pending(uow, now_us=self.now_us, limit=limit))
        assert count == len(ended), f"the sweep ended {count} reservations, the paper {ended}"
        self.counts["sweep", "some expired" if ended else "none expired"] += 1
        promises = [self.paper.promises[number] for number in ended]
        self._compare({side for promise in promises for side in (promise.debit, promise.credit)})
        return count

    def end_escrow(self, number: int) -> int:
        """End a job's escrow."""
        home = self.paper.sheets[number].rest_goes_to
        expected = self.paper.end_escrow(number, self.now_us)
        buyer_id, job_id = self.names[home].split(":")[1], int(self.names[number].split(":")[1])
        returned = self._run(
            lambda uow: release_job(uow, buyer_id=buyer_id, job_id=job_id, now_us=self.now_us)
        )
        assert returned == expected, f"{self.names[number]} returned {returned}, the paper says {expected}"
        self.counts["end of escrow", self.paper.sheets[number].condition] += 1
        self._compare({number, home})
        return returned

    # --- what must hold --------------------------------------------------------------------------

    def compare_all(self) -> None:
        """Every counter and state of every account, and the length and time of the log."""
        self._compare(self.paper.sheets)

    def check(self) -> LedgerReport:
        """Commit, and check the database's books from their log."""
        with self.reading() as uow:
            return check_ledger(uow)

    @contextmanager
    def reading(self) -> Iterator[SqlUnitOfWork]:
        """Commit, and open the database for a reader."""
        self.commit()
        with self._engine.connect() as connection:
            yield self.uow(connection)

    def commit(self) -> None:
        """Make everything so far durable."""
        if self._connection is not None:
            self._connection.commit()
            self._connection.close()
            self._connection = None
            self._waiting = 0
            self.commits += 1

    def uow(self, connection: Connection) -> SqlUnitOfWork:
        """Make a unit of work on a connection."""
        return SqlUnitOfWork(connection, receipt_issuer=PlainIssuer(), terms=TERMS)

    # --- the ledger's side -----------------------------------------------------------------------

    def _run(self, command: Callable[[SqlUnitOfWork], T]) -> T:
        """Run a command in a savepoint of the transaction under way."""
        if self._connection is None:
            self._connection = self._engine.connect()
            self._connection.begin()
        connection = self._connection
        connection.exec_driver_sql("SAVEPOINT command")
        value = command(self.uow(connection))
        connection.exec_driver_sql("RELEASE SAVEPOINT command")
        self._waiting += 1
        if self._waiting >= self._commands_per_commit:
            self.commit()
        return value

    def _as_decided(self, uow: SqlUnitOfWork, requests: Sequence[TransferRequest]) -> list[Reply]:
        """Let the core decide, and write what it decided, refusals among it or not."""
        accounts, pendings = _loaded(uow, requests)
        keys = uow.ledger.keys([request.key for request in requests if request.key])
        state = LedgerState(head=uow.ledger.head(), accounts=accounts, pendings=pendings, keys=keys)
        decision = decide(state, requests, now_us=self.now_us)
        uow.ledger.append(decision)
        return [(answer.outcome.value, answer.transfer_id) for answer in decision.answers]

    def _all_or_nothing(
        self, uow: SqlUnitOfWork, requests: Sequence[TransferRequest], expected: list[Reply]
    ) -> list[Reply]:
        """Go through the door of the pool's own commands, and keep of a refusal what the writer keeps."""
        accounts, pendings = _loaded(uow, requests)
        answers: list[Answer] = []
        refused_as = ""
        try:
            answers = transfer(uow, requests, accounts.values(), now_us=self.now_us, pendings=pendings)
        except PoolError as refusal:
            uow.write_refusals()
            refused_as = refusal.context["outcome"]
        if refused_as:
            first = next(word for word, number in expected if number == 0)
            assert refused_as == first, f"refused as {refused_as}, the paper says {first}"
            return expected
        return [(answer.outcome.value, answer.transfer_id) for answer in answers]

    def _compare_touched(self, requests: Sequence[TransferRequest]) -> None:
        touched = {
            side for request in requests for side in (request.debit_account_id, request.credit_account_id)
        }
        for request in requests:
            if promise := self.paper.promises.get(request.pending_id):
                touched |= {promise.debit, promise.credit}
        self._compare(number for number in touched if number in self.paper.sheets)

    def _compare(self, numbers: Iterable[int]) -> None:
        wanted = sorted(numbers)

        def reading(uow: SqlUnitOfWork) -> None:
            accounts = uow.ledger.accounts(wanted)
            head = uow.ledger.head()
            for number in wanted:
                account, sheet = accounts[number], self.paper.sheets[number]
                counters = (
                    account.debits_pending_micros,
                    account.debits_posted_micros,
                    account.credits_pending_micros,
                    account.credits_posted_micros,
                )
                state = STATES[AccountState(account.state)]
                assert (counters, state) == (sheet.counters, sheet.condition), (
                    f"{account.name}: the ledger has {counters} {state}, "
                    f"the paper {sheet.counters} {sheet.condition}"
                )
            assert head.transfer_id == self.paper.transfers
            assert head.recorded_at_us == self.paper.time_us

        self._run(reading)


def _loaded(
    uow: SqlUnitOfWork, requests: Sequence[TransferRequest]
) -> tuple[dict[int, Account], dict[int, PendingTransfer]]:
    """Load what a batch touches."""
    pendings = uow.ledger.pendings([request.pending_id for request in requests if request.pending_id])
    sides = [(request.debit_account_id, request.credit_account_id) for request in requests]
    sides += [(found.debit_account_id, found.credit_account_id) for found in pendings.values()]
    return uow.ledger.accounts({number for pair in sides for number in pair}), pendings


def _operation(request: TransferRequest) -> str:
    name = KINDS[request.kind] if 0 <= request.kind < len(KINDS) else "unknown kind"
    if request.balancing_debit:
        name = f"balancing {name}"
    return f"linked {name}" if request.linked else name

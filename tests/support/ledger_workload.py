"""Random work for the ledger, from a seed: all kinds of transfers, right and wrong, over the pool's accounts.

Whatever is accepted keeps to the chart of accounts and needs no receipts, so that `ledger check` must find
nothing; what is refused may be anything.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import AccountSpec, TransferRequest
from tests.support.ledger_audit import LedgerAudit
from tests.support.ledger_paper import MOST, PENDING, POST, SINGLE, VOID, Promise

SECOND_US = 1_000_000
ESCROWS_OPEN_MAX = 6
NOWHERE = 10**9
"""An account that does not exist."""
_NO_PROMISE = Promise(0, 0, 0, 0)


@dataclass
class Workload:
    """One seed's course of events."""

    audit: LedgerAudit
    chance: random.Random
    operations: int = 0
    groups: dict[str, list[int]] = field(default_factory=dict)
    """Account numbers by what they are."""
    ended: list[int] = field(default_factory=list)
    """Escrows that have ended: nothing new may go there."""
    codes: dict[int, int] = field(default_factory=dict)
    """By pending transfer, its code: a posting has the same."""
    keyed: deque[TransferRequest] = field(default_factory=lambda: deque(maxlen=400))
    """Requests that had a key."""
    keyed_politely: deque[TransferRequest] = field(default_factory=lambda: deque(maxlen=400))
    """Those of them that the pool's own commands could have made."""
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=60))
    """Pending transfers made lately."""
    references: int = 0
    jobs: int = 0

    @classmethod
    def of_seed(cls, audit: LedgerAudit, seed: int) -> "Workload":
        """Make the work of a seed; nothing is done yet."""
        return cls(audit, random.Random(seed))

    def begin(self) -> None:
        """Open the accounts that are there from the start."""
        capped = replace(chart.bank("capped"), credits_must_not_exceed_debits=True)
        for group, specs in {
            "bank": [chart.BANK],
            "vault": [chart.bank("vault")],
            "capped": [capped],
            "fees": [chart.BANK_FEES],
            "goodwill": [chart.GOODWILL],
            "income": [chart.POOL_FEE],
            "reserve": [chart.SLA_RESERVE],
            "tax": [chart.VAT],
            "opening": [chart.OPENING],
            "buyer": [chart.buyer_available(f"buyer_{name}") for name in "abcde"],
            "whale": [chart.buyer_available("buyer_whale")],
            "owner": [chart.owner_available(f"owner_{name}") for name in "xyz"],
            "escrow": [],
        }.items():
            self.groups[group] = [self._open(spec) for spec in specs]

    def run(self, operations: int, *, check_every: int = 0) -> None:
        """Do at least so many operations, compare everything now and then, and end every escrow."""
        compared = 0
        while self.operations < operations:
            self.step()
            if check_every and self.operations - compared >= check_every:
                compared = self.operations
                self.audit.compare_all()
        for escrow in [*self.groups["escrow"], *self.ended]:
            self.audit.end_escrow(escrow)
            self.operations += 1
        self.audit.compare_all()

    def step(self) -> None:
        """One command."""
        draw = self.chance.random()
        if draw < 0.03:
            self.audit.move_clock(self.chance.choice([-40, -1, 1, 3, 20, 400]) * SECOND_US)
        elif draw < 0.06:
            self.audit.sweep(self.chance.choice([1, 3, 100]))
        elif draw < 0.09 and len(self.groups["escrow"]) < ESCROWS_OPEN_MAX:
            self._open_escrow()
        elif draw < 0.105 and self.groups["escrow"]:
            escrow = self.groups["escrow"].pop(self.chance.randrange(len(self.groups["escrow"])))
            self.ended.append(escrow)
            self.audit.end_escrow(escrow)
        else:
            self._batch()
            return
        self.operations += 1

    # --- batches ---------------------------------------------------------------------------------

    def _batch(self) -> None:
        polite = self.chance.random() < 0.4
        if not polite and self.chance.random() < 0.25:
            requests = self._chain()
        else:
            requests = [self._request(polite=polite) for _ in range(self.chance.choice([1, 1, 2, 3, 6]))]
        before = self.audit.paper.transfers
        replies = self.audit.submit(requests, all_or_nothing=polite)
        self.operations += len(requests)
        for request, (word, number) in zip(requests, replies, strict=True):
            if word == "created" and request.kind == PENDING and number > before:
                self.codes[number] = request.code
                if number in self.audit.paper.promises:
                    self.recent.append(number)

    def _chain(self) -> list[TransferRequest]:
        length = self.chance.choice([2, 2, 3, 5])
        likely = self.chance.random() < 0.5
        chain = [self._safe_deposit() if likely else self._request(polite=False) for _ in range(length)]
        if self.chance.random() < 0.3:
            # Reserve, and post what was just reserved: its number is the next one.
            chain[:2] = [
                self._reservation(),
                TransferRequest(POST, 100, amount_micros=1, pending_id=self.audit.paper.transfers + 1),
            ]
        is_open = self.chance.random() < 0.08
        chain = [request._replace(linked=True) for request in chain]
        if not is_open:
            chain[-1] = chain[-1]._replace(linked=False)
        extra = [self._request(polite=False)] if not is_open and self.chance.random() < 0.3 else []
        return [*chain, *extra]

    def _safe_deposit(self) -> TransferRequest:
        amount = self.chance.randint(1, 900)
        deposit = TransferRequest(SINGLE, 100, self._any("bank"), self._any("buyer"), amount)
        return self._keyed(deposit, polite=True)

    def _reservation(self) -> TransferRequest:
        self.references += 1
        return TransferRequest(PENDING, 100, self._any("bank"), self._any("buyer"), 5, 0, self.references)

    # --- single requests -------------------------------------------------------------------------

    def _request(self, *, polite: bool) -> TransferRequest:
        draw = self.chance.random()
        keyed = self.keyed_politely if polite else self.keyed
        if keyed and draw < 0.11:
            again = self.chance.choice(keyed)
            if draw < 0.08 or (polite and again.kind == VOID):
                return again
            return again._replace(amount_micros=again.amount_micros + 1)
        if draw < 0.40:
            request = self._resolution()
        else:
            request = self._move(SINGLE if draw < 0.75 else PENDING, polite=polite)
        if not polite and self.chance.random() < 0.02:
            request = self._malformed(request)
        return self._keyed(request, polite=polite)

    def _keyed(self, request: TransferRequest, *, polite: bool) -> TransferRequest:
        if self.chance.random() < 0.25:
            request = request._replace(key=f"key-{self.operations}-{self.chance.getrandbits(40)}")
            self.keyed.append(request)
            if polite:
                self.keyed_politely.append(request)
        return request

    def _move(self, kind: int, *, polite: bool) -> TransferRequest:
        code, debit, credit = self._flow(kind)
        if not polite and self.chance.random() < 0.03:
            credit = debit
        if self.chance.random() < 0.03:
            debit = NOWHERE
        elif not polite and self.chance.random() < 0.03:
            credit = NOWHERE + 1
        elif self.ended and self.chance.random() < 0.04:
            debit, credit, code = self.chance.choice(self.ended), self._any("buyer"), 210
        expires_at_us = 0
        if kind == PENDING:
            self.references += 1
            after = self.chance.choice([0, 0, 1, 10 * SECOND_US, 100 * SECOND_US, -SECOND_US])
            expires_at_us = max(self.audit.now_us, self.audit.paper.time_us) + after if after else 0
        return TransferRequest(
            kind,
            code,
            debit,
            credit,
            self._amount(debit, credit),
            0,
            self.references if kind == PENDING else 0,
            expires_at_us=expires_at_us,
            balancing_debit=self.chance.random() < 0.08,
        )

    def _flow(self, kind: int) -> tuple[int, int, int]:
        """Return a code and a pair of accounts between which it moves money."""
        flows: list[tuple[int, str, str]] = [
            (100, "bank", "buyer"),
            (100, "bank", "buyer"),
            (100, "vault", "whale"),
            (100, "capped", "buyer"),
            (110, "buyer", "bank"),
            (110, "fees", "bank"),
            (600, "buyer", "capped"),
            (600, "whale", "vault"),
            (610, "income", "reserve"),
            (610, "reserve", "buyer"),
            (620, "goodwill", "owner"),
            (800, "income", "tax"),
            (800, "tax", "bank"),
            (900, "opening", "income"),
            (900, "owner", "opening"),
        ]
        if self.groups["escrow"] and self.chance.random() < 0.4:
            escrow = self._any("escrow")
            home = self.audit.paper.sheets[escrow].rest_goes_to
            # Nothing may be promised to an escrow: it could not close.
            if kind == SINGLE and self.chance.random() < 0.6:
                return 200, home, escrow
            return 210, escrow, home
        code, debit, credit = self.chance.choice(flows)
        return code, self._any(debit), self._any(credit)

    def _amount(self, debit: int, credit: int) -> int:
        whale = {self.groups["whale"][0], self.groups["vault"][0]}
        if {debit, credit} == whale and self.chance.random() < 0.5:
            sheet = self.audit.paper.sheets[self.groups["whale"][0]]
            room = MOST - sheet.in_ - sheet.in_promised
            return self.chance.choice([MOST, MOST - 1, room, room + 1, room // 2, 2**62]) or 1
        if debit in self.audit.paper.sheets and self.chance.random() < 0.15:
            free = self.audit.paper.sheets[debit].free
            return max(0, free + self.chance.choice([-1, 0, 0, 1]))
        return self.chance.choice(
            [
                1,
                1,
                2,
                self.chance.randint(1, 60),
                self.chance.randint(1, 10**6),
                self.chance.choice([0, -7, 9]),
            ]
        )

    def _resolution(self) -> TransferRequest:
        pending_id = self.chance.choice(self.recent) if self.recent else NOWHERE
        if self.audit.paper.promises.get(pending_id, _NO_PROMISE).end and self.chance.random() < 0.7:
            self.recent.remove(pending_id)
            pending_id = self.chance.choice(self.recent) if self.recent else NOWHERE
        if self.chance.random() < 0.04:
            pending_id = self.chance.choice([NOWHERE, max(1, self.audit.paper.transfers), 1])
        promise = self.audit.paper.promises.get(pending_id)
        reserved = promise.amount if promise else 5
        if self.chance.random() < 0.6:
            part = self.chance.randint(1, max(1, reserved))
            amount = self.chance.choice([reserved, reserved, part, part, reserved + 1, 0])
            return TransferRequest(POST, self.codes.get(pending_id, 100), 0, 0, amount, pending_id)
        return TransferRequest(VOID, self.chance.choice([320, 320, 330]), 0, 0, 0, pending_id)

    def _malformed(self, request: TransferRequest) -> TransferRequest:
        return self.chance.choice(
            [
                request._replace(kind=9),
                request._replace(pending_id=0 if request.kind in (POST, VOID) else 1),
                request._replace(expires_at_us=self.audit.now_us + 1, kind=SINGLE),
                TransferRequest(VOID, 320, amount_micros=3, pending_id=request.pending_id or 1),
                TransferRequest(POST, 100, 1, 0, 3, pending_id=request.pending_id or 1),
            ]
        )

    # --- accounts --------------------------------------------------------------------------------

    def _open(self, spec: AccountSpec) -> int:
        self.operations += 1
        return self.audit.open_account(spec)

    def _open_escrow(self) -> None:
        self.jobs += 1
        home = self._any("buyer")
        number = self.audit.open_account(chart.job_escrow(self.jobs, buyer_account_id=home))
        self.groups["escrow"].append(number)

    def _any(self, group: str) -> int:
        members: Sequence[int] = self.groups[group]
        return self.chance.choice(members)

"""The ledger as a careful person would keep it on paper: predicts every answer and every counter.

It shares no code with `core.ledger.decision`: requests are read, and that is all that both know. Sheets are
changed in place and every change is written on a list, so that a chain that fails is taken back by reading
that list from its end; the ledger copies its counters instead. Words are plain strings, amounts plain
numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pool_server.core.ledger.model import TransferRequest

#: The largest number that a BIGINT holds.
MOST = 9_223_372_036_854_775_807
SINGLE, PENDING, POST, VOID = range(4)
EXPIRED_CODE = 330

#: Reasons that lie in the books and not in the request: an id that met one never succeeds again.
LASTING = {
    "pending_not_found",
    "pending_already_posted",
    "pending_already_voided",
    "pending_expired",
    "exceeds_pending_amount",
    "debit_account_not_found",
    "credit_account_not_found",
    "debit_account_closed",
    "credit_account_closed",
    "overflow",
    "exceeds_credits",
    "exceeds_debits",
}


@dataclass
class Sheet:
    """One account's page."""

    may_owe: bool
    """False: debits, promised ones included, never exceed credits."""
    may_be_overpaid: bool = True
    """False: credits, promised ones included, never exceed debits."""
    rest_goes_to: int = 0
    """Where the rest goes when it has ended; 0 for nowhere."""
    condition: str = "open"
    """open, draining or closed."""
    out_promised: int = 0
    out: int = 0
    in_promised: int = 0
    in_: int = 0

    @property
    def counters(self) -> tuple[int, int, int, int]:
        """As the ledger stores them."""
        return (self.out_promised, self.out, self.in_promised, self.in_)

    @property
    def free(self) -> int:
        """What can be spent."""
        return self.in_ - self.out - self.out_promised


@dataclass
class Promise:
    """A pending transfer."""

    debit: int
    credit: int
    amount: int
    until_us: int
    """0 for ever."""
    end: str = ""
    """posted, voided or expired; empty while it is open."""


@dataclass
class Answered:
    """What was answered under an id, and to which question; no transfer when it failed."""

    question: tuple[int, ...]
    transfer: int


Reply = tuple[str, int]


def question_of(request: TransferRequest) -> tuple[int, ...]:
    """Return everything that must be the same for a request to be the same."""
    return (
        int(request.kind),
        int(request.code),
        request.debit_account_id,
        request.credit_account_id,
        request.amount_micros,
        request.pending_id,
        request.reference_id,
        request.reference_round,
        request.expires_at_us,
        int(request.balancing_debit),
    )


@dataclass
class Paper:
    """All sheets, promises and ids."""

    sheets: dict[int, Sheet] = field(default_factory=dict)
    promises: dict[int, Promise] = field(default_factory=dict)
    ids: dict[str, Answered] = field(default_factory=dict)
    transfers: int = 0
    time_us: int = 0
    """When the last transfer was recorded."""
    _taken: list[Callable[[], None]] = field(default_factory=list)

    # --- what is asked ---------------------------------------------------------------------------

    def answer(self, requests: Sequence[TransferRequest], now_us: int) -> list[Reply]:
        """Answer a batch, and write down what happened."""
        replies = self._batch(requests, max(now_us, self.time_us))
        self._taken.clear()
        return replies

    def answer_all_or_nothing(self, requests: Sequence[TransferRequest], now_us: int) -> list[Reply]:
        """Answer a batch that leaves nothing behind, except ids that failed, when anything in it fails."""
        saved = (self.transfers, self.time_us)
        replies = self._batch(requests, max(now_us, self.time_us))
        if any(transfer == 0 for _, transfer in replies):
            self._forget(0, saved)
        self._taken.clear()
        return replies

    def expire(self, now_us: int, limit: int) -> list[int]:
        """Let promises run out whose time has come, earliest first; return which."""
        due = sorted(
            (promise.until_us, number)
            for number, promise in self.promises.items()
            if not promise.end and 0 < promise.until_us <= now_us
        )[:limit]
        ended = [number for _, number in due]
        for number in ended:
            self._end(number, "expired", 0, max(now_us, self.time_us))
        touched = {self.promises[number].debit for number in ended}
        touched |= {self.promises[number].credit for number in ended}
        self.drain(sorted(touched), max(now_us, self.time_us))
        self._taken.clear()
        return ended

    def end_escrow(self, number: int, now_us: int) -> int:
        """End an escrow; return what went back at once."""
        sheet = self.sheets[number]
        if sheet.condition == "open":
            sheet.condition = "draining"
        free = sheet.free
        self.drain([number], max(now_us, self.time_us))
        self._taken.clear()
        return free

    def drain(self, touched: Sequence[int], now_us: int) -> None:
        """Send back what is free in ended escrows, and close those where nothing is promised any more."""
        for number in touched:
            sheet = self.sheets[number]
            if sheet.condition != "draining" or not sheet.rest_goes_to:
                continue
            if sheet.free:
                self._post(number, sheet.rest_goes_to, sheet.free)
                self._write(now_us)
            if not sheet.out_promised:
                sheet.condition = "closed"

    # --- several requests -----------------------------------------------------------------------

    def _batch(self, requests: Sequence[TransferRequest], now_us: int) -> list[Reply]:
        replies: list[Reply] = []
        waiting = list(requests)
        while waiting:
            chain = [waiting.pop(0)]
            while chain[-1].linked and waiting:
                chain.append(waiting.pop(0))
            if chain[-1].linked:
                replies += [("linked_event_failed", 0)] * (len(chain) - 1) + [("linked_chain_open", 0)]
            elif len(chain) == 1:
                replies.append(self._one(chain[0], now_us))
            else:
                replies += self._chain(chain, now_us)
        return replies

    def _chain(self, chain: Sequence[TransferRequest], now_us: int) -> list[Reply]:
        mark, saved = len(self._taken), (self.transfers, self.time_us)
        replies: list[Reply] = []
        for request in chain:
            replies.append(self._one(request, now_us))
            if replies[-1][1] == 0:
                break
        if len(replies) == len(chain) and len({word for word, _ in replies}) == 1 and replies[-1][1]:
            return replies
        self._forget(mark, saved)
        replies = [("linked_event_failed", 0) if word == "created" else (word, n) for word, n in replies]
        return replies + [("linked_event_failed", 0)] * (len(chain) - len(replies))

    def _forget(self, mark: int, saved: tuple[int, int]) -> None:
        """Take back all changes since a mark. Ids that failed are not on the list of changes: they stay."""
        while len(self._taken) > mark:
            self._taken.pop()()
        self.transfers, self.time_us = saved

    # --- one request -----------------------------------------------------------------------------

    def _one(self, request: TransferRequest, now_us: int) -> Reply:
        question = question_of(request)
        if request.key and request.key in self.ids:
            said = self.ids[request.key]
            if not said.transfer:
                return "id_already_failed", 0
            return ("exists", said.transfer) if said.question == question else ("exists_with_different", 0)
        word = self._resolve(request, now_us) if request.kind in (POST, VOID) else self._move(request, now_us)
        transfer = self.transfers if word == "created" else 0
        if request.key and (transfer or word in LASTING):
            self.ids[request.key] = Answered(question, transfer)
            if transfer:
                self._taken.append(lambda: self.ids.__delitem__(request.key))
        return word, transfer

    def _move(self, request: TransferRequest, now_us: int) -> str:
        amount, until_us = request.amount_micros, request.expires_at_us
        debit, credit = (self.sheets.get(n) for n in (request.debit_account_id, request.credit_account_id))
        if request.kind not in (SINGLE, PENDING) or request.pending_id:
            return "request_malformed"
        if until_us and request.kind == SINGLE:
            return "request_malformed"
        if amount < 1:
            return "amount_not_positive"
        if request.debit_account_id == request.credit_account_id:
            return "accounts_not_different"
        if until_us and until_us <= now_us:
            return "timeout_in_the_past"
        if debit is None or credit is None:
            return "debit_account_not_found" if debit is None else "credit_account_not_found"
        goes_home = debit.condition == "draining" and request.credit_account_id == debit.rest_goes_to
        if debit.condition != "open" and not goes_home:
            return "debit_account_closed"
        if credit.condition != "open":
            return "credit_account_closed"
        if request.balancing_debit:
            amount = min(amount, debit.free)
            if amount < 1:
                return "exceeds_credits"
        if debit.out + debit.out_promised > MOST - amount or credit.in_ + credit.in_promised > MOST - amount:
            return "overflow"
        if not debit.may_owe and debit.free < amount:
            return "exceeds_credits"
        if not credit.may_be_overpaid and credit.out - credit.in_ - credit.in_promised < amount:
            return "exceeds_debits"
        if request.kind == SINGLE:
            self._post(request.debit_account_id, request.credit_account_id, amount)
        else:
            self._promise(request.debit_account_id, request.credit_account_id, amount, until_us)
        self._write(now_us)
        return "created"

    def _resolve(self, request: TransferRequest, now_us: int) -> str:
        is_post = request.kind == POST
        names_too_much = request.debit_account_id or request.credit_account_id or request.expires_at_us
        if names_too_much or request.balancing_debit or not request.pending_id:
            return "request_malformed"
        if is_post and request.amount_micros < 1:
            return "amount_not_positive"
        if not is_post and request.amount_micros:
            return "request_malformed"
        promise = self.promises.get(request.pending_id)
        if promise is None:
            return "pending_not_found"
        if promise.end:
            return "pending_expired" if promise.end == "expired" else f"pending_already_{promise.end}"
        is_expiry = not is_post and request.code == EXPIRED_CODE
        if 0 < promise.until_us <= now_us and not is_expiry:
            return "pending_expired"
        if is_post and request.amount_micros > promise.amount:
            return "exceeds_pending_amount"
        end = "posted" if is_post else "expired" if is_expiry else "voided"
        self._end(request.pending_id, end, request.amount_micros if is_post else 0, now_us)
        return "created"

    # --- what is written -------------------------------------------------------------------------

    def _end(self, number: int, end: str, amount: int, now_us: int) -> None:
        promise = self.promises[number]
        promise.end = end
        self._taken.append(lambda: setattr(promise, "end", ""))
        self._change(promise.debit, "out_promised", -promise.amount)
        self._change(promise.credit, "in_promised", -promise.amount)
        if amount:
            self._post(promise.debit, promise.credit, amount)
        self._write(now_us)

    def _post(self, debit: int, credit: int, amount: int) -> None:
        self._change(debit, "out", amount)
        self._change(credit, "in_", amount)

    def _promise(self, debit: int, credit: int, amount: int, until_us: int) -> None:
        self._change(debit, "out_promised", amount)
        self._change(credit, "in_promised", amount)
        number = self.transfers + 1
        self.promises[number] = Promise(debit, credit, amount, until_us)
        self._taken.append(lambda: self.promises.__delitem__(number))

    def _change(self, number: int, what: str, amount: int) -> None:
        sheet = self.sheets[number]
        before = getattr(sheet, what)
        setattr(sheet, what, before + amount)
        self._taken.append(lambda: setattr(sheet, what, before))

    def _write(self, now_us: int) -> None:
        self.transfers += 1
        self.time_us = max(self.time_us, now_us)

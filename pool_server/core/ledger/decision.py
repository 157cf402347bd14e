"""Decides which of a batch of transfers happen, and what they write. Pure; the caller loads and stores.

Each request is checked in this order, and the first reason found is its outcome:

 1. LINKED_CHAIN_OPEN: the batch ends inside a chain; LINKED_EVENT_FAILED: another of its chain failed
 2. ID_ALREADY_FAILED, EXISTS_WITH_DIFFERENT, EXISTS: its key was used before
 3. REQUEST_MALFORMED, AMOUNT_NOT_POSITIVE, ACCOUNTS_NOT_DIFFERENT, TIMEOUT_IN_THE_PAST: wrong in itself
 4. PENDING_NOT_FOUND, PENDING_ALREADY_POSTED, PENDING_ALREADY_VOIDED, PENDING_EXPIRED, EXCEEDS_PENDING_AMOUNT
 5. DEBIT_ACCOUNT_NOT_FOUND, CREDIT_ACCOUNT_NOT_FOUND, DEBIT_ACCOUNT_CLOSED, CREDIT_ACCOUNT_CLOSED
 6. OVERFLOW
 7. EXCEEDS_CREDITS, EXCEEDS_DEBITS: a limit, reserved money included

A balancing debit moves what is free, at most its amount: only when nothing is free it is EXCEEDS_CREDITS.

A request with a key that fails for a reason of state (4 to 7) is remembered as failed: the same key never
succeeds later. One that is wrong in itself (3) is not: it can be mended and sent again.

Time in the ledger never goes back: a transfer is recorded at the later of now and the last transfer's time. A
pending transfer whose timeout has passed can only be voided, with the code EXPIRED, so that expiry comes out
the same whoever gets there first.
"""

import hashlib
from collections.abc import Sequence

from pool_protocol.money import AMOUNT_MICROS_MAX
from pool_server.core.ledger.chain import pack_transfer
from pool_server.core.ledger.model import (
    Account,
    AccountState,
    Answer,
    CounterDelta,
    Decision,
    KeyRecord,
    LedgerState,
    Outcome,
    PendingTransfer,
    TransferCode,
    TransferKind,
    TransferRequest,
    TransferRow,
)

# Plain integers: comparing enum members costs several times as much, hundreds of times per command.
_SINGLE = TransferKind.SINGLE.value
_PENDING = TransferKind.PENDING.value
_POST = TransferKind.POST.value
_VOID = TransferKind.VOID.value
_EXPIRED = TransferCode.EXPIRED.value
_CLOSED = AccountState.CLOSED.value
_DRAINING = AccountState.DRAINING.value
_TAG = b"CPT1"
_CREATED = Outcome.CREATED

#: Outcomes that depend on the state of the books: a key that met one stays failed.
FAILED_FOR_EVER = frozenset(
    {
        Outcome.PENDING_NOT_FOUND,
        Outcome.PENDING_ALREADY_POSTED,
        Outcome.PENDING_ALREADY_VOIDED,
        Outcome.PENDING_EXPIRED,
        Outcome.EXCEEDS_PENDING_AMOUNT,
        Outcome.DEBIT_ACCOUNT_NOT_FOUND,
        Outcome.CREDIT_ACCOUNT_NOT_FOUND,
        Outcome.DEBIT_ACCOUNT_CLOSED,
        Outcome.CREDIT_ACCOUNT_CLOSED,
        Outcome.OVERFLOW,
        Outcome.EXCEEDS_CREDITS,
        Outcome.EXCEEDS_DEBITS,
    }
)


def input_hash(request: TransferRequest) -> bytes:
    """Return the hash of all that a request asks for, its key and its place in a chain aside."""
    fields = request[: TransferRequest._fields.index("key")]
    if request.balancing_debit:
        fields = (*fields, 1)
    return hashlib.sha256(repr(tuple(int(field) for field in fields)).encode()).digest()


def decide(state: LedgerState, requests: Sequence[TransferRequest], *, now_us: int) -> Decision:
    """Decide a batch in order; later requests see what earlier ones did. Nothing in `state` is changed."""
    batch = _Batch(state, now_us)
    index = 0
    while index < len(requests):
        end = index
        while end < len(requests) and requests[end].linked:
            end += 1
        if end == index:
            batch.take(requests[index])
        else:
            batch.take_chain(requests[index : end + 1], is_open=end == len(requests))
        index = end + 1
    return batch.decision()


class _Batch:
    """The working copy of the state while a batch is decided."""

    def __init__(self, state: LedgerState, now_us: int) -> None:
        self._state = state
        self._now_us = max(now_us, state.head.recorded_at_us)
        self._sequence = state.head.transfer_id
        self._chain_hash = state.head.chain_hash
        self._accounts = state.accounts
        self._counters: dict[int, list[int]] = {}
        # Rows of this batch that reserve, and what this batch resolved with which kind and code.
        self._reserved: dict[int, TransferRow] = {}
        self._resolved: dict[int, tuple[int, int]] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._rows: list[TransferRow] = []
        self._answers: list[Answer] = []

    def decision(self) -> Decision:
        """Return what the batch came to."""
        deltas = []
        for account_id, counters in self._counters.items():
            before = self._accounts[account_id]
            delta = CounterDelta(
                counters[0] - before.debits_pending_micros,
                counters[1] - before.debits_posted_micros,
                counters[2] - before.credits_pending_micros,
                counters[3] - before.credits_posted_micros,
                account_id,
            )
            if any(delta[:4]):
                deltas.append(delta)
        return Decision(
            answers=tuple(self._answers),
            rows=tuple(self._rows),
            deltas=tuple(sorted(deltas, key=lambda delta: delta.account_id)),
            keys=tuple(self._keys.values()),
        )

    def take(self, request: TransferRequest) -> None:
        """Decide one request that stands alone."""
        self._answers.append(self._decide_and_remember(request))

    def take_chain(self, chain: Sequence[TransferRequest], *, is_open: bool) -> None:
        """Decide requests that succeed or fail together."""
        if is_open:
            self._answers.extend([_refused(Outcome.LINKED_EVENT_FAILED)] * (len(chain) - 1))
            self._answers.append(_refused(Outcome.LINKED_CHAIN_OPEN))
            return
        saved = (
            self._sequence,
            self._chain_hash,
            {account_id: list(counters) for account_id, counters in self._counters.items()},
            dict(self._reserved),
            dict(self._resolved),
            dict(self._keys),
            len(self._rows),
        )
        answers: list[Answer] = []
        for request in chain:
            answers.append(self._decide_and_remember(request))
            if answers[-1].outcome not in (Outcome.CREATED, Outcome.EXISTS):
                break
        # All new, or the whole chain repeated; a chain of both would be another chain than the one before.
        if (
            len({answer.outcome for answer in answers}) == 1
            and len(answers) == len(chain)
            and answers[0].transfer_id
        ):
            self._answers.extend(answers)
            return
        failed_keys = {key: record for key, record in self._keys.items() if record.failed}
        self._sequence, self._chain_hash, self._counters = saved[:3]
        self._reserved, self._resolved, self._keys = saved[3:6]
        self._keys.update(failed_keys)
        del self._rows[saved[6] :]
        failed = _refused(Outcome.LINKED_EVENT_FAILED)
        self._answers.extend(failed if answer.outcome is Outcome.CREATED else answer for answer in answers)
        self._answers.extend([failed] * (len(chain) - len(answers)))

    def _decide_and_remember(self, request: TransferRequest) -> Answer:
        if not request.key:
            return self._decide(request)
        hashed = input_hash(request)
        known = self._keys.get(request.key) or self._state.keys.get(request.key)
        if known is not None:
            return _answer_again(known, hashed)
        answer = self._decide(request)
        if answer.outcome is Outcome.CREATED or answer.outcome in FAILED_FOR_EVER:
            self._keys[request.key] = KeyRecord(
                key=request.key,
                input_hash=hashed,
                failed=answer.outcome is not Outcome.CREATED,
                transfer_id=answer.transfer_id,
            )
        return answer

    def _decide(self, request: TransferRequest) -> Answer:
        kind = request.kind
        if kind in (_POST, _VOID):
            return self._resolve(request)
        if (
            kind not in (_SINGLE, _PENDING)
            or request.pending_id
            or (request.expires_at_us and kind == _SINGLE)
        ):
            return _refused(Outcome.REQUEST_MALFORMED)
        amount = request.amount_micros
        if amount <= 0:
            return _refused(Outcome.AMOUNT_NOT_POSITIVE)
        if request.debit_account_id == request.credit_account_id:
            return _refused(Outcome.ACCOUNTS_NOT_DIFFERENT)
        if request.expires_at_us and request.expires_at_us <= self._now_us:
            return _refused(Outcome.TIMEOUT_IN_THE_PAST)
        debit = self._accounts.get(request.debit_account_id)
        if debit is None:
            return _refused(Outcome.DEBIT_ACCOUNT_NOT_FOUND)
        credit = self._accounts.get(request.credit_account_id)
        if credit is None:
            return _refused(Outcome.CREDIT_ACCOUNT_NOT_FOUND)
        if debit.state == _CLOSED or (
            debit.state == _DRAINING and request.credit_account_id != debit.sweep_to_account_id
        ):
            return _refused(Outcome.DEBIT_ACCOUNT_CLOSED)
        if credit.state:
            return _refused(Outcome.CREDIT_ACCOUNT_CLOSED)
        debit_counters = self._working(debit)
        credit_counters = self._working(credit)
        if request.balancing_debit:
            amount = min(amount, debit_counters[3] - debit_counters[1] - debit_counters[0])
            if amount <= 0:
                return _refused(Outcome.EXCEEDS_CREDITS)
        if (
            debit_counters[0] + debit_counters[1] + amount > AMOUNT_MICROS_MAX
            or credit_counters[2] + credit_counters[3] + amount > AMOUNT_MICROS_MAX
        ):
            return _refused(Outcome.OVERFLOW)
        if (
            debit.debits_must_not_exceed_credits
            and debit_counters[0] + debit_counters[1] + amount > debit_counters[3]
        ):
            return _refused(Outcome.EXCEEDS_CREDITS)
        if (
            credit.credits_must_not_exceed_debits
            and credit_counters[2] + credit_counters[3] + amount > credit_counters[1]
        ):
            return _refused(Outcome.EXCEEDS_DEBITS)
        posted = kind == _SINGLE
        debit_counters[posted] += amount
        credit_counters[2 + posted] += amount
        row = self._write(request, request.debit_account_id, request.credit_account_id, amount, None)
        if not posted:
            self._reserved[row.transfer_id] = row
        return Answer(_CREATED, row.transfer_id)

    def _resolve(self, request: TransferRequest) -> Answer:
        is_post = request.kind == _POST
        if (
            request.debit_account_id
            or request.credit_account_id
            or request.expires_at_us
            or request.balancing_debit
            or not request.pending_id
        ):
            return _refused(Outcome.REQUEST_MALFORMED)
        if is_post and request.amount_micros <= 0:
            return _refused(Outcome.AMOUNT_NOT_POSITIVE)
        if not is_post and request.amount_micros:
            return _refused(Outcome.REQUEST_MALFORMED)
        pending = self._state.pendings.get(request.pending_id) or self._reserved.get(request.pending_id)
        if pending is None:
            return _refused(Outcome.PENDING_NOT_FOUND)
        resolution = self._resolution_of(pending)
        if resolution is not None:
            return _refused(resolution)
        if (
            pending.expires_at_us
            and pending.expires_at_us <= self._now_us
            and (is_post or request.code != _EXPIRED)
        ):
            return _refused(Outcome.PENDING_EXPIRED)
        reserved = pending.amount_micros
        amount = request.amount_micros if is_post else reserved
        if amount > reserved:
            return _refused(Outcome.EXCEEDS_PENDING_AMOUNT)
        debit = self._accounts.get(pending.debit_account_id)
        if debit is None:
            return _refused(Outcome.DEBIT_ACCOUNT_NOT_FOUND)
        credit = self._accounts.get(pending.credit_account_id)
        if credit is None:
            return _refused(Outcome.CREDIT_ACCOUNT_NOT_FOUND)
        # No limit can be broken: what is posted was reserved under the same limits.
        debit_counters = self._working(debit)
        credit_counters = self._working(credit)
        debit_counters[0] -= reserved
        credit_counters[2] -= reserved
        if is_post:
            debit_counters[1] += amount
            credit_counters[3] += amount
        self._resolved[request.pending_id] = (request.kind, request.code)
        row = self._write(
            request, pending.debit_account_id, pending.credit_account_id, amount, request.pending_id
        )
        return Answer(_CREATED, row.transfer_id)

    def _resolution_of(self, pending: PendingTransfer | TransferRow) -> Outcome | None:
        """Return how a pending transfer was resolved, before or in this batch; None while it is open."""
        resolved = self._resolved.get(pending.transfer_id)
        if resolved is None and isinstance(pending, PendingTransfer) and pending.resolved_kind:
            resolved = (pending.resolved_kind, pending.resolved_code)
        if resolved is None:
            return None
        kind, code = resolved
        if kind == _POST:
            return Outcome.PENDING_ALREADY_POSTED
        return Outcome.PENDING_EXPIRED if code == _EXPIRED else Outcome.PENDING_ALREADY_VOIDED

    def _write(
        self, request: TransferRequest, debit_id: int, credit_id: int, amount: int, pending_id: int | None
    ) -> TransferRow:
        self._sequence = sequence = self._sequence + 1
        kind, code, reference_id = request.kind, request.code, request.reference_id
        reference_round, expires_at_us = request.reference_round, request.expires_at_us
        canonical = pack_transfer(
            _TAG,
            sequence,
            kind,
            code,
            debit_id,
            credit_id,
            amount,
            pending_id or 0,
            reference_id,
            reference_round,
            expires_at_us,
            self._now_us,
        )
        self._chain_hash = chain_hash = hashlib.sha256(self._chain_hash + canonical).digest()
        row = TransferRow(
            sequence,
            kind,
            code,
            debit_id,
            credit_id,
            amount,
            pending_id,
            reference_id,
            reference_round,
            expires_at_us or None,
            self._now_us,
            canonical,
            chain_hash,
        )
        self._rows.append(row)
        return row

    def _working(self, account: Account) -> list[int]:
        counters = self._counters.get(account.account_id)
        if counters is None:
            counters = self._counters[account.account_id] = [
                account.debits_pending_micros,
                account.debits_posted_micros,
                account.credits_pending_micros,
                account.credits_posted_micros,
            ]
        return counters


def _answer_again(known: KeyRecord, hashed: bytes) -> Answer:
    if known.failed:
        return _refused(Outcome.ID_ALREADY_FAILED)
    if known.input_hash != hashed:
        return _refused(Outcome.EXISTS_WITH_DIFFERENT)
    return Answer(Outcome.EXISTS, known.transfer_id)


def _refused(outcome: Outcome) -> Answer:
    return Answer(outcome, 0)

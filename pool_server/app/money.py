"""Money around work: reserve, fund, settle, void, release. Called inside the transaction of a work command.

Every function is all or nothing: it raises `PoolError` and the caller's command is rolled back, or all of it
is written. Amounts are micro-units. A job's escrow drains once the job has ended: `release_job` sends back
what is free, and whatever its open attempts release later follows by itself, until the account is empty and
closed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.money import require_amount
from pool_server.app.books import account, open_accounts, transfer
from pool_server.app.caps import count_reserved, count_returned
from pool_server.app.receipts import write_receipts
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import (
    Account,
    AccountState,
    Outcome,
    PendingTransfer,
    TransferCode,
    TransferKind,
    TransferRequest,
)
from pool_server.core.settlement import AttemptFunding, AttemptSettlement, Pay, Payer, fees_by_owner, pay_of
from pool_server.ports.unit_of_work import UnitOfWork

# Plain integers for what is made once per attempt.
_PENDING = TransferKind.PENDING.value
_POST = TransferKind.POST.value
_VOID = TransferKind.VOID.value
_VERIFIED = TransferCode.VERIFIED.value

#: Pending transfers that one sweep expires.
SWEEP_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMoney:
    """A job's money."""

    free_micros: int
    """Reserved and not yet promised to an attempt."""
    pending_micros: int
    """Promised to attempts that are not verified yet."""
    spent_micros: int
    """Paid for verified attempts."""

    @property
    def escrow_micros(self) -> int:
        """All that is still reserved for the job."""
        return self.free_micros + self.pending_micros


def reserve_job(
    uow: UnitOfWork,
    *,
    buyer_id: str,
    job_id: int,
    amount_micros: int,
    now_us: int,
    key: str = "",
    token_id: str = "",
) -> None:
    """Move a buyer's free money into a job's escrow; again for the same job to add to it. 0 moves nothing.

    Counts in the caps of the buyer and of the token, if one is named.

    Raises:
        PoolError: INSUFFICIENT_FUNDS; SPEND_LIMIT_REACHED; JOB_CLOSED when the job's money was released
            already; INVALID_ARGUMENT; with a `key`, ID_ALREADY_FAILED and EXISTS_WITH_DIFFERENT.
    """
    require_amount(amount_micros)
    buyer = open_accounts(uow, [chart.buyer_available(buyer_id)], now_us=now_us)[
        chart.buyer_available_name(buyer_id)
    ]
    spec = chart.job_escrow(job_id, buyer_account_id=buyer.account_id)
    escrow = open_accounts(uow, [spec], now_us=now_us)[spec.name]
    if escrow.sweep_to_account_id != buyer.account_id:
        raise PoolError(ErrorCode.PERMISSION_DENIED, f"job {job_id} belongs to another buyer")
    if amount_micros == 0:
        return
    request = TransferRequest(
        kind=TransferKind.SINGLE.value,
        code=TransferCode.RESERVE.value,
        debit_account_id=buyer.account_id,
        credit_account_id=escrow.account_id,
        amount_micros=amount_micros,
        reference_id=job_id,
        key=key,
    )
    [answer] = transfer(uow, [request], [buyer, escrow], now_us=now_us)
    if answer.outcome is Outcome.CREATED:
        count_reserved(
            uow,
            buyer_id=buyer_id,
            token_id=token_id,
            job_id=job_id,
            amount_micros=amount_micros,
            now_us=now_us,
        )


def fund_attempts(
    uow: UnitOfWork, items: Sequence[AttemptFunding], *, expires_at_us: int, now_us: int
) -> list[int]:
    """Reserve each attempt's money for its owner; return the pending transfers' ids, 0 for donated work.

    `expires_at_us` is the timeout behind which `expire_pending` gives the money back (0: never). It must lie
    behind the time at which verification can still accept the result: see
    `core.settlement.unresolved_expiry_us`. An attempt whose money was given back (lease expired) may be
    funded again when its result comes late after all.

    Raises:
        PoolError: INSUFFICIENT_FUNDS when a job's escrow does not hold enough; JOB_CLOSED; TRANSFER_STATE
            when an attempt is funded already.
    """
    funded = [item for item in items if item.amount_micros]
    if not funded:
        return [0] * len(items)
    owner_ids = dict.fromkeys(item.owner_id for item in funded)
    payers = dict.fromkeys((item.payer, item.job_id) for item in funded)
    specs = [chart.owner_held(owner_id) for owner_id in owner_ids]
    if any(payer is Payer.VERIFICATION for payer, _ in payers):
        specs.append(chart.VERIFICATION)
    by_name = open_accounts(uow, specs, now_us=now_us)
    escrows = {chart.job_escrow_name(job_id) for payer, job_id in payers if payer is Payer.JOB}
    if escrows:
        by_name.update(uow.ledger.accounts_by_name(escrows))
    held_of = {owner_id: by_name[chart.owner_held_name(owner_id)].account_id for owner_id in owner_ids}
    payment_of = {payer: _payment(by_name, *payer) for payer in payers}
    rounds = _funding_rounds(uow, funded)
    requests = []
    for item in funded:
        code, payer_account_id = payment_of[item.payer, item.job_id]
        requests.append(
            # By position: this and the requests below are made once per attempt.
            TransferRequest(
                _PENDING,
                code,
                payer_account_id,
                held_of[item.owner_id],
                item.amount_micros,
                0,
                item.attempt_id,
                rounds.get(item.attempt_id, 0),
                expires_at_us,
            )
        )
    answers = iter(transfer(uow, requests, by_name.values(), now_us=now_us))
    return [next(answers).transfer_id if item.amount_micros else 0 for item in items]


def settle_attempts(uow: UnitOfWork, items: Sequence[AttemptSettlement], *, now_us: int) -> None:
    """Pay accepted attempts: post what was reserved, take the fee, write and sign the receipts.

    Raises:
        PoolError: TRANSFER_STATE when an attempt's money was posted or given back before, or is less than its
            gross (the context's `reference` names the attempt); INVALID_ARGUMENT when a gross is not the
            price of the work.
    """
    if not items:
        return
    fee_ppm = uow.terms.fee_ppm
    # Tasks of a job are mostly alike: each kind of pay is worked out once.
    known: dict[tuple[int, int, int], Pay] = {}
    pays: list[Pay] = []
    for item in items:
        kind = (item.work_uwu, item.price_micros_per_wu, item.gross_micros)
        pay = known.get(kind)
        if pay is None:
            pay = known[kind] = pay_of(item, fee_ppm=fee_ppm)
        pays.append(pay)
    pendings = uow.ledger.pendings([item.pending_transfer_id for item in items if item.pending_transfer_id])
    requests = [
        _posting(item, pay.gross_micros, pendings)
        for item, pay in zip(items, pays, strict=True)
        if pay.gross_micros or item.pending_transfer_id
    ]
    last = uow.receipts.head()
    batch_id = last.batch_id + 1
    fees = fees_by_owner((item.owner_id, pay) for item, pay in zip(items, pays, strict=True))
    specs = [chart.owner_held(owner_id) for owner_id in fees] + ([chart.POOL_FEE] if fees else [])
    by_name = open_accounts(uow, specs, now_us=now_us)
    requests.extend(
        TransferRequest(
            kind=TransferKind.SINGLE.value,
            code=TransferCode.FEE.value,
            debit_account_id=by_name[chart.owner_held_name(owner_id)].account_id,
            credit_account_id=by_name[chart.POOL_FEE.name].account_id,
            amount_micros=fee_micros,
            reference_id=batch_id,
        )
        for owner_id, fee_micros in fees.items()
    )
    touched = {loaded.account_id: loaded for loaded in by_name.values()}
    touched.update(_accounts_of(uow, pendings.values(), known=touched))
    answers = iter(transfer(uow, requests, touched.values(), now_us=now_us, pendings=pendings))
    transfer_ids = [next(answers).transfer_id if item.pending_transfer_id else 0 for item in items]
    # Never earlier than a transfer or a receipt before, whatever the clock does.
    verified_at_us = max(now_us, uow.ledger.head().recorded_at_us, last.signed_at_us)
    write_receipts(uow, items, pays, transfer_ids, last=last, verified_at_us=verified_at_us)
    _sweep_drained(uow, touched.values(), now_us=now_us)


def void_attempts(
    uow: UnitOfWork, pending_transfer_ids: Sequence[int], *, code: int = TransferCode.REJECTED, now_us: int
) -> None:
    """Give reserved money back to its payers: 320 for rejected, 330 for expired. Ids of 0 are skipped.

    Money whose time is over goes back as expired, whatever is asked, unless it went back already.

    Raises:
        PoolError: TRANSFER_STATE when one was resolved before; INVALID_ARGUMENT for another code.
    """
    if code not in (TransferCode.REJECTED, TransferCode.EXPIRED):
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"attempts are voided with code 320 or 330, not {code}")
    wanted = [transfer_id for transfer_id in pending_transfer_ids if transfer_id]
    if not wanted:
        return
    found = uow.ledger.pendings(wanted)
    lapsed = {transfer_id for transfer_id, pending in found.items() if has_lapsed(pending, now_us=now_us)}
    if in_time := [transfer_id for transfer_id in wanted if transfer_id not in lapsed]:
        _void(uow, found, in_time, code=int(code), now_us=now_us)
    open_still = [number for number in wanted if number in lapsed and not found[number].resolved_kind]
    if open_still:
        _void(uow, found, open_still, code=TransferCode.EXPIRED.value, now_us=now_us)


def has_lapsed(pending: PendingTransfer, *, now_us: int) -> bool:
    """Say whether reserved money can only go back: its time is over, and nothing else became of it before."""
    if pending.resolved_kind:
        return pending.resolved_code == TransferCode.EXPIRED.value and 0 < pending.expires_at_us <= now_us
    return 0 < pending.expires_at_us <= now_us


def expire_pending(uow: UnitOfWork, *, now_us: int, limit: int = SWEEP_MAX) -> int:
    """Void open pendings whose timeout has passed, in the order of (timeout, id); return how many.

    Deterministic and idempotent: the same books at the same time give the same rows, a second call none.
    """
    expired = uow.ledger.expired_pendings(now_us=now_us, limit=limit)
    if expired:
        by_id = {pending.transfer_id: pending for pending in expired}
        _void(uow, by_id, list(by_id), code=TransferCode.EXPIRED.value, now_us=now_us)
    if len(expired) < limit:
        # Not beyond the ledger's time: every later pending times out after it, whatever the clock does.
        uow.ledger.advance_expired(min(now_us, uow.ledger.head().recorded_at_us))
    return len(expired)


def release_job(uow: UnitOfWork, *, buyer_id: str, job_id: int, now_us: int) -> int:
    """End a job's escrow: give back what is free now, and the rest as its open attempts are resolved.

    Returns the micros returned now. Calling it again is harmless and returns 0. No attempt of the job can be
    funded by it afterwards.

    Raises:
        PoolError: PERMISSION_DENIED when the escrow is another buyer's.
    """
    buyer = account(uow, chart.buyer_available_name(buyer_id))
    escrow = account(uow, chart.job_escrow_name(job_id))
    if escrow is None:
        return 0
    if buyer is None or escrow.sweep_to_account_id != buyer.account_id:
        raise PoolError(ErrorCode.PERMISSION_DENIED, f"job {job_id} belongs to another buyer")
    uow.ledger.set_account_state(
        escrow.account_id, from_state=AccountState.OPEN.value, to_state=AccountState.DRAINING.value
    )
    free_micros = escrow.free_micros
    _sweep_drained(uow, [escrow], now_us=now_us)
    return free_micros


def job_money(uow: UnitOfWork, job_ids: Iterable[int]) -> dict[int, JobMoney]:
    """Return the money of jobs; all zero for a job that never had any."""
    names = {chart.job_escrow_name(job_id): job_id for job_id in job_ids}
    found = uow.ledger.accounts_by_name(names)
    nothing = JobMoney(free_micros=0, pending_micros=0, spent_micros=0)
    return {
        job_id: _job_money(uow, found[name]) if name in found else nothing for name, job_id in names.items()
    }


def job_free_micros(uow: UnitOfWork, job_id: int) -> int:
    """Return what a job can still promise to attempts; 0 once it has ended."""
    escrow = account(uow, chart.job_escrow_name(job_id))
    return 0 if escrow is None or escrow.state != AccountState.OPEN else escrow.free_micros


def _job_money(uow: UnitOfWork, escrow: Account) -> JobMoney:
    returned = uow.ledger.sum_by_code(escrow.account_id, TransferCode.RELEASE.value, debit=True)
    return JobMoney(
        free_micros=escrow.free_micros,
        pending_micros=escrow.debits_pending_micros,
        spent_micros=escrow.debits_posted_micros - returned,
    )


def _payment(by_name: Mapping[str, Account], payer: Payer, job_id: int) -> tuple[int, int]:
    """Return the code and the debit account of what a payer pays."""
    if payer is Payer.VERIFICATION:
        return TransferCode.AUDIT.value, by_name[chart.VERIFICATION.name].account_id
    escrow = by_name.get(chart.job_escrow_name(job_id))
    if escrow is None:
        raise PoolError(ErrorCode.INSUFFICIENT_FUNDS, f"nothing was ever reserved for job {job_id}")
    return TransferCode.LEASE.value, escrow.account_id


def _funding_rounds(uow: UnitOfWork, items: Sequence[AttemptFunding]) -> dict[int, int]:
    """Return the next round of attempts funded before; each earlier one must have been given back."""
    rounds: dict[int, int] = {}
    for pending in uow.ledger.pendings_of_references([item.attempt_id for item in items]):
        if pending.resolved_kind != TransferKind.VOID:
            raise PoolError(
                ErrorCode.TRANSFER_STATE,
                f"attempt {pending.reference_id} is funded already by transfer {pending.transfer_id}",
                context={"reference": str(pending.reference_id)},
            )
        rounds[pending.reference_id] = pending.reference_round + 1
    return rounds


def _posting(
    item: AttemptSettlement, gross_micros: int, pendings: Mapping[int, PendingTransfer]
) -> TransferRequest:
    pending = pendings.get(item.pending_transfer_id)
    if pending is None:
        raise PoolError(
            ErrorCode.TRANSFER_STATE,
            f"attempt {item.attempt_id} was never funded by transfer {item.pending_transfer_id}",
            context={"reference": str(item.attempt_id)},
        )
    if pending.reference_id != item.attempt_id:
        raise InvariantError(
            f"transfer {pending.transfer_id} funds attempt {pending.reference_id}, not {item.attempt_id}"
        )
    return TransferRequest(_POST, _VERIFIED, 0, 0, gross_micros, item.pending_transfer_id, item.attempt_id)


def _accounts_of(
    uow: UnitOfWork, pendings: Iterable[PendingTransfer], *, known: Mapping[int, Account]
) -> dict[int, Account]:
    wanted = {side for pending in pendings for side in (pending.debit_account_id, pending.credit_account_id)}
    missing = wanted - known.keys()
    return uow.ledger.accounts(missing) if missing else {}


def _void(
    uow: UnitOfWork, pendings: dict[int, PendingTransfer], wanted: Sequence[int], *, code: int, now_us: int
) -> None:
    requests = [
        TransferRequest(
            _VOID,
            code,
            0,
            0,
            0,
            transfer_id,
            pendings[transfer_id].reference_id if transfer_id in pendings else 0,
        )
        for transfer_id in wanted
    ]
    touched = _accounts_of(uow, pendings.values(), known={})
    transfer(uow, requests, touched.values(), now_us=now_us, pendings=pendings)
    _sweep_drained(uow, touched.values(), now_us=now_us)


def _sweep_drained(uow: UnitOfWork, touched: Iterable[Account], *, now_us: int) -> None:
    """Send what is free in draining escrows back to their buyers, and close those that are empty."""
    escrow_ids = [loaded.account_id for loaded in touched if loaded.sweep_to_account_id]
    if not escrow_ids:
        return
    draining = [
        escrow for escrow in uow.ledger.accounts(escrow_ids).values() if escrow.state == AccountState.DRAINING
    ]
    buyers = uow.ledger.accounts({escrow.sweep_to_account_id for escrow in draining}) if draining else {}
    requests = [
        TransferRequest(
            kind=TransferKind.SINGLE.value,
            code=TransferCode.RELEASE.value,
            debit_account_id=escrow.account_id,
            credit_account_id=escrow.sweep_to_account_id,
            amount_micros=escrow.free_micros,
            reference_id=int(escrow.name.split(":")[1]),
        )
        for escrow in draining
        if escrow.free_micros
    ]
    transfer(uow, requests, [*draining, *buyers.values()], now_us=now_us)
    count_returned(uow, {request.reference_id: request.amount_micros for request in requests})
    for escrow in draining:
        if escrow.debits_pending_micros == 0:
            uow.ledger.set_account_state(
                escrow.account_id, from_state=AccountState.DRAINING.value, to_state=AccountState.CLOSED.value
            )

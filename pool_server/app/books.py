"""Writes to the ledger: load what the core needs, let it decide, write; or refuse the command as a whole.

Commands of this pool are all or nothing, so one refused transfer refuses its command with the error that the
table below gives. What a refused command must leave behind (keys that failed for ever) goes to
`uow.refusals`.
"""

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_server.core.ledger.decision import decide
from pool_server.core.ledger.model import (
    Account,
    AccountSpec,
    Answer,
    LedgerState,
    Outcome,
    PendingTransfer,
    TransferRequest,
)
from pool_server.ports.unit_of_work import Refusal, UnitOfWork

#: What a caller is told when the books refuse. Outcomes that only a programming error can cause are missing.
ERROR_OF = MappingProxyType(
    {
        Outcome.ID_ALREADY_FAILED: ErrorCode.ID_ALREADY_FAILED,
        Outcome.EXISTS_WITH_DIFFERENT: ErrorCode.EXISTS_WITH_DIFFERENT,
        Outcome.AMOUNT_NOT_POSITIVE: ErrorCode.INVALID_ARGUMENT,
        Outcome.TIMEOUT_IN_THE_PAST: ErrorCode.INVALID_ARGUMENT,
        Outcome.PENDING_NOT_FOUND: ErrorCode.TRANSFER_STATE,
        Outcome.PENDING_ALREADY_POSTED: ErrorCode.TRANSFER_STATE,
        Outcome.PENDING_ALREADY_VOIDED: ErrorCode.TRANSFER_STATE,
        Outcome.PENDING_EXPIRED: ErrorCode.TRANSFER_STATE,
        Outcome.EXCEEDS_PENDING_AMOUNT: ErrorCode.TRANSFER_STATE,
        Outcome.DEBIT_ACCOUNT_NOT_FOUND: ErrorCode.INSUFFICIENT_FUNDS,
        Outcome.DEBIT_ACCOUNT_CLOSED: ErrorCode.JOB_CLOSED,
        Outcome.CREDIT_ACCOUNT_CLOSED: ErrorCode.JOB_CLOSED,
        Outcome.OVERFLOW: ErrorCode.INVALID_ARGUMENT,
        Outcome.EXCEEDS_CREDITS: ErrorCode.INSUFFICIENT_FUNDS,
        Outcome.EXCEEDS_DEBITS: ErrorCode.INSUFFICIENT_FUNDS,
    }
)


def open_accounts(uow: UnitOfWork, specs: Iterable[AccountSpec], *, now_us: int) -> dict[str, Account]:
    """Return the accounts by name, opening those that do not exist yet."""
    by_name = {spec.name: spec for spec in specs}
    accounts = uow.ledger.accounts_by_name(by_name)
    missing = [spec for name, spec in by_name.items() if name not in accounts]
    if missing:
        uow.ledger.open_accounts(missing, now_us=now_us)
        accounts.update(uow.ledger.accounts_by_name([spec.name for spec in missing]))
    return accounts


def account(uow: UnitOfWork, name: str) -> Account | None:
    """Return one account, or None when it was never opened."""
    return uow.ledger.accounts_by_name([name]).get(name)


def transfer(
    uow: UnitOfWork,
    requests: Sequence[TransferRequest],
    accounts: Iterable[Account],
    *,
    now_us: int,
    pendings: dict[int, PendingTransfer] | None = None,
) -> list[Answer]:
    """Make all of these transfers, or raise and make none.

    Args:
        uow: The command's transaction.
        requests: In order.
        accounts: Every account they touch, as loaded in this transaction.
        now_us: The command's time.
        pendings: Every pending transfer they resolve, as loaded in this transaction.

    Raises:
        PoolError: see the table above; the context names the outcome and the reference of the transfer
            refused. InvariantError: the requests were wrong in a way that only a programming error can cause.
    """
    if not requests:
        return []
    keys = [request.key for request in requests if request.key]
    state = LedgerState(
        head=uow.ledger.head(),
        accounts={loaded.account_id: loaded for loaded in accounts},
        pendings=pendings or {},
        keys=uow.ledger.keys(keys) if keys else {},
    )
    decision = decide(state, requests, now_us=now_us)
    for request, answer in zip(requests, decision.answers, strict=True):
        if answer.transfer_id == 0:
            failed = [record for record in decision.keys if record.failed]
            if failed:
                uow.refusals.append(Refusal(keys=failed, at_us=now_us))
            raise _refusal(request, answer.outcome)
    uow.ledger.append(decision)
    return list(decision.answers)


def _refusal(request: TransferRequest, outcome: Outcome) -> Exception:
    code = ERROR_OF.get(outcome)
    if code is None:
        return InvariantError(f"the books were asked for {request!r} and answered {outcome}")
    context = {"outcome": outcome.value, "reference": str(request.reference_id)}
    if request.key:
        context["key"] = request.key
    return PoolError(
        code,
        f"transfer {request.code} of {request.amount_micros} micros for {request.reference_id}: {outcome}",
        context=context,
    )

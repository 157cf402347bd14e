"""Money that buyers pay in."""

from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import NAME_CHARACTERS_MAX
from pool_protocol.money import require_amount
from pool_server.app.books import account, open_accounts, transfer
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import TransferCode, TransferKind, TransferRequest
from pool_server.ports.unit_of_work import UnitOfWork

#: After every time that the books hold.
_ANY_TIME_US = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """A deposit as booked."""

    transfer_id: int
    available_micros: int
    """The buyer's free money now."""


def record_deposit(
    uow: UnitOfWork, *, buyer_id: str, amount_micros: int, reference: str, now_us: int
) -> Deposit:
    """Book what the bank received: `bank:main` -> the buyer. Idempotent by the bank's reference.

    That the buyer exists is for the caller to check.

    Raises:
        PoolError: INVALID_ARGUMENT for an amount that is not positive or a reference that is empty or too
            long; EXISTS_WITH_DIFFERENT when the reference was booked for another buyer or amount;
            ID_ALREADY_FAILED.
    """
    require_amount(amount_micros)
    if not reference or len(reference) > NAME_CHARACTERS_MAX or not reference.isprintable():
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"a deposit's reference has 1 to {NAME_CHARACTERS_MAX} printable characters",
            context={"field": "reference"},
        )
    buyer_spec = chart.buyer_available(buyer_id)
    accounts = open_accounts(uow, [chart.BANK, buyer_spec], now_us=now_us)
    request = TransferRequest(
        kind=TransferKind.SINGLE.value,
        code=TransferCode.DEPOSIT.value,
        debit_account_id=accounts[chart.BANK.name].account_id,
        credit_account_id=accounts[buyer_spec.name].account_id,
        amount_micros=amount_micros,
        key=f"deposit:{reference}",
    )
    try:
        [answer] = transfer(uow, [request], accounts.values(), now_us=now_us)
    except PoolError as refusal:
        if refusal.code is not ErrorCode.EXISTS_WITH_DIFFERENT:
            raise
        raise _booked_otherwise(uow, request) from refusal
    buyer = account(uow, buyer_spec.name)
    return Deposit(
        transfer_id=answer.transfer_id, available_micros=buyer.free_micros if buyer is not None else 0
    )


def _booked_otherwise(uow: UnitOfWork, request: TransferRequest) -> PoolError:
    """Say what was booked under the reference before: for the operator, who may have mistyped either."""
    transfer_id = uow.ledger.keys([request.key])[request.key].transfer_id
    booked_micros = next(
        row.amount_micros
        for row in uow.ledger.account_transfers(request.debit_account_id, from_us=0, until_us=_ANY_TIME_US)
        if row.transfer_id == transfer_id
    )
    other = "for another buyer" if booked_micros == request.amount_micros else "with another amount"
    return PoolError(
        ErrorCode.EXISTS_WITH_DIFFERENT,
        f"This reference was booked before {other}: {booked_micros} micros as transfer {transfer_id}.",
        context={"transfer_id": str(transfer_id), "amount_micros": str(booked_micros)},
    )

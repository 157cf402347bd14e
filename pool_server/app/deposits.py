"""Money that buyers pay in."""

from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import NAME_CHARACTERS_MAX
from pool_protocol.money import require_amount
from pool_server.app.books import account, open_accounts, transfer
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import TransferCode, TransferKind, TransferRequest
from pool_server.ports.unit_of_work import UnitOfWork


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
    [answer] = transfer(uow, [request], accounts.values(), now_us=now_us)
    buyer = account(uow, buyer_spec.name)
    return Deposit(
        transfer_id=answer.transfer_id, available_micros=buyer.free_micros if buyer is not None else 0
    )

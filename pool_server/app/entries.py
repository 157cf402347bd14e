"""Operators' entries: proposed by one, booked when a second one approves, or withdrawn.

Nothing is booked before the approval, and then it is booked whole in the same transaction in which the entry
ends. Corrections are entries too: a further transfer puts right what was booked wrongly.
"""

from dataclasses import dataclass, replace

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import require_amount
from pool_server.app.account_reading import require_account
from pool_server.app.books import open_accounts, transfer
from pool_server.app.principals import require_principal
from pool_server.core.ledger.entries import (
    Entry,
    EntryState,
    check_entry,
    parse_entry_code,
    party_account,
    pool_account,
)
from pool_server.core.ledger.model import (
    Account,
    AccountCode,
    AccountSpec,
    TransferKind,
    TransferRequest,
)
from pool_server.ports.shell import Role
from pool_server.ports.unit_of_work import UnitOfWork

#: Entries that one list shows.
ENTRIES_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeEntry:
    """What an operator wants to enter."""

    code: str
    """A code's name, for example `correction`."""
    debit_account: str
    credit_account: str
    amount_micros: int
    is_at_most: bool = False
    """Book what the debit account has free, `amount_micros` at most."""
    reason: str
    idempotency_key: str


def propose_entry(uow: UnitOfWork, wish: ProposeEntry, *, operator_id: str, now_us: int) -> Entry:
    """Propose an entry; the same key with the same wish returns the same entry. Nothing is booked.

    Raises:
        PoolError: INVALID_ARGUMENT; NOT_FOUND for an account that does not exist, names like it in the
            context; EXISTS_WITH_DIFFERENT when the key was used for another wish or by another operator.
    """
    require_amount(wish.amount_micros)
    proposed = Entry(
        entry_id=0,
        code=parse_entry_code(wish.code),
        debit_account=wish.debit_account,
        credit_account=wish.credit_account,
        amount_micros=wish.amount_micros,
        is_at_most=wish.is_at_most,
        reason=wish.reason.strip(),
        idempotency_key=wish.idempotency_key,
        proposed_by=operator_id,
        proposed_at_us=now_us,
    )
    debit, credit = (_code_of(uow, name) for name in (wish.debit_account, wish.credit_account))
    check_entry(proposed, debit=debit, credit=credit)
    before = uow.entries.entry_by_key(wish.idempotency_key)
    if before is not None:
        if before.wish != proposed.wish:
            raise PoolError(
                ErrorCode.EXISTS_WITH_DIFFERENT,
                f"this key was used for {before.text_id}: {before.amount_micros} micros from "
                f"{before.debit_account} to {before.credit_account}",
                context={"entry_id": before.text_id},
            )
        return before
    [entry_id] = uow.ids.next_block("operator_entry", 1)
    entry = replace(proposed, entry_id=entry_id)
    uow.entries.add(entry)
    return entry


def approve_entry(
    uow: UnitOfWork, *, entry_id: int, operator_id: str, expected_amount_micros: int, now_us: int
) -> Entry:
    """Book a proposed entry. The same approval again returns it.

    Checked in this order: the entry exists, its state, four eyes, the amount that was looked at, the money.

    Raises:
        PoolError: NOT_FOUND; INVALID_STATE once it was booked or withdrawn; FOUR_EYES; CONFLICT for another
            amount; INSUFFICIENT_FUNDS: it stays proposed.
    """
    entry = _load(uow, entry_id)
    if entry.state is EntryState.BOOKED and entry.decided_by == operator_id:
        return entry
    _require_proposed(entry)
    if entry.proposed_by == operator_id:
        raise PoolError(
            ErrorCode.FOUR_EYES, f"{operator_id} proposed {entry.text_id}; another operator must approve it"
        )
    if entry.amount_micros != expected_amount_micros:
        raise PoolError(
            ErrorCode.CONFLICT,
            f"{entry.text_id} is of {entry.amount_micros} micros, not {expected_amount_micros}",
            context={"amount_micros": str(entry.amount_micros)},
        )
    debit = _account(uow, entry.debit_account, now_us=now_us)
    credit = _account(uow, entry.credit_account, now_us=now_us)
    request = TransferRequest(
        kind=TransferKind.SINGLE.value,
        code=entry.code,
        debit_account_id=debit.account_id,
        credit_account_id=credit.account_id,
        amount_micros=entry.amount_micros,
        reference_id=entry.entry_id,
        balancing_debit=entry.is_at_most,
    )
    [answer] = transfer(uow, [request], [debit, credit], now_us=now_us)
    booked = replace(
        entry,
        state=EntryState.BOOKED,
        decided_by=operator_id,
        decided_at_us=now_us,
        transfer_id=answer.transfer_id,
    )
    uow.entries.end(booked)
    return booked


def withdraw_entry(uow: UnitOfWork, *, entry_id: int, operator_id: str, now_us: int) -> Entry:
    """Drop a proposed entry; nothing was booked. Withdrawing again returns it.

    Raises:
        PoolError: NOT_FOUND; INVALID_STATE once it was booked.
    """
    entry = _load(uow, entry_id)
    if entry.state is EntryState.WITHDRAWN:
        return entry
    _require_proposed(entry)
    withdrawn = replace(entry, state=EntryState.WITHDRAWN, decided_by=operator_id, decided_at_us=now_us)
    uow.entries.end(withdrawn)
    return withdrawn


def list_entries(uow: UnitOfWork, *, before_entry_id: int, limit: int) -> list[Entry]:
    """Return entries, newest first."""
    return uow.entries.entries(before_entry_id=before_entry_id, limit=min(limit, ENTRIES_MAX))


def _load(uow: UnitOfWork, entry_id: int) -> Entry:
    entry = uow.entries.entry(entry_id)
    if entry is None:
        raise PoolError(ErrorCode.NOT_FOUND, f"there is no entry_{entry_id}")
    return entry


def _require_proposed(entry: Entry) -> None:
    if entry.state is not EntryState.PROPOSED:
        raise PoolError(
            ErrorCode.INVALID_STATE,
            f"{entry.text_id} was {entry.state.value} by {entry.decided_by} already",
            context={"entry_id": entry.text_id, "state": entry.state.value},
        )


def _spec(uow: UnitOfWork, name: str) -> AccountSpec | None:
    """Describe an account that may be opened by its name: the pool's, or that of someone who is known."""
    spec = pool_account(name)
    if spec is not None:
        return spec
    spec = party_account(name)
    if spec is None:
        return None
    role = Role.BUYER if spec.code == AccountCode.BUYER_AVAILABLE else Role.OWNER
    try:
        require_principal(uow, name.split(":")[1], role)
    except PoolError:
        return None
    return spec


def _code_of(uow: UnitOfWork, name: str) -> AccountCode:
    found = uow.ledger.accounts_by_name([name]).get(name)
    if found is not None:
        return AccountCode(found.code)
    spec = _spec(uow, name)
    return spec.code if spec is not None else AccountCode(require_account(uow, name).code)


def _account(uow: UnitOfWork, name: str, *, now_us: int) -> Account:
    found = uow.ledger.accounts_by_name([name]).get(name)
    if found is not None:
        return found
    spec = _spec(uow, name)
    return require_account(uow, name) if spec is None else open_accounts(uow, [spec], now_us=now_us)[name]

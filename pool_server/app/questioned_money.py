"""The money of questioned results: set aside, given back, or taken back. Inside a work command's transaction.

Only money that is still held is touched; what was released stays its owner's. A receipt stays in the books
whatever becomes of it: the log says the rest.
"""

from collections.abc import Iterable, Sequence

from pool_protocol.errors import InvariantError
from pool_server.app.books import open_accounts, transfer
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import TransferCode, TransferKind, TransferRequest
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.verification import QuestionedRow, QuestionedState


def set_aside(uow: UnitOfWork, rows: Sequence[QuestionedRow], *, now_us: int) -> None:
    """Move the money of results that are questioned now from held to questioned."""
    _move(
        uow,
        [
            (row, chart.owner_held_name(row.owner_id), chart.owner_questioned_name(row.owner_id))
            for row in rows
        ],
        code=TransferCode.QUESTIONED,
        now_us=now_us,
    )


def give_back(uow: UnitOfWork, rows: Sequence[QuestionedRow], *, now_us: int) -> None:
    """Answer questions in the owners' favour: the money is held again, or available after its window."""
    if not rows:
        return
    through = uow.receipts.released_through()
    _move(
        uow,
        [
            (
                row,
                chart.owner_questioned_name(row.owner_id),
                chart.owner_available_name(row.owner_id)
                if row.receipt_id <= through
                else chart.owner_held_name(row.owner_id),
            )
            for row in rows
        ],
        code=TransferCode.UPHELD,
        now_us=now_us,
    )
    _answer(uow, rows, QuestionedState.UPHELD, now_us=now_us)


def claw_back(uow: UnitOfWork, rows: Sequence[QuestionedRow], *, now_us: int) -> None:
    """Answer questions against the owners: the pool, which pays for the right result, takes the money."""
    if not rows:
        return
    _move(
        uow,
        [(row, chart.owner_questioned_name(row.owner_id), chart.VERIFICATION.name) for row in rows],
        code=TransferCode.CLAWED_BACK,
        now_us=now_us,
    )
    _answer(uow, rows, QuestionedState.WRONG, now_us=now_us)


def _answer(uow: UnitOfWork, rows: Sequence[QuestionedRow], state: QuestionedState, *, now_us: int) -> None:
    attempt_ids = [row.attempt_id for row in rows]
    if uow.verification.answer(attempt_ids, state=state, now_us=now_us) != len(rows):
        raise InvariantError(f"a question about one of {attempt_ids[:5]} was answered before")


def _move(
    uow: UnitOfWork, moves: Iterable[tuple[QuestionedRow, str, str]], *, code: TransferCode, now_us: int
) -> None:
    moves = [move for move in moves if move[0].net_micros]
    if not moves:
        return
    specs = {chart.VERIFICATION.name: chart.VERIFICATION}
    for row, _, _ in moves:
        for spec in (
            chart.owner_held(row.owner_id),
            chart.owner_available(row.owner_id),
            chart.owner_questioned(row.owner_id),
        ):
            specs[spec.name] = spec
    touched = {name for _, *names in moves for name in names}
    accounts = open_accounts(uow, [specs[name] for name in sorted(touched)], now_us=now_us)
    requests = [
        TransferRequest(
            kind=TransferKind.SINGLE.value,
            code=code.value,
            debit_account_id=accounts[debit].account_id,
            credit_account_id=accounts[credit].account_id,
            amount_micros=row.net_micros,
            reference_id=row.attempt_id,
        )
        for row, debit, credit in moves
    ]
    transfer(uow, requests, accounts.values(), now_us=now_us)

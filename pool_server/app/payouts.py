"""Payout runs: plan, approve by a second operator, export, cancel; and how owners want to be paid.

One run is planned at a time. Planning books nothing; approving books every row from the owner's available
money to clearing (code 500), all rows or none; exporting renders the bank's file once and keeps its bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.limits import NAME_CHARACTERS_MAX
from pool_server.app.books import open_accounts, transfer
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import AccountCode, TransferCode, TransferKind, TransferRequest
from pool_server.core.payouts.details import check_details
from pool_server.core.payouts.model import (
    PayoutDetails,
    PayoutRow,
    PayoutRun,
    PayoutState,
    check_transition,
)
from pool_server.core.payouts.plan import plan_rows
from pool_server.ports.money import PayoutFile, PayoutRail
from pool_server.ports.unit_of_work import UnitOfWork

_PREFIX = "payout_"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutView:
    """A run with its rows."""

    run: PayoutRun
    rows: tuple[PayoutRow, ...]
    """Rows that are paid, by owner."""
    quarantined: tuple[PayoutRow, ...]
    """Rows left out, each with its reason."""


def parse_payout_id(text: str) -> int:
    """Read `payout_3` as 3.

    Raises:
        PoolError: INVALID_ARGUMENT.
    """
    digits = text.removeprefix(_PREFIX)
    if not text.startswith(_PREFIX) or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "not a payout id", context={"field": "payout_id"})
    if digits.startswith("0"):
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "not a payout id", context={"field": "payout_id"})
    return int(digits)


def plan_payout(uow: UnitOfWork, *, operator_id: str, idempotency_key: str, now_us: int) -> PayoutView:
    """Plan a run over all owners' available money; the same key returns the same run.

    Raises:
        PoolError: INVALID_ARGUMENT without a key; EXISTS_WITH_DIFFERENT when another operator used the key;
            PAYOUT_STATE when a run is planned already.
    """
    if not idempotency_key or len(idempotency_key) > NAME_CHARACTERS_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"an idempotency key has 1 to {NAME_CHARACTERS_MAX} characters",
            context={"field": "idempotency_key"},
        )
    existing = uow.payouts.run_by_key(idempotency_key)
    if existing is not None:
        if existing.planned_by != operator_id:
            raise PoolError(
                ErrorCode.EXISTS_WITH_DIFFERENT, f"{existing.text_id} was planned by another operator"
            )
        return _view(uow, existing)
    planned = uow.payouts.runs(state=PayoutState.PLANNED)
    if planned:
        raise PoolError(
            ErrorCode.PAYOUT_STATE,
            f"{planned[0].text_id} is planned; approve or cancel it first",
            context={"payout_id": planned[0].text_id, "state": planned[0].state.value},
        )
    available = {
        chart.owner_of(loaded.name): loaded.free_micros
        for loaded in uow.ledger.accounts_by_prefix("owner:")
        if loaded.code == AccountCode.OWNER_AVAILABLE
    }
    details = uow.payouts.details_of(sorted(available))
    [payout_id] = uow.ids.next_block("payout", 1)
    plan = plan_rows(available, details, payout_id=payout_id)
    run = PayoutRun(
        payout_id=payout_id,
        state=PayoutState.PLANNED,
        currency=uow.terms.currency,
        total_micros=plan.total_micros,
        row_count=plan.row_count,
        idempotency_key=idempotency_key,
        planned_by=operator_id,
        planned_at_us=now_us,
    )
    uow.payouts.add_run(run, plan.rows)
    return _view(uow, run)


def get_payout(uow: UnitOfWork, *, payout_id: int) -> PayoutView:
    """Return a run with its rows.

    Raises:
        PoolError: NOT_FOUND.
    """
    return _view(uow, _load(uow, payout_id))


def list_payouts(uow: UnitOfWork) -> list[PayoutRun]:
    """Return all runs, newest first."""
    return uow.payouts.runs()


def approve_payout(
    uow: UnitOfWork, *, payout_id: int, operator_id: str, expected_total_micros: int, now_us: int
) -> PayoutView:
    """Approve a planned run: the money goes to clearing. The same approval again returns the run.

    Checked in this order: the run exists, its state, four eyes, the total, the owners' details, the money.

    Raises:
        PoolError: NOT_FOUND; PAYOUT_STATE; FOUR_EYES when the approver planned it; CONFLICT when the total is
            another than expected, or owners changed their details since (plan again).
    """
    run = _load(uow, payout_id)
    is_repeat = run.approved_by == operator_id and run.total_micros == expected_total_micros
    if run.state in (PayoutState.APPROVED, PayoutState.EXPORTED) and is_repeat:
        return _view(uow, run)
    check_transition(payout_id, run.state, PayoutState.APPROVED)
    if operator_id == run.planned_by:
        raise PoolError(ErrorCode.FOUR_EYES, f"{operator_id} planned {run.text_id}; another must approve it")
    if expected_total_micros != run.total_micros:
        raise PoolError(
            ErrorCode.CONFLICT,
            f"{run.text_id} is {run.total_micros} micros, not {expected_total_micros}",
            context={"total_micros": str(run.total_micros)},
        )
    view = _view(uow, run)
    _check_details_unchanged(uow, view.rows, run)
    _book(uow, view.rows, payout_id=payout_id, now_us=now_us)
    approved = replace(run, state=PayoutState.APPROVED, approved_by=operator_id, approved_at_us=now_us)
    _move(uow, approved, from_state=PayoutState.PLANNED)
    return replace(view, run=approved)


def cancel_payout(uow: UnitOfWork, *, payout_id: int, operator_id: str, now_us: int) -> PayoutView:
    """Drop a planned run; nothing was booked. Cancelling again returns the run.

    Raises:
        PoolError: NOT_FOUND; PAYOUT_STATE once it is approved.
    """
    run = _load(uow, payout_id)
    if run.state is PayoutState.CANCELLED:
        return _view(uow, run)
    check_transition(payout_id, run.state, PayoutState.CANCELLED)
    cancelled = replace(run, state=PayoutState.CANCELLED, ended_by=operator_id, ended_at_us=now_us)
    _move(uow, cancelled, from_state=PayoutState.PLANNED)
    return _view(uow, cancelled)


def export_payout(
    uow: UnitOfWork, *, payout_id: int, operator_id: str, rail: PayoutRail, now_us: int
) -> tuple[PayoutFile, PayoutView]:
    """Return the bank's file of an approved run: rendered once, the same bytes every time.

    Raises:
        PoolError: NOT_FOUND; PAYOUT_STATE before it is approved.
    """
    run = _load(uow, payout_id)
    if run.state is PayoutState.EXPORTED:
        file = uow.payouts.file(payout_id)
        if file is None or file.sha256_hex != run.file_sha256:
            raise InvariantError(f"the file of {run.text_id} is not the one that was exported")
        return file, _view(uow, run)
    check_transition(payout_id, run.state, PayoutState.EXPORTED)
    view = _view(uow, run)
    file = rail.render(run, view.rows)
    exported = replace(
        run,
        state=PayoutState.EXPORTED,
        ended_by=operator_id,
        ended_at_us=now_us,
        file_sha256=file.sha256_hex,
    )
    uow.payouts.store_file(payout_id, file)
    _move(uow, exported, from_state=PayoutState.APPROVED)
    return file, replace(view, run=exported)


def set_payout_details(
    uow: UnitOfWork, *, owner_id: str, details: PayoutDetails, now_us: int
) -> PayoutDetails:
    """Set how an owner is paid; return it as kept.

    Raises:
        PoolError: INVALID_ARGUMENT; the context's `field` says which.
    """
    checked = check_details(details)
    uow.payouts.set_details(owner_id, checked, now_us=now_us)
    return checked


def get_payout_details(uow: UnitOfWork, *, owner_id: str) -> PayoutDetails | None:
    """Return how an owner is paid; None when nothing was set."""
    return uow.payouts.details(owner_id)


def _load(uow: UnitOfWork, payout_id: int) -> PayoutRun:
    run = uow.payouts.run(payout_id)
    if run is None:
        raise PoolError(ErrorCode.NOT_FOUND, f"there is no payout_{payout_id}")
    return run


def _view(uow: UnitOfWork, run: PayoutRun) -> PayoutView:
    rows = uow.payouts.rows(run.payout_id)
    return PayoutView(
        run=run,
        rows=tuple(row for row in rows if not row.reason),
        quarantined=tuple(row for row in rows if row.reason),
    )


def _move(uow: UnitOfWork, run: PayoutRun, *, from_state: PayoutState) -> None:
    if not uow.payouts.move(run, from_state=from_state):
        raise InvariantError(f"{run.text_id} was not {from_state} any more inside its own transaction")


def _check_details_unchanged(uow: UnitOfWork, rows: Sequence[PayoutRow], run: PayoutRun) -> None:
    """Refuse to pay accounts that are no longer the owners': what was reviewed must be what is paid."""
    now = uow.payouts.details_of([row.owner_id for row in rows])
    changed = [
        row.owner_id
        for row in rows
        if row.owner_id not in now
        or (now[row.owner_id].iban, now[row.owner_id].holder_name) != (row.iban, row.holder_name)
    ]
    if changed:
        raise PoolError(
            ErrorCode.CONFLICT,
            f"{len(changed)} owners changed their payout details since {run.text_id} was planned; plan again",
            context={"owner_id": changed[0], "changed": str(len(changed))},
        )


def _book(uow: UnitOfWork, rows: Sequence[PayoutRow], *, payout_id: int, now_us: int) -> None:
    if not rows:
        return
    clearing = open_accounts(uow, [chart.PAYOUT_CLEARING], now_us=now_us)[chart.PAYOUT_CLEARING.name]
    owners = uow.ledger.accounts_by_name([chart.owner_available_name(row.owner_id) for row in rows])
    requests = [
        TransferRequest(
            kind=TransferKind.SINGLE.value,
            code=TransferCode.PAYOUT.value,
            debit_account_id=owners[chart.owner_available_name(row.owner_id)].account_id,
            credit_account_id=clearing.account_id,
            amount_micros=row.amount_micros,
            reference_id=payout_id,
        )
        for row in rows
    ]
    transfer(uow, requests, [clearing, *owners.values()], now_us=now_us)

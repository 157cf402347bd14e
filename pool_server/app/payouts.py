"""Payout runs: plan, approve by a second operator, export, cancel; and how owners want to be paid.

One run is planned at a time, and one that would pay nobody does not stay planned. Planning books nothing;
approving books the rows from the owners' available money to clearing (code 500) but for those that changed
meanwhile, which are withheld; exporting renders the bank's file once and keeps its bytes. What the bank says
then is in `bank_status`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.limits import NAME_CHARACTERS_MAX
from pool_server.app.books import open_accounts, transfer
from pool_server.app.leaving import finish_leaving, leaving_owners
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import Account, AccountCode, TransferCode, TransferKind, TransferRequest
from pool_server.core.payouts.details import check_details
from pool_server.core.payouts.model import (
    PayoutDetails,
    PayoutRow,
    PayoutRun,
    PayoutState,
    RailName,
    check_transition,
)
from pool_server.core.payouts.plan import plan_rows
from pool_server.core.payouts.row_state import (
    RUN_SETTLED,
    Progress,
    RowState,
    RowStep,
    progress_of,
    row_state,
    run_word,
)
from pool_server.ports.money import PayoutFile, PayoutRail
from pool_server.ports.unit_of_work import UnitOfWork

_PREFIX = "payout_"
#: SEPA's currency: in it, owners' details must satisfy every SEPA bank.
SEPA_CURRENCY = "EUR"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutView:
    """A run with its rows."""

    run: PayoutRun
    rows: tuple[PayoutRow, ...]
    """Rows that are paid, by owner."""
    quarantined: tuple[PayoutRow, ...]
    """Rows left out, each with its reason."""
    steps: Mapping[str, Sequence[RowStep]]
    """What became of payments, by owner, in order."""

    def state_of(self, row: PayoutRow) -> RowState:
        """Return where a row that is paid is."""
        return row_state(self.run.state, self.steps.get(row.owner_id, ()))

    def progress(self) -> Progress:
        """Return how many payments are in which state."""
        return progress_of((row, self.state_of(row)) for row in self.rows)

    def word(self) -> str:
        """Return the run's state as people read it."""
        return run_word(self.run, self.progress())

    def to_send(self) -> tuple[PayoutRow, ...]:
        """Return the rows that go into the bank's file."""
        return tuple(row for row in self.rows if self.state_of(row) is not RowState.WITHHELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """A run in a list."""

    run: PayoutRun
    word: str
    """Its state as people read it, as `PayoutView.word` says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportDraft:
    """What a rail needs to make the bank's file, or the file that was made before."""

    view: PayoutView
    run: PayoutRun
    """As it will be once exported: its `ended_at_us` is the time of the export."""
    file: PayoutFile | None


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


def plan_payout(
    uow: UnitOfWork,
    *,
    operator_id: str,
    idempotency_key: str,
    now_us: int,
    rail: RailName = RailName.CSV,
) -> PayoutView:
    """Plan a run over all owners' available money; the same key returns the same run.

    A run that pays nobody is kept, with those it had to leave out and why, and is cancelled at once: nothing
    waits for it.

    Raises:
        PoolError: INVALID_ARGUMENT without a key, or with a rail that cannot pay the pool's currency;
            EXISTS_WITH_DIFFERENT when another operator used the key; PAYOUT_STATE when a run is planned
            already.
    """
    if not 1 <= len(idempotency_key) <= NAME_CHARACTERS_MAX or not idempotency_key.isprintable():
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"an idempotency key has 1 to {NAME_CHARACTERS_MAX} printable characters",
            context={"field": "idempotency_key"},
        )
    existing = uow.payouts.run_by_key(idempotency_key)
    if existing is not None:
        if existing.planned_by != operator_id or existing.rail != rail.value:
            raise PoolError(
                ErrorCode.EXISTS_WITH_DIFFERENT,
                f"{existing.text_id} was planned with this key by {existing.planned_by} for {existing.rail}",
            )
        return _view(uow, existing)
    if rail is RailName.PAIN001 and uow.terms.currency != SEPA_CURRENCY:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"SEPA pays in {SEPA_CURRENCY}, and this pool's money is {uow.terms.currency}",
            context={"field": "rail"},
        )
    planned = uow.payouts.runs(state=PayoutState.PLANNED)
    if planned:
        raise PoolError(
            ErrorCode.PAYOUT_STATE,
            f"{planned[0].text_id} is planned; approve or cancel it first",
            context={"payout_id": planned[0].text_id, "state": planned[0].state.value},
        )
    leaving = leaving_owners(uow)
    finish_leaving(uow, sorted(leaving), now_us=now_us)
    available = {
        chart.owner_of(loaded.name): loaded.free_micros
        for loaded in uow.ledger.accounts_by_prefix("owner:")
        if loaded.code == AccountCode.OWNER_AVAILABLE
    }
    details = uow.payouts.details_of(sorted(available))
    [payout_id] = uow.ids.next_block("payout", 1)
    plan = plan_rows(
        available,
        details,
        payout_id=payout_id,
        pool_id=uow.terms.pool_id,
        rail=rail,
        leaving=leaving,
    )
    pays_nobody = plan.row_count == 0
    run = PayoutRun(
        payout_id=payout_id,
        state=PayoutState.CANCELLED if pays_nobody else PayoutState.PLANNED,
        currency=uow.terms.currency,
        total_micros=plan.total_micros,
        row_count=plan.row_count,
        idempotency_key=idempotency_key,
        planned_by=operator_id,
        planned_at_us=now_us,
        ended_by=operator_id if pays_nobody else "",
        ended_at_us=now_us if pays_nobody else 0,
        rail=rail.value,
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


def listed_payouts(uow: UnitOfWork) -> list[ListedRun]:
    """Return all runs with their states as people read them, newest first."""
    decided = uow.banks.decided_counts()
    return [
        ListedRun(
            run=run,
            word=(
                RUN_SETTLED
                if run.state is PayoutState.EXPORTED and decided.get(run.payout_id, 0) == run.row_count
                else run.state.value
            ),
        )
        for run in uow.payouts.runs()
    ]


def approve_payout(
    uow: UnitOfWork, *, payout_id: int, operator_id: str, expected_total_micros: int, now_us: int
) -> PayoutView:
    """Approve a planned run: the money goes to clearing. The same approval again returns the run.

    What was reviewed is what is paid, or less: owners who changed their details since it was planned, or
    whose money is not there any more, are withheld, and the others are paid. Checked in this order: the run
    exists, its state, four eyes, the total, the owners' details and money.

    Raises:
        PoolError: NOT_FOUND; PAYOUT_STATE; FOUR_EYES when the approver planned it; CONFLICT when the total is
            another than expected, or nobody is left to pay (plan again).
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
    accounts = uow.ledger.accounts_by_name([chart.owner_available_name(row.owner_id) for row in view.rows])
    withheld = _withheld(uow, view.rows, accounts, payout_id=payout_id, now_us=now_us)
    paid = [row for row in view.rows if row.owner_id not in withheld]
    if not paid:
        raise PoolError(
            ErrorCode.CONFLICT,
            f"all owners of {run.text_id} changed their payout details since it was planned; "
            "cancel it and plan again",
            context={"owner_id": next(iter(withheld), ""), "changed": str(len(withheld))},
        )
    uow.banks.add_steps(list(withheld.values()))
    _book(uow, paid, accounts, payout_id=payout_id, now_us=now_us)
    approved = replace(run, state=PayoutState.APPROVED, approved_by=operator_id, approved_at_us=now_us)
    _move(uow, approved, from_state=PayoutState.PLANNED)
    return _view(uow, approved)


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
    draft = draft_export(uow, payout_id=payout_id, operator_id=operator_id, now_us=now_us)
    if draft.file is not None:
        return draft.file, draft.view
    return keep_export(uow, draft=draft, file=rail.render(draft.run, draft.view.to_send()))


def draft_export(uow: UnitOfWork, *, payout_id: int, operator_id: str, now_us: int) -> ExportDraft:
    """Return what to render; changes nothing. Rows of an approved run never change, so it stays true.

    Raises:
        PoolError: NOT_FOUND; PAYOUT_STATE before it is approved.
    """
    run = _load(uow, payout_id)
    view = _view(uow, run)
    if run.state is PayoutState.EXPORTED:
        return ExportDraft(view=view, run=run, file=_stored_file(uow, run))
    check_transition(payout_id, run.state, PayoutState.EXPORTED)
    exported = replace(run, state=PayoutState.EXPORTED, ended_by=operator_id, ended_at_us=now_us)
    return ExportDraft(view=view, run=exported, file=None)


def keep_export(uow: UnitOfWork, *, draft: ExportDraft, file: PayoutFile) -> tuple[PayoutFile, PayoutView]:
    """Keep a rendered file; when another was kept meanwhile, return that one.

    Raises:
        PoolError: NOT_FOUND; PAYOUT_STATE when the run is not approved.
    """
    run = _load(uow, draft.run.payout_id)
    if run.state is PayoutState.EXPORTED:
        return _stored_file(uow, run), _view(uow, run)
    check_transition(run.payout_id, run.state, PayoutState.EXPORTED)
    exported = replace(draft.run, file_sha256=file.sha256_hex)
    uow.payouts.store_file(run.payout_id, file)
    _move(uow, exported, from_state=PayoutState.APPROVED)
    return file, _view(uow, exported)


def _stored_file(uow: UnitOfWork, run: PayoutRun) -> PayoutFile:
    file = uow.payouts.file(run.payout_id)
    if file is None or file.sha256_hex != run.file_sha256:
        raise InvariantError(f"the file of {run.text_id} is not the one that was exported")
    return file


def check_payout_details(uow: UnitOfWork, details: PayoutDetails) -> PayoutDetails:
    """Return details as they would be kept; nothing is written.

    Raises:
        PoolError: INVALID_ARGUMENT; the context's `field` says which, and `proposal` what to confirm instead.
    """
    return check_details(details, sepa=uow.terms.currency == SEPA_CURRENCY)


def set_payout_details(
    uow: UnitOfWork, *, owner_id: str, details: PayoutDetails, now_us: int
) -> PayoutDetails:
    """Set how an owner is paid; return it as kept.

    Raises:
        PoolError: INVALID_ARGUMENT; the context's `field` says which, and `proposal` what to confirm instead.
    """
    checked = check_payout_details(uow, details)
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
        steps=uow.banks.steps(run.payout_id),
    )


def _move(uow: UnitOfWork, run: PayoutRun, *, from_state: PayoutState) -> None:
    if not uow.payouts.move(run, from_state=from_state):
        raise InvariantError(f"{run.text_id} was not {from_state} any more inside its own transaction")


def _withheld(
    uow: UnitOfWork,
    rows: Sequence[PayoutRow],
    accounts: Mapping[str, Account],
    *,
    payout_id: int,
    now_us: int,
) -> dict[str, RowStep]:
    """Return by owner why rows are not paid although planned: to what was reviewed, or not at all."""
    details = uow.payouts.details_of([row.owner_id for row in rows])
    withheld: dict[str, RowStep] = {}
    for row in rows:
        now = details.get(row.owner_id)
        account = accounts.get(chart.owner_available_name(row.owner_id))
        if now is None or _bank_side(now) != _bank_side(row):
            why = "the payout details were changed after the run was planned"
        elif account is None or account.free_micros < row.amount_micros:
            why = "less money is available than when the run was planned"
        else:
            continue
        withheld[row.owner_id] = RowStep(
            payout_id=payout_id,
            owner_id=row.owner_id,
            state=RowState.WITHHELD,
            from_state=RowState.PLANNED,
            amount_micros=row.amount_micros,
            reason_code="",
            reason_text=why,
            report_id=0,
            at_us=now_us,
        )
    return withheld


def _bank_side(value: PayoutDetails | PayoutRow) -> tuple[str, ...]:
    return (value.iban, value.holder_name, value.town, value.country, value.bic)


def _book(
    uow: UnitOfWork, rows: Sequence[PayoutRow], owners: Mapping[str, Account], *, payout_id: int, now_us: int
) -> None:
    clearing = open_accounts(uow, [chart.PAYOUT_CLEARING], now_us=now_us)[chart.PAYOUT_CLEARING.name]
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

"""The review of a payout run: what a second operator reads before approving it. Reads only."""

from dataclasses import dataclass

from pool_protocol import amounts
from pool_protocol.money import MICROS_PER_CENT
from pool_server.app.payouts import PayoutView, get_payout
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.chart import NATURE, Nature
from pool_server.core.ledger.model import AccountCode
from pool_server.core.payouts.model import PayoutRow, PayoutState
from pool_server.core.payouts.review import Coverage, Past, Review, review
from pool_server.core.payouts.row_state import RowState
from pool_server.ports.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutReview:
    """A run and what to think of."""

    view: PayoutView
    review: Review
    coverage: Coverage
    previous_payout_id: int
    """The run it is compared with; 0 for none."""


def review_payout(uow: UnitOfWork, *, payout_id: int) -> PayoutReview:
    """Review a run, planned or not.

    Raises:
        PoolError: NOT_FOUND.
    """
    view = get_payout(uow, payout_id=payout_id)
    previous_payout_id, previous = _previous(uow, payout_id)
    coverage = _coverage(uow)
    return PayoutReview(
        view=view,
        review=review(
            view.rows,
            Past(
                rows=previous,
                ibans=uow.payouts.last_ibans(before_payout_id=payout_id),
                came_back=_came_back(uow, previous_payout_id),
                paid_after_all=uow.banks.paid_after_all(),
            ),
            waiting_micros=_waiting(uow, view),
            coverage=coverage,
            money=lambda micros: amounts.cents(micros, view.run.currency),
        ),
        coverage=coverage,
        previous_payout_id=previous_payout_id,
    )


def _previous(uow: UnitOfWork, payout_id: int) -> tuple[int, list[PayoutRow]]:
    for run in uow.payouts.runs():
        if run.payout_id < payout_id and run.state in (PayoutState.APPROVED, PayoutState.EXPORTED):
            return run.payout_id, [row for row in uow.payouts.rows(run.payout_id) if not row.reason]
    return 0, []


def _came_back(uow: UnitOfWork, payout_id: int) -> set[str]:
    steps = uow.banks.steps(payout_id) if payout_id else {}
    return {
        owner_id
        for owner_id, taken in steps.items()
        if taken[-1].state in (RowState.REJECTED, RowState.RETURNED)
    }


def _coverage(uow: UnitOfWork) -> Coverage:
    balances = {
        AccountCode(code): credits_posted - debits_posted
        for code, (_, debits_posted, _, credits_posted) in uow.ledger.totals_by_code().items()
    }
    stated = uow.solvency.last()
    return Coverage(
        entered_micros=0 if stated is None else stated.facts.bank_micros,
        entered_as_of="" if stated is None else stated.facts.bank_as_of,
        bank_micros=-balances.get(AccountCode.BANK, 0),
        owed_micros=sum(balance for code, balance in balances.items() if NATURE[code] is Nature.LIABILITY),
        under_way_micros=balances.get(AccountCode.PAYOUT_CLEARING, 0),
    )


def _waiting(uow: UnitOfWork, view: PayoutView) -> list[int]:
    """Return the whole cents of each owner who has some and is in no row."""
    in_rows = {row.owner_id for row in (*view.rows, *view.quarantined)}
    return [
        loaded.free_micros // MICROS_PER_CENT * MICROS_PER_CENT
        for loaded in uow.ledger.accounts_by_prefix("owner:")
        if loaded.code == AccountCode.OWNER_AVAILABLE and chart.owner_of(loaded.name) not in in_rows
    ]

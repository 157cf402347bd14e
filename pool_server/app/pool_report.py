"""The operator's report of a month or of all time, from receipts, payout runs and the books."""

from collections import defaultdict

from pool_protocol.limits import DAY_US
from pool_server.app.books import account
from pool_server.core.fleet import VehicleState
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import AccountCode
from pool_server.core.payouts.model import PayoutState
from pool_server.core.payouts.row_state import PAID_STATES, row_state
from pool_server.core.pool_report import OwnerLine, PoolReport, make_report
from pool_server.core.statement import month_bounds_us
from pool_server.ports.money import DayRow
from pool_server.ports.unit_of_work import UnitOfWork

#: The end of "all time": the last day that the tables can hold.
_FOR_EVER_US = 2**62 // DAY_US * DAY_US
_APPROVED = (PayoutState.APPROVED, PayoutState.EXPORTED)


def pool_report(uow: UnitOfWork, *, month: str, now_us: int) -> PoolReport:
    """Return the report of a month such as `2026-11`, or of all time for an empty text.

    Raises:
        PoolError: INVALID_ARGUMENT for something that is not a month.
        InvariantError: the figures do not add up.
    """
    from_us, until_us = month_bounds_us(month) if month else (0, _FOR_EVER_US)
    work = {
        row.owner_id: row
        for row in uow.receipts.sums_by_owner(from_day=from_us // DAY_US, until_day=until_us // DAY_US)
    }
    balances = _balances(uow)
    paid = _paid(uow, from_us=from_us, until_us=until_us)
    owner_ids = work.keys() | balances.keys() | paid.keys()
    verification = account(uow, chart.VERIFICATION.name)
    return make_report(
        month=month,
        currency=uow.terms.currency,
        made_at_us=now_us,
        owners=[
            _line(owner_id, work.get(owner_id), balances.get(owner_id, {}), paid.get(owner_id, 0))
            for owner_id in sorted(owner_ids)
        ],
        verification_cost_micros=0
        if verification is None
        else uow.receipts.paid_by(verification.account_id, from_us=from_us, until_us=until_us),
        vehicles_quarantined=uow.fleet.counts_by_state().get(VehicleState.QUARANTINED.value, 0),
    )


def _balances(uow: UnitOfWork) -> dict[str, dict[int, int]]:
    """Return each owner's balances by account code."""
    balances: dict[str, dict[int, int]] = defaultdict(dict)
    for loaded in uow.ledger.accounts_by_prefix("owner:"):
        balances[chart.owner_of(loaded.name)][loaded.code] = loaded.balance_micros
    return balances


def _paid(uow: UnitOfWork, *, from_us: int, until_us: int) -> dict[str, int]:
    """Return each owner's money in runs approved in a time range, but for what came back."""
    paid: dict[str, int] = defaultdict(int)
    for run in uow.payouts.runs():
        if run.state in _APPROVED and from_us <= run.approved_at_us < until_us:
            steps = uow.banks.steps(run.payout_id)
            for row in uow.payouts.rows(run.payout_id):
                state = row_state(run.state, steps.get(row.owner_id, ()))
                paid[row.owner_id] += 0 if row.reason or state not in PAID_STATES else row.amount_micros
    return paid


def _line(owner_id: str, work: DayRow | None, balances: dict[int, int], paid_micros: int) -> OwnerLine:
    done = work or DayRow(owner_id, 0, "", 0, 0, 0, 0, 0)
    return OwnerLine(
        owner_id=owner_id,
        verified_attempts=done.attempts,
        work_uwu=done.work_uwu,
        gross_micros=done.gross_micros,
        fee_micros=done.fee_micros,
        net_micros=done.net_micros,
        held_micros=balances.get(AccountCode.OWNER_HELD, 0) + balances.get(AccountCode.OWNER_QUESTIONED, 0),
        available_micros=balances.get(AccountCode.OWNER_AVAILABLE, 0),
        paid_micros=paid_micros,
    )

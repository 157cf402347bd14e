"""The operator's report of a month or of all time, from receipts, payout runs and the books."""

from collections import defaultdict
from collections.abc import Sequence

from pool_protocol.limits import DAY_US
from pool_server.app.books import account
from pool_server.core.fleet import VehicleState
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import AccountCode, TransferCode
from pool_server.core.pool_report import OwnerLine, PoolReport, make_report
from pool_server.core.report_figures import LeftOutRow, Mover, ReportFigures, by_age, movers_of
from pool_server.core.statement import date_of, month_bounds_us
from pool_server.ports.money import DayRow
from pool_server.ports.papers import OwnerFlow
from pool_server.ports.unit_of_work import UnitOfWork

#: The end of "all time": the last day that the tables can hold.
_FOR_EVER_US = 2**62 // DAY_US * DAY_US


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
    flows = uow.papers.owner_flows(from_us=from_us, until_us=until_us)
    paid = _sums(flows, TransferCode.PAYOUT, TransferCode.PAYOUT_RETURNED)
    owner_ids = work.keys() | balances.keys() | paid.keys()
    verification = account(uow, chart.VERIFICATION.name)
    return make_report(
        month=month,
        currency=uow.terms.currency,
        made_at_us=now_us,
        owners=[
            _line(owner_id, work.get(owner_id), balances.get(owner_id, {}), -paid.get(owner_id, 0))
            for owner_id in sorted(owner_ids)
        ],
        verification_cost_micros=0
        if verification is None
        else uow.receipts.paid_by(verification.account_id, from_us=from_us, until_us=until_us),
        vehicles_quarantined=uow.fleet.counts_by_state().get(VehicleState.QUARANTINED.value, 0),
        figures=ReportFigures(
            movers=_movers(uow, work, from_us=from_us) if month else (),
            held_by_age=by_age(uow.papers.held_since(), now_us=now_us),
            questioned_micros=sum(codes.get(AccountCode.OWNER_QUESTIONED, 0) for codes in balances.values()),
            escrow_by_age=by_age(uow.papers.escrow_since(), now_us=now_us),
            left_out=_left_out(uow, from_us=from_us, until_us=until_us),
            returned_count=sum(flow.transfers for flow in flows if flow.code == TransferCode.PAYOUT_RETURNED),
            returned_micros=sum(_sums(flows, TransferCode.PAYOUT_RETURNED).values()),
            clawed_back_micros=-sum(_sums(flows, TransferCode.CLAWED_BACK).values()),
            appealed_micros=sum(_sums(flows, TransferCode.APPEALED).values()),
        ),
    )


def _sums(flows: Sequence[OwnerFlow], *codes: TransferCode) -> dict[str, int]:
    """Return what moved per owner for some reasons; positive is towards the owner."""
    sums: dict[str, int] = defaultdict(int)
    for flow in flows:
        if flow.code in codes:
            sums[flow.owner_id] += flow.amount_micros
    return sums


def _movers(uow: UnitOfWork, work: dict[str, DayRow], *, from_us: int) -> tuple[Mover, ...]:
    before_from_us, _ = month_bounds_us(date_of(from_us - 1)[:7])
    before = uow.receipts.sums_by_owner(from_day=before_from_us // DAY_US, until_day=from_us // DAY_US)
    return movers_of(
        {owner_id: row.net_micros for owner_id, row in work.items()},
        {row.owner_id: row.net_micros for row in before},
    )


def _left_out(uow: UnitOfWork, *, from_us: int, until_us: int) -> tuple[LeftOutRow, ...]:
    return tuple(
        LeftOutRow(
            payout_id=run.text_id, owner_id=row.owner_id, amount_micros=row.amount_micros, reason=row.reason
        )
        for run in uow.payouts.runs()
        if from_us <= run.planned_at_us < until_us
        for row in uow.payouts.rows(run.payout_id)
        if row.reason
    )


def _balances(uow: UnitOfWork) -> dict[str, dict[int, int]]:
    """Return each owner's balances by account code."""
    balances: dict[str, dict[int, int]] = defaultdict(dict)
    for loaded in uow.ledger.accounts_by_prefix("owner:"):
        balances[chart.owner_of(loaded.name)][loaded.code] = loaded.balance_micros
    return balances


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

"""Every owner's year for tax authorities, from the ledger."""

from collections import defaultdict

from pool_protocol.limits import DAY_US
from pool_server.core.ledger.model import AccountCode, TransferCode
from pool_server.core.particulars import EMPTY
from pool_server.core.yearly import OwnerYear, Quarter, quarter_bounds_us, with_something
from pool_server.ports.unit_of_work import UnitOfWork

#: Flows that pay an owner out, or bring a payout back.
_PAYOUTS = frozenset({TransferCode.PAYOUT, TransferCode.PAYOUT_RETURNED})


def owner_years(uow: UnitOfWork, *, year: int) -> tuple[OwnerYear, ...]:
    """Return the year of each owner that has something to report, by owner.

    Raises:
        PoolError: INVALID_ARGUMENT for a year that is none.
    """
    quarters: dict[str, list[Quarter]] = defaultdict(list)
    payments: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for place, (from_us, until_us) in enumerate(quarter_bounds_us(year)):
        flows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for flow in uow.papers.owner_flows(from_us=from_us, until_us=until_us):
            if flow.code in _PAYOUTS:
                paid = payments[flow.owner_id]
                paid[0] -= flow.amount_micros
                paid[1] += flow.transfers if flow.code == TransferCode.PAYOUT else -flow.transfers
                continue
            sums = flows[flow.owner_id]
            sums[0] += flow.amount_micros
            if flow.other_code == AccountCode.POOL_FEE:
                sums[1] -= flow.amount_micros
            elif flow.other_code == AccountCode.TAX:
                sums[2] -= flow.amount_micros
        attempts = {
            row.owner_id: row.attempts
            for row in uow.receipts.sums_by_owner(from_day=from_us // DAY_US, until_day=until_us // DAY_US)
        }
        for owner_id in flows.keys() | attempts.keys():
            _fill(quarters[owner_id], place)
            consideration, fees, taxes = flows[owner_id]
            quarters[owner_id].append(
                Quarter(
                    # Net of fees, but not of taxes: those are the owner's, paid on its behalf.
                    consideration_micros=consideration + taxes,
                    activities=attempts.get(owner_id, 0),
                    fees_micros=fees,
                    taxes_micros=taxes,
                )
            )
    owner_ids = sorted(quarters.keys() | payments.keys())
    particulars = uow.particulars.of(owner_ids)
    details = uow.payouts.details_of(owner_ids)
    for owner_id in owner_ids:
        _fill(quarters[owner_id], 4)
    return with_something(
        [
            OwnerYear(
                owner_id=owner_id,
                particulars=particulars.get(owner_id, EMPTY),
                account=details[owner_id].iban if owner_id in details else "",
                account_holder=details[owner_id].holder_name if owner_id in details else "",
                quarters=tuple(quarters[owner_id]),
                payments_micros=payments[owner_id][0],
                payment_count=payments[owner_id][1],
            )
            for owner_id in owner_ids
        ]
    )


def _fill(quarters: list[Quarter], count: int) -> None:
    """Put empty quarters where an owner had none."""
    quarters.extend(Quarter() for _ in range(count - len(quarters)))

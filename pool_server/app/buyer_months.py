"""A buyer's month from the ledger: charges from receipts and their transfers, entries from the account."""

from collections.abc import Iterable, Sequence

from pool_protocol.limits import DAY_US
from pool_server.app.books import account
from pool_server.core.buyer_month import BuyerMonth, Charge, Entry
from pool_server.core.jobs import PriceMode
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import TransferCode
from pool_server.core.statement import month_bounds_us
from pool_server.ports.papers import ChargeRow
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobRow

_FOR_EVER_US = 2**62
_WORDS = {
    TransferCode.DEPOSIT: "deposit",
    TransferCode.DEPOSIT_FEE: "bank's fee on a deposit",
    TransferCode.REFUND: "refund",
    TransferCode.SLA_CREDIT: "credit for work that came late",
    TransferCode.GOODWILL: "credit",
    TransferCode.CORRECTION: "correction",
    TransferCode.VAT: "value added tax",
    TransferCode.OPENING: "opening balance",
}


def buyer_month(
    uow: UnitOfWork, *, buyer_id: str, month: str, charges: Sequence[ChargeRow] | None = None
) -> BuyerMonth:
    """Return a buyer's month such as `2026-11`.

    Args:
        uow: The store.
        buyer_id: Whose.
        month: Which.
        charges: What `charges_since` returned for the month, of this buyer or of all, to read them once for
            many buyers.

    Raises:
        PoolError: INVALID_ARGUMENT for something that is not a month.
        InvariantError: the figures do not add up to the ledger's.
    """
    from_us, until_us = month_bounds_us(month)
    available = account(uow, chart.buyer_available_name(buyer_id))
    if available is None:
        return _nothing(buyer_id, month, uow.terms.currency)
    buyer = available.account_id
    since = charges_since(uow, month=month, buyer_account_id=buyer) if charges is None else charges
    mine = [row for row in since if row.buyer_account_id == buyer]
    in_month = [row for row in mine if row.day < until_us // DAY_US]
    charged = uow.papers.charged(buyer_account_id=buyer)
    opening_micros = uow.papers.buyer_flows_before(buyer_account_id=buyer, before_us=from_us) - (
        charged - sum(row.cost_micros for row in mine)
    )
    closing_micros = uow.papers.buyer_flows_before(buyer_account_id=buyer, before_us=until_us) - (
        charged - sum(row.cost_micros for row in mine if row.day >= until_us // DAY_US)
    )
    return BuyerMonth(
        buyer_id=buyer_id,
        month=month,
        currency=uow.terms.currency,
        opening_micros=opening_micros,
        charges=tuple(_charges(uow, in_month)),
        entries=tuple(
            Entry(
                at_us=flow.recorded_at_us,
                code=flow.code,
                words=_words(flow.code),
                reference=f"transfer_{flow.transfer_id}",
                amount_micros=flow.amount_micros,
            )
            for flow in uow.papers.buyer_flows(buyer_account_id=buyer, from_us=from_us, until_us=until_us)
        ),
        closing_micros=closing_micros,
    )


def charges_since(uow: UnitOfWork, *, month: str, buyer_account_id: int = 0) -> list[ChargeRow]:
    """Return the charges of a month and of all time after it: one reading tells a month and both balances.

    Raises:
        PoolError: INVALID_ARGUMENT for something that is not a month.
    """
    from_us, _ = month_bounds_us(month)
    return uow.papers.charges(from_us=from_us, until_us=_FOR_EVER_US, buyer_account_id=buyer_account_id)


def _charges(uow: UnitOfWork, rows: Iterable[ChargeRow]) -> Iterable[Charge]:
    jobs: dict[int, JobRow | None] = {}
    for row in rows:
        if row.job_id not in jobs:
            jobs[row.job_id] = uow.jobs.get(row.job_id)
        job = jobs[row.job_id]
        yield Charge(
            day=row.day,
            job_id=row.job_id,
            job_name=job.name if job else "",
            level=job.level.value if job else "",
            program_sha256=job.program_sha256 if job else "",
            price_micros_per_wu=row.price_micros_per_wu,
            attempts=row.attempts,
            work_uwu=row.work_uwu,
            cost_micros=row.cost_micros,
            energy_mj=row.energy_mj,
            energy_attempts=row.energy_attempts,
            is_quoted=job is not None and job.terms.mode is PriceMode.QUOTE,
        )


def _words(code: int) -> str:
    try:
        return _WORDS[TransferCode(code)]
    except (KeyError, ValueError):
        return f"transfer of code {code}"


def _nothing(buyer_id: str, month: str, currency: str) -> BuyerMonth:
    return BuyerMonth(
        buyer_id=buyer_id,
        month=month,
        currency=currency,
        opening_micros=0,
        charges=(),
        entries=(),
        closing_micros=0,
    )

"""Plans a payout run: who is paid how many whole cents, and who is left out and why."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pool_protocol.money import MICROS_PER_CENT
from pool_server.core.payouts.details import left_out_reason
from pool_server.core.payouts.model import LeftOut, PayoutDetails, PayoutRow, RailName
from pool_server.core.payouts.references import end_to_end_reference
from pool_server.core.payouts.sepa import SEPA_AMOUNT_MICROS_MAX

#: Least amount for which an owner without (valid) details is listed as left out: one cent.
_LEAST_MICROS = MICROS_PER_CENT
#: Payments of one run: its file fits one message with room to spare. Who comes behind is in the next run,
#: because those paid by this one no longer have anything to be paid.
PAYMENTS_MAX = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The rows of a run, by owner."""

    rows: tuple[PayoutRow, ...]
    """Paid rows and rows left out together, by owner id; `reason` tells them apart."""
    total_micros: int
    """Sum of the paid rows."""
    row_count: int
    """Number of the paid rows."""


def plan_rows(
    available_micros: Mapping[str, int],
    details: Mapping[str, PayoutDetails],
    *,
    payout_id: int,
    pool_id: str,
    rail: RailName = RailName.CSV,
    leaving: Collection[str] = (),
    payments_max: int = PAYMENTS_MAX,
) -> Plan:
    """Plan a run over owners' available money.

    Each owner is paid all whole cents; what is less than a cent stays available. An owner below its threshold
    has no row, unless it is `leaving`: then every cent is paid. An owner with at least a cent who cannot be
    paid has a row with the reason, and the money stays available: one bad row never stops the others.
    """
    rows: list[PayoutRow] = []
    paid_count = 0
    for owner_id in sorted(available_micros):
        amount_micros = available_micros[owner_id] // MICROS_PER_CENT * MICROS_PER_CENT
        if amount_micros < _LEAST_MICROS:
            continue
        wanted = details.get(owner_id)
        reason = _reason(wanted, amount_micros, rail)
        is_below = wanted is not None and amount_micros < wanted.threshold_micros
        if reason is None and ((is_below and owner_id not in leaving) or paid_count == payments_max):
            continue
        paid_count += reason is None
        rows.append(
            PayoutRow(
                owner_id=owner_id,
                holder_name=wanted.holder_name if wanted else "",
                iban=wanted.iban if wanted else "",
                amount_micros=amount_micros,
                reason=reason.value if reason else "",
                reference="" if reason else end_to_end_reference(pool_id, payout_id, len(rows) + 1),
                town=wanted.town if wanted else "",
                country=wanted.country if wanted else "",
                bic=wanted.bic if wanted else "",
            )
        )
    paid = [row for row in rows if not row.reason]
    return Plan(rows=tuple(rows), total_micros=sum(row.amount_micros for row in paid), row_count=len(paid))


def _reason(details: PayoutDetails | None, amount_micros: int, rail: RailName) -> LeftOut | None:
    sepa = rail is RailName.PAIN001
    reason = left_out_reason(details, sepa=sepa)
    if reason is None and sepa and amount_micros > SEPA_AMOUNT_MICROS_MAX:
        return LeftOut.AMOUNT_TOO_LARGE
    return reason

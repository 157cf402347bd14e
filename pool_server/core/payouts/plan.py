"""Plans a payout run: who is paid how many whole cents, and who is left out and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from pool_protocol.money import MICROS_PER_CENT
from pool_server.core.payouts.details import left_out_reason
from pool_server.core.payouts.model import PayoutDetails, PayoutRow

#: Least amount for which an owner without (valid) details is listed as left out: one cent.
_LEAST_MICROS = MICROS_PER_CENT


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
    available_micros: Mapping[str, int], details: Mapping[str, PayoutDetails], *, payout_id: int
) -> Plan:
    """Plan a run over owners' available money.

    Each owner is paid all whole cents; what is less than a cent stays available. An owner below its threshold
    has no row. An owner with at least a cent who cannot be paid has a row with the reason, and the money
    stays available: one bad row never stops the others.
    """
    rows: list[PayoutRow] = []
    for owner_id in sorted(available_micros):
        amount_micros = available_micros[owner_id] // MICROS_PER_CENT * MICROS_PER_CENT
        if amount_micros < _LEAST_MICROS:
            continue
        owner_details = details.get(owner_id)
        reason = left_out_reason(owner_details)
        if reason is None and owner_details is not None and amount_micros < owner_details.threshold_micros:
            continue
        rows.append(
            PayoutRow(
                owner_id=owner_id,
                holder_name=owner_details.holder_name if owner_details else "",
                iban=owner_details.iban if owner_details else "",
                amount_micros=amount_micros,
                reason=reason.value if reason else "",
                reference="" if reason else end_to_end_reference(payout_id, len(rows) + 1),
            )
        )
    paid = [row for row in rows if not row.reason]
    return Plan(rows=tuple(rows), total_micros=sum(row.amount_micros for row in paid), row_count=len(paid))


def end_to_end_reference(payout_id: int, number: int) -> str:
    """Return the reference that follows a payment through the banks: at most 35 characters (ISO 20022)."""
    return f"CP-{payout_id}-{number}"

"""The operator's report of a month, or of all time: who verified what, what it cost, what is owed. Pure.

Work, fees and payouts are those of the period; held and available money is what it is when the report is
made. Buyers and the pool itself (audits) together paid what owners and the fee received:

    buyers_spent + verification_cost = gross = fees + net
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pool_protocol.errors import InvariantError
from pool_server.core.report_figures import NO_FIGURES, ReportFigures, share_ppm


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerLine:
    """One owner, or the sum over all."""

    owner_id: str
    """Empty for the sum."""
    verified_attempts: int = 0
    work_uwu: int = 0
    gross_micros: int = 0
    fee_micros: int = 0
    net_micros: int = 0
    held_micros: int = 0
    """Inside the dispute window when the report is made."""
    available_micros: int = 0
    """Payable when the report is made."""
    paid_micros: int = 0
    """Payouts booked in the period minus those that came back in it."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to report."""
        return not (self.verified_attempts or self.held_micros or self.available_micros or self.paid_micros)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """Figures of a period."""

    month: str
    """Such as `2026-11`; empty for all time."""
    currency: str
    made_at_us: int
    owners: tuple[OwnerLine, ...]
    """By id; owners with nothing to report are left out."""
    total: OwnerLine
    buyers_spent_micros: int
    """Paid by buyers for work verified in the period."""
    verification_cost_micros: int
    """Paid by the pool for audits verified in the period."""
    vehicles_quarantined: int
    """When the report is made."""
    figures: ReportFigures = NO_FIGURES


def make_report(
    *,
    month: str,
    currency: str,
    made_at_us: int,
    owners: Sequence[OwnerLine],
    verification_cost_micros: int,
    vehicles_quarantined: int,
    figures: ReportFigures = NO_FIGURES,
) -> PoolReport:
    """Put a report together.

    Raises:
        InvariantError: owners' money does not add up, or audits cost more than was paid for all work.
    """
    total = OwnerLine(
        owner_id="",
        verified_attempts=sum(line.verified_attempts for line in owners),
        work_uwu=sum(line.work_uwu for line in owners),
        gross_micros=sum(line.gross_micros for line in owners),
        fee_micros=sum(line.fee_micros for line in owners),
        net_micros=sum(line.net_micros for line in owners),
        held_micros=sum(line.held_micros for line in owners),
        available_micros=sum(line.available_micros for line in owners),
        paid_micros=sum(line.paid_micros for line in owners),
    )
    if total.gross_micros != total.fee_micros + total.net_micros:
        raise InvariantError(
            f"gross {total.gross_micros} is not fee {total.fee_micros} + net {total.net_micros}"
        )
    if not 0 <= verification_cost_micros <= total.gross_micros:
        raise InvariantError(f"audits cost {verification_cost_micros} of {total.gross_micros} micros")
    return PoolReport(
        month=month,
        currency=currency,
        made_at_us=made_at_us,
        owners=tuple(sorted((line for line in owners if not line.is_empty), key=lambda line: line.owner_id)),
        total=total,
        buyers_spent_micros=total.gross_micros - verification_cost_micros,
        verification_cost_micros=verification_cost_micros,
        vehicles_quarantined=vehicles_quarantined,
        figures=replace(
            figures,
            take_rate_ppm=share_ppm(total.fee_micros, total.gross_micros),
            net_take_rate_ppm=share_ppm(
                total.fee_micros - verification_cost_micros, total.gross_micros - verification_cost_micros
            ),
        ),
    )

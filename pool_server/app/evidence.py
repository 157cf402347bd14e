"""What the pool holds for and against a vehicle: the same for its owner and for operators.

Only operators see how likely the next result is checked: an owner that knew could choose when to lie.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pool_protocol.money import format_micros
from pool_server.app.fleet import get_vehicle
from pool_server.app.work_commands import VehicleViewValue
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.trust import TrustRecord
from pool_server.core.verification import LEVELS, VerificationLevel
from pool_server.core.verification.findings import FindingKind, FindingOutcome
from pool_server.core.verification.story import StoryFacts, StoryFinding, tell
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.verification import FindingRow, QuestionedSums

#: Findings in one record.
FINDINGS_MAX = 200
#: Changes of state that the story looks at.
_MOVES_MAX = 500
#: A task of this size stands for the next one, where a history says nothing of sizes.
_USUAL_TASK_UWU = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryValue:
    """One history."""

    trust_class: str
    record: TrustRecord
    audit_probability: float
    """Of the next result, of the mean size so far; 0 where the reader may not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceValue:
    """A vehicle's record."""

    vehicle: VehicleViewValue
    histories: tuple[HistoryValue, ...]
    findings: tuple[FindingRow, ...]
    """Newest first."""
    story: tuple[str, ...]
    questioned: QuestionedSums


def vehicle_evidence(
    uow: UnitOfWork, *, vehicle_id: str, policy: WorkPolicy, for_operator: bool
) -> EvidenceValue:
    """Gather a vehicle's record.

    Raises:
        PoolError: NOT_FOUND.
    """
    vehicle = get_vehicle(uow, vehicle_id=vehicle_id)
    findings = uow.verification.findings_of_vehicle(vehicle_id, limit=FINDINGS_MAX)
    sums = uow.verification.sums_of_vehicle(vehicle_id)
    facts = StoryFacts(
        label=vehicle.label or vehicle_id,
        enrolled_at_us=vehicle.enrolled_at_us,
        verified_attempts=vehicle.verified_attempts,
        rejected_attempts=vehicle.rejected_attempts,
        state=vehicle.state.value,
        quarantine_reason=vehicle.quarantine_reason,
        trusted=vehicle_id in uow.fleet.trusted_among([vehicle_id]),
        findings=[_story_finding(row) for row in reversed(findings)],
        moves=_moves(uow, vehicle_id),
        rechecking_count=sums.open_count,
        upheld_count=sum(_is_upheld(row) for row in findings),
        wrong_count=sums.wrong_count,
        questioned_micros=sums.open_micros,
        clawed_back_micros=sums.wrong_micros,
    )
    currency = uow.terms.currency
    return EvidenceValue(
        vehicle=vehicle,
        histories=tuple(
            HistoryValue(
                trust_class=trust_class,
                record=record,
                audit_probability=_audit_probability(trust_class, record, policy) if for_operator else 0.0,
            )
            for trust_class, record in uow.fleet.histories(vehicle_id)
        ),
        findings=tuple(findings),
        story=tuple(tell(facts, time=_time, money=lambda micros: f"{format_micros(micros)} {currency}")),
        questioned=sums,
    )


def _is_upheld(row: FindingRow) -> bool:
    return row.kind is FindingKind.LOOK_BACK and row.finding is not FindingOutcome.WRONG


def _moves(uow: UnitOfWork, vehicle_id: str) -> Sequence[tuple[int, str, str, str]]:
    events = uow.events.newest("vehicle", vehicle_id, limit=_MOVES_MAX)
    return [(event.at_us, event.from_state, event.to_state, event.cause) for event in reversed(events)]


def _story_finding(row: FindingRow) -> StoryFinding:
    return StoryFinding(
        kind=row.kind,
        finding=row.finding,
        job_id=row.job_id,
        task_index=row.task_index,
        claimed_digest=row.claimed_digest,
        accepted_digest=row.accepted_digest,
        agreeing_owners=row.agreeing_owners,
        trusted_node=row.trusted_node,
        unit_index=row.unit_index,
        found_at_us=row.found_at_us,
    )


def _audit_probability(trust_class: str, record: TrustRecord, policy: WorkPolicy) -> float:
    level = trust_class.rpartition("/")[2]
    if level not in set(VerificationLevel):
        return 0.0
    epsilon = LEVELS[VerificationLevel(level)].epsilon
    if epsilon is None:
        return 0.0
    mean_uwu = record.odometer_uwu // record.accepted_attempts if record.accepted_attempts else 0
    plan = policy.audit_rule.plan(
        epsilon=epsilon, work_uwu=mean_uwu or _USUAL_TASK_UWU, clean_uwu=record.clean_uwu
    )
    return plan.draw_probability


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

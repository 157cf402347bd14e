"""What the pool holds for and against a vehicle: the same for its owner and for operators.

Only operators see how likely the next result is checked: an owner that knew could choose when to lie.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from pool_protocol import amounts
from pool_server.app.fleet import get_vehicle
from pool_server.app.particulars import locale_of
from pool_server.app.work_commands import VehicleViewValue
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.trust import TrustRecord
from pool_server.core.verification import LEVELS, VerificationLevel
from pool_server.core.verification.appeal import appeal_until_us
from pool_server.core.verification.findings import FindingKind, FindingOutcome
from pool_server.core.verification.story import StoryFacts, StoryFinding, StoryPrefixes, tell
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
    appeals_until_us: Mapping[int, int]
    """Until when the owner may appeal, by finding; only where that lies ahead."""
    story: tuple[str, ...]
    questioned: QuestionedSums


def vehicle_evidence(
    uow: UnitOfWork, *, vehicle_id: str, policy: WorkPolicy, for_operator: bool, now_us: int
) -> EvidenceValue:
    """Gather a vehicle's record.

    Raises:
        PoolError: NOT_FOUND.
    """
    vehicle = get_vehicle(uow, vehicle_id=vehicle_id)
    findings = uow.verification.findings_of_vehicle(vehicle_id, limit=FINDINGS_MAX)
    sums = uow.verification.sums_of_vehicle(vehicle_id)
    appeals_until_us = _appeals_until_us(findings, window_us=uow.terms.dispute_window_us, now_us=now_us)
    facts = StoryFacts(
        label=vehicle.label or vehicle_id,
        enrolled_at_us=vehicle.enrolled_at_us,
        verified_attempts=vehicle.verified_attempts,
        rejected_attempts=vehicle.rejected_attempts,
        state=vehicle.state.value,
        quarantine_reason=vehicle.quarantine_reason,
        trusted=vehicle_id in uow.fleet.trusted_among([vehicle_id]),
        findings=[story_finding(row) for row in reversed(findings)],
        moves=_moves(uow, vehicle_id),
        rechecking_count=sums.open_count,
        upheld_count=sum(_is_upheld(row) for row in findings),
        wrong_count=sums.wrong_count,
        questioned_micros=sums.open_micros,
        clawed_back_micros=sums.wrong_micros,
        appeal_until_us=max(appeals_until_us.values(), default=0),
        prefixes=_prefixes(uow, vehicle_id),
    )
    money = partial(amounts.amount, currency=uow.terms.currency, locale=locale_of(uow, vehicle.owner_id))
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
        appeals_until_us=appeals_until_us,
        story=tuple(tell(facts, time=_time, money=money)),
        questioned=sums,
    )


def _prefixes(uow: UnitOfWork, vehicle_id: str) -> StoryPrefixes | None:
    sums = uow.prefixes.sums(vehicle_id)
    if not sums.open_count + sums.paid_count + sums.unpaid_count:
        return None
    return StoryPrefixes(
        paid_count=sums.paid_count,
        paid_micros=sums.paid_micros,
        open_count=sums.open_count,
        open_micros=sums.open_micros,
        unpaid_count=sums.unpaid_count,
    )


def _appeals_until_us(findings: Sequence[FindingRow], *, window_us: int, now_us: int) -> dict[int, int]:
    appealed = {row.attempt_id for row in findings if row.kind is FindingKind.APPEAL}
    until_us = {
        row.finding_id: appeal_until_us(
            row.kind,
            row.finding,
            found_at_us=row.found_at_us,
            window_us=window_us,
            appealed=row.attempt_id in appealed,
        )
        for row in findings
    }
    return {finding_id: at_us for finding_id, at_us in until_us.items() if at_us >= max(1, now_us)}


def _is_upheld(row: FindingRow) -> bool:
    return row.kind is FindingKind.LOOK_BACK and row.finding is not FindingOutcome.WRONG


def _moves(uow: UnitOfWork, vehicle_id: str) -> Sequence[tuple[int, str, str, str]]:
    events = uow.events.newest("vehicle", vehicle_id, limit=_MOVES_MAX)
    return [(event.at_us, event.from_state, event.to_state, event.cause) for event in reversed(events)]


def story_finding(row: FindingRow) -> StoryFinding:
    """Take from a finding what its sentence says."""
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
        granted_micros=row.granted_micros,
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

"""A vehicle's record on the wire."""

from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_server.app.evidence import EvidenceValue, story_finding
from pool_server.core.verification.story import finding_sentence
from pool_server.ports.verification import FindingRow


def evidence_message(evidence: EvidenceValue, vehicle: account_pb.VehicleView) -> account_pb.VehicleEvidence:
    """Write a record."""
    return account_pb.VehicleEvidence(
        vehicle=vehicle,
        histories=[
            account_pb.HistoryView(
                trust_class=history.trust_class,
                clean_uwu=history.record.clean_uwu,
                accepted_attempts=history.record.accepted_attempts,
                rejected_attempts=history.record.rejected_attempts,
                audit_probability=history.audit_probability,
            )
            for history in evidence.histories
        ],
        items=[
            item_message(row, appeal_until_us=evidence.appeals_until_us.get(row.finding_id, 0))
            for row in evidence.findings
        ],
        story=evidence.story,
        rechecking_count=evidence.questioned.open_count,
        questioned_micros=evidence.questioned.open_micros,
        clawed_back_micros=evidence.questioned.wrong_micros,
    )


def item_message(row: FindingRow, *, appeal_until_us: int = 0) -> account_pb.EvidenceItem:
    """Write a finding."""
    return account_pb.EvidenceItem(
        attempt_id=row.attempt_id,
        job_id=f"job_{row.job_id}",
        task_index=row.task_index,
        kind=row.kind.value,
        finding=row.finding.value,
        claimed_digest=row.claimed_digest,
        accepted_digest=row.accepted_digest,
        agreeing_owners=row.agreeing_owners,
        trusted_node=row.trusted_node,
        unit_index=row.unit_index,
        clawed_back_micros=row.clawed_back_micros,
        found_at_us=row.found_at_us,
        summary=finding_sentence(story_finding(row)),
        appeal_until_us=appeal_until_us,
        granted_micros=row.granted_micros,
    )

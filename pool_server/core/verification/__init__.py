"""When a result is believed: levels, the audit rule, and the verdict over the results of one task.

A level fixes how many agreeing attempts of different owners a task needs from the start (the quorum, paid by
the job) and whether single results are audited. Pure: chance, clocks and rows are elsewhere.
"""

from pool_server.core.verification.audit import (
    AGREEMENT_MAX,
    AUDITED_AGREEMENT,
    AUDITORS_MAX,
    AuditDraw,
    AuditPlan,
    AuditRule,
    HistoryAuditRule,
    auditors_within,
)
from pool_server.core.verification.levels import LEVELS, LevelTerms, VerificationLevel
from pool_server.core.verification.verdict import (
    Accept,
    GiveUp,
    TaskStanding,
    Verdict,
    Wait,
    after_refutation,
    judge,
)

__all__ = [
    "AGREEMENT_MAX",
    "AUDITED_AGREEMENT",
    "AUDITORS_MAX",
    "LEVELS",
    "Accept",
    "AuditDraw",
    "AuditPlan",
    "AuditRule",
    "GiveUp",
    "HistoryAuditRule",
    "LevelTerms",
    "TaskStanding",
    "Verdict",
    "VerificationLevel",
    "Wait",
    "after_refutation",
    "auditors_within",
    "judge",
]

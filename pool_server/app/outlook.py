"""What verification costs and promises with the fleet as it is now: told with every quote."""

from dataclasses import dataclass

from pool_server.app.work_policy import WorkPolicy
from pool_server.core.trust import trust_class
from pool_server.core.verification import LEVELS, HistoryAuditRule, VerificationLevel
from pool_server.core.verification.overhead import fleet_overhead
from pool_server.ports.unit_of_work import UnitOfWork

#: Vehicles whose histories are looked at: a sample of a large fleet.
VEHICLES_SAMPLED_MAX = 256
#: Owners that are told apart.
OWNERS_COUNTED_MAX = 8


_PROMISE_CERTIFIED = (
    "The job's certificate proves each result: wrong ones pass as often as it misses them. Where it fails, "
    "the level's audits judge."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A level as it stands today."""

    audit_overhead_now: float
    """Re-executions expected per result, paid by the pool: 0.05 for one in twenty."""
    audit_overhead_newcomer: float
    """The same for a vehicle without history."""
    epsilon: float
    """The level's error target; 0 for levels without one."""
    promise: str
    """One sentence."""


def level_outlook(
    uow: UnitOfWork,
    *,
    kind: str,
    work_uwu: int,
    level: VerificationLevel,
    policy: WorkPolicy,
    certified: bool = False,
) -> Outlook:
    """Say what a level costs and promises now.

    Args:
        uow: Read only.
        kind: The program's kind, "map" or "step".
        work_uwu: Work of one task, micro-WU.
        level: The level.
        policy: The operator's settings.
        certified: Whether the job brings a certificate: then nothing is audited while it works.
    """
    if certified:
        return Outlook(
            audit_overhead_now=0.0, audit_overhead_newcomer=0.0, epsilon=0.0, promise=_PROMISE_CERTIFIED
        )
    epsilon, rule = LEVELS[level].epsilon, policy.audit_rule
    owners = len(uow.fleet.active_owners(at_most=OWNERS_COUNTED_MAX))
    if epsilon is None or not isinstance(rule, HistoryAuditRule):
        return Outlook(
            audit_overhead_now=0.0,
            audit_overhead_newcomer=0.0,
            epsilon=0.0,
            promise=_promise_without_target(level, owners),
        )
    histories = uow.fleet.active_histories(trust_class(kind, level), at_most=VEHICLES_SAMPLED_MAX)
    return Outlook(
        audit_overhead_now=fleet_overhead(histories, work_uwu, epsilon, rule),
        audit_overhead_newcomer=fleet_overhead([], work_uwu, epsilon, rule),
        epsilon=epsilon,
        promise=_promise(epsilon, rule, owners, newcomer_auditors=_auditors(rule, work_uwu, epsilon)),
    )


def _auditors(rule: HistoryAuditRule, work_uwu: int, epsilon: float) -> int:
    return rule.plan(epsilon=epsilon, work_uwu=work_uwu, clean_uwu=0).auditors


def _promise_without_target(level: VerificationLevel, owners: int) -> str:
    if level is VerificationLevel.NONE:
        return "Nothing is checked."
    sentence = "Two different owners must agree on every result."
    return sentence if owners >= LEVELS[level].quorum else f"{sentence} {_too_few(owners)}"


def _promise(epsilon: float, rule: HistoryAuditRule, owners: int, *, newcomer_auditors: int) -> str:
    share = f"{rule.assumed_faulty_share:.0%} of accepted work"
    sentence = (
        f"In the long run at most 1 in {round(1 / epsilon):,} results is wrong, whatever vehicles that do "
        f"up to {share} try."
    )
    if owners < LEVELS[VerificationLevel.FULL].quorum:
        return f"{sentence} {_too_few(owners)}"
    if owners <= newcomer_auditors:
        return (
            f"{sentence} With {owners} owners here now, newcomers are checked by fewer auditors than that "
            "takes where auditors are in league."
        )
    return sentence


def _too_few(owners: int) -> str:
    here = "no owner has a car" if owners == 0 else "only one owner has cars"
    return f"Now {here} here: results wait for another."

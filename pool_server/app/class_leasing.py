"""What numeric classes mean for leases: which jobs and which tasks a vehicle is offered.

The audits themselves look like all work; here is only decided who is asked.
"""

from pool_server.app.class_bench import OWNERS_MAX, Comparability, is_exact
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.matching import JobOffer
from pool_server.core.trust import exact_history
from pool_server.core.verification import VerificationLevel
from pool_server.core.verification.classes import UNKNOWN_CLASS, may_check_itself
from pool_server.ports.classes import ClassGuest, VehicleClass
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobRow


def fitting_offers(uow: UnitOfWork, offers: list[JobOffer], own_class: VehicleClass) -> list[JobOffer]:
    """Leave out the programs that a vehicle's class is known to be wrong on."""
    if not offers or own_class.numeric_class == UNKNOWN_CLASS:
        return offers
    faulty = uow.classes.faulty_programs(own_class.numeric_class)
    return [offer for offer in offers if offer.program_sha256 not in faulty] if faulty else offers


def class_guest(
    uow: UnitOfWork, job: JobRow, own_class: VehicleClass, *, policy: WorkPolicy, now_us: int
) -> ClassGuest | None:
    """Return how a vehicle asks a job for tasks; None while its class is unknown: then all fit.

    Checks of exact results stay within a class, as far as it may check itself.
    """
    name = own_class.numeric_class
    if name == UNKNOWN_CLASS:
        return None
    return ClassGuest(
        numeric_class=name,
        trusted=own_class.trusted,
        unlike=_unlike(uow, job, name, policy=policy) if is_exact(job) else (),
        now_us=now_us,
        ended_after_us=now_us - policy.class_patience_us,
    )


def _unlike(uow: UnitOfWork, job: JobRow, name: str, *, policy: WorkPolicy) -> tuple[str, ...]:
    owners = uow.classes.owners(at_most=OWNERS_MAX)
    share = policy.class_rule.league_share
    alike = Comparability(uow, job.program_sha256)
    faulty = uow.classes.faulty_classes(job.program_sha256)
    return tuple(
        other
        for other in owners
        if other != UNKNOWN_CLASS
        and other not in faulty
        and not alike(name, other)
        and may_check_itself(other, owners, alike=alike, faulty_share=share)
    )


def differs_here(uow: UnitOfWork, job: JobRow, own_class: VehicleClass, *, policy: WorkPolicy) -> bool:
    """Say whether a class returned other bits on a program than all others, and may not vouch for itself.

    Its vehicles would compute in vain: no result of theirs could be believed.
    """
    name = own_class.numeric_class
    if name == UNKNOWN_CLASS or own_class.trusted or job.level is VerificationLevel.NONE or not is_exact(job):
        return False
    if not uow.fleet.trust(*exact_history(name, job.program_sha256)).rejected_attempts:
        return False
    return not may_check_itself(
        name,
        uow.classes.owners(at_most=OWNERS_MAX),
        alike=Comparability(uow, job.program_sha256),
        faulty_share=policy.class_rule.league_share,
    )

"""The operator's settings that the use cases of the work go by, with their defaults and reasons."""

from dataclasses import dataclass, field
from typing import Protocol

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import DAY_US, LEASE_LIFETIME_US_MAX, LEASE_LIFETIME_US_MIN, MINUTE_US, SECOND_US
from pool_server.app.market_policy import MarketPolicy
from pool_server.core.trust import QuarantineRule
from pool_server.core.verification import LEVELS, AuditRule, HistoryAuditRule, VerificationLevel
from pool_server.core.verification.classes import ClassAuditRule
from pool_server.core.verification.finality import lag_uwu
from pool_server.core.verification.unit_check import UnitCheckRule


class BlobReader(Protocol):
    """The part of a blob store that comparing results needs."""

    def get(self, blob_sha256: str) -> bytes:
        """Return a whole blob, checked against its digest.

        Raises:
            PoolError: BLOB_MISSING, BLOB_DIGEST_MISMATCH.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkPolicy:
    """How the pool leases and verifies."""

    lease_timeout_us: int = 5 * MINUTE_US
    """A lease's life: long enough for a first compilation and a hundred short tasks."""
    lease_grace_us: int = 10 * SECOND_US
    """Results that are on their way when a lease ends still count as in time."""
    retry_same_owner_us: int = 30 * SECOND_US
    """An owner whose attempt ended without a result gets the same task again no sooner: others go first."""
    vehicle_silence_us: int = 15 * MINUTE_US
    """An available vehicle that is not heard of for this long counts as lost."""
    no_work_retry_ms: int = 2_000
    """When an idle vehicle without a stream asks again."""
    quarantined_retry_ms: int = 60_000
    """When a vehicle in quarantine, or one that drains, asks again."""
    unit_answer_us: int = 3 * DAY_US
    """How long a vehicle may take to answer for a state that it committed to: a parked car loses network, and
    comes back."""
    allow_level_none: bool = False
    """Whether buyers may ask for no verification at all."""
    quarantine: QuarantineRule = field(default_factory=QuarantineRule)
    audit_rule: AuditRule = field(default_factory=HistoryAuditRule)
    class_rule: ClassAuditRule = field(default_factory=ClassAuditRule)
    class_patience_us: int = 30 * SECOND_US
    """How long a result waits for a vehicle of the numeric class that should check it; then others may."""
    network_patience_us: int = MINUTE_US
    """How long a result waits for a vehicle of another network to check it; then others may."""
    market: MarketPolicy = field(default_factory=MarketPolicy)
    unit_check: UnitCheckRule = field(default_factory=UnitCheckRule)
    """How many units of a claim are checked where bits prove nothing."""
    assumed_faulty_share: float = 0.2
    """The rule's f, by which results become final."""
    pool_run_uwu_max: int = 0
    """Tasks of up to so much work, micro-WU, are computed by the pool itself when results contradict each
    other; of larger ones owners decide. 0, for a pool without a referee: of all."""
    pool_audit_uwu_max: int = 0
    """The same for tasks that the pool computes instead of several auditors."""
    pool_audits_waiting_max: int = 8
    """While so many tasks wait for the pool's own machine, auditors are asked instead."""
    accept_unverified_after_us: int = DAY_US
    """A result that waits for other owners for so long is accepted at the pool's risk."""

    joules_per_wu_assumed: float = 60.0
    """Energy of one work unit, joules, for estimates while no car has reported any."""
    grid_co2_g_per_kwh: float = 240.0
    """CO2 of the grid where the cars charge, for estimates."""

    def __post_init__(self) -> None:
        if not LEASE_LIFETIME_US_MIN <= self.lease_timeout_us <= LEASE_LIFETIME_US_MAX:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                f"lease_timeout_us is {LEASE_LIFETIME_US_MIN} to {LEASE_LIFETIME_US_MAX}, "
                f"not {self.lease_timeout_us}",
            )
        durations_us = (
            self.lease_grace_us,
            self.retry_same_owner_us,
            self.vehicle_silence_us,
            self.unit_answer_us,
            self.network_patience_us,
            self.accept_unverified_after_us,
        )
        if min(durations_us) < 0:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, "a duration of the work policy is negative")

    def finality_lag_uwu(self, level: VerificationLevel, *, work_uwu: int, clean_uwu: int) -> int:
        """Return how much clean work follows a result of this level before it is final."""
        # Where nothing is drawn every result is checked: the shortest lag will do.
        return lag_uwu(
            epsilon=LEVELS[level].epsilon or 1.0,
            assumed_faulty_share=self.assumed_faulty_share,
            work_uwu=work_uwu,
            clean_uwu=clean_uwu if LEVELS[level].epsilon else 0,
        )


DEFAULT_POLICY = WorkPolicy()

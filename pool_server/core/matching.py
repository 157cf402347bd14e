"""Which job a vehicle's next lease comes from, and how large the lease is.

Fairness is a round robin: over buyers first, then over a buyer's jobs, counted in leases. One thing may jump
the queue: jobs whose program the worker holds compiled - but only for a bounded time, so that no job waits
for ever behind a warm one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum, unique

from pool_protocol.limits import LEASE_TASKS_MAX, SECOND_US
from pool_protocol.money import ceil_div

#: Leases given to other jobs after which a waiting job goes before warm ones.
WARM_PATIENCE_LEASES = 8
#: Live leases of one vehicle: the one it computes, the one it has prefetched, and two to spare.
LIVE_LEASES_PER_VEHICLE_MAX = 4
#: Jobs asked for tasks before a vehicle is sent away: bounds what one answer costs when an owner has had its
#: turn at the tasks of many jobs.
JOBS_ASKED_MAX = 32
#: How far the second half of the jobs asked moves on each second: less than half of the bound in the time in
#: which a vehicle asks again, so that none is left out.
_WINDOW_STEP_PER_S = 6
#: Available time assumed when a vehicle does not say: one lease should be done within a minute.
AVAILABLE_DEFAULT_US = 60 * SECOND_US


@unique
class TaskRank(IntEnum):
    """How far a ready task is. Which of them a lease takes, and in which order, `core.hand_out` draws."""

    WAITED_FOR = 0
    """Results of it wait for an audit or a tie-break."""
    STARTED = 1
    """It has had an attempt: a retry, or the second of a quorum."""
    FRESH = 2
    """It has had none."""


@unique
class NoWorkReason(StrEnum):
    """Why a vehicle gets no lease now."""

    NO_WORK = "NO_WORK"
    QUARANTINED = "QUARANTINED"
    PRICE_BELOW_RESERVE = "PRICE_BELOW_RESERVE"
    DRAINING = "DRAINING"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOffer:
    """A job with tasks that are ready."""

    job_id: int
    buyer_id: str
    program_sha256: str
    price_micros_per_wu: int | None
    """The price that a lease would lock now; None while the job waits for a lower one."""
    last_lease_id: int
    """Its latest lease; 0 for none yet."""
    buyer_last_lease_id: int
    """The latest lease of any job of its buyer."""


def order_offers(
    offers: Sequence[JobOffer], *, warm_programs: Collection[str], newest_lease_id: int
) -> list[JobOffer]:
    """Put jobs in the order in which a vehicle is offered them. A total order: no ties, no chance.

    1. Jobs passed over for more than `WARM_PATIENCE_LEASES` leases.
    2. Jobs whose program the worker holds compiled.
    3. The buyer that waited longest since its last lease.
    4. The job that waited longest since its last lease, then the oldest.

    That an audit waits in a job changes nothing: a job that comes out of turn would tell of it.
    """
    warm = frozenset(warm_programs)

    def key(offer: JobOffer) -> tuple[bool, bool, int, int, int]:
        waited = newest_lease_id - offer.last_lease_id
        return (
            waited <= WARM_PATIENCE_LEASES,
            offer.program_sha256 not in warm,
            offer.buyer_last_lease_id,
            offer.last_lease_id,
            offer.job_id,
        )

    return sorted(offers, key=key)


def asked_offers(ordered: Sequence[JobOffer], *, now_us: int) -> list[JobOffer]:
    """Return the jobs that one answer asks for tasks, at most `JOBS_ASKED_MAX`.

    The first half are the first in order. Those may all wait for another owner, and then no lease changes the
    order: the second half is a window over the rest that moves on with time, so that every job is asked.
    """
    if len(ordered) <= JOBS_ASKED_MAX:
        return list(ordered)
    half = JOBS_ASKED_MAX // 2
    rest = [*ordered[half:]]
    start = now_us // SECOND_US * _WINDOW_STEP_PER_S % len(rest)
    return [*ordered[:half], *(rest[start:] + rest[:start])[: JOBS_ASKED_MAX - half]]


def lease_size(
    *,
    attempts_max: int,
    ready_count: int,
    active_vehicles: int,
    work_uwu: int,
    speed_uwu_per_s: int,
    available_us: int,
    lease_timeout_us: int,
) -> int:
    """Return how many attempts a lease should hold, at least 1.

    Bounded by what the vehicle asks for, by the pool's limit, by an even share of what is ready (so that the
    last tasks of a job spread over the fleet), and by what it can do in its time (0: unknown, one minute) and
    in half of the lease's life. A vehicle of unknown speed (0) is not bounded by time.
    """
    share = ceil_div(ready_count, max(1, active_vehicles))
    size = min(attempts_max, LEASE_TASKS_MAX, max(1, share))
    if speed_uwu_per_s > 0 and work_uwu > 0:
        time_us = min(available_us or AVAILABLE_DEFAULT_US, lease_timeout_us // 2)
        size = min(size, time_us * speed_uwu_per_s // (work_uwu * SECOND_US))
    return max(1, size)


#: Weight of the newest measurement in a vehicle's speed, as 1 over this.
SPEED_MEMORY = 4
#: Fastest vehicle believed, micro-WU per second: far beyond any machine, whatever a vehicle says of its time.
SPEED_UWU_PER_S_MAX = 10**15


def updated_speed(speed_uwu_per_s: int, *, work_uwu: int, run_time_us: int) -> int:
    """Blend a new measurement into a vehicle's speed, micro-WU per second; 0 stays "unknown"."""
    if run_time_us <= 0 or work_uwu <= 0:
        return speed_uwu_per_s
    measured = min(SPEED_UWU_PER_S_MAX, max(1, work_uwu * SECOND_US // run_time_us))
    if speed_uwu_per_s == 0:
        return measured
    return max(1, speed_uwu_per_s + (measured - speed_uwu_per_s) // SPEED_MEMORY)

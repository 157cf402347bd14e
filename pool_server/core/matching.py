"""Which job a vehicle's next lease comes from, and how large the lease is.

Every job that is offered bids at least the price that a lease of it would lock, and one that pays the posted
price pays what all others pay; donated work, which pays nothing, comes after all that pays. So among them a
higher bid buys no precedence, else a cap would be a race for the front and not what a buyer would pay at
most; it is the price that sorts out who is there at all. Between buyers the order is their **fair share**:
equal work for equal price (`core.pricing.fair_share`), counted as it is leased. Within a buyer's jobs those
with a deadline go first, by deadline, then those that waited longest.

One thing may jump the queue: jobs whose program the worker holds compiled - but only while its buyer leads by
little, and only until other jobs of that buyer have waited for long, so that no job waits for ever behind a
warm one and shares stay equal in the long run.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum, unique
from typing import NamedTuple

from pool_protocol.limits import LEASE_TASKS_MAX, SECOND_US
from pool_protocol.money import ceil_div
from pool_server.core.pricing.fair_share import FairShares, Queue, WaitingJob

#: Leases given to other jobs after which a waiting job goes before its buyer's other ones; and how many of
#: its leases a buyer may be ahead of others so that its warm jobs still go first.
WARM_PATIENCE_LEASES = 8
#: Leases like the largest of those that wait by which the common scale may lag behind who is served: a buyer
#: that no car can be given waits as long as it likes, and catches up by so much at most.
LAG_LEASES_MAX = 32
#: Largest count of work before the scale begins anew, micro-WU: half of what 63 bits hold. A lease holds less
#: than 2**55 and a lag 32 of those, so what is written in between fits.
TAG_UWU_MAX = 2**62
#: The one bid at which all willing jobs wait.
_ONE_QUEUE = 0
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


class BuyerShare(NamedTuple):
    """How far a buyer is in its fair share."""

    tag_uwu: int = 0
    """What it has had, on the common scale; a tag below the scale's zero counts as that."""
    lease_uwu: int = 0
    """Work of its last lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOffer:
    """A job with tasks that are ready."""

    job_id: int
    buyer_id: str
    program_sha256: str
    bid_micros_per_wu: int
    """The most that it pays now."""
    price_micros_per_wu: int | None
    """The price that a lease would lock now; None while the job waits for a lower one."""
    last_lease_id: int
    """Its latest lease; 0 for none yet."""
    is_spot: bool = True
    """Whether it pays the posted price; False for a quote's, and for donated work."""
    deadline_us: int = 0
    """0: none."""
    share: BuyerShare = field(default_factory=BuyerShare)


def shares_of(offers: Sequence[JobOffer], *, virtual_uwu: int) -> FairShares:
    """Return the fair shares as they stand while just the buyers of these jobs wait.

    Args:
        offers: Jobs that a vehicle could be given.
        virtual_uwu: Where the common scale began so far.
    """
    tags = {offer.buyer_id: max(virtual_uwu, offer.share.tag_uwu) for offer in offers}
    queue = Queue(virtual_uwu=virtual_uwu, tags_uwu=tags)
    return FairShares(busy={_ONE_QUEUE: queue}).waiting(as_waiting(offer) for offer in offers)


class CountedLease(NamedTuple):
    """A lease in the count of its buyer's work."""

    share: BuyerShare
    virtual_uwu: int
    """Where the common scale begins from now on."""


def counted(
    shares: FairShares, offer: JobOffer, *, waiting: Sequence[JobOffer], work_uwu: int
) -> CountedLease:
    """Count a lease of a job's work; `shares` as they stood, `waiting` the jobs that they are of."""
    [queue] = shares.leased(as_waiting(offer), work_uwu).busy.values()
    tag_uwu = queue.tag_uwu(offer.buyer_id)
    largest_uwu = max(work_uwu, *(other.share.lease_uwu for other in waiting))
    virtual_uwu = max(queue.virtual_uwu, tag_uwu - work_uwu - LAG_LEASES_MAX * largest_uwu)
    return CountedLease(BuyerShare(tag_uwu, work_uwu), virtual_uwu)


def as_waiting(offer: JobOffer) -> WaitingJob:
    """Return a job as fair shares see it: in one queue with all others, whatever it bids."""
    return WaitingJob(offer.job_id, offer.buyer_id, _ONE_QUEUE)


def order_offers(
    offers: Sequence[JobOffer], *, shares: FairShares, warm_programs: Collection[str], newest_lease_id: int
) -> list[JobOffer]:
    """Put jobs in the order in which a vehicle is offered them. A total order: no ties, no chance.

    1. Jobs that pay before those that do not: a gift is what nobody would have paid for.
    2. Jobs whose program the worker holds compiled, unless their buyer leads by more than
       `WARM_PATIENCE_LEASES` leases like its last, or has a cold job as in 4.
    3. The buyer that had the least work, on the scale of fair shares; then by id.
    4. Of a buyer, jobs passed over for more than `WARM_PATIENCE_LEASES` leases.
    5. Its warm jobs.
    6. Its jobs with a deadline, the nearest first.
    7. The job that waited longest since its last lease, then the oldest.

    That an audit waits in a job changes nothing: a job that comes out of turn would tell of it.
    """
    warm = frozenset(warm_programs)

    def is_passed_over(offer: JobOffer) -> bool:
        return newest_lease_id - offer.last_lease_id > WARM_PATIENCE_LEASES

    leads_uwu = {
        buyer_id: shares.lead_uwu(buyer_id, bid_micros_per_wu=_ONE_QUEUE)
        for buyer_id in {offer.buyer_id for offer in offers}
    }

    patient = {
        offer.buyer_id for offer in offers if offer.program_sha256 not in warm and is_passed_over(offer)
    }

    def jumps(offer: JobOffer) -> bool:
        return (
            offer.program_sha256 in warm
            and offer.buyer_id not in patient
            and leads_uwu[offer.buyer_id] <= WARM_PATIENCE_LEASES * offer.share.lease_uwu
        )

    def key(offer: JobOffer) -> tuple[bool, bool, int, str, bool, bool, bool, int, int, int]:
        return (
            not offer.price_micros_per_wu,
            not jumps(offer),
            leads_uwu[offer.buyer_id],
            offer.buyer_id,
            not is_passed_over(offer),
            offer.program_sha256 not in warm,
            not offer.deadline_us,
            offer.deadline_us,
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
#: Fastest vehicle believed, micro-WU per second, whatever it says of its time: 1e17 FLOP/s, a hundred times
#: the fastest accelerator. A vehicle's speed is its own word, and stands in the auction's book as supply.
SPEED_UWU_PER_S_MAX = 10**11


def updated_speed(speed_uwu_per_s: int, *, work_uwu: int, run_time_us: int) -> int:
    """Blend a new measurement into a vehicle's speed, micro-WU per second; 0 stays "unknown"."""
    if run_time_us <= 0 or work_uwu <= 0:
        return speed_uwu_per_s
    measured = min(SPEED_UWU_PER_S_MAX, max(1, work_uwu * SECOND_US // run_time_us))
    if speed_uwu_per_s == 0:
        return measured
    return max(1, speed_uwu_per_s + (measured - speed_uwu_per_s) // SPEED_MEMORY)

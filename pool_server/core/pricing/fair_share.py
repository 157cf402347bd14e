"""Which buyer gets the next lease when cars are scarce: equal work for equal bids.

Everybody pays the posted price, so at equal bids the pool shares by **work**, not by turns: start-time fair
queueing. A buyer has a tag, the work leased to it on a scale that all in the queue share; the lowest tag is
next, and a lease raises it by the lease's work. The scale's zero, the queue's **virtual work**, is the lowest
tag of those that wait. Who comes starts there, so idle time saves up nothing; who leaves and returns keeps
the lead it had, so coming and going gains nothing.

Two buyers with equal bids and endless work thus never differ by more than one lease, whatever others do.

There is one queue for each bid, and higher bids go first. Whether a higher bid should buy precedence is the
caller's choice: who gives all jobs that bid enough the same number puts them into one queue.

Work counts when it is leased, and is given back when a lease ends without it, down to where the others stand
at most: a buyer whose leases always end without work must not be next for ever.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError

#: Queues remembered while nobody waits in them, the latest. Each holds a lead of one lease at most.
IDLE_QUEUES_MAX = 1_024


class WaitingJob(NamedTuple):
    """A job with ready tasks whose bid reaches the posted price."""

    job_id: int
    """Later jobs have higher ids."""
    buyer_id: str
    bid_micros_per_wu: int


class Queue(NamedTuple):
    """The buyers at one bid."""

    virtual_uwu: int
    """The lowest tag of the buyers that wait."""
    tags_uwu: Mapping[str, int]
    """Of those that wait, and of those that left with a lead."""

    def tag_uwu(self, buyer_id: str) -> int:
        """Return what a buyer has had, on the queue's scale."""
        return self.tags_uwu.get(buyer_id, self.virtual_uwu)


_EMPTY = Queue(virtual_uwu=0, tags_uwu=MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class FairShares:
    """What buyers have had at each bid; a value: every change returns another."""

    busy: Mapping[int, Queue] = field(default_factory=lambda: MappingProxyType({}))
    """The queues where somebody waits, by bid, micros per WU."""
    idle: Mapping[int, Queue] = field(default_factory=lambda: MappingProxyType({}))
    """The queues where nobody waits but somebody leads, the latest last."""

    def lead_uwu(self, buyer_id: str, *, bid_micros_per_wu: int) -> int:
        """Return how much more a buyer has had at a bid than the one that is next, micro-WU."""
        queue = self._queue(bid_micros_per_wu)
        return queue.tag_uwu(buyer_id) - queue.virtual_uwu

    def waiting(self, jobs: Iterable[WaitingJob]) -> "FairShares":
        """Return the shares when exactly these jobs wait for cars."""
        buyers: dict[int, set[str]] = {}
        for job in jobs:
            buyers.setdefault(job.bid_micros_per_wu, set()).add(job.buyer_id)
        busy = {bid: _waited_for(self._queue(bid), here) for bid, here in buyers.items()}
        idle = {bid: queue for bid, queue in self.idle.items() if bid not in buyers}
        left = {bid: _waited_for(queue, ()) for bid, queue in self.busy.items() if bid not in buyers}
        idle |= {bid: queue for bid, queue in left.items() if queue.tags_uwu}
        for bid in list(idle)[:-IDLE_QUEUES_MAX]:
            del idle[bid]
        return FairShares(busy=MappingProxyType(busy), idle=MappingProxyType(idle))

    def order(self, jobs: Iterable[WaitingJob]) -> list[WaitingJob]:
        """Put jobs in the order in which cars are offered them: a total order, no chance.

        1. The higher bid. 2. The buyer with the lower tag, then by buyer id. 3. The older job.
        """
        return sorted(jobs, key=self._place)

    def first(self, jobs: Iterable[WaitingJob]) -> WaitingJob:
        """Return the first of `order`; there must be one."""
        return min(jobs, key=self._place)

    def _place(self, job: WaitingJob) -> tuple[int, int, str, int]:
        tag_uwu = self._queue(job.bid_micros_per_wu).tag_uwu(job.buyer_id)
        return (-job.bid_micros_per_wu, tag_uwu, job.buyer_id, job.job_id)

    def leased(self, job: WaitingJob, work_uwu: int) -> "FairShares":
        """Return the shares after a lease of a job's work.

        Raises:
            PoolError: INVALID_ARGUMENT when the work is negative.
        """
        return self._moved(job, _not_negative(work_uwu))

    def given_back(self, job: WaitingJob, work_uwu: int) -> "FairShares":
        """Return the shares after a lease ended without `work_uwu` of its work; `job` as it was leased.

        The buyer keeps no less than the lowest tag of those that wait.

        Raises:
            PoolError: INVALID_ARGUMENT when the work is negative.
        """
        return self._moved(job, -_not_negative(work_uwu))

    def _moved(self, job: WaitingJob, by_uwu: int) -> "FairShares":
        bid, queue = job.bid_micros_per_wu, self._queue(job.bid_micros_per_wu)
        tag_uwu = max(queue.virtual_uwu, queue.tag_uwu(job.buyer_id) + by_uwu)
        moved = queue._replace(tags_uwu=MappingProxyType({**queue.tags_uwu, job.buyer_id: tag_uwu}))
        idle = {**self.idle}
        idle.pop(bid, None)
        return FairShares(busy=MappingProxyType({**self.busy, bid: moved}), idle=MappingProxyType(idle))

    def _queue(self, bid_micros_per_wu: int) -> Queue:
        return self.busy.get(bid_micros_per_wu) or self.idle.get(bid_micros_per_wu) or _EMPTY


def _waited_for(queue: Queue, buyer_ids: Iterable[str]) -> Queue:
    """Return the queue when exactly these buyers wait in it: its zero moves up to the lowest of their tags.

    Buyers that left keep what they lead, and lose what they lag.
    """
    here = {buyer_id: queue.tag_uwu(buyer_id) for buyer_id in buyer_ids}
    virtual_uwu = min(here.values(), default=queue.virtual_uwu)
    leads = {buyer_id: tag for buyer_id, tag in queue.tags_uwu.items() if tag > virtual_uwu}
    return Queue(virtual_uwu=virtual_uwu, tags_uwu=MappingProxyType({**leads, **here}))


def _not_negative(work_uwu: int) -> int:
    if work_uwu < 0:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"work must not be negative: {work_uwu}",
            context={"field": "work_uwu"},
        )
    return work_uwu

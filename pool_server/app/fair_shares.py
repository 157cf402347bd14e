"""Counts what each buyer was given of the fleet: work when it is leased, less what a lease ended without.

Audits count too: they keep cars busy for the buyer's sake, whoever pays for them.
"""

from collections import defaultdict
from collections.abc import Iterable

from pool_server.app.task_board import BoardAttempt, TaskBoard
from pool_server.core.jobs import AttemptState
from pool_server.core.matching import BuyerShare, JobOffer, as_waiting
from pool_server.core.pricing.fair_share import FairShares
from pool_server.ports.unit_of_work import UnitOfWork

#: Ends of an attempt that leave its buyer without the work.
_WITHOUT_WORK = frozenset({AttemptState.EXPIRED, AttemptState.FAILED, AttemptState.CANCELLED})


def note_share(uow: UnitOfWork, offer: JobOffer, shares: FairShares, *, work_uwu: int) -> None:
    """Count a lease in its buyer's share."""
    [queue] = shares.leased(as_waiting(offer), work_uwu).busy.values()
    uow.market.put_share(
        offer.buyer_id,
        BuyerShare(tag_uwu=queue.tag_uwu(offer.buyer_id), lease_uwu=work_uwu),
        virtual_uwu=queue.virtual_uwu,
    )


def give_back_shares(board: TaskBoard, attempts: Iterable[BoardAttempt]) -> None:
    """Take what was leased and not computed off its buyers' shares."""
    undone_uwu: dict[str, int] = defaultdict(int)
    for attempt in attempts:
        if attempt.row.state is AttemptState.LEASED and attempt.state in _WITHOUT_WORK:
            job = board.job(attempt.row.job_id)
            undone_uwu[job.buyer_id] += job.work_uwu_per_task
    for buyer_id, work_uwu in sorted(undone_uwu.items()):
        board.uow.market.give_back(buyer_id, work_uwu)

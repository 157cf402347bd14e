"""Counts what each buyer was given of the fleet: work when it is leased, less what a car left for another.

Audits count too: they keep cars busy for the buyer's sake, whoever pays for them. What fails by its program,
or is taken away with its job, counts as well: given back, a program that fails at once would stand first in
line for ever and pay nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pool_server.app.task_board import BoardAttempt, TaskBoard
from pool_server.core.jobs import AttemptOutcome, AttemptState
from pool_server.core.matching import TAG_UWU_MAX, JobOffer, counted
from pool_server.core.pricing.fair_share import FairShares
from pool_server.ports.unit_of_work import UnitOfWork

#: Ends of an attempt that are the car's doing, as long as its task still waits for somebody.
_BY_THE_CAR = frozenset({AttemptState.EXPIRED, AttemptState.CANCELLED})


def note_share(
    uow: UnitOfWork, offer: JobOffer, shares: FairShares, *, waiting: Sequence[JobOffer], work_uwu: int
) -> None:
    """Count a lease in its buyer's share; `waiting` are the jobs that `shares` are of."""
    share, virtual_uwu = counted(shares, offer, waiting=waiting, work_uwu=work_uwu)
    if share.tag_uwu > TAG_UWU_MAX:
        # Only distances count: the scale begins anew before its numbers outgrow 63 bits.
        uow.market.restart_scale(virtual_uwu)
        share, virtual_uwu = share._replace(tag_uwu=share.tag_uwu - virtual_uwu), 0
    uow.market.put_share(offer.buyer_id, share, virtual_uwu=virtual_uwu)


def give_back_shares(board: TaskBoard, attempts: Iterable[BoardAttempt]) -> None:
    """Take what cars were leased and left for others to compute off its buyers' shares."""
    undone_uwu: dict[str, int] = defaultdict(int)
    for attempt in attempts:
        if attempt.row.state is AttemptState.LEASED and _is_left_for_another(attempt):
            job = board.job(attempt.row.job_id)
            undone_uwu[job.buyer_id] += job.work_uwu_per_task
    for buyer_id, work_uwu in sorted(undone_uwu.items()):
        board.uow.market.give_back(buyer_id, work_uwu)


def _is_left_for_another(attempt: BoardAttempt) -> bool:
    if not attempt.task.undecided:
        return False
    if attempt.state is AttemptState.FAILED:
        return attempt.reason == AttemptOutcome.ABANDONED.name
    return attempt.state in _BY_THE_CAR

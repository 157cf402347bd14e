"""What time makes due, and how often it is looked at."""

from pool_server.app.classes import settle_class_asks
from pool_server.app.earnings import release_held
from pool_server.app.expiry import (
    accept_unverified,
    expire_jobs,
    expire_leases,
    expire_unjudged,
    lose_silent_vehicles,
    settle_out_of_owners,
)
from pool_server.app.forgetting import forget_ended
from pool_server.app.look_back import close_look_backs, open_look_backs
from pool_server.app.money import expire_pending
from pool_server.app.prefix_claims import settle_prefixes
from pool_server.app.price_epochs import hold_due_epoch
from pool_server.app.unit_answers import expire_questions
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.main.loops import Sweep
from pool_server.ports.unit_of_work import UnitOfWork

#: Turns between two looks at what is not urgent.
_RARELY = 10
#: The same for what only takes up room.
_SELDOM = 600


def sweeps(policy: WorkPolicy, blobs: BlobReader) -> list[Sweep]:
    """Return the sweeps of a server, in the order in which they run: work first, then its money."""

    def leases(uow: UnitOfWork, now_us: int) -> int:
        return expire_leases(uow, policy=policy, now_us=now_us, blobs=blobs)

    def jobs(uow: UnitOfWork, now_us: int) -> int:
        return expire_jobs(uow, now_us=now_us)

    def unjudged(uow: UnitOfWork, now_us: int) -> int:
        return expire_unjudged(uow, policy=policy, now_us=now_us, blobs=blobs)

    def unverified(uow: UnitOfWork, now_us: int) -> int:
        return accept_unverified(uow, policy=policy, now_us=now_us, blobs=blobs)

    def left_alone(uow: UnitOfWork, now_us: int) -> int:
        return settle_out_of_owners(uow, policy=policy, now_us=now_us, blobs=blobs)

    def opening(uow: UnitOfWork, now_us: int) -> int:
        return open_look_backs(uow, policy=policy, now_us=now_us)

    def checked(uow: UnitOfWork, now_us: int) -> int:
        return close_look_backs(uow, policy=policy, now_us=now_us, blobs=blobs)

    def asks(uow: UnitOfWork, now_us: int) -> int:
        return settle_class_asks(uow, policy=policy, now_us=now_us, blobs=blobs)

    def questions(uow: UnitOfWork, now_us: int) -> int:
        return expire_questions(uow, policy=policy, now_us=now_us, blobs=blobs)

    def prefixes(uow: UnitOfWork, now_us: int) -> int:
        return settle_prefixes(uow, policy=policy, now_us=now_us, blobs=blobs)

    def silent(uow: UnitOfWork, now_us: int) -> int:
        return lose_silent_vehicles(uow, policy=policy, now_us=now_us)

    def held(uow: UnitOfWork, now_us: int) -> int:
        return release_held(uow, now_us=now_us)

    def pending(uow: UnitOfWork, now_us: int) -> int:
        return expire_pending(uow, now_us=now_us)

    def ended(uow: UnitOfWork, now_us: int) -> int:
        return forget_ended(uow, now_us=now_us)

    def epochs(uow: UnitOfWork, now_us: int) -> int:
        return hold_due_epoch(uow, policy=policy, now_us=now_us)

    return [
        Sweep(name="expired leases", run=leases),
        Sweep(name="expired jobs", run=jobs),
        Sweep(name="audits without auditors", run=left_alone, every=_RARELY),
        Sweep(name="unverified results", run=unverified, every=_RARELY),
        Sweep(name="unjudged results", run=unjudged, every=_RARELY),
        Sweep(name="class asks", run=asks),
        Sweep(name="unanswered questions", run=questions, every=_RARELY),
        Sweep(name="unfinished work", run=prefixes, every=_RARELY),
        # Before held money is released: what it would release may have to be looked at again.
        Sweep(name="look-backs", run=opening),
        Sweep(name="checked look-backs", run=checked),
        Sweep(name="held money", run=held),
        Sweep(name="silent vehicles", run=silent, every=_RARELY),
        Sweep(name="unresolved money", run=pending, every=_RARELY),
        Sweep(name="ended offers", run=ended, every=_SELDOM),
        # Last: what has expired is no order.
        Sweep(name="price epochs", run=epochs),
    ]

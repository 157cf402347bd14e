"""Takes a job's tasks for a lease from the store, in the secret order of `core.hand_out`."""

from pool_server.core.hand_out import (
    HIDDEN_WAIT_US_MAX,
    STARTED_CANDIDATES_MAX,
    HandOutOrder,
    ReadyTask,
    choose_started,
    shuffled,
    window_share,
)
from pool_server.core.networks import NetworkGuest
from pool_server.ports.classes import ClassGuest
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobRow


def tasks_for_lease(
    uow: UnitOfWork,
    job: JobRow,
    *,
    owner_id: str,
    size: int,
    retry_before_us: int,
    guest: ClassGuest | None,
    network: NetworkGuest,
    order: HandOutOrder,
    now_us: int,
) -> list[ReadyTask]:
    """Return at most `size` tasks that an owner may be given, in the order in which the lease names them."""
    numbers = order.numbers(lease_seed=uow.leases.newest_id(), job_id=job.job_id, count=3 * size)
    started = uow.tasks.started(
        job.job_id,
        owner_id=owner_id,
        retry_before_us=retry_before_us,
        overdue_before_us=now_us - HIDDEN_WAIT_US_MAX,
        limit=STARTED_CANDIDATES_MAX,
        guest=guest,
        network=network,
    )
    fresh_count = job.ready_count - len(started)
    task_ids = choose_started(started, size=size, fresh_count=fresh_count, chances=numbers[:size])
    share = window_share(fresh_count=fresh_count, under_way=job.undecided_count - job.ready_count + size)
    places = numbers[size : 2 * size - len(task_ids)]
    task_ids += uow.tasks.fresh(job.job_id, places=places, share=share)
    if len(task_ids) < size:
        # Fewer fresh tasks than ready ones that are not for this owner: the place is for those that wait.
        taken = frozenset(task_ids)
        task_ids += [task.task_id for task in started if task.task_id not in taken][: size - len(task_ids)]
    return uow.tasks.ready(shuffled(task_ids, numbers[2 * size :]))

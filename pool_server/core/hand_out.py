"""Which of a job's ready tasks go into a lease, in an order in which a check looks like all other work.

A task that has had an attempt (a check, a tie-break, a retry) is told from a fresh one by nothing that a
vehicle sees: it is drawn from among fresh tasks of the whole job, whatever its age, with the same chance in a
lease of one task and of many, and lies anywhere in the lease. So checks wait a little; how long is bounded.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from pool_protocol.limits import MINUTE_US
from pool_server.core.jobs import TensorRef

#: Fresh tasks among which started ones hide: on average so many tasks of the job go out before a check does.
#: Leases of more than this take every check that waits, and in them checks are rarer than in small ones.
HIDDEN_AMONG_TASKS = 64
#: A result that has waited so long for a check gets it in the next lease of its job.
HIDDEN_WAIT_US_MAX = MINUTE_US
#: Started tasks looked at for one lease.
STARTED_CANDIDATES_MAX = 256

T = TypeVar("T")


class HandOutOrder(Protocol):
    """The secret chance of what goes into a lease."""

    def numbers(self, *, lease_seed: int, job_id: int, count: int) -> Sequence[float]:
        """Return numbers in [0, 1) that nobody without the secret can foresee."""
        ...


class TaskTake(NamedTuple):
    """One attempt of a task goes out."""

    task_id: int
    by_job: bool
    """Whether the job pays."""


class StartedTask(NamedTuple):
    """A ready task that has had an attempt, which an owner may be given."""

    task_id: int
    is_overdue: bool
    """A result of it has waited for `HIDDEN_WAIT_US_MAX`."""


class ReadyTask(NamedTuple):
    """A task that an owner may be given, with its inputs."""

    task_id: int
    task_index: int
    rank: int
    wanted: int
    job_funded_count: int
    inputs: TensorRef


def choose_started(
    started: Sequence[StartedTask], *, size: int, fresh_count: int, chances: Sequence[float]
) -> list[int]:
    """Return the started tasks of a lease of `size`: the overdue, and some of those that hide in fresh ones.

    Each free place of the lease draws from the rest and from at most `HIDDEN_AMONG_TASKS` fresh tasks alike.
    """
    chosen = [task.task_id for task in started if task.is_overdue][:size]
    slots: list[int | None] = [task.task_id for task in started if not task.is_overdue]
    slots += [None] * max(0, min(HIDDEN_AMONG_TASKS, fresh_count))
    for chance in chances[: size - len(chosen)]:
        if not slots:
            break
        task_id = slots.pop(int(chance * len(slots)))
        if task_id is not None:
            chosen.append(task_id)
    return chosen


def shuffled(items: Sequence[T], chances: Sequence[float]) -> list[T]:
    """Return the items in the order that the chances say, of which there are as many."""
    rest = list(items)
    return [rest.pop(int(chance * len(rest))) for chance in chances[: len(items)]]

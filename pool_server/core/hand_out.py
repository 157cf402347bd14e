"""Which of a job's ready tasks go into a lease, in an order in which a check looks like all other work.

A task that has had an attempt (a check, a tie-break, a retry) is told from a fresh one by nothing that a
vehicle sees: it is drawn from among fresh tasks, with the same chance in a lease of one task and of many, and
lies anywhere in the lease. So checks wait a little; how long is bounded.

Fresh tasks are drawn from a *window* of the job's oldest, so that whoever reads a large job's results in
order does not wait for the whole of it. A check comes later than its task came, so where inputs tell their
place in the job it looks older than fresh tasks do: by as many hand-outs as a result and its check take. The
window is so much wider than that that little is told (`WINDOW_PER_DELAY`), and covers all of a smaller job.
"""

from collections.abc import Sequence
from math import isqrt
from typing import NamedTuple, Protocol, TypeVar

from pool_protocol.limits import MINUTE_US
from pool_server.core.jobs import TensorRef

#: Fresh tasks among which started ones hide: on average so many tasks of the job go out before a check does.
#: Leases of more than this take every check that waits, and in them checks are rarer than in small ones.
HIDDEN_AMONG_TASKS = 64
#: A result that has waited so long for a check gets it in the next lease of its job.
HIDDEN_WAIT_US_MAX = MINUTE_US
#: The window, in delays of a check: the hand-outs among which it hides, and those while its task is computed.
#: Where inputs tell their place, an AUC by age was simulated at 0.585 for 8, 0.525 for 32, 0.510 for 64.
WINDOW_PER_DELAY = 64
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


def window_share(*, fresh_count: int, under_way: int) -> float:
    """Return from which share of a job's fresh tasks, the oldest, the next are drawn: above 0, at most 1.

    Args:
        fresh_count: Fresh tasks of the job.
        under_way: Its tasks that are computed now.
    """
    window = WINDOW_PER_DELAY * (HIDDEN_AMONG_TASKS + max(0, under_way))
    return min(1.0, window / max(1, fresh_count))


class Seeks(NamedTuple):
    """Where a job's next fresh tasks are sought."""

    task_ids: list[int]
    """From each of them on the first fresh task is taken, if it lies before the end; else an oldest one."""
    end: int
    """The first id beyond the window."""


def seeks(*, first: int, last: int, share: float, chances: Sequence[float]) -> Seeks:
    """Say where fresh tasks are sought, for each chance one.

    The first fresh task from an id on is taken, so that a task is the likelier the more before it are gone.
    That alone makes the window move evenly: a task is drawn at any time alike while the window passes it.

    Args:
        first: The oldest fresh task.
        last: The newest.
        share: The share of the ids between them that is sought in.
        chances: Numbers in [0, 1).
    """
    span = last - first + 1
    if share >= 1:
        return Seeks([first + int(chance * span) for chance in chances], last + 1)
    width = max(1, int(span * share))
    # Of the ids before the oldest, which are gone, so many belong to it as lie before any other that is old.
    start = first - isqrt(width)
    return Seeks([max(first, start + int(chance * width)) for chance in chances], first + width)


def shuffled(items: Sequence[T], chances: Sequence[float]) -> list[T]:
    """Return the items in the order that the chances say, of which there are as many."""
    rest = list(items)
    return [rest.pop(int(chance * len(rest))) for chance in chances[: len(items)]]

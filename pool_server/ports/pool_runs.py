"""What the pool's own runs of tasks need: a store, and a referee that computes a whole task.

The manners are those of `ports.work`.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pool_server.core.jobs import TensorRef
from pool_server.core.verification.pool_run import PoolRunCause, PoolRunState


class PoolRunRow(NamedTuple):
    """A task that the pool computes itself: once at most."""

    task_id: int
    cause: PoolRunCause
    state: PoolRunState
    tries: int
    """Runs that failed by the referee's own fault."""
    output_digest: bytes
    """Empty without a result."""
    outputs: TensorRef
    numeric_class: str
    """Of the pool's machine when it ran; empty where unknown."""
    reason: str
    """Code of what went wrong."""
    wanted_at_us: int
    ended_at_us: int


class PoolRunRepository(Protocol):
    """The pool's own runs: `uow.pool_runs`."""

    def insert(self, row: PoolRunRow) -> None:
        """Insert a run that is wanted."""
        ...

    def of_tasks(self, task_ids: Sequence[int]) -> dict[int, PoolRunRow]:
        """Runs by task, of those that have one."""
        ...

    def wanted(self, *, limit: int) -> list[int]:
        """Undecided tasks that wait for the referee: contradictions first, of each buyer the oldest."""
        ...

    def wanted_count(self, *, at_most: int) -> int:
        """Count the undecided tasks that wait for the referee, up to a number."""
        ...

    def failed_count(self, job_id: int, *, at_most: int) -> int:
        """Count the tasks of a job that fail on the pool's machine, up to a number."""
        ...

    def newest_class(self) -> str:
        """The class that the pool's machine had when it last ran a task; empty where unknown."""
        ...

    def change(self, row: PoolRunRow) -> bool:
        """Write a run that is still wanted; True when it was."""
        ...


class TaskOrder(NamedTuple):
    """A task to compute."""

    program_sha256: str
    constants: TensorRef
    inputs: TensorRef
    steps: int
    """Of a step task; 0 for map programs."""
    unit_steps: int


class TaskRun(NamedTuple):
    """What the referee computed."""

    output_digest: bytes
    outputs: TensorRef
    numeric_class: str
    """The referee's; empty where unknown."""


class TaskReferee(Protocol):
    """Computes a whole task of an admitted program, sandboxed, on the pool's own machine."""

    async def run_task(self, order: TaskOrder) -> TaskRun:
        """Compute the task.

        Raises:
            PoolError: the program fails on these inputs, or the referee cannot run it now.
        """
        ...

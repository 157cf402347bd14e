"""What a `TaskBoard` knows of the pool's own runs: asks for them, and lets their results join the others.

A task has one run at most, and it stays: later results of the task are measured by it as well. In verdicts it
is a candidate of a trusted node whose attempt id is the negated task id, so that it is the reference of every
comparison. `core.verification.pool_run` says when its word counts.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pool_protocol.errors import InvariantError
from pool_server.core.comparison import Candidate, agreement_groups, agrees
from pool_server.core.effects import RefereeWanted
from pool_server.core.jobs import NO_TENSORS, TensorRef
from pool_server.core.verification.classes import ClassView
from pool_server.core.verification.pool_run import (
    PoolRunCause,
    PoolRunState,
    contradict,
    may_speak,
)
from pool_server.ports.pool_runs import PoolRunRow

if TYPE_CHECKING:
    from pool_server.app.task_board import BoardAttempt, BoardTask, TaskBoard

#: The owner of the pool's own results.
_POOL = ""


class Opinions(NamedTuple):
    """What a verdict is made of."""

    candidates: list[Candidate]
    view: ClassView | None
    pool_digest: bytes
    """Of the pool's own result, where that has a say; empty otherwise."""


class PoolRuns:
    """See the module."""

    def __init__(self, board: "TaskBoard") -> None:
        """Serve one board."""
        self._board = board
        self._runs: dict[int, PoolRunRow | None] = {}
        self._newest_class: str | None = None

    def of(self, task: "BoardTask") -> PoolRunRow | None:
        """Return a task's run, if it has one."""
        task_id = task.row.task_id
        if task_id not in self._runs:
            missing = [number for number in self._board.tasks if number not in self._runs]
            found = self._board.uow.pool_runs.of_tasks(missing)
            self._runs.update((number, found.get(number)) for number in missing)
        return self._runs[task_id]

    def outputs(self, task_id: int) -> TensorRef:
        """Return the arrays that the pool computed for a task on the board.

        Raises:
            InvariantError: it did not.
        """
        run = self._runs.get(task_id)
        if run is None or run.state is not PoolRunState.DONE:
            raise InvariantError(f"the pool has no result of task {task_id}")
        return run.outputs

    # --- verdicts -------------------------------------------------------------------------------

    def hear(self, task: "BoardTask", candidates: list[Candidate], view: ClassView | None) -> Opinions | None:
        """Return the opinions on a task, the pool's own among them where it counts; None while it is awaited.

        Args:
            task: Undecided.
            candidates: Results of it.
            view: What is known of their classes.
        """
        run = self.of(task)
        if run is None:
            if self._is_contradiction(task, candidates, view):
                self._want(task, PoolRunCause.CONTRADICTION)
                return None
            return Opinions(candidates, view, b"")
        if run.state is PoolRunState.WANTED and self._is_awaited(task, run, candidates, view):
            return None
        if run.state is not PoolRunState.DONE or not self._may_speak(task, run, candidates, view):
            return Opinions(candidates, view, b"")
        word = _word(run)
        if view is not None:
            view = replace(
                view,
                class_of={**view.class_of, word.attempt_id: run.numeric_class},
                trusted=view.trusted | {word.attempt_id},
            )
        return Opinions([word, *candidates], view, run.output_digest)

    def _is_awaited(
        self, task: "BoardTask", run: PoolRunRow, candidates: Sequence[Candidate], view: ClassView | None
    ) -> bool:
        """Say whether a wanted run still matters: one side may be gone, or a trusted node have come."""
        if run.cause is PoolRunCause.CONTRADICTION:
            return self._is_contradiction(task, candidates, view)
        is_trusted = any(candidate.trusted for candidate in candidates)
        return task.job.work_uwu_per_task <= self._board.policy.pool_run_uwu_max and not is_trusted

    def _is_contradiction(
        self, task: "BoardTask", candidates: Sequence[Candidate], view: ClassView | None
    ) -> bool:
        """Say whether results contradict each other and the pool may settle it."""
        if task.job.work_uwu_per_task > self._board.policy.pool_run_uwu_max:
            return False
        if view is not None:
            candidates = [item for item in candidates if item.attempt_id not in view.refuted]
        if len({candidate.output_digest for candidate in candidates}) < 2:
            return False
        if any(candidate.trusted for candidate in candidates):
            return False
        groups = agreement_groups(task.job.comparator, candidates, self._board.outputs_of)
        return contradict(groups, view)

    def _may_speak(
        self,
        task: "BoardTask",
        run: PoolRunRow,
        candidates: Sequence[Candidate],
        view: ClassView | None,
    ) -> bool:
        comparator, word = task.job.comparator, _word(run)
        outputs_of = self._board.outputs_of
        return may_speak(
            run.numeric_class,
            agreement_groups(comparator, candidates, outputs_of),
            view,
            backed=any(agrees(comparator, candidate, word, outputs_of) for candidate in candidates),
            compares_bits=comparator.compares_bits or (view is not None and view.per_unit),
        )

    # --- audits ---------------------------------------------------------------------------------

    def audit(self, attempt: "BoardAttempt", *, needs_trusted: bool, alone: bool) -> None:
        """Have the pool itself compute what several auditors would have, or none, if it has the time.

        Where it has not, or cannot, the task waits for its auditors as drawn.

        Args:
            attempt: Just recorded, and drawn.
            needs_trusted: Whether no number of auditors would do.
            alone: Whether no other owner is there to ask instead: then it waits for its turn, however long.
        """
        board, task = self._board, attempt.task
        policy, runs = board.policy, board.uow.pool_runs
        most_uwu = policy.pool_run_uwu_max
        if not needs_trusted:
            most_uwu = min(most_uwu, policy.pool_audit_uwu_max)
        if task.job.work_uwu_per_task > most_uwu:
            return
        if self.of(task) is not None or not self._computes_like(attempt):
            return
        limit = policy.pool_audits_waiting_max
        if alone or runs.wanted_count(at_most=limit) < limit:
            self._want(task, PoolRunCause.AUDIT)

    def _computes_like(self, attempt: "BoardAttempt") -> bool:
        """Say whether the pool's bits, as far as is known, say something of a vehicle's."""
        if not attempt.task.job.comparator.compares_bits:
            return True
        if self._newest_class is None:
            self._newest_class = self._board.uow.pool_runs.newest_class()
        return not self._newest_class or self._board.classes.alike(attempt, self._newest_class)

    def _want(self, task: "BoardTask", cause: PoolRunCause) -> None:
        row = PoolRunRow(
            task_id=task.row.task_id,
            cause=cause,
            state=PoolRunState.WANTED,
            tries=0,
            output_digest=b"",
            outputs=NO_TENSORS,
            numeric_class="",
            reason="",
            wanted_at_us=self._board.now_us,
            ended_at_us=0,
        )
        self._board.uow.pool_runs.insert(row)
        self._runs[row.task_id] = row
        self._board.uow.effects.append(RefereeWanted(task_id=row.task_id))

    def end(self, task: "BoardTask", row: PoolRunRow) -> None:
        """Write what became of a run.

        Raises:
            InvariantError: it was not wanted any more.
        """
        if not self._board.uow.pool_runs.change(row):
            raise InvariantError(f"the pool's run of task {row.task_id} is not wanted any more")
        self._runs[task.row.task_id] = row


def _word(run: PoolRunRow) -> Candidate:
    return Candidate(attempt_id=-run.task_id, owner_id=_POOL, output_digest=run.output_digest, trusted=True)

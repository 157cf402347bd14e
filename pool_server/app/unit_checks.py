"""What a `TaskBoard` knows of checks of single units: draws them, asks for states, says what follows.

Where a dispute has come down to a unit that bits cannot decide, and the job's comparator leaves room for
rounding, both claims are checked each by itself (`core.verification.unit_check`). Units of a claim are drawn
once: later disputes add at most the unit in which they part. Meanwhile the dispute is CHECKING.

What is found wrong is rejected like the loser of a dispute. Two claims that both stand are told apart no
more: from then on verdicts count them under one digest (`voice`). Not decided here: what the referee's run
means (`app.unit_check_runs`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pool_protocol.digests import sha256
from pool_protocol.errors import InvariantError
from pool_server.app.board_rows import read_tensors
from pool_server.app.dispute_gate import (
    CLASS_PROBLEM,
    MOOT,
    WRONG_UNIT,
    ask_units,
    close_dispute,
    units_of_task,
)
from pool_server.core.effects import RefereeWanted
from pool_server.core.jobs import NO_TENSORS, AttemptState, TensorRef
from pool_server.core.verification.audit import AuditDraw
from pool_server.core.verification.dispute import DISPUTE_LIFECYCLE, DisputeState
from pool_server.core.verification.unit_check import (
    UNIT_CHECK_LIFECYCLE,
    Fit,
    Standing,
    UnitCheckState,
    drawn_units,
    has_tolerance,
    next_parting,
    settle,
    standing_of,
    unit_fit,
    voices,
)
from pool_server.ports.disputes import DisputeRow, UnitQueryRow
from pool_server.ports.unit_checks import UnitCheckRow
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobRow

if TYPE_CHECKING:
    from pool_server.app.task_board import BoardAttempt, BoardTask, TaskBoard

#: Why a dispute ends where both claims were found right.
BOTH_STAND: Final = "BOTH_STAND"
#: Why a claim is set aside that could not be checked, where the other one was found right.
UNCHECKED: Final = "UNCHECKED"
#: Keeps this draw apart from the others.
_UNITS: Final = b"units"


class UnitChecks:
    """See the module."""

    def __init__(self, board: "TaskBoard") -> None:
        """Serve one board."""
        self._board = board

    # --- opening --------------------------------------------------------------------------------

    def begin(self, task: "BoardTask", dispute: DisputeRow, *, draws: AuditDraw) -> bool:
        """Turn a dispute whose unit proved nothing to its claims themselves.

        Args:
            task: The dispute's.
            dispute: With the referee.
            draws: The secret chance that draws units, from what was signed.

        Returns:
            Whether it was: the job's comparator may leave no room for rounding.
        """
        job = task.job
        if not has_tolerance(job.comparator, [spec.name for spec in job.outputs]):
            return False
        DISPUTE_LIFECYCLE.check(dispute.state, DisputeState.CHECKING, what=str(dispute.dispute_id))
        checking = dispute._replace(state=DisputeState.CHECKING, reason=CLASS_PROBLEM)
        if not self._board.uow.disputes.change(checking, from_state=dispute.state):
            raise InvariantError(f"dispute {dispute.dispute_id} is not {dispute.state} any more")
        drawn_before = {row.attempt_id for row in self._board.uow.unit_checks.of_attempts(_sides(dispute))}
        for attempt_id in _sides(dispute):
            drawn = () if attempt_id in drawn_before else self._drawn(task, attempt_id, draws)
            self._open(task, attempt_id, [dispute.unit_index, *drawn])
        return True

    def _open(self, task: "BoardTask", attempt_id: int, wanted: Iterable[int]) -> None:
        """Open checks of those units of a claim that have none."""
        board = self._board
        known = {row.unit_index for row in board.uow.unit_checks.of_attempts([attempt_id])}
        units = sorted(set(wanted) - known)
        if not units:
            return
        ids = board.uow.ids.next_block("unit_check", len(units))
        board.uow.unit_checks.insert(
            [
                UnitCheckRow(
                    check_id=check_id,
                    task_id=task.row.task_id,
                    attempt_id=attempt_id,
                    unit_index=unit,
                    state=UnitCheckState.ASKING,
                    tries=0,
                    referee_digest=b"",
                    referee_class="",
                    reason="",
                    opened_at_us=board.now_us,
                    closed_at_us=0,
                )
                for check_id, unit in zip(ids, units, strict=True)
            ]
        )

    def _drawn(self, task: "BoardTask", attempt_id: int, draws: AuditDraw) -> tuple[int, ...]:
        unit_root = self._board.uow.disputes.commitments([attempt_id])[attempt_id].unit_root
        unit_count = units_of_task(task.job)
        vouched = self._board.classes.vouches_for_itself(task.attempts[attempt_id])
        numbers = [
            draws.uniform(
                output_digest=sha256(_UNITS + place.to_bytes(4, "big") + unit_root), attempt_id=attempt_id
            )
            for place in range(self._board.policy.unit_check.units(unit_count, vouched=vouched))
        ]
        return drawn_units(numbers, unit_count)

    # --- the next move --------------------------------------------------------------------------

    def proceed(self, task: "BoardTask", dispute: DisputeRow) -> bool:
        """Ask for the states that are missing, or settle; return whether the dispute waits for somebody."""
        sides = _sides(dispute)
        self._gather_all(task, dispute)
        settlement = settle(self._standings(sides))
        if settlement is not None and settlement.both_stand:
            parting = self._parting(task, dispute)
            if parting is not None:
                for attempt_id in sides:
                    self._open(task, attempt_id, [parting])
                self._gather_all(task, dispute)
                settlement = settle(self._standings(sides))
        if settlement is None:
            return True
        for attempt_id in settlement.set_aside:
            self._board.drop(task.attempts[attempt_id], reason=UNCHECKED)
        if settlement.wrong or settlement.upheld:
            reason = WRONG_UNIT if settlement.wrong else UNCHECKED
            state, winner = DisputeState.DECIDED, settlement.upheld
        else:
            reason = BOTH_STAND if settlement.both_stand else self._why_unsettled(sides)
            state, winner = DisputeState.NO_BLAME, 0
        close_dispute(self._board, dispute, state, reason=reason, winner_attempt_id=winner)
        self.condemn(task, settlement.wrong)
        return False

    def _parting(self, task: "BoardTask", dispute: DisputeRow) -> int | None:
        """Return the unit to check next of two claims that stand so far; None when there is none."""
        job, uow, blobs = task.job, self._board.uow, self._board.blobs
        first, second = _sides(dispute)
        units = {attempt_id: set[int]() for attempt_id in (first, second)}
        for row in uow.unit_checks.of_attempts([first, second]):
            units[row.attempt_id].add(row.unit_index)

        def near(unit: int) -> bool:
            one, other = (
                read_tensors(held_state(uow, job, attempt_id, unit), blobs) for attempt_id in (first, second)
            )
            return unit_fit(job.comparator, other, one) is Fit.WITHIN

        return next_parting(units_of_task(job), units[first] & units[second], near)

    def condemn(self, task: "BoardTask", attempt_ids: Iterable[int]) -> None:
        """Reject those of a task's recorded results of which a unit was found outside of the tolerance.

        Where that may be the fault of a class as a whole, the verdict asks a witness of it first; until then
        the result decides nothing (`refuted`).
        """
        for attempt_id in attempt_ids:
            attempt = task.attempts[attempt_id]
            found = self._outside(attempt)
            if found is None or attempt.state is not AttemptState.RETURNED:
                continue
            if not self._board.classes.may_be_at_fault(attempt, found.referee_class):
                self._board.convict(task, [attempt_id], reason=WRONG_UNIT, unit_index=found.unit_index)

    def _gather_all(self, task: "BoardTask", dispute: DisputeRow) -> None:
        queries = self._board.uow.disputes.queries(_sides(dispute))
        for row in self._board.uow.unit_checks.of_attempts(_sides(dispute)):
            if row.state is UnitCheckState.ASKING:
                self._gather(task, dispute, row, queries)

    def _gather(
        self, task: "BoardTask", dispute: DisputeRow, row: UnitCheckRow, queries: list[UnitQueryRow]
    ) -> None:
        """Call the referee when the states before and after a unit are here; otherwise ask for them."""
        waits = False
        for unit in (row.unit_index - 1, row.unit_index):
            if self._is_here(task, unit):
                continue
            asked = [
                query
                for query in queries
                if query.want_state
                and (query.attempt_id, query.unit_index) == (row.attempt_id, unit)
                and query.reason != MOOT
            ]
            if any(query.tensors != NO_TENSORS for query in asked):
                continue
            if not asked:
                queries += ask_units(self._board, task, [row.attempt_id], unit, want_state=True)
            elif all(query.state != "asked" for query in asked):
                self._change(row, UnitCheckState.UNSETTLED, reason=asked[-1].reason)
                return
            waits = True
        if not waits:
            self._change(row, UnitCheckState.REFEREEING)
            self._board.uow.effects.append(RefereeWanted(dispute_id=dispute.dispute_id))

    def _is_here(self, task: "BoardTask", unit: int) -> bool:
        """Say whether the pool has a state without asking: the initial one, and what was handed in."""
        return unit in (-1, units_of_task(task.job) - 1)

    def _change(self, row: UnitCheckRow, state: UnitCheckState, *, reason: str = "") -> None:
        closed_at_us = 0 if state is UnitCheckState.REFEREEING else self._board.now_us
        self.write(row, row._replace(state=state, reason=reason, closed_at_us=closed_at_us))

    def write(self, row: UnitCheckRow, to: UnitCheckRow) -> None:
        """Write what became of a check.

        Raises:
            InvariantError: the step is not legal, or it was not where it was read to be.
        """
        if to.state is not row.state:
            UNIT_CHECK_LIFECYCLE.check(row.state, to.state, what=str(row.check_id))
        if not self._board.uow.unit_checks.change(to, from_state=row.state):
            raise InvariantError(f"unit check {row.check_id} is not {row.state} any more")

    # --- what was found -------------------------------------------------------------------------

    def _standings(self, attempt_ids: Iterable[int]) -> dict[int, Standing]:
        states: dict[int, list[UnitCheckState]] = {attempt_id: [] for attempt_id in attempt_ids}
        for row in self._board.uow.unit_checks.of_attempts(list(states)):
            states[row.attempt_id].append(row.state)
        return {attempt_id: standing_of(found) for attempt_id, found in states.items()}

    def _why_unsettled(self, attempt_ids: tuple[int, ...]) -> str:
        rows = self._board.uow.unit_checks.of_attempts(attempt_ids)
        return next(row.reason for row in rows if row.state is UnitCheckState.UNSETTLED)

    def is_upheld(self, attempt_id: int) -> bool:
        """Say whether all of a claim's units that were drawn are right."""
        return self._standings([attempt_id])[attempt_id] is Standing.STANDS

    def wrong_unit(self, attempt: "BoardAttempt") -> int:
        """Return the first unit in which a claim was found outside of the tolerance; -1 where in none."""
        found = self._outside(attempt)
        return -1 if found is None else found.unit_index

    def _outside(self, attempt: "BoardAttempt") -> UnitCheckRow | None:
        if attempt.task.job.kind != "step":
            return None
        rows = self._board.uow.unit_checks.of_attempts([attempt.row.attempt_id])
        return next((row for row in rows if row.state is UnitCheckState.OUTSIDE), None)

    # --- verdicts -------------------------------------------------------------------------------

    def refuted(self, task: "BoardTask") -> frozenset[int]:
        """Return the recorded results of which a unit was found wrong, and those that say the very same."""
        if task.job.kind != "step":
            return frozenset()
        returned = {attempt.row.attempt_id: attempt for attempt in task.in_state(AttemptState.RETURNED)}
        rows = self._board.uow.unit_checks.of_attempts(list(returned))
        digests = {returned[row.attempt_id].digest for row in rows if row.state is UnitCheckState.OUTSIDE}
        return frozenset(number for number, attempt in returned.items() if attempt.digest in digests)

    def voices(self, task: "BoardTask") -> dict[bytes, bytes]:
        """Return under which digest results count that were found as right as an earlier one."""
        if task.job.kind != "step":
            return {}
        digests = {attempt_id: attempt.digest for attempt_id, attempt in task.attempts.items()}
        return voices(
            (digests[dispute.first_attempt_id], digests[dispute.second_attempt_id])
            for dispute in self._board.uow.disputes.of_task(task.row.task_id)
            if dispute.reason == BOTH_STAND
        )


def held_state(uow: UnitOfWork, job: JobRow, attempt_id: int, unit: int) -> TensorRef:
    """Return a claim's state after a unit: what was handed in, or shown.

    Raises:
        InvariantError: it is not here.
    """
    if unit == units_of_task(job) - 1:
        held = uow.attempts.outputs(attempt_id)
        if held is not None:
            return held
    for query in uow.disputes.queries([attempt_id]):
        if query.unit_index == unit and query.tensors != NO_TENSORS:
            return query.tensors
    raise InvariantError(f"attempt {attempt_id} has not shown its state after unit {unit}")


def _sides(dispute: DisputeRow) -> tuple[int, int]:
    return dispute.first_attempt_id, dispute.second_attempt_id

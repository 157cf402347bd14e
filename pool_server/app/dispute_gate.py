"""Between a disagreement over a step task and its verdict: opens disputes, asks the next question, convicts.

A board asks here before it judges a step task. While a dispute is open the task waits; what a dispute finds
wrong is rejected, and when no claims are left to be set against each other the ordinary verdict follows. All
that is remembered are rows, so that an answer, an expired question, a ruling or a new result may come in any
order: each looks at the task again, and the next move follows from what is there.

Not decided here: whether an answer stands up (`app.unit_answers`), what the referee's run means
(`app.refereeing`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import TYPE_CHECKING

from pool_protocol.digests import DIGEST_BYTES, state_digest
from pool_protocol.errors import InvariantError
from pool_protocol.money import ceil_div
from pool_server.core.comparison import Candidate, Tensors, agreement_groups
from pool_server.core.effects import RefereeWanted, UnitQuestion, UnitsAsked
from pool_server.core.jobs import NO_TENSORS, AttemptState
from pool_server.core.verification.dispute import (
    DISPUTE_LIFECYCLE,
    AskDigests,
    Claim,
    DisputeState,
    FalseFinal,
    Parting,
    SameStates,
    answer_time_us,
    commitment_fault,
    next_move,
    time_used_us,
)
from pool_server.ports.disputes import DisputeRow, UnitQueryRow

if TYPE_CHECKING:
    from pool_server.app.task_board import BoardAttempt, BoardTask, TaskBoard
    from pool_server.app.work_commands import AttemptReport
    from pool_server.ports.work import JobRow

OutputsOf = Callable[[int], Tensors]
OPEN_DISPUTES = frozenset({DisputeState.ASKING, DisputeState.REFEREEING, DisputeState.CHECKING})
#: Reasons of attempts that a dispute rejected.
WRONG_UNIT = "WRONG_UNIT"
WITHHELD = "WITHHELD"
#: Why a dispute ends, or goes on with each claim by itself: bits prove nothing between its classes.
CLASS_PROBLEM = "CLASS_PROBLEM"
#: Reason of a question that was closed because its dispute had ended: as good as never asked.
MOOT = "MOOT"


def units_of_task(job: "JobRow") -> int:
    """Return how many units a step job's tasks have; 0 for map jobs."""
    return ceil_div(job.steps_per_task, job.unit_steps) if job.unit_steps else 0


def unit_digest(state: Tensors, *, program_sha256: str, unit_index: int) -> bytes:
    """Return what a vehicle commits to for a state: leases are blind, so neither job nor task is bound."""
    return state_digest(state, job_id="", program_sha256=program_sha256, task_index=0, unit_index=unit_index)


def commitment_fault_of(report: "AttemptReport", job: "JobRow", outputs_of: Callable[[], Tensors]) -> str:
    """Say what is wrong with the commitment of outputs that are sound; empty for map jobs."""
    units = units_of_task(job)
    if units == 0:
        return ""
    final_digest = b""
    if units == 1:  # then the root is the outputs' own; otherwise a dispute asks for the last unit first
        final_digest = unit_digest(outputs_of(), program_sha256=job.program_sha256, unit_index=0)
    return commitment_fault(
        unit_root=report.unit_root,
        unit_count=report.unit_count,
        units_of_task=units,
        final_digest=final_digest,
    )


def awaits_dispute(board: "TaskBoard", task: "BoardTask", outputs_of: OutputsOf) -> bool:
    """Make the next moves of a task's disputes; return whether its verdict must wait for one."""
    # A look-back asks for results of long ago: no vehicle must still be there, or have kept its states.
    if task.job.kind != "step" or task.rechecking:
        return False
    returned = task.in_state(AttemptState.RETURNED)
    if len({attempt.digest for attempt in returned}) < 2:
        return False
    return _Docket(board, task, outputs_of).proceed()


def agreement_left(board: "TaskBoard", task: "BoardTask") -> int:
    """Return how many agreeing owners a task still needs, at least 1.

    An opinion that a dispute convicted was an opinion: what is promised is that one honest owner among so
    many is enough, and an honest one would have won. So it counts for the result that it lost against, and so
    do those that it had beaten itself, as long as nobody else contradicts.
    """
    needed = task.agreement_needed
    if task.job.kind != "step" or task.rechecking or needed < 2 or len(task.attempts) < 2:
        return needed
    refuted, voices = board.unit_checks.refuted(task), board.unit_checks.voices(task)
    returned = [
        attempt for attempt in task.in_state(AttemptState.RETURNED) if attempt.row.attempt_id not in refuted
    ]
    if len({voices.get(attempt.digest, attempt.digest) for attempt in returned}) != 1:
        return needed
    return max(1, needed - _beaten(board, task, {attempt.row.attempt_id for attempt in returned}))


def _beaten(board: "TaskBoard", task: "BoardTask", winners: set[int]) -> int:
    losers: dict[int, set[int]] = defaultdict(set)
    for dispute in board.uow.disputes.of_task(task.row.task_id):
        winner = dispute.winner_attempt_id
        if dispute.state is DisputeState.DECIDED and winner:
            losers[winner] |= {dispute.first_attempt_id, dispute.second_attempt_id} - {winner}
    beaten: set[int] = set()
    ahead = list(winners)
    while ahead:
        new = losers[ahead.pop()] - beaten
        beaten |= new
        ahead += new
    return len(beaten)


def close_dispute(
    board: "TaskBoard", dispute: DisputeRow, state: DisputeState, *, reason: str, winner_attempt_id: int = 0
) -> None:
    """End a dispute that is open.

    Raises:
        InvariantError: it was not.
    """
    DISPUTE_LIFECYCLE.check(dispute.state, state, what=str(dispute.dispute_id))
    closed = dispute._replace(
        state=state, reason=reason, winner_attempt_id=winner_attempt_id, closed_at_us=board.now_us
    )
    if not board.uow.disputes.change(closed, from_state=dispute.state):
        raise InvariantError(f"dispute {dispute.dispute_id} is not {dispute.state} any more")


def convict(
    board: "TaskBoard",
    task: "BoardTask",
    dispute: DisputeRow,
    attempt_ids: Iterable[int],
    *,
    reason: str,
    unit_index: int,
) -> None:
    """Reject sides of a dispute and end it; the other side, if one is left, has won."""
    wrong = set(attempt_ids)
    left = [side for side in (dispute.first_attempt_id, dispute.second_attempt_id) if side not in wrong]
    # Silence convicts the silent one and proves nothing for the other, unless that was checked by itself.
    proved = reason == WRONG_UNIT
    if dispute.state is DisputeState.CHECKING:
        proved = all(map(board.unit_checks.is_upheld, left))
    winner = left[0] if left and proved else 0
    board.convict(task, sorted(wrong), reason=reason, unit_index=unit_index)
    close_dispute(board, dispute, DisputeState.DECIDED, reason=reason, winner_attempt_id=winner)


class _Docket:
    """The disputes of one task."""

    def __init__(self, board: "TaskBoard", task: "BoardTask", outputs_of: OutputsOf) -> None:
        self._board = board
        self._task = task
        self._outputs_of = outputs_of
        self._disputes = board.uow.disputes

    def proceed(self) -> bool:
        """Move until a dispute waits for somebody (True), or none is left to be held (False)."""
        while (dispute := self._open()) is not None:
            if self._move(dispute):
                return True
        return False

    # --- which two ------------------------------------------------------------------------------

    def _open(self) -> DisputeRow | None:
        """Return the open dispute, or a new one; None when no two claims are to be set against each other."""
        claims = {attempt.row.attempt_id: attempt for attempt in self._claims()}
        docket = self._disputes.of_task(self._task.row.task_id)
        for dispute in docket:
            if dispute.state in OPEN_DISPUTES:
                if dispute.first_attempt_id in claims and dispute.second_attempt_id in claims:
                    return dispute
                close_dispute(self._board, dispute, DisputeState.ENDED, reason="SIDE_GONE")
                sides = {dispute.first_attempt_id, dispute.second_attempt_id}
                self._board.unit_checks.condemn(self._task, sides & claims.keys())
                return self._open()
        held = {
            frozenset({dispute.first_attempt_id, dispute.second_attempt_id})
            for dispute in docket
            if dispute.state is DisputeState.NO_BLAME
        }
        checks = self._board.unit_checks
        voices, refuted = checks.voices(self._task), checks.refuted(self._task)
        candidates = [
            Candidate(
                attempt_id=attempt_id,
                owner_id=attempt.row.owner_id,
                output_digest=voices.get(attempt.digest, attempt.digest),
            )
            for attempt_id, attempt in claims.items()
            if attempt_id not in refuted
        ]
        anchors = [
            group.anchor.attempt_id
            for group in agreement_groups(self._task.job.comparator, candidates, self._outputs_of)
        ]
        for first, second in combinations(anchors, 2):
            if frozenset({first, second}) not in held:
                return self._begin(first, second)
        return None

    def _claims(self) -> "list[BoardAttempt]":
        returned = self._task.in_state(AttemptState.RETURNED)
        roots = self._roots(returned)
        return [attempt for attempt in returned if len(roots[attempt.row.attempt_id]) == DIGEST_BYTES]

    def _roots(self, attempts: "list[BoardAttempt]") -> dict[int, bytes]:
        """Read what was signed, also by a result that this very command records."""
        fresh = {
            attempt.row.attempt_id: attempt.reported.unit_root
            for attempt in attempts
            if attempt.reported is not None
        }
        stored = self._disputes.commitments(
            [attempt.row.attempt_id for attempt in attempts if attempt.row.attempt_id not in fresh]
        )
        return fresh | {attempt_id: row.unit_root for attempt_id, row in stored.items()}

    def _begin(self, first: int, second: int) -> DisputeRow:
        [dispute_id] = self._board.uow.ids.next_block("dispute", 1)
        dispute = DisputeRow(
            dispute_id=dispute_id,
            task_id=self._task.row.task_id,
            first_attempt_id=first,
            second_attempt_id=second,
            first_final_digest=self._final_digest(first),
            second_final_digest=self._final_digest(second),
            state=DisputeState.ASKING,
            rounds=0,
            unit_index=-1,
            start_digest=b"",
            winner_attempt_id=0,
            referee_digest=b"",
            referee_class="",
            referee_tries=0,
            reason="",
            opened_at_us=self._board.now_us,
            closed_at_us=0,
        )
        self._disputes.insert(dispute)
        return dispute

    def _final_digest(self, attempt_id: int) -> bytes:
        job = self._task.job
        return unit_digest(
            self._outputs_of(attempt_id),
            program_sha256=job.program_sha256,
            unit_index=units_of_task(job) - 1,
        )

    # --- the next move --------------------------------------------------------------------------

    def _move(self, dispute: DisputeRow) -> bool:
        """Make one move; return whether the dispute now waits for somebody."""
        if dispute.state is DisputeState.REFEREEING:
            return True
        board, task = self._board, self._task
        if dispute.state is DisputeState.CHECKING:
            return board.unit_checks.proceed(task, dispute)
        sides = (dispute.first_attempt_id, dispute.second_attempt_id)
        queries = [query for query in self._disputes.queries(sides) if query.reason != MOOT]
        roots = self._roots([task.attempts[side] for side in sides])
        known = {(query.attempt_id, query.unit_index): query.digest for query in queries if query.digest}
        move = next_move(
            Claim(attempt_id=sides[0], unit_root=roots[sides[0]], final_digest=dispute.first_final_digest),
            Claim(attempt_id=sides[1], unit_root=roots[sides[1]], final_digest=dispute.second_final_digest),
            unit_count=units_of_task(task.job),
            known=known,
        )
        match move:
            case AskDigests(unit_index=unit_index, attempt_ids=attempt_ids):
                self._ask(dispute, queries, attempt_ids, unit_index, want_state=False)
                return True
            case FalseFinal(unit_index=unit_index, attempt_ids=attempt_ids):
                convict(board, task, dispute, attempt_ids, reason=WRONG_UNIT, unit_index=unit_index)
                return False
            case SameStates():
                close_dispute(board, dispute, DisputeState.NO_BLAME, reason="SAME_STATES")
                return False
            case Parting():
                return self._part(dispute, queries, move)

    def _part(self, dispute: DisputeRow, queries: list[UnitQueryRow], parting: Parting) -> bool:
        """The unit is found: get the state before it, then call the referee."""
        found = dispute._replace(unit_index=parting.unit_index, start_digest=parting.start_digest)
        if parting.unit_index > 0 and start_state(queries, found) is None:
            before = parting.unit_index - 1
            sides = (dispute.first_attempt_id, dispute.second_attempt_id)
            asked = [query for query in queries if query.want_state and query.unit_index == before]
            if {query.attempt_id for query in asked} == set(sides) and all(
                query.state != "asked" for query in asked
            ):
                close_dispute(self._board, found, DisputeState.NO_BLAME, reason="STATE_FORGOTTEN")
                return False
            self._change(dispute, found)
            self._ask(found, queries, sides, before, want_state=True)
            return True
        self._change(dispute, found._replace(state=DisputeState.REFEREEING))
        self._board.uow.effects.append(RefereeWanted(dispute_id=dispute.dispute_id))
        return True

    def _change(self, dispute: DisputeRow, to: DisputeRow) -> None:
        if to.state is not dispute.state:
            DISPUTE_LIFECYCLE.check(dispute.state, to.state, what=str(dispute.dispute_id))
        if to != dispute and not self._disputes.change(to, from_state=dispute.state):
            raise InvariantError(f"dispute {dispute.dispute_id} is not {dispute.state} any more")

    def _ask(
        self,
        dispute: DisputeRow,
        queries: list[UnitQueryRow],
        attempt_ids: Iterable[int],
        unit_index: int,
        *,
        want_state: bool,
    ) -> None:
        """Ask those who were not asked yet; a round is a unit that either side is asked for."""
        before = {
            query.attempt_id
            for query in queries
            if query.unit_index == unit_index and query.want_state == want_state
        }
        new = [attempt_id for attempt_id in attempt_ids if attempt_id not in before]
        if not new:
            return
        ask_units(self._board, self._task, new, unit_index, want_state=want_state)
        if not want_state:
            self._change(dispute, dispute._replace(rounds=dispute.rounds + 1))


def ask_units(
    board: "TaskBoard", task: "BoardTask", attempt_ids: list[int], unit_index: int, *, want_state: bool
) -> list[UnitQueryRow]:
    """Ask attempts of a task for their digest, or their state, of a unit; return the questions."""
    before = board.uow.disputes.queries(attempt_ids)
    rows = [
        UnitQueryRow(
            query_id=query_id,
            task_id=task.row.task_id,
            attempt_id=attempt_id,
            vehicle_id=task.attempts[attempt_id].row.vehicle_id,
            unit_index=unit_index,
            want_state=want_state,
            state="asked",
            digest=b"",
            tensors=NO_TENSORS,
            reason="",
            asked_at_us=board.now_us,
            expires_at_us=board.now_us + _answer_time_us(board, before, attempt_id),
            answered_at_us=0,
        )
        for query_id, attempt_id in zip(
            board.uow.ids.next_block("unit_query", len(attempt_ids)), attempt_ids, strict=True
        )
    ]
    board.uow.disputes.ask(rows)
    board.uow.effects.extend(asked_effects(rows))
    return rows


def _answer_time_us(board: "TaskBoard", before: list[UnitQueryRow], attempt_id: int) -> int:
    used_us = time_used_us(
        (query.asked_at_us, query.answered_at_us or board.now_us)
        for query in before
        if query.attempt_id == attempt_id
    )
    return answer_time_us(full_us=board.policy.unit_answer_us, used_us=used_us)


def start_state(queries: Iterable[UnitQueryRow], dispute: DisputeRow) -> UnitQueryRow | None:
    """Return an answer that holds the state before a dispute's unit; None while there is none."""
    for query in queries:
        held = query.tensors != NO_TENSORS and query.digest == dispute.start_digest
        if held and query.unit_index == dispute.unit_index - 1:
            return query
    return None


def asked_effects(rows: Iterable[UnitQueryRow]) -> list[UnitsAsked]:
    """Return what pushes questions to their vehicles."""
    return [
        UnitsAsked(
            vehicle_id=row.vehicle_id,
            questions=(
                UnitQuestion(
                    query_id=row.query_id,
                    attempt_id=row.attempt_id,
                    unit_index=row.unit_index,
                    want_state=row.want_state,
                    expires_at_us=row.expires_at_us,
                ),
            ),
        )
        for row in rows
    ]

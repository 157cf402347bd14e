"""What a board found out about vehicles: answers to questions, findings, look-backs to open.

Part of a flush. A look-back is opened in the transaction that rejects the result: from then on no held money
is released until the sweep has questioned what it must (`app.look_back`).
"""

from pool_server.app.class_bench import CLASS_FAULT
from pool_server.app.dispute_gate import WITHHELD
from pool_server.app.questioned_money import claw_back, give_back
from pool_server.app.task_board import BoardAttempt, TaskBoard
from pool_server.core.jobs import AttemptState
from pool_server.core.verification import LEVELS
from pool_server.core.verification.findings import Evidence, FindingKind, FindingOutcome
from pool_server.ports.classes import FaultFindingRow
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.verification import FindingRow, LookBackRow, LookBackState, QuestionedRow


def answer_questions(board: TaskBoard, attempts: list[BoardAttempt]) -> None:
    """Give back or take back the money of questioned attempts that were judged."""
    wrong: list[QuestionedRow] = []
    right: list[QuestionedRow] = []
    for attempt in attempts:
        question = attempt.questioned
        if question is not None and attempt.state is not AttemptState.RETURNED:
            (wrong if _is_wrong(attempt) else right).append(question)
    claw_back(board.uow, wrong, now_us=board.now_us)
    give_back(board.uow, right, now_us=board.now_us)


def _is_wrong(attempt: BoardAttempt) -> bool:
    """Say whether a questioned result proved wrong, by its vehicle's fault or by its class's."""
    return attempt.state is AttemptState.REJECTED or (
        attempt.state is AttemptState.DISCARDED and attempt.reason == CLASS_FAULT
    )


def write_findings(board: TaskBoard, attempts: list[BoardAttempt]) -> None:
    """Write what was found of rejected and questioned attempts, and open the look-backs that follow."""
    judged = [
        attempt
        for attempt in attempts
        if attempt.state is AttemptState.REJECTED
        or (attempt.questioned is not None and attempt.state is not AttemptState.RETURNED)
    ]
    # Class faults are findings already: `app.class_bench` writes them.
    judged = [attempt for attempt in judged if attempt.reason != CLASS_FAULT]
    if not judged:
        return
    ids = board.uow.ids.next_block("finding", len(judged))
    rows = [_finding(board, attempt, row_id) for attempt, row_id in zip(judged, ids, strict=True)]
    board.uow.verification.add_findings(rows)
    for attempt in board.rejected:
        _look_back(board, attempt)


def _finding(board: TaskBoard, attempt: BoardAttempt, finding_id: int) -> FindingRow:
    row, task, question = attempt.row, attempt.task, attempt.questioned
    agreeing = {other.row.owner_id for other in task.in_state(AttemptState.ACCEPTED)}
    vehicle = board.uow.fleet.get(row.vehicle_id)
    is_wrong = attempt.state is AttemptState.REJECTED
    return FindingRow(
        finding_id=finding_id,
        vehicle_id=row.vehicle_id,
        owner_id=row.owner_id,
        attempt_id=row.attempt_id,
        task_id=row.task_id,
        job_id=row.job_id,
        task_index=row.task_index,
        kind=_kind(attempt),
        finding=_outcome(attempt),
        claimed_digest=attempt.digest,
        accepted_digest=task.pool_digest if task.canonical is None else task.canonical.digest,
        agreeing_owners=len(agreeing),
        trusted_node=task.evidence == Evidence.TRUSTED_NODE or bool(task.pool_digest),
        unit_index=attempt.wrong_unit,
        clawed_back_micros=question.net_micros if question is not None and is_wrong else 0,
        numeric_class="" if vehicle is None else vehicle.numeric_class,
        program_sha256=task.job.program_sha256,
        found_at_us=board.now_us,
        lost_uwu=attempt.lost_uwu,
    )


def _kind(attempt: BoardAttempt) -> FindingKind:
    if attempt.found_by is not None:
        return attempt.found_by
    if attempt.questioned is not None:
        return FindingKind.LOOK_BACK
    return FindingKind.QUORUM if LEVELS[attempt.task.job.level].quorum > 1 else FindingKind.AUDIT


def _outcome(attempt: BoardAttempt) -> FindingOutcome:
    """WRONG; WITHHELD where not shown; UPHELD where others confirmed it; OPEN where nobody could tell."""
    if attempt.state is AttemptState.REJECTED:
        return FindingOutcome.WITHHELD if attempt.reason == WITHHELD else FindingOutcome.WRONG
    confirmed = bool(attempt.task.pool_digest) or any(
        other.questioned is None and other.state is AttemptState.ACCEPTED
        for other in attempt.task.attempts.values()
    )
    return (
        FindingOutcome.UPHELD if attempt.state is AttemptState.ACCEPTED and confirmed else FindingOutcome.OPEN
    )


def _look_back(board: TaskBoard, attempt: BoardAttempt) -> None:
    row = attempt.row
    open_look_back(
        board.uow,
        vehicle_id=row.vehicle_id,
        owner_id=row.owner_id,
        cause_attempt_id=row.attempt_id,
        now_us=board.now_us,
    )


def open_look_back(
    uow: UnitOfWork, *, vehicle_id: str, owner_id: str, cause_attempt_id: int, now_us: int
) -> None:
    """Open a look-back, or have the one that runs look once more: at what it has not questioned yet."""
    running = uow.verification.running_look_back(vehicle_id)
    if running is not None:
        uow.verification.put_look_back(
            running._replace(
                state=LookBackState.OPENING, cursor_receipt_id=0, cause_attempt_id=cause_attempt_id
            )
        )
        return
    uow.verification.insert_look_back(
        LookBackRow(
            look_back_id=uow.ids.next_block("look_back", 1)[0],
            vehicle_id=vehicle_id,
            owner_id=owner_id,
            cause_attempt_id=cause_attempt_id,
            state=LookBackState.OPENING,
            cursor_receipt_id=0,
            questioned_count=0,
            wrong_count=0,
            opened_at_us=now_us,
            closed_at_us=0,
        )
    )


def open_class_look_back(uow: UnitOfWork, finding: FaultFindingRow, *, now_us: int) -> None:
    """Look once at what a class that was just found wrong on a program had accepted on its own word."""
    if uow.verification.look_back_of_class(finding.numeric_class, finding.program_sha256) is not None:
        return
    uow.verification.insert_look_back(
        LookBackRow(
            look_back_id=uow.ids.next_block("look_back", 1)[0],
            vehicle_id="",
            owner_id="",
            cause_attempt_id=finding.attempt_id,
            state=LookBackState.OPENING,
            cursor_receipt_id=0,
            questioned_count=0,
            wrong_count=0,
            opened_at_us=now_us,
            closed_at_us=0,
            numeric_class=finding.numeric_class,
            program_sha256=finding.program_sha256,
        )
    )

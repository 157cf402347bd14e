"""Claims of prefixes, from the report of a stopped attempt to its pay: who is asked, when, whose money it is.

A claim's money is the **verification fund's**. The buyer was promised each task once, at its price, and pays
whoever hands in the result; what a car had computed when it was unplugged is of no use to the buyer, and that
cars drive away is the pool's risk. It is reserved with the claim, within the 30 days after which reserved
money times out, and is given back whenever the claim comes to nothing.

`write_claims` runs in the transaction that records the report. All else is one function that looks at a claim
and at the rows around it (`_Clerk.look`), called by a sweep once the task is decided, and by each answer. So
it does not matter which way a task was decided, whether a look-back opens it again, or in which order answers
come. Silence is no fraud here: no result of the pool rests on what a claimant will not show, so it only loses
its pay. Nor does the accepted side lose by its silence; then the others are believed, if there are any.

What the answers mean is decided by `core.verification.prefix_claim`.
"""

from collections.abc import Iterable, Sequence

from pool_protocol.errors import InvariantError
from pool_protocol.limits import DAY_US, MINUTE_US
from pool_server.app.dispute_gate import WRONG_UNIT, asked_effects, units_of_task
from pool_server.app.finality import final_tasks
from pool_server.app.money import fund_attempts, settle_attempts, void_attempts
from pool_server.app.quarantine import settle_board
from pool_server.app.task_board import BoardAttempt, TaskBoard
from pool_server.app.work_commands import AttemptReport
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.fleet import VehicleState
from pool_server.core.jobs import (
    COUNTING_ATTEMPT_STATES,
    DECIDED_TASK_STATES,
    NO_TENSORS,
    AttemptOutcome,
    AttemptState,
    TaskState,
)
from pool_server.core.settlement import (
    UNRESOLVED_AFTER_LEASE_US,
    AttemptFunding,
    AttemptSettlement,
    Payer,
    unresolved_expiry_us,
)
from pool_server.core.verification.findings import FindingKind
from pool_server.core.verification.prefix import StepTask
from pool_server.core.verification.prefix_claim import (
    CHECKED,
    OPEN_CLAIMS,
    PREFIX_LIFECYCLE,
    Answer,
    AskThese,
    AwaitAnswers,
    PrefixSide,
    PrefixState,
    Proved,
    Refuted,
    Unproved,
    is_prefix,
    judge_prefix,
    may_claim,
    room_uwu,
)
from pool_server.ports.disputes import UnitQueryRow
from pool_server.ports.prefixes import PrefixClaimRow
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import AttemptRow, JobRow, ReportedValues, TaskRow

CLAIMS_PER_SWEEP = 256
#: A claim that waits for answers, finality or room is looked at again by itself so often.
LOOK_AGAIN_US = 60 * MINUTE_US
#: A claim is given up a day before its reserved money times out.
CLAIM_LIFETIME_US = UNRESOLVED_AFTER_LEASE_US - DAY_US
WRONG_PREFIX = "WRONG_PREFIX"
#: Why a proved claim waits, or an open one was given up.
NOT_FINAL = "NOT_FINAL"
NO_ROOM = "NO_ROOM"
QUARANTINED = "QUARANTINED"
EXPIRED = "EXPIRED"
OWN_RESULT = "OWN_RESULT"
TASK_NOT_ACCEPTED = "TASK_NOT_ACCEPTED"


def commit_prefix(attempt: BoardAttempt, report: AttemptReport) -> bool:
    """Keep what a stopped attempt commits to; return whether it can be a claim."""
    if report.outcome is not AttemptOutcome.ABANDONED:
        return False
    units = units_of_task(attempt.task.job)
    if not is_prefix(unit_root=report.unit_root, unit_count=report.unit_count, units_of_task=units):
        return False
    attempt.reported = ReportedValues(
        b"", report.unit_root, report.unit_count, report.run_time_us, report.energy_mj
    )
    return True


def write_claims(board: TaskBoard, attempts: Iterable[BoardAttempt]) -> None:
    """Reserve the money of claims within their bounds; the attempts were written without any before."""
    uow, now_us = board.uow, board.now_us
    for attempt in attempts:
        row, job, reported = attempt.row, attempt.task.job, attempt.reported
        if reported is None:
            raise InvariantError(f"attempt {row.attempt_id} claims a prefix and has committed to none")
        task = StepTask(steps=job.steps_per_task, unit_steps=job.unit_steps, work_uwu=job.work_uwu_per_task)
        units = reported.unit_count
        gross_micros = task.prefix_micros(units, price_micros_per_wu=row.price_micros_per_wu)
        promised = [
            claim.owner_id
            for claim in uow.prefixes.of_task(row.task_id)
            if claim.state in OPEN_CLAIMS or claim.state is PrefixState.PAID
        ]
        open_count = uow.prefixes.open_of_vehicle(row.vehicle_id)
        within = may_claim(owner_id=row.owner_id, owners_on_task=promised, open_of_vehicle=open_count)
        if not gross_micros or not within:
            continue
        funding = AttemptFunding(
            attempt_id=row.attempt_id,
            owner_id=row.owner_id,
            job_id=row.job_id,
            amount_micros=gross_micros,
            payer=Payer.VERIFICATION,
        )
        [pending_id] = fund_attempts(
            uow, [funding], expires_at_us=unresolved_expiry_us(now_us), now_us=now_us
        )
        uow.prefixes.insert(
            [
                PrefixClaimRow(
                    attempt_id=row.attempt_id,
                    task_id=row.task_id,
                    job_id=row.job_id,
                    vehicle_id=row.vehicle_id,
                    owner_id=row.owner_id,
                    unit_count=units,
                    work_uwu=task.prefix_uwu(units),
                    gross_micros=gross_micros,
                    pending_transfer_id=pending_id,
                    state=PREFIX_LIFECYCLE.initial,
                    reason="",
                    look_at_us=now_us,
                    claimed_at_us=now_us,
                    expires_at_us=now_us + CLAIM_LIFETIME_US,
                    closed_at_us=0,
                )
            ]
        )


def settle_prefixes(
    uow: UnitOfWork, *, policy: WorkPolicy, now_us: int, blobs: BlobReader | None = None
) -> int:
    """Look at claims whose tasks are decided, and at those whose time is over. Returns how many."""
    due = uow.prefixes.due(now_us=now_us, limit=CLAIMS_PER_SWEEP)
    clerk = _Clerk(uow, policy=policy, blobs=blobs, now_us=now_us)
    for claim in due:
        clerk.look(claim)
    return len(due)


def is_about_prefix(uow: UnitOfWork, query: UnitQueryRow) -> bool:
    """Say whether a claim waits for the answer to a question."""
    return not query.want_state and any(
        claim.state is PrefixState.ASKING and claim.unit_count == query.unit_index + 1
        for claim in uow.prefixes.of_task(query.task_id)
    )


def look_at_prefixes(
    uow: UnitOfWork,
    task_ids: Iterable[int],
    *,
    policy: WorkPolicy,
    blobs: BlobReader | None,
    now_us: int,
) -> None:
    """Go on with claims on tasks about which something was answered."""
    clerk = _Clerk(uow, policy=policy, blobs=blobs, now_us=now_us)
    for task_id in task_ids:
        for claim in uow.prefixes.of_task(task_id):
            if claim.state in OPEN_CLAIMS:
                clerk.look(claim)


class _Clerk:
    """Moves claims in one transaction."""

    def __init__(self, uow: UnitOfWork, *, policy: WorkPolicy, blobs: BlobReader | None, now_us: int) -> None:
        self._uow = uow
        self._policy = policy
        self._blobs = blobs
        self._now_us = now_us

    def look(self, claim: PrefixClaimRow) -> None:
        """Make a claim's next move, whatever it is."""
        task = self._uow.tasks.get([claim.task_id])[claim.task_id]
        if self._now_us >= claim.expires_at_us:
            self._give_up(claim, EXPIRED)
        elif task.state not in DECIDED_TASK_STATES:
            self._wait(claim, claim.state, claim.reason)  # a look-back has opened it again
        elif task.state is not TaskState.ACCEPTED:
            self._give_up(claim, task.reason or TASK_NOT_ACCEPTED)
        else:
            self._judge(claim, task)

    def _judge(self, claim: PrefixClaimRow, task: TaskRow) -> None:
        attempts = self._uow.attempts.of_tasks([claim.task_id])
        if any(row.owner_id == claim.owner_id and row.state in COUNTING_ATTEMPT_STATES for row in attempts):
            self._give_up(claim, OWN_RESULT)
            return
        accepted = [row for row in attempts if row.state is AttemptState.ACCEPTED]
        own, *witnesses = self._testimonies(claim, task, accepted)
        match judge_prefix(own, witnesses):
            case AskThese(attempt_ids):
                self._ask(claim, attempt_ids)
            case AwaitAnswers():
                self._wait(claim, PrefixState.ASKING, "")
            case Proved(digest):
                self._take_proof(claim, task, digest)
            case Refuted() as refuted:
                self._convict(claim, refuted)
            case Unproved(reason):
                self._give_up(claim, reason)

    # --- what was said --------------------------------------------------------------------------

    def _testimonies(
        self, claim: PrefixClaimRow, task: TaskRow, accepted: Sequence[AttemptRow]
    ) -> list[PrefixSide]:
        """The claimant's testimony, then those of the accepted."""
        uow = self._uow
        attempt_ids = [claim.attempt_id, *(row.attempt_id for row in accepted)]
        rows = uow.attempts.get(attempt_ids)
        trusted = uow.fleet.trusted_among(sorted({row.vehicle_id for row in rows.values()}))
        answers: dict[int, tuple[Answer, bytes]] = {}
        for query in uow.disputes.queries(attempt_ids):
            if query.want_state or query.unit_index != claim.unit_count - 1:
                continue
            answer = _answer_of(query, decided_at_us=task.decided_at_us)
            if answers.get(query.attempt_id, (None,))[0] is not Answer.SHOWN:
                answers[query.attempt_id] = (answer, query.digest)
        nothing = (Answer.NOT_ASKED, b"")
        return [
            PrefixSide(
                attempt_id=attempt_id,
                owner_id=rows[attempt_id].owner_id,
                numeric_class=rows[attempt_id].numeric_class,
                trusted=rows[attempt_id].vehicle_id in trusted,
                answer=answers.get(attempt_id, nothing)[0],
                digest=answers.get(attempt_id, nothing)[1],
            )
            for attempt_id in attempt_ids
        ]

    def _ask(self, claim: PrefixClaimRow, attempt_ids: Sequence[int]) -> None:
        uow, now_us = self._uow, self._now_us
        vehicles = {row.attempt_id: row.vehicle_id for row in uow.attempts.get(attempt_ids).values()}
        query_ids = uow.ids.next_block("unit_query", len(attempt_ids))
        queries = [
            UnitQueryRow(
                query_id=query_id,
                task_id=claim.task_id,
                attempt_id=attempt_id,
                vehicle_id=vehicles[attempt_id],
                unit_index=claim.unit_count - 1,
                want_state=False,
                state="asked",
                digest=b"",
                tensors=NO_TENSORS,
                reason="",
                asked_at_us=now_us,
                expires_at_us=now_us + self._policy.unit_answer_us,
                answered_at_us=0,
            )
            for query_id, attempt_id in zip(query_ids, attempt_ids, strict=True)
        ]
        uow.disputes.ask(queries)
        uow.effects.extend(asked_effects(queries))
        self._wait(claim, PrefixState.ASKING, "")

    # --- what follows ---------------------------------------------------------------------------

    def _take_proof(self, claim: PrefixClaimRow, task: TaskRow, digest: bytes) -> None:
        hindrance = self._hindrance(claim, task)
        if hindrance:
            self._wait(claim, PrefixState.STANDING, hindrance)
            return
        uow, now_us = self._uow, self._now_us
        row = uow.attempts.get([claim.attempt_id])[claim.attempt_id]
        settle_attempts(
            uow,
            [
                AttemptSettlement(
                    attempt_id=claim.attempt_id,
                    pending_transfer_id=claim.pending_transfer_id,
                    owner_id=claim.owner_id,
                    vehicle_id=claim.vehicle_id,
                    job_id=claim.job_id,
                    task_index=row.task_index,
                    program_sha256=self._job(claim).program_sha256,
                    output_digest=digest,
                    work_uwu=claim.work_uwu,
                    price_micros_per_wu=row.price_micros_per_wu,
                    gross_micros=claim.gross_micros,
                )
            ],
            now_us=now_us,
        )
        self._move(claim, PrefixState.PAID, reason="", look_at_us=now_us, closed_at_us=now_us)

    def _hindrance(self, claim: PrefixClaimRow, task: TaskRow) -> str:
        """Say why a proved claim is not paid yet; empty when it may be."""
        uow = self._uow
        vehicle = uow.fleet.get(claim.vehicle_id)
        if vehicle is None or vehicle.state is VehicleState.QUARANTINED:
            return QUARANTINED
        if task.evidence not in CHECKED and not final_tasks(uow, [task]):
            return NOT_FINAL
        room = room_uwu(
            clean_uwu=sum(record.clean_uwu for _, record in uow.fleet.histories(claim.vehicle_id)),
            prefixes_uwu=uow.prefixes.sums(claim.vehicle_id).paid_uwu,
        )
        return "" if claim.work_uwu <= room else NO_ROOM

    def _convict(self, claim: PrefixClaimRow, refuted: Refuted) -> None:
        """A wrong prefix is a wrong result like any other: its vehicle's history begins again."""
        self._close_unpaid(claim, PrefixState.WRONG, WRONG_PREFIX)
        board = TaskBoard(self._uow, policy=self._policy, blobs=self._blobs, now_us=self._now_us)
        board.load(self._uow.attempts.get([claim.attempt_id]).values())
        attempt = board.attempts[claim.attempt_id]
        attempt.digest = refuted.claimed_digest
        board.reject(attempt, found_by=FindingKind.PREFIX, reason=WRONG_PREFIX)
        attempt.wrong_unit = claim.unit_count - 1
        settle_board(board)

    def _give_up(self, claim: PrefixClaimRow, reason: str) -> None:
        self._close_unpaid(claim, PrefixState.UNPAID, reason)

    def _close_unpaid(self, claim: PrefixClaimRow, state: PrefixState, reason: str) -> None:
        void_attempts(self._uow, [claim.pending_transfer_id], now_us=self._now_us)
        self._move(claim, state, reason=reason, look_at_us=self._now_us, closed_at_us=self._now_us)

    def _wait(self, claim: PrefixClaimRow, state: PrefixState, reason: str) -> None:
        # Never later than its end, so that its money is given back in time.
        look_at_us = min(self._now_us + LOOK_AGAIN_US, claim.expires_at_us)
        self._move(claim, state, reason=reason, look_at_us=look_at_us, closed_at_us=0)

    def _move(
        self, claim: PrefixClaimRow, state: PrefixState, *, reason: str, look_at_us: int, closed_at_us: int
    ) -> None:
        if state is not claim.state:
            PREFIX_LIFECYCLE.check(claim.state, state, what=str(claim.attempt_id))
        moved = claim._replace(state=state, reason=reason, look_at_us=look_at_us, closed_at_us=closed_at_us)
        if not self._uow.prefixes.change(moved, from_state=claim.state):
            raise InvariantError(f"the claim of attempt {claim.attempt_id} is not {claim.state} any more")

    def _job(self, claim: PrefixClaimRow) -> JobRow:
        job = self._uow.jobs.get(claim.job_id)
        if job is None:
            raise InvariantError(f"job {claim.job_id} is named by a claim and not there")
        return job


def _answer_of(query: UnitQueryRow, *, decided_at_us: int) -> Answer:
    """Say how far a question has come; one that went unanswered before the task was decided is put again."""
    if query.digest:
        return Answer.SHOWN
    if query.state == "asked":
        return Answer.ASKED
    if query.state == "answered" and query.reason == WRONG_UNIT:
        return Answer.FALSE
    return Answer.NONE if query.asked_at_us >= decided_at_us else Answer.NOT_ASKED

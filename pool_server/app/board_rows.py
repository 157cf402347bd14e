"""A task and its attempts as one command changes them: what `TaskBoard` keeps."""

from collections.abc import Sequence

from pool_protocol.errors import InvariantError
from pool_protocol.limits import INLINE_TENSORS
from pool_protocol.tensors import decode
from pool_server.app.work_policy import BlobReader
from pool_server.core.comparison import AgreementGroup, Candidate, Tensors
from pool_server.core.jobs import (
    ATTEMPT_LIFECYCLE,
    FUNDED_ATTEMPT_STATES,
    AttemptState,
    RetryBounds,
    TaskFailure,
    TaskState,
    TensorRef,
)
from pool_server.core.settlement import Payer
from pool_server.core.verification import LEVELS
from pool_server.core.verification.findings import Evidence, FindingKind
from pool_server.ports.verification import QuestionedRow
from pool_server.ports.work import AttemptRow, JobRow, ReportedValues, TaskRow

_A = AttemptState


class BoardAttempt:
    """An attempt as this command changes it."""

    __slots__ = (
        "detail",
        "digest",
        "ended_at_us",
        "found_by",
        "lost_uwu",
        "odometer_uwu",
        "outputs",
        "payer",
        "questioned",
        "reason",
        "reported",
        "row",
        "state",
        "task",
        "wrong_unit",
    )

    def __init__(
        self, row: AttemptRow, task: "BoardTask", *, questioned: QuestionedRow | None = None
    ) -> None:
        self.row = row
        self.task = task
        self.state = row.state
        self.payer = row.payer
        self.reason = row.reason
        self.detail = ""
        self.ended_at_us = row.ended_at_us
        self.digest = row.output_digest
        self.reported: ReportedValues | None = None
        self.outputs: TensorRef | None = None
        self.odometer_uwu = row.odometer_uwu
        self.questioned = questioned
        self.found_by: FindingKind | None = None
        #: Clean work that its vehicle's history lost by its rejection.
        self.lost_uwu = 0
        #: Where a dispute found it wrong; -1 for all else.
        self.wrong_unit = -1

    def move(self, state: AttemptState, *, reason: str = "") -> None:
        """Take a legal step.

        Raises:
            InvariantError: it is not legal.
        """
        ATTEMPT_LIFECYCLE.check(self.state, state, what=str(self.row.attempt_id))
        self.state = state
        if reason:
            self.reason = reason

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return self.state is not self.row.state


class BoardTask:
    """A task as this command changes it."""

    __slots__ = (
        "agreement_needed",
        "attempts",
        "canonical",
        "changed",
        "cost_micros",
        "decided_seq",
        "detail",
        "evidence",
        "failure_count",
        "job",
        "pool_digest",
        "proof",
        "rank",
        "reason",
        "rechecking",
        "replaced_count",
        "row",
        "state",
        "wanted",
    )

    def __init__(self, row: TaskRow, job: JobRow) -> None:
        self.row = row
        self.job = job
        self.state = row.state
        self.rank = row.rank
        self.wanted = row.wanted
        self.agreement_needed = row.agreement_needed
        self.failure_count = row.failure_count
        self.attempts: dict[int, BoardAttempt] = {}
        self.canonical: BoardAttempt | None = None
        self.cost_micros = row.cost_micros
        self.decided_seq = 0
        self.reason = ""
        self.detail = ""
        self.changed = False
        self.evidence = row.evidence
        self.replaced_count = row.replaced_count
        self.rechecking = row.rechecking
        #: Set by whoever has a better reason to believe the result than who agrees with it.
        self.proof: Evidence | None = None
        #: Of the pool's own result, where that had a say.
        self.pool_digest = b""

    @property
    def undecided(self) -> bool:
        """Whether results still matter."""
        return self.state is TaskState.READY or self.state is TaskState.RUNNING

    def in_state(self, state: AttemptState) -> list[BoardAttempt]:
        """Attempts in a state, by id."""
        return [attempt for attempt in self.attempts.values() if attempt.state is state]

    def job_funded(self) -> int:
        """Attempts under way or waiting that the job pays for: its quorum where they were paid before."""
        if self.rechecking:
            return LEVELS[self.job.level].quorum
        return sum(
            1
            for attempt in self.attempts.values()
            if attempt.state in FUNDED_ATTEMPT_STATES and attempt.payer is Payer.JOB
        )


def bounds_of(task: BoardTask) -> RetryBounds:
    """Return how often a task may be tried: as often again where its result is checked again."""
    bounds = task.job.bounds
    if not task.rechecking:
        return bounds
    return RetryBounds(failures_max=bounds.failures_max, attempts_max=2 * bounds.attempts_max)


def program_failed_owners(task: BoardTask) -> int:
    """Count the owners that say the program itself fails."""
    return len(
        {
            attempt.row.owner_id
            for attempt in task.attempts.values()
            if attempt.state is _A.FAILED and attempt.reason == TaskFailure.PROGRAM_FAILED
        }
    )


def read_tensors(ref: TensorRef, blobs: BlobReader | None) -> Tensors:
    """Decode outputs that were accepted before, wherever they are.

    Raises:
        PoolError: what the blob store and the decoder raise.
        InvariantError: they are a blob and nobody said where blobs are.
    """
    if ref.inline is not None:
        return decode(ref.inline, INLINE_TENSORS)
    if ref.blob_sha256 is None:
        return {}
    if blobs is None:
        raise InvariantError("outputs are a blob, and this use case was given no blob store")
    return decode(blobs.get(ref.blob_sha256))


def attempts_of(
    group: AgreementGroup | Sequence[Candidate], by_id: dict[int, BoardAttempt]
) -> list[BoardAttempt]:
    """Return the attempts that candidates stand for, in their order; the pool's own result is none."""
    members = group.members if isinstance(group, AgreementGroup) else group
    return [by_id[candidate.attempt_id] for candidate in members if candidate.attempt_id > 0]

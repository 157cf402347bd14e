"""Lifecycles of jobs, tasks, attempts and leases, the price terms of a job, and what tasks cost.

Pure: what is legal, what a job's terms mean in money. Which vehicle gets a task is decided in
`core.matching`, which result counts in `core.verification`.
"""

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import NamedTuple

from pool_protocol.limits import ATTEMPTS_PER_TASK_MAX, ERRORS_PER_TASK_MAX
from pool_protocol.money import work_price_micros
from pool_server.core.lifecycle import Lifecycle, from_each
from pool_server.core.pricing.bid_path import BidPath, needed_us


@unique
class JobState(StrEnum):
    """Where a job is in its life."""

    OPEN = "open"
    CLOSING = "closing"
    DONE = "done"
    CANCELLED = "cancelled"


@unique
class TaskState(StrEnum):
    """Where a task is: wanting an attempt, waiting for results, or decided."""

    READY = "ready"
    RUNNING = "running"
    ACCEPTED = "accepted"
    FAILED = "failed"
    CANCELLED = "cancelled"


@unique
class AttemptState(StrEnum):
    """Where one vehicle's try at a task is."""

    LEASED = "leased"
    RETURNED = "returned"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


@unique
class LeaseState(StrEnum):
    """Where a lease is."""

    LIVE = "live"
    DONE = "done"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


JOB_LIFECYCLE: Lifecycle[JobState] = Lifecycle(
    name="job",
    initial=JobState.OPEN,
    transitions={
        (JobState.OPEN, JobState.CLOSING): "its buyer closes it to new tasks",
        (JobState.CLOSING, JobState.DONE): "its last task is decided",
        (JobState.DONE, JobState.CLOSING): "a look-back opens tasks of it again",
        **from_each(
            (JobState.OPEN, JobState.CLOSING),
            JobState.CANCELLED,
            "its buyer cancels it, or its deadline passes",
        ),
    },
)

TASK_LIFECYCLE: Lifecycle[TaskState] = Lifecycle(
    name="task",
    initial=TaskState.READY,
    transitions={
        (TaskState.READY, TaskState.RUNNING): "the last attempt it wants is leased",
        (TaskState.RUNNING, TaskState.READY): (
            "an attempt ends without a result, an audit is drawn, or results disagree"
        ),
        **from_each(
            (TaskState.READY, TaskState.RUNNING),
            TaskState.ACCEPTED,
            "enough attempts of different owners agree",
        ),
        **from_each(
            (TaskState.READY, TaskState.RUNNING),
            TaskState.FAILED,
            "a bound on attempts is reached, its program fails, or the job's deadline passes",
        ),
        **from_each((TaskState.READY, TaskState.RUNNING), TaskState.CANCELLED, "its job is cancelled"),
        (TaskState.ACCEPTED, TaskState.READY): "a look-back questions its result",
    },
)

ATTEMPT_LIFECYCLE: Lifecycle[AttemptState] = Lifecycle(
    name="attempt",
    initial=AttemptState.LEASED,
    transitions={
        (
            AttemptState.LEASED,
            AttemptState.RETURNED,
        ): "its result is recorded and its task is not decided yet",
        (AttemptState.LEASED, AttemptState.ACCEPTED): "its result is recorded and decides its task",
        (
            AttemptState.LEASED,
            AttemptState.REJECTED,
        ): "its result is recorded and disagrees with the agreeing group",
        (AttemptState.LEASED, AttemptState.FAILED): "the vehicle reports no result, or a malformed one",
        (
            AttemptState.FAILED,
            AttemptState.REJECTED,
        ): "it was stopped, and the units that it claims are wrong",
        (AttemptState.LEASED, AttemptState.EXPIRED): "its lease ends without a report",
        (AttemptState.LEASED, AttemptState.CANCELLED): (
            "its task is decided without it, its job ends, or its vehicle is quarantined or retired"
        ),
        (AttemptState.LEASED, AttemptState.DISCARDED): (
            "its result is recorded and its task ends without judging it"
        ),
        (AttemptState.RETURNED, AttemptState.ACCEPTED): "its task is decided and it agrees",
        (AttemptState.RETURNED, AttemptState.REJECTED): "its task is decided and it disagrees",
        (AttemptState.RETURNED, AttemptState.DISCARDED): (
            "its task ends without judging it, or its vehicle is quarantined or retired"
        ),
        (AttemptState.ACCEPTED, AttemptState.RETURNED): (
            "a look-back questions it: its money is set aside until others have computed its task again"
        ),
        (AttemptState.EXPIRED, AttemptState.RETURNED): "its late result is recorded: the task still needs it",
        (AttemptState.EXPIRED, AttemptState.ACCEPTED): "its late result is recorded and decides its task",
        (AttemptState.EXPIRED, AttemptState.REJECTED): "its late result is recorded and disagrees",
        (AttemptState.EXPIRED, AttemptState.DISCARDED): (
            "its late result is recorded and its task ends without judging it"
        ),
    },
)

LEASE_LIFECYCLE: Lifecycle[LeaseState] = Lifecycle(
    name="lease",
    initial=LeaseState.LIVE,
    transitions={
        (LeaseState.LIVE, LeaseState.DONE): "all of its attempts are reported or cancelled",
        (LeaseState.LIVE, LeaseState.EXPIRED): "its time and its grace pass",
        (LeaseState.LIVE, LeaseState.CANCELLED): "its vehicle is quarantined or retired",
    },
)

#: Tasks that wait for nothing; only a look-back opens an accepted one again.
DECIDED_TASK_STATES = frozenset({TaskState.ACCEPTED, TaskState.FAILED, TaskState.CANCELLED})
#: Attempts that bind their owner to the task: under way, or with a result that counts. An owner has at most
#: one of them per task.
COUNTING_ATTEMPT_STATES = frozenset(
    {AttemptState.LEASED, AttemptState.RETURNED, AttemptState.ACCEPTED, AttemptState.REJECTED}
)
#: Attempts that hold a pending transfer (unless their work is donated, or they were paid and are questioned).
FUNDED_ATTEMPT_STATES = frozenset({AttemptState.LEASED, AttemptState.RETURNED})
#: Jobs whose tasks are leased.
ACTIVE_JOB_STATES = frozenset({JobState.OPEN, JobState.CLOSING})


@unique
class PriceMode(StrEnum):
    """How a job's price is found."""

    SPOT = "spot"
    QUOTE = "quote"
    DONATE = "donate"


@unique
class TaskFailure(StrEnum):
    """Why a task failed for good."""

    TASK_ATTEMPTS_EXHAUSTED = "TASK_ATTEMPTS_EXHAUSTED"
    PROGRAM_FAILED = "PROGRAM_FAILED"
    VERIFICATION_UNDECIDED = "VERIFICATION_UNDECIDED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


@unique
class AttemptOutcome(StrEnum):
    """What a vehicle reports of an attempt."""

    COMPLETED = "completed"
    PROGRAM_FAILED = "program_failed"
    ABANDONED = "abandoned"
    WORKER_FAILED = "worker_failed"
    REFUSED = "refused"


#: Owners that must report PROGRAM_FAILED before the pool believes that the program is at fault.
PROGRAM_FAILED_OWNERS = 2


class TensorRef(NamedTuple):
    """Named arrays as safetensors: the bytes themselves, or the name of a blob that holds them."""

    inline: bytes | None = None
    """The bytes, when they travel inside the message."""
    blob_sha256: str | None = None
    """Lower-case hex SHA-256 of the blob otherwise; both None means no arrays at all."""
    size_bytes: int = 0
    """Length of the safetensors bytes."""


NO_TENSORS = TensorRef()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """One array that a program returns."""

    name: str
    dtype: str
    """NumPy's name, as in `pool_protocol.tensors.DTYPE_NAMES`."""
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFacts:
    """What a job needs to know of its program, taken from the admitted manifest."""

    program_sha256: str
    kind: str
    """ "map" or "step"."""
    work_uwu_per_task: int
    """Metered work of one task (for step programs: of all its steps), micro-WU, at least 1."""
    unit_steps: int
    """Steps per unit; 0 for map programs."""
    outputs: tuple[OutputSpec, ...]
    """What a completed attempt returns (for step programs the final state)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTerms:
    """A job's price terms."""

    mode: PriceMode
    price_micros_per_wu: int
    """SPOT: the buyer's cap. QUOTE: the locked price. DONATE: 0."""
    start_micros_per_wu: int = 0
    """SPOT: what the job bids while its deadline is far; 0: its cap from the first."""
    deadline_us: int = 0
    """Where the path from the start price to the cap ends; 0: none."""
    tasks_max: int = 0
    """QUOTE: tasks that the quote was for; 0: no bound."""

    @property
    def path(self) -> BidPath | None:
        """How the bid rises towards the deadline; None where it stands at the cap."""
        if self.mode is not PriceMode.SPOT or not self.start_micros_per_wu or not self.deadline_us:
            return None
        return BidPath(
            start_micros_per_wu=self.start_micros_per_wu,
            cap_micros_per_wu=self.price_micros_per_wu,
            deadline_us=self.deadline_us,
        )

    def bid_now(self, *, left_uwu: int, speed_uwu_per_s: int, now_us: int) -> int:
        """Return the most that the job pays now, micro-units per WU.

        Args:
            left_uwu: Its work left, one execution per task, micro-WU.
            speed_uwu_per_s: What it is expected to get of the fleet.
            now_us: Now.
        """
        path = self.path
        if path is None:
            return self.price_micros_per_wu
        return path.bid(needed_us=needed_us(left_uwu, speed_uwu_per_s=speed_uwu_per_s), now_us=now_us)

    def price_now(self, posted_price_micros_per_wu: int, *, bid_micros_per_wu: int) -> int | None:
        """Return the price that a lease locks now, micro-units per WU; None while spot is above the bid."""
        match self.mode:
            case PriceMode.SPOT:
                above = posted_price_micros_per_wu > bid_micros_per_wu
                return None if above else posted_price_micros_per_wu
            case PriceMode.QUOTE | PriceMode.DONATE:
                return self.price_micros_per_wu

    def cost_micros_max(self, work_uwu: int, *, quorum: int) -> int:
        """Return the most that one verified task can cost the job, micro-units."""
        return work_price_micros(work_uwu, self.price_micros_per_wu) * quorum


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBounds:
    """How often a task may be tried."""

    failures_max: int = ERRORS_PER_TASK_MAX
    """Failed attempts (worker failures, refusals, malformed outputs) before the task is given up."""
    attempts_max: int = ATTEMPTS_PER_TASK_MAX
    """Attempts of every kind, unplugs and audits included."""


def retry_bounds(attempts_may_fail: int) -> RetryBounds:
    """Turn a job's wish (0: the pool's default) into bounds, never above the pool's own."""
    if attempts_may_fail == 0:
        return RetryBounds()
    return RetryBounds(failures_max=min(attempts_may_fail, ATTEMPTS_PER_TASK_MAX))

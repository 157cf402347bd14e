"""What the pool tells a buyer, as plain values: quote, balance, job, progress, result.

Money is integer micro-units of the pool's currency (`_micros`), work integer micro work units (`_uwu`), time
microseconds since the epoch, UTC (`_us`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from chargepool._errors import ChargepoolError, InputRefused
from chargepool._estimate import LevelOffer, QuoteEstimate, estimate_of_wire
from chargepool._receipts import Receipt
from pool_protocol import amounts
from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import common_pb2, market_service_pb2
from pool_protocol.waiting import waiting_text

Level: TypeAlias = Literal["spot", "standard", "careful", "strict", "full", "none"]
"""How much verification a job buys: the share of wrong results that may be accepted (1e-2, 1e-3, 1e-4, 1e-6;
every task by two owners; no verification at all, for the operator's own benchmarks)."""

LEVELS: tuple[str, ...] = get_args(Level)
#: A result is checked by a car of another owner than the one who computed it.
OWNERS_TO_CHECK = 2

JobState: TypeAlias = Literal["open", "closing", "done", "cancelled"]
"""open: takes tasks; closing: computes what it has; done: everything decided; cancelled: stopped."""

_JOB_STATES: dict[int, JobState] = {
    market_service_pb2.JOB_STATE_OPEN: "open",
    market_service_pb2.JOB_STATE_CLOSING: "closing",
    market_service_pb2.JOB_STATE_DONE: "done",
    market_service_pb2.JOB_STATE_CANCELLED: "cancelled",
}


def level_to_wire(level: str) -> common_pb2.VerificationLevel.ValueType:
    """Return the enumeration's value of a level's name.

    Raises:
        InputRefused: There is no such level.
    """
    if level not in LEVELS:
        raise InputRefused(
            f"There is no verification level {level!r}.", next_step=f"Choose one of {', '.join(LEVELS)}."
        )
    return common_pb2.VerificationLevel.Value(f"VERIFICATION_LEVEL_{level.upper()}")


def level_of_wire(level: int) -> str:
    """Return the name of a level."""
    return common_pb2.VerificationLevel.Name(common_pb2.VerificationLevel.ValueType(level))[
        len("VERIFICATION_LEVEL_") :
    ].lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A binding offer. Asking for it spends nothing; give it to `map` or `submit_job` before it expires."""

    quote_id: str
    program_sha256: str
    tasks: int
    level: str
    steps: int
    """Steps per task of a step program; 0 for a map program."""
    price_micros_per_wu: int
    work_uwu_per_task: int
    cost_micros_per_task: int
    """What one verified task costs, all paid attempts included."""
    attempts_per_task: int
    total_micros: int
    expires_at_us: int
    currency: str
    vehicles_now: int
    """Vehicles that compute, or could compute, now."""
    available_micros: int
    """What the buyer's account has free."""
    owners_now: int | None = None
    """Owners of those vehicles, counted up to 8; None when the pool does not say."""
    audit_overhead_now: float = 0.0
    """Checks expected per result with the fleet as it is now, 0.05 for one in twenty; the pool pays them."""
    audit_overhead_newcomer: float = 0.0
    """The same for a car without history."""
    epsilon: float = 0.0
    """The level's error target; 0 for levels without one."""
    promise: str = ""
    """What the level promises now, in one sentence."""
    certified: bool = False
    """Whether it is for a job with a certificate, which needs no second owner."""
    estimate: QuoteEstimate | None = None
    """Spot price, time and energy to expect; None when the pool gives none."""
    levels: tuple[LevelOffer, ...] = ()
    """What the same job costs at each level that the pool offers."""

    @property
    def work_uwu_total(self) -> int:
        """Work of all tasks, one execution each, micro-WU."""
        return self.tasks * self.work_uwu_per_task

    @property
    def warning(self) -> str:
        """What could keep the job from ending as the fleet is now; empty when nothing could."""
        if (
            self.level == "none"
            or self.certified
            or self.owners_now is None
            or self.owners_now >= OWNERS_TO_CHECK
        ):
            return ""
        have = "no owner has a car" if self.owners_now == 0 else "one owner alone has cars"
        return (
            f"Level {self.level} checks results by cars of {OWNERS_TO_CHECK} different owners; {have} there "
            "now. Results wait until a car of another owner comes."
        )

    def __str__(self) -> str:
        return (
            f"{self.tasks} tasks at {amounts.amount(self.cost_micros_per_task)} = "
            f"{amounts.amount(self.total_micros, self.currency)} (level {self.level}, "
            f"{self.attempts_per_task} paid attempts per task, {self.vehicles_now} vehicles now)"
        )


def quote_of_wire(
    answer: market_service_pb2.GetQuoteResponse, *, program_sha256: str, tasks: int, level: str, steps: int
) -> Quote:
    """Return a quote out of the pool's answer and the question that it answers."""
    return Quote(
        quote_id=answer.quote_id,
        program_sha256=program_sha256,
        tasks=tasks,
        level=level,
        steps=steps,
        price_micros_per_wu=answer.price_micros_per_wu,
        work_uwu_per_task=answer.work_uwu_per_task,
        cost_micros_per_task=answer.cost_micros_per_task,
        attempts_per_task=answer.attempts_per_task,
        total_micros=answer.total_micros,
        expires_at_us=answer.expires_at_us,
        currency=answer.currency,
        vehicles_now=answer.vehicles_now,
        available_micros=answer.available_micros,
        owners_now=answer.owners_now if answer.HasField("owners_now") else None,
        audit_overhead_now=answer.audit_overhead_now,
        audit_overhead_newcomer=answer.audit_overhead_newcomer,
        epsilon=answer.epsilon,
        promise=answer.promise,
        estimate=estimate_of_wire(answer.estimate) if answer.HasField("estimate") else None,
        levels=tuple(
            LevelOffer(
                level=level_of_wire(offer.level),
                attempts_per_task=offer.attempts_per_task,
                cost_micros_per_task=offer.cost_micros_per_task,
                epsilon=offer.epsilon,
            )
            for offer in answer.levels
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendCap:
    """What the operator lets an account, or one token, reserve and spend."""

    holder: str
    """`account` or `token`: the one that this client uses."""
    period: str
    """`ever`, or a calendar month in UTC: `2026-11`."""
    max_spend_micros: int
    used_micros: int
    """Reserved now, and spent."""
    left_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A buyer's money."""

    buyer_id: str
    currency: str
    available_micros: int
    escrow_micros: int
    """Reserved for jobs."""
    spent_micros: int
    caps: tuple[SpendCap, ...] = ()
    """Empty where none is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """One job in figures, as the pool sees it."""

    job_id: str
    name: str
    state: JobState
    program_sha256: str
    task_count: int
    accepted_count: int
    failed_count: int
    running_count: int
    attempt_count: int
    rejected_count: int
    """Results that verification rejected; they cost nothing."""
    escrow_micros: int
    """Reserved and not yet spent."""
    spent_micros: int
    level: str
    steps: int
    created_at_us: int
    ended_at_us: int
    """0 while the job has not ended."""
    waiting_reason: str = ""
    """Why ready tasks are not computed now, e.g. WAITING_FOR_ANOTHER_OWNER; empty when they are."""
    waiting_count: int = 0
    """Results that wait for another owner's car."""
    waiting_detail: str = ""
    """With PRICE_ABOVE_CAP: the price and the bid, in a sentence."""
    bid_micros_per_wu: int = 0
    """The most that the job pays now; 0 once it has ended."""
    rechecking_count: int = 0
    """Accepted results that are being checked again, because a car was caught."""
    replaced_count: int = 0
    """Results that such a check has replaced."""

    @property
    def waiting(self) -> str:
        """The same in a sentence; empty when nothing waits."""
        return waiting_text(self.waiting_reason, self.waiting_count, self.waiting_detail)

    @property
    def is_over(self) -> bool:
        """True when nothing more will be decided."""
        return self.state in ("done", "cancelled")

    @property
    def decided_count(self) -> int:
        """Tasks that have a result or failed."""
        return self.accepted_count + self.failed_count


def status_of_wire(view: market_service_pb2.JobView) -> JobStatus:
    """Return a job's status out of the pool's message.

    Raises:
        ChargepoolError: The pool speaks of a state that this client does not know.
    """
    state = _JOB_STATES.get(view.state)
    if state is None:
        raise ChargepoolError(
            f"The pool reports {view.job_id} in state {view.state}, which this version does not know.",
            code=ErrorCode.UNIMPLEMENTED,
            next_step="Update chargepool.",
        )
    return JobStatus(
        job_id=view.job_id,
        name=view.name,
        state=state,
        program_sha256=view.program_sha256,
        task_count=view.task_count,
        accepted_count=view.accepted_count,
        failed_count=view.failed_count,
        running_count=view.running_count,
        attempt_count=view.attempt_count,
        rejected_count=view.rejected_count,
        escrow_micros=view.escrow_micros,
        spent_micros=view.spent_micros,
        level=level_of_wire(view.level),
        steps=view.steps_per_task,
        created_at_us=view.created_at_us,
        ended_at_us=view.ended_at_us,
        rechecking_count=view.rechecking_count,
        replaced_count=view.replaced_count,
        waiting_reason=view.waiting_reason,
        waiting_count=view.waiting_count,
        waiting_detail=view.waiting_detail,
        bid_micros_per_wu=view.bid_micros_per_wu,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a map or a wait has come; what a progress callback is given."""

    job_id: str
    tasks_total: int | None
    """None while the inputs have not been read to their end."""
    tasks_sent: int
    tasks_accepted: int
    tasks_failed: int
    tasks_running: int
    rejected_count: int
    spent_micros: int
    currency: str
    is_over: bool = False
    waiting: str = ""
    """Why nothing can go on now, in a sentence; empty while something can."""


ProgressCallback: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One task's outcome, verified as far as the job's level says, with what it cost and the proof of it."""

    index: int
    """Place of the task in the inputs."""
    cost_micros: int
    attempts: int
    """Attempts leased for it, audits and failed ones included."""
    output_digest: bytes
    """SHA-256 of the canonical outputs, 32 bytes; empty when the task failed."""
    receipts: tuple[Receipt, ...] = ()
    """The pool's receipts of the attempts that were paid; checked unless the client was told not to."""
    error: ChargepoolError | None = None
    """Why there is no value: TaskFailed or JobCancelled."""
    is_final: bool = False
    """Whether the pool will not look at it again, whoever is caught later."""
    evidence: str = ""
    """Why it is believed: AUDITED, AGREEMENT, CERTIFICATE, TRUSTED_NODE, HISTORY or RISK."""
    replaced_count: int = 0
    """How often an earlier result of the task proved wrong and was replaced."""
    _value: Any = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """True when there is a value."""
        return self.error is None

    @property
    def value(self) -> Any:
        """What the function returned: the same structure, with NumPy arrays as leaves.

        Raises:
            TaskFailed: The task failed for good.
            JobCancelled: The job was stopped before the task was decided.
        """
        if self.error is not None:
            raise self.error
        return self._value

    @property
    def receipt(self) -> Receipt:
        """The receipt of a task with one paid attempt, or the first of several.

        Raises:
            ChargepoolError: The task has none: it failed, or its owners gave the work.
        """
        if not self.receipts:
            raise ChargepoolError(
                f"Task {self.index} has no receipt.",
                code=ErrorCode.NOT_FOUND,
                next_step="Only accepted and paid tasks have one; look at .ok and .receipts.",
            )
        return self.receipts[0]

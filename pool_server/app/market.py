"""What a buyer is offered and what a job means: program facts, binding quotes, opening a job.

A quote is a fact in the database: naming it in time opens a job at its price, whatever the posted price does
meanwhile, for as long as the job lasts and up to its number of tasks. Work of a step task is the work of a
step times its steps.
"""

from dataclasses import dataclass
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import TASK_WORK_UWU_MAX, TASKS_PER_JOB_MAX, UNITS_PER_TASK_MAX
from pool_protocol.money import AMOUNT_MICROS_MAX, ceil_div, work_price_micros
from pool_protocol.program.manifest import ProgramKind, ProgramManifest
from pool_server.app.pricing import posted_price
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.jobs import OutputSpec, PriceMode, ProgramFacts
from pool_server.core.verification import LEVELS, VerificationLevel
from pool_server.ports.shell import QuoteRecord
from pool_server.ports.unit_of_work import UnitOfWork

#: Steps of one task: far beyond any honest task, well inside 64 bits.
STEPS_PER_TASK_MAX = 2**31 - 1


def program_facts(manifest: ProgramManifest, *, steps_per_task: int) -> ProgramFacts:
    """Return what a job needs to know of its program.

    Raises:
        PoolError: INVALID_ARGUMENT when the number of steps does not fit the program, or the work no lease.
    """
    draft = manifest.draft
    if draft.kind is ProgramKind.MAP:
        if steps_per_task != 0:
            raise _bad_steps("a map program has no steps")
        work_uwu = manifest.cost.work_uwu
    else:
        if not 1 <= steps_per_task <= STEPS_PER_TASK_MAX:
            raise _bad_steps(f"a step program makes 1 to {STEPS_PER_TASK_MAX} steps, not {steps_per_task}")
        if ceil_div(steps_per_task, draft.unit_steps) > UNITS_PER_TASK_MAX:
            raise _bad_steps(f"more than {UNITS_PER_TASK_MAX} units of {draft.unit_steps} steps")
        work_uwu = manifest.cost.work_uwu * steps_per_task
    if work_uwu > TASK_WORK_UWU_MAX:
        raise _bad_steps(
            f"one task has {work_uwu} micro-WU, at most {TASK_WORK_UWU_MAX} fit a lease: split it"
        )
    return ProgramFacts(
        program_sha256=manifest.program_id,
        kind=draft.kind.value,
        work_uwu_per_task=work_uwu,
        unit_steps=draft.unit_steps,
        outputs=tuple(
            OutputSpec(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape)
            for tensor in draft.output_types
        ),
    )


def _bad_steps(why: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, why, context={"field": "steps_per_task"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GetQuote:
    """A buyer asks what a job would cost."""

    quote_id: str
    """A fresh id."""
    buyer_id: str
    program: ProgramFacts
    task_count: int
    steps_per_task: int
    level: VerificationLevel


def make_quote(uow: UnitOfWork, command: GetQuote, *, policy: WorkPolicy, now_us: int) -> QuoteRecord:
    """Make a binding offer at the posted price. Spends nothing.

    Raises:
        PoolError: INVALID_ARGUMENT for the number of tasks, a level not offered, or a total that cannot be
            counted.
    """
    if not 1 <= command.task_count <= TASKS_PER_JOB_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"1 to {TASKS_PER_JOB_MAX} tasks, not {command.task_count}",
            context={"field": "task_count"},
        )
    require_level(command.level, policy=policy)
    price = posted_price(uow)
    attempts = LEVELS[command.level].quorum
    cost_micros = work_price_micros(command.program.work_uwu_per_task, price) * attempts
    total_micros = cost_micros * command.task_count
    if total_micros > AMOUNT_MICROS_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, "the total cannot be counted", context={"field": "task_count"}
        )
    quote = QuoteRecord(
        quote_id=command.quote_id,
        buyer_id=command.buyer_id,
        program_sha256=command.program.program_sha256,
        task_count=command.task_count,
        steps_per_task=command.steps_per_task,
        level=command.level.value,
        price_micros_per_wu=price,
        work_uwu_per_task=command.program.work_uwu_per_task,
        attempts_per_task=attempts,
        cost_micros_per_task=cost_micros,
        total_micros=total_micros,
        created_at_us=now_us,
        expires_at_us=now_us + policy.market.quote_lifetime_us,
    )
    uow.quotes.add(quote)
    return quote


def require_level(level: VerificationLevel, *, policy: WorkPolicy) -> None:
    """Refuse the level `none` where the pool does not offer it.

    Raises:
        PoolError: INVALID_ARGUMENT.
    """
    if level is VerificationLevel.NONE and not policy.allow_level_none:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            "this pool does not offer work without verification",
            context={"field": "level"},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceWish:
    """How a buyer wants the price to be found."""

    mode: PriceMode
    quote_id: str
    """For QUOTE."""
    price_cap_micros_per_wu: int
    """For SPOT."""


class ResolvedPrice(NamedTuple):
    """What a wish comes to."""

    price_micros_per_wu: int
    """The cap, the quote's price, or 0."""
    quoted_task_count: int = 0
    """Tasks that a quote was for; 0: no bound."""


def resolve_price(
    uow: UnitOfWork,
    wish: PriceWish,
    *,
    buyer_id: str,
    program: ProgramFacts,
    steps_per_task: int,
    level: VerificationLevel,
    now_us: int,
) -> ResolvedPrice:
    """Return the price that the job's terms name.

    Raises:
        PoolError: INVALID_ARGUMENT for a cap that is not positive; NOT_FOUND for an unknown quote or another
            buyer's; QUOTE_EXPIRED; EXISTS_WITH_DIFFERENT when the job is not what was quoted.
    """
    match wish.mode:
        case PriceMode.DONATE:
            return ResolvedPrice(0)
        case PriceMode.SPOT:
            if not 1 <= wish.price_cap_micros_per_wu <= AMOUNT_MICROS_MAX:
                raise PoolError(
                    ErrorCode.INVALID_ARGUMENT,
                    "a spot job needs a price cap of at least 1",
                    context={"field": "price_cap_micros_per_wu"},
                )
            return ResolvedPrice(wish.price_cap_micros_per_wu)
        case PriceMode.QUOTE:
            quote = uow.quotes.get(wish.quote_id)
            if quote is None or quote.buyer_id != buyer_id:
                raise PoolError(
                    ErrorCode.NOT_FOUND, f"no quote {wish.quote_id[:60]}", context={"field": "quote_id"}
                )
            if quote.expires_at_us <= now_us:
                raise PoolError(ErrorCode.QUOTE_EXPIRED, f"{quote.quote_id} ended at {quote.expires_at_us}")
            quoted = (quote.program_sha256, quote.steps_per_task, quote.level, quote.work_uwu_per_task)
            wanted = (program.program_sha256, steps_per_task, level.value, program.work_uwu_per_task)
            if quoted != wanted:
                raise PoolError(
                    ErrorCode.EXISTS_WITH_DIFFERENT,
                    f"{quote.quote_id} is for another program, number of steps or level",
                    context={"field": "quote_id"},
                )
            return ResolvedPrice(quote.price_micros_per_wu, quote.task_count)

"""What a job may cost: from a quote, a price cap or a budget to the terms that the pool reserves money by.

The budget is the most that a job can spend; the pool holds it as a constraint, and this module only chooses
it. Left to itself it is the quoted total and a margin. The margin is reserved, not spent: a task whose car
left is leased again while the first lease still holds its money, and without room for that the last tasks of
a job would wait for each other. Whatever is not spent returns when the job ends.
"""

from dataclasses import dataclass

from chargepool._errors import (
    BudgetExceeded,
    BudgetRequired,
    InputRefused,
    InsufficientFunds,
    PriceAboveCap,
    QuoteExpired,
)
from chargepool._session import Session
from chargepool._values import Quote
from pool_protocol import amounts
from pool_protocol.money import PPM, ceil_div, work_price_micros
from pool_protocol.v1 import common_pb2

#: Reserved beyond the quoted total: a quarter, and never less than four tasks.
BUDGET_MARGIN_PPM = 250_000
BUDGET_MARGIN_TASKS_MIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the buyer said about money; anything may be left out."""

    tasks: int | None
    """How many tasks there will be at most; None when nobody knows."""
    level: str
    steps: int
    quote: Quote | None = None
    price_cap_micros_per_wu: int | None = None
    price_start_micros_per_wu: int | None = None
    has_deadline: bool = False
    waits_for_price: bool = False
    budget_micros: int | None = None
    donated: bool = False
    certified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """How a job is paid."""

    mode: common_pb2.PriceMode.ValueType
    quote_id: str
    price_cap_micros_per_wu: int
    budget_micros: int
    quote: Quote
    price_start_micros_per_wu: int = 0


def settle_price(session: Session, *, program_sha256: str, wishes: Wishes) -> Price:
    """Choose mode and budget. Asks the pool for quotes; spends nothing.

    Raises:
        BudgetRequired: Neither the number of tasks nor a budget is known.
        BudgetExceeded: The budget given does not cover the tasks.
        InsufficientFunds: The account does not hold what the tasks cost.
        QuoteExpired: The quote given has expired.
        PriceAboveCap: The price is above the cap, and the job is not to wait for a lower one.
        InputRefused: The wishes contradict each other.
    """
    _check(wishes)
    if wishes.quote is not None:
        quote = _require_fitting(wishes.quote, program_sha256, wishes, now_us=session.clock.now_us())
    else:
        quote = _ask(session, program_sha256, wishes)
    if wishes.donated:
        return Price(
            mode=common_pb2.PRICE_MODE_DONATE,
            quote_id="",
            price_cap_micros_per_wu=0,
            budget_micros=0,
            quote=quote,
        )
    per_task = quote.cost_micros_per_task
    cap = wishes.price_cap_micros_per_wu
    if cap is not None:
        if quote.price_micros_per_wu > cap and not wishes.waits_for_price:
            raise _above_cap(quote, cap)
        per_task = work_price_micros(quote.work_uwu_per_task, cap) * quote.attempts_per_task
    total = per_task * quote.tasks
    return Price(
        mode=common_pb2.PRICE_MODE_QUOTE if cap is None else common_pb2.PRICE_MODE_SPOT,
        quote_id=quote.quote_id if cap is None else "",
        price_cap_micros_per_wu=cap or 0,
        budget_micros=_budget(wishes, quote, per_task=per_task, total=total),
        quote=quote,
        price_start_micros_per_wu=wishes.price_start_micros_per_wu or 0,
    )


def _above_cap(quote: Quote, cap: int) -> PriceAboveCap:
    price = quote.price_micros_per_wu
    return PriceAboveCap(
        f"The price is {price} micro-{quote.currency} per WU, above the job's cap of {cap}.",
        next_step=f"Raise price_cap_micros_per_wu to {price} or more, or pass wait_for_price=True: the job "
        "then waits until the price comes down. Nothing was spent.",
        context={"price_micros_per_wu": str(price), "price_cap_micros_per_wu": str(cap)},
    )


def with_margin(total_micros: int, cost_micros_per_task: int) -> int:
    """Return the default budget for work of this total."""
    margin = max(
        ceil_div(total_micros * BUDGET_MARGIN_PPM, PPM), BUDGET_MARGIN_TASKS_MIN * cost_micros_per_task
    )
    return total_micros + margin


def _budget(wishes: Wishes, quote: Quote, *, per_task: int, total: int) -> int:
    given, available = wishes.budget_micros, quote.available_micros
    if given is not None and wishes.tasks is not None and given < total:
        covered = given // per_task if per_task else quote.tasks
        raise BudgetExceeded(
            f"A budget of {amounts.amount(given, quote.currency)} covers {covered} of {quote.tasks} tasks; "
            f"all cost {amounts.amount(total)}.",
            next_step="Raise budget_micros, send fewer tasks, or choose a cheaper level. Nothing was spent.",
            context={"total_micros": str(total), "budget_micros": str(given)},
        )
    wanted = with_margin(total, per_task) if given is None else given
    least = total if given is None else given
    if available < least:
        raise InsufficientFunds(
            f"The job needs {amounts.amount(least, quote.currency)}, the account has "
            f"{amounts.amount(available)} free.",
            next_step="Make a deposit, end a job that holds money (`chargepool jobs`), or send fewer tasks.",
            context={"needed_micros": str(least), "available_micros": str(available)},
        )
    return min(wanted, available)


def _ask(session: Session, program_sha256: str, wishes: Wishes) -> Quote:
    tasks = wishes.tasks
    if tasks is None:
        if wishes.budget_micros is None and not wishes.donated:
            raise BudgetRequired(
                "The inputs do not say how many they are, and there is no budget.",
                next_step="Pass tasks=N (at most so many), budget_micros=..., or inputs that have a len().",
            )
        tasks = 1

    def ask(tasks: int) -> Quote:
        return session.quote(
            program_sha256=program_sha256,
            tasks=tasks,
            level=wishes.level,
            steps=wishes.steps,
            certified=wishes.certified,
        )

    quote = ask(max(tasks, 1))
    if wishes.tasks is None and wishes.budget_micros is not None and quote.cost_micros_per_task > 0:
        covered = wishes.budget_micros // quote.cost_micros_per_task
        if covered < 1:
            raise BudgetExceeded(
                f"A budget of {amounts.amount(wishes.budget_micros, quote.currency)} covers no task; "
                f"one costs {amounts.amount(quote.cost_micros_per_task)}.",
                next_step="Raise budget_micros. Nothing was spent.",
            )
        quote = ask(covered)
    return quote


def _require_fitting(quote: Quote, program_sha256: str, wishes: Wishes, *, now_us: int) -> Quote:
    told = (quote.program_sha256, quote.level, quote.steps)
    if told != (program_sha256, wishes.level, wishes.steps):
        raise InputRefused(
            "The quote is for another program, level or number of steps than the job.",
            next_step="Ask for a quote with the same program, level and steps.",
        )
    if quote.expires_at_us <= now_us:
        raise QuoteExpired("The quote has expired.", next_step="Ask for a new one. Nothing was spent.")
    if wishes.tasks is not None and wishes.tasks > quote.tasks:
        raise BudgetExceeded(
            f"The quote is for {quote.tasks} tasks, the inputs are {wishes.tasks}.",
            next_step="Ask for a quote for all of them. Nothing was spent.",
        )
    return quote


def _check(wishes: Wishes) -> None:
    if wishes.quote is not None and wishes.price_cap_micros_per_wu is not None:
        raise InputRefused(
            "A job has either a quote's price or a price cap.", next_step="Leave one of them out."
        )
    for name, amount in (
        ("budget_micros", wishes.budget_micros),
        ("price_cap_micros_per_wu", wishes.price_cap_micros_per_wu),
        ("price_start_micros_per_wu", wishes.price_start_micros_per_wu),
    ):
        if amount is not None and amount < 0:
            raise InputRefused(f"{name} must not be negative.", context={"field": name})
    if wishes.donated and (wishes.quote is not None or wishes.price_cap_micros_per_wu is not None):
        raise InputRefused("A donated job has no price.", next_step="Leave quote and price cap out.")
    if wishes.price_start_micros_per_wu is not None:
        _check_start(wishes, start=wishes.price_start_micros_per_wu)
    elif wishes.waits_for_price and wishes.price_cap_micros_per_wu is None:
        raise InputRefused(
            "A job without a price cap has no price to wait for.",
            next_step="Pass price_cap_micros_per_wu too.",
        )


def _check_start(wishes: Wishes, *, start: int) -> None:
    cap = wishes.price_cap_micros_per_wu
    if cap is None or not wishes.has_deadline:
        raise InputRefused(
            "A start price is where the bid begins that rises to the cap towards the deadline.",
            next_step="Pass price_cap_micros_per_wu and deadline_s too.",
            context={"field": "price_start_micros_per_wu"},
        )
    if start > cap:
        raise InputRefused(
            f"The start price {start} is above the cap {cap}.", context={"field": "price_start_micros_per_wu"}
        )

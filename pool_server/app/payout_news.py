"""What happened to an owner's payouts, in plain sentences: on their way, paid, come back, left out, why."""

from collections.abc import Iterator
from dataclasses import dataclass

from pool_protocol.money import format_micros
from pool_server.core.payouts.bank_reasons import reason_words
from pool_server.core.payouts.model import LEFT_OUT_WORDS, PayoutRow, PayoutRun, PayoutState
from pool_server.core.payouts.row_state import RowState, RowStep
from pool_server.ports.unit_of_work import UnitOfWork

_PAYOUTS_MAX = 100
_STEPS_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEventValue:
    """One piece of news."""

    at_us: int
    code: str
    """ENROLLED, QUARANTINED, RELEASED, LOST, RETIRED, VERIFIED, LOOK_BACK, LOOK_BACK_DONE, and the PAYOUT_...
    codes of `payout_news`."""
    message: str
    vehicle_id: str
    """Empty when it is about no single vehicle."""


def payout_news(uow: UnitOfWork, owner_id: str) -> list[AccountEventValue]:
    """Return an owner's news of payouts.

    Codes: PAYOUT_APPROVED, PAYOUT_EXPORTED, PAYOUT_SETTLED, PAYOUT_RETURNED, PAYOUT_WITHHELD,
    PAYOUT_LEFT_OUT, ACCOUNT_CLOSED.
    """
    currency = uow.terms.currency
    news = [
        *(_step_news(step, currency) for step in uow.banks.steps_of_owner(owner_id, limit=_STEPS_MAX)),
        *(_row_news(run, row) for run, row in uow.payouts.paid_rows(owner_id, limit=_PAYOUTS_MAX)),
        *(_left_out_news(run, row) for run, row in uow.payouts.left_out_rows(owner_id, limit=_PAYOUTS_MAX)),
    ]
    return [*news, *_leaving_news(uow, owner_id)]


def _money(amount_micros: int, currency: str) -> str:
    return f"{format_micros(amount_micros, decimals=2)} {currency}"


def _news(at_us: int, code: str, message: str) -> AccountEventValue:
    return AccountEventValue(at_us=at_us, code=code, message=message, vehicle_id="")


def _row_news(run: PayoutRun, row: PayoutRow) -> AccountEventValue:
    amount = _money(row.amount_micros, run.currency)
    if run.state is PayoutState.EXPORTED:
        return _news(run.ended_at_us, "PAYOUT_EXPORTED", f"{amount} are on their way ({row.reference}).")
    return _news(run.approved_at_us, "PAYOUT_APPROVED", f"A payout of {amount} was approved.")


def _left_out_news(run: PayoutRun, row: PayoutRow) -> AccountEventValue:
    why = LEFT_OUT_WORDS.get(row.reason, row.reason)
    return _news(
        run.planned_at_us,
        "PAYOUT_LEFT_OUT",
        f"{_money(row.amount_micros, run.currency)} could not be paid: {why}. The money stays yours; set "
        "your payout details and the next run pays it.",
    )


def _step_news(step: RowStep, currency: str) -> AccountEventValue:
    amount = _money(step.amount_micros, currency)
    match step.state:
        case RowState.SETTLED:
            return _news(step.at_us, "PAYOUT_SETTLED", f"The bank has paid {amount}.")
        case RowState.WITHHELD:
            return _news(
                step.at_us,
                "PAYOUT_WITHHELD",
                f"{amount} were not paid in this run: {step.reason_text}. The next run pays them.",
            )
        case _:
            why = reason_words(step.reason_code, step.reason_text)
            return _news(
                step.at_us,
                "PAYOUT_RETURNED",
                f"{amount} came back from the bank: {why}. The money is available again; check your payout "
                "details before the next run.",
            )


def _leaving_news(uow: UnitOfWork, owner_id: str) -> Iterator[AccountEventValue]:
    leaving = uow.banks.leaving(owner_id)
    if leaving is None or not leaving.closed_at_us:
        return
    rest = format_micros(leaving.rounding_micros)
    yield _news(
        leaving.closed_at_us,
        "ACCOUNT_CLOSED",
        f"The account is closed and paid to the cent; {rest} {uow.terms.currency}, less than a cent, went to "
        "the pool's rounding account.",
    )

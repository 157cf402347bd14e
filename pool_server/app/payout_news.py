"""What happened to an owner's payouts, in plain sentences: on their way, paid, come back, left out, why."""

from dataclasses import dataclass

from pool_protocol import amounts
from pool_server.app.particulars import locale_of
from pool_server.core.payouts.bank_reasons import NOT_THE_OWNERS, reason_words
from pool_server.core.payouts.model import LEFT_OUT_WORDS, PayoutRow, PayoutRun, PayoutState
from pool_server.core.payouts.row_state import RowState, RowStep
from pool_server.ports.banks import Leaving
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
    teller = _Teller(uow.terms.currency, locale_of(uow, owner_id))
    leaving = uow.banks.leaving(owner_id)
    return [
        *(teller.step(step) for step in uow.banks.steps_of_owner(owner_id, limit=_STEPS_MAX)),
        *(teller.row(run, row) for run, row in uow.payouts.paid_rows(owner_id, limit=_PAYOUTS_MAX)),
        *(teller.left_out(run, row) for run, row in uow.payouts.left_out_rows(owner_id, limit=_PAYOUTS_MAX)),
        *([teller.closed(leaving)] if leaving is not None and leaving.closed_at_us else []),
    ]


class _Teller:
    """Tells an owner of payouts, amounts in the owner's locale."""

    def __init__(self, currency: str, locale: str) -> None:
        self._currency = currency
        self._locale = locale

    def _money(self, amount_micros: int) -> str:
        return amounts.cents(amount_micros, self._currency, locale=self._locale)

    def row(self, run: PayoutRun, row: PayoutRow) -> AccountEventValue:
        amount = self._money(row.amount_micros)
        if run.state is PayoutState.EXPORTED:
            return _news(run.ended_at_us, "PAYOUT_EXPORTED", f"{amount} are on their way ({row.reference}).")
        return _news(run.approved_at_us, "PAYOUT_APPROVED", f"A payout of {amount} was approved.")

    def left_out(self, run: PayoutRun, row: PayoutRow) -> AccountEventValue:
        why = LEFT_OUT_WORDS.get(row.reason, row.reason)
        return _news(
            run.planned_at_us,
            "PAYOUT_LEFT_OUT",
            f"{self._money(row.amount_micros)} could not be paid: {why}. The money stays yours; set your "
            "payout details and the next run pays it.",
        )

    def step(self, step: RowStep) -> AccountEventValue:
        amount = self._money(step.amount_micros)
        if step.state is RowState.SETTLED:
            return _news(step.at_us, "PAYOUT_SETTLED", f"The bank has paid {amount}.")
        if step.state is RowState.WITHHELD:
            return _news(
                step.at_us,
                "PAYOUT_WITHHELD",
                f"{amount} were not paid in this run: {step.reason_text}. The next run pays them.",
            )
        why = reason_words(step.reason_code, step.reason_text)
        then = (
            "the next run pays it."
            if step.reason_code in NOT_THE_OWNERS
            else "check your payout details before the next run."
        )
        return _news(
            step.at_us,
            "PAYOUT_RETURNED",
            f"{amount} came back from the bank: {why}. The money is available again; {then}",
        )

    def closed(self, leaving: Leaving) -> AccountEventValue:
        if not leaving.rounding_micros:
            return _news(
                leaving.closed_at_us, "ACCOUNT_CLOSED", "The account is closed and paid to the cent."
            )
        rest = amounts.amount(leaving.rounding_micros, self._currency, locale=self._locale)
        return _news(
            leaving.closed_at_us,
            "ACCOUNT_CLOSED",
            f"The account is closed and paid to the cent; {rest}, less than a cent, went to the pool's "
            "rounding account.",
        )


def _news(at_us: int, code: str, message: str) -> AccountEventValue:
    return AccountEventValue(at_us=at_us, code=code, message=message, vehicle_id="")

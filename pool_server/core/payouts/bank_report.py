"""What a bank says of payments, and what follows from it. Pure.

A report's lines are matched by end-to-end reference and, where the bank names them, amount, currency and the
message that the payment was sent in. What does not match is listed, never guessed. Every line gets one
`Outcome`; only `APPLIED` lines move money. A bank may tell the same thing twice, in one file or in two; it
may not tell the opposite: that is refused, line by line, and shown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, unique

from pool_protocol.money import AMOUNT_MICROS_MAX
from pool_server.core.payouts.references import block_rows, row_number
from pool_server.core.payouts.row_state import PAYOUT_ROW_LIFECYCLE, RowState

#: Writes micro-units and their currency for people; how is not the core's to say.
Money = Callable[[int, str], str]


@unique
class Verdict(StrEnum):
    """What a line means, whatever the bank's format."""

    NOTED = "noted"
    """On its way, or nothing that decides: changes nothing."""
    SETTLED = "settled"
    REJECTED = "rejected"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLine:
    """One thing that the bank says: of one payment, of a block of them, or of a whole message."""

    verdict: Verdict
    status: str
    """The bank's own word, for example RJCT or "BOOK DBIT"."""
    reference: str = ""
    """The payment's end-to-end reference; empty when the line is about a block or a message."""
    message: str = ""
    """The message (`MsgId`) that the payment was sent in; empty when the bank does not say."""
    block: str = ""
    """The block (`PmtInfId`), for lines about a whole one."""
    amount_micros: int | None = None
    """None when the bank does not say."""
    currency: str = ""
    reason_code: str = ""
    reason_text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankReport:
    """One file of the bank's, read."""

    format: str
    """For example "pain.002.001.10"."""
    message_id: str
    """The bank's name for the file."""
    lines: tuple[ReportLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPayment:
    """A row as the books know it."""

    payout_id: int
    owner_id: str
    reference: str
    message: str
    amount_micros: int
    currency: str
    state: RowState


@unique
class Outcome(StrEnum):
    """What became of a line. Checked in this order, `UNKNOWN` first."""

    UNKNOWN = "unknown"
    """No payment of this pool has this reference, or none in this block or message."""
    NOTED = "noted"
    """Understood; decides nothing."""
    AMOUNT_DIFFERS = "amount_differs"
    """The bank names another amount or currency than was sent."""
    REPEATED = "repeated"
    """Was told before."""
    CONTRADICTS = "contradicts"
    """Is the opposite of what was told before, or in the same file: refused."""
    APPLIED = "applied"
    """Booked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineResult:
    """A line with its outcome: what is kept and shown. A line about a block has one result per payment."""

    line_number: int
    """From 1; several results may share one."""
    reference: str
    payout_id: int
    """0 for unknown ones."""
    owner_id: str
    status: str
    verdict: Verdict
    reason_code: str
    reason_text: str
    amount_micros: int
    """The payment's; for unknown ones the bank's, or 0."""
    outcome: Outcome
    from_state: str
    """The payment's state before; empty for unknown ones."""
    detail: str
    """Why, in words; empty where there is nothing to add."""


_TARGET: Mapping[Verdict, RowState] = {
    Verdict.SETTLED: RowState.SETTLED,
    Verdict.REJECTED: RowState.REJECTED,
    Verdict.RETURNED: RowState.RETURNED,
}
_BACK = frozenset({RowState.REJECTED, RowState.RETURNED})


def decide_report(report: BankReport, payments: Sequence[KnownPayment], *, money: Money) -> list[LineResult]:
    """Decide what follows from a report.

    Args:
        report: The file, read.
        payments: Every payment that the report may be about: those whose references it names, and all of the
            runs whose messages or blocks it names.
        money: Writes an amount in micro-units with its currency, for people.
    """
    desk = _Desk({payment.reference: payment for payment in payments}, _opposites(report.lines), money)
    named = {line.reference for line in report.lines if line.reference}
    for number, line in enumerate(report.lines, start=1):
        if line.reference:
            desk.take(number, line)
        else:
            desk.take_many(number, line, named)
    return desk.results


def _opposites(lines: Iterable[ReportLine]) -> frozenset[str]:
    """Return references of which one file says both that they are paid and that they are rejected."""
    said: dict[str, set[Verdict]] = {}
    for line in lines:
        if line.reference:
            said.setdefault(line.reference, set()).add(line.verdict)
    return frozenset(
        reference for reference, verdicts in said.items() if {Verdict.SETTLED, Verdict.REJECTED} <= verdicts
    )


class _Desk:
    """Takes lines in order and knows what the earlier ones did."""

    def __init__(self, payments: Mapping[str, KnownPayment], opposites: frozenset[str], money: Money) -> None:
        self._payments = dict(payments)
        self._opposites = opposites
        self._money = money
        self.results: list[LineResult] = []

    def take(self, number: int, line: ReportLine) -> None:
        """Take a line about one payment."""
        payment = self._payments.get(line.reference)
        if payment is None:
            self._keep(number, line, None, Outcome.UNKNOWN, "no payment of this pool has this reference")
            return
        if line.message and line.message != payment.message:
            detail = f"it was sent in {payment.message}, the bank says {line.message}"
            self._keep(number, line, None, Outcome.UNKNOWN, detail)
            return
        is_opposite = line.reference in self._opposites
        outcome, detail = _judge(line, payment, is_opposite=is_opposite, money=self._money)
        self._keep(number, line, payment, outcome, detail)

    def take_many(self, number: int, line: ReportLine, named: set[str]) -> None:
        """Take a line about a block or a message: it counts for each payment that has no line of its own."""
        members = self._members(line)
        if not members:
            what = line.block or line.message or "nothing"
            self._keep(number, line, None, Outcome.UNKNOWN, f"this pool did not send {what}")
            return
        problem = _sum_problem(line, members, self._money)
        if problem:
            self._keep(number, line, None, Outcome.AMOUNT_DIFFERS, problem)
            return
        whole = replace(line, amount_micros=None, message="")
        for payment in members:
            if payment.reference in named or (payment.state in _BACK and line.verdict is Verdict.SETTLED):
                continue
            outcome, detail = _judge(whole, payment, is_opposite=False, money=self._money)
            self._keep(number, line, payment, outcome, detail)

    def _members(self, line: ReportLine) -> list[KnownPayment]:
        message, first, last = line.message, 0, 0
        if line.block:
            block = block_rows(line.block)
            if block is None or (line.message and line.message != block[0]):
                return []
            message, first, last = block
        members = [payment for payment in self._payments.values() if payment.message == message]
        if last:
            members = [payment for payment in members if first <= row_number(payment.reference) <= last]
        return sorted(members, key=lambda payment: row_number(payment.reference))

    def _keep(
        self, number: int, line: ReportLine, payment: KnownPayment | None, outcome: Outcome, detail: str
    ) -> None:
        self.results.append(
            LineResult(
                line_number=number,
                reference=payment.reference if payment else line.reference or line.block or line.message,
                payout_id=payment.payout_id if payment else 0,
                owner_id=payment.owner_id if payment else "",
                status=line.status,
                verdict=line.verdict,
                reason_code=line.reason_code,
                reason_text=line.reason_text,
                # Of others' payments a bank may name more than the books' numbers hold.
                amount_micros=(
                    payment.amount_micros if payment else min(line.amount_micros or 0, AMOUNT_MICROS_MAX)
                ),
                outcome=outcome,
                from_state=payment.state.value if payment else "",
                detail=detail,
            )
        )
        if payment is not None and outcome is Outcome.APPLIED:
            self._payments[payment.reference] = replace(payment, state=_TARGET[line.verdict])


def _sum_problem(line: ReportLine, members: Sequence[KnownPayment], money: Money) -> str:
    """Say what is wrong with the amount of a whole block: it is all of it, or all but what came back."""
    if line.amount_micros is None:
        return ""
    everything = sum(payment.amount_micros for payment in members)
    still_out = sum(payment.amount_micros for payment in members if payment.state not in _BACK)
    if line.currency == members[0].currency and line.amount_micros in (everything, still_out):
        return ""
    said = money(line.amount_micros, line.currency)
    return f"the bank says {said}, {money(everything, members[0].currency)} were sent"


def _judge(
    line: ReportLine, payment: KnownPayment, *, is_opposite: bool, money: Money
) -> tuple[Outcome, str]:
    """Decide on one line about one payment, whose reference matches."""
    if line.verdict is Verdict.NOTED:
        return Outcome.NOTED, ""
    if line.amount_micros is not None and (line.amount_micros, line.currency) != (
        payment.amount_micros,
        payment.currency,
    ):
        said, sent = money(line.amount_micros, line.currency), money(payment.amount_micros, payment.currency)
        return Outcome.AMOUNT_DIFFERS, f"the bank says {said}, {sent} were sent"
    if is_opposite and line.verdict is not Verdict.RETURNED:
        return Outcome.CONTRADICTS, "the same file says both that it was paid and that it was rejected"
    target = _TARGET[line.verdict]
    if target is payment.state or (target in _BACK and payment.state in _BACK):
        return Outcome.REPEATED, f"it is {payment.state} already"
    if target is RowState.SETTLED and payment.state is RowState.RETURNED:
        return Outcome.REPEATED, "it was paid and came back; the bank tells of the first half late"
    if PAYOUT_ROW_LIFECYCLE.allows(payment.state, target):
        return Outcome.APPLIED, ""
    return Outcome.CONTRADICTS, f"it is {payment.state}; the bank now says {target}"


def needs_attention(results: Iterable[LineResult]) -> list[LineResult]:
    """Return the lines that a person must look at."""
    wanted = (Outcome.UNKNOWN, Outcome.AMOUNT_DIFFERS, Outcome.CONTRADICTS)
    return [result for result in results if result.outcome in wanted]

"""What follows from a bank's report: every line gets one outcome, in the order in which they are checked."""

from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pool_server.core.payouts.bank_reasons import REASON_WORDS, reason_words
from pool_server.core.payouts.bank_report import (
    BankReport,
    KnownPayment,
    LineResult,
    Outcome,
    ReportLine,
    Verdict,
    decide_report,
    needs_attention,
)
from pool_server.core.payouts.references import block_id, end_to_end_reference, message_id
from pool_server.core.payouts.row_state import PAYOUT_ROW_LIFECYCLE, RowState

MESSAGE = message_id("pool_a", 3)


def payment(number: int, state: RowState = RowState.SENT, *, payout_id: int = 3) -> KnownPayment:
    return KnownPayment(
        payout_id=payout_id,
        owner_id=f"owner_{number}",
        reference=end_to_end_reference("pool_a", payout_id, number),
        message=message_id("pool_a", payout_id),
        amount_micros=number * 10_000,
        currency="EUR",
        state=state,
    )


def line(verdict: Verdict, number: int = 0, **changes: object) -> ReportLine:
    values: dict[str, object] = {
        "verdict": verdict,
        "status": "TEST",
        "reference": end_to_end_reference("pool_a", 3, number) if number else "",
    }
    return ReportLine(**(values | changes))  # type: ignore[arg-type]


def decide(lines: Sequence[ReportLine], payments: Sequence[KnownPayment]) -> list[LineResult]:
    report = BankReport(format="test", message_id="", lines=tuple(lines))
    return decide_report(report, payments, money=lambda micros, currency: f"{micros} {currency}")


def outcomes(lines: Sequence[ReportLine], payments: Sequence[KnownPayment]) -> list[Outcome]:
    return [result.outcome for result in decide(lines, payments)]


@pytest.mark.parametrize(
    ("said", "state", "outcome"),
    [
        (line(Verdict.SETTLED, 9), RowState.SENT, Outcome.UNKNOWN),
        (line(Verdict.SETTLED, 1, message="CP-00000000-3"), RowState.SENT, Outcome.UNKNOWN),
        (line(Verdict.NOTED, 1, amount_micros=1, currency="EUR"), RowState.SENT, Outcome.NOTED),
        (
            line(Verdict.SETTLED, 1, amount_micros=9_999, currency="EUR"),
            RowState.SENT,
            Outcome.AMOUNT_DIFFERS,
        ),
        (
            line(Verdict.SETTLED, 1, amount_micros=10_000, currency="USD"),
            RowState.SENT,
            Outcome.AMOUNT_DIFFERS,
        ),
        (line(Verdict.SETTLED, 1, amount_micros=10_000, currency="EUR"), RowState.SENT, Outcome.APPLIED),
        (line(Verdict.SETTLED, 1, message=MESSAGE), RowState.SENT, Outcome.APPLIED),
        (line(Verdict.REJECTED, 1), RowState.SENT, Outcome.APPLIED),
        (line(Verdict.RETURNED, 1), RowState.SENT, Outcome.APPLIED),
        (line(Verdict.RETURNED, 1), RowState.SETTLED, Outcome.APPLIED),
        (line(Verdict.SETTLED, 1), RowState.SETTLED, Outcome.REPEATED),
        (line(Verdict.REJECTED, 1), RowState.REJECTED, Outcome.REPEATED),
        (line(Verdict.RETURNED, 1), RowState.REJECTED, Outcome.REPEATED),
        (line(Verdict.REJECTED, 1), RowState.RETURNED, Outcome.REPEATED),
        (line(Verdict.SETTLED, 1), RowState.RETURNED, Outcome.REPEATED),
        (line(Verdict.REJECTED, 1), RowState.SETTLED, Outcome.CONTRADICTS),
        (line(Verdict.SETTLED, 1), RowState.REJECTED, Outcome.CONTRADICTS),
    ],
)
def test_a_line_about_one_payment(said: ReportLine, state: RowState, outcome: Outcome) -> None:
    [result] = decide([said], [payment(1, state)])

    assert result.outcome is outcome
    assert (result.owner_id == "owner_1") == (outcome is not Outcome.UNKNOWN)
    assert bool(needs_attention([result])) == (
        outcome in (Outcome.UNKNOWN, Outcome.AMOUNT_DIFFERS, Outcome.CONTRADICTS)
    )


def test_the_opposite_in_one_file_is_refused_both_times() -> None:
    said = [line(Verdict.SETTLED, 1), line(Verdict.REJECTED, 1), line(Verdict.SETTLED, 2)]

    assert outcomes(said, [payment(1), payment(2)]) == [
        Outcome.CONTRADICTS,
        Outcome.CONTRADICTS,
        Outcome.APPLIED,
    ]


def test_paid_and_come_back_in_one_file_is_no_contradiction() -> None:
    said = [line(Verdict.SETTLED, 1), line(Verdict.RETURNED, 1), line(Verdict.RETURNED, 1)]

    assert outcomes(said, [payment(1)]) == [Outcome.APPLIED, Outcome.APPLIED, Outcome.REPEATED]


def test_a_block_stands_for_those_that_have_no_line_of_their_own() -> None:
    block = block_id(MESSAGE, 1, 3)
    said = [line(Verdict.SETTLED, 2), line(Verdict.REJECTED, block=block, message=MESSAGE)]

    results = decide(said, [payment(number) for number in (1, 2, 3, 4)])

    assert [(r.line_number, r.owner_id, r.outcome) for r in results] == [
        (1, "owner_2", Outcome.APPLIED),
        (2, "owner_1", Outcome.APPLIED),
        (2, "owner_3", Outcome.APPLIED),
    ]


def test_a_whole_message_stands_for_its_run_alone() -> None:
    results = decide(
        [line(Verdict.SETTLED, message=MESSAGE)],
        [payment(1), payment(2, RowState.REJECTED), payment(3, payout_id=4)],
    )

    assert [(r.owner_id, r.outcome) for r in results] == [("owner_1", Outcome.APPLIED)]


@pytest.mark.parametrize(
    "said",
    [
        line(Verdict.SETTLED, message="CP-00000000-3"),
        line(Verdict.SETTLED, message="nonsense"),
        line(Verdict.SETTLED),
        line(Verdict.SETTLED, block="nonsense"),
        line(Verdict.SETTLED, block=block_id(MESSAGE, 7, 9)),
        line(Verdict.SETTLED, block=block_id(MESSAGE, 1, 3), message="CP-00000000-3"),
    ],
)
def test_blocks_and_messages_of_others_are_unknown(said: ReportLine) -> None:
    assert outcomes([said], [payment(1)]) == [Outcome.UNKNOWN]


@pytest.mark.parametrize(
    ("amount_micros", "currency", "outcome"),
    [
        (30_000, "EUR", [Outcome.APPLIED, Outcome.APPLIED]),
        (60_000, "EUR", [Outcome.APPLIED, Outcome.APPLIED]),
        (60_000, "USD", [Outcome.AMOUNT_DIFFERS]),
        (50_000, "EUR", [Outcome.AMOUNT_DIFFERS]),
    ],
)
def test_a_block_is_booked_as_a_whole_or_without_what_came_back(
    amount_micros: int, currency: str, outcome: list[Outcome]
) -> None:
    said = line(
        Verdict.SETTLED, block=block_id(MESSAGE, 1, 3), amount_micros=amount_micros, currency=currency
    )

    assert outcomes([said], [payment(1), payment(2), payment(3, RowState.REJECTED)]) == outcome


LINES = st.lists(
    st.builds(line, st.sampled_from(Verdict), st.integers(1, 4))
    | st.builds(lambda verdict: line(verdict, message=MESSAGE), st.sampled_from(Verdict)),
    max_size=8,
)


@given(
    LINES,
    st.lists(st.sampled_from([RowState.SENT, RowState.SETTLED, RowState.REJECTED]), min_size=3, max_size=3),
)
def test_money_comes_back_at_most_once_and_only_by_legal_steps(
    said: list[ReportLine], states: list[RowState]
) -> None:
    payments = [payment(number, state) for number, state in enumerate(states, start=1)]

    results = decide(said, payments)

    now = {known.owner_id: known.state for known in payments}
    came_back: dict[str, int] = {}
    for result in results:
        if result.outcome is not Outcome.APPLIED:
            continue
        target = RowState(result.verdict.value)
        assert result.from_state == now[result.owner_id]
        assert PAYOUT_ROW_LIFECYCLE.allows(now[result.owner_id], target)
        now[result.owner_id] = target
        if target in (RowState.REJECTED, RowState.RETURNED):
            came_back[result.owner_id] = came_back.get(result.owner_id, 0) + 1
    assert all(count == 1 for count in came_back.values())
    again = decide(said, [payment(int(owner[6:]), state) for owner, state in now.items()])
    assert Outcome.APPLIED not in {r.outcome for r in again if r.line_number == 1}


def test_reasons_have_words_for_owners() -> None:
    assert reason_words("AC04", "") == "the account is closed (AC04)"
    assert reason_words("XY99", "ask them") == "the bank's reason is XY99: ask them"
    assert reason_words("", "they moved") == "they moved"
    assert reason_words("", "") == "the bank gave no reason"
    assert all(len(code) == 4 and words for code, words in REASON_WORDS.items())

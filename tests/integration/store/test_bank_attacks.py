"""Hostile and careless reports of banks, and payees who hide, each test named after the attack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pool_server.core.payouts.bank_report import Outcome
from pool_server.core.payouts.row_state import RowState
from tests.support.bank import booking, notification, status_report
from tests.support.payout_road import OTHER_IBAN, A, B, Road, road_with_owners


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return road_with_owners(tmp_path / "pool.sqlite3")


@pytest.mark.parametrize("amount", ["9999999999999.99", "9223372036854.78"])
def test_an_amount_beyond_all_money_does_not_hold_up_the_rest_of_the_report(road: Road, amount: str) -> None:
    road.earn_and_enrol({A: 5_000_000})
    [payment] = road.send().payments
    huge = replace(payment, reference="SOMEBODY-ELSE", amount=amount)
    answer = road.take(notification([booking([huge]), booking([payment])]))
    assert [result.outcome for result in answer.results] == [Outcome.UNKNOWN, Outcome.APPLIED]
    assert road.states() == {A: RowState.SETTLED}
    road.assert_sound()


def test_what_a_bank_says_moves_no_cursor_and_fills_no_screen(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000})
    [payment] = road.send().payments
    words = "\u009b2J\u202e" + "X" * 5_000
    report = notification([booking([payment], booked=words)]).decode().replace("BANK-2", words).encode()
    answer = road.take(report)
    for told in (answer.report.message_id, answer.results[0].status):
        assert told.isprintable()
        assert len(told) <= 80
    assert road.states() == {A: RowState.SENT}


@pytest.mark.parametrize("said", ["true", "1"])
def test_a_batch_that_somebody_pays_in_under_the_name_of_our_block_is_no_return(
    road: Road, said: str
) -> None:
    """A credit is a return only if the bank calls it one, for whole blocks as for single payments."""
    road.earn_and_enrol({A: 5_000_000, B: 6_000_000})
    order = road.send()
    credit = booking(order.payments, direction="CRDT", with_details=False)
    answer = road.take(notification([credit]))
    assert {result.outcome for result in answer.results} == {Outcome.NOTED}
    assert set(road.states().values()) == {RowState.SENT}
    marked = credit.replace("</CdtDbtInd>", "</CdtDbtInd><RvslInd>true</RvslInd>", 1)
    marked = marked.replace("true", said)
    assert {result.outcome for result in road.take(notification([marked])).results} == {Outcome.APPLIED}
    assert set(road.states().values()) == {RowState.RETURNED}
    road.assert_sound()


def test_an_account_that_was_withheld_is_still_new_when_it_comes_again(road: Road) -> None:
    """Plan with a thief's account, change it before the approval, change it back: who would be warned?"""
    road.earn_and_enrol({A: 5_000_000, B: 6_000_000})
    road.send()
    road.earn_and_enrol({A: 5_000_000, B: 6_000_000}, first_attempt=10)
    road.enrol(A, iban=OTHER_IBAN)
    planned = road.plan("two")
    assert road.review(2).review.new_accounts == (A,)
    road.enrol(A)
    road.approve(planned)
    assert road.states(2)[A] is RowState.WITHHELD
    road.enrol(A, iban=OTHER_IBAN)
    road.plan("three")
    found = road.review(3).review
    assert found.new_accounts == (A,)
    assert any(f"another account than last time: {A}" in warning for warning in found.warnings)


def test_who_was_paid_by_the_bank_after_all_is_not_paid_twice_unseen(road: Road) -> None:
    """A rejection was imported, then the bank books the payment: the approver must know."""
    road.earn_and_enrol({A: 5_000_000, B: 6_000_000})
    order = road.send()
    first, _ = order.payments
    road.take(status_report(order, {first.reference: ("RJCT", "AC04")}, group="PART"))
    answer = road.take(notification([booking(order.payments)]))
    assert [result.outcome for result in answer.results] == [Outcome.CONTRADICTS, Outcome.APPLIED]

    road.earn_and_enrol({B: 6_000_000}, first_attempt=10)
    road.plan("two")
    found = road.review(2).review
    assert any(f"gave back: {A}" in warning for warning in found.warnings), found.warnings
    assert any(f"same account again: {A}" in warning for warning in found.warnings), found.warnings


def test_a_warning_of_a_payment_ends_when_a_later_one_has_arrived(road: Road) -> None:
    road.earn_and_enrol({A: 5_000_000})
    order = road.send()
    [payment] = order.payments
    road.take(status_report(order, {payment.reference: ("RJCT", "AC04")}))
    road.take(notification([booking([payment])]))
    later = road.send("two")
    road.take(notification([booking(later.payments)]))
    road.earn_and_enrol({A: 6_000_000}, first_attempt=10)
    road.plan("three")
    assert not any("gave back" in warning for warning in road.review(3).review.warnings)

"""What an owner who leaves is told."""

from pool_protocol.v1 import payout_service_pb2 as pb
from tui.closing_commands import closing_lines


def said(**values: object) -> str:
    return "\n".join(closing_lines(pb.CloseOutView(currency="EUR", **values)))  # type: ignore[arg-type]


def test_an_account_that_is_closed_says_where_the_last_fraction_went() -> None:
    assert said(closed_at_us=1) == "Your account is closed; everything is paid."
    assert "0.004567 EUR, less than a cent" in said(closed_at_us=1, rounding_micros=4_567)


def test_an_account_that_is_being_closed_says_what_is_still_to_come() -> None:
    text = said(
        available_micros=1_230_000, held_micros=50_000, under_way=1, obstacle="the IBAN is \x1b[31mwrong"
    )

    assert "The next payout run pays 1.23 EUR." in text
    assert "0.05 EUR are inside the dispute window" in text
    assert "on its way" in text
    assert "the IBAN is ?[31mwrong" in text


def test_money_that_came_back_opens_a_closed_account_again() -> None:
    assert "being closed" in said(closed_at_us=1, available_micros=10_000)

"""What an approver reads of a run, and owners who leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.earnings import release_held
from pool_server.app.fleet import register_vehicle
from pool_server.app.leaving import list_leaving
from pool_server.core.payouts.review import Past, review
from tests.support.bank import booking, notification, status_report
from tests.support.books import TERMS
from tests.support.payout_road import (
    OTHER_IBAN,
    A,
    B,
    C,
    D,
    Road,
    net,
    road_with_owners,
    whole_cents,
)


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return road_with_owners(tmp_path / "pool.sqlite3")


def test_a_review_shows_movers_new_accounts_and_what_to_worry_about(road: Road) -> None:
    # 1. A first run: all accounts are new, nothing is odd but that three owners share one account.
    road.earn_and_enrol({A: 5_000_000, B: 6_000_000, C: 7_000_000})
    road.send()
    first = road.review(1)
    assert (first.previous_payout_id, first.review.new_accounts) == (0, (A, B, C))
    assert first.coverage.under_way_micros == road.balances()["payout:clearing"]
    assert [warning for warning in first.review.warnings if "several owners" in warning]

    # 2. A second one: B is gone, C earns ten times as much, A has another account, D waits for its threshold.
    road.earn_and_enrol({A: 5_000_000, C: 100_000_000, D: 5_000_000}, first_attempt=10)
    road.enrol(A, iban=OTHER_IBAN)
    road.enrol(D, threshold_micros=10_000_000)
    road.plan("two")
    second = road.review(2)
    found = second.review
    assert (second.previous_payout_id, found.previous_row_count) == (1, 3)
    assert [(m.owner_id, m.previous_micros, m.amount_micros) for m in found.movers] == [
        (C, 6_650_000, 95_000_000),
        (B, 5_700_000, 0),
    ]
    assert found.new_accounts == (A,)
    assert (found.below_threshold_count, found.below_threshold_micros) == (1, 4_750_000)
    assert any(f"another account than last time: {A}" in warning for warning in found.warnings)
    assert any(f"10 times the last amount: {C}" in warning for warning in found.warnings)


def test_a_review_warns_when_the_bank_account_cannot_cover_the_run(road: Road) -> None:
    road.earn_and_enrol({A: 800_000_000})
    road.plan()
    assert not any("cannot cover" in warning for warning in road.review(1).review.warnings)

    # A buyer is paid back; the pool's own fees no longer make up for it.
    road.sql("UPDATE accounts SET credits_posted = credits_posted + 700000000 WHERE name = 'bank:main'")

    warnings = road.review(1).review.warnings
    assert any("The bank account cannot cover it" in warning for warning in warnings)
    assert any("The pool owes more than it has" in warning for warning in warnings)


def test_a_figure_that_an_operator_entered_counts_more_than_the_books(road: Road) -> None:
    road.earn_and_enrol({A: 800_000_000})
    road.plan()
    coverage = road.review(1).coverage
    money = str

    [warning] = review(
        road.view().rows,
        Past(rows=(), ibans={}, came_back=()),
        waiting_micros=(),
        coverage=replace(coverage, entered_micros=759_999_999, entered_as_of="2026-01-01"),
        money=money,
    ).warnings

    assert "as entered for 2026-01-01 it holds 759999999, and 760000000 are to be paid" in warning


@pytest.mark.usefixtures("on_both_databases")
def test_an_owner_who_leaves_is_paid_to_the_cent_and_the_rest_is_on_the_books(road: Road) -> None:
    # 1. Below the threshold, with a fraction of a cent. Without leaving nothing is paid.
    road.earn_and_enrol({A: 1_234_567})
    road.enrol(A, threshold_micros=50_000_000)
    assert road.plan().rows == ()
    fraction = net(1_234_567) - whole_cents(net(1_234_567))
    assert fraction > 0

    # 2. The owner leaves: the next run pays every cent.
    view = road.leave(A)
    assert (view.available_micros, view.leaving.closed_at_us, view.obstacle) == (net(1_234_567), 0, "")
    order = road.send("two")
    assert order.control_cents * 10_000 == whole_cents(net(1_234_567))
    assert road.leave(A).leaving.closed_at_us == 0  # the bank has not said its last word

    # 3. The bank pays: the fraction goes to rounding, and the account is closed.
    road.take(status_report(order, {}, group="ACSC"))
    [closed] = road.run(list_leaving)
    assert closed.leaving.closed_at_us == road.now_us
    assert closed.leaving.rounding_micros == fraction == road.balances()["rounding"]
    assert f"owner:{A}:available" not in road.balances()
    assert "closed and paid to the cent" in road.news(A)["ACCOUNT_CLOSED"]
    assert road.leave(A) == closed
    road.assert_sound()

    # 4. The payment comes back after all: it is paid again, threshold or not.
    road.take(notification([booking(order.payments, direction="CRDT", code="AC06")]))
    assert [row.owner_id for row in road.plan("three").rows] == [A]
    road.assert_sound()


def test_an_owner_who_leaves_with_nothing_is_closed_at_once(road: Road) -> None:
    view = road.leave(D)

    assert (view.leaving.closed_at_us, view.leaving.rounding_micros) == (road.now_us, 0)
    with pytest.raises(PoolError) as refused:
        road.leave("owner_" + "z" * 26)
    assert refused.value.code is ErrorCode.NOT_FOUND


def test_an_owner_who_leaves_without_a_bank_account_is_said_to(road: Road) -> None:
    road.earn_and_enrol({A: 1_000_000})
    road.sql(f"UPDATE payout_details SET iban = 'DE00' WHERE owner_id = '{A}'")

    assert road.leave(A).obstacle == "the IBAN is not valid"


@pytest.mark.parametrize(
    ("code", "then"), [("AC04", "check your payout details"), ("AM04", "the next run pays it")]
)
def test_an_owner_is_told_to_act_only_where_that_helps(road: Road, code: str, then: str) -> None:
    road.earn_and_enrol({A: 5_000_000})

    order = road.send()
    road.take(status_report(order, {order.payments[0].reference: ("RJCT", code)}))

    assert then in road.news(A)["PAYOUT_RETURNED"]


def test_the_next_plan_closes_an_account_whose_last_fraction_was_held(road: Road) -> None:
    road.earn(A, [1_000], first_attempt=1)
    road.leave(A)
    road.now_us += TERMS.dispute_window_us
    road.run(lambda uow: release_held(uow, now_us=road.now_us))

    assert road.plan().rows == ()

    assert road.balances()["rounding"] == net(1_000)
    road.assert_sound()


def test_an_owner_who_comes_back_is_an_owner_like_any_other(road: Road) -> None:
    road.leave(A)
    road.run(
        lambda uow: register_vehicle(
            uow, vehicle_id="vehicle_" + "a" * 26, owner_id=A, label="car", now_us=road.now_us
        )
    )
    road.earn_and_enrol({A: 1_234_567})
    road.enrol(A, threshold_micros=50_000_000)

    assert road.plan().rows == ()
    assert road.balances()[f"owner:{A}:available"] == net(1_234_567)


def test_held_money_keeps_an_account_open(road: Road) -> None:
    road.earn(A, [1_000], first_attempt=1)

    view = road.leave(A)

    assert (view.leaving.closed_at_us, view.held_micros) == (0, net(1_000))
